"""Any scikit-learn estimator is stored without a type being named, and the list that allows it is closed."""

from __future__ import annotations

import inspect
import io
import json
import subprocess
import sys
import warnings
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from scipy.sparse import csr_matrix, issparse
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest, mutual_info_regression
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, SplineTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn.utils._test_common.instance_generator import _construct_instances
from sklearn.utils.discovery import all_estimators

from bikes_assets.core import model_file
from bikes_assets.core.digest import object_digest
from bikes_assets.core.errors import ModelError, UntrustedError
from bikes_assets.storage.estimators import EstimatorTypes
from bikes_assets.storage.lake import ModelFormat
from bikes_assets_tests.forging import mapping, node, several, skops_file, text

FORMAT = ModelFormat.of_estimators()
RANDOM = np.random.default_rng(0)
X = np.abs(RANDOM.normal(size=(60, 4)))
NUMBER = X @ [1.0, 2.0, 3.0, 4.0] + RANDOM.normal(size=60)
KIND = (np.median(NUMBER) < NUMBER).astype(int)
TABLES: tuple[tuple[Any, ...], ...] = (
    (X, KIND),
    (X, NUMBER),
    (X, np.c_[KIND, 1 - KIND]),
    (X, np.c_[NUMBER, NUMBER]),
    (X[:, 0], NUMBER),
    (X @ X.T, KIND),
    (KIND,),
    (np.c_[KIND, 1 - KIND],),
    ([{"a": 1, "b": 2}] * 60,),
    (["calm week", "rain"] * 30,),
    (RANDOM.normal(size=(3, 12, 12)),),
)
"""One of these suits any estimator: classes, numbers, several outputs, a curve, a kernel, labels, mappings, texts, images."""

ESTIMATORS = dict(all_estimators())
UNFIT = {"FrozenEstimator", "SparseCoder"}
"""Those that are given what is fitted, and that scikit-learn's own tests cannot build."""
LAZY = {"LabelPropagation", "LabelSpreading", "SpectralEmbedding"}
"""They hold sparse matrices, which note what was asked of them: the digest tells one that was asked from one that was not."""
REFUSED = {"Birch": "Birch cannot be written as a skops file: Objects of type Birch are not supported yet."}
"""Those that skops does not write."""


def fitted(estimator: Any) -> tuple[Any, Any]:
    """Return an estimator that was fitted to the first table that suits it, and that table."""
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=0)
    for table in TABLES:
        try:
            model = estimator.fit(*table)
            answers(model, table[0])
        except Exception:  # noqa: BLE001 - whatever it has against the table
            continue
        return clone(estimator).fit(*table), table[0]  # one that was asked nothing
    raise AssertionError(f"no table suits {estimator}")


def answers(model: Any, table: Any) -> list[Any]:
    """Return all that a model makes of a table."""
    made = [getattr(model, name)(table) for name in ("predict", "predict_proba", "transform") if hasattr(model, name)]
    flat = [part for one in made for part in (one if isinstance(one, tuple | list) else [one])]
    return [
        np.asarray(item) for part in flat for item in ((*part.tocoo().coords, part.data) if issparse(part) else [part])
    ]


def assert_equal(one: Any, other: Any) -> None:
    """Compare answers; numbers to 12 digits, for BLAS sums what lies elsewhere in memory in another order."""
    compare = (
        partial(np.testing.assert_allclose, rtol=1e-12) if one.dtype.kind == "f" else np.testing.assert_array_equal
    )
    compare(one, other)


def test_the_property_is_about_all_of_scikit_learn() -> None:
    assert len(ESTIMATORS) > 200
    assert sum(issubclass(kind, ClassifierMixin | RegressorMixin) for kind in ESTIMATORS.values()) > 95
    assert REFUSED.keys() | UNFIT <= ESTIMATORS.keys()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(ESTIMATORS.keys() - UNFIT))
def test_an_estimator_comes_back_from_its_file_or_is_refused_by_name(name: str) -> None:
    for estimator in _construct_instances(ESTIMATORS[name]):
        model, table = fitted(estimator)
        if name in REFUSED:
            with pytest.raises(ModelError) as error:
                FORMAT.dump(model)
            assert str(error.value) == REFUSED[name]
            continue
        before = object_digest(model)
        loaded = FORMAT.load(FORMAT.dump(model), {})
        assert type(loaded) is type(model)
        assert object_digest(loaded) == before or name in LAZY
        for one, other in zip(answers(model, table), answers(loaded, table), strict=True):
            assert_equal(one, other)


