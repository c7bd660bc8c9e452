"""The graph of the lineage page in a real browser: what it opens on, what clicks draw and hide, and that nothing jumps."""

from __future__ import annotations

import random
import re
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from bikes_assets_tests.lineage.openlineage.foreign import column_lineage, dataset, event
from bikes_assets_tests.web.opened import EVERYTHING, Opened, needs_browser

pytestmark = needs_browser

CONSUMERS = 1_000
EVENTS = [
    event("land", ["raw/rides"], [dataset("lake/rides", columnLineage=column_lineage({"fare": [("raw/rides", "f")]}))]),
    *(event(f"use{number}", ["lake/rides"], [f"mart/{number:04}"], job="use") for number in range(CONSUMERS)),
]
RIDES = "s3://elsewhere/lake/rides"


def test_a_large_project_opens_on_what_serves_and_one_edge_around_it_with_closed_boxes(opened: Opened) -> None:
    opened.go()
    opened.page.wait_for_url("**focus=demand_model")
    assert opened.boxes() == ["champion_model", "demand_features", "demand_model"]
    expect(opened.page.locator("#canvas .column")).to_have_count(0)
    expect(opened.box("demand_model")).to_have_class(re.compile("focused"))


def test_a_box_says_how_much_of_what_is_beside_it_is_drawn_and_how_much_there_is_in_all(opened: Opened) -> None:
    opened.go(focus="hourly_rentals")
    counts = opened.served.ask("counts", address="demand_features")["demand_features"]
    assert counts == {"upstream": 2, "downstream": 4}
    label = "demand_features, table, 18 columns, 1 of 1 upstream drawn, 2 in all, 1 of 4 downstream drawn, 4 in all"
    expect(opened.head("demand_features")).to_have_attribute("aria-label", label)
    more = opened.box("demand_features").locator(".expander.downstream")
    expect(more).to_have_text("1 of 4 downstream drawn, 4 in all1/4")  # the tooltip, and the number
    expect(more.get_by_role("button")).to_have_attribute("aria-label", "1 of 4 downstream drawn, 4 in all: show more")


def test_a_click_draws_what_is_upstream_or_downstream_and_another_one_hides_it(opened: Opened) -> None:
    opened.go(focus="demand_features", show="0+demand_features")
    assert opened.boxes() == ["demand_features"]
    up, down = (opened.box("demand_features").locator(f".expander.{side}") for side in ("upstream", "downstream"))
    opened.changing(up.click)
    assert opened.boxes() == ["demand_features", "hourly_rentals"]
    opened.changing(opened.box("hourly_rentals").locator(".expander.upstream").click)
    assert opened.boxes() == ["demand_features", "hourly_rentals", "rental_records"]
    opened.changing(down.click)
    assert opened.boxes() == sorted(EVERYTHING)
    opened.changing(up.click)
    assert opened.boxes() == sorted(EVERYTHING - {"hourly_rentals", "rental_records"})
    opened.changing(down.click)
    assert opened.boxes() == ["demand_features"]


def test_what_an_address_has_drawn_whole_can_be_hidden_too(opened: Opened) -> None:
    opened.go(select="+demand_model+")
    opened.page.keyboard.press("0")
    assert opened.boxes() == sorted(EVERYTHING)
    opened.changing(opened.box("hourly_rentals").locator(".expander.upstream").click)
    assert opened.boxes() == sorted(EVERYTHING - {"rental_records"})
    opened.changing(opened.box("hourly_rentals").locator(".expander.upstream").click)
    assert opened.boxes() == sorted(EVERYTHING)


def test_a_box_opens_into_ten_columns_with_types_ten_more_at_a_time_and_closes(opened: Opened) -> None:
    opened.go(focus="demand_features")
    box = opened.box("demand_features")
    opened.changing(box.locator(".toggle").click)
    expect(box.locator(".column")).to_have_count(10)
    assert box.locator(".column .icon").all_text_contents()[:3] == ["◷", "#", "#"]
    expect(opened.column("demand_features.cnt")).to_have_attribute(
        "aria-label", re.compile("^column cnt, int64, 1 upstream, [0-9]+ downstream$")
    )
    opened.changing(box.get_by_role("button", name="Show more columns").click)
    expect(box.locator(".column")).to_have_count(18)
    opened.changing(box.locator(".toggle").click)
    expect(box.locator(".column")).to_have_count(0)


