"""Passing and final faults, as the libraries raise them."""

from __future__ import annotations

import errno
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow as pa
import pytest
import sqlalchemy as sa
from botocore.exceptions import IncompleteReadError

from bikes_assets.core.errors import CheckFailed, ConflictError, DataError, FencedError, SchemaError, StoreError
from bikes_assets.core.transient import at_store, away, is_transient, store_error
from bikes_assets_tests.fire.servers import failing, free_port

ROWS = pa.table({"partition": ["a"] * 50_000, "x": list(range(50_000))})


def raised(call: Callable[[], Any]) -> Exception:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever a library raises
        return error
    raise AssertionError("nothing was raised")


def wrapped(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConflictError("another run was first"), True),
        (TimeoutError("timed out"), True),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), True),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), True),
        (OSError("Generic S3 error: Server returned non-2xx status code: 503 Service Unavailable: SlowDown"), True),
        (OSError("Generic S3 error: HTTP error: error reading a body from connection: end of file"), True),
        (IncompleteRead(b"half", 4), True),
        (IncompleteReadError(actual_bytes=4, expected_bytes=8), True),
        (wrapped(DataError("https://x/y.csv", found="nothing", expected="rows"), TimeoutError("timed out")), True),
        (DataError("y.csv", found="text", expected="a number"), False),
        (SchemaError("503 is of another type: timed out"), False),
        (CheckFailed("c", "a[2012-01]@1", found="timeout", expected="none"), False),
        (FencedError("its run has ended"), False),
        (wrapped(FencedError("a later run was first"), ConflictError("another run was first")), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), False),
        (OSError(errno.EROFS, "Read-only file system"), False),
        (PermissionError(errno.EACCES, "Permission denied"), False),
        (wrapped(ConnectionResetError("reset"), OSError(errno.ENOSPC, "No space left on device")), False),
        (TypeError("timed out"), False),
        (KeyError("database is locked"), False),
        (ValueError("status code 503"), False),
        (MemoryError(), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)  # fmt: skip
def test_what_passes_and_what_is_final(error: Exception, expected: bool) -> None:
    assert is_transient(error) is expected


def test_a_database_that_another_process_holds_passes(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    with closing(sqlite3.connect(file)) as holder, closing(sqlite3.connect(file, timeout=0)) as other:
        holder.execute("create table t (x)")
        holder.commit()
        holder.execute("begin immediate")
        error = raised(lambda: other.execute("insert into t values (1)"))
    assert str(error) == "database is locked"
    assert is_transient(error)
    assert store_error(error, "/x") is None


@pytest.mark.parametrize(
    "text",
    [
        "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally",
        'connection to server at "127.0.0.1", port 5432 failed: Connection refused',
        "SSL connection has been closed unexpectedly",
        "connection already closed",
        "terminating connection due to administrator command",
        "FATAL:  the database system is starting up",
        "FATAL:  the database system is shutting down",
        "could not receive data from server: Software caused connection abort",
    ],
)
def test_a_database_server_that_goes_away_passes(text: str) -> None:
    error = sa.exc.OperationalError("insert into event_logs", {}, psycopg2.OperationalError(text))
    assert is_transient(error)
    assert str(away(error)).startswith("a store or server is away or busy: ")
    wrong = sa.exc.OperationalError("select x", {}, psycopg2.OperationalError('FATAL:  role "x" does not exist'))
    assert not is_transient(wrong)


def test_a_remote_store_that_answers_503_passes_and_one_that_answers_404_does_not() -> None:
    import fsspec

    for status, expected in ((503, True), (404, False)):
        with failing(status) as server:
            assert is_transient(raised(lambda: fsspec.open(f"{server.url}/x.csv").open().read())) is expected


def test_a_server_that_is_not_there_passes() -> None:
    import urllib.request

    assert is_transient(raised(lambda: urllib.request.urlopen(f"http://127.0.0.1:{free_port()}/")))


# --- stores that cannot be written


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Yield a file system of 300 kB; skipped where this user may not mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("this user may mount nothing")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def delta(folder: Path) -> None:
    from deltalake import write_deltalake

    write_deltalake(f"{folder}/table", ROWS, partition_by=["partition"])


def create(folder: Path) -> None:
    from deltalake import DeltaTable

    DeltaTable.create(f"{folder}/other", ROWS.schema)


def file_system(folder: Path) -> None:
    import fsspec

    fsspec.filesystem("file").pipe_file(f"{folder}/file", b"0" * 400_000)


def sqlite(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "x.db")) as database:
        database.execute("create table t (x)")
        database.execute("insert into t values (zeroblob(400000))")
        database.commit()


