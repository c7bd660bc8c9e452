"""A project that is nothing but lineage: four tables, one made of them, a model, and steps that do as a run's tags tell them.

A tag `fire/<asset>` says what a step does before it returns: `raise`, `retry 2` (ask for a retry, twice), `sleep 3`,
`kill` (itself), `run 2024-02` (execute another Dagster run of that month first, in this process).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg

from bikes_assets.core.schema import Column, Schema
from bikes_assets.events.workers import WORKER
from bikes_assets.lineage.event_log import refresh
from bikes_assets.lineage.index import Index
from bikes_assets.lineage.projection import Projection
from bikes_assets.orchestration.asset import lineage_asset
from bikes_assets.orchestration.io_managers import ModelIOManager, Outcome, TableIOManager
from bikes_assets.orchestration.reconcile import Pipeline, sync
from bikes_assets.orchestration.reconcile_marks import Reconciliation, Stores
from bikes_assets.storage.lake import Lake
from bikes_assets.storage.processes import Process
from bikes_assets.tracking.resource import connect, tracking_resource
from examples.parcels import definitions as parcels

MONTHS = dg.MonthlyPartitionsDefinition("2016-01", end_date="2025-01", fmt="%Y-%m")
ROOTS = ("a1", "a2", "a3", "a4")
ASSETS = (*ROOTS, "joined", "ridge")
EXPERIMENT = "fire"
STORE = "fire"
ROWS = 20
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
COLUMNS = (Column("k", "int64", "Key."), Column("x", "float64", "A figure."), Column("y", "float64", "Another."))
SCHEMAS = {name: Schema(name, ("k",), COLUMNS) for name in (*ROOTS, "joined")}
RIDGE = replace(parcels.RIDGE, trusted=("sklearn.linear_model._ridge.Ridge",))
_YAML = """\
telemetry: {{enabled: false}}
nux: {{enabled: false}}
event_log_storage:
  module: dagster._core.storage.event_log
  class: ConsolidatedSqliteEventLogStorage
  config: {{base_dir: "{home}"}}
run_storage:
  module: dagster._core.storage.runs
  class: SqliteRunStorage
  config: {{base_dir: "{home}/history"}}
"""


def frame(asset: str, partition: str) -> Any:
    """Return the rows of a table: other ones in each asset and month."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(ASSETS.index(asset) + 10 * int(partition.replace("-", "")))
    return pd.DataFrame({"k": range(ROWS), "x": rng.normal(size=ROWS), "y": rng.normal(size=ROWS)})


def act(context: Any) -> None:
    """Do as the run's tags tell this step."""
    order, _, detail = context.run.tags.get(f"fire/{context.asset_key.to_user_string()}", "").partition(" ")
    if order == "raise":
        raise ValueError("as told")
    if order == "retry" and context.retry_number < int(detail):
        raise dg.RetryRequested(max_retries=int(detail))
    if order == "sleep":
        time.sleep(float(detail))
    if order == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if order == "run":
        folder, uri = context.run.tags["fire/place"].split(" ")
        Place(Path(folder), uri).run(context.instance, detail)


def _table(context: Any) -> Outcome:
    act(context)
    rows = frame(context.asset_key.to_user_string(), context.partition_key)
    return Outcome(rows, role="raw", metrics={"mean": float(rows["x"].mean())}, params={"rows": ROWS})


@lineage_asset(partitions=MONTHS, ins={}, group="fire", kinds=set(), schema=SCHEMAS["a1"])
def a1(context) -> Outcome:
    """Random rows."""
    return _table(context)


@lineage_asset(partitions=MONTHS, ins={}, group="fire", kinds=set(), schema=SCHEMAS["a2"])
def a2(context) -> Outcome:
    """Random rows."""
    return _table(context)


@lineage_asset(partitions=MONTHS, ins={}, group="fire", kinds=set(), schema=SCHEMAS["a3"])
def a3(context) -> Outcome:
    """Random rows."""
    return _table(context)


