"""What the lineage page answers in a real browser: panels, search, impact, trace, diff, past times, addresses, keys and news."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from datetime import datetime

import pytest
from playwright.sync_api import expect

from bikes_assets.app.explore.impact import SEVERITIES
from bikes_assets_tests.browser import ROOT
from bikes_assets_tests.lineage.openlineage.foreign import event
from bikes_assets_tests.web.opened import EVERYTHING, NARROW, Opened, eventually, needs_browser

pytestmark = needs_browser

ROW = "demand_predictions.prediction[2011-06]#2011-06-14T17:00"


def test_a_small_project_is_opened_whole_on_the_model_that_serves(opened: Opened) -> None:
    opened.go()
    assert {*opened.boxes()} == EVERYTHING
    assert opened.state()["focus"] == ["demand_model"]
    expect(opened.page.locator("#canvas .column")).to_have_count(0)


def test_the_panel_tells_what_is_known_in_six_tabs(opened: Opened) -> None:
    opened.go(focus="prediction_quality")
    panel, tab = opened.page.locator("#panel"), opened.page.locator("#tab")
    told = opened.served.ask("overview", address="prediction_quality")
    for text in (told["description"], "team:demand", f"{told['code']['file']}:{told['code']['line']}", "5 fresh"):
        expect(tab).to_contain_text(text)
    link = panel.get_by_role("link", name="Open in Dagster")
    expect(link).to_have_attribute("href", told["links"][0]["url"])
    expected = {
        "Columns": [told["columns"]["items"][0]["meaning"], "none missing"],
        "Versions": ["@5", "first version", "Run in Dagster", "Run in MLflow"],
        "Rows": ["prediction_quality[2011-07]@5", "verified", "2011-07-01T00:00:00"],
        "Metrics": ["rmse", "predicted and actual, 2011-07", "Newest run in MLflow"],
        "State": ["5 fresh", "prediction_quality[2011-03]"],
    }
    tops = panel.get_by_role("tab").evaluate_all("tabs => tabs.map((tab) => tab.getBoundingClientRect().top)")
    assert len({*tops}) == 1  # in one line
    for name, texts in expected.items():
        panel.get_by_role("tab", name=name).click()
        for text in texts:
            expect(tab).to_contain_text(text)
    assert opened.state()["tab"] == ["status"]
    expect(tab.locator(".reasons li").first).to_have_text("fresh prediction_quality[2011-07]")
    panel.get_by_role("tab", name="Metrics").click()
    image = tab.locator("img").first
    eventually(lambda: image.evaluate("image => image.naturalWidth") > 100)
    panel.get_by_role("tab", name="Rows").click()
    tab.get_by_label("Partition").select_option("2011-03")
    expect(tab).to_contain_text("prediction_quality[2011-03]@1")
    tab.get_by_role("button", name="trace").first.click()
    expect(opened.page.locator("#answer h1")).to_have_text("Trace of a row")


def test_of_a_model_no_columns_and_rows_are_offered(opened: Opened) -> None:
    opened.go(focus="demand_model")
    tabs = opened.page.locator("#panel").get_by_role("tab")
    expect(tabs).to_have_text(["Overview", "Versions", "Metrics", "State"])


def test_search_finds_as_one_types_and_leads_to_the_column_with_its_path(opened: Opened) -> None:
    opened.go(focus="demand_model")
    opened.page.keyboard.press("/")
    search = opened.page.get_by_role("combobox", name="Search")
    expect(search).to_be_focused()
    opened.page.keyboard.type("air temper")
    options = opened.page.get_by_role("option")
    found = opened.served.ask("search", q="air temper")
    expect(options).to_have_count(found["total"])
    assert options.locator("b").all_text_contents() == [item["address"] for item in found["items"]]
    opened.page.keyboard.press("ArrowDown")
    expect(options.nth(1)).to_have_attribute("aria-selected", "true")
    opened.page.keyboard.press("ArrowUp")
    opened.changing(lambda: opened.page.keyboard.press("Enter"))
    assert opened.state()["column"] == [found["items"][0]["address"]]
    assert found["items"][0]["address"] in opened.lit()
    search.fill("nothing has such words")
    expect(options).to_contain_text("Nothing has all of these words.")
    search.fill("d")
    expect(options.last).to_have_text("More than 50 match: another word narrows them down.")
    opened.page.keyboard.press("ArrowUp")  # from the first to the last match: what is told of more is none
    expect(options.nth(49)).to_have_attribute("aria-selected", "true")
    kinds = {item["address"]: item["of"] for item in opened.served.ask("search", q="demand")["items"]}
    search.fill("demand_model")
    assert kinds["demand_model"] == "model"
    expect(options.first).to_have_text("modeldemand_model" + _documented(opened, "demand_model"))


def _documented(opened: Opened, asset: str) -> str:
    return opened.served.ask("overview", address=asset)["description"].partition("\n")[0]


def test_the_impact_is_grouped_by_severity_and_its_csv_and_picture_say_the_same(opened: Opened) -> None:
    # Given
    opened.go(view="impact", address="hourly_rentals.temp")
    told = opened.served.ask("impact", address="hourly_rentals.temp")
    # Then the list is that of the command, most severe first
    addresses = opened.page.locator("#answer tbody button").all_text_contents()
    command = opened.served.bikes("downstream", "hourly_rentals.temp")["items"]
    assert sorted(addresses) == sorted(item["address"] for item in command)
    (alias,) = (item for item in command if item["kind"] == "alias")
    assert alias["address"] == "demand_model@champion"
    (named,) = (item["why"] for item in told["items"] if item["kind"] == "alias")
    assert named == f"names {alias['version']}"
    severities = [item["severity"] for item in told["items"]]
    assert severities == sorted(severities, key=SEVERITIES.index)
    heads = opened.page.locator("#answer h2").all_text_contents()
    assert heads == [f"{name} {count}" for name, count in told["severities"].items() if count]
    # Then the CSV has the same lines
    with opened.page.expect_download() as download:
        opened.page.get_by_role("link", name="CSV").click()
    lines = [*csv.DictReader(io.StringIO(download.value.path().read_text()))]
    assert [line["address"] for line in lines] == addresses
    assert [line["severity"] for line in lines] == severities
    # Then the picture's lit columns downstream are those of the list
    opened.changing(opened.page.get_by_role("button", name="Show in the graph").click)
    columns = {item["address"] for item in told["items"] if item["kind"] == "column"}
    told = opened.served.bikes("upstream", "hourly_rentals.temp")["items"]
    upstream = {item["address"] for item in told if item["kind"] == "column"}
    drawn = opened.lit() | {name for name in opened.boxes() if name in columns}
    assert drawn == columns | upstream | {"hourly_rentals.temp"}


def test_paths_are_those_of_the_command_and_their_columns_are_lit_in_the_graph(opened: Opened) -> None:
    ends = ("rental_records.temp", "demand_predictions.prediction")
    opened.go(view="path", start=ends[0], end=ends[1])
    ways = [item["addresses"] for item in opened.served.bikes("path", *ends)["items"]]
    shown = opened.page.locator("#answer .ways li")
    assert [item.replace(" → ", "\n").split("\n") for item in shown.all_text_contents()] == ways
    opened.changing(opened.page.get_by_role("button", name="Show in the graph").click)
    columns = {address for way in ways for address in way if "." in address}
    models = {address for way in ways for address in way if "." not in address}
    assert opened.lit() == columns
    assert {*opened.boxes()} == models | {address.partition(".")[0] for address in columns}
    expect(opened.page.locator(".followed")).to_contain_text(f"{ends[0]} to {ends[1]}")


def test_a_row_is_traced_to_the_model_the_rows_of_the_source_and_its_file(opened: Opened) -> None:
    opened.go(view="trace", address=ROW)
    told = opened.served.ask("trace", address=ROW)
    answer = opened.page.locator("#answer")
    for text in (told["models"][0]["address"], "hour.csv", "as recorded", "SHA-256", "demand_features"):
        expect(answer).to_contain_text(text)
    opened.page.get_by_label("Row").fill("demand_predictions[2011-06]#2031-06-14T17:00")
    opened.page.get_by_role("button", name="Ask").click()
    expect(opened.page.get_by_role("alert")).to_contain_text("2031-06-14")


def test_two_versions_are_compared_with_causes_and_metrics(opened: Opened) -> None:
    opened.go(view="diff", a="demand_model@1", b="demand_model@champion")
    told = opened.served.ask("diff", a="demand_model@1", b="demand_model@champion")
    answer = opened.page.locator("#answer")
    for text in ("Different content", told["a"]["digest"], told["b"]["digest"], "Causes", told["metrics"][0]["name"]):
        expect(answer).to_contain_text(text)


def test_why_models_differ_says_for_what_each_side_read_an_input(opened: Opened) -> None:
    """The month that the one was validated on is one that the next is fitted on: the same version, and yet a cause."""
    opened.go(view="diff", a="demand_model@1", b="demand_model@2")
    told = opened.served.ask("diff", a="demand_model@1", b="demand_model@2")
    inputs = {cause["what"]: cause["change"] for cause in told["causes"] if cause["kind"] == "input"}
    (moved,) = (name for name, change in inputs.items() if change["roles"] == ["validation", "training"])
    (added,) = (name for name, change in inputs.items() if change["a"] is None)
    version = inputs[moved]["a"]["version"]
    causes = opened.page.locator("#answer .causes li")
    expect(causes.filter(has_text=moved)).to_have_text(
        f"input {moved}@{version}, read for validation in A, for training in B; contributed to demand_model"
    )
    expect(causes.filter(has_text=added)).to_have_text(
        f"input {added} only in B, read for validation; contributed to the metrics of demand_model"
    )


def test_a_trace_is_not_asked_of_what_another_question_was_about(opened: Opened) -> None:
    opened.go(view="impact", address="hourly_rentals.temp")
    opened.page.get_by_role("button", name="Trace", exact=True).click()
    expect(opened.page.locator("#answer .empty")).to_contain_text("for example demand_predictions.prediction[")
    expect(opened.page.get_by_label("Row")).to_have_value("")
    expect(opened.page.get_by_role("alert")).to_have_count(0)


def test_states_and_unused_columns_are_those_of_the_commands(opened: Opened) -> None:
    opened.go(view="status")
    states = opened.served.bikes("status")["items"]
    tiles = opened.page.locator("#answer .tile.fresh")
    expect(opened.page.locator("#answer .tile")).to_have_count(len(states))
    assert tiles.count() == sum(item["state"] == "fresh" for item in states)
    opened.go(view="waste")
    told = opened.served.ask("waste")
    assert "hourly_rentals.casual" in told["unread"]
    assert told["unused"]["demand_model"]
    listed = [*told["unread"], *told["without_readers"]]
    for lists in (told["unused"], told["unused_by_model"]):
        listed += [name for names in lists.values() for name in names]
    links = opened.page.locator("#answer ul.plain button")
    assert sorted(links.all_text_contents()) == sorted(listed)
    links.last.click()
    assert opened.state()["focus"] == [listed[-1]]


def test_the_slider_shows_an_earlier_state_which_is_that_of_the_command(opened: Opened) -> None:
    opened.go(focus="demand_model", select="+demand_model+")
    slider = opened.page.get_by_label("State at a past time")
    slider.focus()
    opened.changing(lambda: opened.page.keyboard.press("Home"))
    (as_of,) = opened.state()["as_of"]
    expect(opened.page.locator("footer output")).to_have_text(f"as of {as_of.replace('T', ' ')}")
    problem = opened.page.locator("#graph").get_by_role("alert")
    expect(problem).to_contain_text("found nothing called 'demand_model' at that time")
    # Then there is a way back, also while the slider has the focus, and one to what was there
    expect(slider).to_be_focused()
    expect(opened.page.get_by_role("button", name="Back to now")).to_be_visible()
    expect(opened.page.locator("#legend")).to_have_text("materializedmissing")
    opened.changing(opened.page.get_by_role("button", name="See what was there then").click)
    assert opened.state()["as_of"] == [as_of]
    assert "demand_model" not in opened.boxes()
    expect(problem).to_have_count(0)
    # When it goes on to when the model is there, and what is computed from its predictions is not yet
    later = opened.served.ask("versions", address="prediction_quality[2011-03]")["items"][-1]["time"]
    as_of = datetime.fromtimestamp(later - 0.001).isoformat()
    opened.go(focus="demand_model", select="+demand_model+", as_of=as_of)
    told = opened.served.bikes("upstream", "demand_model", "--as-of", as_of)["items"]
    names = {item["address"].partition(".")[0] for item in told if item["kind"] in ("column", "dataset")}
    names &= EVERYTHING  # and tags
    assert names | {"demand_model"} == {*opened.boxes()} & (names | {"demand_model"})
    assert "prediction_quality" not in opened.boxes()
    strip = opened.box("demand_features").locator(".strip rect")
    states = opened.served.ask("status", address="demand_features", as_of=as_of)
    assert [item["state"] for item in states] == [rect.get_attribute("class") for rect in strip.all()]
    opened.changing(opened.page.get_by_role("button", name="Back to now").click)
    assert {*opened.boxes()} == EVERYTHING
    expect(opened.page.locator("#legend")).to_have_text("freshstalemissingfailed")


def test_every_view_has_an_address_that_can_be_copied_and_the_back_button_leads_back(opened: Opened) -> None:
    opened.go(focus="demand_features", show="0+demand_features")
    opened.changing(opened.box("demand_features").locator(".expander.upstream").click)
    opened.changing(opened.box("demand_features").locator(".toggle").click)
    opened.changing(opened.column("demand_features.cnt").click)
    opened.page.get_by_role("button", name="Copy link").click()
    expect(opened.page.get_by_role("status").last).to_contain_text("copied")
    copied = opened.page.evaluate("() => navigator.clipboard.readText()")
    assert copied == opened.page.url
    lit, boxes = opened.lit(), opened.boxes()
    opened.page.get_by_role("button", name="Impact", exact=True).click()
    expect(opened.page.locator("#answer h1")).to_have_text("Impact of a change")
    opened.changing(opened.page.go_back)
    assert (opened.lit(), opened.boxes()) == (lit, boxes)
    opened.changing(opened.page.go_back)
    expect(opened.page.locator("#canvas.locked")).to_have_count(0)
    opened.changing(opened.page.go_back)
    opened.changing(opened.page.go_back)
    assert opened.boxes() == ["demand_features"]
    opened.page.goto(copied)
    expect(opened.page.locator("#canvas .column.lit").first).to_be_visible()
    assert (opened.lit(), opened.boxes()) == (lit, boxes)


@pytest.mark.parametrize("query", ["select=+demand_model+", "select=%2Bdemand_model%2B"])
def test_a_selector_in_the_address_is_drawn(opened: Opened, query: str) -> None:
    opened.page.goto(f"{opened.served.url}/?{query}")
    expect(opened.box("rental_records")).to_be_attached()
    assert {*opened.boxes()} == EVERYTHING


def test_a_whole_task_needs_no_mouse(opened: Opened) -> None:
    """Find a column, follow it, draw only its path, look at an edge of it and at its impact, and come back."""
    page, keys = opened.page, opened.page.keyboard
    opened.go(focus="demand_model")
    keys.press("/")
    keys.type("temperature_above")
    expect(page.get_by_role("option").first).to_contain_text("demand_features.temperature_above_27d")
    opened.changing(lambda: keys.press("Enter"))
    expect(opened.head("demand_features")).to_be_focused()
    only = page.get_by_role("button", name="Only this path")
    _tab_to(opened, "#only", back=True)
    opened.changing(lambda: keys.press("Enter"))
    expect(only).to_have_attribute("aria-pressed", "true")
    expect(only).to_be_focused()
    keys.press("g")
    keys.press("ArrowRight")
    reached = page.evaluate("() => document.activeElement.dataset.box")
    assert reached not in (None, "demand_features")
    keys.press("g")
    keys.press("e")  # its lines, one after the other
    expect(page.locator("#panel .kind")).to_have_text("edge")
    keys.press("Escape")
    expect(page.locator("#panel h2")).to_have_text("demand_features")
    keys.press("Escape")
    expect(page.locator("#canvas.locked")).to_have_count(0)
    _tab_to(opened, "[data-view=impact]", back=True)
    keys.press("Enter")
    expect(page.locator("#answer h1")).to_have_text("Impact of a change")
    keys.press("Escape")
    expect(page.locator("#graph")).to_be_visible()


def test_whoever_follows_a_column_by_keys_goes_on_from_it(opened: Opened) -> None:
    keys = opened.page.keyboard
    opened.go(focus="demand_model", open="demand_features")
    keys.press("g")
    keys.press("ArrowLeft")
    keys.press("ArrowDown")
    keys.press("ArrowDown")
    column = opened.column("demand_features.cnt")
    expect(column).to_be_focused()
    opened.changing(lambda: keys.press("Enter"))
    assert opened.state()["column"] == ["demand_features.cnt"]
    expect(column).to_be_focused()
    keys.press("e")
    expect(opened.page.locator("#panel h2")).to_contain_text("demand_features.cnt → ")


def _tab_to(opened: Opened, selector: str, *, back: bool = False) -> None:
    for _ in range(60):
        opened.page.keyboard.press("Shift+Tab" if back else "Tab")
        if opened.page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} cannot be reached by Tab")


def test_the_tree_says_what_the_picture_shows_and_is_walked_by_arrows(opened: Opened) -> None:
    opened.go(focus="demand_model")
    opened.page.keyboard.press("t")
    items = opened.page.get_by_role("treeitem")
    expect(items.first).to_be_focused()
    names = {item.split(" ")[0][1:] for item in items.all_text_contents()}
    assert names >= {"demand_features", "champion_model"}
    opened.page.keyboard.press("End")
    expect(items.last).to_be_focused()
    opened.page.keyboard.press("Home")
    opened.page.keyboard.press("ArrowDown")
    opened.page.keyboard.press("ArrowDown")
    name = opened.page.evaluate("() => document.activeElement.dataset.name")
    opened.changing(lambda: opened.page.keyboard.press("Enter"))
    assert opened.state()["focus"] == [name]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [{"width": 1280, "height": 800}, NARROW])
def test_nothing_overlaps_or_overflows_on_wide_and_narrow_screens(served, chromium, size, scheme: str) -> None:
    opened = Opened(served, chromium, viewport=size, color_scheme=scheme)
    views = [{"focus": "demand_features", "column": "demand_features.temperature", "open": "demand_features"}]
    views += [{"view": "impact", "address": "hourly_rentals.temp"}, {"view": "status"}]
    views += [{"view": "path", "start": "rental_records.temp", "end": "demand_predictions.prediction"}]
    for view in views:
        opened.go(**view)
        wide, inner = opened.page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
        assert wide <= inner, view
        assert opened.page.evaluate(_OVERLAPS) == [], view
        assert opened.page.evaluate("() => getComputedStyle(document.body).fontSize") == "14px"
    opened.close()


def test_on_a_narrow_screen_all_questions_are_in_sight_and_a_line_of_the_impact_is_short(served, chromium) -> None:
    opened = Opened(served, chromium, viewport=NARROW)
    opened.go(view="impact", address="hourly_rentals.temp")
    for name in ("Graph", "Impact", "Path", "Trace", "Diff", "Status", "Unused"):
        place = opened.page.locator("header nav").get_by_role("button", name=name).bounding_box()
        assert place
        assert place["x"] + place["width"] <= NARROW["width"], name
    lines = opened.page.locator("#answer .things tbody tr")
    for line in lines.all():
        place = line.bounding_box()
        assert place
        assert place["height"] < 90
        cells = line.locator("td").evaluate_all("cells => cells.map((cell) => cell.getBoundingClientRect().right)")
        assert max(cells) <= NARROW["width"]
    opened.close()


_OVERLAPS = """() => {
    const found = [], shown = (node) => node.checkVisibility() && node.getBoundingClientRect().width > 2;
    for (const group of ["header .brand, header input, header button", "#bar > *, #zoom > *", ".tabs button"]) {
        const nodes = [...document.querySelectorAll(group)].filter(shown);
        for (const one of nodes) for (const other of nodes) {
            if (one === other || one.contains(other) || other.contains(one)) continue;
            const a = one.getBoundingClientRect(), b = other.getBoundingClientRect();
            const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
            const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
            if (across > 1 && down > 1) found.push([one.outerHTML, other.outerHTML]);
        }
    }
    return found;
}"""

_OBSERVE = """
import dagster as dg
from bikes_assets.cli import runner
runner.setup()
with runner.opened() as instance:
    instance.report_runless_asset_event(dg.AssetObservation("hourly_rentals", partition="2011-01"))
"""


def test_an_open_page_shows_what_is_recorded_meanwhile(opened: Opened) -> None:
    # Given
    opened.go(focus="prediction_quality")
    before = opened.boxes()
    toast = opened.page.locator("#toast")
    # When another tool reports what it made of a dataset of ours
    ours = f"{opened.served.folder / 'lake'}/prediction_quality"
    told = event("report", [ours], ["mart/report"], job="make_report")
    opened.served.post("/api/v1/lineage", json.dumps(told).encode())
    # Then
    expect(opened.box("s3://elsewhere/mart/report")).to_be_attached()
    assert set(before) < {*opened.boxes()}
    expect(toast).to_contain_text("Updated at")
    # When Dagster records an observation
    command, environment = [sys.executable, "-c", _OBSERVE], dict(opened.served.environment)
    opened.changing(lambda: subprocess.run(command, cwd=ROOT, env=environment, check=True))  # Then it is asked again
