"""What is printed of runs and statuses: each thing once, and alike failures of several partitions in one line."""

from __future__ import annotations

import io
import random
import re
import string
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from bikes_assets.app.retention import Retention
from bikes_assets.cli import runs
from bikes_assets.cli.models import print_deployments, print_trials
from bikes_assets.cli.retention import print_retention
from bikes_assets.cli.runner import Summary
from bikes_assets.cli.runs import print_reconciliation, print_status, print_summary
from bikes_assets.cli.terminal import print_table, progress_bar, say_wrapped, terminal
from bikes_assets.cli.verification import print_snapshot
from bikes_assets.core import secrets
from bikes_assets.core.errors import LineageError
from bikes_assets.core.staleness import Reason, Status
from bikes_assets.core.texts import newest
from bikes_assets.governance.deployments import Deployment
from bikes_assets.governance.retention import RetentionDecision, RetentionPlan
from bikes_assets.governance.retention_policy import Stays
from bikes_assets.orchestration.reconcile_marks import Reconciliation
from bikes_assets.verification.snapshot import Snapshot

MONTHS = [f"2011-{month:02}" for month in range(1, 13)]


def check(month: str, rows: int) -> str:
    return (
        f"CheckFailed: demand_features[{month}]: check no_leak_in_time failed, nothing was published: found demand_lag_24h moves "
        f"with cnt of 3 hours before, on {rows:,} rows in 1,{rows} tables; expected no feature moves with what is not known yet"
    )


def failed(month: str, message: str) -> Status:
    return Status("demand_features", month, "failed", (Reason("failed", message), Reason("missing", "")))


def printed(capsys: Any, found: list[Status]) -> list[str]:
    print_status(found)
    return [line for line in capsys.readouterr().out.splitlines() if "  failed: " in line or "  skipped: " in line]


def test_a_state_is_said_once(capsys: Any) -> None:
    skipped = Status("demand_model", "2012-02", "skipped", (Reason("skipped", ""), Reason("missing", "")))
    assert printed(capsys, [failed("2011-01", "no such thing"), skipped]) == [
        "demand_features[2011-01]  failed: no such thing; never materialized",
        "demand_model[2012-02]  skipped: there was nothing to work on; never materialized",
    ]


def test_alike_failures_are_told_in_one_line_with_their_partitions(capsys: Any) -> None:
    found = [failed(month, check(month, 700 + number)) for number, month in enumerate(MONTHS)]
    (line,) = printed(capsys, found)
    first = f"demand_features[2011-01..2011-12]  failed: {check('2011-01', 700)}; never materialized"
    assert line == f"{first} (12 partitions failed alike: this is what the first says)"
    # And another failure among them is told by itself
    found[5] = failed(MONTHS[5], "PermissionError: not yours")
    lines = printed(capsys, found)
    assert [line.partition("  ")[0] for line in lines] == [
        "demand_features[2011-01..2011-05]",
        "demand_features[2011-06]",
        "demand_features[2011-07..2011-12]",
    ]


def test_a_run_tells_alike_failures_once(capsys: Any) -> None:
    messages = {f"demand_features[{month}]": check(month, 700 + number) for number, month in enumerate(MONTHS)}
    messages["hourly_rentals[2011-03]"] = "DataError: hour.csv, row 3: found text, expected a number"
    print_summary(Summary(failed=messages))
    lines = [line for line in capsys.readouterr().out.splitlines() if " failed: " in line]
    alike = "(12 partitions failed alike: this is what the first says)"
    assert lines == [
        f"demand_features[2011-01..2011-12] failed: {check('2011-01', 700)} {alike}",
        "hourly_rentals[2011-03] failed: DataError: hour.csv, row 3: found text, expected a number",
    ]


def test_what_others_registered_is_said_where_all_else_agrees(capsys: Any) -> None:
    print_reconciliation(Reconciliation(foreign=["MLflow: ridge version 4 is left alone"]))
    assert capsys.readouterr().out == "MLflow: ridge version 4 is left alone\n"
    print_reconciliation(Reconciliation())
    assert capsys.readouterr().out == "Everything agrees.\n"


