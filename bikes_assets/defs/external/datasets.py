"""Datasets of other tools as external assets: Dagster's graph shows where the project's come from, and what they feed.

They are those that other tools' OpenLineage events tell of, as they were when the definitions were loaded. Dagster runs
none of them. An asset that Dagster runs gets no dependency from events: what runs by itself does not depend on them.
"""

from __future__ import annotations

import logging
import re
import sqlite3
from typing import TYPE_CHECKING, Any

import dagster as dg

from bikes_assets.app.settings import settings
from bikes_assets.core.address import Address
from bikes_assets.core.errors import LineageError
from bikes_assets.lineage.elements import COLUMN, DATASET, JOB
from bikes_assets.lineage.index import in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from bikes_assets.lineage.elements import Direction, Result
    from bikes_assets.lineage.index import Index

_LOG = logging.getLogger(__name__)
MOST = 200
"""Number of datasets that are shown: each costs time whenever the definitions are loaded."""
_GROUP = "external"
"""Group of datasets of which no tool is known that writes them."""
_MOST_OF_WORD = 50
"""Length of the name of a group or kind, of which Dagster takes 63 characters with its own prefix."""


@dg.definitions
def external() -> dg.Definitions:
    """Return the external assets; none where the setting is off, or where the events cannot be read."""
    return dg.Definitions(assets=_where_wanted(external_assets))


def feeding(asset: str) -> list[dg.AssetKey]:
    """Return the datasets of other tools that one of the project's own external assets is computed from.

    One that is computed from the asset, too, is left out: Dagster takes no circles.
    """

    def keys(index: Index, own: Collection[str]) -> list[dg.AssetKey]:
        after = {*own, *_reached(index, [asset], "downstream")}
        return [_key(name) for name in _next_to(index, asset, "upstream") if name not in after]

    return _where_wanted(keys)


def external_assets(index: Index, own: Collection[str], *, most: int = MOST) -> list[dg.AssetSpec]:
    """Return a spec for each dataset of other tools that is upstream or downstream of the project's assets.

    The tool that writes it is its group and one of its kinds; the job is in its metadata.

    Args:
        index: the lineage index, with what other tools tell.
        own: names of the project's datasets in it.
        most: how many datasets; the nearest are taken.
    """
    sides: tuple[Direction, ...] = ("downstream", "upstream")
    distances = {name: far for side in sides for name, far in _reached(index, own, side).items() if name not in own}
    if len(distances) > most:
        _LOG.warning(
            "found %d datasets of other tools, expected %d at most; the nearest are shown", len(distances), most
        )
    names, keys = list[str](), {_key(name) for name in own}
    for name in sorted(distances, key=lambda name: (distances[name], name))[:most]:
        if (key := _key(name)) not in keys:  # as of s3://trips/a and s3:trips/a
            keys.add(key)
            names.append(name)
    known = {*own, *names}
    read = {name: [other for other in _next_to(index, name, "upstream") if other in known] for name in names}
    read |= {name: [] for name in own}
    in_order(read, names)  # for the edges that it removes: Dagster's graph takes no circles
    return [_spec(index, index.find(name, DATASET)[0], read[name]) for name in names]


def _where_wanted(read: Callable[[Index, Collection[str]], list[Any]]) -> list[Any]:
    """Return what is read from the index; nothing where the setting is off, or where it cannot be read."""
    if not settings().external_assets:
        return []
    from bikes_assets.app import answers

    try:
        return read(*answers.as_last_updated())
    except (LineageError, sqlite3.Error) as error:  # the project's own definitions do not depend on it
        _LOG.warning("no external assets are shown: %s", error)
        return []


def _reached(index: Index, starts: Collection[str], side: Direction) -> dict[str, int]:
    """Return the datasets on one side of some, and how many edges away they are."""
    found, level = dict.fromkeys(starts, 0), [*starts]
    while level:
        ends = dict.fromkeys(name for at in level for name in _next_to(index, at, side))
        distance, level = found[level[0]] + 1, [name for name in ends if name not in found]
        found |= dict.fromkeys(level, distance)
    return found


def _next_to(index: Index, name: str, direction: Direction, kind: str = DATASET) -> list[str]:
    """Return the names of the things of a kind that are one edge away from a dataset."""
    edges = index.neighbours(DATASET, name, direction, to=kind)
    return [(edge.source if direction == "upstream" else edge.target)[1] for edge in edges]


def _spec(index: Index, dataset: Result, deps: Sequence[str]) -> dg.AssetSpec:
    jobs = {name: index.find(name, JOB)[0].facts for name in _next_to(index, dataset.name, "upstream", JOB)}
    tools = sorted({_word(_told(facts, "jobType", "integration").lower()) for facts in jobs.values()} - {""})
    namespace = str(dataset.facts.get("namespace", ""))
    store = _word(namespace.partition(":")[0].lower())
    columns = list(_columns(index, dataset.name))
    metadata: dict[str, Any] = {"namespace": namespace, "name": str(dataset.facts.get("name", ""))}
    metadata |= {"written by": ", ".join(jobs)} if jobs else {}
    metadata |= {"dagster/column_schema": dg.TableSchema(columns)} if columns else {}
    return dg.AssetSpec(
        _key(dataset.name),
        deps=[_key(name) for name in deps],
        description=_told(dataset.facts, "documentation", "description") or None,
        group_name=tools[0] if tools else _GROUP,
        kinds={*tools[:2], store} - {""},
        metadata=metadata,
    )


def _columns(index: Index, dataset: str) -> Iterator[dg.TableColumn]:
    """Yield the columns of a dataset, each with its meaning, and the columns that it is computed from."""
    for address in index.within(COLUMN, _plain(dataset)):
        (column,) = index.find(str(address), COLUMN)
        edges = index.neighbours(COLUMN, str(address), "upstream", to=COLUMN)
        origin = f"From {', '.join(edge.source[1] for edge in edges)}." if edges else ""
        meaning = " ".join(filter(None, (str(column.facts.get("description", "")), origin)))
        yield dg.TableColumn(str(address.column), str(column.facts.get("type", "")), meaning)


def _key(name: str) -> dg.AssetKey:
    """Return the key of a dataset: the parts of its name between slashes and colons."""
    return dg.AssetKey([part for part in re.split("[:/]+", _plain(name)) if part] or [name])


def _plain(name: str) -> str:
    """Return the name of a dataset without the quotes that it has in an address."""
    address = Address.parse(name)
    return address.asset if address else name


def _told(facts: Mapping[str, Any], facet: str, key: str) -> str:
    """Return a text in a facet, "" where there is none."""
    content = facts.get(facet)
    text = content.get(key) if isinstance(content, dict) else None
    return text if isinstance(text, str) else ""


def _word(text: str) -> str:
    """Return a text as the name of a group or kind is written."""
    return re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")[:_MOST_OF_WORD]
