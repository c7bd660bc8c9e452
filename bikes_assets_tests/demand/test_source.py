"""Rental records: what is accepted from each kind of source, and how each broken rule is named."""

from __future__ import annotations

import csv
import gzip
import io
import sqlite3
from datetime import date
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from bikes_assets.core.digest import table_digest
from bikes_assets.core.errors import DataError, SchemaError
from bikes_assets.demand.source import _out_of_range, hourly_rentals, month_of, parse
from bikes_assets.demand.tables import HOURLY_RENTALS, RENTAL_RECORDS
from bikes_assets.storage.sources.readers import reader_for

SHIPPED = Path(__file__).parents[2] / "data" / "raw" / "hour.csv"
SHIPPED_DIGEST = "984bede2b8a3d150c0d3fcb0d640cd10"
HEADER = ",".join(RENTAL_RECORDS.names)

SATURDAY = """\
1,2011-01-01,1,0,1,0,0,6,0,1,0.24,0.2879,0.81,0,3,13,16
2,2011-01-01,1,0,1,1,0,6,0,1,0.22,0.2727,0.8,0,8,32,40
3,2011-01-01,1,0,1,3,0,6,0,,0.24,0.2879,0.75,0,3,10,13
4,2012-02-29,1,1,2,5,0,3,1,2,1,.5,1e-1,0.,0,1,1
"""
"""Three hours of a Saturday and one of a leap day: lines 2 to 5 of a file."""


def parsed(source: object, query: str | None = None) -> pd.DataFrame:
    reader = reader_for(str(source), columns=RENTAL_RECORDS.names, date_column="dteday", query=query)
    raw = reader.read()
    return parse(raw.frame, raw.locate)


def written(folder: Path, rows: str, name: str = "hour.csv") -> Path:
    path = folder / name
    path.write_text(f"{HEADER}\n{rows}")
    return path


def changed(line: int, column: str, value: str) -> str:
    """Return SATURDAY with one field of one line of the file replaced."""
    rows = [row.split(",") for row in SATURDAY.splitlines()]
    rows[line - 2][RENTAL_RECORDS.names.index(column)] = value
    return "".join(",".join(row) + "\n" for row in rows)


def digest(records: pd.DataFrame) -> str:
    return table_digest(HOURLY_RENTALS.conform(hourly_rentals(records)), HOURLY_RENTALS).table


@pytest.fixture(scope="module")
def shipped() -> pd.DataFrame:
    return parsed(SHIPPED)


def test_the_shipped_file_is_read_whole(shipped: pd.DataFrame) -> None:
    assert len(shipped) == 17_379
    assert shipped["weathersit"].isna().sum() == 609
    assert shipped["cnt"].sum() == 3_292_679
    assert shipped["casual"].sum() == 620_017
    assert shipped["registered"].sum() == 2_672_662
    assert digest(shipped) == SHIPPED_DIGEST
    assert RENTAL_RECORDS.conform(shipped).num_rows == 17_379


def test_records_are_typed_and_sorted(tmp_path: Path) -> None:
    # Given rows in another order
    records = parsed(written(tmp_path, "\n".join(reversed(SATURDAY.splitlines()))))
    assert records["instant"].tolist() == [1, 2, 3, 4]
    assert records["dteday"].tolist() == ["2011-01-01"] * 3 + ["2012-02-29"]
    assert records["weathersit"].tolist() == [1, 1, pd.NA, 2]
    assert records[["temp", "atemp", "hum", "windspeed"]].iloc[3].tolist() == [1.0, 0.5, 0.1, 0.0]
    dtypes = {name: str(dtype) for name, dtype in records.dtypes.items()}
    assert dtypes.pop("weathersit") == "Int64"
    assert dtypes.pop("dteday") == "string"
    assert {dtypes.pop(name) for name in ("temp", "atemp", "hum", "windspeed")} == {"float64"}
    assert set(dtypes.values()) == {"int64"}


def typed_table() -> pa.Table:
    types = {name: pa.string() for name in ("dteday",)}
    return pa.csv.read_csv(SHIPPED, convert_options=pa.csv.ConvertOptions(column_types=types))


def as_gzip(folder: Path) -> Path:
    (folder / "hour.csv.gz").write_bytes(gzip.compress(SHIPPED.read_bytes(), 1))
    return folder / "hour.csv.gz"


def as_parquet(folder: Path) -> Path:
    pq.write_table(typed_table(), folder / "hour.parquet")
    return folder / "hour.parquet"


