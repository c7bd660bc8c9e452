"""The demand model: which months it learns from, which estimator, how it predicts and how its file is written."""

from __future__ import annotations

import difflib
import importlib
import math
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from bikes_assets.core import model_file
from bikes_assets.core.errors import ModelError, NothingToDo
from bikes_assets.demand.evaluation import scores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import pandas as pd

TARGET = "cnt"
BASELINE = "hour_of_week_mean"
BASELINE_FEATURES = ("hour_of_week",)
MIN_TRAINING_MONTHS = 3
"""Fewest training months for a model; with fewer, the baseline serves the month."""

ESTIMATORS = (
    "sklearn.ensemble.AdaBoostRegressor",
    "sklearn.ensemble.BaggingRegressor",
    "sklearn.ensemble.ExtraTreesRegressor",
    "sklearn.ensemble.GradientBoostingRegressor",
    "sklearn.ensemble.HistGradientBoostingRegressor",
    "sklearn.ensemble.RandomForestRegressor",
    "sklearn.linear_model.BayesianRidge",
    "sklearn.linear_model.ElasticNet",
    "sklearn.linear_model.HuberRegressor",
    "sklearn.linear_model.Lasso",
    "sklearn.linear_model.LinearRegression",
    "sklearn.linear_model.PoissonRegressor",
    "sklearn.linear_model.Ridge",
    "sklearn.linear_model.SGDRegressor",
    "sklearn.linear_model.TweedieRegressor",
    "sklearn.neighbors.KNeighborsRegressor",
    "sklearn.neural_network.MLPRegressor",
    "sklearn.svm.LinearSVR",
    "sklearn.svm.SVR",
    "sklearn.tree.DecisionTreeRegressor",
)
"""The regressors that a recipe may name: each is known to fit on the features and to load unchanged from its file."""

TRUSTED_TYPES = (
    "bikes_assets.demand.relative.RelativeRegressor",
    # of a trusted function: the one below, which checks arrays
    "functools.partial",
    "sklearn.utils.validation.check_array",
    # arrays' element types, as an imputer stores them
    "numpy.dtype",
    # estimators and their parts: created without a call, then their attributes are set
    "sklearn.compose._column_transformer.ColumnTransformer",
    "sklearn.dummy.DummyRegressor",
    "sklearn.ensemble._bagging.BaggingRegressor",
    "sklearn.ensemble._forest.ExtraTreesRegressor",
    "sklearn.ensemble._forest.RandomForestRegressor",
    "sklearn.ensemble._gb.GradientBoostingRegressor",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingRegressor",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.ensemble._weight_boosting.AdaBoostRegressor",
    "sklearn.impute._base.SimpleImputer",
    "sklearn.linear_model._base.LinearRegression",
    "sklearn.linear_model._bayes.BayesianRidge",
    "sklearn.linear_model._coordinate_descent.ElasticNet",
    "sklearn.linear_model._coordinate_descent.Lasso",
    "sklearn.linear_model._glm.glm.PoissonRegressor",
    "sklearn.linear_model._glm.glm.TweedieRegressor",
    "sklearn.linear_model._huber.HuberRegressor",
    "sklearn.linear_model._ridge.Ridge",
    "sklearn.linear_model._stochastic_gradient.SGDRegressor",
    "sklearn.neighbors._regression.KNeighborsRegressor",
    "sklearn.neural_network._multilayer_perceptron.MLPRegressor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.pipeline.Pipeline",
    "sklearn.preprocessing._data.StandardScaler",
    "sklearn.preprocessing._encoders.OrdinalEncoder",
    "sklearn.preprocessing._function_transformer.FunctionTransformer",
    "sklearn.svm._classes.LinearSVR",
    "sklearn.svm._classes.SVR",
    "sklearn.tree._classes.DecisionTreeRegressor",
    "sklearn.tree._classes.ExtraTreeRegressor",
    "sklearn.tree._tree.Tree",
    # losses and their links; those of the first group are called with the numbers in the file
    "sklearn._loss._loss.CyAbsoluteError",
    "sklearn._loss._loss.CyHalfPoissonLoss",
    "sklearn._loss._loss.CyHalfSquaredError",
    "sklearn._loss._loss.CyHalfTweedieLoss",
    "sklearn._loss._loss.CyHalfTweedieLossIdentity",
    "sklearn._loss._loss.CyHuberLoss",
    "sklearn._loss._loss.CyPinballLoss",
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogLink",
    "sklearn._loss.loss.AbsoluteError",
    "sklearn._loss.loss.HalfPoissonLoss",
    "sklearn._loss.loss.HalfSquaredError",
    "sklearn._loss.loss.HalfTweedieLoss",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn._loss.loss.HuberLoss",
    "sklearn._loss.loss.PinballLoss",
)
"""All types that a model's file may contain beside plain values: what ESTIMATORS need. It is never read from a file."""


