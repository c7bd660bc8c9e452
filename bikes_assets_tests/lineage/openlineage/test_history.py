"""What is read of Dagster's runs without Dagster is what Dagster's own calls say."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

import bikes_assets
from bikes_assets.core.record import Record, Version
from bikes_assets.events import metadata
from bikes_assets.events.attempts import attempts_of
from bikes_assets.lineage.openlineage.catalog import Catalog
from bikes_assets.lineage.openlineage.events import Selection, events
from bikes_assets.lineage.openlineage.history import StepAttempt, history
from bikes_assets_tests.elsewhere.servers import create_database
from bikes_assets_tests.lineage.openlineage.spec import problems_of

MONTHS = dg.MonthlyPartitionsDefinition("2016-01", end_date="2016-04", fmt="%Y-%m")
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def _record(context: Any, version: int) -> dict[str, Any]:
    made_by = {
        "dagster_run_id": context.run_id,
        "step_key": "numbers",
        "attempt": str(context.op_execution_context.retry_number + 1),
    }
    output = Version("numbers", context.partition_key, version, f"{version:032}")
    return Record(output, {}, (), "c", {}, {}, made_by, time=100.0).to_dict()


@dg.asset(partitions_def=MONTHS)
def numbers(context):
    """As the run's tag says."""
    order = context.run.tags.get("order", "make")
    tried = context.op_execution_context.retry_number
    if order == "raise":
        try:
            raise OSError("the disk is full\nof rows")
        except OSError as error:
            raise ValueError("nothing was written") from error
    if order == "retry" and not tried:
        raise dg.RetryRequested(max_retries=1) from TimeoutError("too slow")
    if order == "interrupt":
        raise KeyboardInterrupt
    return dg.MaterializeResult(metadata={"lineage": dg.MetadataValue.json(_record(context, 1))})


@dg.asset(partitions_def=MONTHS, deps=[numbers])
def sums(context) -> None:
    """Publishes nothing that has a record."""


@dg.asset_check(asset=numbers, blocking=True)
def positive() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True, metadata={"expected": "all", "found": "3 of 3"})


JOB = dg.Definitions([numbers, sums], asset_checks=[positive], jobs=[dg.define_asset_job("both", "*")])


def execute(instance: dg.DagsterInstance, order: str, month: str = "2016-01") -> str:
    job = JOB.resolve_job_def("both")
    return job.execute_in_process(
        instance=instance, partition_key=month, tags={"order": order}, run_config=QUIET, raise_on_error=False
    ).run_id


def attempts(home: Path) -> list[StepAttempt]:
    return [attempt for _, found in history(str(home)) for attempt in found]


def exported(home: Path) -> list[dict[str, Any]]:
    found = [*events(history(str(home)), Catalog("project", "/lake", "/code"), Selection())]
    assert [problem for event in found for problem in problems_of(event)] == []
    return found


def states(found: list[dict[str, Any]], job: str) -> list[str]:
    return [event["eventType"] for event in found if event["job"]["name"] == job]


@pytest.mark.parametrize("order", ["make", "raise", "retry"])
def test_attempts_are_those_that_dagster_tells_of(instance: Any, home: Path, order: str) -> None:
    run = execute(instance, order)
    # Given that checks are steps of their own, and materialize nothing
    theirs = [item for item in attempts_of(instance, run) if item.asset in ("numbers", "sums")]
    ours = attempts(home)
    told = [
        [(item.asset, item.number, item.succeeded, item.error, item.record) for item in found]
        for found in (ours, theirs)
    ]
    assert told[0] == told[1]
    # And the times are the same, which Dagster's tables hold in microseconds
    times = [[time for item in found for time in (item.start, item.end)] for found in (ours, theirs)]
    assert times[0] == pytest.approx(times[1], abs=1e-5)
    assert {item.partition for item in ours} == {"2016-01"}


def test_a_run_starts_and_completes_with_its_steps_inside(instance: Any, home: Path) -> None:
    run = execute(instance, "make")
    found = exported(home)
    assert [(event["job"]["name"], event["eventType"]) for event in found] == [
        ("both", "START"),
        ("numbers", "START"),
        ("numbers", "COMPLETE"),
        ("sums", "START"),
        ("sums", "COMPLETE"),
        ("both", "COMPLETE"),
    ]
    parents = {event["run"]["facets"]["parent"]["run"]["runId"] for event in found[1:-1]}
    assert parents == {run} == {found[0]["run"]["runId"]}
    # And what has no record says what ran, and nothing of what was written
    assert (found[4]["inputs"], found[4]["outputs"]) == ([], [])
    # And the check that was evaluated is told of with its severity
    assertions = found[2]["outputs"][0]["facets"]["dataQualityAssertions"]["assertions"]
    told = {"assertion": "positive", "success": True, "severity": "error", "expected": "all", "actual": "3 of 3"}
    assert assertions == [told]


