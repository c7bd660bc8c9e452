"""A step that was given up and comes back to life: it publishes nothing, and what its successor made stands."""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing

import pytest
from dagster import DagsterEventType

from bikes_assets_tests.fire.conftest import Ground
from bikes_assets_tests.fire.history import Fork, History, Point
from bikes_assets_tests.fire.processes import FORK, turns
from bikes_assets_tests.fire.project import MONTHS as KEYS
from bikes_assets_tests.fire.project import Place
from bikes_assets_tests.fire.reading import Reading, lost, partial, read_lake, statuses, unmatched
from bikes_assets_tests.fire.test_kill import KINDS, MONTHS
from bikes_assets_tests.fire.test_kill import calls as calls

STOP = int(signal.SIGSTOP)
ASSETS = KINDS[:-1]
CASES = ("ended", "ended, successor through", "successor through", "ended, successor at work")


def stopped(worked: History, kind: str, month: str, rng: random.Random, most: int, point: Point) -> tuple[Fork, str]:
    """Return a worker that is stopped at a point of its work, holding no lock that others would wait for, and its run."""
    for _ in range(50):
        fork = worked.start(kind, month, Point(rng.randint(1, most), point.window, point.gap, number=STOP))
        is_stopped = fork.wait(stopped=True) == -STOP
        runs = worked.begin("runs").told()["at work"] if is_stopped and not worked.is_held() else []
        # else it was before its step had read anything: then it reads what is there when it comes back; or after its last event
        if runs and has_read(worked, runs[0]):
            return fork, runs[0]
        if is_stopped:
            fork.signal(signal.SIGKILL)
            fork.wait()
        worked.renew()
    raise AssertionError(f"{kind} was never stopped where it holds no lock")


def has_read(worked: History, run_id: str) -> bool:
    """Return whether a run's step has loaded an input."""
    query = "select count(*) from event_logs where run_id = ? and dagster_event_type = 'LOADED_INPUT'"
    with closing(sqlite3.connect(worked.home / "event_log.db")) as database:
        return database.execute(query, [run_id]).fetchone()[0] > 0


@pytest.mark.soak
def test_a_worker_that_comes_back_to_life(worked: History, sound: Reading, calls: dict[tuple[str, bool], int]) -> None:
    rng, stale, seen = random.Random(1), list[str](), Counter[str]()
    for turn in turns(40):
        kind, month, case = ASSETS[turn % len(ASSETS)], rng.choice(MONTHS), CASES[turn % len(CASES)]
        window, where = bool(turn // len(CASES) % 2), (turn, kind, month, case)
        worked.renew()
        # Given a worker that is stopped on its way (for the gap between its last look and its commit, see below)
        gap = False if case == "ended" else None
        zombie, run_id = stopped(worked, kind, month, rng, calls[kind, window], Point(1, window, gap))
        # And a run that is taken for dead, and a successor
        if "ended" in case:
            worked.begin("end", cancel=bool(turn % 3)).told()
        successor = None
        if "at work" in case:
            successor = worked.start(kind, month, Point(rng.randint(1, calls[kind, False]), number=STOP))
            successor.wait(stopped=True)
            if worked.is_held():
                successor.signal(signal.SIGCONT)  # else the zombie would wait for it
                successor.wait()
        elif "through" in case:
            assert worked.mend(kind, month)["success"], where
        before = read_lake(worked.lake)
        # When it comes back
        zombie.signal(signal.SIGCONT)
        zombie.wait()
        # Then it has published nothing since
        after = read_lake(worked.lake)
        stale += [
            f"{where}: {item.address}" for item in after.commits if item.run_id == run_id and item not in before.commits
        ]
        assert partial(after, sound) == lost(after, before) == [], where
        # And its successor goes on
        if successor:
            successor.signal(signal.SIGCONT)
            told = successor.told()
            assert told["success"], (where, told)
        mended = worked.mend(kind, month)
        assert (mended["success"], mended["digests"]) == (True, [sound.newest(kind, month).digest]), (where, mended)
        assert unmatched(read_lake(worked.lake), worked.home) == [], (where, zombie.printed())
        assert set(statuses(worked.home)) <= {"SUCCESS", "FAILURE", "CANCELED"}, where
        seen[case] += 1
    assert stale == []
    assert sum(seen.values()) == len(turns(40))


def test_what_remains_is_a_commit_that_is_whole_and_that_its_successor_replaces(
    worked: History, sound: Reading, calls: dict[tuple[str, bool], int]
) -> None:
    """Between the last look at its run and its commit a step sees no more whether it was given up, unless another published."""
    kind, month = "demand_features", MONTHS[-1]
    worked.renew()
    # Given a worker that is stopped there, and whose run is ended
    zombie, _ = stopped(worked, kind, month, random.Random(3), 20, Point(1, window=True, gap=True))
    worked.begin("end").told()
    # When it comes back
    zombie.signal(signal.SIGCONT)
    zombie.wait()
    # Then its commit is whole, and sync reports it once
    found = read_lake(worked.lake)
    assert len(found.commits) == len(sound.commits) + 1
    assert partial(found, sound) == []
    # And the next run's result replaces it
    assert worked.mend(kind, month)["success"]
    assert unmatched(read_lake(worked.lake), worked.home) == []


def at_work(place: Place, partition: str) -> None:
    with place.instance() as instance:
        place.run_in_processes(instance, partition, ["a1"], {"a1": "sleep 6"})


@pytest.mark.soak
def test_a_step_that_outlives_its_killed_run_worker(local: Ground) -> None:
    begun = DagsterEventType.STEP_START
    for turn in turns(10):
        # Given a step in a process of its own, whose run worker is killed
        known = len(local.instance.get_runs())
        worker = FORK.Process(target=at_work, args=(local.place, KEYS.get_partition_keys()[turn]))
        worker.start()
        run = until(lambda: local.instance.get_runs()[: -known or None])[0]  # noqa: B023
        until(lambda: local.instance.get_records_for_run(run.run_id, of_type=begun).records)  # noqa: B023
        worker.kill()
        worker.join()
        # And a run that has ended therefore, and a successor
        local.place.sync(local.instance)
        assert local.instance.get_run_by_id(run.run_id).is_failure
        partition = run.tags["dagster/partition"]
        assert local.place.run(local.instance, partition, assets=["a1"]).success
        # When the step goes on
        failed = until(
            lambda: local.instance.get_records_for_run(run.run_id, of_type=DagsterEventType.STEP_FAILURE).records  # noqa: B023
        )
        # Then it has published nothing
        assert "FencedError" in failed[0].event_log_entry.dagster_event.event_specific_data.error.to_string()
        assert len([item for item in local.place.lake.table("a1").commits() if item.partition == partition]) == 1
        time.sleep(0.5)
    local.place.sync(local.instance)
    local.agrees()


def until(holds):
    """Return the first true answer of `holds`; fail when there is none in time."""
    end = time.monotonic() + 60
    while not (answer := holds()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return answer
