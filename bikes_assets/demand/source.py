"""Rental records of the source: from raw rows to one typed, validated row for each hour."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from bikes_assets.core.checks import out_of_range
from bikes_assets.core.errors import DataError, SchemaError
from bikes_assets.demand.tables import HOURLY_RENTALS, RENTAL_RECORDS

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from bikes_assets.core.schema import Column
    from bikes_assets.verification.invariants import Invariant

_DATE = "dteday"
_TEXT = {
    "int64": ("a whole number", r"^(?:0|-?[1-9][0-9]{0,17})$"),
    "float64": ("a number", r"^-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"),
    "string": ("a date as YYYY-MM-DD", r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"),
}
"""How each type is named in messages, and how it is written in a text file."""
_MOST_SHOWN = 100
_ARROW_TEXT: Any = "large_string[pyarrow]"


class _BadValue(NamedTuple):
    position: int
    column: str
    found: str
    expected: str


def parse(frame: pd.DataFrame, locate: Callable[[int], tuple[str, int]]) -> pd.DataFrame:
    """Return raw rows as rental records: typed, validated, sorted by date and hour.

    Args:
        frame: the columns of RENTAL_RECORDS, as text or in the types of a database or Parquet file; rows in any order.
        locate: returns file and row for a position in `frame`, for error messages.

    Returns:
        RENTAL_RECORDS: int64, `Int64` where values may be missing, float64, dteday as YYYY-MM-DD in `string[pyarrow]`.

    Raises:
        DataError: for the lowest row that breaks a rule. Types are checked first, then ranges, then rules between
            columns and rows.
        SchemaError: `frame` has other columns, or no rows.
    """
    if tuple(frame.columns) != RENTAL_RECORDS.names or frame.empty:
        found = f"{len(frame)} rows of {', '.join(map(str, frame.columns))}"
        raise SchemaError(f"{RENTAL_RECORDS.name}: found {found}, expected rows of {', '.join(RENTAL_RECORDS.names)}")
    records = _typed(frame, locate)
    _refuse(_out_of_range(records), locate)
    _refuse(_contradictions(records), locate)
    return records.sort_values(list(RENTAL_RECORDS.key), ignore_index=True)


def months_in(records: pd.DataFrame) -> list[str]:
    """Return the months that records have rows of, such as `2012-08`, in order."""
    return sorted(records[_DATE].str.slice(stop=7).unique())


def month_of(records: pd.DataFrame, month: str) -> pd.DataFrame:
    """Return the records of one month such as `2012-08`, in their order: RENTAL_RECORDS, empty when there are none."""
    return records[records[_DATE].str.startswith(f"{month}-")].reset_index(drop=True)


def hourly_rentals(records: pd.DataFrame) -> pd.DataFrame:
    """Return rental records as HOURLY_RENTALS: ts, the start of the hour (datetime64[us], naive), in place of dteday.

    Missing weather stays missing; hours without a record stay absent.
    """
    import pandas as pd

    start = _calendar(records[_DATE]) + pd.to_timedelta(records["hr"], unit="h").astype("timedelta64[us]")
    return records.assign(ts=start)[list(HOURLY_RENTALS.names)]


def rental_invariants(rentals: pd.DataFrame) -> tuple[Invariant, ...]:
    """Return what holds in every row of HOURLY_RENTALS beyond the columns' ranges, as `verification.invariants`.

    Contradictory records are refused by these rules.

    Args:
        rentals: HOURLY_RENTALS; from which the year that `yr` counts from is derived.
    """
    from bikes_assets.verification.invariants import Derived, Total, Unique

    counted_from = (rentals["ts"].dt.year - rentals["yr"]).mode()[0]
    return (
        Derived("yr", ("ts",), lambda frame: frame["ts"].dt.year - counted_from),
        Derived("mnth", ("ts",), lambda frame: frame["ts"].dt.month),
        Derived("hr", ("ts",), lambda frame: frame["ts"].dt.hour),
        Derived("weekday", ("ts",), lambda frame: _weekday(frame["ts"])),
        Derived("workingday", ("weekday", "holiday"), _workingday),
        Total("cnt", ("casual", "registered")),
        Unique("instant"),
    )


def _weekday(day: pd.Series[pd.Timestamp]) -> pd.Series[int]:
    """Return days of the week, 0 Sunday."""
    return (day.dt.dayofweek + 1) % 7


def _workingday(rows: pd.DataFrame) -> pd.Series[int]:
    """Return 1 unless weekend or holiday; missing if either is."""
    return (~rows["weekday"].isin([0, 6]) & (rows["holiday"] == 0)).astype("Int64")


def _refuse(bad_values: list[_BadValue], locate: Callable[[int], tuple[str, int]]) -> None:
    """Raise the error of the lowest row, if any."""
    if bad_values:
        bad = min(bad_values, key=lambda bad: bad.position)
        file, row = locate(bad.position)
        raise DataError(file, row=row, column=bad.column, found=bad.found, expected=bad.expected)


def _expected(column: Column) -> str:
    words = [_TEXT[column.type][0], column.constraint, "or nothing" if column.nullable else ""]
    return ", ".join(word for word in words if word)


def _dtype(column: Column) -> str:
    if column.nullable:
        return {"int64": "Int64", "float64": "Float64", "bool": "boolean"}.get(column.type, _dtype_of(column.type))
    return _dtype_of(column.type)


def _dtype_of(type_name: str) -> str:
    return {"string": "string[pyarrow]", "timestamp": "datetime64[us]"}.get(type_name, type_name)


def _calendar(dates: pd.Series[str]) -> pd.Series[pd.Timestamp]:
    """Return YYYY-MM-DD texts as midnights, datetime64[us]: nanoseconds would end in the year 2262."""
    import pandas as pd

    return pd.Series(pd.DatetimeIndex(dates.to_numpy(dtype="datetime64[us]")), index=dates.index)


def _typed(frame: pd.DataFrame, locate: Callable[[int], tuple[str, int]]) -> pd.DataFrame:
    """Return each column in its declared type; the first value that is not valid for it raises an error."""
    import pandas as pd

    columns: dict[str, pd.Series[Any]] = {}
    bad_values: list[_BadValue] = []
    for column in RENTAL_RECORDS.columns:
        raw = frame[column.name]
        try:
            text = _as_text(raw)
        except (NotImplementedError, TypeError, ValueError):  # lists, bytes: nothing that a text file could hold
            expected = _expected(column)
            raise DataError(
                locate(0)[0], column=column.name, found=f"type {raw.dtype}, which is not supported", expected=expected
            ) from None
        typed = _from_text(text, column)
        blank = text.isna() | (text == "").fillna(False)
        wrong = typed.isna() & ~blank if column.nullable else typed.isna()
        if wrong.any():
            position = _first(wrong)
            found = "nothing" if blank.iloc[position] else repr(raw.iloc[position])[:_MOST_SHOWN]
            bad_values.append(_BadValue(position, column.name, found, _expected(column)))
        else:
            # one by one: all columns in both types at once would be the peak of memory
            dtype: Any = _dtype(column)
            columns[column.name] = typed.astype(dtype)
    _refuse(bad_values, locate)
    return pd.DataFrame(columns, copy=False)


def _as_text(values: pd.Series[Any]) -> pd.Series[str]:
    """Return values of any type as they would be written in a text: one rule for all sources; 1.0 is no integer."""
    written = cast("pd.Series[str]", values.astype(_ARROW_TEXT))
    if str(values.dtype).startswith("timestamp"):
        return written.str.replace(r"[ T]00:00:00(\.0+)?$", "", regex=True)
    return written


def _from_text(text: pd.Series[str], column: Column) -> pd.Series[Any]:
    """Return text in the column's type, missing if it is not valid for it: nothing is trimmed or guessed."""
    written = text.where(text.str.contains(_TEXT[column.type][1], regex=True))
    if column.type == "int64":
        return written.astype("Int64")
    if column.type == "float64":
        number = written.astype("Float64")
        return number.where(number.abs() < float("inf"))  # 1e999 parses as a number but is infinite
    real = [day for day in written.dropna().unique() if _is_real(day)]
    return written.where(written.isin(real))


