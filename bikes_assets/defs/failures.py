"""One line for each run that failed: in the daemon's log, and in the run's tags, where Dagster's list of runs shows it."""

import dagster as dg

from bikes_assets.adapters.attempts import what_failed

FAILURE = "bikes_assets/failure"
"""Tag of a Dagster run: what failed, why, and what to do."""


@dg.run_failure_sensor(
    description="Says of each run that failed what failed, why, and what to do.",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    monitor_all_code_locations=True,
)
def failures(context: dg.RunFailureSensorContext) -> None:
    """Say of each run that failed what failed, why, and what to do; runs of the command line are among them."""
    run = context.dagster_run
    told = what_failed(context.instance, run)
    context.log.error(f"Run {run.run_id} failed: {told}")
    context.instance.add_run_tags(run.run_id, {FAILURE: told})
