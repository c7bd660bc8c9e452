"""What a function's code reaches beside its table is told, wherever in the code it stands; what it computes is not."""

from __future__ import annotations

import datetime as dt
import functools
import os
import random
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.linear_model import LinearRegression

from bikes_assets.demand.column_lineage import features_of_rentals
from bikes_assets.verification.side_inputs import signals

config = types.ModuleType("bikes_assets_tests.config")
config.PATH, config.FACTOR, config.TABLE = "factors.csv", 1.5, [1, 2, 3]  # type: ignore[attr-defined]
sys.modules[config.__name__] = config
namespace = types.SimpleNamespace(factor=2.0)
TABLE = pd.DataFrame({"kind": [1, 2], "rate": [0.5, 0.7]})
RATES = {1: 0.5, 2: 0.7}
CHANCE = np.random.default_rng(0)
MODEL = LinearRegression()
FILE = Path("rates.csv")
LIMITS, SCALE, NAMES = (0.1, 0.9), 100, ("temp", "hum")


def rate(kind: int) -> float:
    return RATES[kind]


def scaled(values: Any) -> Any:
    return values * SCALE


def timed(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(frame: Any) -> Any:
        return function(frame) * time.time()

    return wrapper


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(frame: Any) -> Any:
        return function(frame)

    return wrapper


class Reader:
    def rows(self) -> Any:
        return self._parsed()

    def _parsed(self) -> Any:
        return pd.read_csv("rates.csv")

    @staticmethod
    def clock() -> datetime:
        return datetime.now()

    def pure(self, frame: Any) -> Any:
        return frame["temp"] * SCALE


class Scaler:
    def __init__(self, table: Any) -> None:
        self.table = table

    def __call__(self, frame: Any) -> Any:
        return frame["temp"] * self.table["rate"].mean()


@dataclass(frozen=True, slots=True)
class Slotted:
    rates: dict[int, float] = field(default_factory=lambda: {1: 0.5})

    def apply(self, frame: Any) -> Any:
        return frame["temp"] * self.rates[1]


def in_a_comprehension(frame):
    return [rate(kind) for kind in frame["weathersit"]]


def in_a_lambda(frame):
    return frame["weathersit"].map(lambda kind: RATES[kind])


def in_a_nested_function(frame):
    def inner(kind):
        def innermost():
            return os.environ["FACTOR"]

        return innermost()

    return frame["weathersit"].map(inner)


def in_a_method_of_a_class(frame):
    return Reader().rows()["rate"].mean()


def in_a_static_method(frame):
    return frame["temp"] * Reader.clock().year


def in_a_default(frame, table=TABLE):
    return frame["temp"]


def in_a_default_that_is_a_function(frame, *, by=rate):
    return frame["temp"].map(by)


def in_an_attribute_of_a_module(frame):
    return frame["temp"] * config.FACTOR


def a_path_of_a_module(frame):
    return pd.read_csv(config.PATH)["rate"]


def in_a_namespace(frame):
    return frame["temp"] * namespace.factor


def an_item_of_the_environment(frame):
    return frame["temp"] * float(os.environ["FACTOR"])


def a_variable_of_the_environment(frame):
    return frame["temp"] * float(os.getenv("FACTOR", "1"))


def chance_of_numpy(frame):
    return frame["temp"] + np.random.rand(len(frame))


def chance_of_python(frame):
    return frame["temp"] + random.random()


def chance_that_is_held(frame):
    return frame["temp"] + CHANCE.normal(size=len(frame))


def a_clock_of_datetime(frame):
    return frame["temp"] * datetime.now().hour


def a_clock_by_its_module(frame):
    return frame["temp"] * dt.date.today().year


def a_clock_of_time(frame):
    return frame["temp"] * time.time()


def imported_within(frame):
    import os as system
    from datetime import datetime as moment

    return frame["temp"] * moment.utcnow().hour * len(system.listdir("."))


def imported_for_a_nested_function(frame):
    import random as dice

    return frame["temp"].map(lambda value: value * dice.gauss(0, 1))


@timed
def behind_a_decorator_that_reaches(frame):
    return frame["temp"]


@plain
def behind_a_decorator(frame):
    return frame["temp"].map(rate)


@functools.lru_cache
def cached(kind):
    return RATES[kind]


def behind_a_cache(frame):
    return frame["temp"].map(cached)


def a_table_of_functions(frame):
    return DISPATCH["rate"](frame["temp"])


DISPATCH = {"rate": rate}


def a_held_model(frame):
    return MODEL.predict(frame[["temp"]])


def a_held_path(frame):
    return frame["temp"] * len(FILE.name)


def with_open(frame):
    with open("rates.csv") as file:
        return frame["temp"] * len(file.readlines())


def by_polars(frame):
    return frame.join(pl.scan_parquet("rates.parquet").collect(), on="ts")


def a_global_that_changes(frame):
    global COUNT
    COUNT += 1
    return frame["temp"] * COUNT


COUNT = 0


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (in_a_comprehension, "rate holds data beside its table: RATES"),
        (in_a_lambda, "in_a_lambda holds data beside its table: RATES"),
        (in_a_nested_function, "in_a_nested_function may reach the environment: environ"),
        (in_a_method_of_a_class, "_parsed may reach files: read_csv"),
        (in_a_static_method, "clock may reach the clock: now"),
        (in_a_default, "in_a_default holds data beside its table: table"),
        (in_a_default_that_is_a_function, "rate holds data beside its table: RATES"),
        (in_an_attribute_of_a_module, "in_an_attribute_of_a_module holds data beside its table: config.FACTOR"),
        (a_path_of_a_module, "a_path_of_a_module holds data beside its table: config.PATH"),
        (in_a_namespace, "in_a_namespace holds data beside its table: namespace.factor"),
        (an_item_of_the_environment, "an_item_of_the_environment may reach the environment: environ"),
        (a_variable_of_the_environment, "a_variable_of_the_environment may reach the environment: getenv"),
        (chance_of_numpy, "chance_of_numpy may reach chance: rand"),
        (chance_of_python, "chance_of_python may reach chance: random"),
        (chance_that_is_held, "chance_that_is_held may reach chance: CHANCE"),
        (a_clock_of_datetime, "a_clock_of_datetime may reach the clock: now"),
        (a_clock_by_its_module, "a_clock_by_its_module may reach the clock: today"),
        (a_clock_of_time, "a_clock_of_time may reach the clock: time"),
        (imported_within, "imported_within may reach the clock: utcnow"),
        (imported_within, "imported_within may reach files: listdir"),
        (imported_for_a_nested_function, "imported_for_a_nested_function may reach chance: gauss"),
        (behind_a_decorator_that_reaches, "behind_a_decorator_that_reaches may reach the clock: time"),
        (behind_a_decorator, "rate holds data beside its table: RATES"),
        (behind_a_cache, "cached holds data beside its table: RATES"),
        (a_table_of_functions, "rate holds data beside its table: RATES"),
        (a_held_model, "a_held_model holds an object that is not looked into: MODEL, sklearn's LinearRegression"),
        (a_held_path, "a_held_path may reach files: FILE"),
        (with_open, "with_open may reach files: open"),
        (by_polars, "by_polars may reach files: scan_parquet"),
        (a_global_that_changes, "a_global_that_changes keeps something from call to call: COUNT"),
        (Scaler(TABLE), "__call__ holds data beside its table: self.table"),
        (functools.partial(in_a_default_that_is_a_function, by=cached), "cached holds data beside its table: RATES"),
        (functools.partial(scaled, TABLE), "scaled holds data beside its table: argument 1"),
        (Slotted().apply, "apply holds data beside its table: self.rates"),
        (Reader().rows, "_parsed may reach files: read_csv"),
    ],
)  # fmt: skip
def test_what_code_reaches_is_told(function: Any, told: str) -> None:
    assert told in signals(function)


