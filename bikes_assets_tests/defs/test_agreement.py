"""The sensor does what `bikes sync` does, for what happened since everything agreed."""

import dagster as dg

from bikes_assets.defs.agreement import agreement


def tick(history, cursor=None):
    """Evaluate the sensor once, and return what it says and its cursor."""
    context = dg.build_sensor_context(instance=history.instance, cursor=cursor)
    (said,) = [agreement(context)]
    return said.skip_message, context.cursor


def test_it_is_on_wherever_the_daemon_runs():
    from bikes_assets.definitions import defs

    sensor = defs().get_sensor_def("agreement")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert sensor.minimum_interval_seconds == 60


def test_it_looks_again_only_when_something_happened(history):
    from bikes_assets.adapters.sync import sync
    from bikes_assets.defs.resources import pipeline

    sync(pipeline(history.instance))
    said, cursor = tick(history)
    again, _ = tick(history, str(float(cursor) + 60))

    assert said == "Everything agrees."
    assert again == "Nothing has happened."


def test_it_logs_what_mlflow_did_not_take(history):
    from bikes_assets.adapters.tracking import mark_backlog

    tick(history)
    run_id = history.record("demand_features", "2011-07").made_by["mlflow_run_id"]
    history.client.delete_run(run_id)
    mark_backlog(history.instance)

    said, _ = tick(history)

    assert said.startswith("MLflow: demand_features[2011-07] of run ")
    assert tick(history)[0] == "Everything agrees."


def test_while_something_is_left_the_cursor_stays(history, monkeypatch):
    from dataclasses import replace

    from bikes_assets.adapters.tracking import connect
    from bikes_assets.defs import agreement as module

    away = replace(
        module.pipeline(history.instance),
        connect=lambda _: connect("http://127.0.0.1:9", "one", "http://m", "http://d", {}),
    )
    monkeypatch.setattr(module, "pipeline", lambda _: away)

    said, cursor = tick(history)

    assert "cannot be reached" in said
    assert cursor is None
