"""Perturbed copies of a table, in one frame: what row lineage and the verification of column lineage perturb with.

The cells of a copy are given as places: the column's own cells, followed by values to which they may be set.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import narwhals as nw
import numpy as np

_ALIKE, LEAST_SCALE = 1e-9, 1e-3
"""Share of a value's size by which equal values may differ, and the least magnitude of a column of floats."""

Places: TypeAlias = "Mapping[str, np.ndarray]"
"""By column, for each row of the table the place among the column's cells that its value is taken from."""


@dataclass(frozen=True)
class Case:
    """A perturbed copy of a table.

    Attributes:
        places: where the cells of perturbed columns are taken from.
        kept: positions of the rows that are kept, in order; None for all.
        shift: steps of the grid by which the key of every row is shifted.
        swapped: for each row the row whose key it has, None if each keeps its own.
        repaired: columns that replace those from `places`, once invariants were restored.
    """

    places: Places = field(default_factory=dict)
    kept: np.ndarray | None = None
    shift: int = 0
    swapped: np.ndarray | None = None
    repaired: Mapping[str, nw.Series[Any]] = field(default_factory=dict)


class Cells:
    """The cells of one column, followed by values to which they may be set.

    Args:
        cells: the column.
        more: the values.
    """

    def __init__(self, cells: nw.Series[Any], *more: nw.Series[Any]) -> None:
        self.size = len(cells)
        self.cells = joined([cells, *more])
        self._known, self._codes = ~is_missing(self.cells), np.empty(0, dtype=int)

    def add(self, cells: nw.Series[Any]) -> np.ndarray:
        """Return the places of cells that are appended after all others."""
        first = len(self.cells)
        self.cells = joined([self.cells, cells])
        self._known = np.append(self._known, ~is_missing(cells))
        return np.arange(first, len(self.cells))

    def is_known(self, places: np.ndarray) -> np.ndarray:
        """Return which places hold a value."""
        return self._known[places]

    def codes(self) -> np.ndarray:
        """Return a whole number for each of the column's own cells, in order of their values; equal for equal ones."""
        if len(self._codes) < len(self.cells):
            self._codes = np.where(self._known, np.unique(comparable(self.cells), return_inverse=True)[1], -1)
        return self._codes[: self.size]

    def differs(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Return where the cells of some places have other values than those of others."""
        self.codes()
        return self._codes[one] != self._codes[other]


class Table:
    """A table of which perturbed copies are built.

    Args:
        frame: the table.
        cells: its columns, without the key.
        key: column whose cells a copy shifts or swaps as a whole, "" for none.
    """

    def __init__(self, frame: nw.DataFrame[Any], cells: Mapping[str, Cells], key: str = "") -> None:
        self.names, self.size, self.key, self._table = tuple(frame.columns), len(frame), key, frame
        self._cells, self.step = cells, 1
        if key:
            self._key = nw.maybe_reset_index(frame.select(key))[key]

    def settled(self, case: Case) -> Case:
        """Return a case whose repaired columns are places, from which other cases can start."""
        added = {name: self._cells[name].add(cells) for name, cells in case.repaired.items()}
        return replace(case, places={**case.places, **added}, repaired={})

    def frame(self, cases: Sequence[Case], copy: str = "", names: Collection[str] | None = None) -> nw.DataFrame[Any]:
        """Return the cases' tables concatenated.

        Args:
            cases: the cases.
            copy: name of a column with the number of each case, "" for none.
            names: the columns, None for all.
        """
        everything = np.arange(self.size)
        kept = [everything if case.kept is None else case.kept for case in cases]
        numbers = np.repeat(np.arange(len(cases)), [len(rows) for rows in kept])
        columns = dict[str, Any]()
        for name in self.names if names is None else [name for name in self.names if name in names]:
            if name == self.key:
                columns[name] = self._keys(cases, kept, numbers)
            elif any(name in case.repaired for case in cases):
                parts = [
                    case.repaired[name][rows]
                    if name in case.repaired
                    else self._cells[name].cells[case.places.get(name, everything)[rows]]
                    for case, rows in zip(cases, kept, strict=True)
                ]
                columns[name] = nw.maybe_reset_index(joined(parts)).to_native()
            else:
                places = [case.places.get(name, everything)[rows] for case, rows in zip(cases, kept, strict=True)]
                columns[name] = _taken(self._cells[name].cells, np.concatenate(places))
        if copy:
            columns[copy] = nw.new_series(copy, numbers, backend=self._table.implementation).to_native()
        return nw.from_native(type(self._table.to_native())(columns), eager_only=True)

    def _keys(self, cases: Sequence[Case], kept: Sequence[np.ndarray], numbers: np.ndarray) -> Any:
        """Return the native keys of the cases' rows: shifted by whole numbers, of microseconds for times."""
        rows = np.concatenate(
            [rows if case.swapped is None else case.swapped[rows] for case, rows in zip(cases, kept, strict=True)]
        )
        if not any(case.shift for case in cases):
            return _taken(self._key, rows)
        by = np.array([case.shift * self.step for case in cases])[numbers]
        by = by if self._key.dtype.is_integer() else by.astype("timedelta64[us]")
        return (
            nw.maybe_reset_index(self._key[rows]) + nw.new_series("by", by, backend=self._key.implementation)
        ).to_native()


def is_missing(cells: nw.Series[Any]) -> np.ndarray:
    """Return where cells are missing; NaN counts as missing, as in plain pandas."""
    missing = cells.is_null().to_numpy().astype(bool)
    if cells.dtype.is_float():
        missing |= cells.is_nan().fill_null(value=True).to_numpy().astype(bool)
    return missing


def joined(parts: Sequence[nw.Series[Any]]) -> nw.Series[Any]:
    """Return columns concatenated, under the name of the first."""
    frames = [nw.maybe_reset_index(part.alias(parts[0].name).to_frame()) for part in parts if len(part)]
    return nw.concat(frames, how="vertical")[parts[0].name] if len(frames) > 1 else frames[0][parts[0].name]


def numbers_of(values: nw.Series[Any], texts: dict[Any, float] | None = None) -> np.ndarray:
    """Return a column's values as float64, NaN if missing: times in microseconds, texts numbered as they appear.

    Args:
        values: the column.
        texts: the numbers of the texts so far.
    """
    native: Any = values.to_native()
    kind = native.dtype.kind if values.implementation.is_pandas() else ""
    if kind in ("i", "u", "f", "b"):  # many times faster than through Narwhals
        return native.to_numpy(dtype=float, na_value=float("nan"))
    if kind == "M" and isinstance(native.dtype, np.dtype):
        times = native.to_numpy().astype("datetime64[us]")
        return np.where(np.isnat(times), np.nan, times.astype(float))
    dtype = values.dtype
    if dtype.is_numeric() or dtype == nw.Boolean:
        return values.cast(nw.Float64).to_numpy().astype(float)
    if dtype.is_temporal() and dtype != nw.Duration and dtype != nw.Time:
        return values.dt.timestamp("us").to_numpy().astype(float)
    known, texts = zip(values.to_list(), values.is_null().to_list(), strict=True), {} if texts is None else texts
    return np.array([np.nan if null else texts.setdefault(text, len(texts)) for text, null in known])


def comparable(values: nw.Series[Any]) -> np.ndarray:
    """Return a column's values as numbers, or as texts if they are none."""
    return numbers_of(values) if values.dtype.is_numeric() else np.array([str(value) for value in values.to_list()])


def scale_of(values: np.ndarray, *, is_float: bool) -> float:
    """Return the magnitude of a column's values, 0 if they are not floats with last bits that could differ."""
    return float(np.nanmax(np.abs(values[np.isfinite(values)]), initial=LEAST_SCALE)) if is_float else 0


def differ(one: np.ndarray, other: np.ndarray, scale: float) -> np.ndarray:
    """Return where values differ by more than the order of a floating-point sum explains; see `scale_of`."""
    with np.errstate(invalid="ignore"):  # the difference of two infinite values
        size = scale + np.minimum(np.abs(one), np.abs(other))
        near = np.abs(one - other) < _ALIKE * size if scale else one == other
    return ~(near | (one == other) | (np.isnan(one) & np.isnan(other)))


def _taken(cells: nw.Series[Any], places: np.ndarray) -> Any:
    """Return native cells at some places; for pandas a column without labels, which takes a tenth of the time."""
    native: Any = cells.to_native()
    return native.array.take(places) if cells.implementation.is_pandas() else cells[places].to_native()
