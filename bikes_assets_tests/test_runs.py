"""Two runs at once: one works, the other waits and finds done what the first one did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from filelock import FileLock

RUN = """
import json
from bikes_assets import runs
summary = runs.run_history(None, lambda what, *_: print(what, flush=True))
print(json.dumps(summary.partitions), flush=True)
"""


def test_of_two_runs_at_once_the_later_one_finds_done_what_the_first_one_did(tmp_path: Path) -> None:
    # Given a fresh store of one month, and two runs that both see that everything is missing
    home = tmp_path / "data" / "dagster"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BIKES_", "DAGSTER_"))}
    environment |= {"BIKES_DATA": str(tmp_path / "data"), "BIKES_FIRST_MONTH": "2011-01", "BIKES_LAST_MONTH": "2011-01"}
    subprocess.run([sys.executable, "-c", "from bikes_assets import runs; runs.setup()"], env=environment, check=True)
    with ExitStack() as stack:
        with FileLock(home / ".bikes_run.lock"):
            command = [sys.executable, "-c", RUN]
            runs = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
            for run in runs:
                stack.callback(run.kill)
            assert [run.stdout.readline() for run in runs] == ["waiting for another bikes run\n"] * 2
        # When they may work
        told = [run.communicate(timeout=600)[0].splitlines() for run in runs]
    # Then everything is made once
    assert [run.returncode for run in runs] == [0, 0]
    made = sum((Counter(json.loads(lines[-1])) for lines in told), Counter())
    assert made == {"hourly_rentals": 1, "demand_features": 1}
