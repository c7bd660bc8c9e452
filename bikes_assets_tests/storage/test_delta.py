"""Tables in Delta Lake: nothing lost, nothing mixed, nothing changed in silence, whoever writes, dies or meddles."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import count
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import DeltaProtocolError

from bikes_assets.core.digest import file_digest, table_digest
from bikes_assets.core.errors import ConflictError, DigestError, LineageError
from bikes_assets.core.record import Version
from bikes_assets.core.schema import Column, Schema
from bikes_assets.storage import commits
from bikes_assets.storage.commits import Commit
from bikes_assets.storage.delta import LakeTable, Memory
from bikes_assets.storage.delta_log import create_table
from bikes_assets.storage.files import delta_options

SPAWN = multiprocessing.get_context("spawn")
SOAK = os.environ.get("BIKES_SOAK") == "1"
WRITERS = 12
WRITES = 90 if SOAK else 9
"""Mixed writes of each writer, after its first."""
KILLS = 40 if SOAK else 6
FLIPS = 4000 if SOAK else 400

ORDERS = Schema(
    "orders",
    key=("k",),
    columns=(
        Column("k", "int64", "Key."),
        Column("x", "float64", "A float.", nullable=True),
        Column("s", "string", "A text.", nullable=True),
        Column("ok", "bool", "A truth.", nullable=True),
        Column("at", "timestamp", "A time.", nullable=True),
    ),
)


def lake_table(folder: Path) -> LakeTable:
    return LakeTable("orders", str(folder / "orders"), ORDERS)


def rows(run: str, length: int = 20) -> pa.Table:
    """Return rows that no other run has."""
    rng = random.Random(run)
    columns = [
        range(length),
        [rng.choice([None, rng.random()]) for _ in range(length)],
        [rng.choice([None, f"{run} ä {number}"]) for number in range(length)],
        [rng.choice([None, True, False]) for _ in range(length)],
        [rng.choice([None, number]) for number in range(length)],
    ]
    return pa.table(
        [pa.array(values, field.type) for values, field in zip(columns, ORDERS.arrow(), strict=True)], ORDERS.arrow()
    )


def content(run: str, length: int = 20) -> str:
    return table_digest(rows(run, length), ORDERS).table


def write(table: LakeTable, partition: str, run: str, *, since: int | None = None, length: int = 20) -> int:
    """Publish a run's rows; `since` is the present version unless it is told."""
    record = {"output": {"digest": f"digest of {run}"}, "made_by": {"dagster_run_id": run}}
    return table.write(partition, rows(run, length), record, since=table.version() if since is None else since)


def read(table: LakeTable, partition: str, version: int | None = None) -> pa.Table:
    return table.read([partition], version)[partition][1]


def log(table: LakeTable) -> list[dict[str, Any]]:
    """Return what each commit says of itself, by reading the log's files."""
    files = sorted(Path(table.uri, "_delta_log").glob("*.json"))
    assert [int(file.stem) for file in files] == list(range(len(files)))
    entries = ([json.loads(line) for line in file.read_text().splitlines()] for file in files)
    return [next(entry["commitInfo"] for entry in lines if "commitInfo" in entry) for lines in entries]


def run_of(commit: dict[str, Any]) -> str:
    return json.loads(commit["record"])["made_by"]["dagster_run_id"]


def data_file(table: LakeTable) -> Path:
    (path,) = Path(table.uri).glob("*/*.parquet")
    return path


def rewrite(table: LakeTable, content: pa.Table) -> None:
    """Put other rows into the only data file, as one would who knows that the log tells the file's size and checksum."""
    file, commit = data_file(table), Path(table.uri, "_delta_log", "00000000000000000001.json")
    size, checksum = file.stat().st_size, file_digest(file.read_bytes())
    pq.write_table(content, file)
    text = commit.read_text().replace(f'"size":{size}', f'"size":{file.stat().st_size}')
    assert text.count(checksum) == 1
    commit.write_text(text.replace(checksum, file_digest(file.read_bytes())))
    forget(table)


def forget(table: LakeTable) -> None:
    """Have this process read the table's log anew, as another one would."""
    for key in [key for key in commits._known if key[0] == table.uri]:
        del commits._known[key]


