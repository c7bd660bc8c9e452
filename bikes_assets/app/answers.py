"""Answers to lineage questions, for the command line, notebooks and pages; it imports none of the heavy libraries.

```python
from bikes_assets import answers

answers.downstream("hourly_rentals.weathersit").counts       # {'column': 11, 'alias': 1}
answers.upstream("demand_predictions[2012-08]", depth=1).things
answers.diff("demand_model@3", "demand_model@champion").causes
answers.trace("demand_predictions.prediction[2012-08]#2012-08-14T17:00").values[0].computed_from  # the features' values
```
"""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass
from functools import cache
from threading import get_ident
from typing import TYPE_CHECKING

from bikes_assets.app.store import columns, current, current_identity, lake, last_plan, source_files
from bikes_assets.core.address import Address
from bikes_assets.core.code_version import columns_computed_by
from bikes_assets.core.errors import LineageError
from bikes_assets.core.record import parse_address
from bikes_assets.core.transient import away, store_error
from bikes_assets.events import identity
from bikes_assets.lineage import event_log, queries
from bikes_assets.lineage.elements import COLUMN, DATASET
from bikes_assets.lineage.index import Index
from bikes_assets.lineage.projection import Projection
from bikes_assets.lineage.questions import Questions
from bikes_assets.storage.checksums import DamagedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from bikes_assets.app.versions import HistoryEntry
    from bikes_assets.core.staleness import Plan
    from bikes_assets.lineage.diff import Difference
    from bikes_assets.lineage.elements import Answer, Direction
    from bikes_assets.lineage.trace import Tracer
    from bikes_assets.lineage.trace_result import Trace
    from bikes_assets.lineage.tree import Branch
    from bikes_assets.lineage.waste import Waste


_LOG = logging.getLogger(__name__)


_QUESTIONS = Questions(lambda: joined())
upstream, downstream = _QUESTIONS.upstream, _QUESTIONS.downstream
paths, search = _QUESTIONS.paths, _QUESTIONS.search


def tree(answer: Answer, direction: Direction, *, as_of: str | datetime | None = None) -> list[Branch]:
    """Return an answer of `upstream` or `downstream` as a tree; partitions and versions are grouped into ranges.

    Args:
        answer: the answer, or a part of it.
        direction: which question it answers.
        as_of: the time that was asked about.
    """
    from bikes_assets.lineage import tree as module

    index, event = moment(as_of)
    return module.tree(index, answer.things, direction, as_of=event)


def moment(as_of: str | datetime | None) -> tuple[Index, int | None]:
    """Return the updated index, with what other tools tell, and its last event by a time, None for now."""
    return _QUESTIONS.at(as_of)


def functions() -> Mapping[str, str]:
    """Return the dotted name of the function that materializes each asset, as far as the remembered plan knows it."""
    plan = last_plan()
    return {asset: node.function for asset, node in plan.nodes.items()} if plan else {}


def named(address: str, *, as_of: str | datetime | None = None) -> str:
    """Return an address with the version that it resolves to, such as `demand_model@3 (demand_model[2011-05]@3)`."""
    index, event = moment(as_of)
    found = queries.find(index, address, as_of=event)
    version = queries.version_named(index, found, as_of=event).name
    return address if version == found.name else f"{address} ({version})"


def begun(text: str) -> list[str]:
    """Return the addresses that begin with a text, from the index as it is: completion cannot wait for an update."""
    return queries.begun(_with_received(_index()), text) if _index().path.exists() else []


@dataclass(frozen=True, slots=True)
class ChangedAsset:
    """Code that differs from that of the last materialization.

    Attributes:
        asset: the asset that the code materializes.
        functions: change of each function that differs: `changed`, `new` or `gone`.
        columns: columns of the asset that these functions contribute to.
    """

    asset: str
    functions: Mapping[str, str]
    columns: tuple[str, ...]


def changed(plan: Plan) -> tuple[list[ChangedAsset], Answer]:
    """Return where the code in the working tree differs from the last materialization, and everything downstream of it.

    Args:
        plan: the current plan of the definitions; see `state.plan`.
    """
    from bikes_assets.app import state

    index, made = refreshed(), state.now().materialized
    found: list[ChangedAsset] = []
    for asset, node in plan.nodes.items():
        was = {made[asset, key].code_version for key in node.partitions if (asset, key) in made} - {node.code_version}
        functions = {
            name: became
            for version in was
            for name, became in state.changed_functions(version, node.code_version, node.function).items()
        }
        if was:
            names = [str(item.column) for item in index.within(COLUMN, asset)]
            found.append(ChangedAsset(asset, functions, columns_computed_by(functions, names, node.function)))
    starts = [(COLUMN, str(Address(change.asset, name))) for change in found for name in change.columns]
    return found, index.walk(starts, "downstream")


