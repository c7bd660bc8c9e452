"""Clocks that are set back and forward between any two commands: nothing is lost, and nothing is told wrong."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from itertools import accumulate

import pytest

from bikes_assets_tests.fire.history import FAKETIME, History, Point
from bikes_assets_tests.fire.processes import turns
from bikes_assets_tests.fire.reading import Reading, lost, partial, read_lake, statuses, unmatched

CLOCKS = ("-5h", "+5h", "-1d", "")
MONTHS = ("2011-01", "2011-02", "2011-03", "2011-04")

pytestmark = pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed")


def printed(fresh: History, clock: str, *arguments: str) -> str:
    """Return what a command prints under a clock; it ends well."""
    done = fresh.begin("command", clock=clock, arguments=list(arguments))
    assert done.wait() == 0, (clock, arguments, done.printed())
    return done.printed()


def published(fresh: History) -> list[tuple[str, float]]:
    """Return each version that was published, in the log's order, with the time on its event."""
    query = "select event from event_logs where dagster_event_type = 'ASSET_MATERIALIZATION' order by id"
    with closing(sqlite3.connect(fresh.home / "event_log.db")) as database:
        entries = [json.loads(text) for (text,) in database.execute(query)]
    found: list[tuple[str, float]] = []
    for entry in entries:
        told = entry["dagster_event"]["event_specific_data"]["materialization"]["metadata_entries"]
        values = {item["label"]: item["entry_data"] for item in told}
        found.append((values["address"]["text"], entry["timestamp"]))
    return found


@pytest.mark.soak
def test_whatever_the_clocks_show_nothing_is_lost_and_statuses_are_right(fresh: History, sound: Reading) -> None:
    rng = random.Random(0)
    for turn in turns(20):
        before = read_lake(fresh.lake)
        # When a month is made again, and each command that follows finds another clock
        clocks = rng.sample(CLOCKS, 4)
        printed(fresh, clocks[0], "run", "--month", rng.choice(MONTHS), "--force")
        # Then everything is fresh, and agrees
        states = [item["state"] for item in json.loads(printed(fresh, clocks[1], "status", "--json"))["items"]]
        assert set(states) == {"fresh"}, (turn, clocks)
        assert printed(fresh, clocks[2], "sync") == "Everything agrees.\n", (turn, clocks)
        assert "nothing to do" in printed(fresh, clocks[3], "run")
        # And nothing is lost
        after = read_lake(fresh.lake)
        assert len(after.commits) > len(before.commits)
        assert partial(after, sound) == lost(after, before) == unmatched(after, fresh.home) == [], (turn, clocks)
        assert set(statuses(fresh.home)) == {"SUCCESS"}
    # And as of a time there is what was published until then, and nothing later, whatever clock is asked under
    versions = published(fresh)
    told = list(accumulate((time for _, time in versions), max))
    for at in rng.sample(sorted({*told}), 3):
        until = {address for (address, _), time in zip(versions, told, strict=True) if time <= at}
        moment = datetime.fromtimestamp(at, UTC).isoformat()
        told_then = printed(
            fresh, rng.choice(CLOCKS), "downstream", "hourly_rentals", "--level", "version", "--json", "--as-of", moment
        )
        names = {item["address"] for item in json.loads(told_then)["items"]}
        assert names <= until, at
        assert all(time <= at for address, time in versions if address in names), at


def test_a_run_at_work_is_never_taken_for_gone(fresh: History) -> None:
    # Given a run that is stopped before its commit
    details = {"asset": "demand_features", "month": "2011-02"}
    worker = fresh.begin("make", Point(1, window=True, gap=True, number=int(signal.SIGSTOP)), **details)
    assert worker.wait(stopped=True) == -int(signal.SIGSTOP)
    at_work = fresh.begin("runs").told()["at work"]
    assert len(at_work) == 1
    # When it is looked at under clocks of other hours and another day
    for clock in CLOCKS:
        told = fresh.begin("sync", clock=clock).told()
        # Then it is left alone
        assert (told["done"], told["left"]) == ([], []), clock
        assert fresh.begin("runs", clock=clock).told()["at work"] == at_work
    # And publishes when it goes on
    worker.signal(int(signal.SIGCONT))
    assert worker.told()["success"]
    assert printed(fresh, "-5h", "sync") == "Everything agrees.\n"
    assert unmatched(read_lake(fresh.lake), fresh.home) == []
