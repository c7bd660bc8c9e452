"""Hidden reads, looks ahead and honest functions as they are written in practice, each on hourly data, in two forms.

Alone, a function makes one column. Wide, it makes that column beside all others, which are passed on and declared: then no input
is declared nowhere, so that a table without it shows nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import numpy as np
import pandas as pd
import polars as pl

from bikes_assets.verification.column_lineage import Evidence, Window, check

TARGET, HORIZON = ("cnt", "casual", "registered"), 24


@cache
def hours(size: int = 1_464) -> pd.DataFrame:
    """Return two months of hours, some absent: weather with memory, rare storms, holidays and events, missing cells."""
    draw = np.random.default_rng(11)
    ts = pd.date_range("2012-04-03", periods=size, freq="h", unit="us")
    hour, day = ts.hour.to_numpy(), np.arange(size) // 24

    def memory(strength: float) -> np.ndarray:
        noise, values = draw.normal(0, 1, size), np.zeros(size)
        for row in range(1, size):
            values[row] = strength * values[row - 1] + (1 - strength**2) ** 0.5 * noise[row]
        return values

    front, cloud = memory(0.98), memory(0.95)
    temp = (0.5 + 0.12 * np.sin((hour - 9) / 24 * 2 * np.pi) + 0.08 * front).clip(0.02, 0.98).round(2)
    hum = (0.6 - 0.15 * np.sin((hour - 9) / 24 * 2 * np.pi) + 0.12 * cloud).clip(0.1, 1).round(2)
    weathersit = np.select([cloud > 2.1, cloud > 1.2, cloud > 0.2], [4, 3, 2], 1)
    rain = np.where(weathersit >= 3, draw.exponential(1.5, size), 0).round(1)
    holiday, weekend = np.isin(day, [13, 55]).astype(int), ts.dayofweek.to_numpy() >= 5
    event = np.where(
        draw.random(size) < 0.03, draw.choice(["concert", "match", "parade"], size, p=[0.5, 0.4, 0.1]), "none"
    )
    level = (1 + np.sin((hour - 8) / 24 * 2 * np.pi)) * (0.4 + temp) * np.where(weathersit >= 3, 0.5, 1)
    casual, registered = draw.poisson(25 * level * (1 + weekend)), draw.poisson(110 * level)
    frame = pd.DataFrame(
        {
            "ts": ts,
            "holiday": holiday,
            "workingday": (~weekend & (holiday == 0)).astype(int),
            "weathersit": pd.array(weathersit, dtype="Int64"),
            "temp": temp,
            "atemp": (temp * 0.95 + 0.01 * memory(0.5)).round(3),
            "hum": hum,
            "windspeed": np.abs(0.2 + 0.1 * memory(0.8)).round(2),
            "rain": rain,
            "forecast": (temp + draw.normal(0, 0.03, size)).round(2),
            "event": event,
            "casual": casual,
            "registered": registered,
            "cnt": casual + registered,
        }
    )
    for name, share in (("temp", 0.02), ("hum", 0.01), ("weathersit", 0.01)):
        frame.loc[draw.random(size) < share, name] = pd.NA if name == "weathersit" else np.nan
    absent = [77, 78, *range(400, 407), *draw.choice(np.arange(500, size), 12, replace=False)]
    return frame.drop(index=absent).reset_index(drop=True)


Kind = Literal["hidden", "ahead", "honest"]


@dataclass(frozen=True)
class Planted:
    """A function, what its author declares, and what is so.

    Attributes:
        make: from the table, a frame of pandas or Polars, to one with `ts` and the column of the function's name.
        kind: `hidden` reads what it does not declare, `ahead` looks ahead or farther than declared, `honest` is right.
        declared: what it is declared to read.
        culprit: what must be named, "a or b" where each is right: of a hidden read the column, of a look ahead the check.
        more: further arguments of `check`.
    """

    make: Callable[[Any], Any]
    kind: Kind
    declared: tuple[str, ...]
    culprit: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the function, and of the column that it makes."""
        return self.make.__name__

    @property
    def is_polars(self) -> bool:
        """Whether it takes a frame of Polars."""
        return self.make.__annotations__.get("frame") == "pl.DataFrame"


PLANTED: dict[str, Planted] = {}