def history(address: str) -> list[HistoryEntry]:
    """Return every version of a partition, oldest first, why it was materialized and what changed; [] without versions.

    Args:
        address: of a partition, such as `demand_features[2012-08]`.
    """
    from bikes_assets.app import versions

    asset, partition, _ = parse_address(address)
    plan = last_plan()
    return versions.history(asset, partition, plan.nodes[asset].function if plan and asset in plan.nodes else asset)


def waste() -> Waste:
    """Return what nobody reads, what was rematerialized unchanged, and where the time goes."""
    from bikes_assets.events.run_log import seconds_of
    from bikes_assets.lineage import waste as module

    return module.waste(joined(), *seconds_of(current().events))


def diff(a: str, b: str) -> Difference:
    """Return how two versions of one asset differ, and why, down to the external rows, the code and the settings.

    Args:
        a: address of the first: `demand_model@3`, `demand_model@champion`, `demand_model[2012-08]@18`, or
            `demand_model[2012-08]` for its current version.
        b: address of the second.

    Raises:
        LineageError: there is no such version, or they belong to two assets.
    """
    from bikes_assets.app import versions
    from bikes_assets.lineage.diff import explain

    index = refreshed()
    one, other = versions.record_of(index, a), versions.record_of(index, b)
    if one.output.asset != other.output.asset:
        raise LineageError(
            f"found {one.output.address} and {other.output.address}, expected two versions of one asset; "
            "what one was materialized from: bikes upstream"
        )
    return explain(one, other, versions.Stored(index))


def trace(address: str) -> Trace:
    """Return where one row's values came from: the model, features, raw rows and source file, as recorded.

    Everything is read from the lake and its digest is verified; see `lineage.trace_result.Trace`.

    Args:
        address: `demand_predictions[2012-08]#2012-08-14T17:00`; with a column,
            `demand_predictions.prediction[2012-08]#...`, for that column alone; with a table version,
            `demand_predictions[2012-08]@18#...`, as of that version. The values of several key columns are given in
            their order, separated by commas.

    Raises:
        LineageError: no such table, column, partition, version or row exists; the message lists those that do.
        DigestError: the stored rows are not those that were published, or not those that a record says were read.
    """
    return tracer().trace(address)


def tracer() -> Tracer:
    """Return a tracer for several rows, which reads and verifies each version only once."""
    from bikes_assets.lineage.trace import Derivations, Tracer

    return Tracer(lake(), current().derivations or Derivations({}, {}, {}), source_files())


def refreshed() -> Index:
    """Return the index, updated from Dagster's event log; a damaged index is rebuilt, and a log message says so.

    Raises:
        SettingsError: the event log belongs to another store than the lake.
        StoreError: the event log no longer exists.
    """
    found = current_identity()
    if found.is_log_lost:
        raise identity.lost_log(found)
    index = _index()
    try:
        index.check()
    except (DamagedError, sqlite3.DatabaseError) as error:
        if store_error(error, str(index.path)) or away(error):
            raise
        _LOG.warning("%s: the lineage index was damaged (%s); it is rebuilt from the event log", index.path, error)
        index.remove()
    return event_log.refresh(index, current().events, _projection)


def joined() -> Index:
    """Return the updated index, together with what other tools tell of lineage, where they do; see `refreshed`."""
    return _with_received(refreshed())


def _with_received(index: Index) -> Index:
    from bikes_assets.app.openlineage import received

    if not received.file().exists():
        return index
    from bikes_assets.lineage.openlineage.joined import JoinedIndex

    return JoinedIndex(index, received.received(), received.names(index))


def as_last_updated() -> tuple[Index, list[str]]:
    """Return the index as the last question left it, with what other tools tell, and which of its datasets are the project's.

    It is not updated, which needs the definitions: so they can ask it while they are loaded.
    """
    index = _index()
    if not index.path.exists():
        return index, []
    return _with_received(index), index.names(DATASET)


def _projection(index: Index) -> Projection:
    from bikes_assets.app import state

    return Projection(index, columns(), current().lake.serving, described=state.descriptions())


def last_event_time() -> float | None:
    """Return when the last event happened that answers know, other tools' too, Unix seconds; None before the first."""
    return joined().last_time()


def rebuild() -> Index:
    """Return the index after rebuilding it from scratch."""
    _index().remove()
    return refreshed()


def _index() -> Index:
    return _index_of(get_ident(), current().data / "lineage.db")


@cache
def _index_of(thread: int, file: Path) -> Index:  # noqa: ARG001 - a SQLite connection is bound to one thread
    return Index(file)
