"""A source is read again where its fingerprint says that it may have changed, and only then."""

from __future__ import annotations

import time

import pandas as pd
import pytest

from bikes_assets.core.errors import DataError
from bikes_assets.core.schema import Column, Schema
from bikes_assets.storage.checksums import read_memory
from bikes_assets.storage.sources.readers import reader_for
from bikes_assets.storage.sources.source_state import SourceFormat, observe, remembered

COLUMNS = (Column("day", "string", "The day."), Column("rentals", "int64", "Rentals."))
SCHEMA = Schema("records", ("day",), COLUMNS)


class Watched:
    """A source of two months, a memory of it, and how often it was read."""

    def __init__(self, folder):
        self.file, self.memory, self.parsed = folder / "rentals.csv", folder / "deep" / "source.json", 0
        self.write(1, 2)

    def write(self, january, february):
        self.file.write_text(f"day,rentals\n2011-01-01,{january}\n2011-02-01,{february}\n")

    def parse(self, raw):
        self.parsed += 1
        return pd.DataFrame({"day": raw.frame["day"].astype("string"), "rentals": raw.frame["rentals"].astype("int64")})

    def observe(self, of="code"):
        rows = SourceFormat(
            self.parse,
            lambda records: sorted(records["day"].str.slice(stop=7).unique()),
            lambda records, month: records[records["day"].str.startswith(month)],
            SCHEMA,
        )
        return observe(reader_for(str(self.file), columns=SCHEMA.names, date_column="day"), rows, self.memory, of)


@pytest.fixture
def watched(tmp_path):
    return Watched(tmp_path)


def test_an_unchanged_source_is_read_once(watched):
    before = time.time()
    first = watched.observe()
    assert watched.observe() == first == remembered(watched.memory)
    assert watched.parsed == 1
    assert first.rows == {"2011-01": 1, "2011-02": 1}
    assert len(set(first.digests.values())) == 2
    assert all(before <= since <= time.time() for since in first.since.values())


def test_a_changed_source_is_read_and_what_is_the_same_in_it_keeps_its_time(watched):
    first = watched.observe()
    watched.write(1, 20)
    second = watched.observe()
    assert watched.parsed == 2
    assert second.digests["2011-01"] == first.digests["2011-01"]
    assert second.digests["2011-02"] != first.digests["2011-02"]
    assert second.since["2011-01"] == first.since["2011-01"]
    assert second.since["2011-02"] > first.since["2011-02"]
    # a digest that comes back is a change, too
    watched.write(1, 2)
    third = watched.observe()
    assert third.digests == first.digests
    assert third.since["2011-02"] > second.since["2011-02"]


def test_the_same_rows_in_another_file_have_the_same_digests(watched):
    first = watched.observe()
    watched.file.write_text("day,rentals\n2011-02-01,2\n2011-01-01,1\n")
    second = watched.observe()
    assert watched.parsed == 2
    assert (second.digests, second.since) == (first.digests, first.since)
    assert second.fingerprint != first.fingerprint


def test_other_code_reads_it_again_and_keeps_the_times_of_what_it_reads_alike(watched):
    first = watched.observe()
    second = watched.observe(of="other code")
    assert watched.parsed == 2
    assert (second.digests, second.since) == (first.digests, first.since)


def test_a_month_that_is_gone_holds_no_rows_from_then_on(watched):
    first = watched.observe()
    watched.file.write_text("day,rentals\n2011-02-01,2\n")
    second = watched.observe()
    assert (second.digests["2011-01"], second.rows["2011-01"]) == (second.empty, 0)
    assert second.since["2011-01"] > first.since["2011-01"]
    assert second.empty not in first.digests.values()
    watched.file.write_text("day,rentals\n2011-02-01,3\n")
    assert watched.observe().since["2011-01"] == second.since["2011-01"]


def test_a_source_that_is_away_is_an_error_and_what_was_remembered_stays(watched):
    first = watched.observe()
    watched.file.unlink()
    with pytest.raises(DataError, match=r"rentals\.csv"):
        watched.observe()
    assert remembered(watched.memory) == first


@pytest.mark.parametrize(
    "garbage",
    [b"", b"{", b"null", b"[]", b"{}", b"3", b'{"of": "code"}', b'{"origin": null}', b"\xff\x00", b'{"origin": 3}'],
)
def test_a_memory_that_was_damaged_is_written_anew(watched, garbage):
    first = watched.observe()
    watched.memory.write_bytes(garbage)
    assert remembered(watched.memory) is None
    assert watched.observe().digests == first.digests
    assert watched.parsed == 2
    assert remembered(watched.memory).digests == first.digests


def test_a_memory_that_was_torn_is_written_anew(watched):
    first = watched.observe()
    whole = watched.memory.read_bytes()
    for length in range(0, len(whole), 50):
        watched.memory.write_bytes(whole[:length])
        assert remembered(watched.memory) is None
    assert watched.observe().digests == first.digests
    assert [file.name for file in watched.memory.parent.iterdir()] == ["source.json"]


def test_what_the_caller_raises_otherwise_is_not_hidden(watched):
    watched.observe()
    with pytest.raises(ZeroDivisionError):
        read_memory(watched.memory, lambda _: 1 / 0)
