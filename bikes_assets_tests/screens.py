"""The screenshots in the docs, taken of a store that is made for them.

    python -m bikes_assets_tests.screens                     those of the docs, to docs/screenshots
    python -m bikes_assets_tests.screens FOLDER [NAME ...]    the named ones, or all, to a folder

It materializes every month, pins a model, opens `bikes ui` in Chromium, lets a run fail and takes the pages below. With
BIKES_SCREENS=FOLDER the store is kept there and used again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

from bikes_assets.events import pages
from bikes_assets_tests.browser import (
    EVERY_MONTH,
    FROM_THE_THIRD_MONTH,
    ROOT,
    Servers,
    bikes_ui,
    browser,
    close_assistant,
    open_asset_graph,
    printed_page,
    see_all_assets,
    settings_of,
    take,
    unfold_all_groups,
    wait_until,
)

MONTH, PINNED = "2012-08", "2012-11"
REPORTED = "demand_model@18"
ASSETS = (*EVERY_MONTH, *FROM_THE_THIRD_MONTH)
FAIL = """
import dagster as dg
from bikes_assets.cli import runner as runs
from bikes_assets.events.code_location import attribute_runs
from bikes_assets.definitions import defs

job = defs().resolve_implicit_global_asset_job_def()
with runs.opened() as instance:
    attribute_runs(instance, job, "bikes_assets.definitions", "bikes_assets")
    config = {"ops": {"demand_model": {"config": {"estimator": "sklearn.ensemble.HistGradientBostingRegressor"}}}}
    job.execute_in_process(
        instance=instance, partition_key="2012-12", asset_selection=[dg.AssetKey("demand_model")], run_config=config,
        raise_on_error=False,
    )
