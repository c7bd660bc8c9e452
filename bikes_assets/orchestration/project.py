"""A project as the commands know it: one object beside its wiring says what they cannot find out by themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING, Any

from bikes_assets.core.errors import LineageError, SettingsError
from bikes_assets.core.texts import plain
from bikes_assets.storage.lake import ModelFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import TypeAlias

    from bikes_assets.core.schema import Schema
    from bikes_assets.lineage.trace import Derivations
    from bikes_assets.storage.lake import Lake
    from bikes_assets.storage.sources.readers import Reader
    from bikes_assets.storage.sources.source_state import SourceFormat

    Segments: TypeAlias = Mapping[str, Mapping[str, Mapping[str, float]]]
    """Metrics by segmentation, segment and name."""


@dataclass(frozen=True, slots=True)
class Rebuild:
    """What some versions are rebuilt from, in a process of its own: see `Project.environment`.

    Attributes:
        folder: a temporary folder.
        lake: folder of the temporary lake, which the definitions must read and write there.
        source: path or URL of the source that is read, "" where none is.
        query: SQL query of the source, if it is a database.
        engine: engine that computes features, as the version's parameters say.
        span: first and last partition of the versions and of everything upstream of them, "" without partitions.
    """

    folder: Path
    lake: str
    source: str = ""
    query: str = ""
    engine: str = "pandas"
    span: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class About:
    """What nobody can compute of a project's models, so that a person declares it; what is "" is reported as not declared.

    Attributes:
        purpose: what the models are for.
        users: who is meant to use them.
        not_for: what they are not for.
        responsible: who answers for them, and how to reach them.
        oversight: how people oversee what they predict, and can override it.
        risks: sensitive data, possible harms to people, and what is done about them.
        limits: what is known to limit them, each in a sentence.
        obtained: how the data of an external asset was obtained and selected, by asset.
        licences: the licence of an external asset's data, by asset; without it, that in its columns' tags, such as
            `licence: CC BY 4.0`.
    """

    purpose: str = ""
    users: str = ""
    not_for: str = ""
    responsible: str = ""
    oversight: str = ""
    risks: str = ""
    limits: Sequence[str] = ()
    obtained: Mapping[str, str] = field(default_factory=dict)
    licences: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Project:
    """What the commands have to know about a project, such as `bikes --project my.definitions status`.

    Attributes:
        name: its name, which its MLflow experiment has, too.
        definitions: dotted name of Dagster's definitions, or of a function that returns them: `my.definitions:defs`.
        lake: where its tables and models are. Its root is the folder of the code, in a git repository if versions are
            to be reproduced; its `serving` asset says which model serves.
        data: folder of this machine for the lineage index and caches.
        home: Dagster's instance folder; default is `dagster` under `data`. It is this project's alone.
        storage: database URL of Dagster's runs and events, "" for SQLite under `home`.
        models: how models are written; by default as estimators of scikit-learn.
        sources: how each external asset is read: a function that returns its reader, and its format with its columns.
        derivations: how rows are derived, for traces; None traces each row to the versions and files that it came from.
        mlflow: MLflow's store or server, "" for none.
        compared: assets whose runs are in MLflow's experiment, as in `tracking_resource`.
        environment: returns the environment variables by which the definitions use a temporary lake and another
            source. Only a project with this can be reproduced.
        predict: returns what a model predicts for the rows it was materialized from, given as frames by asset. With it
            a rebuilt model is compared by predictions, without it by digest and metrics.
        assets: assets with a table in the lake and their columns; by default those of the definitions.
        datasets: which asset each dataset of other tools is that has another place than the asset's table, by
            OpenLineage's namespace and name: `{"duckdb:///srv/trips.duckdb main.trips": "demand_predictions"}`.
        stamp: returns what partitions and config depend on beside the code. While neither changes, the definitions are
            not loaded; without it they are loaded by each command that needs them.
        about: what reports on models say that only people know.
        segments: how accuracy differs between groups of rows, by asset whose rows are evaluated predictions: a function
            that takes these rows as a frame and returns metrics by segmentation and segment, such as
            `{"hour": {"08:00": {"rmse": 81.2}}}`.
        pins: asset that holds pins, "" for none.
    """

    name: str
    definitions: str
    lake: Lake
    data: Path
    home: Path | None = None
    storage: str = ""
    models: ModelFormat = field(default_factory=ModelFormat.of_estimators)
    sources: Mapping[str, tuple[Callable[[], Reader], SourceFormat]] = field(default_factory=dict)
    derivations: Derivations | None = None
    mlflow: str = ""
    compared: Collection[str] | None = None
    environment: Callable[[Rebuild], Mapping[str, str]] | None = None
    predict: Callable[[Any, Mapping[str, Any]], Any] | None = None
    assets: Mapping[str, Schema] = field(default_factory=dict)
    datasets: Mapping[str, str] = field(default_factory=dict)
    stamp: Callable[[], object] | None = None
    about: About = field(default_factory=About)
    segments: Mapping[str, Callable[[Any], Segments]] = field(default_factory=dict)
    pins: str = ""

    @property
    def dagster_home(self) -> Path:
        """Dagster's instance folder."""
        return self.home or self.data / "dagster"

    @property
    def events(self) -> str:
        """Where Dagster's runs and events are: a database URL, which may contain a password, or `dagster_home`."""
        return self.storage or str(self.dagster_home)


def named(name: str) -> Any:
    """Return what a name stands for: the one `Project` of a module, or anything, `module:attribute`.

    Raises:
        SettingsError: there is no such module or attribute, the module cannot be imported, or has no project or two.
    """
    module, _, attribute = name.partition(":")
    there = vars(_imported(module))
    if attribute in there:
        return there[attribute]
    if attribute:
        raise SettingsError(f"{name!r}: found no {attribute} in {module}, expected a name that it defines")
    projects = {key: value for key, value in there.items() if isinstance(value, Project)}
    if len(projects) == 1:
        return projects.popitem()[1]
    told = f"found {len(projects)} Projects, {', '.join(projects)}" if projects else "found no Project"
    how = f"; name it, as in {module}:{next(iter(projects))}" if projects else ", such as PROJECT = Project(...)"
    raise SettingsError(f"{name!r}: {told} in {module}, expected one{how}")


def _imported(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if not error.name or not f"{module}.".startswith(f"{error.name}."):
            raise SettingsError(f"{module}: cannot be imported: {error}; install it, or correct the import") from error
        raise SettingsError(
            f"found no module {module!r}, expected one in the working directory or on the path, such as my.definitions"
        ) from error
    except (ValueError, TypeError) as error:  # "" or ".", which is no module's name
        raise SettingsError(f"found module {module!r}, expected a dotted name, such as my.definitions") from error
    except LineageError:
        raise
    except (Exception, SystemExit) as error:
        steps = [step for step in extract_tb(error.__traceback__) if not step.filename.startswith("<frozen")]
        # the first two are of this function and of importlib
        where = f" ({steps[-1].filename}, line {steps[-1].lineno})" if len(steps) > 2 else ""
        told = f"{type(error).__name__}: {plain(str(error))}{where}"
        raise SettingsError(f"{module}: cannot be imported: {told}") from error