def lock(folder: Path) -> None:
    from filelock import FileLock

    with FileLock(folder / ".lock"):
        pass


@pytest.mark.parametrize("write", [delta, create, file_system, sqlite])
def test_a_full_disk_is_told_with_its_folder(small: Path, write: Callable[[Path], None]) -> None:
    with closing(sqlite3.connect(small / "x.db")) as database:
        database.execute("create table s (x)")
    (small / "fill").write_bytes(b"0" * 280_000)
    if write is create:
        with pytest.raises(OSError, match="No space"):
            (small / "more").write_bytes(b"0" * 300_000)
    error = raised(lambda: write(small))
    assert not is_transient(error)
    assert str(store_error(error, str(small))) == f"{small}: no space is left there; free some, then run again"


@pytest.mark.parametrize("write", [delta, create, file_system, sqlite, lock])
def test_a_read_only_store_is_told_with_its_folder(small: Path, write: Callable[[Path], None]) -> None:
    with closing(sqlite3.connect(small / "x.db")) as database:
        database.execute("create table s (x)")
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    error = raised(lambda: write(small))
    assert not is_transient(error)
    told = store_error(error, str(small))
    assert isinstance(told, StoreError)
    assert str(told) == f"{small}: it is read-only; make it writable, then run again"


def test_what_sqlite_does_not_say_is_looked_up(small: Path) -> None:
    unopened, failed = (
        sqlite3.OperationalError("unable to open database file"),
        sqlite3.OperationalError("disk I/O error"),
    )
    uri = f"sqlite:///{small}/"
    assert str(store_error(unopened, uri)).endswith(
        ": it is read-only, or closed to this user; make it writable, then run again"
    )
    assert str(store_error(failed, uri)).endswith(": the disk reports an error; see the system's log, then run again")
    (small / "fill").write_bytes(b"0" * 290_000)
    assert str(store_error(failed, uri)).endswith(": no space is left there; free some, then run again")
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    assert str(store_error(unopened, uri)).endswith(": it is read-only; make it writable, then run again")


def test_a_store_that_is_away_is_told_with_the_place_and_stays_a_fault_that_passes() -> None:
    with pytest.raises(StoreError) as met, at_store("s3://me:secret@bucket/table"):
        raise TimeoutError("timed out")
    assert str(met.value).startswith("s3://***@bucket/table: a store or server is away or busy: timed out; ")
    assert is_transient(met.value)
    with pytest.raises(ValueError, match=r"^no number$"), at_store("s3://bucket/table"):
        raise ValueError("no number")


def test_a_server_that_is_away_is_told_in_one_line() -> None:
    import sqlalchemy as sa
    from deltalake import DeltaTable

    port = free_port()
    database = sa.create_engine(f"postgresql+psycopg2://me:secret@127.0.0.1:{port}/db", poolclass=sa.NullPool)
    options = {"aws_endpoint": f"http://127.0.0.1:{port}", "aws_access_key_id": "me", "aws_secret_access_key": "secret"}
    options |= {"allow_http": "true", "aws_region": "us-east-1", "max_retries": "0"}
    for call in (database.connect, lambda: DeltaTable("s3://bucket/table", storage_options=options)):
        told = str(away(raised(call)))
        assert told.startswith("a store or server is away or busy: ")
        assert "refused" in told
        assert "\n" not in told
        assert "\x1b" not in told
        assert "secret" not in told
    assert (
        away(wrapped(RuntimeError("cannot go on"), ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")))
        is not None
    )
    assert away(ValueError("connection refused")) is None  # of no store


def test_another_error_is_of_no_store() -> None:
    assert store_error(ValueError("no such column"), "/x") is None
    assert store_error(FileNotFoundError(errno.ENOENT, "No such file or directory"), "/x") is None


def test_a_busy_store_is_told_with_its_status() -> None:
    arrow = "\x1b[31m↳\x1b[0m"
    busy = OSError(  # as Delta Lake words it
        f"Generic S3 error\n  {arrow} Error performing PUT http://s3/bucket/key in 2.6s, after 10 retries, max_retries\n"
        f"   {arrow} 10, retry_timeout\n    {arrow} 180s  - Server returned non-2xx status code\n"
        f"     {arrow} 503 Service Unavailable\n      {arrow} <Error><Code>ServiceUnavailable</Code></Error>\n"
    )
    assert is_transient(busy)
    assert str(away(busy, "s3://bucket")) == (
        "s3://bucket: a store or server is away or busy: 503 Service Unavailable; look whether it runs, then try again"
    )
