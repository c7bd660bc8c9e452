"""One line for each run that failed: in the daemon's log, in its tags, which Dagster's list of runs shows, and as an alert."""

import dagster as dg

from bikes_assets.app.settings import settings
from bikes_assets.events.attempts import what_failed
from bikes_assets.events.webserver import FAILURE
from bikes_assets.orchestration import alerts

ALERTED = ".dagster/bikes_assets_alerted"
"""Tag of a Dagster run whose failure was sent as an alert: its id, since a run that is re-executed inherits it.
Dagster's pages show no tag of this prefix, so that the failure fits in."""


@dg.run_failure_sensor(
    description="Says of each run that failed what failed, why, and what to do; sends it to BIKES_ALERT, where that is set.",
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
    target = settings().alert.get_secret_value()
    if not target or run.tags.get(ALERTED) == run.run_id:
        return
    if problem := alerts.send(target, alert_of(run, told)):
        context.log.error(f"The alert of run {run.run_id} was not delivered (BIKES_ALERT): {problem}")
    else:
        context.instance.add_run_tags(run.run_id, {ALERTED: run.run_id})


def alert_of(run: dg.DagsterRun, told: str) -> dict[str, str]:
    """Return what is sent of a run that failed; `text` says it all, for chats that show nothing else."""
    known, partition = settings(), run.tags.get("dagster/partition", "")
    link = f"{known.dagster_url}/runs/{run.run_id}"
    return {
        "text": f"{known.deployment}: a run failed: {told} {link}",
        "deployment": known.deployment,
        "run_id": run.run_id,
        "job": run.job_name,
        "partition": partition,
        "failed": told,
        "link": link,
    }
