"""A regressor of demand relative to its recent level, so that a growing service does not leave the model behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, clone

if TYPE_CHECKING:
    import pandas as pd


class RelativeRegressor(RegressorMixin, BaseEstimator):
    """Fits `regressor` to y / (1 + level) and predicts (1 + level) times what it says.

    `level` is a column of the input and no input of `regressor`: trees cannot say more than they have seen, a ratio can.
    Where the level is missing, its median over the fitted rows is used in its place. Where it is missing in all of these, y
    itself is fitted and predicted, whatever levels come later.

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
