"""Content digests: the documented bytes, what does not count, and that no change of the real data passes in silence."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import struct
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import skops.io
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from bikes_assets.core.digest import combined_digest, file_digest, object_digest, table_digest
from bikes_assets.core.errors import SchemaError
from bikes_assets.core.schema import Column, ColumnType, Schema
from bikes_assets.demand.tables import HOURLY_RENTALS

ROOT = Path(__file__).parents[2]

PLAIN = Schema(
    "plain",
    key=("n",),
    columns=(
        Column("n", "int64", "Key."),
        Column("x", "float64", "A float.", nullable=True),
        Column("ok", "bool", "A truth.", nullable=True),
        Column("täg", "string", "A text.", nullable=True),
        Column("at", "timestamp", "A time.", nullable=True),
    ),
)


def plain(**changed: Any) -> pa.Table:
    """Return three rows of every type, with nulls, with some columns replaced."""
    columns = {
        "n": pa.array([-1, 2, 3]),
        "x": pa.array([0.5, None, -0.0]),
        "ok": pa.array([True, False, None]),
        "täg": pa.array(["Zürich €", None, ""]),
        "at": pa.array(
            [datetime(2012, 8, 14, 17), None, datetime(1969, 12, 31, 23, 59, 59, 999_999)], pa.timestamp("us")
        ),
    }
    return pa.table({name: changed.get(name, column) for name, column in columns.items()})


PLAIN_DIGEST = "896ea0ddd325f22e828d13ab1c85ce1d"
PLAIN_COLUMNS = {
    "n": "8ebd7cc3f54bc0807e372966adcb98e7",
    "x": "5b9272c72d4bd21247b50a7638650240",
    "ok": "7900e7a73f5dd6646027493f44ca2ee3",
    "täg": "7e6f143f1a319e8587b73ab589ff5beb",
    "at": "cabc2c71084fd40527f1d58f0e965b44",
}
EMPTY_DIGEST = "8ee7e44cc252c09689800772b851e31c"


def digest(table: Any, schema: Schema = PLAIN) -> str:
    return table_digest(schema.conform(table), schema).table


def of_column(column_type: ColumnType, *values: Any) -> str:
    """Return the digest of one column of values."""
    schema = Schema("t", ("k",), (Column("k", "int64", "Key."), Column("c", column_type, "Value.", nullable=True)))
    table = pa.table(
        {"k": pa.array(range(len(values)), pa.int64()), "c": pa.array(values, schema.arrow().field("c").type)}
    )
    return table_digest(schema.conform(table), schema).columns["c"]


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()[:16]


def test_the_documented_bytes_give_the_digest() -> None:
    # Given the canonical form, written by hand
    columns = {
        "n": sha(b"bikes-column-1\0int64\0", struct.pack("<Q", 3), b"\1\1\1", struct.pack("<qqq", -1, 2, 3)),
        "x": sha(b"bikes-column-1\0float64\0", struct.pack("<Q", 3), b"\1\0\1", struct.pack("<ddd", 0.5, 0.0, -0.0)),
        "ok": sha(b"bikes-column-1\0bool\0", struct.pack("<Q", 3), b"\1\1\0", b"\1\0\0"),
        "täg": sha(
            b"bikes-column-1\0string\0",
            struct.pack("<Q", 3),
            b"\1\0\1",
            struct.pack("<QQQ", 11, 0, 0),
            b"Z\xc3\xbcrich \xe2\x82\xac",
        ),
        "at": sha(
            b"bikes-column-1\0timestamp\0",
            struct.pack("<Q", 3),
            b"\1\0\1",
            struct.pack("<qqq", 1344963600000000, 0, -1),
        ),
    }
    table = sha(
        b"bikes-table-1\0",
        struct.pack("<QQ", 3, 5),
        struct.pack("<Q", 1) + b"n" + b"\1" + columns["n"],
        struct.pack("<Q", 1) + b"x" + b"\0" + columns["x"],
        struct.pack("<Q", 2) + b"ok" + b"\0" + columns["ok"],
        struct.pack("<Q", 4) + b"t\xc3\xa4g" + b"\0" + columns["täg"],
        struct.pack("<Q", 2) + b"at" + b"\0" + columns["at"],
    )
    # When
    found = table_digest(PLAIN.conform(plain()), PLAIN)
    # Then
    assert found.columns == {name: value.hex() for name, value in columns.items()}
    assert found.table == table.hex()


def test_digests_stay_as_they_were() -> None:
    found = table_digest(PLAIN.conform(plain()), PLAIN)
    assert found.table == PLAIN_DIGEST
    assert found.columns == PLAIN_COLUMNS
    assert digest(PLAIN.arrow().empty_table()) == EMPTY_DIGEST
    assert combined_digest(["a", "ü"]) == "a9635b3176c780cf3d43e1bdff2f1c4c"
    assert (
        object_digest({"a": [1, 2.5, None, True, b"x", "ü"], "b": np.array([[1.0, 2.0]])})
        == "44903d33b30e52129b5f09fbfee2b7dd"
    )


def test_a_file_digest_is_its_sha256() -> None:
    assert file_digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_sequence_of_texts_counts_by_its_parts() -> None:
    found = [combined_digest(parts) for parts in (["ab", "c"], ["a", "bc"], ["c", "ab"], ["abc"], [], [""])]
    assert len(set(found)) == 6
    assert combined_digest(part for part in ("ab", "c")) == found[0]


@pytest.mark.parametrize(
    ("column_type", "contents"),
    [
        ("float64", [(0.0,), (-0.0,), (None,), (np.nextafter(0.0, 1.0),), (0.0, 0.0), (float("inf"),)]),
        ("int64", [(0,), (None,), (1,), (2**63 - 1,), (-(2**63),), (0, None), (None, 0)]),
        ("bool", [(False,), (True,), (None,)]),
        ("string", [("",), (None,), ("\0",), ("a", "bc"), ("ab", "c"), ("abc", ""), ("", "abc"), ("é",), ("e\u0301",)]),
        (
            "timestamp",
            [(datetime(1970, 1, 1),), (None,), (datetime(1970, 1, 1, 0, 0, 0, 1),), (datetime(2012, 8, 14),)],
        ),
    ],
)
def test_contents_that_differ_have_digests_that_differ(
    column_type: ColumnType, contents: list[tuple[Any, ...]]
) -> None:
    assert len({of_column(column_type, *values) for values in contents}) == len(contents)


def test_the_type_counts_where_the_bytes_are_the_same() -> None:
    empty = {of_column(column_type) for column_type in ("int64", "float64", "bool", "string", "timestamp")}
    zero = {of_column("int64", 0), of_column("float64", 0.0), of_column("timestamp", datetime(1970, 1, 1))}
    assert (len(empty), len(zero)) == (5, 3)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("n", pa.array([-1, 2, 4])),
        ("x", pa.array([0.5, None, 0.0])),
        ("ok", pa.array([True, None, None])),
        ("täg", pa.array(["Zürich €", "", ""])),
        ("at", pa.array([None, None, None], pa.timestamp("us"))),
    ],
)
def test_a_change_shows_in_its_column_and_in_the_table_only(name: str, values: pa.Array) -> None:
    # When
    found = table_digest(PLAIN.conform(plain(**{name: values})), PLAIN)
    # Then
    assert found.table != PLAIN_DIGEST
    assert {column for column, value in found.columns.items() if value != PLAIN_COLUMNS[column]} == {name}


def test_column_order_name_and_key_count() -> None:
    # Given tables that differ only in what is declared
    a, b = Column("a", "int64", "A."), Column("b", "int64", "B.")
    schemas = [
        Schema("t", ("a",), (a, b)),
        Schema("t", ("a",), (b, a)),
        Schema("t", ("b",), (a, b)),
        Schema("t", ("a", "b"), (a, b)),
        Schema("t", ("a",), (a, Column("c", "int64", "C."))),
        Schema("t", ("a",), (a,)),
    ]
    # When
    found = [digest(pa.table({column.name: [1, 2] for column in schema.columns}), schema) for schema in schemas]
    # Then
    assert len(set(found)) == 6


def test_what_is_said_of_a_column_does_not_count() -> None:
    said = Schema(
        "other",
        ("n",),
        tuple(Column(item.name, item.type, "Else.", "m", 0, 1, nullable=True) for item in PLAIN.columns),
    )
    assert digest(plain(), said) == PLAIN_DIGEST


def test_what_lies_under_a_null_does_not_count() -> None:
    # Given a null with a value in its memory
    hidden = pa.Array.from_buffers(
        pa.float64(), 3, [pa.py_buffer(bytes([0b101])), pa.py_buffer(struct.pack("<ddd", 0.5, 99.0, -0.0))]
    )
    # Then
    assert hidden.to_pylist() == [0.5, None, -0.0]
    assert digest(plain(x=hidden)) == PLAIN_DIGEST


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 1), (0, 3), (1, 0, 2)])
def test_chunks_do_not_count(sizes: tuple[int, ...]) -> None:
    # Given
    ends = list(itertools.accumulate(sizes, initial=0))
    parts = [plain().slice(start, end - start) for start, end in itertools.pairwise(ends)]
    # Then
    assert digest(pa.concat_tables(parts)) == PLAIN_DIGEST


def test_slices_do_not_count() -> None:
    padded = pa.concat_tables([plain(), plain(), plain()]).combine_chunks()
    assert digest(padded.slice(3, 3)) == PLAIN_DIGEST
    assert digest(padded.take([6, 7, 8])) == PLAIN_DIGEST


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_row_order_does_not_count(order: tuple[int, ...]) -> None:
    assert digest(plain().take(list(order))) == PLAIN_DIGEST


def nullable_pandas(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype(), pa.int64(): pd.Int64Dtype()}.get)


ENGINES: dict[str, Callable[[pa.Table], Any]] = {
    "pandas": nullable_pandas,
    "pandas on arrow": lambda table: table.to_pandas(types_mapper=pd.ArrowDtype),
    "polars": pl.from_arrow,
    "polars lazy": lambda table: pl.from_arrow(table).lazy(),
    "duckdb": duckdb.from_arrow,
    "arrow": lambda table: table,
}


@pytest.mark.parametrize("engine", ENGINES)
def test_the_engine_does_not_count(engine: str) -> None:
    assert digest(ENGINES[engine](plain())) == PLAIN_DIGEST


@pytest.mark.parametrize(
    "write",
    [
        lambda path: pq.write_table(plain(), path, compression="zstd", row_group_size=2),
        lambda path: pl.from_arrow(plain()).write_parquet(path),
        lambda path: duckdb.from_arrow(plain()).write_parquet(str(path)),
        lambda path: nullable_pandas(plain()).to_parquet(path),
    ],
    ids=["by arrow", "by polars", "by duckdb", "by pandas"],
)
@pytest.mark.parametrize(
    "read",
    [pq.read_table, pl.read_parquet, lambda path: duckdb.read_parquet(str(path))],
    ids=["arrow", "polars", "duckdb"],
)
def test_a_way_through_parquet_does_not_count(
    tmp_path: Path, write: Callable[[Path], Any], read: Callable[[Path], Any]
) -> None:
    write(tmp_path / "t.parquet")
    assert digest(read(tmp_path / "t.parquet")) == PLAIN_DIGEST


def test_other_representations_of_the_same_content_keep_the_digest() -> None:
    assert digest(plain(at=plain()["at"].cast(pa.timestamp("ns")))) == PLAIN_DIGEST
    assert digest(plain(**{"täg": plain()["täg"].cast(pa.large_string())})) == PLAIN_DIGEST
    assert digest(plain(**{"täg": plain()["täg"].cast(pa.string_view())})) == PLAIN_DIGEST
    assert digest(plain().replace_schema_metadata({"made": "today"})) == PLAIN_DIGEST


# --- the real data, changed at random


LAST_ROW = 17_378
MUTATIONS = 1000 if os.environ.get("BIKES_SOAK") == "1" else 100
"""How often each of the 30 kinds of change is made."""


@functools.cache
def rentals() -> pd.DataFrame:
    """Return the shipped file in the layout of hourly_rentals, made with pandas alone."""
    raw = pd.read_csv(ROOT / "data" / "raw" / "hour.csv")
    hours = pd.to_datetime(raw["dteday"]) + pd.to_timedelta(raw["hr"], unit="h")
    frame = raw.assign(ts=hours.astype("datetime64[us]"), weathersit=raw["weathersit"].astype("Int64"))
    return frame[list(HOURLY_RENTALS.names)]


@functools.cache
def real() -> pa.Table:
    return HOURLY_RENTALS.conform(rentals())


def with_cell(table: pa.Table, row: int, name: str, value: Any) -> pa.Table:
    column = table[name]
    cell = pa.chunked_array([pa.array([value], column.type)])
    return with_column(table, name, pa.chunked_array([*column[:row].chunks, *cell.chunks, *column[row + 1 :].chunks]))


def with_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def names_of(*types: ColumnType) -> list[str]:
    return [column.name for column in HOURLY_RENTALS.columns if column.type in types]


INTEGERS, FLOATS = names_of("int64"), names_of("float64")
FLAGS = ["holiday", "workingday", "yr"]

Mutation = Callable[[pa.Table, np.random.Generator, int], Any]


def early(table: pa.Table, rng: np.random.Generator, row: int) -> pa.Table:
    return cell(table, rng, row % 10_000)


def cell(table: pa.Table, rng: np.random.Generator, row: int) -> pa.Table:
    """Change one value by a little or by much."""
    name = str(rng.choice(INTEGERS + FLOATS))
    old = table[name][row].as_py()
    if name in INTEGERS:
        return with_cell(table, row, name, (old or 0) + int(rng.choice([-1, 1, 1000])))
    return with_cell(table, row, name, old + float(rng.choice([-1e-9, 0.01, 5.0])))


def null(table: pa.Table, rng: np.random.Generator, row: int) -> pa.Table:
    return with_cell(table, row, str(rng.choice([name for name in table.column_names if name != "weathersit"])), None)


def lawful_null(table: pa.Table, rng: np.random.Generator, row: int) -> pa.Table:
    known = pc.indices_nonzero(pc.is_valid(table["weathersit"])).to_numpy()
    return with_cell(table, int(rng.choice(known[known > row - 1000])), "weathersit", None)


def filled_null(table: pa.Table, rng: np.random.Generator, row: int) -> pa.Table:
    absent = pc.indices_nonzero(pc.is_null(table["weathersit"])).to_numpy()
    return with_cell(table, int(rng.choice(absent)), "weathersit", int(rng.integers(0, 5)))


def swap(table: pa.Table, rng: np.random.Generator, row: int) -> pa.Table:
    """Exchange one value between two rows that differ in it."""
    name = str(rng.choice(INTEGERS + FLOATS))
    here = table[name][row].as_py()
    there = next(other for other in rng.permutation(len(table)).tolist() if table[name][other].as_py() != here)
    return with_cell(with_cell(table, row, name, table[name][there].as_py()), there, name, here)


def cast(to: pa.DataType, columns: list[str]) -> Mutation:
    def mutation(table: pa.Table, rng: np.random.Generator, row: int) -> pa.Table:
        name = str(rng.choice(columns))
        return with_column(table, name, table[name].cast(to, safe=False))

    return mutation


def shifted(table: pa.Table, rng: np.random.Generator, row: int) -> pa.Table:
    """Move all times by the same span: a microsecond, an hour or a year."""
    by = int(rng.choice([-1, 1, 3_600_000_000, 31_536_000_000_000])) * int(rng.integers(1, 100))
    return with_column(table, "ts", pc.add(table["ts"].cast(pa.int64()), by).cast(pa.timestamp("us")))


def one_time_shifted(table: pa.Table, rng: np.random.Generator, row: int) -> pa.Table:
    return with_cell(table, row, "ts", table["ts"].cast(pa.int64())[row].as_py() + int(rng.integers(1, 3_599_999_999)))


def column_order(table: pa.Table, rng: np.random.Generator, row: int) -> pa.Table:
    first, second = rng.choice(table.num_columns, 2, replace=False)
    names = table.column_names
    names[first], names[second] = names[second], names[first]
    return table.select(names)


def column_names_exchanged(table: pa.Table, rng: np.random.Generator, row: int) -> pa.Table:
    """Let two columns of one type take each other's name."""
    first, second = rng.choice([name for name in INTEGERS if name != "weathersit"], 2, replace=False)
    return with_column(with_column(table, first, table[second]), second, table[first])


