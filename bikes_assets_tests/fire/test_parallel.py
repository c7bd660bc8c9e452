"""Several at once: steps of a run, processes, runs of one process. Nothing is lost, doubled or mixed up.

Runs in two threads of one process are not among them: Dagster sets up Python's logging at the start of each run, which
deadlocks against a run that logs an event in another thread.
"""

from __future__ import annotations

from typing import Any

import pytest

from bikes_assets_tests.fire.conftest import Ground
from bikes_assets_tests.fire.processes import FORK, turns
from bikes_assets_tests.fire.project import MONTHS, ROOTS, Place

KEYS = MONTHS.get_partition_keys()


@pytest.mark.soak
def test_four_steps_of_a_run_at_once(local: Ground) -> None:
    for turn in turns(50):
        assert local.place.run_in_processes(local.instance, KEYS[turn], ROOTS).success
    found = local.agrees()
    assert len(found.parents) == len(turns(50))
    assert len(found.nested) == 4 * len(turns(50))


def test_a_whole_run_with_a_process_for_each_step(local: Ground) -> None:
    assert local.place.run_in_processes(local.instance, "2024-01").success
    found = local.agrees()
    assert (len(found.parents), len(found.nested), len(found.versions)) == (1, 6, 1)


def materialize(place: Place, partition: str, start: Any, told: Any) -> None:
    with place.instance() as instance:
        start.wait()
        told.put(place.run(instance, partition, assets=ROOTS[:2]).success)


@pytest.mark.soak
def test_eight_processes_on_an_empty_store(tmp_path) -> None:
    for turn in turns(10):
        folder = tmp_path / str(turn)
        place = Place(folder, f"sqlite:///{folder}/store/mlflow.db")
        with place.instance() as instance:
            # Given eight processes that begin at once, each with a Dagster run of its own
            start, told = FORK.Barrier(8), FORK.Queue()
            processes = [FORK.Process(target=materialize, args=(place, key, start, told)) for key in KEYS[:8]]
            # When
            for process in processes:
                process.start()
            outcomes = [told.get(timeout=120) for _ in processes]
            for process in processes:
                process.join()
            # Then
            assert outcomes == [True] * 8
            found = Ground(place, instance, folder / "store" / "mlflow.db").agrees()
            assert (len(found.parents), len(found.nested)) == (8, 16)


@pytest.mark.soak
def test_runs_of_one_process_one_after_the_other(local: Ground) -> None:
    for turn in turns(20):
        assert local.place.run(local.instance, KEYS[turn]).success
        assert not local.place.run(local.instance, KEYS[turn], {"a2": "raise"}).success
    found = local.agrees()
    assert len(found.parents) == 2 * len(turns(20))


@pytest.mark.soak
def test_a_run_within_a_step_of_another(local: Ground) -> None:
    for turn in turns(20):
        outer, inner = KEYS[2 * turn], KEYS[2 * turn + 1]
        assert local.place.run(local.instance, outer, {"a3": f"run {inner}"}).success
    found = local.agrees()
    assert len(found.parents) == 2 * len(turns(20))
