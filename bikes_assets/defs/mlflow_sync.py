"""The sensor that keeps MLflow, run states and events consistent while Dagster's daemon runs."""

import dagster as dg

from bikes_assets.app import answers, state
from bikes_assets.defs.resources import pipeline
from bikes_assets.orchestration.reconcile import sync


@dg.sensor(
    description="Does what `bikes sync` does: logs to MLflow what is missing there, ends runs whose process is gone, and reports "
    "commits without an event.",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def mlflow_sync(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Do what `bikes sync` does, for what happened since the last time that everything was consistent."""
    if state.agreement():
        return dg.SkipReason("Nothing has happened.")
    result = sync(pipeline(context.instance), whole=False)
    answers.refreshed()
    told = result.left + result.refused + result.set_aside + result.done + result.foreign
    return dg.SkipReason("; ".join(told) or "Everything agrees.")
