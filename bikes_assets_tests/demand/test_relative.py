"""The regressor of relative demand: what it fits, what it predicts, and what it does without a level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import clone
from sklearn.linear_model import LinearRegression

from bikes_assets.core.digest import object_digest
from bikes_assets.demand.model import TRUSTED_TYPES
from bikes_assets.demand.relative import RelativeRegressor

X = pd.DataFrame({"hour": [0.0, 1.0, 2.0, 3.0], "level": [1.0, 9.0, np.nan, 99.0]})
"""Levels whose median over the known ones is 9, so that the scale is 2, 10, 10 and 100."""


def relative(regressor: Any = None) -> RelativeRegressor:
    return RelativeRegressor(regressor or LinearRegression(), "level")


def target(scale: list[float]) -> pd.Series:
    """Return demand that is (1 + 2 hour) times the scale."""
    return pd.Series([(1 + 2 * hour) * each for hour, each in zip(X["hour"], scale, strict=True)])


def test_it_fits_the_ratio_to_the_level() -> None:
    # Given demand that is (1 + 2 hour) times (1 + level)
    model = relative().fit(X, target([2, 10, 10, 100]))
    assert model.regressor_.coef_ == pytest.approx([2.0])
    assert model.regressor_.intercept_ == pytest.approx(1.0)
    assert model.predict(X) == pytest.approx([2.0, 30.0, 50.0, 700.0])


def test_it_predicts_beyond_what_it_has_seen() -> None:
    model = relative().fit(X, target([2, 10, 10, 100]))
    unseen = pd.DataFrame({"hour": [1.0, 1.0], "level": [0.0, 999.0]})
    assert model.predict(unseen) == pytest.approx([3.0, 3_000.0])
    assert model.predict(unseen).dtype == np.float64


def test_it_equals_a_fit_by_hand() -> None:
    # Given targets that no line goes through
    y = pd.Series([4.0, 3.0, 80.0, 10.0])
    scale = np.array([2.0, 10.0, 10.0, 100.0])
    by_hand = LinearRegression().fit(X[["hour"]], y / scale)
    assert relative().fit(X, y).predict(X) == pytest.approx(by_hand.predict(X[["hour"]]) * scale)


def test_a_missing_level_is_the_median_of_the_fitted_rows() -> None:
    model = relative().fit(X, target([2, 10, 10, 100]))
    assert model.usual_level_ == 9.0
    # and not that of the rows that are predicted
    unseen = pd.DataFrame({"hour": [0.0, 0.0, 0.0], "level": [np.nan, 5_000.0, 5_000.0]})
    assert model.predict(unseen)[0] == pytest.approx(10.0)


def test_the_level_is_no_input_of_the_inner_regressor() -> None:
    model = relative().fit(X, target([2, 10, 10, 100]))
    assert model.regressor_.feature_names_in_.tolist() == ["hour"]
    assert model.regressor_.n_features_in_ == 1


def test_the_frames_are_left_alone() -> None:
    rows, y = X.copy(), target([2, 10, 10, 100])
    relative().fit(rows, y).predict(rows)
    pd.testing.assert_frame_equal(rows, X)
    pd.testing.assert_series_equal(y, target([2, 10, 10, 100]))


def test_a_level_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="found no level 'level', expected one of hour"):
        relative().fit(X[["hour"]], target([2, 10, 10, 100]))


def test_parameters_can_be_read_and_set_as_of_any_estimator() -> None:
    model = relative(LinearRegression(fit_intercept=False))
    assert model.get_params(deep=False) == {"regressor": model.regressor, "level": "level"}
    assert model.get_params()["regressor__fit_intercept"] is False
    model.set_params(regressor__fit_intercept=True, level="hour")
    assert (model.regressor.fit_intercept, model.level) == (True, "hour")


def test_a_clone_has_the_parameters_and_is_not_fitted() -> None:
    model = relative(LinearRegression(positive=True)).fit(X, target([2, 10, 10, 100]))
    copy = clone(model)
    assert copy.level == "level"
    assert copy.regressor.positive is True
    assert copy.regressor is not model.regressor
    assert not hasattr(copy, "regressor_")


def test_fitting_leaves_the_given_regressor_unfitted() -> None:
    inner = LinearRegression()
    model = relative(inner).fit(X, target([2, 10, 10, 100]))
    assert not hasattr(inner, "coef_")
    assert model.regressor is inner


def test_it_comes_back_from_a_file_of_trusted_types() -> None:
    model = relative().fit(X, target([2, 10, 10, 100]))
    content = skops.io.dumps(model)
    assert skops.io.get_untrusted_types(data=content) == ["bikes_assets.demand.relative.RelativeRegressor"]
    loaded = skops.io.loads(content, trusted=list(TRUSTED_TYPES))
    assert object_digest(loaded) == object_digest(model)
    assert (loaded.predict(X) == model.predict(X)).all()
