"""Sources in the layout of the shipped file, built from it or generated: each function writes one CSV file to a path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

SHIPPED = Path(__file__).parents[1] / "data" / "raw" / "hour.csv"
WEATHER = ("temp", "atemp", "hum", "windspeed")


def shipped() -> pd.DataFrame:
    """Return the shipped rows as the text that they are."""
    return pd.read_csv(SHIPPED, dtype=str, keep_default_na=False)


def write_original(path: Path) -> None:
    """Write what the original publication holds: no blank, and every scaled number with a point (`0.0`, `1.0`).

    The shipped file lacks 609 kinds of weather: each is taken from the last hour before it that has one.
    """
    rows = shipped()
    rows["weathersit"] = rows["weathersit"].replace("", None).ffill().bfill()
    for name in WEATHER:
        rows[name] = [text if "." in text else f"{text}.0" for text in rows[name]]
    rows.to_csv(path, index=False)


def write_without_weather(path: Path, months: Sequence[str] | None = None) -> None:
    """Write the shipped rows with the kind of weather blank, in some months or (None) throughout."""
    rows = shipped()
    blank = rows["dteday"].str[:7].isin(months) if months is not None else pd.Series(True, index=rows.index)
    rows.loc[blank, "weathersit"] = ""
    rows.to_csv(path, index=False)


def write_without_months(path: Path, *months: str) -> None:
    """Write the shipped rows without any of some months, such as `2012-01` of winter, or the first or last."""
    rows = shipped()
    rows[~rows["dteday"].str[:7].isin(months)].to_csv(path, index=False)


def write_years(path: Path, first: int = 2011, last: int = 2020, *, seed: int = 0) -> None:
    """Write generated years: seasons, days and weeks as in a bike-sharing service that grows, and some absent hours."""
    generated(f"{first}-01-01", f"{last + 1}-01-01", seed=seed).to_csv(path, index=False)


def generated(start: str, end: str, *, seed: int = 0) -> pd.DataFrame:
    """Return generated hours from a day on until before another, valid by all rules of `demand.source`."""
    rng = np.random.default_rng(seed)
    hours = pd.date_range(start, end, freq="h", inclusive="left")
    hours = hours[rng.random(len(hours)) > 0.01]
    year, day, hour = (np.asarray(part) for part in (hours.year, hours.dayofyear, hours.hour))
    weekday = (np.asarray(hours.dayofweek) + 1) % 7
    holiday = (np.isin(weekday, range(1, 6)) & (day % 36 == 1)).astype(int)
    working = (np.isin(weekday, range(1, 6)) & (holiday == 0)).astype(int)
    warmth = 0.5 - 0.3 * np.cos(2 * np.pi * (day - 20) / 365) + 0.08 * np.sin(2 * np.pi * (hour - 9) / 24)
    temperature = np.clip(warmth + 0.06 * rng.standard_normal(len(hours)), 0, 1)
    humidity = np.clip(0.65 + 0.2 * rng.standard_normal(len(hours)), 0, 1)
    wind = np.clip(np.abs(0.2 * rng.standard_normal(len(hours))), 0, 1)
    kind = np.select([humidity > 0.98, humidity > 0.9, humidity > 0.75], [4, 3, 2], 1)
    peaks = np.exp(-((hour - 8) ** 2) / 4) + np.exp(-((hour - 17.5) ** 2) / 6)
    leisure = np.exp(-((hour - 14) ** 2) / 18)
    rhythm = 0.1 + np.where(working == 1, 1.6 * peaks + 0.5 * leisure, 1.3 * leisure)
    growth = 1 + 0.15 * (year - year.min() + day / 365)
    level = 180 * growth * rhythm * (0.3 + temperature) * np.select([kind >= 3, kind == 2], [0.5, 0.9], 1.0)
    registered, casual = rng.poisson(0.8 * level), rng.poisson(0.2 * level)
    return pd.DataFrame(
        {
            "instant": np.arange(1, len(hours) + 1),
            "dteday": hours.strftime("%Y-%m-%d"),
            "season": (day + 10) % 365 * 4 // 365 + 1,
            "yr": year - year.min(),
            "mnth": hours.month,
            "hr": hour,
            "holiday": holiday,
            "weekday": weekday,
            "workingday": working,
            "weathersit": kind,
            "temp": temperature.round(2),
            "atemp": np.clip(temperature - 0.1 * wind, 0, 1).round(4),
            "hum": humidity.round(2),
            "windspeed": wind.round(4),
            "casual": casual,
            "registered": registered,
            "cnt": casual + registered,
        }
    )