def a_closure() -> Any:
    table = TABLE["rate"]
    return lambda frame: frame["temp"] * table.mean()


def test_what_a_closure_holds_is_told() -> None:
    assert signals(a_closure()) == ("<lambda> holds data beside its table: table",)


def computes(frame):
    low, high = LIMITS
    grid = frame.set_index("ts").asfreq("h")
    mean = grid["temp"].rolling(24, min_periods=1).mean().shift(1) * np.pi
    names = [name for name in NAMES if name in frame]
    when = frame["ts"].dt.time, frame["ts"].dt.date
    return scaled(mean.clip(low, high)), names, when, frame.sort_values("ts").groupby(frame["ts"].dt.hour).cumcount()


def in_polars(frame):
    return frame.select(pl.col("temp").rolling_mean(24).shift(1), wet=pl.col("weathersit") > 2)


@pytest.mark.parametrize("function", [computes, in_polars, Reader().pure, features_of_rentals])
def test_of_what_only_computes_nothing_is_told(function: Any) -> None:
    assert signals(function) == ()


def test_functions_that_call_each_other_are_looked_at_once() -> None:
    def even(number: int) -> bool:
        return number == 0 or odd(number - 1)

    def odd(number: int) -> bool:
        return number != 0 and even(number - 1)

    assert signals(even) == ()
