"""What Dagster does after a fault, wherever in a step it is met."""

from __future__ import annotations

import errno

import dagster as dg
import pytest

from bikes_assets.core.errors import ConflictError, DataError, NothingToDo, SchemaError
from bikes_assets.events import retries
from bikes_assets.events.attempts import innermost, what_failed
from bikes_assets.events.retries import classified_errors
from bikes_assets.events.workers import was_interrupted

PLACES = ("input", "function", "output")
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(retries, "RETRIES", dg.RetryPolicy(max_retries=2))


class Manager(dg.IOManager):
    def __init__(self, meet):
        self.meet = meet

    def load_input(self, context):
        with classified_errors(context.step_context.previous_attempt_count + 1, "/lake"):
            self.meet("input")

    def handle_output(self, context, obj):  # noqa: ARG002 - Dagster's signature
        with classified_errors(context.step_context.previous_attempt_count + 1, "/lake"):
            self.meet("output")


def run(place, error, times):
    """Execute a step that meets an error, some times, at a place; return its result and how often it was tried."""
    met, tries = [], []

    def meet(here):
        if here == place and len(met) < times:
            met.append(here)
            raise error

    @dg.op(ins={"read": dg.In(input_manager_key="io")}, out=dg.Out(io_manager_key="io"))
    def step(context, read):
        tries.append(context.retry_number)
        with classified_errors(context.retry_number + 1, "/tmp"):
            meet("function")

    manager = dg.IOManagerDefinition(lambda _: Manager(meet))

    @dg.job(resource_defs={"io": manager})
    def job():
        step()

    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, raise_on_error=False)
        return result, len(met), what_failed(instance, result.dagster_run)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", [ConflictError("lost"), TimeoutError("timed out")], ids=["conflict", "time-out"])
def test_a_passing_fault_is_met_again_wherever_it_was(place, error):
    result, met, _ = run(place, error, times=2)
    assert (result.success, met) == (True, 2)


@pytest.mark.parametrize("place", PLACES)
def test_a_fault_that_does_not_pass_after_all_ends_the_step_with_its_own_message(place):
    result, met, told = run(place, ConflictError("another run was first"), times=9)
    assert (result.success, met) == (False, 3)
    assert told == "step: ConflictError: another run was first"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SchemaError("column x is missing"), "SchemaError: column x is missing"),
        (KeyError("x"), "KeyError: 'x'"),
        (FULL, "StoreError: {}: no space is left there; free some, then run again"),
    ],
    ids=["schema", "code", "disk"],
)
def test_a_final_fault_ends_the_step_at_once(place, error, told):
    result, met, line = run(place, error, times=9)
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    where = "/tmp" if place == "function" else "/lake"
    assert (result.success, met) == (False, 1)
    assert innermost(failure.step_failure_data.error).endswith(told.format(where))
    assert "\n" not in line
    assert line.startswith("step: ")


def test_dagsters_own_policy_would_try_an_interrupted_step_again():
    """Why a retry is asked for by us, fault by fault."""
    tries = []

    @dg.op(retry_policy=dg.RetryPolicy(max_retries=2))
    def step(context):
        tries.append(context.retry_number)
        if len(tries) < 3:
            raise KeyboardInterrupt

    @dg.job
    def job():
        step()

    assert job.execute_in_process(raise_on_error=False).success
    assert tries == [0, 1, 2]


def test_an_interrupted_step_is_not_tried_again():
    tries = []

    @dg.op
    def step(context):
        with classified_errors(context.retry_number + 1, "/tmp"):
            tries.append(context.retry_number)
            raise KeyboardInterrupt

    @dg.job
    def job():
        step()

    result = job.execute_in_process(raise_on_error=False)
    assert (result.success, tries) == (False, [0])
    assert was_interrupted(result)


def test_a_step_that_fails_is_not_taken_for_an_interrupted_one():
    result, _, _ = run("function", SchemaError("x"), times=1)
    assert not was_interrupted(result)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (SchemaError("column x is missing"), {}),
        (
            DataError("hour.csv", row=3, column="hum", found="wet", expected="a number"),
            {"file": "hour.csv", "row": "3", "column": "hum", "found": "wet", "expected": "a number"},
        ),
    ],
    ids=["message alone", "in parts"],
)
def test_an_error_of_ours_is_a_failure_with_its_message_and_its_parts(place, error, shown):
    result, _, line = run(place, error, times=9)
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert failure.user_failure_data.description == f"{type(error).__name__}: {error}"
    assert {key: value.value for key, value in failure.user_failure_data.metadata.items()} == shown
    assert line == f"step: {failure.user_failure_data.description}"
    assert innermost(failure.error) == failure.user_failure_data.description


def test_what_has_nothing_to_do_is_no_failure():
    with pytest.raises(NothingToDo), classified_errors(1, "/tmp"):
        raise NothingToDo("no rows")


def test_what_is_raised_has_the_error_of_ours_as_its_cause():
    error = SchemaError("column x is missing")
    with pytest.raises(dg.Failure) as failure, classified_errors(1, "/tmp"):
        raise error
    assert failure.value.__cause__ is error
    assert not failure.value.allow_retries
