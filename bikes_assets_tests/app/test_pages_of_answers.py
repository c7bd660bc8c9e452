"""Pages of an answer: together they have all of its items, each is within the limit, and what is cut is told."""

from __future__ import annotations

import json
import math
import random
import re
from typing import Any

import pytest

from bikes_assets.app.json_answers.pages import MOST_BYTES, page
from bikes_assets.core import secrets
from bikes_assets.core.errors import LineageError
from bikes_assets.lineage.queries import unix_seconds_of

TEXTS = ("", "a", "x" * 3_000, "🚲" * 900, "\x1b[2J\x7f\0", '"\\' * 900)


def value(draw: random.Random, depth: int = 0) -> Any:
    """Return something JSON-ready, of any shape and size."""
    plain, kind = draw.choice((None, True, 7, 0.5, 10**3_000, *TEXTS)), draw.randrange(8)
    if kind < 4 or depth > 3:
        return plain
    if kind == 4:
        return [plain] * draw.choice((30, 300))
    if kind == 5:
        return {str(number): plain for number in range(draw.choice((20, 300)))}
    return item(draw, 4, depth + 1) if kind == 6 else [value(draw, depth + 1) for _ in range(draw.randrange(4))]


def item(draw: random.Random, most: int = 30, depth: int = 0) -> dict[str, Any]:
    return {f"{number}{draw.choice(TEXTS)}": value(draw, depth) for number in range(draw.randrange(most))}


def document(text: str) -> dict[str, Any]:
    """Return a page, which must be a JSON document within the limit that cannot control a terminal."""
    assert len(text.encode()) <= MOST_BYTES
    assert text.replace("\n", "").isprintable()
    assert text.isascii()
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def at(value: Any, place: str) -> Any:
    """Return what is at a place such as `items[0].rows[3].keys`."""
    for name, number in re.findall(r"\.?([^.\[\]]+)|\[(\d+)\]", place):
        value = value[name] if name else value[int(number)]
    return value


@pytest.mark.parametrize("seed", range(30))
def test_any_items_are_in_pages_within_the_limit(seed: int) -> None:
    draw = random.Random(seed)
    items = [item(draw) for _ in range(draw.randrange(6))]
    most, offset, shown = draw.choice((None, 1, 2, 7)), 0, 0
    for _ in range(len(items) + 1):
        found = document(page(items, len(items), as_of=0.0, offset=offset, most=most))
        assert (found["total"], found["shown"]) == (len(items), len(found["items"]))
        assert found["truncated"] == (found["next"] is not None or "shortened" in found)
        shown += found["shown"]
        asked_about = json.loads(json.dumps(items[offset : offset + found["shown"]]))
        assert (found["items"] == asked_about) == ("shortened" not in found)
        if found["next"] is None:
            break
        assert found["next"] == offset + found["shown"] > offset
        offset = found["next"]
    assert shown == len(items)


def test_an_item_that_is_too_large_keeps_its_fields_and_tells_what_was_cut() -> None:
    # Given a trace of many rows, as it might be
    rows = [{"column": "cnt", "keys": [f"2011-07-{hour:05}" for hour in range(648)], "values": [7] * 648}]
    item = {"address": "demand_features[2011-07]#x", "values": [{"rows": rows, "text": "a" * 9_000}] * 3, "sources": []}
    # When
    found = document(page([item, {"address": "small"}], 2, as_of=None))
    # Then
    (cut,) = found["items"]
    assert (found["truncated"], found["next"], found["as_of"]) == (True, 1, None)
    assert [*cut] == [*item]
    assert {place.rpartition(".")[2] for place in found["shortened"]} == {"keys", "values", "text"}
    for place, count in found["shortened"].items():
        whole, kept = at({"items": [item]}, place), at(found, place)
        assert (len(whole), whole[:20]) == (count, kept[:20])
        assert len(kept) > 20
    assert "(9,000 characters)" in cut["values"][0]["text"]
    # And it fills the page
    assert len(page([item], 1, as_of=None)) > MOST_BYTES * 0.6


def test_an_offset_beyond_the_end_is_an_error_and_what_cannot_be_reached_has_no_next() -> None:
    items = [{"address": f"x{number}"} for number in range(5)]
    with pytest.raises(LineageError, match=r"^next: found 6, expected 5 at most, after which there is no item$"):
        page(items, 5, as_of=None, offset=6)
    assert document(page(items, 5, as_of=None, offset=5))["items"] == []
    found = document(page(iter(items), 10**30, as_of=None, offset=3, reach=4))
    assert (found["total"], found["shown"], found["truncated"], found["next"]) == (10**30, 1, True, None)
    with pytest.raises(LineageError, match=r"^next: found 5, expected 4 at most"):
        page(items, 10**30, as_of=None, offset=5, reach=4)


def test_as_of_the_time_of_an_answer_nothing_of_it_is_missed() -> None:
    draw = random.Random(1)
    for time in (0.0, 1e-7, *(draw.uniform(0, 4e9) for _ in range(2_000))):
        told = document(page([], 0, as_of=time))["as_of"]
        assert told.endswith("+00:00")
        assert time <= unix_seconds_of(told) <= math.nextafter(time, math.inf) + 1e-6
        # And asked as of then, it says the same time
        assert document(page([], 0, as_of=unix_seconds_of(told)))["as_of"] == told


def test_a_time_beyond_the_calendar_is_shown_as_its_end() -> None:
    assert document(page([], 0, as_of=3e11))["as_of"] == "9999-12-31T00:00:00+00:00"


def test_no_secret_is_in_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_learned", {})
    secrets.learn({"BIKES_SOURCE": "postgresql://me:Hunter-22@db/bikes"})
    item = {"uri": "postgresql://me:Hunter-22@db/bikes", "deep": [{"Hunter-22": 'password="Hunter-22"'}]}
    text = page([item], 1, as_of=None)
    secrets._pattern.cache_clear()
    assert "Hunter" not in text
    assert document(text)["items"] == [
        {"uri": "postgresql://***@db/bikes", "deep": [{"***": 'password="***"'}]},
    ]
