"""Pictures as SVG: they show what was answered, nothing in them acts, and notebooks show them above the table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from bikes_assets.core.address import Address
from bikes_assets.lineage.drawing.boxes import BoxLink
from bikes_assets.lineage.drawing.svg import Card, picture
from bikes_assets.lineage.elements import COLUMN, DATASET, JOB, VERSION, Edge, Fact, Thing
from bikes_assets.lineage.index import Index
from bikes_assets.lineage.questions import Questions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"
ODD = 'odd\x1b[31m<script>alert("x")</script>&'
COLUMNS = ["rentals.cnt", "rentals.temp", "features.level", "features.temperature", "quality.error"]
EDGES = [
    ((DATASET, "rentals"), (DATASET, "features")),
    ((DATASET, "features"), (DATASET, "quality")),
    ((DATASET, "features"), (JOB, "export")),
    ((COLUMN, "rentals.cnt"), (COLUMN, "features.level")),
    ((COLUMN, "rentals.temp"), (COLUMN, "features.temperature")),
    ((COLUMN, "features.level"), (COLUMN, "quality.error")),
    ((VERSION, "rentals@1"), (VERSION, "features@1")),
]


@pytest.fixture
def questions(tmp_path: Path) -> Iterator[Questions]:
    names = [*((DATASET, name) for name in ("rentals", "features", "quality")), *((COLUMN, name) for name in COLUMNS)]
    names += [(JOB, "export"), (VERSION, "rentals@1"), (VERSION, "features@1")]
    things = [Thing(kind, name, address=None if kind == JOB else Address.parse(name)) for kind, name in names]
    index = Index(tmp_path / "lineage.db")
    index.append([Fact(1, 1.0, things, [Edge(source, target, "read") for source, target in EDGES])])
    yield Questions(lambda: index)
    index.close()


def texts(svg: str) -> list[str]:
    return [item.text or "" for item in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def tips(svg: str) -> list[str]:
    """Return what is shown when something is pointed at: lines by the titles of their ends, then cards."""
    return [item.text or "" for item in ElementTree.fromstring(svg).iter(f"{SVG}title")][1:]


def test_a_picture_is_one_element_that_says_what_it_shows() -> None:
    svg = picture(
        [Card("a", "a table"), Card("b", "b", "2 columns", columns=["x", "y"])], [BoxLink("a", "b")], "a and b"
    )
    root = ElementTree.fromstring(svg)
    assert (root.tag, root.attrib["role"], root[0].text) == (f"{SVG}svg", "img", "a and b")
    assert texts(svg) == ["a table", "b", "2 columns", "x", "y"]
    assert tips(svg) == ["a table → b", "a table", "b"]


def test_nothing_in_a_picture_acts_or_reaches_beyond_it() -> None:
    cards = [Card(ODD, ODD, ODD, ODD, [ODD], True, frozenset({ODD})), Card("b", "b")]
    svg = picture(cards, [BoxLink(ODD, "b"), BoxLink("b", "b")], ODD)
    shown = 'odd\\x1b[31m<script>alert("x")</script>&'
    root = ElementTree.fromstring(svg)
    assert {item.tag.removeprefix(SVG) for item in root.iter()} == {"svg", "title", "g", "path", "rect", "text"}
    assert root[0].text == shown
    assert tips(svg) == ["b → b", f"{shown} → b", "b", shown]
    assert not re.search(r"\x1b|url\(|href|<style|\son\w+=", svg)


def test_a_title_that_is_too_long_is_cut_and_shown_when_pointed_at() -> None:
    name = "s3://warehouse/a/very/long/path/to/some/table/of/rentals_by_hour"
    svg = picture([Card(name, name)], [], "")
    (title,) = texts(svg)
    assert title.startswith("s3://warehouse")
    assert title.endswith("by_hour")
    assert "…" in title
    assert len(title) < 34
    assert tips(svg) == [name]


def test_texts_and_lines_have_the_color_of_the_page() -> None:
    svg = picture([Card("a", "a"), Card("b", "b")], [BoxLink("a", "b")], "")
    root = ElementTree.fromstring(svg)
    assert root.attrib["fill"] == "currentColor"
    assert {item.attrib.get("stroke") for item in root.iter(f"{SVG}path")} == {"currentColor", None}
    assert not any("fill" in item.attrib for item in root.iter(f"{SVG}text"))


def test_lines_of_columns_end_beside_them() -> None:
    table = Card("a", "a", columns=["x", "y"])
    assert [table.port(name) for name in (None, "x", "y", "unknown")] == [22, 55, 77, 22]
    assert table.box.height == 44 + 2 * 22 + 8


def test_an_answer_of_datasets_is_drawn_above_its_table(questions) -> None:
    page = questions.upstream("quality")._repr_html_()
    svg = page[page.index("<svg") : page.index("</svg>") + 6]
    assert tips(svg) == ["features → quality", "rentals → features", "features", "quality", "rentals"]
    assert page.index("</svg>") < page.index("<table>")
    below = questions.downstream("rentals")._repr_html_()
    assert "features → export" in below
    assert '<rect width="' in below


def test_an_answer_of_columns_is_drawn_as_tables_with_these_columns(questions) -> None:
    svg = questions.upstream("quality.error").drawn()
    assert texts(svg) == ["features", "1 column", "level", "quality", "1 column", "error", "rentals", "1 column", "cnt"]
    assert tips(svg)[:2] == ["features → quality", "rentals → features"]
    assert svg.count('fill-opacity="0.3"') == 1  # the column that was asked about
    of_table = questions.upstream("quality", level=COLUMN).drawn()
    assert texts(of_table) == ["features", "1 column", "level", "rentals", "1 column", "cnt"]


@pytest.mark.parametrize("address", ["features@1", "rentals"])
def test_an_answer_of_versions_or_of_nothing_is_a_table_alone(questions, address) -> None:
    answer = questions.upstream(address)
    assert answer.drawn() == ""
    assert "<svg" not in answer._repr_html_()


def test_a_large_answer_is_a_table_alone(tmp_path) -> None:
    things = [Thing(DATASET, f"t{number}") for number in range(202)]
    edges = [Edge((DATASET, "t0"), (DATASET, f"t{number}"), "read") for number in range(1, 202)]
    index = Index(tmp_path / "lineage.db")
    index.append([Fact(1, 1.0, things, edges)])
    assert Questions(lambda: index).downstream("t0").drawn() == ""
    index.append([Fact(2, 2.0, [], edges[:200], [(DATASET, "t201")])])
    assert texts(Questions(lambda: index).downstream("t0").drawn()).count("dataset") == 201
    index.close()
