"""Tables in a store that fails in the midst of a request: nothing lost, nothing twice, and what is read is what was written."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from bikes_assets.core.errors import StoreError
from bikes_assets.core.transient import is_transient
from bikes_assets.storage import commits
from bikes_assets.storage.delta import LakeTable
from bikes_assets.storage.files import create_file, read_file
from bikes_assets_tests.elsewhere.servers import Fault, fail_next
from bikes_assets_tests.storage.test_delta import ORDERS, read, rows, write

AFTER = ("503 after", "no answer")
"""Faults after which the store holds what it was sent, and has not said so."""
COMMIT = re.compile(r"^PUT .*/_delta_log/\d+\.json$")
FOREVER = 99


@pytest.fixture
def fail(s3_environment: dict[str, str]) -> Any:
    """Return what has the store meet a fault from now on; it returns the requests since the last call."""

    def fail(fault: Fault) -> list[str]:
        return fail_next(s3_environment["AWS_ENDPOINT_URL"], fault)

    yield fail
    fail(Fault())


def new_table(s3: str, name: str = "orders") -> LakeTable:
    return LakeTable("orders", f"{s3}/{name}", ORDERS)


def tried_again(call: Callable[[], Any]) -> Any:
    """Return what a call returns, which is tried again after a fault that passes, as Dagster tries a step again."""
    for _ in range(2):
        try:
            return call()
        except Exception as error:
            if not is_transient(error):
                raise
    return call()


def requests_of(fail: Callable[[Fault], list[str]], call: Callable[[], Any]) -> list[str]:
    commits.forget()
    fail(Fault())
    call()
    return fail(Fault())


@pytest.mark.parametrize("kind", AFTER)
@pytest.mark.parametrize("length", [20, 0])
def test_a_writer_knows_its_own_commit(s3: str, fail: Any, kind: str, length: int) -> None:
    # Given
    requests = requests_of(fail, lambda: write(new_table(s3, "like"), "a", "r1", length=length))
    commit = max(number for number, request in enumerate(requests) if COMMIT.match(request))
    table = new_table(s3)
    # When
    fail(Fault(kind, commit, 1))
    version = write(table, "a", "r1", length=length)
    # Then
    assert version == 1
    assert [(item.version, item.partition) for item in table.commits()] == [(1, "a")]
    assert read(table, "a").equals(rows("r1", length))


def test_a_commit_of_another_writer_is_not_ones_own(s3: str, fail: Any) -> None:
    table = new_table(s3)
    table.version()

    def other_first() -> None:
        if table.version() == 0:
            write(table, "b", "other")

    record = {"output": {"digest": "digest of r1"}, "made_by": {"dagster_run_id": "r1"}}
    assert table.write("a", rows("r1"), record, since=0, fence=other_first) == 2
    assert read(table, "b").equals(rows("other"))
    assert read(table, "a").equals(rows("r1"))


@pytest.mark.parametrize("kind", ["503 before", "503 after", "no answer", "cut short", "slow"])
def test_a_fault_at_any_request_loses_nothing_and_doubles_nothing(s3: str, fail: Any, kind: str) -> None:
    # Given
    requests = requests_of(fail, lambda: write(new_table(s3, "like"), "a", "r1"))
    concerned = [
        number
        for number, request in enumerate(requests)
        if (kind == "cut short" and request.startswith("GET")) or (kind != "cut short" and request.startswith("PUT"))
    ]
    assert len(concerned) >= 3
    for number in concerned:
        commits.forget()
        table = new_table(s3, f"orders {number}")
        # When
        fail(Fault(kind, number, 1))
        version = tried_again(lambda table=table: write(table, "a", "r1", since=0))
        # Then
        fail(Fault())
        where = f"{kind} at {requests[number]}"
        assert version == 1, where
        assert [item.version for item in table.commits()] == [1], where
        assert read(table, "a").equals(rows("r1")), where


def test_an_answer_that_is_cut_short_is_waited_out_or_told_in_one_line(s3: str, fail: Any) -> None:
    # Given
    table = new_table(s3)
    write(table, "a", "r1")
    requests = requests_of(fail, lambda: read(table, "a"))
    for number, request in enumerate(requests):
        if request.startswith("HEAD"):
            continue
        # When
        commits.forget()
        fail(Fault("cut short", number, FOREVER))
        with pytest.raises(StoreError, match=f"^{s3}/orders.*: a store or server is away or busy: [^\n]*$") as met:
            read(table, "a")
        # Then
        assert is_transient(met.value), request
        fail(Fault())
        assert read(table, "a").equals(rows("r1"))


@pytest.mark.parametrize("kind", AFTER)
def test_versions_that_a_table_lost_are_passed_over_once(s3: str, fail: Any, kind: str) -> None:
    table = new_table(s3)
    table.version()
    requests = requests_of(fail, lambda: new_table(s3, "like").begin_beyond(1))
    fail(Fault(kind, max(number for number, item in enumerate(requests) if COMMIT.match(item)) - 5, 9))

    tried_again(lambda: table.begin_beyond(2))

    assert table.version() == 2
    assert table.commits() == []


@pytest.mark.parametrize("kind", AFTER)
def test_who_created_a_file_is_told_so(s3: str, fail: Any, kind: str) -> None:
    fail(Fault(kind, 0, 1))
    assert create_file(f"{s3}/file", b"one")
    fail(Fault(kind, 0, 1))
    assert not create_file(f"{s3}/file", b"two")
    assert read_file(f"{s3}/file") == b"one"