def test_a_search_inside_a_box_finds_its_columns_and_keeps_the_cursor(opened: Opened) -> None:
    opened.go(focus="demand_features", open="demand_features")
    find = opened.page.get_by_label("Find a column of demand_features")
    opened.changing(lambda: find.press_sequentially("lag", delay=5))
    expect(opened.box("demand_features").locator(".column .name")).to_have_text(["demand_lag_24h", "demand_lag_168h"])
    expect(find).to_be_focused()
    opened.changing(lambda: find.press_sequentially("_24"))
    expect(opened.box("demand_features").locator(".column")).to_have_count(1)
    opened.changing(lambda: find.fill("nothing like it"))
    expect(opened.box("demand_features").locator(".column")).to_have_count(0)
    opened.changing(lambda: find.fill(""))
    expect(opened.box("demand_features").locator(".column")).to_have_count(10)


@pytest.mark.parametrize("column", ["hourly_rentals.temp", "demand_features.temperature", "prediction_quality.error"])
def test_a_column_that_is_clicked_has_its_whole_path_lit_as_the_commands_have_it(opened: Opened, column: str) -> None:
    # Given
    asset = column.partition(".")[0]
    opened.go(focus=asset, select=f"+{asset}+", open=asset, rows=[f"{name}:50" for name in EVERYTHING])
    # When
    opened.changing(opened.column(column).click)
    # Then
    told = {column}
    for side in ("upstream", "downstream"):
        told |= {item["address"] for item in opened.served.bikes(side, column)["items"] if item["kind"] == "column"}
    assert opened.lit() | EVERYTHING == told | EVERYTHING
    models = {name for name in told if "." not in name}
    lit = opened.page.locator("#canvas .box.lit").evaluate_all("nodes => nodes.map((node) => node.dataset.group)")
    assert {*lit} == {name.partition(".")[0] for name in told} | models
    assert opened.column(column).evaluate("node => getComputedStyle(node).opacity") == "1"
    faded = opened.page.locator("#canvas .box:not(.lit), #canvas .box.lit .column:not(.lit), #canvas .line:not(.lit)")
    for opacity in faded.evaluate_all("nodes => nodes.map((node) => Number(getComputedStyle(node).opacity))"):
        assert opacity < 0.5
    rows = opened.box(asset).locator(".column")  # related ones first
    flags = rows.evaluate_all("nodes => nodes.map((node) => node.classList.contains('lit'))")
    assert flags == sorted(flags, reverse=True)


def test_only_the_path_is_drawn_where_it_is_asked_for_and_escape_lets_go(opened: Opened) -> None:
    opened.go(focus="demand_features", select="+demand_features+", column="demand_features.temperature")
    assert "prediction_quality" in opened.boxes()
    opened.changing(opened.page.get_by_role("button", name="Only this path").click)
    shown = opened.page.locator("#canvas .column")
    assert shown.count() == len(opened.lit()) > 3
    expect(opened.page.locator("#canvas .line:not(.lit)")).to_have_count(0)
    opened.changing(lambda: opened.page.keyboard.press("Escape"))
    expect(opened.page.locator("#canvas.locked")).to_have_count(0)
    assert "column" not in opened.state()


def test_partitions_are_a_strip_and_aliases_a_badge(opened: Opened) -> None:
    opened.go(focus="demand_model")
    strip = opened.box("demand_features").locator(".strip rect")
    expect(strip).to_have_count(7)
    told = [f"2011-0{month}: fresh" for month in range(1, 8)]
    assert opened.box("demand_features").locator(".strip title").all_text_contents() == told
    expect(opened.box("demand_model").locator(".badge")).to_have_text("@championalias champion")


