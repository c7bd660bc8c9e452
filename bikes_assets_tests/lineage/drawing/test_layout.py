"""Where boxes and lines go: on any graph, nothing overlaps, and lines lead to the right and cross seldom."""

from __future__ import annotations

import random
from itertools import combinations, pairwise, permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bikes_assets.core.errors import LineageError
from bikes_assets.lineage.drawing.boxes import Box, BoxLink, Route
from bikes_assets.lineage.drawing.layout import layout

NAMES = [f"table_{number:02}" for number in range(30)]
PORTS = st.none() | st.sampled_from([0.0, 7.5, 20.0, 33.0, 900.0])


@st.composite
def graphs(draw, most: int = 14, circles: bool = True) -> tuple[list[Box], list[BoxLink]]:
    """Any graph: loops and circles, equal links, boxes of any size, ports anywhere."""
    names = NAMES[: draw(st.integers(0, most))]
    size = st.sampled_from([20.0, 40.0, 41.5, 160.0])
    boxes = [Box(name, draw(size), draw(size)) for name in names]
    ends = list(product(names, names)) if circles else list(combinations(names, 2))
    chosen = draw(st.lists(st.sampled_from(ends), max_size=2 * most)) if ends else []
    return boxes, [BoxLink(*end, draw(PORTS), draw(PORTS)) for end in chosen]


def curve(route: Route, steps: int = 24) -> list[tuple[float, float]]:
    """Return points along the line that SVG draws."""
    points = [route.points[0]]
    for (x, y), (to_x, to_y) in pairwise(route.points):
        for step in range(1, steps + 1):
            t, u = step / steps, 1 - step / steps
            middle = (x + to_x) / 2
            points.append(
                (
                    u**3 * x + 3 * u * u * t * middle + 3 * u * t * t * middle + t**3 * to_x,
                    y + (to_y - y) * (3 - 2 * t) * t * t,
                )
            )
    return points


def inversions(pairs: list[tuple[int, int]]) -> int:
    return sum((a - c) * (b - d) < 0 for (a, b), (c, d) in combinations(pairs, 2))


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_no_boxes_overlap_and_all_is_in_the_picture(graph) -> None:
    boxes, links = graph
    found = layout(boxes, links)
    assert {*found.places} == {box.name for box in boxes}
    assert sorted(name for layer in found.layers for name in layer) == sorted(found.places)
    spaces = [(*found.places[box.name], box.width, box.height) for box in boxes]
    for x, y, width, height in spaces:
        assert -1e-6 <= x <= found.width - width + 1e-6
        assert -1e-6 <= y <= found.height - height + 1e-6
    for (x, y, width, height), (x2, y2, width2, height2) in combinations(spaces, 2):
        assert x + width <= x2 or x2 + width2 <= x or y + height <= y2 + 1e-6 or y2 + height2 <= y + 1e-6
    for layer in found.layers:
        assert [found.places[name][1] for name in layer] == sorted(found.places[name][1] for name in layer)


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_lines_lead_to_the_right_except_where_a_circle_closes(graph) -> None:
    boxes, links = graph
    found = layout(boxes, links)
    sizes = {box.name: box for box in boxes}
    forward = {route.link.source: set[str]() for route in found.routes}
    for route in found.routes:
        source, target = sizes[route.link.source], sizes[route.link.target]
        (left, top), (target_left, target_top) = found.places[source.name], found.places[target.name]
        xs = [x for x, _ in route.points]
        if source == target:
            assert route.is_reversed
            assert (xs[0], xs[-1]) == (left + source.width, left)
        elif route.is_reversed:
            assert (xs[0], xs[-1]) == (left, target_left + target.width)
            assert xs == sorted(xs, reverse=True)
        else:
            assert (xs[0], xs[-1]) == (left + source.width, target_left)
            assert xs == sorted(xs)
            forward[source.name].add(target.name)
        assert 0 <= route.points[0][1] - top <= source.height + 1e-6
        assert 0 <= route.points[-1][1] - target_top <= target.height + 1e-6
    order = {name: number for number, layer in enumerate(found.layers) for name in layer}
    assert all(order[source] < order[target] for source, targets in forward.items() for target in targets)
    if all(link.source < link.target for link in links):
        assert not any(route.is_reversed for route in found.routes)


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_lines_pass_through_no_box(graph) -> None:
    boxes, links = graph
    found = layout(boxes, links)
    for route in found.routes:
        if route.link.source == route.link.target:
            continue
        for x, y in curve(route):
            for box in boxes:
                left, top = found.places[box.name]
                assert not (left + 0.1 < x < left + box.width - 0.1 and top + 0.1 < y < top + box.height - 0.1), (
                    box.name
                )


