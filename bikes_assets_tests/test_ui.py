"""The pages of Dagster and MLflow as people use them: real servers, a real browser, clicks."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).parents[1]
SOAK = os.environ.get("BIKES_SOAK") == "1"
CHROMIUM = shutil.which("chromium")
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
EVERY_MONTH = ("hourly_rentals", "demand_features")
FROM_THE_THIRD_MONTH = ("demand_model", "champion_model", "demand_predictions", "prediction_quality")
EXTERNAL = ("rental_records", "champion_pins")


@dataclass(frozen=True)
class Servers:
    """`bikes ui` as it runs, and where its pages are."""

    process: subprocess.Popen[bytes]
    data: Path
    log: Path
    dagster: str
    mlflow: str

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.dagster}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["data"]

    def runs(self) -> list[str]:
        """Return the status of each run, newest first."""
        found = self.graphql("{ runsOrError { ... on Runs { results { status } } } }")
        return [run["status"] for run in found["runsOrError"]["results"]]

    def newest_run(self) -> str:
        """Return the id of the newest run."""
        found = self.graphql("{ runsOrError(limit: 1) { ... on Runs { results { runId } } } }")
        return found["runsOrError"]["results"][0]["runId"]

    def backfills(self) -> list[str]:
        """Return the status of each backfill, newest first."""
        found = self.graphql("{ partitionBackfillsOrError { ... on PartitionBackfills { results { status } } } }")
        return [backfill["status"] for backfill in found["partitionBackfillsOrError"]["results"]]

    def materialized(self) -> dict[str, tuple[int, int]]:
        """Return how many partitions of each asset of ours are materialized, and how many there are."""
        found = self.graphql("{ assetNodes { assetKey { path } partitionStats { numMaterialized numPartitions } } }")
        stats = {node["assetKey"]["path"][0]: node["partitionStats"] for node in found["assetNodes"]}
        return {
            asset: (stats[asset]["numMaterialized"], stats[asset]["numPartitions"])
            for asset in (*EVERY_MONTH, *FROM_THE_THIRD_MONTH)
        }

    def told(self) -> str:
        """Return the end of what the servers printed."""
        return self.log.read_text()[-5_000:]

    def processes(self) -> list[int]:
        """Return every process that was started with this run's settings, whoever its parent is by now."""
        mark, found = f"BIKES_DATA={self.data}".encode(), []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in environ.read_bytes().split(b"\0"):
                    found.append(int(environ.parent.name))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return found


def listening(pid: int) -> set[str]:
    """Return the addresses on which a process listens."""
    try:
        found = psutil.Process(pid).net_connections("inet")
    except psutil.NoSuchProcess:
        return set()
    return {connection.laddr.ip for connection in found if connection.status == psutil.CONN_LISTEN}


def wait_until(holds: Callable[[], Any], what: str, seconds: float) -> Any:
    """Return the first true answer of `holds`; fail when there is none in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := holds():
            return answer
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def dotenv() -> str | None:
    file = ROOT / ".env"
    return file.read_text() if file.exists() else None


def is_open(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) == 0


def settings_of(folder: Path, last_month: str, dagster: str, mlflow: str) -> dict[str, str]:
    ours = ("BIKES_", "DAGSTER_", "MLFLOW_")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return inherited | {
        "BIKES_DATA": str(folder / "data"),
        "BIKES_FIRST_MONTH": "2011-01",
        "BIKES_LAST_MONTH": last_month,
        "BIKES_DAGSTER_URL": dagster,
        "BIKES_MLFLOW_URL": mlflow,
        "DAGSTER_HOME": str(folder / "dagster"),
    }


@contextmanager
def bikes_ui(folder: Path, last_month: str) -> Iterator[Servers]:
    """Run `bikes ui` on free ports over stores of its own; whatever is left of it in the end is killed."""
    dagster_port, mlflow_port = free_ports(2)
    dagster, mlflow = f"http://127.0.0.1:{dagster_port}", f"http://127.0.0.1:{mlflow_port}"
    command = [sys.executable, "-c", "from bikes_assets.cli import main; main()", "ui"]
    command += ["--dagster-port", str(dagster_port), "--mlflow-port", str(mlflow_port)]
    environment = settings_of(folder, last_month, dagster, mlflow)
    log = folder / "servers.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    servers = Servers(process, folder / "data", log, dagster, mlflow)
    try:
        for url in (f"{dagster}/server_info", f"{mlflow}/health"):
            wait_until(lambda url=url: process.poll() is not None or answers(url), f"{url} answers", 180)
        assert process.poll() is None, servers.told()
        assert (folder / "dagster" / "history").exists(), "the servers work on another DAGSTER_HOME than they were told"
        yield servers
    finally:
        for pid in servers.processes():
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait()


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=CHROMIUM_OPTIONS, viewport={"width": 1440, "height": 900}
        )
        context.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        yield context.pages[0]
        context.close()


def open_asset_graph(page: Page, servers: Servers) -> None:
    page.goto(f"{servers.dagster}/asset-groups")
    see(page, "predictions")
    expect(page.get_by_role("button", name="Materialize all")).to_be_enabled()


def unfold_all_groups(page: Page) -> None:
    """Unfold the asset graph's groups; they stay so in this browser."""
    page.keyboard.press("Alt+KeyE")
    see_all_assets(page)