# --- one writer


def test_a_first_write_creates_the_table(tmp_path: Path) -> None:
    # Given
    table = lake_table(tmp_path)
    # When
    version = write(table, "2012-08", "r1", since=0)
    # Then
    assert version == 1
    assert table.version() == 1
    assert table.read(["2012-08"]) == {"2012-08": (Version("orders", "2012-08", 1, "digest of r1"), rows("r1"))}


def test_a_commit_says_what_it_published(tmp_path: Path) -> None:
    # Given
    table = lake_table(tmp_path)
    write(table, "2012-07", "r1")
    write(table, "2012-08", "r2")
    write(table, "2012-08", "r3")
    # When
    published = table.published()
    # Then
    assert list(published) == ["2012-07", "2012-08"]
    made = published["2012-08"]
    assert made == Commit(
        version=3,
        partition="2012-08",
        digest="digest of r3",
        content=content("r3"),
        record={"output": {"digest": "digest of r3"}, "made_by": {"dagster_run_id": "r3"}},
        time=made.time,
        checksums=made.checksums,
        added={path: (tmp_path / "orders" / path).stat().st_size for path in made.checksums or {}},
        touched=frozenset(["2012-08"]),
        operation=made.operation,
        sha256=made.sha256,
    )
    files = {
        file.name: file_digest(file.read_bytes()) for file in (tmp_path / "orders/partition=2012-08").glob("*.parquet")
    }
    assert len(files) == 2
    assert (made.checksums or {}).items() < {
        f"partition=2012-08/{name}": checksum for name, checksum in files.items()
    }.items()
    assert len(made.checksums or ()) == 1
    assert 0 <= time.time() - made.time < 60
    assert {key: commit.version for key, commit in table.published(2).items()} == {"2012-07": 1, "2012-08": 2}
    assert table.published(0) == {}


def test_a_write_replaces_its_partition_only(tmp_path: Path) -> None:
    # Given
    table = lake_table(tmp_path)
    write(table, "a", "r1")
    write(table, "b", "r2")
    # When
    write(table, "a", "r3", length=3)
    # Then
    assert read(table, "a").equals(rows("r3", 3))
    assert read(table, "b").equals(rows("r2"))


def test_partitions_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    table = lake_table(tmp_path)
    assert table.read(["a"]) == {}
    write(table, "a", "r1")
    assert list(table.read(["b", "a", "c"])) == ["a"]


def test_an_old_version_is_read_after_thirty_later_ones(tmp_path: Path) -> None:
    # Given
    table = lake_table(tmp_path)
    write(table, "a", "old")
    write(table, "b", "beside")
    # When
    for number in range(30):
        write(table, "ab"[number % 2], f"new {number}")
    # Then
    assert table.version() == 32
    assert read(table, "a", 2).equals(rows("old"))
    assert read(table, "b", 2).equals(rows("beside"))
    assert list(table.read(["a", "b"], 1)) == ["a"]
    assert read(table, "a").equals(rows("new 28"))


def test_a_partition_without_rows_is_written_and_read(tmp_path: Path) -> None:
    # Given
    table = lake_table(tmp_path)
    write(table, "a", "r1", length=0)
    assert read(table, "a").equals(ORDERS.arrow().empty_table())
    # When it gets rows, and loses them again
    write(table, "a", "r2")
    assert read(table, "a").equals(rows("r2"))
    write(table, "a", "r3", length=0)
    # Then
    assert read(table, "a").num_rows == 0
    assert read(table, "a", 2).equals(rows("r2"))
    assert table.published()["a"].version == 3


