"""Answers to lineage questions, for the command line, notebooks and pages; it imports none of the heavy libraries.

```python
from bikes_assets import answers

answers.downstream("hourly_rentals.weathersit").counts       # {'column': 11, 'alias': 1}
answers.upstream("demand_predictions[2012-08]", depth=1).things
answers.diff("demand_model@3", "demand_model@champion").causes
answers.trace("demand_predictions.prediction[2012-08]#2012-08-14T17:00").values[0].made_from  # the features' values
```
"""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass
from functools import cache
from threading import get_ident
from typing import TYPE_CHECKING

from bikes_assets.app.settings import settings
from bikes_assets.core.address import Address
from bikes_assets.core.code_version import columns_made_by
from bikes_assets.core.errors import LineageError
from bikes_assets.core.faults import away, store_fault
from bikes_assets.core.record import parse_address
from bikes_assets.events import identity
from bikes_assets.lineage import event_log, queries
from bikes_assets.lineage.index import Index
from bikes_assets.lineage.projection import COLUMN, Projection
from bikes_assets.storage.checksums import DamagedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from bikes_assets.app.versions import Making
    from bikes_assets.core.staleness import Plan
    from bikes_assets.lineage.diff import Difference
    from bikes_assets.lineage.index import Answer, Found
    from bikes_assets.lineage.packed import Direction
    from bikes_assets.lineage.trace import Tracer
    from bikes_assets.lineage.trace_result import Trace
    from bikes_assets.lineage.tree import Branch
    from bikes_assets.lineage.waste import Waste


_LOG = logging.getLogger(__name__)


def upstream(
    address: str, *, level: str | None = None, depth: int | None = None, as_of: str | datetime | None = None
) -> Answer:
    """Return everything that contributed to what an address names, nearest first.

    Args:
        address: a dataset, column, partition, version, column of a version, model version, alias, tag, file, code or
            run.
                An alias or a registered model version is resolved to the version that it names.
        level: kind of the things to return, one of `lineage.queries.KINDS` such as `column`; by default that of the
            address.
        depth: largest number of edges to follow, None for no limit.
        as_of: answer as of this time, such as 2012-08-14T17:00; without an offset it is local time. None for now.

    Raises:
        LineageError: nothing had that name at that time.
    """
    index = refreshed()
    return queries.walk(index, address, "upstream", level=level, depth=depth, as_of=queries.event_by(index, as_of))


def downstream(
    address: str, *, level: str | None = None, depth: int | None = None, as_of: str | datetime | None = None
) -> Answer:
    """Return everything that what an address names contributed to, nearest first: its impact. See `upstream`."""
    index = refreshed()
    return queries.walk(index, address, "downstream", level=level, depth=depth, as_of=queries.event_by(index, as_of))


def tree(answer: Answer, direction: Direction, *, as_of: str | datetime | None = None) -> list[Branch]:
    """Return an answer of `upstream` or `downstream` as a tree; partitions and versions are grouped into ranges.

    Args:
        answer: the answer, or a part of it.
        direction: which question it answers.
        as_of: the time that was asked about.
    """
    from bikes_assets.lineage import tree as module

    index = refreshed()
    return module.tree(index, answer.things, direction, as_of=queries.event_by(index, as_of))


def functions() -> Mapping[str, str]:
    """Return the dotted name of the function that materializes each asset, as far as the remembered plan knows it."""
    from bikes_assets.app import state

    plan = state.last_plan()
    return {asset: node.function for asset, node in plan.nodes.items()} if plan else {}


def named(address: str, *, as_of: str | datetime | None = None) -> str:
    """Return an address with the version that it resolves to, such as `demand_model@3 (demand_model[2011-05]@3)`."""
    index = refreshed()
    event = queries.event_by(index, as_of)
    found = queries.find(index, address, as_of=event)
    version = queries.version_named(index, found, as_of=event).name
    return address if version == found.name else f"{address} ({version})"


def paths(start: str, end: str, *, as_of: str | datetime | None = None) -> tuple[int, Iterator[list[Found]]]:
    """Return how many paths lead from one thing downstream to another, and the paths themselves."""
    index = refreshed()
    return queries.paths(index, start, end, as_of=queries.event_by(index, as_of))


def search(words: str, *, most: int = 50) -> list[Found]:
    """Return what matches all words, by whole word or prefix: datasets and columns (name, meaning, unit), models, tags.

    Tracked files are found by name, MD5 and revision.
    """
    return refreshed().search(words, most=most)


def begun(text: str) -> list[str]:
    """Return the addresses that begin with a text, from the index as it is: completion cannot wait for an update."""
    return queries.begun(_index(), text) if _index().path.exists() else []


