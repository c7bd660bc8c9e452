"""docs/backup.sh, taken while runs are at work; then the machine is lost, and the backup takes its place."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
from mlflow import MlflowClient

from bikes_assets.core.address import parse_address
from bikes_assets.storage.delta import LakeTable
from bikes_assets.tracking.registry import versions
from bikes_assets.tracking.version_source import model_id_in
from bikes_assets_tests.fire.conftest import Ground
from bikes_assets_tests.fire.harness import disagreements, intact
from bikes_assets_tests.fire.processes import Worker, turns
from bikes_assets_tests.fire.project import ASSETS, MONTHS, SCHEMAS

BACKUP = Path(__file__).parents[2] / "docs" / "backup.sh"
PARTITIONS = MONTHS.get_partition_keys()[:12]


@pytest.mark.soak
@pytest.mark.parametrize("turn", turns(20))
def test_a_backup_that_is_taken_while_runs_are_at_work_is_whole(local: Ground, tmp_path: Path, turn: int) -> None:
    # Given; this process opens no store before they are moved
    first, rest = PARTITIONS[:2], PARTITIONS[2:]
    assert [success for success, _ in Worker.of_command(local.place, first).outcome()] == [True, True]
    worker = Worker.of_command(local.place, rest)
    # When it is backed up at work, and then the machine is lost
    time.sleep(random.Random(turn).uniform(0, 3))
    stores = {"DAGSTER_HOME": "dagster", "LAKE": "lake", "MLFLOW": "store"}
    places = {name: str(tmp_path / folder) for name, folder in stores.items()}
    subprocess.run(
        [str(BACKUP), str(tmp_path / "backup")], env=os.environ | places | {"PYTHON": sys.executable}, check=True
    )
    at_work = worker.process.is_alive()
    worker.signal(signal.SIGKILL)
    worker.outcome()
    for name, folder in stores.items():
        (tmp_path / folder).rename(tmp_path / f"lost {name}")
        (tmp_path / "backup" / {"MLFLOW": "mlflow"}.get(name, folder)).rename(tmp_path / folder)
    # Then one sync brings reconciliation, what was there before is there, and whatever is there is whole
    assert at_work
    assert local.place.sync(local.instance).left == []
    agrees_but_for_starts(local)
    for asset, schema in SCHEMAS.items():
        table = LakeTable(asset, str(tmp_path / "lake" / asset), schema)
        there = {commit.partition for commit in table.commits()}
        assert there >= set(first)
        assert all(len(rows) == 20 for _, rows in table.read(sorted(there)).values())
    # and work goes on
    assert local.place.run(local.instance, rest[-1]).success
    agrees_but_for_starts(local)


def agrees_but_for_starts(ground: Ground) -> None:
    """Fail unless all agree; a step that began between the copies of event log and lake has no start."""
    told = disagreements(ground.state())
    assert [line for line in told if not line.endswith("which did not begin")] == []
    assert len(told) <= len(ASSETS), told
    assert intact(ground.store) == "ok"
    again = ground.place.sync(ground.instance)
    assert (again.done, again.left) == ([], [])


@pytest.mark.parametrize("fault", ["its upload had not ended", "it was not there yet"])
def test_a_model_that_mlflow_did_not_hold_when_it_was_copied_is_logged_anew(local: Ground, fault: str) -> None:
    """MLflow is copied first: its copy may be of before a model's upload ended, while the lake's copy has the model's record."""
    assert [success for success, _ in Worker.of_command(local.place, PARTITIONS[:1]).outcome()] == [True]
    client = MlflowClient(local.place.uri)
    (version,) = client.search_model_versions("name = 'ridge'")
    logged = client.get_logged_model(model_id_in(version))
    client.delete_model_version("ridge", version.version)
    client.update_run(logged.source_run_id, "RUNNING")
    if fault == "it was not there yet":
        client.delete_logged_model(logged.model_id)
    else:
        client.finalize_logged_model(logged.model_id, "PENDING")

    result = local.place.sync(local.instance)

    assert result.left == []
    assert any(
        line.startswith(f"MLflow: ridge[{PARTITIONS[0]}]") and line.endswith("is logged") for line in result.done
    )
    (again,) = client.search_model_versions("name = 'ridge'")
    assert model_id_in(again) != logged.model_id
    assert again.tags["digest"] == version.tags["digest"]
    assert client.get_logged_model(model_id_in(again)).status == "READY"
    assert (local.place.sync(local.instance).done, disagreements(local.state())) == ([], [])


def test_a_number_that_was_given_while_it_was_copied_is_not_given_again(local: Ground, tmp_path: Path) -> None:
    """MLflow and the event log are copied before the numbers: their copies may be of before a version, the number's of after."""
    # Given copies of before the second version
    assert [success for success, _ in Worker.of_command(local.place, PARTITIONS[:1]).outcome()] == [True]
    copied = [tmp_path / "store" / "mlflow.db", tmp_path / "dagster" / "event_log.db"]
    copies = [snapshot(file) for file in copied]
    assert [success for success, _ in Worker.of_command(local.place, PARTITIONS[1:2]).outcome()] == [True]
    # When they take the place of the stores, and the lake and the numbers are of after it
    for file, copy in zip(copied, copies, strict=True):
        for log in file.parent.glob(f"{file.name}-*"):
            log.unlink()
        file.write_bytes(copy)
    # Then one sync registers it, under a number that nobody had
    assert local.place.sync(local.instance).left == []
    found = versions(MlflowClient(local.place.uri), "ridge")
    numbers = [(parse_address(version.tags["address"])[1], int(version.version)) for version in found]
    assert numbers == [(PARTITIONS[0], 1), (PARTITIONS[1], 3)]
    agrees_but_for_starts(local)


def snapshot(database: Path) -> bytes:
    """Return a database as it is now."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.serialize()


def test_an_event_log_that_is_lost_is_reported_anew_from_the_commits(local: Ground, tmp_path: Path) -> None:
    # Given
    assert [success for success, _ in Worker.of_command(local.place, PARTITIONS[:1]).outcome()] == [True]
    home = tmp_path / "dagster"
    # When
    for file in home.glob("*.db*"):
        file.unlink()
    time.sleep(31)  # a commit whose run nobody knows may yet be followed by its event
    # Then
    with local.place.instance() as instance:
        done = local.place.sync(instance).done
        keys = [dg.AssetKey(asset) for asset in ASSETS]
        assert {key for key in keys if instance.get_materialized_partitions(key) == {PARTITIONS[0]}} == set(keys)
    assert sum("was committed, and is now in the event log" in sentence for sentence in done) == len(ASSETS)
