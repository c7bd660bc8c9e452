"""Removing from a lake: what is live reads as before, what went says so, and nothing else is touched."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from bikes_assets.core.digest import table_digest
from bikes_assets.core.errors import DigestError, LineageError, RemovedError
from bikes_assets.core.record import Record, Version
from bikes_assets.core.schema import Column, Schema
from bikes_assets.governance.holds import hold, holds, release
from bikes_assets.governance.retention import RetentionPlan, apply, plan
from bikes_assets.governance.retention_policy import DAY
from bikes_assets.storage.lake import Lake
from bikes_assets.storage.removals import raise_if_removed, removals

ASSETS = ("raw", "features", "model")
SCHEMAS = {name: Schema(name, ("k",), (Column("k", "int64", "Key."),)) for name in ASSETS[:2]}


class Small:
    """A lake of a raw table, features made of it and a model fitted on these, looked at a hundred days later."""

    def __init__(self, folder: Path) -> None:
        self.lake = Lake(str(folder / "lake"), SCHEMAS, Path("/nowhere"))

    def raw(self, month: str, number: int, length: int = 3) -> Version:
        return self._write("raw", month, [{"k": number * 10 + place} for place in range(length)])

    def features(self, month: str, *inputs: Version) -> Version:
        return self._write("features", month, [{"k": int(item.version)} for item in inputs], inputs)

    def model(self, month: str, content: bytes, *inputs: Version) -> Version:
        sha256 = self.lake.save_file(content)
        row = {
            "digest": sha256[:32],
            "sha256": sha256,
            "origin": "",
            "card": "{}",
            "example": "",
            "mlflow_model_id": "",
        }
        said = {key: value for key, value in row.items() if key not in ("card", "example")}
        return self._write("model", month, [row], inputs, (said,))

    def _write(self, asset: str, month: str, rows: Any, inputs: Any = (), models: Any = ()) -> Version:
        table = self.lake.table(asset)
        content = table.schema.conform(pa.Table.from_pylist(rows, schema=table.schema.arrow()))
        output = Version(asset, month, -1, table_digest(content, table.schema).table)
        record = Record(output, {}, tuple(inputs), "", {}, {}, {}, models)
        return replace(output, version=table.write(month, content, record.to_dict(), since=table.version()))

    def look(self, days_later: float = 100) -> RetentionPlan:
        held = [item.version for item in holds(self.lake.location)]
        tables = [self.lake.table(asset) for asset in ASSETS]
        return plan(self.lake, tables, held=held, aliased=(), now=time.time() + days_later * DAY, days=90)

    def apply(self) -> RetentionPlan:
        return apply(self.lake, self.look, "somebody")

    def read(self, version: Version) -> pa.Table:
        ((found, rows),) = self.lake.table(version.asset).read([version.partition], int(version.version)).values()
        assert found == version
        return rows


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small(tmp_path)


def states(found: RetentionPlan) -> dict[str, str]:
    return {item.address: item.stays.why if item.stays else item.state for item in found.verdicts}


def test_what_is_live_reads_as_before_and_what_went_says_that_it_was_removed_and_when(small: Small) -> None:
    # Given features of an older raw version than the present one
    raws = [small.raw("2012-01", number) for number in range(3)]
    other = small.raw("2012-02", 9)
    features = [small.features("2012-01", raws[0]), small.features("2012-01", raws[1], other)]
    rows = {version: small.read(version) for version in (*raws, other, *features)}
    logs = {file: file.read_bytes() for file in Path(small.lake.location).rglob("_delta_log/*")}
    # When
    done = small.apply()
    # Then
    assert states(done) == {
        "raw[2012-01]@1": "goes",
        "raw[2012-01]@2": "needed",
        "raw[2012-01]@3": "current",
        "raw[2012-02]@4": "current",
        "features[2012-01]@1": "goes",
        "features[2012-01]@2": "current",
    }
    for version in (raws[1], raws[2], other, features[1]):
        assert small.read(version).equals(rows[version])
    for version in (raws[0], features[0]):
        with pytest.raises(
            RemovedError, match=r"its rows were removed by retention on 2\d{3}-\d\d-\d\d \d\d:\d\d UTC \(somebody\)"
        ) as told:
            small.read(version)
        assert str(told.value).startswith(f"{version.address}: ")
        assert "restore" not in str(told.value)
    # And the record of what was made is whole, the log as it was
    assert {file: file.read_bytes() for file in Path(small.lake.location).rglob("_delta_log/*")} == logs
    assert small.lake.record("raw", "2012-01", 1).output == raws[0]
    # And a second time there is nothing to do
    assert small.apply().files == []
    assert states(small.look())["raw[2012-01]@1"] == "removed"
    assert len(removals(small.lake.location)) == 1


def test_what_is_young_stays(small: Small) -> None:
    small.raw("2012-01", 1)
    small.raw("2012-01", 2)

    assert states(small.look(days_later=89)) == {"raw[2012-01]@1": "young", "raw[2012-01]@2": "current"}
    assert states(small.look(days_later=91)) == {"raw[2012-01]@1": "goes", "raw[2012-01]@2": "current"}


def test_a_look_changes_nothing(small: Small) -> None:
    small.raw("2012-01", 1)
    small.raw("2012-01", 2)
    before = {file: file.stat().st_mtime_ns for file in Path(small.lake.location).rglob("*")}

    found = small.look()

    assert (len(found.files), found.size) == (1, Path(found.files[0]).stat().st_size)
    assert {file: file.stat().st_mtime_ns for file in Path(small.lake.location).rglob("*")} == before


def test_a_hold_keeps_a_version_and_what_it_was_made_from_until_it_is_released(small: Small) -> None:
    # Given
    old = small.raw("2012-01", 1)
    held = small.features("2012-01", old)
    small.features("2012-01", small.raw("2012-01", 2))
    lake = small.lake.location
    hold(lake, "features[2012-01]", held.address, reason="an audit", user="somebody")
    # When it is held
    assert states(small.apply()) | {old.address: "needed", held.address: "held"} == states(small.look())
    assert small.read(old).num_rows
    # And when it is released by the words that it was held by
    (lifted,) = release(lake, "features[2012-01]", reason="it is over", user="another")
    small.apply()
    # Then both went, and what was said stands
    assert (lifted.version, lifted.reason, lifted.user) == (held.address, "an audit", "somebody")
    assert holds(lake) == []
    with pytest.raises(RemovedError):
        small.read(old)
    told = [json.loads(file.read_text())["reason"] for file in sorted(Path(lake, "holds").iterdir())]
    assert told == ["an audit", "it is over"]
    for _ in range(2):
        hold(lake, "features[2012-02]", "features[2012-02]@4", reason="twice", user="somebody")
    with pytest.raises(LineageError, match=r"found no hold on it, expected one of features\[2012-02\]$"):
        release(lake, held.address, reason="again", user="another")
    release(lake, "features[2012-02]", reason="it is over", user="another")
    with pytest.raises(LineageError, match="found no hold on it, expected one of none, for nothing is held"):
        release(lake, held.address, reason="again", user="another")


def test_a_hold_that_is_put_while_it_is_being_removed_keeps_everything(small: Small) -> None:
    # Given
    old = small.raw("2012-01", 1)
    small.raw("2012-01", 2)
    looks = []

    def look() -> RetentionPlan:
        if looks:  # it was written down by now
            with pytest.raises(RemovedError):
                raise_if_removed(small.lake.location, old.address)
            hold(small.lake.location, old.address, old.address, reason="at the last moment", user="somebody")
        looks.append(small.look())
        return looks[-1]

    # When
    with pytest.raises(LineageError, match=r"^raw\[2012-01\]@1: .* nothing was removed, run again"):
        apply(small.lake, look, "somebody")
    # Then
    assert len(looks) == 2
    assert small.read(old).num_rows == 3
    assert removals(small.lake.location) == []


def test_a_partition_without_rows_goes_once(small: Small) -> None:
    small.raw("2012-01", 1, length=0)
    small.raw("2012-01", 2)

    assert states(small.apply())["raw[2012-01]@1"] == "goes"
    assert states(small.look())["raw[2012-01]@1"] == "removed"


def test_a_file_that_no_log_names_stays(small: Small) -> None:
    small.raw("2012-01", 1)
    small.raw("2012-01", 2)
    flying = Path(small.lake.location, "raw", "partition=2012-01", "part-of-a-commit-at-work.parquet")
    flying.write_bytes(b"not yet committed")

    small.apply()

    assert flying.exists()


def test_a_file_that_another_commit_added_again_stays(small: Small) -> None:
    """As Delta's own restore does it; its commit is no publication of ours."""
    old = small.raw("2012-01", 1)
    small.raw("2012-01", 2)
    table = DeltaTable(small.lake.uri("raw"))
    table.restore(1)
    (file,) = small.lake.table("raw").added()[1]

    assert small.apply().files == []
    assert Path(small.lake.uri("raw"), file).exists()
    assert small.read(old).num_rows == 3