def test_partition_keys_may_hold_any_character(tmp_path: Path) -> None:
    # Given
    table = lake_table(tmp_path)
    keys = [
        "2012-08-14T17:00",
        "it's",
        'say "x"',
        "a b",
        "ä/ö",
        "a=b",
        "%41",
        "A",
        "a|b",
        "\\",
        "1",
        "01",
        ".",
        "null",
        "' OR '1'='1",
        "..",
        "../..",
        "a/b",
        "a",
        "a ",
        " a",
        "a\n",
        "a\0",
        "%",
        "%25",
        "a%20b",
        "\u00e9",  # é in one character, and in two
        "e\u0301",
        "__HIVE_DEFAULT_PARTITION__",
        "x" * 300,  # whose folder would have too long a name, as would that of the next two
        "x" * 301,
        "\u6f22" * 120,
        "x" * 245,
        "x" * 246,
    ]
    # When
    for key in keys:
        write(table, key, key)
    # Then
    assert {key: part for key, (_, part) in table.read(keys).items()} == {key: rows(key) for key in keys}
    assert set(table.published()) == set(keys)
    # And what is written again replaces its own partition, and no other
    for key in keys:
        write(table, key, f"{key} again", length=1)
    assert {key: part for key, (_, part) in table.read(keys).items()} == {key: rows(f"{key} again", 1) for key in keys}
    # And any reader of Delta finds them
    whole = DeltaTable(table.uri, storage_options=delta_options(table.uri)).to_pyarrow_table()
    assert whole.num_rows == len(keys)


def test_a_partition_key_that_is_no_text_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    table = lake_table(tmp_path)
    with pytest.raises(
        LineageError, match=r"found partition key '\\ud800', expected text that UTF-8 can hold; rename it"
    ):
        write(table, "\ud800", "r1")
    assert table.version() == 0


def test_an_empty_partition_key_is_refused(tmp_path: Path) -> None:
    table = lake_table(tmp_path)
    with pytest.raises(
        LineageError, match=r'^orders\[""\]: found an empty partition key, expected one of at least one character$'
    ):
        write(table, "", "r1")
    assert table.version() == 0


def test_a_version_of_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    table = lake_table(tmp_path)
    with pytest.raises(LineageError) as refused:
        table.read(["a"], 3)
    assert str(refused.value) == f"orders: there is no table at {tmp_path}/orders"
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_was_restored_and_went_on_otherwise_is_read_again(tmp_path: Path) -> None:
    table = lake_table(tmp_path)
    write(table, "2012-08", "r1")
    shutil.copytree(table.uri, tmp_path / "backup")
    write(table, "2012-08", "r2")
    write(table, "2012-07", "r3")
    assert read(table, "2012-08") == rows("r2")
    # When
    shutil.rmtree(table.uri)
    shutil.copytree(tmp_path / "backup", table.uri)
    assert {key: run_of_commit(item) for key, item in table.published().items()} == {"2012-08": "r1"}
    write(table, "2012-09", "r4")
    # Then
    assert {key: run_of_commit(item) for key, item in table.published().items()} == {"2012-08": "r1", "2012-09": "r4"}
    write(table, "2012-08", "r5")
    assert {key: run_of_commit(item) for key, item in table.published().items()} == {"2012-08": "r5", "2012-09": "r4"}
    assert read(table, "2012-08") == rows("r5")


def run_of_commit(commit: Commit) -> str:
    return commit.record["made_by"]["dagster_run_id"]


def test_a_table_that_is_made_anew_forgets_the_former_commits(tmp_path: Path) -> None:
    # Given
    table = lake_table(tmp_path)
    write(table, "a", "r1")
    # When
    shutil.rmtree(table.uri)
    write(table, "b", "r2")
    # Then
    assert list(table.published()) == ["b"]


# --- writers that meet


def test_a_slower_duplicate_does_not_overwrite_a_newer_result(tmp_path: Path) -> None:
    # Given two runs that began at the same version
    table = lake_table(tmp_path)
    since = table.version()
    write(table, "a", "quick", since=since)
    # When
    with pytest.raises(ConflictError) as refused:
        write(table, "a", "slow", since=since)
    # Then
    assert str(refused.value) == (
        "orders[a]: run quick published version 1 while this one was at work from version 0; its result stays, run again to "
        "replace it"
    )
    assert read(table, "a").equals(rows("quick"))
    assert table.version() == 1
    # And another partition, or a run that began later, is free
    assert write(table, "b", "slow", since=since) == 2
    assert write(table, "a", "again", since=1) == 3