@settings(max_examples=50, deadline=None)
@given(graphs(), st.randoms(use_true_random=False))
def test_the_order_in_which_boxes_and_links_come_changes_nothing(graph, rng) -> None:
    boxes, links = graph
    first = layout(boxes, links)
    rng.shuffle(boxes)
    rng.shuffle(links)
    again = layout(boxes, links)
    assert (again.places, again.layers, again.crossings) == (first.places, first.layers, first.crossings)
    assert [route.path for route in again.routes] == [route.path for route in first.routes]


@settings(max_examples=60, deadline=None)
@given(graphs(), st.data())
def test_boxes_of_an_earlier_picture_keep_their_order(graph, data) -> None:
    boxes, links = graph
    known = {box.name for box in boxes if data.draw(st.booleans())}
    before = layout(
        [box for box in boxes if box.name in known], [link for link in links if {link.source, link.target} <= known]
    )
    prior = {name: y for name, (_, y) in before.places.items()}
    found = layout(boxes, links, prior=prior)
    for layer in found.layers:
        kept = [prior[name] for name in layer if name in known]
        assert kept == sorted(kept)


@settings(max_examples=50, deadline=None)
@given(graphs(), st.data())
def test_any_earlier_picture_is_kept_to(graph, data) -> None:
    boxes, links = graph
    prior = {box.name: data.draw(st.floats(0, 500)) for box in boxes}
    for layer in layout(boxes, links, prior=prior).layers:
        assert [prior[name] for name in layer] == sorted(prior[name] for name in layer)


def test_an_unchanged_graph_is_drawn_as_before() -> None:
    rng = random.Random(5)
    names = NAMES[:24]
    links = [BoxLink(*sorted(rng.sample(names, 2))) for _ in range(36)]
    before = layout([Box(name) for name in names], links)
    again = layout([Box(name) for name in names], links, prior={name: y for name, (_, y) in before.places.items()})
    assert again.layers == before.layers
    assert again.crossings <= before.crossings


def test_a_new_box_stands_where_its_lines_cross_least() -> None:
    rows = "abcdef"
    links = [BoxLink(f"in_{row}", f"out_{row}") for row in rows]
    boxes = [Box(name) for link in links for name in (link.source, link.target)]
    before = layout(boxes, [*links, *(BoxLink(f"in_{one}", f"out_{other}") for one, other in pairwise(rows))])
    new = BoxLink("in_new", "out_c")
    found = layout(
        [*boxes, Box("in_new")],
        [*links, *(BoxLink(f"in_{one}", f"out_{other}") for one, other in pairwise(rows)), new],
        prior={name: y for name, (_, y) in before.places.items()},
    )
    assert before.crossings == found.crossings == 0
    assert [name for name in found.layers[0] if name != "in_new"] == before.layers[0]


@settings(max_examples=40, deadline=None)
@given(graphs(most=10, circles=False))
def test_crossings_are_counted_as_lines_cross(graph) -> None:
    boxes, links = [Box(box.name) for box in graph[0]], graph[1]
    found = layout(boxes, links)
    columns = {x for x, _ in found.places.values()}
    between = {pair for route in found.routes for pair in pairwise(route.points) if pair[0][0] not in columns}
    drawn = sum(
        one[0][0] == other[0][0] and (one[0][1] - other[0][1]) * (one[1][1] - other[1][1]) < 0
        for one, other in combinations(between, 2)
    )
    assert drawn == found.crossings


@pytest.mark.parametrize("seed", range(40))
def test_small_graphs_cross_hardly_more_often_than_in_the_best_of_all_orders(seed: int) -> None:
    rng = random.Random(seed)
    pairs = sorted({(rng.randrange(4), rng.randrange(5)) for _ in range(10)})
    boxes = [Box(f"l{number}") for number in range(4)] + [Box(f"r{number}") for number in range(5)]
    found = layout(boxes, [BoxLink(f"l{one}", f"r{other}") for one, other in pairs])
    least = min(
        inversions([(left[one], right[other]) for one, other in pairs])
        for left, right in product(permutations(range(4)), permutations(range(5)))
    )
    assert found.crossings == least


