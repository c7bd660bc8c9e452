"""Each view of the lineage page as axe-core judges it: no serious or critical issue, in light and dark, wide and narrow."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from playwright.sync_api import expect

from bikes_assets_tests.lineage.openlineage.foreign import event
from bikes_assets_tests.web.opened import NARROW, WIDE, Opened, Served, needs_browser

NPM = shutil.which("npm")
pytestmark = [
    needs_browser,
    pytest.mark.skipif(not NPM, reason="needs npm, which installs axe-core: apt-get install npm"),
]

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
_JUDGE = """async () => {
    const { violations } = await axe.run(document, { resultTypes: ['violations'] });
    return violations.filter((found) => ['serious', 'critical'].includes(found.impact))
        .map(({ id, help, nodes }) => [id, help, nodes.slice(0, 3).map((node) => [node.html, node.failureSummary])]);
}"""


@pytest.fixture(scope="module")
def axe() -> str:
    """Return the text of axe-core, installed once as its lock file has it."""
    lock = Path(__file__).with_name("axe")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bikes-assets-tests" / "axe"
    cache.mkdir(parents=True, exist_ok=True)
    file = cache / "node_modules" / "axe-core" / "axe.min.js"
    with FileLock(cache / ".lock"):
        wanted = (lock / "package-lock.json").read_text()
        kept = cache / "package-lock.json"
        if not (file.exists() and kept.exists() and kept.read_text() == wanted):
            for name in ("package.json", "package-lock.json"):
                shutil.copy(lock / name, cache)
            command = [str(NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=cache, capture_output=True, text=True, timeout=240)
            if any(why in done.stderr for why in ("ENOTFOUND", "ECONNREFUSED", "ETIMEDOUT", "EAI_AGAIN")):
                pytest.skip("axe-core is not installed, and npm reaches no registry")
            assert done.returncode == 0, done.stderr
    return file.read_text()


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
        issues[name] = opened.page.evaluate(_JUDGE)
    # Then
    assert {name: found for name, found in issues.items() if found} == {}
    opened.close()


def test_matches_and_a_narrow_page_have_no_serious_issue(served: Served, chromium: Any, axe: str) -> None:
    for scheme in ("light", "dark"):
        for viewport in (WIDE, NARROW):
            opened = Opened(served, chromium, color_scheme=scheme, viewport=viewport, bypass_csp=True)
            opened.go(focus="demand_features", column="demand_features.cnt", open="demand_features")
            opened.page.add_script_tag(content=axe)
            assert opened.page.evaluate(_JUDGE) == []
            opened.page.get_by_role("combobox", name="Search").fill("temp")
            expect(opened.page.get_by_role("option").nth(2)).to_be_visible()
            assert opened.page.evaluate(_JUDGE) == []
            opened.close()