def _add(kind: Kind, culprit: str, declared: tuple[str, ...], more: Mapping[str, Any]) -> Callable[..., Any]:
    def add(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
        PLANTED[make.__name__] = Planted(make, kind, declared, culprit, more)
        return make

    return add


def hidden(culprit: str, *declared: str, **more: Any) -> Callable[..., Any]:
    """Plant a read of a column that is not declared."""
    return _add("hidden", culprit, declared, more)


def ahead(*declared: str, culprit: str = "time", **more: Any) -> Callable[..., Any]:
    """Plant a look at what is not known yet, or lies outside of a declared window."""
    return _add("ahead", culprit, declared, more)


def honest(*declared: str, **more: Any) -> Callable[..., Any]:
    """Plant a function that is what it declares."""
    return _add("honest", "", declared, more)


def column(frame: pd.DataFrame, values: Any, name: str) -> pd.DataFrame:
    """Return the key and one column."""
    return pd.DataFrame({"ts": frame["ts"].to_numpy(), name: np.asarray(values)})


def gridded(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with a row for every hour, in order, labelled by the hour."""
    ordered = frame.sort_values("ts").set_index("ts", drop=False)
    grid = ordered.reindex(pd.date_range(ordered.index.min(), ordered.index.max(), freq="h", unit="us"))
    grid["ts"] = grid.index
    return grid


def known(grid: pd.DataFrame, values: Any, frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return one column of a grid, for the hours that the table has."""
    made = pd.DataFrame({"ts": grid.index, name: np.asarray(values)})
    return made[made["ts"].isin(frame["ts"])]


# What is read and not declared


@hidden("hum", "temp")
def feels_hot(frame):
    heat = frame["temp"].where(frame["hum"] < 0.9, frame["temp"] * 0.9)
    return column(frame, heat, "feels_hot")


@hidden("windspeed", "temp")
def wind_chill(frame):
    return column(frame, frame["temp"] - 0.02 * frame["windspeed"] * (frame["temp"] < 0.4), "wind_chill")


@hidden("atemp", "temp")
def temperature_or_felt(frame):
    return column(frame, frame["temp"].fillna(frame["atemp"]), "temperature_or_felt")


@hidden("atemp", "temp")
def filled_then_felt(frame):
    grid = gridded(frame)
    return known(grid, grid["temp"].ffill(limit=6).fillna(grid["atemp"]), frame, "filled_then_felt")


@hidden("weathersit", "hum")
def damp_by_code(frame):
    factor = frame["weathersit"].astype("float64").map({1: 1.0, 2: 1.0, 3: 1.0, 4: 0.8}).fillna(1.0)
    return column(frame, frame["hum"] * factor, "damp_by_code")


@hidden("event", "temp")
def uplift_of_events(frame):
    rates = pd.DataFrame({"event": ["concert", "match", "parade"], "rate": [1.0, 1.0, 1.3]})
    made = frame[["ts", "temp", "event"]].merge(rates, on="event", how="left")
    made["uplift_of_events"] = made["temp"] * made["rate"].fillna(1.0)
    return made[["ts", "uplift_of_events"]]


@hidden("workingday", "cnt")
def same_kind_of_day(frame):
    grid = gridded(frame)
    week = grid["cnt"].shift(168)
    return known(grid, week.where(grid["workingday"] == grid["workingday"].shift(168)), frame, "same_kind_of_day")


@hidden("weathersit", "temp")
def mean_of_dry_hours(frame):
    grid = gridded(frame)
    dry = grid.loc[grid["weathersit"].fillna(1) < 3, "temp"]
    recent = dry.rolling("24h").mean().reindex(grid.index, method="ffill")
    return known(grid, recent, frame, "mean_of_dry_hours")


@hidden("hum", "ts")
def place_in_the_day(frame):
    ordered = frame.sort_values(["ts"]).assign(day=frame["ts"].dt.floor("D"))
    ordered["damp"] = ordered["hum"].fillna(0).cummax() == ordered["hum"]
    place = ordered.sort_values(["day", "damp", "ts"]).groupby("day").cumcount()
    return ordered.assign(place_in_the_day=place)[["ts", "place_in_the_day"]]


@hidden("holiday", "temp")
def scaled_by_type(frame):
    return column(frame, frame["temp"] * (2 if frame["holiday"].dtype.kind == "i" else 1), "scaled_by_type")


@hidden("ts", "temp")
def warmer_at_weekends(frame):
    return column(frame, frame["temp"] + 0.1 * (frame["ts"].dt.dayofweek == 6), "warmer_at_weekends")


@hidden("ts", "hum")
def reset_at_month_end(frame):
    return column(frame, frame["hum"].where(~frame["ts"].dt.is_month_end, 0.5), "reset_at_month_end")


@hidden("event", "windspeed")
def parades_shelter(frame):
    return column(frame, np.where(frame["event"] == "parade", 0.0, frame["windspeed"]), "parades_shelter")


@hidden("weathersit or windspeed", "hum")
def storm(frame):
    rough = (frame["weathersit"].fillna(1) >= 3) & (frame["windspeed"] > 0.5)
    return column(frame, frame["hum"].mask(rough, 1.0), "storm")


@hidden("holiday", "temp", "hum")
def muggy_holiday(frame):
    muggy = (frame["hum"] > 0.85) & (frame["temp"] > 0.5) & (frame["holiday"] == 1)
    return column(frame, frame["temp"].mask(muggy, frame["temp"] + 0.2), "muggy_holiday")


@hidden("hum", "ts", "temp")
def dew_at_dawn(frame):
    dawn = frame["ts"].dt.hour == 5
    return column(
        frame, np.where(dawn, frame["temp"] * (1 - frame["hum"].fillna(0.5) / 10), frame["temp"]), "dew_at_dawn"
    )


@hidden("registered", "ts", "cnt")
def members_on_sunday_night(frame):
    grid = gridded(frame)
    late = (grid.index.dayofweek == 6) & (grid.index.hour == 23)
    values = grid["cnt"].shift(24).where(~late, grid["registered"].shift(24))
    return known(grid, values, frame, "members_on_sunday_night")


@hidden("hum", "ts", "temp")
def restart_after_outage(frame):
    ordered = frame.sort_values("ts")
    restarted = ordered["ts"].diff() > pd.Timedelta("1h")
    return column(ordered, ordered["temp"].where(~restarted, ordered["hum"]), "restart_after_outage")


@hidden("atemp", "temp")
def capped_by_the_felt(frame):
    grid = gridded(frame)
    return known(grid, grid["temp"].clip(upper=grid["atemp"].expanding().max() + 0.02), frame, "capped_by_the_felt")


@hidden("windspeed", "temp")
def weighted_by_wind(frame):
    grid = gridded(frame)
    weight = grid["windspeed"].fillna(0) + 0.1
    mean = (grid["temp"] * weight).rolling(12, min_periods=1).sum() / weight.rolling(12, min_periods=1).sum()
    return known(grid, mean, frame, "weighted_by_wind")


@hidden("rain", "temp")
def soaked_ground(frame):
    grid = gridded(frame)
    soaked = (grid["rain"].fillna(0) > 0).rolling(6).sum() == 6
    return known(grid, grid["temp"].mask(soaked, grid["temp"] - 0.05), frame, "soaked_ground")


@hidden("hum", "temp")
def front_passes(frame):
    grid = gridded(frame)
    jump = grid["hum"].diff().abs() > 0.3
    return known(grid, grid["temp"].mask(jump, grid["temp"].shift(1)), frame, "front_passes")


@hidden("atemp", "temp")
def larger_of_two(frame):
    both = frame[["temp", "atemp"]].to_numpy(dtype=float)
    picked = np.where(both[:, 1] > both[:, 0] + 0.02, both[:, 1], both[:, 0])
    return column(frame, picked, "larger_of_two")


@hidden("weathersit", "ts")
def coded_hour(frame):
    text = frame["ts"].dt.hour.astype(str) + "/" + frame["weathersit"].astype("Int64").astype(str)
    return column(frame, text.map({"8/4": 3.0, "17/4": 5.0}).fillna(0.0), "coded_hour")


@hidden("casual", "temp")
def faint_trace(frame):
    return column(frame, frame["temp"] + 1e-6 * frame["casual"], "faint_trace")


@hidden("hum", "temp")
def only_where_measured(frame):
    return column(frame, frame["temp"].where(frame["hum"].notna()), "only_where_measured")


@hidden("windspeed", "temp")
def by_query(frame):
    gusty = frame.query("windspeed > 0.45 and temp > 0.6").index
    return column(frame, np.where(frame.index.isin(gusty), 1.0, frame["temp"] / 2), "by_query")


@hidden("holiday", "weathersit")
def holiday_in_polars(frame: pl.DataFrame):
    wet = pl.when((pl.col("holiday") == 1) & (pl.col("weathersit") >= 3)).then(9).otherwise(pl.col("weathersit"))
    return frame.select("ts", wet.alias("holiday_in_polars"))


@hidden("registered", "cnt")
def share_of_a_busy_day(frame):
    grid = gridded(frame)
    before = grid[["cnt", "registered"]].shift(24)
    quiet = before["registered"].rolling(24, min_periods=12).mean() < 90
    return known(grid, before["cnt"].where(quiet, before["cnt"].clip(upper=150)), frame, "share_of_a_busy_day")


@hidden("rain", "ts", "hum")
def wet_first_week(frame):
    early = (frame["ts"].dt.day <= 7) & (frame["ts"].dt.hour.between(7, 9)) & (frame["rain"] > 2)
    return column(frame, frame["hum"].mask(early, 0.99), "wet_first_week")


# What is not known yet, or lies outside of what is declared


@ahead("temp")
def next_hour(frame):
    grid = gridded(frame)
    return known(grid, grid["temp"].shift(-1), frame, "next_hour")


@ahead("hum")
def tendency(frame):
    grid = gridded(frame)
    return known(grid, grid["hum"].shift(-3) - grid["hum"], frame, "tendency")


@ahead("cnt")
def lag_of_23(frame):
    grid = gridded(frame)
    return known(grid, grid["cnt"].shift(23), frame, "lag_of_23")


@ahead("cnt")
def level_of_yesterday(frame):
    grid = gridded(frame)
    return known(grid, grid["cnt"].rolling(24, min_periods=1).mean().shift(1), frame, "level_of_yesterday")


@ahead("temp")
def smooth(frame):
    grid = gridded(frame)
    return known(grid, grid["temp"].rolling(5, center=True, min_periods=1).mean(), frame, "smooth")


@ahead("windspeed")
def calm_median(frame):
    grid = gridded(frame)
    return known(grid, grid["windspeed"].rolling(25, center=True, min_periods=1).median(), frame, "calm_median")


@ahead("temp")
def back_filled(frame):
    grid = gridded(frame)
    return known(grid, grid["temp"].bfill(limit=2), frame, "back_filled")


@ahead("hum")
def between_neighbours(frame):
    grid = gridded(frame)
    return known(grid, grid["hum"].interpolate("linear", limit_area="inside"), frame, "between_neighbours")


@ahead("cnt")
def interpolated_lag(frame):
    grid = gridded(frame)
    return known(grid, grid["cnt"].interpolate("time").shift(24), frame, "interpolated_lag")


@ahead("ts", "temp")
def mean_of_the_day(frame):
    daily = frame.set_index("ts")["temp"].resample("D").mean()
    return column(frame, frame["ts"].dt.floor("D").map(daily), "mean_of_the_day")


@ahead("ts", "rain")
def wettest_quarter(frame):
    quarters = frame.set_index("ts")["rain"].resample("6h").max()
    return column(frame, frame["ts"].dt.floor("6h").map(quarters), "wettest_quarter")


@ahead("temp")
def above_the_mean(frame):
    return column(frame, frame["temp"] - frame["temp"].mean(), "above_the_mean")


@ahead("windspeed")
def gusty(frame):
    return column(frame, (frame["windspeed"] > frame["windspeed"].quantile(0.8)).astype(int), "gusty")


@ahead("hum")
def standardized(frame):
    values = frame["hum"].to_numpy()
    return column(frame, (values - np.nanmean(values)) / np.nanstd(values), "standardized")


@ahead("atemp")
def to_unit_range(frame):
    low, high = frame["atemp"].min(), frame["atemp"].max()
    return column(frame, (frame["atemp"] - low) / (high - low), "to_unit_range")


@ahead("ts", "cnt")
def encoded_hour(frame):
    return column(frame, frame["cnt"].groupby(frame["ts"].dt.hour).transform("mean"), "encoded_hour")


@ahead("weathersit", "cnt")
def encoded_weather(frame):
    means = frame.groupby("weathersit")["cnt"].mean()
    return column(frame, frame["weathersit"].astype("float64").map(means.rename(float)), "encoded_weather")


@ahead("temp")
def mean_of_what_comes(frame):
    grid = gridded(frame)
    return known(grid, grid["temp"][::-1].expanding().mean()[::-1], frame, "mean_of_what_comes")


@ahead("ts", "rain")
def rain_still_to_fall(frame):
    ordered = frame.sort_values("ts", ascending=False)
    rest = ordered.groupby(ordered["ts"].dt.date)["rain"].cumsum()
    return ordered.assign(rain_still_to_fall=rest)[["ts", "rain_still_to_fall"]]


@ahead("ts", "windspeed")
def share_of_the_week(frame):
    week = frame["ts"].dt.to_period("W").astype(str)
    return column(frame, frame["windspeed"] / frame["windspeed"].groupby(week).transform("sum"), "share_of_the_week")


@ahead("ts", "cnt")
def nearest_day_before(frame):
    right = frame[["ts", "cnt"]].sort_values("ts").rename(columns={"cnt": "nearest_day_before"})
    left = frame[["ts"]].sort_values("ts").assign(at=lambda rows: (rows["ts"] - pd.Timedelta("24h")).dt.as_unit("us"))
    made = pd.merge_asof(left, right.rename(columns={"ts": "at"}), on="at", direction="nearest")
    return made[["ts", "nearest_day_before"]]


@ahead("hum")
def next_measured(frame):
    right = frame.loc[frame["hum"].notna(), ["ts", "hum"]].sort_values("ts")
    made = pd.merge_asof(frame[["ts"]].sort_values("ts"), right, on="ts", direction="forward")
    return made.rename(columns={"hum": "next_measured"})


@ahead("temp")
def colder_neighbour(frame):
    ordered = frame.sort_values(["temp", "ts"])
    return column(ordered, ordered["temp"] - ordered["temp"].shift(1), "colder_neighbour")


@ahead("ts", "hum")
def evening_reading(frame):
    days = frame.assign(day=frame["ts"].dt.floor("D")).sort_values("ts")
    last = days.drop_duplicates("day", keep="last").set_index("day")["hum"]
    return column(days, days["day"].map(last), "evening_reading")


@ahead("ts", "cnt")
def rentals_until_noon(frame):
    grid = gridded(frame)
    morning = grid["cnt"].where(grid.index.hour < 12).groupby(grid.index.floor("D")).transform("sum")
    return known(grid, morning.where(grid.index.hour >= 18, grid["cnt"].shift(24)), frame, "rentals_until_noon")


@ahead("ts", "temp")
def peek_at_five(frame):
    grid = gridded(frame)
    return known(grid, grid["temp"].where(grid.index.hour != 5, grid["temp"].shift(-1)), frame, "peek_at_five")


@ahead("ts", "cnt")
def short_lag_at_seventeen(frame):
    grid = gridded(frame)
    return known(
        grid, grid["cnt"].shift(24).where(grid.index.hour != 17, grid["cnt"].shift(23)), frame, "short_lag_at_seventeen"
    )


@ahead("temp")
def from_behind_a_gap(frame):
    grid = gridded(frame)
    filled = grid["temp"].ffill(limit=3).fillna(grid["temp"].bfill(limit=3))
    return known(grid, filled.shift(1), frame, "from_behind_a_gap")


@ahead("weathersit", "temp")
def peek_in_storms(frame):
    grid = gridded(frame)
    storm = grid["weathersit"].fillna(1) == 4
    return known(grid, grid["temp"].where(~storm, grid["temp"].shift(-1)), frame, "peek_in_storms")


@ahead("ts", "cnt")
def peek_at_month_ends(frame):
    grid = gridded(frame)
    end = grid.index.is_month_end
    return known(grid, grid["cnt"].shift(24).where(~end, grid["cnt"].shift(6)), frame, "peek_at_month_ends")


@ahead("hum", culprit="windows", windows={("filled_without_end", "hum"): Window(24, 0)})
def filled_without_end(frame):
    grid = gridded(frame)
    return known(grid, grid["hum"].ffill(), frame, "filled_without_end")


@ahead("ts", "windspeed", culprit="windows", windows={("longer_in_the_evening", "windspeed"): Window(23, 0)})
def longer_in_the_evening(frame):
    grid = gridded(frame)
    short, long = (grid["windspeed"].rolling(size, min_periods=1).max() for size in (24, 36))
    return known(grid, short.where(grid.index.hour != 20, long), frame, "longer_in_the_evening")


@ahead("atemp")
def weighted_backwards(frame):
    grid = gridded(frame)
    return known(grid, grid["atemp"].iloc[::-1].ewm(halflife=3).mean().iloc[::-1], frame, "weighted_backwards")


@ahead("atemp")
def slope(frame):
    ordered = frame.sort_values("ts")
    return column(ordered, np.gradient(ordered["atemp"].to_numpy()), "slope")


@ahead("windspeed")
def convolved(frame):
    ordered = frame.sort_values("ts")
    kernel = np.array([0.25, 0.5, 0.25])
    return column(ordered, np.convolve(ordered["windspeed"].to_numpy(), kernel, mode="same"), "convolved")


@ahead("ts", "rain")
def weekend_outlook(frame):
    grid = gridded(frame)
    outlook = grid["rain"].rolling(12, min_periods=1).max().shift(-12)
    friday = (grid.index.dayofweek == 4) & (grid.index.hour >= 18)
    return known(grid, grid["rain"].where(~friday, outlook), frame, "weekend_outlook")


@ahead("windspeed")
def percentile(frame):
    return column(frame, frame["windspeed"].rank(pct=True), "percentile")


@ahead("cnt")
def lag_or_a_shorter_one(frame):
    grid = gridded(frame)
    return known(grid, grid["cnt"].shift(24).fillna(grid["cnt"].shift(12)), frame, "lag_or_a_shorter_one")


@ahead("temp")
def next_hour_in_polars(frame: pl.DataFrame):
    grid = frame.sort("ts").upsample("ts", every="1h")
    return grid.select("ts", next_hour_in_polars=pl.col("temp").shift(-2).rolling_mean(3, min_samples=1))


@ahead("holiday")
def eve_of_a_holiday(frame):
    grid = gridded(frame)
    return known(grid, grid["holiday"].shift(-24), frame, "eve_of_a_holiday")


@ahead("forecast", known_ahead={"forecast": 24})
def forecast_of_after_tomorrow(frame):
    grid = gridded(frame)
    return known(grid, grid["forecast"].shift(-25), frame, "forecast_of_after_tomorrow")


# What looks suspicious and is right


@honest("ts", "cnt")
def lag_by_merge(frame):
    before = frame[["ts", "cnt"]].assign(ts=(frame["ts"] + pd.Timedelta("24h")).dt.as_unit("us"))
    made = frame[["ts"]].merge(before, on="ts", how="left")
    return made.rename(columns={"cnt": "lag_by_merge"})


@honest("cnt")
def smooth_lag(frame):
    grid = gridded(frame)
    return known(grid, grid["cnt"].shift(25).rolling(5, min_periods=1).median(), frame, "smooth_lag")


@honest("temp")
def expanding_level(frame):
    grid = gridded(frame)
    return known(grid, grid["temp"] - grid["temp"].expanding().mean().shift(1), frame, "expanding_level")


@honest("windspeed")
def fading(frame):
    grid = gridded(frame)
    return known(grid, grid["windspeed"].ewm(halflife=6, ignore_na=True).mean(), frame, "fading")


@honest("hum", windows={("filled_for_a_day", "hum"): Window(24, 0)})
def filled_for_a_day(frame):
    grid = gridded(frame)
    return known(grid, grid["hum"].ffill(limit=24), frame, "filled_for_a_day")


@honest("temp", windows={("above_its_day", "temp"): Window(23, 0)}, history=23)
def above_its_day(frame):
    grid = gridded(frame)
    mean = grid["temp"].rolling(24, min_periods=1).mean()
    return known(grid, (grid["temp"] > mean).astype(int), frame, "above_its_day")


@honest("atemp", windows={("z_score", "atemp"): Window(47, 0)}, history=47)
def z_score(frame):
    grid = gridded(frame)
    window = grid["atemp"].rolling(48, min_periods=2)
    return known(grid, (grid["atemp"] - window.mean()) / window.std(), frame, "z_score")


@honest("holiday", known_ahead=["holiday"])
def holiday_tomorrow(frame):
    grid = gridded(frame)
    return known(grid, grid["holiday"].shift(-24), frame, "holiday_tomorrow")


@honest("forecast", known_ahead={"forecast": 24})
def warmest_forecast(frame):
    grid = gridded(frame)
    return known(grid, grid["forecast"][::-1].rolling(25, min_periods=1).max()[::-1], frame, "warmest_forecast")


@honest("cnt")
def lag_of_reversed_rows(frame):
    grid = gridded(frame).sort_index(ascending=False)
    made = grid["cnt"].shift(-24)
    return known(grid, made, frame, "lag_of_reversed_rows")


@honest("weathersit")
def back_filled_backwards(frame):
    grid = gridded(frame)[::-1]
    return known(grid, grid["weathersit"].astype("float64").bfill(limit=12), frame, "back_filled_backwards")


@honest("ts", "cnt")
def last_known_day_before(frame):
    right = frame[["ts", "cnt"]].sort_values("ts").rename(columns={"ts": "at", "cnt": "last_known_day_before"})
    left = frame[["ts"]].sort_values("ts").assign(at=lambda rows: (rows["ts"] - pd.Timedelta("24h")).dt.as_unit("us"))
    made = pd.merge_asof(left, right, on="at", direction="backward", tolerance=pd.Timedelta("72h"))
    return made[["ts", "last_known_day_before"]]


@honest("ts", "cnt")
def encoded_hour_of_the_past(frame):
    grid = gridded(frame)
    past = grid.groupby(grid.index.hour)["cnt"].transform(lambda values: values.expanding().mean().shift(1))
    return known(grid, past, frame, "encoded_hour_of_the_past")


@honest("temp", "atemp")
def felt_with_a_fallback(frame):
    return column(
        frame,
        pd.cut(frame["atemp"].fillna(frame["temp"]), [-9, 0.3, 0.5, 0.7, 9], labels=False),
        "felt_with_a_fallback",
    )


@honest("ts", "hum")
def morning_reading(frame):
    days = frame.assign(day=frame["ts"].dt.floor("D")).sort_values("ts")
    first = days.drop_duplicates("day", keep="first").set_index("day")["hum"]
    return column(days, days["day"].map(first), "morning_reading")


@honest("cnt")
def level_by_cumulative_sums(frame):
    grid = gridded(frame)
    total = np.cumsum(grid["cnt"].fillna(0).to_numpy())
    return known(grid, pd.Series(total).diff(168).shift(24) / 168, frame, "level_by_cumulative_sums")


@honest("ts", "rain", "weathersit")
def rain_so_far_today(frame):
    ordered = frame.sort_values("ts")
    fallen = ordered["rain"].where(ordered["weathersit"].fillna(1) >= 2, 0).groupby(ordered["ts"].dt.date).cumsum()
    return column(ordered, fallen, "rain_so_far_today")


@honest("cnt", "temp")
def demand_when_warm_in_polars(frame: pl.DataFrame):
    grid = frame.sort("ts").upsample("ts", every="1h")
    lag = pl.col("cnt").shift(24).rolling_mean(6, min_samples=1)
    warm = pl.when(pl.col("temp").is_not_null() & pl.col("temp").is_not_nan()).then(pl.col("temp"))
    return grid.select("ts", demand_when_warm_in_polars=lag * (warm.forward_fill(limit=4) > 0.5))


# How they are tried


def tried(item: Planted, *, wide: bool, seed: int, frame: pd.DataFrame | None = None, **more: Any) -> Evidence:
    """Return what is found of a planted function, alone or as one of many columns."""
    table = hours() if frame is None else frame
    passed = [name for name in table.columns if name != "ts"]

    def beside_all_others(whole: Any) -> Any:
        made = item.make(whole)
        if item.is_polars:
            return whole.select("ts", *passed).join(made.select("ts", item.name), on="ts", how="left")
        return whole[["ts", *passed]].merge(made, on="ts", how="left")

    declared: dict[str, Collection[str]] = {item.name: item.declared}
    if wide:
        declared |= {name: [name] for name in passed}
    settings = {"target": TARGET, "horizon": HORIZON, **item.more, **more}
    function = beside_all_others if wide else item.make
    return check(
        function, pl.from_pandas(table) if item.is_polars else table, declared, key="ts", seed=seed, **settings
    )


def is_caught(item: Planted, evidence: Evidence) -> bool:
    """Return whether a hidden read or a look ahead is named; of an honest function, whether it is accused."""
    if item.kind == "honest":
        return bool(evidence.findings)
    mine = [each for each in evidence.findings if each.output in (item.name, "")]
    if item.kind == "hidden":
        return any(each.column in item.culprit.split(" or ") for each in mine)
    return any(each.check in item.culprit.split(" or ") for each in mine)
