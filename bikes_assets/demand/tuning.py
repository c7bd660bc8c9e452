"""Search for a better recipe: declared spaces, and how recipes are evaluated, on months before the hold-out alone."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bikes_assets.core.errors import NothingToDo, SettingsError
from bikes_assets.demand.evaluation import scores
from bikes_assets.demand.features import FEATURE_NAMES
from bikes_assets.demand.model import TARGET, Recipe, fit_estimator, previous_month, unfitted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd

HOLD_OUT = "2012-08"
"""First month that no search may read: the reported accuracy of the default recipe is measured on rows from here on."""

VALIDATION_MONTHS = 9
MIN_TRAINING_MONTHS = 3
"""Fewest months that a recipe is fitted on when it is evaluated, as in `demand_model`."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "calendar": ("hour_of_day", "hour_of_week", "working_day", "public_holiday"),
    "weather": ("temperature", "humidity", "wind_speed", "weather_kind", "wet_hours_3h"),
    "weather change": ("temperature_above_27d", "humidity_above_7d"),
    "level": ("demand_level_7d",),
    "trends": ("demand_trend_1d", "demand_trend_7d"),
    "lags": ("demand_lag_24h", "demand_lag_168h"),
}
"""Every feature, in groups with the same kind of information."""


@dataclass(frozen=True)
class Space:
    """Recipes of one estimator that a search draws from.

    Attributes:
        estimator: dotted name of a scikit-learn regressor.
        fixed: fixed hyperparameters.
        options: the values of each hyperparameter that is drawn.
    """

    estimator: str
    fixed: Mapping[str, Any]
    options: Mapping[str, Sequence[Any]]


SPACES: tuple[Space, ...] = (
    Space(
        "sklearn.ensemble.HistGradientBoostingRegressor",
        {"categorical_features": ["hour_of_week"], "early_stopping": False},
        {
            "learning_rate": (0.02, 0.03, 0.05, 0.08),
            "max_iter": (150, 250, 400, 600),
            "max_leaf_nodes": (15, 31, 63, 127),
            "min_samples_leaf": (5, 10, 20, 40),
            "max_features": (0.3, 0.5, 0.7, 1.0),
            "l2_regularization": (0.0, 1.0, 10.0),
            "loss": ("squared_error", "absolute_error", "poisson"),
        },
    ),
    Space(
        "sklearn.ensemble.ExtraTreesRegressor",
        {"n_estimators": 100},
        {"min_samples_leaf": (1, 2, 3, 5), "max_features": (0.4, 0.6, 0.8, 1.0)},
    ),
)
"""Spaces that a search draws from."""

_LEVELS = ("demand_level_7d", "")
_WITHOUT = (("demand_lag_24h", "demand_lag_168h"), ())
_RELATIVE_SHARE = 0.85
"""Share of draws with a target relative to the level; recipes without it have always been worse."""

_FIRST_SPACE_SHARE = 0.85
"""Share of draws from the first space."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of a recipe, in rentals/hour and R2; each row was predicted by a fit that had not seen it.

    Attributes:
        months: scores of walk-forward by month: fitted on the months before the previous one, evaluated on the month.
        walk_forward: scores over the rows of all those months together.
        cuts: scores by month of one fit on the months before it, evaluated on all rows from it on.
    """

    months: Mapping[str, Mapping[str, float]]
    walk_forward: Mapping[str, float]
    cuts: Mapping[str, Mapping[str, float]]

    @property
    def r2(self) -> float:
        """Mean of the R2 of walk-forward and of the mean R2 of the cuts: the criterion of a search."""
        return (self.walk_forward["r2"] + _mean(self.cuts, "r2")) / 2

    def metrics(self) -> dict[str, float]:
        """Return the summary metrics."""
        return {
            "r2": self.r2,
            **{f"walk_forward_{name}": self.walk_forward[name] for name in ("r2", "rmse", "mae", "bias")},
            "cuts_r2": _mean(self.cuts, "r2"),
            "cuts_rmse": _mean(self.cuts, "rmse"),
        }

    def series(self) -> dict[str, dict[int, float]]:
        """Return R2 and RMSE by month and by cut; the step of 2012-08 is 201208."""
        return {
            f"{kind}_{name}": {int(month.replace("-", "")): values[name] for month, values in found.items()}
            for kind, found in (("month", self.months), ("cut", self.cuts))
            for name in ("r2", "rmse")
        }


def check_before(before: str) -> None:
    """Refuse to read the hold-out.

    Raises:
        SettingsError: `before` is later than the hold-out's first month.
    """
    if before > HOLD_OUT:
        raise SettingsError(
            f"found --before {before}, expected {HOLD_OUT} or earlier: the months from {HOLD_OUT} on are the hold-out, and what "
            "was chosen by looking at them would say nothing of its accuracy"
        )


def validation_months(months: Sequence[str]) -> list[str]:
    """Return the months that recipes are evaluated on: the last nine with enough months before them.

    Raises:
        NothingToDo: there are too few months.
    """
    known = sorted(set(months))
    found = [month for month in known if sum(other < previous_month(month) for other in known) >= MIN_TRAINING_MONTHS]
    if not found:
        there = f"{known[0]} to {known[-1]}" if known else "none"
        raise NothingToDo(
            f"found months {there}, expected at least {MIN_TRAINING_MONTHS + 2}: {MIN_TRAINING_MONTHS} to fit on, one between, "
            "one to evaluate on"
        )
    return found[-VALIDATION_MONTHS:]


