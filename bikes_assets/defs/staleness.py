"""The sensor that shows in Dagster's pages which partitions are stale, and why."""

import json

import dagster as dg

from bikes_assets.app import state
from bikes_assets.app.settings import settings
from bikes_assets.core.errors import DataError
from bikes_assets.core.record import partition_address
from bikes_assets.core.texts import counted
from bikes_assets.defs.due import due, outdated
from bikes_assets.events.up_to_date import report

_MOST_AT_ONCE = 200


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


def _reported(cursor: str | None) -> dict[str, str]:
    """Return what a cursor holds; what it does not is reported again."""
    try:
        return {str(address): str(why) for address, why in json.loads(cursor or "{}").items()}
    except (ValueError, AttributeError):
        return {}
