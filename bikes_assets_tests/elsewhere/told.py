"""What a store holds in each of its parts, told as one JSON object: `python -m bikes_assets_tests.elsewhere.told`.

Settings are read once a process, so this is a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

COMMAND = "from bikes_assets.cli import main; main()"


def bikes(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the project in a process of its own."""
    command = [sys.executable, "-c", COMMAND, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)


def told(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what the store that an environment leads to holds; see `main`."""
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=400)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Tell of events, commits, MLflow's finished runs and registered versions, each by its address, and of what was published."""
    from bikes_assets.app import state
    from bikes_assets.app.settings import settings
    from bikes_assets.app.store import ASSETS, mlflow_client, table
    from bikes_assets.core.record import Version
    from bikes_assets.lineage.event_log import reported_since
    from bikes_assets.tracking.runs import finished_runs

    events = (event for event in reported_since(settings().event_storage, 0) if event.record)
    commits = [(asset, commit) for asset in ASSETS if table(asset).exists() for commit in table(asset).commits()]
    client = mlflow_client()
    said = {
        "agrees": state.agreement() is not None,
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
