"""Engines: the same features on each, from pinned files; several stations; a memory limit below the data; damaged files."""

from __future__ import annotations

import os
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bikes_assets.core.digest import combined_digest, table_digest
from bikes_assets.core.errors import DigestError
from bikes_assets.core.schema import Column, Schema
from bikes_assets.demand.features import COLUMN_LINEAGE, DEMAND_FEATURES, FEATURE_NAMES, demand_features, features_of
from bikes_assets.demand.tables import HOURLY_RENTALS
from bikes_assets.orchestration.engines import DuckDB, Engine, EngineIOManager, Spark
from bikes_assets.orchestration.io_managers import TableIOManager
from bikes_assets.storage.lake import Lake

SOAK = os.environ.get("BIKES_SOAK") == "1"
READ = list(dict.fromkeys(column for columns in COLUMN_LINEAGE.values() for column in columns))
MONTHS = ("2011-01", "2011-02", "2011-03")
FRACTIONAL = [name for name in FEATURE_NAMES if DEMAND_FEATURES[name].type == "float64"]
STATION = Column("station", "int64", "Number of the station.")
STATION_FEATURES = Schema("station_features", ("station", "ts"), (STATION, *DEMAND_FEATURES.columns))


@pytest.fixture(scope="module")
def rentals() -> pd.DataFrame:
    from bikes_assets.demand.source import hourly_rentals, parse
    from bikes_assets.demand.tables import RENTAL_RECORDS
    from bikes_assets.storage.sources.readers import reader_for

    shipped = Path(__file__).parents[2] / "data" / "raw" / "hour.csv"
    raw = reader_for(str(shipped), columns=RENTAL_RECORDS.names, date_column="dteday").read()
    return hourly_rentals(parse(raw.frame, raw.locate))


@pytest.fixture(scope="session")
def spark() -> Any:
    if not shutil.which("java"):
        pytest.skip("no Java is installed, which Spark needs")
    from pyspark.sql import SparkSession

    options = {
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
    }
    session = SparkSession.builder.master("local[2]").config(map=options).getOrCreate()
    yield session
    session.stop()


