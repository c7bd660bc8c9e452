"""S3, which holds the lake, fails in every way while a run is at work: nothing is lost, nothing is there twice."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bikes_assets_tests.conftest import MADE
from bikes_assets_tests.elsewhere.servers import Fault, fail_next
from bikes_assets_tests.elsewhere.told import bikes, told
from bikes_assets_tests.fire.processes import SOAK, turns

MONTHS = ("2011-01", "2011-02", "2011-03")
REQUESTS = 400
"""Requests that a run of three months sends, at least."""
KINDS = ("503 before", "503 after", "slow", "cut short", "refused")
TRIES = 4
"""How often a run is begun while the store fails: one that a fault ends at its beginning meets no others."""
SECONDS = (1, 5, 15, 40) if SOAK else (1, 8)
"""How long a fault lasts: a client gives up after some seconds, and a step is tried three times."""


@pytest.fixture
def endpoint(s3_environment: dict[str, str]) -> Iterator[str]:
    """Return the address of the store, which is well in the end."""
    yield s3_environment["AWS_ENDPOINT_URL"]
    well(s3_environment["AWS_ENDPOINT_URL"])


def well(endpoint: str) -> list[str]:
    """Have the store fail no more, and return the requests since the last time; it may refuse connections for a while."""
    end = time.monotonic() + 2 * max(SECONDS)
    while time.monotonic() < end:
        with suppress(OSError):
            return fail_next(endpoint)
        time.sleep(0.2)
    return fail_next(endpoint)


@pytest.mark.soak
@pytest.mark.parametrize("turn", turns(10))
def test_a_store_that_fails_in_mid_run(s3: str, endpoint: str, history: Any, tmp_path: Path, turn: int) -> None:
    rng = random.Random(turn)
    environment = os.environ | {
        "BIKES_DATA": str(tmp_path),
        "BIKES_LAKE": s3,
        "DAGSTER_HOME": str(tmp_path / "dagster"),
        "BIKES_MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow/mlflow.db",
        "BIKES_FIRST_MONTH": MONTHS[0],
        "BIKES_LAST_MONTH": MONTHS[-1],
    }
    # Given
    assert bikes(environment, "setup").returncode == 0
    faults = [Fault(kind, rng.randrange(REQUESTS), seconds=rng.choice(SECONDS)) for kind in KINDS]
    fail_next(endpoint, *faults)
    # When
    for _ in range(TRIES):
        broken = bikes(environment, "run")
        # Then
        assert "Traceback" not in broken.stdout + broken.stderr, broken.stderr
        if broken.returncode == 0:
            break
    assert len(well(endpoint)) > min(fault.first for fault in faults)
    snapshot = str(tmp_path / "snapshot.json")
    commands = (("run",), ("sync",), ("sync",), ("status",), ("snapshot", snapshot), ("verify", "--deep", snapshot))
    made = [bikes(environment, *command) for command in commands]
    assert [done.returncode for done in made] == [0] * len(made), [done.stdout + done.stderr for done in made]
    assert made[2].stdout == "Everything agrees.\n"
    assert made[3].stdout.endswith("Everything is fresh.\n")
    found = told(environment)
    assert found["agrees"]
    assert sorted(found["events"]) == sorted(found["mlflow"]) == sorted(found["commits"])
    assert len({(asset, month) for asset, month, _ in found["by run"]}) == len(found["by run"])
    assert found["registered"] == ["demand_model[2011-03]@1"]
    assert {asset: found["digests"][asset] for asset in MADE} == {asset: as_made_here(history, asset) for asset in MADE}


def as_made_here(history: Any, asset: str) -> dict[str, str]:
    """Return the digest that each month first had in a folder of this machine: other tests make some of them again."""
    commits = history.lake.table(asset).commits()
    return {item.partition: item.digest for item in reversed(commits) if item.partition in MONTHS}
