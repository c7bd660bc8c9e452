"""The `bikes` command, as a process."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from bikes_assets.cli import main, models
from bikes_assets.cli.commands import FAMILIES
from bikes_assets.core.errors import LineageError
from bikes_assets.lineage import queries
from bikes_assets.lineage.index import Index
from bikes_assets_tests import forked

ROOT = Path(__file__).parents[2]
BIKES = str(Path(sys.executable).with_name("bikes"))


def environment(folder, **settings):
    fresh = {"BIKES_DATA": str(folder), "DAGSTER_HOME": str(folder / "dagster"), "BIKES_MLFLOW_TRACKING_URI": ""}
    inherited = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return {**inherited, **fresh, **settings}


def bikes(*arguments, folder, **settings):
    command = ("-m", "bikes_assets", *arguments)
    return forked.run(command, environment=environment(folder, **settings), folder=ROOT)


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

    assert done.returncode == 2
    assert "bad.csv, row 13000, column hr: found 99, expected a whole number, 0..23" in done.stderr
    assert list((tmp_path / "lake" / "hourly_rentals").glob("partition=*")) == []


def test_a_missing_source_is_one_named_error(tmp_path):
    done = bikes(
        "run", folder=tmp_path, BIKES_SOURCE=str(tmp_path / "none.csv"), BIKES_FIRST_MONTH="", BIKES_LAST_MONTH=""
    )

    assert done.returncode == 2
    assert "none.csv: found nothing there" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_judging_what_was_never_made_is_one_error_and_makes_nothing(tmp_path):
    for more in ([], ["--by", "month"]):
        done = bikes("evaluate", "--since", "2011-03-01", *more, folder=tmp_path)

        assert done.returncode == 2
        assert "found no table" in done.stderr
        assert "as with bikes run" in done.stderr
    assert not (tmp_path / "lake").exists()


@pytest.mark.slow
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
    assert "Champion of 2022-04: demand_model[2022-0" in done.stdout


@pytest.mark.parametrize("arguments", [("pin", "demand_model", "--month", "2011-05", "--reason", "x")])
def test_a_wrong_argument_says_what_is_expected(tmp_path, arguments):
    done = bikes(*arguments, folder=tmp_path)

    assert done.returncode == 2
    assert done.stderr.strip() == "error: found model 'demand_model', expected one like demand_model[2012-06]"


def test_help_says_what_each_command_does_in_a_whole_sentence(tmp_path):
    done = bikes("--help", folder=tmp_path, COLUMNS="80")
    listed = [line for line in done.stdout.splitlines() if line.split()[:1] and line.split()[0] in main.commands]
    assert len(listed) == len(main.commands)
    assert [line for line in listed if not line.endswith(".") or line.endswith("...")] == []


@pytest.mark.parametrize(
    "time", ["yesterday", "now", "today", "", "2012-13-01", "2012-08-07T12:00Z", "12:00", "9" * 40]
)
def test_what_is_no_hour_is_not_evaluated(time):
    with pytest.raises(LineageError, match=f"^found time {re.escape(repr(time))}, expected one like 2012-08-07T12:00$"):
        models._hour(time)


def test_help_lists_each_command_once_by_what_it_is_for():
    listed = [name for names in FAMILIES.values() for name in names]
    assert sorted(listed) == sorted(main.commands)


def test_help_imports_nothing_heavy():
    heavy = ("dagster", "mlflow", "sklearn", "pandas")
    program = f"import sys, bikes_assets.cli.commands; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.soak
@pytest.mark.skipif(os.environ.get("BIKES_SOAK") != "1", reason="fire/test_kill.py kills runs in every test")
def test_a_run_that_is_killed_leaves_whole_partitions_and_the_next_run_ends_well(tmp_path):
    """Killed at three points of a run of two months; whatever is published is whole and its digest holds."""
    from bikes_assets.demand.tables import HOURLY_RENTALS
    from bikes_assets.storage.delta import LakeTable

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
    assert bikes("columns", "--markdown", folder=tmp_path).stdout == (ROOT / "docs" / "columns.md").read_text()


def test_a_month_that_the_source_does_not_have_is_named(tmp_path):
    done = bikes("run", "--month", "2013-05", folder=tmp_path)

    assert done.returncode == 2
    assert done.stderr == "error: found partition 2013-05, expected one from 2011-01 to 2011-07\n"


ANSWERS = {
    "text": ("columns --markdown", 0),
    "table": ("status", 1),
    "help": ("--help", 0),
}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Return the folder of an empty store that was asked before, so that Dagster is imported no more."""
    folder = tmp_path_factory.mktemp("asked")
    assert bikes("status", folder=folder).returncode == 1
    return folder


