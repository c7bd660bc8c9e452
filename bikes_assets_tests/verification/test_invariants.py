"""What holds of a table holds of each perturbed one, so that functions that validate their input are tried like all others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from bikes_assets.core.errors import LineageError
from bikes_assets.core.schema import Column, Schema
from bikes_assets.verification import examine
from bikes_assets.verification.column_lineage import Evidence, Window, check
from bikes_assets.verification.invariants import Derived, Invariant, Ordered, Rising, Together, Total, Unique
from bikes_assets_tests.fire.processes import SOAK

KINDS = {1: "clear", 2: "mist", 3: "rain", 4: "storm"}


def table(size: int = 600) -> pd.DataFrame:
    """Return hours with all that can hold between columns: a sum, an order, what follows, combinations, a meter, a number."""
    draw = np.random.default_rng(3)
    ts = pd.date_range("2012-04-01", periods=size, freq="h", unit="us")
    casual, registered = draw.poisson(20, size), draw.poisson(80, size)
    low = draw.random(size).round(2)
    middle = (low + draw.random(size)).round(2)
    kind = draw.choice([1, 2, 3, 4], size, p=[0.6, 0.25, 0.1, 0.05])
    return pd.DataFrame(
        {
            "ts": ts,
            "casual": casual,
            "registered": registered,
            "cnt": casual + registered,
            "lowest": low,
            "temp": middle,
            "highest": (middle + draw.random(size)).round(2),
            "weekday": ts.dayofweek.astype("int64"),
            "kind": kind,
            "words": [KINDS[each] for each in kind],
            "meter": np.cumsum(draw.poisson(5, size)),
            "ticket": draw.permutation(size) + 1_000,
        }
    )


HOURS = table()
INVARIANTS: tuple[Invariant, ...] = (
    Total("cnt", ("casual", "registered")),
    Ordered("lowest", "temp", "highest"),
    Derived("weekday", ("ts",), lambda frame: frame["ts"].dt.dayofweek),
    Together("kind", "words"),
    Rising("meter", "ts"),
    Unique("ticket"),
)


RULES: dict[str, Callable[[pd.DataFrame], Any]] = {
    "sum": lambda frame: (frame["casual"] + frame["registered"] == frame["cnt"]) & (frame["casual"] >= 0),
    "order": lambda frame: (frame["lowest"] <= frame["temp"]) & (frame["temp"] <= frame["highest"]),
    "weekday": lambda frame: frame["ts"].dt.dayofweek == frame["weekday"],
    "words": lambda frame: frame["kind"].map(KINDS) == frame["words"],
    "meter": lambda frame: frame.sort_values("ts")["meter"].diff().dropna() >= 0,
    "ticket": lambda frame: ~frame["ticket"].duplicated(),
}


def broken(frame: pd.DataFrame, rules: Collection[str] = tuple(RULES)) -> list[str]:
    """Return what does not hold of a table."""
    return [name for name in rules if not RULES[name](frame).all()]


def validated(frame: pd.DataFrame, rules: Collection[str] = tuple(RULES)) -> None:
    """Raise unless everything holds."""
    if wrong := broken(frame, rules):
        raise ValueError(f"the input breaks {', '.join(wrong)}")


def grid(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.set_index("ts").asfreq("h")


@pytest.fixture(autouse=True)
def once_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each experiment once over; the rates of catches are no subject here."""
    monkeypatch.setattr(examine, "_MOST_EFFORT", 1)


# The invariants themselves


@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("seed", range(100 if SOAK else 6))
def test_a_perturbed_table_is_made_valid_and_a_valid_one_is_left_alone(invariant: Invariant, seed: int) -> None:
    # Given a table in which some cells of some of the columns come from elsewhere
    draw = np.random.default_rng(seed)
    columns = getattr(invariant, "columns", None) or (invariant.column, *getattr(invariant, "parts", ()))
    frame = HOURS.copy()
    for name in draw.permutation(columns)[: draw.integers(1, len(columns) + 1)]:
        rows = draw.random(len(frame)) < draw.choice([0.1, 0.5, 1])
        frame.loc[rows, name] = draw.choice(frame[name], rows.sum())
    # When
    repaired = invariant(frame, HOURS)
    # Then
    assert broken(repaired[HOURS.columns]) == []
    assert list(repaired.columns) == list(HOURS.columns)
    pd.testing.assert_frame_equal(invariant(HOURS, HOURS), HOURS)


