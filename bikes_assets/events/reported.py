"""The contents of our events in Dagster's log, and whether they are trusted: only this module reads records from them.

Anyone who reaches the webserver's port may report events there, and so may a web page in a browser on the same machine:
events without a run, whose tags they cannot choose. So an event is ours where it is of a run, which wrote it itself, or
carries the mark, which is a tag. Events before the first one with the mark are from before the mark was introduced, and
are ours too. An event of ours is trusted where its content is well-formed and is about its own asset, partition and
run. Any other event that claims to hold a record, a registered number or the reading of a source is set aside.

An event of ours carries a checksum of its content, by which later damage is detected. Where a flipped bit has broken
its JSON, that shows as well, because Dagster writes nothing but JSON. The record is still compared with the lake's
commit.

Events are read as Dagster stores them, without building its objects: some contents cannot be built.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from bikes_assets.core.address import parse_address
from bikes_assets.core.errors import LineageError, RecordError
from bikes_assets.core.record import Record, partition_address, record_digest
from bikes_assets.core.texts import shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import dagster as dg

    Row = tuple[int, str, str, str | None, str]
    """Number, run, asset key, partition and text of an event, as the table `event_logs` has them."""

RECORD = "lineage"
"""Metadata key of a materialization's record (see `core.record.Record`)."""
REGISTERED = "mlflow_model_version"
"""Metadata key of the number of a version's registered model version."""
CHECKSUM = "lineage/checksum"
"""Metadata key of the checksum of an event's content."""
MARK = "bikes_assets/reported"
"""Tag of the events that this project reports outside of a run's steps."""
KINDS = ("ASSET_MATERIALIZATION", "ASSET_OBSERVATION")
FIRST_MARK = "select id from event_logs where run_id = '' and event like :mark order by id limit 1"
"""Query for the number of the first event with the mark; a false match only ends the time before marks earlier."""
MARKED = f'%"{MARK}"%'
"""Parameters of the query."""

_BATCH = 100
_DATA_VERSION = "dagster/data_version"
_ROWS = "dagster/row_count"
_COLUMN_LINEAGE = "dagster/column_lineage"
_READING: Mapping[str, type] = {"uri": str, "kind": str, "version": str, "bytes": int, "files": list, _ROWS: int}
"""Metadata keys of the report of a source that was read."""
_IMAGE = re.compile(r"!\[.*\]\((?:<data:image/svg\+xml,([^<>]*)>|data:image/svg\+xml;base64,([A-Za-z0-9+/=]*))\)")
_SHA256 = re.compile("[0-9a-f]{64}")
_DIGEST = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Reported:
    """A materialization or an observation; one that is set aside has no content.

    Attributes:
        number: its number in the log.
        asset: its asset.
        partition: the partition, None where the asset has none.
        time: when it was written, Unix seconds.
        is_materialization: whether it is a materialization, else an observation.
        values: its metadata as JSON-ready values, by key.
        digest: the data version in its tags, "" where there is none.
        record: the record that it carries.
        set_aside: why it is not trusted, "" where it is.
        damage: how it is known to be damaged, "" where it is not.
    """

    number: int
    asset: str
    partition: str | None
    time: float = 0.0
    is_materialization: bool = False
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    digest: str = ""
    record: Record | None = None
    set_aside: str = ""
    damage: str = ""

    @property
    def is_reading(self) -> bool:
        """Whether it reports what a source holds."""
        return not self.is_materialization and bool(self.digest) and self.values.keys() >= _READING.keys()

    @property
    def address(self) -> str:
        """The version about which it reports something after the fact, "" where it does not."""
        return "" if self.is_materialization or self.record else str(self.values.get("address", ""))

    @property
    def registered(self) -> int:
        """The number of the registered model version that it names, 0 where it names none."""
        return self.values.get(REGISTERED) or 0

    @property
    def plots(self) -> dict[str, str]:
        """Its plots, SVG by title."""
        return plots_in(self.values)

    @property
    def mlflow_page(self) -> str:
        """Address of its run's page in MLflow, "" where it names none."""
        page = self.values.get("mlflow_run")
        return page if isinstance(page, str) and page.startswith(("http://", "https://")) else ""

    @property
    def column_lineage(self) -> dict[str, list[tuple[str, str]]]:
        """Output column to the assets and columns that it is computed from, according to the event."""
        told = self.values.get(_COLUMN_LINEAGE, {}).get("deps_by_column", {})
        return {
            column: [("/".join(dep["asset_key"]["path"]), dep["column_name"]) for dep in deps]
            for column, deps in told.items()
        }