def test_a_failure_is_told_with_its_innermost_error(instance: Any, home: Path) -> None:
    execute(instance, "raise")
    found = exported(home)
    assert states(found, "numbers") == ["START", "FAIL"]
    (failed,) = [event for event in found if event["eventType"] == "FAIL" and event["job"]["name"] == "numbers"]
    assert failed["run"]["facets"]["errorMessage"]["message"] == "OSError: the disk is full"
    assert failed["outputs"] == []
    assert states(found, "both") == ["START", "FAIL"]
    assert states(found, "sums") == []


def test_each_attempt_is_a_run_of_its_own(instance: Any, home: Path) -> None:
    execute(instance, "retry")
    found = [event for event in exported(home) if event["job"]["name"] == "numbers"]
    assert [event["eventType"] for event in found] == ["START", "FAIL", "START", "COMPLETE"]
    assert found[1]["run"]["facets"]["errorMessage"]["message"] == "TimeoutError: too slow"
    assert len({event["run"]["runId"] for event in found}) == 2


def test_an_interruption_aborts(instance: Any, home: Path) -> None:
    with suppress(KeyboardInterrupt, DagsterExecutionInterruptedError):
        execute(instance, "interrupt")
    assert states(exported(home), "numbers") == ["START", "ABORT"]


def test_a_run_that_is_going_on_has_started_and_not_ended(instance: Any, home: Path) -> None:
    run = instance.create_run_for_job(JOB.resolve_job_def("both"), asset_selection=None)
    instance.report_engine_event("begun", run)
    instance.handle_new_event(_entry(run, dg.DagsterEventType.PIPELINE_STARTING))
    instance.handle_new_event(_entry(run, dg.DagsterEventType.PIPELINE_START))
    assert [event["eventType"] for event in exported(home)] == ["START"]
    # And one that was cancelled from outside has ended
    instance.report_run_canceled(instance.get_run_by_id(run.run_id))
    assert [event["eventType"] for event in exported(home)] == ["START", "ABORT"]


def _entry(run: dg.DagsterRun, kind: dg.DagsterEventType) -> Any:
    from dagster._core.events import DagsterEvent
    from dagster._core.events.log import EventLogEntry

    event = DagsterEvent(kind.value, run.job_name)
    return EventLogEntry(None, 10, "", run.run_id, 1000.0, job_name=run.job_name, dagster_event=event)


def test_what_no_known_run_published_is_told_once_between_the_runs(instance: Any, home: Path) -> None:
    execute(instance, "make")
    record = Record(Version("pins", None, 1, "0" * 32), {}, (), "", {}, {}, {}).to_dict()
    event = dg.AssetMaterialization("pins", metadata={"lineage": dg.MetadataValue.json(record)})
    metadata.report(instance, event)
    execute(instance, "make", "2016-02")
    found = exported(home)
    place = [event["job"]["name"] for event in found].index("pins")
    assert (place, len(found), found[place]["eventType"]) == (6, 13, "COMPLETE")
    assert "parent" not in found[place]["run"]["facets"]


def test_nobody_can_report_a_run_that_was_none(instance: Any, home: Path) -> None:
    record = Record(Version("pins", None, 1, "0" * 32), {}, (), "", {}, {}, {}).to_dict()
    instance.report_runless_asset_event(
        dg.AssetMaterialization("pins", tags={"bikes_assets/reported": "1"})
    )  # the mark is known
    forged = dg.AssetMaterialization("pins", metadata={"lineage": dg.MetadataValue.json(record)})
    instance.report_runless_asset_event(forged)
    assert exported(home) == []


@pytest.mark.slow
def test_a_log_on_postgresql_has_the_same_events(
    postgres_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = create_database(postgres_server, "openlineage")
    monkeypatch.setenv("BIKES_DAGSTER_STORAGE", url)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    shutil.copy(Path(bikes_assets.__file__).with_name("dagster-postgres.yaml"), tmp_path / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        for order in ("make", "retry", "raise"):
            execute(instance, order)
        record = Record(Version("pins", None, 1, "0" * 32), {}, (), "", {}, {}, {}).to_dict()
        metadata.report(instance, dg.AssetMaterialization("pins", metadata={"lineage": dg.MetadataValue.json(record)}))
    found = [*events(history(url), Catalog("project", "/lake", "/code"), Selection())]
    assert [problem for event in found for problem in problems_of(event)] == []
    assert states(found, "numbers") == ["START", "COMPLETE", "START", "FAIL", "START", "COMPLETE", "START", "FAIL"]
    assert states(found, "both") == ["START", "COMPLETE", "START", "COMPLETE", "START", "FAIL"]
    assert (states(found, "pins"), found[-1]["job"]["name"]) == (["COMPLETE"], "pins")
    assert [event["eventTime"] for event in found] == sorted(event["eventTime"] for event in found)


def test_no_event_log_has_no_events(tmp_path: Path) -> None:
    assert exported(tmp_path) == []