def test_the_parts_of_a_sum_that_stays_share_it_as_they_were_drawn() -> None:
    before = pd.DataFrame({"cnt": [10, 10, 7], "casual": [4, 1, 7], "registered": [6, 9, 0]})
    perturbed = before.assign(casual=[30, 0, 1], registered=[10, 5, 1])
    repaired = Total("cnt", ("casual", "registered"))(perturbed, before)
    assert repaired.to_dict("list") == {"cnt": [10, 10, 7], "casual": [7, 0, 3], "registered": [3, 10, 4]}


def test_a_total_that_was_perturbed_becomes_the_sum() -> None:
    before = pl.DataFrame({"cnt": [10, 10], "casual": [4, 1], "registered": [6, 9]})
    perturbed = before.with_columns(cnt=pl.Series([99, 99]), casual=pl.Series([5, 2]))
    repaired = Total("cnt", ("casual", "registered"))(perturbed, before)
    assert repaired.to_dict(as_series=False) == {"cnt": [11, 11], "casual": [5, 2], "registered": [6, 9]}


def test_cells_in_order_are_brought_between_those_that_stay() -> None:
    before = pd.DataFrame({"low": [1.0, 1.0], "value": [2.0, 2.0], "high": [3.0, 3.0]})
    perturbed = before.assign(value=[9.0, -9.0])
    assert Ordered("low", "value", "high")(perturbed, before)["value"].tolist() == [3.0, 1.0]
    perturbed = before.assign(low=[9.0, 0.0], high=[-1.0, 8.0])
    repaired = Ordered("low", "value", "high")(perturbed, before)
    assert repaired.to_dict("list") == {"low": [2.0, 0.0], "value": [2.0, 2.0], "high": [2.0, 8.0]}


def test_what_is_missing_contradicts_nothing() -> None:
    before = pd.DataFrame(
        {"cnt": pd.array([10, 10], "Int64"), "casual": pd.array([4, 1], "Int64"), "registered": [6, 9]}
    )
    perturbed = before.assign(casual=pd.array([None, 5], "Int64"))
    repaired = Total("cnt", ("casual", "registered"))(perturbed, before)
    assert repaired["cnt"].tolist() == [10, 10]
    assert repaired["casual"].tolist() == [pd.NA, 1]


# What a function is given


def features(frame: pd.DataFrame) -> pd.DataFrame:
    """Return columns that are what `DECLARED` says, of a table that was validated."""
    validated(frame)
    hours = grid(frame)
    made = pd.DataFrame({"recent": hours["cnt"].shift(24), "members": hours["registered"].shift(24)})
    made["warm"] = hours["temp"].rolling(3, min_periods=1).mean()
    made["span"] = hours["highest"] - hours["lowest"]
    made["sunday"] = (hours["weekday"] == 6).astype(int)
    made["wet"] = hours["words"].isin(["rain", "storm"]).astype(int)
    made["used"] = hours["meter"] - hours["meter"].shift(1)
    made["odd"] = hours["ticket"] % 2
    return made[made.index.isin(frame["ts"])].reset_index().merge(frame, on="ts")


PASSED = {name: [name] for name in HOURS.columns.drop("ts")}
"""All columns are passed on and declared, or a table without those that are only validated would show what it reads."""
DECLARED = PASSED | {
    "recent": ["cnt"],
    "members": ["registered"],
    "warm": ["temp"],
    "span": ["highest", "lowest"],
    "sunday": ["ts", "weekday"],
    "wet": ["words"],
    "used": ["meter"],
    "odd": ["ticket"],
}
TARGET: dict[str, Any] = {"key": "ts", "target": ("cnt", "casual", "registered"), "horizon": 24}


def checked(function: Any, declared: Any = None, **more: Any) -> Evidence:
    return check(function, HOURS, declared or DECLARED, **{**TARGET, "invariants": INVARIANTS, **more})


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="a quarter of a minute of CPU; some of it is below")
def test_every_table_that_a_function_is_given_keeps_to_the_invariants_and_all_is_proven() -> None:
    # Given a function that raises where anything does not hold, and keeps count
    seen = list[list[str]]()

    def counted(frame: pd.DataFrame) -> pd.DataFrame:
        if set(frame.columns) == set(HOURS.columns):
            seen.append(broken(frame))
        return features(frame)

    # When
    declared = {name: columns for name, columns in DECLARED.items() if name not in PASSED}
    found = checked(counted, declared)
    # Then
    assert found.findings == ()
    assert {(edge.output, edge.input): edge.state for edge in found.edges} == {
        (name, column): "observed" for name, columns in declared.items() for column in columns
    }
    assert len(seen) > 100
    # a table without a gap has no missing cells but those that are put there, and these this function refuses
    assert sum(map(bool, seen)) < len(seen) / 10
    assert found.holds, found.unverified


