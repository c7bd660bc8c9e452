"""The index joined with other tools' events, against brute force: random graphs of both, asked at random times."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path
from time import process_time
from typing import Any

import pytest

from bikes_assets.core.address import Address
from bikes_assets.core.errors import LineageError
from bikes_assets.lineage import queries
from bikes_assets.lineage.elements import COLUMN, DATASET, JOB, Edge, Fact, Thing
from bikes_assets.lineage.index import Index
from bikes_assets.lineage.openlineage.joined import JoinedIndex
from bikes_assets.lineage.openlineage.names import label
from bikes_assets.lineage.openlineage.received import Received
from bikes_assets.lineage.tree import tree
from bikes_assets_tests.lineage.openlineage.foreign import START, column_lineage, dataset, event, named, random_events
from bikes_assets_tests.lineage.test_index import reached, ways

OWN = [f"own{number}" for number in range(8)]
NAMES = {label("file", f"/lake/{name}"): name for name in OWN}
PLACES = [f"/lake/{name}" for name in OWN]
Name = tuple[str, str]


def local_facts(seed: int) -> list[Fact]:
    """Return events of the index: datasets of this project with three columns each, computed from earlier ones."""
    rng, facts = random.Random(seed), list[Fact]()
    for number, name in enumerate(OWN[:6]):  # of the other two nothing was materialized
        things = [Thing.at(DATASET, Address(name)), *(Thing.at(COLUMN, Address(name, f"c{at}")) for at in range(3))]
        edges = list[Edge]()
        for other in rng.sample(OWN[:number], min(number, 2)):
            edges.append(Edge((DATASET, other), (DATASET, name), "read"))
            here, there = f"{other}.c{rng.randrange(3)}", f"{name}.c{rng.randrange(3)}"
            edges.append(Edge((COLUMN, here), (COLUMN, there), "direct"))
        facts.append(Fact(number + 1, START + 100 * number, things, edges))
    return facts


class Reference:
    """The edges of both, in the simplest way.

    Args:
        facts: events of the index.
        events: events of other tools.
        time: those that count.
    """

    def __init__(self, facts: list[Fact], events: list[dict[str, Any]], time: float) -> None:
        self.same: dict[str, set[str]] = {}
        for item in events:  # two names mean one dataset, at whatever time that is told
            for each in (*item["inputs"], *item["outputs"]):
                for other in each["facets"].get("symlinks", {}).get("identifiers", ()):
                    self._join(label(each["namespace"], each["name"]), label(other["namespace"], other["name"]))
        self.edges = {edge for fact in facts if fact.time <= time for edge in fact.edges}
        self.used: dict[str, set[tuple[bool, str]]] = defaultdict(set)
        reads, writes, explicit = defaultdict[Any, set[str]](set), defaultdict[Any, set[str]](set), set[Any]()
        for item in events:
            unit = item["job"]["name"], item["run"]["runId"]
            for entry in item["job"]["facets"].get("lineage", {}).get("entries", ()):
                explicit.add((unit, self.name(entry)))
        for item in events:
            if datetime.fromisoformat(item["eventTime"]).timestamp() > time:
                continue
            unit = item["job"]["name"], item["run"]["runId"]
            reads[unit] |= {self.name(each) for each in item["inputs"]}
            writes[unit] |= {self.name(each) for each in item["outputs"]}
            job = f"elsewhere:{item['job']['name']}"
            self.used[job] |= {(False, self.name(each)) for each in item["inputs"]}
            self.used[job] |= {(True, self.name(each)) for each in item["outputs"]}
            for entry in item["job"]["facets"].get("lineage", {}).get("entries", ()):
                for each in entry["inputs"]:
                    self._edge((DATASET, self.name(each)), (DATASET, self.name(entry)))
            for each in item["outputs"]:
                for column, told in each["facets"].get("columnLineage", {}).get("fields", {}).items():
                    for source in told["inputFields"]:
                        self._edge(self.column(source, source["field"]), self.column(each, column))
        for unit, outputs in writes.items():
            for output in outputs:
                for source in reads[unit] if (unit, output) not in explicit else ():
                    self._edge((DATASET, source), (DATASET, output))

    def name(self, told: dict[str, Any]) -> str:
        text = label(told["namespace"], told["name"])
        group = self.same.get(text, {text})
        owned = [NAMES[item] for item in sorted(group) if item in NAMES]
        return str(Address((owned or sorted(group))[0]))

    def column(self, told: dict[str, Any], column: str) -> Name:
        asset = Address.parse(self.name(told))
        assert asset
        return COLUMN, str(Address(asset.asset, column))

    def _join(self, one: str, other: str) -> None:
        group = self.same.get(one, {one}) | self.same.get(other, {other})
        self.same.update(dict.fromkeys(group, group))

    def _edge(self, source: Name, target: Name) -> None:
        if source != target:
            self.edges.add(Edge(source, target, ""))

    def reached(self, start: Name, direction: str) -> dict[Name, int]:
        """Return everything upstream or downstream of a dataset or column, with the jobs of what is passed.

        The start is among it where edges lead in a circle.
        """
        found = reached(self.edges, start, direction)
        ends = ((edge.source, edge.target)[:: 1 if direction == "downstream" else -1] for edge in self.edges)
        if circles := [found[here] + 1 for here, there in ends if there == start and here in found]:
            found[start] = min(circles)
        for at, depth in [(start, 0), *found.items()]:
            for job, used in self.used.items():
                if at[0] == DATASET and (direction == "upstream", at[1]) in used:
                    found[JOB, job] = min(found.get((JOB, job), depth + 1), depth + 1)
        return found


@pytest.fixture
def local(tmp_path: Path) -> Index:
    return Index(tmp_path / "lineage.db")


@pytest.fixture
def received(tmp_path: Path) -> Iterator[Received]:
    found = Received(tmp_path / "openlineage.db")
    yield found
    found.close()


@pytest.mark.parametrize("seed", range(12))
def test_walks_and_paths_are_those_of_brute_force_at_every_time(local: Index, received: Received, seed: int) -> None:
    rng, facts = random.Random(seed), local_facts(seed)
    events = random_events(seed, rng.choice([8, 14, 40]), PLACES)
    local.append(facts)
    received.add(events)
    for time in (None, *(START + rng.randrange(1_000) for _ in range(4))):
        index = JoinedIndex(local, received, NAMES)
        as_of = None if time is None else index.event_at(time)
        reference = Reference(facts, events, float("inf") if time is None else time)
        names = sorted({name for edge in reference.edges for name in (edge.source, edge.target)})
        for name in rng.sample(names, min(len(names), 8)):
            for direction in ("upstream", "downstream"):
                answer = JoinedIndex(local, received, NAMES).walk([name], direction, as_of=as_of)
                found = {(item.kind, item.name): item.depth for item in answer.things}
                assert found == reference.reached(name, direction), (name, direction, time)
                near = {edge for edge in reference.edges if name in (edge.source, edge.target)}
                near = {edge for edge in near if (edge.target if direction == "upstream" else edge.source) == name}
                edges = index.neighbours(*name, direction, to=name[0], as_of=as_of)
                assert {(edge.source, edge.target) for edge in edges} == {(edge.source, edge.target) for edge in near}
        edges = {Edge(edge.source, edge.target, "") for edge in reference.edges}
        # of many edges brute force would not end
        for one, other in (rng.sample(names, 2) for _ in range(8 if len(names) > 1 and len(events) < 20 else 0)):
            count, ways_found = JoinedIndex(local, received, NAMES).paths([one], [other], as_of=as_of)
            found = sorted([(item.kind, item.name) for item in way] for way in ways_found)
            assert count == len(found)
            if is_circular(edges):  # then some that lead back are left out, but what can be reached is
                assert bool(found) == (other in reached(edges, one, "downstream"))
                assert all(len({*way}) == len(way) for way in found)
                steps = {(source, target) for way in found for source, target in pairwise(way)}
                assert steps <= {(edge.source, edge.target) for edge in edges}
            else:
                assert found == sorted(ways(edges, one, other))


def is_circular(edges: set[Edge]) -> bool:
    ahead = defaultdict[Name, set[Name]](set)
    for edge in edges:
        ahead[edge.source].add(edge.target)
    try:
        TopologicalSorter(ahead).prepare()
    except CycleError:
        return True
    return False


@pytest.fixture
def joined(local: Index, received: Received) -> JoinedIndex:
    """Return an index of rides and what two tools made of them."""
    local.append([
        Fact(1, START, [Thing.at(DATASET, Address("rides")), Thing.at(COLUMN, Address("rides", "count"), {"type": "int64"})])
    ])  # fmt: skip
    daily = dataset("mart/daily", columnLineage=column_lineage({"total": [("/lake/rides", "count")]}))
    weekly = dataset("mart/weekly", columnLineage=column_lineage({"total": [("mart/daily", "total")]}))
    received.add([
        event("r1", ["/lake/rides"], [daily], job="make_daily", seconds=10),
        event("r2", ["mart/daily"], [weekly], job="make_weekly", seconds=20),
        event("r3", ["mart/weekly"], [], job="dashboard", seconds=30),
        event("r4", ["mart/daily"], ["other/weekly"], job="make_weekly", seconds=40),
    ])  # fmt: skip
    return JoinedIndex(local, received, {label("file", "/lake/rides"): "rides"})


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("rides", (DATASET, "rides")),
        ("rides.count", (COLUMN, "rides.count")),
        ("file:/lake/rides", (DATASET, "rides")),
        ("s3://elsewhere/mart/daily", (DATASET, "s3://elsewhere/mart/daily")),
        ("mart/daily.total", (COLUMN, "s3://elsewhere/mart/daily.total")),
        ("daily", (DATASET, "s3://elsewhere/mart/daily")),
        ("daily.total", (COLUMN, "s3://elsewhere/mart/daily.total")),
        ("dashboard", (JOB, "elsewhere:dashboard")),
        ("elsewhere:dashboard", (JOB, "elsewhere:dashboard")),
        ("r3", ("run", "r3")),
    ],
)
def test_what_other_tools_tell_is_found_by_its_name_or_the_end_of_it(
    joined: JoinedIndex, asked: str, found: tuple[str, str]
) -> None:
    result = queries.find(joined, asked)
    assert (result.kind, result.name) == found


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("weekly", "found several that end with 'weekly': s3://elsewhere/mart/weekly, s3://elsewhere/other/weekly"),
        ("monthly", "found nothing called 'monthly'; expected one"),
        ("daily.nothing", "found nothing called 'daily.nothing'"),
        ("daily[2012-08]", "found nothing called"),
        ("", "found nothing called ''"),
        ("%", "found nothing called '%'"),
    ],
)
def test_a_name_that_means_nothing_or_several_things_is_an_error(joined: JoinedIndex, asked: str, told: str) -> None:
    with pytest.raises(LineageError) as error:
        queries.find(joined, asked)
    assert str(error.value).startswith(told)


def test_a_job_is_come_to_and_started_from_but_not_walked_through(joined: JoinedIndex) -> None:
    def walked(address: str, direction: Any, **more: Any) -> list[str]:
        return [item.name for item in queries.walk(joined, address, direction, **more)]

    daily, weekly = "s3://elsewhere/mart/daily", "s3://elsewhere/mart/weekly"
    assert walked("rides", "downstream") == [
        daily, "elsewhere:make_daily", weekly, "s3://elsewhere/other/weekly", "elsewhere:make_weekly", "elsewhere:dashboard",
    ]  # fmt: skip
    assert walked("rides", "downstream", level=JOB) == [
        "elsewhere:make_daily",
        "elsewhere:make_weekly",
        "elsewhere:dashboard",
    ]
    assert walked("rides.count", "downstream", level=JOB) == ["elsewhere:make_daily", "elsewhere:make_weekly"]
    assert walked("make_daily", "downstream", depth=1) == [daily]
    assert walked("dashboard", "upstream", depth=2) == [weekly, daily, "elsewhere:make_weekly"]
    assert walked("r4", "downstream") == ["s3://elsewhere/other/weekly"]
    assert walked("r4", "upstream", depth=1) == [daily]
    assert [item.name for item in joined.search("mart total")] == [f"{daily}.total", f"{weekly}.total"]


def test_as_of_a_time_only_what_was_told_of_by_then_is_there(joined: JoinedIndex) -> None:
    def walked(seconds: float) -> list[str]:
        moment = joined.event_at(START + seconds)
        return [item.name for item in queries.walk(joined, "rides", "downstream", level=DATASET, as_of=moment)]

    assert walked(9) == []
    assert walked(10) == ["s3://elsewhere/mart/daily"]
    assert walked(25) == ["s3://elsewhere/mart/daily", "s3://elsewhere/mart/weekly"]
    with pytest.raises(LineageError, match="found nothing called 'dashboard' at that time"):
        queries.find(joined, "dashboard", as_of=joined.event_at(START + 25))


def test_symlinks_never_make_two_datasets_of_the_index_one(local: Index, received: Received) -> None:
    local.append([Fact(1, START, [Thing.at(DATASET, Address(name)) for name in ("own0", "own1")])])
    both = {"identifiers": [named(place) for place in PLACES[:2]]}
    received.add([event("r", ["a"], [dataset("thief", symlinks=both)]), event("s", [PLACES[1]], ["b"])])
    index = JoinedIndex(local, received, NAMES)
    assert [item.name for item in queries.walk(index, "own1", "downstream", level=DATASET)] == ["s3://elsewhere/b"]
    assert [item.name for item in queries.walk(index, "own0", "downstream", level=DATASET)] == []


def test_a_ring_of_symlinks_is_one_dataset(local: Index, received: Received) -> None:
    ring = [dataset(f"r{at}", symlinks={"identifiers": [named(f"r{(at + 1) % 50}")]}) for at in range(50)]
    received.add([event("r", ["a"], ring), event("s", ["r7"], ["b"])])
    index = JoinedIndex(local, received, NAMES)
    assert [item.name for item in queries.walk(index, "s3://elsewhere/b", "upstream", level=DATASET)] == [
        "s3://elsewhere/r0",
        "s3://elsewhere/a",
    ]


def test_a_dataset_without_a_run_is_computed_from_the_datasets_of_its_columns(local: Index, received: Received) -> None:
    facet = column_lineage({"x": [("a", "y")]})
    received.add([{"eventTime": "2026-01-01T00:00:00Z", "dataset": dataset("b", columnLineage=facet)}])
    index = JoinedIndex(local, received, NAMES)
    assert [item.name for item in queries.walk(index, "s3://elsewhere/b", "upstream")] == ["s3://elsewhere/a"]


def test_names_are_listed_by_how_they_begin(joined: JoinedIndex) -> None:
    assert queries.begun(joined, "s3://elsewhere/mart/") == ["s3://elsewhere/mart/daily", "s3://elsewhere/mart/weekly"]
    assert queries.begun(joined, "s3://elsewhere/mart/daily.t") == ["s3://elsewhere/mart/daily.total"]
    assert joined.names(DATASET, like="s3://*weekly") == ["s3://elsewhere/mart/weekly", "s3://elsewhere/other/weekly"]


def test_a_run_of_very_many_datasets_is_walked_through_once(local: Index, received: Received) -> None:
    # four times the datasets are sixteen times the edges of one with each other
    few, many = (walked_through(local, received, count) for count in (250, 1_000))
    assert many < 12 * few


def walked_through(local: Index, received: Received, count: int) -> float:
    """Return the CPU seconds of questions about a run that reads and writes so many datasets."""
    inputs, outputs = ([f"{side}{at}of{count}" for at in range(count)] for side in "io")
    root, end = f"root{count}", f"end{count}"
    received.add([
        event(f"fan {count}", [root], inputs),
        event(f"wide {count}", [*inputs, outputs[0]], outputs),
        event(f"join {count}", outputs, [end]),
    ])  # fmt: skip
    begun = process_time()
    for start, direction in ((root, "downstream"), (end, "upstream")):
        answer = JoinedIndex(local, received, NAMES).walk([(DATASET, f"s3://elsewhere/{start}")], direction)
        assert answer.counts == {DATASET: 2 * count + 1, JOB: 1}
        assert len(tree(JoinedIndex(local, received, NAMES), answer.things, direction)) == count + 1
    found, ways_found = JoinedIndex(local, received, NAMES).paths(
        [(DATASET, f"s3://elsewhere/{inputs[7]}")], [(DATASET, f"s3://elsewhere/{end}")]
    )
    assert found == 2 * count - 1  # through each output, and from the one that is an input, too, through all others
    assert next(ways_found)[-1].name == f"s3://elsewhere/{end}"
    return process_time() - begun
