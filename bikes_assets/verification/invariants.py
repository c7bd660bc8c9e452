"""Invariants: what holds of every row of a table, or of its rows together, so that perturbed tables are valid inputs.

An invariant is a function that makes a perturbed table valid again. It is given two frames with the same rows in the
same order: the perturbed one and the valid one that it was perturbed from. Cells in which they differ may be changed;
it returns the perturbed frame with such cells repaired. A valid table is returned unchanged. Any function will do:

>>> def total_is_the_sum(frame, before):
...     return frame.assign(cnt=frame["casual"] + frame["registered"])

One with an attribute `names`, the columns that it ties together, is called only if one of these was perturbed.

Those below cover the usual cases. They do not change a row with a missing cell: a missing value contradicts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import narwhals as nw
import numpy as np

from bikes_assets.lineage.perturbation import comparable, differ, joined, numbers_of

Invariant: TypeAlias = Callable[[Any, Any], Any]
"""From a perturbed native frame, and the valid one before, to a valid one."""


@dataclass(frozen=True, slots=True)
class Total:
    """A column is the sum of others: `Total("cnt", ("casual", "registered"))`. None of them is negative.

    If the total was perturbed it becomes the sum; otherwise perturbed parts share what the other parts leave of it.

    Attributes:
        column: the sum.
        parts: its parts.
    """

    column: str
    parts: Sequence[str]

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that it ties together."""
        return (self.column, *self.parts)

    def __call__(self, frame: Any, before: Any) -> Any:
        """Return the frame with that sum; see above."""
        rows, valid = _eager(frame), _eager(before)
        values = {name: numbers_of(rows[name]) for name in self.names}
        known = np.asarray(~np.isnan([*values.values()]).any(axis=0))
        free = [name for name in self.parts if differs(rows[name], valid[name]).any()]
        if differs(rows[self.column], valid[self.column]).any():
            parts = {name: np.abs(values[name]) if name in free else values[name] for name in self.parts}
            total = np.sum([*parts.values()], axis=0)
            return _set(rows, {self.column: total, **{name: parts[name] for name in free}}, known)
        if not free:
            return rows.to_native()
        left = values[self.column] - np.sum([values[name] for name in self.parts if name not in free], axis=0)
        shares = np.abs(np.array([values[name] for name in free])) + 1e-9
        parts = left * shares / shares.sum(axis=0)
        if rows[self.column].dtype.is_integer():
            parts = np.floor(parts)
        parts[-1] = left - parts[:-1].sum(axis=0)
        return _set(rows, dict(zip(free, parts, strict=True)), known)