def meeting(table: LakeTable, competitor: Callable[[], object]) -> LakeTable:
    """Return the table as a writer has it whom a competitor overtakes between its opening of the table and its commit."""
    waiting = [competitor]

    class Overtaken(LakeTable):
        def _open(self, version: int | None = None) -> DeltaTable:
            opened = LakeTable._open(self, version)
            if version is None and waiting:
                waiting.pop()()
            return opened

    return Overtaken(table.name, table.uri, table.schema)


@pytest.mark.parametrize("theirs", [0, 20], ids=["they without rows", "they with rows"])
@pytest.mark.parametrize("ours", [0, 20], ids=["we without rows", "we with rows"])
@pytest.mark.parametrize("before", [None, 0, 20], ids=["nothing before", "no rows before", "rows before"])
def test_who_is_overtaken_at_the_last_moment_gives_way(
    tmp_path: Path, before: int | None, ours: int, theirs: int
) -> None:
    # Given
    table = lake_table(tmp_path)
    if before is not None:
        write(table, "a", "before", length=before)
    since = table.version()
    overtaken = meeting(table, lambda: write(table, "a", "theirs", since=since, length=theirs))
    # When
    with pytest.raises(ConflictError, match=rf"^orders\[a\]: run theirs published version {since + 1} while"):
        write(overtaken, "a", "ours", since=since, length=ours)
    # Then
    assert table.version() == since + 1
    assert read(table, "a").equals(rows("theirs", theirs))


@pytest.mark.parametrize("theirs", [0, 20])
def test_who_is_overtaken_in_another_partition_goes_on(tmp_path: Path, theirs: int) -> None:
    # Given
    table = lake_table(tmp_path)
    overtaken = meeting(table, lambda: write(table, "b", "theirs", length=theirs))
    # When
    version = write(overtaken, "a", "ours", since=0)
    # Then
    assert version == 2
    assert run_of(log(table)[version]) == "ours"
    assert read(table, "a").equals(rows("ours"))
    assert read(table, "b").equals(rows("theirs", theirs))


def test_who_creates_the_table_too_late_finds_it_there(tmp_path: Path) -> None:
    # Given a folder that another writer has begun
    table = lake_table(tmp_path)
    Path(table.uri, "_delta_log").mkdir(parents=True)
    # Then
    assert write(table, "a", "r1") == 1
    create_table(table.uri, table.name, table.schema)
    assert read(table, "a").equals(rows("r1"))


Outcome = tuple[str, str, int | str]
"""A run, its partition, and the version that it was returned or the words of its refusal."""


def many_writes(uri: str, number: int, start: Barrier, outcomes: Queue[list[Outcome] | str]) -> None:
    """Write one partition of a table that is not there yet, then to partitions that others write to as well."""
    rng = random.Random(number)
    table = LakeTable("orders", uri, ORDERS)
    done: list[Outcome] = []
    try:
        start.wait(timeout=120)
        for turn in range(1 + WRITES):
            if turn == 1:
                start.wait(timeout=120)
            run = f"{number}-{turn}"
            partition = (
                rng.choice([f"own {number}", f"own {rng.randrange(WRITERS)}", "shared"]) if turn else f"own {number}"
            )
            try:
                done.append(
                    (run, partition, write(table, partition, run, length=rng.choice([0, 5, 50]) if turn else 20))
                )
            except ConflictError as refusal:
                done.append((run, partition, str(refusal)))
        outcomes.put(done)
    except BaseException as error:
        outcomes.put(f"{number}: {error!r}")
        raise


def length_of(run: str) -> int:
    """Return how many rows a run of `many_writes` wrote, by drawing what it drew."""
    number, last = map(int, run.split("-"))
    rng = random.Random(number)
    length = 20
    for _ in range(last):
        rng.choice([0, rng.randrange(WRITERS), 0])
        length = rng.choice([0, 5, 50])
    return length


