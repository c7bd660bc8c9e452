"""Single cells are changed at random: what that changes of the features, against what column lineage and staleness say."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from bikes_assets.core.digest import table_digest
from bikes_assets.core.record import used_digest
from bikes_assets.demand.features import COLUMN_LINEAGE, COLUMNS_READ, DEMAND_FEATURES, demand_features
from bikes_assets.demand.tables import HOURLY_RENTALS
from bikes_assets_tests.fire.processes import turns

MONTHS = [f"{year}-{month:02}" for year in (2011, 2012) for month in range(1, 13)]
CELLS = [column for column in HOURLY_RENTALS.columns if column.name != "ts"]


def used(rentals: pd.DataFrame) -> str:
    """Return the digest of the columns of a month's rentals that features are computed from."""
    table = HOURLY_RENTALS.conform(pa.Table.from_pandas(rentals, preserve_index=False))
    return used_digest(table_digest(table, HOURLY_RENTALS).columns, COLUMNS_READ)


def features(by_month: Mapping[str, pd.DataFrame], month: str) -> pd.DataFrame:
    before = MONTHS[max(MONTHS.index(month) - 1, 0)]
    return demand_features(pd.concat([by_month[key] for key in dict.fromkeys((before, month))]), month)


def another(rng: random.Random, rentals: pd.DataFrame, column: Any, value: Any) -> Any:
    """Return another lawful value for a cell."""
    known = [found for found in rentals[column.name].dropna().unique() if found != value]
    return rng.choice([*known, pd.NA] if column.nullable and not pd.isna(value) else known)


@pytest.mark.soak
def test_no_change_of_a_cell_is_missed(rentals: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    rng, overstated, said, stale = random.Random(0), 0, 0, 0
    by_month = {
        str(month): rows.reset_index(drop=True) for month, rows in rentals.groupby(rentals["ts"].dt.strftime("%Y-%m"))
    }
    before = cache(lambda month: features(by_month, month))
    for _ in turns(200):
        month, column = rng.choice(MONTHS), rng.choice(CELLS)
        rows = by_month[month].copy()
        row = rng.randrange(len(rows))
        rows.loc[row, column.name] = another(rng, rentals, column, rows.loc[row, column.name])
        # what really changes
        reached = MONTHS[MONTHS.index(month) :][:2]
        after = {key: features({**by_month, month: rows}, key) for key in reached}
        real = {
            (key, name)
            for key in reached
            for name in DEMAND_FEATURES.names
            if not before(key)[name].equals(after[key][name])
        }
        # what column lineage says of it, and whether the months' features are stale
        told = {(key, name) for name, sources in COLUMN_LINEAGE.items() if column.name in sources for key in reached}
        is_stale = used(rows) != used(by_month[month])
        assert real <= told, (month, row, column.name)
        assert is_stale == bool(told), (month, row, column.name)
        overstated, said, stale = overstated + len(told - real), said + len(told), stale + is_stale
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(turns(200))} changes of a cell: {stale} make features stale; of {said} columns of months that lineage "
            f"names, {overstated} came out as they were\n"
        )