@dataclass(frozen=True, slots=True)
class _OfColumns:
    """An invariant in which all columns have the same role, so that each is an argument."""

    columns: tuple[str, ...]

    def __init__(self, *columns: str) -> None:
        object.__setattr__(self, "columns", columns)

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that it ties together."""
        return self.columns


@dataclass(frozen=True, slots=True, init=False)
class Ordered(_OfColumns):
    """Columns ascend from left to right in every row: `Ordered("lowest", "value", "highest")`.

    Perturbed cells are clipped to the unperturbed ones around them, and sorted among themselves.

    Attributes:
        columns: numeric columns, from the lowest to the highest.
    """

    def __call__(self, frame: Any, before: Any) -> Any:
        """Return the frame with its columns in order; see above."""
        rows, valid = _eager(frame), _eager(before)
        values = np.array([numbers_of(rows[name]) for name in self.columns])
        free = np.array([differs(rows[name], valid[name]) for name in self.columns])
        low = np.fmax.accumulate(np.where(free, -np.inf, values), axis=0)
        high = np.fmin.accumulate(np.where(free, np.inf, values)[::-1], axis=0)[::-1]
        # cells between the same two unperturbed neighbours are sorted among themselves; unperturbed cells keep theirs
        ordered = np.where(free, np.clip(values, low, high), values)
        known = ~np.isnan(values).any(axis=0)
        ordered = np.sort(ordered, axis=0)
        changed = {name: cells for name, cells, some in zip(self.columns, ordered, free, strict=True) if some.any()}
        return _set(rows, changed, np.asarray(known))


@dataclass(frozen=True, slots=True)
class Derived:
    """A column is computed from others: `Derived("weekday", ("ts",), lambda frame: frame["ts"].dt.dayofweek)`.

    It is recomputed from them; if only they were perturbed, rows in which that gives another value are restored.

    Attributes:
        column: the column.
        sources: the columns that it is computed from.
        function: from a native frame to the column's values, a series of its engine or an array.
    """

    column: str
    sources: Sequence[str]
    function: Callable[[Any], Any]

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that it ties together."""
        return (self.column, *self.sources)

    def __call__(self, frame: Any, before: Any) -> Any:
        """Return the frame with the computed column; see above."""
        rows, valid = _eager(frame), _eager(before)
        perturbed = [name for name in self.names if differs(rows[name], valid[name]).any()]
        if not perturbed:
            return rows.to_native()
        derived = nw.from_native(self.function(rows.to_native()), series_only=True, pass_through=True)
        if isinstance(derived, nw.Series):
            known = ~derived.is_null().to_numpy().astype(bool)
            values = numbers_of(derived) if derived.dtype.is_numeric() else derived.to_numpy()
        else:
            values = np.asarray(derived)
            known = values == values  # NaN is missing
        for name in self.names:
            known &= ~rows[name].is_null().to_numpy().astype(bool)
        return _set(rows, {self.column: values}, known)


@dataclass(frozen=True, slots=True, init=False)
class Together(_OfColumns):
    """Columns have only combinations that were observed: `Together("date", "weekday")`.

    Perturbed cells of a row are taken together from one row of the valid table that has the same values in the other,
    unperturbed columns.

    Attributes:
        columns: the columns.
    """

    def __call__(self, frame: Any, before: Any) -> Any:
        """Return the frame with observed combinations; see above."""
        rows, valid = _eager(frame), _eager(before)
        changed = {name: differs(rows[name], valid[name]) for name in self.columns}
        free = [name for name in self.columns if changed[name].any()]
        perturbed = np.logical_or.reduce([*changed.values()])
        for name in self.columns:  # what was made missing stays missing
            perturbed &= ~rows[name].is_null().to_numpy().astype(bool)
        old, new = (np.zeros(len(rows), dtype=np.int64) for _ in range(2))
        for name in self.columns:
            one, other = _codes(valid[name], rows[name])
            both = np.concatenate([old, new]) * (2 * len(rows) + 1) + np.concatenate([one, other])
            old, new = np.split(np.unique(both, return_inverse=True)[1], 2)
        perturbed &= ~np.isin(new, old)
        if not perturbed.any():
            return rows.to_native()
        held = np.zeros(len(rows), dtype=np.int64)
        for name in self.columns:
            if name not in free:
                held = np.unique(held * (len(rows) + 1) + _codes(valid[name], valid[name])[0], return_inverse=True)[1]
        observed, wanted = _codes(valid[free[0]], rows[free[0]])
        # of the rows with the same values, the one whose rank among them is that of the drawn value among all
        order = np.lexsort((observed, held))
        first = np.searchsorted(held[order], held)
        count = np.searchsorted(held[order], held, side="right") - first
        place = np.searchsorted(np.sort(observed), wanted) / len(rows)
        spread = (np.arange(len(rows)) * 0.6180339887498949 % 1 - 0.5) / np.sqrt(len(rows))
        donor = order[first + (np.clip(place + spread, 0, 1 - 1e-9) * count).astype(int)]
        donor = np.where(perturbed, donor, np.arange(len(rows)))
        cells = [_where(perturbed, valid[name][donor], rows[name]) for name in free]
        return rows.with_columns(*cells).to_native()


