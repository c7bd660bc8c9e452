"""kill -9 at any moment, over all kinds of assets: nothing is half-written, nothing is lost, and the next run mends it."""

from __future__ import annotations

import random
import signal
from collections import Counter

import pytest

from bikes_assets_tests.conftest import MADE
from bikes_assets_tests.fire.history import History, Point
from bikes_assets_tests.fire.processes import turns
from bikes_assets_tests.fire.reading import Reading, intact, lost, partial, read_lake, statuses, unmatched

KINDS = (*MADE, "pin")
MONTHS = ("2011-03", "2011-04")
IN_LIBRARIES = 0.02
"""Seconds within which a kill comes after its point, so that it meets Delta and SQLite at their own work."""


def table_of(kind: str) -> str:
    return "champion_pins" if kind == "pin" else kind


@pytest.fixture(scope="module")
def calls(worked: History) -> dict[tuple[str, bool], int]:
    """Return how many functions each kind calls: in all, and between a table's write and the storing of its event."""
    found: dict[tuple[str, bool], int] = {}
    worked.renew()
    for kind in KINDS:
        told = worked.start(kind, MONTHS[-1], Point(0)).told()["calls"]
        found |= {(kind, False): told["all"], (kind, True): told["window"]}
    return found


@pytest.mark.soak
def test_a_process_that_is_killed_at_any_point(
    worked: History, sound: Reading, calls: dict[tuple[str, bool], int]
) -> None:
    rng, killed = random.Random(0), Counter[str]()
    for turn in turns(200):
        # Given a store in which everything is made, and a point of a run: every second one between commit and event
        kind, window = KINDS[turn % len(KINDS)], bool(turn % 2)
        month = MONTHS[-1] if kind == "pin" else rng.choice(MONTHS)
        for _ in range(20):
            worked.renew()
            point = Point(
                rng.randint(1, calls[kind, window]), window, rng.choice([0.0, 0.0, rng.uniform(0, IN_LIBRARIES)])
            )
            # When the process is killed there
            worker = worked.start(kind, month, point)
            if worker.wait() == -signal.SIGKILL:
                break  # else it was through before its last calls, which differ a little from run to run
        else:
            raise AssertionError(f"{kind} was never killed")
        killed[kind] += 1
        # Then every version of every table is whole
        where = (turn, kind, month, point)
        after = read_lake(worked.lake)
        assert partial(after, sound) == [], where
        assert lost(after, sound) == [], where
        # And the next run makes what an unperturbed one makes
        mended = worked.mend(kind, month)
        assert (mended["success"], mended["left"]) == (True, []), (where, mended)
        found = read_lake(worked.lake)
        assert partial(found, sound) == [], where
        assert lost(found, after) == [], where
        if kind != "pin":
            assert mended["digests"] == [sound.newest(kind, month).digest], where
        # And each commit has one event, each event its commit, and no run is at work
        assert unmatched(found, worked.home) == [], (where, mended)
        assert set(statuses(worked.home)) <= {"SUCCESS", "FAILURE"}, where
        assert intact(worked.store / "mlflow.db") == intact(worked.home / "event_log.db") == "ok"
    assert sum(killed.values()) == len(turns(200))
    assert set(killed) == set(KINDS)