@pytest.mark.soak
def test_many_writers_lose_nothing_and_mix_nothing(tmp_path: Path) -> None:
    # Given twelve processes that begin at once, with a table that is not there yet
    table = lake_table(tmp_path)
    start, outcomes = SPAWN.Barrier(WRITERS), SPAWN.Queue()
    processes = [
        SPAWN.Process(target=many_writes, args=(table.uri, number, start, outcomes)) for number in range(WRITERS)
    ]
    for process in processes:
        process.start()
    # When
    told = [outcomes.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    assert [item for item in told if isinstance(item, str)] == []
    writes = [write for item in told for write in item]
    assert len(writes) == WRITERS * (1 + WRITES)
    commits = log(table)
    # Then each first write was published
    assert [version for run, _, version in writes if run.endswith("-0") and isinstance(version, str)] == []
    # And each version names exactly the write that it was returned to, and nothing else was published
    returned = {version: (run, partition) for run, partition, version in writes if isinstance(version, int)}
    assert {
        version: (run_of(commit), commit["partition"]) for version, commit in enumerate(commits) if version
    } == returned
    refusals = [version for _, _, version in writes if isinstance(version, str)]
    assert len(returned) == len(writes) - len(refusals)
    assert [
        text for text in refusals if not re.match(r"orders\[.+\]: run \d+-\d+ published version \d+ while", text)
    ] == []
    # And in every version every partition holds what its last write put there
    contents = {run: content(run, length_of(run)) for run, _ in returned.values()}
    holds: dict[str, str] = {}
    for version in range(1, len(commits)):
        run, partition = returned[version]
        holds[partition] = run
        parts = table.read([*holds, "absent"], version)
        assert {key: table_digest(part, ORDERS).table for key, (_, part) in parts.items()} == {
            key: contents[run] for key, run in holds.items()
        }


# --- writers that die


def endless_writes(uri: str, name: str, ready: Event) -> None:
    """Write to two partitions in turn until killed."""
    table = LakeTable("orders", uri, ORDERS)
    rows(name)
    ready.set()
    for number in count():
        write(table, "ab"[number % 2], f"{name}-{number}", length=2000)


@pytest.mark.soak
def test_a_killed_writer_leaves_the_old_version_or_the_new(tmp_path: Path) -> None:
    rng = random.Random(0)
    table = lake_table(tmp_path)
    for kill in range(KILLS):
        # Given a table that is not there yet every third time
        if kill % 3 == 0:
            table = lake_table(tmp_path / str(kill))
        ready = SPAWN.Event()
        process = SPAWN.Process(target=endless_writes, args=(table.uri, f"w{kill}", ready))
        process.start()
        assert ready.wait(timeout=120)
        # When
        time.sleep(rng.uniform(0, 0.4))
        process.kill()
        process.join()
        assert process.exitcode == -9
        # Then every version is whole: each partition has the rows of the run that its commit names
        present = table.version()
        for version in range(max(1, present - 3), present + 1):
            published = table.published(version)
            for key, (_, part) in table.read(published, version).items():
                run = published[key].record["made_by"]["dagster_run_id"]
                assert part.equals(rows(run, part.num_rows)), (kill, version, key, run)
                assert part.num_rows in {7, 2000}
                # and no kill comes between a commit and its checksums
                assert len(published[key].checksums or ()) == 1
        # And the next write works
        assert write(table, "a", f"after {kill}", length=7) == present + 1
        assert read(table, "a").equals(rows(f"after {kill}", 7))


# --- files that change


def test_a_value_edited_in_a_file_is_found_out(tmp_path: Path) -> None:
    # Given
    table = lake_table(tmp_path)
    write(table, "a", "r1")
    changed = rows("r1").set_column(0, "k", pa.array([*range(19), 99]))
    # When one value is another, in a file that is lawful otherwise
    rewrite(table, changed)
    # Then
    with pytest.raises(DigestError) as found:
        table.read(["a"])
    assert str(found.value) == (
        f"orders[a]@1: found content {table_digest(changed, ORDERS).table}, expected {content('r1')}; restore {table.uri}"
    )
    # And the content before is taken again
    rewrite(table, rows("r1"))
    assert read(table, "a").equals(rows("r1"))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at threads as Linux shows them")
def test_reading_leaves_no_thread_that_may_call_python_when_the_process_ends(tmp_path: Path) -> None:
    # a thread of Arrow's scanner let go of its buffers while the process ended, which aborted one process of thirty
    table = lake_table(tmp_path)
    for partition in "abcd":
        write(table, partition, f"r {partition}")
    with ProcessPoolExecutor(1, SPAWN) as pool:
        before, after = pool.submit(_threads_before_and_after_reading, table).result(timeout=60)
    assert before == after


def _threads_before_and_after_reading(table: LakeTable) -> tuple[int, int]:
    """Return how many threads bear the process's own name, as Arrow's do, those of Delta Lake and of the allocator do not."""
    import pyarrow.dataset  # noqa: F401 - importing begins a thread, too

    def count() -> int:
        names = [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()]
        return names.count(Path("/proc/self/comm").read_text())

    table.read(["a"])
    before = count()
    table.read("abcd")
    return before, count()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], r"^orders\[a\]@1: found content "),
        (lambda rows: pa.concat_tables([rows, rows[:1]]), r"^orders\[a\]@1: orders: k 0 stands twice"),
        (lambda rows: rows.slice(0, 0), r"^orders\[a\]@1: found content "),
        (lambda rows: rows.drop_columns("k"), r"^orders\[a\]@1: orders\.k: found null in row 1"),
    ],
    ids=["less", "more", "none", "no column"],
)
def test_rows_that_are_missing_or_doubled_in_a_file_are_found_out(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    # Given
    table = lake_table(tmp_path)
    write(table, "a", "r1")
    # When
    rewrite(table, change(rows("r1")))
    # Then
    with pytest.raises(DigestError, match=message):
        table.read(["a"])


def test_a_file_in_the_place_of_another_is_found_out(tmp_path: Path) -> None:
    # Given a file of another size than the log says
    table = lake_table(tmp_path)
    write(table, "a", "r1")
    pq.write_table(rows("r2", 1000), data_file(table))
    # Then
    with pytest.raises(DigestError, match=rf"^orders\[a\]: cannot be read at version 1: .*; restore {table.uri}$"):
        table.read(["a"])


def test_rows_deleted_by_another_program_are_found_out(tmp_path: Path) -> None:
    # Given
    table = lake_table(tmp_path)
    write(table, "a", "r1")
    write(table, "b", "r2")
    # When
    DeltaTable(table.uri).delete("partition = 'a' AND k > 10")
    # Then
    with pytest.raises(DigestError, match=rf"^orders\[a\]@1: found content .*, expected {content('r1')}; restore"):
        table.read(["a"])
    assert read(table, "b").equals(rows("r2"))
    assert read(table, "a", 2).equals(rows("r1"))


def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    table = lake_table(tmp_path)
    write(table, "a", "r1")
    data_file(table).unlink()
    with pytest.raises(DigestError, match=r"^orders\[a\]: cannot be read at version 1: .*part-00000-.*\.parquet"):
        table.read(["a"])


def test_a_file_cut_short_is_an_error(tmp_path: Path) -> None:
    table = lake_table(tmp_path)
    write(table, "a", "r1")
    file = data_file(table)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DigestError, match=r"^orders\[a\]: cannot be read at version 1: "):
        table.read(["a"])


