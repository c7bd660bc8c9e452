"""Faults as they are made by hand in features, each a small function, with the column and the check that must name it.

A fault is a function of the hours on a grid, in which an absent hour is missing, and makes one column. `DECLARED` is what its
author believes that it reads, and the faults are where that is wrong, or looks ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bikes_assets.core.schema import Column, Schema
from bikes_assets.verification.column_lineage import Window

SCHEMA = Schema(
    "hours",
    ("ts",),
    (
        Column("ts", "timestamp", "Hour."),
        Column("holiday", "int64", "Public holiday.", allowed=(0, 1), nullable=True),
        Column("weathersit", "int64", "Weather.", allowed=(1, 2, 3, 4), nullable=True),
        Column("temp", "float64", "Temperature.", minimum=0, maximum=1, nullable=True),
        Column("hum", "float64", "Humidity.", minimum=0, maximum=1, nullable=True),
        Column("casual", "int64", "Casual riders.", minimum=0, nullable=True),
        Column("registered", "int64", "Registered riders.", minimum=0, nullable=True),
        Column("cnt", "int64", "Rentals.", minimum=0, nullable=True),
    ),
)


def hours(size: int = 1_176) -> pd.DataFrame:
    """Return hours over two months' borders, some of them absent; rare are storms, holidays and missing weather."""
    draw = np.random.default_rng(7)
    rhythm = 1 + np.sin(np.arange(size) / 24 * 2 * np.pi)
    casual, registered = draw.poisson(12 * rhythm), draw.poisson(60 * rhythm)
    frame = pd.DataFrame(
        {
            "ts": pd.date_range("2011-01-20", periods=size, freq="h", unit="us"),
            "holiday": pd.array((np.arange(size) // 24 == 32).astype(int), dtype="Int64"),
            "weathersit": pd.array(draw.choice([1, 2, 3], size, p=[0.66, 0.26, 0.08]), dtype="Int64"),
            "temp": (0.25 + 0.1 * rhythm + draw.normal(0, 0.05, size)).clip(0, 1).round(2),
            "hum": (0.6 - 0.1 * rhythm + draw.normal(0, 0.15, size)).clip(0.1, 1).round(2),
            "casual": pd.array(casual, dtype="Int64"),
            "registered": pd.array(registered, dtype="Int64"),
            "cnt": pd.array(casual + registered, dtype="Int64"),
        }
    )
    frame.loc[150, "weathersit"] = 4
    frame.loc[[200, 201, 700], "weathersit"] = pd.NA
    absent = [30, 31, 170, *range(640, 652), *draw.choice(np.arange(700, 1_100), 30, replace=False)]
    return frame.drop(index=absent).reset_index(drop=True)


TARGET, HORIZON, HISTORY = ("cnt", "casual", "registered"), 24, 336


@dataclass(frozen=True)
class Fault:
    """A fault, and what must be said of it.

    Attributes:
        make: makes the column of a frame of hours on a grid; `raw` is the frame as it was handed over, in its order.
        declared: what its author declares.
        column: the input column that must be named, "" where it is none; "a or b" where each is right.
        check: the check that must name it; `not observed` where nothing shows a dependency that is declared.
        windows: what its author declares of windows.
    """

    make: Callable[..., Any]
    declared: tuple[str, ...]
    column: str
    check: str
    windows: tuple[Window, ...] = ()

    @property
    def name(self) -> str:
        """Name of the function, and of the column that it makes."""
        return self.make.__name__


FAULTS: list[Fault] = []


def fault(column: str, check: str, *declared: str, windows: Sequence[Window] = ()) -> Callable[..., Any]:
    def add(make: Callable[..., Any]) -> Callable[..., Any]:
        FAULTS.append(Fault(make, declared, column, check, tuple(windows)))
        return make

    return add


UNDECLARED, TIME, WINDOWS, PRESENCE, ORDER, SLICE, TYPE, REPEAT, UNSEEN = (
    "undeclared influence", "time", "windows", "presence", "order", "slice", "type", "repeat", "not observed",
)  # fmt: skip
LAG = [Window(24, 24)]


# What is read and not declared


@fault("registered", UNDECLARED, "cnt")
def hidden_read(grid, raw):
    return grid["cnt"].shift(24) + grid["registered"].shift(24) / 1000


@fault("registered", UNDECLARED, "temp")
def registered_hidden(grid, raw):
    return grid["temp"] * grid["registered"]


def _feels_like(grid):
    return grid["temp"] - grid["hum"] / 10


@fault("hum", UNDECLARED, "temp")
def through_a_helper(grid, raw):
    return _feels_like(grid)


@fault("casual", UNDECLARED, "temp")
def only_when_missing(grid, raw):
    return grid["temp"].fillna(grid["casual"].shift(24) / 1000)


@fault("ts", UNDECLARED, "temp")
def month_border_of_an_undeclared_key(grid, raw):
    return grid["temp"].where(grid["ts"].dt.day > 1, 0.0)


@fault("hum", UNDECLARED, "ts", "temp")
def only_at_month_border(grid, raw):
    return grid["temp"].where(grid["ts"].dt.day > 1, grid["hum"])


@fault("ts", UNDECLARED, "temp")
def hour_of_an_undeclared_key(grid, raw):
    return grid["temp"] + grid["ts"].dt.hour


@fault("hum", UNDECLARED, "temp", "weathersit")
def conjunction_of_two(grid, raw):
    return grid["temp"].where((grid["weathersit"] < 4) | (grid["hum"] < 0.7), -1.0)


@fault("holiday", UNDECLARED, "temp", "weathersit", "hum")
def conjunction_of_three(grid, raw):
    rare = (grid["weathersit"] == 4) & (grid["holiday"] == 1) & (grid["hum"] > 0.8)
    return grid["temp"].where(~rare, -1.0)


@fault("holiday or weathersit", UNDECLARED, "temp")
def conjunction_of_two_undeclared(grid, raw):
    return grid["temp"].where(~((grid["holiday"] == 1) & (grid["weathersit"] == 4)), -1.0)


@fault("casual", UNDECLARED, "cnt")
def parts_instead_of_the_sum(grid, raw):
    return (grid["casual"] + grid["registered"]).shift(24)


@fault("registered", UNDECLARED, "temp")
def how_many_are_known(grid, raw):
    return grid["temp"] + grid["registered"].notna().rolling(24, min_periods=1).sum()


@fault("registered", UNDECLARED, "cnt")
def a_threshold_in_another_column(grid, raw):
    return grid["cnt"].shift(48).where(grid["registered"].shift(48) > 5)


@fault("weathersit", UNDECLARED, "hum")
def a_mean_by_another_column(grid, raw):
    return grid["hum"] + (grid["weathersit"].rolling(12, min_periods=1).mean() > 2)


@fault("hum", UNDECLARED, "temp")
def swapped_output_temp(grid, raw):
    return grid["hum"]


@fault("temp", UNDECLARED, "hum")
def swapped_output_hum(grid, raw):
    return grid["temp"]


@fault("registered", UNDECLARED, "cnt")
def if_it_is_there(grid, raw):
    return (grid["registered"] if "registered" in grid else grid["cnt"]).shift(24)


@fault("casual", UNDECLARED, "hum")
def a_global_quantile_of_another_column(grid, raw):
    return grid["hum"] * grid["casual"].quantile(0.9)


# What is declared and not read


@fault("hum", UNSEEN, "temp", "hum")
def dropped_dependency(grid, raw):
    return grid["temp"]


@fault("cnt", UNSEEN, "cnt")
def constant(grid, raw):
    return pd.Series(1.0, grid.index)


@fault("hum", UNSEEN, "temp", "hum")
def multiplied_by_nothing(grid, raw):
    return grid["temp"] + 0 * grid["hum"].fillna(0)


# What is not known yet


@fault("cnt", TIME, "cnt")
def unshifted_window(grid, raw):
    return grid["cnt"].rolling(24, min_periods=1).mean()


@fault("registered", TIME, "registered", "temp")
def registered_declared(grid, raw):
    return grid["registered"] + grid["temp"]


@fault("cnt", TIME, "cnt")
def lag_shorter_than_the_horizon(grid, raw):
    return grid["cnt"].shift(23)


@fault("cnt", TIME, "cnt")
def global_mean(grid, raw):
    return grid["cnt"].shift(24) - grid["cnt"].mean()


@fault("temp", TIME, "temp")
def global_std(grid, raw):
    return grid["temp"] / grid["temp"].std()


@fault("hum", TIME, "hum")
def global_quantile(grid, raw):
    return (grid["hum"] > grid["hum"].quantile(0.6)).astype(float)


@fault("temp", TIME, "temp")
def global_rank(grid, raw):
    return grid["temp"].rank()


@fault("temp", TIME, "temp")
def global_maximum(grid, raw):
    return grid["temp"] / grid["temp"].max()


@fault("cnt", TIME, "ts", "cnt")
def target_mean_by_hour(grid, raw):
    return grid.groupby(grid["ts"].dt.hour)["cnt"].transform("mean")


@fault("weathersit", TIME, "weathersit")
def filled_from_the_future(grid, raw):
    return grid["weathersit"].bfill(limit=1)


@fault("temp", TIME, "temp")
def interpolated(grid, raw):
    return grid["temp"].interpolate(limit_area="inside")


@fault("hum", TIME, "hum")
def filled_with_the_median_of_all(grid, raw):
    return grid["hum"].fillna(grid["hum"].median())


@fault("temp", TIME, "temp")
def centred_window(grid, raw):
    return grid["temp"].rolling(5, center=True, min_periods=1).max()


@fault("cnt", TIME, "ts", "cnt")
def peek_at_month_border(grid, raw):
    ahead = grid["ts"].dt.month != (grid["ts"] + pd.Timedelta("12h")).dt.month
    return grid["cnt"].shift(24).where(~ahead, grid["cnt"])


@fault("temp", TIME, "temp")
def the_last_value_of_all(grid, raw):
    return grid["temp"] - grid["temp"].iloc[-1]


# Where it looks


@fault("cnt", WINDOWS, "cnt", windows=LAG)
def lag_of_25_for_24(grid, raw):
    return grid["cnt"].shift(25)


@fault("temp", WINDOWS, "temp", windows=LAG)
def shift_23_for_24(grid, raw):
    return grid["temp"].shift(23)


@fault("cnt", WINDOWS, "cnt", windows=LAG)
def swapped_lag_24(grid, raw):
    return grid["cnt"].shift(168)


@fault("cnt", WINDOWS, "cnt", windows=[Window(168, 168)])
def swapped_lag_168(grid, raw):
    return grid["cnt"].shift(24)


@fault("hum", WINDOWS, "hum", windows=[Window(23, 0)])
def a_window_too_long(grid, raw):
    return grid["hum"].rolling(25, min_periods=1).mean()


@fault("cnt", PRESENCE, "cnt")
def lag_by_rows_over_absent_hours(grid, raw):
    present = raw.sort_values("ts").set_index("ts")["cnt"].shift(24)
    return present.reindex(grid["ts"]).to_numpy()


@fault("", PRESENCE, "ts")
def rows_counted(grid, raw):
    return grid["ts"].isin(raw["ts"]).rolling(24, min_periods=1).sum()


@fault("temp", SLICE, "temp")
def sum_since_the_beginning(grid, raw):
    return (grid["temp"] * 50).round().cumsum()


@fault("temp", SLICE, "temp")
def change_since_the_first_row(grid, raw):
    return grid["temp"] - grid["temp"].iloc[0]


# How it looks


@fault("", ORDER, "cnt")
def lag_in_the_order_of_rows(grid, raw):
    return raw.assign(lag=raw["cnt"].shift(24)).set_index("ts")["lag"].reindex(grid["ts"]).to_numpy()


@fault("", ORDER, "temp")
def first_column_of_floats(grid, raw):
    floats = [name for name, dtype in raw.dtypes.items() if dtype.kind == "f"]
    return grid[floats[0]]


@fault("", ORDER, "temp")
def by_label(grid, raw):
    return raw.set_index("ts")["temp"].reindex(grid["ts"]).to_numpy() + (raw.index[0] != 0)


@fault("cnt", TYPE, "cnt")
def depends_on_the_type(grid, raw):
    return grid["cnt"].shift(24) * (2 if raw["cnt"].dtype.kind == "i" else 1)


FIRST: list[pd.Series] = []


@fault("temp", UNSEEN, "temp")
def first_answer_kept(grid, raw):
    if not FIRST:
        FIRST.append(grid.set_index("ts")["temp"])
    return FIRST[0].reindex(grid["ts"]).to_numpy()


@fault("", REPEAT, "hum")
def chance(grid, raw):
    return grid["hum"] + np.random.default_rng().random(len(grid))


LIMITS: dict[str, tuple[Callable[..., Any], str]] = {}
"""Faults that no disturbance shows, and the word by which the code tells."""


def limit(signal: str) -> Callable[..., Any]:
    def add(make: Callable[..., Any]) -> Callable[..., Any]:
        LIMITS[make.__name__] = (make, signal)
        return make

    return add


TABLE = pd.Series([0.1, 0.2])


@limit("holds data beside its table: TABLE")
def closure_over_a_table(grid, raw):
    return grid["temp"] * TABLE.mean()


@limit("may reach files: read_csv")
def reads_a_file(grid, raw):
    try:
        return grid["temp"] * pd.read_csv("/nonexistent/factors.csv")["factor"].mean()
    except OSError:
        return grid["temp"]


@limit("may reach the clock: now")
def reads_the_clock(grid, raw):
    return grid["temp"] * (pd.Timestamp.now().year > 2000)


@limit("may reach the environment: environ")
def reads_the_environment(grid, raw):
    import os

    return grid["temp"] * (os.environ.get("FACTOR") is None)


@limit("")
def magic_value(grid, raw):
    return grid["temp"].where(grid["hum"] != 0.123456, 0.0)


@limit("")
def conjunction_of_many(grid, raw):
    rare = (grid["weathersit"] == 4) & (grid["holiday"] == 1) & (grid["hum"] > 0.99) & (grid["casual"] == 1)
    return grid["temp"].where(~(rare & (grid["registered"] == 7) & (grid["cnt"] == 8)), 0.0)


@limit("")
def below_rounding(grid, raw):
    return grid["temp"] + grid["hum"].fillna(0) * 1e-12


@limit("")
def swapped_in_one_signature(grid, raw):
    return grid["temp"] - grid["hum"]


def on_grid(raw: pd.DataFrame) -> pd.DataFrame:
    """Return a row for every hour from the first to the last, in plain floats, which is what is fast."""
    first, hours = raw["ts"].min(), (raw["ts"] - raw["ts"].min()) // pd.Timedelta("1h")
    columns = {}
    for name in raw.columns.drop("ts"):
        values = np.full(int(hours.max()) + 1, np.nan)
        values[hours.to_numpy()] = raw[name].to_numpy(dtype=float, na_value=np.nan)
        columns[name] = values
    return pd.DataFrame({"ts": pd.date_range(first, periods=int(hours.max()) + 1, freq="h", unit="us"), **columns})


def made(raw: pd.DataFrame, makers: dict[str, Callable[..., Any]]) -> pd.DataFrame:
    """Return the columns of several functions, for each hour that is there."""
    grid = on_grid(raw)
    columns = {name: np.asarray(make(grid, raw), dtype=float) for name, make in makers.items()}
    return pd.DataFrame({"ts": grid["ts"], **columns})[grid["ts"].isin(raw["ts"])]
