"""Row lineage by perturbation: a row contributed to a value if perturbing its cell alone changes the value.

Lags and windows need no declaration. The history is copied once for each candidate cell, the cell is perturbed in its
copy, and the functions themselves compute all copies in one batch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from bikes_assets.core.columns import ColumnFunction, column_lineage, compute
from bikes_assets.core.errors import LineageError

if TYPE_CHECKING:
    import narwhals as nw
    import numpy as np

    from bikes_assets.core.schema import Column, Schema

    Changes: TypeAlias = Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
    """What is perturbed, by input column: numbers of copies, of rows, and places that values are taken from instead."""

Pair: TypeAlias = tuple[str, str]
"""Output column and input column."""

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
        it is made from, the keys of the rows that contributed, in order.

    Raises:
        LineageError: the frame has no such row.
        FeatureError: see `columns.compute`.
    """
    lineage = column_lineage(functions, steps)
    sources = {name: lineage[name] for name in lineage if columns is None or name in columns}
    bench = _Bench(frame, (*functions, *steps), sources, key, at, schema)
    found = {pair: tuple(bench.keys[row] for row in rows) for pair, rows in bench.rows().items()}
    return bench.values, found


class _Bench:
    """A history whose cells are perturbed in copies, and the output of the functions for one row.

    The cells of a copy are given as the places that their values are taken from: the history's rows, and after them,
    for each column, a low, a high and a missing value.
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
        import narwhals as nw

        whole = nw.from_native(frame, eager_only=True)
        self.keys: list[Any] = whole[key].to_list()
        if at not in self.keys:
            raise LineageError(f"{schema.name}: found no row {at}, expected one of {self.keys[0]} to {self.keys[-1]}")
        self.functions, self.sources, self.key = functions, sources, key
        self.row, self.size = self.keys.index(at), len(self.keys)
        history = whole.select(*dict.fromkeys(column for columns in sources.values() for column in columns))
        self.cells = {
            name: nw.concat(
                [history.select(name), _set_values(history[name], schema[name], is_key=name == key)], how="vertical"
            )[name]
            for name in history.columns
        }
        self.undisturbed = {name: found[0] for name, found in self._computed(0, self.size, 1, {}, sources).items()}

    @property
    def values(self) -> dict[str, float | None]:
        """The row's unperturbed values."""
        import math

        return {name: None if math.isnan(value) else float(value) for name, value in self.undisturbed.items()}

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
        import numpy as np

        blocks = sorted(
            {block for blocks in question.values() for block in blocks if block}, key=lambda block: block[0]
        )
        # cells that are all set to one value might leave a difference unchanged: some get the value of another row
        shuffles = [np.random.default_rng(seed).permutation(self.size) for seed in range(_SHUFFLES)]
        ways = [*(np.full(self.size, self.size + way) for way in _WAYS), *shuffles]
        tries = [(np.array(block), way[block]) for block in blocks for way in ways]
        change = (
            np.concatenate([np.full(len(rows), number) for number, (rows, _) in enumerate(tries)]),
            np.concatenate([rows for rows, _ in tries]),
            np.concatenate([places for _, places in tries]),
        )
        changes = {column: change for _, column in question}
        moves = self._moves(*window, len(tries), changes, {name for name, _ in question})
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
        import numpy as np

        waiting = {pair: {row for block in blocks for row in block} for pair, blocks in question.items()}
        rows = np.array(sorted(set[int]().union(*waiting.values())), dtype=int)
        if not len(rows):
            return waiting
        tried, way = np.tile(rows, len(ways)), np.repeat(ways, len(rows))
        copies = np.arange(len(tried))
        changes = {
            column: (copies, tried, self.size + np.where((way == _HIGH) & self._is_high(column)[tried], _LOW, way))
            for (_, column), left in waiting.items()
            if left
        }
        moves = self._moves(*window, len(tried), changes, {name for (name, _), left in waiting.items() if left})
        return {pair: left & set(tried[moves[pair[0]]].tolist()) if left else left for pair, left in waiting.items()}

    def _window(self, question: Mapping[Pair, Sequence[range]]) -> tuple[int, int]:
        """Return the first row, and the one after the last, of the candidate rows and the row in question."""
        blocks = [range(self.row, self.row + 1), *(block for blocks in question.values() for block in blocks if block)]
        return min(block.start for block in blocks), max(block.stop for block in blocks)

    def _only_together(self, name: str, column: str) -> list[int]:
        """Return the rows that change the value by themselves when put back, where removing all rows changes it."""
        import numpy as np

        if column == self.key:
            return []
        everything = np.arange(self.size)
        missing = np.full(self.size, self.size + _MISSING)
        change = {column: (np.zeros(self.size, dtype=int), everything, missing)}
        if not self._moves(0, self.size, 1, change, {name})[name][0]:
            return []
        nothing = self._said(0, self.size, 1, change, {name})[name][0]
        known = np.flatnonzero(~self.cells[column].is_null().to_numpy().astype(bool)[: self.size])
        places = np.tile(missing, (len(known), 1))
        places[np.arange(len(known)), known] = known
        copies = np.repeat(np.arange(len(known)), self.size)
        change = {column: (copies, np.tile(everything, len(known)), places.ravel())}
        said = self._said(0, self.size, len(known), change, {name})[name]
        return known[~_same(said, nothing)].tolist()

    def _is_high(self, column: str) -> np.ndarray:
        cells = self.cells[column]
        return (cells == cells[self.size + _HIGH]).fill_null(False).to_numpy().astype(bool)

    def _moves(
        self, first: int, last: int, count: int, changes: Changes, names: Collection[str]
    ) -> dict[str, np.ndarray]:
        """Return for each output column which copies change its value."""
        said = self._said(first, last, count, changes, names)
        return {name: ~_same(found, self.undisturbed[name]) for name, found in said.items()}

    def _said(
        self, first: int, last: int, count: int, changes: Changes, names: Collection[str]
    ) -> dict[str, np.ndarray]:
        """Return each output column's value in each copy of rows `first` to before `last`, NaN where it is missing.

        The copies follow one another as one long history, which costs a tenth of many short ones. Guards verify that no
        copy affects the next: copies that are perturbed in every row, or in none, follow each other in every order, and
        must not change by what precedes them. Where they do, the copies are made of all rows; where that fails too,
        each is computed by itself.
        """
        import numpy as np

        for begin, end in dict.fromkeys(((first, last), (0, self.size))):
            rows = np.arange(begin, end)
            behind = [
                (np.full(len(rows), count + number), rows, np.full(len(rows), self.size + way))
                for number, way in enumerate(_GUARDS)
                if way in _WAYS
            ]
            guarded = {
                column: tuple(np.concatenate(parts) for parts in zip(change, *behind, strict=True))
                for column, change in changes.items()
            }
            said = self._computed(begin, end, count + len(_GUARDS), guarded, names)
            if all(self._is_apart(name, found[count:]) for name, found in said.items()):
                return {name: found[:count] for name, found in said.items()}
        return self._computed(0, self.size, count, changes, names, apart=True)

    def _is_apart(self, name: str, found: np.ndarray) -> bool:
        """Return whether the guards' output is the same whatever precedes them, and right for unperturbed ones."""
        import numpy as np

        ways = np.array(_GUARDS[1:])
        alike = [found[1:][ways == way] for way in (*_WAYS, _NONE)]
        return all(_same(said, said[0]).all() for said in alike) and bool(_same(alike[-1][0], self.undisturbed[name]))

    def _computed(
        self,
        first: int,
        last: int,
        count: int,
        changes: Mapping[str, tuple[np.ndarray, ...]],
        names: Collection[str],
        *,
        apart: bool = False,
    ) -> dict[str, np.ndarray]:
        import narwhals as nw
        import numpy as np

        width, columns = last - first, list[nw.Series[Any]]()
        for column in dict.fromkeys(column for name in names for column in self.sources[name]):
            places = np.tile(np.arange(first, last), (count, 1))
            if column in changes:
                copies, rows, instead = changes[column]
                places[copies, rows - first] = instead
            columns.append(self.cells[column][places.ravel()])
        backend = columns[0].implementation
        numbers = {_COPY: np.repeat(np.arange(count), width), _ORDER: np.arange(count * width)}
        columns += [nw.new_series(name, values, backend=backend) for name, values in numbers.items()]
        frame = nw.concat([nw.maybe_reset_index(column.to_frame()) for column in columns], how="horizontal")
        needed = list(_needed(names, self.functions))
        made = nw.from_native(compute(frame.to_native(), needed, _ORDER, by=[_COPY] if apart else []), eager_only=True)
        at = np.arange(count) * width + self.row - first
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


def _set_values(cells: nw.Series[Any], column: Column, *, is_key: bool) -> nw.DataFrame[Any]:
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
        return three.scatter([_LOW, _HIGH, _MISSING], [low, high, low]).to_frame()
    return three.shift(len(three)).scatter([_LOW, _HIGH], [low, high]).to_frame()


def _same(found: np.ndarray, value: Any) -> np.ndarray:
    """Return where values are the same, within the rounding error that the order of a floating-point sum causes."""
    import numpy as np

    return np.isclose(found, value, rtol=1e-9, atol=1e-12, equal_nan=True)
