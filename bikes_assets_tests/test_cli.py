"""The `bikes` command, as a process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIKES = str(Path(sys.executable).with_name("bikes"))


def environment(folder, **settings):
    fresh = {"BIKES_DATA": str(folder), "DAGSTER_HOME": str(folder / "dagster"), "BIKES_MLFLOW_TRACKING_URI": ""}
    inherited = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return {**inherited, **fresh, **settings}


def bikes(*arguments, folder, **settings):
    return subprocess.run(
        [BIKES, *arguments], capture_output=True, text=True, env=environment(folder, **settings), cwd=ROOT, timeout=300
    )


def bad_source(folder):
    """Return a copy of the source whose row 13,000 says 99 for the hour."""
    lines = (ROOT / "data" / "raw" / "hour.csv").read_text().splitlines(keepends=True)
    fields = lines[12_999].split(",")
    fields[5] = "99"
    lines[12_999] = ",".join(fields)
    source = folder / "bad.csv"
    source.write_text("".join(lines))
    return source


def test_a_bad_source_is_one_named_error_and_publishes_nothing(tmp_path):
    done = bikes("run", folder=tmp_path, BIKES_SOURCE=str(bad_source(tmp_path)), BIKES_LAST_MONTH="2011-01")

    assert done.returncode == 1
    assert "bad.csv, row 13000, column hr: found 99, expected a whole number, 0..23" in done.stderr
    assert list((tmp_path / "lake" / "hourly_rentals").glob("partition=*")) == []


def test_a_missing_source_is_one_named_error(tmp_path):
    done = bikes(
        "run", folder=tmp_path, BIKES_SOURCE=str(tmp_path / "none.csv"), BIKES_FIRST_MONTH="", BIKES_LAST_MONTH=""
    )

    assert done.returncode == 1
    assert "none.csv: found nothing there" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_judging_what_was_never_made_is_one_error_and_makes_nothing(tmp_path):
    for more in ([], ["--by", "month"]):
        done = bikes("evaluate", "--since", "2011-03-01", *more, folder=tmp_path)

        assert done.returncode == 1
        assert "found no table" in done.stderr
        assert "as with bikes run" in done.stderr
    assert not (tmp_path / "lake").exists()


def test_another_source_with_other_years_runs_to_predictions(tmp_path):
    """Four months of 2022, whose days of the week are those of 2011: the months come from the file."""
    import pandas as pd

    hours = pd.read_csv(ROOT / "data" / "raw" / "hour.csv", keep_default_na=False)
    hours = hours[hours["dteday"] < "2011-05-01"].copy()
    hours["dteday"] = hours["dteday"].str.replace("2011", "2022")
    source = tmp_path / "other.csv"
    hours.to_csv(source, index=False)

    done = bikes("run", folder=tmp_path, BIKES_SOURCE=str(source), BIKES_FIRST_MONTH="", BIKES_LAST_MONTH="")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "hourly_rentals" in done.stdout
    assert "Champion of the newest month: demand_model[2022-0" in done.stdout


@pytest.mark.parametrize("arguments", [("pin", "demand_model", "--month", "2011-05", "--reason", "x")])
def test_a_wrong_argument_says_what_is_expected(tmp_path, arguments):
    done = bikes(*arguments, folder=tmp_path)

    assert done.returncode == 1
    assert done.stderr.strip() == "error: found model 'demand_model', expected one like demand_model[2012-06]"


def test_help_imports_nothing_heavy():
    program = "import sys, bikes_assets.cli; print([m for m in ('dagster', 'mlflow', 'sklearn', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.soak
@pytest.mark.skipif(os.environ.get("BIKES_SOAK") != "1", reason="fire/test_kill.py kills runs in every test")
def test_a_run_that_is_killed_leaves_whole_partitions_and_the_next_run_ends_well(tmp_path):
    """Killed at three points of a run of two months; whatever is published is whole and its digest holds."""
    from bikes_assets.adapters.delta import LakeTable
    from bikes_assets.demand.tables import HOURLY_RENTALS

    for seconds in (3.0, 5.0, 6.5):
        process = subprocess.Popen(
            [BIKES, "run"],
            env=environment(tmp_path, BIKES_LAST_MONTH="2011-02"),
            cwd=ROOT,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        table = LakeTable("hourly_rentals", str(tmp_path / "lake" / "hourly_rentals"), HOURLY_RENTALS)
        if Path(table.uri).exists():
            for _, rows in table.read(["2011-01", "2011-02"]).values():
                assert len(rows) > 600

    done = bikes("run", folder=tmp_path, BIKES_LAST_MONTH="2011-02")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_of_columns_is_what_the_command_prints(tmp_path):
    assert bikes("columns", folder=tmp_path).stdout == (ROOT / "docs" / "columns.md").read_text()


def test_a_month_that_the_source_does_not_have_is_named(tmp_path):
    done = bikes("run", "--month", "2013-05", folder=tmp_path)

    assert done.returncode == 1
    assert "error: found month 2013-05, expected one from 2011-01 to 2011-07" in done.stderr
