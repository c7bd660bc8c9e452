"""What Dagster's pages show of a store, in a browser: plots with points, inputs as links, checks, runs on the timeline."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import dagster as dg
import pytest
from playwright.sync_api import Page, expect

from bikes_assets.app.settings import settings
from bikes_assets.events.webserver import FAILURE
from bikes_assets_tests.browser import (
    CHROMIUM,
    Servers,
    bikes_ui,
    browser,
    follow_to_dagster,
    follow_to_dagster_and_back,
    wait_until,
)
from bikes_assets_tests.conftest import MADE, store_at

MIDDLE = "2011-05"
MONTHS = [f"2011-0{month}" for month in range(1, 8)]
PLOTS = {
    "hourly_rentals": [62],
    "demand_model": [8],
    "champion_model": [3],
    "prediction_quality": [2 * 31, 2 * 24, 2 * 3, 8],  # actual and predicted, by hour, by weather, drift
}
"""How many points and bars each plot of a month has, at least, in the order of the page."""
MOST_ENTRIES = 20

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs a browser: apt-get install chromium")


@pytest.fixture(scope="module")
def servers(as_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Serve a copy of the history."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(as_made, folder / "data")
    with bikes_ui(folder, MONTHS[-1], store_at(folder / "data")) as served:
        yield served


@pytest.fixture(scope="module")
def page(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    recorded = {settings().dagster_url: servers.dagster, settings().mlflow_url: servers.mlflow}
    with browser(tmp_path_factory.mktemp("browser"), recorded) as opened:
        yield opened


def open_partition(page: Page, servers: Servers, asset: str, month: str = MIDDLE) -> None:
    page.goto(f"{servers.dagster}/assets/{asset}?view=partitions&partition={month}")
    expect(page.get_by_text("Materialized from", exact=True)).to_be_visible()


@pytest.mark.parametrize("asset", MADE)
def test_a_materialization_is_seen_at_a_glance(page: Page, servers: Servers, asset: str) -> None:
    open_partition(page, servers, asset)
    table = page.locator("table").filter(has_text="Materialized from").first
    entries = table.evaluate("table => [...table.rows].map(row => row.cells[0].innerText.trim())")
    assert len(entries) <= MOST_ENTRIES
    assert (entries[0], entries[-1]) == ("Materialized from", "lineage")
    plots = page.locator("img[src^='data:image/svg']").all()
    assert len(plots) == len(PLOTS.get(asset, []))
    for plot, least in zip(plots, PLOTS.get(asset, []), strict=True):
        wait_until(lambda plot=plot: plot.evaluate("image => image.naturalWidth") > 300, "the plot is drawn", 30)
        assert marks(str(plot.get_attribute("src"))) >= least


def marks(image: str) -> int:
    """Return the number of bars, and of points of lines, in a drawing that a page embeds."""
    drawing = ElementTree.fromstring(unquote(image.partition(",")[2]))
    paths = [path.attrib for path in drawing.iter("{http://www.w3.org/2000/svg}path")]
    steps = [path["d"] for path in paths if path["stroke"] != "#ddd"]  # but for the rules
    return sum(len(re.findall("[hV]", step)) or len(re.findall(r"-?\d+", step)) // 2 for step in steps)


@pytest.mark.parametrize("asset", MADE[1:])
def test_what_it_was_made_from_leads_to_the_partitions_that_were_read(page: Page, servers: Servers, asset: str) -> None:
    open_partition(page, servers, asset)
    link = page.locator("a[href*='view=partitions&partition=2011-']").filter(has_text="[2011-").first
    name, address = link.inner_text(), str(link.get_attribute("href"))
    page.goto("about:blank")
    page.goto(f"{servers.dagster}{address}" if address.startswith("/") else address)
    upstream, _, months = name.partition("[")
    month = months.rstrip("]").split("..")[-1]
    expect(page.get_by_text(f"{upstream}[{month}]@").first).to_be_visible()


def test_plots_of_metrics_have_a_point_for_each_month(page: Page, servers: Servers) -> None:
    """The page asks for the newest keys, and draws the partitions that have them."""
    asked = "{ assetNodes { assetKey { path } partitionKeyConnection(limit: 120, ascending: false) { results } } }"
    keys = {
        node["assetKey"]["path"][0]: (node["partitionKeyConnection"] or {}).get("results")
        for node in servers.graphql(asked)["assetNodes"]
    }
    assert keys["hourly_rentals"] == MONTHS[::-1]
    assert keys["prediction_quality"] == MONTHS[:1:-1]
    page.goto(f"{servers.dagster}/assets/prediction_quality?view=overview")
    page.get_by_role("button", name="Plots").click()
    expect(page.get_by_text("baseline_rmse", exact=True)).to_be_visible()
    canvas = page.locator("canvas").first
    drawn = "chart => new Set(chart.getContext('2d').getImageData(0, 0, chart.width, chart.height).data).size"
    wait_until(lambda: canvas.evaluate(drawn) > 20, "the plot is drawn", 30)


def test_runs_of_the_command_line_are_on_the_timeline_and_can_be_executed_again(page: Page, servers: Servers) -> None:
    page.goto(f"{servers.dagster}/overview/activity/timeline")
    expect(page.get_by_text("Jobless asset materializations").first).to_be_visible()
    assert not page.get_by_text("No runs or scheduled ticks").count()
    found = servers.graphql(
        "{ runsOrError { ... on Runs { results { parentPipelineSnapshotId repositoryOrigin { repositoryLocationName } } } } "
        '  pipelineOrError(params: {pipelineName: "__ASSET_JOB", repositoryName: "__repository__", '
        '  repositoryLocationName: "bikes_assets"}) { ... on Pipeline { pipelineSnapshotId } } }'
    )
    runs = found["runsOrError"]["results"]
    assert {run["repositoryOrigin"]["repositoryLocationName"] for run in runs} == {"bikes_assets"}
    assert {run["parentPipelineSnapshotId"] for run in runs} == {found["pipelineOrError"]["pipelineSnapshotId"]}


def test_a_fresh_store_shows_no_failed_check(page: Page, servers: Servers) -> None:
    for asset in MADE:
        page.goto(f"{servers.dagster}/assets/{asset}?view=checks")
        expect(page.get_by_text("up_to_date", exact=True).first).to_be_visible()
        assert not page.get_by_text("Failed", exact=True).count(), asset


def test_columns_say_what_they_are_made_from(page: Page, servers: Servers) -> None:
    page.goto(f"{servers.dagster}/assets/demand_features?view=overview")
    expect(page.get_by_text("From hourly_rentals.temp.").first).to_be_visible()


def test_each_config_field_of_a_model_says_what_it_is(servers: Servers) -> None:
    fields = "configField { configType { ... on CompositeConfigType { fields { name description } } } }"
    found = servers.graphql(f"{{ assetNodes {{ assetKey {{ path }} {fields} }} }}")
    (model,) = (node for node in found["assetNodes"] if node["assetKey"]["path"] == ["demand_model"])
    told = {field["name"]: field["description"] for field in model["configField"]["configType"]["fields"]}
    assert "keep" in told
    assert all(told.values()), told


@pytest.mark.parametrize("asset", MADE)
def test_links_lead_from_a_month_to_its_run_in_mlflow_and_back(page: Page, servers: Servers, asset: str) -> None:
    is_compared = asset in ("demand_model", "prediction_quality")
    follow_to_dagster_and_back(page, servers, asset, MIDDLE, f"{MIDDLE} {asset}" if is_compared else "")


def test_a_registered_version_leads_to_the_month_that_fitted_it(page: Page, servers: Servers) -> None:
    page.goto(f"{servers.mlflow}/#/models/demand_model/versions/{MONTHS[2:].index(MIDDLE) + 1}")
    follow_to_dagster(page, "demand_model", MIDDLE)


def test_a_run_that_is_executed_again_does_not_bear_the_failure_of_the_one_before(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(servers.data / "dagster"))
    (run,) = servers.graphql("{ runsOrError(limit: 1) { ... on Runs { results { runId tags { key value } } } } }")[
        "runsOrError"
    ]["results"]
    with dg.DagsterInstance.get() as instance:
        instance.add_run_tags(run["runId"], {FAILURE: "it failed", "kept": "yes"})
    again = servers.graphql(
        "mutation Again($run: String!) { launchRunReexecution(reexecutionParams: "
        "{ parentRunId: $run, strategy: ALL_STEPS, useParentRunTags: true }) { __typename "
        "... on LaunchRunSuccess { run { runId tags { key value } } } ... on PythonError { message } } }",
        run=run["runId"],
    )["launchRunReexecution"]
    assert again["__typename"] == "LaunchRunSuccess", again
    tags = {tag["key"]: tag["value"] for tag in again["run"]["tags"]}
    assert tags["kept"] == "yes"
    assert FAILURE not in tags
    # and it makes all of the month, whose assets have different definitions of partitions
    status = (
        f'{{ runOrError(runId: "{again["run"]["runId"]}") {{ ... on Run {{ status assetSelection {{ path }} }} }} }}'
    )

    def ended() -> dict[str, Any] | None:
        found = servers.graphql(status)["runOrError"]
        return found if found["status"] in ("SUCCESS", "FAILURE", "CANCELED") else None

    found = wait_until(ended, "the run has ended", 120)
    assert (found["status"], {key["path"][0] for key in found["assetSelection"]}) == ("SUCCESS", set(MADE))
