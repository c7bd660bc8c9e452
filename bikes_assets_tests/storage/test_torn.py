"""What a loss of power left of files: it is set aside or named, and nothing that was whole is lost with it."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
from deltalake import DeltaTable

from bikes_assets.storage import delta_log, disk
from bikes_assets.storage.delta import LakeTable
from bikes_assets_tests.storage.test_delta import forget, lake_table, write


@pytest.fixture
def table(tmp_path: Path) -> LakeTable:
    made = lake_table(tmp_path)
    for number in range(1, 12):
        write(made, f"2012-{number:02}", str(number))
    begin(made)
    return made


def begin(table: LakeTable) -> None:
    """Have this process be as one that begins: power is lost before."""
    delta_log._set_torn_aside.cache_clear()
    forget(table)


def log(table: LakeTable) -> Path:
    return Path(table.uri) / "_delta_log"


def months(table: LakeTable) -> list[str]:
    return sorted(str(key) for key in table.published())


@pytest.mark.parametrize("left", [b"", b"\n", b"\0" * 900, b'{"add":{"path":"part', b'{"add":{}}\n{"commitInfo":{"par'])
def test_a_torn_commit_is_set_aside_and_its_version_is_given_again(table: LakeTable, left: bytes) -> None:
    last = log(table) / f"{11:020}.json"
    last.write_bytes(left)

    assert months(table) == [f"2012-{number:02}" for number in range(1, 11)]
    assert (table.version(), write(table, "2012-11", "again")) == (10, 11)
    assert len([*log(table).glob("*.torn")]) == 1
    assert DeltaTable(table.uri).version() == 11


def test_so_are_several_and_the_creation_of_a_table(table: LakeTable) -> None:
    for version in (10, 11):
        (log(table) / f"{version:020}.json").write_bytes(b"")
    assert (table.version(), months(table)[-1]) == (9, "2012-09")

    for file in log(table).iterdir():
        file.unlink()
    (log(table) / f"{0:020}.json").write_bytes(b"")
    begin(table)
    assert not table.exists()
    assert (table.version(), table.published()) == (0, {})


@pytest.mark.parametrize("left", [b"", b"PAR1", b"PAR1" + b"\0" * 5000])
def test_a_torn_checkpoint_is_set_aside_and_the_commits_tell_all(table: LakeTable, left: bytes) -> None:
    (checkpoint,) = log(table).glob("*.checkpoint.parquet")
    checkpoint.write_bytes(left)

    assert (table.version(), len(months(table)), len(table.read(["2012-01"]))) == (11, 11, 1)


@pytest.mark.parametrize("left", [b"", b'{"version":9,"si', b'{"version":4711}', b"[]"])
def test_a_torn_hint_is_set_aside(table: LakeTable, left: bytes) -> None:
    (log(table) / "_last_checkpoint").write_bytes(left)

    assert (table.version(), len(months(table)), len(table.read(["2012-01"]))) == (11, 11, 1)
    assert not (log(table) / "_last_checkpoint").exists()  # other programs may obey it


def test_what_is_whole_stays_where_it_is_also_what_other_programs_wrote(table: LakeTable) -> None:
    checkpoint = log(table) / f"{9:020}.checkpoint.parquet"
    (log(table) / f"{9:020}.checkpoint.0000000001.0000000001.parquet").write_bytes(checkpoint.read_bytes())
    checkpoint.unlink()
    (log(table) / "_last_checkpoint").write_text(json.dumps({"version": 9, "size": 12, "parts": 1}))
    before = sorted(log(table).iterdir())

    assert table.version() == 11
    assert sorted(log(table).iterdir()) == before


@pytest.mark.parametrize("left", [0, 100])
def test_a_file_that_is_cut_short_is_named(table: LakeTable, left: int) -> None:
    assert table.look().cut_short == {}
    (file,) = Path(table.uri).glob("partition=2012-03/*.parquet")
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:left])

    assert table.look().cut_short == {"2012-03": f"its file {file} has {left} bytes, expected {size:,}"}
    write(table, "2012-03", "3")
    assert table.look().cut_short == {}


def test_a_file_whose_writing_fails_is_as_it_was_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "er" / "plan.json"
    disk.put(file, b"before")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            disk.put(file, b"x" * 10_000)
        with pytest.raises(OSError, match="too large"):
            disk.create(tmp_path / "other", b"x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert file.read_bytes() == b"before"
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "er", "plan.json"]
    assert not disk.create(file, b"after")
    assert disk.create(tmp_path / "other", b"first")
    assert (file.read_bytes(), (tmp_path / "other").read_bytes()) == (b"before", b"first")
