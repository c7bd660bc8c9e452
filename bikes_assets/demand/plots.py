"""Plots for those places where people prefer a picture to numbers."""

from __future__ import annotations

from math import log10
from typing import TYPE_CHECKING

from bikes_assets.demand.drift import LARGE_PSI, SMALL_PSI
from bikes_assets.demand.evaluation import WEATHER, quality_series
from bikes_assets.demand.svg import Bars, Line, Plot

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from bikes_assets.demand.champion import Choice
    from bikes_assets.demand.drift import MonthDrift
    from bikes_assets.demand.model import Model

NOT_IN_CODE_VERSION = True  # plots are not part of what is plotted

_BLUE, _GREY, _RED = "#2f6fab", "#b8bec6", "#c0392b"
_TALL, _NAMES = 260, 150


def demand_over_time(rentals: pd.DataFrame) -> Plot:
    """Plot rentals by hour; absent hours are gaps."""
    hourly = rentals.set_index("ts")["cnt"].astype("float64").resample("h").asfreq() if len(rentals) else rentals["cnt"]
    known = hourly.index.to_series()
    return Plot([Line(_hours(known), hourly.tolist(), _BLUE, width=0.8)], ticks=_days(known), beside="rentals/hour")


def of_quality(errors: pd.DataFrame, drifted: MonthDrift) -> Mapping[str, Plot]:
    """Return the plots of PREDICTION_QUALITY and of the month's drift, by title."""
    return {
        "predicted and actual": predicted_and_actual(errors),
        "error by hour": error_by_hour(errors),
        "error by weather": error_by_weather(errors),
        "drift": drift(drifted),
    }


def predicted_and_actual(errors: pd.DataFrame) -> Plot:
    """Plot predicted over actual rentals by hour."""
    hours = _hours(errors["ts"])
    return Plot(
        [
            Line(hours, errors["actual"].astype("float64").tolist(), _GREY, "actual", 1.2),
            Line(hours, errors["prediction"].tolist(), _BLUE, "predicted", 0.8),
        ],
        ticks=_days(errors["ts"]),
        beside="rentals/hour",
    )


def error_by_hour(errors: pd.DataFrame) -> Plot:
    """Plot RMSE by hour of the day, of predictions and of their baseline."""
    series = quality_series(errors)
    return Plot(
        [
            Line(list(series[key]), list(series[key].values()), color, label, dots=True)
            for key, color, label in (
                ("baseline_rmse_by_hour", _GREY, "baseline"),
                ("rmse_by_hour", _BLUE, "predicted"),
            )
        ],
        ticks=[(hour, str(hour)) for hour in range(0, 24, 3)],
        under="hour of the day",
        beside="RMSE, rentals/hour",
    )


def error_by_weather(errors: pd.DataFrame) -> Plot:
    """Plot RMSE by kind of weather, of predictions and of their baseline, with the number of hours of each kind."""
    series, hours = quality_series(errors), errors["weather_kind"].value_counts()
    kinds = list(series["rmse_by_weather"])
    bars = [
        Bars([kind + shift for kind in kinds], list(series[key].values()), [color] * len(kinds), label, 0.38)
        for key, color, label, shift in (
            ("baseline_rmse_by_weather", _GREY, "baseline", -0.2),
            ("rmse_by_weather", _BLUE, "predicted", 0.2),
        )
    ]
    names = [(kind, f"{WEATHER[str(kind)]}\n{hours[kind]:,} hours") for kind in kinds]
    return Plot(bars=bars, ticks=names, beside="RMSE, rentals/hour")


def drift(found: MonthDrift) -> Plot:
    """Plot the population stability index of each drift on a logarithmic axis: red is a warning, grey unchecked."""
    names = list(found.drifts)[::-1]
    return _ranking(
        names,
        [_decades(max(found.drifts[name].psi, 0.001)) for name in names],
        [_RED if name in found.standing_out else _BLUE if name in found.compared else _GREY for name in names],
        "population stability index (red: stands out; grey: not compared)",
        scale=[(_decades(value), f"{value:g}") for value in (0.001, 0.01, 0.1, 1, 10)],
        rules=[(_decades(SMALL_PSI), "small"), (_decades(LARGE_PSI), "large")],
    )


def candidates(choice: Choice) -> Plot:
    """Plot each candidate's error on the month that none was fitted on, lowest on top; the champion or pin is blue."""
    errors = dict(choice.rmse)
    if "rmse" in choice.metrics:
        errors.setdefault(choice.model.origin, choice.metrics["rmse"])
    names = sorted(errors, key=lambda name: errors[name], reverse=True)
    colors = [_BLUE if name == choice.model.origin else _GREY for name in names]
    labels = [name.removeprefix("demand_model") for name in names]
    under = f"RMSE of demand_model on {choice.validated_on}, rentals/hour"
    return _ranking(labels, [errors[name] for name in names], colors, under, height=170)


def importance(model: Model, features: pd.DataFrame, most: int = 15) -> Plot:
    """Plot how much the error on the validation month grows when a feature's values are shuffled, largest first."""
    from bikes_assets.demand.model import permutation_importance

    values = permutation_importance(model, features)
    names = sorted(values, key=lambda name: values[name])[-most:]
    shown = [values[name] for name in names]
    return _ranking(names, shown, [_BLUE] * len(names), "growth of RMSE when shuffled, rentals/hour")


def _ranking(
    names: list[str],
    values: list[float],
    colors: list[str],
    under: str,
    *,
    height: int = _TALL,
    left: int = _NAMES,
    scale: list[tuple[float, str]] | None = None,
    rules: list[tuple[float, str]] | None = None,
) -> Plot:
    """Return a bar for each name, the last on top."""
    at = list(range(len(names)))
    return Plot(
        bars=[Bars(at, values, colors)],
        ticks=list(zip(at, names, strict=True)),
        scale=scale or (),
        rules=rules or (),
        under=under,
        flat=True,
        height=height,
        left=left,
    )


def _decades(value: float) -> float:
    """Return how many powers of ten a value is above a thousandth."""
    return log10(value / 0.001)


def _hours(ts: pd.Series) -> list[float]:
    """Return hours since the first one."""
    return ((ts - ts.min()).dt.total_seconds() / 3600).tolist() if len(ts) else []


def _days(ts: pd.Series) -> list[tuple[float, str]]:
    """Return every fourth day of a month as a tick, the first of a month by its name."""
    if ts.empty:
        return []
    days = ts[(ts.dt.hour == 0) & (ts.dt.day % 4 == 1)]
    names = (f"{day:%b %Y}" if day.day == 1 else str(day.day) for day in days)
    return list(zip(((days - ts.min()).dt.total_seconds() / 3600).tolist(), names, strict=True))