def column_name(table: pa.Table, rng: np.random.Generator, row: int) -> pa.Table:
    name = str(rng.choice(table.column_names))
    return table.rename_columns({name: rng.choice([name.upper(), f"{name} ", f"{name}_", ""])})


def column_dropped(table: pa.Table, rng: np.random.Generator, row: int) -> pa.Table:
    return table.drop_columns([str(rng.choice(table.column_names))])


def row_dropped(table: pa.Table, rng: np.random.Generator, row: int) -> pa.Table:
    return pa.concat_tables([table[:row], table[row + 1 :]])


def row_doubled(table: pa.Table, rng: np.random.Generator, row: int) -> pa.Table:
    return pa.concat_tables([table, table[row : row + 1]])


def negative_zero(table: pa.Table, rng: np.random.Generator, row: int) -> pa.Table:
    name = str(rng.choice(["hum", "windspeed"]))
    zeros = pc.indices_nonzero(pc.equal(table[name], 0.0)).to_numpy()
    return with_cell(table, int(rng.choice(zeros)), name, -0.0)


def last_bit(table: pa.Table, rng: np.random.Generator, row: int) -> pa.Table:
    name = str(rng.choice(FLOATS))
    return with_cell(table, row, name, float(np.nextafter(table[name][row].as_py(), rng.choice([-np.inf, np.inf]))))


