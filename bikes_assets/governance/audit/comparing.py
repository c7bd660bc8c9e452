"""An audit log beside the records of its store: what has no entry, whose record is gone, and what says something else."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from bikes_assets.core.errors import StoreError
from bikes_assets.governance.audit import facts
from bikes_assets.governance.audit.checking import AuditFinding
from bikes_assets.storage.commits import read_commit
from bikes_assets.storage.delta_log import versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bikes_assets.governance.audit.entries import AuditEntry, AuditFact
    from bikes_assets.storage.lake import Lake


def differences(lake: Lake, assets: Iterable[str], entries: Iterable[AuditEntry]) -> list[AuditFinding]:
    """Return how the entries of a log differ from the records of a lake, the earliest entry first.

    Args:
        lake: the lake.
        assets: assets with a table; those that entries name are looked at, too.
        entries: the entries of the whole log.
    """
    logged: dict[str, AuditEntry] = {}
    found: list[AuditFinding] = []
    tables = {*assets}
    for entry in entries:
        record = entry.fact.record
        if record in logged:
            found.append(_finding(entry, f"{record} has entry {logged[record].number} already"))
        elif record:
            logged[record] = entry
            tables.add(record.rpartition("/_delta_log/")[0])
    for record, read in _records(lake, sorted(tables - {""})):
        entry = logged.pop(record, None)
        try:
            fact = read()
        except StoreError as error:
            found.append(_finding(entry, str(error)) if entry else AuditFinding("unlogged", str(error)))
            continue
        if fact and entry is None:
            found.append(AuditFinding("unlogged", f"{_named(fact)}: its record {record} has no entry"))
        elif entry and fact != entry.fact:
            found.append(_finding(entry, _differing(entry.fact, fact)))
    found += [
        _finding(entry, f"its record {record} is gone from {lake.location}, and nothing removes records")
        for record, entry in logged.items()
    ]
    return sorted(found, key=lambda item: (item.number is None, item.number or 0, item.what))


def _records(lake: Lake, tables: Iterable[str]) -> Iterator[tuple[str, Callable[[], AuditFact | None]]]:
    """Yield each record of a lake, and what reads the fact that it tells."""
    for asset in tables:
        for version in versions(lake.uri(asset)):

            def commit(asset: str = asset, version: int = version) -> AuditFact | None:
                found = read_commit(lake.uri(asset), version)
                return found and facts.of_commit(lake, asset, found)

            yield facts.record_of(asset, version), commit
    for record in facts.records(lake):
        yield record, lambda record=record: facts.of_file(lake, record)


def _differing(logged: AuditFact, fact: AuditFact | None) -> str:
    """Return in words how a record differs from its entry."""
    if fact is None:
        return f"its record {logged.record} tells nothing any more"
    one, other = asdict(logged), asdict(fact)
    if one["digests"].get("record") != other["digests"].get("record"):
        return f"its record {logged.record} was changed: found another SHA-256"
    names = ", ".join(name for name in one if one[name] != other[name])
    return f"it differs in {names} from its record {logged.record}, which is unchanged"


def _finding(entry: AuditEntry, what: str) -> AuditFinding:
    return AuditFinding("record", f"entry {entry.number} ({_named(entry.fact)}): {what}", entry.number)


def _named(fact: AuditFact) -> str:
    more = f" and {len(fact.subjects) - 1} more" if fact.kind in ("removal", "withdrawal") and fact.subjects[1:] else ""
    return f"{fact.kind} of {fact.subjects[0]}{more}" if fact.subjects else fact.kind