def read(rows: Iterable[Row], first_mark: int | None) -> Iterator[Reported]:
    """Yield the contents of events.

    Args:
        rows: the events.
        first_mark: number of the first event in the log with the mark, None where none has it.
    """
    for number, run_id, asset_key, partition, text in rows:
        asset = "/".join(json.loads(asset_key))
        try:
            yield _read(number, run_id, asset, partition, text, is_old=first_mark is None or number < first_mark)
        except (LineageError, LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
            why = str(error) if isinstance(error, LineageError) else "found what cannot be read"
            name = partition_address(shortened(asset), partition and shortened(partition))
            told = f"event {number} of {name}: {why}; it is set aside, and nothing is taken from it"
            # only this project writes its own events, and it wrote nothing like this
            is_damaged = isinstance(error, json.JSONDecodeError) or (CHECKSUM in text and (run_id or _is_marked(text)))
            yield Reported(number, asset, partition, set_aside=told, damage=why if is_damaged else "")


def plots_in(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the plots in an event's metadata, SVG by title: small ones; full ones in events of earlier releases."""
    images = {title: _IMAGE.fullmatch(value) for title, value in values.items() if isinstance(value, str)}
    return {
        title: unquote(image[1]) if image[1] else base64.b64decode(image[2]).decode()
        for title, image in images.items()
        if image
    }


def checksum(record: Mapping[str, Any], rows: int, lineage: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """Return the checksum of a materialization's content.

    Args:
        record: the record, as JSON-ready values.
        rows: number of rows.
        lineage: output column to the assets and columns that it is computed from.
    """
    return record_digest({"record": record, "rows": rows, "columns": lineage})


def reading_checksum(values: Mapping[str, Any], digest: str) -> str:
    """Return the checksum of the report of a source: of its metadata as JSON-ready values, and its data version."""
    return record_digest({name: values[name] for name in (*_READING, "tracked") if name in values} | {"digest": digest})


def of_instance(
    instance: dg.DagsterInstance,
    asset: str | None = None,
    partition: str | None = None,
    *,
    after: float = 0.0,
    newest_first: bool = False,
) -> Iterator[Reported]:
    """Yield the contents of an instance's events, including those that were wiped in Dagster.

    Args:
        instance: Dagster's instance.
        asset: only those of this asset, None for all.
        partition: only those of this partition, None for all.
        after: only those after this time, Unix seconds.
        newest_first: whether the latest come first.
    """
    from datetime import UTC, datetime

    import dagster as dg
    import sqlalchemy as sa
    from dagster._core.storage.event_log.schema import SqlEventLogStorageTable as Events

    at = Events.c
    query = sa.select(at.id, at.run_id, at.asset_key, at.partition, at.event).where(at.dagster_event_type.in_(KINDS))
    if asset is not None:
        query = query.where(at.asset_key == dg.AssetKey.from_user_string(asset).to_string())
    if partition is not None:
        query = query.where(at.partition == partition)
    if after:
        query = query.where(at.timestamp > datetime.fromtimestamp(after, UTC).replace(tzinfo=None))
    query = query.order_by(at.id.desc() if newest_first else at.id).limit(_BATCH)
    storage: Any = instance.event_log_storage
    with storage.index_connection() as connection:
        first_mark = connection.execute(sa.text(FIRST_MARK), {"mark": MARKED}).scalar()
        rows = connection.execute(query).fetchall()
        while rows:
            yield from read((tuple(row) for row in rows), first_mark)
            last = rows[-1][0]
            rows = connection.execute(query.where(at.id < last if newest_first else at.id > last)).fetchall()


def latest_version(instance: dg.DagsterInstance, asset: str) -> int:
    """Return an asset's last table version in the event log, wiped events included; 0 where it names none."""
    events = of_instance(instance, asset, newest_first=True)
    return next((int(event.record.output.version) for event in events if event.record), 0)


def record_of(value: object, *, asset: str, partition: str | None, run_id: str) -> Record:
    """Return the record in an event.

    Args:
        value: the metadata value.
        asset: the asset that the event is of.
        partition: its partition.
        run_id: its run, "" where it has none.

    Raises:
        RecordError: it is no record, or is about something else.
    """
    record = Record.from_dict(value)
    output, of_run = record.output, record.made_by.get("dagster_run_id", "")
    if (output.asset, output.partition) != (asset, partition):
        raise RecordError(f"found the record of {output.address}, expected one of the event's own asset and partition")
    if not isinstance(output.version, int) or not 0 < output.version < 2**63:
        raise RecordError(f"found table version {output.version!r}, expected a number of 1 or more")
    if of_run != run_id:
        raise RecordError(f"found a record that run {of_run or 'none'} published, expected the event's own run")
    return record


def registered_number(value: object) -> int:
    """Return the number of a registered model version that an event names.

    Raises:
        RecordError: it is none.
    """
    if type(value) is not int or not 0 < value < 2**31:
        raise RecordError(f"found registered model version {value!r}, expected a number of 1 or more")
    return value


def _read(number: int, run_id: str, asset: str, partition: str | None, text: str, *, is_old: bool) -> Reported:
    entry = json.loads(text)
    data = entry["dagster_event"]["event_specific_data"]
    made = data.get("materialization")
    told = made or data["asset_observation"]
    values = {item["label"]: _plain(item["entry_data"]) for item in told["metadata_entries"]}
    tags: Mapping[str, str] = told.get("tags") or {}
    digest = tags.get(_DATA_VERSION, "")
    record: Record | None = None
    found = Reported(number, asset, partition, entry["timestamp"], bool(made), values, digest)
    claims = RECORD in values or (not made and (found.is_reading or {REGISTERED, "address"} <= values.keys()))
    if claims and not (run_id or MARK in tags or is_old):
        raise RecordError(
            "found an event that no run and no command has written, expected none: anybody may report one to Dagster's webserver"
        )
    if REGISTERED in values:
        registered_number(values[REGISTERED])
    if RECORD in values:
        record = record_of(values[RECORD], asset=asset, partition=partition, run_id=run_id)
        if not isinstance(values.get(_ROWS, 0), int):
            raise RecordError(f"found {values[_ROWS]!r} rows, expected a number")
    elif claims and found.is_reading:
        _check_reading(found)
    elif claims:
        about, key, version = parse_address(values["address"])
        if (about, key) != (asset, partition) or not str(version).isdecimal():
            raise RecordError(f"found {values['address']!r}, expected a version of the event's own asset and partition")
    found = Reported(number, asset, partition, entry["timestamp"], bool(made), values, digest, record)
    lineage = found.column_lineage  # it can be read, or this raises
    if record:
        expected = checksum(values[RECORD], values.get(_ROWS, 0), lineage)
    else:
        expected = reading_checksum(values, digest) if found.is_reading else ""
    if expected and values.get(CHECKSUM, expected) != expected:
        return replace(found, damage="found another checksum than that of what it says")
    return found


def _is_marked(text: str) -> bool:
    """Return whether an event has the mark, as far as it can be read."""
    try:
        data = json.loads(text)["dagster_event"]["event_specific_data"]
        return MARK in (data.get("materialization") or data["asset_observation"])["tags"]
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError):
        return False


def _check_reading(found: Reported) -> None:
    """Refuse the report of a source that is not well-formed."""
    values = found.values
    wrong = [name for name, kind in _READING.items() if type(values[name]) is not kind]
    files: list[Any] = [] if wrong else values["files"]
    if any([type(part) for part in file] != [str, str, int] for file in files):
        wrong.append("files")
    tracked = values.get("tracked", {})
    if not isinstance(tracked, dict) or any(not {"md5", "revision"} <= item.keys() for item in tracked.values()):
        wrong.append("tracked")
    if not wrong and not _SHA256.fullmatch(values["version"]):
        wrong.append("version")
    if not _DIGEST.fullmatch(found.digest):
        wrong.append("data version")
    if found.partition is None:
        wrong.append("partition")
    if wrong:
        raise RecordError(f"found the reading of a source with another {', '.join(wrong)} than sources have")


def _plain(entry: Mapping[str, Any]) -> Any:
    """Return the value of a metadata entry, which Dagster keeps under a name that depends on its kind."""
    return next((value for key, value in entry.items() if key != "__class__"), None)