@pytest.mark.parametrize(
    ("output", "made", "declared", "finding"),
    [
        ("recent", lambda hours: hours["registered"].shift(24) + 20, ["cnt"], ("undeclared influence", "registered")),
        ("recent", lambda hours: hours["cnt"].shift(23), ["cnt"], ("time", "cnt")),
        ("warm", lambda hours: hours["temp"].clip(upper=hours["highest"] - 0.1), ["temp"], ("undeclared influence", "highest")),
        ("warm", lambda hours: hours["temp"].shift(-1), ["temp"], ("time", "temp")),
        ("wet", lambda hours: hours["kind"] + hours["ticket"] % 7, ["kind"], ("undeclared influence", "ticket")),
        ("used", lambda hours: hours["meter"].shift(-1) - hours["meter"], ["meter"], ("time", "meter")),
    ],
    ids=["a part for the sum", "short lag", "the limit", "next hour", "the number", "the meter ahead"],
)  # fmt: skip
@pytest.mark.parametrize("invariants", [INVARIANTS, ()], ids=["declared", "found out"])
@pytest.mark.skipif(not SOAK, reason="one of each is below")
@pytest.mark.soak
def test_what_hides_behind_a_validation_is_named(output, made, declared, finding, invariants) -> None:
    is_named_behind_a_validation(output, made, declared, finding, invariants)


COUNTS = HOURS[["ts", "casual", "registered", "cnt"]]


@pytest.mark.parametrize(
    ("reads", "invariants"),
    [(["cnt"], INVARIANTS[:1]), (["registered"], ()), *([(["registered"], INVARIANTS[:1]), (["cnt"], ())] if SOAK else [])],
    ids=["hidden-declared", "honest-found out", *(["honest-declared", "hidden-found out"] if SOAK else [])],
)  # fmt: skip
def test_a_part_that_is_read_behind_a_validation_of_the_sum_is_named_and_is_all_that_is(reads, invariants) -> None:
    def members(frame: pd.DataFrame) -> pd.DataFrame:
        validated(frame, ["sum"])
        return grid(frame)["registered"].shift(24).rename("members").reset_index().merge(frame, on="ts")

    declared = {"casual": ["casual"], "registered": ["registered"], "cnt": ["cnt"], "members": reads}
    found = check(members, COUNTS, declared, **TARGET, invariants=invariants)

    named = {(item.check, item.output, item.column) for item in found.findings}
    if reads == ["cnt"]:  # the other part has to move with it, so that it may be either
        assert ("undeclared influence", "members", "registered") in named
        assert {output for _, output, _ in named} == {"members"}
    else:
        assert named == set()
    assert reads == ["cnt"] or found.holds


def is_named_behind_a_validation(output, made, declared, finding, invariants) -> None:
    def validating(frame: pd.DataFrame) -> pd.DataFrame:
        validated(frame)
        return made(grid(frame)).rename(output).reset_index().merge(frame, on="ts")

    found = checked(validating, PASSED | {output: declared}, invariants=invariants)

    assert finding in {(item.check, item.column) for item in found.findings if item.output == output}


def test_without_declared_invariants_it_is_found_out_what_can_be_tried_and_the_rest_is_told() -> None:
    def some(frame: pd.DataFrame) -> pd.DataFrame:
        validated(frame, ["sum", "weekday", "meter", "ticket"])
        hours = grid(frame)
        made = pd.DataFrame({"recent": hours["cnt"].shift(24), "members": hours["registered"].shift(24)})
        made["sunday"] = (hours["weekday"] == 6).astype(int)
        made["used"] = hours["meter"] - hours["meter"].shift(1)
        made["odd"] = hours["ticket"] % 2
        return made.reset_index()

    table = HOURS[["ts", "casual", "registered", "cnt", "weekday", "meter", "ticket"]]
    declared = {name: DECLARED[name] for name in ("recent", "members", "sunday", "used", "odd")}
    found = check(some, table, declared, **TARGET)

    assert found.findings == ()
    states = {(edge.output, edge.input): edge.state for edge in found.edges}
    unverified = {pair for pair, state in states.items() if state == "unverified"}
    assert unverified == {("sunday", "ts"), ("sunday", "weekday")}  # one follows the other, which nothing told
    assert {pair: state for pair, state in states.items() if state != "observed"} == dict.fromkeys(
        unverified, "unverified"
    )
    told = "\n".join(found.unchecked)
    assert "casual, registered, cnt: taken together from rows of the table, else the function fails: ValueError" in told
    assert "meter: taken to be Rising(column='meter', key='ts'), else the function fails: ValueError" in told
    assert "ticket: taken to be Unique(column='ticket'), else the function fails: ValueError" in told
    assert "weekday: never perturbed, for the function then fails: ValueError: the input breaks weekday" in told
    assert not found.holds
    assert [(item.output, item.column) for item in found.unverified] == [
        ("", "weekday"),
        ("sunday", "ts"),
        ("sunday", "weekday"),
    ]


