"""Months that arrive while Dagster's real daemon watches: what should be made is made, once for each cause, and nothing else.

What should be is computed here from the lake's log files alone, without the project's own rule.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bikes_assets_tests.fire.servers import free_port

ROOT = Path(__file__).parents[2]
SOAK = os.environ.get("BIKES_SOAK") == "1"
MONTHS = [f"{year}-{month:02}" for year in (2011, 2012) for month in range(1, 13)]
ARRIVE = 12 if SOAK else 1
EVERY_MONTH = ("hourly_rentals", "demand_features")
FROM_THE_THIRD_MONTH = ("demand_model", "champion_model", "demand_predictions", "prediction_quality")
PATIENCE = 900


@dataclass(frozen=True)
class Commit:
    """A partition's record, as a commit in the lake's log holds it."""

    asset: str
    partition: str
    version: int
    record: dict[str, Any]

    @property
    def cause(self) -> str:
        inputs = sorted((item["asset"], item["partition"], item["digest"]) for item in self.record["inputs"])
        return json.dumps([inputs, self.record["code_version"], self.record["config"]], sort_keys=True)

    def seen(self, version: Commit) -> dict[str, str]:
        """Return the digests of the columns that this used of a version of an input."""
        columns = version.record["columns"]
        used = self.record["used"].get(version.asset) or columns
        return {name: columns[name] for name in used} or {"": version.record["output"]["digest"]}


@dataclass
class Site:
    """A project at work: its data, its source, and Dagster's webserver and daemon."""

    folder: Path
    source: str
    environment: dict[str, str]

    def commits(self) -> list[Commit]:
        found = []
        for file in sorted((self.folder / "data" / "lake").glob("*/_delta_log/*.json")):
            for line in file.read_text().splitlines():
                info = json.loads(line).get("commitInfo", {})
                if "partition" in info:
                    asset = file.parents[1].name
                    found.append(Commit(asset, info["partition"], int(file.stem), json.loads(info["record"])))
        return found

    def present(self) -> dict[tuple[str, str], Commit]:
        return {(item.asset, item.partition): item for item in self.commits()}

    def unsettled(self, months: list[str]) -> list[str]:
        """Return what is not as it should be: a partition that is missing, or was materialized from what is there no more.

        An input that differs only in columns that are not used is as it should be.
        """
        present = self.present()
        published = {(item.asset, item.partition, item.record["output"]["digest"]): item for item in self.commits()}
        wanted = [(asset, month) for asset in EVERY_MONTH for month in months]
        wanted += [(asset, month) for asset in FROM_THE_THIRD_MONTH for month in months[2:]]
        told = [f"{asset}[{month}] is missing" for asset, month in wanted if (asset, month) not in present]
        for (asset, month), commit in present.items():
            for item in commit.record["inputs"]:
                now = present.get((item["asset"], item["partition"]))
                read = published.get((item["asset"], item["partition"], item["digest"]))
                if now and read and commit.seen(now) != commit.seen(read):
                    told.append(f"{asset}[{month}] was materialized from an older {item['asset']}[{item['partition']}]")
        return told

    def rentals(self, month: str) -> int:
        """Return the number of rentals in a month as it is published, read from Parquet."""
        import pyarrow.dataset as ds
        from deltalake import DeltaTable

        table = DeltaTable(self.folder / "data" / "lake" / "hourly_rentals").to_pyarrow_dataset()
        return sum(table.to_table(columns=["cnt"], filter=ds.field("partition") == month)["cnt"].to_pylist())

    def runs(self) -> Counter[str]:
        """Return how many Dagster runs there are of each status."""
        home = self.folder / "data" / "dagster" / "history" / "runs.db"
        with closing(sqlite3.connect(f"file:{home}?mode=ro", uri=True)) as database:
            return Counter(status for (status,) in database.execute("select status from runs"))

    def log(self) -> str:
        return (self.folder / "log").read_text()[-6000:]


