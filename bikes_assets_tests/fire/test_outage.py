"""MLflow goes away in every way: runs go on, in their time, and what it missed is there after sync, once and in order."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from bikes_assets_tests.fire.conftest import Ground
from bikes_assets_tests.fire.harness import disagreements
from bikes_assets_tests.fire.processes import SOAK, Worker, turns
from bikes_assets_tests.fire.project import MONTHS, Place
from bikes_assets_tests.fire.servers import BadServer, MlflowServer, black_hole, cut, failing, slow

KEYS = MONTHS.get_partition_keys()
MOST_ADDED = 5.0
"""Seconds that a run may take longer because of MLflow."""
NOISE = 3.0
"""Seconds by which a run of this size differs on a machine that is shared."""


BAD: dict[str, Callable[[], AbstractContextManager[BadServer]]] = {
    "silent": black_hole,
    "500": failing,
    "503": lambda: failing(503),
    "429": lambda: failing(429),
    "200 without sense": lambda: failing(200),
    "404": lambda: failing(404),
}


def usual(ground: Ground) -> float:
    """Return the seconds of a run with MLflow as it should be."""
    outcomes = Worker.of_command(ground.place, KEYS[-3:]).outcome()
    assert [success for success, _ in outcomes] == [True] * 3
    ground.place.sync(ground.instance)  # on a busy machine even a good server may have been too slow
    return max(seconds for _, seconds in outcomes)


def seconds_of(place: Place, partition: str) -> float:
    ((success, seconds),) = Worker.of_command(place, [partition]).outcome()
    assert success
    return seconds


@pytest.mark.soak
def test_a_server_that_is_killed_at_any_moment(remote: Ground, server: MlflowServer) -> None:
    rng, expected = random.Random(0), usual(remote)
    walls: list[float] = []
    for turn in turns(50):
        # Given a run at work
        worker = Worker.of_command(remote.place, [KEYS[turn]])
        # When the server is killed, and is back at once, later in the run, or after it
        time.sleep(rng.uniform(0, expected))
        server.kill()
        back = rng.choice([0.0, rng.uniform(0, expected), None])
        restart = threading.Timer(back, server.start) if back is not None else None
        if restart:
            restart.start()
        ((success, seconds),) = worker.outcome()
        # Then the run goes on
        assert success
        walls.append(seconds)
        if restart:
            restart.join()
        else:
            server.start()
        # And sooner or later what is missing is logged
        if rng.random() < 0.7:
            assert remote.place.sync(remote.instance).left == []
    assert max(walls) < expected + MOST_ADDED + NOISE, walls
    remote.place.sync(remote.instance)
    found = remote.agrees()
    assert len(found.made) == 6 * (len(turns(50)) + 3)


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="a server is killed above; here a process lives through it and goes on")
def test_a_process_of_many_runs_goes_on_without_a_server(remote: Ground, server: MlflowServer) -> None:
    rng, expected = random.Random(1), usual(remote)
    for turn in turns(10):
        keys = KEYS[4 * turn : 4 * turn + 4]
        worker = Worker.of_command(remote.place, keys)
        time.sleep(rng.uniform(0, 3 * expected))
        server.kill()
        time.sleep(rng.uniform(0, expected))
        server.start()
        outcomes = worker.outcome()
        assert [success for success, _ in outcomes] == [True] * 4
        assert max(seconds for _, seconds in outcomes) < expected + MOST_ADDED + NOISE
        remote.place.sync(remote.instance)
    remote.agrees()


@pytest.mark.soak
@pytest.mark.parametrize("how", list(BAD) if SOAK else ["silent"])
def test_a_server_that_gives_no_good_answer(remote: Ground, how: str) -> None:
    expected = usual(remote)
    with BAD[how]() as gone:
        for turn in turns(10):
            assert seconds_of(remote.place.at(gone.url), KEYS[turn]) < expected + MOST_ADDED + NOISE
            if turn % 2:
                remote.place.sync(remote.instance)
        assert gone.requests
    remote.place.sync(remote.instance)
    found = remote.agrees()
    assert len(found.nested) == 6 * (len(turns(10)) + 3)


@pytest.mark.soak
def test_a_server_that_is_gone_after_each_of_its_requests(remote: Ground) -> None:
    # Given how many requests a run makes
    usual(remote)
    with cut(remote.place.uri, 1_000_000, lost=False) as proxy:
        seconds_of(remote.place.at(proxy.url), KEYS[0])
        count = len(proxy.requests)
    assert count > 20
    points = [(after, lost) for after in range(count) for lost in (False, True)]
    for turn, (after, lost) in enumerate(random.Random(2).sample(points, len(points) if SOAK else 2)):
        # When a run is cut off after one of them, the next one lost on its way there or on its way back
        with cut(remote.place.uri, after, lost=lost) as proxy:
            seconds_of(remote.place.at(proxy.url), KEYS[1 + turn % 60])
        # Then
        assert remote.place.sync(remote.instance).left == []
        assert disagreements(remote.state()) == [], (after, lost, proxy.requests[after - 1 : after + 1])
    remote.agrees()


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="one that is silent is above")
@pytest.mark.parametrize("delay", [0.1, 0.5, 1.5, 2.5])
def test_a_server_that_is_slow(remote: Ground, delay: float) -> None:
    expected = usual(remote)
    with slow(remote.place.uri, delay) as proxy:
        for turn in turns(10):
            assert seconds_of(remote.place.at(proxy.url), KEYS[turn]) < expected + MOST_ADDED + NOISE
            if turn % 2:
                time.sleep(delay)  # what was asked for, and not waited for, still comes
                remote.place.sync(remote.instance)
        assert proxy.requests
        time.sleep(2 * delay)
    remote.place.sync(remote.instance)
    remote.agrees()


@pytest.mark.soak
def test_the_server_as_it_is_started_by_people(tmp_path) -> None:
    server = MlflowServer(tmp_path / "server")
    server.start()
    place = Place(tmp_path, server.url)
    try:
        with place.instance() as instance:
            worker = Worker.of_command(place, KEYS[:2], {"a3": "sleep 0.5"})
            time.sleep(0.7)
            server.kill()
            assert [success for success, _ in worker.outcome()] == [True, True]
            server.start()
            place.sync(instance)
            found = Ground(place, instance, server.store).agrees()
            assert len(found.nested) == 12
    finally:
        server.kill()