def as_dated_parquet(folder: Path) -> Path:
    table = typed_table()
    narrow = [pa.int16() if pa.types.is_integer(field.type) else field.type for field in table.schema]
    narrow[:2] = [pa.int32(), pa.date32()]
    fields = [pa.field(name, kind) for name, kind in zip(table.column_names, narrow, strict=True)]
    pq.write_table(table.cast(pa.schema(fields)), folder / "hour.parquet")
    return folder / "hour.parquet"


def as_timed_parquet(folder: Path) -> Path:
    table = typed_table()
    pq.write_table(table.set_column(1, "dteday", table["dteday"].cast(pa.timestamp("us"))), folder / "hour.parquet")
    return folder / "hour.parquet"


def as_folder(folder: Path) -> Path:
    header, *lines = SHIPPED.read_text().splitlines(keepends=True)
    (folder / "2011.csv").write_text(header + "".join(lines[:8645]))
    (folder / "2012.csv").write_text(header + "".join(lines[8645:]))
    return folder


def as_memory(_: Path) -> str:
    fsspec.filesystem("memory").pipe("/source/hour.csv", SHIPPED.read_bytes())
    return "memory://source/hour.csv"


def as_database(folder: Path) -> str:
    with sqlite3.connect(folder / "hour.db") as connection:
        typed_table().to_pandas(types_mapper=pd.ArrowDtype).astype(object).replace({pd.NA: None}).to_sql(
            "hour", connection, index=False
        )
    connection.close()
    return f"sqlite:///{folder / 'hour.db'}"


@pytest.mark.parametrize(
    "kind", [as_gzip, as_parquet, as_dated_parquet, as_timed_parquet, as_folder, as_memory, as_database]
)
def test_every_kind_of_source_gives_the_same_records(tmp_path: Path, shipped: pd.DataFrame, kind: Any) -> None:
    # Given the shipped rows in another kind of source
    records = parsed(kind(tmp_path), "select * from hour" if kind is as_database else None)
    # When they are parsed, then frame and digest are equal to those of the file
    pd.testing.assert_frame_equal(records, shipped)
    assert digest(records) == SHIPPED_DIGEST


FAULTS = {
    "text in int": (3, "cnt", "many", "'many'", "a whole number, 0.."),
    "float in int": (3, "cnt", "40.0", "'40.0'", "a whole number, 0.."),
    "space in int": (2, "hr", " 0", "' 0'", "a whole number, 0..23"),
    "leading zero": (2, "hr", "00", "'00'", "a whole number, 0..23"),
    "thousands": (4, "registered", "1e3", "'1e3'", "a whole number, 0.."),
    "too large for int64": (2, "cnt", "9" * 19, "'" + "9" * 19 + "'", "a whole number, 0.."),
    "Arabic digits": (3, "hr", "\u0661", "'\u0661'", "a whole number, 0..23"),
    "infinite": (5, "temp", "1e999", "'1e999'", "a number, 0..1"),
    "inf": (5, "temp", "inf", "'inf'", "a number, 0..1"),
    "NaN": (2, "hum", "NaN", "'NaN'", "a number, 0..1"),
    "hexadecimal": (2, "hum", "0x1p-1", "'0x1p-1'", "a number, 0..1"),
    "NA": (2, "weathersit", "NA", "'NA'", "a whole number, one of 1, 2, 3, 4, or nothing"),
    "blank int": (4, "casual", "", "nothing", "a whole number, 0.."),
    "blank float": (4, "windspeed", "", "nothing", "a number, 0..1"),
    "blank date": (4, "dteday", "", "nothing", "a date as YYYY-MM-DD"),
    "impossible date": (4, "dteday", "2011-02-30", "'2011-02-30'", "a date as YYYY-MM-DD"),
    "no leap year": (5, "dteday", "2011-02-29", "'2011-02-29'", "a date as YYYY-MM-DD"),
    "other date format": (2, "dteday", "01/01/2011", "'01/01/2011'", "a date as YYYY-MM-DD"),
    "date with time": (2, "dteday", "2011-01-01 00:00:00", "'2011-01-01 00:00:00'", "a date as YYYY-MM-DD"),
    "above the range": (3, "hum", "1.01", "1.01", "a number, 0..1"),
    "below the range": (3, "temp", "-0.02", "-0.02", "a number, 0..1"),
    "hour 24": (4, "hr", "24", "24", "a whole number, 0..23"),
    "negative count": (4, "casual", "-1", "-1", "a whole number, 0.."),
    "not allowed category": (5, "weathersit", "5", "5", "a whole number, one of 1, 2, 3, 4, or nothing"),
    "not allowed season": (5, "season", "0", "0", "a whole number, one of 1, 2, 3, 4"),
    "row number zero": (2, "instant", "0", "0", "a whole number, 1.."),
    "row number twice": (5, "instant", "2", "2 a second time", "a number that no other row has"),
    "duplicate hour": (4, "hr", "1", "2011-01-01 1 a second time", "one row an hour"),
    "counts do not add up": (3, "cnt", "41", "41", "40, casual + registered"),
    "wrong weekday": (5, "weekday", "4", "4", "3, the weekday of dteday, 0 Sunday"),
    "wrong month": (5, "mnth", "3", "3", "2, the month of dteday"),
    "wrong workingday": (2, "workingday", "1", "1", "0, 1 unless weekend or holiday"),
    "working holiday": (5, "holiday", "1", "1", "0, 1 unless weekend or holiday"),
    "inconsistent year": (5, "yr", "2", "2", "1, as most rows count years"),
}


