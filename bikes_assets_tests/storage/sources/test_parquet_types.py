"""Types of Parquet columns: whatever is read gives its months, too, and what cannot be is called unsupported by name."""

from __future__ import annotations

import decimal
import io
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bikes_assets.core.errors import DataError
from bikes_assets.demand.source import parse
from bikes_assets.demand.tables import RENTAL_RECORDS
from bikes_assets.storage.sources.readers import Limits, reader_for

Days = list[date]
SHIPPED = Path(__file__).parents[3] / "data" / "raw" / "hour.csv"


def texts(days: Days) -> list[str]:
    return [day.isoformat() for day in days]


def midnights(days: Days) -> list[datetime]:
    return [datetime(day.year, day.month, day.day) for day in days]


def categories(values: pa.Array, index: pa.DataType) -> pa.Array:
    """Return values as categories of which some stand for nothing."""
    known = pa.concat_arrays([values.unique(), values.slice(0, 1)])
    places = [known.index(value).as_py() for value in values]
    return pa.DictionaryArray.from_arrays(pa.array(places, index), known)


def of_pandas(series: pd.Series) -> pa.ChunkedArray:
    return pa.Table.from_pandas(pd.DataFrame({"x": series}), preserve_index=False)["x"]


def of_polars(days: Days, type_: Any) -> pa.ChunkedArray:
    sink, values = io.BytesIO(), days if type_ is pl.Date else texts(days)
    pl.DataFrame({"x": values}, schema={"x": type_}).write_parquet(sink)
    return pq.read_table(sink)["x"]


DATED: dict[str, Callable[[Days], Any]] = {
    "string": lambda days: pa.array(texts(days)),
    "large_string": lambda days: pa.array(texts(days), pa.large_string()),
    "string_view": lambda days: pa.array(texts(days), pa.string_view()),
    "categories": lambda days: categories(pa.array(texts(days)), pa.int32()),
    "categories of 8 bits": lambda days: categories(pa.array(texts(days), pa.large_string()), pa.int8()),
    "categories of dates": lambda days: categories(pa.array(days), pa.uint16()),
    "categories of timestamps": lambda days: categories(pa.array(midnights(days)), pa.int16()),
    "pandas text": lambda days: of_pandas(pd.Series(texts(days))),
    "pandas category": lambda days: of_pandas(pd.Series(texts(days)).astype("category")),
    "pandas category of timestamps": lambda days: of_pandas(pd.Series(pd.to_datetime(texts(days))).astype("category")),
    "pandas timestamps": lambda days: of_pandas(pd.Series(pd.to_datetime(texts(days)))),
    "Polars text": lambda days: of_polars(days, pl.String),
    "Polars Categorical": lambda days: of_polars(days, pl.Categorical),
    "Polars Enum": lambda days: of_polars(days, pl.Enum(sorted(set(texts(days))))),
    "Polars Date": lambda days: of_polars(days, pl.Date),
    "date32": lambda days: pa.array(days),
    "date64": lambda days: pa.array(days, pa.date64()),
    "timestamp[s]": lambda days: pa.array(midnights(days), pa.timestamp("s")),
    "timestamp[ms]": lambda days: pa.array(midnights(days), pa.timestamp("ms")),
    "timestamp[us]": lambda days: pa.array(midnights(days), pa.timestamp("us")),
    "timestamp[ns]": lambda days: pa.array(midnights(days), pa.timestamp("ns")),
    "binary": lambda days: pa.array([text.encode() for text in texts(days)]),
    "binary_view": lambda days: pa.array([text.encode() for text in texts(days)], pa.binary_view()),
    "fixed_size_binary": lambda days: pa.array([text.encode() for text in texts(days)], pa.binary(10)),
}
"""Ways in which dates are stored, each of which is read."""

BATCH = st.lists(st.dates(date(2000, 1, 1), date(2099, 12, 31)), min_size=1, max_size=40)


@pytest.mark.parametrize("name", DATED)
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(days=BATCH)
def test_the_span_is_that_of_the_months_that_are_read(tmp_path: Path, name: str, days: Days) -> None:
    # Given dates in some type
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": DATED[name](days)}), file, row_group_size=7)
    reader = reader_for(str(file), columns=("x",), date_column="x")
    # Then they are read as dates, and the span is of their months
    read = reader.read().frame["x"].astype("large_string[pyarrow]")
    assert [value[:10] for value in read] == texts(days)
    assert reader.span() == (min(days).isoformat()[:7], max(days).isoformat()[:7])
    assert reader.fingerprint() != ""


@pytest.mark.parametrize("name", [name for name in DATED if "binary" not in name])
def test_the_shipped_rows_are_the_same_in_every_type(tmp_path: Path, name: str) -> None:
    rows = pd.read_csv(SHIPPED, nrows=800)
    days = [date.fromisoformat(day) for day in rows["dteday"]]
    table = pa.Table.from_pandas(rows, preserve_index=False)
    pq.write_table(table.set_column(1, "dteday", DATED[name](days)), tmp_path / "hour.parquet")
    assert parsed(tmp_path / "hour.parquet")["dteday"].tolist() == rows["dteday"].tolist()