def see_all_assets(page: Page) -> None:
    for asset in (*EVERY_MONTH, *FROM_THE_THIRD_MONTH, *EXTERNAL):
        see(page, asset)


def see(page: Page, name: str) -> None:
    """Wait until an asset or a group is drawn in the asset graph."""
    expect(page.locator("svg").get_by_text(name, exact=True).and_(page.locator(":visible")).first).to_be_visible()


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


def take(page: Page, file: Path, *, behind_dialog: bool = False) -> None:
    """Save the page once nothing is loading and, unless it is wanted, no dialog is in the way."""
    expect(page.locator("[class*='spinner' i]:visible")).to_have_count(0)
    expect(page.get_by_role("dialog")).to_have_count(int(behind_dialog))
    page.wait_for_timeout(1_000)  # transitions
    file.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=file)


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
    row = page.get_by_role("row").filter(has_text="predicted and actual")
    row.get_by_text("[Show Markdown]").click()
    plot = page.get_by_role("dialog").locator("img")
    wait_until(lambda: plot.evaluate("image => image.naturalWidth") > 300, "the plot is drawn", 30)
    take(page, folder / "asset-plot.png", behind_dialog=True)


def close_assistant(page: Page, servers: Servers) -> None:
    """Have MLflow show its pages without its chat beside them; they stay so in this browser."""
    page.goto(printed_page(servers, "MLflow"))
    page.locator("[data-component-id='mlflow.assistant.chat_panel.close']").click()


def follow_to_mlflow(page: Page, servers: Servers, asset: str, month: str) -> None:
    """Follow the link from a materialization to its run in MLflow."""
    page.goto(f"{servers.dagster}/assets/{asset}?view=partitions&partition={month}")
    expect(page.get_by_text(f"{asset}[{month}]@").first).to_be_visible()
    link = page.locator(f"a[href^='{servers.mlflow}']").first.get_attribute("href")
    page.goto(str(link))


def follow_to_dagster_and_back(page: Page, servers: Servers, asset: str, month: str) -> None:
    """Follow the link from a materialization to its run in MLflow, and the link of that to the materialization."""
    follow_to_mlflow(page, servers, asset, month)
    expect(page.get_by_role("heading", name=f"{asset}[{month}]")).to_be_visible()
    link = page.get_by_role("link", name="Open in Dagster").first.get_attribute("href")
    page.goto("about:blank")
    page.goto(str(link))
    expect(page.get_by_text(f"{asset}[{month}]@").first).to_be_visible()
    assert not page.get_by_text(re.compile(rf"^{asset}\[(?!{month})[\d-]+\]@\d+$")).count(), "another month's address"


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


def printed_page(servers: Servers, name: str) -> str:
    """Return the address that `bikes ui` has printed of a server."""
    (found,) = re.findall(rf"^{name} +(http\S+)", servers.log.read_text(), re.MULTILINE)
    return found


def show_mlflow_run(page: Page, servers: Servers, folder: Path, month: str) -> None:
    """Follow the link from a model's materialization to its run in MLflow, and see a plot of it."""
    follow_to_mlflow(page, servers, "demand_model", month)
    expect(page.get_by_role("heading", name=f"{month} demand_model")).to_be_visible()
    expect(page.get_by_text("demand_features[2011-01").first).to_be_visible()  # a dataset that it was fitted on
    expect(page.get_by_text("max_iter", exact=True)).to_be_visible()
    take(page, folder / "mlflow-run.png")
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("importance.svg").first.click()
    plot = page.locator("img[src*='importance.svg'], img[src^='blob:']").first
    wait_until(lambda: plot.evaluate("image => image.naturalWidth") > 100, "the plot is drawn", 30)


def show_registered_model(page: Page, servers: Servers, folder: Path, versions: int) -> None:
    page.goto(f"{servers.mlflow}/#/models/demand_model?workflowType=machine_learning")
    expect(page.get_by_role("link", name=f"Version {versions}", exact=True)).to_be_visible()
    take(page, folder / "mlflow-model.png")


@pytest.mark.skipif(not CHROMIUM, reason="needs a browser: apt-get install chromium")
@pytest.mark.parametrize(
    ("last_month", "months", "minutes", "screenshots"),
    [pytest.param("2012-12", 24, 60, ROOT / "docs" / "screenshots", marks=pytest.mark.soak)]
    if SOAK
    else [("2011-03", 3, 15, None)],
)
def test_all_months_are_made_by_clicks_and_ctrl_c_leaves_nothing_behind(
    tmp_path: Path, last_month: str, months: int, minutes: float, screenshots: Path | None
) -> None:
    # Given
    folder, before = screenshots or tmp_path / "screenshots", dotenv()
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
        wait_until(lambda: servers.process.poll() is not None and not servers.processes(), "all processes ended", 20)
        assert not is_open(servers.dagster)
        assert not is_open(servers.mlflow)
        assert dotenv() == before
