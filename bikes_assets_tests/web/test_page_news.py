"""A page that stays open: what happens meanwhile is drawn, nothing that was typed is lost, and a server that is away is told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from bikes_assets_tests.browser import free_ports
from bikes_assets_tests.lineage.openlineage.foreign import dataset, event
from bikes_assets_tests.web.opened import Opened, Served, needs_browser, started

pytestmark = needs_browser

HUB = "s3://elsewhere/hub"
EVENTS = [event("run", ["hub"], [dataset("first")])]
CONNECTIONS = 6
"""Number of connections that a browser has to one server, for all its pages."""


def _report(served: Served, name: str) -> None:
    """Have another tool report that it has written a dataset."""
    served.post("/api/v1/lineage", json.dumps(event(f"run of {name}", ["hub"], [dataset(name)])).encode())


def _toast(page: Page, text: str) -> None:
    expect(page.locator("#toast")).to_contain_text(text)


def test_what_is_reported_is_drawn_in_the_page_that_is_open(opened: Opened) -> None:
    opened.go(focus=HUB, show=f"{HUB}+")
    expect(opened.box("s3://elsewhere/second")).to_have_count(0)
    _report(opened.served, "second")
    expect(opened.box("s3://elsewhere/second")).to_be_visible()


def test_a_server_that_is_killed_is_told_and_once_it_is_there_again_the_page_goes_on(
    served: Served, chromium: Any
) -> None:
    # Given a page of a server of its own
    (port,) = free_ports(1)
    own = replace(served, url=f"http://127.0.0.1:{port}")
    process = started(own)
    opened = Opened(own, chromium)
    page = opened.page
    opened.go(focus=HUB, show=f"{HUB}+")
    # When that is killed
    process.kill()
    process.wait()
    _toast(page, "The server does not answer.")
    page.get_by_role("button", name="Status").click()
    expect(page.locator("#answer [role=alert]")).to_contain_text("The server does not answer.")
    _report(served, "meanwhile")
    # Then all is asked again once there is one
    process = started(own)
    try:
        _toast(page, "Updated at")
        expect(page.locator("#answer .tiles").first).to_be_visible()
        page.get_by_role("button", name="Graph").click()
        expect(opened.box("s3://elsewhere/meanwhile")).to_be_visible()
        opened.context.close()
    finally:
        process.terminate()
        process.wait(60)
    assert [text for text in opened.wrong if "ERR_" not in text] == []


@pytest.mark.parametrize("view", ["trace", "impact"])
def test_news_take_nothing_away_that_is_typed(opened: Opened, view: str) -> None:
    page = opened.page
    opened.go(view=view, **({"address": "hourly_rentals.temp"} if view == "impact" else {}))
    page.locator("#ask-address").fill("half an addr")
    _report(opened.served, f"while typing {view}")
    _toast(page, "Updated at")
    expect(page.locator("#ask-address")).to_have_value("half an addr")
    expect(page.locator("#ask-address")).to_be_focused()


def test_a_browser_opens_more_pages_than_it_has_connections(opened: Opened) -> None:
    pages = [opened.context.new_page() for _ in range(CONNECTIONS + 2)]
    for page in pages:
        page.goto(f"{opened.served.url}/?focus=demand_model")
        expect(page.locator("#canvas .box").first).to_be_visible()


def test_what_takes_long_says_that_it_is_waited_for(opened: Opened) -> None:
    held = list[Any]()
    opened.page.route("**/api/impact?*", lambda route: held.append(route))
    opened.page.goto(f"{opened.served.url}/?view=impact&address=hourly_rentals.temp")
    expect(opened.page.get_by_role("status").filter(has_text="It waits for stored rows")).to_be_visible()
    (route,) = held
    route.continue_()
    expect(opened.page.locator("#answer .lead")).to_be_visible()
    expect(opened.page.get_by_text("Reading …")).to_have_count(0)
