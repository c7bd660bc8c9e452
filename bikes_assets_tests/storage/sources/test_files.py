"""Files of a source: whatever lies in a folder is read, or refused by name; and its content tells what it holds."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import socket
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from bikes_assets.core.errors import DataError
from bikes_assets.storage.sources.readers import FileReader, Limits, reader_for
from bikes_assets_tests.repositories import git

COLUMNS = ("day", "hour", "rentals")
GOOD = b"day,hour,rentals\n2011-01-01,0,16\n2011-02-01,1,40\n"
OTHER = b"day,hour,rentals\n2011-03-01,5,7\n"
ALONE = "expected files alone that hold CSV or Parquet; move what is no data away, or begin its name with a dot"
KINDS = "expected CSV or Parquet, plain or packed by gzip, bzip2, xz, zstd or lz4"


def reader(source: object, **settings: Any) -> FileReader:
    made = reader_for(str(source), columns=COLUMNS, date_column="day", **settings)
    assert isinstance(made, FileReader)
    return made


def refusal(source: object, **settings: Any) -> str:
    """Return the error, which is the same for all that parses the files."""
    said: set[str] = set()
    for ask in ("read", "span"):
        with pytest.raises(DataError) as caught:
            getattr(reader(source, **settings), ask)()
        said.add(str(caught.value))
    (message,) = said
    return message


def days(source: object) -> list[str]:
    return [str(day) for day in reader(source).read().frame["day"]]


def parquet(content: bytes = GOOD, **options: Any) -> bytes:
    table = pa.csv.read_csv(pa.BufferReader(content))
    sink = io.BytesIO()
    pq.write_table(table.set_column(0, "day", table["day"].cast(pa.string())), sink, **options)
    return sink.getvalue()


def arrow_packed(codec: str) -> Callable[[bytes], bytes]:
    def pack(content: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            stream.write(content)
        return sink.getvalue().to_pybytes()

    return pack


NAMES = {
    "rentals.csv": GOOD,
    "excel-utf8.csv": b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n"),
    "RENTALS.CSV": GOOD,
    "RENTALS.CSV.GZ": gzip.compress(GOOD),
    "rentals.csv.gzip": gzip.compress(GOOD),
    "rentals.csv.bz2": bz2.compress(GOOD),
    "rentals.csv.xz": lzma.compress(GOOD),
    "rentals.csv.zst": arrow_packed("zstd")(GOOD),
    "rentals.csv.lz4": arrow_packed("lz4")(GOOD),
    "rentals.gz": gzip.compress(GOOD),
    "named-gz-by-mistake.csv.gz": GOOD,
    "packed-without-a-word.csv": gzip.compress(GOOD),
    "rentals.txt": GOOD,
    "download": GOOD,
    "rentals.parquet": parquet(),
    "RENTALS.PARQUET": parquet(),
    "rentals.pq": parquet(),
    "rentals.parq": parquet(),
    "rentals.snappy.parquet": parquet(compression="snappy"),
    "rentals.parquet.gzip": parquet(compression="gzip"),
    "rentals.parquet.gz": gzip.compress(parquet()),
    "part-00000": parquet(),
    "parquet-named.csv": parquet(),
}
"""Names that files have in the wild, with what they hold: always the same rows."""


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_read_whatever_its_name_alone_and_in_a_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(NAMES[name])
    for source in (tmp_path / name, tmp_path, f"file://{tmp_path / name}"):
        raw = reader(source).read()
        assert [str(day) for day in raw.frame["day"]] == ["2011-01-01", "2011-02-01"]
        assert [int(value) for value in raw.frame["rentals"]] == [16, 40]
        assert reader(source).span() == ("2011-01", "2011-02")
        assert reader(source).origin() == raw.origin
        assert raw.origin.kind == ("parquet" if b"PAR1" in NAMES[name] or "parquet.gz" in name else "csv")
        assert raw.origin.files[0][0] == name


def zipped() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:  # stored: the header stands in it as it is
        archive.writestr("hour.csv", GOOD)
    return sink.getvalue()


def tarred() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        member = tarfile.TarInfo("hour.csv")
        member.size = len(GOOD)
        archive.addfile(member, io.BytesIO(GOOD))
    return sink.getvalue()


FOREIGN = {
    "a zip archive or Excel workbook": zipped(),
    "a tar archive": tarred(),
    "a tar archive packed by gzip": gzip.compress(tarred()),
    "an Arrow (Feather) file": b"ARROW1\0\0rest",
    "an ORC file": b"ORC\x11\0",
    "an Avro file": b"Obj\x01\x04",
    "a SQLite database": b"SQLite format 3\0rest",
    "HTML or XML": b"\n<!DOCTYPE html><title>Log in</title>",
    "JSON": b'{"day": "2011-01-01"}',
    "encrypted Parquet": b"PARE....PARE",
}


@pytest.mark.parametrize("what", FOREIGN)
@pytest.mark.parametrize("name", ["rentals.csv", "rentals.xlsx", "rentals.parquet", "download"])
def test_content_of_another_kind_is_called_what_it_is(tmp_path: Path, what: str, name: str) -> None:
    (tmp_path / name).write_bytes(FOREIGN[what])
    assert refusal(tmp_path / name) == f"{name}: found {what}, {KINDS}"


def test_content_of_no_known_kind_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "rentals.csv").write_bytes(GOOD)
    for name, content, said in (
        ("LICENSE", b"Do what you like.\n", "content of no known kind, b'Do what '..."),
        ("README.md", b"# Rentals\n", "content of no known kind, b'# Rental'..."),
        ("empty.txt", b"", "an empty file, expected a header and rows"),
        ("x.bin.gz", gzip.compress(b"\0\1\2"), "content of no known kind, b'\\x00\\x01\\x02'... packed by gzip"),
    ):
        (tmp_path / name).write_bytes(content)
        assert f"{name}: found {said}" in refusal(tmp_path)
        (tmp_path / name).unlink()
    assert days(tmp_path) == ["2011-01-01", "2011-02-01"]


@pytest.mark.parametrize(
    ("name", "pack"),
    {"gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zstd": arrow_packed("zstd")}.items(),
)
def test_what_is_packed_is_bounded_and_damage_is_told(tmp_path: Path, name: str, pack: Any) -> None:
    file = tmp_path / "rentals.csv"
    file.write_bytes(pack(GOOD + b"2011-01-01,0,16\n" * 1000)[:-12])
    with pytest.raises(DataError, match=rf"rentals\.csv: found damaged {name} \(.*\), expected a whole {name} file"):
        reader(file).read()
    file.write_bytes(pack(GOOD + b"0" * 3_000_000))
    with pytest.raises(DataError, match="found more than 100000 bytes"):
        reader(file, limits=Limits(max_bytes=100_000)).read()


def test_csv_and_parquet_in_one_folder_are_refused_with_both_names(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(GOOD)
    (tmp_path / "b.csv").write_bytes(GOOD)
    (tmp_path / "c.parquet").write_bytes(parquet())
    found = "CSV (a.csv) and Parquet (c.parquet) together"
    assert refusal(tmp_path) == f"{tmp_path.name}: found {found}, expected a folder of one of them"


# --- links


def test_a_link_is_read_like_what_it_leads_to(tmp_path: Path) -> None:
    """The case that was found: of two months, the one that was a link was left out without a word."""
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "in"
    elsewhere.mkdir()
    folder.mkdir()
    (folder / "a.csv").write_bytes(GOOD)
    (elsewhere / "b").write_bytes(OTHER)
    (elsewhere / "chained").symlink_to("b")
    (folder / "b.csv").symlink_to(elsewhere / "chained")
    (tmp_path / "link").symlink_to(folder)
    for source in (folder, tmp_path / "link", f"file://{folder}", f"local://{folder}"):
        assert days(source) == ["2011-01-01", "2011-02-01", "2011-03-01"]
        assert reader(source).span() == ("2011-01", "2011-03")
    assert days(folder / "b.csv") == ["2011-03-01"]
    assert [name for name, _, _ in reader(folder).origin().files] == ["a.csv", "b.csv"]


def test_a_mounted_volume_of_kubernetes_is_read_and_its_replacement_seen(tmp_path: Path) -> None:
    """Its files are links through `..data`, a link that is replaced at once for all of them."""
    for moment, content in (("..2024_01", GOOD), ("..2024_02", GOOD.replace(b"16", b"17"))):
        (tmp_path / moment).mkdir()
        (tmp_path / moment / "rentals.csv").write_bytes(content)
        os.utime(tmp_path / moment / "rentals.csv", ns=(1, 1))
    (tmp_path / "..data").symlink_to("..2024_01")
    (tmp_path / "rentals.csv").symlink_to("..data/rentals.csv")
    before = reader(tmp_path).fingerprint()
    assert [int(value) for value in reader(tmp_path).read().frame["rentals"]] == [16, 40]
    (tmp_path / "new").symlink_to("..2024_02")
    (tmp_path / "new").rename(tmp_path / "..data")
    assert [int(value) for value in reader(tmp_path).read().frame["rentals"]] == [17, 40]
    assert reader(tmp_path).fingerprint() != before


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(GOOD)
    (tmp_path / "b.csv").symlink_to(tmp_path / "gone.csv")
    (tmp_path / "c.csv").symlink_to("c.csv")
    broken = f"a link to '{tmp_path}/gone.csv', which does not exist"
    loop = "a link to 'c.csv', which leads back to itself"
    found = f"'b.csv' ({broken}), 'c.csv' ({loop}) in the folder"
    assert refusal(tmp_path) == f"{tmp_path}: found {found}, {ALONE}"
    expected = "expected a file, or a folder of files, that hold CSV or Parquet"
    assert refusal(tmp_path / "b.csv") == f"{tmp_path / 'b.csv'}: found {broken}, {expected}"
    assert refusal(tmp_path / "c.csv") == f"{tmp_path / 'c.csv'}: found {loop}, {expected}"


# --- what is no file


def folder(place: Path) -> None:
    place.mkdir()


def link_to_folder(place: Path) -> None:
    (place.parent / ".elsewhere").mkdir()
    place.symlink_to(place.parent / ".elsewhere")


def hive(place: Path) -> None:
    place = place.with_name("month=2011-01")
    place.mkdir()
    (place / "part-0.parquet").write_bytes(parquet())


def pipe(place: Path) -> None:
    os.mkfifo(place)


def listening(place: Path) -> None:
    here = os.getcwd()
    os.chdir(place.parent)  # a socket's path may not be long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(place.name)
    os.chdir(here)


def device(place: Path) -> None:
    place.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "name", "what"),
    [
        (folder, "x.csv", "a folder"),
        (link_to_folder, "x.csv", "a folder"),
        (hive, "month=2011-01", "a folder"),
        (pipe, "x.csv", "a named pipe"),
        (listening, "x.csv", "a socket"),
        (device, "x.csv", "a device"),
    ],
)
def test_what_is_no_file_is_refused_by_name_and_never_waited_for(
    tmp_path: Path, make: Any, name: str, what: str
) -> None:
    (tmp_path / "rentals.csv").write_bytes(GOOD)
    make(tmp_path / "x.csv")
    program = (
        "import sys; from bikes_assets.storage.sources.readers import reader_for\n"
        "for source in sys.argv[1:]:\n"
        "    try: reader_for(source, columns=('day',), date_column='day').read()\n"
        "    except Exception as error: print(error)\n"
    )
    sources = [str(tmp_path), *([str(tmp_path / name)] if what not in ("a folder",) else [])]
    done = subprocess.run([sys.executable, "-c", program, *sources], capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    assert lines[0] == f"{tmp_path}: found {name!r} ({what}) in the folder, {ALONE}"
    assert lines[1:] == [
        f"{source}: found {what}, expected a file, or a folder of files, that hold CSV or Parquet"
        for source in sources[1:]
    ]


def test_a_long_list_of_what_is_refused_is_cut(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / str(number)).mkdir()
    assert "'4' (a folder) and 4 more in the folder" in refusal(tmp_path)


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.csv")).write_bytes(GOOD)
    except OSError:
        pytest.skip("this file system takes no such name")
    assert "'\\udcff.csv' (a name that is not UTF-8) in the folder" in refusal(tmp_path)


def test_only_hidden_files_markers_of_spark_and_pointers_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "rentals.csv").write_bytes(GOOD)
    left_out = (
        ".hidden.csv",
        "._SUCCESS.crc",
        "_SUCCESS",
        "_committed_123",
        "_started_123",
        "_metadata",
        "_common_metadata",
    )
    for name in left_out:
        (tmp_path / name).write_bytes(b"?")
    (tmp_path / ".git").mkdir()
    assert days(tmp_path) == ["2011-01-01", "2011-02-01"]
    assert [name for name, _, _ in reader(tmp_path).origin().files] == ["rentals.csv"]
    # And nothing that only looks like it
    for name in ("_temporary", "_delta_log"):
        (tmp_path / name).mkdir()
        assert f"{name!r} (a folder)" in refusal(tmp_path)
        (tmp_path / name).rmdir()
    for name in ("SUCCESS", "_other.csv"):
        (tmp_path / name).write_bytes(b"?")
        assert f"{name}" in refusal(tmp_path)
        (tmp_path / name).unlink()


def test_pointers_of_dvc_are_no_data(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".dvc").mkdir()
    data = tmp_path / "rentals"
    data.mkdir()
    (data / "a.csv").write_bytes(GOOD)
    import hashlib

    md5 = hashlib.md5(GOOD).hexdigest()
    (data / "a.csv.dvc").write_text(f"outs:\n- md5: {md5}\n  hash: md5\n  size: {len(GOOD)}\n  path: a.csv\n")
    assert days(data) == ["2011-01-01", "2011-02-01"]
    assert reader(data).origin().tracked["a.csv"]["md5"] == md5


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".hidden.csv").write_bytes(GOOD)
    found = "a folder without a file to read, expected files that hold CSV or Parquet"
    assert refusal(tmp_path) == f"{tmp_path}: found {found}"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_what_this_user_may_not_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(GOOD)
    (tmp_path / "a.csv").chmod(0)
    expected = (
        "found access denied, expected the right to read it; look at permissions, credentials, or the URL's signature"
    )
    assert refusal(tmp_path) == f"{tmp_path}, a.csv: {expected}"
    assert refusal(tmp_path / "a.csv") == f"{tmp_path / 'a.csv'}: {expected}"


# --- elsewhere


def test_a_folder_in_memory_is_held_to_the_same_rule() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/held/a.csv": GOOD, "/held/b.pq": b"", "/held/_SUCCESS": b"", "/held/.hidden": b"?"})
    assert "b.pq: found damaged Parquet" in refusal("memory://held")
    memory.rm("/held/b.pq")
    memory.pipe({"/held/b.csv.gz": gzip.compress(OTHER)})
    assert days("memory://held") == days("memory://held/") == ["2011-01-01", "2011-02-01", "2011-03-01"]
    memory.pipe({"/held/month=2011-04/c.csv": OTHER})
    assert refusal("memory://held") == f"memory://held: found 'month=2011-04' (a folder) in the folder, {ALONE}"
    memory.rm("/held", recursive=True)


def test_a_folder_at_s3_is_held_to_the_same_rule(s3: str) -> None:
    from bikes_assets.storage.files import filesystem_of

    store, path = filesystem_of(s3)
    store.pipe({f"{path}/in/a.csv": GOOD, f"{path}/in/b.CSV.GZ": gzip.compress(OTHER), f"{path}/in/_SUCCESS": b""})
    store.touch(f"{path}/in/")  # how the console of a store makes a folder
    assert days(f"{s3}/in") == days(f"{s3}/in/") == ["2011-01-01", "2011-02-01", "2011-03-01"]
    store.pipe({f"{path}/in/deeper/c.csv": OTHER})
    assert refusal(f"{s3}/in") == f"{s3}/in: found 'deeper' (a folder) in the folder, {ALONE}"


def test_a_file_in_an_archive_is_read_by_a_chained_url(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "rentals.zip", "w") as archive:
        archive.writestr("hour.csv", GOOD)
        archive.writestr("parts/a.csv", GOOD)
        archive.writestr("parts/b.csv", OTHER)
    source = f"zip://hour.csv::{tmp_path}/rentals.zip"
    origin = reader(source).read().origin
    assert (origin.name, origin.uri, origin.files[0][0]) == ("hour.csv", source, "hour.csv")
    assert days(f"zip://parts::file://{tmp_path}/rentals.zip") == ["2011-01-01", "2011-02-01", "2011-03-01"]
    nothing = "found nothing there, expected a file or folder that can be read; look at the path or URL"
    for gone in (f"zip://none.csv::{tmp_path}/rentals.zip", f"zip://hour.csv::{tmp_path}/none.zip"):
        assert refusal(gone) == f"{gone}: {nothing}"
    (tmp_path / "text.zip").write_bytes(GOOD)
    assert "found BadZipFile: File is not a zip file" in refusal(f"zip://hour.csv::{tmp_path}/text.zip")


def test_a_path_may_hold_what_means_something_in_urls(tmp_path: Path) -> None:
    for name in ("a::b", "what?.csv", "50%25.csv", "#1.csv", "[2011].csv", "zwei Wörter.csv", "*.csv"):
        place = tmp_path / name / "hour.csv"
        place.parent.mkdir()
        place.write_bytes(GOOD)
        (place.parent / name).write_bytes(GOOD)
        assert days(place) == ["2011-01-01", "2011-02-01"]
        for source in (place.parent / name, f"file://{place.parent / name}"):
            if "::" not in str(source) or "://" not in str(source):
                assert reader(source).origin().name == name
        assert len(days(place.parent)) == 4
