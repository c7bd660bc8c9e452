"""The report's structure, its page, and what it says to cover: without any store."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bikes_assets.core.texts import plain
from bikes_assets.governance.report.coverage import ANNEX_IV, MODEL_CARDS, coverage
from bikes_assets.governance.report.page import as_html
from bikes_assets.governance.report.structure import (
    IDENTIFIERS,
    SOURCED,
    ModelReport,
    ReportSection,
    ReportTable,
    TableField,
    decimals,
    shown_number,
)
from bikes_assets_tests.governance.reports import FORBIDDEN, ReadPage
from bikes_assets_tests.web.test_page_safety import PAYLOADS

EVERY_KIND = (
    TableField("check", "check"),
    TableField("n", "n", "number"),
    TableField("address", "from", "address"),
    TableField("code", "code", "code"),
    TableField("passed", "outcome", "check"),
    TableField("state", "here", "state"),
    TableField("unit", "Unit:", below="check"),
)


def report_of(text: str) -> ModelReport:
    """Return a report that has a text in each place that a text can be in."""
    fields = tuple(TableField(item.name, text, item.kind, item.below) for item in EVERY_KIND)
    row = {"check": text, "n": 1.5, "address": [text, text], "code": text, "passed": True, "state": text, "unit": text}
    tables = [
        ReportTable("every", text, fields, [row, {"check": text}], [text], note=text),
        ReportTable("ids", text, IDENTIFIERS, [{"name": text, "value": text}], [text], note=text),
        ReportTable("empty", text, fields, [], empty=text, note=text),
    ]
    summary = ReportSection(
        "summary", text, [ReportTable("summary", "", SOURCED, [{"name": text, "value": text, "address": text}])]
    )
    return ModelReport(
        text, f"{text}@1", text, text, text, [summary, ReportSection("section", text, tables, about=text)]
    )


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_whatever_a_text_says_the_page_has_the_same_elements_and_the_text_is_shown(payload: str) -> None:
    expected, found = ReadPage(as_html(report_of("a text"))), ReadPage(as_html(report_of(payload)))
    # an address may be broken into lines at other places, which is all that may differ
    elements = [[tag for tag, _ in page.tags if tag not in ("wbr", "span")] for page in (expected, found)]
    assert elements[0] == elements[1]
    assert not FORBIDDEN & {tag for tag, _ in found.tags}
    names = {name for _, attributes in found.tags for name in attributes}
    assert not {name for name in names if name.startswith("on") or name in ("src", "style", "srcdoc", "action")}
    assert {attributes["href"] for tag, attributes in found.tags if tag == "a"} == {"#section"}
    assert plain(payload)[:300] in found.texts["section"]


def test_the_json_has_every_value_and_each_address_once() -> None:
    report = report_of("a text")
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    first, second = document["sections"]["section"]["tables"]["every"]["rows"]
    assert first == {
        **dict.fromkeys(("check", "code", "state", "unit"), "a text"),
        "n": 1.5,
        "address": ["a text", "a text"],
        "passed": True,
    }
    assert second == {**dict.fromkeys(first, None), "check": "a text"}
    assert document["sections"]["section"]["tables"]["empty"]["empty"] == "a text"
    assert [*report.addresses()] == ["a text@1", "a text"]


def test_a_number_that_is_not_finite_is_a_text_in_the_json_and_on_the_page() -> None:
    fields = (TableField("what", "what"), TableField("n", "n", "number"))
    rows = [{"what": "a", "n": float("nan")}, {"what": "b", "n": 2.25}]
    report = ModelReport(
        "m",
        "m@1",
        "k",
        "p",
        "t",
        [ReportSection("summary", ""), ReportSection("s", "", [ReportTable("t", "", fields, rows)])],
    )
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert [row["n"] for row in document["sections"]["s"]["tables"]["t"]["rows"]] == ["nan", 2.25]
    assert ReadPage(as_html(report)).sections["s"] == [["a", "nan"], ["b", "2.250"]]


def test_numbers_of_a_column_have_the_same_decimal_places() -> None:
    assert [decimals(values) for values in ([1, 20.0], [0.5, None], [-26.01, 0.4], [3.25], [203.2, 9.9], [])] == [
        0,
        4,
        2,
        3,
        1,
        0,
    ]
    assert [shown_number(value) for value in (17379, 0.8963, 12345.678, 59.31)] == [
        "17,379",
        "0.8963",
        "12,345.7",
        "59.31",
    ]
    assert shown_number(1234.5, 1) == "1,234.5"


def _states(known: set[str]) -> dict[str, Any]:
    tables = {table.name: {str(row["item"]): row for row in table.rows} for table in coverage(known).tables}
    return {**tables["annex_iv"], **tables["model_cards"]}


def test_nothing_is_covered_by_a_report_that_has_nothing() -> None:
    rows = _states(set())
    assert len(rows) == len(ANNEX_IV) + len(MODEL_CARDS)
    assert {row["state"] for row in rows.values()} == {"not covered"}


def test_an_item_is_covered_by_what_the_report_has_and_partly_where_something_is_missing() -> None:
    everything = {name for item in (*ANNEX_IV, *MODEL_CARDS) for name in item.needs}
    rows = _states(everything)
    # Given everything, then what no report has is still named
    assert (rows["1(c)"]["state"], rows["1(c)"]["by"]) == ("covered", "Environment")
    assert rows["1(a)"]["state"] == rows["Intended use"]["state"] == "covered"
    assert (rows["8"]["state"], rows["8"]["by"]) == ("not covered", "to be written by the provider")
    assert (rows["9"]["state"], rows["9"]["by"]) == ("partly", "Accuracy, Drift. Missing: the plan")
    # Given no purpose and no one responsible, then the same items are partly covered, and say what is missing
    rows = _states(everything - {"responsible", "not_for"})
    assert (rows["1(a)"]["state"], rows["1(a)"]["by"]) == ("partly", "Purpose, Model. Missing: responsible")
    assert (rows["Intended use"]["state"], rows["Intended use"]["by"]) == ("partly", "Purpose. Missing: not for")
    # Given nothing of what an item needs, then it is not covered
    rows = _states(everything - {"limits"})
    assert rows["Caveats and recommendations"]["state"] == "not covered"


def test_each_part_of_annex_iv_is_there_once_and_in_order() -> None:
    parts = [item.item for item in ANNEX_IV]
    assert parts[:8] == ["1(a)", "1(b)", "1(c)", "1(d)", "1(e)", "1(f)", "1(g), (h)", "2(a)"]
    assert parts[8:] == [*(f"2({letter})" for letter in "bcdefgh"), *map(str, range(3, 10))]
