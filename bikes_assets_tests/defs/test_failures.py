"""What is told of a run that failed: in the log, in the run's tags, and once as an alert to whoever is named for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from bikes_assets.app.settings import settings
from bikes_assets.core.errors import ModelError
from bikes_assets.defs.failures import ALERTED, failures
from bikes_assets.events.retries import classified_errors
from bikes_assets.events.webserver import FAILURE
from bikes_assets_tests.orchestration.test_alerts import hook

TYPO = "demand_model: ModelError: estimator: found 'Rigde', expected one of Ridge"


@dg.op(name="demand_model")
def fails() -> None:
    with classified_errors(1, "/tmp"):
        raise ModelError("estimator: found 'Rigde', expected one of Ridge", found="Rigde", expected="one of Ridge")


@dg.job(tags={"dagster/partition": "2012-08"})
def bad() -> None:
    fails()


@pytest.fixture
def alerting(monkeypatch: pytest.MonkeyPatch) -> Any:
    def to(target: str) -> None:
        monkeypatch.setenv("BIKES_ALERT", target)
        settings.cache_clear()

    yield to
    monkeypatch.undo()
    settings.cache_clear()


def evaluate(instance: dg.DagsterInstance, run_id: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Evaluate the sensor for a run, and return what it logged."""
    capsys.readouterr()
    run = instance.get_run_by_id(run_id)
    assert run
    (event,) = (
        record.event_log_entry.dagster_event
        for record in instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records
    )
    failures(
        dg.build_run_status_sensor_context(
            sensor_name="failures", dagster_event=event, dagster_instance=instance, dagster_run=run
        ).for_run_failure()
    )
    told = capsys.readouterr()
    return told.out + told.err


def test_a_failed_run_is_told_once_to_the_webhook(
    alerting: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with dg.DagsterInstance.ephemeral() as instance, hook() as known:
        alerting(known.url)
        run_id = bad.execute_in_process(instance=instance, raise_on_error=False).run_id
        for _ in range(2):
            evaluate(instance, run_id, capsys)
        (body,) = [body for _, _, body in known.got]
        link = f"http://127.0.0.1:3000/runs/{run_id}"
        failed = TYPO.replace("demand_model", "demand_model[2012-08]")
        assert body == {
            "text": f"local: a run failed: {failed} {link}",
            "deployment": "local",
            "run_id": run_id,
            "job": "bad",
            "partition": "2012-08",
            "failed": failed,
            "link": link,
        }
        # and a run that inherits the tags of the first is another one
        tags = dict(instance.get_run_by_id(run_id).tags)  # type: ignore[union-attr]
        assert tags[FAILURE] == failed
        again = bad.execute_in_process(instance=instance, raise_on_error=False, tags=tags).run_id
        evaluate(instance, again, capsys)
        assert [item["run_id"] for _, _, item in known.got] == [run_id, again]


@pytest.mark.parametrize("target", ["no-such-program", "http://127.0.0.1:9/services/S3CR3TPATH"])
def test_an_alert_that_is_not_delivered_fails_nothing_and_is_logged(
    alerting: Callable[[str], None], capsys: pytest.CaptureFixture[str], target: str
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        alerting(target)
        run_id = bad.execute_in_process(instance=instance, raise_on_error=False).run_id
        told = evaluate(instance, run_id, capsys)
        tags = instance.get_run_by_id(run_id).tags  # type: ignore[union-attr]
        assert f"The alert of run {run_id} was not delivered (BIKES_ALERT): " in told
        assert "S3CR3TPATH" not in told
        assert FAILURE in tags
        assert ALERTED not in tags


def test_nobody_is_told_where_nobody_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        run_id = bad.execute_in_process(instance=instance, raise_on_error=False).run_id
        assert "alert" not in evaluate(instance, run_id, capsys)


def test_a_failure_says_what_was_found_and_what_was_expected() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = bad.execute_in_process(instance=instance, raise_on_error=False)
    (event,) = [event for event in result.all_events if event.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    assert failure.description == "ModelError: estimator: found 'Rigde', expected one of Ridge"
    assert {key: value.value for key, value in failure.metadata.items()} == {
        "found": "Rigde",
        "expected": "one of Ridge",
    }
