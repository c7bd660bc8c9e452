"""What a store holds in each of its parts, told as one JSON object: `python -m bikes_assets_tests.elsewhere.told`.

Settings are read once a process, so this is a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bikes_assets_tests import forked

ROOT = Path(__file__).parents[2]
COMMAND = "from bikes_assets.cli import main; main()"


def bikes(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the project in a process of its own."""
    return forked.run(("-c", COMMAND, *arguments), environment=environment, folder=ROOT)


def told(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what the store that an environment leads to holds; see `main`."""
    done = forked.run(("-m", __name__), environment=environment, folder=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Tell of events, commits, MLflow's finished runs and registered versions, each by its address, and of what was published."""
    from bikes_assets.app import state
    from bikes_assets.app.store import current, mlflow_client, table
    from bikes_assets.core.record import Version
    from bikes_assets.lineage.event_log import reported_since
    from bikes_assets.project import ASSETS
    from bikes_assets.tracking.runs import finished_runs

    events = (event for event in reported_since(current().events, 0) if event.record)
    commits = [(asset, commit) for asset in ASSETS if table(asset).exists() for commit in table(asset).commits()]
    client = mlflow_client()
    said = {
        "agrees": state.reconciliation() is not None,
        "events": [event.record.output.address for event in events if event.record],
        "commits": [Version(asset, item.partition, item.version, item.digest).address for asset, item in commits],
        "by run": [(asset, item.partition, item.record["made_by"].get("dagster_run_id")) for asset, item in commits],
        "digests": {
            asset: {item.partition: item.digest for name, item in commits if name == asset} for asset in ASSETS
        },
        "mlflow": [run.data.tags["address"] for run in finished_runs(client).values()],
        "registered": [version.tags["address"] for version in client.search_model_versions()],
    }
    sys.stdout.write(f"\n{json.dumps(said)}\n")


if __name__ == "__main__":
    main()
