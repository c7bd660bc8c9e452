"""Dagster's event log as what the index takes in: read in SQL, without importing Dagster.

Its tables and the form of its events are not a public interface: a test holds what is read here against what Dagster's own calls
say. Reading a record so takes a thirteenth of the time.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from bikes_assets.adapters.run_log import asking
from bikes_assets.lineage.graph import Origin, Record, Version
from bikes_assets.lineage.projection import Materialized, Observed, Registered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bikes_assets.lineage.index import Index
    from bikes_assets.lineage.projection import Projection

_EVENTS = """
select id, event from event_logs where id > :since and id <= :until
and dagster_event_type in ('ASSET_MATERIALIZATION', 'ASSET_OBSERVATION') order by id limit :most
"""
_BATCH = 1_000
_COUNT = """
select count(*) from event_logs
where id <= :until and dagster_event_type in ('ASSET_MATERIALIZATION', 'ASSET_OBSERVATION')
"""
_LAST = "select run_id, timestamp, event from event_logs where id = :until"


def events_since(storage: str, since: int, until: int = 2**62) -> Iterator[Materialized | Observed | Registered]:
    """Yield what was made, observed and registered after an event, in the log's order; an event without a record says nothing.

    Args:
        storage: DAGSTER_HOME of an instance on SQLite, or a database URL.
        since: number of the last event that is known.
        until: number of the last event that is wanted.
    """
    with asking(storage) as ask:
        while rows := ask(_EVENTS, since=since, until=until, most=_BATCH):
            for number, text in rows:
                since = number
                if event := _event(number, json.loads(text)):
                    yield event


def refresh(index: Index, storage: str, projection: Callable[[Index], Projection]) -> Index:
    """Bring an index up to date with Dagster's event log, and return it.

    An index that was made of another log is made anew: of one that was started over or restored from a backup, of which runs were
    deleted, or of another storage.

    Args:
        index: the index.
        storage: DAGSTER_HOME of an instance on SQLite, or a database URL.
        projection: returns what makes facts for the index of what events say; it is asked where there is something new.
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
    """Return what tells an event log up to an event from any other log, or from this one after events of it were deleted.

    That is the last event itself, and how many events of assets there are up to it. Numbers alone do not tell: SQLite gives the
    numbers behind the last event that is left again, and a restored backup goes on from where it was. But as long as the last
    event is the same, no number up to it was given again, and nothing can have changed before it but by deletion, which counts.

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
    """Return the number of the last event of any kind, 0 where there is none; each event up to it can be seen by now.

    PostgreSQL numbers an event when it is written, and shows it when its transaction ends: an earlier one may show later. So
    those at work are waited for, which a lock does that they have to share the table with.
    """
    with asking(storage) as ask:
        if "://" in storage:
            ask("lock table event_logs in share mode")
        return next((number or 0 for (number,) in ask("select max(id) from event_logs")), 0)


def _event(number: int, entry: dict[str, Any]) -> Materialized | Observed | Registered | None:
    data = entry["dagster_event"]["event_specific_data"]
    made, seen = data.get("materialization"), data.get("asset_observation")
    known = {item["label"]: item["entry_data"] for item in (made or seen)["metadata_entries"]}
    registered = known.get("mlflow_model_version", {}).get("value") or 0
    if "lineage" in known:  # an observation, where sync reported it after it had been replaced
        record, rows = Record.from_dict(known["lineage"]["data"]), known.get("dagster/row_count", {}).get("value")
        lineage = _column_lineage(known)
        return Materialized(number, entry["timestamp"], record, lineage, registered, rows, is_current=bool(made))
    if seen and registered and "address" in known:
        return Registered(number, entry["timestamp"], known["address"]["text"], registered)
    if seen and "uri" in known and "dagster/data_version" in seen["tags"]:
        asset = "/".join(seen["asset_key"]["path"])
        sha256 = known["version"]["text"]
        version = Version(asset, seen["partition"], sha256, seen["tags"]["dagster/data_version"])
        uri, files = known["uri"]["text"], known["files"]["data"]
        origin = Origin(
            uri.rpartition("/")[2],
            uri,
            known["kind"]["text"],
            sha256,
            known["bytes"]["value"],
            tuple(map(tuple, files)),
            known["tracked"]["data"] if "tracked" in known else {},
        )
        return Observed(number, entry["timestamp"], version, origin, known["dagster/row_count"]["value"])
    return None


def _column_lineage(known: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    if "dagster/column_lineage" not in known:
        return {}
    found = known["dagster/column_lineage"]["column_lineage"]["deps_by_column"]
    return {
        column: [("/".join(dep["asset_key"]["path"]), dep["column_name"]) for dep in deps]
        for column, deps in found.items()
    }
