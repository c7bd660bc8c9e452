"""However a run ends, MLflow says so: at once where the run could still say it, and after sync in any case."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest
from dagster import DagsterEventType, DagsterRunStatus

from bikes_assets_tests.fire.conftest import Ground
from bikes_assets_tests.fire.harness import disagreements
from bikes_assets_tests.fire.processes import SOAK, Worker, turns
from bikes_assets_tests.fire.project import ASSETS, MONTHS

KEYS = MONTHS.get_partition_keys()
TURNS = turns(20)
STEP_START = DagsterEventType.STEP_START


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def length(ground: Ground) -> float:
    """Return the seconds of a run that is not perturbed."""
    first = Worker.of_command(ground.place, KEYS[-2:])
    (_, _), (success, seconds) = first.outcome()
    assert success
    return seconds


@pytest.mark.soak
@pytest.mark.parametrize("order", ["", "raise", "retry 1", "retry 2"])
def test_a_run_that_ends_by_itself_needs_no_sync(local: Ground, order: str) -> None:
    rng = random.Random(order)
    for turn in TURNS:
        orders = {rng.choice(ASSETS): order} if order else {}
        assert local.place.run(local.instance, KEYS[turn], orders).success == (order != "raise")
    assert disagreements(local.state()) == []
    local.agrees()


@pytest.mark.soak
def test_a_run_that_is_cancelled(local: Ground) -> None:
    rng, seconds = random.Random(0), length(local)
    for turn in TURNS:
        # Given
        run_id = local.place.create(local.instance, KEYS[turn])
        worker = Worker.of_launcher(local.place, run_id)
        # When
        time.sleep(rng.uniform(0, seconds))
        run = local.instance.get_run_by_id(run_id)
        if not run.is_finished:
            local.instance.report_run_canceling(run)
            worker.signal(rng.choice([signal.SIGTERM, signal.SIGINT]))
        worker.outcome()
    # Then
    local.place.sync(local.instance)
    local.agrees()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_step_that_is_cancelled_is_killed_at_once(local: Ground, number: signal.Signals) -> None:
    # Given a run whose second step waits
    run_id = local.place.create(local.instance, "2024-01", {"a2": "sleep 60"})
    worker = Worker.of_launcher(local.place, run_id)
    wait_until(lambda: len(local.instance.get_records_for_run(run_id, of_type=STEP_START).records) == 2)
    # When
    local.instance.report_run_canceling(local.instance.get_run_by_id(run_id))
    worker.signal(number)
    worker.outcome()
    # Then MLflow says so without sync
    found = local.agrees()
    assert [run.status for run in found.runs] == [DagsterRunStatus.CANCELED]
    assert [run.status for run in found.parents] == ["KILLED"]
    assert sorted(run.status for run in found.nested) == ["FINISHED", "KILLED"]


@pytest.mark.soak
def test_a_command_that_is_interrupted(local: Ground) -> None:
    rng, seconds = random.Random(1), length(local)
    for turn in TURNS:
        worker = Worker.of_command(local.place, [KEYS[turn]])
        time.sleep(rng.uniform(0, seconds))
        worker.signal(signal.SIGINT)
        worker.outcome()
    local.place.sync(local.instance)
    local.agrees()


@pytest.mark.soak
@pytest.mark.parametrize("launched", [True, False], ids=["launched", "command"])
def test_a_process_that_is_killed(local: Ground, launched: bool) -> None:
    rng, seconds = random.Random(2), length(local)
    for turn in TURNS:
        # Given
        if launched:
            worker = Worker.of_launcher(local.place, local.place.create(local.instance, KEYS[turn]))
        else:
            worker = Worker.of_command(local.place, [KEYS[turn]])
        # When
        time.sleep(rng.uniform(0, seconds))
        worker.signal(signal.SIGKILL)
        worker.outcome()
        # Then, sooner or later
        if rng.random() < 0.7:
            local.place.sync(local.instance)
    local.place.sync(local.instance)
    local.agrees()


@pytest.mark.soak
@pytest.mark.parametrize("asset", ASSETS if SOAK else ["joined"])
def test_a_step_that_kills_its_process(local: Ground, asset: str) -> None:
    worker = Worker.of_command(local.place, ["2024-01"], {asset: "kill"})
    assert worker.outcome() == []
    assert worker.process.exitcode == -signal.SIGKILL
    local.place.sync(local.instance)
    found = local.agrees()
    assert [run.status for run in found.parents] == ["FAILED"]
    assert Counter(run.status for run in found.nested)["FAILED"] == 1


def test_sync_lets_a_run_that_is_at_work_go_on(local: Ground) -> None:
    worker = Worker.of_command(local.place, ["2024-01"], {"a2": "sleep 3"})
    time.sleep(1)
    done = local.place.sync(local.instance)
    assert worker.process.is_alive()
    assert [sentence for sentence in done.done if "ended" in sentence] == []
    ((success, _),) = worker.outcome()
    assert success
    local.agrees()