def rows_of(month: str) -> list[dict[str, str]]:
    with (ROOT / "data" / "raw" / "hour.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["dteday"].startswith(month)]


def put(folder: Path, month: str, rows: list[dict[str, str]]) -> None:
    """Put a month's file into the source's folder, whole at once."""
    part = folder / f".{month}.part"
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    part.replace(folder / f"{month}.csv")


def corrected(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return rows with one more rental in the last hour."""
    last = rows[-1]
    more = {"registered": str(int(last["registered"]) + 1), "cnt": str(int(last["cnt"]) + 1)}
    return [*rows[:-1], {**last, **more}]


@contextmanager
def at_work(folder: Path, source: str, **settings: str) -> Iterator[Site]:
    """Run Dagster's webserver and daemon with triggers on, as `bikes ui` does, until the block ends."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("BIKES_", "DAGSTER_", "MLFLOW_"))},
        "BIKES_DATA": str(folder / "data"),
        "DAGSTER_HOME": str(folder / "data" / "dagster"),
        "BIKES_SOURCE": source,
        "BIKES_TRIGGERS": "1",
        "BIKES_TICK_SECONDS": "5",
        **settings,
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", "from bikes_assets.cli import main; main()"]
    if not SOAK:  # the daemon finds what is there already made
        subprocess.run([*command, "run"], env=environment, check=True)
    ports = ["--dagster-port", str(free_port()), "--mlflow-port", str(free_port()), "--lineage-port", str(free_port())]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "ui", *ports], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield Site(folder, source, environment)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def wait_until(holds: Callable[[], Any], site: Site, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if not holds():
            return
        time.sleep(2)
    raise AssertionError(f"{what}: {holds()}\n{site.runs()}\n{site.log()}")


def once_for_each_cause(site: Site) -> None:
    """Fail where a partition was made twice from the same inputs by the same code and settings, or where a run failed."""
    history: dict[tuple[str, str], list[Commit]] = {}
    for commit in site.commits():
        history.setdefault((commit.asset, commit.partition), []).append(commit)
    twice = [
        f"{after.asset}[{after.partition}]@{after.version} was made as @{before.version} was"
        for made in history.values()
        for before, after in pairwise(made)
        if before.cause == after.cause
    ]
    assert not twice, "\n".join(twice)
    assert set(site.runs()) == {"SUCCESS"}, site.runs()


@pytest.mark.soak
def test_files_that_arrive_are_predicted(tmp_path):
    # given two months that are made, by the daemon in a soak
    folder = tmp_path / "source"
    folder.mkdir()
    known = MONTHS[:2]
    for month in known:
        put(folder, month, rows_of(month))
    with at_work(tmp_path, str(folder)) as site:
        wait_until(lambda: site.unsettled(known), site, "the first months")
        # when months arrive one after the other, and at every fourth an earlier month is corrected as well
        for number, month in enumerate(MONTHS[2 : 2 + ARRIVE]):
            known = [*known, month]
            put(folder, month, rows_of(month))
            earlier = known[-3]
            is_corrected = number % 4 == 0
            if is_corrected:
                put(folder, earlier, corrected(rows_of(earlier)))

            def left(is_corrected=is_corrected, earlier=earlier, known=known):
                expected = sum(int(row["cnt"]) for row in rows_of(earlier)) + is_corrected
                seen = site.rentals(earlier)
                return site.unsettled(known) + ([f"{earlier} has {seen}, not {expected}"] if seen != expected else [])

            # then its predictions appear
            wait_until(left, site, month)
        time.sleep(30)  # several looks at what is settled
        # and everything was made once for each cause, in runs that all succeeded
        once_for_each_cause(site)


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="its looks are a minute apart")
def test_months_of_a_database_are_made_by_the_schedule(tmp_path):
    # given a database, which tells nothing cheaply, with two months in it
    file = tmp_path / "rentals.db"

    kinds = {"dteday": "text", **dict.fromkeys(("temp", "atemp", "hum", "windspeed"), "real")}

    def insert(month):
        rows = rows_of(month)
        columns = ", ".join(f"{name} {kinds.get(name, 'integer')}" for name in rows[0])
        values = [tuple(row.values()) for row in rows]
        with closing(sqlite3.connect(file)) as database, database:
            database.execute(f"create table if not exists rentals ({columns})")
            database.executemany(f"insert into rentals values ({', '.join('?' * len(rows[0]))})", values)

    known = MONTHS[:2]
    for month in known:
        insert(month)
    settings = {"BIKES_SOURCE_QUERY": "select * from rentals", "BIKES_SCHEDULE": "* * * * *"}
    with at_work(tmp_path, f"sqlite:///{file}", **settings) as site:
        wait_until(lambda: site.unsettled(known), site, "the first months")
        # when a month is added
        for month in MONTHS[2 : 2 + (3 if SOAK else 1)]:
            known = [*known, month]
            insert(month)
            # then the schedule's next look makes it, and automation the rest
            wait_until(lambda known=known: site.unsettled(known), site, month)
        time.sleep(70)
        once_for_each_cause(site)
