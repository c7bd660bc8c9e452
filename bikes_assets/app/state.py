"""The current state and which of it is stale. It does not import Dagster: the plan of its definitions is remembered."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bikes_assets.app.settings import settings
from bikes_assets.app.store import ASSETS, current_identity, lake, table
from bikes_assets.core.digest import file_digest
from bikes_assets.core.errors import DataError, SettingsError
from bikes_assets.core.record import Record
from bikes_assets.core.staleness import Made, Plan, Present
from bikes_assets.demand import source
from bikes_assets.demand.tables import RENTAL_RECORDS
from bikes_assets.events import run_log
from bikes_assets.orchestration import agreed
from bikes_assets.storage.memory import read_memory, write_memory
from bikes_assets.storage.sources.readers import Reader, reader_for
from bikes_assets.storage.sources.source_state import Observed, SourceFormat, observe, remembered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bikes_assets.storage.sources.dvc import Altered

SOURCE = SourceFormat(
    lambda raw: source.parse(raw.frame, raw.locate),
    source.months_in,
    source.month_of,
    RENTAL_RECORDS,
)
"""How the source is read: its parser, months, rows of a month, and columns."""


def source_reader() -> Reader:
    """Return a reader of the source that the settings name."""
    known = settings()
    return _reader(known.source_location, known.source_query, known.dvc)


def digests_of(source: str, query: str | None) -> Mapping[str, str]:
    """Return the digest of each month's rows in any source.

    Args:
        source: path or URL.
        query: SQL query, if it is a database.

    Raises:
        LineageError: it cannot be read, or has another layout.
    """
    from bikes_assets.storage.sources.source_state import partition_digests

    return {
        month: digest for month, (digest, _) in partition_digests(_reader(source, query, "mark").read(), SOURCE).items()
    }


def _reader(source: str, query: str | None, altered: Altered) -> Reader:
    return reader_for(source, columns=RENTAL_RECORDS.names, date_column="dteday", query=query, altered=altered)


def source_months() -> tuple[str, str]:
    """Return the first and last month to work on: as set, else those of the source.

    The source's months are remembered with its fingerprint, so that loading definitions does not read an unchanged
    source again, and still works while the source is unavailable.

    Raises:
        DataError: the source cannot be read, and its months are not remembered.
        SettingsError: the first month to work on is later than the source's last, or the last earlier than its first.
    """
    known, memory = settings(), settings().data_folder / "months.json"
    if known.first_month and known.last_month:
        return known.first_month, known.last_month
    reader, kept = source_reader(), read_memory(memory, _span) or {}
    try:
        fingerprint = reader.fingerprint()
        if not fingerprint or (kept.get("source"), kept.get("fingerprint")) != (_source(), fingerprint):
            kept = {"source": _source(), "fingerprint": fingerprint, "span": reader.span()}
            write_memory(memory, kept)
    except DataError:
        if kept.get("source") != _source():
            raise
    first, last = kept["span"]
    _check_months(first, last)
    return str(known.first_month or first), str(known.last_month or last)


def _check_months(first: str, last: str) -> None:
    """Refuse months that all lie before the source's, or all after; any other month without rows is an empty one."""
    known = settings()
    if known.first_month and known.first_month > last:
        name, month = "BIKES_FIRST_MONTH", known.first_month
    elif known.last_month and known.last_month < first:
        name, month = "BIKES_LAST_MONTH", known.last_month
    else:
        return
    raise SettingsError(f"{name}: found {month}, expected one that the source may have: {first} to {last}")


def observed() -> Observed:
    """Return the source's current content; it is read only if it may have changed.

    Raises:
        DataError: the source is missing, damaged, or has another layout.
        SettingsError: none of the months to work on are in the source.
    """
    found = observe(source_reader(), SOURCE, _source_memory(), file_digest((_source() + code_stamp()).encode()))
    months = [month for month, rows in found.rows.items() if rows]
    if months:  # if both ends are set, definitions are loaded without the source
        _check_months(min(months), max(months))
    return found


