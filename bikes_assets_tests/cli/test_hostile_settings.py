"""Settings, arguments and small files of ours that make no sense: one line that names the culprit, and no traceback."""

from __future__ import annotations

import json
import math
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from dagster._utils.schedules import is_valid_cron_schedule, schedule_execution_time_iterator

from bikes_assets import project
from bikes_assets.app import state
from bikes_assets.app.settings import settings
from bikes_assets.app.store import last_plan
from bikes_assets.cli import main, models, runner
from bikes_assets.core.errors import LineageError, SettingsError, StoreError
from bikes_assets.core.transient import store_error
from bikes_assets.events import identity, run_log
from bikes_assets.governance import holds, pins
from bikes_assets.orchestration import cron
from bikes_assets.orchestration.asset import _config_class
from bikes_assets.project import SERVING
from bikes_assets.storage import removals
from bikes_assets.storage.checksums import ChecksummedFile, read_memory
from bikes_assets.storage.lake import Lake
from bikes_assets.storage.sources.source_state import remembered
from bikes_assets.verification.snapshot import loads


@pytest.fixture
def set_to(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what has this process read other settings."""

    def change(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        settings.cache_clear()

    yield change
    monkeypatch.undo()
    settings.cache_clear()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("BIKES_SCHEDULE", "0 0 31 2 *", "expected a cron expression of a day that comes"),
        ("BIKES_REPRODUCTION", "0 0 31 4,6,9,11 *", "expected a cron expression of a day that comes"),
        ("BIKES_LAST_MONTH", "9999-12", "expected another"),
        ("BIKES_LAKE", "gs://bucket/lake", "gs://bucket/lake needs a package that is missing: pip install gcsfs"),
        ("BIKES_LAKE", "az://bucket/lake", "az://bucket/lake needs a package that is missing: pip install adlfs"),
        ("BIKES_DATA", "/dev/null", "found /dev/null, which is no folder"),
        ("BIKES_DATA", "/dev/null/a/b", "found /dev/null, which is no folder"),
        ("DAGSTER_HOME", "/dev/null/a", "found /dev/null, which is no folder"),
        ("BIKES_MODEL", "[" * 10_000, "expected another: Invalid JSON"),
        (
            "BIKES_MODEL",
            '{"parameters": {"max_depth": NaN}}',
            'found {"parameters": {"max_depth": NaN}}, expected JSON',
        ),
        ("BIKES_MODEL", '{"parameters": {"x": [-1e999]}}', 'found {"parameters": {"x": [-Infinity]}}, expected JSON'),
        ("BIKES_MODEL", "[1]", "expected another: Input should be a valid dictionary"),
        ("BIKES_EXPERIMENT", "\udcff", "expected another: Input should be a valid string"),
        ("BIKES_TICK_SECONDS", "1e400", "expected another"),
    ],
)
def test_settings_that_make_no_sense_are_named(set_to: Any, name: str, value: str, told: str) -> None:
    set_to(**{name: value})
    with pytest.raises(SettingsError) as caught:
        settings()
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert told in message
    assert (message.isprintable(), len(message) < 8100) == (True, True)


@pytest.mark.parametrize("text", ["0 0 31 2 *", "0 0 30,31 feb ?", "0 0 30-31 2 *", "0 0 31 4,jun *", "0 0 31 2 1"])
def test_days_that_no_month_has_are_refused_as_dagster_refuses_them_now_or_later(text: str) -> None:
    from datetime import UTC, datetime

    with pytest.raises(Exception, match=r"must be a valid cron schedule|failed to find prev date"):
        next(schedule_execution_time_iterator(datetime(2012, 1, 1, tzinfo=UTC).timestamp(), text, "UTC"))
    with pytest.raises(ValueError, match="a day that comes"):
        cron.checked(text)


@pytest.mark.parametrize("text", ["0 0 29 2 *", "0 0 30,1 2 *", "0 0 31 */2 *", "0 0 31 1-2 *"])
def test_days_that_a_month_has_are_taken(text: str) -> None:
    assert is_valid_cron_schedule(text)
    assert cron.checked(text) == text


@pytest.mark.filterwarnings("ignore:.*currently in beta")
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"seed": -1}, "found setting seed -1, expected another: Input should be greater than or equal to 0"),
        ({"seed": 1e400}, "found setting seed inf, expected another: "),
        ({"seed": 2**32}, "found setting seed 4294967296, expected another: Input should be less than or equal to"),
        ({"seed": True}, "found setting seed True, expected another: Input should be a valid integer"),
        ({"threads": True}, "found setting threads True, expected another: Input should be a valid integer"),
        ({"seed": 1.0}, "found setting seed 1.0, expected another: Input should be a valid integer"),
        ({"seed": "1"}, "found setting seed '1', expected another: Input should be a valid integer"),
        ({"keep": "true"}, "found setting keep 'true', expected another: Input should be a valid boolean"),
        ({"threads": 0}, "found setting threads 0, expected another: Input should be greater than or equal to 1"),
        ({"threads": 257}, "found setting threads 257, expected another: Input should be less than or equal to 256"),
        ({"min_training_months": 0}, "found setting min_training_months 0, expected another: Input should be greater "),
        (
            {"parameters": {"max_depth": math.nan}},
            "found setting parameters {'max_depth': nan}, expected another: JSON has no NaN and no infinity",
        ),
        ({"parameters": 3}, "found setting parameters 3, expected another: "),
        ({"sed": 3}, "found setting sed, expected one of features, estimator"),
    ],
)
def test_settings_of_an_asset_that_make_no_sense_are_named(given: dict[str, Any], told: str) -> None:
    from bikes_assets.defs.model import DemandModelConfig

    def demand_model(config: Any) -> None: ...

    demand_model.__annotations__["config"] = DemandModelConfig
    with pytest.raises(SettingsError) as caught:
        _config_class(demand_model, given)
    assert str(caught.value).startswith(f"demand_model: {told}")


@pytest.mark.parametrize(
    ("name", "month", "told"),
    [
        ("BIKES_FIRST_MONTH", "2013-01", "found 2013-01, expected one that the source may have: 2011-01 to 2012-12"),
        ("BIKES_LAST_MONTH", "2010-12", "found 2010-12, expected one that the source may have: 2011-01 to 2012-12"),
    ],
)
def test_months_beside_the_sources_are_an_error(set_to: Any, tmp_path: Any, name: str, month: str, told: str) -> None:
    empty = {"BIKES_FIRST_MONTH": "", "BIKES_LAST_MONTH": "", "DAGSTER_HOME": ""}
    set_to(**{**empty, name: month, "BIKES_DATA": str(tmp_path)})
    with pytest.raises(SettingsError, match=f"^{name}: {told}$"):
        project.source_months()


@pytest.mark.parametrize(
    ("first", "last", "name"),
    [
        ("2013-01", "2013-03", "BIKES_FIRST_MONTH"),
        ("2010-01", "2010-12", "BIKES_LAST_MONTH"),
    ],
)
def test_months_without_rows_are_an_error_where_both_ends_are_set(
    set_to: Any, tmp_path: Path, first: str, last: str, name: str
) -> None:
    set_to(BIKES_DATA=str(tmp_path), DAGSTER_HOME="", BIKES_FIRST_MONTH=first, BIKES_LAST_MONTH=last)
    assert project.source_months() == (first, last)  # definitions load without the source
    month = first if name == "BIKES_FIRST_MONTH" else last
    with pytest.raises(
        SettingsError, match=rf"^{name}: found {month}, expected one that the source may have: 2011-01 to"
    ):
        state.observed()


def test_months_to_come_may_be_named(set_to: Any, tmp_path: Path) -> None:
    set_to(BIKES_DATA=str(tmp_path), DAGSTER_HOME="", BIKES_FIRST_MONTH="2012-12", BIKES_LAST_MONTH="2013-02")
    assert max(state.observed()["rental_records"].rows) == "2012-12"


@pytest.mark.parametrize("since", ["nonsense", "", "2012-13", "9" * 30, "2012-08-07T12:00+00:00"])
def test_a_time_that_is_none_is_named(since: str) -> None:
    with pytest.raises(LineageError, match=r"^found time '.*', expected one like 2012-08-07T12:00$"):
        models._hour(since)


@pytest.mark.parametrize(
    "words",
    [
        ["status", "\udcff"],
        ["upstream", "demand_features[\udcff]"],
        ["search", "\udcff"],
        ["hold", "demand_model@1", "--reason", "\udcff\x1b]0;x\x07"],
        ["pin", "demand_model[2012-06]", "--month", "2012-12", "--reason", "\udcff"],
        ["tune", "--before", "\udcff"],
    ],
)
def test_an_argument_that_is_no_text_is_refused_before_anything_is_recorded(words: list[str]) -> None:
    done = CliRunner().invoke(main, words)
    (line,) = done.stderr.splitlines()
    assert (done.exit_code, done.stdout) == (2, "")
    assert line.startswith("error: found argument '")
    assert line.endswith("', which is not UTF-8; expected text")
    assert line.isprintable()


@pytest.mark.parametrize("month", ["2012-13", "2012-12 ", "x/../../y", "2011-02", "2013-01", "", "\x1b[2J"])
def test_a_pin_is_for_a_month_that_is_served(monkeypatch: pytest.MonkeyPatch, month: str) -> None:
    # Given months of models, and nothing that could record a decision
    served = SimpleNamespace(partitions=("2011-03", "2012-12"))
    monkeypatch.setattr(runner, "plan", lambda: SimpleNamespace(nodes={SERVING: served}))
    monkeypatch.delattr(pins, "pin")
    done = CliRunner().invoke(main, ["pin", "demand_model[2012-06]", "--month", month, "--reason", "odd"])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: found month '")
    assert done.stderr.endswith("', expected one that a model serves, from 2011-03 to 2012-12\n")


GARBAGE = {
    "nothing": b"",
    "bytes": bytes(range(256)),
    "deep": b"[" * 100_000,
    "deep maps": b'{"a":' * 50_000,
    "null": b"null",
    "a number": b"1e999",
    "cut off": b'{"of": "x", "fingerprint": "y", "orig',
    "other types": json.dumps({"plan": {"nodes": 3}, "stamp": 3, "span": 3, "origin": {"files": 3}}).encode(),
    "NaN": b"NaN",
    "half a character": b'"\\ud800"',
}


@pytest.mark.parametrize("how", GARBAGE)
def test_garbage_in_what_is_remembered_is_as_if_nothing_was(set_to: Any, tmp_path: Any, how: str) -> None:
    set_to(BIKES_DATA=str(tmp_path), DAGSTER_HOME="")
    for name in ("plan.json", "source.json", "months.json"):
        (tmp_path / name).write_bytes(GARBAGE[how])
    assert last_plan() is None
    assert remembered(tmp_path / "source.json") is None
    assert read_memory(tmp_path / "months.json", project._span) is None


@pytest.mark.parametrize("name", ["event_log.db", "history/runs.db"])
@pytest.mark.parametrize("size", [50, 100, 5000])
def test_of_dagsters_databases_the_one_that_was_cut_off_is_named(tmp_path: Path, name: str, size: int) -> None:
    (tmp_path / "history").mkdir()
    for file, table in (("event_log.db", "event_logs"), ("history/runs.db", "kvs")):
        with closing(sqlite3.connect(tmp_path / file)) as made:
            made.execute(f"create table {table} (id, text)")
            made.executemany(f"insert into {table} values (?, ?)", [(number, "x" * 100) for number in range(500)])
            made.commit()
    os.truncate(tmp_path / name, size)
    with pytest.raises(StoreError, match=rf"^{tmp_path}/{name}: found no SQLite database, or a damaged one "):
        run_log.runs_of(str(tmp_path))


OURS: dict[str, Any] = {
    "store.json": lambda lake: identity.part_of_lake(lake),
    "holds/1.json": holds.holds,
    "removed/1.json": removals.removals,
    "removed/1.mlflow.json": removals.removed_in_mlflow,
    "code/1.json": lambda lake: Lake(lake, {}, Path(lake)).code("1"),
}
"""Small files of a lake, and what reads them."""


@pytest.mark.parametrize("how", GARBAGE)
@pytest.mark.parametrize("name", OURS)
def test_a_small_file_of_the_lake_that_holds_something_else_is_named(tmp_path: Path, name: str, how: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(GARBAGE[how])
    with pytest.raises(StoreError) as caught:
        OURS[name](str(tmp_path))
    told = str(caught.value)
    assert told.startswith(f"{file}: found what cannot be read (")
    assert "restore the file" in told
    assert (told.isprintable(), len(told) < 1000) == (True, True)


@pytest.mark.parametrize("how", ["nothing", "deep", "null", "a number"])
def test_a_snapshot_that_holds_something_else_is_named(how: str) -> None:
    with pytest.raises(LineageError, match=r"^snapshot\.json: found .*; write it with bikes snapshot$"):
        loads(GARBAGE[how].decode(), "snapshot.json")


def test_the_text_of_a_function_is_shown_whatever_stands_there(tmp_path: Path) -> None:
    (tmp_path / "code" / "functions").mkdir(parents=True)
    (tmp_path / "code" / "functions" / "1.py").write_bytes(b"\xff = 1")
    assert Lake(str(tmp_path), {}, tmp_path).text("1") == "\ufffd = 1"


@pytest.mark.parametrize(
    "content",
    [b"\xff", b"[" * 100_000, b"[1]", b'"x"', b"a: [", b"unknown: 1", b"run_storage: 3", b"", b"[]", b"{}", b"# only"],
    ids=["bytes", "deep", "list", "text", "cut off", "unknown", "type", "empty", "no list", "no map", "comment"],
)
def test_a_configuration_of_dagster_that_is_none_is_named(set_to: Any, tmp_path: Path, content: bytes) -> None:
    set_to(BIKES_DATA=str(tmp_path), DAGSTER_HOME="", BIKES_MLFLOW_TRACKING_URI="")
    file = tmp_path / "dagster" / "dagster.yaml"
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(SettingsError) as caught, runner.opened():
        pass
    told = str(caught.value)
    assert told.startswith(f"{file}: found no configuration of Dagster (")
    assert told.endswith("); correct it, or move it away: a new one is created")
    assert told.isprintable()


OUR_EVENT_LOG = Path(runner.__file__).parents[1].joinpath("dagster.yaml").read_text()
NO_EVENT_LOG = (
    "it names no event log that this project reads, such as EventLogStorage of bikes_assets.events.sqlite_storage; Dagster's "
    "default is a file for each run"
)


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("telemetry: {enabled: false}\n", NO_EVENT_LOG),
        ("# bikes_assets.events.sqlite_storage\nstorage: {sqlite: {base_dir: /x}}\n", NO_EVENT_LOG),
        (f"{OUR_EVENT_LOG}unknown: 1\n", 'Received unexpected config entry "unknown" at the root.'),
        (OUR_EVENT_LOG.replace("max_concurrent_runs: 2", "max_concurrent_runs: two"), 'Value "two" of type'),
        (
            f"{OUR_EVENT_LOG}a: [",
            "while parsing a flow node expected the node content, but found '<stream end>' in \"{file}\", "
            f"line {OUR_EVENT_LOG.count(chr(10)) + 1}, column 5",
        ),
    ],
    ids=["nothing of storage", "a file for each run", "unknown", "type", "cut off"],
)
def test_what_is_wrong_in_a_configuration_of_dagster_is_told_in_short(
    set_to: Any, tmp_path: Path, content: str, told: str, is_new: bool
) -> None:
    set_to(BIKES_DATA=str(tmp_path), DAGSTER_HOME="", BIKES_MLFLOW_TRACKING_URI="")
    if not is_new:
        with runner.opened():
            pass
    file = tmp_path / "dagster" / "dagster.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
    with pytest.raises(SettingsError) as caught, runner.opened():
        pass
    message = str(caught.value)
    assert told.format(file=file) in message
    assert message.isprintable()
    assert len(message) < 500
    assert "\\n" not in message
    assert not [*file.parent.glob(".new-*")]


def test_a_configuration_with_dagsters_own_event_log_in_one_file_is_taken(set_to: Any, tmp_path: Path) -> None:
    set_to(BIKES_DATA=str(tmp_path), DAGSTER_HOME="", BIKES_MLFLOW_TRACKING_URI="")
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "dagster.yaml").write_text(
        "event_log_storage:\n  module: dagster._core.storage.event_log\n  class: ConsolidatedSqliteEventLogStorage\n"
        f"  config: {{base_dir: {tmp_path}/dagster}}\n"
    )
    with runner.opened() as instance:
        assert type(instance.event_log_storage).__name__ == "ConsolidatedSqliteEventLogStorage"


def test_a_folder_in_the_place_of_the_index_is_named(tmp_path: Path) -> None:
    (tmp_path / "lineage.db").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        ChecksummedFile(tmp_path / "lineage.db").check()
    assert str(store_error(caught.value, "elsewhere")).startswith(
        f"{tmp_path}/lineage.db: a folder stands where a file "
    )


@pytest.mark.parametrize(
    "words",
    [
        ["ui", "--dagster-port", "99999"],
        ["ui", "--mlflow-port", "-1"],
        ["ui", "--dagster-port", "0"],
        ["ui", "--dagster-port", "5055", "--mlflow-port", "5055"],
        ["check-lineage", "--seed", "-1"],
        ["check-lineage", "--seed", "9" * 40],
        ["tune", "--trials", "0"],
        ["tune", "--trials", "1000000000000"],
        ["tune", "--seed", "-1"],
        ["path", "demand_features", "prediction_quality", "--most", "-5"],
        ["retain", "--days", "-1"],
        ["upstream", "demand_features", "--depth", "0"],
    ],
)
def test_a_number_out_of_range_is_refused_before_anything_is_done(
    set_to: Any, tmp_path: Path, words: list[str]
) -> None:
    set_to(BIKES_DATA=str(tmp_path / "data"), DAGSTER_HOME="", BIKES_MLFLOW_TRACKING_URI="")
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert re.search(r"^Error: (Invalid value for .* is not in the range|found port 5055 twice)", done.stderr, re.M)
    assert not (tmp_path / "data").exists()


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Any) -> None:
    (tmp_path / "plan.json").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        read_memory(tmp_path / "plan.json", dict)
    told = f"{tmp_path}/plan.json: a folder stands where a file is to be; move it away, then run again"
    assert str(store_error(caught.value, "elsewhere")) == told


def test_a_name_that_is_too_long_and_links_in_a_circle_are_told_with_their_folder(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for name, told in (("x" * 300, "the name of a file there is too long"), ("a", "links there lead in a circle")):
        with pytest.raises(OSError, match=re.escape(name)) as caught:
            (tmp_path / name).read_text()
        assert str(store_error(caught.value, "elsewhere")).startswith(f"{tmp_path}: {told}; ")
