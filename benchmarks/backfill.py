"""Months materialized by "Materialize all" in Dagster's page, against `bikes run`: wall time.

BENCH_LAST_MONTH says up to which month, from 2011-01 on. Both begin with a store that holds nothing, in turns.
"""

import os
import statistics
import time

from month import ask, pages
from timing import BIKES, ROUNDS, cost, fresh_store, table

SPAN = {"BIKES_FIRST_MONTH": "2011-01", "BIKES_LAST_MONTH": os.environ.get("BENCH_LAST_MONTH", "2012-12")}
MOST = 2
ASSETS = """{ assetNodes { assetKey { path } isMaterializable partitionKeys } }"""
LAUNCH = """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
STATUS = """query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status numPartitions } }
  runsOrError { ... on Runs { results { status } } } }"""


def materialize_all(url: str) -> tuple[float, int]:
    """Materialize everything by a backfill, as the button does, and return its seconds and number of runs.

    Raises:
        RuntimeError: it did not succeed.
    """
    nodes = [node for node in ask(url, ASSETS)["assetNodes"] if node["isMaterializable"] and node["partitionKeys"]]
    params = {"assetSelection": [node["assetKey"] for node in nodes], "allPartitions": True}
    start = time.monotonic()
    launched = ask(url, LAUNCH, params=params)["launchPartitionBackfill"]
    while True:
        time.sleep(0.5)
        told = ask(url, STATUS, id=launched["backfillId"])
        statuses = [run["status"] for run in told["runsOrError"]["results"]]
        if told["partitionBackfillOrError"]["status"].startswith(("COMPLETED", "FAIL", "CANCEL")):
            break
    if {*statuses} != {"SUCCESS"}:
        raise RuntimeError(f"the backfill did not succeed: {statuses}")
    return time.monotonic() - start, len(statuses)


def by_command() -> float:
    """Return the seconds of `bikes run`."""
    with fresh_store() as store:
        return cost([*BIKES, "run"], store | SPAN).wall


def by_click() -> tuple[float, int]:
    """Return the seconds of "Materialize all", and its number of runs."""
    with fresh_store() as store:
        cost([*BIKES, "setup"], store | SPAN)
        with pages(store | SPAN) as url:
            return materialize_all(url)


def main() -> None:
    """Print both."""
    rounds = [(by_command(), *by_click()) for _ in range(ROUNDS)]
    command, click, runs = (statistics.median(column) for column in zip(*rounds, strict=True))
    rows = [
        ("`bikes run`", f"{command:.0f}", "1", ""),
        ("Materialize all", f"{click:.0f}", f"{click / command:.1f}", MOST),
    ]
    table(("by", "wall s", "ratio", "at most"), rows)
    ratios = ", ".join(f"{click / command:.2f}" for command, click, _ in rounds)
    print(f"\n{SPAN['BIKES_FIRST_MONTH']} to {SPAN['BIKES_LAST_MONTH']}; the backfill had {runs:.0f} runs.")
    print(f"Medians of {ROUNDS}, in turns; the ratios were {ratios}.")


if __name__ == "__main__":
    main()
