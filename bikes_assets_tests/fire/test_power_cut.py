"""The machine loses its power: what was said to be done is there, the rest is whole or absent, and the next run mends it.

The store lies on a file system of its own, in an image. What the kernel has not written to the image yet is what a loss of power
takes: so a copy of the image, while a worker stands still, is the disk as it would be found.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bikes_assets_tests.fire.history import History
from bikes_assets_tests.fire.processes import turns
from bikes_assets_tests.fire.reading import Reading, events_of, partial, read_lake
from bikes_assets_tests.fire.test_disk import check_and_mend
from bikes_assets_tests.fire.test_kill import KINDS, MONTHS

ASSETS = KINDS[:-1]
MONTH = MONTHS[-1]
SIZE = 2**29
CUTS = 4
"""Cuts during one run."""
OPTIONS = "loop,commit=300,noauto_da_alloc"
"""Of a file system that writes late, and puts no file on disk because it was renamed."""


@dataclass
class Disk:
    """A file system in an image.

    Attributes:
        image: the file.
        place: where it is mounted.
    """

    image: Path
    place: Path

    def mount(self, image: Path) -> bool:
        command = ["mount", "-o", OPTIONS, image, self.place]
        return not subprocess.run(command, capture_output=True).returncode

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", self.place], check=True)

    def cut(self) -> Path:
        """Return a copy of the disk as it is found after a loss of power just now."""
        copy = self.image.with_name(f"cut-{time.monotonic_ns()}")
        subprocess.run(["cp", "--sparse=always", self.image, copy], check=True)
        return copy


@pytest.fixture
def disk(worked: History, tmp_path: Path) -> Iterator[Disk]:
    """Yield the disk that the store lies on, with all that was made; skipped where this user may mount none."""
    found = Disk(tmp_path / "image", worked.data)
    shutil.rmtree(worked.data, ignore_errors=True)
    worked.data.mkdir()
    with found.image.open("wb") as image:
        image.truncate(SIZE)
    subprocess.run(["mkfs.ext4", "-q", found.image], check=True)
    if not found.mount(found.image):
        pytest.skip("this user may mount nothing")
    yield found
    found.unmount()


def renew(worked: History, disk: Disk) -> None:
    """Have the store as it was made, on disk."""
    worked.renew()
    subprocess.run(["sync", "--file-system", disk.place], check=True)


def examine(worked: History, disk: Disk, sound: Reading, kind: str, image: Path, where: object) -> set[str]:
    """Fail unless all that events name is there and whole, and the next run makes what is missing; return what events name."""
    disk.unmount()
    assert disk.mount(image), where
    told = dict(events_of(worked.home))
    status = worked.begin("command", arguments=["status"])
    assert status.wait() in (0, 1), (where, status.printed())  # 1: not everything is fresh
    found = read_lake(worked.lake)
    assert found.faults == partial(found, sound) == [], where
    held = {item.address: item.digest for item in found.commits}
    assert {address: held.get(address) for address in told} == told, where
    check_and_mend(worked, sound, kind, where)
    snapshot = str(image.with_suffix(".json"))
    for arguments in (["snapshot", snapshot], ["verify", snapshot, "--deep"]):
        fork = worked.begin("command", arguments=arguments)
        assert fork.wait() == 0, (where, fork.printed())
    disk.unmount()
    assert disk.mount(disk.image), where
    image.unlink()
    return set(told)


@pytest.mark.soak
def test_what_a_command_said_is_on_disk(worked: History, sound: Reading, disk: Disk) -> None:
    for turn in turns(10):
        kind = ASSETS[turn % len(ASSETS)]
        renew(worked, disk)
        before = {address for address, _ in events_of(worked.home)}
        assert worked.start(kind, MONTH).told()["success"]
        image = disk.cut()
        made = {address for address, _ in events_of(worked.home)} - before
        assert {address.partition("[")[0] for address in made} == {kind}
        assert examine(worked, disk, sound, kind, image, (turn, kind)) >= made | before


@pytest.mark.soak
def test_whenever_power_is_lost_all_is_whole_or_absent(worked: History, sound: Reading, disk: Disk) -> None:
    rng = random.Random("power")
    for turn in turns(10):
        kind = ASSETS[turn % len(ASSETS)]
        renew(worked, disk)
        start = time.monotonic()
        assert worked.start(kind, MONTH).told()["success"]
        seconds = time.monotonic() - start
        renew(worked, disk)
        moments = sorted(rng.uniform(0, seconds) for _ in range(CUTS))
        start, worker, images = time.monotonic(), worked.start(kind, MONTH), list[Path]()
        for moment in moments:
            time.sleep(max(0.0, start + moment - time.monotonic()))
            worker.signal(signal.SIGSTOP)
            images.append(disk.cut())
            worker.signal(signal.SIGCONT)
        worker.signal(signal.SIGKILL)
        worker.wait()
        for moment, image in zip(moments, images, strict=True):
            examine(worked, disk, sound, kind, image, (turn, kind, moment))
