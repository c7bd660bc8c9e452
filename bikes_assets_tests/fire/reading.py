"""What lies in the lake and in Dagster's databases, read from their files alone: nothing here uses the project's reading."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PRINTS: dict[str, str] = {}
"""What the rows of a Parquet file are, by the SHA-256 of its bytes."""


@dataclass(frozen=True)
class Published:
    """A commit of the lake that published a partition."""

    table: str
    partition: str
    version: int
    digest: str
    run_id: str

    @property
    def address(self) -> str:
        return f"{self.table}[{self.partition}]@{self.version}"


@dataclass
class Reading:
    """A lake as its files tell it.

    Attributes:
        commits: every commit that published a partition, by table in order.
        log: bytes of each file of each table's log.
        rows: what the rows of each commit are, in one string.
        faults: what cannot be read, in sentences.
    """

    commits: list[Published] = field(default_factory=list)
    log: dict[str, bytes] = field(default_factory=dict)
    rows: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def newest(self, table: str, partition: str) -> Published:
        return [item for item in self.commits if (item.table, item.partition) == (table, partition)][-1]


def read_lake(lake: Path) -> Reading:
    """Read every version of every table: each must be there whole."""
    reading = Reading()
    for log in sorted(lake.glob("*/_delta_log")):
        _read_table(log.parent, reading)
    for file in (lake / "model_files").glob("*.skops"):
        if hashlib.sha256(file.read_bytes()).hexdigest() != file.stem:
            reading.faults.append(f"{file.name} holds something else")
    return reading


def partial(reading: Reading, sound: Reading) -> list[str]:
    """Return what is not whole: rows that are not those of their digest, as an unperturbed lake has them."""
    known = {(item.table, item.digest): sound.rows[item.address] for item in sound.commits}
    told = [*reading.faults]
    for item in reading.commits:
        if known.setdefault((item.table, item.digest), reading.rows[item.address]) != reading.rows[item.address]:
            told.append(f"{item.address} holds other rows than its digest {item.digest} says")
    return told


def lost(reading: Reading, before: Reading) -> list[str]:
    """Return earlier versions that are gone or are not what they were."""
    gone = [name for name, content in before.log.items() if reading.log.get(name) != content]
    return gone + [address for address, rows in before.rows.items() if reading.rows.get(address) != rows]


def unmatched(reading: Reading, home: Path) -> list[str]:
    """Return commits without exactly one event, and events without their commit."""
    commits, events = (
        Counter(item.address for item in reading.commits),
        Counter(address for address, _ in events_of(home)),
    )
    return [
        f"{address}: {commits[address]} commits, {events[address]} events"
        for address in sorted(commits.keys() | events.keys())
        if (commits[address], events[address]) != (1, 1)
    ]


def events_of(home: Path) -> Iterator[tuple[str, str]]:
    """Yield the address on each event that carries a record, and its digest."""
    for _, entries in _entries(home):
        if "lineage" in entries:
            output = entries["lineage"]["data"]["output"]
            yield f"{output['asset']}[{output['partition']}]@{output['version']}", output["digest"]


def numbers_of(home: Path) -> Iterator[tuple[str, str]]:
    """Yield each number under which events say that a version is registered, `demand_model@3`, and that version's address."""
    for asset, entries in _entries(home):
        if "mlflow_model_version" in entries:
            output = entries.get("lineage", {}).get("data", {}).get("output", {})
            made = (
                f"{output['asset']}[{output['partition']}]@{output['version']}"
                if output
                else entries["address"]["text"]
            )
            number = entries["mlflow_model_version"]
            yield f"{asset}@{number.get('value', number.get('text'))}", made


def _entries(home: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the asset of each event that tells of one, and its metadata by label."""
    kinds = "('ASSET_MATERIALIZATION', 'ASSET_OBSERVATION')"
    with closing(sqlite3.connect(home / "event_log.db")) as database:
        found = database.execute(f"select event from event_logs where dagster_event_type in {kinds}").fetchall()
    for (text,) in found:
        data = json.loads(text)["dagster_event"]["event_specific_data"]
        made = data.get("materialization") or data.get("asset_observation")
        yield (
            "/".join(made["asset_key"]["path"]),
            {entry["label"]: entry["entry_data"] for entry in made["metadata_entries"]},
        )


def statuses(home: Path) -> Counter[str]:
    """Return how many runs have which status."""
    with closing(sqlite3.connect(home / "history" / "runs.db")) as database:
        return Counter(status for (status,) in database.execute("select status from runs"))


def intact(store: Path) -> str:
    """Return what SQLite says of a database file: `ok` when it is whole."""
    with closing(sqlite3.connect(store)) as database:
        return str(database.execute("pragma integrity_check").fetchone()[0])


def _read_table(table: Path, reading: Reading) -> None:
    active: dict[str, str] = {}
    for number, file in enumerate(sorted((table / "_delta_log").glob("*.json"))):
        if file.stem != f"{number:020}":
            reading.faults.append(f"{table.name}: version {number} is missing")
            return
        content = reading.log[f"{table.name}/{file.name}"] = file.read_bytes()
        try:
            actions = [json.loads(line) for line in content.splitlines()]
        except ValueError:
            reading.faults.append(f"{table.name}@{number}: the log is cut short")
            return
        for action in actions:
            if "remove" in action:
                active.pop(urllib.parse.unquote(action["remove"]["path"]), None)
        for action in actions:
            if "add" in action:
                active[urllib.parse.unquote(action["add"]["path"])] = action["add"]["partitionValues"]["partition"]
        info: dict[str, Any] = next((item["commitInfo"] for item in actions if "commitInfo" in item), {})
        if "partition" not in info:
            continue
        record = json.loads(info["record"])
        made = Published(
            table.name,
            info["partition"],
            number,
            record["output"]["digest"],
            record["made_by"].get("dagster_run_id", ""),
        )
        reading.commits.append(made)
        files = [table / path for path, partition in active.items() if partition == made.partition]
        try:
            reading.rows[made.address] = " ".join(sorted(map(_print_of, files)))
        except Exception as error:  # noqa: BLE001 - whatever a file that is not whole raises
            reading.rows[made.address] = ""
            reading.faults.append(f"{made.address} cannot be read: {error}")


def _print_of(file: Path) -> str:
    import io

    import pyarrow.parquet as pq

    content = file.read_bytes()
    name = hashlib.sha256(content).hexdigest()
    if name not in _PRINTS:
        rows = pq.read_table(io.BytesIO(content)).to_pylist()
        # names of model files, models' ids and addresses are new in each fit; their digest says that they are the same
        for row in rows:
            for column in ("sha256", "mlflow_model_id", "origin"):
                row.pop(column, None)
        _PRINTS[name] = hashlib.sha256(repr(rows).encode()).hexdigest() if rows else ""
    return _PRINTS[name]