@pytest.fixture(params=["duckdb", "spark"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    if request.param == "spark":
        request.getfixturevalue("spark")
        return Spark()
    return DuckDB("1GB", tmp_path / "spill")


@pytest.fixture(scope="module")
def lake(rentals: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Return a lake with the rentals of three months, the second of which was published twice."""
    folder = tmp_path_factory.mktemp("lake")
    lake = Lake(str(folder), {"hourly_rentals": HOURLY_RENTALS, "demand_features_there": DEMAND_FEATURES}, folder)
    table = lake.table("hourly_rentals")
    for month in (*MONTHS, "2011-02"):
        rows = HOURLY_RENTALS.conform(rentals[rentals["ts"].dt.strftime("%Y-%m") == month])
        record = {"output": {"digest": table_digest(rows, HOURLY_RENTALS).table}}
        table.write(month, rows, record, since=table.version())
    return lake


def written(rows: pa.Table, folder: Path) -> list[str]:
    """Return two files that hold the rows."""
    files = [folder / "one.parquet", folder / "two.parquet"]
    pq.write_table(rows.slice(0, len(rows) // 3), files[0])
    pq.write_table(rows.slice(len(rows) // 3), files[1])
    return [str(file) for file in files]


def with_stations(rentals: pd.DataFrame, stations: int, seed: int = 0) -> pa.Table:
    """Return rentals of several stations, each with absent hours of its own, in no order."""
    random = np.random.default_rng(seed)
    parts = []
    for station in range(stations):
        part = rentals.assign(station=station, cnt=random.poisson(rentals["cnt"].to_numpy(float) / 20))
        parts.append(part[random.random(len(part)) > 0.05])
    return pa.Table.from_pandas(pd.concat(parts).sample(frac=1, random_state=seed), preserve_index=False)


def by_station(rows: pa.Table) -> pa.Table:
    """Return the features that pandas makes of each station alone, months of all its hours."""
    frame = rows.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    made = []
    for station, part in frame.groupby("station"):
        months = sorted(set(part["ts"].dt.strftime("%Y-%m")))
        features = pd.concat([demand_features(part.drop(columns="station"), month) for month in months])
        features.insert(0, "station", pd.array([station] * len(features), dtype="Int64"))
        made.append(features)
    return STATION_FEATURES.conform(pd.concat(made))


def features_by(engine: Engine, files: list[str], by: tuple[str, ...] = ()) -> pa.Table:
    """Return the features that an engine makes of files."""
    grid = engine.on_hourly_grid(engine.open(files, [*by, *READ]), "ts", by)
    return (STATION_FEATURES if by else DEMAND_FEATURES).conform(features_of(grid, by=by))


def assert_same(found: pa.Table, expected: pa.Table) -> None:
    assert found.drop_columns(FRACTIONAL).equals(expected.drop_columns(FRACTIONAL))
    for name in FRACTIONAL:
        one, other = found[name].to_pandas(), expected[name].to_pandas()
        assert one.isna().equals(other.isna()), name
        assert ((one - other).abs().dropna() <= 1e-9).all(), name


def test_features_of_the_shipped_rentals_are_those_of_pandas(
    engine: Engine, rentals: pd.DataFrame, tmp_path: Path
) -> None:
    rows = HOURLY_RENTALS.conform(rentals)
    expected = pd.concat(
        [demand_features(rentals, str(month)) for month in pd.period_range("2011-01", "2012-12", freq="M")]
    )
    found = features_by(engine, written(rows, tmp_path))
    assert len(found) == 17_379
    assert_same(found, DEMAND_FEATURES.conform(expected))
    # and to the last bit, for sums are of whole numbers
    digests = [table_digest(table, DEMAND_FEATURES) for table in (found, DEMAND_FEATURES.conform(expected))]
    assert digests[0] == digests[1]


def test_each_station_has_a_grid_and_a_history_of_its_own(
    engine: Engine, rentals: pd.DataFrame, tmp_path: Path
) -> None:
    rows = with_stations(rentals[rentals["ts"] < "2011-02-15"], stations=3)
    found = features_by(engine, written(rows, tmp_path), by=("station",))
    assert len(found) == len(rows)
    assert_same(found, by_station(rows))


@pytest.mark.parametrize("kind", ["pandas", "polars", "polars lazy"])
def test_stations_on_frames_that_are_on_the_grid(kind: str, rentals: pd.DataFrame, tmp_path: Path) -> None:
    rows = with_stations(rentals[rentals["ts"] < "2011-02-01"], stations=2)
    duck = DuckDB("1GB", tmp_path)
    lazy = duck.on_hourly_grid(duck.open(written(rows, tmp_path), ["station", *READ]), "ts", ["station"])
    grid = nw.from_native(lazy).collect("pyarrow").to_native()
    frame = {
        "pandas": lambda: grid.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get),
        "polars": lambda: pl.from_arrow(grid),
        "polars lazy": lambda: pl.from_arrow(grid).lazy(),
    }[kind]()
    assert_same(STATION_FEATURES.conform(features_of(frame, by=["station"])), by_station(rows))


HOUR = st.none() | st.tuples(
    st.integers(0, 999),
    st.none() | st.integers(1, 4),
    st.integers(0, 10_000),
    st.integers(0, 10_000),
    st.integers(0, 1),
)


@pytest.mark.soak
@given(
    hours=st.lists(st.lists(HOUR, min_size=1, max_size=60).filter(any), min_size=1, max_size=3),
    first=st.integers(0, 2_000),
)
@settings(max_examples=4 if SOAK else 2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_small_table_has_the_same_features(
    engine: Engine, tmp_path: Path, hours: list[list[Any]], first: int
) -> None:
    start = datetime(2012, 2, 27) + timedelta(hours=first)
    rows = pa.Table.from_pylist(
        [
            {"station": station, "ts": start + timedelta(hours=number), "cnt": hour[0], "weathersit": hour[1]}
            | {"temp": hour[2] / 10_000, "hum": hour[3] / 10_000, "windspeed": 0.1, "holiday": hour[4]}
            | {"workingday": 1 - hour[4]}
            for station, series in enumerate(hours)
            for number, hour in enumerate(series)
            if hour
        ],
        schema=pa.schema([("station", pa.int64()), *[HOURLY_RENTALS.arrow().field(name) for name in READ]]),
    )
    assert_same(features_by(engine, written(rows, tmp_path), by=("station",)), by_station(rows))


def test_what_does_not_fit_into_memory_goes_to_files(rentals: pd.DataFrame, tmp_path: Path) -> None:
    # Given a million rows, 104 MB without their other columns, and 60 MB of memory
    rows = with_stations(rentals, stations=62)
    engine = DuckDB("60MB", tmp_path / "spill")
    engine._connection.execute("set threads = 1")
    grid = engine.on_hourly_grid(engine.open(written(rows, tmp_path), ["station", *READ]), "ts", ["station"])
    # When
    engine.write(features_of(grid, by=["station"]), tmp_path / "features.parquet")
    # Then
    (spilled,) = engine._connection.execute("select count(*) from duckdb_temporary_files()").fetchone()
    assert spilled > 0
    made = pq.read_table(tmp_path / "features.parquet")
    assert len(made) == len(rows)
    one = rows.filter(pa.compute.equal(rows["station"], 61))
    assert_same(STATION_FEATURES.conform(made.filter(pa.compute.equal(made["station"], 61))), by_station(one))


# From the lake, through Dagster


def materialize(lake: Lake, manager: dg.IOManager, month: str) -> Any:
    """Return the result of an asset that makes features of two months of rentals."""
    from bikes_assets.orchestration.io_managers import Outcome

    both = dg.AssetIn(
        input_manager_key="engine", partition_mapping=dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=0)
    )
    months = dg.MonthlyPartitionsDefinition("2011-01", end_date="2011-05", fmt="%Y-%m")

    @dg.asset(partitions_def=months, io_manager_key="tables", ins={"hourly_rentals": both})
    def demand_features_there(context, hourly_rentals):
        table = demand_features(hourly_rentals, context.partition_key)
        return Outcome(table, datasets={"raw": ("hourly_rentals", None)}, role="features")

    definitions = dg.Definitions(
        [dg.AssetSpec("hourly_rentals", partitions_def=months), demand_features_there],
        resources={
            "tables": dg.IOManagerDefinition(lambda _: TableIOManager(lake), required_resource_keys={"mlflow"}),
            "engine": dg.IOManagerDefinition(lambda _: manager, required_resource_keys={"mlflow"}),
            "mlflow": dg.ResourceDefinition.none_resource(),
        },
    )
    job = definitions.resolve_implicit_global_asset_job_def()
    selected = [dg.AssetKey("demand_features_there")]
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, partition_key=month, asset_selection=selected)
    (event,) = result.get_asset_materialization_events()
    return event.materialization.metadata["lineage"].value


def test_the_record_is_that_of_the_pandas_engine(engine: Engine, lake: Lake) -> None:
    # When a month is made by either engine
    here = materialize(lake, TableIOManager(lake), "2011-03")
    there = materialize(lake, EngineIOManager(lake, engine, READ), "2011-03")
    # Then inputs and digests are the same
    assert [(item["partition"], item["version"]) for item in there["inputs"]] == [("2011-02", 4), ("2011-03", 3)]
    assert there["inputs"] == here["inputs"]
    assert there["output"]["digest"] == here["output"]["digest"]
    assert there["columns"] == here["columns"]
    # and the two months as one dataset have the digest of their digests
    used = next(item for item in there["datasets"] if item["context"] == "raw")
    assert (used["rows"], used["partitions"]) == (649 + 730, ["2011-02", "2011-03"])
    assert used["digest"] == combined_digest(item["digest"] for item in there["inputs"])


@pytest.mark.parametrize("damage", ["cut short", "lost"])
def test_a_damaged_file_is_found_by_its_size(damage: str, lake: Lake, tmp_path: Path) -> None:
    # Given a copy of the lake
    shutil.copytree(lake.location, tmp_path / "lake")
    table = Lake(str(tmp_path / "lake"), lake.schemas, tmp_path).table("hourly_rentals")
    _, files = table.current_files(["2011-01"])
    (path,) = files["2011-01"][1].paths
    assert len(files["2011-01"][1]) == 688
    # When
    size = Path(path).stat().st_size
    Path(path).write_bytes(Path(path).read_bytes()[: size // 2]) if damage == "cut short" else Path(path).unlink()
    # Then
    found = (
        f"has {size // 2:,} bytes, expected {size:,}"
        if damage == "cut short"
        else f"is missing, expected {size:,} bytes"
    )
    with pytest.raises(DigestError) as refused:
        table.current_files(["2011-01"])
    assert str(refused.value) == f"hourly_rentals[2011-01]: {path} {found}; restore {table.uri}"


def test_a_month_without_rows_has_no_features(engine: Engine, lake: Lake) -> None:
    manager = EngineIOManager(lake, engine, READ)
    assert DEMAND_FEATURES.conform(demand_features(manager.frame({}, HOURLY_RENTALS), "2011-01")).num_rows == 0


# What leans on the inside of libraries


def test_narwhals_says_so_when_an_expression_has_no_window() -> None:
    """`compute` puts order and group to whole expressions, and leaves those alone that Narwhals refuses at once."""
    for expression in (nw.col("ts").dt.hour(), nw.col("cnt"), (nw.col("cnt") + 1) / 2):
        with pytest.raises(nw.exceptions.InvalidOperationError, match="elementwise"):
            expression.cast(nw.Int64).over(order_by="ts")


def test_duckdb_counts_rows_where_a_rolling_sum_cannot_be_missing(tmp_path: Path) -> None:
    """Narwhals counts beside each rolling sum; DuckDB need not look at values of which it knows that none is missing."""
    rows = pa.table({"station": [1, 1], "ts": [datetime(2012, 1, 1), datetime(2012, 1, 2)], "cnt": [1, None]})
    rows = rows.append_column("temp", pa.array([0.5, None]))
    engine = DuckDB("1GB", tmp_path)
    frame = nw.from_native(engine.open(written(rows, tmp_path), rows.column_names))
    for column in ("cnt", "temp"):
        filled = nw.max_horizontal(nw.col(column) + 1.0, nw.lit(0.0)).rolling_sum(2, min_samples=1)
        plan = frame.select(filled.over("station", order_by="ts")).to_native().explain()
        assert "count_star()" in plan, column


def test_the_check_of_hours_counts_those_that_have_rentals_on_any_engine(engine: Engine, tmp_path: Path) -> None:
    from bikes_assets.core.checks import Subject
    from bikes_assets.demand.checks import every_hour

    hours = pd.date_range("2011-01-01", periods=48, freq="h").delete([3, 4]).astype("datetime64[us]")
    pd.DataFrame({"ts": hours, "cnt": range(46)}).to_parquet(tmp_path / "rentals.parquet")
    grid = engine.on_hourly_grid(engine.open([str(tmp_path / "rentals.parquet")], ["ts", "cnt"]), "ts")
    verdict = every_hour(
        Subject("demand_features", "2011-01", pd.DataFrame({"ts": hours}), inputs={"hourly_rentals": grid})
    )
    assert verdict.metrics == {"hours": 46, "hours of rentals": 46, "lost": 0}