def test_a_table_that_breaks_what_is_declared_of_it_is_refused() -> None:
    with pytest.raises(LineageError, match=r"Total\(column='cnt'.*found cnt of 2012-04-01 02:00:00 otherwise"):
        check(
            features,
            HOURS.assign(cnt=HOURS["cnt"].where(HOURS.index != 2, 0)),
            DECLARED,
            **TARGET,
            invariants=INVARIANTS,
        )


def test_any_function_is_an_invariant() -> None:
    """The sum written as one: parts that are perturbed change it, so that it is exempt with them."""

    def total(frame: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(cnt=frame["casual"] + frame["registered"])

    def sums(frame: pd.DataFrame) -> pd.DataFrame:
        if (frame["casual"] + frame["registered"] != frame["cnt"]).any():
            raise ValueError("cnt")
        return grid(frame)["cnt"].shift(24).rename("recent").reset_index()

    found = check(
        sums, HOURS, {"recent": ["cnt"]}, **TARGET, invariants=[total], windows={("recent", "cnt"): Window(24, 24)}
    )

    assert found.findings == ()
    assert [(edge.state, edge.observed) for edge in found.edges] == [("observed", Window(24, 24))]
    with pytest.raises(LineageError, match="an invariant returns 599 rows"):
        check(sums, HOURS, {"recent": ["cnt"]}, **TARGET, invariants=[lambda frame, _: frame[1:]])


# What could not be tried


def test_blocked_tables_are_counted_apart_for_each_dependency() -> None:
    def no_missing(frame: pd.DataFrame) -> pd.DataFrame:
        if frame["temp"].isna().any():
            raise ValueError("temp is missing")
        return frame.assign(warm=frame["temp"] + frame["lowest"])[["ts", "warm"]]

    found = check(no_missing, HOURS, {"warm": ["temp", "lowest"]}, key="ts")

    temp, lowest = found.edges
    assert (temp.state, lowest.state) == ("observed", "observed")
    assert temp.blocked == 0  # it is never set to missing, once that is known
    assert "temp: never set to missing, else the function fails: ValueError: temp is missing" in found.unchecked
    assert any("ValueError: temp is missing" in each for each in found.blocked)
    assert found.holds


@pytest.mark.parametrize(
    ("cells", "why"),
    [(np.nan, "the table has no value of it"), (3.0, "the table has one value of it alone")],
    ids=["no value", "one value"],
)
def test_columns_that_cannot_be_perturbed_cost_no_more_than_others(cells: float, why: str) -> None:
    """Where there are invariants, a trial may perturb others with a column: where that stays, it tells nothing."""
    sensors = [f"sensor_{number}" for number in range(4)]
    schema = Schema(
        "sensors", ("ts",), tuple(Column(name, "float64", "A sensor.", minimum=3, maximum=3) for name in sensors)
    )
    calls = Counter[str]()

    def made(frame: pd.DataFrame) -> pd.DataFrame:
        calls["function"] += 1
        return pd.DataFrame({"ts": frame["ts"], "wet": frame[sensors].sum(axis=1), "busy": frame["cnt"] > 99})

    def total(frame: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
        calls["invariant"] += 1
        return Total("cnt", ("casual", "registered"))(frame, before)

    def counted(cells: Any) -> tuple[Evidence, Counter[str]]:
        calls.clear()
        table = HOURS[["ts", "casual", "registered", "cnt"]].assign(**dict.fromkeys(sensors, cells))
        declared = {"wet": sensors, "busy": ["cnt"]}
        return check(made, table, declared, key="ts", schema=schema, invariants=[total]), calls.copy()

    found, cost = counted(cells)
    usual_cost = counted(np.random.default_rng(0).random(len(HOURS)))[1]

    assert cost["function"] <= usual_cost["function"]
    assert cost["invariant"] <= usual_cost["invariant"]
    assert found.findings == ()
    assert [(item.message, item.failed) for item in found.unverified] == [
        (
            f"wet is declared to be computed from {name}, of which nothing ran: {name} could not be perturbed, for {why}",
            False,
        )
        for name in sensors
    ]
