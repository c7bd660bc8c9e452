"""Several machines at one lake, as docs/scale-out.md has them: one that launches runs, and workers that execute them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import psutil

from bikes_assets_tests.browser import wait_until
from bikes_assets_tests.conftest import MADE
from bikes_assets_tests.elsewhere.servers import CeleryWorker
from bikes_assets_tests.elsewhere.told import bikes

ROOT = Path(__file__).parents[2]
MAY_NAME = not subprocess.run(["unshare", "--uts", "hostname", "other"], capture_output=True).returncode
"""Whether this user may give processes a host name of their own, so that each worker is on a machine of its own name."""
DAEMON = """
import dagster._daemon.controller as controller
controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 2  # between two looks at a backfill: 30, which no setting changes
from dagster._daemon.cli import main
main()
"""
BACKFILL = """
mutation($assets: [AssetKeyInput!]!) {
  launchPartitionBackfill(backfillParams: {assetSelection: $assets, allPartitions: true}) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""


def yaml_of_page() -> str:
    """Return the dagster.yaml that docs/scale-out.md shows."""
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "scale-out.md").read_text(), re.DOTALL)
    return textwrap.dedent(block)


@dataclass
class Cluster:
    """A machine that launches, with Dagster's daemon, and workers.

    Attributes:
        folder: where each machine has a folder of its own.
        shared: the variables that all machines have in common.
        poll_seconds: how often the daemon looks whether runs are at work.
        processes: of all workers together, each of which has one.
        has_names: whether each worker is on a machine of its own name, as far as it can see.
    """

    folder: Path
    shared: Mapping[str, str]
    poll_seconds: int
    processes: int = 2
    has_names: bool = MAY_NAME
    workers: dict[str, CeleryWorker] = field(default_factory=dict[str, CeleryWorker])
    _daemon: subprocess.Popen[bytes] | None = None

    def environment(self, machine: str) -> dict[str, str]:
        """Return the environment of a machine, with its folders."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("BIKES_", "DAGSTER_"))}
        place = self.folder / machine
        own = {"BIKES_DATA": str(place), "DAGSTER_HOME": str(place / "dagster"), "PYTHONPATH": str(ROOT)}
        return inherited | dict(self.shared) | own

    def prepare(self, machine: str) -> Path:
        """Write a machine's dagster.yaml, and return its home."""
        home = self.folder / machine / "dagster"
        home.mkdir(parents=True, exist_ok=True)
        text = yaml_of_page()
        for shown, here in (
            ("poll_interval_seconds: 30", f"poll_interval_seconds: {self.poll_seconds}"),
            ("max_concurrent_runs: 4", f"max_concurrent_runs: {self.processes}"),
        ):
            assert text.count(shown) == 1
            text = text.replace(shown, here)
        (home / "dagster.yaml").write_text(text)
        return home

    def start(self, *workers: str) -> None:
        """Start the daemon and workers, and wait until these take runs."""
        home = self.prepare("head")
        command = [sys.executable, "-c", DAEMON, "run", "--workspace", str(ROOT / "workspace.yaml")]
        with (home / "daemon.log").open("wb") as log:
            self._daemon = subprocess.Popen(
                command, env=self.environment("head"), cwd=home, stdout=log, stderr=log, start_new_session=True
            )
        for name in workers:
            self.start_worker(name)
        for name in workers:
            wait_until(self.workers[name].is_ready, f"worker {name} takes runs", 120)

    def start_worker(self, name: str) -> None:
        """Start a worker on a machine of its name."""
        home = self.prepare(name)
        on = ("unshare", "--uts", "sh", "-c", f'hostname {name} && exec "$@"', "sh") if self.has_names else ()
        self.workers[name] = CeleryWorker(name, self.environment(name), home / "worker.log", on=on)
        self.workers[name].start()

    def stop(self) -> None:
        """Kill everything that was started."""
        for worker in self.workers.values():
            worker.kill()
        if self._daemon:
            os.killpg(self._daemon.pid, signal.SIGKILL)
            self._daemon.wait()

    def bikes(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the project on the machine that launches."""
        return bikes(self.environment("head"), *arguments)

    def backfill(self) -> str:
        """Order all partitions of all assets, as Dagster's pages do, and return the backfill's id."""
        variables = json.dumps({"assets": [{"path": [asset]} for asset in MADE]})
        answer = self.folder / "answer.json"
        command = [
            sys.executable,
            "-c",
            "from dagster_graphql.cli import main; main()",
            "-w",
            str(ROOT / "workspace.yaml"),
        ]
        command += ["-t", BACKFILL, "-v", variables, "-o", str(answer)]
        home = self.folder / "head" / "dagster"
        done = subprocess.run(command, env=self.environment("head"), cwd=home, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        told: dict[str, Any] = json.loads(answer.read_text())["data"]["launchPartitionBackfill"]
        assert told["__typename"] == "LaunchBackfillSuccess", told
        return told["backfillId"]

    def executing(self, instance: dg.DagsterInstance, name: str) -> tuple[dg.DagsterRun, int] | None:
        """Return a run one of whose steps a worker is executing, with its process; None where there is none."""
        started = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        for run in started:
            pid = int(run.tags.get("bikes_assets/worker", "0").partition("@")[0])
            if pid and self.workers[name].pid in _ancestors(pid):
                return run, pid
        return None

    def log(self) -> str:
        """Return the end of what daemon and workers printed."""
        files = sorted(self.folder.glob("*/dagster/*.log"))
        return "\n".join(f"--- {file.parts[-3]}\n{file.read_text(errors='replace')[-4000:]}" for file in files)


def _ancestors(pid: int) -> list[int]:
    try:
        return [process.pid for process in psutil.Process(pid).parents()]
    except psutil.NoSuchProcess:
        return []
