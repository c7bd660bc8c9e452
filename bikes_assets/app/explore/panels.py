"""What is known of one thing: what it is, its versions, rows, runs, why it is stale, and what a line of the picture says."""

from __future__ import annotations

from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Any

from bikes_assets.app import answers, state
from bikes_assets.app.answers import moment
from bikes_assets.app.explore.picture import kind_of
from bikes_assets.app.settings import settings
from bikes_assets.app.store import assets, columns, current, is_table, lake, last_plan, table
from bikes_assets.core.address import WHOLE, Address
from bikes_assets.core.code_version import definition, reached_code
from bikes_assets.core.errors import LineageError
from bikes_assets.core.record import Record, partition_address
from bikes_assets.core.source_text import docstring, source_text
from bikes_assets.core.texts import shortened
from bikes_assets.events import pages
from bikes_assets.lineage import queries
from bikes_assets.lineage.elements import ALIAS, COLUMN, DATASET, JOB, MODEL, PARTITION, TAG, VERSION, address_of
from bikes_assets.lineage.event_log import latest, materializations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bikes_assets.app.versions import HistoryEntry
    from bikes_assets.core.schema import Schema
    from bikes_assets.lineage.elements import Direction, Result
    from bikes_assets.lineage.index import Index
    from bikes_assets.storage.commits import Commit

MOST_ROWS = 50
"""Number of rows of a preview."""
MOST_COLUMNS = 2_000
MOST_VERSIONS = 200
MOST_MOMENTS = 500
_MOST_STARTS = 200
"""Number of datasets among which the one with the most neighbours is looked for."""
_FEW_ENOUGH = 12
"""Number of datasets of a project that is shown whole."""
_MOST_OF_CELL = 200
_MOST_OF_CODE = 4_000


def overview(address: str, *, as_of: str | None = None) -> dict[str, Any]:
    """Return what a dataset or job is: documentation, owners, columns with meanings, code, models, pages elsewhere.

    Raises:
        LineageError: there is nothing of that name at that time.
    """
    index, event = moment(as_of)
    thing = queries.find(index, address, as_of=event)
    if thing.kind == JOB:
        return {"name": thing.name, "kind": JOB, "facts": dict(thing.facts), "columns": [], "links": []}
    asset = _asset(thing.name, address)
    name, plan = str(Address(asset)), last_plan()
    node = plan.nodes.get(asset) if plan else None
    partitions = index.within(PARTITION, asset, as_of=event)
    return {
        "name": name,
        "title": asset,
        "kind": kind_of(name, DATASET),
        "description": docstring(node.function) if node else "",
        "owners": list(node.owners) if node else [],
        "code": _code(node.function) if node else None,
        "config": dict(node.config) if node else {},
        "partitions": {
            "total": len(partitions),
            "first": partitions[0].partition if partitions else None,
            "last": partitions[-1].partition if partitions else None,
        },
        "columns": _columns(index, asset, event),
        "models": _models(index, asset, event),
        "counts": {side: _count(index, name, side, event) for side in ("upstream", "downstream")},
        "links": _links(asset, is_own=node is not None),
    }


def start(*, as_of: str | None = None) -> dict[str, Any]:
    """Return what a page opens on: the model that serves, else the dataset with the most around it; "" without any."""
    index, event = moment(as_of)
    names = index.names(DATASET, as_of=event)
    aliased = [place.asset for name in index.names(ALIAS, as_of=event) if (place := Address.parse(name))]
    if aliased and str(Address(aliased[0])) in names:
        focus = str(Address(aliased[0]))
    else:
        own = [name for name in names if (place := Address.parse(name)) and place.asset in assets()]
        sides: tuple[Direction, ...] = ("upstream", "downstream")
        around = {
            name: sum(len([*index.ends(DATASET, name, side, as_of=event)]) for side in sides)
            for name in (own or names)[:_MOST_STARTS]
        }
        focus = max(around, key=lambda name: around[name], default="")
    is_small = len(names) <= _FEW_ENOUGH
    return {"focus": focus, "show": [f"+{focus}+"] if focus and is_small else [], "datasets": len(names)}


