"""The layered layout in Python alone, against graphviz's dot: its time, and how often lines cross.

Graphs are generated in five shapes, four seeds each, beside the project's own assets and columns. Crossings of this layout
are counted on the curves that it draws. Those of dot are counted in two ways: on curves sampled from its splines, and by
its ranks, as inversions between neighbouring ranks of the heights at which splines pass them. Splines that leave a box side
by side cross more often than their ranks require; the ratio is to the ranks.

    python benchmarks/layout.py    # needs dot, of graphviz
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import tempfile
import time
from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from timing import BIKES, ROUNDS, cost, fresh_store, table

from bikes_assets.lineage.drawing.boxes import Box, BoxLink, Layout, Point
from bikes_assets.lineage.drawing.layout import layout
from bikes_assets.lineage.elements import COLUMN, DATASET
from bikes_assets.lineage.index import Index

COUNT, COLUMNS, SEEDS = 200, 14, 4
MOST, MOST_CROSSINGS = 50, 1.2
Edges = list[tuple[int, int]]


def layered(rng: random.Random) -> Edges:
    """Return links between random boxes of fourteen layers, most of them neighbouring."""
    layer = [rng.randrange(COLUMNS) for _ in range(COUNT)]
    found = set[tuple[int, int]]()
    while len(found) < 350:
        target, back = rng.randrange(COUNT), 1
        while rng.random() < 0.15:
            back += 1
        if sources := [box for box in range(COUNT) if layer[box] == layer[target] - back]:
            found.add((rng.choice(sources), target))
    return sorted(found)


def local(rng: random.Random) -> Edges:
    """Return links between boxes that are near each other, as those of grown projects are."""
    places = [(rng.randrange(COLUMNS), rng.random()) for _ in range(COUNT)]
    found = set[tuple[int, int]]()
    while len(found) < 320:
        target = rng.randrange(COUNT)
        back = 1 if rng.random() < 0.8 else rng.randrange(1, 4)
        sources = [box for box in range(COUNT) if places[box][0] == places[target][0] - back]
        if sources:
            some = rng.sample(sources, min(3, len(sources)))
            found.add((min(some, key=lambda box: abs(places[box][1] - places[target][1])), target))
    return sorted(found)


def tree(rng: random.Random) -> Edges:
    """Return a tree whose root reads from all others."""
    return [(box, rng.randrange(max(0, box // 2 - 8), box)) for box in range(1, COUNT)]


def fan_in(rng: random.Random) -> Edges:
    """Return many boxes that a few read, which read one another."""
    hubs = 12
    found = {(box, hub) for box in range(hubs, COUNT) for hub in rng.sample(range(hubs), rng.choice([1, 1, 1, 2]))}
    return sorted(found | {(hub, rng.randrange(hub)) for hub in range(1, hubs)})


def pipelines(rng: random.Random) -> Edges:
    """Return chains with links that skip steps, which read each other's steps."""
    found, chains, first = set[tuple[int, int]](), list[list[int]](), 0
    while first < COUNT:
        steps = [*range(first, min(first + rng.randrange(4, 12), COUNT))]
        first += len(steps)
        found |= {*pairwise(steps)}
        for _ in range(2 if chains else 0):
            found.add((rng.choice(rng.choice(chains[-4:])), rng.choice(steps)))
        for _ in range(len(steps) // 4):
            one, other = sorted(rng.sample(steps, 2))
            found.add((one, other))
        chains.append(steps)
    return sorted(found)


SHAPES: dict[str, Callable[[random.Random], Edges]] = {
    "random layers": layered,
    "layers of near boxes": local,
    "tree": tree,
    "wide fan-in": fan_in,
    "pipelines with skips": pipelines,
}


def graph(edges: Edges, count: int = COUNT) -> tuple[list[Box], list[BoxLink]]:
    """Return the boxes and links of numbered vertices."""
    names = [f"table_{number:03}" for number in range(count)]
    return [Box(name) for name in names], [BoxLink(names[source], names[target]) for source, target in edges]


def own_graphs() -> dict[str, tuple[list[Box], list[BoxLink]]]:
    """Return the project's assets and its columns, as its index has them after four months."""
    found = {}
    with fresh_store() as env:
        cost([*BIKES, "run", *(word for month in range(1, 5) for word in ("--month", f"2011-{month:02}"))], env)
        cost([*BIKES, "index"], env)
        index = Index(Path(env["BIKES_DATA"]) / "lineage.db")
        for name, kind in (("the project's assets", DATASET), ("the project's columns", COLUMN)):
            names = index.names(kind)
            edges = [edge for item in names for edge in index.neighbours(kind, item, "upstream", to=kind)]
            links = [BoxLink(edge.source[1], edge.target[1]) for edge in edges]
            found[name] = [Box(item) for item in names], links
        index.close()
    return found


def sampled(points: Sequence[Point], steps: int = 15) -> list[Point]:
    """Return points along a spline: its beginning, and two control points and an end for each of its parts."""
    found = [points[0]]
    for first in range(0, len(points) - 1, 3):
        parts = points[first : first + 4]
        for step in range(1, steps + 1):
            t = step / steps
            shares = ((1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t * t, t**3)
            found.append(
                tuple(sum(share * point[axis] for share, point in zip(shares, parts, strict=True)) for axis in (0, 1))
            )
    return found


def drawn(found: Layout) -> list[list[Point]]:
    """Return the lines of a layout as it draws them."""
    lines = []
    for route in found.routes:
        points = [route.points[0]]
        for (x, y), (to_x, to_y) in pairwise(route.points):
            points += [((x + to_x) / 2, y), ((x + to_x) / 2, to_y), (to_x, to_y)]
        lines.append(sampled(points))
    return lines


def asked_of_dot(boxes: Sequence[Box], links: Iterable[BoxLink]) -> str:
    """Return a graph in dot's language, with boxes of the same size."""
    lines = ["digraph {", "rankdir=LR", f'node [shape=box fixedsize=true label="" width={160 / 72} height={40 / 72}]']
    lines += [json.dumps(box.name) for box in boxes]
    lines += [f"{json.dumps(link.source)} -> {json.dumps(link.target)}" for link in links]
    return "\n".join([*lines, "}"])


def drawn_by_dot(boxes: Sequence[Box], links: Iterable[BoxLink]) -> tuple[list[float], list[list[Point]]]:
    """Return where dot's ranks are, and its lines."""
    command = ["dot", "-Tjson"]
    answer = subprocess.run(command, input=asked_of_dot(boxes, links), capture_output=True, text=True, check=True)
    parsed = json.loads(answer.stdout)
    middles = {item["_gvid"]: [float(part) for part in item["pos"].split(",")] for item in parsed["objects"]}
    lines = []
    for edge in parsed.get("edges", []):
        points = [word for word in edge["pos"].split() if word[0] not in "es"]
        spline = sampled([tuple(map(float, word.split(","))) for word in points])
        lines.append([(*middles[edge["tail"]],), *spline, (*middles[edge["head"]],)])
    return sorted({round(x, 1) for x, _ in middles.values()}), lines


def crossings(lines: Sequence[Sequence[Point]]) -> int:
    """Return how often lines cross: sampled parts of two that intersect, ends not counted."""
    parts = sorted(
        (min(one[0], other[0]), max(one[0], other[0]), one, other, number)
        for number, line in enumerate(lines)
        for one, other in pairwise(line)
    )

    def side(one: Point, other: Point, third: Point) -> float:
        return (other[0] - one[0]) * (third[1] - one[1]) - (other[1] - one[1]) * (third[0] - one[0])

    found = 0
    for place, (_, right, one, other, line) in enumerate(parts):
        for next_place in range(place + 1, len(parts)):
            left, _, third, fourth, beside = parts[next_place]
            if left >= right:
                break
            if beside != line and side(one, other, third) * side(one, other, fourth) < 0:
                found += side(third, fourth, one) * side(third, fourth, other) < 0
    return found


def crossings_by_rank(ranks: Sequence[float], lines: Sequence[Sequence[Point]]) -> int:
    """Return how often lines have to cross, by the heights at which they pass each rank."""
    gaps: dict[float, list[tuple[float, float]]] = {}
    for line in lines:
        ordered = sorted(line)
        heights, place = [], 0
        passed = [rank for rank in ranks if ordered[0][0] - 0.6 <= rank <= ordered[-1][0] + 0.6]
        for rank in passed:
            while place < len(ordered) - 2 and ordered[place + 1][0] < rank:
                place += 1
            (x, y), (to_x, to_y) = ordered[place : place + 2]
            share = min(1, max(0, (rank - x) / (to_x - x))) if to_x != x else 0
            heights.append(round(y + share * (to_y - y), 1))
        for rank, pair in zip(passed, pairwise(heights), strict=False):
            gaps.setdefault(rank, []).append(pair)
    found = 0
    for pairs in gaps.values():
        above: list[float] = []
        for _, end in sorted(pairs):
            found += len(above) - bisect_right(above, end)
            insort(above, end)
    return found


def milliseconds(boxes: Sequence[Box], links: Sequence[BoxLink]) -> float:
    """Return the median CPU time of a layout."""
    took = []
    for _ in range(3 * ROUNDS):
        start = time.thread_time()
        layout(boxes, links)
        took.append(1000 * (time.thread_time() - start))
    return statistics.median(took)


def milliseconds_of_dot(boxes: Sequence[Box], links: Sequence[BoxLink]) -> float:
    """Return the median CPU time of dot, with its start."""
    with tempfile.NamedTemporaryFile("w", suffix=".dot") as file:
        file.write(asked_of_dot(boxes, links))
        file.flush()
        return 1000 * statistics.median(cost(["dot", "-Tplain", "-o/dev/null", file.name]).cpu for _ in range(ROUNDS))


def main() -> None:
    """Print times and crossings."""
    graphs = {
        (shape, seed): graph(edges(random.Random(seed))) for shape, edges in SHAPES.items() for seed in range(SEEDS)
    }
    own = own_graphs()
    rows = []
    for name, (boxes, links) in ({shape: graphs[shape, 0] for shape in SHAPES} | own).items():
        mine, dots = milliseconds(boxes, links), milliseconds_of_dot(boxes, links)
        most = f"{MOST} ms" if len(boxes) == COUNT else ""
        rows.append((name, len(boxes), len(links), f"{mine:.0f}", f"{dots:.0f}", f"{mine / dots:.1f}", most))
    table(("graph", "boxes", "links", "CPU ms", "`dot`, CPU ms", "ratio", "at most"), rows)
    rows, both = [], [0, 0, 0]
    for name in (*SHAPES, *own):
        group = [own[name]] if name in own else [graphs[name, seed] for seed in range(SEEDS)]
        counts = [0, 0, 0]
        for boxes, links in group:
            found, (ranks, lines) = layout(boxes, links), drawn_by_dot(boxes, links)
            mine = crossings(drawn(found))
            assert mine == found.crossings, f"{name}: found {mine} crossings, expected {found.crossings}"
            here = (mine, crossings_by_rank(ranks, lines), crossings(lines))
            counts = [one + other for one, other in zip(counts, here, strict=True)]
        both = [one + other for one, other in zip(both, counts, strict=True)]
        rows.append((name, len(group), *counts, ratio(*counts[:2]), MOST_CROSSINGS))
    rows.append(("all", sum(row[1] for row in rows), *both, ratio(*both[:2]), MOST_CROSSINGS))
    print()
    header = (
        "crossings of all graphs of a shape",
        "graphs",
        "here",
        "`dot`, by rank",
        "`dot`, as drawn",
        "ratio",
        "at most",
    )
    table(header, rows)
    print(f"\nTimes are medians of {3 * ROUNDS} in this process, and of {ROUNDS} processes of dot, with their start.")


def ratio(mine: int, dots: int) -> str:
    """Return a ratio of crossings; no crossings are as good as none."""
    return f"{mine / dots:.2f}" if dots else "1.00" if not mine else "-"


if __name__ == "__main__":
    main()