def test_datasets_and_jobs_of_other_tools_are_marked_and_their_columns_are_followed(opened: Opened) -> None:
    opened.go(focus=RIDES, open=RIDES)
    assert opened.box(RIDES).get_attribute("class") == "box dataset focused"
    expect(opened.box(RIDES).locator(".about")).to_contain_text("dataset of another tool")
    jobs = opened.page.locator("#canvas .box.job")
    expect(jobs.first.locator(".about")).to_have_text("job of another tool")
    expect(opened.page.locator("#panel .kind")).to_have_text("dataset of another tool")
    opened.changing(opened.column(f"{RIDES}.fare").click)
    assert {f"{RIDES}.fare", "s3://elsewhere/raw/rides.f"} <= opened.lit()


def test_a_line_that_is_clicked_says_its_kind_code_commit_and_evidence(opened: Opened) -> None:
    opened.go(focus="demand_features", select="+demand_features", column="demand_features.temperature")
    opened.click_line("hourly_rentals.temp", "demand_features.temperature")
    panel = opened.page.locator("#panel")
    expect(panel.get_by_role("heading", name="hourly_rentals.temp → demand_features.temperature")).to_be_visible()
    told = opened.served.ask("edge", source="hourly_rentals.temp", target="demand_features.temperature")
    for text in (*told["kinds"], "observed: the output moved", f"{told['code']['file']}:{told['code']['line']}"):
        expect(panel).to_contain_text(text)
    expect(panel.locator("pre")).to_contain_text("def temperature")
    assert told["commit"]
    expect(panel).to_contain_text(f"at {told['commit'][:8]}")
    panel.get_by_role("button", name="Back to the overview").click()
    expect(panel.get_by_role("heading").first).to_have_text("demand_features")


def test_of_a_thousand_consumers_at_most_two_hundred_boxes_are_drawn_and_the_rest_is_told(opened: Opened) -> None:
    opened.go(focus=RIDES)
    expect(opened.head(RIDES)).to_have_attribute("aria-label", re.compile("1,001 in all|1,000 in all"))
    before = len(opened.boxes())
    assert before <= 50
    opened.changing(opened.box(RIDES).locator(".expander.downstream").click)
    assert before < len(opened.boxes()) <= before + 20
    opened.page.goto(f"{opened.served.url}/?{urlencode({'focus': RIDES, 'show': f'{RIDES}+'})}")
    expect(opened.page.locator("#canvas .box")).to_have_count(200)
    total = CONSUMERS + 1 + 1  # the consumers, the job and the dataset itself
    told = f"200 boxes are drawn, {total - 200} more are not: start from one of them, or ask for the impact."
    expect(opened.page.locator(".left-out")).to_have_text(told)


def camera(opened: Opened) -> tuple[float, float, float]:
    text = opened.page.locator("#canvas .world").get_attribute("transform")
    x, y, scale = map(float, re.findall(r"-?[\d.]+(?:e-?\d+)?", text or ""))
    return x, y, scale


def test_wheel_keys_and_buttons_zoom_and_dragging_moves(opened: Opened) -> None:
    opened.go(focus="demand_features", select="+demand_features+")
    head = opened.head("demand_features")
    before = head.bounding_box()
    assert before
    opened.page.mouse.move(before["x"], before["y"])
    opened.page.mouse.wheel(0, -240)
    after = head.bounding_box()
    assert after
    assert after["width"] > before["width"]
    assert (after["x"], after["y"]) == pytest.approx((before["x"], before["y"]), abs=1)  # it grows around the pointer
    x, y, scale = camera(opened)
    opened.page.keyboard.press("-")
    assert camera(opened)[2] == pytest.approx(scale * 0.8)
    opened.page.keyboard.press("+")
    assert camera(opened)[2] == pytest.approx(scale)
    opened.page.get_by_role("button", name="Zoom out").click()
    assert camera(opened)[2] == pytest.approx(scale * 0.8)
    opened.page.keyboard.press("0")
    frame = opened.page.locator("#canvas").bounding_box()
    for box in opened.page.locator("#canvas .box .frame").all():
        inner = box.bounding_box()
        assert frame
        assert inner
        assert frame["x"] <= inner["x"]
        assert inner["x"] + inner["width"] <= frame["x"] + frame["width"]
    x, y, scale = camera(opened)
    opened.page.mouse.move(frame["x"] + 300, frame["y"] + frame["height"] - 60)
    opened.page.mouse.down()
    opened.page.mouse.move(frame["x"] + 340, frame["y"] + frame["height"] - 90, steps=3)
    opened.page.mouse.up()
    assert camera(opened) == pytest.approx((x + 40, y - 30, scale), abs=0.1)


