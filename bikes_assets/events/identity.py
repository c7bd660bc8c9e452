"""One store: a lake and the event log that records its materializations share an id, and are only used together.

Each part stores which store it belongs to, its own location, and the location of the other part: the lake in the file
`store.json`, the event log in Dagster's key-value storage. A part that is not at its stored location has been moved, or
copied where the original is still there. A lake and an event log that were copied together are a store of their own,
and get another id.

A store from before there were ids, or one with a new part, is adopted where nothing contradicts it: an event log that
names versions of these assets belongs to the lake that holds the version that it named last.
"""

from __future__ import annotations

import json
import os
import sqlite3
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

from bikes_assets.core.errors import SettingsError, StoreError
from bikes_assets.core.secrets import shown
from bikes_assets.core.transient import at_store, is_transient
from bikes_assets.events.reported import read
from bikes_assets.events.run_log import asking, remembered
from bikes_assets.storage import disk
from bikes_assets.storage.files import create_file, filesystem_of, is_remote, read_file, read_json, write_file
from bikes_assets.storage.parsed import texts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from bikes_assets.core.record import Record

    Assets: TypeAlias = Callable[[], Collection[str]]

KEY = "bikes_assets/store"
"""Key under which an event log stores which store it belongs to (Dagster's `daemon_cursor_storage`)."""
FILE = "store.json"
"""File in which a lake stores which store it belongs to."""
_OF_RUNS = "dagster_event_type = 'ASSET_MATERIALIZATION' and run_id <> ''"
"""Events that identify their store: only those of a run, because anybody may have reported one without."""
_MOST = 200
"""Number of events searched for the newest one of these assets: a Dagster home may record other projects too."""


@dataclass(frozen=True, slots=True)
class StorePart:
    """What a part of a store says about itself.

    Attributes:
        store: id of the store.
        place: where the part was when that was stored: an absolute path, or a URL without secrets.
        other: where the other part was then; "" for a lake at a URL, which several machines may share.
    """

    store: str
    place: str
    other: str


@dataclass(frozen=True, slots=True)
class Identity:
    """The store that a lake and an event log are parts of.

    Attributes:
        store: its id; "" for a new store and for a copy, which get one when something is first written to them.
        lake: what the lake should say about itself.
        log: what the event log should say about itself.
        is_log_lost: whether the lake holds versions and the event log records none.
    """

    store: str
    lake: StorePart
    log: StorePart
    is_log_lost: bool = False


_checked: dict[tuple[str, str], Identity] = {}


def check(lake: str, storage: str, assets: Assets) -> Identity:
    """Return the store that a lake and an event log are parts of; nothing is written.

    Args:
        lake: folder or URL of the lake.
        storage: DAGSTER_HOME of an instance on SQLite, or a database URL.
        assets: returns the names of the assets whose versions the event log records; called only where that has to be
            read.

    Raises:
        SettingsError: they are of two stores, or one of them is a copy without the other.
    """
    known = (lake, storage)
    if known not in _checked:
        found = _by_its_log(lake, storage) or _identify(lake, storage, assets)
        if found.is_log_lost:
            return found  # until something is written to it again
        _checked[known] = found
    return _checked[known]


def lost_log(found: Identity) -> StoreError:
    """Return the error for an event log that records nothing of what its lake holds."""
    files = (Path(found.log.place) / name for name in ("event_log.db", "history/runs.db"))
    place = next((file for file in files if file.exists() and not file.stat().st_size), found.log.place)
    return StoreError(
        f"{place}: found no record of what lies in the lake {found.lake.place}, expected its event log; name that by "
        "DAGSTER_HOME (or BIKES_DAGSTER_STORAGE), or where it is lost, run bikes sync, which writes it again from the lake"
    )


def _by_its_log(lake: str, storage: str) -> Identity | None:
    """Return the store of a lake at a URL as the event log names it; the lake, maybe unreachable, is not read."""
    log = _part_of_log(storage) if is_remote(lake) else None
    if not log or log.other != place_of(lake) or _is_copy(log, place_of(storage), _part_of_log):
        return None
    return Identity(log.store, StorePart(log.store, log.other, ""), log)


def claim(lake: str, storage: str, assets: Assets, say: Callable[[str], None], home: Path) -> Identity:
    """Write the store's id and places to a lake and an event log, where they differ, and return them.

    Args:
        lake: folder or URL of the lake.
        storage: DAGSTER_HOME of an instance on SQLite, or a database URL.
        assets: returns the names of the assets whose versions the event log records.
        say: stores a text in the event log under `KEY`.
        home: Dagster's folder on this machine, which contains the lock.

    Raises:
        SettingsError: they are of two stores, or one of them is a copy without the other.
    """
    with disk.locked(home / ".bikes_store.lock", seconds=120):
        found = _identify(lake, storage, assets)
        if not found.store:
            found = _with_id(found, uuid4().hex)
        present = part_of_lake(lake)
        if present != found.lake:
            if not present and not _create(f"{lake}/{FILE}", _text(found.lake)):
                found = _with_id(found, _required(lake).store)  # another home was first
            elif present:
                write_file(f"{lake}/{FILE}", _text(found.lake))
        if _part_of_log(storage) != found.log:
            say(json.dumps(asdict(found.log)))
        _checked[lake, storage] = replace(found, is_log_lost=False)
    return found