def single_precision(table: pa.Table, rng: np.random.Generator, row: int) -> pa.Table:
    """Round a column to 32 bits and give it back as 64."""
    name = str(rng.choice(FLOATS))
    return with_column(table, name, table[name].cast(pa.float32()).cast(pa.float64()))


def nan(table: pa.Table, rng: np.random.Generator, row: int) -> pa.Table:
    return with_cell(table, row, str(rng.choice(FLOATS)), float("nan"))


def categorical(table: pa.Table, rng: np.random.Generator, row: int) -> pd.DataFrame:
    name = str(rng.choice(INTEGERS))
    return rentals().assign(**{name: rentals()[name].astype("category")})


def infinite(table: pa.Table, rng: np.random.Generator, row: int) -> pa.Table:
    return with_cell(table, row, str(rng.choice(FLOATS)), float(rng.choice([-np.inf, np.inf])))


KINDS: dict[str, tuple[Mutation, str]] = {
    "a cell": (cell, "changed"),
    "a cell in the first rows": (early, "changed"),
    "a null": (null, "refused"),
    "a lawful null": (lawful_null, "changed"),
    "a null filled": (filled_null, "changed"),
    "two values exchanged": (swap, "changed"),
    "int to float": (cast(pa.float64(), INTEGERS), "refused"),
    "int to int32": (cast(pa.int32(), INTEGERS), "refused"),
    "int to string": (cast(pa.string(), INTEGERS), "refused"),
    "int to bool": (cast(pa.bool_(), FLAGS), "refused"),
    "float to float32": (cast(pa.float32(), FLOATS), "refused"),
    "float to string": (cast(pa.string(), FLOATS), "refused"),
    "time with zone": (cast(pa.timestamp("us", "UTC"), ["ts"]), "refused"),
    "time in milliseconds": (cast(pa.timestamp("ms"), ["ts"]), "refused"),
    "time in seconds": (cast(pa.timestamp("s"), ["ts"]), "refused"),
    "time as number": (cast(pa.int64(), ["ts"]), "refused"),
    "times shifted": (shifted, "changed"),
    "one time shifted": (one_time_shifted, "changed"),
    "columns in another order": (column_order, "refused"),
    "columns exchanged": (column_names_exchanged, "changed"),
    "a column renamed": (column_name, "refused"),
    "a column dropped": (column_dropped, "refused"),
    "a row dropped": (row_dropped, "changed"),
    "a row doubled": (row_doubled, "refused"),
    "a negative zero": (negative_zero, "changed"),
    "a last bit": (last_bit, "changed"),
    "single precision": (single_precision, "changed"),
    "a NaN": (nan, "refused"),
    "an infinity": (infinite, "changed"),
    "a category": (categorical, "refused"),
}