def counts(addresses: list[str], *, as_of: str | None = None) -> dict[str, dict[str, int]]:
    """Return how many things of its own kind are upstream and downstream of each address, in all."""
    index, event = moment(as_of)
    found = dict[str, dict[str, int]]()
    for address in addresses:
        thing = queries.find(index, address, as_of=event)
        found[address] = {
            side: _count(index, thing.name, side, event, thing.kind) for side in ("upstream", "downstream")
        }
    return found


def _count(index: Index, name: str, side: Direction, event: int | None, kind: str = DATASET) -> int:
    number = index.number(kind, name)
    ignored = {index.number(TAG, tag) for tag in index.names(TAG)} | {number}
    levels = index.levels([number], side, None, event) if number is not None else ()
    return sum(len(level) - len(ignored.intersection(level)) for level in levels)


def versions(address: str) -> dict[str, Any]:
    """Return the versions of a partition, newest first: when each was materialized, why, and what changed.

    Raises:
        LineageError: it is no partition of an asset of the project.
    """
    place = _of_project(address)
    found = answers.history(str(Address(place.asset, partition=place.partition)))
    told = materializations(current().events, place.asset, place.partition, most=MOST_VERSIONS)
    mlflow = {event.record.output.address: event.mlflow_page for event in told if event.record}
    shown = [_version(item, mlflow.get(item.address, "")) for item in reversed(found[-MOST_VERSIONS:])]
    return {"total": len(found), "items": shown}


def _version(item: HistoryEntry, mlflow: str) -> dict[str, Any]:
    return {
        "address": item.address,
        "time": item.time,
        "run": item.run,
        "page": pages.dagster_run(settings().dagster_url, item.run) if item.run else "",
        "reasons": [state.reason_text(reason) for reason in item.reasons],
        "kinds": [*dict.fromkeys(reason.kind for reason in item.reasons)],
        "changed": list(item.changed),
        "mlflow": mlflow,
    }


def rows(address: str) -> dict[str, Any]:
    """Return the first rows of a partition, or of a version of it, and the share of missing values of each column.

    Their digest is verified.

    Raises:
        LineageError: there is no such partition, or it has no rows but a model. DigestError: they are not as published.
    """
    place = _of_project(address)
    if not is_table(place.asset):
        raise LineageError(f"{address}: found an asset of models, which have no rows; expected a table")
    known = table(place.asset)
    commit = lake().resolve(place.asset, place.partition, place.version)
    ((version, found),) = known.read([commit.partition], commit.version).values()
    shown = found.slice(0, MOST_ROWS).to_pylist()
    return {
        "address": version.address,
        "digest": version.digest,
        "total": len(found),
        "key": list(known.schema.key),
        "columns": found.column_names,
        "rows": [[_cell(value) for value in row.values()] for row in shown],
        "traces": [_row_address(place, known.schema.key, row) for row in shown] if known.schema.key else None,
        "missing": {
            name: found.column(name).null_count / max(len(found), 1) for name in found.column_names if len(found)
        },
    }


def _row_address(place: Address, key: Sequence[str], row: Mapping[str, object]) -> str:
    """Return the address of a row as `bikes trace` takes it."""
    values = [row[name] for name in key]
    texts = [value.isoformat() if isinstance(value, datetime) else str(value) for value in values]
    escaped = ",".join(text.replace("%", "%25").replace(",", "%2C") for text in texts)
    return f"{Address(place.asset, partition=place.partition, version=place.version)}#{escaped}"


