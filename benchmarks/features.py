"""Features of ten million hours: DuckDB by the project's functions against hand-written SQL, and the other engines beside them.

Rows are the shipped rentals, repeated for each station with seeded demand and absent hours of its own. Each measurement is a
process of its own; printed are medians of CPU seconds, ratios to the hand-written SQL, peak memory, and what was spilled.

    python benchmarks/features.py                    # 10 million rows, DuckDB
    python benchmarks/features.py --engines duckdb pandas spark --stations 60 --rounds 1
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def sql(files: list[str]) -> str:
    """Return the same features as one would write them by hand for DuckDB alone."""
    return f"""
with rentals as (
    select station, ts, cnt, workingday, holiday, temp, hum, windspeed, weathersit from read_parquet({files})
), spans as (
    select station, min(ts) as first, max(ts) as last from rentals group by station
), hours as (
    select station, unnest(generate_series(first, last, interval 1 hour)) as ts from spans
), grid as (
    select * from hours left join rentals using (station, ts)
), made as (
    select station, ts, cnt,
        hour(ts) as hour_of_day, dayofweek(ts) * 24 + hour(ts) as hour_of_week,
        workingday as working_day, holiday as public_holiday, temp as temperature, hum as humidity, windspeed as wind_speed,
        last_value(weathersit ignore nulls) over (w rows between 24 preceding and current row) as weather_kind,
        count(*) filter (weathersit >= 3) over (w rows between 2 preceding and current row) as wet_hours_3h,
        temp - avg(temp) over (w rows between 647 preceding and current row) as temperature_above_27d,
        hum - avg(hum) over (w rows between 167 preceding and current row) as humidity_above_7d,
        lag(cnt, 24) over w as demand_lag_24h, lag(cnt, 168) over w as demand_lag_168h,
        avg(cnt) over (w rows between 191 preceding and 24 preceding) as demand_level_7d,
        avg(cnt) over (w rows between 47 preceding and 24 preceding) as mean_1d,
        avg(cnt) over (w rows between 671 preceding and 24 preceding) as mean_27d
    from grid window w as (partition by station order by ts)
)
select * exclude (mean_1d, mean_27d),
    mean_1d / nullif(demand_level_7d, 0) as demand_trend_1d, demand_level_7d / nullif(mean_27d, 0) as demand_trend_7d
from made where cnt is not null"""


def generate(folder: Path, stations: int) -> int:
    """Write rentals of many stations, a Parquet file a month, and return the bytes that they take in memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from bikes_assets.demand.source import hourly_rentals, parse
    from bikes_assets.demand.tables import HOURLY_RENTALS, RENTAL_RECORDS
    from bikes_assets.storage.sources.readers import reader_for

    raw = reader_for(str(ROOT / "data/raw/hour.csv"), columns=RENTAL_RECORDS.names, date_column="dteday").read()
    shipped = hourly_rentals(parse(raw.frame, raw.locate))
    random, size = np.random.default_rng(0), 0
    for month, part in shipped.groupby(shipped["ts"].dt.strftime("%Y-%m")):
        rows = HOURLY_RENTALS.conform(part.reset_index(drop=True))
        many = rows.take(np.tile(np.arange(len(rows)), stations))
        many = many.add_column(0, "station", pa.array(np.repeat(np.arange(stations), len(rows))))
        demand = random.poisson(many["cnt"].to_numpy() / 20).astype(np.int64)
        many = many.set_column(many.schema.get_field_index("cnt"), "cnt", pa.array(demand))
        many = many.filter(pa.array(random.random(len(many)) > 0.001))
        pq.write_table(many, folder / f"{month}.parquet")
        size += many.nbytes
    return size