"""


def timeline(page: Page, servers: Servers) -> None:
    page.goto(f"{servers.dagster}/overview/activity/timeline")
    page.get_by_role("button", name="1hr").click()
    expect(page.get_by_text("Jobless asset materializations").first).to_be_visible()


def asset_graph(page: Page, servers: Servers) -> None:
    open_asset_graph(page, servers)
    unfold_all_groups(page)
    page.get_by_role("button", name="Hide navigation").click()
    page.reload()  # draws the graph as large as the page is now
    see_all_assets(page)


def asset(name: str) -> Callable[[Page, Servers], None]:
    def open_partition(page: Page, servers: Servers) -> None:
        page.goto(f"{servers.dagster}/assets/{name}?view=partitions&partition={MONTH}")
        expect(page.get_by_text("Materialized from", exact=True)).to_be_visible()

    return open_partition


def columns(page: Page, servers: Servers) -> None:
    page.goto(f"{servers.dagster}/assets/demand_features?view=overview")
    expect(page.get_by_text("From hourly_rentals.temp.").first).to_be_visible()


def plots(page: Page, servers: Servers) -> None:
    page.goto(f"{servers.dagster}/assets/prediction_quality?view=overview")
    page.get_by_role("button", name="Plots").click()
    page.get_by_text("baseline_rmse", exact=True).scroll_into_view_if_needed()
    page.mouse.wheel(0, 500)


def stale(page: Page, servers: Servers) -> None:
    """What is stale and why: the sensor looks every 30 s."""
    page.goto(f"{servers.dagster}/assets/champion_model?view=checks&checkDetail=up_to_date")
    wait_until(lambda: _reloaded(page, page.get_by_text("stale: input champion_pins")), "it is shown to be stale", 120)


def launchpad(page: Page, servers: Servers) -> None:
    page.goto(f"{servers.dagster}/assets/demand_model")
    button = page.get_by_role("button", name="Materialize").first
    expect(button).to_be_enabled()
    box = button.bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] + 12, box["y"] + box["height"] / 2)  # its menu
    page.get_by_text("Open launchpad").first.click()
    expect(page.get_by_role("dialog").get_by_text("No errors")).to_be_visible()


def _fail(servers: Servers) -> None:
    """Let a run fail by a typo in its config."""
    environment = settings_of(servers.data.parent, "", servers.dagster, servers.mlflow)
    subprocess.run([sys.executable, "-c", FAIL], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)


def failed_run(page: Page, servers: Servers) -> None:
    query = "{ runsOrError(filter: {statuses: [FAILURE]}) { ... on Runs { results { runId } } } }"
    page.goto(f"{servers.dagster}/runs/{servers.graphql(query)['runsOrError']['results'][0]['runId']}")
    expect(page.get_by_text("RUN_FAILURE", exact=True).first).to_be_visible()


def runs(page: Page, servers: Servers) -> None:
    """The reason of a failure stands with its run within 30 s."""
    _fail(servers)
    page.goto(f"{servers.dagster}/runs")
    wait_until(
        lambda: _reloaded(page, page.get_by_text("bikes_assets/failure")), "the reason of the failure is shown", 120
    )


def jobs(page: Page, servers: Servers) -> None:
    page.goto(f"{servers.dagster}/jobs")
    expect(page.get_by_text("monthly_refresh").first).to_be_visible()


def automation(page: Page, servers: Servers) -> None:
    """Switch the automation on, and see what a tick does with what is stale."""
    page.goto(f"{servers.dagster}/locations/bikes_assets/sensors/automation")
    switch = page.get_by_role("checkbox").first
    if not switch.is_checked():
        switch.evaluate("element => element.click()")  # it is drawn over
    page.goto(f"{servers.dagster}/assets/champion_model?view=automation")
    wait_until(lambda: _reloaded(page, page.get_by_text("requested", exact=False)), "a tick has requested runs", 180)
    page.get_by_text(re.compile(r"^[A-Z][a-z]{2} \d+, ")).last.click()
    expect(page.get_by_role("dialog").get_by_text("Partitions evaluated")).to_be_visible()


def _reloaded(page: Page, wanted: Locator) -> bool:
    page.reload()
    page.wait_for_timeout(4_000)
    return wanted.count() > 0


def mlflow_experiments(page: Page, servers: Servers) -> None:
    close_assistant(page, servers)
    page.goto("about:blank")
    page.goto(f"{servers.mlflow}/#/experiments?workflowType=machine_learning")
    expect(page.get_by_role("link", name="bike-demand", exact=True)).to_be_visible()


def mlflow_charts(page: Page, servers: Servers) -> None:
    page.goto("about:blank")
    page.goto(printed_page(servers, "MLflow"))
    expect(page.get_by_text("baseline_rmse", exact=True).first).to_be_visible()


def _fits(servers: Servers, *months: str) -> tuple[str, list[str]]:
    """Return the experiment's id, and the ids of the runs that fitted the models of some months."""
    from mlflow import MlflowClient

    client = MlflowClient(servers.mlflow)
    known = client.get_experiment_by_name("bike-demand")
    assert known
    found: list[str] = []
    for month in months:
        wanted = f"attributes.run_name = '{month} demand_model' and attributes.status = 'FINISHED'"
        found += [run.info.run_id for run in client.search_runs([known.experiment_id], wanted, max_results=1)]
    return known.experiment_id, found


def mlflow_run(page: Page, servers: Servers) -> None:
    experiment, (fit,) = _fits(servers, MONTH)
    page.goto("about:blank")
    page.goto(pages.mlflow_run(servers.mlflow, experiment, fit))
    expect(page.get_by_text("max_iter", exact=True)).to_be_visible()


def mlflow_compare(page: Page, servers: Servers) -> None:
    experiment, fits = _fits(servers, "2012-08", "2012-09", "2012-10")
    listed = ",".join(f'"{run_id}"' for run_id in fits)
    page.goto("about:blank")
    page.goto(
        f'{servers.mlflow}/#/compare-runs?runs=[{listed}]&experiments=["{experiment}"]&workflowType=machine_learning'
    )
    expect(page.get_by_text("2012-09 demand_model").first).to_be_visible()


def mlflow_model(page: Page, servers: Servers) -> None:
    page.goto(f"{servers.mlflow}/#/models/demand_model?workflowType=machine_learning")
    expect(page.get_by_role("link", name="Version 22", exact=True)).to_be_visible()


def mlflow_version(page: Page, servers: Servers) -> None:
    page.goto(f"{servers.mlflow}/#/models/demand_model/versions/18?workflowType=machine_learning")
    expect(page.get_by_text("Version 18").first).to_be_visible()


