"""A backfill that two workers share, one of which is killed: nothing is lost, nothing is done twice, nothing is mixed up."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus

from bikes_assets.tracking.runs import KEY, RUN
from bikes_assets_tests.browser import wait_until
from bikes_assets_tests.conftest import MADE, store_at
from bikes_assets_tests.elsewhere.cluster import MAY_NAME, ROOT, Cluster
from bikes_assets_tests.elsewhere.servers import Redis, create_database
from bikes_assets_tests.elsewhere.test_s3_away import MONTHS, as_made_here
from bikes_assets_tests.elsewhere.told import bikes, told
from bikes_assets_tests.fire.processes import SOAK
from bikes_assets_tests.fire.servers import MlflowServer

LAST_MONTH = "2012-12" if SOAK else MONTHS[-1]
PATIENCE = 3600 if SOAK else 600
POLL_SECONDS = 10 if SOAK else 3
Status = dg.DagsterRunStatus


@pytest.fixture
def cluster(
    request: pytest.FixtureRequest, tmp_path: Path, s3: str, redis_server: Redis, postgres_server: str
) -> Iterator[Cluster]:
    """Yield a cluster with an engine: with the lake on S3, but for Spark, which reads a folder that its workers share."""
    import fsspec

    engine: str = request.param
    mlflow = MlflowServer(tmp_path / "mlflow")
    lake, source = (s3, f"{s3}-source/hour.csv") if engine != "spark" else (str(tmp_path / "lake"), "")
    shipped = ROOT / "data" / "raw" / "hour.csv"
    if source:
        with fsspec.open(source, "wb") as file:
            file.write(shipped.read_bytes())
    shared = {
        "BIKES_LAKE": lake,
        "BIKES_SOURCE": source or str(shipped),
        "BIKES_DAGSTER_STORAGE": create_database(postgres_server, f"scale_out_{engine}"),
        "BIKES_BROKER": redis_server.url,
        "BIKES_MLFLOW_TRACKING_URI": mlflow.url,
        "BIKES_LAST_MONTH": LAST_MONTH,
        "BIKES_ENGINE": engine,
        "DAGSTER_GRPC_TIMEOUT_SECONDS": "300",
    }
    mlflow.start()
    # Java refuses to work on a machine whose name is nobody's address
    made = Cluster(tmp_path, shared, POLL_SECONDS, has_names=MAY_NAME and engine != "spark")
    yield made
    made.stop()
    mlflow.kill()


@pytest.fixture
def instance(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Yield Dagster's instance, as the machine has it that launches."""
    home = cluster.prepare("head")
    for name in ("BIKES_BROKER", "BIKES_DAGSTER_STORAGE"):
        monkeypatch.setenv(name, cluster.shared[name])
    with dg.DagsterInstance.from_config(str(home)) as opened:
        yield opened


@pytest.fixture(scope="module")
def in_process(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Mapping[str, str]]:
    """Return the digests of the same months as one process of one machine materializes them, pandas computing the features."""
    if SOAK:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("BIKES_")}
        environment = inherited | store_at(tmp_path_factory.mktemp("alone")) | {"BIKES_LAST_MONTH": LAST_MONTH}
        done = bikes(environment, "run")
        assert done.returncode == 0, done.stderr
        return told(environment)["digests"]
    history = request.getfixturevalue("history")
    return {asset: as_made_here(history, asset) for asset in MADE}


