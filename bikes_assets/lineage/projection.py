"""The events of a pipeline as facts for the index: which things exist, and which of them contributed to which.

Things are on five levels, and an edge stays on its level (see `lineage.queries` for questions from one level to
another):

    demand_features                      dataset
    demand_features.temperature          column; what has no columns, such as a model, is one: `demand_model.*`
    demand_features[2012-08]             partition
    demand_features[2012-08]@17          version
    demand_features.temperature[2012-08]@17    column version

Files, code and runs contribute to versions. A registered model version (`demand_model@3`) and an alias
(`demand_model@champion`) are other names of a version, which leads to them. A tag leads to the columns that are
declared with it, and so to everything that is computed from them.

The facts of an event are a function of the log up to it: an index that added events one by one equals a rebuilt one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bikes_assets.core.address import WHOLE, Address, ModelRef, parse_address, partition_address
from bikes_assets.core.columns import evidence_state
from bikes_assets.core.record import Origin, Record, Version
from bikes_assets.lineage.elements import (
    ALIAS,
    CODE,
    COLUMN,
    COLUMN_VERSION,
    DATASET,
    FILE,
    MODEL,
    PARTITION,
    RUN,
    TAG,
    VERSION,
    Edge,
    Fact,
    Thing,
)

if TYPE_CHECKING:
    from bikes_assets.core.schema import Schema
    from bikes_assets.lineage.index import Index

ROLES = {"training": "fitted on", "validation": "validated on"}
"""Roles of rows in records, in words."""

ColumnLineage = Mapping[str, Collection[tuple[str, str]]]
"""Output column to the assets and columns that it is computed from."""


@dataclass(frozen=True, slots=True)
class MaterializedEvent:
    """An event that reports a materialization.

    Attributes:
        event: its number in the log.
        time: when, Unix seconds.
        record: how it was materialized.
        lineage: its columns' lineage.
        registered: number of its registered model version, 0 where it has none.
        rows: number of rows, where it is a table.
        is_current: whether it is the current version of its partition; false where it was reported after its
            replacement.
    """

    event: int
    time: float
    record: Record
    lineage: ColumnLineage = field(default_factory=dict)
    registered: int = 0
    rows: int | None = None
    is_current: bool = True


@dataclass(frozen=True, slots=True)
class RegisteredEvent:
    """An event that reports that a version was registered as a model version after it had been materialized.

    Attributes:
        event: its number in the log.
        time: when, Unix seconds.
        address: address of the version.
        number: number of the registered model version.
    """

    event: int
    time: float
    address: str
    number: int


@dataclass(frozen=True, slots=True)
class ObservedEvent:
    """An event that reports what an external source holds.

    Attributes:
        event: its number in the log.
        time: when, Unix seconds.
        version: the partition, and its digest.
        origin: where it was read.
        rows: number of rows.
    """

    event: int
    time: float
    version: Version
    origin: Origin
    rows: int


class Projection:
    """Turns events into facts, one after the other.

    Args:
        index: the index that they are added to, which also answers what earlier events reported.
        schemas: declared columns of each dataset, with their meanings.
        serving: the asset whose newest partition says which model serves, "" where none does.
        alias: the alias of the model that serves.
        described: descriptions of datasets, in a sentence each.
    """

    def __init__(
        self,
        index: Index,
        schemas: Mapping[str, Schema],
        serving: str = "",
        alias: str = "champion",
        described: Mapping[str, str] | None = None,
    ) -> None:
        self.index, self.schemas, self.serving, self.alias = index, schemas, serving, alias
        self.described = described or {}
        self._columns_known: dict[str, tuple[str, ...]] = {}

    def fact(self, event: MaterializedEvent | ObservedEvent | RegisteredEvent) -> Fact:
        """Return the facts of an event."""
        match event:
            case ObservedEvent():
                return self._observed(event)
            case RegisteredEvent():
                return self._registered(event)
            case MaterializedEvent():
                return self._materialized(event)

    def _observed(self, event: ObservedEvent) -> Fact:
        version, origin = event.version, event.origin
        things = [*self._of_version(version, {"digest": version.digest, "rows": event.rows, "time": event.time})]
        edges = self._tagged(version.asset)
        for name, sha256, size in origin.files or ((origin.name, origin.version, origin.size),):
            address = f"{name}@{sha256[:16]}"
            facts = {"sha256": sha256, "bytes": size, "uri": origin.uri, "kind": origin.kind}
            tracked = origin.tracked.get(name) or origin.tracked.get(origin.name)
            told = f"MD5 {tracked['md5']}, revision {tracked['revision']}" if tracked else ""
            things.append(Thing(FILE, address, facts | ({"tracked": tracked} if tracked else {}), told))
            edges.append(Edge((FILE, address), (VERSION, version.address), "holds"))
        return Fact(event.event, event.time, things, edges, _columns_of(version.asset, self._columns_of(version)))

    def _registered(self, event: RegisteredEvent) -> Fact:
        asset, partition, version = parse_address(event.address)
        known = self.index.find(event.address, VERSION)
        digest = known[0].facts["digest"] if known else ""
        things = [] if known else [*self._of_version(Version(asset, partition, str(version), digest), {"digest": ""})]
        model, edges = self._model(asset, event.number, event.address, digest)
        return Fact(event.event, event.time, [*things, *model], edges)

    def _model(
        self, asset: str, number: int, address: str, digest: str, name: str = ""
    ) -> tuple[list[Thing], list[Edge]]:
        """Return a registered model version, and the edge to it; a number that is taken keeps its meaning."""
        model = Address(asset, version=str(number))
        if known := self.index.find(str(model), MODEL):
            if known[0].facts["address"] != address:
                return [], []
            digest = digest or known[0].facts["digest"]
        thing = Thing.at(MODEL, model, {"address": address, "digest": digest}, f"{name} {address}".strip())
        return [thing], [Edge((VERSION, address), (MODEL, thing.name), "registered")]

    def _materialized(self, event: MaterializedEvent) -> Fact:
        record, output = event.record, event.record.output
        facts = {
            "digest": output.digest,
            "rows": event.rows,
            "time": event.time,
            "code": record.code_version,
            "config": record.config,
            "metrics": record.metrics,
            "checks": record.checks,
            "unused": record.inert,
        }
        columns = record.columns or {WHOLE: output.digest}
        self._columns_known[output.address] = tuple(columns)
        if record.columns and not event.lineage:
            event = replace(event, lineage=self._lineage_before(output.asset, columns))
        things = [*self._of_version(output, facts, columns, _evidence(record))]
        beside = models_beside(record)
        inputs = [*record.inputs, *(() if record.columns else beside)]  # to a table they came through one of its inputs
        for item in (*inputs, *beside):
            if not self.index.find(item.address, VERSION):
                things += self._of_version(item, {"digest": item.digest})
        edges = [*_read(record, inputs), *self._column_edges(event, columns, inputs), *self._tagged(output.asset)]
        edges += [Edge((VERSION, item.address), (VERSION, output.address), "scored") for item in beside]
        things += [Thing(CODE, record.code_version), Thing(RUN, record.made_by.get("dagster_run_id", ""))]
        edges += [
            Edge((thing.kind, thing.name), (VERSION, output.address), "materialized")
            for thing in things[-2:]
            if thing.name
        ]
        settled = {(PARTITION, partition_address(output.asset, output.partition)), *_columns_of(output.asset, columns)}
        if event.registered:
            model, registered = self._model(
                output.asset, event.registered, output.address, output.digest, record.params.get("model", "")
            )
            things, edges = [*things, *model], [*edges, *registered]
        if not event.is_current:  # only versions: the current state of partitions and columns stays
            edges = [edge for edge in edges if edge.target[0] not in (PARTITION, COLUMN)]
            settled = set[tuple[str, str]]()
        elif output.asset == self.serving and record.models and self._is_newest(output):
            serves = ModelRef.parse(record.models[0]["origin"]).address or output.address
            asset = parse_address(serves)[0]
            alias = Thing.at(ALIAS, Address(asset, version=self.alias), {"address": serves}, f"{ALIAS} of {asset}")
            things, edges = [*things, alias], [*edges, Edge((VERSION, serves), (ALIAS, alias.name), "named")]
            settled.add((ALIAS, alias.name))
        return Fact(event.event, event.time, [thing for thing in things if thing.name], edges, settled)

    def _of_version(
        self,
        version: Version,
        facts: Mapping[str, Any],
        columns: Mapping[str, str] | None = None,
        evidence: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Iterator[Thing]:
        """Yield a version and the partition and asset that it is of; its columns with what perturbation has shown."""
        schema = self.schemas.get(version.asset)
        names = columns or dict.fromkeys(self._columns_of(version), "")
        about = [f"{item.name} {item.meaning} {item.unit}" for item in schema.columns] if schema else []
        text = "\n".join((self.described.get(version.asset, ""), *about))
        place = Address(version.asset, None, version.partition, str(version.version))
        yield Thing.at(DATASET, Address(version.asset), text=text or version.asset)
        for name in names:
            declared = schema[name] if schema and name in schema.names else None
            told = {"type": declared.type, "unit": declared.unit, "meaning": declared.meaning} if declared else {}
            told = {**told, "evidence": evidence[name]} if evidence and name in evidence else told
            text = f"{declared.meaning} {declared.unit}" if declared else name.removesuffix(WHOLE)
            yield Thing.at(COLUMN, Address(version.asset, name), told, text)
            yield from (Thing(TAG, tag, text=TAG) for tag in (declared.tags if declared else ()))
        yield Thing.at(PARTITION, replace(place, version=None))
        yield Thing.at(VERSION, place, facts)
        for name, digest in names.items():
            yield Thing.at(COLUMN_VERSION, replace(place, column=name), {"digest": digest} if digest else {})

    def _tagged(self, asset: str) -> list[Edge]:
        """Return the edges from tags to the columns of an asset that are declared with them."""
        columns = self.schemas[asset].columns if asset in self.schemas else ()
        return [
            Edge((TAG, tag), (COLUMN, str(Address(asset, item.name))), "tags") for item in columns for tag in item.tags
        ]

    def _column_edges(
        self, event: MaterializedEvent, columns: Collection[str], inputs: Sequence[Version]
    ) -> Iterator[Edge]:
        """Yield the edges between columns, and between versions of columns."""
        output, by_asset = event.record.output, dict[str, list[Version]]()
        for item in inputs:
            by_asset.setdefault(item.asset, []).append(item)
        key = self.schemas[output.asset].key if output.asset in self.schemas else ()
        for asset, versions in by_asset.items():
            alike: dict[tuple[str, ...], list[Version]] = {}
            for version in versions:
                alike.setdefault(self._columns_of(version), []).append(version)
            for names, items in alike.items():
                for source, target, kind in self._pairs(event, asset, names, columns, key):
                    here, there = Address(asset, source), Address(output.asset, target)
                    yield Edge((COLUMN, str(here)), (COLUMN, str(there)), kind)
                    made = (COLUMN_VERSION, _at(output, target))
                    yield from (Edge((COLUMN_VERSION, _at(item, source)), made, kind) for item in items)

    def _pairs(
        self,
        event: MaterializedEvent,
        asset: str,
        names: Collection[str],
        columns: Collection[str],
        key: Collection[str],
    ) -> Iterator[tuple[str, str, str]]:
        """Yield which columns of an input's versions contributed to which columns of the output, and how."""
        used = event.record.used.get(asset)
        used = [name for name in names if used is None or name in used]
        undeclared = [target for target in columns if target not in event.lineage]  # computed from nobody knows what
        if not event.record.columns:  # a model: computed from all that it read
            yield from ((name, WHOLE, "direct") for name in used)
        elif [*names] == [WHOLE]:  # made with a model, or with something else that has no columns
            told = [target for target, sources in event.lineage.items() if asset in dict(sources) and target in columns]
            targets = [*told, *undeclared] if told else columns
            yield from ((WHOLE, target, "indirect") for target in targets if used and target not in key)
        else:
            for target, sources in event.lineage.items():
                if target in columns:
                    yield from ((name, target, "direct") for of, name in sources if of == asset and name in used)
            yield from ((name, target, "undeclared") for name in used for target in undeclared)

    def _lineage_before(self, asset: str, columns: Collection[str]) -> dict[str, list[tuple[str, str]]]:
        """Return the column lineage of an asset's last materialization; events reported later lack it."""
        found: dict[str, list[tuple[str, str]]] = {}
        for name in columns:
            edges = self.index.neighbours(COLUMN, str(Address(asset, name)), "upstream")
            if any(edge.kind == "undeclared" for edge in edges):
                continue
            for edge in edges:
                source = Address.parse(edge.source[1]) if edge.source[0] == COLUMN else None
                if source and source.column:
                    found.setdefault(name, []).append((source.asset, source.column))
        return found

    def _columns_of(self, version: Version) -> tuple[str, ...]:
        """Return the columns of a version: as materialized; of an external or unknown one, as declared; else WHOLE."""
        address = version.address
        if address not in self._columns_known:
            made = self.index.within(COLUMN_VERSION, version.asset, partition=version.partition)
            found = tuple(str(item.column) for item in made if item.version == str(version.version))
            if not found:
                declared = self.schemas.get(version.asset)
                known = tuple(str(item.column) for item in self.index.within(COLUMN, version.asset))
                return declared.names if declared else known or (WHOLE,)
            self._columns_known[address] = found
        return self._columns_known[address]

    def _is_newest(self, output: Version) -> bool:
        partitions = (item.partition for item in self.index.within(PARTITION, output.asset))
        return all(partition is None or partition <= str(output.partition) for partition in partitions)


