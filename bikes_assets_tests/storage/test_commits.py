"""What is kept of a table's log is what the log says, whatever is done to table, log and memory; and little of it is read."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from bikes_assets.storage import commits
from bikes_assets.storage.checksums import read_memory, write_memory
from bikes_assets.storage.commits import Commits
from bikes_assets.storage.delta import LakeTable
from bikes_assets_tests.orchestration.test_outside import append, delete
from bikes_assets_tests.storage.test_delta import ORDERS, write

MONTHS = ("2012-06", "2012-07", "2012-08")


@pytest.fixture
def table(tmp_path: Path) -> LakeTable:
    return LakeTable("orders", str(tmp_path / "orders"), ORDERS, tmp_path / "memory" / "orders.json")


def read_all(table: LakeTable) -> tuple[Any, Any, Any]:
    """Return what a process sees that has just begun."""
    commits.forget()
    found = table.look()
    assert found
    return found.published, found.altered, {version: table.published(version) for version in range(1, table.version())}


def without_memory(table: LakeTable) -> tuple[Any, Any, Any]:
    return read_all(LakeTable(table.name, table.uri, table.schema))


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_done_what_is_kept_says_what_the_log_says(table: LakeTable, seed: int) -> None:
    draw, backup = random.Random(seed), Path(table.uri).with_name("backup")

    def publish() -> None:
        for number in range(draw.choice([1, 5, 18])):
            write(table, draw.choice(MONTHS), f"{seed} {number} {draw.random()}", length=2)

    def restore() -> None:
        if backup.exists():
            shutil.rmtree(table.uri)
            shutil.copytree(backup, table.uri)

    def keep() -> None:
        shutil.rmtree(backup, ignore_errors=True)
        shutil.copytree(table.uri, backup)

    def flip() -> None:
        if table.memory and table.memory.exists():
            content = bytearray(table.memory.read_bytes())
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            table.memory.write_bytes(content)

    def compact() -> None:
        DeltaTable(table.uri).optimize.compact()

    def make_anew() -> None:
        shutil.rmtree(table.uri)
        publish()

    publish()
    for act in draw.choices([publish, publish, restore, keep, flip, compact, make_anew, delete, append], k=12):
        act(*([table] if act in (delete, append) else []))
        assert read_all(table) == without_memory(table), act


def test_a_process_reads_the_commits_that_published_what_is_there_and_the_newest(
    table: LakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        write(table, MONTHS[number % 3], str(number), length=1)
    asked: list[str] = []
    real = commits.read_files
    monkeypatch.setattr(commits, "read_files", lambda places: (asked.extend(places), real(places))[1])
    commits.forget()

    assert {key: commit.version for key, commit in table.published().items()} == dict(
        zip(MONTHS, (58, 59, 60), strict=True)
    )

    assert len(asked) <= len(MONTHS) + commits._FEW + 1


def test_a_process_keeps_few_of_many_commits(table: LakeTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "_MOST", 10)
    for number in range(40):
        write(table, MONTHS[number % 3], str(number), length=1)
    assert [item.version for item in table.commits()] == list(range(1, 41))
    (known,) = (item for item in commits._known.values() if item.uri == table.uri)
    assert len(known._read) == 10


def test_a_log_that_was_cut_off_is_another_one(table: LakeTable) -> None:
    for number in range(20):
        write(table, MONTHS[0], str(number), length=1)
    known = Commits(table.uri, str(DeltaTable(table.uri).metadata().id))
    known.extend(20)
    for file in Path(table.uri, "_delta_log").glob("*20.*"):
        file.unlink()

    known.extend(19)

    assert known.published(19) == {MONTHS[0]: 19}


def test_a_log_that_was_restored_and_went_on_otherwise_is_another_one(table: LakeTable) -> None:
    # Given a process that knows four versions, of which a backup holds two
    backup = Path(table.uri).with_name("backup")
    for number in range(4):
        write(table, MONTHS[0], str(number), length=1)
        if number == 1:
            shutil.copytree(table.uri, backup)
    known = Commits(table.uri, str(DeltaTable(table.uri).metadata().id))
    known.extend(4)
    # When it is restored, and another process publishes two others
    shutil.rmtree(table.uri)
    shutil.copytree(backup, table.uri)
    commits.forget()
    for number in range(2):
        write(table, MONTHS[1], f"other {number}", length=1)
    known.extend(4)
    # Then
    assert known.published(4) == {MONTHS[0]: 2, MONTHS[1]: 4}


@pytest.mark.parametrize("values", [{"a": 1}, ["ä", None, 1.5, True], {"deep": {"er": [[], {}]}}])
def test_a_memory_of_which_any_bit_was_flipped_is_none(tmp_path: Path, values: Any) -> None:
    file = tmp_path / "memory.json"
    write_memory(file, values)
    sound = file.read_bytes()
    assert read_memory(file, lambda kept: kept) == values
    for position in range(len(sound) * 8):
        content = bytearray(sound)
        content[position // 8] ^= 1 << position % 8
        file.write_bytes(content)
        assert read_memory(file, lambda kept: kept) in (None, values)
