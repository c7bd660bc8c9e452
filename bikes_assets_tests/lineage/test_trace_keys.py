"""Rows are named by any key: several columns, numbers, truths, odd texts; what an error lists is an address again."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import narwhals as nw
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bikes_assets.core.columns import column_function, compute, schema_of
from bikes_assets.core.digest import table_digest
from bikes_assets.core.errors import LineageError
from bikes_assets.core.record import Record, Version
from bikes_assets.core.schema import Column, Schema
from bikes_assets.lineage.trace import Computed, Derivations, Tracer
from bikes_assets.storage.lake import Lake

if TYPE_CHECKING:
    from bikes_assets.core.columns import Float64

STATION = Column("station", "string", "Name of the station.")
TS = Column("ts", "timestamp", "Hour.")
RIDES = Schema("rides", ("station", "ts"), (STATION, TS, Column("count", "int64", "Rides.", nullable=True)))


def count_hour_before(count: nw.Expr) -> Float64:
    """Rides of the hour before.

    Unit: rides.
    Why: a test.
    """
    return count.shift(1)


FEATURES = [column_function(count_hour_before)]
# another order of the key's columns than in the table that it is computed from
MADE = schema_of("features", [STATION, TS], [RIDES["count"]], FEATURES)
FEATURED = Schema("features", ("ts", "station"), MADE.columns)
NONE = Derivations({}, {}, {})


def publish(lake: Lake, schema: Schema, frame: pd.DataFrame, partition: str | None, *inputs: Version) -> Version:
    table, rows = lake.table(schema.name), schema.conform(frame)
    digest = table_digest(rows, schema)
    record = Record(Version(schema.name, partition, -1, digest.table), digest.columns, inputs, "code", {}, {}, {})
    return Version(
        schema.name,
        partition,
        table.write(partition, rows, json.loads(json.dumps(record.to_dict())), since=table.version()),
        digest.table,
    )


def traced(folder: Path, schema: Schema, frame: pd.DataFrame, derivations: Derivations = NONE) -> Tracer:
    """Return what traces a table of one partition `p`."""
    lake = Lake(str(folder / "lake"), {schema.name: schema}, folder)
    publish(lake, schema, frame, "p")
    return Tracer(lake, derivations)


ODD = (
    "a,b",
    "50%",
    "%2C",
    "#1",
    "x y ",
    "[z]",
    "zwei\nZeilen",
    "\u00e9",
    "e\u0301",
    "Smith, J. (50%)",
    "@",
    "a/b",
    "'",
    "",
)


@pytest.mark.parametrize(
    ("type_", "values", "texts"),
    [
        ("int64", [-3, 0, 2**53 + 1], ["-3", "0", "9007199254740993"]),
        ("float64", [-0.5, 1.25, 1e300], ["-0.5", "1.25", "1e+300"]),
        ("bool", [False, True], ["false", "true"]),
        ("string", ["2012-08-14", "null", "007"], ["2012-08-14", "null", "007"]),
        (
            "timestamp",
            [datetime(2012, 8, 14, 17), datetime(2012, 8, 14, 17, 0, 1)],
            ["2012-08-14T17:00", "2012-08-14T17:00:01"],
        ),
    ],
)
def test_a_key_of_any_type_names_its_row(tmp_path: Path, type_: Any, values: list[Any], texts: list[str]) -> None:
    schema = Schema("t", ("k",), (Column("k", type_, "Key."), Column("x", "int64", "A number.")))
    frame = pd.DataFrame({"k": values, "x": range(len(values))})
    tracer = traced(tmp_path, schema, frame.astype({"k": "datetime64[us]"}) if type_ == "timestamp" else frame)
    for number, text in enumerate(texts):
        found = tracer.trace(f"t[p]#{text}")
        assert found.address == f"t[p]@1#{text}"
        assert found.values[0].value == number


def test_text_with_odd_characters_names_its_row_alone_and_among_others(tmp_path: Path) -> None:
    alone = Schema("t", ("k",), (Column("k", "string", "Key."), Column("x", "int64", "A number.")))
    frame = pd.DataFrame({"k": ODD, "x": range(len(ODD))})
    together = Schema(
        "t", ("k", "n"), (Column("k", "string", "Key."), Column("n", "int64", "Other."), Column("x", "int64", "X."))
    )
    for folder, schema in ((tmp_path / "a", alone), (tmp_path / "b", together)):
        tracer = traced(folder, schema, frame if schema is alone else frame.assign(n=7)[["k", "n", "x"]])
        for number, key in enumerate(ODD):
            written = key.replace("%", "%25").replace(",", "%2C").replace("\n", "%0A") + (
                "" if schema is alone else ",7"
            )
            found = tracer.trace(f"t[p]#{written}")
            assert found.address == f"t[p]@1#{written}"
            assert found.values[0].value == number
    # And of one column a comma may stand as it is
    assert traced(tmp_path / "c", alone, frame).trace("t[p]#Smith, J. (50%25)").values[0].value == ODD.index(
        "Smith, J. (50%)"
    )


NAMES = st.text(max_size=6).filter(lambda text: text.isprintable() or text.isascii())


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.sets(st.tuples(NAMES, st.integers(-99, 99), st.booleans()), min_size=1, max_size=8))
def test_any_row_is_found_by_the_address_that_is_told_of_it(
    tmp_path_factory: Any, keys: set[tuple[str, int, bool]]
) -> None:
    columns = (
        Column("a", "string", "A."),
        Column("b", "int64", "B."),
        Column("c", "bool", "C."),
        Column("x", "int64", "X."),
    )
    frame = pd.DataFrame([(*key, number) for number, key in enumerate(sorted(keys))], columns=["a", "b", "c", "x"])
    schema = Schema("t", ("a", "b", "c"), columns)
    tracer = traced(tmp_path_factory.mktemp("any"), schema, frame)
    with pytest.raises(LineageError) as caught:
        tracer.trace("t[p]#no such row,100,true")
    said = re.search(r"expected one of (.*) to (.*); the nearest is (.*)$", str(caught.value), re.DOTALL)
    assert said
    for address in said.groups():  # what an error lists is an address again
        assert tracer.trace(f"t[p]#{address}").address == f"t[p]@1#{address}"


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("Main St", "t[p]@1: found row 'Main St', expected one like A,1 (station, n)"),
        ("A,1,2", "t[p]@1: found row 'A,1,2', expected one like A,1 (station, n)"),
        ("A,x", "t[p]@1: found row 'A,x', expected one like A,1 (station, n)"),
        ("", "t[p]@1: found row '', expected one like A,1 (station, n)"),
        ("B,1", "t[p]@1: found no row B,1, expected one of A,1 to C,5; the nearest is A,9"),
        ("A,8", "t[p]@1: found no row A,8, expected one of A,1 to C,5; the nearest is A,1"),
        ("D,1", "t[p]@1: found no row D,1, expected one of A,1 to C,5; the nearest is C,5"),
    ],
)
def test_a_row_that_is_not_there_is_told_with_those_that_are(tmp_path: Path, key: str, told: str) -> None:
    schema = Schema("t", ("station", "n"), (STATION, Column("n", "int64", "N."), Column("x", "int64", "X.")))
    tracer = traced(tmp_path, schema, pd.DataFrame({"station": ["A", "A", "C"], "n": [1, 9, 5], "x": [0, 1, 2]}))
    with pytest.raises(LineageError) as caught:
        tracer.trace(f"t[p]#{key}")
    assert str(caught.value) == told


def test_a_table_without_a_key_and_one_without_partitions(tmp_path: Path) -> None:
    schema = Schema("t", (), (Column("x", "int64", "X."),))
    with pytest.raises(
        LineageError, match="t: found no declared key, expected columns that name a row; declare them in its schema"
    ):
        traced(tmp_path / "a", schema, pd.DataFrame({"x": [1]})).trace("t[p]#1")
    undeclared = Tracer(Lake(str(tmp_path / "a" / "lake"), {"rides": RIDES}, tmp_path), NONE)
    with pytest.raises(LineageError, match="t: found no declared key, expected columns that name a row"):
        undeclared.trace("t[p]#1")
    with pytest.raises(LineageError, match="found no table 'other', expected one of rides"):
        undeclared.trace("other[p]#1")
    lake = Lake(str(tmp_path / "b"), {"rides": RIDES}, tmp_path)
    frame = pd.DataFrame({"station": ["A"], "ts": [datetime(2012, 8, 14)], "count": pd.array([5], "Int64")})
    publish(lake, RIDES, frame.astype({"ts": "datetime64[us]"}), None)
    found = Tracer(lake, NONE).trace("rides#A,2012-08-14T00:00")
    assert (found.address, found.values[0].value) == ("rides@1#A,2012-08-14T00:00", 5)
    with pytest.raises(LineageError, match=r"rides\[p\]: found nothing as of version \d+, expected one of "):
        Tracer(lake, NONE).trace("rides[p]#A,2012-08-14T00:00")


def test_columns_that_are_computed_by_station_are_traced_to_the_rows_of_their_own(tmp_path: Path) -> None:
    # Given hours of two stations, one of which lacks an hour, and a feature of the hour before at the same station
    hours = [datetime(2012, 8, 14) + timedelta(hours=number) for number in range(4)]
    rows = [
        (name, hour, 10 * place + number)
        for place, name in enumerate(("A, north", "B"))
        for number, hour in enumerate(hours)
    ]
    frame = pd.DataFrame(rows, columns=["station", "ts", "count"]).astype({"ts": "datetime64[us]", "count": "Int64"})
    frame = frame[(frame["station"] != "B") | (frame["ts"] != hours[1])]

    def grid(rides: pd.DataFrame) -> pd.DataFrame:
        every = pd.MultiIndex.from_product([sorted(set(rides["station"])), hours], names=["station", "ts"])
        return rides.set_index(["station", "ts"]).reindex(every).reset_index().astype({"ts": "datetime64[us]"})

    lake = Lake(str(tmp_path / "lake"), {"rides": RIDES, "features": FEATURED}, tmp_path)
    above = publish(lake, RIDES, frame, "2012-08")
    made = compute(grid(frame), FEATURES, "ts", by=["station"]).merge(frame, on=["station", "ts"])
    publish(lake, FEATURED, made[[*FEATURED.names]], "2012-08", above)
    derivations = Derivations(
        {"features": {"count": {"rides": ["count"]}}},
        {"features": Computed("rides", FEATURES, (), grid, by=["station"])},
        {},
    )
    tracer = Tracer(lake, derivations)
    # When a row is traced, whose key stands in another order than in the table that it was materialized from
    (feature,) = tracer.trace("features.count_hour_before[2012-08]#2012-08-14T02:00,A%2C north").values
    # Then it is computed from its own station's row alone
    assert (feature.value, feature.repeats) == (1.0, True)
    (behind,) = feature.rows
    assert (behind.keys, behind.values, behind.absent) == (("A%2C north,2012-08-14T01:00",), (1,), ())
    assert behind.versions == ("rides[2012-08]@1",)
    # And where that is absent, it says so
    (feature,) = tracer.trace("features.count_hour_before[2012-08]#2012-08-14T02:00,B").values
    assert feature.value is None
    assert [(rows.keys, rows.absent) for rows in feature.rows] == [((), ("B,2012-08-14T01:00",))]
    # And what is taken from the same row is found by the names of the key's columns
    (count,) = tracer.trace("features.count[2012-08]#2012-08-14T03:00,B").values
    assert (count.value, count.rows[0].keys) == (13, ("B,2012-08-14T03:00",))


def test_keys_of_any_kind_are_printed(tmp_path: Path) -> None:
    from bikes_assets.cli.versions import _raw_rows_text
    from bikes_assets.lineage.trace_result import RawRows

    keys = tuple(f"A,{number}" for number in range(20))
    assert _raw_rows_text(RawRows("t", "x", keys[:3], (1, 2, 3), ())) == "t.x A,0, A,1, A,2, 3 rows"
    assert _raw_rows_text(RawRows("t", "x", keys, (1,) * 20, ())) == "t.x A,0, A,1, A,2, A,3, A,4, ..., A,19, 20 rows"
    assert _raw_rows_text(RawRows("t", "x", ("5",), (1,), ())) == "t.x 5 = 1"
