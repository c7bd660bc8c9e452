"""What is printed of runs and statuses: each thing once, and alike failures of several partitions in one line."""

from __future__ import annotations

from typing import Any

from bikes_assets.adapters.agreed import Agreement
from bikes_assets.lineage.staleness import Reason, Status
from bikes_assets.reports.runs import print_agreement, print_status, print_summary
from bikes_assets.runs import Summary

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
        "demand_features[2011-01]  failed: no such thing; never made",
        "demand_model[2012-02]  skipped: there was nothing to work on; never made",
    ]


def test_alike_failures_are_told_in_one_line_with_their_partitions(capsys: Any) -> None:
    found = [failed(month, check(month, 700 + number)) for number, month in enumerate(MONTHS)]
    (line,) = printed(capsys, found)
    first = f"demand_features[2011-01..2011-12]  failed: {check('2011-01', 700)}; never made"
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
    print_agreement(Agreement(foreign=["MLflow: ridge version 4 is left alone"]))
    assert capsys.readouterr().out == "MLflow: ridge version 4 is left alone\n"
    print_agreement(Agreement())
    assert capsys.readouterr().out == "Everything agrees.\n"
