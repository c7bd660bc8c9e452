"""Which inputs reach a prediction: trees' splits as proof, perturbation for the others."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import (
    BaggingRegressor,
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from bikes_assets.demand.relative import RelativeRegressor
from bikes_assets.verification.model_inputs import reach, splits


def rows(size: int = 300) -> tuple[pd.DataFrame, np.ndarray]:
    """Return inputs of which `same` never varies, and a target of `number`, `kind` and `level`."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "number": draw.random(size),
            "same": np.ones(size),
            "kind": draw.integers(0, 4, size).astype(float),
            "level": draw.integers(50, 90, size).astype(float),
        }
    )
    return frame, (frame["number"] * 10 + frame["kind"] * 3).to_numpy() * frame["level"]


TREES = [
    HistGradientBoostingRegressor(max_iter=20, categorical_features=["kind"], early_stopping=False),
    HistGradientBoostingRegressor(max_iter=20),
    DecisionTreeRegressor(random_state=0),
    RandomForestRegressor(5, random_state=0),
    ExtraTreesRegressor(5, random_state=0),
    GradientBoostingRegressor(n_estimators=10, random_state=0),
    BaggingRegressor(n_estimators=5, max_features=2, random_state=0),
    make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), DecisionTreeRegressor(random_state=0)),
]


@pytest.mark.parametrize("estimator", TREES, ids=lambda item: type(item).__name__)
def test_trees_prove_that_what_they_never_split_on_cannot_reach_the_prediction(estimator) -> None:
    # Given
    inputs, target = rows()
    estimator.fit(inputs, target)
    # When
    found = {item.column: item for item in reach(estimator, inputs)}
    # Then
    assert {name for name, item in found.items() if item.cannot_reach} == {"same"}
    assert all(found[name].moves and found[name].splits for name in ("number", "kind", "level"))


def test_an_input_that_goes_round_the_trees_reaches_the_prediction() -> None:
    # Given a regressor whose level is no input of its trees
    inputs, target = rows()
    estimator = RelativeRegressor(HistGradientBoostingRegressor(max_iter=20), "level").fit(inputs, target)
    # When
    found = {item.column: item for item in reach(estimator, inputs)}
    # Then
    assert (found["level"].splits, found["level"].moves, found["level"].cannot_reach) == (None, True, False)
    assert found["same"].cannot_reach


def test_a_pipeline_says_which_transformed_column_an_input_reaches() -> None:
    # Given
    inputs, target = rows()
    estimator = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), Ridge()).fit(inputs, target)
    # When
    found = {item.column: item for item in reach(estimator, inputs)}
    # Then a linear model has no splits that prove anything
    assert {name: item.transformed for name, item in found.items()} == {name: (name,) for name in inputs}
    assert splits(estimator) is None
    assert not any(item.cannot_reach for item in found.values())
