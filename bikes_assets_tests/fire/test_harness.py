"""The rules of reconciliation: each of them can be broken, and says so."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest
from dagster import DagsterRunStatus

from bikes_assets_tests.fire.conftest import ground
from bikes_assets_tests.fire.harness import MlflowRun, State, disagreements
from bikes_assets_tests.fire.project import Place


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> State:
    """Return what is said of two runs that succeeded, one that failed, and one with a retry."""
    folder = tmp_path_factory.mktemp("sound")
    store = folder / "store" / "mlflow.db"
    (known,) = ground(folder, f"sqlite:///{store}", store)
    place = Place(folder, f"sqlite:///{store}")
    with place.instance() as instance:
        known.instance = instance
        for partition, orders in (
            ("2024-01", {}),
            ("2024-02", {}),
            ("2024-03", {"a2": "raise"}),
            ("2024-04", {"a1": "retry 1"}),
        ):
            place.run(instance, partition, orders)
        return known.state()


def of(state: State, asset: str, partition: str, attempt: str = "1") -> MlflowRun:
    (run,) = [
        run
        for run in state.nested
        if (run.tags["asset"], run.tags["partition"], run.tags["attempt"]) == (asset, partition, attempt)
    ]
    return run


def changed(asset: str, partition: str, **values: object) -> Callable[[State], None]:
    """Return what has MLflow say something else of a nested run."""

    def change(state: State) -> None:
        run = of(state, asset, partition)
        state.nested[state.nested.index(run)] = replace(run, **values)

    return change


def tagged(asset: str, month: str, **tags: str) -> Callable[[State], None]:
    def change(state: State) -> None:
        of(state, asset, month).tags.update(tags)

    return change


def without(asset: str, partition: str) -> Callable[[State], None]:
    return lambda state: state.nested.remove(of(state, asset, partition))


def twice(asset: str, partition: str) -> Callable[[State], None]:
    return lambda state: state.nested.append(of(state, asset, partition))


def numbered(*order: int) -> Callable[[State], None]:
    """Return what has the versions registered in another order."""

    def change(state: State) -> None:
        state.versions = [replace(state.versions[old - 1], number=new) for new, old in enumerate(order, 1)]

    return change


def test_what_is_sound_has_no_disagreement(sound: State) -> None:
    assert (len(sound.parents), len(sound.made), len(sound.versions)) == (4, 6 + 6 + 3 + 6, 3)
    assert disagreements(sound) == []


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda state: state.parents.pop(), "has 0 parents in MLflow"),
        (lambda state: state.parents.append(state.parents[0]), "has 2 parents in MLflow"),
        (lambda state: state.runs.pop(), "stands for no Dagster run"),
        (lambda state: setattr(state.runs[0], "status", DagsterRunStatus.STARTED), "and nothing executes it"),
        (lambda state: setattr(state.runs[0], "status", DagsterRunStatus.CANCELED), "is CANCELED, MLflow says FINISHED"),
        (lambda state: state.made.pop(), "1 commits in the lake, 0 events in Dagster"),
        (lambda state: state.made.append(state.made[0]), "1 commits in the lake, 2 events in Dagster"),
        (lambda state: state.commits.pop(), "0 commits in the lake, 1 events in Dagster"),
        (lambda state: state.runs[0].attempts.pop(), "which did not begin"),
        (without("a2", "2024-01"), "(success) has 0 nested runs"),
        (without("a2", "2024-03"), "(failure) has 0 nested runs"),
        (without("a1", "2024-04"), "has 0 nested runs"),
        (twice("a2", "2024-01"), "has 2 nested runs"),
        (tagged("a2", "2024-01", materialization="another"), "stands for no attempt"),
        (tagged("a2", "2024-01", digest="another"), "MLflow says another"),
        (tagged("a2", "2024-01", partition="2024-02"), "is a2[2024-02] in MLflow"),
        (tagged("a2", "2024-01", attempt="2"), "/a2/1 says "),
        (changed("a2", "2024-01", status="FAILED"), "is FAILED in MLflow, expected FINISHED"),
        (changed("a2", "2024-03", status="FINISHED"), "is FINISHED in MLflow, expected FAILED"),
        (changed("a2", "2024-01", end=None), "has no end"),
        (changed("a2", "2024-01", parent="another"), "which is not of its Dagster run"),
        (changed("joined", "2024-01", datasets=frozenset()), "MLflow says []"),
        (changed("a2", "2024-01", metrics={}), "MLflow says {}"),
        (changed("a2", "2024-01", params={"rows": "19"}), "{'rows': '19'}"),
        (changed("a2", "2024-01", points=2), "has 1 figures, MLflow 2 points of them"),
        (changed("a2", "2024-02", start=0), "begins before"),
        (lambda state: state.versions.pop(), "registered are 1: "),
        (lambda state: state.versions.reverse(), "materialized were, in order, ridge[2024-01]@1"),
        (numbered(2, 1, 3), "registered are 1: "),
        (
            lambda state: state.versions.append(replace(state.versions.pop(), model_status="PENDING")),
            "version 3 is READY, its logged model PENDING",
        ),
        (
            lambda state: state.versions.append(replace(state.versions.pop(), run_id="another")),
            "version 3 is of None, expected ",
        ),
    ],
)  # fmt: skip
def test_what_is_damaged_is_said(sound: State, damage: Callable[[State], None], sentence: str) -> None:
    state = deepcopy(sound)
    damage(state)
    assert [found for found in disagreements(state) if sentence in found] != [], disagreements(state)


def test_runs_at_once_may_register_their_models_in_either_order(sound: State) -> None:
    state = deepcopy(sound)
    numbered(2, 1, 3)(state)
    state.runs[1].start = state.runs[0].start
    assert disagreements(state) == []
