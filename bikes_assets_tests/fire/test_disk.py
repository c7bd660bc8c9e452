"""A disk that is full or read-only: nothing is half-written, the message names the folder, and later the next run mends it."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bikes_assets_tests.fire.history import Fork, History
from bikes_assets_tests.fire.processes import turns
from bikes_assets_tests.fire.reading import Reading, intact, lost, partial, read_lake, statuses, unmatched
from bikes_assets_tests.fire.test_kill import KINDS, MONTHS

STORES = ("lake", "dagster", "mlflow")
ASSETS = KINDS[:-1]
MONTH = MONTHS[-1]
FULL, READ_ONLY = "no space is left there", "it is read-only"
BLOCK = 4096
MOST = 10
"""Draws for each point, for some find room enough or come too late."""


@pytest.fixture(params=STORES)
def store(request, worked: History) -> Iterator[Path]:
    """Yield the folder of a store, a file system of its own; skipped where this user may mount none."""
    folder = worked.data / request.param
    worked.renew()
    subprocess.run(["rm", "-rf", folder], check=True)
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this user may mount nothing")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def used(folder: Path) -> int:
    """Return the bytes that are taken on a file system."""
    import os

    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def fill(folder: Path, free: int) -> None:
    """Leave so many bytes of a file system free."""
    import os

    found = os.statvfs(folder)
    (folder / "ballast").write_bytes(b"0" * max(found.f_bavail * found.f_frsize - free, 0))


def told(worker: Fork, worked: History) -> str:
    """Return all that people were told: what the command printed, and what runs warned of or failed with."""
    worker.wait()
    return worker.printed() + str(worked.begin("said").told()["said"])


def check_and_mend(worked: History, sound: Reading, kind: str, where: object) -> None:
    """Fail unless everything is whole, and the next run makes what an unperturbed one makes."""
    found = read_lake(worked.lake)
    assert partial(found, sound) == lost(found, sound) == [], where
    mended = worked.mend(kind, MONTH)
    assert (mended["success"], mended["left"]) == (True, []), (where, mended)
    assert mended["digests"] == [sound.newest(kind, MONTH).digest], where
    again = worked.sync()
    assert (again["done"], again["left"]) == ([], []), where
    assert unmatched(read_lake(worked.lake), worked.home) == [], (where, mended)
    assert set(statuses(worked.home)) <= {"SUCCESS", "FAILURE"}, where
    for file in (worked.home / "event_log.db", worked.home / "history" / "runs.db", worked.store / "mlflow.db"):
        assert intact(file) == "ok", where


@pytest.mark.soak
def test_a_disk_that_is_full(worked: History, sound: Reading, store: Path) -> None:
    rng, hits, needed = random.Random(store.name), 0, dict[str, int]()
    for _ in range(MOST * len(turns(20))):
        if hits == len(turns(20)):
            break
        kind = ASSETS[hits % len(ASSETS)]
        # Given how much an unperturbed run writes, and a disk on which there is room for a part of it
        worked.renew()
        if kind not in needed:
            before = used(store)
            assert worked.start(kind, MONTH).told()["success"]
            needed[kind] = used(store) - before
            worked.renew()
        free = rng.randrange(0, needed[kind] + BLOCK, BLOCK)
        fill(store, free)
        # When
        worker = worked.start(kind, MONTH)
        worker.wait()
        (store / "ballast").unlink()
        said = told(worker, worked)
        if FULL not in said and not worker.status:
            continue  # it found enough room
        # Then people are told which folder it is
        where = (store.name, kind, free, needed[kind])
        assert f"{store}" in said, (where, said)
        assert FULL in said, (where, said)
        # And once there is room again, the next run mends it
        check_and_mend(worked, sound, kind, where)
        hits += 1
    assert hits == len(turns(20))


@pytest.mark.soak
def test_a_disk_that_becomes_read_only(worked: History, sound: Reading, store: Path) -> None:
    rng, hits = random.Random(f"read-only {store.name}"), 0
    worked.renew()
    start = time.monotonic()
    first = worked.start(ASSETS[0], MONTH).told()
    assert first["success"], first["failed"]
    seconds = time.monotonic() - start
    for _ in range(MOST * len(turns(20))):
        if hits == len(turns(20)):
            break
        kind = ASSETS[hits % len(ASSETS)]
        worked.renew()
        if store.name == "dagster":
            # Dagster's files stay open for writing, which keeps their file system from being made read-only under a worker
            subprocess.run(["mount", "-o", "remount,ro", store], check=True)
            worker = worked.start(kind, MONTH)
        else:
            # Given a worker on its way
            worker = worked.start(kind, MONTH)
            time.sleep(rng.uniform(0, seconds / 2))
            # When nothing can be written any more
            while subprocess.run(["mount", "-o", "remount,ro", store], capture_output=True).returncode:
                if not worker.is_at_work():  # somebody had a file open for writing at each look
                    break
        worker.wait()
        subprocess.run(["mount", "-o", "remount,rw", store], check=True)
        said = told(worker, worked)
        if READ_ONLY not in said and not worker.status:
            continue  # it was through before
        # Then
        where = (store.name, kind, hits)
        assert f"{store}" in said, (where, said)
        assert READ_ONLY in said, (where, said)
        check_and_mend(worked, sound, kind, where)
        hits += 1
    assert hits == len(turns(20))


@pytest.mark.parametrize(
    "question",
    ["status", "upstream demand_model[2011-04]", "retain", "waste", "deployments", "search temp", "status --json"],
)
def test_a_store_that_is_read_only_answers(worked: History, question: str) -> None:
    """Also where nothing is remembered of the source and the plan."""
    worked.renew()
    for name in ("plan.json", "source.json", "months.json"):
        (worked.data / name).unlink(missing_ok=True)
    if subprocess.run(["mount", "--bind", worked.data, worked.data], capture_output=True).returncode:
        pytest.skip("this user may mount nothing")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", worked.data], check=True)
        fork = worked.begin("command", arguments=question.split())
        assert fork.wait() == 0, fork.printed()
    finally:
        subprocess.run(["umount", "--lazy", worked.data], check=True)
