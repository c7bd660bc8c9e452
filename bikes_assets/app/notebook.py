"""Notebook API: load anything in the lake by its address, and log runs in MLflow that cannot promote anything.

```python
from bikes_assets import experiment, load

features = load("demand_features[2012-08]@20")   # as of a table version; without it, the current one
model = load("demand_model@champion")

with experiment("deeper trees") as run:
    training = run.load("demand_features[2011-01..2012-05]")
    run.log(params={"max_depth": 12}, metrics={"rmse": 47.0})
```
"""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bikes_assets.core.address import Address
from bikes_assets.core.errors import DigestError, LineageError
from bikes_assets.core.record import Use, Version, parse_address, partition_address
from bikes_assets.core.texts import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd
    import pyarrow as pa

    from bikes_assets.core.schema import Schema
    from bikes_assets.demand.model import Model
    from bikes_assets.storage.delta import LakeTable
    from bikes_assets.tracking.experiments import ExperimentRun

_TO = ".."


@dataclass(frozen=True, slots=True)
class _OfColumn(Use):
    """Rows in a role, of which one column may be selected."""

    column: str

    @property
    def name(self) -> str:
        """The address of the column over all partitions."""
        return str(replace(Address(self.asset, self.column), partition=self.span))


@dataclass(frozen=True, repr=False)
class Rows:
    """Rows of a table as they were read, with verified digests.

    Attributes:
        table: name of the table.
        version: table version that was read.
        parts: version and rows of each partition, in order.
        schema: the declared columns that were requested.
        column: the single column that was requested, "" for all.
    """

    table: LakeTable
    version: int
    parts: Mapping[str, tuple[Version, pa.Table]]
    schema: Schema
    column: str = ""

    def __repr__(self) -> str:
        rows = sum(len(part) for _, part in self.parts.values())
        return f"<Rows {self.name}@{self.version}: {rows:,} rows of {len(self.parts)} partitions>"

    @property
    def name(self) -> str:
        """Name of the table, or of the table and its column, such as `demand_features.demand_lag_24h`."""
        return str(Address(self.table.name, self.column or None))

    def value(self) -> pd.DataFrame | pd.Series:
        """Return a frame in key order, or one column as a series by key; `attrs["lineage"]` has address and digest."""
        from bikes_assets.storage.lake import to_pandas

        frame: Any = to_pandas([self._part(key) for key in self.parts], self.schema)
        found = frame.set_index(list(self.schema.key), drop=False)[self.column] if self.column else frame
        found.attrs["lineage"] = {
            str(Address(self.table.name, self.column or None, key, str(version.version))): self._digest([key])
            for key, (version, _) in self.parts.items()
        }
        return found

    def use(self, context: str, partitions: Sequence[str] | None = None) -> Use:
        """Return the rows in a role, for all partitions or some."""
        from bikes_assets.storage.lake import DeltaReader

        keys = [key for key in self.parts if partitions is None or key in partitions]
        rows = sum(len(self.parts[key][1]) for key in keys)
        origin = DeltaReader(self.table, self.version, keys).origin()
        values = (context, self.table.name, tuple(keys), self._digest(keys), rows, origin.to_dict())
        return _OfColumn(*values, self.column) if self.column else Use(*values)

    def _part(self, key: str) -> pa.Table:
        return self.parts[key][1].select(list(self.schema.names))

    def _digest(self, keys: Sequence[str]) -> str:
        """Return the digest of the rows of several partitions together, or of their selected column."""
        import pyarrow as pa

        from bikes_assets.core.digest import table_digest
        from bikes_assets.storage.lake import digest_together

        if not self.column:
            return digest_together([self.parts[key] for key in keys], self.schema)
        table = pa.concat_tables([self._part(key) for key in keys]).combine_chunks()
        return table_digest(table, self.schema).columns[self.column]