@pytest.mark.soak
@pytest.mark.parametrize("cluster", ["pandas", *(["spark"] if SOAK and shutil.which("java") else [])], indirect=True)
def test_a_worker_that_is_killed_in_the_middle_of_a_backfill(
    cluster: Cluster, instance: dg.DagsterInstance, in_process: dict[str, Mapping[str, str]]
) -> None:
    expected = sum(map(len, (in_process[asset] for asset in MADE)))
    rng = random.Random(0)
    # Given a backfill of the history, which two workers share
    cluster.start("one", "two")
    backfill = cluster.backfill()
    some = rng.randrange(expected // 4, expected // 2)
    wait_until(lambda: len(materialized(instance)) >= some, f"{some} partitions are materialized", PATIENCE)
    # When one of them is killed in the middle of a step
    lost = kill(cluster, instance, "two")
    if SOAK:  # and its machine comes back later
        wait_until(lambda: len(materialized(instance)) >= some + expected // 4, "the other goes on", PATIENCE)
        cluster.start_worker("two")
    # Then the backfill succeeds
    done = (BulkActionStatus.COMPLETED_SUCCESS, BulkActionStatus.COMPLETED_FAILED, BulkActionStatus.COMPLETED)
    wait_until(lambda: instance.get_backfill(backfill).status in done, "the backfill has ended", PATIENCE)
    assert instance.get_backfill(backfill).status == BulkActionStatus.COMPLETED_SUCCESS, cluster.log()
    # And the run that was lost was noticed, and executed again, and no other
    assert_executed_again(instance, lost, has_names=cluster.has_names)
    # And after one reconciliation all agree, and each partition is what one process makes of it
    told_by = [cluster.bikes(*command) for command in (("sync",), ("sync",), ("status",))]
    assert [item.returncode for item in told_by] == [0, 0, 0], [item.stdout + item.stderr for item in told_by]
    assert told_by[1].stdout == "Everything agrees.\n"
    assert told_by[2].stdout.endswith("Everything is fresh.\n")
    assert_materialized_once(cluster, in_process, lost)
    assert_no_attempt_twice(cluster)


def kill(cluster: Cluster, instance: dg.DagsterInstance, worker: str) -> str:
    """Kill a worker with all its processes while it executes a step, and return the run that is lost."""

    def stopped() -> str:
        found = cluster.executing(instance, worker)
        if not found:
            return ""
        run, pid = found
        os.kill(pid, signal.SIGSTOP)
        if instance.get_run_by_id(run.run_id).status == Status.STARTED:
            return run.run_id
        os.kill(pid, signal.SIGCONT)
        return ""

    run_id = wait_until(stopped, f"worker {worker} executes a step", PATIENCE)
    cluster.workers[worker].kill()
    return run_id


def materialized(instance: dg.DagsterInstance) -> set[tuple[str, str]]:
    """Return the partitions that Dagster has an event of."""
    keys = {asset: instance.get_materialized_partitions(dg.AssetKey(asset)) for asset in MADE}
    return {(asset, partition) for asset, partitions in keys.items() for partition in partitions}


def assert_executed_again(instance: dg.DagsterInstance, lost: str, *, has_names: bool) -> None:
    runs = instance.get_runs()
    assert [run.run_id for run in runs if run.status == Status.FAILURE] == [lost]
    messages = [entry.message for entry in instance.all_logs(lost)]
    # a worker whose machine has a name of its own cannot be looked up by its process id
    known = ("no worker is executing it", *(() if has_names else ("its process is gone",)))
    assert any(why in message for message in messages for why in known), messages
    # by its parent: of two processes that tag a run at once, Dagster keeps one's tags
    assert [run.status for run in runs if run.parent_run_id == lost] == [Status.SUCCESS], messages
    assert {run.status for run in runs if run.run_id != lost} == {Status.SUCCESS}


def assert_materialized_once(cluster: Cluster, in_process: dict[str, Mapping[str, str]], lost: str) -> None:
    found: dict[str, Any] = told(cluster.environment("head"))
    assert {asset: found["digests"][asset] for asset in MADE} == {asset: in_process[asset] for asset in MADE}
    assert sorted(found["events"]) == sorted(found["commits"]) == sorted(found["mlflow"])
    # what the run had published before it was lost need not be materialized again, but may be
    kept = Counter((asset, month) for asset, month, run in found["by run"] if run != lost)
    assert {address: times for address, times in kept.items() if times > 1} == {}
    assert len(found["by run"]) == len(set(map(tuple, found["by run"])))
    models = [address for address in found["commits"] if address.startswith("demand_model")]
    assert sorted(found["registered"]) == sorted(models)
    # and the rows of each are those of its own record
    snapshot = str(cluster.folder / "snapshot.json")
    verified = [cluster.bikes(*command) for command in (("snapshot", snapshot), ("verify", "--deep", snapshot))]
    assert [item.returncode for item in verified] == [0, 0], [item.stdout + item.stderr for item in verified]


def assert_no_attempt_twice(cluster: Cluster) -> None:
    from mlflow import MlflowClient
    from mlflow.entities import RunStatus

    client = MlflowClient(cluster.shared["BIKES_MLFLOW_TRACKING_URI"])
    experiments = [item.experiment_id for item in client.search_experiments()]
    runs = list(client.search_runs(experiments, max_results=10_000))
    attempts = Counter(run.data.tags.get(KEY) or run.data.tags[RUN] for run in runs)
    assert {key: times for key, times in attempts.items() if times > 1} == {}
    assert RunStatus.to_string(RunStatus.RUNNING) not in {run.info.status for run in runs}
