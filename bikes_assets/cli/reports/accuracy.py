"""What `bikes evaluate` prints: how good the published predictions are, evaluated on the tables of the lake."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from rich.table import Column, Table

from bikes_assets.app.notebook import load
from bikes_assets.cli.reports.terminal import terminal
from bikes_assets.core.errors import LineageError, NothingToDo

if TYPE_CHECKING:
    import pandas as pd


def print_evaluation(since: str) -> None:
    """Print the accuracy of the published predictions and of one fit, on the rows from `since` on."""
    from bikes_assets.demand import champion, features
    from bikes_assets.demand.model import Recipe

    fixed = champion.fixed_cut(load("demand_features"), _hour(since).isoformat(), features.FEATURE_NAMES, Recipe())
    shown = Table(title=f"Accuracy on the rows from {since} on")
    for name in ("", "rows", "R2", "RMSE", "MAE", "bias"):
        shown.add_column(name, justify="left" if not name else "right")
    for name, scores in {
        "walk-forward, each month's champion": published_scores(since),
        "one fit on the rows before": fixed,
    }.items():
        cells = (f"{scores[key]:.{digits}f}" for key, digits in (("r2", 4), ("rmse", 1), ("mae", 1), ("bias", 1)))
        shown.add_row(name, f"{scores['rows']:,.0f}", *cells)
    terminal().print(shown)


def print_quality(since: str, by: str) -> None:
    """Print the errors of the published predictions on the rows from `since` on, by group, next to the baseline's."""
    from bikes_assets.demand.evaluation import scores_by

    columns = {"rows": 0, "r2": 3, "rmse": 1, "baseline_rmse": 1, "skill": 3, "bias": 1}
    names = ("rows", "R2", "RMSE", "baseline", "skill", "bias")
    shown = Table(by, *(Column(name, justify="right") for name in names))
    for group, scores in scores_by(_judged(since), by).items():
        shown.add_row(group, *(f"{scores[key]:,.{digits}f}" for key, digits in columns.items()))
    terminal().print(shown)


def published_scores(since: str | None = None) -> dict[str, float]:
    """Return the scores of all published predictions, or of those from an hour on.

    Raises:
        NothingToDo: there are no predictions.
    """
    from bikes_assets.demand.evaluation import scores

    judged = _judged(since)
    return scores(judged["actual"], judged["prediction"])


def _judged(since: str | None) -> pd.DataFrame:
    errors = load("prediction_quality")
    judged = errors if since is None else errors[errors["ts"] >= _hour(since)]
    if judged.empty:
        raise NothingToDo("there are no predictions to judge; run bikes run first")
    return judged


def _hour(text: str) -> pd.Timestamp:
    """Return the time that a text denotes.

    Raises:
        LineageError: it is not a time, or has a timezone.
    """
    import pandas as pd

    try:
        hour = datetime.fromisoformat(text)
    except ValueError:
        hour = None
    if hour is None or hour.tzinfo:
        raise LineageError(f"found time {text!r}, expected one like 2012-08-07T12:00")
    return pd.Timestamp(hour)