def cut_months(validation: Sequence[str]) -> list[str]:
    """Return the months before which one fit ends: the 3rd, 5th and 7th of nine, so that several follow each."""
    return list(validation[2::2][:3]) or list(validation[:1])


def fitted_months(months: Sequence[str]) -> list[str]:
    """Return the months that any fit of `evaluate` reads."""
    validation = validation_months(months)
    end = max(previous_month(validation[-1]), cut_months(validation)[-1])
    return [month for month in sorted(set(months)) if month < end]


def evaluate(features: pd.DataFrame, recipe: Recipe, names: Sequence[str] = FEATURE_NAMES) -> Evaluation:
    """Return the scores of a recipe, by walk-forward with a month between and by fixed cuts.

    Args:
        features: DEMAND_FEATURES of months before the hold-out.
        recipe: recipe to evaluate.
        names: the available features.

    Raises:
        SettingsError: a row belongs to the hold-out.
        NothingToDo: there are too few months.
        ModelError: the estimator refuses the parameters or the rows.
    """
    months = features["ts"].dt.strftime("%Y-%m")
    if len(months) and months.max() >= HOLD_OUT:
        raise SettingsError(f"found rows of {months.max()}, expected rows before {HOLD_OUT}: the rest is the hold-out")
    validation = validation_months(list(months))

    def predicted(fitted_on: pd.Series, rows: pd.DataFrame) -> Any:
        return fit_estimator(unfitted(recipe, names), features[fitted_on]).predict(rows)

    by_month: dict[str, Mapping[str, float]] = {}
    actual: list[float] = []
    together: list[float] = []
    for month in validation:
        rows = features[months == month]
        values = predicted(months < previous_month(month), rows)
        by_month[month] = scores(rows[TARGET], values)
        actual += rows[TARGET].tolist()
        together += values.tolist()
    cuts: dict[str, Mapping[str, float]] = {}
    for month in cut_months(validation):
        rows = features[months >= month]
        cuts[month] = scores(rows[TARGET], predicted(months < month, rows))
    return Evaluation(by_month, scores(actual, together), cuts)


def draws(trials: int, seed: int) -> Iterator[Recipe]:
    """Yield the default recipe and then others drawn from the spaces, without repetition, reproducible by the seed.

    Fewer are returned if the spaces hold no more.
    """
    generator = random.Random(seed)
    seen: set[str] = set()
    tries = 0
    recipe = Recipe()
    while len(seen) < trials and tries < 100 * trials:
        tries += 1
        key = repr(sorted(recipe.to_dict().items(), key=lambda item: item[0]))
        if key not in seen:
            seen.add(key)
            yield recipe
        recipe = _drawn(generator)


def _drawn(generator: random.Random) -> Recipe:
    space = SPACES[0] if generator.random() < _FIRST_SPACE_SHARE else generator.choice(SPACES[1:])
    drawn = {name: generator.choice(values) for name, values in space.options.items()}
    return Recipe(
        estimator=space.estimator,
        parameters={**drawn, **space.fixed},
        level=_LEVELS[0] if generator.random() < _RELATIVE_SHARE else _LEVELS[1],
        without=generator.choice(_WITHOUT),
    )


def ablations(recipe: Recipe | None = None) -> dict[str, Recipe]:
    """Return recipes that show what each group of features adds, by description: the recipe itself first.

    For each group: the recipe without it (or with it, if the recipe leaves it out), and with that group alone.
    """
    base = recipe or Recipe()
    found = {"default": base}
    for group, names in GROUPS.items():
        if set(names) <= set(base.without):
            found[f"with {group}"] = reading(base, [*_read(base), *names])
        else:
            found[f"without {group}"] = reading(base, [name for name in _read(base) if name not in names])
    return found | {f"{group} alone": reading(base, names) for group, names in GROUPS.items()}


def reading(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """Return a recipe that reads only these features; the target is relative to the level if that is one of several."""
    parameters = dict(recipe.parameters)
    if "categorical_features" in parameters:
        parameters["categorical_features"] = [name for name in parameters["categorical_features"] if name in names]
    return replace(
        recipe,
        parameters=parameters,
        level=recipe.level if recipe.level in names and len(names) > 1 else "",
        without=tuple(name for name in FEATURE_NAMES if name not in names),
    )


def described(recipe: Recipe) -> str:
    """Return how a recipe differs from the default one, in words."""
    usual = Recipe()
    found = [recipe.estimator.rpartition(".")[2]] if recipe.estimator != usual.estimator else []
    known = dict(usual.parameters) if recipe.estimator == usual.estimator else {}
    found += [f"{name}={value}" for name, value in recipe.parameters.items() if known.get(name, ...) != value]
    found += [f"{name} left to the estimator" for name in known if name not in recipe.parameters]
    if recipe.level != usual.level:
        found.append(f"relative to {recipe.level}" if recipe.level else "demand itself")
    if set(recipe.without) != set(usual.without):
        found.append(f"without {', '.join(recipe.without)}" if recipe.without else "all features")
    return ", ".join(found) or "default"


def better_months(one: Evaluation, other: Evaluation) -> int:
    """Return the number of months in which one recipe's error is lower than another's."""
    return sum(one.months[month]["rmse"] < values["rmse"] for month, values in other.months.items())


def _read(recipe: Recipe) -> list[str]:
    return [name for name in FEATURE_NAMES if name not in recipe.without]


def _mean(found: Mapping[str, Mapping[str, float]], name: str) -> float:
    return math.fsum(values[name] for values in found.values()) / len(found)
