"""The sources that tests build: each is valid by every rule, and is what it is said to be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from bikes_assets.demand.source import months_in, parse
from bikes_assets.demand.tables import RENTAL_RECORDS
from bikes_assets.storage.sources.readers import reader_for
from bikes_assets_tests import sources


def parsed(path: Path) -> pd.DataFrame:
    raw = reader_for(str(path), columns=RENTAL_RECORDS.names, date_column="dteday").read()
    return parse(raw.frame, raw.locate)


@pytest.fixture(scope="module")
def shipped() -> pd.DataFrame:
    return parsed(sources.SHIPPED)


def test_the_original_is_the_shipped_one_with_every_blank_filled(tmp_path: Path, shipped: pd.DataFrame) -> None:
    sources.write_original(tmp_path / "hour.csv")
    rows = parsed(tmp_path / "hour.csv")
    pd.testing.assert_frame_equal(rows.drop(columns="weathersit"), shipped.drop(columns="weathersit"))
    assert rows["weathersit"].isna().sum() == 0
    assert (rows["weathersit"] != shipped["weathersit"]).fillna(True).sum() == 609
    lines = (tmp_path / "hour.csv").read_text().splitlines()
    assert lines[1] == "1,2011-01-01,1,0,1,0,0,6,0,1,0.24,0.2879,0.81,0.0,3,13,16"
    assert all("." in field for line in lines[1:] for field in line.split(",")[10:14])


def test_without_weather_all_else_stands(tmp_path: Path, shipped: pd.DataFrame) -> None:
    sources.write_without_weather(tmp_path / "hour.csv")
    rows = parsed(tmp_path / "hour.csv")
    pd.testing.assert_frame_equal(rows.drop(columns="weathersit"), shipped.drop(columns="weathersit"))
    assert rows["weathersit"].isna().all()
    sources.write_without_weather(tmp_path / "hour.csv", ["2012-12"])
    rows = parsed(tmp_path / "hour.csv")
    assert rows[rows["dteday"] >= "2012-12"]["weathersit"].isna().all()
    assert rows[rows["dteday"] < "2012-01"]["weathersit"].notna().all()


@pytest.mark.parametrize("month", ["2012-01", "2011-01", "2012-12"])
def test_a_month_can_be_left_out(tmp_path: Path, shipped: pd.DataFrame, month: str) -> None:
    sources.write_without_months(tmp_path / "hour.csv", month)
    found = months_in(parsed(tmp_path / "hour.csv"))
    assert found == [known for known in months_in(shipped) if known != month]
    assert len(found) == 23


def test_ten_generated_years_are_valid_and_plausible(tmp_path: Path) -> None:
    sources.write_years(tmp_path / "hour.csv")
    rows = parsed(tmp_path / "hour.csv")
    months = months_in(rows)
    assert (months[0], months[-1], len(months)) == ("2011-01", "2020-12", 120)
    assert 86_000 < len(rows) < 87_672
    assert set(rows["weathersit"]) == set(rows["season"]) == {1, 2, 3, 4}
    assert Counter(rows["season"]).most_common()[-1][1] > 20_000
    by_year = rows.groupby("yr")["cnt"].mean()
    assert by_year.is_monotonic_increasing
    by_month = rows.groupby("mnth")["cnt"].mean()
    assert by_month[7] > 1.5 * by_month[1]
    working = rows[rows["workingday"] == 1].groupby("hr")["cnt"].mean()
    assert working[8] > 2 * working[3]
    # And the same numbers come whenever they are generated
    days = [sources.generated("2011-01-01", "2011-01-03") for _ in range(2)]
    pd.testing.assert_frame_equal(*days)
