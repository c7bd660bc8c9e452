"""A store with a history as years of use leave it: each run of a real one again and again, under ids and versions of its own."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from deltalake import DeltaTable

_ADDRESS = re.compile(r"\b([a-z_]+)\[([\d-]+)\]@(\d+)")
_BY_RUN = ("latest_metrics", "metrics", "params", "tags")
_BY_MODEL = ("logged_model_tags", "logged_model_metrics", "logged_model_params")
Row = dict[str, Any]


class Table:
    """The Delta log of one table, to which commits are added as files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "_delta_log"
        self.version = len([*self.log.glob("*.json")]) - 1
        self.files: dict[str, dict[str, Any]] = {}
        self.made: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for version in range(self.version + 1):
            entries = [json.loads(line) for line in self._file(version).read_text().splitlines()]
            info = next((entry["commitInfo"] for entry in entries if "commitInfo" in entry), {})
            if "record" in info:
                run = json.loads(info["record"])["made_by"]["dagster_run_id"]
                self.made[run, info["partition"]] = entries
                self.files[info["partition"]] = next(entry["add"] for entry in entries if "add" in entry)

    def _file(self, version: int) -> Path:
        return self.log / f"{version:020}.json"

    def publish(self, run: str, partition: str, record: dict[str, Any], milliseconds: int) -> None:
        """Commit what a run has made of a partition once more: the same rows, in a file of its own."""
        self.version += 1
        old, path = self.files[partition], f"partition={partition}/part-00000-{uuid4()}.parquet"
        os.link(self.folder / old["path"], self.folder / path)
        lines: list[dict[str, Any]] = []
        for entry in self.made[run, partition]:
            if "commitInfo" in entry:
                checksum = {path: next(iter(json.loads(entry["commitInfo"]["sha256"]).values()))}
                info = {"record": json.dumps(record), "timestamp": milliseconds, "sha256": json.dumps(checksum)}
                lines.append({"commitInfo": entry["commitInfo"] | info})
            elif "txn" in entry:
                lines.append({"txn": entry["txn"] | {"version": self.version}})
        added = old | {"path": path, "modificationTime": milliseconds}
        gone = {"path": old["path"], "deletionTimestamp": milliseconds, "dataChange": True, "size": old["size"]}
        lines += [{"remove": gone | {"partitionValues": {"partition": partition}}}, {"add": added}]
        self._file(self.version).write_text("\n".join(map(json.dumps, lines)))
        self.files[partition] = added


class Databases:
    """Rows of SQLite files, read by a column and written again as they are changed."""

    def __init__(self, path: Path, also: Path | None = None) -> None:
        self.connection = sqlite3.connect(path)
        self.connection.row_factory = sqlite3.Row
        self.connection.execute("pragma synchronous=off")
        if also:
            self.connection.execute("attach ? as history", [str(also)])

    def rows(self, table: str, column: str, value: Any) -> list[Row]:
        """Return the rows of a table with a value in a column."""
        return [dict(row) for row in self.connection.execute(f"select * from {table} where {column} = ?", [value])]

    def next_id(self, table: str) -> Iterator[int]:
        """Return numbers that no row of a table has."""
        return count(self.connection.execute(f"select coalesce(max(id), 0) + 1 from {table}").fetchone()[0])

    def insert(self, table: str, rows: Iterable[Row]) -> None:
        """Add rows to a table."""
        for row in rows:
            places = ", ".join("?" * len(row))
            self.connection.execute(f"insert into {table} ({', '.join(row)}) values ({places})", [*row.values()])


