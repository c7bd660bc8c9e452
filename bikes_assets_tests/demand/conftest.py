"""The shipped rentals, and features of their first half year: far before the rows that are held out for the final score."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from bikes_assets.demand.features import demand_features
from bikes_assets.demand.source import hourly_rentals, parse
from bikes_assets.demand.tables import RENTAL_RECORDS
from bikes_assets.storage.sources.readers import reader_for

SHIPPED = Path(__file__).parents[2] / "data" / "raw" / "hour.csv"


@pytest.fixture(scope="session")
def rentals() -> pd.DataFrame:
    """Return HOURLY_RENTALS of both years."""
    raw = reader_for(str(SHIPPED), columns=RENTAL_RECORDS.names, date_column="dteday").read()
    return hourly_rentals(parse(raw.frame, raw.locate))


@pytest.fixture(scope="session")
def half_year(rentals: pd.DataFrame) -> pd.DataFrame:
    """Return DEMAND_FEATURES of 2011-01 to 2011-06."""
    known = rentals[rentals["ts"] < "2011-07-01"]
    return pd.concat([demand_features(known, f"2011-0{month}") for month in range(1, 7)], ignore_index=True)
