"""The sensor does what `bikes sync` does, for what happened since everything reconciled."""

import dagster as dg

from bikes_assets.app import state
from bikes_assets.defs.sensors import mlflow_sync


def tick(history):
    """Evaluate the sensor once, and return what it says."""
    return mlflow_sync(dg.build_sensor_context(instance=history.instance)).skip_message


def test_it_is_on_wherever_the_daemon_runs():
    from bikes_assets.definitions import defs

    sensor = defs().get_sensor_def("mlflow_sync")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert sensor.minimum_interval_seconds == 60


def test_it_looks_again_only_when_something_happened(history):
    from bikes_assets.app.reconciliation import pipeline
    from bikes_assets.orchestration.reconcile import sync

    sync(pipeline(history.instance))
    assert tick(history) == "Nothing has happened."
    state.stores().memory.unlink()
    assert tick(history) == "Everything agrees."
    assert tick(history) == "Nothing has happened."


def test_it_logs_what_mlflow_did_not_take(history):
    from bikes_assets.tracking.resource import mark_backlog

    tick(history)
    run_id = history.record("demand_features", "2011-07").made_by["mlflow_run_id"]
    history.client.delete_run(run_id)
    mark_backlog(history.instance)

    said = tick(history)

    assert said.startswith("MLflow: demand_features[2011-07] of run ")
    assert tick(history) == "Nothing has happened."


def test_while_something_is_left_it_looks_each_time(history, monkeypatch):
    from dataclasses import replace

    from bikes_assets.defs import sensors as module
    from bikes_assets.tracking.resource import connect, mark_backlog

    mark_backlog(history.instance)
    away = replace(
        module.pipeline(history.instance),
        connect=lambda _: connect("http://127.0.0.1:9", "one", "http://m", "http://d", {}),
    )
    monkeypatch.setattr(module, "pipeline", lambda _: away)

    assert "cannot be reached" in tick(history)
    assert "cannot be reached" in tick(history)
    monkeypatch.undo()
    assert tick(history) == "Everything agrees."
