"""Searches for a better recipe: one MLflow run for a search, with a nested run for each recipe that is evaluated."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bikes_assets.app.notebook import experiment, read
from bikes_assets.core.errors import ModelError
from bikes_assets.demand import tuning

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bikes_assets.demand.model import Recipe


@dataclass(frozen=True)
class Trial:
    """One recipe that was evaluated.

    Attributes:
        name: its name in the search.
        recipe: the recipe.
        evaluation: its scores, None if it cannot be fitted.
        seconds: wall time.
        error: why it cannot be fitted, "" if it can.
    """

    name: str
    recipe: Recipe
    evaluation: tuning.Evaluation | None
    seconds: float
    error: str = ""


def search(
    recipes: Mapping[str, Recipe],
    *,
    name: str,
    before: str,
    params: Mapping[str, Any],
    progress: Callable[[str, int, int], None],
    done: Callable[[Trial], None],
) -> None:
    """Evaluate recipes on the months before one, and log each: the rows as read, the recipe and its metrics.

    Args:
        recipes: recipes to evaluate, by name.
        name: name of the search's run.
        before: first month that is not read.
        params: arguments of the search, logged to its run.
        progress: called before each trial with its name, the number that are done, and their total.
        done: called with each trial when it is done; these are kept even if the search fails.

    Raises:
        SettingsError: `before` is after the start of the hold-out.
        NothingToDo: there are too few months before it.
        TrackingError: MLflow cannot be reached.
    """
    tuning.check_before(before)
    rows = read("demand_features", before=before)
    features: Any = rows.value()
    months = sorted(set(features["ts"].dt.strftime("%Y-%m")))
    uses = [
        rows.use("training", tuning.fitted_months(months)),
        rows.use("validation", tuning.validation_months(months)),
    ]
    with experiment(name) as run:
        run.log(params={**params, "before": before, "recipes": len(recipes)})
        for use in uses:
            run.log_rows(use, rows.schema)
        best = float("-inf")
        for number, (label, recipe) in enumerate(recipes.items(), start=1):
            progress(label, number - 1, len(recipes))
            start, evaluation, error = time.monotonic(), None, ""
            try:
                with run.trial(label) as trial:
                    trial.log(params=_params(recipe))
                    for use in uses:
                        trial.log_rows(use, rows.schema)
                    evaluation = tuning.evaluate(features, recipe)
                    trial.log(metrics={**evaluation.metrics(), **evaluation.series()})
            except ModelError as found:
                error = str(found)
            if evaluation:
                best = max(best, evaluation.r2)
                run.log(metrics={"r2": {number: evaluation.r2}, "best_r2": {number: best}})
            done(Trial(label, recipe, evaluation, time.monotonic() - start, error))
        progress("done", len(recipes), len(recipes))


def drawn(trials: int, seed: int) -> dict[str, Recipe]:
    """Return the default recipe and the random ones of a search, by name."""
    return {
        f"trial {number}" if number else "default": recipe for number, recipe in enumerate(tuning.draws(trials, seed))
    }


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Return trials, best first; those that could not be fitted last."""
    return sorted(trials, key=lambda trial: -trial.evaluation.r2 if trial.evaluation else float("inf"))


def _params(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as parameters of a run, one for each hyperparameter."""
    values = recipe.to_dict()
    return {
        **{f"parameters.{name}": value for name, value in values.pop("parameters").items()},
        **values,
        "without": ", ".join(values["without"]),
    }
