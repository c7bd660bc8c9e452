"""PostgreSQL, which holds Dagster's records, goes away while a run is at work: nothing is lost, and nothing is there twice."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import make_url

from bikes_assets_tests.elsewhere.relay import relay
from bikes_assets_tests.elsewhere.servers import create_database
from bikes_assets_tests.elsewhere.told import bikes, told
from bikes_assets_tests.fire.processes import turns

WHOLE = 420_000
"""Bytes that a run of three months sends to the database, about."""


@pytest.mark.soak
@pytest.mark.parametrize("turn", turns(10))
def test_a_database_that_goes_away_in_mid_run(postgres_server: str, tmp_path: Path, turn: int) -> None:
    rng = random.Random(turn)
    url = make_url(create_database(postgres_server, f"away_{turn}"))
    assert url.port
    with relay(url.port) as between:
        # Given
        environment = os.environ | {
            "BIKES_DATA": str(tmp_path),
            "BIKES_DAGSTER_STORAGE": url.set(port=between.port).render_as_string(hide_password=False),
            "DAGSTER_HOME": str(tmp_path / "dagster"),
            "BIKES_MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow/mlflow.db",
            "BIKES_FIRST_MONTH": "2011-01",
            "BIKES_LAST_MONTH": "2011-03",
        }
        assert bikes(environment, "setup").returncode == 0
        at = between.sent + rng.randrange(WHOLE)
        seconds = rng.choice([1, 5, 20, 60] if os.environ.get("BIKES_SOAK") == "1" else [1, 3])

        def passed(sent: int) -> None:
            if sent >= at:
                between.passed = lambda _: None
                between.cut()
                threading.Timer(seconds, between.mend).start()

        between.passed = passed
        # When
        broken = bikes(environment, "run")
        # Then
        assert "Traceback" not in broken.stdout + broken.stderr, broken.stderr
        between.passed = lambda _: None
        between.mend()
        made = [bikes(environment, *command) for command in (("run",), ("sync",), ("sync",), ("status",))]
        assert [done.returncode for done in made] == [0, 0, 0, 0], [done.stdout + done.stderr for done in made]
        assert made[2].stdout == "Everything agrees.\n"
        assert made[3].stdout.endswith("Everything is fresh.\n")
        found = told(environment)
        assert found["agrees"]
        assert sorted(found["events"]) == sorted(found["commits"])
        assert max(Counter(map(tuple, found["by run"])).values()) == 1
