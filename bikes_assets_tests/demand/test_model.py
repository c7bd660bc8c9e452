"""The model: what it is fitted on, that a fit can be repeated, which estimators there are, and what a file may hold."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import LinearRegression

from bikes_assets.core.digest import object_digest
from bikes_assets.core.errors import ModelError, NothingToDo
from bikes_assets.demand.evaluation import scores
from bikes_assets.demand.features import FEATURE_NAMES
from bikes_assets.demand.model import (
    ESTIMATORS,
    TRUSTED_TYPES,
    Model,
    Recipe,
    build,
    card,
    dump,
    estimator,
    fit,
    inputs,
    load,
    permutation_importance,
    previous_month,
    state,
    stored,
)
from bikes_assets_tests.forging import mapping, node, several, text

DEFAULT = Recipe()
QUICK = Recipe(parameters={**DEFAULT.parameters, "max_iter": 10})
RIDGE = Recipe("sklearn.linear_model.Ridge", {"alpha": 1.0})
LAGS = ("demand_lag_24h", "demand_lag_168h")

# Small fits of every regressor, and of those parameters that bring other types into the file
RECIPES: list[tuple[str, dict[str, Any]]] = [
    ("sklearn.ensemble.AdaBoostRegressor", {"n_estimators": 3}),
    ("sklearn.ensemble.BaggingRegressor", {"n_estimators": 3}),
    ("sklearn.ensemble.ExtraTreesRegressor", {"n_estimators": 3}),
    ("sklearn.ensemble.GradientBoostingRegressor", {"n_estimators": 5}),
    ("sklearn.ensemble.GradientBoostingRegressor", {"n_estimators": 5, "loss": "huber"}),
    ("sklearn.ensemble.GradientBoostingRegressor", {"n_estimators": 5, "loss": "quantile"}),
    ("sklearn.ensemble.HistGradientBoostingRegressor", QUICK.parameters),
    ("sklearn.ensemble.HistGradientBoostingRegressor", {"max_iter": 5}),
    ("sklearn.ensemble.HistGradientBoostingRegressor", {"max_iter": 5, "loss": "absolute_error"}),
    ("sklearn.ensemble.HistGradientBoostingRegressor", {"max_iter": 5, "loss": "poisson"}),
    ("sklearn.ensemble.HistGradientBoostingRegressor", {"max_iter": 5, "loss": "quantile", "quantile": 0.5}),
    ("sklearn.ensemble.RandomForestRegressor", {"n_estimators": 3}),
    ("sklearn.linear_model.BayesianRidge", {}),
    ("sklearn.linear_model.ElasticNet", {}),
    ("sklearn.linear_model.HuberRegressor", {"max_iter": 1000}),
    ("sklearn.linear_model.Lasso", {}),
    ("sklearn.linear_model.LinearRegression", {}),
    ("sklearn.linear_model.PoissonRegressor", {"max_iter": 1000}),
    ("sklearn.linear_model.Ridge", {}),
    ("sklearn.linear_model.SGDRegressor", {}),
    ("sklearn.linear_model.TweedieRegressor", {}),
    ("sklearn.linear_model.TweedieRegressor", {"power": 1.5, "max_iter": 1000}),
    ("sklearn.neighbors.KNeighborsRegressor", {}),
    ("sklearn.neural_network.MLPRegressor", {"max_iter": 5}),
    ("sklearn.neural_network.MLPRegressor", {"max_iter": 5, "solver": "sgd"}),
    ("sklearn.svm.LinearSVR", {}),
    ("sklearn.svm.SVR", {}),
    ("sklearn.tree.DecisionTreeRegressor", {}),
]


def fitted(
    features: pd.DataFrame, month: str = "2011-05", recipe: Recipe = QUICK, min_training_months: int = 3
) -> Model:
    return fit(features, month, FEATURE_NAMES, recipe, min_training_months=min_training_months)


def month_of(features: pd.DataFrame) -> pd.Series:
    return features["ts"].dt.strftime("%Y-%m")


def digest(model: Model) -> str:
    return object_digest(state(model))


def named(value: Any) -> str:
    """Return a test's name for a regressor or for its parameters."""
    return value.rpartition(".")[2] if isinstance(value, str) else "-".join(map(str, value.values()))[:40]