def part_of_lake(lake: str) -> StorePart | None:
    """Return what a lake says about itself, None where it says nothing.

    Raises:
        StoreError: its file is damaged.
    """
    content = read_file(f"{lake}/{FILE}")
    expected = (
        "which store the lake is of; restore the file, or remove it and run bikes sync, which writes it again where the event "
        "log fits"
    )
    return None if content is None else read_json(content, f"{lake}/{FILE}", _part, expected)


def place_of(location: str) -> str:
    """Return a folder or URL as parts store it: an absolute path without links, or a URL without secrets."""
    return shown(location) if is_remote(location) else os.path.realpath(location.removeprefix("file://"))


def _identify(lake: str, storage: str, assets: Assets) -> Identity:
    """Return the store of a lake and an event log; the module's docstring has the rules."""
    at_lake, at_log = place_of(lake), place_of(storage)
    of_lake, of_log = part_of_lake(lake), _part_of_log(storage)
    is_lake_copied = of_lake is not None and _is_copy(of_lake, at_lake, part_of_lake)
    is_log_copied = of_log is not None and _is_copy(of_log, at_log, _part_of_log)
    store = of_lake.store if of_lake else ""
    found = Identity(
        store, StorePart(store, at_lake, "" if is_remote(lake) else at_log), StorePart(store, at_log, at_lake)
    )
    if of_lake and of_log and of_lake.store == of_log.store and is_lake_copied == is_log_copied:
        if not is_lake_copied and _has_another(of_lake, of_log, at_lake, at_log):
            raise _of_another_lake(of_log.other, at_lake, at_log)
        known = _with_id(found, "") if is_lake_copied else found
        return replace(known, is_log_lost=_records_nothing(storage) and _has_versions(lake))
    newest = _newest(storage, assets())
    if newest is None:  # an empty event log can become that of any lake
        if of_lake and not is_lake_copied:
            _refuse_second_log(of_lake, at_lake, at_log)
        return replace(found if not is_lake_copied else _with_id(found, ""), is_log_lost=_has_versions(lake))
    if of_lake and of_log and not (is_log_copied and of_lake.store != of_log.store):
        _refuse_mixture(of_lake, of_log, at_lake, at_log, is_lake_copied=is_lake_copied)
    if of_log and not is_log_copied and of_log.other != at_lake and _has_part(of_log.other, of_log.store, part_of_lake):
        raise _of_another_lake(of_log.other, at_lake, at_log)
    if of_lake and not of_log and is_lake_copied and of_lake.other == at_log:
        raise _copied_lake(of_lake, at_lake, at_log)
    if not _has_commit(lake, newest):
        raise _without(newest.output.address, of_log.other if of_log else "", at_lake, at_log)
    if of_lake and not is_lake_copied:
        return found
    return _with_id(found, of_log.store if of_log and not is_log_copied else "")


def _refuse_mixture(of_lake: StorePart, of_log: StorePart, at_lake: str, at_log: str, *, is_lake_copied: bool) -> None:
    if of_lake.store != of_log.store:
        raise _of_another_lake(of_log.other, at_lake, at_log)
    if is_lake_copied:
        raise _copied_lake(of_lake, at_lake, at_log)
    raise SettingsError(
        f"{at_log}: found a copy of the event log {of_log.place}, whose lake is {at_lake}, expected that event log; name it by "
        "DAGSTER_HOME, or where the copy is to take its place, move it away; to have a store of its own, copy the lake too"
    )


def _copied_lake(of_lake: StorePart, at_lake: str, at_log: str) -> SettingsError:
    return SettingsError(
        f"{at_lake}: found a copy of the lake {of_lake.place}, whose event log is {at_log}, expected that lake; name it by "
        "BIKES_DATA or BIKES_LAKE, or where the copy is to take its place, move it away; to have a store of its own, copy the "
        "event log too"
    )


def _of_another_lake(lake: str, at_lake: str, at_log: str) -> SettingsError:
    return SettingsError(
        f"{at_log}: found the event log of the lake {lake}, expected that of the lake {at_lake}: a lake and its event log "
        "belong together; set BIKES_DATA alone to name a whole store, or DAGSTER_HOME (or BIKES_DAGSTER_STORAGE) and BIKES_LAKE "
        "to name the parts of one"
    )