class Experiment:
    """A run of the user's own in MLflow; see `experiment`.

    Args:
        run: the MLflow run that is written to.
    """

    def __init__(self, run: ExperimentRun) -> None:
        self._run = run
        self._frames: list[Any] = []

    def __repr__(self) -> str:
        return f"<Experiment {plain(self._run.run.info.run_name)}: {self.url}>"

    @property
    def run_id(self) -> str:
        """The run's id in MLflow."""
        return self._run.run_id

    @property
    def url(self) -> str:
        """The address of the run's page in MLflow."""
        from bikes_assets.app.settings import settings
        from bikes_assets.events.pages import mlflow_run

        return mlflow_run(settings().mlflow_url, self._run.run.info.experiment_id, self.run_id)

    def load(self, address: str, context: str = "training") -> Any:
        """Return what `load` returns, and log it as an input: rows as a dataset in a role, a model as a model.

        Args:
            address: address to load.
            context: role of the rows: training, validation, ...; the metrics of a model that is logged afterwards are
                linked to the rows with the role `validation`.
        """
        if _is_model(address):
            model, copy = _model(address)
            if copy:
                self._run.log_input_model(copy)
            return model
        rows = read(address)
        self.log_rows(rows.use(context), rows.schema)
        value = rows.value()
        self._frames.append(value)
        return value

    def log_rows(self, use: Use, schema: Schema) -> None:
        """Log rows that were read before, in a role."""
        self._run.log_dataset(use, schema)

    def log(
        self,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float | Mapping[int, float]] | None = None,
        model: Any = None,
    ) -> None:
        """Log parameters, metrics and a fitted model, to which the metrics then belong.

        Args:
            params: settings, logged as text.
            metrics: metrics by name: a number, or numbers by step (a whole number).
            model: a `demand.model.Model`, or a scikit-learn estimator fitted to columns of rows that this run loaded.

        Raises:
            LineageError: nothing that this run loaded has the model's columns.
            ModelError: the model contains a type that the project does not trust.
            TrackingError: MLflow refused it or could not be reached.
        """
        model_id = "" if model is None else self._log_model(model)
        self._run.log(params or {}, metrics or {}, model_id)

    def _log_model(self, model: Any) -> str:
        from bikes_assets.demand.model import TRUSTED_TYPES, Model, inputs

        estimator = model.estimator if isinstance(model, Model) else model
        names: list[str] = list(model.features if isinstance(model, Model) else getattr(model, "feature_names_in_", ()))
        frame = next(
            (item for item in reversed(self._frames) if names and {*names} <= {*getattr(item, "columns", ())}), None
        )
        if frame is None:
            raise LineageError(
                f"{type(estimator).__name__}: no rows loaded by this run hold its columns {', '.join(names) or '(unknown)'}; "
                "load what it was fitted to with run.load, and fit it to a frame, so that it knows its columns"
            )
        return self._run.log_model(estimator, inputs(frame.tail(5), names), TRUSTED_TYPES)

    @contextmanager
    def trial(self, name: str) -> Iterator[Experiment]:
        """Open a run nested in this one."""
        with _opened(name, parent=self.run_id) as run:
            yield run


def load(address: str) -> Any:
    """Return what an address names, read from the lake with its digest verified.

    | address | returns |
    |---|---|
    | `demand_features[2012-08]@20` | a partition as of a table version; without it, the current one |
    | `demand_features[2011-01..2011-04]` | several partitions, named like MLflow's datasets |
    | `demand_features` | all partitions |
    | `demand_features.demand_lag_24h[2012-08]` | one column |
    | `demand_model[2012-08]` | the model of a month |
    | `demand_model@3`, `demand_model@champion` | a version of the registered model, by number or alias |

    Returns:
        A pandas frame in key order, a series by the key, or a `demand.model.Model`, whose `origin` is its address.
        `attrs["lineage"]` of a frame or series holds the exact addresses that were read, each with its digest.

    Raises:
        LineageError: no such asset, column, partition or version exists; the message lists those that do.
        DigestError: the stored content is not what was published.
        TrackingError: a registered model was requested and MLflow cannot be reached.
    """
    return _model(address)[0] if _is_model(address) else read(address).value()


@contextmanager
def experiment(name: str) -> Iterator[Experiment]:
    """Open a run in MLflow's experiment for notebooks; it ends with the block, as FAILED after an exception.

    MLflow's fluent calls inside the block log to it. It cannot promote anything: it reads the lake, registers no model
    and sets no alias, so what is logged here is never a candidate for `champion_model`.

    Raises:
        TrackingError: MLflow cannot be reached; raised within seconds.
    """
    with _opened(name) as run:
        yield run


def read(address: str, before: str | None = None) -> Rows:
    """Return the rows that an address names; see `load`.

    Args:
        address: address to read.
        before: first partition that is not read, None to read all.

    Raises:
        LineageError: no such asset, column, partition or version exists; the message lists those that do.
        DigestError: the stored content is not what was published.
    """
    from bikes_assets.app.store import assets, is_table, lake

    parts = Address.parse(address)
    column = parts.column or "" if parts else ""
    asset, wanted, version = parse_address(str(replace(parts, column=None)) if parts else address)
    _one_of("asset", asset, tuple(assets()))
    if not is_table(asset):
        raise LineageError(f"{address}: {asset} holds models, which have no columns; load {asset}[2012-08]")
    schema = lake().table(asset).schema
    if column:
        _one_of(f"column of {asset}", column, schema.names)
        names = dict.fromkeys((*schema.key, column))
        schema = replace(schema, columns=tuple(schema[name] for name in names))
    table, at, keys = _published(asset, wanted, version)
    keys = [key for key in keys if before is None or key < before]
    parts = table.read(keys, at)
    return Rows(table, at, {key: parts[key] for key in keys}, schema, column)


