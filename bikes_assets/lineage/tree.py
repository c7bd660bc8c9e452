"""An answer as a tree: adjacent columns, partitions and versions of one asset are one branch, written as ranges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import TYPE_CHECKING

from bikes_assets.core.address import WHOLE, Address
from bikes_assets.lineage.elements import ALIAS, CODE, FILE, MODEL, PARTITION, RUN, TAG

if TYPE_CHECKING:
    from bikes_assets.lineage.elements import Direction, Result
    from bikes_assets.lineage.index import Index

_NAMES = (MODEL, ALIAS)
"""Kinds of things that are names of a version."""


@dataclass(frozen=True, slots=True)
class Branch:
    """Things of one kind that belong together, and what is beyond them.

    Attributes:
        kind: their kind.
        asset: the asset that they are of, or that the code materializes; "" for a file, a run or a tag.
        things: the things, nearest first.
        branches: what is beyond them, nearest first.
        span: their address, with ranges of partitions and versions.
    """

    kind: str
    asset: str
    things: Sequence[Result]
    span: str
    branches: list[Branch] = field(default_factory=list)


def tree(index: Index, things: Iterable[Result], direction: Direction, *, as_of: int | None = None) -> list[Branch]:
    """Return the things that were found as a tree whose root is the start.

    A branch is attached to a nearer one that has an edge to or from its nearest thing, else to the root. Names of
    versions, where no versions were asked about, are attached to another branch of their asset, if there is one.

    Args:
        index: the index that was asked.
        things: what was found, nearest first.
        direction: upstream or downstream.
        as_of: number of the last event that counts.
    """
    grouped: dict[tuple[str, ...], list[Result]] = {}
    places: dict[tuple[str, str], tuple[int, tuple[str, ...]]] = {}
    for item in things:
        place = _place(index, item, as_of)
        places[item.kind, item.name] = item.depth, place
        grouped.setdefault(place, []).append(item)
    branches, roots = dict[tuple[str, ...], Branch](), list[Branch]()
    nearest = min((depth for depth, _ in places.values()), default=0)
    for place, items in sorted(grouped.items(), key=lambda pair: pair[1][0].kind in _NAMES):
        first = items[0]
        branch = Branch(first.kind, place[1], items, _span(index, items, as_of))
        back: Direction = "downstream" if direction == "upstream" else "upstream"
        ends = index.ends(first.kind, first.name, back, as_of=as_of) if first.depth > nearest else ()
        nearer = (
            branches[other] for depth, other in (places[end] for end in ends if end in places) if depth < first.depth
        )
        same = (other for other in branches.values() if first.kind in _NAMES and other.asset == branch.asset)
        on = next(chain(nearer, same), None)
        (on.branches if on else roots).append(branch)
        branches[place] = branch
    return roots


def _place(index: Index, item: Result, as_of: int | None) -> tuple[str, ...]:
    """Return what the things of one branch share: their kind and asset, and their column, else their name."""
    if item.kind == CODE:
        made = index.neighbours(CODE, item.name, "downstream", as_of=as_of)
        parts = Address.parse(made[0].target[1]) if made else None
        return (CODE, parts.asset if parts else "", "" if parts else item.name)
    parts = Address.parse(item.name) if item.kind not in (FILE, RUN, TAG) else None
    return (item.kind, parts.asset, parts.column or "") if parts else (item.kind, "", item.name)


def _span(index: Index, items: Sequence[Result], as_of: int | None) -> str:
    """Return the address of the things of one branch; of code and things without an address, their names."""
    parts = [Address.parse(item.name) if item.kind not in (CODE, FILE, RUN, TAG) else None for item in items]
    places = [part for part in parts if part]
    if len(places) < len(items):
        return ", ".join(item.name for item in items)
    known = (index.within(PARTITION, places[0].asset, as_of=as_of) if places[0].partition is not None else ()) or places
    return span(places, list(dict.fromkeys(str(item.partition) for item in known)))


def span(addresses: Sequence[Address], partitions: Sequence[str]) -> str:
    """Return addresses of one asset or column as ranges, such as `demand_features[2011-01..2011-05]@1..5, [2011-07]@9`.

    Args:
        addresses: the addresses, one at least.
        partitions: all existing partitions, in order: a range leaves none of them out.
    """
    order = {name: number for number, name in enumerate(partitions)}

    def place(item: Address) -> tuple[int, int, str]:
        return order.get(str(item.partition), len(order)), _number(item), item.version or ""

    def follows(item: Address, before: Address) -> bool:
        (partition, number, _), (partition_before, number_before, _) = place(item), place(before)
        return number - number_before == 1 if item.partition is None else partition - partition_before in (0, 1)

    ranges: list[list[Address]] = []
    for item in sorted(addresses, key=place):
        if ranges and follows(item, ranges[-1][-1]):
            ranges[-1].append(item)
        else:
            ranges.append([item])
    first, *others = map(_range, ranges)
    name = _range([Address(addresses[0].asset, addresses[0].column)])
    return ", ".join((first, *(other.removeprefix(name) for other in others)))


def _range(addresses: Sequence[Address]) -> str:
    first, last = addresses[0], addresses[-1]
    column = None if first.column == WHOLE else first.column
    if len(addresses) == 1:
        return str(Address(first.asset, column, first.partition, first.version))
    partition = first.partition if first.partition == last.partition else f"{first.partition}..{last.partition}"
    numbers = [_number(item) for item in addresses]
    rises = numbers[0] >= 0 and all(after - before == 1 for before, after in pairwise(numbers))
    return f"{Address(first.asset, column, partition)}{f'@{numbers[0]}..{numbers[-1]}' if rises else ''}"


def _number(address: Address) -> int:
    """Return the number of a table version or a registered model version, -1 where it has none."""
    return int(address.version) if address.version and address.version.isdecimal() else -1


def walk(branches: Sequence[Branch], before: str = "") -> Iterator[tuple[str, Branch]]:
    """Yield each branch with the tree lines that lead to it."""
    for number, branch in enumerate(branches, start=1):
        is_last = number == len(branches)
        yield f"{before}{'└─ ' if is_last else '├─ '}", branch
        yield from walk(branch.branches, f"{before}{'   ' if is_last else '│  '}")
