"""The demand model: which months it learns from, which estimator, how it predicts and how its file is written."""

from __future__ import annotations

import difflib
import importlib
import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bikes_assets.demand.evaluation import scores
from bikes_assets.lineage.errors import ModelError, NothingToDo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import pandas as pd

TARGET = "cnt"
BASELINE = "hour_of_week_mean"
BASELINE_FEATURES = ("hour_of_week",)

TRUSTED_TYPES = (
    "bikes_assets.demand.relative.RelativeRegressor",
    "functools.partial",  # of a trusted function: the one below, which checks arrays
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    "sklearn.utils.validation.check_array",
)
"""What a model's file may hold beside the types that skops trusts. It is never read from a file."""


@dataclass(frozen=True)
class Recipe:
    """Which regressor to fit. The defaults were tuned on the months before 2012-08 alone.

    Attributes:
        estimator: dotted name of a scikit-learn regressor.
        parameters: its hyperparameters. By default no early stopping: it would judge on rows next to those that it fits.
        level: feature that the target is fitted relative to; "" to fit the target itself.
        without: features that it does not read. Lags in rentals tie trees to the demand that they have seen; what lags tell
            is in the trends, which are relative.
        seed: its random state, where it has one.
        threads: number of threads to fit with.
    """

    estimator: str = "sklearn.ensemble.HistGradientBoostingRegressor"
    parameters: Mapping[str, Any] = field(
        default_factory=lambda: {
            "learning_rate": 0.05,
            "max_iter": 250,
            "max_features": 0.5,
            "categorical_features": ["hour_of_week"],
            "early_stopping": False,
        }
    )
    level: str = "demand_level_7d"
    without: Sequence[str] = ("demand_lag_24h", "demand_lag_168h")
    seed: int = 0
    threads: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON-ready values."""
        return {**asdict(self), "parameters": dict(self.parameters), "without": list(self.without)}


@dataclass(frozen=True)
class Model:
    """A fitted model and how it was fitted.

    Attributes:
        name: class of the estimator, or `hour_of_week_mean` for the baseline.
        estimator: the fitted scikit-learn estimator.
        features: columns that it reads, in order.
        training_months: months whose rows it was fitted on.
        validation_month: the month that it was judged on, never fitted on.
        config: estimator, parameters, seed and threads.
        metrics: scores on the validation month.
        baseline: the baseline fitted on the same rows, None in a baseline.
        origin: address of the stored version that this was loaded from, empty when it was fitted just now.
        decision: why and by whom it was pinned, empty when it was not.
    """

    name: str
    estimator: Any
    features: tuple[str, ...]
    training_months: tuple[str, ...]
    validation_month: str
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    baseline: Model | None = None
    origin: str = ""
    decision: str = ""

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        """Return the demand of each row, float64, rentals/hour; a negative estimate counts as zero."""
        return self.estimate(inputs(features, self.features)).clip(min=0.0)

    def estimate(self, values: pd.DataFrame) -> np.ndarray:
        """Return what the estimator says of the input columns, with the threads that it was fitted with."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=self.config.get("threads", 1)):
            return self.estimator.predict(values)


