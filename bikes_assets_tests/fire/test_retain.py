"""Retention, killed at points spread over its work: what is live reads as before, and the next one finishes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from bikes_assets.core.errors import RemovedError
from bikes_assets.core.record import parse_address
from bikes_assets.governance.retention import RetentionPlan, apply, plan, remove_in_mlflow
from bikes_assets.governance.retention_policy import DAY
from bikes_assets.storage.removals import removals, write_removed_in_mlflow
from bikes_assets.tracking.client import lineage_of
from bikes_assets.tracking.version_source import model_id_in
from bikes_assets_tests.fire import project
from bikes_assets_tests.fire.processes import FORK, turns
from bikes_assets_tests.fire.project import ASSETS, EXPERIMENT, MONTHS, Place, frame

MONTH = MONTHS.get_partition_keys()[0]
KILLS = 20


def look(place: Place) -> RetentionPlan:
    tables = [place.lake.table(asset) for asset in ASSETS]
    return plan(place.lake, tables, held=(), aliased=(), now=time.time() + 100 * DAY, days=90)


def retain(place: Place) -> RetentionPlan:
    """Remove what may go, in the lake and in MLflow, as the command does."""
    done = apply(place.lake, lambda: look(place), "somebody")
    versions = remove_in_mlflow(MlflowClient(place.uri), EXPERIMENT, done.in_mlflow, "then")
    if versions:
        write_removed_in_mlflow(place.lake.location, time=done.now, versions=versions)
    return done


@dataclass
class Materialized:
    """A store in which a month was made twice, of other rows and so with another model.

    Attributes:
        place: where it is.
        live: rows and model files of each version that stays.
        going: the versions that may go.
    """

    place: Place
    live: dict[str, Any]
    going: list[str]

    def copy(self, folder: Path) -> Place:
        for name in ("lake", "store", "dagster"):
            shutil.copytree(self.place.folder / name, folder / name)
        settings = folder / "dagster" / "dagster.yaml"
        settings.write_text(settings.read_text().replace(str(self.place.folder), str(folder)))
        return Place(folder, f"sqlite:///{folder}/store/mlflow.db")


def rows_of(place: Place, address: str) -> Any:
    """Return a version's rows, checked, and for a model its file."""
    asset, partition, version = parse_address(address)
    ((found, rows),) = place.lake.table(asset).read([partition], int(str(version))).values()
    assert found.address == address
    files = [place.lake.load_file(sha256) for sha256 in rows["sha256"].to_pylist()] if asset == "ridge" else []
    return rows, files


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Materialized:
    folder = tmp_path_factory.mktemp("retained")
    place = Place(folder, f"sqlite:///{folder}/store/mlflow.db")
    with place.instance() as instance, pytest.MonkeyPatch.context() as patch:
        assert place.run(instance, MONTH).success
        patch.setattr(project, "frame", lambda asset, _: frame(asset, "2030-01"))
        assert place.run(instance, MONTH).success
    found = look(place)
    live = {item.address: rows_of(place, item.address) for item in found.verdicts if item.state == "stays"}
    return Materialized(place, live, [item.address for item in found.going])


def test_what_went_is_deleted_in_mlflow_and_no_sync_logs_it_again(made: Materialized, tmp_path: Path) -> None:
    # Given
    place = made.copy(tmp_path)
    client = MlflowClient(place.uri)
    versions = {item.tags["address"]: item for item in client.search_model_versions("name = 'ridge'")}
    both = [
        item.experiment_id for item in client.search_experiments() if item.name in (EXPERIMENT, lineage_of(EXPERIMENT))
    ]
    # When
    retain(place)
    # Then the runs that are left are those of what stays, and their parents
    assert sorted(made.going) == sorted(f"{asset}[{MONTH}]@1" for asset in ASSETS)
    runs = client.search_runs(both, max_results=1000)
    assert {run.data.tags["address"] for run in runs if "address" in run.data.tags} == set(made.live)
    assert sum("address" not in run.data.tags for run in runs) == 2
    deleted = client.search_runs(both, run_view_type=ViewType.DELETED_ONLY)
    assert sorted(run.data.tags["address"] for run in deleted) == sorted(made.going)
    # And so are the copies of models; a registered version stays where it is, and says so
    for address, version in versions.items():
        now = client.get_model_version("ridge", version.version)
        assert now.tags.get("removed") == ("then" if address in made.going else None)
        if address in made.going:
            with pytest.raises(MlflowException, match="not found"):
                client.get_logged_model(model_id_in(now))
        else:
            assert client.get_logged_model(model_id_in(now)).status == "READY"
    # And nothing is left to do for anyone
    with place.instance() as instance:
        again = place.sync(instance)
    assert (again.done, again.left, again.refused) == ([], [], [])
    assert {item.version for item in client.search_model_versions("name = 'ridge'")} == {
        item.version for item in versions.values()
    }
    assert len(client.search_runs(both, max_results=1000)) == len(runs)
    assert retain(place).going == []


