"""Files are replaced by what was written completely, and by nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Thread

import pytest

from bikes_assets.storage import disk


def test_a_file_is_replaced_once_all_is_written(tmp_path: Path) -> None:
    file = tmp_path / "new" / "events"
    with disk.replaced(file) as written:
        written.write(b"first\n")
        assert not file.exists()
    assert file.read_bytes() == b"first\n"
    # And where writing fails, it stays as it was, with nothing beside it
    with pytest.raises(TypeError), disk.replaced(file) as written:
        written.writelines([b"second\n", "no bytes"])  # type: ignore[list-item]
    assert (file.read_bytes(), [*file.parent.iterdir()]) == (b"first\n", [file])


def test_what_a_link_leads_to_is_replaced(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"before")
    link.symlink_to(file)
    with disk.replaced(link) as written:
        written.write(b"after")
    assert (link.is_symlink(), file.read_bytes()) == (True, b"after")


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    with disk.replaced(pipe) as written:
        written.write(b"events")
    reader.join(30)
    assert (read, pipe.is_fifo()) == ([b"events"], True)
