"""Plots for the places where people would rather look than read."""

from __future__ import annotations

from math import log10
from typing import TYPE_CHECKING, Any

from bikes_assets.demand.drift import LARGE_PSI, SMALL_PSI
from bikes_assets.demand.evaluation import quality_series

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bikes_assets.demand.champion import Choice
    from bikes_assets.demand.drift import MonthDrift
    from bikes_assets.demand.model import Model

_BLUE, _GREY, _RED = "#2f6fab", "#b8bec6", "#c0392b"
_WEATHER = {1: "clear", 2: "mist or clouds", 3: "light rain or snow", 4: "heavy rain"}


def demand_over_time(rentals: pd.DataFrame) -> Figure:
    """Plot rentals by hour; absent hours are gaps."""
    figure, axes = _canvas("rentals/hour")
    _dates(axes)
    hourly = rentals.set_index("ts")["cnt"].astype("float64").resample("h").asfreq() if len(rentals) else rentals["cnt"]
    axes.plot(hourly.index, hourly.to_numpy(), color=_BLUE, linewidth=0.8)
    return figure


def of_quality(errors: pd.DataFrame, drifted: MonthDrift) -> Mapping[str, Figure]:
    """Return the plots of PREDICTION_QUALITY and of the month's drift, by title."""
    return {
        "predicted and actual": predicted_and_actual(errors),
        "error by hour": error_by_hour(errors),
        "error by weather": error_by_weather(errors),
        "drift": drift(drifted),
    }


def predicted_and_actual(errors: pd.DataFrame) -> Figure:
    """Plot predicted over actual rentals by hour."""
    figure, axes = _canvas("rentals/hour")
    _dates(axes)
    axes.plot(errors["ts"], errors["actual"].astype("float64"), color=_GREY, linewidth=1.2, label="actual")
    axes.plot(errors["ts"], errors["prediction"], color=_BLUE, linewidth=0.8, label="predicted")
    axes.legend(frameon=False, ncols=2)
    return figure


def error_by_hour(errors: pd.DataFrame) -> Figure:
    """Plot RMSE by hour of the day, of predictions and of their baseline."""
    figure, axes = _canvas("RMSE, rentals/hour")
    series = quality_series(errors)
    for key, color, label in (("baseline_rmse_by_hour", _GREY, "baseline"), ("rmse_by_hour", _BLUE, "predicted")):
        axes.plot(list(series[key]), list(series[key].values()), color=color, marker="o", markersize=3, label=label)
    axes.set_xlabel("hour of the day")
    axes.set_xticks(range(0, 24, 3))
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, ncols=2)
    return figure


def error_by_weather(errors: pd.DataFrame) -> Figure:
    """Plot RMSE by kind of weather, of predictions and of their baseline, with the number of hours of each kind."""
    figure, axes = _canvas("RMSE, rentals/hour")
    series, hours = quality_series(errors), errors["weather_kind"].value_counts()
    kinds = list(series["rmse_by_weather"])
    for key, color, label, shift in (
        ("baseline_rmse_by_weather", _GREY, "baseline", -0.2),
        ("rmse_by_weather", _BLUE, "predicted", 0.2),
    ):
        axes.bar(
            [kind + shift for kind in kinds], [series[key][kind] for kind in kinds], 0.38, color=color, label=label
        )
    axes.set_xticks(kinds, [f"{_WEATHER[kind]}\n{hours[kind]:,} hours" for kind in kinds])
    axes.legend(frameon=False, ncols=2)
    return figure


def drift(found: MonthDrift) -> Figure:
    """Plot the population stability index of each drift on a logarithmic axis: red stands out, grey is not judged."""
    names = list(found.drifts)[::-1]
    figure, axes = _canvas("", height=3.6, left=0.22)
    colors = [_RED if name in found.standing_out else _BLUE if name in found.judged else _GREY for name in names]
    # bars of logarithms on a linear axis: Matplotlib's logarithmic one takes three times as long
    axes.barh(names, [log10(max(found.drifts[name].psi, 0.001) / 0.001) for name in names], color=colors)
    for limit, label in ((SMALL_PSI, "small"), (LARGE_PSI, "large")):
        axes.axvline(log10(limit / 0.001), color=_GREY, linewidth=1)
        axes.text(log10(limit / 0.001), len(names) - 0.4, f" {label}", color="#666", va="bottom", fontsize=8)
    axes.set_xticks(range(5), ["0.001", "0.01", "0.1", "1", "10"])
    axes.set_xlim(0, 4)
    axes.set_xlabel("population stability index (red: stands out; grey: not judged)")
    return figure


def candidates(choice: Choice) -> Figure:
    """Plot the error of each candidate on the month that none was fitted on; the champion is blue."""
    figure, axes = _canvas("", height=2.4, left=0.3)
    names = list(choice.rmse)
    axes.barh(
        names, list(choice.rmse.values()), color=[_BLUE if name == choice.model.origin else _GREY for name in names]
    )
    axes.set_xlabel("RMSE, rentals/hour")
    return figure


def importance(model: Model, features: pd.DataFrame, most: int = 15) -> Figure:
    """Plot how much the error on the validation month grows when a feature's values are shuffled, largest first."""
    from bikes_assets.demand.model import permutation_importance

    values = permutation_importance(model, features)
    names = sorted(values, key=lambda name: values[name])[-most:]
    figure, axes = _canvas("", height=3.6, left=0.22)
    axes.barh(names, [values[name] for name in names], color=_BLUE)
    axes.set_xlabel("growth of RMSE when shuffled, rentals/hour")
    return figure


def _dates(axes: Axes) -> None:
    """Label the horizontal axis with days, and the first of a month with its name."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator: Any = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))


def _canvas(label: str, height: float = 2.6, left: float = 0.08) -> tuple[Figure, Axes]:
    """Return an empty plot; `left` is the share of its width that labels need. Fixed margins: fitting them takes longer."""
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(9, height))
    figure.subplots_adjust(left=left, right=0.98, top=0.95, bottom=0.5 / height)
    axes = figure.subplots()
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