def test_nothing_at_all_is_an_empty_picture() -> None:
    found = layout([], [])
    assert (found.places, found.routes, found.layers) == ({}, [], [])
    assert (found.width, found.height, found.crossings) == (0, 0, 0)


def test_a_chain_of_thousands_is_one_straight_line() -> None:
    names = [f"{number:04}" for number in range(5_000)]
    links = [BoxLink(*pair) for pair in pairwise(names)]
    found = layout([Box(name) for name in names], links)
    assert found.layers == [[name] for name in names]
    assert {y for _, y in found.places.values()} == {0}
    ring = layout([Box(name) for name in names], [*links, BoxLink(names[-1], names[0])])
    assert [route.link for route in ring.routes if route.is_reversed] == [BoxLink(names[-1], names[0])]


def test_a_box_is_in_the_middle_of_what_it_reads() -> None:
    sources = [f"source_{number}" for number in range(5)]
    found = layout([Box(name) for name in [*sources, "all"]], [BoxLink(name, "all") for name in sources])
    assert found.layers == [sources, ["all"]]
    assert found.places["all"][1] == pytest.approx(found.places["source_2"][1])
    assert found.height == pytest.approx(5 * 40 + 4 * 24)


def test_lines_of_columns_begin_and_end_at_their_ports_and_do_not_cross() -> None:
    ports = (30.0, 50.0, 70.0)
    links = [BoxLink("features", "model", port, port) for port in ports]
    found = layout([Box("features", 160, 80), Box("model", 160, 80)], links)
    assert found.crossings == 0
    assert [route.points for route in found.routes] == [[(160, port), (216, port)] for port in ports]
    turned = [BoxLink("features", "model", port, 100 - port) for port in ports]
    assert layout([Box("features", 160, 80), Box("model", 160, 80)], turned).crossings == 3


def test_columns_decide_which_table_is_above() -> None:
    tables = [Box("a", 160, 100), Box("b"), Box("c")]
    found = layout(tables, [BoxLink("a", "b", 90.0), BoxLink("a", "c", 10.0)])
    assert found.layers == [["a"], ["c", "b"]]
    assert found.crossings == 0


def test_a_long_line_passes_beside_the_boxes_between() -> None:
    found = layout([Box("a"), Box("b"), Box("c")], [BoxLink("a", "b"), BoxLink("b", "c"), BoxLink("a", "c")])
    (long,) = (route for route in found.routes if len(route.points) > 2)
    (x, y), (to_x, to_y) = long.points[1:3]
    left, top = found.places["b"]
    assert (x, to_x, y) == (left, left + 160, to_y)
    assert y <= top - 18 or y >= top + 40 + 18
    assert f"L{to_x:g},{to_y:g}" in long.path


def test_parts_without_links_between_them_are_one_below_another_and_lone_boxes_last() -> None:
    links = [BoxLink("a", "b"), BoxLink("c", "d"), BoxLink("d", "e")]
    found = layout([Box(name) for name in "abcdefgh"], links)
    assert found.layers == [["c", "a", "f"], ["d", "b", "g"], ["e", "h"]]
    tops = [found.places[name][1] for name in "caf"]
    assert tops == [0, 80, 160]


def test_a_link_of_a_box_to_itself_goes_around_it() -> None:
    found = layout([Box("a")], [BoxLink("a", "a")])
    assert found.routes[0].is_reversed
    assert found.routes[0].path == "M170,30C180,30 180,0 170,0L10,0C0,0 0,30 10,30"
    assert (found.width, found.height) == (180, 50)


def test_equal_links_are_one_line() -> None:
    found = layout(
        [Box("a"), Box("b")], [BoxLink("a", "b", 20.0), BoxLink("a", "b"), BoxLink("a", "b", target_port=20)]
    )
    assert len(found.routes) == 1


def test_what_makes_no_graph_is_named() -> None:
    with pytest.raises(LineageError, match="found two boxes 'a', expected one: leave one out"):
        layout([Box("a"), Box("a", 20)], [])
    with pytest.raises(LineageError, match=r"found a link of 'b\\\\x1b', expected one of a box: add that box"):
        layout([Box("a")], [BoxLink("a", "b\x1b")])
