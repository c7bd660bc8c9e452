"""Plots for the places where people would rather look than read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bikes_assets.demand.champion import Choice
    from bikes_assets.demand.model import Model

_BLUE, _GREY = "#2f6fab", "#b8bec6"


def demand_over_time(rentals: pd.DataFrame) -> Figure:
    """Plot rentals by hour; absent hours are gaps."""
    figure, axes = _canvas("rentals/hour")
    hourly = rentals.set_index("ts")["cnt"].astype("float64").resample("h").asfreq() if len(rentals) else rentals["cnt"]
    axes.plot(hourly.index, hourly.to_numpy(), color=_BLUE, linewidth=0.8)
    return figure


def predicted_and_actual(errors: pd.DataFrame) -> Figure:
    """Plot predicted over actual rentals by hour."""
    figure, axes = _canvas("rentals/hour")
    axes.plot(errors["ts"], errors["actual"].astype("float64"), color=_GREY, linewidth=1.2, label="actual")
    axes.plot(errors["ts"], errors["prediction"], color=_BLUE, linewidth=0.8, label="predicted")
    axes.legend(frameon=False, ncols=2)
    return figure


def error_by_hour(errors: pd.DataFrame) -> Figure:
    """Plot the mean absolute error by hour of the day."""
    figure, axes = _canvas("mean absolute error, rentals/hour")
    by_hour = errors["error"].abs().groupby(errors["ts"].dt.hour).mean()
    axes.bar(by_hour.index, by_hour.to_numpy(), color=_BLUE)
    axes.set_xlabel("hour of the day")
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


def _canvas(label: str, height: float = 2.6, left: float = 0.08) -> tuple[Figure, Axes]:
    """Return an empty plot; `left` is the share of its width that labels need. Fixed margins: fitting them takes longer."""
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(9, height))
    figure.subplots_adjust(left=left, right=0.98, top=0.95, bottom=0.5 / height)
    axes = figure.subplots()
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
