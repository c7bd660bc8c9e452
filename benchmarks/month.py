"""A month rematerialized through Dagster's page: wall time by part, from the click to the last event."""

import json
import os
import signal
import socket
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise

from timing import BIKES, HERE, ROUNDS, cost, fresh_store, table

MONTH, SPAN = "2011-04", {"BIKES_FIRST_MONTH": "2011-01", "BIKES_LAST_MONTH": "2011-04"}
ASSETS = ("demand_model", "champion_model", "demand_predictions", "prediction_quality")
LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
EVENTS = """query($run: ID!, $after: String) { logsForRun(runId: $run, afterCursor: $after) { ... on EventConnection {
  cursor hasMore events { ... on MessageEvent { timestamp eventType stepKey } } } } }"""


def ask(url: str, query: str, **variables: object) -> dict:
    """Return what Dagster's webserver answers."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["data"]


def events_of(url: str, run: str) -> dict[str, float]:
    """Return when each kind of event of a run that has ended came first, Unix seconds, and the first of each step."""
    found: dict[str, float] = {}
    end = time.monotonic() + 300
    while "RUN_SUCCESS" not in found:
        if time.monotonic() > end or "RUN_FAILURE" in found:
            raise RuntimeError(f"run {run} did not succeed: {found}")
        time.sleep(1)
        found, after, more = {}, None, True
        while more:
            page = ask(url, EVENTS, run=run, after=after)["logsForRun"]
            for event in page["events"]:
                moment = float(event["timestamp"]) / 1000
                found.setdefault(event["eventType"], moment)
                found[f"last {event['eventType']}"] = moment
            after, more = page["cursor"], page["hasMore"]
    return found


def once(url: str) -> list[float]:
    """Make the month again, and return the seconds of each part."""
    selector = {
        "repositoryLocationName": "bikes_assets",
        "repositoryName": "__repository__",
        "jobName": "__ASSET_JOB",
        "assetSelection": [{"path": [asset]} for asset in ASSETS],
    }
    tags = [{"key": "dagster/partition", "value": MONTH}]
    params = {"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": tags}}
    start = time.time()
    run = ask(url, LAUNCH, params=params)["launchRun"]["run"]["runId"]
    found = events_of(url, run)
    marks = [
        start,
        found["RUN_ENQUEUED"],
        found["RUN_STARTING"],
        found["RUN_START"],
        found["STEP_START"],
        found["last STEP_SUCCESS"],
        found["RUN_SUCCESS"],
    ]
    return [after - before for before, after in pairwise(marks)]


@contextmanager
def pages(env: dict[str, str]) -> Iterator[str]:
    """Serve Dagster's pages of a store, with its daemon, and yield their URL."""
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            ports.append(probe.getsockname()[1])
    command = [*BIKES, "ui", "--dagster-port", str(ports[0]), "--mlflow-port", str(ports[1])]
    servers = subprocess.Popen(
        command, cwd=HERE.parent, env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{ports[0]}"
        for _ in range(180):
            with suppress(OSError):
                urllib.request.urlopen(f"{url}/server_info", timeout=5).close()
                break
            time.sleep(1)
        time.sleep(20)  # the daemon's first looks
        yield url
    finally:
        servers.send_signal(signal.SIGINT)
        servers.wait(60)


def main() -> None:
    """Print the parts."""
    parts = (
        "from the click to the queue",
        "in the queue, until the daemon looks",
        "the process of the run starts and imports",
        "resources, MLflow's among them",
        "four assets are materialized",
        "the run ends",
    )
    with fresh_store() as store:
        env = store | SPAN
        cost([*BIKES, "run"], env)
        with pages(env) as url:
            rounds = [once(url) for _ in range(ROUNDS)]
    seconds = [statistics.median(column) for column in zip(*rounds, strict=True)]
    whole = sum(seconds)
    rows = [(part, f"{value:.1f}", f"{value / whole:.0%}") for part, value in zip(parts, seconds, strict=True)]
    table(("part", "wall s", "of all"), [*rows, ("all", f"{whole:.1f}", "100%")])
    print(f"\n{', '.join(ASSETS)} of {MONTH}; medians of {ROUNDS}. The first took {sum(rounds[0]):.1f} s.")


if __name__ == "__main__":
    main()
