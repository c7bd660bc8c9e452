"""Sources that somebody made to do harm: each is refused by one bounded line that names it, before it fills memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bikes_assets.core.errors import DataError
from bikes_assets.demand.source import _out_of_range
from bikes_assets.storage.sources.dvc import read_pointer
from bikes_assets.storage.sources.formats import Limits
from bikes_assets.storage.sources.readers import reader_for

COLUMNS = ("day", "rentals")
GOOD = b"day,rentals\n2011-01-01,16\n"
LIMITS = Limits(max_bytes=8_000_000)
LONG = "2011-01-01" + "x" * 2_000_000
ROWS = 200
"""So many rows of a long text are 400 MB: 50 times what is allowed."""


def parquet(day: Any, names: tuple[str, ...] = COLUMNS, rows: int = ROWS, **options: Any) -> bytes:
    sink = io.BytesIO()
    table = pa.table([day, pa.array(range(rows))], names=[*names])
    pq.write_table(table, sink, compression="zstd", write_statistics=False, **options)
    return sink.getvalue()


def repeated(type_: pa.DataType, value: Any = LONG) -> pa.Array:
    """Return one value in each row, which is held once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * ROWS, pa.int32()), pa.array([value], type_))


def dictionary(type_: pa.DataType, value: Any = LONG) -> Callable[[], bytes]:
    options = {"use_dictionary": ["day"], "dictionary_pagesize_limit": 1 << 30}
    return lambda: parquet(repeated(type_, value).dictionary_decode(), **options)


def categories(type_: pa.DataType, value: Any = LONG) -> Callable[[], bytes]:
    return lambda: parquet(repeated(type_, value))


def prefixes() -> bytes:
    values = repeated(pa.string()).dictionary_decode()
    return parquet(values, use_dictionary=False, column_encoding={"day": "DELTA_BYTE_ARRAY"})


def nested(depth: int) -> bytes:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return parquet(pa.array([value]), rows=1)


def long_list() -> bytes:
    return parquet(pa.array([[0] * 5000] * ROWS))


def damaged(place: int) -> Callable[[], bytes]:
    content = parquet(pa.array(["2011-01-01"] * ROWS))

    def change() -> bytes:
        at = place % len(content)
        return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]

    return change


def damaged_footer() -> bytes:
    content = parquet(pa.array(["2011-01-01"] * ROWS))
    return content[:-500] + b"\xff" * 492 + content[-8:]


def header(names: bytes) -> Callable[[], bytes]:
    return lambda: names + b"\n" + b"1," * names.count(b",") + b"1\n"


ZEROS = b"day,rentals\n" + b"\0" * 50_000_000
PLAIN = b"day,rentals\n" + b"2011-01-01,16\n" * 3_000_000
SOURCES: dict[str, Callable[[], bytes]] = {
    "text in a dictionary": dictionary(pa.string()),
    "large text in a dictionary": dictionary(pa.large_string()),
    "bytes in a dictionary": dictionary(pa.binary(), LONG.encode()),
    "fixed bytes in a dictionary": dictionary(pa.binary(2_000_010), LONG.encode()),
    "categories of text": categories(pa.string()),
    "categories of large text": categories(pa.large_string()),
    "categories of bytes": categories(pa.binary(), LONG.encode()),
    "text by its prefix": prefixes,
    "long lists": long_list,
    "lists in lists": lambda: nested(50),
    "a name of 5 MB": lambda: parquet(pa.array(["2011-01-01"] * ROWS), ("d" * 5_000_000, "rentals")),
    "a name that acts": lambda: parquet(pa.array(["2011-01-01"] * ROWS), ("\x1b]0;x\x07", "rentals")),
    "ten thousand columns": lambda: _wide(10_000),
    "more rows than the limit": lambda: parquet(pa.array(["2011-01-01"] * 1001), rows=1001),
    "the beginning alone": lambda: b"PAR1",
    "no footer": lambda: b"PAR1" + b"\0" * 100 + b"PAR1",
    "a footer beyond the file": lambda: b"PAR1" + b"\xff" * 4 + b"\xff\xff\xff\x7f" + b"PAR1",
    "damaged footer": damaged_footer,
    "damaged footer's length": damaged(-8),
    "damaged page": damaged(10),
    "gzip of zeros": lambda: gzip.compress(ZEROS),
    "gzip of rows": lambda: gzip.compress(PLAIN),
    "bzip2 of zeros": lambda: bz2.compress(ZEROS),
    "xz of zeros": lambda: lzma.compress(ZEROS, preset=0),
    "xz that wants memory": lambda: lzma.compress(GOOD, preset=9)[:-4],
    "zstd of rows": lambda: pa.compress(PLAIN, "zstd", asbytes=True),
    "packed twice": lambda: gzip.compress(gzip.compress(GOOD)),
    "cut off": lambda: gzip.compress(GOOD)[:-9],
    "a field of the header beyond the reader's": header(b"day,rentals," + b"x" * 200_000),
    "a header of 5 MB": header(b"day,rentals," + b"x" * 5_000_000),
    "a header of a million fields": header(b"day,rentals" + b"," * 2_000_000),
    "a column twice": header(b"day,rentals,day"),
    "a column that acts": header(b"day,rentals,x\x1b[2J\x1b]0;x\x07"),
    "a column on two lines": header(b'day,rentals,"x\ny"'),
    "no end of the line": lambda: b"day,rentals" + b"x" * 5_000_000,
    "a quotation without its end": lambda: GOOD + b'"' + b"x" * 5_000_000 + b"\n",
    "a field of 5 MB": lambda: GOOD + b"2011-01-01,1," + b"x" * 5_000_000 + b"\n",
    "NUL": lambda: GOOD + b"2011-01-01,\0\n",
    "bytes that are no text": lambda: GOOD + b"2011-01-01,\xff\xfe\n",
    "carriage returns": lambda: GOOD + b"2011-01-01,1\r2011-01-02,2\n",
    "blank lines": lambda: GOOD + b"\n" * 1000,
    "nothing": lambda: b"",
    "a million fields": lambda: GOOD + b"," * 1_000_000 + b"\n",
    "YAML": lambda: b"a: &a [x]\nb: *a\n",
    "pickle": lambda: b"\x80\x04cos\nsystem\n(S'true'\ntR.",
}
assert len(SOURCES) >= 40