@pytest.mark.parametrize("answer", ANSWERS)
def test_whoever_has_read_enough_ends_a_command_without_complaint(asked, answer):
    # Given a pipe that nobody reads
    process = subprocess.Popen(
        [BIKES, *ANSWERS[answer][0].split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(asked),
        cwd=ROOT,
        text=True,
    )
    process.stdout.close()
    # Then it ends as a shell says of other programs, and prints nothing
    assert process.stderr.read() == ""
    assert process.wait(120) == 141


@pytest.mark.parametrize("answer", ["text", "table"])
def test_a_closed_output_changes_no_answer_and_a_full_one_is_named(asked, answer):
    command, code = ANSWERS[answer]
    closed = subprocess.run(
        ["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', BIKES, *command.split()],
        env=environment(asked),
        cwd=ROOT,
        timeout=120,
    )
    assert closed.returncode == code
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [BIKES, *command.split()], stdout=full, stderr=subprocess.PIPE, env=environment(asked), cwd=ROOT, text=True
        )
    assert done.returncode == 2
    assert done.stderr == "error: what is printed cannot be written: No space left on device\n"


@pytest.mark.parametrize("answer", ["text", "table"])
@pytest.mark.parametrize(
    "settings",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
    ids=["ascii", "latin-1", "C"],
)
def test_characters_that_cannot_be_shown_are_replaced(asked, answer, settings):
    command, code = ANSWERS[answer]
    done = subprocess.run(
        [BIKES, *command.split()], capture_output=True, env=environment(asked, **settings), cwd=ROOT, timeout=120
    )
    assert (done.returncode, done.stderr) == (code, b"")
    assert b"demand_features" in done.stdout


@pytest.mark.parametrize("time", ["0001-01-01", "yesterday", "", "2012-13-01"])
def test_a_time_that_is_none_is_named(tmp_path, time):
    with pytest.raises(LineageError, match=f"^found time {re.escape(repr(time))}, expected one like 20"):
        queries.event_by(Index(tmp_path / "lineage.db"), time)


@pytest.mark.parametrize("time", ["0001-01-01T00:00+14:00", "1970-01-01", "9999-12-31T23:59:59-12:00"])
def test_a_time_long_ago_or_far_away_is_one(tmp_path, time):
    assert queries.event_by(Index(tmp_path / "lineage.db"), time) == 0


def test_no_folder_for_temporary_files_is_one_error():
    program = "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/nowhere']; tempfile.gettempdir()"
    told = f"import click; from bikes_assets.cli import main; main.callback = lambda **_: exec({program!r}); main(['columns'])"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 2
    assert done.stderr == (
        "error: TMPDIR: No usable temporary directory found in ['/nowhere']; set it to a folder that this user may write to\n"
    )


def test_one_error_of_the_settings_a_line(tmp_path):
    done = bikes("status", folder=tmp_path, BIKES_ENGINE="abacus", BIKES_SCHEDULE="daily")

    assert done.returncode == 2
    assert done.stderr == (
        "error: BIKES_ENGINE: found 'abacus', expected another: Input should be 'pandas', 'duckdb' or 'spark'\n"
        "BIKES_SCHEDULE: found 'daily', expected a cron expression: minute, hour, day, month and day of the week, such as "
        "0 6 * * *\n"
    )


def test_a_setting_that_dagster_meets_as_it_loads_is_one_line(tmp_path):
    done = bikes("status", folder=tmp_path, BIKES_MODEL='{"depth": 1}')

    assert done.returncode == 2
    assert done.stderr.startswith("error: demand_model: found setting depth, expected one of features, estimator, ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("month", ["2012-13", "x", "", "2013-05"])
def test_deployments_of_a_month_that_no_model_serves_are_refused(asked, month):
    done = bikes("deployments", "--month", month, folder=asked)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: found month {month!r}, expected one that a model serves, from 2011-03 to 2011-07\n"


def test_a_month_without_deployments_is_told(asked):
    assert bikes("deployments", "--month", "2011-05", folder=asked).stdout == (
        "No model was promoted or pinned for 2011-05 yet.\n"
    )
    assert bikes("deployments", folder=asked).stdout == "No model was promoted or pinned yet.\n"


@pytest.mark.parametrize("reason", ["", " \t\n"])
@pytest.mark.parametrize(
    "command",
    [
        "pin demand_model[2011-05] --month 2011-06",
        "unpin --month 2011-06",
        "hold demand_model@1",
        "release demand_model@1",
    ],
)
def test_a_blank_reason_is_refused(command, reason):
    done = CliRunner().invoke(main, [*command.split(), "--reason", reason])

    assert done.exit_code == 2
    assert "Error: Invalid value for '--reason': found a blank text, expected a reason\n" in done.output


@pytest.mark.parametrize("command", ["snapshot", "verify"])
def test_an_empty_file_name_is_refused(command):
    done = CliRunner().invoke(main, [command, ""])

    assert done.exit_code == 2
    assert "Error: Invalid value for '[FILE]': found an empty file name, expected a file\n" in done.output


@pytest.mark.parametrize("option", ["--trials", "--seed"])
def test_options_of_drawn_recipes_are_refused_beside_groups(option):
    done = CliRunner().invoke(main, ["tune", "--groups", option, "1"])

    assert done.exit_code == 2
    assert (
        "Error: found --groups with --trials or --seed, expected it without: its recipes are not drawn" in done.output
    )
