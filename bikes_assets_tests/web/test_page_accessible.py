"""Each view of the lineage page as axe-core judges it: no serious or critical issue, in light and dark, wide and narrow."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from bikes_assets_tests.lineage.openlineage.foreign import event
from bikes_assets_tests.web.opened import JUDGE, NARROW, WIDE, Opened, Served, needs_browser, needs_npm

pytestmark = [needs_browser, needs_npm]

EVENTS = [event("run", ["raw/rides"], ["lake/rides"], job="land")]
RIDES = "s3://elsewhere/lake/rides"
VIEWS: dict[str, dict[str, Any]] = {
    "the whole project": {"focus": "demand_model", "show": "+demand_model+"},
    "a followed column": {
        "focus": "demand_features",
        "column": "demand_features.temperature",
        "open": "demand_features",
        "show": "+demand_features+",
    },
    "only a path": {"focus": "demand_features", "column": "demand_features.temperature", "only": "1"},
    "another tool's dataset": {"focus": RIDES},
    "a past time": {"focus": "hourly_rentals", "as_of": "2031-01-01T00:00:00"},
    "an error": {"focus": "nothing_of_this_name"},
    "an edge": {"focus": "demand_features", "from": "hourly_rentals.temp", "to": "demand_features.temperature"},
    **{
        f"the panel's {tab}": {"focus": "prediction_quality", "tab": tab}
        for tab in ("columns", "versions", "rows", "metrics", "status")
    },
    "the impact": {"view": "impact", "address": "hourly_rentals.temp"},
    "the impact, not asked": {"view": "impact"},
    "paths": {"view": "path", "start": "rental_records.temp", "end": "demand_predictions.prediction"},
    "a trace": {"view": "trace", "address": "demand_predictions.prediction[2011-06]#2011-06-14T17:00"},
    "a diff": {"view": "diff", "a": "demand_model@1", "b": "demand_model@champion"},
    "states": {"view": "status"},
    "what is unused": {"view": "waste"},
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_has_a_serious_issue(served: Served, chromium: Any, axe: str, scheme: Any) -> None:
    # Given a page whose policy does not keep axe-core out
    opened = Opened(served, chromium, color_scheme=scheme, reduced_motion="reduce", bypass_csp=True)
    opened.go(focus="demand_model")
    opened.page.add_script_tag(content=axe)
    issues = dict[str, Any]()
    # When
    for name, view in VIEWS.items():
        opened.turn(**view)
        if view.get("view"):
            expect(opened.page.locator("#answer h1")).to_be_visible()
        elif view["focus"] == "nothing_of_this_name":
            expect(opened.page.locator("#graph [role=alert]")).to_be_visible()
        else:
            expect(opened.box(view["focus"])).to_be_attached()
        expect(opened.page.get_by_text("Reading …")).to_have_count(0, timeout=90_000)
        expect(opened.page.locator("#progress")).to_be_hidden()
        issues[name] = opened.page.evaluate(JUDGE)
    # Then
    assert {name: found for name, found in issues.items() if found} == {}
    opened.close()


def test_matches_and_a_narrow_page_have_no_serious_issue(served: Served, chromium: Any, axe: str) -> None:
    for scheme in ("light", "dark"):
        for viewport in (WIDE, NARROW):
            opened = Opened(served, chromium, color_scheme=scheme, viewport=viewport, bypass_csp=True)
            opened.go(focus="demand_features", column="demand_features.cnt", open="demand_features")
            opened.page.add_script_tag(content=axe)
            assert opened.page.evaluate(JUDGE) == []
            opened.page.get_by_role("combobox", name="Search").fill("temp")
            expect(opened.page.get_by_role("option").nth(2)).to_be_visible()
            assert opened.page.evaluate(JUDGE) == []
            opened.close()
