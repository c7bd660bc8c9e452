"""What the events of a pipeline say, as facts for the index: which things there are, and the part that each had in another.

Things lie on five levels, and an edge stays on its level:

    demand_features                      dataset
    demand_features.temperature          column; what has no columns, such as a model, is one: `demand_model.*`
    demand_features[2012-08]             partition
    demand_features[2012-08]@17          version
    demand_features.temperature[2012-08]@17    column version

Files, code and runs have a part in versions; versions are registered as model versions (`demand_model@3`); an alias
(`demand_model@champion`) is led to by what it names, on every level. A tag leads to the columns that are declared with it, and
so to everything that is made from them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bikes_assets.lineage.graph import Origin, Record, Version, parse_address, partition_address
from bikes_assets.lineage.index import Edge, Fact, Thing

if TYPE_CHECKING:
    from bikes_assets.lineage.index import Index
    from bikes_assets.lineage.schema import Schema

DATASET, COLUMN, PARTITION, VERSION, COLUMN_VERSION = "dataset", "column", "partition", "version", "column version"
CODE, RUN, FILE, MODEL, ALIAS, TAG = "code", "run", "file", "model version", "alias", "tag"
WHOLE = "*"
"""What stands for the columns of something that has none."""

_ROLES = {"training": "fitted on", "validation": "judged on"}

ColumnLineage = Mapping[str, Collection[tuple[str, str]]]
"""Output column to the assets and columns that it is made from."""


@dataclass(frozen=True, slots=True)
class Materialized:
    """An event that says what was made.

    Attributes:
        event: its number in the log.
        time: when, Unix seconds.
        record: how it was made.
        lineage: its columns' lineage.
        registered: number of the registered model version that it is, 0 where it is none.
        rows: how many, where it is a table.
    """

    event: int
    time: float
    record: Record
    lineage: ColumnLineage = field(default_factory=dict)
    registered: int = 0
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """An event that says what an external source holds.

    Attributes:
        event: its number in the log.
        time: when, Unix seconds.
        version: the partition, and its digest.
        origin: where it was read.
        rows: how many.
    """

    event: int
    time: float
    version: Version
    origin: Origin
    rows: int


class Projection:
    """Makes facts of events, one after the other.

    Args:
        index: the index that takes them, which is asked for what earlier events said.
        schemas: declared columns of each dataset, with what they mean.
        serving: the asset whose newest partition says which model serves, "" where none does.
        alias: what the model that serves is called.
        described: what datasets are, in a sentence.
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
        self._made: dict[str, list[str]] = {}

    def fact(self, event: Materialized | Observed) -> Fact:
        """Return what an event says."""
        return self._observed(event) if isinstance(event, Observed) else self._materialized(event)

    def _observed(self, event: Observed) -> Fact:
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
        return Fact(event.event, event.time, things, edges, self._columns_of(version.asset, self._names(version)))

    def _materialized(self, event: Materialized) -> Fact:
        record, output = event.record, event.record.output
        facts = {
            "digest": output.digest,
            "rows": event.rows,
            "time": event.time,
            "code": record.code_version,
            "config": record.config,
            "metrics": record.metrics,
            "checks": record.checks,
            "inert": record.inert,
        }
        columns = record.columns or {WHOLE: output.digest}
        self._made[output.asset] = list(columns)
        if record.columns and not event.lineage:
            event = replace(event, lineage=self._lineage_before(output.asset, columns))
        things = [*self._of_version(output, facts, columns, _proofs(record))]
        for item in record.inputs:
            if not self.index.find(item.address, VERSION):
                things += self._of_version(item, {"digest": item.digest})
        edges = [*self._read(record), *self._columns(event, columns), *self._tagged(output.asset)]
        things += [Thing(CODE, record.code_version), Thing(RUN, record.made_by.get("dagster_run_id", ""))]
        edges += [
            Edge((thing.kind, thing.name), (VERSION, output.address), "made") for thing in things[-2:] if thing.name
        ]
        things = [thing for thing in things if thing.name]
        known = {(thing.kind, thing.name) for thing in things}
        for end in (edge.source for edge in edges):
            if end not in known and not self.index.find(end[1], end[0]):
                known.add(end)
                things.append(Thing(*end))
        settled = {edge.target for edge in edges if edge.target[0] == PARTITION} | self._columns_of(
            output.asset, columns
        )
        if event.registered:
            model = f"{output.asset}@{event.registered}"
            told = f"{record.params.get('model', '')} {output.address}".strip()
            things.append(Thing(MODEL, model, {"address": output.address, "digest": output.digest}, told))
            edges.append(Edge((VERSION, output.address), (MODEL, model), "registered"))
        if output.asset == self.serving and self._is_newest(output):
            alias = f"{parse_address(record.models[0]['origin'].removesuffix(' baseline'))[0]}@{self.alias}"
            things.append(Thing(ALIAS, alias, text=f"{ALIAS} of {parse_address(alias)[0]}"))
            sources = ((DATASET, output.asset), (COLUMN, f"{output.asset}.{WHOLE}"), (VERSION, output.address))
            edges += [Edge(source, (ALIAS, alias), "promoted") for source in sources]
            settled.add((ALIAS, alias))
        return Fact(event.event, event.time, things, edges, settled)

    def _of_version(
        self,
        version: Version,
        facts: Mapping[str, Any],
        columns: Mapping[str, str] | None = None,
        proofs: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Iterator[Thing]:
        """Yield a version and what it is one of; of its columns, too, what was shown by experiment."""
        schema = self.schemas.get(version.asset)
        names = columns or dict.fromkeys(schema.names if schema else (WHOLE,), "")
        about = [f"{item.name} {item.meaning} {item.unit}" for item in schema.columns] if schema else []
        text = "\n".join((self.described.get(version.asset, ""), *about))
        yield Thing(DATASET, version.asset, text=text or version.asset)
        for name in names:
            declared = schema[name] if schema and name in schema.names else None
            told = {"type": declared.type, "unit": declared.unit, "meaning": declared.meaning} if declared else {}
            told = {**told, "proof": proofs[name]} if proofs and name in proofs else told
            text = f"{declared.meaning} {declared.unit}" if declared else name.removesuffix(WHOLE)
            yield Thing(COLUMN, f"{version.asset}.{name}", told, text)
            yield from (Thing(TAG, tag, text=TAG) for tag in (declared.tags if declared else ()))
        yield Thing(PARTITION, partition_address(version.asset, version.partition))
        yield Thing(VERSION, version.address, facts)
        for name, digest in names.items():
            yield Thing(COLUMN_VERSION, _column_version(version, name), {"digest": digest} if digest else {})

    def _columns_of(self, asset: str, names: Collection[str]) -> set[tuple[str, str]]:
        return {(COLUMN, f"{asset}.{name}") for name in names}

    def _tagged(self, asset: str) -> list[Edge]:
        """Return the edges from tags to an asset's columns that are declared with them."""
        columns = self.schemas[asset].columns if asset in self.schemas else ()
        return [Edge((TAG, tag), (COLUMN, f"{asset}.{item.name}"), "tags") for item in columns for tag in item.tags]

    def _read(self, record: Record) -> Iterator[Edge]:
        """Yield the edges between datasets, partitions and versions."""
        output = record.output
        roles = {
            (use.asset, partition): _ROLES.get(use.context, "read")
            for use in record.datasets
            for partition in use.partitions or (None,)
        }
        for item in record.inputs:
            role = roles.get((item.asset, item.partition), "read")
            yield Edge((DATASET, item.asset), (DATASET, output.asset), "read")
            source = partition_address(item.asset, item.partition)
            yield Edge((PARTITION, source), (PARTITION, partition_address(output.asset, output.partition)), role)
            yield Edge((VERSION, item.address), (VERSION, output.address), role)
        for model in record.models:
            origin = model["origin"].removesuffix(" baseline")
            if origin and not any(item.address == origin for item in record.inputs):
                yield Edge((VERSION, origin), (VERSION, output.address), "scored")

    def _columns(self, event: Materialized, columns: Collection[str]) -> Iterator[Edge]:
        """Yield the edges between columns, and between versions of columns."""
        record = event.record
        by_asset: dict[str, list[Version]] = {}
        for item in record.inputs:
            by_asset.setdefault(item.asset, []).append(item)
        key = self.schemas[record.output.asset].key if record.output.asset in self.schemas else ()
        for asset, versions in by_asset.items():
            for source, target, kind in self._pairs(event, asset, versions, columns, key):
                yield Edge((COLUMN, f"{asset}.{source}"), (COLUMN, f"{record.output.asset}.{target}"), kind)
                for version in versions:
                    here = (COLUMN_VERSION, _column_version(version, source))
                    yield Edge(here, (COLUMN_VERSION, _column_version(record.output, target)), kind)

    def _pairs(
        self,
        event: Materialized,
        asset: str,
        versions: Sequence[Version],
        columns: Collection[str],
        key: Collection[str],
    ) -> Iterator[tuple[str, str, str]]:
        """Yield which columns of an input are in which columns of what was made, and how."""
        used, names = event.record.used.get(asset), self._names(versions[-1])
        used = [name for name in names if used is None or name in used]
        if not event.record.columns:  # a model: of all that it read
            yield from ((name, WHOLE, "direct") for name in used)
        elif names == [WHOLE]:  # made with a model, or with something else that has no columns
            told = [target for target, sources in event.lineage.items() if asset in dict(sources)]
            yield from ((WHOLE, target, "indirect") for target in told or columns if used and target not in key)
        elif event.lineage:
            for target, sources in event.lineage.items():
                yield from ((name, target, "direct") for of, name in sources if of == asset and name in used)
        else:
            yield from ((name, target, "undeclared") for name in used for target in columns)

    def _lineage_before(self, asset: str, columns: Collection[str]) -> dict[str, list[tuple[str, str]]]:
        """Return the column lineage that an asset was made with last: an event that was reported later does not say it."""
        found: dict[str, list[tuple[str, str]]] = {}
        for name in columns:
            for edge in self.index.neighbours(COLUMN, f"{asset}.{name}", "upstream"):
                if edge.source[0] == COLUMN and edge.kind == "direct":
                    of, _, source = edge.source[1].partition(".")
                    found.setdefault(name, []).append((of, source))
        return found

    def _names(self, version: Version) -> list[str]:
        """Return the columns that an asset has, as declared or as it was made last."""
        asset = version.asset
        if asset in self.schemas:
            return list(self.schemas[asset].names)
        if asset not in self._made:
            like = _column_version(version, "*").replace("[", "[[]")
            names = self.index.names(COLUMN_VERSION, like=like)
            self._made[asset] = [name.removeprefix(f"{asset}.").partition("@")[0].partition("[")[0] for name in names]
        return self._made[asset] or [WHOLE]

    def _is_newest(self, output: Version) -> bool:
        newer = (name for name in self.index.names(PARTITION, like=f"{output.asset}[[]*"))
        return all(parse_address(name)[1] <= output.partition for name in newer)  # pyright: ignore[reportOperatorIssue]


def _proofs(record: Record) -> dict[str, dict[str, Any]]:
    """Return by column what was shown of its lineage: from which columns, on what, and when; nothing for what was not."""
    about = {name: record.evidence.get(name) for name in ("time", "rows", "trials", "code_version")}
    found: dict[str, dict[str, Any]] = {}
    for edge in record.evidence.get("edges", ()):
        shown = {key: value for key, value in edge.items() if key not in ("output", "input")}
        found.setdefault(edge["output"], {**about, "inputs": {}})["inputs"][edge["input"]] = shown
    return found


def _column_version(version: Version, column: str) -> str:
    return replace(version, asset=f"{version.asset}.{column}").address
