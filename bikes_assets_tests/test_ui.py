"""The pages of Dagster and MLflow as people use them: real servers, a real browser, clicks."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from bikes_assets_tests.browser import (
    CHROMIUM,
    EVERY_MONTH,
    FROM_THE_THIRD_MONTH,
    Servers,
    bikes_ui,
    browser,
    close_assistant,
    dotenv,
    follow_to_dagster_and_back,
    follow_to_mlflow,
    is_open,
    listening,
    open_asset_graph,
    printed_page,
    see_all_assets,
    take,
    unfold_all_groups,
    wait_until,
)

SOAK = os.environ.get("BIKES_SOAK") == "1"


def materialize_one_month(page: Page, servers: Servers, asset: str, month: str) -> None:
    """Materialize a partition from the asset's page, and watch the run's page until it tells of its end."""
    page.goto(f"{servers.dagster}/assets/{asset}")
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    months = dialog.get_by_role("textbox").first
    months.fill(month)
    months.press("Enter")
    dialog.get_by_role("button", name="Launch 1 run").click()
    expect(dialog).to_have_count(0)
    wait_until(servers.runs, f"{asset}[{month}] is launched", 60)
    page.goto(f"{servers.dagster}/runs/{servers.newest_run()}")
    expect(page.get_by_text(re.compile("^RUN_(SUCCESS|FAILURE|CANCELED)$"))).to_be_visible(timeout=180_000)
    assert servers.runs() == ["SUCCESS"], servers.told()


def materialize_all(page: Page, servers: Servers, seconds: float) -> None:
    """Materialize every partition of every asset from the asset graph, and wait for the backfill's end."""
    open_asset_graph(page, servers)
    see_all_assets(page)
    page.get_by_role("button", name="Materialize all").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="All", exact=True).click()
    dialog.get_by_role("button", name="Launch backfill").click()
    expect(dialog).to_have_count(0)
    wait_until(lambda: servers.backfills() not in ([], ["REQUESTED"]), "the backfill has ended", seconds)
    assert servers.backfills() == ["COMPLETED_SUCCESS"], servers.told()


def show_asset_graph(page: Page, servers: Servers, folder: Path) -> None:
    open_asset_graph(page, servers)
    page.get_by_role("button", name="Hide navigation").click()
    page.reload()  # draws the graph as large as the page is now
    see_all_assets(page)
    take(page, folder / "asset-graph.png")


def show_asset(page: Page, servers: Servers, folder: Path, month: str) -> None:
    page.goto(f"{servers.dagster}/assets/demand_predictions")
    expect(page.get_by_text("Demand that the month's champion predicts")).to_be_visible()  # column schema
    expect(page.get_by_text(f"demand_predictions[{month}]@").first).to_be_visible()  # latest materialization
    take(page, folder / "asset-page.png")


def show_plot(page: Page, servers: Servers, folder: Path, month: str) -> None:
    page.goto(f"{servers.dagster}/assets/prediction_quality?view=partitions&partition={month}")
    plot = page.get_by_role("row").filter(has_text="predicted and actual").locator("img")
    wait_until(lambda: plot.evaluate("image => image.naturalWidth") > 300, "the plot is drawn", 30)
    take(page, folder / "asset-plot.png")


def show_experiment(page: Page, servers: Servers, folder: Path, month: str) -> None:
    """Open the page that `bikes ui` prints, and see a fit, an evaluation and their metrics side by side."""
    page.goto("about:blank")
    page.goto(printed_page(servers, "MLflow"))
    for name in (f"{month} demand_model", f"{month} prediction_quality"):
        expect(page.get_by_role("link", name=name).first).to_be_visible()
    assert not page.get_by_role("link", name=re.compile("^dagster ")).count()
    for metric in ("baseline_rmse", "bias"):  # the first of them; the others are drawn when they come into view
        expect(page.get_by_text(metric, exact=True).first).to_be_visible()
    take(page, folder / "mlflow-experiment.png")


def show_mlflow_run(page: Page, servers: Servers, folder: Path, month: str) -> None:
    """Follow the link from a model's materialization to its run in MLflow, and see a plot of it."""
    page = follow_to_mlflow(page, servers, "demand_model", month)
    expect(page.get_by_role("heading", name=f"{month} demand_model")).to_be_visible()
    expect(page.get_by_text("demand_features[2011-01").first).to_be_visible()  # a dataset that it was fitted on
    expect(page.get_by_text("max_iter", exact=True)).to_be_visible()
    take(page, folder / "mlflow-run.png")
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("importance.svg").first.click()
    plot = page.locator("img[src*='importance.svg'], img[src^='blob:']").first
    wait_until(lambda: plot.evaluate("image => image.naturalWidth") > 100, "the plot is drawn", 30)
    page.close()


def show_registered_model(page: Page, servers: Servers, folder: Path, versions: int) -> None:
    page.goto(f"{servers.mlflow}/#/models/demand_model?workflowType=machine_learning")
    expect(page.get_by_role("link", name=f"Version {versions}", exact=True)).to_be_visible()
    take(page, folder / "mlflow-model.png")


@pytest.mark.skipif(not CHROMIUM, reason="needs a browser: apt-get install chromium")
@pytest.mark.parametrize(
    ("last_month", "months", "minutes"),
    [pytest.param("2012-12", 24, 60, marks=pytest.mark.soak)] if SOAK else [("2011-03", 3, 15)],
)
def test_all_months_are_made_by_clicks_and_ctrl_c_leaves_nothing_behind(
    tmp_path: Path, last_month: str, months: int, minutes: float
) -> None:
    # Given
    folder, before = tmp_path / "screenshots", dotenv()
    with bikes_ui(tmp_path, last_month) as servers:
        with browser(tmp_path / "browser") as page:
            assert {address for pid in servers.processes() for address in listening(pid)} == {"127.0.0.1"}
            # When
            open_asset_graph(page, servers)
            unfold_all_groups(page)
            materialize_one_month(page, servers, "hourly_rentals", "2011-01")
            materialize_all(page, servers, minutes * 60)
            # Then
            assert servers.materialized() == dict.fromkeys(EVERY_MONTH, (months, months)) | dict.fromkeys(
                FROM_THE_THIRD_MONTH, (months - 2, months - 2)
            )
            assert set(servers.runs()) == {"SUCCESS"}
            show_asset_graph(page, servers, folder)
            show_asset(page, servers, folder, last_month)
            show_plot(page, servers, folder, last_month)
            close_assistant(page, servers)
            follow_to_dagster_and_back(page, servers, "demand_features", "2011-02")
            show_experiment(page, servers, folder, last_month)
            show_mlflow_run(page, servers, folder, last_month)
            show_registered_model(page, servers, folder, months - 2)
        # When
        servers.process.send_signal(signal.SIGINT)
        # Then
        wait_until(lambda: servers.process.poll() is not None and not servers.processes(), "all processes ended", 60)
        assert not is_open(servers.dagster)
        assert not is_open(servers.mlflow)
        assert dotenv() == before
