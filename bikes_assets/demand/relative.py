"""A regressor of demand relative to its recent level, so that the model keeps up with a growing service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, clone

if TYPE_CHECKING:
    import pandas as pd


class RelativeRegressor(RegressorMixin, BaseEstimator):
    """Fits `regressor` to y / (1 + level) and predicts (1 + level) times its prediction.

    `level` is a column of the input but not an input of `regressor`: trees cannot predict beyond the targets in
    training, but a ratio can. A missing level is replaced by its median over the fitted rows. If it is missing in all
    of them, y itself is fitted and predicted, whatever levels come later.

    Args:
        regressor: regressor of the ratio.
        level: name of the level's column, in the unit of y.
    """

    def __init__(self, regressor: Any, level: str) -> None:
        self.regressor = regressor
        self.level = level

    def fit(self, X: pd.DataFrame, y: pd.Series) -> RelativeRegressor:  # noqa: N803 - scikit-learn's names
        """Fit on a frame of shape (n, features) with the level among its columns, and n targets.

        Raises:
            ValueError: the level is not among the columns.
        """
        if self.level not in X.columns:
            raise ValueError(f"found no level {self.level!r}, expected one of {', '.join(X.columns)}")
        self.feature_names_in_ = np.asarray(X.columns, dtype=object)
        known = X[self.level].dropna()
        self.usual_level_ = float(np.median(known)) if len(known) else float("nan")
        copy: Any = clone(self.regressor)
        self.regressor_ = copy.fit(X.drop(columns=self.level), y / self._scale(X))
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:  # noqa: N803
        """Return n predictions, float64, in the unit of y."""
        return self.regressor_.predict(X.drop(columns=self.level)) * self._scale(X)

    def _scale(self, X: pd.DataFrame) -> np.ndarray:  # noqa: N803
        if np.isnan(self.usual_level_):
            return np.ones(len(X))
        return 1 + X[self.level].fillna(self.usual_level_).to_numpy()