NUMBERS: dict[str, pa.Array] = {
    "int8": pa.array([3, 4], pa.int8()),
    "uint64": pa.array([3, 4], pa.uint64()),
    "float": pa.array([3.5, 4.5], pa.float32()),
    "halffloat": pa.array([3.5, 4.5], pa.float16()),
    "decimal32": pa.array([decimal.Decimal("3.50")] * 2, pa.decimal32(7, 2)),
    "decimal128": pa.array([decimal.Decimal("3.50")] * 2),
    "decimal256": pa.array([decimal.Decimal("3.50")] * 2, pa.decimal256(50, 2)),
    "bool": pa.array([True, False]),
    "time32": pa.array([time(1), time(2)], pa.time32("ms")),
    "duration": pa.array([timedelta(1)] * 2),
    "categories of numbers": pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), pa.array([3, 4])),
    "null": pa.nulls(2),
}
"""Types that are read, and are no dates."""


@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_date_is_refused_with_its_row_and_is_never_called_damaged(tmp_path: Path, name: str) -> None:
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": NUMBERS[name]}), file)
    reader = reader_for(str(file), columns=("x",), date_column="x")
    assert len(reader.read().frame) == 2
    with pytest.raises(DataError, match=r"^x\.parquet, row 1, column x: found .*, expected YYYY-MM-DD in every row$"):
        reader.span()


def extension(values: pa.Array, type_: Any) -> pa.Array:
    return pa.ExtensionArray.from_storage(type_, values)


UNSUPPORTED: dict[str, Any] = {
    "list<element: string>": pa.array([["2011-01-01"]]),
    "struct<a: int64>": pa.array([{"a": 1}]),
    "map<string, int64 ('x')>": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    "binary": pa.array([b"\xff"]),
    "extension<arrow.uuid>": extension(pa.array([uuid.uuid4().bytes], pa.binary(16)), pa.uuid()),
    "extension<arrow.json>": extension(pa.array(['"2011-01-01"']), pa.json_(pa.string())),
    "extension<arrow.bool8>": extension(pa.array([1], pa.int8()), pa.bool8()),
    "extension<pandas.period<ArrowPeriodType>>": of_pandas(pd.Series(pd.PeriodIndex(["2011-01-01"], freq="D"))),
    "extension<pandas.interval<ArrowIntervalType>>": of_pandas(pd.Series(pd.IntervalIndex.from_breaks([1, 2]))),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_unsupported_type_is_called_so_with_its_column(tmp_path: Path, name: str) -> None:
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": UNSUPPORTED[name]}), file)
    with pytest.raises(DataError) as caught:
        reader_for(str(file), columns=("x",), date_column="x").span()
    assert str(caught.value).startswith(f"x.parquet, column x: found type {name}, which is not supported, expected ")
    # And in a column that is no date, where the rows are read or validated
    rows = pd.read_csv(SHIPPED, nrows=1)
    table = pa.Table.from_pandas(rows, preserve_index=False).set_column(10, "temp", UNSUPPORTED[name])
    pq.write_table(table, file)
    with pytest.raises(DataError) as caught:
        parsed(file)
    kind = name.partition("<")[0]
    assert str(caught.value).startswith(f"x.parquet, column temp: found type {kind}")
    assert ", which is not supported, expected " in str(caught.value)


def parsed(file: Path) -> pd.DataFrame:
    raw = reader_for(str(file), columns=RENTAL_RECORDS.names, date_column="dteday").read()
    return parse(raw.frame, raw.locate)


def test_a_type_that_arrow_does_not_know_is_called_unsupported(tmp_path: Path) -> None:
    pl.DataFrame({"x": [1]}, schema={"x": pl.Int128}).write_parquet(tmp_path / "x.parquet")
    for ask in ("read", "span"):
        with pytest.raises(DataError) as caught:
            getattr(reader_for(str(tmp_path / "x.parquet"), columns=("x",), date_column="x"), ask)()
        assert str(caught.value).startswith("x.parquet: found Parquet that is not supported here (Integers with more")


def test_files_of_a_folder_may_store_text_in_different_types(tmp_path: Path) -> None:
    days = [date(2011, 1, 1), date(2011, 2, 1)]
    for name in ("string", "large_string", "string_view", "categories", "Polars Categorical"):
        pq.write_table(pa.table({"x": DATED[name](days)}), tmp_path / f"{name}.parquet")
    reader = reader_for(str(tmp_path), columns=("x",), date_column="x")
    assert reader.read().frame["x"].tolist() == texts(days) * 5
    assert reader.span() == ("2011-01", "2011-02")


@pytest.mark.parametrize("ask", ["read", "span"])
def test_categories_that_stand_for_very_long_rows_are_stopped_before_they_fill_memory(tmp_path: Path, ask: str) -> None:
    """A text of 5 MB that 800 rows name would take 4 GB."""
    long = pa.array(["2011-01-01" + "x" * 5_000_000])
    rows = pa.DictionaryArray.from_arrays(pa.array([0] * 800, pa.int32()), long)
    pq.write_table(pa.table({"x": rows}), tmp_path / "x.parquet", compression="zstd")
    assert (tmp_path / "x.parquet").stat().st_size < 10_000
    reader = reader_for(
        str(tmp_path / "x.parquet"), columns=("x",), date_column="x", limits=Limits(max_bytes=100_000_000)
    )
    with pytest.raises(DataError, match=r"^x\.parquet: found more than 100000000 bytes when unpacked"):
        getattr(reader, ask)()