def models_beside(record: Record) -> list[Version]:
    """Return the models that contributed to a version and are not among its inputs: one that was pinned long before."""
    origins = dict.fromkeys(ModelRef.parse(model["origin"]).address for model in record.models if model["origin"])
    known = {item.address for item in record.inputs}
    digests = {model["origin"]: model["digest"] for model in record.models}
    found: list[Version] = []
    for origin in origins:
        if origin not in known:
            asset, partition, version = parse_address(origin)
            found.append(Version(asset, partition, str(version), digests.get(origin, "")))
    return found


def _read(record: Record, inputs: Sequence[Version]) -> Iterator[Edge]:
    """Yield the edges between datasets, partitions and versions."""
    output = record.output
    roles = {
        (use.asset, partition): ROLES.get(use.context, "read")
        for use in record.datasets
        for partition in use.partitions or (None,)
    }
    for item in inputs:
        role = roles.get((item.asset, item.partition), "read")
        yield Edge((DATASET, str(Address(item.asset))), (DATASET, str(Address(output.asset))), "read")
        source = partition_address(item.asset, item.partition)
        yield Edge((PARTITION, source), (PARTITION, partition_address(output.asset, output.partition)), role)
        yield Edge((VERSION, item.address), (VERSION, output.address), role)


def _columns_of(asset: str, names: Collection[str]) -> set[tuple[str, str]]:
    return {(COLUMN, str(Address(asset, name))) for name in names}


def _evidence(record: Record) -> dict[str, dict[str, Any]]:
    """Return by column what was observed of its lineage: from which columns, on what, and when; only what was."""
    about = {name: record.evidence.get(name) for name in ("time", "rows", "trials", "code_version")}
    found: dict[str, dict[str, Any]] = {}
    for edge in record.evidence.get("edges", ()):
        shown = {key: value for key, value in edge.items() if key not in ("output", "input")}
        shown["state"] = evidence_state(edge["state"])
        found.setdefault(edge["output"], {**about, "inputs": {}})["inputs"][edge["input"]] = shown
    return found


def _at(version: Version, column: str) -> str:
    return str(Address(version.asset, column, version.partition, str(version.version)))
