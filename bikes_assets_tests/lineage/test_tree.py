"""Ranges of addresses: they name what is there, leave nothing out, and stay addresses."""

from __future__ import annotations

import pytest

from bikes_assets.core.address import Address
from bikes_assets.lineage.tree import span

MONTHS = [f"2011-{month:02}" for month in range(1, 13)]

CASES = {
    "one": (["a[2011-01]@3"], "a[2011-01]@3"),
    "an asset": (["a"], "a"),
    "months in a row": (["a[2011-02]", "a[2011-01]", "a[2011-03]"], "a[2011-01..2011-03]"),
    "a month between is missing": (["a[2011-01]", "a[2011-02]", "a[2011-04]"], "a[2011-01..2011-02], [2011-04]"),
    "versions that rise with the months": (["a[2011-01]@4", "a[2011-02]@5"], "a[2011-01..2011-02]@4..5"),
    "versions that do not": (["a[2011-01]@9", "a[2011-02]@5"], "a[2011-01..2011-02]"),
    "versions of one month": (["a[2011-01]@4", "a[2011-01]@5"], "a[2011-01]@4..5"),
    "versions that are digests": (["a[2011-01]@0f", "a[2011-02]@1c"], "a[2011-01..2011-02]"),
    "ten after nine": (["a[2011-02]@10", "a[2011-01]@9"], "a[2011-01..2011-02]@9..10"),
    "registered versions": (["m@1", "m@2", "m@4"], "m@1..2, @4"),
    "a column": (["a.temp[2011-11]@1", "a.temp[2011-12]@2"], "a.temp[2011-11..2011-12]@1..2"),
    "what has no columns": (["m.*[2011-11]@1", "m.*[2011-12]@2"], "m[2011-11..2011-12]@1..2"),
    "names that are quoted": (['"a b"[2011-01]', '"a b"[2011-03]'], '"a b"[2011-01], [2011-03]'),
}


@pytest.mark.parametrize("case", CASES)
def test_addresses_are_written_as_ranges(case: str) -> None:
    texts, expected = CASES[case]
    places = [parts for text in texts if (parts := Address.parse(text))]
    assert len(places) == len(texts)
    assert span(places, MONTHS) == expected