def test_a_model_file_goes_with_the_last_version_that_names_it(small: Small) -> None:
    # Given one model that was fitted twice, the same, and one that was replaced
    raw = small.raw("2012-01", 1)
    small.model("2012-01", b"the same", raw)
    small.model("2012-02", b"replaced", raw)
    small.model("2012-01", b"the same", raw)
    small.model("2012-02", b"present", raw)
    shas = {content: small.lake.save_file(content) for content in (b"the same", b"replaced", b"present")}
    # When
    done = small.apply()
    # Then
    assert done.models == {shas[b"replaced"]: 8}
    assert small.lake.load_file(shas[b"the same"]) == b"the same"
    assert small.lake.load_file(shas[b"present"]) == b"present"
    with pytest.raises(
        RemovedError, match=r"^model\[2012-02\]@2: its model file [0-9a-f]{64}.skops was removed by retention on"
    ):
        small.lake.load_file(shas[b"replaced"])


def test_a_model_file_that_was_written_lately_stays_for_a_run_that_is_about_to_name_it(small: Small) -> None:
    raw = small.raw("2012-01", 1)
    small.model("2012-01", b"old", raw)
    small.model("2012-01", b"new", raw)
    sha256 = small.lake.save_file(b"old")  # fitted again, not yet committed
    soon = time.time() + 99.5 * DAY
    os.utime(small.lake.model_location(sha256), (soon, soon))

    assert small.apply().models == {}
    assert small.lake.load_file(sha256) == b"old"


def test_what_is_missing_and_was_not_removed_is_to_be_restored(small: Small) -> None:
    # Given that retention has removed another version
    small.raw("2012-01", 2)
    old = small.raw("2012-01", 1)
    small.raw("2012-02", 1)
    assert [item.address for item in small.apply().going] == ["raw[2012-01]@1"]
    for file in Path(small.lake.uri("raw")).glob("partition=2012-01/*.parquet"):
        file.unlink()

    with pytest.raises(DigestError, match="restore"):
        small.read(old)


def test_what_a_killed_removal_left_goes_the_next_time(small: Small) -> None:
    old = small.raw("2012-01", 1)
    small.raw("2012-01", 2)
    (file,) = small.look().files
    content = Path(file).read_bytes()
    small.apply()
    Path(file).write_bytes(content)  # as if it had been killed before this one

    assert small.read(old).num_rows == 3
    assert small.apply().files == [file]
    assert not Path(file).exists()
    assert len(removals(small.lake.location)) == 1


def test_a_lake_without_tables_has_nothing_to_remove(small: Small) -> None:
    found = small.apply()

    assert (found.verdicts, found.files, found.models, found.in_mlflow) == ([], [], {}, [])
    assert removals(small.lake.location) == []
