"""A store's first use, killed at any moment: what is made in many steps is there whole or not at all, and the next goes well."""

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
from typing import Any

import pytest

from bikes_assets_tests.fire.processes import FORK, SOAK, turns
from bikes_assets_tests.fire.reading import intact

DATABASES = ("dagster/event_log.db", "dagster/history/runs.db", "dagster/schedules/schedules.db", "mlflow/mlflow.db")
SIGNALS = (signal.SIGKILL, signal.SIGTERM)


def first_use(folder: str, ready: Any = None) -> None:
    """Do what the first run does before it makes anything: Dagster's home, the store's identity, MLflow's store."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for name in [name for name in os.environ if name.startswith(("BIKES_", "MLFLOW_TRACKING", "DAGSTER_"))]:
        del os.environ[name]
    os.environ |= {"BIKES_DATA": folder, "MLFLOW_LOGGING_LEVEL": "ERROR"}
    from bikes_assets.app.settings import settings
    from bikes_assets.app.store import current_identity
    from bikes_assets.cli import runner
    from bikes_assets.tracking.client import client_of, experiment_of

    if ready:
        ready.set()
    with runner.opened():
        client = client_of(settings().tracking_uri)
        experiment_of(client, settings().tracking_uri, "bike-demand", current_identity().store)


def used(folder: Path, seconds: float | None = None, number: int = 0) -> tuple[int, float]:
    """Use a store in a process of its own, which gets a signal after some seconds; return its exit code and seconds."""
    ready = FORK.Event()
    process = FORK.Process(target=first_use, args=(str(folder), ready))
    process.start()
    assert ready.wait(120)
    start = time.monotonic()
    if seconds is not None:
        process.join(seconds)
        if process.is_alive():
            os.kill(process.pid, number)
    process.join(120)
    return process.exitcode, time.monotonic() - start


def test_a_store_is_whole_whenever_its_first_use_is_killed(tmp_path: Path) -> None:
    # Given how long a first use takes that nobody interrupts
    uses = [used(tmp_path / f"whole {number}") for number in range(2)]
    assert [code for code, _ in uses] == [0, 0]
    whole = min(seconds for _, seconds in uses)
    rng, killed = random.Random(0), 0
    kills = len(turns(30)) if SOAK else 2
    for turn in range(kills):
        # When one is killed somewhere on its way, each in a part of it of its own
        folder = tmp_path / str(turn)
        code, _ = used(folder, whole * (turn + rng.random()) / kills, SIGNALS[turn % 2])
        killed += code < 0
        # Then every database that has its name is whole
        for name in DATABASES:
            assert not (folder / name).exists() or intact(folder / name) == "ok", (turn, name)
        # And the next use goes well, and leaves nothing of the first behind
        assert used(folder)[0] == 0, turn
        assert {name: intact(folder / name) for name in DATABASES} == dict.fromkeys(DATABASES, "ok")
        assert [path for path in folder.rglob("*") if ".new" in path.name] == []
        with closing(sqlite3.connect(folder / "mlflow" / "mlflow.db")) as store:
            assert store.execute("select name from experiments").fetchall() == [("Default",), ("bike-demand",)]
    assert killed


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="the part of it that creates a store is killed above")
def test_the_first_run_of_a_store_is_killed_and_the_next_makes_everything(tmp_path: Path) -> None:
    rng = random.Random(1)
    command = [sys.executable, "-c", "from bikes_assets.cli import main; main()", "run"]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("BIKES_", "DAGSTER_HOME"))}
    for turn in range(30):
        environment = inherited | {"BIKES_DATA": str(tmp_path / str(turn)), "BIKES_LAST_MONTH": "2011-01"}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(rng.uniform(1, 12))
        except subprocess.TimeoutExpired:
            process.send_signal(SIGNALS[turn % 2])
        process.wait(60)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, (turn, done.stdout, done.stderr)
        assert "MLflow did not take" not in done.stdout, (turn, done.stdout)
