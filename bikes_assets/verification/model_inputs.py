"""Which of its inputs a fitted estimator can use: which ones move its prediction, and, for trees, which they split on.

This is independent of feature importance: an input that decides one row in a million is used.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Reach:
    """How far one input of a fitted estimator reaches.

    Attributes:
        column: the input.
        transformed: columns before the last step of a pipeline that it moves; empty without a pipeline.
        splits: number of splits on it in all trees; None if it is not an input of trees.
        moves: whether the prediction moved when it was perturbed.
    """

    column: str
    transformed: tuple[str, ...]
    splits: int | None
    moves: bool

    @property
    def cannot_reach(self) -> bool:
        """Whether it certainly is unused by the model: it is an input of trees alone, and none splits on it."""
        return self.splits == 0 and not self.moves


def reach(estimator: Any, inputs: Any, seed: int = 0) -> tuple[Reach, ...]:
    """Return how far each input of a fitted estimator reaches.

    Args:
        estimator: fitted on a pandas frame; a pipeline, or a regressor that holds another as `regressor_`, is
            inspected.
        inputs: pandas frame of numeric rows to predict.
        seed: seed of the perturbations.
    """
    draw, counted = np.random.default_rng(seed), splits(estimator)
    found: list[Reach] = []
    inner = getattr(estimator, "regressor_", estimator)
    before = inner[:-1] if hasattr(inner, "steps") and len(inner.steps) > 1 else None
    seen = tuple(getattr(inner, "feature_names_in_", inputs.columns))
    names = tuple(before.get_feature_names_out()) if before is not None else ()
    output_of = estimator.predict(inputs)
    transformed = _array(before.transform(inputs[list(seen)])) if before is not None else np.empty((len(inputs), 0))
    for column in inputs.columns:
        moves, moved = False, np.zeros(len(names), dtype=bool)
        for values in _ways(inputs[column].to_numpy(dtype=float), draw):
            perturbed = inputs.assign(**{column: values})
            try:
                other = estimator.predict(perturbed)
            except ValueError:  # many estimators accept no missing value
                continue
            moves |= not np.allclose(other, output_of, rtol=1e-9, atol=0, equal_nan=True)
            if before is not None and column in seen:
                other = _array(before.transform(perturbed[list(seen)]))
                moved |= ~np.isclose(other, transformed, rtol=1e-9, atol=0, equal_nan=True).all(axis=0)
        to = tuple(str(name) for name, is_moved in zip(names, moved, strict=True) if is_moved)
        found.append(Reach(column, to, counted.get(column) if counted is not None else None, moves))
    return tuple(found)


def splits(estimator: Any) -> dict[str, int] | None:
    """Return by input the number of splits in all trees of a fitted estimator, None unless it is only of trees."""
    if hasattr(estimator, "regressor_"):
        return splits(estimator.regressor_)
    inner = estimator
    if hasattr(estimator, "steps"):  # steps before the last that keep each column in its place
        inner = estimator.steps[-1][1]
        if getattr(inner, "n_features_in_", None) != estimator.n_features_in_:
            return None
        if list(estimator[:-1].get_feature_names_out()) != list(estimator.feature_names_in_):
            return None
    counted = _counted(inner)
    if counted is None or not hasattr(estimator, "feature_names_in_"):
        return None
    return {str(name): counted[place] for place, name in enumerate(estimator.feature_names_in_)}


def _counted(estimator: Any) -> Counter[int] | None:
    """Return the number of splits by position of the input."""
    if hasattr(estimator, "tree_"):
        places = estimator.tree_.feature
        return Counter(places[places >= 0].tolist())
    if hasattr(estimator, "_predictors"):  # gradient boosting on histograms, which puts categories first
        is_category = estimator.is_categorical_
        numbers = np.arange(estimator.n_features_in_)
        order = numbers if is_category is None else np.concatenate([numbers[is_category], numbers[~is_category]])
        nodes = [tree.nodes for trees in estimator._predictors for tree in trees]
        return Counter(int(order[place]) for node in nodes for place in node["feature_idx"][node["is_leaf"] == 0])
    parts = np.ravel(getattr(estimator, "estimators_", []))
    if not len(parts):
        return None
    places = getattr(estimator, "estimators_features_", [range(estimator.n_features_in_)] * len(parts))
    total: Counter[int] = Counter()
    for part, columns in zip(parts, places, strict=True):
        if (counted := _counted(part)) is None:
            return None
        total.update({int(columns[place]): count for place, count in counted.items()})
    return total


def _ways(values: np.ndarray, draw: np.random.Generator) -> list[np.ndarray]:
    """Return a column with its values shuffled, all at its lowest, its highest, one beyond each, and all missing."""
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    ends = (low, high, low - (high - low or 1.0), high + (high - low or 1.0), np.nan)
    return [
        draw.permutation(values),
        draw.uniform(low, high, len(values)),
        *(np.full(len(values), end) for end in ends),
    ]


def _array(values: Any) -> np.ndarray:
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=float)
