"""The report in a browser: it reads at two widths and on paper, nothing in it runs, and axe-core finds no serious issue."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bikes_assets.app.report import pictures
from bikes_assets.app.report.model_report import model_report
from bikes_assets.governance.report.page import as_html
from bikes_assets.governance.report.structure import ModelReport, ReportPicture, ReportSection, ReportTable, TableField
from bikes_assets.lineage.drawing.boxes import BoxLink
from bikes_assets.lineage.drawing.svg import Card, picture
from bikes_assets_tests.governance.test_report import report_of
from bikes_assets_tests.web.opened import JUDGE, NARROW, WIDE, needs_browser, needs_npm
from bikes_assets_tests.web.test_page_safety import PAYLOADS, WATCH

pytestmark = needs_browser
_CUT = """() => [...document.querySelectorAll('header *, main *, footer *')]
    .filter((item) => !item.closest('.scroll') && item.getBoundingClientRect().right > innerWidth + 1)
    .map((item) => item.outerHTML.slice(0, 120))"""
"""What of a page reaches beyond its right edge, where it cannot be scrolled to."""


@pytest.fixture
def written(copied: Path, tmp_path: Path) -> tuple[ModelReport, str]:
    """Return the report on a model of the history, and the address of its page."""
    report = model_report("demand_model@3")
    (tmp_path / "report.html").write_text(as_html(report))
    return report, (tmp_path / "report.html").as_uri()


def opened(chromium: Any, url: str, **options: Any) -> tuple[Any, list[str]]:
    """Return a page that notices whatever runs in it, and the list of whatever else it asked for."""
    context = chromium.new_context(**options)
    context.add_init_script(WATCH)
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = context.new_page()
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.goto(url)
    return page, asked


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_it_loads_nothing_and_reads_at_any_width(
    written: tuple[ModelReport, str], chromium: Any, viewport: Any
) -> None:
    report, url = written
    page, asked = opened(chromium, url, viewport=viewport)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= viewport["width"]
    assert page.evaluate(_CUT) == []
    assert page.locator("main section").count() == len(report.sections) - 1
    # each entry leads to its section
    for link in page.locator("nav a").all():
        assert page.locator(str(link.get_attribute("href"))).is_visible()
    assert page.locator("svg").count() == sum(len(section.pictures) for section in report.sections) > 3
    assert asked == [url]
    page.context.close()


@needs_npm
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_it_has_no_serious_issue(written: tuple[ModelReport, str], chromium: Any, axe: str, viewport: Any) -> None:
    page, _ = opened(chromium, written[1], viewport=viewport)
    page.add_script_tag(content=axe)
    assert page.evaluate(JUDGE) == []
    page.context.close()


def test_printed_it_has_all_sections_and_nothing_is_cut(written: tuple[ModelReport, str], chromium: Any) -> None:
    report, url = written
    page, _ = opened(chromium, url, viewport={"width": 688, "height": 1000})  # a page of A4 without its margins
    page.emulate_media(media="print")
    assert page.evaluate(_CUT) == []
    hidden = """() => [...document.querySelectorAll('section, h2, h3, p, table, tr, td, tbody th, svg')]
        .filter((item) => !item.getClientRects().length).map((item) => item.outerHTML.slice(0, 99))"""
    assert page.evaluate(hidden) == []
    for item in page.locator("main .scroll").all():
        assert item.evaluate("item => item.scrollWidth <= item.clientWidth + 1"), item.inner_text()[:200]
    # the titles of the PDF's outline are texts of their own in the file
    content = page.pdf(prefer_css_page_size=True, outline=True, tagged=True)
    titles = re.findall(rb"/Title \(((?:[^()\\]|\\.)*)\)", content)
    assert [
        title.encode() for title in (section.title for section in report.sections[1:]) if title.encode() not in titles
    ] == []
    assert len(re.findall(rb"/Type /Page\b", content)) > 5
    page.context.close()


def test_hostile_names_run_nothing_in_texts_and_in_pictures(tmp_path: Path, chromium: Any) -> None:
    # Given every payload in every place of a report, and as the names in its pictures
    sections = [section for payload in PAYLOADS for section in report_of(payload).sections[1:]]
    number = TableField("rmse", "rmse", "number")
    metrics = ReportTable(
        "plot", "By name", (TableField("segment", "name"), number), [{"segment": p, "rmse": 1.0} for p in PAYLOADS]
    )
    drift = [{"what": payload, "partition": "<b>2012</b>", "psi": 1.0} for payload in PAYLOADS]
    cards = [Card(f"{place} {payload}", payload, payload, columns=[payload]) for place, payload in enumerate(PAYLOADS)]
    links = [BoxLink(one.name, other.name, None, None) for one, other in pairwise(cards)]
    drawn = [
        pictures.of_metrics(metrics),
        pictures.of_drift(drift),
        ("lineage", picture(cards, links, PAYLOADS[3]), ""),
    ]
    shown = [ReportPicture(*item) for item in drawn if item]
    assert len(shown) == 3
    numbered = [
        ReportSection(f"{section.name}{place}", section.title, section.tables, about=section.about)
        for place, section in enumerate(sections)
    ]
    summary = report_of(PAYLOADS[3]).sections[0]
    whole = ModelReport(
        PAYLOADS[0],
        PAYLOADS[1],
        PAYLOADS[2],
        PAYLOADS[3],
        PAYLOADS[4],
        [summary, *numbered, ReportSection("plots", "Plots", [metrics], shown)],
    )
    file = tmp_path / "hostile.html"
    file.write_text(as_html(whole))
    # Then on a page without any policy, nothing runs, loads, hides or breaks it
    for viewport in (WIDE, NARROW):
        page, asked = opened(chromium, file.as_uri(), viewport=viewport)
        page.mouse.move(200, 400)
        page.mouse.wheel(0, 4_000)
        assert page.evaluate("() => window.__hit") == 0
        assert asked == [file.as_uri()]
        foreign = (
            "img, iframe, script, body style, base, form, input, button, object, animate, image, link, meta[http-equiv]"
        )
        assert page.locator(foreign).count() == 0
        assert page.evaluate("() => document.documentElement.scrollWidth") <= viewport["width"]
        assert page.evaluate(_CUT) == []
        assert page.locator("h1").is_visible()
        assert "\\u202e" in page.locator("main").inner_text()
        page.context.close()
