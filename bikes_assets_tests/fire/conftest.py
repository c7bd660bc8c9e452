"""A place for each test, and the check that Dagster, the lake and MLflow agree on everything that was done there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bikes_assets_tests.fire.harness import State, disagreements, intact, state
from bikes_assets_tests.fire.history import History
from bikes_assets_tests.fire.project import EXPERIMENT, Place
from bikes_assets_tests.fire.reading import Reading, read_lake
from bikes_assets_tests.fire.servers import MlflowServer, Zygote


@dataclass
class Ground:
    """A place, its Dagster instance, and the file of its MLflow store."""

    place: Place
    instance: Any
    store: Path

    def state(self) -> State:
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.store}")
        return state(self.instance, client, EXPERIMENT, self.place.folder / "lake")

    def warnings(self) -> list[str]:
        """Return what runs were warned of."""
        runs = self.instance.get_runs()
        return [entry.user_message for run in runs for entry in self.instance.all_logs(run.run_id) if entry.level == 30]

    def agrees(self) -> State:
        """Fail unless all agree, the store is whole, and sync finds nothing more to do; return what they say."""
        found = self.state()
        told = disagreements(found)
        assert not told, "\n".join([f"{len(told)} disagreements:", *told, "warnings:", *sorted(set(self.warnings()))])
        assert intact(self.store) == "ok"
        again = self.place.sync(self.instance)
        assert (again.done, again.left, again.refused) == ([], [], [])
        return found


def ground(folder: Path, uri: str, store: Path) -> Iterator[Ground]:
    place = Place(folder, uri)
    with place.instance() as instance:
        yield Ground(place, instance, store)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Ground]:
    """Yield a place with MLflow in a SQLite file, which is not there yet."""
    store = tmp_path / "store" / "mlflow.db"
    yield from ground(tmp_path, f"sqlite:///{store}", store)


@pytest.fixture(scope="session")
def worked(tmp_path_factory) -> Iterator[History]:
    """Yield the project over four months, and what forks workers in it."""
    made = History(tmp_path_factory.mktemp("history") / "of")
    yield made
    made.close()


@pytest.fixture
def fresh(worked: History) -> History:
    """Return the same with its store as it was made."""
    worked.renew()
    return worked


@pytest.fixture(scope="session")
def sound(worked: History) -> Reading:
    """Return what lies in the lake as it was made."""
    return read_lake(worked.folder / "sound" / "lake")


@pytest.fixture(scope="session")
def zygote(tmp_path_factory) -> Iterator[Zygote]:
    process = Zygote(tmp_path_factory.mktemp("zygote") / "log")
    yield process
    process.close()


@pytest.fixture
def server(tmp_path: Path, zygote: Zygote) -> Iterator[MlflowServer]:
    """Yield an MLflow server that runs."""
    running = MlflowServer(tmp_path / "server", zygote)
    running.start()
    yield running
    running.kill()


@pytest.fixture
def remote(tmp_path: Path, server: MlflowServer) -> Iterator[Ground]:
    """Yield a place with MLflow behind that server."""
    yield from ground(tmp_path, server.url, server.store)
