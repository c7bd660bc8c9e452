"""A daemon that looks at a store again and again keeps no more of it than at first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TICKS = 1000 if os.environ.get("BIKES_SOAK") == "1" else 100
DAEMON = """
import sys
import dagster as dg
import psutil
from bikes_assets.definitions import defs
from bikes_assets.defs.automation import AUTOMATED
from bikes_assets.defs.due import due

ticks, repository, said = int(sys.argv[1]), defs().get_repository_def(), set()

def tick(instance):
    for name in ("source_changes", "mlflow_sync", "stale_partitions"):
        context = dg.build_sensor_context(instance=instance, repository_def=repository)
        made = repository.get_sensor_def(name).evaluate_tick(context)
        said.add((name, made.skip_message, len(made.run_requests or ())))
    assert not due(repository.asset_graph, makes=AUTOMATED).runs

def megabytes():
    return psutil.Process().memory_info().rss / 2**20

with dg.DagsterInstance.get() as instance:
    for _ in range(ticks // 4):
        tick(instance)
    before = megabytes()
    said.clear()
    for _ in range(ticks):
        tick(instance)
    print(megabytes() - before, sorted(said, key=str))
"""


@pytest.mark.soak
def test_memory_stays_as_it_is_over_many_ticks(copied: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DAEMON, str(TICKS)], capture_output=True, text=True, check=True, cwd=copied
    )
    grown, _, said = done.stdout.strip().splitlines()[-1].partition(" ")
    assert (
        said
        == "[('mlflow_sync', 'Nothing has happened.', 0), ('source_changes', 'Sensor function returned an empty result', 0), "
        "('stale_partitions', 'Everything is up to date.', 0)]"
    )
    assert float(grown) < 8, grown  # MB