def _published(asset: str, wanted: str | None, version: str | None) -> tuple[LakeTable, int, list[str]]:
    """Return the table of an asset, the table version to read and the requested partitions, in order."""
    from bikes_assets.app.store import lake

    table, at, published = lake().as_of(asset, version)
    known = sorted(map(str, published))
    if not known:
        raise LineageError(
            f"{asset}@{at}: nothing was published by then, and the current version is {table.version()}; load another"
        )
    first, _, last = (wanted or "").partition(_TO)
    if first and not last:
        lake().resolve(asset, first, at)
    missing = [key for key in (first, last) if key and key not in known]
    if missing or first > (last or first):
        raise LineageError(
            f"{partition_address(asset, wanted)}: found no partition {', '.join(missing) or wanted} as of version {at}, expected "
            f"one of {', '.join(known)}"
        )
    return table, at, [key for key in known if (first or key) <= key <= (last or first or key)]


def _is_model(address: str) -> bool:
    from bikes_assets.app.store import assets, is_table

    parts = Address.parse(address)
    return bool(parts) and parts.asset in assets() and not is_table(parts.asset) and parts.column is None


def _model(address: str) -> tuple[Model, str]:
    """Return a model of the lake, and the id of its copy in MLflow, "" without one."""
    from bikes_assets.app.store import current, lake

    asset, wanted, version = parse_address(address)
    expected: dict[str, str] = {}
    if wanted is None and version is not None:
        expected = _named(asset, version)
        _, wanted, version = parse_address(expected["address"])
    if wanted is None or _TO in wanted:
        keys = _published(asset, None, None)[2]
        raise LineageError(
            f"{address}: found {len(keys)} models, expected one: {asset}[{keys[-1]}], for any of {', '.join(keys)}, or a "
            f"registered version, demand_model@3 or demand_model@champion"
        )
    table, at, keys = _published(asset, wanted, version)
    ((found, rows),) = table.read(keys, at).values()
    if not len(rows):
        raise LineageError(f"{found.address}: no model is pinned to that month, for the pin was lifted; load another")
    (row,) = rows.to_pylist()
    for name in ("digest", "sha256"):
        if row[name] != expected.get(name, row[name]):
            raise DigestError(
                f"{address}: the lake holds a model with {name} {row[name]} at {found.address}, expected {expected[name]} as "
                "MLflow's registry says; load it by partition and table version"
            )
    model = lake().load_model(current().models, row["sha256"], row["card"], row["origin"] or found.address)
    return model, row["mlflow_model_id"]


def _named(asset: str, version: str) -> dict[str, str]:
    """Return the address and digest of a version number or alias, from the event log and not from MLflow's registry.

    Aliases that the event log does not know belong to users and are looked up in the registry.
    """
    from bikes_assets.app import answers
    from bikes_assets.lineage.elements import ALIAS, MODEL

    index, address = answers.refreshed(), str(Address(asset, version=version))
    known = [item.facts for kind in (MODEL, ALIAS) for item in index.find(address, kind)]
    return {"address": known[0]["address"]} if known else _registered(asset, version)


def _registered(asset: str, version: str) -> dict[str, str]:
    """Return a version's tags `address`, `digest` and `sha256` in the registry."""
    from bikes_assets.app.settings import settings
    from bikes_assets.app.store import mlflow_client
    from bikes_assets.tracking.names import model_name, reaching
    from bikes_assets.tracking.registry import registered_model

    uri, name = settings().tracking_uri, model_name(asset)
    with reaching(uri, f"{name}@{version}"):
        client = mlflow_client()
        versions = {str(item.version): item for item in client.search_model_versions(f"name = '{name}'")}
        model = registered_model(client, name)
    aliases = {str(key): str(item) for key, item in (model.aliases if model else {}).items()}
    known = versions.get(aliases.get(version, version))
    if known is None:
        there = ", ".join([*sorted(versions, key=int), *sorted(aliases)])
        raise LineageError(
            f"{name}@{version}: found no such version in MLflow's registry, "
            f"{f'expected one of {there}' if there else f'nor any other of {name}'}; a table version needs its partition, "
            f"{name}[2012-08]@20"
        )
    missing = [tag for tag in ("address", "digest", "sha256") if tag not in known.tags]
    if missing:
        raise LineageError(
            f"{name}@{version}: found no tag {', '.join(missing)}, so it was not created here; load another"
        )
    return known.tags


@contextmanager
def _opened(name: str, parent: str = "") -> Iterator[Experiment]:
    from bikes_assets.app.settings import ROOT, settings
    from bikes_assets.app.store import current_identity
    from bikes_assets.storage.code.environment import environment, user
    from bikes_assets.tracking.experiments import experiment_run

    known = settings()
    made_in = environment(ROOT)
    tags = {
        "mlflow.source.name": "notebook",
        "mlflow.user": user(),
        "git_commit": made_in["git_commit"],
        "git_diff": made_in["git_diff"],
    }
    with experiment_run(
        known.tracking_uri,
        f"{known.experiment}-notebook",
        name,
        tags=tags,
        parent=parent,
        store=current_identity().store,
    ) as run:
        yield Experiment(run)


def _one_of(what: str, name: str, known: Sequence[str]) -> None:
    """Raise an error for an unknown name that suggests the nearest ones."""
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(known)}"
    raise LineageError(f"found no {what} {name!r}; {hint}")
