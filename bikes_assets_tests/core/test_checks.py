"""Checks: what a verdict stops, and the two checks that every declared table has."""

from __future__ import annotations

import pandas as pd
import pytest

from bikes_assets.core.checks import Check, Subject, Verdict, failure, range_check, run_checks, schema_check, stops
from bikes_assets.core.errors import CheckFailed, LineageError
from bikes_assets.core.schema import Column, Schema

WEATHER = Schema(
    "weather",
    key=("ts",),
    columns=(
        Column("ts", "int64", "Hour."),
        Column("hum", "float64", "Humidity.", minimum=0, maximum=1),
        Column("kind", "int64", "Kind.", allowed=(1, 2, 3), nullable=True),
        Column("note", "string", "Anything.", allowed=("dry", "wet"), nullable=True),
    ),
)


def weather(**columns: object) -> pd.DataFrame:
    """Return three lawful hours, with columns replaced."""
    rows = pd.DataFrame(
        {"ts": [1, 2, 3], "hum": [0.0, 0.5, 1.0], "kind": pd.array([1, None, 3], "Int64"), "note": ["dry", None, "wet"]}
    )
    return rows.assign(**columns)


def subject(value: object) -> Subject:
    return Subject("weather", "2012-08", value)


def saying(passed: bool, waived: str = "") -> object:
    return lambda _: Verdict(passed, "what was found", waived=waived)


# What stops


@pytest.mark.parametrize(
    ("blocking", "passed", "waived", "stopped"),
    [
        (True, False, "", True),
        (True, False, "pinned by ann", False),
        (True, True, "", False),
        (False, False, "", False),
        (False, True, "", False),
    ],
)
def test_only_a_blocking_check_that_failed_and_is_not_waived_stops(
    blocking: bool, passed: bool, waived: str, stopped: bool
) -> None:
    check = Check("a", "what is expected", blocking, saying(passed, waived))
    found = run_checks([check], subject(None))
    assert stops(*found[0]) is stopped
    assert (failure(found, subject(None)) is not None) is stopped


def test_the_failure_names_check_partition_found_and_expected() -> None:
    found = run_checks(
        [Check("warned", "b", False, saying(False)), Check("tight", "it is tight", True, saying(False))], subject(None)
    )
    error = failure(found, subject(None))
    assert isinstance(error, CheckFailed)
    assert isinstance(error, LineageError)
    assert str(error) == (
        "weather[2012-08]: check tight failed, nothing was published: found what was found; expected it is tight; mend what it "
        "was materialized from or the code that materializes it, then materialize it again"
    )
    assert (error.check, error.address, error.found, error.expected) == (
        "tight",
        "weather[2012-08]",
        "what was found",
        "it is tight",
    )


def test_checks_after_one_that_stops_are_not_asked() -> None:
    # Given a check that takes for granted what the one before it looks at
    def careless(_: Subject) -> Verdict:
        raise KeyError("no such column")

    found = run_checks([Check("first", "", True, saying(False)), Check("second", "", False, careless)], subject(None))
    assert [check.name for check, _ in found] == ["first"]


def test_a_warning_does_not_keep_the_others_from_being_asked() -> None:
    found = run_checks(
        [Check("first", "", False, saying(False)), Check("second", "", True, saying(True))], subject(None)
    )
    assert [(check.name, verdict.passed) for check, verdict in found] == [("first", False), ("second", True)]


# Schema


def test_a_table_as_declared_passes() -> None:
    check = schema_check(WEATHER)
    assert check.blocking
    assert check.description == "columns, types, order and unique ts as declared"
    assert check.function(subject(weather())) == Verdict(True, "3 rows as declared", {"rows": 3})
    assert check.function(subject(weather().astype({"note": "string"}).iloc[:0])).passed


@pytest.mark.parametrize(
    ("table", "found"),
    [
        (weather(extra=1), "found columns ts, hum, kind, note, extra"),
        (weather(ts=[1, 2, 2]), "ts 2 stands twice"),
        (weather(ts=[1.0, 2.0, 3.0]), "weather.ts: found type double, expected int64"),
        (weather(hum=[0.0, None, 1.0]), "weather.hum: found null in row 2"),
    ],
    ids=["column", "key", "type", "missing"],
)
def test_a_table_that_is_not_as_declared_fails(table: pd.DataFrame, found: str) -> None:
    verdict = schema_check(WEATHER).function(subject(table))
    assert not verdict.passed
    assert found in verdict.found


# Ranges


def test_lawful_values_pass_and_missing_ones_are_the_schemas_matter() -> None:
    check = range_check(WEATHER)
    assert check.blocking
    assert check.description == "hum 0..1; kind one of 1, 2, 3; note one of dry, wet"
    found = check.function(subject(weather()))
    assert (found.passed, found.found) == (True, "3 rows, every value in range: hum 0 to 1; kind 1 to 3")
    assert found.metrics == {"min hum": 0.0, "max hum": 1.0, "min kind": 1.0, "max kind": 3.0}
    assert check.function(subject(weather().astype({"note": "string"}).iloc[:0])).passed


@pytest.mark.parametrize(
    ("table", "found", "metrics"),
    [
        (
            weather(hum=[0.0, 1.5, 2.0]),
            "hum 1.5 at ts 2, and 1 more values out of range: hum 0 to 2; kind 1 to 3",
            {"hum": 2.0},
        ),
        (
            weather(hum=[-0.1, 0.5, 1.0]),
            "hum -0.1 at ts 1, and 0 more values out of range: hum -0.1 to 1; kind 1 to 3",
            {"hum": 1.0},
        ),
        (
            weather(kind=[1, 2, 4]),
            "kind 4 at ts 3, and 0 more values out of range: hum 0 to 1; kind 1 to 4",
            {"kind": 1.0},
        ),
        (
            weather(note=["dry", None, "hail"]),
            "note hail at ts 3, and 0 more values out of range: hum 0 to 1; kind 1 to 3",
            {"note": 1.0},
        ),
        (
            weather(hum=[0.0, 0.5, 7.0], kind=[0, 0, 1]),
            "hum 7.0 at ts 3, and 2 more values out of range: hum 0 to 7; kind 0 to 1",
            {"hum": 1.0, "kind": 2.0},
        ),
    ],
    ids=["above", "below", "code", "text", "two columns"],
)
def test_a_value_that_is_not_lawful_fails_by_its_key(
    table: pd.DataFrame, found: str, metrics: dict[str, float]
) -> None:
    verdict = range_check(WEATHER).function(subject(table))
    assert (verdict.passed, verdict.found) == (False, found)
    assert {key: value for key, value in verdict.metrics.items() if key.startswith("out of range")} == {
        f"out of range {name}": count for name, count in metrics.items()
    }


def test_a_table_without_bounds_has_nothing_to_refuse() -> None:
    check = range_check(Schema("notes", ("ts",), (Column("ts", "int64", "Hour."),)))
    assert check.description == "any value of the column's type"
    assert check.function(Subject("notes", "2012-08", pd.DataFrame({"ts": [-5, 10**9]}))).passed
