"""Old module names of the release before, so that code built on them, and each dagster.yaml, still works."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

MODULES = {
    "adapters.asset": "orchestration.asset",
    "adapters.estimators": "storage.estimators",
    "adapters.event_log": "lineage.event_log",
    "adapters.experiments": "tracking.experiments",
    "adapters.io_managers": "orchestration.io_managers",
    "adapters.lake": "storage.lake",
    "adapters.metadata": "events.metadata",
    "adapters.mlflow_source": "tracking.datasets",
    "adapters.mlflow_store": "tracking.client",
    "adapters.observed": "storage.sources.source_state",
    "adapters.readers": "storage.sources.readers",
    "adapters.registry": "tracking.registry",
    "adapters.storage": "events.sqlite_storage",
    "adapters.sync": "orchestration.reconcile",
    "adapters.trace": "lineage.trace",
    "adapters.tracking": "tracking.resource",
    "lineage.address": "core.address",
    "lineage.checks": "core.checks",
    "lineage.code": "core.code_version",
    "lineage.columns": "core.columns",
    "lineage.digest": "core.digest",
    "lineage.errors": "core.errors",
    "lineage.graph": "core.record",
    "lineage.model_file": "core.model_file",
    "lineage.schema": "core.schema",
    "notebook": "app.notebook",
    "runs": "cli.runner",
    "settings": "app.settings",
    "store": "app.store",
}
"""Old module name in this package, and its current name."""
_ROOT = __package__


class Renamed(MetaPathFinder, Loader):
    """Finds a module by an old name: the same module as under its current name, not a second one."""

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        """Return the loader of a renamed module, None for any other."""
        root, dot, name = fullname.partition(".")
        return ModuleSpec(fullname, self) if dot and root == _ROOT and name in MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module by its current name."""
        module = import_module(f"{_ROOT}.{MODULES[spec.name.partition('.')[2]]}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Keep the module's own specification: it has been executed."""
        spec = module.__spec__
        module.__spec__ = spec.loader_state if spec else spec


def install() -> None:
    """Make Python resolve old module names before it looks for leftover files of that name."""
    if not any(isinstance(finder, Renamed) for finder in sys.meta_path):
        sys.meta_path.insert(0, Renamed())