def _is_real(day: str) -> bool:
    try:
        date.fromisoformat(day)
    except ValueError:
        return False
    return True


def _first(wrong: pd.Series[bool]) -> int:
    return int(wrong.to_numpy(dtype=bool).argmax())


def _out_of_range(records: pd.DataFrame) -> list[_BadValue]:
    """Return, for each column, the first row with a value outside its range or allowed values."""
    import pyarrow as pa

    bad_values: list[_BadValue] = []
    for column in RENTAL_RECORDS.columns:
        values = records[column.name]
        if rows := out_of_range(pa.array(values, from_pandas=True), column):
            bad_values.append(_BadValue(rows[0], column.name, str(values.iloc[rows[0]]), _expected(column)))
    return bad_values


def _contradictions(records: pd.DataFrame) -> list[_BadValue]:
    """Return, for each rule between columns or rows, the first row that breaks it."""
    day = _calendar(records[_DATE])
    counted_from = day.dt.year - records["yr"]
    rules = {
        "yr": (day.dt.year - counted_from.mode()[0], "as most rows count years"),
        "mnth": (day.dt.month, "the month of dteday"),
        "weekday": (_weekday(day), "the weekday of dteday, 0 Sunday"),
        "workingday": (_workingday(records), "1 unless weekend or holiday"),
        "cnt": (records["casual"] + records["registered"], "casual + registered"),
    }
    bad_values: list[_BadValue] = []
    for name, (right, reason) in rules.items():
        if (wrong := records[name] != right).any():
            position = _first(wrong)
            expected = f"{right.iloc[position]}, {reason}"
            bad_values.append(_BadValue(position, name, str(records[name].iloc[position]), expected))
    for key, rule in ((["instant"], "a number that no other row has"), ([_DATE, "hr"], "one row an hour")):
        if (again := records.duplicated(key)).any():
            position = _first(again)
            found = " ".join(str(records[name].iloc[position]) for name in key) + " a second time"
            bad_values.append(_BadValue(position, key[-1], found, rule))
    return bad_values