def inputs(features: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the model's input: the named columns as float64, missing values as NaN."""
    return features.loc[:, list(names)].astype("float64")


def fit(features: pd.DataFrame, month: str, names: Sequence[str], recipe: Recipe, *, min_training_months: int) -> Model:
    """Fit the model of a month on the rows before the previous month, and judge it on the previous month.

    Args:
        features: DEMAND_FEATURES of earlier months.
        month: the month that it is for, such as 2012-08.
        names: the features that there are.
        recipe: which regressor to fit, and on which of them.
        min_training_months: with fewer months, only the baseline is fitted.

    Raises:
        NothingToDo: there are no rows to fit on, or none to judge on.
        ModelError: there is no such estimator, or it refuses the parameters or the rows.
    """
    months = features["ts"].dt.strftime("%Y-%m")
    held_out = previous_month(month)
    training, validation = features[months < held_out], features[months == held_out]
    if training.empty or validation.empty:
        without = f"before {held_out} to fit on" if training.empty else f"of {held_out} to judge on"
        raise NothingToDo(f"demand_model[{month}] is skipped: there are no rows {without}")
    known = tuple(sorted(set(months[training.index])))
    baseline = Model(BASELINE, _baseline(), BASELINE_FEATURES, known, held_out, {"estimator": BASELINE})
    baseline = _fitted(baseline, training, validation)
    if len(known) < min_training_months:
        return baseline
    model = replace(unfitted(recipe, names), training_months=known, validation_month=held_out, baseline=baseline)
    return _fitted(model, training, validation)


def unfitted(recipe: Recipe, names: Sequence[str]) -> Model:
    """Return the model of a recipe before it is fitted; it reads those of `names` that the recipe does not leave out.

    Raises:
        ModelError: there is no such estimator or feature.
    """
    unknown = [name for name in recipe.without if name not in names]
    if unknown:
        raise ModelError(f"the recipe leaves out {', '.join(unknown)}, but the features are {', '.join(names)}")
    read = tuple(name for name in names if name not in recipe.without)
    return Model(recipe.estimator.rpartition(".")[2], build(recipe), read, (), "", recipe.to_dict())


def build(recipe: Recipe) -> Any:
    """Return the unfitted regressor of a recipe.

    One that cannot take missing values gets imputation by the median and scaling before it.

    Raises:
        ModelError: `estimator` is not a regressor of scikit-learn, or it does not have these parameters.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils import get_tags

    try:
        regressor = _regressor_class(recipe.estimator)(**recipe.parameters)
    except TypeError as error:
        raise ModelError(f"{recipe.estimator} does not take these parameters: {error}") from error
    own = regressor.get_params()
    fixed = {"random_state": recipe.seed, "n_jobs": recipe.threads}
    regressor.set_params(**{key: value for key, value in fixed.items() if key in own and key not in recipe.parameters})
    if not get_tags(regressor).input_tags.allow_nan:
        regressor = make_pipeline(
            SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler(), regressor
        )
    if not recipe.level:
        return regressor
    from bikes_assets.demand.relative import RelativeRegressor

    return RelativeRegressor(regressor, recipe.level)


def _regressor_class(dotted: str) -> Any:
    from sklearn.base import BaseEstimator, RegressorMixin

    module, _, name = dotted.rpartition(".")
    example = "expected a dotted name such as sklearn.ensemble.RandomForestRegressor"
    if not module.startswith("sklearn."):
        raise ModelError(f"found estimator {dotted!r}, {example}")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        near = difflib.get_close_matches(name, dir(importlib.import_module("sklearn.ensemble")), n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ModelError(f"scikit-learn has no {dotted}{hint}") from None
    if not (isinstance(kind, type) and issubclass(kind, RegressorMixin) and issubclass(kind, BaseEstimator)):
        raise ModelError(f"{dotted} is not a regressor, {example}")
    return kind


def previous_month(month: str) -> str:
    """Return the month before, in the form 2012-07."""
    year, number = map(int, month.split("-"))
    return f"{year - 1}-12" if number == 1 else f"{year}-{number - 1:02}"


def _baseline() -> Any:
    """Return the baseline: a tree with one leaf for each hour of the week, which holds that hour's mean demand."""
    from sklearn.tree import DecisionTreeRegressor

    return DecisionTreeRegressor(random_state=0)


def fit_estimator(model: Model, training: pd.DataFrame) -> Model:
    """Fit a model's estimator, in place, on rows of features and target; return the model.

    Raises:
        ModelError: the estimator refuses the rows.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=model.config.get("threads", 1)):
        try:
            model.estimator.fit(inputs(training, model.features), training[TARGET].astype("float64"))
        except ValueError as error:
            raise ModelError(f"{model.name} cannot be fitted: {error}") from error
    return model


def _fitted(model: Model, training: pd.DataFrame, validation: pd.DataFrame) -> Model:
    metrics = scores(validation[TARGET], fit_estimator(model, training).predict(validation))
    if not math.isfinite(metrics["rmse"]):
        raise ModelError(f"{model.name} predicts no finite number for an hour of {model.validation_month}")
    return replace(model, metrics=metrics)


def dump(model: Model) -> bytes:
    """Return a model as a skops file.

    Raises:
        ModelError: the estimator holds a type that the project does not trust, so it could never be loaded.
    """
    import skops.io

    content = skops.io.dumps(state(model))
    unknown = set(skops.io.get_untrusted_types(data=content)) - set(TRUSTED_TYPES)
    if unknown:
        raise ModelError(
            f"{model.name} holds {', '.join(sorted(unknown))}, which is not trusted; choose another estimator, or add it to "
            "demand.model.TRUSTED_TYPES after reading what its code does on load"
        )
    return content


def load(content: bytes, card: dict[str, Any]) -> Model:
    """Return the model of a skops file whose digest was checked, and of its card.

    Raises:
        ModelError: the file holds a type that the project does not trust, or is no skops file; nothing of it was run.
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        parts = skops.io.loads(content, trusted=list(TRUSTED_TYPES))
    except UntrustedTypesFoundException as error:
        raise ModelError(f"{card['name']}: {error}") from error
    except Exception as error:  # a damaged file raises what it likes
        raise ModelError(f"{card['name']}: found no skops file that can be read: {error!r}") from error
    baseline = _from_card(card["baseline"], parts["baseline"], "") if card["baseline"] else None
    return replace(_from_card(card, parts["estimator"], card["origin"]), baseline=baseline)


def card(model: Model) -> dict[str, Any]:
    """Return how a model was fitted, as JSON-ready values."""
    return {
        "name": model.name,
        "features": list(model.features),
        "training_months": list(model.training_months),
        "validation_month": model.validation_month,
        "config": dict(model.config),
        "metrics": dict(model.metrics),
        "baseline": card(model.baseline) if model.baseline else None,
        "origin": model.origin,
        "decision": model.decision,
    }


def state(model: Model) -> dict[str, Any]:
    """Return the fitted parts: what the file holds and what the digest is of."""
    return {"estimator": model.estimator, "baseline": model.baseline.estimator if model.baseline else None}


def estimator(model: Model) -> Any:
    """Return the fitted scikit-learn estimator."""
    return model.estimator


def _from_card(values: dict[str, Any], estimator: Any, origin: str) -> Model:
    return Model(
        values["name"],
        estimator,
        tuple(values["features"]),
        tuple(values["training_months"]),
        values["validation_month"],
        values["config"],
        values["metrics"],
        origin=origin,
        decision=values.get("decision", ""),
    )


def permutation_importance(model: Model, features: pd.DataFrame) -> dict[str, float]:
    """Return how much the RMSE on the validation month grows when a feature is shuffled once, rentals/hour, by feature."""
    import numpy as np

    validation = features[features["ts"].dt.strftime("%Y-%m") == model.validation_month]
    known = inputs(validation, model.features)  # predicted as the metrics are: a negative estimate counts as zero
    order = np.random.default_rng(0).permutation(len(known))
    growth: dict[str, float] = {}
    for name in model.features:
        shuffled = known.assign(**{name: known[name].to_numpy()[order]})
        growth[name] = scores(validation[TARGET], model.predict(shuffled))["rmse"] - model.metrics["rmse"]
    return growth
