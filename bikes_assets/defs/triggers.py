"""What makes `hourly_rentals` by itself: a sensor where the source tells cheaply that it has changed, else a schedule.

Who owns what: of a file, a folder or a URL that has a fingerprint, the sensor `source_changes` makes the months that are new
or changed, while it is on. The schedule `finished_months` makes them where it is off or the source has no fingerprint (a
database), once they are finished. `automation` makes what lies downstream.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg

from bikes_assets.app import state
from bikes_assets.app.settings import settings
from bikes_assets.core.errors import DataError
from bikes_assets.core.record import Version
from bikes_assets.core.staleness import NextRun
from bikes_assets.defs.due import due, outdated
from bikes_assets.events import metadata
from bikes_assets.events.workers import WHY
from bikes_assets.project import source_reader
from bikes_assets.storage.sources.source_state import SourceState

RENTALS, RECORDS = "hourly_rentals", "rental_records"


@dg.sensor(
    target=dg.AssetSelection.assets(RENTALS),
    description="Makes each month of hourly_rentals that is new or changed in a source with a fingerprint.",
    minimum_interval_seconds=settings().tick_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING if settings().triggers else dg.DefaultSensorStatus.STOPPED,
)
def source_changes(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Make each month of hourly_rentals that is new or changed in the source; new months are loaded first."""
    try:
        if not source_reader().fingerprint():
            yield dg.SkipReason("The source has no fingerprint: the schedule finished_months looks at it.")
            return
        reason, source = outdated(), state.observed()[RECORDS]
    except DataError as error:
        yield dg.SkipReason(str(error))
        return
    if reason:
        yield dg.SkipReason(reason)
        return
    runs = due(_graph(context), makes=[RENTALS], source={RECORDS: source}).runs
    _observe(context.instance, source, runs)
    yield from map(_request, runs)


@dg.schedule(
    cron_schedule=settings().schedule,
    target=dg.AssetSelection.assets(RENTALS),
    description="Makes each finished month of hourly_rentals that is new or changed, where source_changes does not.",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING if settings().triggers else dg.DefaultScheduleStatus.STOPPED,
)
def finished_months(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Make each month of hourly_rentals that is finished and new or changed in the source, where the sensor does not."""
    try:
        if reason := outdated():
            yield dg.SkipReason(reason)
            return
        source = state.observed()[RECORDS]
    except DataError as error:
        yield dg.SkipReason(str(error))
        return
    if source_reader().fingerprint() and _is_on(context.instance, source_changes.name):
        yield dg.SkipReason(f"The sensor {source_changes.name} makes what is new or changed.")
        return
    runs = due(_graph(context), makes=[RENTALS], source={RECORDS: source}).runs
    runs = [run for run in runs if _is_finished(str(run.partition), source)]
    _observe(context.instance, source, runs)
    for run in runs:
        yield _request(run, str(run.partition))  # of this tick alone, which asks for none of them twice


def _graph(context: dg.SensorEvaluationContext | dg.ScheduleEvaluationContext) -> object:
    assert context.repository_def  # noqa: S101 - Dagster gives it to what it evaluates
    return context.repository_def.asset_graph


def _request(run: NextRun, run_key: str | None = None) -> dg.RunRequest:
    keys = [dg.AssetKey.from_user_string(asset) for asset in run.assets]
    return dg.RunRequest(run_key, partition_key=run.partition, asset_selection=keys, tags={WHY: run.why[:250]})


def _observe(instance: dg.DagsterInstance, source: SourceState, runs: Sequence[NextRun]) -> None:
    """Tell Dagster what the source holds of the months that are materialized from it."""
    for month in (str(run.partition) for run in runs):
        if month in source.digests:
            found = Version(RECORDS, month, source.origin.version, source.digests[month])
            metadata.observe(instance, found, source.origin, source.rows[month])


def _is_finished(month: str, source: SourceState) -> bool:
    """Return whether a month is over: by the calendar, or because the source has a later one."""
    return month < max(f"{datetime.now(UTC):%Y-%m}", *(key for key, rows in source.rows.items() if rows))


def _is_on(instance: dg.DagsterInstance, sensor: str) -> bool:
    states = [state for state in instance.all_instigator_state() if state.name == sensor]
    return states[0].is_running if states else settings().triggers