@lineage_asset(partitions=MONTHS, ins={}, group="fire", kinds=set(), schema=SCHEMAS["a4"])
def a4(context) -> Outcome:
    """Random rows."""
    return _table(context)


@lineage_asset(
    partitions=MONTHS, ins={name: dg.AssetIn() for name in ROOTS}, group="fire", kinds=set(), schema=SCHEMAS["joined"]
)
def joined(context, a1, a2, a3, a4) -> Outcome:
    """The sum of four tables."""
    act(context)
    rows = a1.copy()
    rows[["x", "y"]] = sum(item[["x", "y"]] for item in (a1, a2, a3, a4))
    return Outcome(rows, datasets={f"of {name}": (name, None) for name in ROOTS}, role="features")


@lineage_asset(partitions=MONTHS, ins={"joined": dg.AssetIn()}, group="fire", kinds=set(), io_manager="models")
def ridge(context, joined) -> Outcome:
    """Ridge regression of one figure on the other."""
    from sklearn.linear_model import Ridge

    act(context)
    fitted = Ridge().fit(joined[["x"]], joined["y"])
    return Outcome(
        {"estimator": fitted},
        datasets={"training": ("joined", None)},
        metrics={"slope": float(fitted.coef_[0])},
        params={"alpha": 1.0},
        example=joined[["x"]].head(3),
    )


@cache
def _job(folder: str, uri: str, executor: str, location: str) -> dg.JobDefinition:
    return definitions([a1, a2, a3, a4, joined, ridge], folder, uri, location, executor).resolve_job_def("fire")


def definitions(
    assets: Sequence[dg.AssetsDefinition], folder: str, uri: str, location: str, executor: str = "in_process"
) -> dg.Definitions:
    """Return a code location of assets and a job of them, over a folder, an MLflow store and a lake."""
    lake = Lake(location, SCHEMAS, root=Path(folder))

    def manager(made: Any) -> dg.IOManagerDefinition:
        return dg.IOManagerDefinition(lambda _: made, required_resource_keys={"mlflow"})

    executors = {
        "in_process": dg.in_process_executor,
        "multiprocess": dg.multiprocess_executor.configured(
            {"max_concurrent": 4, "start_method": {"forkserver": {"preload_modules": [warm_module()]}}}
        ),
    }
    return dg.Definitions(
        assets=assets,
        resources={
            "tables": manager(TableIOManager(lake)),
            "models": manager(ModelIOManager(lake, RIDGE)),
            "mlflow": tracking_resource(uri, EXPERIMENT, "http://mlflow", "http://dagster", SCHEMAS, lambda _: STORE),
        },
        executor=executors[executor],
        jobs=[dg.define_asset_job("fire", "*", partitions_def=MONTHS)],
    )


def job_of(folder: str, uri: str, executor: str, location: str) -> dg.JobDefinition:
    """Return the job over a folder, an MLflow store and a lake; the processes of steps make it again by this name."""
    return _job(folder, uri, executor, location)


def warm_module() -> str:
    return "bikes_assets_tests.fire.warm"


