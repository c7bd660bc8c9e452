"""Ctrl-C of `bikes run` at any moment: it stops, says so, and the next run goes on."""

from __future__ import annotations

import random
import signal
import time

import pytest

from bikes_assets_tests.fire.history import History
from bikes_assets_tests.fire.processes import turns
from bikes_assets_tests.fire.reading import Reading, lost, partial, read_lake, statuses, unmatched
from bikes_assets_tests.fire.test_kill import MONTHS

RUN = ["run", "--force", "--month", MONTHS[-1]]


@pytest.mark.soak
def test_a_command_that_is_interrupted(worked: History, sound: Reading) -> None:
    rng, interrupted = random.Random(4), 0
    worked.renew()
    start = time.monotonic()
    assert worked.begin("command", arguments=RUN).wait() == 0
    seconds = time.monotonic() - start
    for _ in range(10 * len(turns(20))):  # some come too late
        if interrupted == len(turns(20)):
            break
        # Given
        worked.renew()
        worker = worked.begin("command", arguments=RUN)
        # When
        after = rng.uniform(0, seconds)
        time.sleep(after)
        worker.signal(signal.SIGINT)
        if worker.wait() == 0:
            continue  # it was through before
        # Then it says so, and its exit code is that of an interrupted command
        printed = worker.printed()
        assert (worker.status, "Interrupted: what was published stands" in printed) == (130, True), (after, printed)
        assert "Traceback" not in printed, printed
        # And what is there is whole, no run is at work, and the next run goes on
        found = read_lake(worked.lake)
        assert partial(found, sound) == lost(found, sound) == [], after
        worked.sync()
        assert set(statuses(worked.home)) <= {"SUCCESS", "FAILURE"}, after
        assert unmatched(found, worked.home) == [], after
        assert worked.begin("command", arguments=RUN).wait() == 0, after
        interrupted += 1
    assert interrupted == len(turns(20))
