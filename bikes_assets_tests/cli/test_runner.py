"""Two runs at once: one works, the other waits and finds done what the first one did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest
from filelock import FileLock

from bikes_assets.cli import runner
from bikes_assets_tests.conftest import store_at

RUN = """
import json
from bikes_assets.cli import runner as runs
summary = runs.run_history(None, lambda what, *_: print(what, flush=True))
print(json.dumps(summary.partitions), flush=True)
"""


@pytest.mark.slow
def test_of_two_runs_at_once_the_later_one_finds_done_what_the_first_one_did(tmp_path: Path) -> None:
    # Given a fresh store of one month, and two runs that both see that everything is missing
    home = tmp_path / "data" / "dagster"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BIKES_", "DAGSTER_"))}
    environment |= {"BIKES_DATA": str(tmp_path / "data"), "BIKES_FIRST_MONTH": "2011-01", "BIKES_LAST_MONTH": "2011-01"}
    subprocess.run(
        [sys.executable, "-c", "from bikes_assets.cli import runner as runs; runs.setup()"], env=environment, check=True
    )
    with ExitStack() as stack:
        with FileLock(home / ".bikes_run.lock"):
            command = [sys.executable, "-c", RUN]
            processes = [
                subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)
            ]
            for run in processes:
                stack.callback(run.kill)
            assert [run.stdout.readline() for run in processes] == ["waiting for another bikes run\n"] * 2
        # When they may work
        told = [run.communicate(timeout=600)[0].splitlines() for run in processes]
    # Then everything is made once
    assert [run.returncode for run in processes] == [0, 0]
    made = sum((Counter(json.loads(lines[-1])) for lines in told), Counter())
    assert made == {"hourly_rentals": 1, "demand_features": 1}


def test_the_champion_of_a_summary_is_that_of_the_newest_month_that_was_materialized() -> None:
    summary = runner.Summary()
    for month, model in (("2012-11", "demand_model[2012-10]@20"), ("2012-10", "demand_model[2012-09]@19")):
        made = dg.AssetMaterialization(
            "champion_model", partition=month, metadata={"lineage": {"models": [{"origin": model}]}}
        )
        runner._count(summary, made)
    assert (summary.champion_month, summary.champion) == ("2012-11", "demand_model[2012-10]@20")


_IMPORTED = """
import atexit, gc, sys
atexit.register(lambda: print(*gc.get_threshold(), *sys.modules, file=sys.stderr))
from bikes_assets.cli import main
main()
"""
_FOR_DEVELOPMENT = {"polars", "_polars_runtime_32", "pyspark", "py4j", "_pytest", "pytest", "pluggy"}
"""What MLflow and scikit-learn import where it is installed; a run does without."""


@pytest.mark.slow
def test_a_run_of_a_month_imports_no_more_than_it_needs(copied: Path) -> None:
    # When a month is materialized again, in a process that has imported nothing
    command = [sys.executable, "-c", _IMPORTED, "run", "--month", "2011-07", "--force"]
    done = subprocess.run(command, env=os.environ | store_at(copied), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    youngest, middle, _, *modules = done.stderr.splitlines()[-1].split()
    # Then it has imported neither servers nor what explores data, and no more modules than today
    assert {"flask", "matplotlib", "mlflow.server", "mlflow.sklearn", "pandera", "uvicorn"} & {*modules} == set()
    assert len([name for name in modules if name.partition(".")[0] not in _FOR_DEVELOPMENT]) < 4_400
    # and did not search all of them for garbage again and again
    assert int(youngest) * int(middle) >= 1_000_000
