"""Hourly bike-sharing demand as software-defined assets, each with an exact record of what it was materialized from.

What other projects build on are the names listed here, described in docs/api.md. Each is imported when it is asked for:
importing the package stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bikes_assets import renamed

if TYPE_CHECKING:  # for type checkers and for code versions, which read imports
    from bikes_assets.app import answers as answers
    from bikes_assets.app.notebook import experiment as experiment
    from bikes_assets.app.notebook import load as load
    from bikes_assets.core import model_file as model_file
    from bikes_assets.core.checks import Check as Check
    from bikes_assets.core.checks import Subject as Subject
    from bikes_assets.core.checks import Verdict as Verdict
    from bikes_assets.core.checks import range_check as range_check
    from bikes_assets.core.checks import schema_check as schema_check
    from bikes_assets.core.columns import Float64 as Float64
    from bikes_assets.core.columns import Int64 as Int64
    from bikes_assets.core.columns import column_function as column_function
    from bikes_assets.core.columns import column_lineage as column_lineage
    from bikes_assets.core.columns import compute as compute
    from bikes_assets.core.columns import schema_of as schema_of
    from bikes_assets.core.errors import LineageError as LineageError
    from bikes_assets.core.errors import NothingToDo as NothingToDo
    from bikes_assets.core.schema import Column as Column
    from bikes_assets.core.schema import Schema as Schema
    from bikes_assets.lineage.questions import LineageIndex as LineageIndex
    from bikes_assets.lineage.trace import Computed as Computed
    from bikes_assets.lineage.trace import Derivations as Derivations
    from bikes_assets.lineage.trace import Tracer as Tracer
    from bikes_assets.orchestration.asset import lineage_asset as lineage_asset
    from bikes_assets.orchestration.asset import with_lineage as with_lineage
    from bikes_assets.orchestration.column_lineage import column_lineage_check as column_lineage_check
    from bikes_assets.orchestration.io_managers import ModelIOManager as ModelIOManager
    from bikes_assets.orchestration.io_managers import Outcome as Outcome
    from bikes_assets.orchestration.io_managers import SourceInputManager as SourceInputManager
    from bikes_assets.orchestration.io_managers import TableIOManager as TableIOManager
    from bikes_assets.orchestration.project import About as About
    from bikes_assets.orchestration.project import Project as Project
    from bikes_assets.storage.lake import Lake as Lake
    from bikes_assets.storage.lake import ModelFormat as ModelFormat
    from bikes_assets.storage.sources import dvc as dvc
    from bikes_assets.storage.sources.readers import reader_for as reader_for
    from bikes_assets.storage.sources.source_state import SourceFormat as SourceFormat
    from bikes_assets.tracking.registry import load_copy as load_copy
    from bikes_assets.tracking.resource import tracking_resource as tracking_resource
    from bikes_assets.verification import invariants as invariants
    from bikes_assets.verification.declaration import Window as Window
    from bikes_assets.verification.tables import assert_column_lineage as assert_column_lineage

renamed.install()
_PUBLIC = {
    # assets
    "lineage_asset": "bikes_assets.orchestration.asset:lineage_asset",
    "with_lineage": "bikes_assets.orchestration.asset:with_lineage",
    "Outcome": "bikes_assets.orchestration.io_managers:Outcome",
    "NothingToDo": "bikes_assets.core.errors:NothingToDo",
    "LineageError": "bikes_assets.core.errors:LineageError",
    # resources
    "TableIOManager": "bikes_assets.orchestration.io_managers:TableIOManager",
    "ModelIOManager": "bikes_assets.orchestration.io_managers:ModelIOManager",
    "SourceInputManager": "bikes_assets.orchestration.io_managers:SourceInputManager",
    "tracking_resource": "bikes_assets.tracking.resource:tracking_resource",
    # storage
    "Lake": "bikes_assets.storage.lake:Lake",
    "ModelFormat": "bikes_assets.storage.lake:ModelFormat",
    "model_file": "bikes_assets.core.model_file:",
    "load_copy": "bikes_assets.tracking.registry:load_copy",
    "reader_for": "bikes_assets.storage.sources.readers:reader_for",
    "SourceFormat": "bikes_assets.storage.sources.source_state:SourceFormat",
    "dvc": "bikes_assets.storage.sources.dvc:",
    # schemas and checks
    "Schema": "bikes_assets.core.schema:Schema",
    "Column": "bikes_assets.core.schema:Column",
    "Check": "bikes_assets.core.checks:Check",
    "Subject": "bikes_assets.core.checks:Subject",
    "Verdict": "bikes_assets.core.checks:Verdict",
    "schema_check": "bikes_assets.core.checks:schema_check",
    "range_check": "bikes_assets.core.checks:range_check",
    # column functions
    "column_function": "bikes_assets.core.columns:column_function",
    "Int64": "bikes_assets.core.columns:Int64",
    "Float64": "bikes_assets.core.columns:Float64",
    "compute": "bikes_assets.core.columns:compute",
    "column_lineage": "bikes_assets.core.columns:column_lineage",
    "schema_of": "bikes_assets.core.columns:schema_of",
    # verification of column lineage
    "column_lineage_check": "bikes_assets.orchestration.column_lineage:column_lineage_check",
    "assert_column_lineage": "bikes_assets.verification.tables:assert_column_lineage",
    "Window": "bikes_assets.verification.declaration:Window",
    "invariants": "bikes_assets.verification.invariants:",
    # questions
    "LineageIndex": "bikes_assets.lineage.questions:LineageIndex",
    "Tracer": "bikes_assets.lineage.trace:Tracer",
    "Derivations": "bikes_assets.lineage.trace:Derivations",
    "Computed": "bikes_assets.lineage.trace:Computed",
    # commands
    "Project": "bikes_assets.orchestration.project:Project",
    "About": "bikes_assets.orchestration.project:About",
    # this project's own store
    "answers": "bikes_assets.app.answers:",
    "load": "bikes_assets.app.notebook:load",
    "experiment": "bikes_assets.app.notebook:experiment",
}
"""Public name to where it is defined: `module:attribute`, or `module:` for a module."""

__all__ = [*_PUBLIC]  # pyright: ignore[reportUnsupportedDunderAll] - the imports above say the names to type checkers


def __getattr__(name: str) -> Any:
    """Return a public name from the module that defines it."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    imported = import_module(module)
    return getattr(imported, attribute) if attribute else imported


def __dir__() -> list[str]:
    """Return the names that a prompt completes."""
    return sorted({*globals(), *_PUBLIC})
