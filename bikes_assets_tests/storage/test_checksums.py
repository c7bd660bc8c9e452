"""A file and its checksum: whatever happened to either is noticed before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from bikes_assets.storage.checksums import ChecksummedFile, DamagedError


@pytest.fixture
def file(tmp_path: Path) -> ChecksummedFile:
    made = ChecksummedFile(tmp_path / "lineage.db")
    with made.writing():
        made.path.write_bytes(b"what was written")
    return made


def test_what_was_written_holds_also_where_writing_failed(file: ChecksummedFile) -> None:
    def interrupted() -> None:
        with file.writing():
            file.path.write_bytes(b"something else")
            raise ValueError("interrupted")

    file.check()
    with pytest.raises(ValueError, match="interrupted"):
        interrupted()
    ChecksummedFile(file.path).check()


def test_every_flipped_bit_is_noticed(file: ChecksummedFile) -> None:
    sound = file.path.read_bytes()
    for position in range(len(sound) * 8):
        content = bytearray(sound)
        content[position // 8] ^= 1 << position % 8
        file.path.write_bytes(content)
        with pytest.raises(DamagedError, match="found content that its checksum does not hold"):
            ChecksummedFile(file.path).check()


def test_a_file_that_changes_after_it_was_checked_is_checked_again(file: ChecksummedFile) -> None:
    file.check()
    file.path.write_bytes(b"what was written, and more")
    with pytest.raises(DamagedError):
        file.check()


def test_a_file_whose_checksum_is_gone_or_damaged_is_damaged(file: ChecksummedFile, tmp_path: Path) -> None:
    for content in (b"", b"00000000", b"\xff\xfe"):
        (tmp_path / "lineage.db.crc32").write_bytes(content)
        with pytest.raises(DamagedError):
            ChecksummedFile(file.path).check()
    (tmp_path / "lineage.db.crc32").unlink()
    with pytest.raises(DamagedError):
        ChecksummedFile(file.path).check()


def test_one_process_writes_at_a_time(file: ChecksummedFile, tmp_path: Path) -> None:
    with file.writing(), pytest.raises(Timeout), FileLock(tmp_path / ".lineage.db.lock", timeout=0):
        pass
