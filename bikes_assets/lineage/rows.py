"""Row lineage by perturbation: a row contributed to a value if perturbing its cell alone changes the value.

Lags and windows need no declaration. The history is copied once for each candidate cell, the cell is perturbed in its
copy, and the functions themselves compute all copies in one batch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import narwhals as nw
import numpy as np

from bikes_assets.core.columns import ColumnFunction, column_lineage, compute
from bikes_assets.core.errors import LineageError
from bikes_assets.lineage.perturbation import LEAST_SCALE, Case, Cells, Places, Table, differ

if TYPE_CHECKING:
    from bikes_assets.core.schema import Column, Schema

Pair: TypeAlias = tuple[str, str]
"""Output column and input column."""

_differ = partial(differ, scale=LEAST_SCALE)
_COPY, _ORDER = "copy of the history", "place in all copies"
_LOW, _HIGH, _MISSING = _WAYS = (0, 1, 2)
_NONE = 3
_GUARDS = (0, 0, 1, 0, 2, 0, 3, 1, 1, 2, 1, 3, 2, 2, 3, 3, 0)
"""How the guards at the end of a batch are perturbed: each way follows each other once."""
_BLOCKS, _FEW, _PARTS, _SHUFFLES = 12, 3, 10, 1


def rows_behind(
    frame: Any,
    functions: Sequence[ColumnFunction],
    key: str,
    at: Any,
    *,
    schema: Schema,
    steps: Sequence[ColumnFunction] = (),
    columns: Collection[str] | None = None,
) -> tuple[dict[str, float | None], dict[Pair, tuple[Any, ...]]]:
    """Return a row's values, and the rows that contributed to each, by input column.

    A cell is set to a high value, to a low value, and to missing, each in a copy of its own; where one of these changes
    the value, its row contributed. A cell that is missing is filled in: where that changes the value, it contributed by
    being missing. It may be that no cell of a column changes the value by itself, but removing all of them does (as in
    a ratio of two windows with the same rows): then those cells contributed that change it by themselves when they are
    put back.

    Candidates are only cells of columns that a function declares, in a block that changes the value when all of the
    block is perturbed, in several ways.

    Args:
        frame: an eager frame that Narwhals reads, with the history that the functions need; rows are in order of the
            key, and integers may be missing.
        functions: the column functions. Each reads columns of the frame, or those that others or steps make.
        key: name of the key column; its cells are perturbed, but never set to missing.
        at: key of the row in question.
        schema: the frame's declared columns; cells are set to their allowed values.
        steps: see `columns.compute`.
        columns: the output columns in question, None for all.

    Returns:
        The value of each output column, None where it is missing; and for each output column and each input column that
        it is computed from, the keys of the rows that contributed, in order.

    Raises:
        LineageError: the frame has no such row.
        FeatureError: see `columns.compute`.
    """
    lineage = column_lineage(functions, steps)
    sources = {name: lineage[name] for name in lineage if columns is None or name in columns}
    history = _History(frame, (*functions, *steps), sources, key, at, schema)
    return history.values, {pair: tuple(history.keys[row] for row in rows) for pair, rows in history.rows().items()}


class _History:
    """A history whose cells are perturbed in copies, and the output of the functions for one row.

    The cells of each column are followed by a low, a high and a missing value.
    """

    def __init__(
        self,
        frame: Any,
        functions: Sequence[ColumnFunction],
        sources: Mapping[str, tuple[str, ...]],
        key: str,
        at: Any,
        schema: Schema,
    ) -> None:
        whole = nw.from_native(frame, eager_only=True)
        self.keys: list[Any] = whole[key].to_list()
        if at not in self.keys:
            raise LineageError(f"{schema.name}: found no row {at}, expected one of {self.keys[0]} to {self.keys[-1]}")
        self.functions, self.sources, self.key = functions, sources, key
        self.row, self.size = self.keys.index(at), len(self.keys)
        history = whole.select(*dict.fromkeys(column for columns in sources.values() for column in columns))
        self.everything = np.arange(self.size)
        self.cells = {
            name: Cells(history[name], _set_values(history[name], schema[name], is_key=name == key))
            for name in history.columns
        }
        self.table = Table(history, self.cells)
        self.unperturbed = {name: values[0] for name, values in self._computed([{}], sources, (0, self.size)).items()}

    @property
    def values(self) -> dict[str, float | None]:
        """The row's unperturbed values."""
        import math

        return {name: None if math.isnan(value) else float(value) for name, value in self.unperturbed.items()}

    def rows(self) -> dict[Pair, list[int]]:
        """Return the rows that contributed."""
        found: dict[Pair, list[int]] = {}
        for group in groups_apart(self.sources):
            for alike in _alike(self._in_question(group)):
                for pair, rows in self._one_by_one(alike).items():
                    found[pair] = rows or self._only_together(*pair)
        return {(name, column): found[name, column] for name, columns in self.sources.items() for column in columns}

    def _in_question(self, group: Sequence[Pair]) -> dict[Pair, list[range]]:
        """Return the blocks of rows that change a value when a whole block is perturbed.

        Where there are few such blocks, they are divided until they hold few rows, which costs less than trying every
        row.
        """
        blocks = [*_divided(range(self.row + 1), _BLOCKS), range(self.row + 1, self.size)]
        question = self._that_move(dict.fromkeys(group, blocks), (0, self.size))
        while wide := {
            pair: [part for block in blocks for part in _divided(block, _PARTS)]
            for pair, blocks in question.items()
            if len(blocks) <= _FEW and any(len(block) > _PARTS for block in blocks)
        }:
            question |= self._that_move(wide, self._window(wide))
        return question

    def _that_move(self, question: Mapping[Pair, Sequence[range]], window: tuple[int, int]) -> dict[Pair, list[range]]:
        """Return, of the candidate blocks, those that change a value when a whole block is perturbed."""
        blocks = sorted(
            {block for blocks in question.values() for block in blocks if block}, key=lambda block: block[0]
        )
        # cells that are all set to one value might leave a difference unchanged: some get the value of another row
        shuffles = [np.random.default_rng(seed).permutation(self.size) for seed in range(_SHUFFLES)]
        ways = [*(np.full(self.size, self.size + way) for way in _WAYS), *shuffles]
        columns = {column for _, column in question}
        slices = [slice(block.start, block.stop) for block in blocks]
        cases = [dict.fromkeys(columns, self._places(block, way[block])) for block in slices for way in ways]
        moves = self._moves(cases, {name for name, _ in question}, window)
        moving = {
            name: {block for block, moved in zip(blocks, found.reshape(len(blocks), -1), strict=True) if moved.any()}
            for name, found in moves.items()
        }
        return {pair: [block for block in asked if block in moving[pair[0]]] for pair, asked in question.items()}

    def _one_by_one(self, question: Mapping[Pair, Sequence[range]]) -> dict[Pair, list[int]]:
        """Return, of the candidate rows, those whose cell changes a value by itself."""
        # the first perturbation changes nearly every value that can change; the rest is tried in the other ways
        window = self._window(question)
        found = self._moved_by(question, (_HIGH,), window)
        left = {
            pair: _runs(row for block in question[pair] for row in block if row not in found[pair]) for pair in found
        }
        if any(left.values()):
            for pair, rows in self._moved_by(self._that_move(left, window), (_LOW, _MISSING), window).items():
                found[pair] |= rows
        return {pair: sorted(rows) for pair, rows in found.items()}

    def _moved_by(
        self, question: Mapping[Pair, Sequence[range]], ways: Sequence[int], window: tuple[int, int]
    ) -> dict[Pair, set[int]]:
        """Return, of the candidate rows, those whose cell changes a value when it is perturbed in one of these ways."""
        waiting = {pair: {row for block in blocks for row in block} for pair, blocks in question.items()}
        rows = np.array(sorted(set[int]().union(*waiting.values())), dtype=int)
        if not len(rows):
            return waiting
        tried, ways_of = np.tile(rows, len(ways)), np.repeat(ways, len(rows))
        instead = {
            column: self.size + np.where((ways_of == _HIGH) & self._is_high(column)[tried], _LOW, ways_of)
            for (_, column), left in waiting.items()
            if left
        }
        cases = [
            {column: self._places(row, places[number]) for column, places in instead.items()}
            for number, row in enumerate(tried)
        ]
        moves = self._moves(cases, {name for (name, _), left in waiting.items() if left}, window)
        return {pair: left & set(tried[moves[pair[0]]].tolist()) if left else left for pair, left in waiting.items()}

    def _window(self, question: Mapping[Pair, Sequence[range]]) -> tuple[int, int]:
        """Return the first row, and the one after the last, of the candidate rows and the row in question."""
        blocks = [range(self.row, self.row + 1), *(block for blocks in question.values() for block in blocks if block)]
        return min(block.start for block in blocks), max(block.stop for block in blocks)

    def _only_together(self, name: str, column: str) -> list[int]:
        """Return the rows that change the value by themselves when put back, where removing all rows changes it."""
        if column == self.key:
            return []
        missing = np.full(self.size, self.size + _MISSING)
        removed, everywhere = {column: missing}, (0, self.size)
        if not self._moves([removed], {name}, everywhere)[name][0]:
            return []
        nothing = self._outputs([removed], {name}, everywhere)[name][0]
        known = np.flatnonzero(self.cells[column].is_known(self.everything))
        put_back = [{column: np.where(self.everything == row, row, missing)} for row in known]
        return known[_differ(self._outputs(put_back, {name}, everywhere)[name], nothing)].tolist()

    def _places(self, rows: Any, instead: Any) -> np.ndarray:
        """Return the places of a column's cells when those of some rows are taken from others instead."""
        places = self.everything.copy()
        places[rows] = instead
        return places

    def _is_high(self, column: str) -> np.ndarray:
        return ~self.cells[column].differs(self.everything, np.full(self.size, self.size + _HIGH))

    def _moves(self, cases: Sequence[Places], names: Collection[str], window: tuple[int, int]) -> dict[str, np.ndarray]:
        """Return for each output column which copies change its value."""
        outputs = self._outputs(cases, names, window)
        return {name: _differ(values, self.unperturbed[name]) for name, values in outputs.items()}

    def _outputs(
        self, cases: Sequence[Places], names: Collection[str], window: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """Return each output column's value in each copy of the rows of a window, NaN where it is missing.

        The copies follow one another as one long history, which costs a tenth of many short ones. Guards verify that no
        copy affects the next: copies that are perturbed in every row, or in none, follow each other in every order, and
        must not change by what precedes them. Where they do, all rows are copied; where that fails too,
        each is computed by itself.
        """
        columns = {column for places in cases for column in places}
        guards = [
            dict.fromkeys(columns, np.full(self.size, self.size + way)) if way in _WAYS else {} for way in _GUARDS
        ]
        for rows in dict.fromkeys((window, (0, self.size))):
            outputs = self._computed([*cases, *guards], names, rows)
            if all(self._is_apart(name, values[len(cases) :]) for name, values in outputs.items()):
                return {name: values[: len(cases)] for name, values in outputs.items()}
        return self._computed(cases, names, (0, self.size), apart=True)

    def _is_apart(self, name: str, found: np.ndarray) -> bool:
        """Return whether the guards' output is the same whatever precedes them, and right for unperturbed ones."""
        ways = np.array(_GUARDS[1:])
        alike = [found[1:][ways == way] for way in (*_WAYS, _NONE)]
        wanted = [*(outputs[0] for outputs in alike[:-1]), self.unperturbed[name]]
        return not any(_differ(outputs, value).any() for outputs, value in zip(alike, wanted, strict=True))

    def _computed(
        self, cases: Sequence[Places], names: Collection[str], window: tuple[int, int], *, apart: bool = False
    ) -> dict[str, np.ndarray]:
        rows, read = np.arange(*window), {column for name in names for column in self.sources[name]}
        frame = self.table.frame([Case(places, kept=rows) for places in cases], _COPY, read)
        order = nw.new_series(_ORDER, np.arange(len(frame)), backend=frame.implementation)
        needed = list(_needed(names, self.functions))
        copies = frame.with_columns(order).to_native()
        made = nw.from_native(compute(copies, needed, _ORDER, by=[_COPY] if apart else []), eager_only=True)
        at = np.arange(len(cases)) * len(rows) + self.row - window[0]
        return {name: made[name].cast(nw.Float64).to_numpy()[at].astype(float) for name in names}


def _needed(names: Collection[str], functions: Sequence[ColumnFunction]) -> Iterator[ColumnFunction]:
    """Yield the functions that make these columns, and those whose columns they read."""
    needed: set[str] = set(names)
    while more := {column for item in functions if item.name in needed for column in item.inputs} - needed:
        needed |= more
    yield from (item for item in functions if item.name in needed)


def groups_apart(sources: Mapping[str, tuple[str, ...]]) -> list[list[Pair]]:
    """Return all pairs in groups for one batch each: of the columns that a value reads, one is perturbed in a copy."""
    groups: list[tuple[set[str], list[Pair]]] = []
    for column in dict.fromkeys(column for columns in sources.values() for column in columns):
        readers = {name for name, columns in sources.items() if column in columns}
        group = next((group for group in groups if group[0].isdisjoint(readers)), None)
        if group is None:
            groups.append(group := (set(), []))
        group[0].update(readers)
        group[1].extend((name, column) for name in sorted(readers))
    return [pairs for _, pairs in groups]


def _alike(question: Mapping[Pair, list[range]]) -> list[dict[Pair, list[range]]]:
    """Return pairs grouped by similar numbers of candidate rows: a batch computes every function on every copy."""
    alike: dict[int, dict[Pair, list[range]]] = {}
    for pair, blocks in question.items():
        alike.setdefault(sum(map(len, blocks)).bit_length() // 2, {})[pair] = blocks
    return list(alike.values())


def _runs(rows: Iterable[int]) -> list[range]:
    """Return sorted rows as ranges."""
    runs: list[range] = []
    for row in rows:
        if runs and runs[-1].stop == row:
            runs[-1] = range(runs[-1].start, row + 1)
        else:
            runs.append(range(row, row + 1))
    return runs


def _divided(block: range, parts: int) -> list[range]:
    """Return a block in parts of about equal size, none of them empty."""
    parts = min(parts, len(block))
    edges = [block[0] + len(block) * part // parts for part in range(parts)]
    return [range(*edge) for edge in zip(edges, [*edges[1:], block[-1] + 1], strict=True)]


def _set_values(cells: nw.Series[Any], column: Column, *, is_key: bool) -> nw.Series[Any]:
    """Return a low and a high value, allowed or observed, and a missing one; for a key, the lowest again."""
    observed = cells.drop_nulls()
    low: Any = observed.min() if len(observed) else 0
    high: Any = observed.max() if len(observed) else 0
    if column.allowed:
        low, high = min(column.allowed), max(column.allowed)
    low = low if column.minimum is None else type(low)(column.minimum)
    high = high if column.maximum is None else type(high)(column.maximum)
    if low == high and column.type in ("int64", "float64"):
        high = high + 1
    three = cells[[0, 0, 0]]
    if is_key:
        return three.scatter([_LOW, _HIGH, _MISSING], [low, high, low])
    return three.shift(len(three)).scatter([_LOW, _HIGH], [low, high])