def test_a_deployment_is_one_line_at_80_columns(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    on, models = "demand_features[2012-11]", [f"demand_model[2012-{month}]@{month}" for month in (10, 11, 12)]
    rmse = {models[0]: 101.514, models[1]: 101.126, models[2]: 99.96, f"{models[2]} baseline": 100.06}
    best = Deployment(
        datetime(2012, 12, 1, tzinfo=UTC), "2012-12", "promoted", models[2], "champion_model[2012-12]@12",
        "lowest error of 4 on 2012-11", validated_on=on, rmse=rmse,
    )  # fmt: skip
    pin = Deployment(best.time, "2012-12", "pin", models[0], "champion_pins[2012-12]@0", "the newest one is odd")
    lift = Deployment(best.time, "2012-12", "lift", "", "champion_pins[2012-12]@1", "no more")
    print_deployments([best, pin, lift])
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert [line for line in printed if line.strip(" ─")] == [
        " month    action    demand_model  why                     RMSE  next best",
        " 2012-12  promoted  [2012-12]@12  lowest error of 4      100.0      100.1",
        " 2012-12  pin       [2012-10]@10  the newest one is odd",
        " 2012-12  lift                    no more",
    ]


def test_a_table_is_as_wide_as_the_terminal_at_most_and_folds_no_name_that_fits(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(0)
    for _ in range(200):
        width, count = draw.randrange(60, 140), draw.randrange(1, 7)
        names = ["x" * draw.randrange(1, 30) for _ in range(count)]
        texts = [" ".join("y" * draw.randrange(1, 9) for _ in range(draw.randrange(2, 20))) for _ in range(2)]
        monkeypatch.setenv("COLUMNS", str(width))
        print_table(["n" for _ in names] + ["t" for _ in texts], [], [names + texts])
        lines = capsys.readouterr().out.splitlines()
        assert {len(line) for line in lines} == {len(lines[0])}
        assert len(lines[0]) <= width
        if 1 + sum(len(name) + 3 for name in names) + 2 * (8 + 3) <= width:
            assert [cell.strip() for cell in lines[3].split("│")[1 : count + 1]] == names


def test_headers_are_folded_before_names_and_numbers(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "41")
    print_table(["computed from"], ["hours before", "blocked tables"], [["demand_features", "24 to 671", "1,000"]])
    print_table(["month", "why"], ["RMSE"], [["2012-12", "the newest one is odd, it says", "100.0"]], lines=False)
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines() if "━" not in line and "─" not in line] == [
        "┃                 ┃     hours ┃ blocked ┃",
        "┃ computed from   ┃    before ┃  tables ┃",
        "│ demand_features │ 24 to 671 │   1,000 │",
        "",
        " month    why                      RMSE",
        " 2012-12  the newest one is odd,  100.0",
        "          it says",
        "",
    ]


def test_a_run_tells_how_many_came_out_unchanged_and_the_champion_with_its_month(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_accuracy", lambda: "good")
    for count, told in ((1, "1 partition"), (2, "2 partitions")):
        made = Counter({"champion_model": count})
        print_summary(
            Summary(made, unchanged=count, champion="demand_model[2012-11]@21", champion_month="2012-11", seconds=3.0)
        )
        assert capsys.readouterr().out.splitlines()[-4:] == [
            f"Unchanged content: {told}; nothing downstream is stale by this.",
            "Champion of 2012-11: demand_model[2012-11]@21",
            "good",
            "Took 3 s. Look around: make ui",
        ]


def test_where_all_is_missing_it_is_said_what_to_run(capsys: Any) -> None:
    missing = Status("demand_model", "2011-03", "missing", (Reason("missing", ""),))
    print_status([missing])
    assert capsys.readouterr().out.splitlines()[-1] == "None of this is materialized yet: run bikes run."
    print_status([missing, Status("demand_model", "2011-04", "fresh", ())])
    assert "None of this" not in capsys.readouterr().out


def test_no_deployments_are_a_line_and_no_table(capsys: Any) -> None:
    print_deployments([], "2012-05")
    print_deployments([])
    assert capsys.readouterr().out == (
        "No model was promoted or pinned for 2012-05 yet.\nNo model was promoted or pinned yet.\n"
    )


def test_without_a_terminal_a_bar_prints_nothing_before_its_first_step(capsys: Any) -> None:
    with pytest.raises(LineageError), progress_bar():
        raise LineageError("found x, expected y")
    assert capsys.readouterr().err == ""
    with progress_bar() as show:
        show("2011-01", 0, 2)
        show("done", 2, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("done ")
    assert "2/2" in line


def test_one_is_no_plural(capsys: Any) -> None:
    one: dict[str, Any] = {"x": ""}
    print_snapshot(Snapshot(one, one, one, one), Path("lock.json"))
    assert capsys.readouterr().out == "lock.json: 1 partition, 1 registered model, 1 source file, code of 1 asset\n"
    print_trials([], "2012-08", of=1)
    assert "0 of 1 recipe, evaluated on months before 2012-08" in " ".join(capsys.readouterr().out.split())
    young = RetentionDecision("rows[2011-01]@1", "rows", "stays", 0.0, 8, Stays("young", "rows[2011-01]@1"))
    for days, told in ((1, "1 day"), (99_999_999_999, "99,999,999,999 days")):
        print_retention(Retention(RetentionPlan(0.0, days, [young]), []), applied=False)
        assert f"      1 are younger than {told}\n" in capsys.readouterr().out


def test_of_many_versions_the_newest_are_told() -> None:
    assert newest([20]) == "20"
    assert newest([1, 7, 3]) == "7, 3, 1"
    assert newest(range(1, 9)) == "8, 7, 6, 5, 4 and 3 older"


SECRET = st.text([*string.ascii_letters, *string.digits], min_size=8, max_size=40).map(lambda text: f"S3CR3T{text}")
SHAPES = (
    "postgresql://u:{}@h/db",
    "https://{}@h/x.git",
    "https://e.com?token={}",
    "https://e.com/x?part=2&X-Amz-Signature={}#top",
    "http://h/x;sig={}",
    "host=h password={} user=u",
    "sslpassword = '{} x' host=h",
    "the learned {}",
    "https://hooks.example.com/services/{}",
)


@given(secret=SECRET, width=st.integers(20, 200), before=st.integers(0, 60), columns=st.integers(1, 3))
def test_no_secret_is_in_a_table_of_any_width(secret: str, width: int, before: int, columns: int) -> None:
    known = dict(secrets._learned)
    try:
        secrets.learn({"PGPASSWORD": secret} if columns == 1 else {})
        secrets.learn_webhooks(SHAPES[-1].format(secret))
        shapes = [shape for shape in SHAPES if columns == 1 or "learned" not in shape]
        texts = [f"{'x' * before} {shape.format(secret)}" for shape in shapes]
        file = io.StringIO()
        table = Table(*texts[:columns], title=texts[0], caption=texts[0])
        for text in texts:
            table.add_row(*[text] * columns)
        console = terminal(file=file, width=width)
        console.print(table)
        console.print(*texts, soft_wrap=False)
    finally:
        secrets._learned.clear()
        secrets._learned.update(known)
        secrets._pattern.cache_clear()
    for column in range(columns):  # folded cells, put together again
        cells = (re.split("[│┃]", line) for line in file.getvalue().splitlines())
        joined = "".join(parts[column + 1].strip() for parts in cells if len(parts) > column + 1)
        assert "S3CR3T" not in joined
    assert secret not in re.sub(r"\s", "", file.getvalue())


@pytest.mark.parametrize("width", [20, 40, 80])
def test_no_secret_is_in_a_text_that_is_wrapped(capsys: Any, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    say_wrapped("connect host=database.example password = 'first second third S3CR3T' user=u")
    assert re.sub(r"\s+", " ", capsys.readouterr().out) == "connect host=database.example password = *** user=u "


def test_a_secret_in_the_reason_of_a_deployment_is_not_told(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    reason = "https://e.com?token=abc postgresql://u:secret@h/db"
    at = datetime(2012, 12, 1, tzinfo=UTC)
    print_deployments([Deployment(at, "2012-12", "pin", "demand_model[2012-06]@6", "champion_pins[2012-12]@0", reason)])
    assert re.sub(r"\s+", " ", capsys.readouterr().out).endswith(" https://e.com?token=*** postgresql://***@h/db ")