def test_the_minimap_shows_where_the_view_is_and_takes_it_elsewhere(opened: Opened) -> None:
    opened.go(focus="demand_features", select="+demand_features+")
    for _ in range(3):
        opened.page.keyboard.press("+")
    minimap = opened.page.locator("#minimap")
    expect(minimap.locator(".spot")).to_have_count(7)
    frame = minimap.bounding_box()
    assert frame
    opened.page.mouse.click(frame["x"] + frame["width"] - 6, frame["y"] + frame["height"] / 2)
    canvas, last = (opened.page.locator(name).bounding_box() for name in ("#canvas", "[data-group=prediction_quality]"))
    assert canvas
    assert last
    assert canvas["x"] < last["x"] + last["width"] / 2 < canvas["x"] + canvas["width"]


CLICKABLE = ".toggle rect, .expander rect, .area, .back, .rest rect"
_PLACES = """selector => [...document.querySelectorAll(selector)].map((node) => {
    const at = node.getBoundingClientRect(), x = at.x + at.width / 2, y = at.y + at.height / 2;
    const top = document.elementFromPoint(x, y), box = node.closest('.box');
    const head = box.querySelector('.area').getBoundingClientRect();
    return { x, y, name: box.dataset.group, kind: node.parentNode.classList[0], free: node === top, head: [head.x, head.y] };
})"""


@pytest.mark.parametrize("seed", range(2))
def test_the_box_that_is_clicked_stays_where_it_is_whatever_is_clicked(opened: Opened, seed: int) -> None:
    rng, seen = random.Random(seed), set[str]()
    opened.go(focus="demand_features", show="0+demand_features")
    opened.page.keyboard.press("-")
    for _ in range(12):
        places = [item for item in opened.page.evaluate(_PLACES, CLICKABLE) if item["free"]]
        kind = rng.choice(sorted({item["kind"] for item in places}))
        chosen = rng.choice([item for item in places if item["kind"] == kind])
        opened.changing(lambda chosen=chosen: opened.page.mouse.click(chosen["x"], chosen["y"]))
        heads = {item["name"]: item["head"] for item in opened.page.evaluate(_PLACES, ".area")}
        assert heads[chosen["name"]] == pytest.approx(chosen["head"], abs=1), chosen
        seen.add(kind)
    assert len(seen) > 3


def test_arrows_go_from_box_to_box_and_keys_expand_and_open(opened: Opened) -> None:
    opened.go(focus="demand_features", show="0+demand_features")
    keys = opened.page.keyboard
    keys.press("g")
    expect(opened.head("demand_features")).to_be_focused()
    opened.changing(lambda: keys.press("u"))
    keys.press("ArrowLeft")
    expect(opened.head("hourly_rentals")).to_be_focused()
    keys.press("ArrowRight")
    expect(opened.head("demand_features")).to_be_focused()
    opened.changing(lambda: keys.press("d"))
    assert len(opened.boxes()) == 6
    opened.changing(lambda: keys.press("o"))
    keys.press("ArrowDown")
    expect(opened.column("demand_features.ts")).to_be_focused()
    keys.press("ArrowDown")
    opened.changing(lambda: keys.press("Enter"))
    assert opened.state()["column"] == ["demand_features.cnt"]


def test_each_line_of_a_followed_column_says_what_it_is_also_those_of_models(opened: Opened) -> None:
    picture = opened.served.ask("graph", focus="demand_features", column="demand_features.temperature", only="1")
    addresses = {(box["name"], row["name"]): row["address"] for box in picture["boxes"] for row in box["rows"] or ()}
    assert len(picture["edges"]) > 5
    for edge in picture["edges"]:
        ends = {side: addresses.get((edge[side], edge[f"{side}_column"]), edge[side]) for side in ("source", "target")}
        told = opened.served.ask("edge", **ends)
        assert (told["source"], told["target"]) == (ends["source"], ends["target"])
        assert told["kinds"]