ROWS = pd.DataFrame({"kind": ["a", "b", "c"] * 20, "x": X[:, 0], "y": X[:, 1]})
TEXTS = ["calm week", "rain and snow", "sun"] * 20
COLUMNS = ColumnTransformer(
    [("kind", OneHotEncoder(), ["kind"]), ("spline", SplineTransformer(), ["x"]), ("scaled", StandardScaler(), ["y"])]
)
PIPELINES: dict[str, tuple[Any, Any, Any]] = {
    "columns": (Pipeline([("columns", COLUMNS), ("ridge", Ridge())]), ROWS, NUMBER),
    "categories": (HistGradientBoostingRegressor(max_iter=5), ROWS.astype({"kind": "category"}), NUMBER),
    "ufunc": (make_pipeline(FunctionTransformer(np.log1p), Ridge()), X, NUMBER),
    "scores": (make_pipeline(SelectKBest(mutual_info_regression, k=2), Ridge()), X, NUMBER),
    "search": (GridSearchCV(make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": [1.0, 2.0]}), X, NUMBER),
    "texts": (make_pipeline(TfidfVectorizer(stop_words="english"), LogisticRegression()), TEXTS, KIND),
    "sparse": (make_pipeline(TfidfVectorizer(), SVC()), TEXTS, KIND),
}


@pytest.mark.parametrize("how", PIPELINES)
def test_a_pipeline_comes_back_from_its_file(how: str) -> None:
    estimator, table, target = PIPELINES[how]
    model = estimator.fit(table, target)
    np.testing.assert_array_equal(FORMAT.load(FORMAT.dump(model), {}).predict(table), model.predict(table))


def doubled(values: Any) -> Any:
    return values * 2


class Mean(RegressorMixin, BaseEstimator):
    """An estimator of other people."""

    def fit(self, X: Any, y: Any) -> Mean:  # noqa: ARG002 - as scikit-learn calls it
        self.mean_ = float(np.mean(y))
        return self

    def predict(self, X: Any) -> Any:
        return np.full(len(X), self.mean_)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (make_pipeline(StandardScaler(), Mean()), Mean),
        (make_pipeline(FunctionTransformer(doubled), Ridge()), doubled),
        (make_pipeline(FunctionTransformer(partial(doubled)), Ridge()), doubled),
    ],
)
def test_what_is_of_others_is_named_as_itself_or_by_its_name(model: Any, named: Any) -> None:
    model.fit(X, NUMBER)
    with pytest.raises(UntrustedError, match=rf"^Pipeline: found {__name__}.{named.__name__} as .*of_estimators"):
        FORMAT.dump(model)
    for way in (named, f"{__name__}.{named.__name__}"):
        own = ModelFormat.of_estimators(way)
        np.testing.assert_array_equal(own.load(own.dump(model), {}).predict(X), model.predict(X))
    with pytest.raises(UntrustedError, match=f"found {__name__}.{named.__name__} as "):
        FORMAT.load(own.dump(model), {})


@pytest.mark.parametrize("name", ["nowhere.Model", "sklearn.linear_model.Rigde", "Ridge", ""])
def test_a_name_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=f"found no {name!r} .* expected a class by its dotted name"):
        ModelFormat.of_estimators(name).dump(Ridge())


def test_a_class_of_the_script_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mean, "__module__", "__main__")
    with pytest.raises(
        ModelError, match="Mean: found a class or function of the script itself, expected one of a module"
    ):
        ModelFormat.of_estimators(Mean).dump(Ridge())


def test_a_search_over_distributions_is_refused_with_what_to_store_instead() -> None:
    # SciPy's distributions execute texts that they hold when they are built again
    search = RandomizedSearchCV(Ridge(), {"alpha": scipy.stats.uniform()}, n_iter=2).fit(X, NUMBER)
    with pytest.raises(
        ModelError, match=r"^RandomizedSearchCV: found scipy\.stats\..*such as a search's best estimator$"
    ):
        FORMAT.dump(search)
    FORMAT.dump(search.best_estimator_)


# The list