@pytest.mark.soak
def test_a_flipped_bit_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    # Given
    table = lake_table(tmp_path)
    write(table, "a", "r1")
    file, rng = data_file(table), random.Random(0)
    sound = file.read_bytes()
    for _ in range(FLIPS):
        # When
        damaged = bytearray(sound)
        damaged[rng.randrange(len(sound))] ^= 1 << rng.randrange(8)
        file.write_bytes(damaged)
        # Then it is found out, though it stands where no value and no type stands
        with pytest.raises(DigestError, match=rf"^orders\[a\]: cannot be read at version 1: {file} has SHA-256 "):
            read(table, "a")
    file.write_bytes(sound)
    assert read(table, "a").equals(rows("r1"))


def test_a_flipped_bit_in_a_seal_is_refused(tmp_path: Path) -> None:
    table = lake_table(tmp_path)
    write(table, "a", "r1")
    commit, checksum = Path(table.uri, "_delta_log", f"{1:020}.json"), file_digest(data_file(table).read_bytes())
    text, rng = commit.read_text(), random.Random(0)
    for place in range(len(checksum)):
        bent = chr(ord(checksum[place]) ^ 1 << rng.randrange(3))
        commit.write_text(text.replace(checksum, checksum[:place] + bent + checksum[place + 1 :]))
        forget(table)
        with pytest.raises(DigestError):
            read(table, "a")