def outcome(changed: Any, original: str) -> str:
    try:
        found = digest(changed, HOURLY_RENTALS)
    except SchemaError:
        return "refused"
    return "changed" if found != original else "passed in silence"


def test_the_real_table_has_the_digest_that_it_always_had() -> None:
    assert real().num_rows == LAST_ROW + 1
    assert digest(rentals(), HOURLY_RENTALS) == "984bede2b8a3d150c0d3fcb0d640cd10"


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_no_change_of_the_real_table_passes_in_silence(kind: str) -> None:
    # Given
    original = digest(real(), HOURLY_RENTALS)
    mutation, expected = KINDS[kind]
    rng = np.random.default_rng(list(KINDS).index(kind))
    # When it is changed at random rows, most of them past the 10,000th, the last one among them
    rows = [0, 10_000, LAST_ROW, *rng.integers(10_001, LAST_ROW, MUTATIONS - 3).tolist()]
    outcomes = Counter(outcome(mutation(real(), rng, row), original) for row in rows)
    # Then
    assert outcomes == {expected: MUTATIONS}


def test_representations_of_the_real_table_keep_the_digest() -> None:
    # Given
    original = digest(real(), HOURLY_RENTALS)
    shuffled = real().take(np.random.default_rng(0).permutation(len(real())))
    # Then
    assert digest(with_column(real(), "ts", real()["ts"].cast(pa.timestamp("ns"))), HOURLY_RENTALS) == original
    assert digest(shuffled, HOURLY_RENTALS) == original
    assert digest(pl.from_arrow(shuffled), HOURLY_RENTALS) == original
    assert digest(duckdb.from_arrow(shuffled), HOURLY_RENTALS) == original
    assert (
        digest(pa.concat_tables([real()[start : start + 7] for start in range(0, len(real()), 7)]), HOURLY_RENTALS)
        == original
    )


