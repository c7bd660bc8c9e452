"""The index against brute force: random histories of things and edges, asked at every moment of them."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from bikes_assets.core.errors import LineageError
from bikes_assets.lineage import index_file as module
from bikes_assets.lineage import queries
from bikes_assets.lineage.elements import Edge, Fact, Thing
from bikes_assets.lineage.index import Index
from bikes_assets_tests.contents import content_of

Name = tuple[str, str]
SEEDS = range(5)


def history_of(seed: int, events: int = 60) -> list[Fact]:
    """Return random events: new things computed from earlier ones, and things of which all edges are named anew."""
    rng, names, facts = random.Random(seed), [("v", "0")], [Fact(3, 0.5, [Thing("v", "0")])]
    for number in range(1, events):
        event = facts[-1].event + rng.randint(1, 3)
        if (
            rng.random() < 0.3 and number > 3
        ):  # in a random place, all edges change; always from an earlier to a later thing
            at = rng.randrange(1, len(names))
            edges = [Edge(names[rng.randrange(at)], names[at], rng.choice("ab")) for _ in range(rng.randint(0, 3))]
            facts.append(Fact(event, float(number), [Thing(*names[at], {"told": number})], edges, [names[at]]))
        else:
            names.append((rng.choice("vw"), str(number)))
            edges = [Edge(rng.choice(names[:-1]), names[-1], rng.choice("ab")) for _ in range(rng.randint(0, 4))]
            facts.append(Fact(event, float(number), [Thing(*names[-1], {"told": number})], edges))
    return facts


def edges_at(facts: list[Fact], event: int) -> set[Edge]:
    held: set[Edge] = set()
    for fact in facts:
        if fact.event <= event:
            held = {edge for edge in held if edge.target not in fact.settled or edge in fact.edges} | set(fact.edges)
    return held


def reached(edges: set[Edge], start: Name, direction: str) -> dict[Name, int]:
    ahead: dict[Name, set[Name]] = defaultdict(set)
    for edge in edges:
        here, there = (edge.source, edge.target) if direction == "downstream" else (edge.target, edge.source)
        ahead[here].add(there)
    found, level, depth = {start: 0}, {start}, 0
    while level:
        depth += 1
        level = {other for name in level for other in ahead[name]} - set(found)
        found |= dict.fromkeys(level, depth)
    del found[start]
    return found


def ways(edges: set[Edge], start: Name, end: Name) -> Iterator[list[Name]]:
    if start == end:
        yield [start]
    for other in {edge.target for edge in edges if edge.source == start}:
        yield from ([start, *way] for way in ways(edges, other, end))


@pytest.fixture(params=[2_000, 3], ids=["beside", "packed"])
def index(request, tmp_path, monkeypatch) -> Index:
    """Return an empty index, whose edges are packed after many events, or after few."""
    monkeypatch.setattr(module, "_RECENT", request.param)
    return Index(tmp_path / "index.db")


def everything(facts: list[Fact]) -> list[Name]:
    return list(dict.fromkeys((thing.kind, thing.name) for fact in facts for thing in fact.things))


@pytest.mark.parametrize("seed", SEEDS)
def test_walks_are_those_of_brute_force_at_every_moment(index: Index, seed: int) -> None:
    rng, facts = random.Random(seed), history_of(seed)
    for fact in facts:  # one by one, so that some edges are packed and some are not
        index.append([fact])
    names, last = everything(facts), facts[-1].event
    for moment in (None, *rng.sample(range(last + 1), 25)):
        edges = edges_at(facts, last if moment is None else moment)
        for name in rng.sample(names, 6):
            for direction in ("upstream", "downstream"):
                expected = reached(edges, name, direction)
                depth = rng.choice([None, 1, 2])
                answer = index.walk([name], direction, depth=depth, as_of=moment)
                found = {(item.kind, item.name): item.depth for item in answer.things}
                assert found == {key: at for key, at in expected.items() if depth is None or at <= depth}
                assert sum(answer.counts.values()) == len(answer.things)
                assert index.count([name], direction, as_of=moment) == len(expected)
                near = {edge for edge in edges if (edge.target if direction == "upstream" else edge.source) == name}
                assert set(index.neighbours(*name, direction, as_of=moment)) == near


@pytest.mark.parametrize("seed", SEEDS)
def test_ways_are_those_of_brute_force(index: Index, seed: int) -> None:
    rng, facts = random.Random(seed), history_of(seed, 25)
    index.append(facts)
    names = everything(facts)
    for moment in (None, *rng.sample(range(facts[-1].event), 5)):
        edges = edges_at(facts, facts[-1].event if moment is None else moment)
        for size in (1,) * 8 + (3,) * 4:
            starts, ends = rng.sample(names, size), rng.sample(names, size)
            every = [way for start in starts for end in ends for way in ways(edges, start, end)]
            for from_goals in (False, True):  # whether what is both is a way, too
                expected = sorted(way for way in every if len(way) > 1 or from_goals)
                count, found = index.paths(starts, ends, as_of=moment, from_goals=from_goals)
                assert count == len(expected)
                assert sorted([(item.kind, item.name) for item in way] for way in found) == expected


def test_of_many_ways_the_first_come_at_once(index: Index) -> None:
    """Thirty steps of two each: 2^30 ways."""
    facts = [Fact(1, 1.0, [Thing("v", "0")])]
    for step in range(1, 31):
        things = [Thing("v", f"{step}{side}") for side in "ab"] + [Thing("v", str(step))]
        edges = [
            edge
            for side in "ab"
            for edge in (
                Edge(("v", str(step - 1)), ("v", f"{step}{side}"), "x"),
                Edge(("v", f"{step}{side}"), ("v", str(step)), "x"),
            )
        ]
        facts.append(Fact(step + 1, 1.0, things, edges))
    index.append(facts)
    count, found = index.paths([("v", "0")], [("v", "30")])
    assert count == 2**30
    assert len({tuple(item.name for item in way) for way in islice(found, 100)}) == 100


@pytest.mark.parametrize("seed", SEEDS)
def test_however_it_is_taken_in_the_content_is_the_same(index: Index, tmp_path: Path, seed: int) -> None:
    rng, facts = random.Random(seed), history_of(seed)
    whole, at = Index(tmp_path / "whole.db"), 0
    assert whole.append(facts) == len(facts)
    while at < len(facts):
        size = rng.randint(1, 9)
        assert index.append(facts[at : at + size]) == len(facts[at : at + size])
        index.append(facts[: at + size])  # what was taken in is passed over
        at += size
        index.close()
    assert content_of(index) == content_of(whole)
    index.append([], again=True)
    assert (index.cursor, index.walk([("v", "0")], "downstream").things) == (0, [])
    index.append(facts)
    assert content_of(index) == content_of(whole)
    assert index.cursor == facts[-1].event


@pytest.mark.parametrize("seed", SEEDS)
def test_as_of_is_an_index_of_the_log_cut_there(index: Index, tmp_path: Path, seed: int) -> None:
    facts = history_of(seed)
    index.append(facts)
    for number, fact in enumerate(facts):
        cut = Index(tmp_path / f"{number}.db")
        cut.append(facts[: number + 1])
        moment = index.event_at(fact.time)
        assert moment == fact.event
        for name in random.Random(number).sample(everything(facts), 5):
            assert index.find(name[1], name[0], as_of=moment) == cut.find(name[1], name[0])
            for direction in ("upstream", "downstream"):
                assert index.walk([name], direction, as_of=moment) == cut.walk([name], direction)
        cut.close()


def test_an_event_that_makes_no_sense_takes_none_in(index: Index) -> None:
    index.append([Fact(1, 1.0, [Thing("v", "a")])])
    before = content_of(index)
    stray = Fact(3, 3.0, [], [Edge(("v", "nowhere"), ("v", "a"), "x")])
    with pytest.raises(
        LineageError, match="found an edge of v 'nowhere', expected the thing in the same event or before"
    ):
        index.append([Fact(2, 2.0, [Thing("v", "b")]), stray])
    with pytest.raises(LineageError, match="found event 4 after 5, expected events in ascending order"):
        index.append([Fact(5, 2.0, [Thing("v", "b")]), Fact(4, 2.0, [Thing("v", "c")])])
    assert content_of(index) == before
    assert index.cursor == 1


def test_a_search_finds_beginnings_of_words_in_names_and_texts(index: Index) -> None:
    index.append([
        Fact(1, 1.0, [Thing("column", "t.temp", text="Air temperature"), Thing("column", "t.hum", text="Relative humidity")]),
        Fact(2, 2.0, [Thing("column", "t.temp", text="Felt temperature")]),
    ])  # fmt: skip
    assert [item.name for item in index.search("temper")] == ["t.temp"]
    assert [item.name for item in index.search("relat hum")] == ["t.hum"]
    assert index.search("air") == index.search('"*(') == index.search("") == []
    assert [item.name for item in index.search("temper\0")] == ["t.temp"]


@pytest.mark.parametrize("text", ["[", "*", "a", "漢", "a."])
def test_a_name_of_any_length_is_looked_for(index: Index, text: str) -> None:
    index.append([Fact(1, 1.0, [Thing("run", "[" * 20)])])
    for length in (1_000, 100_000):
        with pytest.raises(LineageError, match="found nothing called"):
            queries.find(index, text * length)
        assert queries.begun(index, text * length) == []
    assert queries.find(index, "[" * 8).name == "[" * 20


def test_a_file_of_another_layout_is_made_anew(index: Index, monkeypatch) -> None:
    index.append([Fact(1, 1.0, [Thing("v", "a")])])
    index.close()
    monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    assert index.cursor == 0
    index.append([Fact(1, 1.0, [Thing("v", "a")])])
    assert index.cursor == 1


@pytest.mark.parametrize("is_replaced", [True, False])
def test_a_file_that_somebody_has_replaced_or_deleted_is_asked_and_written_as_it_is_now(
    index: Index, tmp_path: Path, is_replaced: bool
) -> None:
    # Given an open index, at whose place another one is by now
    index.append([Fact(1, 1.0, [Thing("v", "a")])])
    other = Index(tmp_path / "other.db")
    other.append([Fact(1, 1.0, [Thing("v", "b")])])
    other.close()
    for end in ("", ".crc32"):
        file, theirs = (path.with_name(f"{path.name}{end}") for path in (index.path, other.path))
        theirs.replace(file) if is_replaced else file.unlink()
    # When
    index.check()
    # Then
    assert [item.name for item in index.find("a") + index.find("b")] == (["b"] if is_replaced else [])
    index.append([Fact(2, 2.0, [Thing("v", "c")])])
    again = Index(index.path)
    again.check()
    assert again.cursor == 2


WRITER = """
import sys
from pathlib import Path
from bikes_assets.lineage.index import Index
from bikes_assets.lineage.elements import Fact, Thing
index = Index(Path(sys.argv[1]))
for upto in range(10, 210, 10):
    index.append([Fact(number, float(number), [Thing("v", str(number))]) for number in range(1, upto)])
"""


def test_processes_that_take_in_the_same_log_at_once_make_one_index(tmp_path: Path) -> None:
    file = tmp_path / "index.db"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, file], stderr=subprocess.PIPE) for _ in range(4)]
    assert [(writer.wait(), writer.stderr.read()) for writer in writers] == [(0, b"")] * 4
    alone = Index(tmp_path / "alone.db")
    alone.append([Fact(number, float(number), [Thing("v", str(number))]) for number in range(1, 200)])
    assert content_of(Index(file)) == content_of(alone)