def test_asking_for_a_format_imports_no_scikit_learn() -> None:
    code = (
        "import sys; from bikes_assets.storage.lake import ModelFormat\n"
        "ModelFormat.of_estimators('sklearn.linear_model.Ridge'); print('sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def found(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(__import__(module, fromlist=[attribute]), attribute, None)


def test_the_list_holds_scikit_learn_and_ufuncs_and_few_other_names() -> None:
    others = {
        name for name in EstimatorTypes() if not name.startswith("sklearn.") and not isinstance(found(name), np.ufunc)
    }
    assert others == {
        "functools.partial",
        "numpy.dtype",
        "numpy.mean",
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
        "scipy.interpolate._bsplines.BSpline",
        *(name for name in EstimatorTypes() if name.startswith("scipy.sparse._")),
    }
    assert sum(name.startswith("scipy.sparse.") for name in others) == 10


def test_what_runs_when_a_listed_class_is_built_was_looked_at() -> None:
    # A file sets attributes through these; a new one in scikit-learn has to be read before it is let in
    hooks = {
        f"{kind.__module__}.{kind.__qualname__}.{hook}"
        for kind in map(found, EstimatorTypes())
        if isinstance(kind, type)
        for hook in ("__new__", "__setstate__", "__setattr__", "__del__", "__init_subclass__")
        if inspect.isfunction(vars(kind).get(hook))
    }
    assert hooks == {
        "scipy.sparse._coo.coo_matrix.__setstate__",  # renames
        "sklearn.base.BaseEstimator.__setstate__",  # compares versions
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor.__setstate__",  # casts arrays
        "sklearn.ensemble._hist_gradient_boosting.common.MonotonicConstraint.__new__",  # of an enumeration
        "sklearn.isotonic.IsotonicRegression.__setstate__",  # interpolates
        "sklearn.linear_model._passive_aggressive.PassiveAggressiveClassifier.__new__",  # warns
        "sklearn.linear_model._passive_aggressive.PassiveAggressiveRegressor.__new__",
        "sklearn.utils._bunch.Bunch.__setattr__",  # an item
        "sklearn.utils._bunch.Bunch.__setstate__",  # nothing
    }


def test_the_listed_functions_work_on_numbers_alone() -> None:
    homes = {
        name.rpartition(".")[0].removeprefix("sklearn.").partition(".")[0]
        for name in EstimatorTypes()
        if name.startswith("sklearn.") and inspect.isroutine(found(name))
    }
    assert homes == {"cluster", "feature_selection", "metrics", "utils"}
    for name in ("sklearn.pipeline._fit_one", "sklearn.model_selection._validation.cross_val_predict"):
        assert inspect.isfunction(found(name))
        assert name not in EstimatorTypes()  # they fit
    assert not [
        name for name in EstimatorTypes() if name.startswith(("sklearn.datasets", "sklearn.externals", "scipy.stats"))
    ]


# Attacks that only a list this long allows


def estimator(kind: str, **attributes: dict[str, Any]) -> dict[str, Any]:
    return node(kind, "ObjectNode", content=mapping(**attributes))


def cached(place: dict[str, Any]) -> dict[str, Any]:
    return estimator("sklearn.pipeline.Pipeline", steps=several("list"), memory=place)


NONE = node("builtins.str", "JsonNode", content="null", is_json=True)
FUNCTION = node("numpy.log1p", "FunctionNode")
TYPE = node("builtins.str", "TypeNode")
KEYS = "found keys of a mapping that are built by a call, expected plain types"
CACHE = "found 'memory': a cache of joblib, whose files are pickles, expected None"


@pytest.mark.parametrize(
    ("forged", "message"),
    [
        (cached(text("/tmp/planted")), CACHE),
        (several("list", {**text("/tmp/planted"), "__id__": 7}, cached({**NONE, "__id__": 7})), CACHE),
        (
            mapping(ridge__memory=text("x"), **{"pipeline__ridge": text("y")}),
            CACHE.replace("'memory'", "'ridge__memory'"),
        ),
        (mapping(FUNCTION, key=text("x")), KEYS),
        (several("list", {**FUNCTION, "__id__": 7}, mapping({**TYPE, "__id__": 7}, key=text("x"))), KEYS),
        ({**mapping(key=text("x")), "key_types": several("tuple", TYPE)}, KEYS),
        (estimator("sklearn.pipeline._fit_one"), "found sklearn.pipeline._fit_one as ObjectNode"),
        (node("sklearn.datasets._openml.fetch_openml", "FunctionNode"), "found sklearn.datasets._openml.fetch_openml"),
        (node("scipy.stats._continuous_distns.norm_gen", "ObjectNode", content=mapping()), "found scipy.stats"),
        (node("numpy.load", "FunctionNode"), "found numpy.load as FunctionNode"),
        (node("sklearn.linear_model._ridge.Ridge", "LossNode"), "found sklearn.linear_model._ridge.Ridge as LossNode"),
        (node("sklearn.linear_model._ridge.Ridge", "DictNode"), "found sklearn.linear_model._ridge.Ridge as DictNode"),
    ],
)
def test_a_forged_file_is_refused(forged: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as error:
        FORMAT.load(skops_file(forged), {})
    assert str(error.value).startswith(message)


def test_a_pipeline_with_a_cache_is_refused_when_it_is_stored(tmp_path: Path) -> None:
    model = Pipeline([("scaled", StandardScaler()), ("ridge", Ridge())], memory=str(tmp_path)).fit(X, NUMBER)
    with pytest.raises(ModelError, match=f"^{CACHE}; set it so before the fit, or afterwards by set_params$"):
        FORMAT.dump(model)
    FORMAT.dump(model.set_params(memory=None))


def test_a_sparse_matrix_that_unpacks_to_more_than_a_file_may_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = csr_matrix(np.ones((300, 300)))
    content = FORMAT.dump([matrix])
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert json.loads(archive.read("schema.json"))["content"][0]["__loader__"] == "SparseMatrixNode"
    assert (FORMAT.load(content, {})[0] != matrix).nnz == 0
    monkeypatch.setattr(model_file, "MAX_BYTES", 500_000)
    assert len(content) < 100_000
    with pytest.raises(ModelError, match=r"found 1,08\d,\d+ bytes of sparse matrices, expected at most 500,000"):
        FORMAT.load(content, {})