def measure(way: str, files: list[str], memory: str, work: Path) -> dict[str, float]:
    """Make the features in this process, and return what it cost."""
    from bikes_assets.demand.features import COLUMN_LINEAGE, features_of
    from bikes_assets.orchestration.engines import DuckDB, Spark

    columns = ["station", *dict.fromkeys(column for names in COLUMN_LINEAGE.values() for column in names)]
    output, spill, peak, done = work / way, work / f"spill-{way}", [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            sizes = [os.stat(file).st_size for file in spill.glob("*")] if spill.exists() else []
            peak[0] = max(peak[0], sum(sizes))

    threading.Thread(target=watch, daemon=True).start()
    before, start = os.times(), time.perf_counter()
    if way == "sql":
        connection = DuckDB(memory, spill)._connection
        connection.execute(f"copy ({sql(files)}) to '{output}' (format parquet)")
    elif way == "pandas":
        import pandas as pd
        import pyarrow as pa
        import pyarrow.parquet as pq

        from bikes_assets.demand.features import on_hourly_grid

        rows = pq.ParquetDataset(files).read(columns).to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
        parts = rows.groupby("station")
        grids = [on_hourly_grid(part.drop(columns="station")).assign(station=number) for number, part in parts]
        features_of(pd.concat(grids), by=["station"]).to_parquet(output)
    else:
        engine = DuckDB(memory, spill) if way == "duckdb" else Spark()
        grid = engine.on_hourly_grid(engine.open(files, columns), "ts", ["station"])
        engine.write(features_of(grid, by=["station"]), output)
    after, wall = os.times(), time.perf_counter() - start
    done.set()
    cpu = after.user + after.system - before.user - before.system
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    if way == "spark":  # its work is done by a Java process, which ends with the session
        from pyspark.sql import SparkSession

        SparkSession.builder.getOrCreate().stop()
    return {"cpu": cpu, "wall": wall, "peak MB": rss, "spilled MB": peak[0] / 1e6}


def difference(one: Path, other: Path) -> float:
    """Return the largest difference of any value of ten stations between two results, infinite where one is missing."""
    import duckdb

    from bikes_assets.demand.features import FEATURE_NAMES

    wanted = ", ".join(
        f"max(case when (a.{name} is null) <> (b.{name} is null) then 'inf'::double else abs(a.{name} - b.{name}) end)"
        for name in FEATURE_NAMES
    )
    files = [
        f"read_parquet('{path}/*.parquet')" if path.is_dir() else f"read_parquet('{path}')" for path in (one, other)
    ]
    stations = "(select * from {} where station < 10)"
    a, b = (stations.format(file) for file in files)
    row = duckdb.sql(f"select count(*), {wanted} from {a} a full join {b} b using (station, ts)").fetchall()[0]
    assert row[0] == duckdb.sql(f"select count(*) from {a}").fetchall()[0][0]
    return max(row[1:])


def main() -> None:
    """Measure, and print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stations", type=int, default=577)
    parser.add_argument("--memory", default="1GB", help="DuckDB's limit")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", nargs="+", default=["duckdb"], choices=["duckdb", "pandas", "spark"])
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        way, folder = asked.measure[0], Path(asked.measure[1])
        files = sorted(map(str, folder.glob("rentals/*.parquet")))
        print(json.dumps(measure(way, files, asked.memory, folder)))
        return
    with tempfile.TemporaryDirectory(prefix="features-", dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        (folder / "rentals").mkdir()
        size = generate(folder / "rentals", asked.stations)
        print(f"{size / 1e6:,.0f} MB of rows in memory, limit of DuckDB {asked.memory}, {os.cpu_count()} cores")
        ways = ["sql", *asked.engines]
        found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(asked.rounds):
            for way in ways:
                found[way].append(run(way, folder, asked.memory))
        base = statistics.median(item["cpu"] for item in found["sql"])
        print(f"{'':8} {'CPU s':>8} {'ratio':>6} {'wall s':>8} {'peak MB':>8} {'spilled MB':>10} {'difference':>10}")
        for way, items in found.items():
            middle = {key: statistics.median(item[key] for item in items) for key in items[0]}
            apart = difference(folder / "sql", folder / way)
            print(
                f"{way:8} {middle['cpu']:8.1f} {middle['cpu'] / base:6.2f} {middle['wall']:8.1f} {middle['peak MB']:8.0f} "
                f"{middle['spilled MB']:10.0f} {apart:10.1e}"
            )


def run(way: str, folder: Path, memory: str) -> dict[str, float]:
    """Return what one measurement in a process of its own says."""
    import shutil

    shutil.rmtree(folder / way, ignore_errors=True)
    (folder / way).unlink(missing_ok=True)
    command = [sys.executable, __file__, "--memory", memory, "--measure", way, str(folder)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = json.loads(done.stdout.splitlines()[-1])
    if way == "spark":  # Java's share is known when it has ended
        said["cpu"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return said


if __name__ == "__main__":
    main()