def now(source: Observed | None = None) -> Present:
    """Return the current state of every asset and of its external inputs.

    Args:
        source: content of the source; by default as it was last read.
    """
    ended, at_work = run_log.runs_of(settings().event_storage)  # before the lake: what ends in between is already there
    found = Present(ended=ended, at_work=at_work)
    if source := source or remembered(_source_memory()):
        found.made |= {
            (RENTAL_RECORDS.name, month): Made(digest, source.since[month]) for month, digest in source.digests.items()
        }
        found.empty[RENTAL_RECORDS.name] = Made(source.empty, 0.0)
    for asset in ASSETS:
        published, altered = lake().look(table(asset))
        found.made |= {(asset, key): Made.of(Record.from_dict(item.record)) for key, item in published.items()}
        found.altered |= {(asset, key): what for key, what in altered.items()}
    return found


def stores() -> agreed.Stores:
    """Return the stores to reconcile, and where the marks of the last reconciliation are kept."""
    known = settings()
    memory = known.data_folder / "agreed.json"
    return agreed.Stores(known.lake_location, ASSETS, known.event_storage, known.tracking_uri, memory)


def agreement() -> agreed.Agreement | None:
    """Return the result if nothing has changed since the last reconciliation; None if `sync` has to look."""
    known = None if current_identity().is_log_lost else agreed.is_so(stores(), run_log.BACKLOG)
    return agreed.Agreement(foreign=[*known.foreign], set_aside=[*known.set_aside]) if known else None


def unlogged() -> bool:
    """Return whether something is left that MLflow did not take, or that the event log lost."""
    return current_identity().is_log_lost or bool(run_log.remembered(settings().event_storage, run_log.BACKLOG))


def code_stamp() -> str:
    """Return a token that changes with this package's source files and their location."""
    root = Path(__file__).parents[1]
    files = sorted(root.rglob("*.py"))
    states = [(str(file), stat.st_mtime_ns, stat.st_size) for file in files if (stat := file.stat())]
    return file_digest(repr(states).encode())


@cache
def loaded_stamp() -> str:
    """Return the token of the code, settings and months of this process; call it when definitions are loaded."""
    return plan_stamp()


def plan_stamp() -> str:
    """Return a token that changes whenever the plan may: with the code, the settings, or the months of the source."""
    return file_digest(f"{code_stamp()} {settings()!r} {source_months()}".encode())


def remembered_plan() -> tuple[Plan | None, bool]:
    """Return the last remembered plan, None without one, and whether it still matches the code and settings."""
    plan, stamp = _memorized()
    return (plan, stamp == plan_stamp()) if plan else (None, False)


def last_plan() -> Plan | None:
    """Return the last remembered plan, whatever its code and settings; None without one."""
    return _memorized()[0]


def _memorized() -> tuple[Plan | None, str]:
    known = read_memory(_plan_memory(), lambda values: (Plan.from_dict(values["plan"]), str(values["stamp"])))
    return known or (None, "")


def remember_plan(plan: Plan, stamp: str) -> None:
    """Remember the plan of definitions that were loaded when a stamp was taken."""
    write_memory(_plan_memory(), {"stamp": stamp, "plan": plan.to_dict()})


def descriptions() -> dict[str, str]:
    """Return a one-sentence description of each asset: its function's docstring."""
    from bikes_assets.core.source_text import docstring

    plan = last_plan()
    return {asset: docstring(node.function) for asset, node in plan.nodes.items()} if plan else {}


def changed_functions(was: str, now: str, function: str) -> Mapping[str, str]:
    """Return the functions that differ between two code versions: name to change.

    Args:
        was: the older code version, stored in the lake; if it is not, nothing is returned.
        now: the newer one, stored in the lake or that of the current code.
        function: dotted name of the function that makes the asset.
    """
    from bikes_assets.core.code_version import code_version_of, reached_code
    from bikes_assets.core.source_text import function_digests
    from bikes_assets.lineage import diff

    before, after = lake().code(was), lake().code(now)
    if after is None:
        module, _, name = function.rpartition(".")
        reached = reached_code(module, name)
        after = function_digests(reached) if code_version_of(reached) == now else None
    return {} if before is None or after is None else diff.changed_functions(before, after)


def _source() -> str:
    """Return a text that identifies the source; hashed, for it may contain a password."""
    return file_digest(repr((settings().source_location, settings().source_query)).encode())


def _span(values: Any) -> dict[str, Any]:
    first, last = values["span"]
    return {"source": values["source"], "fingerprint": values["fingerprint"], "span": (first, last)}


def _source_memory() -> Path:
    return settings().data_folder / "source.json"


def _plan_memory() -> Path:
    return settings().data_folder / "plan.json"