@dataclass(frozen=True, slots=True)
class Rising:
    """A column never falls from one row to the next in order of the key, such as a meter: `Rising("meter", "ts")`.

    Attributes:
        column: the numeric column.
        key: column that gives the order.
    """

    column: str
    key: str

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that it ties together."""
        return (self.column, self.key)

    def __call__(self, frame: Any, before: Any) -> Any:  # noqa: ARG002 - what comes after a perturbed cell rises, too
        """Return the frame with each cell raised to at least the highest cell before it."""
        rows = _eager(frame)
        values = numbers_of(rows[self.column])
        order = np.argsort(rows[self.key].to_numpy(), kind="stable")
        risen = values.copy()
        risen[order] = np.fmax.accumulate(values[order])
        return _set(rows, {self.column: risen}, ~np.isnan(values) & (risen != values))


@dataclass(frozen=True, slots=True)
class Unique:
    """No value of a column occurs in two rows: `Unique("ticket")`.

    A perturbed cell with another row's value gets a value that no row has any more.

    Attributes:
        column: the column.
    """

    column: str

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that it ties together."""
        return (self.column,)

    def __call__(self, frame: Any, before: Any) -> Any:
        """Return the frame with a column in which each value occurs once."""
        rows, valid = _eager(frame), _eager(before)
        perturbed = differs(rows[self.column], valid[self.column])
        old, new = _codes(valid[self.column], rows[self.column])
        new = np.where(perturbed, new, old)
        new = np.where(np.isin(new, old), new, -1)  # a value that is not in the table might occur twice as well
        taken, again = set(new[~perturbed].tolist()), list[int]()
        for row in np.flatnonzero(perturbed):
            if new[row] < 0 or new[row] in taken:
                again.append(int(row))
            else:
                taken.add(int(new[row]))
        left = [int(row) for row in range(len(rows)) if old[row] not in taken]
        donor = np.arange(len(rows))
        at = {int(code): row for row, code in enumerate(old)}
        for row in np.flatnonzero(perturbed):
            donor[row] = at.get(int(new[row]), row)
        donor[again] = left[: len(again)]
        cells = _where(perturbed, valid[self.column][donor], rows[self.column])
        return rows.with_columns(cells).to_native()


def differs(one: nw.Series[Any], other: nw.Series[Any]) -> np.ndarray:
    """Return the rows in which two columns differ; two missing values are equal."""
    if one.dtype.is_numeric() and other.dtype.is_numeric():
        return differ(numbers_of(one), numbers_of(other), 0)
    empty, gone = (item.is_null().to_numpy().astype(bool) for item in (one, other))
    return (one.to_numpy() != other.to_numpy()) & ~(empty & gone) | (empty != gone)


def _eager(frame: Any) -> nw.DataFrame[Any]:
    return nw.from_native(frame, eager_only=True)


def _codes(values: nw.Series[Any], others: nw.Series[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the ranks of values, and of others, among all of both."""
    codes = np.unique(np.concatenate([comparable(values), comparable(others)]), return_inverse=True)[1]
    return codes[: len(values)], codes[len(values) :]


def _set(rows: nw.DataFrame[Any], cells: dict[str, np.ndarray], where: np.ndarray) -> Any:
    """Return a native frame with other cells in some rows, in their original types."""
    made: list[nw.Series[Any]] = []
    for name, values in cells.items():
        dtype = rows[name].dtype
        native: Any = rows[name].to_native()
        known = values[where]
        if dtype.is_numeric():
            known = known.astype(int if dtype.is_integer() else float)
        if rows.implementation.is_pandas() and isinstance(native.dtype, np.dtype):  # many times faster
            all_cells = native.to_numpy().copy()
            all_cells[where] = known
            made.append(nw.new_series(name, all_cells, backend=rows.implementation))
            continue
        more = nw.new_series(name, known, backend=rows.implementation).cast(dtype)
        made.append(rows[name].scatter(where.nonzero()[0].tolist(), more))
    return rows.with_columns(*made).to_native()


def _where(rows: np.ndarray, one: nw.Series[Any], other: nw.Series[Any]) -> nw.Series[Any]:
    """Return one column in some rows, and another in the others."""
    return joined([other, one.cast(other.dtype)])[np.arange(len(rows)) + np.where(rows, len(rows), 0)]
