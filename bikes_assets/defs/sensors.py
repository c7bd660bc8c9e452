"""The sensors that tell others, and begin no run: MLflow, Dagster's pages by the check `up_to_date`, OpenLineage receivers."""

import json

import dagster as dg

from bikes_assets.app import answers, state
from bikes_assets.app.audit import upkeep
from bikes_assets.app.outgoing import sending
from bikes_assets.app.reconciliation import pipeline
from bikes_assets.app.settings import settings
from bikes_assets.core.errors import DataError
from bikes_assets.core.record import partition_address
from bikes_assets.core.texts import counted
from bikes_assets.defs.due import due, outdated
from bikes_assets.events.up_to_date import report
from bikes_assets.lineage.openlineage.sending.receivers import is_configured
from bikes_assets.orchestration.reconcile import sync

_MOST_AT_ONCE = 200


@dg.sensor(
    description="Does what `bikes sync` does: logs to MLflow what is missing there, ends runs whose process is gone, and reports "
    "commits without an event; the audit log gets what is missing there.",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def mlflow_sync(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Do what `bikes sync` does, for what happened since the last time that everything was consistent."""
    unaudited = upkeep.problem()  # what was launched by Dagster has an entry by now
    if state.reconciliation():
        return dg.SkipReason(unaudited or "Nothing has happened.")
    result = sync(pipeline(context.instance), whole=False)
    answers.refreshed()
    told = (
        [unaudited] * bool(unaudited) + result.left + result.refused + result.set_aside + result.done + result.foreign
    )
    return dg.SkipReason("; ".join(told) or "Everything agrees.")


@dg.sensor(
    description="Reports each partition that became stale, and why: its check up_to_date fails until it is materialized again.",
    minimum_interval_seconds=settings().tick_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def stale_partitions(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Report the partitions whose staleness has changed since the last tick; the cursor holds what is reported."""
    assert context.repository_def  # noqa: S101 - Dagster gives it to what it evaluates
    if reason := outdated():
        return dg.SensorResult(skip_reason=reason)
    try:
        found = due(context.repository_def.asset_graph, makes=(), source=state.observed())
    except DataError as error:
        return dg.SensorResult(skip_reason=str(error))
    stale = {partition_address(*key): found.outlooks[key] for key in found.stale}
    known = report(context.instance, stale, _reported(context.cursor), _MOST_AT_ONCE)
    told = f"{counted(len(known), 'stale partition')}; bikes status lists them with the reasons."
    return dg.SensorResult(
        skip_reason=told if known else "Everything is up to date.", cursor=json.dumps(known, sort_keys=True)
    )


@dg.sensor(
    description="Does what `bikes openlineage send` does: sends OpenLineage receivers the events that they have not had. "
    "On where one is configured.",
    minimum_interval_seconds=settings().tick_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING if is_configured() else dg.DefaultSensorStatus.STOPPED,
)
def openlineage_send(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Send each receiver what it has not had; one that fails is asked later, and no other waits for it."""
    return dg.SkipReason(sending.tick())


def _reported(cursor: str | None) -> dict[str, str]:
    """Return what a cursor holds; what it does not is reported again."""
    try:
        return {str(address): str(why) for address, why in json.loads(cursor or "{}").items()}
    except (ValueError, AttributeError):
        return {}
