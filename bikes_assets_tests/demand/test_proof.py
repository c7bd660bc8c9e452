"""The shipped features hold what they declare, whatever the seed and the months."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bikes_assets.demand.features import HISTORY_HOURS, on_hourly_grid
from bikes_assets.demand.proof import WINDOWS, features_evidence, on_grid
from bikes_assets_tests.fire.processes import SOAK


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(50 if SOAK else 3))
def test_the_features_hold_with_every_seed(rentals: pd.DataFrame, seed: int) -> None:
    # Given a month and the one before it
    month = pd.Timestamp("2011-01-01") + pd.DateOffset(months=int(np.random.default_rng(seed).integers(0, 23)))
    some = rentals[(rentals["ts"] >= month) & (rentals["ts"] < month + pd.DateOffset(months=2))]
    # When
    found = features_evidence(some, seed)
    # Then
    assert found.holds, found.findings
    assert {edge.output for edge in found.edges if edge.state != "proven"} == set()
    assert found.signals == ()
    observed = {(edge.output, edge.input): edge.observed for edge in found.edges if edge.observed}
    assert all(WINDOWS[pair].first >= seen.first for pair, seen in observed.items() if pair in WINDOWS)


def test_no_window_reaches_farther_back_than_the_history() -> None:
    assert max(window.first for window in WINDOWS.values()) < HISTORY_HOURS


def test_the_grid_of_many_copies_is_the_grid_of_each(rentals: pd.DataFrame) -> None:
    # Given two copies of different hours, shuffled
    parts = [rentals.iloc[500:900], rentals.iloc[650:1_200]]
    copies = pd.concat([part.assign(copy=number) for number, part in enumerate(parts)])
    # When
    grid = on_grid(copies.sample(frac=1, random_state=0))
    # Then
    for number, part in enumerate(parts):
        one = grid[grid["copy"] == number].drop(columns="copy").reset_index(drop=True)
        expected = on_hourly_grid(part)
        pd.testing.assert_frame_equal(one[expected.columns], expected, check_freq=False)
