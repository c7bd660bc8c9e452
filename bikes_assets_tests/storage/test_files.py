"""Files in a folder and at a URL: whole or not at all."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from bikes_assets.core.errors import DataError, DigestError
from bikes_assets.storage.files import (
    create_file,
    delta_options,
    filesystem_of,
    is_of_this_user,
    is_remote,
    read_file,
    read_files,
    write_file,
    write_files,
)
from bikes_assets.storage.lake import Lake
from bikes_assets.storage.sources.readers import reader_for

SPAWN = multiprocessing.get_context("spawn")
ROUNDS = 10


def test_a_url_is_remote_and_a_folder_is_not() -> None:
    assert is_remote("s3://bucket/lake")
    assert not is_remote("/data/lake")
    assert not is_remote("file:///data/lake")


def test_plain_http_is_allowed_where_the_endpoint_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    assert delta_options("s3://bucket/lake") == {"allow_http": "true"}
    assert delta_options("/data/lake") == {}
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.example")
    assert delta_options("s3://bucket/lake") == {}
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert delta_options("s3://bucket/lake") == {}


def test_the_region_of_the_environment_is_used(s3: str) -> None:
    filesystem, _ = filesystem_of(s3)
    filesystem.connect()
    assert filesystem.s3.meta.region_name == "eu-central-1"


def test_a_file_that_is_not_there_is_none_also_while_another_error_is_handled(s3: str) -> None:
    try:
        raise TimeoutError("timed out")
    except TimeoutError:
        assert read_file(f"{s3}/file") is None


def test_files_are_read_together_in_order(s3: str, tmp_path: Path) -> None:
    for place in (s3, str(tmp_path / "a[b]*")):
        names = [f"{place}/{number}" for number in range(20)]
        for number, name in enumerate(names):
            write_file(name, f"content {number}".encode())
        assert read_files(names[::-1]) == [f"content {number}".encode() for number in reversed(range(20))]
        assert read_files([]) == []
        with pytest.raises(FileNotFoundError):
            read_files([*names, f"{place}/none"])


def test_files_are_stored_together(s3: str, tmp_path: Path) -> None:
    for place in (s3, str(tmp_path / "a[b]*")):
        contents = {f"{place}/several/{number}": f"content {number}".encode() for number in range(20)}
        write_files(contents)
        write_files({})
        assert read_files([*contents]) == [*contents.values()]


def test_a_file_is_replaced_whole(s3: str, tmp_path: Path) -> None:
    for place in (s3, str(tmp_path)):
        write_file(f"{place}/folder/file", b"first")
        write_file(f"{place}/folder/file", b"second")
        assert read_files([f"{place}/folder/file"]) == [b"second"]
    assert os.listdir(tmp_path / "folder") == ["file"]


def test_what_cannot_be_written_leaves_no_rest(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_file(str(tmp_path / "taken"), b"content")
    assert os.listdir(tmp_path) == ["taken"]


def creations(url: str, name: str, start: Barrier, told: Queue[list[bool]]) -> None:
    filesystem_of(url)[0].exists(url)
    start.wait(timeout=120)
    told.put([create_file(f"{url}/{number}", name.encode()) for number in range(ROUNDS)])


def test_of_two_that_create_a_file_one_does(s3: str) -> None:
    start, told = SPAWN.Barrier(2), SPAWN.Queue()
    processes = [SPAWN.Process(target=creations, args=(s3, name, start, told)) for name in ("one", "two")]
    for process in processes:
        process.start()
    first, second = [told.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert [sum(pair) for pair in zip(first, second, strict=True)] == [1] * ROUNDS


def test_a_model_file_at_a_url_is_checked_before_it_is_used(s3: str, tmp_path: Path) -> None:
    lake = Lake(s3, {}, tmp_path)
    sha256 = lake.save_file(b"a model")
    assert lake.load_file(sha256) == b"a model"
    write_file(f"{s3}/model_files/{sha256}.skops", b"b model")
    with pytest.raises(DigestError, match="restore the file"):
        lake.load_file(sha256)
    with pytest.raises(DigestError, match="found no file there"):
        lake.load_file("0" * 64)


def test_a_source_at_a_url_is_read_with_its_digest_and_seen_to_change(s3: str, tmp_path: Path) -> None:
    text = b"day,rides\n2011-01-01,5\n2011-02-01,7\n"
    for place in (s3, str(tmp_path)):
        write_file(f"{place}/rides.csv", text)
    here, there = (
        reader_for(f"{place}/rides.csv", columns=("day", "rides"), date_column="day") for place in (tmp_path, s3)
    )
    assert there.read().frame.equals(here.read().frame)
    assert (there.origin().version, there.origin().files) == (here.origin().version, here.origin().files)
    assert there.origin().uri == f"{s3}/rides.csv"
    assert there.span() == ("2011-01", "2011-02")
    before = there.fingerprint()
    assert before == there.fingerprint() != ""
    write_file(f"{s3}/rides.csv", text + b"2011-03-01,9\n")
    assert there.fingerprint() != before
    assert there.span() == ("2011-01", "2011-03")
    with pytest.raises(DataError, match="nothing there"):
        reader_for(f"{s3}/none.csv", columns=("day", "rides"), date_column="day").read()


@pytest.mark.parametrize(
    ("mode", "mine"), [(0o700, True), (0o755, True), (0o775, True), (0o777, False), (0o757, False)]
)
def test_a_folder_is_of_this_user_where_no_other_can_write(tmp_path, mode, mine):
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake").chmod(mode)
    assert is_of_this_user(str(tmp_path / "lake")) is mine


def test_a_place_elsewhere_is_nobodys_alone():
    assert not is_of_this_user("s3://bucket/lake")