def test_what_an_alias_names_keeps_its_run_and_its_copy(made: Materialized, tmp_path: Path) -> None:
    place = made.copy(tmp_path)
    client = MlflowClient(place.uri)
    (version,) = [item for item in client.search_model_versions("name = 'ridge'") if item.tags["address"] in made.going]
    client.set_registered_model_alias("ridge", "kept", version.version)

    retain(place)

    assert client.get_run(version.run_id).info.lifecycle_stage == "active"
    assert client.get_logged_model(model_id_in(version)).status == "READY"
    # And once it names it no more, they go
    client.delete_registered_model_alias("ridge", "kept")
    retain(place)
    assert client.get_run(version.run_id).info.lifecycle_stage == "deleted"


@pytest.fixture(scope="module")
def steps(made: Materialized, tmp_path_factory) -> int:
    """Return how many steps a removal takes."""
    folder = tmp_path_factory.mktemp("counted")
    tell, told = FORK.Pipe()
    process = FORK.Process(target=retains, args=(made.copy(folder), 0, tell))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    return told.recv()


@pytest.mark.soak
@pytest.mark.parametrize("turn", turns(KILLS))
def test_a_removal_that_is_killed_leaves_all_that_is_live_and_the_next_one_finishes(
    made: Materialized, steps: int, tmp_path: Path, turn: int
) -> None:
    # Given
    place, whole = made.copy(tmp_path), len(turns(KILLS))
    step = 1 + int((turn + random.Random(turn).random()) * steps / whole)
    # When
    process = FORK.Process(target=retains, args=(place, step, None))
    process.start()
    process.join(120)
    # Then
    assert process.exitcode == -signal.SIGKILL
    for address, expected in made.live.items():
        assert rows_of(place, address) == expected
    # And the next one finishes
    retain(place)
    for address, expected in made.live.items():
        assert rows_of(place, address) == expected
    for address in made.going:
        with pytest.raises(RemovedError, match="removed by retention"):
            rows_of(place, address)
    found = look(place)
    assert (found.going, found.files, found.models, found.in_mlflow) == ([], [], {}, [])
    assert sorted(address for item in removals(place.lake.location) for address in item.versions) == sorted(made.going)


def retains(place: Place, step: int, tell: Any) -> None:
    """Remove what may go, and kill this process before one of its steps: a file written or deleted, or a call that MLflow obeys.

    Args:
        place: the store.
        step: the step, 0 for none.
        tell: is told how many steps there were.
    """
    client = MlflowClient(place.uri)
    client.search_experiments(max_results=1)
    count = 0

    def taken() -> None:
        nonlocal count
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: Any) -> None:
        is_write = event == "open" and str(arguments[0]).startswith(f"{place.folder}/lake") and "w" in str(arguments[1])
        if is_write or (event in ("os.remove", "os.rename") and str(place.folder) in str(arguments[0])):
            taken()

    def profile(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_name in ("delete_run", "delete_logged_model", "set_model_version_tag"):
            taken()

    sys.addaudithook(audit)
    sys.setprofile(profile)
    retain(place)
    sys.setprofile(None)
    if tell:
        tell.send(count)
