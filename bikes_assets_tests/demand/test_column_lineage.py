"""The shipped features hold what they declare, whatever the seed and the months."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bikes_assets.demand.column_lineage import WINDOWS, features_evidence, features_of_rentals, on_grid
from bikes_assets.demand.features import HISTORY_HOURS, on_hourly_grid
from bikes_assets.demand.source import rental_invariants
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
    assert {edge.output for edge in found.edges if edge.state != "observed"} == set()
    assert found.signals == ()
    observed = {(edge.output, edge.input): edge.observed for edge in found.edges if edge.observed}
    assert all(WINDOWS[pair].first >= seen.first for pair, seen in observed.items() if pair in WINDOWS)


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="a minute of CPU")
def test_features_that_refuse_what_contradicts_itself_are_tried_with_rows_that_do_not(rentals: pd.DataFrame) -> None:
    def refusing(some: pd.DataFrame) -> object:
        weekday = (some["ts"].dt.dayofweek + 1) % 7
        if (some["casual"] + some["registered"] != some["cnt"]).any() or (some["weekday"] != weekday).any():
            raise ValueError("a row contradicts itself")
        return features_of_rentals(some)

    found = features_evidence(rentals[rentals["ts"] < "2011-03"], function=refusing)

    assert found.holds, (found.findings, found.unverified)
    assert {(edge.output, edge.input) for edge in found.edges if edge.state != "observed"} == set()


@pytest.mark.parametrize("seed", range(5))
def test_what_holds_of_rentals_is_restored_in_perturbed_ones(rentals: pd.DataFrame, seed: int) -> None:
    # Given rentals whose cells come from other rows, and which are moved in time
    some = rentals.iloc[3_000:3_400].reset_index(drop=True)
    draw = np.random.default_rng(seed)
    perturbed = some.copy()
    for name in ("yr", "weekday", "workingday", "holiday", "casual", "registered", "cnt", "instant"):
        rows = draw.random(len(some)) < 0.3
        perturbed.loc[rows, name] = draw.choice(rentals[name], rows.sum())
    perturbed["ts"] += pd.Timedelta(hours=int(draw.integers(0, 9_000)))
    # When
    valid = perturbed
    for invariant in rental_invariants(some):
        valid = invariant(valid, some)
    # Then
    assert (valid["cnt"] == valid["casual"] + valid["registered"]).all()
    assert (valid["weekday"] == (valid["ts"].dt.dayofweek + 1) % 7).all()
    assert (valid["workingday"] == (~valid["weekday"].isin([0, 6]) & (valid["holiday"] == 0))).all()
    assert (valid["yr"] == valid["ts"].dt.year - 2011).all()
    assert (valid["hr"] == valid["ts"].dt.hour).all()
    assert (valid["mnth"] == valid["ts"].dt.month).all()
    assert valid["instant"].is_unique
    # And what holds already is left alone
    for invariant in rental_invariants(some):
        pd.testing.assert_frame_equal(invariant(some, some), some)


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
