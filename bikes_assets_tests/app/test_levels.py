"""Questions between any two levels, about a real run: path, upstream and downstream agree with each other and the records."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

import pytest

from bikes_assets.app import answers
from bikes_assets.app.store import current
from bikes_assets.lineage import queries
from bikes_assets.lineage.elements import COLUMN, JOB
from bikes_assets.lineage.event_log import events_since
from bikes_assets.lineage.projection import MaterializedEvent, ObservedEvent, RegisteredEvent
from bikes_assets.project import SCHEMAS, SERVING, SOURCE
from bikes_assets_tests.conftest import MADE
from bikes_assets_tests.fire.processes import SOAK

COLUMNS = {**SCHEMAS, SOURCE.schema.name: SOURCE.schema}
KINDS = tuple(kind for kind in queries.KINDS if kind != JOB)  # of which only other tools tell
PAIRS = 2_000 if SOAK else 200
CONTRIBUTORS = ("file", "code", "run", "tag")


class Node(NamedTuple):
    """Something in the lineage by its parts; parts that its kind does not have are empty."""

    kind: str
    name: str = ""
    column: str = ""
    partition: str = ""
    version: str = ""

    @property
    def address(self) -> str:
        text = self.name + (f".{self.column}" if self.column else "")
        text += f"[{self.partition}]" if self.partition else ""
        return text + (f"@{self.version}" if self.version else "")


@dataclass
class Records:
    """The lineage as the records of a log say it, kept as plain sets of edges, with no index."""

    events: list[Any]
    edges: dict[str, set[tuple[Node, Node]]] = field(default_factory=lambda: defaultdict(set))
    names: dict[Node, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        current: dict[tuple[str, str], Any] = {}
        newest: dict[str, Any] = {}
        for event in self.events:
            if isinstance(event, ObservedEvent):
                made = Node("version", event.version.asset, "", event.version.partition, event.version.version)
                for name, sha256, _ in event.origin.files:
                    self.edges["version"].add((Node("file", f"{name}@{sha256[:16]}"), made))
            elif isinstance(event, RegisteredEvent):
                raise AssertionError("every model of this history was registered as it was fitted")
            else:
                self.take(event)
                output = event.record.output
                current[output.asset, output.partition] = newest[output.asset] = event
        for event in current.values():
            pairs = self.read(event)
            self.edges["partition"] |= {(partition(source), partition(target)) for source, target in pairs}
        for event in newest.values():
            self.edges["column"] |= {(column(source), column(target)) for source, target in self.columns(event)}
        tagged = [(tag, asset, item.name) for asset in COLUMNS for item in COLUMNS[asset].columns for tag in item.tags]
        self.edges["column"] |= {(Node("tag", tag), Node("column", asset, name)) for tag, asset, name in tagged}
        serving = max((key, event) for (asset, key), event in current.items() if asset == SERVING)[1]
        (chosen,) = serving.record.models
        version = self.version(chosen["origin"].removesuffix(" baseline"))
        self.names[Node("alias", "demand_model", version="champion")] = version

    def take(self, event: MaterializedEvent) -> None:
        record, output = event.record, event.record.output
        made = Node("version", output.asset, "", output.partition, str(output.version))
        for source, target in self.read(event):
            self.edges["version"].add((source, target))
            self.edges["dataset"].add((Node("dataset", source.name), Node("dataset", target.name)))
        for model in record.models:
            if model["origin"]:
                self.edges["version"].add((self.version(model["origin"].removesuffix(" baseline")), made))
        self.edges["version"].add((Node("code", record.code_version), made))
        self.edges["version"].add((Node("run", record.made_by["dagster_run_id"]), made))
        self.edges["column version"] |= self.columns(event)
        if event.registered:
            self.names[Node("model version", output.asset, version=str(event.registered))] = made

    @staticmethod
    def version(address: str) -> Node:
        asset, _, rest = address.partition("[")
        key, _, number = rest.partition("]@")
        return Node("version", asset, "", key, number)

    @staticmethod
    def read(event: MaterializedEvent) -> list[tuple[Node, Node]]:
        output = event.record.output
        made = Node("version", output.asset, "", output.partition, str(output.version))
        return [(Node("version", i.asset, "", i.partition, str(i.version)), made) for i in event.record.inputs]

    @staticmethod
    def columns(event: MaterializedEvent) -> set[tuple[Node, Node]]:
        record, found = event.record, set()
        output = record.output
        for item in record.inputs:
            names = [known.name for known in COLUMNS[item.asset].columns] if item.asset in COLUMNS else ["*"]
            used = [name for name in names if item.asset not in record.used or name in record.used[item.asset]]
            if not record.columns:
                pairs = [(name, "*") for name in used]
            elif names == ["*"]:
                pairs = [("*", name) for name in record.columns if name != "ts" and used]
            else:
                told = [(name, target, of) for target, sources in event.lineage.items() for of, name in sources]
                pairs = [(name, target) for name, target, of in told if of == item.asset and name in used]
            for source, target in pairs:
                here = Node("column version", item.asset, source, item.partition, str(item.version))
                there = Node("column version", output.asset, target, output.partition, str(output.version))
                found.add((here, there))
        return found

    @cached_property
    def ahead(self) -> dict[str, dict[Node, set[Node]]]:
        found: dict[str, dict[Node, set[Node]]] = {level: defaultdict(set) for level in self.edges}
        for level, edges in self.edges.items():
            for source, target in edges:
                found[level][source].add(target)
        return found

    @cached_property
    def known(self) -> list[Node]:
        """All things, of all kinds."""
        found = {node for edges in self.edges.values() for edge in edges for node in edge} | {*self.names}
        for event in self.events:
            version = event.version if isinstance(event, ObservedEvent) else event.record.output
            columns = [item.name for item in COLUMNS[version.asset].columns] if version.asset in COLUMNS else ["*"]
            for name in columns:
                found.add(Node("column", version.asset, name))
                found.add(Node("column version", version.asset, name, version.partition, str(version.version)))
            found.add(Node("version", version.asset, "", version.partition, str(version.version)))
            found.add(Node("partition", version.asset, "", version.partition))
            found.add(Node("dataset", version.asset))
        return sorted(found)

    def ways(self, start: Node, end: Node) -> int:
        """Return how many ways lead from one thing to another, on the coarsest level that tells both apart."""
        start, end = self.names.get(start, start), self.names.get(end, end)
        if end.kind in CONTRIBUTORS:
            return 0
        grains = [grain(start), grain(end)]
        by_column, by_version = max(one for one, _ in grains), max(two for _, two in grains)
        level = {(0, 0): "dataset", (1, 0): "column", (0, 1): "partition", (0, 2): "version"}.get(
            (by_column, by_version), "column version"
        )
        ends, ahead = {*self.comprised(end, level)}, self.ahead[level]
        known: dict[Node, int] = {}

        def ways(node: Node) -> int:
            if node not in known:
                known[node] = sum((other in ends) + ways(other) for other in ahead.get(node, ()))
            return known[node]

        if start.kind in CONTRIBUTORS and level not in ("version" if start.kind != "tag" else "column",):
            home = "column" if start.kind == "tag" else "version"
            led = [node for other in self.ahead[home][start] for node in self.comprised(other, level)]
            return sum((node in ends) + ways(node) for node in led)
        return sum(ways(node) for node in {*self.comprised(start, level)})

    def comprised(self, node: Node, level: str) -> Iterable[Node]:
        if node.kind in CONTRIBUTORS:
            return [node]
        return (
            other
            for other in self.known
            if other.kind == level and all(one in ("", two) for one, two in zip(node[1:], other[1:], strict=True))
        )


def grain(node: Node) -> tuple[int, int]:
    return {"dataset": (0, 0), "column": (1, 0), "tag": (1, 0), "partition": (0, 1), "column version": (1, 2)}.get(
        node.kind, (0, 2)
    )


def partition(node: Node) -> Node:
    return Node("partition", node.name, "", node.partition)


def column(node: Node) -> Node:
    return Node("column", node.name, node.column)


@pytest.fixture(scope="module")
def records(history) -> Records:
    return Records([*events_since(current().events, 0)])


def pairs_of(records: Records, seed: int) -> Iterator[tuple[Node, Node]]:
    """Yield pairs of things, each kind as often as any other."""
    draw = random.Random(seed)
    by_kind = {kind: [node for node in records.known if node.kind == kind] for kind in KINDS}
    assert all(by_kind.values()), [kind for kind, nodes in by_kind.items() if not nodes]
    while True:
        start, end = (draw.choice(by_kind[draw.choice(KINDS)]) for _ in range(2))
        yield start, end


@pytest.mark.soak
def test_every_pair_of_levels_answers_and_all_answers_agree(records: Records) -> None:
    found, wrong = 0, []
    index = answers.refreshed()
    assert {(kind, name) for kind in KINDS for name in index.names(kind)} == {
        (node.kind, node.address) for node in records.known
    }
    for start, end in islice(pairs_of(records, 7), PAIRS):
        expected = records.ways(start, end)
        found += expected > 0
        count, ways = answers.paths(start.address, end.address)
        shown = [*islice(ways, 50)]
        below = {item.name for item in answers.downstream(start.address, level=end.kind).things}
        above = {item.name for item in answers.upstream(end.address, level=start.kind).things}
        told = (count, bool(shown), end.address in below, start.address in above)
        if told != (expected, bool(expected), bool(expected), bool(expected)):
            wrong.append((start, end, expected, told))
        # each way begins in what the one is or comprises, and ends in the other; it is shown once
        assert len({tuple((item.kind, item.name) for item in way) for way in shown}) == len(shown)
        assert all([item.depth for item in way] == [*range(len(way))] for way in shown)
    assert not wrong, wrong[:5]
    assert found > PAIRS / 10  # else nothing was tried


def test_names_of_one_version_answer_alike(records: Records) -> None:
    for name, version in records.names.items():
        for ask in (answers.upstream, answers.downstream):
            assert ask(name.address) == ask(version.address)
            assert ask(name.address, level="column") == ask(version.address, level="column")
        for other in ("hourly_rentals.temp", "demand_features", "prediction_quality[2011-07]", "demand_predictions.ts"):
            assert answers.paths(name.address, other)[0] == answers.paths(version.address, other)[0]
            assert answers.paths(other, name.address)[0] == answers.paths(other, version.address)[0]


def test_a_column_and_a_table_meet_on_columns(records: Records) -> None:
    count, ways = answers.paths("hourly_rentals.temp", "demand_features")
    assert count == 2
    assert sorted([item.name for item in way] for way in ways) == [
        ["hourly_rentals.temp", "demand_features.temperature"],
        ["hourly_rentals.temp", "demand_features.temperature_above_27d"],
    ]
    assert answers.paths("demand_features", "hourly_rentals.temp")[0] == 0
    for table in MADE:  # a table is any of its columns
        names = [str(item) for item in answers.refreshed().within(COLUMN, table)]
        for column in ("rental_records.cnt", "hourly_rentals.temp", "demand_features.temperature"):
            assert answers.paths(column, table)[0] == sum(answers.paths(column, name)[0] for name in names)
            assert answers.paths(table, column)[0] == sum(answers.paths(name, column)[0] for name in names)
    # a model does not use this column
    assert answers.paths("demand_features.demand_lag_24h", "demand_model@champion")[0] == 0
    assert answers.paths("demand_features.temperature", "demand_model@champion")[0] > 0


def test_a_walk_goes_to_the_level_that_is_asked_about(records: Records) -> None:
    found = answers.upstream("demand_model@champion", level="dataset").things
    assert [(item.depth, item.name) for item in found] == [
        (1, "demand_features"),
        (2, "hourly_rentals"),
        (3, "rental_records"),
    ]
    assert [item.name for item in answers.upstream("demand_predictions.prediction", level="file").things] == [
        "hour.csv@35f54957b7ccea2a"
    ]
    assert {item.name for item in answers.downstream("hourly_rentals.temp", level="alias").things} == {
        "demand_model@champion"
    }
    assert answers.downstream("demand_model@champion", level="alias").things == []  # it is that one itself
    assert answers.upstream("rental_records", level="run").things == []
    assert answers.downstream("demand_features", level="code").things == []  # code contributes, nothing is made to it
