"""Which column each box is in: links lead to the right, and are as short as they can be in sum."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy.optimize import linprog

from bikes_assets.lineage.drawing.layering import layers_of


def least_length(count: int, weights: dict[tuple[int, int], int]) -> float:
    """Return the least sum of lengths, by linear programming."""
    rows, costs = np.zeros((len(weights), count)), np.zeros(count)
    for row, ((source, target), weight) in zip(rows, weights.items(), strict=True):
        row[source], row[target] = 1, -1
        costs[source] -= weight
        costs[target] += weight
    return linprog(costs, A_ub=rows, b_ub=-np.ones(len(weights)), bounds=(0, None)).fun


@pytest.mark.parametrize("seed", range(60))
def test_the_sum_of_lengths_is_the_least(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.randrange(2, 40)
    weights = {(rng.randrange(target), target): rng.choice([1, 1, 1, 4]) for target in range(1, count)}
    for _ in range(rng.randrange(2 * count)):
        weights[tuple(sorted(rng.sample(range(count), 2)))] = rng.choice([1, 1, 5])
    layers = layers_of(range(count), weights)
    assert min(layers) == 0
    assert all(layers[source] < layers[target] for source, target in weights)
    length = sum(weight * (layers[target] - layers[source]) for (source, target), weight in weights.items())
    assert length == pytest.approx(least_length(count, weights))


def test_a_vertex_that_may_be_in_several_columns_is_in_the_emptiest() -> None:
    # 0 -> 1, 2, 3 -> 4 -> 5 -> 9, while 6 may be in any column between 0 and 9
    weights = {
        (0, 1): 1,
        (0, 2): 1,
        (0, 3): 1,
        (1, 4): 1,
        (2, 4): 1,
        (3, 4): 1,
        (4, 5): 1,
        (5, 7): 1,
        (0, 6): 1,
        (6, 7): 1,
    }
    layers = layers_of(range(8), weights)
    assert layers[:6] + layers[7:] == [0, 1, 1, 1, 2, 3, 4]
    assert layers[6] in (2, 3)
