"""`bikes ui` and a browser before it, for tests of pages and for the screenshots in the docs."""

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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).parents[1]
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
    lineage: str

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
        **({"BIKES_FIRST_MONTH": "2011-01", "BIKES_LAST_MONTH": last_month} if last_month else {}),
        "BIKES_DAGSTER_URL": dagster,
        "BIKES_MLFLOW_URL": mlflow,
        "DAGSTER_HOME": str(folder / "dagster"),
    }


@contextmanager
def bikes_ui(folder: Path, last_month: str = "", settings: Mapping[str, str] | None = None) -> Iterator[Servers]:
    """Run `bikes ui` on free ports over stores of its own; whatever is left of it in the end is killed.

    Args:
        folder: where the stores lie, and what the servers print.
        last_month: the last month to work on, "" for that of the source.
        settings: other settings.
    """
    ports = free_ports(3)
    dagster, mlflow, lineage = (f"http://127.0.0.1:{port}" for port in ports)
    command = [sys.executable, "-c", "from bikes_assets.cli import main; main()", "ui"]
    for name, port in zip(("dagster", "mlflow", "lineage"), ports, strict=True):
        command += [f"--{name}-port", str(port)]
    environment = (
        settings_of(folder, last_month, dagster, mlflow) | {"BIKES_LINEAGE_URL": lineage} | dict(settings or {})
    )
    log = folder / "servers.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    servers = Servers(process, folder / "data", log, dagster, mlflow, lineage)
    try:
        for url in (f"{dagster}/server_info", f"{mlflow}/health", f"{lineage}/api/moments"):
            wait_until(lambda url=url: process.poll() is not None or answers(url), f"{url} answers", 180)
        assert process.poll() is None, servers.told()
        assert (Path(environment["DAGSTER_HOME"]) / "history").exists(), (
            "the servers work on another DAGSTER_HOME than they were told"
        )
        yield servers
    finally:
        for pid in servers.processes():
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait()


@contextmanager
def browser(profile: Path, recorded: Mapping[str, str] | None = None) -> Iterator[Page]:
    """Open a browser.

    Args:
        profile: folder of what it keeps.
        recorded: addresses of servers that a store's links lead to, and where those servers are now.
    """
    moved = ",".join(f"MAP {urlsplit(was).netloc} {urlsplit(now).netloc}" for was, now in (recorded or {}).items())
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=CHROMIUM,
            args=[*CHROMIUM_OPTIONS, f"--host-resolver-rules={moved}"],
            viewport={"width": 1440, "height": 900},
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


def take(page: Page, file: Path, *, behind_dialog: bool = False) -> None:
    """Save the page once nothing is loading and, unless it is wanted, no dialog is in the way."""
    expect(page.locator("[class*='spinner' i]:visible")).to_have_count(0)
    if not behind_dialog:
        expect(page.get_by_role("dialog")).to_have_count(0)
    page.wait_for_timeout(1_000)  # transitions
    file.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=file)


def close_assistant(page: Page, servers: Servers) -> None:
    """Have MLflow show its pages without its chat beside them; they stay so in this browser."""
    page.goto(printed_page(servers, "MLflow"))
    page.locator("[data-component-id='mlflow.assistant.chat_panel.close']").click()


def follow_to_mlflow(page: Page, servers: Servers, asset: str, month: str) -> Page:
    """Click the link from a materialization to its run in MLflow, and return the page that opens."""
    page.goto(f"{servers.dagster}/assets/{asset}?view=partitions&partition={month}")
    expect(page.get_by_text(f"{asset}[{month}]@").first).to_be_visible()
    with page.context.expect_page() as opened:
        page.locator("a[href*='/#/experiments/']").first.click(timeout=20_000)
    return opened.value


def follow_to_dagster(page: Page, asset: str, month: str) -> None:
    """Click the link of a page of MLflow to a materialization, which opens another page, and look whether it is that one."""
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Open in Dagster").first.click(
            timeout=20_000
        )  # it fails where something covers it
    landed = opened.value
    expect(landed.get_by_text(f"{asset}[{month}]@").first).to_be_visible(timeout=30_000)
    assert not landed.get_by_text(re.compile(rf"^{asset}\[(?!{month})[\d-]+\]@\d+$")).count(), "another month's address"
    landed.close()


def follow_to_dagster_and_back(page: Page, servers: Servers, asset: str, month: str, run: str = "") -> None:
    """Follow the link from a materialization to its run in MLflow, and the link of that to the materialization.

    Args:
        page: where to look.
        servers: what serves the pages.
        asset: the asset.
        month: the materialized month.
        run: name of the run in MLflow; by default that of an asset whose runs are not compared.
    """
    mlflow = follow_to_mlflow(page, servers, asset, month)
    expect(mlflow.get_by_role("heading", name=run or f"{asset}[{month}]")).to_be_visible()
    follow_to_dagster(mlflow, asset, month)
    mlflow.close()


def printed_page(servers: Servers, name: str) -> str:
    """Return the address that `bikes ui` has printed of a server."""
    (found,) = re.findall(rf"^{name} +(http\S+)", servers.log.read_text(), re.MULTILINE)
    return found
