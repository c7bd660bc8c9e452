"""Plots as SVG: lines and bars are as high and as long as their values, by the scale that is drawn with them."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from bikes_assets.demand.svg import Bars, Line, Plot
from bikes_assets_tests.demand.drawings import PRECISION, Drawing, check_drawn


def near(value: float) -> object:
    return pytest.approx(value, abs=PRECISION)


def test_a_line_goes_through_its_values_from_edge_to_edge_and_has_a_gap() -> None:
    plot = Plot([Line([0, 1, 2, 3, 4], [0.0, 25.0, math.nan, 75.0, 100.0], "#123456", "rides", 0.8)])
    check_drawn(plot)
    drawing = Drawing(plot)

    before, after = drawing.parts()
    line = drawing.elements("path")[1]

    assert [len(before), len(after)] == [2, 2]
    assert before[0] == near((drawing.left, drawing.bottom))
    assert after[-1] == near((drawing.right, drawing.top))
    assert before[1][0] - before[0][0] == near((drawing.right - drawing.left) / 4)
    assert (line["stroke"], line["stroke-width"], line["fill"]) == ("#123456", "0.8", "none")
    assert drawing.text("■ rides").y < drawing.top


@pytest.mark.parametrize(
    ("highest", "expected"),
    [
        (1.0, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (7.0, ["0", "2", "4", "6"]),
        (970.0, ["0", "200", "400", "600", "800"]),
        (3000.0, ["0", "1,000", "2,000", "3,000"]),
    ],
)
def test_the_scale_is_of_round_numbers_at_equal_distances(highest: float, expected: list[str]) -> None:
    drawing = Drawing(Plot([Line([0, 1], [0.0, highest], "red")]))

    assert [item.text for item in drawing.texts if item.text[0].isdigit()] == expected
    places = list(drawing.scale().values())
    steps = [before - after for before, after in pairwise(places)]
    assert steps == near([steps[0]] * len(steps))
    assert steps[0] > 10
    assert abs(drawing.text("0").y - drawing.bottom) < 5
    assert drawing.text("0").x < drawing.left


def test_values_below_zero_hang_from_it() -> None:
    plot = Plot(bars=[Bars([0, 1], [-1.0, 3.0], ["red", "blue"], thick=1.0)])
    check_drawn(plot)

    below, above = Drawing(plot).bars()

    assert above["height"] == near(3 * below["height"])
    assert above["y"] + above["height"] == near(below["y"])
    assert below["x"] + below["width"] == near(above["x"])


def test_flat_bars_go_to_the_right_from_the_bottom_up() -> None:
    plot = Plot(
        bars=[Bars([0, 1], [50.0, 100.0], ["red", "blue"])], ticks=[(0, "a"), (1, "b")], under="RMSE", flat=True
    )
    check_drawn(plot)
    drawing = Drawing(plot)

    first, second = drawing.bars()

    assert first["x"] == second["x"] == near(drawing.left)
    assert second["width"] == near(2 * first["width"]) == near(drawing.right - drawing.left)
    assert first["y"] > second["y"] + second["height"]
    for bar, name in ((first, "a"), (second, "b")):
        assert bar["y"] < drawing.text(name).y < bar["y"] + bar["height"]
    assert drawing.text("RMSE").y > drawing.text("100").y > drawing.bottom
    assert drawing.text("RMSE").x == near((drawing.left + drawing.right) / 2)


def names(drawing: Drawing) -> set[str]:
    return {item.text for item in drawing.texts}


def test_a_rule_stands_at_its_value_and_bears_its_name() -> None:
    plot = Plot(bars=[Bars([0], [4.0], ["red"])], rules=[(1.0, "small")], flat=True)
    check_drawn(plot)
    drawing = Drawing(plot)

    (x, y), (end,) = (part.split(",") for part in drawing.elements("path")[1]["d"].removeprefix("M").split("V"))

    assert float(x) == near(drawing.place(1.0)) == near(drawing.left + drawing.bars()[0]["width"] / 4)
    assert (float(y), float(end)) == (drawing.top, drawing.bottom)
    assert 0 < drawing.text("small").x - float(x) < 10
    assert drawing.text("small").y < drawing.top


def test_names_are_text_not_markup() -> None:
    plot = Plot(bars=[Bars([0], [1.0], ["red"])], ticks=[(0, "<script>&\nsecond line")])

    assert "<script>" not in plot.svg()
    assert {"<script>&", "second line"} <= names(Drawing(plot))


@pytest.mark.parametrize("plot", [Plot(), Plot([Line([], [], "red", "none")], [Bars([], [], [], "none")], flat=True)])
def test_nothing_is_drawn_as_empty_axes(plot: Plot) -> None:
    check_drawn(plot)
    drawing = Drawing(plot)

    assert drawing.bars() == []
    assert [path["d"] for path in drawing.elements("path")[1:]] == [""] * len(plot.lines)


def test_dots_stand_on_the_points_that_are_there() -> None:
    plot = Plot([Line([0, 1, 2], [1.0, math.nan, 1.0], "red", dots=True)])
    check_drawn(plot)
    drawing = Drawing(plot)

    dots = [(float(dot["cx"]), float(dot["cy"])) for dot in drawing.elements("circle")]

    assert dots == [point for part in drawing.parts() for point in part]
    assert [x for x, _ in dots] == near([drawing.left, drawing.right])
