"""Which model serves a month, what it predicts, and how well one fit predicts the rows after it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bikes_assets.core.address import ModelRef
from bikes_assets.core.errors import ModelError, NothingToDo
from bikes_assets.demand.evaluation import scores
from bikes_assets.demand.model import TARGET, Model, Recipe, fit_estimator, unfitted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd


@dataclass(frozen=True)
class Choice:
    """Which model serves a month, and why.

    Attributes:
        model: the champion.
        reason: why it is.
        validated_on: the month that the candidates were evaluated on.
        rmse: root mean squared error of each candidate on the month that none was fitted on, by address.
        metrics: scores of the champion on that month.
        columns: columns of the features that the candidates' evaluation used.
    """

    model: Model
    reason: str
    validated_on: str
    rmse: Mapping[str, float]
    metrics: Mapping[str, float]
    columns: Sequence[str]

    @property
    def params(self) -> dict[str, str]:
        """Why it is the champion, as text for the record: `candidates` are addresses with their RMSE, rentals/hour."""
        return {
            "champion": self.model.origin,
            "reason": self.reason,
            "validated_on": self.validated_on,
            "candidates": ", ".join(f"{address}: {rmse:.2f}" for address, rmse in self.rmse.items()),
        }


def choose(candidates: Mapping[str, Model], pinned: Model | None, validated_on: pd.DataFrame, month: str) -> Choice:
    """Return the champion of a month: the candidate with the lowest error on rows that no candidate was fitted on.

    The newest candidate's baseline is a candidate too. On a tie the older model stays.

    Args:
        candidates: the latest models, by month.
        pinned: the model that a recorded decision promoted, None if the rule decides.
        validated_on: features and target of the month before, on which candidates are evaluated.
        month: the month to be served.

    Raises:
        NothingToDo: there is no candidate, or no row to evaluate on.
        ModelError: a candidate was fitted on rows that it would be evaluated on.
    """
    if not candidates or validated_on.empty:
        without = "model" if not candidates else "row to validate on"
        raise NothingToDo(f"champion_model[{month}] is skipped: there is no {without}")
    validation_month = validated_on["ts"].iloc[0].strftime("%Y-%m")
    field = [candidates[key] for key in sorted(candidates)]
    newest = field[-1]
    if newest.baseline:
        field.append(replace(newest.baseline, origin=str(ModelRef(newest.origin, "baseline"))))
    for model in field:
        if max(model.training_months) >= validation_month:
            raise ModelError(
                f"{model.origin} was fitted on {max(model.training_months)}, it cannot be validated on {validation_month}"
            )
    results = [scores(validated_on["cnt"], model.predict(validated_on)) for model in field]
    best = min(range(len(field)), key=lambda index: (math.isnan(results[index]["rmse"]), results[index]["rmse"]))
    rmse = {model.origin: result["rmse"] for model, result in zip(field, results, strict=True)}
    if pinned is None:
        reason = f"lowest error of {len(field)} on {validation_month}"
        return Choice(field[best], reason, validation_month, rmse, results[best], _columns(field))
    metrics = scores(validated_on[TARGET], pinned.predict(validated_on))
    return Choice(pinned, f"pinned: {pinned.decision}", validation_month, rmse, metrics, _columns([*field, pinned]))


def serving(model: Model | None, month: str) -> Model:
    """Return the model that serves a month.

    Raises:
        NothingToDo: no model does.
    """
    if model is None:
        raise NothingToDo(f"{month} is skipped: no model serves it")
    return model


def _columns(models: Sequence[Model]) -> list[str]:
    return [*dict.fromkeys(column for model in models for column in model.columns), TARGET]


def predictions(model: Model, features: pd.DataFrame) -> pd.DataFrame:
    """Return DEMAND_PREDICTIONS: `ts`, `prediction` and `baseline` (float64, rentals/hour) for each row of features.

    A baseline is its own baseline.
    """
    import pandas as pd

    said = {"prediction": model, "baseline": model.baseline or model}
    values = {name: each.predict(features) if len(features) else [] for name, each in said.items()}
    columns = {name: pd.Series(value, index=features.index, dtype="float64") for name, value in values.items()}
    return pd.DataFrame({"ts": features["ts"], **columns})


def fixed_cut(features: pd.DataFrame, since: str, names: Sequence[str], recipe: Recipe) -> dict[str, float]:
    """Return the scores, on the rows from `since` on, of one fit on the rows before it.

    Args:
        features: DEMAND_FEATURES of all months.
        since: first hour that is evaluated, such as 2012-08-07T12:00.
        names: the available features.
        recipe: which regressor to fit, and on which of these features.

    Raises:
        NothingToDo: there are no rows before `since`, or none from it on.
    """
    before, after = features[features["ts"] < since], features[features["ts"] >= since]
    if before.empty or after.empty:
        raise NothingToDo(
            f"there are no rows {'before' if before.empty else 'from'} {since}{'' if before.empty else ' on'}"
        )
    return scores(after[TARGET], fit_estimator(unfitted(recipe, names), before).predict(after))
