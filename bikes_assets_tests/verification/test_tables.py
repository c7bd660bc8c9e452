"""Column lineage of functions of several tables: what is read and not declared is named, whatever they do with rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from bikes_assets.core.errors import FeatureError
from bikes_assets.core.schema import Column, Schema
from bikes_assets.verification import tables
from bikes_assets.verification.column_lineage import Evidence
from bikes_assets.verification.tables import assert_column_lineage, check_tables

STOPS = pd.DataFrame({"stop": ["a", "b", "c", "d"], "zone": [1, 1, 2, 2], "height": [3.0, 8.0, 2.0, 5.5]})
RIDES = pd.DataFrame(
    {
        "ride": range(200),
        "stop": ["abcd"[number % 4] for number in range(200)],
        "minutes": [5.0 + number * 7 % 40 for number in range(200)],
        "kind": pd.Categorical([["day", "night"][number % 3 == 0] for number in range(200)]),
        "tags": [[number] for number in range(200)],
    }
)
INPUTS = {"rides": RIDES, "stops": STOPS}


def by_zone(rides: pd.DataFrame, stops: pd.DataFrame) -> pd.DataFrame:
    """Return the mean minutes of the rides by night in each zone, and the highest stop."""
    night = rides[rides["kind"] == "night"].merge(stops, on="stop")
    return night.groupby("zone", as_index=False).agg(minutes=("minutes", "mean"), highest=("height", "max"))


DECLARED = {"zone": {"stops": ["zone"]}, "minutes": {"rides": ["minutes"]}, "highest": {"stops": ["height"]}}
ROWS = {"rides": ["stop", "kind"], "stops": ["stop"]}


def named(evidence: Evidence) -> set[tuple[str, str]]:
    return {(item.output, item.column) for item in evidence.findings}


def test_a_join_a_filter_and_a_group_are_no_findings() -> None:
    evidence = check_tables(by_zone, INPUTS, DECLARED, key="zone", rows=ROWS)

    assert evidence.holds
    assert {(edge.output, edge.input): edge.state for edge in evidence.edges} == {
        ("zone", "stops.zone"): "observed",
        ("minutes", "rides.minutes"): "observed",
        ("highest", "stops.height"): "observed",
    }
    assert evidence.unchecked == ("rides.tags: its type cannot be perturbed",)
    assert evidence == check_tables(by_zone, INPUTS, DECLARED, key="zone", rows=ROWS)


def test_what_filters_rows_has_to_be_named() -> None:
    evidence = check_tables(by_zone, INPUTS, DECLARED, key="zone", rows={**ROWS, "rides": ["stop"]})

    assert ("minutes", "rides.kind") in named(evidence)


def test_rows_that_come_or_go_are_named() -> None:
    def long(rides: pd.DataFrame) -> pd.DataFrame:
        return rides.loc[rides["minutes"] > 20, ["ride"]]

    evidence = check_tables(long, {"rides": RIDES}, {"ride": {"rides": ["ride"]}}, key="ride")
    assert named(evidence) == {("(rows)", "rides.minutes"), ("ride", "rides.minutes")}
    filtered = {"rides": ["minutes"]}
    assert check_tables(long, {"rides": RIDES}, {"ride": {"rides": ["ride"]}}, key="ride", rows=filtered).holds


@pytest.mark.parametrize("make", [lambda frame: frame, pl.from_pandas], ids=["pandas", "polars"])
def test_a_value_that_only_rare_rows_read_is_named(make: Any) -> None:
    """The table as it is holds one such row; in redrawn ones they are frequent."""
    frame = pd.DataFrame({"n": range(300), "code": [7] + [1, 2] * 149 + [1], "one": 1.0, "other": np.arange(300) / 10})

    def rare(table: Any) -> Any:
        frame = table if isinstance(table, pd.DataFrame) else table.to_pandas()
        return make(frame[["n"]].assign(made=frame["one"].where(frame["code"] != 7, frame["other"])))

    declared = {"n": {"table": ["n"]}, "made": {"table": ["one", "code"]}}
    assert named(check_tables(rare, {"table": make(frame)}, declared, key="n")) == {("made", "table.other")}


def test_rows_are_compared_by_position_where_no_key_is_named() -> None:
    def scaled(rides: pd.DataFrame) -> pd.DataFrame:
        return (rides[["minutes"]] * 2).rename(columns={"minutes": "twice"})

    assert check_tables(scaled, {"rides": RIDES}, {"twice": {"rides": ["minutes"]}}).holds
    assert named(check_tables(scaled, {"rides": RIDES}, {"twice": {"rides": ["ride"]}})) == {("twice", "rides.minutes")}


def test_a_function_that_changes_its_input_is_given_another_one_each_time() -> None:
    def spoils(rides: pd.DataFrame) -> pd.DataFrame:
        rides["minutes"] += 1
        return rides[["ride", "minutes"]]

    declared = {"ride": {"rides": ["ride"]}, "minutes": {"rides": ["minutes"]}}
    assert check_tables(spoils, {"rides": RIDES}, declared, key="ride").holds
    assert RIDES["minutes"][0] == 5.0


def test_a_column_that_the_function_refuses_in_any_other_way_is_unverified() -> None:
    def strict(rides: pd.DataFrame) -> pd.DataFrame:
        if not rides["minutes"].equals(RIDES["minutes"]):
            raise ValueError("these are not the minutes of the timetable")
        return rides[["ride", "minutes"]]

    declared = {"ride": {"rides": ["ride"]}, "minutes": {"rides": ["minutes"]}}
    with pytest.raises(
        AssertionError, match=r"the function fails on all 3 tables in which it is perturbed: .*ValueError"
    ):
        assert_column_lineage(strict, {"rides": RIDES}, declared=declared, key="ride")


def test_columns_that_are_returned_and_not_declared_are_named() -> None:
    evidence = check_tables(
        lambda rides: rides[["ride", "minutes"]], {"rides": RIDES}, {"ride": {"rides": ["*"]}}, key="ride"
    )

    assert (evidence.undeclared, evidence.holds) == (("minutes",), False)
    states = {edge.input: edge.state for edge in evidence.edges}  # all columns were declared to contribute
    assert states == {
        "rides.ride": "observed",
        "rides.stop": "not observed",
        "rides.minutes": "not observed",
        "rides.kind": "not observed",
        "rides.tags": "unverified",
    }


def test_allowed_values_are_those_of_the_schema() -> None:
    seen: list[float] = []

    def within(rides: pd.DataFrame) -> pd.DataFrame:
        seen.extend(rides["minutes"].dropna())
        return rides[["ride", "minutes"]]

    schema = Schema("rides", ("ride",), (Column("minutes", "float64", "Minutes.", minimum=0, maximum=60),))
    declared = {"ride": {"rides": ["ride"]}, "minutes": {"rides": ["minutes"]}}
    assert check_tables(within, {"rides": RIDES}, declared, key="ride", schemas={"rides": schema}).holds
    assert (min(seen), max(seen)) == (0, 60)


def test_of_many_rows_the_first_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_MOST_ROWS", 50)
    evidence = check_tables(lambda rides: rides[["ride"]], {"rides": RIDES}, {"ride": {"rides": ["ride"]}}, key="ride")

    assert evidence.rows == 50
    assert "rides: its first 50 rows alone are used" in evidence.unchecked


def test_a_function_that_fails_on_the_tables_as_they_are_is_refused() -> None:
    with pytest.raises(FeatureError, match="cannot be computed on the tables as they are: 'speed'"):
        check_tables(lambda rides: rides[["ride"]].assign(speed=rides["speed"]), {"rides": RIDES}, {"ride": {}})


def test_a_function_that_fails_when_it_is_called_again_is_named() -> None:
    calls: list[int] = []

    def once(rides: pd.DataFrame) -> pd.DataFrame:
        calls.append(1)
        if len(calls) > 1:
            raise ValueError("a file is there already")
        return rides[["ride"]]

    evidence = check_tables(once, {"rides": RIDES}, {"ride": {"rides": ["ride"]}}, key="ride")
    (finding,) = evidence.findings
    assert finding.message == (
        "it fails when it is called again with the same tables: ValueError: a file is there already"
    )