@dataclass(frozen=True)
class Place:
    """Where a campaign runs: a Dagster instance and a lake in a folder, and an MLflow store or server.

    Attributes:
        folder: the folder; it is made.
        uri: MLflow's tracking URI.
        url: URL of the lake where it is not in the folder.
    """

    folder: Path
    uri: str
    url: str = ""

    @property
    def location(self) -> str:
        return self.url or f"{self.folder}/lake"

    @property
    def lake(self) -> Lake:
        return Lake(self.location, SCHEMAS, root=self.folder)

    def at(self, uri: str) -> Place:
        """Return the same place with MLflow reached otherwise."""
        return replace(self, uri=uri)

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        home = self.folder / "dagster"
        if not (home / "dagster.yaml").exists():
            home.mkdir(parents=True)
            (home / "dagster.yaml").write_text(_YAML.format(home=home))
        with dg.DagsterInstance.from_config(str(home)) as instance:
            yield instance

    def job(self, executor: str = "in_process") -> dg.JobDefinition:
        return job_of(str(self.folder), self.uri, executor, self.location)

    def tags(self, partition: str, orders: Mapping[str, str]) -> dict[str, str]:
        told = {f"fire/{asset}": order for asset, order in orders.items()}
        return {"dagster/partition": partition, "fire/place": f"{self.folder} {self.uri}", **told}

    def run(
        self,
        instance: dg.DagsterInstance,
        partition: str,
        orders: Mapping[str, str] | None = None,
        assets: Sequence[str] | None = None,
    ) -> Any:
        """Execute a Dagster run in this process, and return its result."""
        return self.job().execute_in_process(
            instance=instance,
            partition_key=partition,
            tags={**self.tags(partition, orders or {}), WORKER: str(Process.this())},
            asset_selection=[dg.AssetKey(name) for name in assets] if assets else None,
            run_config=_QUIET,
            raise_on_error=False,
        )

    def run_in_processes(
        self,
        instance: dg.DagsterInstance,
        partition: str,
        assets: Sequence[str] = ASSETS,
        orders: Mapping[str, str] | None = None,
    ) -> Any:
        """Execute a Dagster run with a process for each step, four at a time, and return its result."""
        return dg.execute_job(
            self._reconstructable("multiprocess"),
            instance,
            tags=self.tags(partition, orders or {}),
            asset_selection=[dg.AssetKey(name) for name in assets],
            run_config=_QUIET,
            raise_on_error=False,
        )

    def create(
        self, instance: dg.DagsterInstance, partition: str, orders: Mapping[str, str] | None = None, **origins: Any
    ) -> str:
        """Create a Dagster run for another process to execute, and return its id.

        Args:
            instance: Dagster's instance.
            partition: the month.
            orders: what steps do before they return, see above.
            origins: where a launcher finds the job's code.
        """
        return instance.create_run_for_job(
            self.job(), run_config=_QUIET, tags=self.tags(partition, orders or {}), **origins
        ).run_id

    def execute(self, run_id: str, begins: Callable[[], object]) -> None:
        """Execute a run that was created, as Dagster's launcher has it executed: SIGTERM and SIGINT interrupt it.

        Args:
            run_id: the run.
            begins: called when everything is ready.
        """
        from dagster._core.events import EngineEventData
        from dagster._core.execution.api import execute_run_iterator
        from dagster._utils.interrupts import setup_interrupt_handlers

        setup_interrupt_handlers()
        with self.instance() as instance:
            run = instance.get_run_by_id(run_id)
            assert run
            started = EngineEventData({"pid": dg.MetadataValue.text(str(os.getpid()))})
            instance.report_engine_event("Started process for run.", run, started)
            begins()
            for _ in execute_run_iterator(self._reconstructable("in_process"), run, instance):
                pass

    def sync(self, instance: dg.DagsterInstance, *, whole: bool = True) -> Reconciliation:
        """Bring Dagster, lake and MLflow into reconciliation, as `bikes sync` does; not the whole, as the sensor does."""

        def connected(restored: list[str]) -> Any:
            return connect(self.uri, EXPERIMENT, "http://mlflow", "http://dagster", SCHEMAS, STORE, restored)

        events = str(self.folder / "dagster")
        stores = Stores(self.lake.location, ASSETS, events, self.uri, self.folder / "reconciled.json")
        return sync(Pipeline(instance, self.lake, RIDGE, ASSETS, connected, self.uri, self.index, stores), whole=whole)

    def index(self) -> Index:
        """Return the lineage index, up to date with Dagster's event log."""
        file = self.folder / "lineage.db"
        return refresh(Index(file), str(self.folder / "dagster"), lambda index: Projection(index, SCHEMAS))

    def _reconstructable(self, executor: str) -> Any:
        root = str(Path(__file__).parents[2])
        return dg.build_reconstructable_job(
            __name__, "job_of", (str(self.folder), self.uri, executor, self.location), {}, root
        )
