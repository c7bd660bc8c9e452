"""The index follows Dagster's event log, and begins again where that is another one."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest

import bikes_assets
from bikes_assets.core.record import Record, Version
from bikes_assets.events import metadata
from bikes_assets.lineage.elements import VERSION
from bikes_assets.lineage.event_log import latest, materializations, refresh
from bikes_assets.lineage.index import Index
from bikes_assets.lineage.projection import Projection

LOG = "event_log.db"


class Home:
    """A Dagster home, and an index of its event log."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.index = folder, Index(folder / "lineage.db")

    def publish(self, *versions: int) -> None:
        """Report versions of the asset `numbers`, each of a run of its own."""
        with dg.DagsterInstance.from_config(str(self.folder)) as instance:
            for version in versions:
                run_id = f"run-{version}"
                output = Version("numbers", None, version, f"{version:032}")
                record = Record(output, {}, (), "", {}, {}, {"dagster_run_id": run_id}, time=float(version))
                value = dg.MetadataValue.json(record.to_dict())
                links = {"mlflow_run": dg.MetadataValue.url(f"http://127.0.0.1:5000/{run_id}")}
                event = dg.AssetMaterialization("numbers", metadata={"lineage": value, **links})
                metadata.report(instance, event, run_id=run_id, step_key="numbers")

    def known(self) -> list[int]:
        """Return the versions that the index knows once it is up to date."""
        refresh(self.index, str(self.folder), lambda index: Projection(index, {}))
        return sorted(int(str(item.version)) for item in self.index.within(VERSION, "numbers"))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    shutil.copy(Path(bikes_assets.__file__).with_name("dagster.yaml"), tmp_path)
    yield (made := Home(tmp_path))
    made.index.close()


def test_of_a_restored_event_log_nothing_is_known_that_it_does_not_hold(home: Home, tmp_path: Path) -> None:
    # Given a backup of the event log, after which another version was published
    home.publish(1)
    shutil.copy(tmp_path / LOG, tmp_path / "backup")
    home.publish(2)
    assert home.known() == [1, 2]
    # When it is restored, and goes on otherwise, beyond the last event that the index has taken in
    for rest in tmp_path.glob(f"{LOG}-*"):
        rest.unlink()
    shutil.copy(tmp_path / "backup", tmp_path / LOG)
    home.publish(3, 4)
    # Then
    assert home.known() == [1, 3, 4]


def test_of_an_event_log_from_which_events_were_deleted_the_rest_alone_is_known(home: Home) -> None:
    home.publish(1, 2, 3)
    assert home.known() == [1, 2, 3]
    with closing(sqlite3.connect(home.folder / LOG)) as log, log:
        log.execute("delete from event_logs where run_id = 'run-2'")
    assert home.known() == [1, 3]


def test_each_version_has_the_page_of_its_own_run_in_mlflow(home: Home) -> None:
    home.publish(1, 2, 3)
    told = [*materializations(str(home.folder), "numbers", None, most=2)]
    assert [event.record.output.address for event in told if event.record] == ["numbers@3", "numbers@2"]
    assert [event.mlflow_page for event in told] == ["http://127.0.0.1:5000/run-3", "http://127.0.0.1:5000/run-2"]
    newest = latest(str(home.folder), "numbers", None)
    assert newest is not None
    assert newest.mlflow_page == told[0].mlflow_page
    assert latest(str(home.folder), "letters", None) is None