def _without(address: str, lake: str, at_lake: str, at_log: str) -> SettingsError:
    its = f", {lake}" if lake else ""
    return SettingsError(
        f"{at_lake}: found a lake without {address}, which the event log {at_log} recorded last, expected its lake{its}; name "
        "that by BIKES_DATA or BIKES_LAKE, or restore it from a backup; to start afresh instead, move the event log and MLflow's "
        "store away"
    )


def _refuse_second_log(of_lake: StorePart, at_lake: str, at_log: str) -> None:
    """Refuse a second event log for a lake whose own is still there."""
    if of_lake.other not in ("", at_log) and _has_part(of_lake.other, of_lake.store, _part_of_log):
        raise SettingsError(
            f"{at_log}: found no event log of the lake {at_lake}, expected {of_lake.other}, which records its versions; "
            "set DAGSTER_HOME (or BIKES_DAGSTER_STORAGE) to that, or move it away: bikes sync then writes another from the lake"
        )


def _with_id(found: Identity, store: str) -> Identity:
    return replace(found, store=store, lake=replace(found.lake, store=store), log=replace(found.log, store=store))


def _part_of_log(storage: str) -> StorePart | None:
    """Return what an event log says about itself, None for nothing; a database needs its URL with password."""
    text = remembered(storage, KEY)
    return _part(json.loads(text)) if text else None


def _part(values: Any) -> StorePart:
    known = texts(values)
    return StorePart(known["store"], known["place"], known["other"])


def _text(part: StorePart) -> bytes:
    return json.dumps(asdict(part), indent=1).encode() + b"\n"


def _is_copy(part: StorePart, place: str, read: Callable[[str], StorePart | None]) -> bool:
    """Return whether a part is not at its stored location while the original is there."""
    return part.place != place and not _is_same(part.place, place) and _has_part(part.place, part.store, read)


def _has_part(place: str, store: str, read: Callable[[str], StorePart | None]) -> bool:
    """Return whether there is a part of a store at a place; True also where this user may not look."""
    if read is _part_of_log and is_remote(place):
        return False  # a database, whose password is written nowhere
    try:
        found = read(place)
    except StoreError as error:
        return not is_transient(error)
    except (PermissionError, sqlite3.Error):
        return True
    except Exception:  # noqa: BLE001 - another object store or its credentials are gone
        return False
    return bool(found) and found.store == store


def _has_another(of_lake: StorePart, of_log: StorePart, at_lake: str, at_log: str) -> bool:
    """Return whether either part has its other one elsewhere: a backup restored to two places gives two of one id."""
    return any(
        part.other not in ("", at) and not _is_same(part.other, at) and _has_part(part.other, part.store, read)
        for part, at, read in ((of_lake, at_log, _part_of_log), (of_log, at_lake, part_of_lake))
    )


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _records_nothing(storage: str) -> bool:
    with asking(storage) as ask:
        return not ask(f"select 1 from event_logs where {_OF_RUNS} limit 1")  # noqa: S608 - a text of ours


def _newest(storage: str, assets: Collection[str]) -> Record | None:
    """Return the record of the last version of one of these assets in an event log, None where it holds none."""
    names = {f"asset_{number}": json.dumps([asset]) for number, asset in enumerate(assets)}
    query = (
        f"select id, run_id, asset_key, partition, event from event_logs where {_OF_RUNS} "  # noqa: S608 - texts of ours
        f"and asset_key in ({', '.join(f':{name}' for name in names)}) order by id desc limit {_MOST}"
    )
    with asking(storage) as ask:
        return next((event.record for event in read(ask(query, **names), None) if event.record), None)


def _has_commit(lake: str, record: Record) -> bool:
    """Return whether a lake has exactly the commit of a record: two stores may hold the same content."""
    output = record.output
    content = read_file(f"{lake}/{output.asset}/_delta_log/{int(output.version):020}.json") or b""
    for line in content.splitlines():
        known = json.loads(json.loads(line).get("commitInfo", {}).get("record", "{}"))
        if known:
            same = {"made_by": record.made_by, "time": record.time}
            return known["output"]["digest"] == output.digest and all(known.get(x) == same[x] for x in same)
    return False


def _has_versions(lake: str) -> bool:
    """Return whether anything was ever published in a lake; commit 0 of a table creates it."""
    first = f"*/_delta_log/{1:020}.json"
    if is_remote(lake):
        filesystem, folder = filesystem_of(lake)
        with at_store(lake):
            return bool(filesystem.glob(f"{folder}/{first}"))
    return any(Path(lake.removeprefix("file://")).glob(first))


def _required(lake: str) -> StorePart:
    part = part_of_lake(lake)
    assert part  # noqa: S101 - it was found before
    return part


def _create(location: str, content: bytes) -> bool:
    """Create a file atomically, and return whether there was none: of many writers at once, one succeeds."""
    if is_remote(location):
        return create_file(location, content)
    return disk.create(Path(location.removeprefix("file://")), content)
