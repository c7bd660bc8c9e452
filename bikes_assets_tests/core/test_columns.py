"""Column functions: lineage from signatures, reads that are not declared, the same result on every engine."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import narwhals as nw
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from bikes_assets.core import columns
from bikes_assets.core.columns import ColumnFunction, column_function, column_lineage, compute, schema_of
from bikes_assets.core.errors import FeatureError
from bikes_assets.core.schema import Column, Schema

if TYPE_CHECKING:
    from bikes_assets.core.columns import Float64, Int64

COUNTS = [5, 3, None, None, None, 8, 13]
OTHERS = [1, 0, 1, 0, 1, 0, 1]
TIMES = [datetime(2012, 8, 1) + timedelta(hours=hour) for hour in range(7)]
ENGINES = {
    "pandas": lambda table: pd.DataFrame(
        {
            "ts": table["ts"].to_pandas(),
            **{name: table[name].to_pandas(types_mapper=nullable) for name in ("cnt", "other")},
        }
    ),
    "polars": pl.from_arrow,
    "polars lazy": lambda table: pl.from_arrow(table).lazy(),
    "duckdb": duckdb.from_arrow,
}


def nullable(_: pa.DataType) -> pd.Int64Dtype:
    return pd.Int64Dtype()


def before(cnt: nw.Expr) -> Int64:
    """Rentals of the hour
    before.

    Unit: rentals/hour.
    Why: the nearest past
    tells most.
    """
    return cnt.shift(1)


def last_three(cnt: nw.Expr) -> Int64:
    """Rentals of the last three hours.

    Unit: rentals.
    Why: a sum is exact.
    """
    return cnt.fill_null(0).rolling_sum(3, min_samples=1)


def last_known(cnt: nw.Expr) -> Int64:
    """Last known rentals, at most two hours old.

    Unit: rentals/hour.
    Why: gaps are short.
    """
    return cnt.fill_null(strategy="forward", limit=2)


def share(cnt: nw.Expr, other: nw.Expr) -> Float64:
    """Half of the two together.

    Unit: 1.
    Why: it reads two columns.
    """
    return (cnt + other) / 2


def peeks(cnt: nw.Expr) -> Int64:
    """Reads what it does not declare.

    Unit: 1.
    Why: it must fail.
    """
    return cnt + nw.col("other")


def declares_absent(cnt: nw.Expr, humidity: nw.Expr) -> Int64:
    """Declares what is not there.

    Unit: 1.
    Why: it must fail.
    """
    return cnt + humidity


def without_docstring(cnt: nw.Expr) -> Int64:
    return cnt


def without_unit(cnt: nw.Expr) -> Int64:
    """One sentence.

    Why: the unit is not said.
    """
    return cnt


def without_why(cnt: nw.Expr) -> Int64:
    """One sentence.

    Unit: 1.
    """
    return cnt


def without_sentence(cnt: nw.Expr) -> Int64:
    """Unit: 1.
    Why: nothing says what it is.
    """
    return cnt


def without_annotation(cnt: nw.Expr):
    """One sentence.

    Unit: 1.
    Why: the type is not said.
    """
    return cnt


def annotated_otherwise(cnt: nw.Expr) -> nw.Expr:
    """One sentence.

    Unit: 1.
    Why: the type is not one of the two.
    """
    return cnt


def table(order: list[int] | None = None) -> pa.Table:
    """Return seven hours, in time order or another."""
    columns = {
        "ts": pa.array(TIMES, pa.timestamp("us")),
        "cnt": pa.array(COUNTS, pa.int64()),
        "other": pa.array(OTHERS),
    }
    return pa.table(columns).take(order or list(range(7)))


def computed(frame: Any, *functions: Callable[..., nw.Expr]) -> dict[str, list[Any]]:
    """Return the columns that functions make, in time order."""
    result = nw.from_native(compute(frame, [column_function(item) for item in functions], key="ts"))
    eager = result.collect("pyarrow") if isinstance(result, nw.LazyFrame) else result
    return pa.table(eager.sort("ts").to_arrow()).to_pydict()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Callable[[pa.Table], Any]:
    return ENGINES[request.param]


def test_signature_and_docstring_say_what_a_column_is() -> None:
    assert column_function(before) == ColumnFunction(
        before,
        ("cnt",),
        Column("before", "int64", "Rentals of the hour before.", "rentals/hour", nullable=True),
        "the nearest past tells most.",
    )
    assert column_function(before).name == "before"
    assert column_function(share).column.type == "float64"


def test_lineage_is_read_from_signatures() -> None:
    functions = [column_function(item) for item in (before, share)]
    assert column_lineage(functions) == {"before": ("cnt",), "share": ("cnt", "other")}


def test_a_schema_holds_key_passed_and_made_columns() -> None:
    # Given
    key, passed = Column("ts", "timestamp", "Hour."), Column("cnt", "int64", "Rentals.")
    made = column_function(share)
    # Then
    assert schema_of("features", [key], [passed], [made]) == Schema("features", ("ts",), (key, passed, made.column))


@pytest.mark.parametrize(
    "function",
    [without_docstring, without_unit, without_why, without_sentence, without_annotation, annotated_otherwise],
)
def test_a_function_that_does_not_say_all_is_refused(function: Callable[..., nw.Expr]) -> None:
    with pytest.raises(FeatureError) as refused:
        column_function(function)
    assert str(refused.value) == (
        f"{function.__name__}: expected `-> Int64` or `-> Float64` and a docstring of a sentence, a blank line, 'Unit: ...' "
        "and 'Why: ...'"
    )


def test_every_engine_computes_the_same(engine: Callable[[pa.Table], Any]) -> None:
    assert computed(engine(table()), before, last_three, last_known, share) == {
        "ts": TIMES,
        "before": [None, 5, 3, None, None, None, 8],
        "last_three": [5, 8, 8, 3, 0, 8, 21],
        "last_known": [5, 3, 3, 3, None, 8, 13],
        "share": [3.0, 1.5, None, None, None, 4.0, 7.0],
    }


def test_row_order_does_not_count(engine: Callable[[pa.Table], Any]) -> None:
    # Given rows in another order
    shuffled = engine(table([4, 0, 6, 2, 1, 5, 3]))
    # Then
    assert computed(shuffled, before, last_three) == computed(engine(table()), before, last_three)


@pytest.mark.parametrize(
    "labels", [[10, 20, 30, 40, 50, 60, 70], [6, 5, 4, 3, 2, 1, 0], [0, 0, 0, 1, 1, 1, 2], list("abcdefg")]
)
def test_pandas_row_labels_do_not_count(labels: list[Any]) -> None:
    # Given
    frame = ENGINES["pandas"](table([4, 0, 6, 2, 1, 5, 3])).set_index(pd.Index(labels))
    # Then
    assert computed(frame, before)["before"] == [None, 5, 3, None, None, None, 8]


def test_a_read_that_is_not_declared_fails_by_name(engine: Callable[[pa.Table], Any]) -> None:
    with pytest.raises(
        FeatureError, match=r"^peeks: cannot be computed from what it declares \(ts, cnt\): "
    ) as refused:
        computed(engine(table()), before, peeks)
    assert refused.value.__cause__ is not None


def test_a_declared_column_that_is_absent_fails_by_name(engine: Callable[[pa.Table], Any]) -> None:
    with pytest.raises(FeatureError) as refused:
        computed(engine(table()), before, declares_absent)
    assert str(refused.value) == "declares_absent: declares humidity, but the table has ts, cnt, other"


def test_the_key_may_be_an_input(engine: Callable[[pa.Table], Any]) -> None:
    def hour(ts: nw.Expr) -> Int64:
        """Hour of the day.

        Unit: hour.
        Why: days have a rhythm.
        """
        return ts.dt.hour()

    assert computed(engine(table()), hour)["hour"] == [0, 1, 2, 3, 4, 5, 6]


def test_columns_keep_the_order_and_type_of_their_functions(engine: Callable[[pa.Table], Any]) -> None:
    # When
    made = compute(engine(table()), [column_function(item) for item in (share, before)], key="ts")
    # Then
    types = nw.from_native(made).collect_schema()
    assert list(types) == ["ts", "share", "before"]
    assert [types["share"], types["before"]] == [nw.Float64, nw.Int64]


def test_no_functions_leave_the_key(engine: Callable[[pa.Table], Any]) -> None:
    assert computed(engine(table())) == {"ts": TIMES}


@pytest.mark.parametrize(("name", "type_name"), [("Int64", "int64"), ("Float64", "float64")])
def test_a_type_is_read_where_annotations_are_evaluated_as_well(name: str, type_name: str) -> None:
    def double(cnt: nw.Expr) -> nw.Expr:
        """Twice the rentals.

        Unit: rentals.
        Why: more is more.
        """
        return cnt * 2

    double.__annotations__["return"] = getattr(columns, name)
    assert column_function(double).column.type == type_name


@pytest.mark.parametrize(
    ("recorded", "state"),
    [
        ("proven", "observed"),
        ("never seen", "not observed"),
        *((state, state) for state in ("observed", "not observed", "missing only", "unverified")),
    ],
)
def test_states_of_earlier_records_are_read_in_the_words_of_now(recorded: str, state: str) -> None:
    assert columns.evidence_state(recorded) == state
