"""What is planted is named, what is honest is not: one of each kind here, rates of the whole corpus in the soak."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import pytest

from bikes_assets.core.errors import LineageError
from bikes_assets.verification import examine, time_experiments
from bikes_assets.verification.column_lineage import Window, check
from bikes_assets.verification.declaration import ROWS, Declaration
from bikes_assets.verification.examine import Examination, Results
from bikes_assets.verification.perturb import Bench, usual_values
from bikes_assets.verification.tables import assert_column_lineage
from bikes_assets_tests.fire.processes import SOAK
from bikes_assets_tests.verification import planted
from bikes_assets_tests.verification.planted import PLANTED, is_caught, tried


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="nine minutes of CPU each")
@pytest.mark.parametrize("wide", [False, True], ids=["alone", "wide"])
@pytest.mark.parametrize("seed", range(2))
def test_rates_of_the_whole_corpus(seed: int, wide: bool) -> None:
    caught = {name: is_caught(item, tried(item, wide=wide, seed=seed)) for name, item in PLANTED.items()}
    counts = Counter(PLANTED[name].kind for name, is_named in caught.items() if is_named)
    wrong = [name for name, is_named in caught.items() if is_named == (PLANTED[name].kind == "honest")]
    assert counts["honest"] == 0, wrong
    assert counts["hidden"] >= 28, wrong
    assert counts["ahead"] >= 39, wrong


def test_the_corpus_is_as_large_as_its_rates_say() -> None:
    assert Counter(item.kind for item in PLANTED.values()) == {"hidden": 30, "ahead": 41, "honest": 18}


# One of each kind, each experiment made once over


@pytest.fixture
def once_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "_MOST_EFFORT", 1)


HOURS = planted.hours()[["ts", "holiday", "weathersit", "temp", "hum", "forecast", "cnt"]]
GRID = pd.DataFrame({"ts": pd.date_range("2012-04-01", periods=1_464, freq="h", unit="us")})


def found_of(make: Any, declared: list[str], frame: pd.DataFrame = HOURS, **more: Any) -> list[tuple[str, str]]:
    """Return what is found of a function that makes one column: check and column."""

    def made(table: pd.DataFrame) -> pd.DataFrame:
        grid = planted.gridded(table)
        return planted.known(grid, make(grid), table, "made")

    found = check(made, frame[["ts", *declared]], {"made": declared}, key="ts", **more)
    assert not found.unverified
    return [(item.check, item.column) for item in found.findings]


def at_hour(hour: int) -> Any:
    return lambda grid: grid["temp"].where(grid.index.hour != hour, grid["temp"].shift(-1))


@pytest.mark.parametrize("hour", range(24) if SOAK else [5])
@pytest.mark.usefixtures("once_over")
def test_a_look_ahead_at_one_hour_of_the_day_is_named(hour: int) -> None:
    assert ("time", "temp") in found_of(at_hour(hour), ["temp"])


@pytest.mark.usefixtures("once_over")
def test_a_longer_window_at_one_hour_of_the_day_is_named() -> None:
    def longer_at_eight(grid: pd.DataFrame) -> pd.Series:
        return grid["temp"].shift(1).where(grid.index.hour != 8, grid["temp"].shift(2))

    found = found_of(longer_at_eight, ["temp"], windows={("made", "temp"): Window(1, 1)})

    assert ("windows", "temp") in found


def test_no_step_between_perturbed_rows_is_one_of_a_calendar() -> None:
    steps = [time_experiments._apart(about) for about in range(1, 2_000)]
    assert {math.gcd(step, 168) for step in steps} == {1}
    assert len({time_experiments._apart(about) for about in time_experiments._PERIODS}) == 5  # they vary, too
    assert time_experiments._apart(720) == 725


@pytest.mark.parametrize("seed", range(5))
def test_single_rows_of_every_hour_and_weekday_are_perturbed(seed: int) -> None:
    # Given two months of hours
    table = nw.from_native(GRID.assign(temp=np.random.default_rng(0).random(len(GRID))), eager_only=True)
    usual = {"temp": usual_values(table["temp"])}
    bench = Bench(lambda frame: frame, table, ("temp",), key="ts", columns={}, usual=usual)
    declaration = Declaration({"temp": ("temp",), ROWS: ("ts",)}, "ts")
    exam = Examination(bench, declaration, np.random.default_rng(seed), Results())
    exam.begin()
    # When
    trials = list(time_experiments.points(exam, [[("temp", "temp")]], []))
    # Then
    rows = [GRID["ts"][trial.perturbed["temp"]] for trial in trials]
    assert {hour for each in rows for hour in each.dt.hour} == set(range(24))
    assert {day for each in rows for day in each.dt.dayofweek} == set(range(7))
    assert len({len(each) for each in rows}) > 3  # they are near to each other, and far apart


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, [("windows", "hum")]), (25, [("windows", "hum")]), (24, [])], ids=str
)
@pytest.mark.usefixtures("once_over")
def test_a_fill_that_reaches_farther_than_its_window_is_named(limit: int | None, expected: Any) -> None:
    found = found_of(lambda grid: grid["hum"].ffill(limit=limit), ["hum"], windows={("made", "hum"): Window(24)})
    assert found == expected


@pytest.mark.parametrize(
    ("steps", "known_ahead", "is_named"),
    [
        (24, {"forecast": 24}, False),
        (25, {"forecast": 24}, True),
        (400, ["forecast"], False),
        (1, {}, True),
    ],
    ids=["as far", "farther", "all", "not declared"],
)
@pytest.mark.usefixtures("once_over")
def test_what_is_known_ahead_is_exempt_so_far_and_no_farther(steps: int, known_ahead: Any, is_named: bool) -> None:
    found = found_of(lambda grid: grid["forecast"].shift(-steps), ["forecast"], known_ahead=known_ahead)
    assert found == ([("time", "forecast")] if is_named else [])


def test_known_ahead_is_a_column_and_not_the_target() -> None:
    with pytest.raises(LineageError, match="plans is declared to be known ahead, but the table has ts, temp"):
        found_of(at_hour(5), ["temp"], known_ahead=["plans"])
    with pytest.raises(LineageError, match="temp is declared to be known ahead and to be the target"):
        found_of(at_hour(5), ["temp"], known_ahead=["temp"], target="temp", horizon=24)


# More rows than are tried at once


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    """Return 30,000 rows."""
    draw = np.random.default_rng(0)
    ts = pd.date_range("2009-01-01", periods=30_000, freq="h", unit="us")
    return pd.DataFrame({"ts": ts, "temp": draw.random(30_000), "kind": draw.integers(0, 5, 30_000)})


def of_many(frame: pd.DataFrame) -> pd.DataFrame:
    """Return columns that depend on the whole table, and two that do not."""
    temp = frame["temp"]
    return pd.DataFrame(
        {
            "ts": frame["ts"],
            "above_mean": temp - temp.mean(),
            "z": (temp - temp.mean()) / temp.std(),
            "rank": temp.rank(pct=True),
            "above_median": (temp > temp.median()).astype(int),
            "encoded": temp.groupby(frame["kind"]).transform("mean"),
            "log": np.log1p(temp),
            "warm": (temp > 0.5).astype(int),
        }
    )


@pytest.mark.usefixtures("once_over")
def test_what_depends_on_the_whole_table_is_named_on_many_rows(many: pd.DataFrame) -> None:
    declared = {name: ["temp"] for name in of_many(many).columns.drop("ts")} | {"encoded": ["temp", "kind"]}

    found = check(of_many, many, declared, key="ts")

    named = {item.output for item in found.findings if item.check == "time"}
    assert named == {"above_mean", "z", "rank", "above_median", "encoded"}
    assert {item.output for item in found.findings} == named


@pytest.mark.usefixtures("once_over")
def test_rows_that_only_the_whole_table_has_are_compared_with_slices(many: pd.DataFrame) -> None:
    """It reads the first row of the table, which no slice of its own lacks a first row of, but another one."""

    def since_first(frame: pd.DataFrame) -> pd.DataFrame:
        first = frame.sort_values("ts")["temp"].iloc[0]
        return frame.assign(since_first=frame["temp"] - first)[["ts", "since_first"]]

    found = check(since_first, many, {"since_first": ["temp"]}, key="ts", windows={("since_first", "temp"): Window(0)})

    assert {(item.check, item.output, item.column) for item in found.findings} >= {("slice", "since_first", "temp")}


# What is not tried


def test_what_blocks_every_table_is_no_trial_and_the_caller_chooses_what_becomes_of_it() -> None:
    table = GRID[:300].assign(cnt=3)

    def picky(frame: pd.DataFrame) -> pd.DataFrame:
        if (frame["cnt"] != 3).any():
            raise ValueError("all days are alike")
        return frame.assign(made=frame["cnt"])[["ts", "made"]]

    declared = {"made": ["cnt"]}
    found = check(picky, table, declared, key="ts")

    assert (found.findings, found.holds) == ((), False)
    assert [(edge.state, edge.trials) for edge in found.edges] == [("unverified", 0)]
    assert found.blocked_trials > 0
    assert sum(count.blocked for count in found.checks.values()) == found.blocked_trials
    assert sum(count.ran for count in found.checks.values()) == found.trials
    assert ("declared influence", "made", "cnt") in {
        (item.check, item.output, item.column) for item in found.unverified
    }
    with pytest.raises(
        AssertionError, match="unverified: made is declared to be computed from cnt, of which nothing ran"
    ):
        assert_column_lineage(picky, table, declared=declared, key="ts")
    with pytest.warns(UserWarning, match="unverified: made is declared to be computed from cnt"):
        assert not assert_column_lineage(picky, table, declared=declared, key="ts", unverified="warn").holds