# --- fitted objects


def fitted(name: str, changed: float = 0.0) -> Any:
    """Return a regressor, fitted on the same 300 rows each time; `changed` is added to one target."""
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(300, 4)), rng.poisson(20, size=300).astype(float)
    inputs[5, 2] = np.nan
    targets[17] += changed
    if name in {"forest", "boosting"}:
        inputs[5, 2] = 0.0
    return {
        "histogram": lambda: HistGradientBoostingRegressor(max_iter=20, random_state=0),
        "forest": lambda: RandomForestRegressor(n_estimators=10, random_state=0, n_jobs=1),
        "boosting": lambda: GradientBoostingRegressor(n_estimators=10, random_state=0),
        "pipeline": lambda: Pipeline([("fill", SimpleImputer()), ("scale", StandardScaler()), ("fit", Ridge())]),
    }[name]().fit(inputs, targets)


REGRESSORS = ["histogram", "forest", "boosting", "pipeline"]

OTHER_PROCESS = """
import json
from bikes_assets_tests.core.test_digest import REGRESSORS, digest, fitted, object_digest, plain
print(json.dumps([digest(plain()), object_digest({"b", "a", "c"}), *(object_digest(fitted(name)) for name in REGRESSORS)]))
"""


class Point:
    """An object with state and a method."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def method(self) -> None:
        """Do nothing."""


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x: Any) -> None:
        self.x = x


@pytest.mark.parametrize("name", REGRESSORS)
def test_two_identical_fits_are_equal_where_their_files_are_not(name: str) -> None:
    # Given
    one, other = fitted(name), fitted(name)
    # Then
    assert skops.io.dumps(one) != skops.io.dumps(other)
    assert object_digest(one) == object_digest(other)


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_fit_on_one_changed_value_differs(name: str) -> None:
    assert object_digest(fitted(name)) != object_digest(fitted(name, changed=1.0))


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_way_through_a_file_keeps_the_digest(name: str) -> None:
    # When
    content = skops.io.dumps(fitted(name))
    loaded = skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content))
    # Then
    assert object_digest(loaded) == object_digest(fitted(name))


@pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
def test_a_random_state_keeps_its_digest_through_a_file_and_changes_with_each_draw(make: Callable[[int], Any]) -> None:
    # Given
    content = skops.io.dumps(make(3))
    # When
    loaded = skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content))
    # Then
    assert object_digest(loaded) == object_digest(make(3))
    loaded.normal()
    assert object_digest(loaded) != object_digest(make(3))


@pytest.mark.parametrize("name", REGRESSORS)
def test_predicting_does_not_change_the_digest(name: str) -> None:
    regressor = fitted(name)
    before = object_digest(regressor)
    regressor.predict(np.zeros((3, 4)))
    assert object_digest(regressor) == before


@pytest.mark.slow
def test_another_process_gives_the_same_digests() -> None:
    # When
    found = [
        subprocess.run(
            [sys.executable, "-c", OTHER_PROCESS],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    # Then
    expected = [PLAIN_DIGEST, object_digest({"a", "b", "c"}), *(object_digest(fitted(name)) for name in REGRESSORS)]
    assert [json.loads(text) for text in found] == [expected, expected]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (1, True),
        (1, 1.0),
        (1, "1"),
        ("a", b"a"),
        (0.0, -0.0),
        (None, False),
        ([1, 2], [2, 1]),
        ([1, 2], (1, 2)),
        ([[1], 2], [1, [2]]),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"b": 1}),
        ({"a": "b"}, {"b": "a"}),
        ({1, 2}, {1, 3}),
        ({1}, [1]),
        (slice(1, 2), slice(1, 3)),
        (np.array([1.0, 2.0]), np.array([[1.0, 2.0]])),
        (np.array([1, 2]), np.array([1, 2], dtype=np.int32)),
        (np.array([1.0]), np.array([np.nextafter(1.0, 2.0)])),
        (np.array(["a"], dtype=object), np.array(["b"], dtype=object)),
        (np.array([(1, 2.0)], dtype="i8,f8"), np.array([(1, 3.0)], dtype="i8,f8")),
        (np.dtype("f4"), np.dtype("f8")),
        (np.float32(1), np.float64(1)),
        (np.add, np.subtract),
        (len, max),
        (Ridge, StandardScaler),
        (Point(1), Point(2)),
        (Point(1), Slotted(1)),
        (Slotted(1), Slotted(2)),
        (Point(1).method, Point(2).method),
        (functools.partial(int, "1"), functools.partial(int, "2")),
        (deque([1]), deque([2])),
        (np.random.default_rng(0), np.random.default_rng(1)),
        (np.random.RandomState(0), np.random.RandomState(1)),
        (range(3), range(4)),
        (datetime(2012, 8, 1), datetime(2012, 8, 2)),
        (1j, 2j),
        (Ellipsis, NotImplemented),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]})),
    ],
)
def test_states_that_differ_have_digests_that_differ(one: object, other: object) -> None:
    assert object_digest(one) != object_digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": [2]}, {"b": [2], "a": 1}),
        ({1, 2, 3}, {3, 2, 1}),
        (np.array([1, 256], dtype=">i8"), np.array([1, 256], dtype="<i8")),
        (np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(6.0).reshape(2, 3)),
        (np.arange(6.0)[::2], np.array([0.0, 2.0, 4.0])),
        (Point({"a": 1}), Point({"a": 1})),
        (Point(1).method, Point(1).method),
        (np.random.RandomState(0), np.random.RandomState(0)),
    ],
    ids=["dict order", "set order", "byte order", "memory order", "stride", "object", "method", "random state"],
)
def test_the_same_state_has_the_same_digest(one: object, other: object) -> None:
    assert object_digest(one) == object_digest(other)


def test_a_cycle_ends_and_its_shape_counts() -> None:
    # Given
    circle, again, longer = [1], [1], [1]
    circle.append(circle)
    again.append(again)
    longer.append([1, longer])
    point = Point(None)
    point.x = {"self": point}
    # Then
    assert object_digest(circle) == object_digest(again)
    assert object_digest(circle) != object_digest(longer)
    assert object_digest(point) != object_digest(Point({"self": None}))


def test_the_scikit_learn_version_in_a_state_does_not_count() -> None:
    one, other = Point(1), Point(1)
    other._sklearn_version = "1.9.0"
    assert object_digest(one) == object_digest(other)


@pytest.mark.parametrize(
    "part",
    [lambda x: x, functools.partial(lambda x: x), (item for item in [1])],
    ids=["lambda", "lambda within", "generator"],
)
def test_a_part_without_a_state_is_refused(part: object) -> None:
    with pytest.raises(TypeError):
        object_digest({"part": [part]})


def test_an_open_file_is_refused() -> None:
    with Path(__file__).open() as file, pytest.raises(TypeError, match="cannot pickle"):
        object_digest(Point(file))


def test_a_lambda_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="<lambda> has no name by which it could be found again"):
        object_digest(Point(lambda: None))