@pytest.mark.parametrize(("line", "column", "value", "found", "expected"), FAULTS.values(), ids=FAULTS)
def test_a_broken_rule_is_named_with_file_row_and_column(
    tmp_path: Path, line: int, column: str, value: str, found: str, expected: str
) -> None:
    with pytest.raises(DataError) as caught:
        parsed(written(tmp_path, changed(line, column, value)))
    blamed = "workingday" if column == "holiday" else column
    assert str(caught.value) == f"hour.csv, row {line}, column {blamed}: found {found}, expected {expected}"
    assert (caught.value.file, caught.value.row, caught.value.column) == ("hour.csv", line, blamed)


def test_the_lowest_row_is_named_whatever_its_column(tmp_path: Path) -> None:
    rows = [SATURDAY.splitlines()[0], "x," + SATURDAY.splitlines()[1].partition(",")[2]]
    with pytest.raises(DataError, match="row 2, column cnt"):
        parsed(written(tmp_path, "\n".join([rows[0][:-2] + "x", rows[1]])))


def test_a_fault_in_a_folder_is_named_with_its_file(tmp_path: Path) -> None:
    written(tmp_path, SATURDAY, "a.csv")
    written(tmp_path, changed(5, "hum", "?"), "b.csv")
    with pytest.raises(DataError, match=r"b\.csv, row 5, column hum: found '\?'"):
        parsed(tmp_path)


@pytest.mark.parametrize(
    ("column", "values", "row", "found"),
    [
        ("hr", pa.array([0.0, 1.0, 3.0, 5.5]), 4, "5.5"),
        ("hr", pa.array([0, None, 3, 5]), 2, "nothing"),
        ("holiday", pa.array([False] * 4), 1, "False"),
        ("temp", pa.array([0.5, 0.5, float("nan"), 0.5]), 3, "nan"),
        ("temp", pa.array([0.5, 0.5, 0.5, float("inf")]), 4, "inf"),
        ("dteday", pa.array([0, 0, 0, 1], pa.timestamp("us")), 4, "Timestamp('1970-01-01 00:00:00.000001')"),
        ("dteday", pa.array([1, 1, 1, 1]), 1, "1"),
        ("instant", pa.array([2**64 - 1] * 4, pa.uint64()), 1, "18446744073709551615"),
    ],
)
def test_stored_values_of_another_type_are_refused(
    tmp_path: Path, column: str, values: pa.Array, row: int, found: str
) -> None:
    # Given a Parquet file with one column of another type
    table = pa.csv.read_csv(written(tmp_path, SATURDAY, "saturday.txt"))
    table = table.set_column(1, "dteday", table["dteday"].cast(pa.string()))
    pq.write_table(table.set_column(table.column_names.index(column), column, values), tmp_path / "hour.parquet")
    # When it is parsed, then the value is refused rather than cast
    with pytest.raises(DataError) as caught:
        parsed(tmp_path / "hour.parquet")
    assert str(caught.value).startswith(f"hour.parquet, row {row}, column {column}: found {found}, expected a ")


def test_stored_lists_are_refused(tmp_path: Path) -> None:
    table = pa.table({name: [[1]] if name == "hr" else ["1"] for name in RENTAL_RECORDS.names})
    pq.write_table(table, tmp_path / "hour.parquet")
    with pytest.raises(DataError, match=r"hour\.parquet, column hr: found type list<element: int64>, which is not"):
        parsed(tmp_path / "hour.parquet")