def poisoned(features: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """Return features whose chosen rows hold absurd values in all columns that a model may read."""
    numbers = [name for name in features.columns if name != "ts"]
    return features.assign(**{name: features[name].mask(chosen, 77_777) for name in numbers})


class Canary:
    """Leaves a file where it was told to when it is made, by whatever way."""

    def __init__(self, path: str) -> None:
        Path(path).write_text("made")

    def __setstate__(self, state: dict[str, str]) -> None:
        Path(state["path"]).write_text("made")

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path(self.path), "made")


def forged(content: bytes, node: dict[str, Any]) -> bytes:
    """Return a model's file whose schema asks for another estimator."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            written = source.read(name)
            if name == "schema.json":
                schema = json.loads(written)
                schema["content"]["estimator"] = node
                written = json.dumps(schema).encode()
            copy.writestr(name, written)
    return target.getvalue()


@pytest.fixture(scope="module")
def quick(half_year: pd.DataFrame) -> Model:
    """Return the model of 2011-05: fitted on January to March, validation on April."""
    return fitted(half_year)


# What it is fitted on, and validation on


def test_it_is_fitted_before_the_previous_month_and_judged_on_that(quick: Model, half_year: pd.DataFrame) -> None:
    april = half_year[month_of(half_year) == "2011-04"]
    assert quick.name == "HistGradientBoostingRegressor"
    assert quick.training_months == ("2011-01", "2011-02", "2011-03")
    assert quick.validation_month == "2011-04"
    assert quick.metrics == scores(april["cnt"], quick.predict(april))
    assert quick.metrics["rows"] == 719.0
    assert quick.baseline is not None
    assert quick.baseline.training_months == quick.training_months
    assert quick.baseline.validation_month == "2011-04"
    assert quick.baseline.metrics == scores(april["cnt"], quick.baseline.predict(april))


@pytest.mark.parametrize(
    ("poison", "same_model", "same_metrics"),
    [("2011-06", True, True), ("2011-05", True, True), ("2011-04", True, False), ("2011-03", False, False)],
)
def test_later_rows_do_not_reach_the_model(
    quick: Model, half_year: pd.DataFrame, poison: str, same_model: bool, same_metrics: bool
) -> None:
    # Given absurd rows in the month itself, after it, in the month that it is validation on, or in one that it is fitted on
    model = fitted(poisoned(half_year, month_of(half_year) == poison))
    assert (digest(model) == digest(quick)) is same_model
    assert (model.metrics == quick.metrics) is same_metrics


def test_rows_of_the_month_itself_need_not_be_there(quick: Model, half_year: pd.DataFrame) -> None:
    assert digest(fitted(half_year[month_of(half_year) < "2011-05"])) == digest(quick)


@pytest.mark.parametrize(("month", "before"), [("2012-01", "2011-12"), ("2012-10", "2012-09"), ("2012-12", "2012-11")])
def test_the_month_before(month: str, before: str) -> None:
    assert previous_month(month) == before


def test_it_reads_the_features_of_the_recipe(quick: Model) -> None:
    assert quick.features == tuple(name for name in FEATURE_NAMES if name not in LAGS)
    assert quick.config == {
        "estimator": "sklearn.ensemble.HistGradientBoostingRegressor",
        "parameters": {
            "learning_rate": 0.05,
            "max_iter": 10,
            "max_features": 0.5,
            "categorical_features": ["hour_of_week"],
            "early_stopping": False,
        },
        "level": "demand_level_7d",
        "without": ["demand_lag_24h", "demand_lag_168h"],
        "seed": 0,
        "threads": 1,
    }


@pytest.mark.parametrize("without", LAGS)
def test_features_that_it_does_not_read_do_not_count(quick: Model, half_year: pd.DataFrame, without: str) -> None:
    assert digest(fitted(half_year.assign(**{without: half_year["cnt"]}))) == digest(quick)


def test_it_is_better_than_the_baseline(half_year: pd.DataFrame) -> None:
    model = fitted(half_year, "2011-06", DEFAULT)
    assert model.baseline is not None
    assert model.metrics["rmse"] < 0.6 * model.baseline.metrics["rmse"]


# The baseline


def test_with_few_months_there_is_just_the_baseline(half_year: pd.DataFrame) -> None:
    # Given two months to fit on
    model = fitted(half_year, "2011-04")
    assert model.name == "hour_of_week_mean"
    assert model.features == ("hour_of_week",)
    assert model.training_months == ("2011-01", "2011-02")
    assert model.validation_month == "2011-03"
    assert model.config == {"estimator": "hour_of_week_mean"}
    assert model.baseline is None
    assert fitted(half_year, "2011-04", min_training_months=2).name == "HistGradientBoostingRegressor"


def test_the_baseline_is_the_mean_by_hour_of_the_week(half_year: pd.DataFrame) -> None:
    model = fitted(half_year, "2011-04")
    rented: dict[tuple[str, int], list[int]] = {}
    for ts, cnt in zip(half_year["ts"], half_year["cnt"], strict=True):
        if ts < pd.Timestamp("2011-03-01"):
            rented.setdefault((ts.day_name(), ts.hour), []).append(cnt)
    march = half_year[month_of(half_year) == "2011-03"]
    expected = [sum(rented[ts.day_name(), ts.hour]) / len(rented[ts.day_name(), ts.hour]) for ts in march["ts"]]
    assert len(rented) == 168
    assert model.predict(march) == pytest.approx(expected, rel=1e-9)


# Nothing to do


@pytest.mark.parametrize(
    ("month", "reason"),
    [
        ("2011-01", "demand_model[2011-01] is skipped: there are no rows before 2010-12 to fit on"),
        ("2011-02", "demand_model[2011-02] is skipped: there are no rows before 2011-01 to fit on"),
        ("2011-08", "demand_model[2011-08] is skipped: there are no rows of 2011-07 to validate on"),
    ],
)
def test_without_rows_there_is_nothing_to_do(half_year: pd.DataFrame, month: str, reason: str) -> None:
    with pytest.raises(NothingToDo) as error:
        fitted(half_year, month)
    assert str(error.value) == reason


def test_an_empty_table_is_nothing_to_do(half_year: pd.DataFrame) -> None:
    with pytest.raises(NothingToDo, match="no rows before 2011-04 to fit on"):
        fitted(half_year.iloc[:0])


# A fit can be repeated


def test_the_same_seed_makes_the_same_model(quick: Model, half_year: pd.DataFrame) -> None:
    assert digest(fitted(half_year)) == digest(quick)


@pytest.mark.parametrize(
    "recipe", [QUICK, Recipe("sklearn.ensemble.ExtraTreesRegressor", {"n_estimators": 3})], ids=["boosting", "trees"]
)
def test_another_seed_makes_another_model(half_year: pd.DataFrame, recipe: Recipe) -> None:
    one, other = (fitted(half_year, recipe=replace(recipe, seed=seed)) for seed in (0, 1))
    assert digest(one) != digest(other)
    assert (one.predict(half_year) != other.predict(half_year)).any()
    assert digest(fitted(half_year, recipe=replace(recipe, seed=1))) == digest(other)


def test_a_seed_among_the_parameters_goes_before_the_recipes() -> None:
    assert build(replace(QUICK, level="")).random_state == 0
    assert build(replace(QUICK, level="", parameters={"random_state": 7})).random_state == 7


def test_threads_make_the_same_trees(half_year: pd.DataFrame) -> None:
    # Given a fit with one thread and one with two, which scikit-learn keeps note of in the bin mapper alone
    one, two = (fitted(half_year, recipe=replace(QUICK, threads=threads)) for threads in (1, 2))
    assert (one.predict(half_year) == two.predict(half_year)).all()
    assert object_digest(one.estimator.regressor_._predictors) == object_digest(two.estimator.regressor_._predictors)
    assert one.metrics == two.metrics
    mappers = [model.estimator.regressor_._bin_mapper for model in (one, two)]
    assert [mapper.n_threads for mapper in mappers] == [1, 2]
    assert digest(one) != digest(two)
    mappers[1].n_threads = 1
    assert digest(one) == digest(two)


# Estimators


@pytest.mark.parametrize("level", ["demand_level_7d", ""])
@pytest.mark.parametrize(("name", "parameters"), RECIPES, ids=named)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_any_regressor_comes_back_from_its_file(
    half_year: pd.DataFrame, name: str, parameters: dict[str, Any], level: str
) -> None:
    rows = half_year[half_year["ts"] < "2011-05"]
    model = fitted(rows, recipe=Recipe(name, parameters, level))
    before = digest(model)
    loaded = load(dump(model), json.loads(json.dumps(card(model))))
    assert loaded.name == name.rpartition(".")[2]
    assert loaded == replace(stored(model, ""), estimator=loaded.estimator, baseline=loaded.baseline)
    assert loaded.baseline is not None
    assert model.baseline is not None
    assert loaded.baseline == replace(model.baseline, estimator=loaded.baseline.estimator)
    assert digest(loaded) == digest(model)
    assert (loaded.predict(half_year) == model.predict(half_year)).all()
    assert (loaded.baseline.predict(half_year) == model.baseline.predict(half_year)).all()
    assert np.isfinite(model.predict(half_year)).all()
    assert digest(model) == digest(loaded) == before  # predictions leave no trace in it


def test_each_listed_regressor_is_among_them() -> None:
    assert {name for name, _ in RECIPES} == set(ESTIMATORS)
    assert len(ESTIMATORS) == 20


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_each_trusted_type_is_needed_by_one_of_them(half_year: pd.DataFrame) -> None:
    rows = half_year[half_year["ts"] < "2011-05"]
    held = set()
    for name, parameters in RECIPES:
        content = dump(fitted(rows, recipe=Recipe(name, parameters)))
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            held |= names(json.loads(archive.read("schema.json")))
    assert set(TRUSTED_TYPES) <= held
    assert {name for name in held - set(TRUSTED_TYPES) if not name.startswith(("builtins.", "numpy."))} == set()


def names(schema: Any) -> set[str]:
    """Return the names of all types and functions in a file."""
    if isinstance(schema, list):
        return set().union(*map(names, schema))
    if not isinstance(schema, dict):
        return set()
    own = {f"{schema['__module__']}.{schema['__class__']}"} if "__class__" in schema else set()
    return own.union(*map(names, schema.values()))


def test_a_baseline_comes_back_from_its_file(half_year: pd.DataFrame) -> None:
    model = replace(fitted(half_year, "2011-04"), origin="demand_model[2011-04]@3", decision="calm week (ann)")
    loaded = load(dump(model), card(model))
    assert loaded == replace(model, estimator=loaded.estimator)
    assert digest(loaded) == digest(model)


def test_the_estimator_of_a_model_is_at_hand(quick: Model) -> None:
    assert estimator(quick) is quick.estimator


def test_missing_values_are_given_to_those_that_take_them_and_filled_for_the_others() -> None:
    assert type(build(replace(QUICK, level=""))).__name__ == "HistGradientBoostingRegressor"
    steps = [type(step).__name__ for _, step in build(replace(RIDGE, level="")).steps]
    assert steps == ["SimpleImputer", "StandardScaler", "Ridge"]


def test_inputs_are_floats_in_the_models_order(half_year: pd.DataFrame) -> None:
    frame = inputs(half_year.head(30), ("demand_lag_24h", "hour_of_day"))
    assert frame.columns.tolist() == ["demand_lag_24h", "hour_of_day"]
    assert [str(kind) for kind in frame.dtypes] == ["float64", "float64"]
    assert np.isnan(frame["demand_lag_24h"].iloc[0])
    assert frame["demand_lag_24h"].iloc[-1] == 2.0


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            Recipe("sklearn.ensemble.RandomForestRegresor"),
            "estimator: found 'sklearn.ensemble.RandomForestRegresor', expected one of demand.model.ESTIMATORS, such as "
            "sklearn.ensemble.RandomForestRegressor, ",
        ),
        (
            Recipe("Ridge"),
            "estimator: found 'Ridge', expected one of demand.model.ESTIMATORS, such as ",
        ),
        (Recipe("sklearn.linear_model.RidgeCV"), "estimator: found 'sklearn.linear_model.RidgeCV', expected one of "),
        (Recipe("sklearn.base.clone"), "estimator: found 'sklearn.base.clone', expected one of "),
        (Recipe("os.system"), "estimator: found 'os.system', expected one of "),
        (Recipe(""), "estimator: found '', expected one of "),
        (
            Recipe("sklearn.linear_model.Ridge", {"depth": 3}),
            "parameters: found 'depth', expected one of alpha, copy_X, fit_intercept, ",
        ),
        (
            Recipe(parameters={"max_itr": 5, "learning_rat": 0.1}),
            "parameters: found 'max_itr, learning_rat', expected of categorical_features, early_stopping, ",
        ),
        (Recipe("sklearn.linear_model.Ridge", {"alpha": -1.0}), "Ridge cannot be fitted: The 'alpha' parameter"),
        (
            replace(QUICK, level="demand_level_9d"),
            "level: found 'demand_level_9d', expected one of hour_of_day",
        ),
        (
            replace(QUICK, without=("demand_level_7d",)),
            "level: found 'demand_level_7d', expected one of hour_of_day, ",
        ),
        (replace(QUICK, without=("temprature",)), "without: found 'temprature', expected one of hour_of_day, "),
        (replace(QUICK, level="", without=FEATURE_NAMES), "without: found 'hour_of_day, "),
        (
            replace(QUICK, parameters={"categorical_features": ["hour_of_wek"]}),
            "HistGradientBoostingRegressor cannot be fitted: ",
        ),
        (
            replace(QUICK, parameters={"max_iter": "ten"}),
            "HistGradientBoostingRegressor cannot be fitted: The 'max_iter' parameter",
        ),
        (
            Recipe("sklearn.ensemble.GradientBoostingRegressor", {"n_estimators": 1, "learning_rate": 1e308}),
            "GradientBoostingRegressor predicts no finite number for an hour of 2011-04",
        ),
    ],
    ids=lambda value: value.estimator if isinstance(value, Recipe) else "",
)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_a_wrong_recipe_is_named(half_year: pd.DataFrame, recipe: Recipe, message: str) -> None:
    with pytest.raises(ModelError) as error:
        fitted(half_year, recipe=recipe)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("recipe", "details"),
    [
        (Recipe("Rigde"), {"setting": "estimator", "found": "Rigde"}),
        (
            replace(QUICK, without=("temprature",)),
            {"setting": "without", "found": "temprature", "advice": "did you mean temperature?"},
        ),
    ],
    ids=["estimator", "feature"],
)
def test_a_typo_is_told_in_parts_in_the_first_month_too(
    half_year: pd.DataFrame, recipe: Recipe, details: dict[str, str]
) -> None:
    # Given a month with too little history for anything but the baseline
    with pytest.raises(ModelError) as error:
        fit(half_year, "2011-03", FEATURE_NAMES, recipe, min_training_months=3)
    assert {**error.value.details, **details} == error.value.details
    assert error.value.details["expected"]


def test_a_feature_that_does_not_exist_is_named(half_year: pd.DataFrame) -> None:
    with pytest.raises(
        ModelError, match=r"features: found 'humidty', expected one of hour_of_day, .*; did you mean humidity\?"
    ):
        fit(half_year, "2011-05", [*FEATURE_NAMES, "humidty"], QUICK, min_training_months=3)


@pytest.mark.parametrize(
    ("names", "without", "message"),
    [
        ([], (), "features: found '[]', expected at least one of hour_of_day, "),
        (["hour_of_day", "humidity", "hour_of_day"], (), "features: found 'hour_of_day', expected each name once"),
        (["humidity", "x", "humidity"], (), "features: found 'humidity', expected each name once"),
        (FEATURE_NAMES, ("humidity", "humidity"), "without: found 'humidity', expected each name once"),
    ],
)
def test_no_features_and_features_that_are_named_twice_are_refused(
    half_year: pd.DataFrame, names: list[str], without: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ModelError) as error:
        fit(half_year, "2011-05", names, replace(QUICK, without=without), min_training_months=3)
    assert str(error.value).startswith(message)


def test_a_fit_says_when_it_begins_and_ends(half_year: pd.DataFrame) -> None:
    lines: list[str] = []
    model = fit(half_year, "2011-06", FEATURE_NAMES, QUICK, min_training_months=3, say=lines.append)
    begun, ended = lines
    assert re.fullmatch(
        r"fitting HistGradientBoostingRegressor on 2011-01 to 2011-04: 2,\d{3} rows, \d+ features", begun
    )
    assert re.fullmatch(
        r"fitted and validated in \d+\.\d s: RMSE [\d.]+, R2 [\d.-]+ on 2011-05; baseline: RMSE .*", ended
    )
    assert f"RMSE {model.metrics['rmse']:.1f}" in ended

    fit(half_year, "2011-03", FEATURE_NAMES, QUICK, min_training_months=3, say=lines.append)
    assert lines[2].startswith("1 of 3 months to learn from: the baseline alone, RMSE ")


# What a file may hold


def test_an_estimator_that_could_not_be_loaded_is_not_stored(half_year: pd.DataFrame) -> None:
    model = fitted(half_year, recipe=Recipe("sklearn.neighbors.KNeighborsRegressor", {"algorithm": "kd_tree"}))
    with pytest.raises(ModelError) as error:
        dump(model)
    assert str(error.value) == (
        "KNeighborsRegressor: found sklearn.metrics._dist_metrics.EuclideanDistance64 as ObjectNode, "
        "sklearn.neighbors._kd_tree.KDTree as ObjectNode, which is not among the types that are trusted; choose other "
        "parameters or another estimator, or add the type to demand.model.TRUSTED_TYPES after reading what its code does on load"
    )


def test_who_wants_another_estimator_is_told_what_to_do() -> None:
    with pytest.raises(ModelError) as error:
        build(Recipe("sklearn.linear_model.RidgeCV", {}))
    assert str(error.value) == (
        "estimator: found 'sklearn.linear_model.RidgeCV', expected one of demand.model.ESTIMATORS, such as "
        "sklearn.linear_model.Ridge, sklearn.linear_model.BayesianRidge, sklearn.svm.LinearSVR; to use another "
        "regressor of scikit-learn, add it there, and the types that the tests then name to TRUSTED_TYPES after reading what "
        "their code does on load"
    )


def canary_by_constructor(path: str) -> dict[str, Any]:
    return node(f"{__name__}.Canary", "ConstructorFromReduceNode", content=several("tuple", text(path)))


def canary_by_state(path: str) -> dict[str, Any]:
    return node(f"{__name__}.Canary", "ObjectNode", content=mapping(path=text(path)))


FORGERIES: dict[str, tuple[Callable[[str], dict[str, Any]], str]] = {
    "constructor": (canary_by_constructor, "Canary"),
    "state": (canary_by_state, "Canary"),
    "inside a list": (lambda path: several("list", canary_by_constructor(path)), "Canary"),
    "inside a trusted type": (
        lambda path: node(
            "bikes_assets.demand.relative.RelativeRegressor",
            "ObjectNode",
            content=mapping(regressor=canary_by_state(path)),
        ),
        "Canary",
    ),
    "shell": (lambda _: node("os.system", "FunctionNode"), "os.system"),
    "shell, as a call": (
        lambda path: node("os.system", "ConstructorFromReduceNode", content=several("tuple", text(f"touch {path}"))),
        "os.system",
    ),
    "shell, by a trusted partial": (
        lambda path: node(
            "functools.partial",
            "PartialNode",
            content={
                "func": node("os.system", "FunctionNode"),
                "args": several("tuple", text(f"touch {path}")),
                "kwds": mapping(),
                "namespace": text(""),
            },
        ),
        "os.system",
    ),
    "trusted function, called": (
        lambda path: node(
            "sklearn.utils.validation.check_array", "ConstructorFromReduceNode", content=several("tuple", text(path))
        ),
        "sklearn.utils.validation.check_array as ConstructorFromReduceNode",
    ),
    "trusted function, as a loss": (
        lambda path: node(
            "sklearn.utils.validation.check_array",
            "LossNode",
            content=mapping(),
            __reduce__={"args": several("tuple", text(path))},
        ),
        "sklearn.utils.validation.check_array as LossNode",
    ),
    "trusted type under another loader": (
        lambda path: node(
            "numpy.dtype",
            "DefaultDictNode",
            content={"main": mapping(path=text(path)), "default_factory": node("os.system", "FunctionNode")},
        ),
        "os.system",
    ),
    "method": (
        lambda _: node("numpy.ndarray", "MethodNode", content={"func": "tofile", "obj": text("x")}),
        "numpy.ndarray as MethodNode",
    ),
    "type that skops trusts": (
        lambda _: node("sklearn.feature_extraction.text.CountVectorizer", "ObjectNode", content=mapping()),
        "CountVectorizer",
    ),
    "sparse matrix": (
        lambda _: node("scipy.sparse._matrix.spmatrix", "SparseMatrixNode", type="scipy", file="schema.json"),
        "scipy.sparse._matrix.spmatrix",
    ),
    "loader of another protocol": (
        lambda _: node("os.system", "CachedNode"),
        "os.system as CachedNode",
    ),
    "operator": (
        lambda _: node("operator.methodcaller", "OperatorFuncNode", attrs=several("tuple", text("write_text"))),
        "operator.methodcaller",
    ),
}


@pytest.mark.parametrize("way", [canary_by_constructor, canary_by_state])
def test_the_canary_sings_where_it_is_trusted(quick: Model, tmp_path: Path, way: Callable[[str], Any]) -> None:
    # Given a forged file, and a reader that trusts what it asks for: the tests below can fail
    content = forged(dump(quick), way(str(tmp_path / "canary")))
    skops.io.loads(content, trusted=[*TRUSTED_TYPES, f"{__name__}.Canary"])
    assert (tmp_path / "canary").read_text() == "made"


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_file_is_refused_and_nothing_of_it_runs(quick: Model, tmp_path: Path, forgery: str) -> None:
    make, culprit = FORGERIES[forgery]
    with pytest.raises(
        ModelError, match=r"^HistGradientBoostingRegressor: found .*, which is not among the types that are trusted"
    ) as error:
        load(forged(dump(quick), make(str(tmp_path / "canary"))), card(quick))
    assert culprit in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_module_is_not_imported_for_a_forged_file(
    quick: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a module that leaves a file when it is imported
    (tmp_path / "singing.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')\nclass Bird: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=r"singing\.Bird"):
        load(forged(dump(quick), node("singing.Bird", "ObjectNode")), card(quick))
    assert not (tmp_path / "canary").exists()


def pickled(path: Path) -> bytes:
    canary = Canary.__new__(Canary)
    canary.path = str(path)
    return pickle.dumps(canary)


def test_a_pickle_is_refused_and_not_run(quick: Model, tmp_path: Path) -> None:
    content = pickled(tmp_path / "canary")
    pickle.loads(content)
    (tmp_path / "canary").unlink()
    with pytest.raises(ModelError, match="HistGradientBoostingRegressor: found no skops file that can be read"):
        load(content, card(quick))
    assert not (tmp_path / "canary").exists()


def test_a_pickle_in_the_place_of_an_array_is_not_run(quick: Model, tmp_path: Path) -> None:
    # Given a file whose arrays are objects, which NumPy would read by pickle
    canary = Canary.__new__(Canary)
    canary.path = str(tmp_path / "canary")
    array, target = io.BytesIO(), io.BytesIO()
    np.save(array, np.array([canary], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(io.BytesIO(dump(quick))) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            copy.writestr(name, array.getvalue() if name.endswith(".npy") else source.read(name))
    with pytest.raises(ModelError, match=r"found no skops file that can be read: .*allow_pickle=False"):
        load(target.getvalue(), card(quick))
    assert not (tmp_path / "canary").exists()


def empty_zip() -> bytes:
    target = io.BytesIO()
    zipfile.ZipFile(target, "w").close()
    return target.getvalue()


@pytest.mark.parametrize("damage", ["nothing", "first half", "no schema", "another zip", "unknown type"])
def test_a_damaged_file_is_named(quick: Model, damage: str) -> None:
    content = dump(quick)
    broken = {
        "nothing": b"",
        "first half": content[: len(content) // 2],
        "no schema": empty_zip(),
        "another zip": forged(content, {"content": "no node"}),
        "unknown type": forged(content, node("sklearn.linear_model.Nowhere", "ObjectNode")),
    }
    with pytest.raises(ModelError, match=r"^HistGradientBoostingRegressor: "):
        load(broken[damage], card(quick))


def test_the_trusted_types_are_a_list_of_their_own() -> None:
    assert isinstance(TRUSTED_TYPES, tuple)
    assert not [
        name for name in TRUSTED_TYPES if name.startswith(("os", "posix", "subprocess", "builtins", "operator"))
    ]


# Predictions


def test_a_negative_estimate_counts_as_zero() -> None:
    line = LinearRegression().fit(pd.DataFrame({"x": [0.0, 1.0]}), [1.0, 3.0])
    model = Model("line", line, ("x",), ("2011-01",), "2011-02")
    rows = pd.DataFrame({"x": [-2, -1, 0, 2], "other": [1, 1, 1, 1]})
    assert model.predict(rows) == pytest.approx([0.0, 0.0, 1.0, 5.0])
    assert line.predict(rows[["x"]].astype("float64"))[0] == pytest.approx(-3.0)
    assert model.predict(rows).dtype == np.float64


# Importance


def test_each_feature_has_an_importance(quick: Model, half_year: pd.DataFrame) -> None:
    growth = permutation_importance(quick, half_year)
    assert tuple(growth) == quick.features
    assert max(growth, key=lambda name: growth[name]) == "hour_of_week"
    assert permutation_importance(quick, half_year) == growth


def test_importance_is_the_growth_of_the_error_and_none_for_a_feature_that_is_not_used() -> None:
    # Given y = max(0, 2 x - 40), whatever z is: the line falls below zero for half of the rows
    hours = pd.date_range("2011-02-01", periods=40, freq="h", unit="us")
    rows = pd.DataFrame(
        {"ts": hours, "x": range(40), "z": [7, -3] * 20, "cnt": [max(0, 2 * x - 40) for x in range(40)]}
    )
    line = LinearRegression().fit(pd.DataFrame({"x": [0.0, 1.0], "z": [0.0, 0.0]}), [-40.0, -38.0])
    model = Model("line", line, ("x", "z"), ("2011-01",), "2011-02")
    validation = replace(model, metrics=scores(rows["cnt"], model.predict(rows)))
    assert validation.metrics["rmse"] == pytest.approx(0.0, abs=1e-9)
    growth = permutation_importance(validation, rows)
    order = np.random.default_rng(0).permutation(40)
    error = rows["cnt"].to_numpy()[order] - rows["cnt"].to_numpy()
    assert growth["x"] == pytest.approx(float(np.sqrt((error**2).mean())))
    assert growth["x"] > 10
    assert growth["z"] == pytest.approx(0.0, abs=1e-9)
