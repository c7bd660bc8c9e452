"""Tables at a URL: what holds in a folder holds there too, and writers of several processes lose nothing."""

from __future__ import annotations

from typing import Any

import pytest
from upath import UPath

from bikes_assets.core.errors import ConflictError, DigestError, SettingsError
from bikes_assets.storage.delta import LakeTable
from bikes_assets.verification.integrity import of_table
from bikes_assets_tests.elsewhere.servers import CARELESS
from bikes_assets_tests.storage import test_delta as in_a_folder
from bikes_assets_tests.storage.test_delta import ORDERS, SPAWN, Barrier, Queue, lake_table, read, rows, write

WRITES = 5

test_a_commit_says_what_it_published = in_a_folder.test_a_commit_says_what_it_published
test_a_first_write_creates_the_table = in_a_folder.test_a_first_write_creates_the_table
test_a_partition_without_rows = in_a_folder.test_a_partition_without_rows_is_written_and_read
test_a_slower_duplicate = in_a_folder.test_a_slower_duplicate_does_not_overwrite_a_newer_result
test_a_write_replaces_its_partition_only = in_a_folder.test_a_write_replaces_its_partition_only
test_an_empty_partition_key_is_refused = in_a_folder.test_an_empty_partition_key_is_refused
test_partition_keys_may_hold_any_character = in_a_folder.test_partition_keys_may_hold_any_character
test_partitions_that_are_not_there = in_a_folder.test_partitions_that_are_not_there_are_left_out


@pytest.fixture
def tmp_path(s3: str) -> UPath:
    """Return a place on S3 where the tests of folders expect one."""
    return UPath(s3)


def test_a_version_of_a_table_that_is_not_at_the_url_makes_none(s3: str) -> None:
    table = LakeTable("orders", f"{s3}/orders", ORDERS)

    assert not table.exists()
    assert table.commits() == []
    with pytest.raises(Exception, match=f"^orders: there is no table at {s3}/orders$"):
        table.read(["a"], 3)
    assert not table.exists()


def test_an_old_version_is_read_after_a_checkpoint(s3: str) -> None:
    # Given
    table = LakeTable("orders", f"{s3}/orders", ORDERS)
    write(table, "a", "old")
    # When
    for number in range(11):
        write(table, "ab"[number % 2], f"new {number}", length=2)
    # Then
    assert UPath(f"{s3}/orders/_delta_log/_last_checkpoint").exists()
    assert read(table, "a", 1).equals(rows("old"))
    assert read(table, "a").equals(rows("new 10", 2))
    assert [commit.version for commit in table.commits()] == list(range(1, 13))


def test_a_flipped_bit_at_a_url_is_refused(s3: str) -> None:
    table = LakeTable("orders", f"{s3}/orders", ORDERS)
    write(table, "a", "r1")
    (file,) = UPath(f"{s3}/orders/partition=a").glob("*.parquet")
    content = bytearray(file.read_bytes())
    content[-9] ^= 1  # in the footer, where no value stands
    file.write_bytes(content)

    assert [item.name for item in of_table(table) if item.damage] == ["orders[a]@1"]
    with pytest.raises(DigestError, match=rf"^orders\[a\]: cannot be read at version 1: .*{file.name} has SHA-256 "):
        read(table, "a")


def test_the_log_names_the_url(s3: str, s3_environment: dict[str, str]) -> None:
    table = LakeTable("orders", f"{s3}/orders", ORDERS)
    write(table, "a", "r1")

    first = UPath(f"{s3}/orders/_delta_log/{0:020}.json").read_text()

    assert f'"location":"{s3}/orders/"' in first
    assert "/tmp" not in first
    assert "key-that-stands-nowhere" not in first


def test_a_store_that_lets_commits_be_lost_is_refused(s3: str) -> None:
    table = LakeTable("orders", s3.replace("s3://bikes", f"s3://{CARELESS}"), ORDERS)

    for _ in range(2):
        with pytest.raises(SettingsError, match=r"expected conditional writes \(If-None-Match\)"):
            write(table, "a", "r1")
    assert not table.exists()


Told = list[tuple[str, str, int | None]]


def writes_of(uri: str, name: str, start: Barrier, told: Queue[Told | str]) -> None:
    """Write to a table that is not there yet, in turn a partition of one's own and one that the other writes too."""
    table, done = LakeTable("orders", uri, ORDERS), []
    rows(name)
    try:
        start.wait(timeout=120)
        for turn in range(WRITES):
            run, partition = f"{name}-{turn}", "shared" if turn % 2 else f"{name} {turn}"
            try:
                done.append((run, partition, write(table, partition, run)))
            except ConflictError:
                done.append((run, partition, None))
        told.put(done)
    except BaseException as error:
        told.put(repr(error))
        raise


def test_two_processes_at_once_lose_no_commit(s3: str) -> None:
    # Given two processes that begin with no table there
    table = lake_table(UPath(s3))  # type: ignore[arg-type]
    start, told = SPAWN.Barrier(2), SPAWN.Queue()
    processes = [SPAWN.Process(target=writes_of, args=(table.uri, name, start, told)) for name in ("one", "two")]
    # When
    for process in processes:
        process.start()
    both: list[Any] = [told.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    # Then every version is the one commit that it was returned to
    assert [item for item in both if isinstance(item, str)] == []
    written = {version: (run, partition) for done in both for run, partition, version in done if version is not None}
    commits = table.commits()
    assert {
        commit.version: (commit.record["made_by"]["dagster_run_id"], commit.partition) for commit in commits
    } == written
    # And there was one creation, and no partition of one's own was refused
    assert table.version() == len(written)
    assert len(written) >= WRITES
    # And each partition holds the rows of its last commit
    for partition, commit in table.published().items():
        assert read(table, partition).equals(rows(commit.record["made_by"]["dagster_run_id"]))
