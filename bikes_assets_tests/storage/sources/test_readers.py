"""Readers: what is read, what is refused and in which words, and what a reader says of its origin."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from bikes_assets.core.errors import DataError, DigestError, SettingsError
from bikes_assets.storage.sources.readers import Limits, Raw, Reader, reader_for

COLUMNS = ("day", "hour", "rentals")
HEADER = b"day,hour,rentals\n"
ROWS = b"2011-01-01,0,16\n2011-01-01,1,40\n2012-12-31,23,\n"
GOOD = HEADER + ROWS
SHIPPED = Path(__file__).parents[3] / "data" / "raw" / "hour.csv"


def reader(source: object, **settings: Any) -> Reader:
    return reader_for(str(source), columns=COLUMNS, date_column="day", **settings)


def written(folder: Path, content: bytes, name: str = "rentals.csv") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def refusal(source: object, **settings: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        reader(source, **settings).read()
    return caught.value


def typed_table(rentals: list[int | None]) -> pa.Table:
    rows = len(rentals)
    return pa.table({"day": ["2011-01-01"] * rows, "hour": list(range(rows)), "rentals": pa.array(rentals, pa.int64())})


def parquet(folder: Path, table: pa.Table, name: str = "rentals.parquet") -> Path:
    pq.write_table(table, folder / name)
    return folder / name


def execute(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "rentals.db")) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def database(folder: Path) -> str:
    execute(
        folder,
        "create table rentals (day text, hour integer, rentals integer)",
        "insert into rentals values ('2011-01-01', 0, 16), ('2011-01-01', 1, 40), ('2012-12-31', 23, null)",
    )
    return f"sqlite:///{folder / 'rentals.db'}"


def test_text_is_read_as_it_stands(tmp_path: Path) -> None:
    # Given blanks, NA, leading zeros and spaces in a file with a byte order mark and CRLF
    path = written(tmp_path, b'\xef\xbb\xbfday,hour,rentals\r\nNA,01, 1\r\n"a,b",,null\r\n')
    # When it is read, then every field is the text between the commas
    frame = reader(path).read().frame
    assert frame.to_numpy().tolist() == [["NA", "01", " 1"], ["a,b", "", "null"]]
    assert [str(dtype) for dtype in frame.dtypes] == ["string[pyarrow]"] * 3


def test_a_last_line_may_lack_its_newline(tmp_path: Path) -> None:
    assert len(reader(written(tmp_path, GOOD.rstrip(b"\n"))).read().frame) == 3


CONVERT = "UTF-8; save it as UTF-8, or convert it by `iconv -f {} -t UTF-8`"
COMMAS = "commas; save it as comma-separated values, with points in numbers"
FAULTS = {
    "empty file": (b"", None, None, "an empty file", "a header and rows"),
    "header only": (HEADER, None, None, "no rows", "at least one"),
    "missing column": (b"day,hour\n1,2\n", 1, "rentals", "no such column", "the columns day, hour, rentals"),
    "extra column": (b"day,hour,rentals,x\n1,2,3,4\n", 1, "x", "an extra column", "the columns day, hour, rentals"),
    "duplicated column": (b"day,hour,rentals,hour\n", 1, "hour", "the column twice", "the columns day, hour, rentals"),
    "misordered column": (b"hour,day,rentals\n1,2,3\n", 1, "hour", "the column out of order", "day here"),
    "endless name": (
        HEADER.rstrip() + b"," + b"x" * 140_000 + b"\n1,2,3,4\n", 1, None,
        "a header that cannot be read (field larger than field limit (131072))", "names of columns",
    ),
    "blank header": (b"\n" + GOOD, 1, "day", "no such column", "the columns day, hour, rentals"),
    "short row": (GOOD + b"2013-01-01,5\n", 5, None, "2 fields", "3 fields"),
    "short row with CRLF": (GOOD.replace(b"\n", b"\r\n") + b"1,2\r\n", 5, None, "2 fields", "3 fields"),
    "long row": (HEADER + b"1,2,3,4\n" + ROWS, 2, None, "4 fields", "3 fields"),
    "blank line": (HEADER + b"1,2,3\n\n4,5,6\n", 3, None, "a blank line", "3 fields"),
    "blank line with CRLF": (b"day,hour,rentals\r\n1,2,3\r\n\r\n4,5,6\r\n", 3, None, "a blank line", "3 fields"),
    "blank last line": (GOOD + b"\n", 5, None, "a blank line", "3 fields"),
    "Latin-1": (GOOD + b"2013-01-01,0,\xe9\n", 5, "rentals", "a byte that is not UTF-8", "UTF-8"),
    "Latin-1 after a quoted comma": (HEADER + b'"a,b",\xe9,1\n', 2, "hour", "a byte that is not UTF-8", "UTF-8"),
    "UTF-16": (GOOD.decode().encode("utf-16"), 1, None, "UTF-16", CONVERT.format("UTF-16")),
    "UTF-16 without mark": (GOOD.decode().encode("utf-16-le"), 1, None, "UTF-16LE", CONVERT.format("UTF-16LE")),
    "UTF-16, high byte first": (GOOD.decode().encode("utf-16-be"), 1, None, "UTF-16BE", CONVERT.format("UTF-16BE")),
    "UTF-32": (GOOD.decode().encode("utf-32"), 1, None, "UTF-32", CONVERT.format("UTF-32")),
    "semicolons": (GOOD.replace(b",", b";"), 1, None, "semicolons between the columns", COMMAS),
    "semicolons after a mark": (b"\xef\xbb\xbf" + GOOD.replace(b",", b";"), 1, None, "semicolons between the columns", COMMAS),
    "tabs": (GOOD.replace(b",", b"\t"), 1, None, "tabs between the columns", COMMAS),
    "vertical bars": (GOOD.replace(b",", b"|"), 1, None, "vertical bars between the columns", COMMAS),
    "NUL": (HEADER + b"1,\x002,3\n", 2, "hour", "a NUL byte", "text"),
    "lone carriage return": (
        HEADER + b"1,2,3\r4,5,6\n", 2, None, "a carriage return within the line", "lines that end in LF or CRLF",
    ),
    "quoted newline": (GOOD + b'"a\nb",1,2\n', 5, None, "a quotation mark without its other", "both on one line"),
    "open quotation": (HEADER + b'1,"2,3\n' + ROWS, 2, None, "a quotation mark without its other", "both on one line"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "row", "column", "found", "expected"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_faulty_text_file_is_refused(
    tmp_path: Path, suffix: str, content: bytes, row: int | None, column: str | None, found: str, expected: str
) -> None:
    name = "rentals" + suffix
    path = written(tmp_path, gzip.compress(content) if suffix.endswith("gz") else content, name)
    error = refusal(path)
    assert (error.file, error.row, error.column, error.found) == (name, row, column, found)
    place = (f", row {row}" if row else "") + (f", column {column}" if column else "")
    assert str(error) == f"{name}{place}: found {found}, expected {expected}"
    # And when only its months are asked for, which they are first, the error is the same
    with pytest.raises(DataError) as caught:
        reader(path).span()
    assert str(caught.value) == str(error)


def test_the_row_is_right_far_down_a_large_file(tmp_path: Path) -> None:
    lines = b"2011-01-01,0,16\n" * 300_000  # more than one block of the parser
    assert refusal(written(tmp_path, HEADER + lines + b"1,2\n")).row == 300_002


@pytest.mark.parametrize("damage", [lambda held: held[:-12], lambda held: held[:20] + b"\0\xff\0" + held[23:]])
def test_a_damaged_gzip_is_refused(tmp_path: Path, damage: Any) -> None:
    error = refusal(written(tmp_path, damage(gzip.compress(GOOD)), "rentals.csv.gz"))
    assert str(error).startswith("rentals.csv.gz: found damaged gzip (")
    assert str(error).endswith("), expected a whole gzip file")


def test_a_gzip_bomb_is_stopped_while_unpacking(tmp_path: Path) -> None:
    # Given 200 MB of zeros in less than 1 MB
    path = written(tmp_path, gzip.compress(b"0" * 200_000_000, 1), "rentals.csv.gz")
    error = refusal(path, limits=Limits(max_bytes=1_000_000))
    assert str(error).startswith("rentals.csv.gz: found more than 1000000 bytes, expected at most 1000000 bytes")


def test_files_beyond_the_limits_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    assert f"found {len(GOOD)} bytes, expected at most 20 bytes" in str(refusal(path, limits=Limits(max_bytes=20)))
    assert "found 3 rows, expected at most 2 rows" in str(refusal(path, limits=Limits(max_rows=2)))
    # Then a folder is held to the same limits as a whole
    written(tmp_path, GOOD, "second.csv")
    assert refusal(tmp_path, limits=Limits(max_bytes=len(GOOD) + 5)).file == "second.csv"
    assert refusal(tmp_path, limits=Limits(max_rows=5)).file == "second.csv"


def test_parquet_is_read_in_its_stored_types(tmp_path: Path) -> None:
    # Given a large integer beside a null, which a float could not hold
    path = parquet(tmp_path, typed_table([9007199254740993, None]))
    frame = reader(path).read().frame
    assert frame["rentals"].tolist() == [9007199254740993, pd.NA]
    assert [str(dtype) for dtype in frame.dtypes] == ["string[pyarrow]", "int64[pyarrow]", "int64[pyarrow]"]


def test_parquet_categories_are_read_as_their_values(tmp_path: Path) -> None:
    table = typed_table([1, 2])
    path = parquet(tmp_path, table.set_column(0, "day", table["day"].dictionary_encode()))
    assert reader(path).read().frame["day"].tolist() == ["2011-01-01", "2011-01-01"]


@pytest.mark.parametrize(
    ("names", "column", "found"),
    [
        (["day", "hour", "x"], "rentals", "no such column"),
        (["hour", "day", "rentals"], "hour", "the column out of order"),
        (["day", "hour", "rentals", "rentals"], "rentals", "the column twice"),
        (["day", "hour", "rentals", "x"], "x", "an extra column"),
    ],
)
def test_parquet_of_other_columns_is_refused(tmp_path: Path, names: list[str], column: str, found: str) -> None:
    path = parquet(tmp_path, pa.Table.from_arrays([pa.array([1])] * len(names), names=names))
    error = refusal(path)
    assert (error.file, error.row, error.column, error.found) == ("rentals.parquet", None, column, found)


def test_parquet_beyond_the_limits_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    # Given 800,000 equal numbers in a few kB
    path = parquet(tmp_path, typed_table([7] * 800_000))
    assert "found 800000 rows, expected at most 1000 rows" in str(refusal(path, limits=Limits(max_rows=1000)))
    # And packed ones, of whose size the footer tells
    pq.write_table(typed_table([7] * 800_000), path, compression="gzip", use_dictionary=False)
    message = str(refusal(path, limits=Limits(max_bytes=5_000_000)))
    assert re.fullmatch(r"rentals\.parquet: found \d+ bytes when unpacked, expected at most 5000000 .*", message), (
        message
    )
    # And long texts that are stored once
    long = pa.table({"day": ["2011-01-01" * 10_000] * 200, "hour": [0] * 200, "rentals": [0] * 200})
    path = parquet(tmp_path, long)
    assert path.stat().st_size < 200_000
    message = str(refusal(path, limits=Limits(max_bytes=5_000_000)))
    assert message.startswith("rentals.parquet: found more than 5000000 bytes when unpacked")


def test_parquet_whose_footer_declares_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    # Given a footer in which the number of rows, 3, is forged to 1,000,003 (zigzag varints of the Thrift format)
    content = parquet(tmp_path, typed_table([1, 2, 3])).read_bytes()
    size = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - size : -8]
    forged_rows = footer.replace(b"\x16\x06\x19", b"\x16\x86\x89\x7a\x19")
    assert forged_rows != footer
    forged = content[: -8 - size] + forged_rows + len(forged_rows).to_bytes(4, "little") + b"PAR1"
    path = written(tmp_path, forged, "rentals.parquet")
    assert pq.read_metadata(path).num_rows == 1_000_003
    # When it is read, then it is an error in the data, at any limit
    assert refusal(path).file == "rentals.parquet"
    assert "found 1000003 rows" in str(refusal(path, limits=Limits(max_rows=1000)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda _held: b"no columns\n",
        lambda _held: b"",
        lambda held: held[:-20],
        lambda held: held[:-40] + b"\xff" * 30 + held[-10:],
        lambda held: held[:4] + b"\xff" * 40 + held[44:],
    ],
    ids=["text", "empty", "truncated", "footer overwritten", "pages overwritten"],
)
def test_what_is_not_a_whole_parquet_file_is_refused(tmp_path: Path, damage: Any) -> None:
    held = parquet(tmp_path, typed_table([1, 2, 3])).read_bytes()
    error = refusal(written(tmp_path, damage(held), "rentals.parquet"))
    assert str(error).startswith("rentals.parquet: found damaged Parquet (")
    assert str(error).endswith("), expected a whole Parquet file")


def test_an_empty_parquet_is_refused(tmp_path: Path) -> None:
    assert str(refusal(parquet(tmp_path, typed_table([])))) == "rentals.parquet: found no rows, expected at least one"


def test_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "none.csv"
    expected = "expected a file or folder that can be read; look at the path or URL"
    assert str(refusal(missing)) == f"{missing}: found nothing there, {expected}"


@pytest.mark.parametrize(
    ("source", "query"), [("", None), ("nowhere://x.csv", None), ("sqlite:///x.db", None), ("x.db", "select 1")]
)
def test_a_source_that_makes_no_sense_is_refused(source: str, query: str | None) -> None:
    with pytest.raises(SettingsError, match="source"):
        reader(source, query=query).read()


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    # Given two files written in the other order
    written(tmp_path, HEADER + b"c,5,6\n", "b.csv")
    written(tmp_path, gzip.compress(HEADER + b"a,1,2\nb,3,4\n"), "a.csv.gz")
    # When the folder is read, then rows know their file and line
    raw = reader(tmp_path).read()
    assert raw.frame["day"].tolist() == ["a", "b", "c"]
    assert [raw.locate(position) for position in range(3)] == [("a.csv.gz", 2), ("a.csv.gz", 3), ("b.csv", 2)]
    assert [name for name, _, _ in raw.origin.files] == ["a.csv.gz", "b.csv"]
    lines = "".join(f"{name} {digest}\n" for name, digest, _ in raw.origin.files)
    assert raw.origin.version == hashlib.sha256(lines.encode()).hexdigest()


def test_files_of_a_folder_agree_in_their_types(tmp_path: Path) -> None:
    # Given a column without any value in one file: it has the type of the other
    empty = typed_table([None]).set_column(2, "rentals", pa.nulls(1))
    parquet(tmp_path, empty, "a.parquet")
    parquet(tmp_path, typed_table([5]), "b.parquet")
    raw = reader(tmp_path).read()
    assert raw.frame["rentals"].tolist() == [pd.NA, 5]
    assert [raw.locate(0), raw.locate(1)] == [("a.parquet", 1), ("b.parquet", 1)]
    # And a float where others hold integers
    parquet(tmp_path, typed_table([5]).set_column(2, "rentals", pa.array([0.5])), "c.parquet")
    error = refusal(tmp_path)
    assert (error.file, error.column, str(error.found)) == ("c.parquet", "rentals", "double")


def test_the_origin_of_a_file_is_the_sha256_of_its_bytes(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    origin = reader(path).origin()
    assert origin.version == hashlib.sha256(GOOD).hexdigest()
    assert (origin.name, origin.kind, origin.size) == ("rentals.csv", "csv", len(GOOD))
    assert origin.uri == f"file://{path}"
    assert origin.files == (("rentals.csv", origin.version, len(GOOD)),)
    # And the shipped file's is a known one
    assert reader(SHIPPED).origin().version == hashlib.sha256(SHIPPED.read_bytes()).hexdigest()


def test_the_origin_after_a_read_is_of_what_was_read(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    used = reader(path)
    version = used.read().origin.version
    written(tmp_path, GOOD + b"2013-01-01,0,1\n")
    assert used.origin().version == version
    assert used.read().origin.version == used.origin().version != version


def test_a_remote_url_is_read() -> None:
    fsspec.filesystem("memory").pipe("/readers/rentals.csv", GOOD)
    raw = reader("memory://readers/rentals.csv").read()
    assert (len(raw.frame), raw.origin.uri, raw.origin.name) == (3, "memory:///readers/rentals.csv", "rentals.csv")


def test_a_query_is_read_in_the_types_of_its_database(tmp_path: Path) -> None:
    raw = reader(database(tmp_path), query="select * from rentals where day <> ':x %' ;").read()
    assert raw.frame["rentals"].tolist() == [16, 40, pd.NA]
    assert str(raw.frame["rentals"].dtype) == "int64[pyarrow]"
    assert raw.locate(2) == ("select * from rentals where day <> ':x %' ;", 3)
    assert raw.origin.kind == "sql"
    assert raw.origin.files == ()


def test_the_version_of_a_query_follows_its_result_and_not_its_order(tmp_path: Path) -> None:
    source, query = database(tmp_path), "select day, hour, rentals from (select * from rentals)"
    version = reader(source, query=query).origin().version
    execute(tmp_path, "update rentals set rowid = 10 - rowid")
    assert reader(source, query=query).origin().version == version
    execute(tmp_path, "update rentals set rentals = 17 where rentals = 16")
    assert reader(source, query=query).origin().version != version


@pytest.mark.parametrize(
    ("query", "row", "column", "found"),
    [
        ("select * from absent", None, None, "OperationalError: no such table: absent"),
        ("selec", None, None, 'OperationalError: near "selec": syntax error'),
        ("select day, hour from rentals", None, "rentals", "no such column"),
        ("select hour, day, rentals from rentals", None, "hour", "the column out of order"),
        ("select * from rentals where 1 = 0", None, None, "no rows"),
        ("select day, hour, case hour when 1 then 'x' else 1 end rentals from rentals", 2, "rentals", "'x'"),
    ],
)
def test_a_faulty_query_is_refused(tmp_path: Path, query: str, row: int | None, column: str | None, found: str) -> None:
    error = refusal(database(tmp_path), query=query)
    assert (error.file, error.row, error.column, error.found) == (query, row, column, found)


def test_a_query_beyond_the_limits_and_a_missing_database_are_refused(tmp_path: Path) -> None:
    source = database(tmp_path)
    refused = refusal(source, query="select * from rentals", limits=Limits(max_rows=2))
    assert "found 3 rows, expected at most 2 rows" in str(refused)
    refused = refusal(source, query="select * from rentals", limits=Limits(max_bytes=10))
    assert "found more than 10 bytes" in str(refused)
    missing = tmp_path / "none.db"
    assert refusal(f"sqlite:///{missing}", query="select 1").found == "no such file"
    assert not missing.exists()


def test_a_message_is_one_line_of_printable_text_and_of_bounded_length(tmp_path: Path) -> None:
    # Given names of columns and files that would speak to a terminal, or fill a log
    odd = written(tmp_path, b"day,hour,rentals,x\x1b]0;title\x07\x1b[2J\xe2\x80\xae\n1,2,3,4\n", "a\x1b[2J.csv")
    said = r"a\x1b[2J.csv, row 1, column x\x1b]0;title\x07\x1b[2J\u202e: found an extra column, expected the columns day, hour, "
    assert str(refusal(odd)) == said + "rentals"
    long = written(tmp_path, HEADER.rstrip() + b"," + b"x" * 100_000 + b"\n1,2,3,4\n", "long.csv")
    assert len(str(refusal(long))) < 1_200
    table = pa.table({"day": ["2011-01-01"], "hour": [1], "rentals": [2], "y" * 5_000_000: [1]})
    assert len(str(refusal(parquet(tmp_path, table)))) < 1_200


SECRETS = ["user:pa55", "pa55", "s1gn"]


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    # Given URLs with a password and a signature, of places that refuse to answer
    faults = []
    for source, query in (
        ("http://user:pa55@127.0.0.1:9/rentals.csv?sig=s1gn", None),
        ("nowhere://user:pa55@host/rentals.csv?sig=s1gn", None),
        ("nowhere://user:pa55/@x@host/rentals?sig=s1gn", "select 1"),
        ("sqlite://user:pa55@host/rentals.db?sig=s1gn", "select 1"),
    ):
        with pytest.raises((DataError, SettingsError)) as caught:
            reader(source, query=query).read()
        faults.append(str(caught.value))
        assert caught.value.__suppress_context__  # a traceback shows no secrets either
    # Then no message shows them, and each still names the place
    assert [secret for secret in SECRETS if secret in "".join(faults)] == []
    assert faults[0].startswith("http://***@127.0.0.1:9/rentals.csv?***: found connection refused, expected a server")
    # And neither does an origin
    source = f"{database(tmp_path)}?timeout=5"
    origin = reader(source, query="select * from rentals").origin()
    assert origin.uri == f"sqlite:///{tmp_path / 'rentals.db'}?***"


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet", "sql", "folder"])
def test_the_span_is_found_without_pandas(tmp_path: Path, kind: str) -> None:
    # Given the same rows in each kind of source
    query = "select * from rentals" if kind == "sql" else None
    table = pa.csv.read_csv(pa.BufferReader(GOOD))
    source: object = {
        "csv": lambda: written(tmp_path, GOOD),
        "csv.gz": lambda: written(tmp_path, gzip.compress(GOOD), "rentals.csv.gz"),
        "parquet": lambda: parquet(tmp_path, table),
        "sql": lambda: database(tmp_path),
        "folder": lambda: (written(tmp_path, HEADER + b"2011-01-09,1,1\n"), written(tmp_path, GOOD, "x.csv"))[0].parent,
    }[kind]()
    # When another process asks for the span, then it imports no pandas
    code = (
        "import sys; from bikes_assets.storage.sources.readers import reader_for\n"
        "heavy = {'pandas', 'pyarrow', 'mlflow', 'sqlalchemy', 'fsspec'} & set(sys.modules)\n"
        f"span = reader_for({str(source)!r}, columns={COLUMNS}, date_column='day', query={query!r}).span()\n"
        "print(heavy or '', span, 'pandas' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(SHIPPED.parents[2])}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert run.stdout.split() == ["('2011-01',", "'2012-12')", "False"]


@pytest.mark.parametrize(
    ("day", "found"), [("yesterday", "'yesterday'"), ("2011-13-01", "'2011-13-01'"), ("", "nothing")]
)
def test_a_span_without_dates_is_refused_with_the_row(tmp_path: Path, day: str, found: str) -> None:
    with pytest.raises(DataError) as caught:
        reader(written(tmp_path, GOOD + f"{day},1,2\n".encode())).span()
    place = "rentals.csv, row 5, column day"
    assert str(caught.value) == f"{place}: found {found}, expected YYYY-MM-DD in every row"


def test_the_fingerprint_changes_with_the_source(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    before = reader(path).fingerprint()
    assert reader(path).fingerprint() == before != ""
    written(tmp_path, GOOD + b"2013-01-01,0,1\n")
    assert reader(path).fingerprint() != before
    # And a folder's does with its files
    before = reader(tmp_path).fingerprint()
    written(tmp_path, GOOD, "second.csv")
    assert reader(tmp_path).fingerprint() != before
    # And a database tells nothing cheap
    assert reader(database(tmp_path), query="select * from rentals").fingerprint() == ""


def shipped() -> Raw:
    columns = tuple(SHIPPED.read_text().partition("\n")[0].split(","))
    return reader_for(str(SHIPPED), columns=columns, date_column="dteday").read()


def test_lineage_is_a_dataset_of_our_digest_and_version() -> None:
    from bikes_assets.tracking.datasets import pandas_dataset

    # Given the shipped rows, and the same with one cell changed beyond row 10,000, where MLflow's own digest ends
    used, data = reader(SHIPPED), shipped().frame.astype("string")
    other = data.copy()
    other.loc[15_000, "cnt"] = "0"
    # When their lineage is told
    dataset = pandas_dataset(used.lineage("rentals", data, targets="cnt"))
    # Then its source is the version, and its digest covers every row
    assert dataset.name == "rentals"
    assert dataset.source.to_dict()["version"] == used.origin().version
    assert dataset.to_dict()["source_type"] == "bikes_versioned"
    assert dataset.schema.input_names() == list(data.columns)
    assert len(dataset.digest) == 32
    assert pandas_dataset(used.lineage("rentals", data.astype({"cnt": "int64"}))).schema is not None
    assert used.lineage("rentals", data.copy()).digest == dataset.digest
    assert used.lineage("rentals", other).digest != dataset.digest
    # And a digest that is given is kept
    assert used.lineage("rentals", data, digest="0" * 32).digest == "0" * 32


def test_the_digest_of_a_frame_does_not_depend_on_how_it_is_held() -> None:
    from bikes_assets.storage.sources.readers import frame_digest

    plain = pd.DataFrame({"n": [1, 2], "x": [0.5, None], "at": pd.to_datetime(["2011-01-01", "2011-01-02"]), "b": True})
    arrow = plain.astype({"n": "Int64", "x": "Float64", "at": "datetime64[us]", "b": "boolean"})
    assert frame_digest(plain) == frame_digest(arrow)
    assert frame_digest(plain) != frame_digest(plain[::-1])


def test_a_versioned_source_is_loaded_only_in_its_version(tmp_path: Path) -> None:
    from bikes_assets.tracking.datasets import VersionedSource

    # Given a source that went through MLflow's JSON
    path = written(tmp_path, GOOD)
    source = VersionedSource.from_json(VersionedSource(reader(path).origin()).to_json())
    assert source.origin == reader(path).origin()
    # When it is loaded, then it is the file
    assert source.load() == str(path)
    # And when the file has changed, then it is refused
    written(tmp_path, ROWS)
    with pytest.raises(DigestError, match="found SHA-256"):
        source.load()
    sql = VersionedSource(reader(database(tmp_path), query="select * from rentals").origin())
    with pytest.raises(SettingsError, match="expected a file"):
        sql.load()