@dataclass(frozen=True)
class Recipe:
    """Which regressor to fit. The defaults were tuned only on the months before 2012-08.

    Attributes:
        estimator: one of ESTIMATORS.
        parameters: its hyperparameters. By default no early stopping: its validation rows would be next to the fitted
            ones.
        level: feature that the target is fitted relative to; "" to fit the target itself.
        without: features that it does not read. Lags in rentals tie trees to the demand seen in training; their
            information is also in the trends, which are relative.
        seed: its random state, if it has one.
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


@dataclass(frozen=True, repr=False)
class Model:
    """A fitted model and how it was fitted.

    Attributes:
        name: class of the estimator, or `hour_of_week_mean` for the baseline.
        estimator: the fitted scikit-learn estimator.
        features: columns that it reads, in order.
        training_months: months whose rows it was fitted on.
        validation_month: the month that it was validated on, and never fitted on.
        config: estimator, parameters, seed and threads.
        metrics: scores on the validation month.
        baseline: the baseline fitted on the same rows, None for a baseline.
        origin: address of the stored version that this was loaded from, empty for a new fit.
        decision: why and by whom it was pinned, empty if it was not.
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

    def __repr__(self) -> str:
        months = f"{self.training_months[0]}..{self.training_months[-1]}" if self.training_months else "no month"
        return (
            f"<Model {self.origin or 'not stored'}: {self.name} of {len(self.features)} features, fitted on {months}>"
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it or its baseline reads."""
        return tuple(dict.fromkeys((*self.features, *(self.baseline.features if self.baseline else ()))))

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        """Return the demand of each row, float64, rentals/hour; a negative estimate counts as zero."""
        return self.estimate(inputs(features, self.features)).clip(min=0.0)

    def estimate(self, values: pd.DataFrame) -> np.ndarray:
        """Return the estimator's predictions for the input columns, with as many threads as it was fitted with."""
        with _threads().limit(limits=self.config.get("threads", 1)):
            return self.estimator.predict(values)


def inputs(features: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the model's input: the named columns as float64, missing values as NaN."""
    return features.loc[:, list(names)].astype("float64")


def fit(
    features: pd.DataFrame,
    month: str,
    names: Sequence[str],
    recipe: Recipe,
    *,
    min_training_months: int,
    say: Callable[[str], object] = lambda _: None,
) -> Model:
    """Fit the model of a month on the rows before the previous month, and validate it on the previous month.

    Args:
        features: DEMAND_FEATURES of earlier months.
        month: the month that it is for, such as 2012-08.
        names: the available features.
        recipe: which regressor to fit, and on which of these features.
        min_training_months: with fewer months, only the baseline is fitted.
        say: called with a line when a fit begins and when it ends.

    Raises:
        NothingToDo: there are no rows to fit on, or none to validate on.
        ModelError: there is no such estimator or feature, or the estimator refuses the parameters or the rows.
    """
    known_names = [name for name in features.columns if name not in ("ts", TARGET)]
    _all_known("features", names, known_names)
    if not names:
        _refuse("features", "[]", f"at least one of {', '.join(known_names)}")
    model = unfitted(recipe, names)
    months = features["ts"].dt.strftime("%Y-%m")
    held_out = previous_month(month)
    training, validation = features[months < held_out], features[months == held_out]
    if training.empty or validation.empty:
        without = f"before {held_out} to fit on" if training.empty else f"of {held_out} to validate on"
        raise NothingToDo(f"demand_model[{month}] is skipped: there are no rows {without}")
    known = tuple(sorted(set(months[training.index])))
    baseline = Model(BASELINE, _baseline(), BASELINE_FEATURES, known, held_out, {"estimator": BASELINE})
    baseline = _fitted(baseline, training, validation)
    if len(known) < min_training_months:
        say(f"{len(known)} of {min_training_months} months to learn from: the baseline alone, {_scored(baseline)}")
        return baseline
    say(f"fitting {model.name} on {known[0]} to {known[-1]}: {len(training):,} rows, {len(model.features)} features")
    begun = time.monotonic()
    model = replace(model, training_months=known, validation_month=held_out, baseline=baseline)
    model = _fitted(model, training, validation)
    say(f"fitted and validated in {time.monotonic() - begun:.1f} s: {_scored(model)}; baseline: {_scored(baseline)}")
    return model


def unfitted(recipe: Recipe, names: Sequence[str]) -> Model:
    """Return the unfitted model of a recipe; it reads those of `names` that the recipe does not leave out.

    Raises:
        ModelError: there is no such estimator, parameter or feature, or no feature is left.
    """
    _all_known("without", recipe.without, names)
    read = tuple(name for name in names if name not in recipe.without)
    if recipe.level:
        _all_known("level", [recipe.level], read)
    if not read:
        _refuse("without", ", ".join(recipe.without), f"fewer than all features: {', '.join(names)}")
    return Model(recipe.estimator.rpartition(".")[2], build(recipe), read, (), "", recipe.to_dict())


def build(recipe: Recipe) -> Any:
    """Return the unfitted regressor of a recipe.

    If it cannot take missing values, it is preceded by imputation of the median and scaling.

    Raises:
        ModelError: `estimator` is not one of ESTIMATORS, or it does not have these parameters.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils import get_tags

    regressor_class = _regressor_class(recipe.estimator)
    _all_known("parameters", list(recipe.parameters), sorted(regressor_class().get_params()))
    regressor = regressor_class(**recipe.parameters)
    own = regressor.get_params()
    fixed: dict[str, Any] = {"random_state": recipe.seed, "n_jobs": recipe.threads}
    if "n_neighbors" in own:
        fixed["algorithm"] = "brute"  # a tree of neighbours counts its queries: each prediction would change the digest
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
    module, _, name = dotted.rpartition(".")
    if dotted not in ESTIMATORS:
        by_name = {known.rpartition(".")[2]: known for known in ESTIMATORS}
        near = difflib.get_close_matches(name, by_name, n=3, cutoff=0.0)
        _refuse(
            "estimator",
            dotted,
            f"one of demand.model.ESTIMATORS, such as {', '.join(by_name[known] for known in near)}",
            "to use another regressor of scikit-learn, add it there, and the types that the tests then name to TRUSTED_TYPES "
            "after reading what their code does on load",
        )
    return getattr(importlib.import_module(module), name)


def _all_known(setting: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Refuse a setting of a recipe that names something unknown, or something twice."""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        _refuse(setting, ", ".join(twice), "each name once")
    if unknown := [name for name in names if name not in known]:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        advice = f"did you mean {near[0]}?" if near else ""
        _refuse(setting, ", ".join(unknown), f"{'one ' if len(unknown) == 1 else ''}of {', '.join(known)}", advice)


def _refuse(setting: str, found: str, expected: str, advice: str = "") -> NoReturn:
    """Refuse a setting of a recipe.

    Raises:
        ModelError: always; it says what was found, what was expected and what to do.
    """
    told = f"{setting}: found {found!r}, expected {expected}" + (f"; {advice}" if advice else "")
    raise ModelError(told, setting=setting, found=found, expected=expected, advice=advice)


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

    A feature without any value is fitted as a constant, on which nothing depends: scikit-learn's histograms need
    values. The level is left unchanged, see `RelativeRegressor`.

    Raises:
        ModelError: the estimator refuses the rows.
    """
    values = inputs(training, model.features)
    level = model.config.get("level")
    values = values.assign(**{name: 0.0 for name in values if name != level and values[name].isna().all()})
    with _threads().limit(limits=model.config.get("threads", 1)):
        try:
            model.estimator.fit(values, training[TARGET].astype("float64"))
        except (TypeError, ValueError) as error:  # scikit-learn validates its parameters in fit
            told = {"setting": "parameters", "found": model.config.get("parameters", {}), "expected": str(error)}
            raise ModelError(f"{model.name} cannot be fitted: {error}", **told) from error
    return model


@cache
def _threads() -> Any:
    """Return the control of numerical libraries' thread pools; finding them takes milliseconds."""
    importlib.import_module("sklearn.ensemble")  # loads the libraries that estimators use
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _fitted(model: Model, training: pd.DataFrame, validation: pd.DataFrame) -> Model:
    metrics = scores(validation[TARGET], fit_estimator(model, training).predict(validation))
    if not math.isfinite(metrics["rmse"]):
        raise ModelError(f"{model.name} predicts no finite number for an hour of {model.validation_month}")
    return replace(model, metrics=metrics)


def _scored(model: Model) -> str:
    scored = ", ".join(
        f"{name} {model.metrics[key]:.{digits}f}" for name, key, digits in (("RMSE", "rmse", 1), ("R2", "r2", 3))
    )
    return f"{scored} on {model.validation_month}"


def dump(model: Model) -> bytes:
    """Return a model as a skops file.

    Raises:
        ModelError: the estimator holds a type that the project does not trust, so it could never be loaded.
    """
    try:
        return model_file.dumps(state(model), TRUSTED_TYPES)
    except ModelError as error:
        raise ModelError(
            f"{model.name}: {error}; choose other parameters or another estimator, or add the type to "
            "demand.model.TRUSTED_TYPES after reading what its code does on load"
        ) from error


def load(content: bytes, card: dict[str, Any]) -> Model:
    """Return the model in a skops file whose digest was verified, and in its card.

    Raises:
        ModelError: the file contains a type that the project does not trust, or is not a skops file; none of it was
            executed.
    """
    try:
        parts = model_file.loads(content, TRUSTED_TYPES)
    except ModelError as error:
        raise ModelError(f"{card['name']}: {error}; restore the file") from error
    baseline = _from_card(card["baseline"], parts["baseline"], "") if card["baseline"] else None
    return replace(_from_card(card, parts["estimator"], card["origin"]), baseline=baseline)


def stored(model: Model, origin: str) -> Model:
    """Return a fitted model as `load` returns it, from the address of the version that it was stored as."""
    return replace(model, origin=origin)


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
    """Return the fitted parts: the content of the file, over which the digest is computed."""
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


def unused(model: Model) -> list[str]:
    """Return the fitted features that a model cannot use: none of its trees, nor of its baseline's, splits on them."""
    from bikes_assets.verification.model_inputs import splits

    used: set[str] = set()
    for part in (model, model.baseline):
        if part:  # an input of no tree is used in another way, such as the level
            counted = splits(part.estimator) or {}
            used.update(name for name in part.features if counted.get(name, 1))
    return [name for name in model.features if name not in used]


def permutation_importance(model: Model, features: pd.DataFrame) -> dict[str, float]:
    """Return the increase of the RMSE on the validation month when a feature is shuffled once, rentals/hour."""
    import numpy as np
    import pandas as pd

    # texts of all rows' months would take longer than the predictions
    months = features["ts"].to_numpy().astype("datetime64[M]")
    validation = features[months == np.datetime64(model.validation_month, "M")]
    known = inputs(validation, model.features)  # clipped as for the metrics: a negative estimate counts as zero
    order = np.random.default_rng(0).permutation(len(known))
    shuffled = pd.concat([known.assign(**{name: known[name].to_numpy()[order]}) for name in model.features])
    said = model.predict(shuffled).reshape(len(model.features), -1)  # one call for all: each call has a fixed cost
    return {
        name: scores(validation[TARGET], part)["rmse"] - model.metrics["rmse"]
        for name, part in zip(model.features, said, strict=True)
    }
