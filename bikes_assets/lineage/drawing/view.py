"""What a picture of the lineage shows: boxes of datasets and jobs around one of them, some opened into their columns.

A view is a few words that fit into an address, so that a picture can be linked to: what it is about, what was expanded,
what was opened, which column is followed. `drawn` selects the boxes and lines of a view from the index; `layout` then
says where they go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING

from bikes_assets.core.address import WHOLE, Address
from bikes_assets.core.errors import LineageError
from bikes_assets.lineage import queries
from bikes_assets.lineage.elements import COLUMN, DATASET, JOB, TAG, Direction

if TYPE_CHECKING:
    from bikes_assets.lineage.index import Index

MOST_BOXES = 200
"""Number of boxes that a picture has at most: of more, nobody sees anything."""
MORE = 20
"""Number of neighbours that one expansion adds."""
ROWS = 10
"""Number of columns that an opened box shows at first."""
MOST_ROWS = 200
_SELECTOR = re.compile(r"(?:(?P<up>\d*)\+)?(?P<name>.+?)(?:\+(?P<down>\d*))?", re.DOTALL)
_SIDES: tuple[Direction, ...] = ("upstream", "downstream")


@dataclass(frozen=True, slots=True)
class View:
    """What somebody wants to see.

    Attributes:
        focus: address of what it is about: a dataset, job, column, partition, version, model or alias.
        shown: selectors of what was expanded, in order: `+a` is a with all that is upstream of it, `a+` with all that is
            downstream, `1+a` with what is one edge upstream; each time that the same one is named, more of them are
            shown. By default what is one edge away from the focus.
        opened: names of the boxes that are opened into their columns.
        column: address of the column whose path is followed, "" for none.
        until: address of the column at which that path ends, "" for all that is upstream and downstream.
        only: whether only what is on that path is shown.
        rows: how many columns each opened box shows, by its name.
        words: what the names of the columns that each opened box shows contain, by its name.
    """

    focus: str
    shown: Sequence[str] = ()
    opened: Sequence[str] = ()
    column: str = ""
    until: str = ""
    only: bool = False
    rows: Mapping[str, int] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DrawnColumn:
    """A column in an opened box.

    Attributes:
        name: its name.
        address: its address.
        is_on_path: whether it is on the path that is followed.
        upstream: how many columns it is computed from, directly.
        downstream: how many are computed from it, directly.
        facts: what is known of it.
    """

    name: str
    address: str
    is_on_path: bool
    upstream: int
    downstream: int
    facts: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """A dataset or job in a picture.

    Attributes:
        name: its name.
        kind: `dataset` or `job`.
        asset: the name without quotes, as the project has it.
        upstream: how many things are one edge upstream.
        upstream_drawn: how many of these are in the picture.
        downstream: how many are one edge downstream.
        downstream_drawn: how many of these are in the picture.
        columns: how many columns it has.
        matching: how many of these contain the words that are looked for in it.
        on_path: how many of these are on the path that is followed.
        rows: the columns that are shown, None for a closed box.
    """

    name: str
    kind: str
    asset: str
    upstream: int
    upstream_drawn: int
    downstream: int
    downstream_drawn: int
    columns: int
    matching: int
    on_path: int
    rows: Sequence[DrawnColumn] | None


@dataclass(frozen=True, slots=True)
class DrawnEdge:
    """A line of a picture: from a box or one of its columns to another.

    Attributes:
        source: name of the box that it comes from.
        target: name of the box that it leads to.
        source_column: the column that it comes from, "" for the box.
        target_column: the column that it leads to, "" for the box.
        is_on_path: whether it is on the path that is followed.
    """

    source: str
    target: str
    source_column: str = ""
    target_column: str = ""
    is_on_path: bool = False


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a view shows.

    Attributes:
        focus: name of the box that it is about.
        boxes: its boxes.
        edges: the lines between them.
        column: the column whose path is followed, "" for none.
        until: the column at which that path ends, "" for none.
        on_path: number of columns upstream and downstream of that column, in and outside of the picture.
        left_out: number of boxes that were asked for and are not in the picture, because it has `MOST_BOXES`.
    """

    focus: str
    boxes: Sequence[DrawnBox]
    edges: Sequence[DrawnEdge]
    column: str
    until: str
    on_path: Mapping[str, int]
    left_out: int