def _wide(count: int) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({f"c{number}": pa.array([1]) for number in range(count)}), sink)
    return sink.getvalue()


KEPT: list[pa.MemoryPool] = []


@contextmanager
def allocated() -> Iterator[Callable[[], int]]:
    """Give what Arrow has allocated at most, in bytes."""
    before = pa.default_memory_pool()
    counting = pa.proxy_memory_pool(before)
    KEPT.append(counting)  # what was allocated from it is given back to it, later than here
    pa.set_memory_pool(counting)
    try:
        yield lambda: counting.max_memory() or 0
    finally:
        pa.set_memory_pool(before)


@pytest.mark.parametrize("how", SOURCES)
def test_it_is_refused_by_one_bounded_line_before_it_fills_memory(tmp_path: Path, how: str) -> None:
    file = tmp_path / "source"
    file.write_bytes(SOURCES[how]())
    limits = Limits(max_bytes=LIMITS.max_bytes, max_rows=1000)
    reader = reader_for(str(file), columns=COLUMNS, date_column="day", limits=limits)
    with allocated() as most, pytest.raises(DataError, match=r"^source") as caught:
        reader.read()
    assert most() < 60_000_000
    told = str(caught.value)
    assert told.isprintable()
    assert len(told) < 4_400


def test_a_header_is_refused_before_it_is_taken_apart(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"day,rentals" + b"," * 2_000_000 + b"\n")
    told = r"^source, row 1: found a header of 2000011 bytes, expected at most 1048576$"
    with pytest.raises(DataError, match=told):
        reader_for(str(tmp_path / "source"), columns=COLUMNS, date_column="day").read()


@pytest.mark.parametrize("type_", ["string", "large_string", "string_view", "binary", "decimal", "fixed"])
@pytest.mark.parametrize("encoding", ["dictionary", "PLAIN", "DELTA_BYTE_ARRAY"])
def test_honest_rows_are_read_however_they_are_encoded(tmp_path: Path, type_: str, encoding: str) -> None:
    days = [f"2011-{1 + number % 12:02}-01" for number in range(3000)]
    days[7] = None  # pyright: ignore[reportArgumentType]
    kinds = {"binary": pa.binary(), "fixed": pa.binary(10), "string": pa.string(), "large_string": pa.large_string()}
    array = pa.array(days).cast(pa.string_view()) if type_ == "string_view" else None
    if type_ in ("binary", "fixed"):
        array = pa.array([day and day.encode() for day in days], kinds[type_])
    elif type_ == "decimal":
        array = pa.array([None if day is None else int(day[5:7]) for day in days]).cast(pa.decimal128(25, 2))
    array = array if array is not None else pa.array(days, kinds[type_])
    how: dict[str, Any] = {"use_dictionary": True}
    if encoding != "dictionary":
        how = {"use_dictionary": False, "column_encoding": {"day": encoding}}
    table = pa.table({"day": array, "rentals": range(3000)})
    try:
        pq.write_table(table, tmp_path / "x.parquet", row_group_size=1100, **how)
    except OSError:
        pytest.skip("Arrow does not write this")
    read = reader_for(str(tmp_path / "x.parquet"), columns=COLUMNS, date_column="day").read().frame
    assert read["rentals"].tolist() == list(range(3000))
    assert read["day"].isna().tolist() == [number == 7 for number in range(3000)]
    assert read["day"].dropna().astype(str).tolist() == [
        f"{int(day[5:7])}.00" if type_ == "decimal" else day for day in days if day
    ]


