"""Rows that had a part in a value, found by experiment, against every cell tried by itself and by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import narwhals as nw
import numpy as np
import pandas as pd
import pytest

from bikes_assets.core.columns import column_function, column_lineage, compute
from bikes_assets.core.errors import LineageError
from bikes_assets.core.schema import Column, Schema
from bikes_assets.lineage.rows import rows_behind
from bikes_assets_tests.fire.processes import turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bikes_assets.core.columns import Float64, Int64

HOURS = Schema(
    "hours",
    ("ts",),
    (
        Column("ts", "timestamp", "Hour."),
        Column("cnt", "int64", "Rentals.", minimum=0, nullable=True),
        Column("kind", "int64", "Weather.", allowed=(1, 2, 3, 4), nullable=True),
        Column("temp", "float64", "Temperature.", minimum=0, maximum=1, nullable=True),
    ),
)
DOC = "A column.\n\nUnit: 1.\nWhy: a test reads it."


def lag_23(cnt: nw.Expr) -> Int64:
    return cnt.shift(23)


def lag_24(cnt: nw.Expr) -> Int64:
    return cnt.shift(24)


def hour(ts: nw.Expr) -> Int64:
    return ts.dt.hour()


def last_known(kind: nw.Expr) -> Int64:
    return kind.fill_null(strategy="forward", limit=3)


def last_known_ever(kind: nw.Expr) -> Int64:
    return kind.fill_null(strategy="forward")


def wet(kind: nw.Expr) -> Int64:
    return (kind >= 3).cast(nw.Int64).fill_null(0).rolling_sum(3, min_samples=1)


def mean_4(cnt: nw.Expr) -> Float64:
    return cnt.cast(nw.Float64).rolling_mean(4, min_samples=1)


def mean_9(cnt: nw.Expr) -> Float64:
    return cnt.cast(nw.Float64).rolling_mean(9, min_samples=1)


def trend(mean_4: nw.Expr, mean_9: nw.Expr) -> Float64:
    return mean_4 / mean_9


def change(temp: nw.Expr) -> Float64:
    return temp - temp.shift(5)


def both(cnt: nw.Expr, temp: nw.Expr) -> Float64:
    return cnt.shift(2).cast(nw.Float64) + temp


def total(cnt: nw.Expr) -> Int64:
    return cnt.fill_null(0).cum_sum()


def where_wet(kind: nw.Expr, cnt: nw.Expr) -> Int64:
    return nw.when(kind >= 3).then(cnt.shift(1)).otherwise(0)


def ahead(cnt: nw.Expr) -> Int64:
    return cnt.shift(-2)


FUNCTIONS = (
    lag_23, lag_24, hour, last_known, last_known_ever, wet, mean_4, mean_9, trend, change, both, total, where_wet, ahead,
)  # fmt: skip
for each in FUNCTIONS:
    each.__doc__ = DOC
COLUMNS = {each.__name__: column_function(each) for each in FUNCTIONS}


def history(size: int, seed: int = 0, missing: float = 0.2) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "ts": pd.date_range("2012-08-01", periods=size, freq="h", unit="us"),
            "cnt": pd.array(draw.integers(0, 900, size), dtype="Int64"),
            "kind": pd.array(draw.integers(1, 5, size), dtype="Int64"),
            "temp": draw.random(size).round(4),
        }
    )
    for name in ("cnt", "kind", "temp"):
        frame.loc[draw.random(size) < missing, name] = pd.NA if name != "temp" else np.nan
    return frame


def found(frame: pd.DataFrame, row: int, *names: str) -> dict[tuple[str, str], list[int]]:
    """Return how many rows before the one that is asked about each row lies that had a part."""
    at = frame["ts"].iloc[row]
    _, parts = rows_behind(frame, list(COLUMNS.values()), "ts", at, schema=HOURS, columns=names)
    return {pair: sorted(round((at - key) / pd.Timedelta("1h")) for key in keys) for pair, keys in parts.items()}


def one_by_one(frame: pd.DataFrame, rows: Sequence[int]) -> list[dict[tuple[str, str], list[int]]]:
    """Return the same of some rows by setting every cell of every column in every way, each in a whole copy computed apart."""
    functions = list(COLUMNS.values())
    copies, tried = [frame], []
    for column in ("ts", "cnt", "kind", "temp"):
        high = {"kind": 4, "temp": 1.0}.get(column, frame[column].max())
        low = {"ts": frame["ts"].min(), "kind": 1}.get(column, 0)
        for other in range(len(frame)):
            for instead in (low, high, *([] if column == "ts" else [None])):
                changed = frame.copy()
                changed.loc[other, column] = instead
                copies.append(changed)
                tried.append((column, other))
    whole = pd.concat([copy.assign(copy=number, order=np.arange(len(copy))) for number, copy in enumerate(copies)])
    made = compute(whole, functions, "order", by=["copy"]).sort_values(["copy", "order"])
    said = {name: made[name].astype("Float64").to_numpy(dtype=float, na_value=np.nan) for name in COLUMNS}
    found = []
    for row in rows:
        moved = {(name, column): set() for name, columns in column_lineage(functions).items() for column in columns}
        for name in COLUMNS:
            values = said[name].reshape(len(copies), -1)[:, row]
            for (column, other), moves in zip(tried, ~np.isclose(values[1:], values[0], equal_nan=True), strict=True):
                if moves:
                    moved[name, column].add(row - other)  # a KeyError: it was moved by a column that it does not read
        found.append({pair: sorted(parts) for pair, parts in moved.items()})
    return found


def test_a_lag_of_23_hours_is_told_from_one_of_24():
    parts = found(history(60, missing=0), 50, "lag_23", "lag_24")

    assert parts == {("lag_23", "cnt"): [23], ("lag_24", "cnt"): [24]}


@pytest.mark.soak
@pytest.mark.parametrize("seed", turns(40))
def test_the_rows_are_those_of_every_cell_tried_by_itself(seed):
    """A soak compares more than a thousand values with all the rows behind them."""
    frame = history(34, seed)
    rows = sorted(np.random.default_rng(seed).choice(np.arange(24, 34), 2, replace=False).tolist())

    for row, expected in zip(rows, one_by_one(frame, rows), strict=True):
        assert found(frame, row, *COLUMNS) == expected


def test_a_soak_compares_a_thousand_values():
    assert 40 * 2 * len(COLUMNS) >= 1_000


def test_all_functions_together_find_what_each_finds_alone():
    frame = history(80, 7)
    together = found(frame, 70, *COLUMNS)

    assert together == {pair: rows for name in COLUMNS for pair, rows in found(frame, 70, name).items()}
    assert len(together[("total", "cnt")]) == 71


def test_a_value_that_was_filled_in_has_the_gap_and_the_last_known_row_behind_it():
    frame = history(30, missing=0)
    frame.loc[[24, 25], "kind"] = pd.NA

    assert found(frame, 25, "last_known", "last_known_ever") == {
        ("last_known", "kind"): [0, 1, 2],
        ("last_known_ever", "kind"): [0, 1, 2],
    }
    assert found(frame, 23, "last_known") == {("last_known", "kind"): [0]}


def test_a_gap_longer_than_what_is_filled_has_its_rows_behind_it():
    frame = history(30, missing=0)
    frame.loc[20:26, "kind"] = pd.NA

    assert found(frame, 26, "last_known") == {("last_known", "kind"): [0, 1, 2, 3]}


def test_two_windows_of_the_same_rows_have_all_of_them_behind_their_ratio():
    """No row alone moves a ratio that is 1 whatever stands in them; without all of them there is none."""
    frame = history(30, missing=0)

    assert found(frame, 2, "trend") == {("trend", "cnt"): [0, 1, 2]}


def test_a_row_that_hides_one_far_behind_it_is_not_taken_from_the_copy_before():
    """While the nearer hour is the highest, the farther one moves nothing; once it is perturbed, the farther one shows."""

    def highest(cnt: nw.Expr) -> Int64:
        return nw.max_horizontal(cnt.shift(1), cnt.shift(40))

    highest.__doc__ = DOC
    frame = history(60, missing=0)
    frame["cnt"] = pd.array(np.where(np.arange(60) == 57, 900, 5), dtype="Int64")
    _, parts = rows_behind(frame, [column_function(highest)], "ts", frame["ts"].iloc[58], schema=HOURS)

    assert parts == {("highest", "cnt"): (frame["ts"].iloc[57],)}


def test_a_column_of_one_value_is_set_to_another():
    frame = history(40, missing=0).assign(cnt=pd.array([0] * 40, dtype="Int64"))

    assert found(frame, 30, "lag_24") == {("lag_24", "cnt"): [24]}


def test_the_values_are_those_that_are_computed_undisturbed():
    frame = history(40, 3)
    values, _ = rows_behind(frame, list(COLUMNS.values()), "ts", frame["ts"].iloc[30], schema=HOURS)
    computed = compute(frame, list(COLUMNS.values()), "ts").iloc[30]

    assert values == {name: None if pd.isna(computed[name]) else computed[name] for name in COLUMNS}


def test_a_row_that_is_not_there_is_named():
    with pytest.raises(LineageError, match="hours: found no row 2013-01-01 00:00:00, expected one of 2012-08-01"):
        rows_behind(history(9), list(COLUMNS.values()), "ts", pd.Timestamp("2013-01-01"), schema=HOURS)