@dataclass(frozen=True, slots=True)
class Change:
    """Code that differs from that of the last materialization.

    Attributes:
        asset: the asset that the code materializes.
        functions: change of each function that differs: `changed`, `new` or `gone`.
        columns: columns of the asset that these functions contribute to.
    """

    asset: str
    functions: Mapping[str, str]
    columns: tuple[str, ...]


def changed(plan: Plan) -> tuple[list[Change], Answer]:
    """Return where the code in the working tree differs from the last materialization, and everything downstream of it.

    Args:
        plan: the current plan of the definitions; see `bikes_assets.cli.runner.plan`.
    """
    from bikes_assets.app import state

    index, made = refreshed(), state.now().made
    found: list[Change] = []
    for asset, node in plan.nodes.items():
        was = {made[asset, key].code_version for key in node.partitions if (asset, key) in made} - {node.code_version}
        functions = {
            name: became
            for version in was
            for name, became in state.changed_functions(version, node.code_version, node.function).items()
        }
        if was:
            names = [str(item.column) for item in index.within(COLUMN, asset)]
            found.append(Change(asset, functions, columns_made_by(functions, names, node.function)))
    starts = [(COLUMN, str(Address(change.asset, name))) for change in found for name in change.columns]
    return found, index.walk(starts, "downstream")


def makings(address: str) -> list[Making]:
    """Return every version of a partition, oldest first, why it was materialized and what changed; [] without versions.

    Args:
        address: of a partition, such as `demand_features[2012-08]`.
    """
    from bikes_assets.app import state, versions

    asset, partition, _ = parse_address(address)
    plan = state.last_plan()
    return versions.makings(asset, partition, plan.nodes[asset].function if plan and asset in plan.nodes else asset)


def waste() -> Waste:
    """Return what nobody reads, what was rematerialized unchanged, and where the time goes."""
    from bikes_assets.events.run_log import seconds_of
    from bikes_assets.lineage import waste as module

    return module.waste(refreshed(), *seconds_of(settings().event_storage))


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
            "what one was made from: bikes upstream"
        )
    return explain(one, other, versions.Stored(index))


def trace(address: str) -> Trace:
    """Return where one row's values came from: the model, features, raw rows and source file, as recorded.

    Everything is read from the lake and its digest is verified; see `lineage.trace_result.Trace`.

    Args:
        address: `demand_predictions[2012-08]#2012-08-14T17:00`; with a column,
            `demand_predictions.prediction[2012-08]#...`,
                for that column alone; with a table version, `demand_predictions[2012-08]@18#...`, as of that version.
                The values of several key columns are given in their order, separated by commas.

    Raises:
        LineageError: no such table, column, partition, version or row exists; the message lists those that do.
        DigestError: the stored rows are not those that were published, or not those that a record says were read.
    """
    return tracer().trace(address)


def tracer() -> Tracer:
    """Return a tracer for several rows, which reads and verifies each version only once."""
    from bikes_assets.app import derivations  # imports every feature: other questions need none of it

    return derivations.tracer()


def refreshed() -> Index:
    """Return the index, updated from Dagster's event log; a damaged index is rebuilt, and a log message says so.

    Raises:
        SettingsError: the event log belongs to another store than the lake.
        StoreError: the event log no longer exists.
    """
    current = _identity()
    if current.is_log_lost:
        raise identity.lost_log(current)
    index = _index()
    try:
        index.check()
    except (DamagedError, sqlite3.DatabaseError) as error:
        if store_fault(error, str(index.path)) or away(error):
            raise
        _LOG.warning("%s: the lineage index was damaged (%s); it is rebuilt from the event log", index.path, error)
        index.remove()
    return event_log.refresh(index, settings().event_storage, _projection)


def _identity() -> identity.Identity:
    return identity.check(settings().lake_location, settings().event_storage, _assets)


def _assets() -> tuple[str, ...]:
    from bikes_assets.app.store import ASSETS

    return ASSETS


def _projection(index: Index) -> Projection:
    from bikes_assets.app import state
    from bikes_assets.app.store import COLUMNS, SERVING  # imports every feature: most questions need none of it

    return Projection(index, COLUMNS, SERVING, described=state.descriptions())


def rebuild() -> Index:
    """Return the index after rebuilding it from scratch."""
    _index().remove()
    return refreshed()


def _index() -> Index:
    return _index_of(get_ident())


@cache
def _index_of(thread: int) -> Index:  # noqa: ARG001 - a SQLite connection is bound to one thread
    return Index(settings().data_folder / "lineage.db")
