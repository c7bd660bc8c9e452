"""Declared tables: what conforms, and how each refusal names table, column, what was found and what was expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from bikes_assets.core.errors import SchemaError
from bikes_assets.core.schema import Column, ColumnType, Schema

SALES = Schema(
    "sales",
    key=("day", "shop"),
    columns=(
        Column("day", "timestamp", "Day of sale."),
        Column("shop", "string", "Name of the shop."),
        Column("count", "int64", "Pieces sold.", "pieces", minimum=0),
        Column("price", "float64", "Mean price.", nullable=True),
        Column("open", "bool", "Whether it was open.", nullable=True),
    ),
)


def sales(**changed: Any) -> pa.Table:
    """Return two lawful rows, in key order, with some columns replaced."""
    columns = {
        "day": pa.array([0, 86_400_000_000], pa.timestamp("us")),
        "shop": pa.array(["a", "b"]),
        "count": pa.array([1, 2]),
        "price": pa.array([1.5, None]),
        "open": pa.array([True, None]),
    }
    return pa.table({name: changed.get(name, column) for name, column in columns.items()})


def one_column(column_type: ColumnType, values: pa.Array, *, nullable: bool = False) -> pa.Table:
    """Return a table of a key and one column of that type, conformed."""
    schema = Schema("t", ("k",), (Column("k", "int64", "Key."), Column("x", column_type, "Value.", nullable=nullable)))
    return schema.conform(pa.table({"k": range(len(values)), "x": values}))


def test_a_lawful_table_is_returned_as_declared() -> None:
    # When
    table = SALES.conform(sales())
    # Then
    assert table.equals(sales())
    assert table.schema == SALES.arrow()
    assert table["shop"].num_chunks == 1


@pytest.mark.parametrize(
    "engine",
    [pl.from_arrow, lambda table: pl.from_arrow(table).lazy(), duckdb.from_arrow, lambda table: table.slice(0)],
    ids=["polars", "polars lazy", "duckdb", "arrow"],
)
def test_every_engine_gives_the_same_table(engine: Callable[[pa.Table], Any]) -> None:
    assert SALES.conform(engine(sales())).equals(sales())


def test_a_pandas_nan_stands_for_null() -> None:
    # Given
    frame = sales().to_pandas()
    assert np.isnan(frame["price"][1])
    # When
    table = SALES.conform(frame.astype({"open": "boolean"}))
    # Then
    assert table["price"].to_pylist() == [1.5, None]
    assert table["open"].to_pylist() == [True, None]


def test_the_pandas_index_does_not_count() -> None:
    frame = sales().to_pandas().astype({"open": "boolean"})
    assert SALES.conform(frame.set_index(pd.Index([7, 7]))).equals(sales())


def test_rows_come_in_key_order() -> None:
    # Given rows whose order in the first key column is undone and tied
    days = pa.array([1, 0, 0], pa.timestamp("us"))
    rows = pa.table(
        {
            "day": days,
            "shop": ["a", "b", "a"],
            "count": [1, 2, 3],
            "price": [1.0, 2.0, 3.0],
            "open": [True, True, False],
        }
    )
    # When
    table = SALES.conform(rows)
    # Then
    assert table["count"].to_pylist() == [3, 2, 1]


def test_an_empty_table_conforms() -> None:
    assert SALES.conform(SALES.arrow().empty_table()).num_rows == 0
    assert SALES.conform(pa.Table.from_batches([], SALES.arrow())).schema == SALES.arrow()


@pytest.mark.parametrize("like", [pa.large_string(), pa.string_view()])
def test_every_utf8_layout_is_the_same_content(like: pa.DataType) -> None:
    assert one_column("string", pa.array(["a", "ü"], like))["x"].type == pa.string()


def test_whole_microseconds_in_nanoseconds_are_the_same_content() -> None:
    # When
    table = one_column("timestamp", pa.array([1_000, 2_000], pa.timestamp("ns")))
    # Then
    assert table["x"].cast(pa.int64()).to_pylist() == [1, 2]


def test_a_fraction_of_a_microsecond_is_refused() -> None:
    with pytest.raises(
        SchemaError, match=r"^t\.x: Casting from timestamp\[ns\] to timestamp\[us\] would lose data: 1$"
    ):
        one_column("timestamp", pa.array([1], pa.timestamp("ns")))


@pytest.mark.parametrize(
    ("declared", "values", "found"),
    [
        ("int64", pa.array([1.0]), "double"),
        ("int64", pa.array([1], pa.int32()), "int32"),
        ("int64", pa.array([1], pa.uint64()), "uint64"),
        ("int64", pa.array([True]), "bool"),
        ("int64", pa.array(["1"]), "string"),
        ("int64", pa.array([None], pa.null()), "null"),
        ("float64", pa.array([1]), "int64"),
        ("float64", pa.array([1.0], pa.float32()), "float"),
        ("bool", pa.array([1]), "int64"),
        ("string", pa.array([b"a"]), "binary"),
        ("string", pa.array(["a"]).dictionary_encode(), "dictionary<values=string, indices=int32, ordered=0>"),
        ("timestamp", pa.array([1], pa.timestamp("us", "UTC")), "timestamp[us, tz=UTC]"),
        ("timestamp", pa.array([1], pa.timestamp("ms")), "timestamp[ms]"),
        ("timestamp", pa.array([1], pa.timestamp("s")), "timestamp[s]"),
        ("timestamp", pa.array([1], pa.date32()), "date32[day]"),
        ("timestamp", pa.array([1]), "int64"),
    ],
)
def test_another_type_is_refused_by_name(declared: ColumnType, values: pa.Array, found: str) -> None:
    with pytest.raises(SchemaError) as refused:
        one_column(declared, values, nullable=True)
    assert str(refused.value) == f"t.x: found type {found}, expected {declared}"


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["day", "shop", "count", "price"], "day, shop, count, price"),
        (["day", "shop", "count", "open", "price"], "day, shop, count, open, price"),
    ],
    ids=["missing", "order"],
)
def test_other_columns_are_refused_by_name(names: list[str], found: str) -> None:
    with pytest.raises(SchemaError) as refused:
        SALES.conform(sales().select(names))
    assert str(refused.value) == f"sales: found columns {found}, expected day, shop, count, price, open"


def test_an_extra_a_renamed_and_a_doubled_column_are_refused() -> None:
    expected = "expected day, shop, count, price, open$"
    with pytest.raises(SchemaError, match=f"^sales: found columns day, shop, count, price, open, more, {expected}"):
        SALES.conform(sales().append_column("more", [[1, 2]]))
    with pytest.raises(SchemaError, match=f"^sales: found columns day, Shop, count, price, open, {expected}"):
        SALES.conform(sales().rename_columns({"shop": "Shop"}))
    with pytest.raises(SchemaError, match=f"^sales: found columns day, shop, count, price, open, open, {expected}"):
        SALES.conform(sales().append_column("open", [[True, True]]))


def test_a_null_where_none_may_be_is_refused_with_its_row() -> None:
    with pytest.raises(SchemaError) as refused:
        SALES.conform(sales(count=pa.array([1, None])))
    assert str(refused.value) == "sales.count: found null in row 2, expected a value in every row"


def test_a_nan_that_arrow_holds_is_refused() -> None:
    with pytest.raises(SchemaError) as refused:
        SALES.conform(sales(price=pa.array([1.0, float("nan")])))
    assert str(refused.value) == "sales.price: found NaN, expected null for a missing value"


def test_a_nan_that_polars_holds_is_refused() -> None:
    with pytest.raises(SchemaError, match=r"^sales\.price: found NaN"):
        SALES.conform(pl.from_arrow(sales()).with_columns(price=pl.lit(float("nan"))))


def test_a_key_that_stands_twice_is_refused_with_its_values() -> None:
    # Given rows that agree in one key column each, and then in both
    assert SALES.conform(sales(shop=pa.array(["a", "a"]))).num_rows == 2
    day = pa.array([0, 0], pa.timestamp("us"))
    assert SALES.conform(sales(day=day)).num_rows == 2
    # Then
    with pytest.raises(SchemaError) as refused:
        SALES.conform(sales(day=day, shop=pa.array(["a", "a"])))
    assert str(refused.value) == "sales: day 1970-01-01 00:00:00, shop a stands twice, expected once"


@pytest.mark.parametrize(
    "frame",
    [
        None,
        [1, 2],
        pd.Series([1]),
        pd.DataFrame([[1, 2]], columns=["day", "day"]),
        pd.DataFrame({"day": [1], "shop": [object()]}),
        pd.DataFrame({"day": pd.Series([1, "a"], dtype=object)}),
        pd.DataFrame({"day": pd.Series([2**70], dtype=object)}),
        pl.LazyFrame({"day": [1]}).select("shop"),
    ],
    ids=["none", "list", "series", "doubled name", "object", "mixed", "huge number", "failing query"],
)
def test_what_is_no_table_of_plain_types_is_refused(frame: object) -> None:
    with pytest.raises(
        SchemaError, match=rf"^sales: found {type(frame).__name__} that is not a table of plain types: "
    ):
        SALES.conform(frame)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (Column("x", "int64", "X."), ""),
        (Column("x", "int64", "X.", minimum=0, maximum=23), "0..23"),
        (Column("x", "int64", "X.", minimum=1), "1.."),
        (Column("x", "float64", "X.", maximum=0.5), "..0.5"),
        (Column("x", "string", "X.", allowed=("low", "high"), minimum=1), "one of low, high"),
    ],
)
def test_a_constraint_is_put_in_words(column: Column, words: str) -> None:
    assert column.constraint == words


def test_columns_are_found_by_name() -> None:
    assert SALES.names == ("day", "shop", "count", "price", "open")
    assert SALES["count"].unit == "pieces"
    with pytest.raises(KeyError, match="sales has no column 'cost': it has day, shop, count, price, open"):
        SALES["cost"]
