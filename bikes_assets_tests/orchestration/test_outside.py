"""What other programs do to a table of the lake: what changes rows is named and put right, what does not is no matter."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from bikes_assets.core.errors import DigestError, LineageError
from bikes_assets.core.schema import Column, Schema
from bikes_assets.storage.delta import LakeTable
from bikes_assets.verification.integrity import of_table
from bikes_assets_tests.storage.test_delta import ORDERS, forget, lake_table, read, rows, run_of_commit, write


@pytest.fixture
def table(tmp_path: Path) -> LakeTable:
    """Return a table of three months, of which the first was published twice."""
    table = lake_table(tmp_path)
    for month, run in (("2012-06", "r1"), ("2012-07", "r2"), ("2012-08", "r3"), ("2012-06", "r4")):
        write(table, month, run)
    return table


def more(month: str, **columns: list[object]) -> pa.Table:
    return pa.table({"partition": [month], "k": [99], **columns})


def delete(table: LakeTable) -> None:
    DeltaTable(table.uri).delete("partition = '2012-07' and k < 5")


def delete_all(table: LakeTable) -> None:
    DeltaTable(table.uri).delete("partition = '2012-07'")


def update(table: LakeTable) -> None:
    DeltaTable(table.uri).update(updates={"x": "1.0"}, predicate="partition = '2012-07' and k = 3")


def append(table: LakeTable) -> None:
    write_deltalake(table.uri, more("2012-07"), mode="append", schema_mode="merge")


def append_with_more_columns(table: LakeTable) -> None:
    write_deltalake(table.uri, more("2012-07", note=["theirs"]), mode="append", schema_mode="merge")


def merge(table: LakeTable) -> None:
    merging = DeltaTable(table.uri).merge(more("2012-07"), "t.k = s.k and t.partition = s.partition", "s", "t")
    merging.when_not_matched_insert(updates={"k": "s.k", "partition": "s.partition"}).execute()


def overwrite(table: LakeTable) -> None:
    write_deltalake(
        table.uri, more("2012-07"), mode="overwrite", predicate="partition = '2012-07'", schema_mode="merge"
    )


CHANGES = (delete, delete_all, update, append, append_with_more_columns, merge, overwrite)


@pytest.mark.parametrize("change", CHANGES)
def test_rows_that_another_program_changes_are_named_refused_and_replaced(table, change: Callable[..., None]) -> None:
    change(table)

    ((month, commit),) = table.look().altered.items()
    assert (month, commit.version) == ("2012-07", 5)
    assert "delta-rs" in commit.operation
    with pytest.raises(DigestError, match=r"orders\[2012-07\]"):
        table.read(["2012-07"])
    assert {key: read(table, key) for key in ("2012-06", "2012-08")} == {"2012-06": rows("r4"), "2012-08": rows("r3")}

    write(table, "2012-07", "r5")

    assert table.look().altered == {}
    assert read(table, "2012-07") == rows("r5")
    assert [field.name for field in DeltaTable(table.uri).schema().fields if field.name not in ORDERS.names] == [
        "partition"
    ]
    assert [found.damage for found in of_table(table)] == [""] * 5


def test_a_restored_version_of_the_table_changes_what_was_published_since(table) -> None:
    DeltaTable(table.uri).restore(3)
    assert list(table.look().altered) == ["2012-06"]


def test_compaction_changes_no_rows(table) -> None:
    write_deltalake(table.uri, more("2012-09"), mode="append", schema_mode="merge")
    write_deltalake(table.uri, more("2012-09"), mode="append", schema_mode="merge")
    DeltaTable(table.uri).optimize.compact()
    DeltaTable(table.uri).optimize.z_order(["k"])

    assert table.look().altered == {}  # and nothing was published of the month that is only theirs
    assert {key: read(table, key) for key in ("2012-06", "2012-07", "2012-08")} == {
        "2012-06": rows("r4"), "2012-07": rows("r2"), "2012-08": rows("r3"),
    }  # fmt: skip


def test_a_column_of_anothers_is_no_matter_and_goes_with_the_next_commit(table) -> None:
    write_deltalake(table.uri, more("2012-09", note=["theirs"]), mode="append", schema_mode="merge")
    assert table.look().altered == {}
    assert read(table, "2012-07") == rows("r2")
    write(table, "2012-07", "r5")
    assert "note" not in [field.name for field in DeltaTable(table.uri).schema().fields]


def test_a_table_of_another_version_of_the_project_is_refused_as_before(tmp_path: Path) -> None:
    wider = Schema("orders", ("k",), (*ORDERS.columns, Column("note", "string", "Note.", nullable=True)))
    old = LakeTable("orders", str(tmp_path / "orders"), wider)
    made = rows("r1").append_column("note", pa.array(["ours"] * 20))
    old.write("2012-08", made, {"output": {"digest": "d"}, "columns": {"k": "1", "note": "2"}}, since=old.version())
    with pytest.raises(LineageError, match="the table was created by another version of this project"):
        lake_table(tmp_path).read(["2012-08"])


def test_rows_that_another_program_vacuumed_are_damage_and_those_that_retention_removed_are_not(table) -> None:
    DeltaTable(table.uri).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)

    found = {item.name: item for item in of_table(table)}
    assert {name: bool(item.damage) for name, item in found.items()} == {
        "orders[2012-06]@1": True, "orders[2012-07]@2": False, "orders[2012-08]@3": False, "orders[2012-06]@4": False,
    }  # fmt: skip
    assert found["orders[2012-06]@1"].damage.startswith(
        "orders[2012-06]@1: its rows are not there any more, and retention has not removed them"
    )
    removed = {item.name: item for item in of_table(table, ["orders[2012-06]@1"])}
    assert [(item.damage, item.gone) for item in removed.values()] == [
        ("", True),
        ("", False),
        ("", False),
        ("", False),
    ]


def test_a_table_that_lost_versions_gives_none_of_them_again(table, tmp_path: Path) -> None:
    shutil.rmtree(table.uri)
    forget(table)

    table.begin_beyond(4)

    assert table.version() == 4
    assert table.commits() == []
    assert write(table, "2012-07", "r5") == 5
    assert {key: run_of_commit(item) for key, item in table.published().items()} == {"2012-07": "r5"}
    table.begin_beyond(3)
    assert table.version() == 5
