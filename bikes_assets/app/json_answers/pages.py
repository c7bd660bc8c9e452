"""Answers of a limited size, for readers that have space for so much at a time: agents.

A page is a JSON document of at most 25,000 bytes, with some of an answer's items:

```json
{"total": 61, "shown": 40, "truncated": true, "next": 40, "as_of": "2026-01-31T08:00:00+00:00", "items": [
{"kind": "column", "address": "hourly_rentals.temp", "depth": 1},
...
]}
```

`next` is the offset of the first item that is not shown, from which the next page begins, and null where there is none.
An item that alone is larger than a page is cut: of lists and objects only the first elements are shown, of long texts
the beginning and the end. `shortened` then says of each of these how many elements, or characters, it has:
`{"items[0].values[3].rows[0].keys": 648}`.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from bikes_assets.core.errors import LineageError
from bikes_assets.core.secrets import scrubbed
from bikes_assets.core.texts import shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MOST_BYTES = 25_000
"""Size of the largest page; all of it is ASCII, so this is its number of characters too."""

_LAST_TIME = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
"""The last time that is shown; other tools may tell of later ones."""
_HEAD_BYTES = 400
"""Space for everything but the items and what is cut of one."""
_MOST_ELEMENTS = 1_000
"""Number of elements of a list that is tried first where an item has to be cut."""
_FIELDS = 20
"""Number of an object's fields that are kept wherever there is space."""


def page(
    items: Iterable[Mapping[str, Any]],
    total: int,
    *,
    as_of: float | None,
    offset: int = 0,
    most: int | None = None,
    reach: int | None = None,
) -> str:
    """Return a page of an answer.

    Args:
        items: all items of the answer, in order; no more of them are taken than needed.
        total: how many there are.
        as_of: the time of the answer, Unix seconds; None where nothing has happened yet.
        offset: number of items to skip.
        most: how many to show at most, None for as many as there is space for.
        reach: how many can be shown in all pages, None for all.

    Raises:
        LineageError: there are fewer items than are to be skipped.
    """
    last = total if reach is None else min(total, reach)
    if offset > last:
        raise LineageError(f"next: found {offset:,}, expected {last:,} at most, after which there is no item")
    lines, cut, space = list[str](), dict[str, int](), MOST_BYTES - _HEAD_BYTES
    for item in islice(items, offset, last if most is None else min(offset + most, last)):
        told = _scrubbed(item)
        line = _json(told)
        if not lines and len(line) > space:
            line, cut = _cut(told, space)
            lines.append(line)
            break
        space -= len(line) + 2
        if space < 0:
            break
        lines.append(line)
    end = offset + len(lines)
    head = {
        "total": total,
        "shown": len(lines),
        "truncated": end < total or bool(cut),
        "next": end if end < last else None,
        "as_of": None if as_of is None else _iso(as_of),
    } | ({"shortened": cut} if cut else {})
    listed = ",\n".join(lines)
    shown = f"[\n{listed}\n]" if lines else "[]"
    return f'{json.dumps(head)[:-1]}, "items": {shown}}}'


def _iso(time: float) -> str:
    """Return a time with its offset: never an earlier one, so that who asks as of then is told what happened then."""
    time = min(time, _LAST_TIME)
    number = round(time * 1_000_000)
    seconds, microseconds = divmod(number if number / 1_000_000 >= time else number + 1, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds).isoformat()


def _json(value: object) -> str:
    return json.dumps(value).replace("\x7f", "\\u007f")  # the one control character that JSON allows unescaped


def _scrubbed(value: Any) -> Any:
    """Return a value without secrets in its texts."""
    if isinstance(value, str):
        return scrubbed(value)
    if isinstance(value, dict):
        return {_scrubbed(key): _scrubbed(item) for key, item in value.items()}
    return [_scrubbed(item) for item in value] if isinstance(value, list | tuple) else value


def _cut(item: Mapping[str, Any], space: int) -> tuple[str, dict[str, int]]:
    """Return an item cut to fit, as JSON, and the size of each of its lists, objects and texts that were cut."""
    most = _MOST_ELEMENTS
    while True:
        cut = dict[str, int]()
        # at last only the fields themselves are left, with short texts, which fit whatever they hold
        kept = _first(item, most, "items[0]", cut) if most >= 0 else _fields(item, cut)
        line = _json(kept)
        if most < 0 or len(line) + len(_json(cut)) <= space:
            return line, cut
        most = most * 3 // 4 if most else -1


def _first(value: Any, most: int, place: str, cut: dict[str, int]) -> Any:
    """Return a value with the first elements of its lists and objects, and both ends of its long texts."""
    if isinstance(value, str):
        return _both_ends(value, 100 + 20 * most, place, cut)
    if isinstance(value, list):
        if len(value) > most:
            cut[place] = len(value)
        return [_first(element, most, f"{place}[{number}]", cut) for number, element in enumerate(value[:most])]
    if isinstance(value, dict):
        if len(value) > max(most, _FIELDS):
            cut[place] = len(value)
        kept: dict[str, Any] = {}
        for name, element in islice(value.items(), max(most, _FIELDS)):
            short = _both_ends(name, 100 + 20 * most, f"{place}.{name[:_FIELDS]}", cut)
            kept[short] = _first(element, most, f"{place}.{short}", cut)
        return kept
    return value


def _fields(item: Mapping[str, Any], cut: dict[str, int]) -> dict[str, Any]:
    """Return the first fields of an item, without the elements of lists and objects."""
    if len(item) > _FIELDS:
        cut["items[0]"] = len(item)
    kept: dict[str, Any] = {}
    for name, value in islice(item.items(), _FIELDS):
        short = _both_ends(name, _FIELDS, f"items[0].{name[:_FIELDS]}", cut)
        if isinstance(value, list | dict):
            cut[f"items[0].{short}"] = len(value)
            kept[short] = type(value)()
        else:
            text = value if isinstance(value, str) else _json(value)
            kept[short] = value if len(text) <= _FIELDS else _both_ends(text, _FIELDS, f"items[0].{short}", cut)
    return kept


def _both_ends(text: str, most: int, place: str, cut: dict[str, int]) -> str:
    if len(text) > most:
        cut[place] = len(text)
    return shortened(text, most)