def test_rows_from_before_files_were_sealed_are_held_by_their_content(tmp_path: Path) -> None:
    # Given a commit without checksums
    table = lake_table(tmp_path)
    write(table, "a", "r1")
    commit = Path(table.uri, "_delta_log", f"{1:020}.json")
    commit.write_text(commit.read_text().replace('"sha256":', '"other":'))
    forget(table)
    # Then it is read, and other rows are found out
    assert read(table, "a").equals(rows("r1"))
    assert table.published()["a"].checksums is None
    pq.write_table(rows("r1").set_column(0, "k", pa.array([*range(19), 99])), data_file(table))
    with pytest.raises(DigestError):
        read(table, "a")


def test_columns_of_other_types_than_the_tables_are_refused(tmp_path: Path) -> None:
    write(lake_table(tmp_path), "a", "r1")
    other = Schema("orders", ("k",), tuple(replace(c, type="float64") if c.name == "at" else c for c in ORDERS.columns))
    table = LakeTable("orders", str(tmp_path / "orders"), other)
    part = other.conform(rows("r2").set_column(4, "at", pa.array([0.5] * 20)))

    with pytest.raises(
        LineageError,
        match=r"^orders: found at of type double, expected timestamp\[us\], as its table has it; give it",
    ):
        table.write("a", part, {"output": {"digest": "x"}}, since=1)
    assert table.version() == 1


# --- what is relied on upstream


def test_history_of_an_old_handle_is_numbered_wrongly_upstream(tmp_path: Path) -> None:
    """Fails when deltalake mends it: then `LakeTable._history` may ask `DeltaTable.history`, not the log's files."""
    # Given a handle on version 1 of a table that has gone on to version 3
    uri = str(tmp_path / "t")
    for number in range(4):
        properties = CommitProperties(custom_metadata={"number": str(number)})
        write_deltalake(uri, pa.table({"a": [number]}), mode="append", commit_properties=properties)
    # When
    told = [(commit["version"], commit["number"]) for commit in DeltaTable(uri, version=1).history()]
    # Then the newest commit is given the number of the version that was opened
    assert told == [(1, "3"), (0, "2"), (-1, "1"), (-2, "0")]


def test_a_table_created_with_nanoseconds_cannot_be_read_upstream(tmp_path: Path) -> None:
    """Fails when deltalake mends it: it is a reason why schemas declare microseconds."""
    uri = str(tmp_path / "t")
    DeltaTable.create(uri, pa.schema([("at", pa.timestamp("ns"))]))
    with pytest.raises(DeltaProtocolError, match="timestampNanos"):
        DeltaTable(uri).to_pyarrow_table()


def test_what_was_read_and_checked_is_not_read_again(tmp_path: Path) -> None:
    # Given two partitions that were read, of which one is then published anew
    table, memory = lake_table(tmp_path), Memory()
    for partition in ("a", "b"):
        write(table, partition, "first")
    before, _ = table.read_current(["a", "b"], memory)
    write(table, "b", "second")

    # When every file of the first is gone
    for file in (tmp_path / "orders" / "partition=a").iterdir():
        file.unlink()
    after, parts = table.read_current(["b", "a"], memory)

    # Then it is still there, and the second is the new one
    assert (before, after) == (2, 3)
    assert {key: version.version for key, (version, _) in parts.items()} == {"b": 3, "a": 1}
    assert parts["a"][1].equals(rows("first"))
    assert parts["b"][1].equals(rows("second"))
    with pytest.raises(DigestError, match=r"orders\[a\]: cannot be read at version 3"):
        table.read(["a"])


def test_memory_is_bounded_and_forgets_the_oldest(tmp_path: Path) -> None:
    table = lake_table(tmp_path)
    for partition in ("a", "b", "c"):
        write(table, partition, "run")
    size = rows("run").nbytes
    memory = Memory(most_bytes=2 * size)

    table.read_current(["a", "b", "c"], memory)

    published = table.published()
    assert [key for key, commit in published.items() if memory.get(table.uri, commit)] == ["b", "c"]
    assert memory.bytes == 2 * size