def drawn(
    index: Index, view: View, declared: Mapping[str, Sequence[str]] | None = None, *, as_of: int | None = None
) -> Drawn:
    """Return what a view shows.

    Args:
        index: the index.
        view: the view.
        declared: the columns of each dataset in the order in which they are declared, as far as they are.
        as_of: number of the last event that counts, None for the current state.

    Raises:
        LineageError: there is nothing of a name that the view has.
    """
    return _Drawing(index, view, declared or {}, as_of).drawn()


class _Drawing:
    """Selects what a view shows; everything is known by its number in the index."""

    def __init__(self, index: Index, view: View, declared: Mapping[str, Sequence[str]], as_of: int | None) -> None:
        self.index, self.view, self.declared, self.as_of = index, view, declared, as_of
        self._tags = {index.number(TAG, name) for name in index.names(TAG, as_of=as_of)}
        self._names = dict[int, tuple[str, str]]()
        self._columns = dict[int, dict[int, Address]]()
        self.focus = self._box_of(view.focus)
        self.column = self._column_of(view.column) if view.column else None
        self.until = self._column_of(view.until) if view.until and view.column else None
        self.sides = {}
        if self.column is not None:
            self.sides = {side: set(chain.from_iterable(self._levels(side))) for side in _SIDES}

    def drawn(self) -> Drawn:
        wanted = self._on_path_only() if self.view.only and self.column is not None else self._expanded()
        boxes = [*islice(dict.fromkeys((self.focus, *wanted)), MOST_BOXES)]
        left_out = len({self.focus, *wanted}) - len(boxes)
        opened = {self._box_of(name) for name in self.view.opened}
        rows = {box: self._rows_of(box) for box in boxes if box in opened or self._lit(box)}
        rows = {box: numbers for box, numbers in rows.items() if numbers or self._view_opens(box)}
        found = {box: self._box(box, {*boxes}, rows.get(box)) for box in boxes}
        return Drawn(
            self._name(self.focus),
            [*found.values()],
            self._edges(boxes, rows),
            self._name(self.column) if self.column is not None else "",
            self._name(self.until) if self.until is not None else "",
            {side: len(numbers) for side, numbers in self.sides.items()},
            left_out,
        )

    def _expanded(self) -> list[int]:
        """Return the boxes that the view's selectors name, in the order in which they were named."""
        found = dict.fromkeys([self.focus])
        for selector in self.view.shown or (f"1+{self._name(self.focus)}+1",):
            name, depths = self._selected(selector)
            box = self._box_of(name)
            new = [box] if box not in found else []
            for side, depth in depths.items():
                most = MORE if depth == 1 else None
                unseen = (other for other in self._around(box, side, depth) if other not in found and other not in new)
                new += islice(unseen, most)
            found |= dict.fromkeys(new)
        return [*found]

    def _on_path_only(self) -> list[int]:
        """Return the boxes of the columns on the path that is followed, nearest first."""
        assert self.column is not None  # noqa: S101 - as the caller has looked
        levels = [[self.column], *(level for side in _SIDES for level in self._levels(side))]
        places = [Address.parse(item.name) for item in self.index.things([*chain(*levels)], self.as_of)]
        names = dict.fromkeys(str(Address(place.asset)) for place in places if place)
        found = (self.index.number(DATASET, name) for name in names)
        return [box for box in found if box is not None]

    def _around(self, box: int, side: Direction, depth: int | None) -> Iterator[int]:
        for level in self.index.levels([box], side, depth, self.as_of):
            yield from sorted(level)

    def _selected(self, selector: str) -> tuple[str, dict[Direction, int | None]]:
        """Return the name in a selector, and how far it goes to each side, None for to the end."""
        readings = _readings(selector)
        up, name, down = next((reading for reading in readings if self._is_known(reading[1])), readings[0])
        depths = dict[Direction, int | None]()
        for side, text in zip(_SIDES, (up, down), strict=True):
            if text is not None:
                depths[side] = min(int(text), MOST_BOXES) if text else None
        return name, depths

    def _is_known(self, name: str) -> bool:
        place = Address.parse(name)
        return any(self.index.find(text, as_of=self.as_of) for text in {name, str(place or name)})

    def _box_of(self, address: str) -> int:
        """Return the box of what an address names: its dataset, or the job that it is."""
        found = queries.find(self.index, address, as_of=self.as_of)
        if found.kind == JOB:
            return self._number(JOB, found.name)
        place = Address.parse(found.name)
        number = self.index.number(DATASET, str(Address(place.asset))) if place else None
        if number is None:
            raise LineageError(f"{address}: found a {found.kind}, expected a dataset, or a part of one, to draw")
        return number

    def _column_of(self, address: str) -> int:
        """Return the column that an address names; of a dataset without columns, the one that stands for it."""
        found = queries.find(self.index, address, as_of=self.as_of)
        place = Address.parse(found.name)
        name = (place.column or WHOLE) if place else WHOLE
        number = self.index.number(COLUMN, str(Address(place.asset, name))) if place else None
        if number is None:
            raise LineageError(f"{address}: found a {found.kind}, expected a column, to follow it")
        return number

    def _number(self, kind: str, name: str) -> int:
        number = self.index.number(kind, name)
        assert number is not None  # noqa: S101 - it was found just now
        return number

    def _levels(self, side: Direction) -> Iterator[list[int]]:
        """Yield what is on the path that is followed, on one side of its column, nearest first.

        Of a path to another column that is what leads there, with that column.
        """
        assert self.column is not None  # noqa: S101 - as the caller has looked
        within = self._leading() if self.until is not None else None
        for level in self.index.levels([self.column], side, None, self.as_of):
            yield [
                number
                for number in level
                if number not in self._tags and (within is None or (side == "downstream" and number in within))
            ]

    def _leading(self) -> set[int]:
        """Return the column at which the path ends, and all that is upstream of it."""
        assert self.until is not None  # noqa: S101 - as the caller has looked
        levels = self.index.levels([self.until], "upstream", None, self.as_of)
        return {self.until, *chain.from_iterable(levels)}

    def _thing(self, box: int) -> tuple[str, str]:
        if box not in self._names:
            (found,) = self.index.things([box], self.as_of)
            self._names[box] = found.kind, found.name
        return self._names[box]

    def _name(self, box: int) -> str:
        return self._thing(box)[1]

    def _columns_of(self, box: int) -> dict[int, Address]:
        """Return the columns of a box by their numbers, in declared order, others after them."""
        if box not in self._columns:
            kind, name = self._thing(box)
            asset = _asset(name) if kind == DATASET else ""
            found = self.index.numbers(COLUMN, asset, as_of=self.as_of) if asset else {}
            order = {column: place for place, column in enumerate(self.declared.get(asset, ()))}
            ordered = sorted(found, key=lambda number: order.get(str(found[number].column), len(order)))
            self._columns[box] = {number: found[number] for number in ordered}
        return self._columns[box]

    def _is_lit(self, number: int) -> bool:
        return number == self.column or any(number in numbers for numbers in self.sides.values())

    def _lit(self, box: int) -> list[int]:
        return [number for number in self._columns_of(box) if self._is_lit(number)] if self.sides else []

    def _rows_of(self, box: int) -> list[int]:
        """Return the columns that an opened box shows: those on the path first, then in their own order."""
        name = self._name(box)
        named = self._matching(box)
        if (self.view.only or name not in self.view.opened) and name not in self.view.words:
            named = [number for number in named if self._is_lit(number)]
        named.sort(key=lambda number: not self._is_lit(number))
        return named[: min(self.view.rows.get(name, ROWS), MOST_ROWS)]

    def _view_opens(self, box: int) -> bool:
        """Return whether a box is opened although it shows no column: one in which nothing was found."""
        return self._name(box) in self.view.words

    def _matching(self, box: int) -> list[int]:
        """Return the columns of a box whose names contain what is looked for in it."""
        words, columns = self.view.words.get(self._name(box), "").lower(), self._columns_of(box)
        named = {number: str(place.column) for number, place in columns.items() if place.column != WHOLE}
        return [number for number, name in named.items() if words in name.lower()]

    def _box(self, box: int, others: set[int], rows: Sequence[int] | None) -> DrawnBox:
        kind, name = self._thing(box)
        beside = {side: {*self._around(box, side, 1)} - self._tags - {box} for side in _SIDES}
        columns = self._columns_of(box)
        return DrawnBox(
            name,
            kind,
            _asset(name) if kind == DATASET else name,
            len(beside["upstream"]),
            len(beside["upstream"] & others),
            len(beside["downstream"]),
            len(beside["downstream"] & others),
            len([place for place in columns.values() if place.column != WHOLE]),
            len(self._matching(box)),
            len(self._lit(box)),
            None if rows is None else [self._column(number, columns[number]) for number in rows],
        )

    def _column(self, number: int, place: Address) -> DrawnColumn:
        (thing,) = self.index.things([number], self.as_of)
        up, down = (len({*self._around(number, side, 1)} - self._tags) for side in _SIDES)
        return DrawnColumn(str(place.column), thing.name, self._is_lit(number), up, down, thing.facts)

    def _edges(self, boxes: Sequence[int], rows: Mapping[int, Sequence[int]]) -> list[DrawnEdge]:
        """Return the lines between boxes: between their columns where both show them, else between the boxes.

        What stands for something without columns, such as a model, is its box.
        """
        owner = {number: box for box, numbers in rows.items() for number in numbers}
        shown = {number: str(self._columns_of(box)[number].column) for number, box in owner.items()}
        for box in boxes:
            wholes = [number for number, place in self._columns_of(box).items() if place.column == WHOLE]
            owner, shown = owner | dict.fromkeys(wholes, box), shown | dict.fromkeys(wholes, "")
        fine = dict[tuple[int, int], list[DrawnEdge]]()
        for source, target in self.index.edges_among([*owner], as_of=self.as_of):
            ends = owner[source], owner[target]
            names = self._name(ends[0]), self._name(ends[1])
            edge = DrawnEdge(*names, shown[source], shown[target], self._is_path(source, target))
            fine.setdefault(ends, []).append(edge)
        found = [edge for ends, edges in fine.items() if ends[0] != ends[1] for edge in edges]
        pairs = [ends for ends in self.index.edges_among(boxes, as_of=self.as_of) if ends[0] != ends[1]]
        through = self._through_jobs(pairs)
        for ends in pairs:
            if ends not in fine and ends not in through:
                lit = bool(self.sides) and self._is_box_path(*ends)
                found.append(DrawnEdge(self._name(ends[0]), self._name(ends[1]), is_on_path=lit))
        if self.view.only and self.sides:
            found = [edge for edge in found if edge.is_on_path]
        return sorted(found, key=lambda edge: (edge.source, edge.target, edge.source_column, edge.target_column))

    def _through_jobs(self, pairs: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
        """Return the pairs of datasets between which a job is drawn: the line through it says the same, and more."""
        jobs = {box for pair in pairs for box in pair if self._thing(box)[0] == JOB}
        read = {job: [source for source, target in pairs if target == job] for job in jobs}
        written = {job: [target for source, target in pairs if source == job] for job in jobs}
        return {(source, target) for job in jobs for source in read[job] for target in written[job]}

    def _is_path(self, source: int, target: int) -> bool:
        """Return whether a line between columns leads to the column that is followed, or from it."""
        ends = {source, target} - {self.column}
        return any(ends <= numbers for numbers in self.sides.values())

    def _is_box_path(self, source: int, target: int) -> bool:
        """Return whether there is a line on the path between the columns of two boxes."""
        above = {*self._lit(source)}
        edges = self.index.edges_among(above | {*self._lit(target)}, as_of=self.as_of)
        return any(one in above and self._is_path(one, other) for one, other in edges)


def _readings(selector: str) -> list[tuple[str | None, str, str | None]]:
    """Return how a selector can be read: a name may begin or end as a selector does, such as `x+1`."""
    match = _SELECTOR.fullmatch(selector)
    if match is None:
        raise LineageError(f"found selector {selector!r}, expected one like +demand_model or demand_model+1")
    up, name, down = match["up"], match["name"], match["down"]
    found = [(up, name, down)]
    found += [(up, f"{name}+{down}", None)] if down is not None else []
    found += [(None, f"{up}+{name}", down)] if up is not None else []
    return [*found, (None, selector, None)]


def _asset(name: str) -> str:
    """Return the name of a dataset without the quotes of its address."""
    place = Address.parse(name)
    return place.asset if place else name
