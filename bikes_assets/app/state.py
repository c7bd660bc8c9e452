"""The current state and which of it is stale. It does not import Dagster: the plan of its definitions is remembered."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bikes_assets.app.settings import settings
from bikes_assets.app.store import (
    assets,
    current,
    current_identity,
    definitions,
    is_own,
    lake,
    last_plan,
    plan_memory,
    stored_plan,
    table,
    used,
)
from bikes_assets.core.address import Address
from bikes_assets.core.digest import file_digest
from bikes_assets.core.errors import LineageError, SettingsError
from bikes_assets.core.record import Record
from bikes_assets.core.staleness import CurrentState, Key, Materialized, Plan, Reason, Status, staleness_of
from bikes_assets.events import run_log
from bikes_assets.orchestration import reconcile_marks
from bikes_assets.storage.checksums import write_memory
from bikes_assets.storage.sources.readers import reader_for
from bikes_assets.storage.sources.source_state import SourceState, observe, partition_digests, remembered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def digests_of(asset: str, source: str, query: str | None) -> Mapping[str, str]:
    """Return the digest of each partition's rows in another source of an external asset.

    Args:
        asset: the external asset.
        source: path or URL.
        query: SQL query, if it is a database.

    Raises:
        LineageError: it cannot be read, or has another layout.
    """
    reader, format_ = current().sources[asset]
    known = reader()
    other = reader_for(source, columns=known.columns, date_column=known.date_column, query=query, altered="mark")
    return {key: digest for key, (digest, _) in partition_digests(other.read(), format_).items()}


def observed() -> dict[str, SourceState]:
    """Return the current content of each source, by external asset; it is read only if it may have changed.

    Raises:
        DataError: a source is missing, damaged, or has another layout.
        SettingsError: none of the months to work on are in the source.
    """
    found: dict[str, SourceState] = {}
    for asset, (reader, format_) in current().sources.items():
        known = reader()
        of = repr((vars(known), settings().first_month, settings().last_month)) + code_stamp()
        found[asset] = observe(known, format_, _source_memory(asset), file_digest(of.encode()))
    return found


def now(sources: Mapping[str, SourceState] | None = None) -> CurrentState:
    """Return the current state of every asset and of its external inputs.

    Args:
        sources: content of the sources, by external asset; by default as it was last read.
    """
    ended, at_work = run_log.runs_of(current().events)  # before the lake: what ends in between is already there
    found = CurrentState(ended=ended, at_work=at_work)
    for name in current().sources:
        if source := sources.get(name) if sources else remembered(_source_memory(name)):
            found.materialized |= {
                (name, key): Materialized(digest, source.since[key]) for key, digest in source.digests.items()
            }
            found.empty[name] = Materialized(source.empty, 0.0)
    for asset in assets():
        published, altered = lake().look(table(asset))
        found.materialized |= {
            (asset, key): Materialized.of(Record.from_dict(item.record)) for key, item in published.items()
        }
        found.altered |= {(asset, key): what for key, what in altered.items()}
    return found


def statuses(addresses: Sequence[str] = ()) -> list[Status]:
    """Return the status of partitions, upstream assets first; the source is read if it may have changed.

    Args:
        addresses: assets or partitions; all by default.

    Raises:
        DataError: the source cannot be read.
        LineageError: no such asset or partition exists, or an address names a column, a version or an alias.
    """
    known = plan()
    found = staleness_of(known, now(observed()))
    wanted: set[Key] = set()
    for address in addresses:
        named = Address.parse(address)
        if named is None or named.column is not None or named.version is not None:
            raise LineageError(
                f"found {address!r}, expected an asset or a partition, such as demand_features or demand_features[2012-08], "
                "without column, version or alias"
            )
        if named.asset not in known.nodes:
            raise LineageError(f"found {address!r}, expected an asset or a partition of one: {', '.join(known.nodes)}")
        keys = {key for key in found if key[0] == named.asset and named.partition in (None, key[1])}
        if not keys:
            partitions = known.nodes[named.asset].partitions
            if partitions in ((), (None,)):
                raise LineageError(f"found {address!r}, expected an asset with partitions: {named.asset} has none")
            raise LineageError(
                f"found partition {named.partition} of {named.asset}, expected one from {partitions[0]} to {partitions[-1]}"
            )
        wanted |= keys
    return [status for key, status in found.items() if not addresses or key in wanted]


def stores() -> reconcile_marks.Stores:
    """Return the stores to reconcile, and where the marks of the last reconciliation are kept."""
    known = current()
    return reconcile_marks.Stores(
        known.lake.location, tuple(assets()), known.events, known.mlflow, known.data / "reconciled.json"
    )


def reconciliation() -> reconcile_marks.Reconciliation | None:
    """Return the result if nothing has changed since the last reconciliation; None if `sync` has to look."""
    known = None if current_identity().is_log_lost else reconcile_marks.is_so(stores(), run_log.BACKLOG)
    return reconcile_marks.Reconciliation(foreign=[*known.foreign], set_aside=[*known.set_aside]) if known else None


def unlogged() -> bool:
    """Return whether something is left that MLflow did not take, or that the event log lost."""
    return current_identity().is_log_lost or bool(run_log.remembered(current().events, run_log.BACKLOG))


def code_stamp() -> str:
    """Return a token that changes with the source files of this package and of the project, and their location."""
    files = {*Path(__file__).parents[1].rglob("*.py"), *_code_of(current().definitions)}
    states = [(str(file), stat.st_mtime_ns, stat.st_size) for file in sorted(files) if (stat := file.stat())]
    return file_digest(repr(states).encode())


def _code_of(definitions: str) -> Iterable[Path]:
    """Return the source files of the package of some definitions, or of the folder of a module without one."""
    spec = find_spec(definitions.partition(":")[0].partition(".")[0])
    if spec and spec.submodule_search_locations:
        return [file for folder in spec.submodule_search_locations for file in Path(folder).rglob("*.py")]
    return Path(spec.origin).parent.glob("*.py") if spec and spec.origin else ()


@cache
def loaded_stamp() -> str:
    """Return the token of the code, settings and partitions of this process; call it when definitions are loaded."""
    return plan_stamp()


def plan_stamp() -> str:
    """Return a token that changes whenever the plan may: with the code, and with what the project says beside it."""
    stamp = current().stamp
    return file_digest(f"{code_stamp()} {stamp() if stamp else ''!r}".encode())


def plan() -> Plan:
    """Return the current plan; Dagster is imported only if something that it depends on has changed, or may have."""
    current_identity()  # before anything is remembered of two mixed stores
    known, is_current = remembered_plan()
    if known and is_current and (current().stamp or plan_stamp() != loaded_stamp()):  # what is loaded here may be older
        return known
    loaded_stamp()
    return plan_of(definitions().resolve_asset_graph())


def plan_of(graph: Any) -> Plan:
    """Return the plan of the asset graph that this process loaded, after remembering it for later processes."""
    from bikes_assets.orchestration import plan as plans

    known, is_current = remembered_plan()
    is_loaded = plan_stamp() == loaded_stamp()
    if known and is_current and is_loaded and current().stamp:
        return known
    found = plans.since_first_seen(plans.plan_of(graph), known, time.time())
    if is_loaded:  # else the files have changed since
        write_memory(plan_memory(), {"stamp": loaded_stamp(), "plan": found.to_dict()})
    return found


def keep_plan_current() -> None:
    """Have a process of its own remember the plan where the code has changed since this one was started.

    A server calls it before it tells what is stale, and `loaded_stamp` when it is started: what it has loaded stays as it was.

    Raises:
        SettingsError: the definitions cannot be loaded any more.
    """
    if remembered_plan()[1] or plan_stamp() == loaded_stamp():
        return
    project = () if is_own() else ("--project", used())
    command = [sys.executable, "-m", "bikes_assets", *project, "status"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SettingsError(done.stderr.strip().removeprefix("error: "))


def remembered_plan() -> tuple[Plan | None, bool]:
    """Return the last remembered plan, None without one, and whether it still matches the code and settings."""
    plan, stamp = stored_plan()
    return (plan, stamp == plan_stamp()) if plan else (None, False)


def descriptions() -> dict[str, str]:
    """Return a one-sentence description of each asset: its function's docstring."""
    from bikes_assets.core.source_text import docstring

    plan = last_plan()
    return {asset: docstring(node.function) for asset, node in plan.nodes.items()} if plan else {}


def owners() -> dict[str, tuple[str, ...]]:
    """Return who is responsible for each asset, as far as the remembered plan knows it."""
    plan = last_plan()
    return {asset: node.owners for asset, node in plan.nodes.items()} if plan else {}


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


def reason_text(reason: Reason) -> str:
    """Return in words why a partition is not fresh; of a changed code version, with the functions that differ."""
    if reason.kind != "code":
        return str(reason)
    changes = [
        f"{name.removeprefix('bikes_assets.')} {change}"
        for name, change in changed_functions(reason.was, reason.now, reason.what).items()
    ]
    return f"{reason} ({', '.join(changes) or 'its functions were not kept'})"


def _source_memory(asset: str) -> Path:
    name = "source" if asset == next(iter(current().sources)) else quote(f"source of {asset}", safe=" ")
    return current().data / f"{name}.json"
