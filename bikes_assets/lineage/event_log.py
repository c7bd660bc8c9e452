"""Dagster's event log as input of the index: read in SQL, without importing Dagster.

Its tables and the form of its events are not a public interface: a test compares what is read here with the results of
Dagster's own calls. Reading a record this way takes a thirteenth of the time.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from bikes_assets.core.errors import StoreError
from bikes_assets.core.record import Origin, Version, partition_address
from bikes_assets.core.secrets import shown
from bikes_assets.core.texts import shortened
from bikes_assets.events.reported import FIRST_MARK, MARKED, read
from bikes_assets.events.run_log import asking
from bikes_assets.lineage.projection import MaterializedEvent, ObservedEvent, RegisteredEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bikes_assets.events.reported import Reported
    from bikes_assets.lineage.index import Index
    from bikes_assets.lineage.projection import Projection

_EVENTS = """
select id, run_id, asset_key, partition, event from event_logs where id > :since and id <= :until
and dagster_event_type in ('ASSET_MATERIALIZATION', 'ASSET_OBSERVATION') order by id limit :most
"""
_BATCH = 1_000
_COUNT = """
select count(*) from event_logs
where id <= :until and dagster_event_type in ('ASSET_MATERIALIZATION', 'ASSET_OBSERVATION')
"""
_LATEST = """
select id, run_id, asset_key, partition, event from event_logs
where asset_key = :key and (partition = :partition or (:partition is null and partition is null))
and dagster_event_type = 'ASSET_MATERIALIZATION' order by id desc limit :most
"""
_FEW = 20
"""Number of events among which the latest trusted one is looked for."""
_LAST = "select run_id, timestamp, event from event_logs where id = :until"


def events_since(
    storage: str, since: int, until: int = 2**62
) -> Iterator[MaterializedEvent | ObservedEvent | RegisteredEvent]:
    """Yield the trusted materializations, observations and registrations after an event, in the log's order.

    Args:
        storage: DAGSTER_HOME of an instance on SQLite, or a database URL.
        since: number of the last event that is known.
        until: number of the last event that is wanted.

    Raises:
        StoreError: an event is damaged: the index would be incomplete without saying so.
    """
    for found in reported_since(storage, since, until):
        if found.damage:
            name = partition_address(shortened(found.asset), found.partition and shortened(found.partition))
            raise StoreError(
                f"{shown(storage)}: found event {found.number} of {name} damaged ({found.damage}), expected it as it was "
                "written; restore Dagster's event log from a backup, or move its folder away and run bikes sync, which writes it "
                "again from the lake"
            )
        if event := _event(found):
            yield event


def reported_since(storage: str, since: int, until: int = 2**62) -> Iterator[Reported]:
    """Yield the contents of the asset events after an event, in the log's order; see `events_since`."""
    with asking(storage) as ask:
        first_mark = next((number for (number,) in ask(FIRST_MARK, mark=MARKED)), None)
        while rows := ask(_EVENTS, since=since, until=until, most=_BATCH):
            since = rows[-1][0]
            yield from read(rows, first_mark)


def latest(storage: str, asset: str, partition: str | None) -> Reported | None:
    """Return the latest trusted materialization of a partition in an event log, None where there is none.

    Args:
        storage: DAGSTER_HOME of an instance on SQLite, or a database URL.
        asset: the asset.
        partition: the partition, None for an asset without.
    """
    return next(materializations(storage, asset, partition, most=_FEW), None)


def materializations(storage: str, asset: str, partition: str | None, *, most: int) -> Iterator[Reported]:
    """Yield the trusted materializations among the latest ones of a partition in an event log, newest first.

    Args:
        storage: DAGSTER_HOME of an instance on SQLite, or a database URL.
        asset: the asset.
        partition: the partition, None for an asset without.
        most: how many materializations are read.
    """
    with asking(storage) as ask:
        first_mark = next((number for (number,) in ask(FIRST_MARK, mark=MARKED)), None)
        rows = ask(_LATEST, key=json.dumps(asset.split("/")), partition=partition, most=most)
    return (found for found in read(rows, first_mark) if found.record)


def refresh(index: Index, storage: str, projection: Callable[[Index], Projection]) -> Index:
    """Bring an index up to date with Dagster's event log, and return it.

    An index of another log is rebuilt: one that was started over or restored from a backup, whose runs were deleted, or
    that is of another storage.

    Args:
        index: the index.
        storage: DAGSTER_HOME of an instance on SQLite, or a database URL.
        projection: returns the projection from events to facts of the index; called only where there is something new.
    """
    newest = newest_event(storage)
    is_of_another = bool(index.cursor) and index.log != identity(storage, index.cursor)
    if newest > index.cursor or is_of_another:
        facts = projection(index)
        since = 0 if is_of_another else index.cursor
        events = (facts.fact(event) for event in events_since(storage, since, newest))
        index.append(events, newest, identity(storage, newest), again=is_of_another)
    return index


def identity(storage: str, until: int) -> str:
    """Return what tells an event log up to an event from any other log, and from itself after events were deleted.

    That is the last event itself, and the number of asset events up to it. Event numbers alone do not suffice: SQLite
    reuses the numbers after the last event that is left, and a restored backup goes on from where it was. But as long
    as the last event is the same, no number up to it was reused, and nothing before it can have changed except by
    deletion, which changes the number of events.

    Args:
        storage: DAGSTER_HOME of an instance on SQLite, or a database URL.
        until: number of the last event.
    """
    with asking(storage) as ask:
        ((count,),) = ask(_COUNT, until=until) or ((0,),)
        last = ask(_LAST, until=until)
    return (
        f"{count} {hashlib.sha256(repr([(str(run), str(at), event) for run, at, event in last]).encode()).hexdigest()}"
    )


def newest_event(storage: str) -> int:
    """Return the number of the last event of any kind, 0 where there is none; every event up to it is visible by now.

    PostgreSQL numbers an event when it is written, and shows it when its transaction ends: an event with a lower number
    may become visible later. So this waits for open transactions, by a lock on the table that conflicts with theirs.
    """
    with asking(storage) as ask:
        if "://" in storage:
            ask("lock table event_logs in share mode")
        return next((number or 0 for (number,) in ask("select max(id) from event_logs")), 0)


def _event(found: Reported) -> MaterializedEvent | ObservedEvent | RegisteredEvent | None:
    values = found.values
    if found.record:  # an observation, where it was reported after the version had been replaced
        rows, lineage = values.get("dagster/row_count"), found.column_lineage
        return MaterializedEvent(
            found.number, found.time, found.record, lineage, found.registered, rows, is_current=found.is_materialization
        )
    if found.registered and found.address:
        return RegisteredEvent(found.number, found.time, found.address, found.registered)
    if found.is_reading:
        uri, sha256 = values["uri"], values["version"]
        version = Version(found.asset, found.partition, sha256, found.digest)
        origin = Origin(
            uri.rpartition("/")[2],
            uri,
            values["kind"],
            sha256,
            values["bytes"],
            tuple(map(tuple, values["files"])),
            values.get("tracked", {}),
        )
        return ObservedEvent(found.number, found.time, version, origin, values["dagster/row_count"])
    return None
