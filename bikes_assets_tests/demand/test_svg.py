"""Plots as SVG: where lines and bars stand, to the pixel, and what is left out."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from bikes_assets.demand.svg import Bars, Line, Plot

SVG = "{http://www.w3.org/2000/svg}"


def drawn(plot: Plot, kind: str) -> list[dict[str, str]]:
    return [element.attrib for element in ElementTree.fromstring(plot.svg()).iter(SVG + kind)]


def texts(plot: Plot) -> dict[str, tuple[float, float]]:
    elements = ElementTree.fromstring(plot.svg()).iter(SVG + "text")
    return {str(item.text): (float(item.attrib["x"]), float(item.attrib["y"])) for item in elements if item.text}


def test_a_line_goes_from_the_lower_left_to_the_upper_right_and_has_a_gap() -> None:
    # Given axes from (55, 154) to (635, 22)
    plot = Plot([Line([0, 1, 2, 3, 4], [0.0, 25.0, math.nan, 75.0, 100.0], "#123456", "rides", 0.8)])

    axes, line = drawn(plot, "path")

    assert axes["d"] == "M55,22V154H635"
    assert line["d"] == "M55.0,154.0L200.0,121.0M490.0,55.0L635.0,22.0"
    assert (line["stroke"], line["stroke-width"], line["fill"]) == ("#123456", "0.8", "none")


def test_the_scale_is_of_round_numbers() -> None:
    shown = texts(Plot([Line([0, 1], [0.0, 970.0], "red")]))

    assert list(shown)[:5] == ["0", "200", "400", "600", "800"]
    assert shown["0"] == (50.0, 157.0)


@pytest.mark.parametrize(
    ("highest", "expected"),
    [
        (1.0, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (7.0, ["0", "2", "4", "6"]),
        (3000.0, ["0", "1,000", "2,000", "3,000"]),
    ],
)
def test_round_numbers_of_any_size(highest: float, expected: list[str]) -> None:
    assert [name for name in texts(Plot([Line([0, 1], [0.0, highest], "red")])) if name[0].isdigit()] == expected


def test_values_below_zero_hang_from_it() -> None:
    plot = Plot(bars=[Bars([0, 1], [-1.0, 3.0], ["red", "blue"], thick=1.0)])

    _, below, above = drawn(plot, "rect")  # the first is the ground

    assert (below["x"], below["y"], below["height"]) == ("55.0", "121.0", "33.0")
    assert (above["x"], above["y"], above["height"]) == ("345.0", "22.0", "99.0")


def test_flat_bars_go_to_the_right_from_the_bottom_up() -> None:
    plot = Plot(
        bars=[Bars([0, 1], [50.0, 100.0], ["red", "blue"])], ticks=[(0, "a"), (1, "b")], under="RMSE", flat=True
    )

    _, first, second = drawn(plot, "rect")

    assert (first["x"], first["width"], first["fill"]) == ("55.0", "290.0", "red")
    assert (second["x"], second["width"], second["fill"]) == ("55.0", "580.0", "blue")
    assert float(first["y"]) > float(second["y"])
    assert texts(plot)["a"][1] > texts(plot)["b"][1]
    assert texts(plot)["RMSE"] == (345.0, 184.0)


def test_a_rule_stands_at_its_value_and_bears_its_name() -> None:
    plot = Plot(bars=[Bars([0], [4.0], ["red"])], rules=[(1.0, "small")], flat=True)

    assert drawn(plot, "path")[1]["d"] == "M200.0,22V154"
    assert texts(plot)["small"] == (203.0, 18.0)


def test_names_are_text_not_markup() -> None:
    plot = Plot(bars=[Bars([0], [1.0], ["red"])], ticks=[(0, "<script>&\nsecond line")])

    assert "<script>" not in plot.svg()
    assert {"<script>&", "second line"} <= texts(plot).keys()


@pytest.mark.parametrize("plot", [Plot(), Plot([Line([], [], "red", "none")], [Bars([], [], [], "none")], flat=True)])
def test_nothing_is_drawn_as_empty_axes(plot: Plot) -> None:
    assert drawn(plot, "path")[0]["d"] == "M55,22V154H635"
    assert len(drawn(plot, "rect")) == 1


def test_dots_stand_on_the_points_that_are_there() -> None:
    plot = Plot([Line([0, 1, 2], [1.0, math.nan, 1.0], "red", dots=True)])

    assert [dot["cx"] for dot in drawn(plot, "circle")] == ["55.0", "635.0"]
