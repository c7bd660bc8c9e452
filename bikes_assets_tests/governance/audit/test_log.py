"""Appending to the log: each fact once whatever is killed, one process at a time, and nothing over a log that was altered."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from bikes_assets.core.errors import AuditError
from bikes_assets.governance.audit.checking import ChainCheck
from bikes_assets.governance.audit.entries import AuditEntry
from bikes_assets.governance.audit.log import AuditLog
from bikes_assets.governance.audit.signing import PrivateKey, new_key
from bikes_assets_tests.fire.processes import turns
from bikes_assets_tests.governance.audit.samples import KEY, extend, missing, settings

FORK = multiprocessing.get_context("fork")


def versions(log: AuditLog) -> list[int]:
    """Return the versions of the table that the log has, in order, after checking its chain."""
    check = ChainCheck()
    entries = [*check.entries(log.lines())]
    assert check.finding is None
    assert entries[0].fact.kind == "settings"
    return [int(entry.fact.run.removeprefix("run-")) for entry in entries[1:]]


def test_only_what_is_missing_is_appended_and_each_head_is_signed(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    assert [extend(log, count) for count in (3, 3, 5)] == [4, 0, 2]
    assert versions(log) == [0, 1, 2, 3, 4]
    signed = log.signed()
    assert signed
    assert (signed.head, signed.head.number) == (log.remembered(), 6)
    assert KEY.public.verifies(signed.head.content, signed.signature)


def test_without_a_key_the_log_is_chained_and_a_later_key_signs_it(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    extend(log, 3, None)
    assert log.signed() is None
    assert extend(log, 3) == 0
    signed = log.signed()
    assert signed
    assert signed.head.number == 4


@pytest.mark.parametrize("remembered", [True, False])
def test_a_crash_at_any_byte_of_appending_loses_and_repeats_nothing(tmp_path: Path, remembered: bool) -> None:
    before, after = AuditLog(tmp_path / "before"), AuditLog(tmp_path / "after")
    for log in (before, after):
        extend(log, 2, None)
    kept = [*before.file.parent.iterdir()]
    extend(after, 4, None)
    whole, begin = after.file.read_bytes(), before.file.stat().st_size
    ends = [begin, whole.index(b"\n", begin) + 1, len(whole)]
    near = {end + step for end in ends for step in (-2, -1, 0, 1, 2)}
    for size in sorted({*range(begin, len(whole), 13), *near} & {*range(begin, len(whole) + 1)}):
        log = AuditLog(tmp_path / "crashed" / str(size))
        log.file.parent.mkdir(parents=True)
        for file in kept:
            if remembered or file.name != "progress.json":
                (log.file.parent / file.name).write_bytes(file.read_bytes())
        log.file.write_bytes(whole[:size])
        extend(log, 4)
        assert log.file.read_bytes() == whole, size


def test_a_line_without_an_end_is_cut_off_however_long_it_is(tmp_path: Path) -> None:
    log, other = AuditLog(tmp_path / "torn"), AuditLog(tmp_path / "other")
    extend(log, 2, None)
    with log.file.open("ab") as torn:
        torn.write(bytes(100_000))  # as some file systems leave what was to be written when the power goes
    assert len([*log.lines()]) == 3
    assert extend(log, 3, None) == 1
    extend(other, 3, None)
    assert log.file.read_bytes() == other.file.read_bytes()


def test_a_log_is_read_from_where_it_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path)
    extend(log, 500, None)
    parsed: list[bytes] = []
    parse = AuditEntry.parse
    monkeypatch.setattr(AuditEntry, "parse", lambda line: (parsed.append(line), parse(line))[1])
    assert extend(log, 501, None) == 1
    assert len(parsed) <= 2


def _append(folder: Path, count: int, ready: Any) -> None:
    log = AuditLog(folder)
    extend(log, 1)
    ready.set()
    for number in range(2, count + 1):
        extend(log, number)


@pytest.mark.soak
def test_kill_9_at_any_point_of_appending_loses_and_repeats_nothing(tmp_path: Path) -> None:
    unfinished = 0
    for turn in turns(100):
        folder, chance, ready = tmp_path / str(turn), random.Random(turn), FORK.Event()
        process = FORK.Process(target=_append, args=(folder, 60, ready))
        process.start()
        assert ready.wait(60)
        time.sleep(chance.uniform(0, 0.15))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        log = AuditLog(folder)
        unfinished += extend(log, 60) > 0
        assert versions(log) == [*range(60)], turn
        signed = log.signed()
        assert signed
        assert signed.head.number == 61
    assert unfinished


def test_two_processes_that_append_at_once_write_one_chain(tmp_path: Path) -> None:
    processes = [FORK.Process(target=_append, args=(tmp_path, 80, FORK.Event())) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert versions(AuditLog(tmp_path)) == [*range(80)]


def refused(log: AuditLog, count: int = 9, key: PrivateKey | None = KEY) -> str:
    """Return why nothing is appended, after checking that nothing was changed."""
    before = {file.name: file.read_bytes() for file in log.file.parent.iterdir() if file.name != ".lock"}
    with pytest.raises(AuditError) as error:
        extend(log, count, key)
    assert {file.name: file.read_bytes() for file in log.file.parent.iterdir() if file.name != ".lock"} == before
    return str(error.value)


def test_nothing_is_appended_to_a_log_that_was_cut(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    extend(log, 5, None)
    log.file.write_bytes(b"".join(line + b"\n" for line in [*log.lines()][:3]))
    assert "found another log than that with entry 6" in refused(log)
    log.file.unlink()
    assert "found another log than that with entry 6" in refused(log)


def test_no_head_is_signed_over_a_log_that_lacks_the_one_before(tmp_path: Path) -> None:
    """Who removes what this machine remembers, too, still finds the signed head in the way."""
    log = AuditLog(tmp_path)
    extend(log, 5)
    log.file.write_bytes(b"".join(line + b"\n" for line in [*log.lines()][:3]))
    (tmp_path / "progress.json").unlink()
    assert "found no longer entry 6, whose head was signed" in refused(log)
    assert "found no longer entry 6, whose head was signed" in refused(log, key=None)


def test_no_head_is_signed_over_one_of_another_key(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    extend(log, 5)
    assert "found a head that another key has signed" in refused(log, key=PrivateKey(new_key()))


def test_a_head_that_cannot_be_read_is_not_replaced(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    extend(log, 5)
    head = tmp_path / "head.json"
    for content in (b"", b"{}", b"[]", head.read_bytes().replace(b"PUBLIC", b"PUBLIK"), b'{"number": 1}'):
        head.write_bytes(content)
        assert "found no signed head" in refused(log)


def test_an_entry_that_was_altered_after_the_remembered_one_is_refused(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    extend(log, 2, None)
    progress = (tmp_path / "progress.json").read_bytes()
    extend(log, 4, None)
    (tmp_path / "progress.json").write_bytes(progress)
    lines = [*log.lines()]
    write = lambda *lines: log.file.write_bytes(b"".join(line + b"\n" for line in lines))  # noqa: E731
    write(*lines[:3], lines[3].replace(b"somebody", b"nobody"), lines[4])
    assert "entry 4: its digest is not that of its content" in refused(log)
    write(*lines[:3], lines[4])
    assert "entry 4 does not follow the last" in refused(log)


def test_an_entry_after_the_remembered_one_stays(tmp_path: Path) -> None:
    """A process may be killed before it remembers what it appended; settings have no other record than their entry."""
    log = AuditLog(tmp_path)
    extend(log, 2, None)
    progress = (tmp_path / "progress.json").read_bytes()
    with log.extended(lambda _: [settings(1)], None):
        pass
    (tmp_path / "progress.json").write_bytes(progress)
    assert extend(log, 3, None) == 1
    kinds = [AuditEntry.parse(line).fact.kind for line in log.lines()]
    assert kinds == ["settings", "materialization", "materialization", "settings", "materialization"]


def test_what_is_remembered_may_be_lost_or_damaged(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    extend(log, 5)
    progress = tmp_path / "progress.json"
    for content in (
        None,
        b"",
        b"{}",
        b'{"crc32": "", "values": {}}',
        progress.read_bytes().replace(b"features", b"featured"),
    ):
        progress.unlink() if content is None else progress.write_bytes(content)
        assert extend(log, 5) == 0
        assert json.loads(progress.read_bytes())["values"]["tables"] == {"features": 4}
    assert versions(log) == [*range(5)]


def test_the_facts_are_asked_for_while_nobody_else_appends(tmp_path: Path) -> None:
    log, inner = AuditLog(tmp_path), []
    extend(log, 1)
    with log.extended(missing(3), KEY) as (progress, appended):
        from filelock import FileLock, Timeout

        with pytest.raises(Timeout):
            FileLock(tmp_path / ".lock").acquire(timeout=0)
        inner.append((progress.head.number, appended))
    assert inner == [(4, 2)]