def lineage(address: str, seen: str, *clicks: str) -> Callable[[Page, Servers], None]:
    """Return what opens a view of the lineage page, and waits until something is seen.

    Args:
        address: path and query of the view.
        seen: selector of what is seen then.
        clicks: selectors of what is clicked after that.
    """

    def open_view(page: Page, servers: Servers) -> None:
        page.goto(f"{servers.lineage}{address}")
        expect(page.locator(seen).first).to_be_visible()
        if "view=" not in address:
            expect(page.locator(".strip .fresh").first).to_be_visible()  # the state of each partition comes last
        for selector in clicks:
            page.locator(selector).first.click()
        page.wait_for_timeout(1_500)

    return open_view


def dark(show: Callable[[Page, Servers], None]) -> Callable[[Page, Servers], None]:
    """Return the same view in dark colors."""

    def open_dark(page: Page, servers: Servers) -> None:
        page.emulate_media(color_scheme="dark")
        show(page, servers)

    return open_dark


def report(page: Page, servers: Servers) -> None:
    """The report on a model, of which the first sections are shown."""
    environment = settings_of(servers.data.parent, "", servers.dagster, servers.mlflow)
    file = servers.data.parent / "report.html"
    command = [sys.executable, "-m", "bikes_assets", "report", REPORTED, "--html", str(file)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    page.goto(file.as_uri())
    expect(page.locator("h1")).to_be_visible()


_COLUMN = "/?focus=demand_features&column=demand_features.temperature&open=demand_features&show=1%2Bdemand_features%2B"
_ROW = "demand_predictions.prediction%5B2012-08%5D%232012-08-14T17:00"
PAGE: Mapping[str, Callable[[Page, Servers], None]] = {
    "page-overview": lineage("/?focus=demand_model&show=%2Bdemand_model%2B", ".box.focused"),
    "page-column": lineage(_COLUMN, ".column.chosen"),
    "page-trace": lineage(f"/?view=trace&address={_ROW}", ".values"),
    "page-diff": lineage("/?view=diff&a=demand_model@3&b=demand_model@champion", ".sides"),
    "page-dark": dark(lineage(f"{_COLUMN}&from=hourly_rentals.temp&to=demand_features.temperature", ".column.chosen")),
}
"""Views of the lineage page."""

SCREENS: Mapping[str, Callable[[Page, Servers], None]] = {
    "asset-graph": asset_graph,
    "timeline": timeline,
    "runs": runs,
    "failed-run": failed_run,
    "jobs": jobs,
    **{f"asset-{name.replace('_', '-')}": asset(name) for name in ASSETS},
    "columns": columns,
    "plots": plots,
    "stale": stale,
    "launchpad": launchpad,
    "mlflow-experiments": mlflow_experiments,
    "mlflow-charts": mlflow_charts,
    "mlflow-run": mlflow_run,
    "mlflow-compare": mlflow_compare,
    "mlflow-model": mlflow_model,
    "mlflow-version": mlflow_version,
    **PAGE,
    "report": report,
    "automation": automation,  # the last one: it changes the store
}


IN_DOCS = (
    "asset-graph",
    "runs",
    "failed-run",
    "asset-demand-model",
    "plots",
    "stale",
    "launchpad",
    "mlflow-charts",
    "mlflow-run",
    *PAGE,
    "report",
    "automation",
)


def make(folder: Path) -> None:
    """Materialize everything in a folder, and pin a model for a month."""
    environment = settings_of(folder, "", "http://127.0.0.1:3000", "http://127.0.0.1:5000")

    def call(*command: str) -> None:
        subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)

    call("-m", "bikes_assets", "run")
    pinned = ("pin", "demand_model[2012-09]", "--month", PINNED, "--reason", "demand of a strike in 2012-10")
    call("-m", "bikes_assets", *pinned)


def main(*arguments: str) -> None:
    """Take the screenshots that are named."""
    target = Path(arguments[0]) if arguments else ROOT / "docs" / "screenshots"
    wanted = arguments[1:] or (tuple(SCREENS) if arguments else IN_DOCS)
    kept: Any = os.environ.get("BIKES_SCREENS")
    with nullcontext(kept) if kept else tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not (folder / "data").exists():
            make(folder)
        with bikes_ui(folder) as servers, browser(folder / "browser") as page:
            for screen in wanted:
                page.emulate_media(color_scheme="light")
                SCREENS[screen](page, servers)
                take(page, target / f"{screen}.png", behind_dialog=screen in ("automation", "launchpad"))


if __name__ == "__main__":
    main(*sys.argv[1:])