def test_stored_decimals_are_numbers(tmp_path: Path) -> None:
    # Given a database that counts and measures in decimals
    table = pa.csv.read_csv(written(tmp_path, SATURDAY, "saturday.txt"))
    table = table.set_column(16, "cnt", table["cnt"].cast(pa.decimal128(20, 0)))
    table = table.set_column(12, "hum", table["hum"].cast(pa.decimal128(4, 2)))
    pq.write_table(table, tmp_path / "hour.parquet")
    # When they are parsed, then they are as from text
    pd.testing.assert_frame_equal(parsed(tmp_path / "hour.parquet"), parsed(written(tmp_path, SATURDAY)))


def test_a_long_value_is_cut_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        parsed(written(tmp_path, changed(2, "hr", "x" * 5000)))
    assert len(str(caught.value)) < 200


def test_a_frame_of_other_columns_or_without_rows_is_refused() -> None:
    with pytest.raises(SchemaError, match="rental_records: found 0 rows of x, expected rows of instant, dteday"):
        parse(pd.DataFrame({"x": []}), lambda position: ("frame", position))
    with pytest.raises(SchemaError, match="found 0 rows of instant"):
        parse(pd.DataFrame(columns=list(RENTAL_RECORDS.names)), lambda position: ("frame", position))


@pytest.mark.parametrize("first_year", [1999, 2024, 2300])
def test_other_years_are_read_as_well(tmp_path: Path, first_year: int) -> None:
    # Given a year and a day of other dates, hours absent, weather known everywhere, years counted from elsewhere
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    number = 0
    for ordinal in range(date(first_year, 1, 1).toordinal(), date(first_year + 1, 1, 2).toordinal()):
        day = date.fromordinal(ordinal)
        weekday = day.isoweekday() % 7
        for hour in range(0, 24, 5):
            number += 1
            calendar = (day.year - 1990, day.month, hour, 0, weekday, int(weekday in range(1, 6)))
            rows.writerow((number, day, 1, *calendar, 4, 0.5, 0.5, 0.5, 0.5, 1, 2, 3))
    # When they are parsed
    records = parsed(written(tmp_path, buffer.getvalue()))
    # Then they are rentals like any other
    table = HOURLY_RENTALS.conform(hourly_rentals(records))
    assert len(table) == number
    assert table["ts"][0].as_py().isoformat() == f"{first_year}-01-01T00:00:00"
    assert records["weathersit"].notna().all()
    assert len(month_of(records, f"{first_year}-03")) == 31 * 5


def test_a_month_holds_its_rows_only(shipped: pd.DataFrame) -> None:
    august = month_of(shipped, "2012-08")
    assert len(august) == 744
    assert (august["dteday"].min(), august["dteday"].max()) == ("2012-08-01", "2012-08-31")
    assert august.index.tolist() == list(range(744))
    assert list(august.columns) == list(RENTAL_RECORDS.names)
    assert month_of(shipped, "2013-01").empty
    # Then the months together are all rows
    months = [month_of(shipped, f"{year}-{month:02d}") for year in (2011, 2012) for month in range(1, 13)]
    pd.testing.assert_frame_equal(pd.concat(months, ignore_index=True), shipped)


def test_hourly_rentals_start_at_their_hour(tmp_path: Path) -> None:
    rentals = hourly_rentals(parsed(written(tmp_path, SATURDAY)))
    assert rentals["ts"].astype(str).tolist() == [
        "2011-01-01 00:00:00",
        "2011-01-01 01:00:00",
        "2011-01-01 03:00:00",
        "2012-02-29 05:00:00",
    ]
    assert rentals["weathersit"].tolist() == [1, 1, pd.NA, 2]
    assert HOURLY_RENTALS.conform(rentals).schema == HOURLY_RENTALS.arrow()
    # And an empty month is an empty table of the same layout
    empty = hourly_rentals(month_of(parsed(tmp_path / "hour.csv"), "2011-07"))
    assert HOURLY_RENTALS.conform(empty).num_rows == 0


def test_the_rows_are_of_the_declared_schema_and_in_its_ranges(shipped: pd.DataFrame) -> None:
    rentals = hourly_rentals(shipped)
    assert list(rentals.columns) == list(HOURLY_RENTALS.names)
    assert [column.name for column in RENTAL_RECORDS.columns if column.nullable] == ["weathersit"]
    assert HOURLY_RENTALS.conform(rentals).num_rows == len(shipped)
    assert _out_of_range(shipped) == []
    (fault,) = _out_of_range(shipped.assign(hr=24))
    assert (fault.position, fault.column, fault.found) == (0, "hr", "24")
    with pytest.raises(SchemaError, match="x"):
        parse(shipped.assign(x=1), lambda position: ("hour.csv", position))