def _cell(value: object) -> object:
    """Return a value as JSON has it: numbers and truth as they are, anything else as text, None where it is missing."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    return shortened(value.isoformat() if isinstance(value, datetime) else str(value), _MOST_OF_CELL)


def metrics(asset: str) -> dict[str, Any]:
    """Return the metrics of each partition's current version of an asset, and the plots of the latest one.

    Raises:
        LineageError: it is no asset of the project.
    """
    place = _of_project(asset)
    published = _published(place.asset)
    by_partition = {str(key or ""): dict(commit.record.get("metrics", {})) for key, commit in published.items()}
    partitions = sorted(by_partition)
    newest = place.partition or (partitions[-1] or None if partitions else None)
    event = latest(current().events, place.asset, newest) if partitions else None
    return {
        "partitions": partitions,
        "metrics": {
            name: [by_partition[key].get(name) for key in partitions]
            for name in dict.fromkeys(name for values in by_partition.values() for name in values)
        },
        "newest": newest,
        "plots": event.plots if event else {},
        "mlflow": event.mlflow_page if event else "",
        "registered": event.registered if event else 0,
    }


def status(asset: str = "") -> list[dict[str, Any]]:
    """Return the state of each partition of an asset, or of all, and why it is not fresh.

    Raises:
        LineageError: it is no asset of the project.
    """
    statuses = state.statuses([asset] if asset else [])
    return [
        {
            "asset": item.asset,
            "partition": item.partition,
            "address": item.address,
            "state": item.state,
            "reasons": [state.reason_text(reason) for reason in item.reasons],
        }
        for item in statuses
    ]


def status_at(as_of: str, asset: str = "") -> list[dict[str, Any]]:
    """Return which partitions of an asset, or of all, were materialized by a time: what was stale then is not known.

    Raises:
        LineageError: it is no asset of the project.
    """
    wanted = _of_project(asset).asset if asset else ""
    index, event = moment(as_of)
    plan = state.plan()
    found = list[dict[str, Any]]()
    for name, node in plan.nodes.items():
        if wanted not in ("", name):
            continue
        made = {item.partition for item in index.within(VERSION, name, as_of=event)}
        found += [
            {
                "asset": name,
                "partition": key,
                "address": partition_address(name, key),
                "state": "materialized" if key in made else "missing",
                "reasons": [],
            }
            for key in node.partitions
        ]
    return found


def moments() -> list[float]:
    """Return times at which something was materialized, in Unix seconds, the first and last among them."""
    index, _ = moment(None)
    return index.times(MOST_MOMENTS)


def edge(source: str, target: str, *, as_of: str | None = None) -> dict[str, Any]:
    """Return what is known of a line: how the one contributes to the other, by which code, and what was observed.

    Raises:
        LineageError: there is nothing of one of the names, or no edge between them.
    """
    index, event = moment(as_of)
    one, other = _ends(index, source, target, event)
    edges = index.neighbours(other.kind, other.name, "upstream", as_of=event)
    kinds = [item.kind for item in edges if item.source == (one.kind, one.name)]
    if not kinds:
        raise LineageError(f"found no edge from {source} to {target}; expected two neighbours, see bikes path")
    place, plan = Address.parse(other.name), last_plan()
    node = plan.nodes.get(place.asset) if plan and place else None
    column = place.column if place and place.column not in (None, WHOLE) else None
    evidence = dict(other.facts.get("evidence", {}))
    from_place = Address.parse(one.name)
    observed = evidence.get("inputs", {}).get(from_place.column if from_place else None)
    return {
        "source": address_of(one),
        "target": address_of(other),
        "kinds": kinds,
        "told": [_KINDS.get(kind, kind) for kind in kinds],
        "meaning": other.facts.get("meaning", "") or (docstring(node.function) if node else ""),
        "code": _code_of_column(node.function, column) if node else None,
        "commit": _commit(place.asset) if node and place else "",
        "evidence": {**{key: value for key, value in evidence.items() if key != "inputs"}, **observed}
        if observed
        else None,
    }


def _ends(index: Index, source: str, target: str, event: int | None) -> tuple[Result, Result]:
    """Return what a line connects: of a column and something without columns, such as a model, two columns."""
    one, other = (queries.find(index, name, as_of=event) for name in (source, target))
    if {one.kind, other.kind} == {COLUMN, DATASET}:
        one, other = (
            (index.find(str(Address(_asset(end.name, end.name), WHOLE)), COLUMN, as_of=event) or [end])[0]
            if end.kind == DATASET
            else end
            for end in (one, other)
        )
    return one, other


_KINDS = {
    "direct": "the value is computed from it",
    "indirect": "it contributes to the value, as a model does",
    "undeclared": "it was read, and nothing declares what for",
    "read": "it was read",
    "told": "another tool reported it",
}


def _of_project(address: str) -> Address:
    """Return the parts of the address of an asset of the project.

    Raises:
        LineageError: it is none.
    """
    place = Address.parse(address)
    if place is None or place.asset not in assets():
        raise LineageError(f"{address}: found no asset of this project, expected one of {', '.join(assets())}")
    return place


def _asset(name: str, address: str) -> str:
    place = Address.parse(name)
    if place is None:
        raise LineageError(f"{address}: found nothing with a dataset, expected a dataset, or a part of one")
    return place.asset


def _columns(index: Index, asset: str, event: int | None) -> dict[str, Any]:
    """Return the columns as declared, those of other tools as they were reported."""
    schema = columns().get(asset)
    names = [str(place.column) for place in index.numbers(COLUMN, asset, as_of=event).values()]
    known = [name for name in (schema.names if schema else names) if name != WHOLE]
    return {
        "total": len(known),
        "key": list(schema.key) if schema else [],
        "items": [_column(schema, asset, name) for name in known[:MOST_COLUMNS]],
    }


def _column(schema: Schema | None, asset: str, name: str) -> dict[str, Any]:
    told = schema[name] if schema and name in schema.names else None
    return {
        "name": name,
        "address": str(Address(asset, name)),
        "type": told.type if told else "",
        "unit": told.unit if told else "",
        "meaning": told.meaning if told else "",
        "allowed": told.constraint if told else "",
        "tags": list(told.tags) if told else [],
    }


def _models(index: Index, asset: str, event: int | None) -> dict[str, Any]:
    """Return the aliases and registered versions of a model, newest first."""
    versions = _named(index, MODEL, asset, event)
    return {"aliases": _named(index, ALIAS, asset, event), "versions": versions[: -MOST_VERSIONS - 1 : -1]}


def _named(index: Index, kind: str, asset: str, event: int | None) -> list[dict[str, Any]]:
    """Return what names versions of an asset, and the address of the version that each names, oldest first."""
    found = index.things([*index.numbers(kind, asset, as_of=event)], event)
    return [{"name": item.name, "address": item.facts["address"]} for item in found if item.facts.get("address")]


def _code(function: str) -> dict[str, Any]:
    """Return the file and line of a function, relative to the project's root."""
    module, _, name = function.rpartition(".")
    file, statements = definition(module, name)
    root = current().lake.root
    path = str(file.relative_to(root)) if file and root and file.is_relative_to(root) else file.name if file else ""
    return {"function": function, "file": path, "line": statements[0].lineno if statements else 0}


def _code_of_column(function: str, column: str | None) -> dict[str, Any]:
    """Return the column's own function where it has one, else that of the asset, with its source text."""
    own = _column_function(function, column) if column else ""
    return _code(own or function) | {"text": shortened(source_text(own or function), _MOST_OF_CODE)}


def _column_function(function: str, column: str) -> str:
    """Return the dotted name of the function that a column has its name from, "" where there is none."""
    module, _, name = function.rpartition(".")
    reached = (place for place in reached_code(module, name) if place.rpartition(".")[2] == column)
    return next(reached, "")


def _commit(asset: str) -> str:
    """Return the git commit of the code that materialized an asset last."""
    newest = max(_published(asset).values(), key=lambda commit: commit.version, default=None)
    return str(Record.from_dict(newest.record).environment.get("git_commit", "")) if newest else ""


def _published(asset: str) -> Mapping[str | None, Commit]:
    """Return the current version of each partition, none of an asset that has no table yet."""
    known = table(asset)
    return known.published() if known.exists() else {}


def _links(asset: str, *, is_own: bool) -> list[dict[str, str]]:
    return [{"title": "Dagster", "url": pages.dagster_asset(settings().dagster_url, asset, None)}] if is_own else []
