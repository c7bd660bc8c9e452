"""Edges as packed neighbours, in the form of a compressed sparse row matrix, which walks over the index follow."""

from __future__ import annotations

from array import array
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

Direction: TypeAlias = Literal["upstream", "downstream"]


class Neighbours:
    """What is one edge away from each thing, by packed and by unpacked edges.

    Args:
        store: the index.
        direction: upstream or downstream.
            as_of: number of the last event that counts, None for the current state.
    """

    def __init__(self, store: sqlite3.Connection, direction: Direction, as_of: int | None) -> None:
        self.limit = as_of
        query = "select ends, neighbours, events from packed where direction = ?"
        packed = store.execute(query, [direction]).fetchone() or (bytes(8), b"", b"")
        self.ends, self.packed, self.events = (_numbers(part) for part in packed)
        here, there = ("target", "source") if direction == "upstream" else ("source", "target")
        self.beside: dict[int, list[int]] = {}
        beside = [("recent", "event <= :limit")]
        beside += [("past", "event <= :limit and until > :limit")] if as_of is not None else []
        for table, holds in beside:
            for thing, other in store.execute(
                f"select {here}, {there} from {table} where {holds}",  # noqa: S608 - names of ours
                {"limit": limit_of(as_of)},
            ):
                self.beside.setdefault(thing, []).append(other)

    def __getitem__(self, thing: int) -> list[int]:
        """Return the things that are one edge away."""
        found: list[int] = []
        if thing + 1 < len(self.ends):
            begin, end = self.ends[thing], self.ends[thing + 1]
            if self.limit is None:
                found.extend(self.packed[begin:end])
            else:
                found += [self.packed[at] for at in range(begin, end) if self.events[at] <= self.limit]
        return list(dict.fromkeys(found + self.beside.get(thing, [])))

    def of(self, things: Sequence[int], seen: bytearray) -> list[int]:
        """Return what is one edge away from some things and not marked as seen, and mark it."""
        found: list[int] = []
        ends, packed, last, beside = self.ends, self.packed, len(self.ends) - 1, self.beside
        for thing in things:
            if self.limit is not None:
                others = self[thing]
            else:  # written out, for large walks
                others = packed[ends[thing] : ends[thing + 1]] if thing < last else ()
                if thing in beside:
                    others = [*others, *beside[thing]]
            for other in others:
                if not seen[other]:
                    seen[other] = 1
                    found.append(other)
        return found


def packed(rows: Iterable[tuple[int, int, int]], last: int) -> tuple[bytes, bytes, bytes]:
    """Return edges as a compressed sparse row matrix: where each thing's end, their other ends, and their events."""
    counts, neighbours, events = array("I", bytes(4 * (last + 2))), array("I"), array("I")
    for here, there, event in rows:
        counts[here + 1] += 1
        neighbours.append(there)
        events.append(event)
    return array("I", accumulate(counts)).tobytes(), neighbours.tobytes(), events.tobytes()


def _numbers(content: bytes) -> array[int]:
    found = array("I")
    found.frombytes(content)
    return found


def limit_of(as_of: int | None) -> int:
    """Return the number of the last event that counts; for the current state, one above all."""
    return 2**62 if as_of is None else as_of