class Grower:
    """Makes runs of a store again: in Dagster's databases, in the lake and in MLflow."""

    def __init__(self, data: Path) -> None:
        self.data = data
        lake = data / "lake"
        self.tables = {
            path.name: Table(path)
            for path in lake.iterdir()
            if (path / "_delta_log").exists() and path.name != "champion_pins"
        }
        self.dagster = Databases(data / "dagster" / "event_log.db", data / "dagster" / "history" / "runs.db")
        self.mlflow = Databases(data / "mlflow" / "mlflow.db")
        self.ids = {
            table: self.dagster.next_id(table)
            for table in (
                "event_logs",
                "asset_event_tags",
                "asset_check_executions",
                "history.runs",
                "history.run_tags",
            )
        }
        self.number = max(int(row[0]) for row in self.mlflow.connection.execute("select version from model_versions"))
        self.versions: dict[tuple[str, str], int] = {}
        for name, table in self.tables.items():
            for version, entries in enumerate(table.made.values(), start=1):
                partition = next(entry["commitInfo"]["partition"] for entry in entries if "commitInfo" in entry)
                self.versions[name, partition] = version
        self.templates = [self._template(run["run_id"]) for run in self._runs()]

    def _runs(self) -> Iterator[sqlite3.Row]:
        made = {run for table in self.tables.values() for run, _ in table.made}
        for run in self.dagster.connection.execute(
            "select run_id from history.runs where status = 'SUCCESS' order by id"
        ):
            if run["run_id"] in made:
                yield run

    def _template(self, run: str) -> dict[str, Any]:
        """Return all that the databases hold of a run."""
        of_run = self.mlflow.connection.execute(
            "select run_uuid from tags where key = 'dagster_run_id' and value = ?", [run]
        )
        runs = [row["run_uuid"] for row in of_run]
        models = [row for uuid in runs for row in self.mlflow.rows("logged_models", "source_run_id", uuid)]
        return {
            "run": run,
            "history.runs": self.dagster.rows("history.runs", "run_id", run),
            "history.run_tags": self.dagster.rows("history.run_tags", "run_id", run),
            "event_logs": self.dagster.rows("event_logs", "run_id", run),
            "asset_check_executions": self.dagster.rows("asset_check_executions", "run_id", run),
            "runs": [row for uuid in runs for row in self.mlflow.rows("runs", "run_uuid", uuid)],
            **{name: [row for uuid in runs for row in self.mlflow.rows(name, "run_uuid", uuid)] for name in _BY_RUN},
            "inputs": [row for uuid in runs for row in self.mlflow.rows("inputs", "destination_id", uuid)],
            "outputs": [row for uuid in runs for row in self.mlflow.rows("inputs", "source_id", uuid)],
            "logged_models": models,
            **{
                name: [row for model in models for row in self.mlflow.rows(name, "model_id", model["model_id"])]
                for name in _BY_MODEL
            },
            "model_versions": [row for uuid in runs for row in self.mlflow.rows("model_versions", "run_id", uuid)],
        }

    def again(self, template: dict[str, Any], seconds: float) -> None:
        """Make a run once more, at a time in Unix seconds."""
        ids = {template["run"]: str(uuid4())}
        ids |= {row["run_uuid"]: uuid4().hex for row in template["runs"]}
        ids |= {row["model_id"]: f"m-{uuid4().hex}" for row in template["logged_models"]}
        pattern = re.compile("|".join(map(re.escape, ids)))
        made: dict[str, str] = {}

        def renamed(text: str) -> str:
            return pattern.sub(lambda found: ids[found[0]], text)

        def moved(text: str) -> str:
            """Return a text about another run: its ids, and every version as it is by then."""
            return _ADDRESS.sub(lambda found: f"{found[1]}[{found[2]}]@{self._version(found)}", renamed(text))

        events = [row | {"id": next(self.ids["event_logs"])} for row in template["event_logs"]]
        numbers = dict(zip((row["id"] for row in template["event_logs"]), (row["id"] for row in events), strict=True))
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
        for row in events:
            if row["dagster_event_type"] == "ASSET_MATERIALIZATION":
                asset, partition = json.loads(row["asset_key"])[0], row["partition"]
                self.versions[asset, partition] = self.tables[asset].version + 1
                made[asset] = partition
                row["event"] = self._materialized(row["event"], asset, partition, moved, template["run"], seconds)
            else:
                row["event"] = renamed(row["event"])
            row |= {"run_id": ids[template["run"]], "timestamp": at}
        self.dagster.insert("event_logs", events)
        tags = [row for number in numbers for row in self.dagster.rows("asset_event_tags", "event_id", number)]
        fresh = self.ids["asset_event_tags"]
        self.dagster.insert(
            "asset_event_tags", [row | {"id": next(fresh), "event_id": numbers[row["event_id"]]} for row in tags]
        )
        for name, more in (
            (
                "history.runs",
                {"start_time": seconds, "end_time": seconds + 1, "update_timestamp": at, "create_timestamp": at},
            ),
            ("history.run_tags", {}),
            ("asset_check_executions", {}),
        ):
            self.dagster.insert(
                name, [_texts(row, renamed) | {"id": next(self.ids[name])} | more for row in template[name]]
            )
        self._in_mlflow(template, ids, moved)

    def _version(self, found: re.Match[str]) -> int:
        return self.versions.get((found[1], found[2]), int(found[3]))

    def _materialized(
        self, event: str, asset: str, partition: str, moved: Callable[[str], str], run: str, seconds: float
    ) -> str:
        """Return the event of a version that is made once more, and commit it to the lake."""
        values = json.loads(moved(event))
        entries = values["dagster_event"]["event_specific_data"]["materialization"]["metadata_entries"]
        # the checksum is of what the real one says: without one, an event is as those from before there were any
        entries[:] = [entry for entry in entries if entry["label"] != "lineage/checksum"]
        record = next(entry["entry_data"]["data"] for entry in entries if entry["label"] == "lineage")
        for item in record["inputs"]:
            item["version"] = self.versions.get((item["asset"], item["partition"]), item["version"])
        for use in record["datasets"]:
            if use["asset"] in self.tables and use["source"]["kind"] == "delta":
                use["source"]["version"] = str(self.tables[use["asset"]].version + (use["asset"] == asset))
        record["time"] = seconds
        record["output"]["version"] = self.tables[asset].version + 1
        if registered := [entry["entry_data"] for entry in entries if entry["label"] == "mlflow_model_version"]:
            self.number += 1
            registered[0]["value"] = self.number
        self.tables[asset].publish(run, partition, record, int(seconds * 1000))
        return json.dumps(values)

    def _in_mlflow(self, template: dict[str, Any], ids: dict[str, str], moved: Callable[[str], str]) -> None:
        """Make the runs and the model of a run of Dagster once more."""
        for name in ("runs", *_BY_RUN, "logged_models", *_BY_MODEL):
            self.mlflow.insert(name, [_texts(row, moved) for row in template[name]])
        for row in template["runs"]:
            uuid = ids[row["run_uuid"]]
            found = self.mlflow.connection.execute(
                "select value from tags where run_uuid = ? and key = 'address'", [uuid]
            ).fetchone()
            if found:
                self.mlflow.connection.execute(
                    "update tags set value = ? where run_uuid = ? and key = 'table_version'",
                    [found["value"].rpartition("@")[2], uuid],
                )
        for row in (*template["inputs"], *template["outputs"]):
            fresh = uuid4().hex
            self.mlflow.insert("inputs", [_texts(row, moved) | {"input_uuid": fresh}])
            known = self.mlflow.rows("input_tags", "input_uuid", row["input_uuid"])
            self.mlflow.insert("input_tags", [tag | {"input_uuid": fresh} for tag in known])
        for row in template["logged_models"]:
            self._files(row, ids)
        for row in template["model_versions"]:
            self.mlflow.insert("model_versions", [_texts(row, moved) | {"version": self.number}])
            tags = self.mlflow.connection.execute(
                "select * from model_version_tags where name = ? and version = ?", [row["name"], row["version"]]
            ).fetchall()
            self.mlflow.insert(
                "model_version_tags", [_texts(dict(tag), moved) | {"version": self.number} for tag in tags]
            )

    def _files(self, model: Row, ids: dict[str, str]) -> None:
        """Give a logged model its files, as links to those that are there."""
        old = Path(model["artifact_location"].removeprefix("file://"))
        new = Path(str(old).replace(model["model_id"], ids[model["model_id"]]))
        for file in old.rglob("*"):
            if file.is_file():
                place = new / file.relative_to(old)
                place.parent.mkdir(parents=True, exist_ok=True)
                os.link(file, place)

    def close(self) -> None:
        """Write everything, with a checkpoint of each table as Delta would have made one."""
        for databases in (self.dagster, self.mlflow):
            databases.connection.commit()
            databases.connection.close()
        for table in self.tables.values():
            DeltaTable(str(table.folder)).create_checkpoint()


def _texts(row: Row, change: Callable[[str], str]) -> Row:
    return {name: change(value) if isinstance(value, str) else value for name, value in row.items()}


def grow(data: Path, runs: int) -> None:
    """Add runs to a made store.

    Args:
        data: its folder; nobody else may be at work in it.
        runs: how many.
    """
    grower, begun = Grower(data), time.time()
    for number, template in enumerate(islice(cycle(grower.templates), runs)):
        grower.again(template, begun + number / 1000)
    grower.close()


if __name__ == "__main__":
    grow(Path(sys.argv[1]), int(sys.argv[2]))