POINTERS = {
    "aliases": "a: &a [x,x]\nb: &b [*a,*a]\nouts:\n- md5: *b\n  path: hour.csv\n",
    "an alias of itself": "outs: &a\n- md5: *a\n  path: hour.csv\n",
    "merged": "a: &a {md5: x}\nouts:\n- <<: *a\n  path: hour.csv\n",
    "deep": "outs: " + "[" * 30_000,
    "deep maps": "outs: " + "{a: " * 10_000,
    "deep blocks": "".join(" " * depth + "a:\n" for depth in range(300)),
    "large": "# " + "x" * 70_000,
    "an object": "outs: !!python/object/apply:os.system [true]\n",
    "a number": "outs:\n- md5: 1e999\n  path: hour.csv\n",
    "another folder": "outs:\n- md5: ../../../etc/passwd\n  path: hour.csv\n",
    "a line more": f'outs:\n- md5: "{"0" * 32}\\n"\n  path: hour.csv\n',
    "NUL": "outs:\n- md5: \0\n",
    "latin-1": b"outs:\n- md5: \xe9\n",
    "a document more": "outs: []\n---\nouts: []\n",
    "a list": "- outs",
    "nothing": "",
}


@pytest.mark.parametrize("how", POINTERS)
def test_a_pointer_that_is_none_is_refused_at_once(tmp_path: Path, how: str) -> None:
    text = POINTERS[how]
    file = tmp_path / "hour.csv.dvc"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=r"hour\.csv\.dvc: found (no MD5 of hour\.csv \(\w+\)|a large file), expected"):
        read_pointer(file)


@pytest.mark.parametrize("how", ["a pipe", "large", "a folder"])
def test_the_settings_of_dvc_are_a_small_plain_file(tmp_path: Path, how: str) -> None:
    (tmp_path / "hour.csv").write_bytes(GOOD)
    (tmp_path / "hour.csv.dvc").write_text(f"outs:\n- md5: {'a' * 32}\n  hash: md5\n  path: hour.csv\n")
    config = tmp_path / ".dvc" / "config"
    config.parent.mkdir()
    match how:
        case "a pipe":
            os.mkfifo(config)
        case "a folder":
            config.mkdir()
        case _:
            config.write_bytes(b"#" * 100_000)
    told = "a large file" if how == "large" else "no plain file"
    with pytest.raises(DataError, match=rf"\.dvc/config: found {told}, expected"):
        reader_for(str(tmp_path / "hour.csv"), columns=COLUMNS, date_column="day").fingerprint()


def test_of_many_bad_rows_each_rule_tells_one(tmp_path: Path) -> None:
    """As many cases as there are rows and rules would take gigabytes."""
    import pandas as pd

    shipped = Path(__file__).parents[3] / "data" / "raw" / "hour.csv"
    rows = pd.read_csv(shipped, nrows=2000).astype({"dteday": "string[pyarrow]", "weathersit": "Int64"})
    rows.loc[3:, ["temp", "hum", "windspeed"]] = 7.5
    rows.loc[5:, "hr"] = 24
    cases = [(fault.column, fault.position) for fault in _out_of_range(rows)]
    assert sorted(cases) == [("hr", 5), ("hum", 3), ("temp", 3), ("windspeed", 3)]


MILLION = """
import sys
from bikes_assets.app import state as present
from bikes_assets.core.errors import DataError

try:
    present.digests_of("rental_records", sys.argv[1], None)
except DataError as error:
    # not what getrusage tells: that of a child begins with its parent's
    (peak,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(int(peak) // 1024, len(str(error)), error)
"""


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("temp", "99.5", "million.csv, row 2, column temp: found 99.5, expected a number, 0..1"),
        (
            "dteday",
            "2011-13-45",
            "million.csv, row 2, column dteday: found '2011-13-45', expected a date as YYYY-MM-DD",
        ),
        ("hr", "3", "million.csv, row 3, column hr: found 2011-01-01 3 a second time, expected one row an hour"),
    ],
)
def test_a_million_bad_rows_are_refused_in_little_memory(tmp_path: Path, column: str, value: str, told: str) -> None:
    # Given
    source = tmp_path / "million.csv"
    header, row = Path(__file__).parents[3].joinpath("data/raw/hour.csv").read_text().splitlines()[:2]
    fields = row.split(",")
    fields[header.split(",").index(column)] = value
    rest = ",".join(fields[1:])
    source.write_text("\n".join([header, *(f"{number},{rest}" for number in range(1, 1_000_001))]))
    # When
    done = subprocess.run([sys.executable, "-c", MILLION, str(source)], capture_output=True, text=True, check=True)
    # Then
    megabytes, length, message = done.stdout.strip().split(" ", 2)
    assert message == told
    assert int(length) == len(told)
    assert int(megabytes) < 800
