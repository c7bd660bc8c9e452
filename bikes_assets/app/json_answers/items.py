"""The items of each answer as JSON-ready dicts; it imports none of the heavy libraries.

A command prints them with `--json`, and a server answers with them, so both have the same fields.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bikes_assets.app import answers
from bikes_assets.lineage.elements import address_of
from bikes_assets.lineage.queries import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from bikes_assets.app.answers import ChangedAsset
    from bikes_assets.core.staleness import Reason
    from bikes_assets.lineage.elements import Answer, Direction, Result

LEVELS = {kind.replace(" ", "-"): kind for kind in KINDS}
"""Kinds of things to ask about, by the words that users write."""
MOST_MATCHES = 10_000
"""Number of matches of a search that an answer has."""
UP_TO_DATE = ("fresh", "skipped")
"""States of partitions for which nothing has to be done."""


def related(
    direction: Direction,
    address: str,
    *,
    level: str | None = None,
    depth: int | None = None,
    as_of: str | datetime | None = None,
) -> list[dict[str, Any]]:
    """Return all that is upstream or downstream of what an address names, nearest first, runs included.

    Args:
        direction: upstream or downstream.
        address: see `answers.upstream`.
        level: what is asked about, one of LEVELS; by default what the address names.
        depth: how many edges to go at most, None for all.
        as_of: time that counts, None for now.
    """
    follow = answers.upstream if direction == "upstream" else answers.downstream
    return of_answer(follow(address, level=LEVELS.get(level or ""), depth=depth, as_of=as_of))


def of_answer(answer: Answer) -> list[dict[str, Any]]:
    """Return the things of an answer, runs included."""
    return [_of_thing(item, depth=item.depth) for item in answer.things]


def paths(start: str, end: str, *, as_of: str | datetime | None = None) -> tuple[int, Iterator[dict[str, Any]]]:
    """Return how many paths lead from one thing downstream to another, and the addresses on each, one by one."""
    count, ways = answers.paths(start, end, as_of=as_of)
    return count, ({"addresses": [address_of(item) for item in way]} for way in ways)


def changes(changed: Sequence[ChangedAsset], reached: Answer) -> list[dict[str, Any]]:
    """Return what `answers.changed` has found: code that differs, and then everything downstream of it."""
    return [*({"kind": "change", **asdict(item)} for item in changed), *of_answer(reached)]


def search(words: str) -> list[dict[str, Any]]:
    """Return what matches all words, the best first, at most MOST_MATCHES; see `answers.search`."""
    return [_of_thing(item) for item in answers.search(words, most=MOST_MATCHES)]


def trace(address: str) -> list[dict[str, Any]]:
    """Return where one row's values came from, as the only item; see `answers.trace`."""
    return [answers.trace(address).to_dict()]


def diff(a: str, b: str) -> list[dict[str, Any]]:
    """Return how two versions of one asset differ, and why, as the only item; see `answers.diff`."""
    return [answers.diff(a, b).to_dict()]


def waste() -> list[dict[str, Any]]:
    """Return what nobody reads and where the time goes, as the only item; see `answers.waste`."""
    result = answers.waste()
    return [asdict(result) | {"overhead": result.overhead}]


def status(addresses: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the state of each partition, and why; of a partition that is asked about, its versions too.

    Args:
        addresses: assets or partitions; all by default.
    """
    from bikes_assets.app import state

    items: list[dict[str, Any]] = []
    for status in state.statuses(addresses):
        item: dict[str, Any] = {"address": status.address, "state": status.state, "reasons": _reasons(status.reasons)}
        if status.address in addresses:
            versions = answers.history(status.address)
            item["versions"] = [asdict(version) | {"reasons": _reasons(version.reasons)} for version in versions]
        items.append(item)
    return items


def _of_thing(item: Result, **more: Any) -> dict[str, Any]:
    """Return a thing; of an alias and a registered version, `version` is the address of the version that they name."""
    facts = {"version" if name == "address" else name: value for name, value in item.facts.items()}
    return {"kind": item.kind, "address": address_of(item), **more, **facts}


def _reasons(reasons: Sequence[Reason]) -> list[dict[str, str]]:
    from bikes_assets.app.state import reason_text

    return [asdict(reason) | {"text": reason_text(reason)} for reason in reasons]
