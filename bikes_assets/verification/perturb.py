"""A table whose cells are perturbed within their type and allowed range, and a function's output for each of its rows.

Many perturbed copies are computed in one call if the function keeps histories apart by a column that names the copy.
Each call includes an unperturbed copy to verify that; if it fails to hold, or a call fails, each copy is computed
alone.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import narwhals as nw
import numpy as np

from bikes_assets.core.errors import FeatureError, LineageError
from bikes_assets.lineage.perturbation import (
    Case,
    Cells,
    Places,
    Table,
    differ,
    is_missing,
    joined,
    numbers_of,
    scale_of,
)
from bikes_assets.verification.declaration import ROWS
from bikes_assets.verification.invariants import differs

if TYPE_CHECKING:
    from bikes_assets.core.schema import Column
    from bikes_assets.verification.invariants import Invariant


PerturbedCells: TypeAlias = "Mapping[str, np.ndarray]"
"""By column, the rows whose cell is perturbed."""

REDRAWN, OUTSIDE, MISSING = "redrawn", "set outside its range", "missing"
MIXED = "redrawn or set outside its range"

_BATCH_ROWS, _MOST_VALUES, _SPREAD = 150_000, 1_000, 64


@dataclass(frozen=True)
class Output:
    """A function's output for each row of the table, whatever the order in which it returns them.

    Attributes:
        values: each output column as float64, NaN if it is missing; texts are numbered.
        exists: whether the output has the row.
    """

    values: Mapping[str, np.ndarray]
    exists: np.ndarray


@dataclass(frozen=True)
class Blocked:
    """A function failed on a perturbed table, which does not tell what it reads."""

    error: Exception

    def __str__(self) -> str:
        return f"{type(self.error).__name__}: {self.error}"[:200]


class Pool(Cells):
    """The cells of one column, followed by the values to which they may be set: usual values, extremes, a missing one.

    Args:
        cells: the column.
        usual: values to redraw it from, see `usual_values`.
        column: its declaration, None without one.
    """

    def __init__(self, cells: nw.Series[Any], usual: nw.Series[Any], column: Column | None) -> None:
        beyond, extremes = _unobserved(usual, column), _extremes(usual, column)
        parts = [cells, usual, beyond, extremes]
        self._usual, self._beyond, self._extremes = (
            sum(map(len, parts[:number])) + np.arange(len(parts[number])) for number in (1, 2, 3)
        )
        gap = cells[[0]].shift(1)
        self.gap: int | None = None
        if (column is None or column.nullable) and gap.dtype == cells.dtype:  # numpy's integers cannot be missing
            parts.append(gap)
            self.gap = sum(map(len, parts)) - 1
        self.is_nullable = self.gap is not None
        self.is_restricted = False
        """Whether there are values that it is never set to, because the function fails on them."""
        super().__init__(*parts)
        self.middle: float | None = float(usual.mean()) if len(usual) and cells.dtype.is_float() else None
        """The mean of its values, None unless they are floats."""
        self.reach = 0.0 if self.middle is None else float(extremes.abs().max())
        """The largest absolute value, including those that were not observed."""

    @property
    def ends(self) -> np.ndarray:
        """The places of the lowest and the highest observed value."""
        return self._usual[[0, -1]]

    def only_observed(self) -> None:
        """Set cells only to observed values from now on."""
        self._beyond = self._extremes = self._beyond[:0]
        self.is_restricted = True

    def freeze(self) -> None:
        """Set no cell to anything from now on."""
        self.only_observed()
        self.never_missing()
        self._usual = self._usual[:0]

    def never_missing(self) -> None:
        """Set no cell to a missing value from now on."""
        self.gap = None
        self.is_restricted = True

    def drawn(self, draw: np.random.Generator, way: str, places: np.ndarray | None = None) -> np.ndarray | None:
        """Return places for a column that is perturbed in one way, None if it has no such value.

        Missing cells stay missing, except for MIXED, so that the influence of values is told apart from that of gaps.

        Args:
            draw: random number generator.
            way: one of the ways above.
            places: where its cells were taken from before; None for the column itself.
        """
        now = np.arange(self.size) if places is None else places
        if way == MISSING:
            return None if self.gap is None else np.full(self.size, self.gap)
        if not len(self._usual) or (way == OUTSIDE and not len(self._extremes)):
            return None
        # in one half, a rare value is as likely as any other; in the other half, as it is in the table
        is_rare, anywhere = draw.random(self.size) < 0.5, draw.integers(0, self.size, self.size)
        rare = draw.choice(self._usual, self.size)
        if len(self._beyond):
            rare = np.where(draw.random(self.size) < 0.2, draw.choice(self._beyond, self.size), rare)
        redrawn = outside = np.where(is_rare, rare, anywhere)
        if len(self._extremes):  # most on one side, or a median would not move
            most = self._extremes[draw.integers(len(self._extremes))]
            outside = np.where(draw.random(self.size) < 0.8, most, draw.choice(self._extremes, self.size))
        if way == MIXED:
            return np.where(draw.random(self.size) < 0.5, redrawn, outside)
        return np.where(self._known[now], redrawn if way == REDRAWN else outside, now)


def usual_values(cells: nw.Series[Any]) -> nw.Series[Any]:
    """Return the values that a column is redrawn from, in order: all observed ones, or many of them."""
    values = cells.filter((~is_missing(cells)).tolist()).unique().sort()
    if len(values) > _MOST_VALUES:
        values = values[np.linspace(0, len(values) - 1, _MOST_VALUES).astype(int)]
    return values


def _unobserved(usual: nw.Series[Any], column: Column | None) -> nw.Series[Any]:
    """Return allowed values that were not observed: codes, whole numbers next to others, some within limits, zero."""
    if not len(usual):
        return usual
    known, more = set(usual.to_list()), list[Any]()
    if column and column.allowed:
        more = list(column.allowed)
    elif usual.dtype.is_numeric():
        lowest, highest = _limits(usual, column)
        kind = type(lowest)
        more = [kind(lowest + (highest - lowest) * number / _SPREAD) for number in range(1, _SPREAD)]
        if kind is int and max(known) - min(known) < _SPREAD:
            more += range(min(known) - 1, max(known) + 2)
        more = [value for value in dict.fromkeys([*more, kind(0)]) if lowest <= value <= highest]
    more = [value for value in more if value not in known]
    return _with(usual, more)[list(range(len(usual), len(usual) + len(more)))]


def _extremes(usual: nw.Series[Any], column: Column | None) -> nw.Series[Any]:
    """Return the lowest and the highest allowed value; without a declared limit, one outside of the observed ones."""
    if not len(usual):
        return usual
    ends = usual[[0, len(usual) - 1]]
    if not usual.dtype.is_numeric() or (column and column.allowed):
        return ends
    return _with(ends, list(_limits(usual, column)))[[2, 3]]


def _limits(usual: nw.Series[Any], column: Column | None) -> tuple[Any, Any]:
    low, high = usual[[0, len(usual) - 1]].to_list()
    minimum, maximum = (column.minimum, column.maximum) if column else (None, None)
    reach = max(high - low, 1)
    lowest = low - reach if minimum is None else type(low)(minimum)
    highest = high + reach if maximum is None else type(high)(maximum)
    return lowest, highest


def _with(values: nw.Series[Any], more: Sequence[Any]) -> nw.Series[Any]:
    """Return values with more appended, in the same type."""
    if not more:
        return values
    return joined([values, values[[0] * len(more)].scatter(list(range(len(more))), list(more))])


class PerturbedTable(Table):
    """A table with unique keys, whose columns are perturbed so that declared invariants hold.

    Args:
        frame: the table.
        key: name of the column that identifies a row.
        columns: declarations, by name.
        usual: values that each column is redrawn from.
        invariants: what holds of each perturbed copy, too.
        texts: numbers of the texts so far, shared by tables whose outputs are compared.

    Raises:
        LineageError: the key is not unique, or the table breaks an invariant.
    """

    def __init__(
        self,
        frame: nw.DataFrame[Any],
        key: str,
        columns: Mapping[str, Column],
        usual: Mapping[str, nw.Series[Any]],
        invariants: Sequence[Invariant],
        texts: dict[Any, float],
    ) -> None:
        self.pools = {name: Pool(frame[name], usual[name], columns.get(name)) for name in frame.columns if name != key}
        super().__init__(frame, self.pools, key)
        self.texts = texts
        self.is_ordered = frame[key].dtype.is_integer() or frame[key].dtype.is_temporal()
        self.times = numbers_of(frame[key], texts).astype(np.int64)
        self.sorted_rows = np.argsort(self.times, kind="stable")
        gaps = np.diff(self.times[self.sorted_rows])
        if not len(gaps) or not gaps.all():
            raise LineageError(
                f"found a row's {key} twice, or a single row; expected rows, each with a {key} of its own"
            )
        self.step = int(gaps.min())
        self.invariants: list[Invariant] = []
        self.frozen: set[str] = set()
        """Columns that are never perturbed, because the function fails when they are."""
        self._valid: tuple[Case, nw.DataFrame[Any]] | None = None
        for invariant in invariants:
            self.keep(invariant)

    def label(self, row: int) -> str:
        """Return the key of a row, for people."""
        return str(self._key[row])

    def keep(self, invariant: Invariant) -> None:
        """Make every perturbed table satisfy an invariant from now on.

        Raises:
            LineageError: it names a column that the table does not have, or the table itself breaks it.
        """
        if absent := [name for name in getattr(invariant, "names", ()) if name not in self.names]:
            raise LineageError(f"{invariant!r} names {', '.join(absent)}, but the table has {', '.join(self.names)}")
        table = self.frame([Case()])
        # given the next row's cells as those before, it may set all of them
        next_row = np.roll(np.arange(self.size), 1)
        before = self.frame([Case(dict.fromkeys(self.pools, next_row))])
        repaired = self._valid_frame(invariant(table.to_native(), before.to_native()))
        for name in self.pools:
            rows = differs(repaired[name], table[name])
            if rows.any():
                at = self.label(int(rows.nonzero()[0][0]))
                raise LineageError(
                    f"{invariant!r}: found {name} of {at} otherwise, which a repair of the table as it is changes; expected a "
                    "table that it leaves alone; declare what holds of every row"
                )
        self.invariants.append(invariant)

    def freeze(self, name: str) -> None:
        """Never perturb a column from now on."""
        self.pools[name].freeze()
        self.frozen.add(name)

    @property
    def tied(self) -> set[str]:
        """Columns that an invariant or the function requires, without which a table is no valid input."""
        return self.frozen.union(*(getattr(invariant, "names", self.names) for invariant in self.invariants))

    def perturbed(self, before: Case, change: Places, shift: int = 0) -> tuple[Case, PerturbedCells]:
        """Return a case in which cells of another case are perturbed, and which cells that changes.

        Declared invariants are restored; a row in which that would change a column that must not be perturbed is left
        as it was.

        Args:
            before: the case to perturb.
            change: where the cells of some columns are taken from instead.
            shift: steps by which the key is shifted in addition.
        """
        case = replace(before, places={**before.places, **change}, shift=before.shift + shift)
        if self.invariants:
            return self._repaired(case, before, {*change} | ({self.key} if shift else set()))
        now = np.arange(self.size)
        return case, {
            name: self.pools[name].differs(places, before.places.get(name, now)) for name, places in change.items()
        }

    def _repaired(self, case: Case, before: Case, wanted: set[str]) -> tuple[Case, PerturbedCells]:
        """Return a case that satisfies the invariants, and the cells in which it differs from the case before."""
        if self._valid is None or self._valid[0] is not before:
            self._valid = before, self.frame([replace(before, kept=None)])
        valid = self._valid[1]
        native: Any = self.frame([replace(case, kept=None)]).to_native()
        touched = set(wanted)
        for invariant in self.invariants:
            names = getattr(invariant, "names", self.names)
            if not touched.isdisjoint(names):  # else it holds as it did before
                native = invariant(native, valid.to_native())
                touched |= set(names)
        repaired = self._valid_frame(native)
        changed = {name: differs(repaired[name], valid[name]) for name in self.pools if name in touched}
        back = np.zeros(self.size, dtype=bool)
        if not case.shift - before.shift:
            for name in set(changed) - wanted:
                back |= changed[name]
        found = {name: rows & ~back for name, rows in changed.items() if (rows & ~back).any()}
        place = np.arange(self.size) + np.where(back, self.size, 0)
        cells = {name: joined([repaired[name], valid[name]])[place] if back.any() else repaired[name] for name in found}
        return replace(before, shift=case.shift, repaired=cells), found

    def _valid_frame(self, native: Any) -> nw.DataFrame[Any]:
        """Return the result of an invariant, after checking that it has the rows and columns that it was given."""
        frame: nw.DataFrame[Any] = nw.from_native(native, eager_only=True)
        if (len(frame), set(frame.columns)) != (self.size, set(self.names)):
            raise LineageError(
                f"an invariant returns {len(frame)} rows of {', '.join(frame.columns)}, expected the {self.size} rows and "
                f"the columns {', '.join(self.names)}; return the frame that is handed over, with other cells"
            )
        return frame


class Bench(PerturbedTable):
    """A table, and a function of it whose output rows are matched with the table's rows by key.

    An output without the key, such as an array of predictions, is matched by position.

    Args:
        function: from a native frame to a frame, a series or an array.
        frame: the table.
        outputs: columns that the function makes.
        key: see `PerturbedTable`.
        columns: see `PerturbedTable`.
        usual: see `PerturbedTable`.
        copy: name of a column by which the function keeps copies apart, "" if it does not.
        invariants: see `PerturbedTable`.
        texts: see `PerturbedTable`.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        frame: nw.DataFrame[Any],
        outputs: Sequence[str],
        *,
        key: str,
        columns: Mapping[str, Column],
        usual: Mapping[str, nw.Series[Any]],
        copy: str = "",
        invariants: Sequence[Invariant] = (),
        texts: dict[Any, float] | None = None,
    ) -> None:
        super().__init__(frame, key, columns, usual, invariants, {} if texts is None else texts)
        self.function, self.outputs, self.copy = function, tuple(outputs), copy
        self._is_apart, self._is_float = bool(copy), dict[str, bool]()
        self.others: tuple[str, ...] = ()
        """Output columns of the function beside these outputs."""
        self.unperturbed = self._unperturbed()
        self._scale = {
            name: scale_of(values, is_float=self._is_float.get(name, True))
            for name, values in self.unperturbed.values.items()
        }

    def output_of(self, cases: Iterable[Case]) -> Iterator[Output | Blocked]:
        """Yield the function's output in each case; all of them together would not fit into memory."""
        waiting, count = iter(cases), max(1, _BATCH_ROWS // self.size - 1)
        while some := list(itertools.islice(waiting, count if self._is_apart else 1)):
            yield from self._together(some)

    def alone(
        self,
        case: Case,
        prepared: Callable[[nw.DataFrame[Any]], Any] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> Output | Blocked:
        """Return the function's output in one case.

        Args:
            case: the case.
            prepared: transformation of its frame before the call.
            outputs: the requested columns, None for all.
        """
        frame = self.frame([case])
        try:
            made = quietly(self.function, nw.to_native(prepared(frame) if prepared else frame, pass_through=True))
            return self._read(made, [case], self.outputs if outputs is None else outputs)[0]
        except Exception as error:  # noqa: BLE001 - whatever a user's function raises
            return Blocked(error)

    def moved(self, name: str, one: Output, other: Output) -> np.ndarray:
        """Return the rows for which two outputs differ by more than the order of a floating-point sum explains."""
        if name == ROWS:
            return one.exists != other.exists
        return one.exists & other.exists & differ(one.values[name], other.values[name], self._scale[name])

    def passes_on(self, output: str, column: str, case: Case, output_of: Output) -> bool:
        """Return whether an output equals one of the table's columns, in every row of a case that it has."""
        pool = self.pools[column]
        cells = numbers_of(pool.cells[case.places.get(column, np.arange(self.size))], self.texts)
        same = (cells == output_of.values[output]) | (np.isnan(cells) & np.isnan(output_of.values[output]))
        return bool(same[output_of.exists].all())

    def _unperturbed(self) -> Output:
        try:
            made = quietly(self.function, self.frame([Case()]).to_native())
        except Exception as error:  # whatever a user's function raises
            raise FeatureError(f"cannot be computed on the table as it is: {error}") from error
        return self._read(made, [Case()], self.outputs)[0]

    def _together(self, cases: Sequence[Case]) -> list[Output | Blocked]:
        if len(cases) < 2 or not self._is_apart:
            return [self.alone(case) for case in cases]
        whole = [*cases, Case()]
        frame = self.frame(whole, self.copy).to_native()
        try:
            *found, guard = self._read(quietly(self.function, frame), whole, self.outputs)
        except Exception:  # noqa: BLE001 - one of the copies is the cause, which bisection finds
            half = len(cases) // 2
            return [*self._together(cases[:half]), *self._together(cases[half:])]
        if any(self.moved(name, guard, self.unperturbed).any() for name in (*self.outputs, ROWS)):
            self._is_apart = False
            return [self.alone(case) for case in cases]
        return list(found)

    def _read(self, made: Any, cases: Sequence[Case], outputs: Sequence[str]) -> list[Output]:
        """Return an output for the rows of each case."""
        frame = nw.from_native(made, pass_through=True, allow_series=True)
        frame = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
        if isinstance(frame, nw.DataFrame):
            if lacking := [name for name in outputs if name not in frame.columns]:
                raise LineageError(f"the function makes no {', '.join(lacking)}; it makes {', '.join(frame.columns)}")
            if outputs is self.outputs:
                self.others = tuple(name for name in frame.columns if name not in (*self.outputs, self.key, self.copy))
            columns = {name: numbers_of(frame[name], self.texts) for name in outputs}
            if not self._is_float:
                self._is_float = {name: frame[name].dtype.is_float() for name in outputs}
        else:
            columns = self._by_position(frame)
        shape = (len(cases), self.size)
        if isinstance(frame, nw.DataFrame) and self.key in frame.columns:
            numbers = frame[self.copy].to_numpy().astype(int) if len(cases) > 1 else np.zeros(len(frame), dtype=int)
            shifts = np.array([case.shift * self.step for case in cases])
            times = numbers_of(frame[self.key], self.texts).astype(np.int64) - shifts[numbers]
            ordered = self.times[self.sorted_rows]
            at = np.searchsorted(ordered, times).clip(max=self.size - 1)
            known, rows = ordered[at] == times, self.sorted_rows[at]
            if len(cases) == 1 and cases[0].swapped is not None:
                rows = np.argsort(cases[0].swapped)[rows]
            places = (numbers[known], rows[known])
        else:
            rows = np.arange(self.size) if cases[0].kept is None else cases[0].kept
            count = len(next(iter(columns.values())))
            if count != len(rows):
                raise LineageError(
                    f"found {count} rows without {self.key}, expected {len(rows)}, or the column {self.key}"
                )
            known, places = np.full(count, fill_value=True), (np.zeros(count, dtype=int), rows)
        present = np.zeros(shape, dtype=int)
        np.add.at(present, places, 1)
        if present.max(initial=0) > 1:
            raise LineageError(f"the function makes several rows of one {self.key}, expected one at most")
        filled = {name: np.full(shape, np.nan) for name in columns}
        for name, values in columns.items():
            filled[name][places] = values[known]
        handed = np.zeros(shape, dtype=bool)  # rows that a function adds are ignored
        for number, case in enumerate(cases):
            handed[number, slice(None) if case.kept is None else case.kept] = True
        return [
            Output({name: values[number] for name, values in filled.items()}, handed[number] & (present[number] > 0))
            for number in range(len(cases))
        ]

    def _by_position(self, made: Any) -> dict[str, np.ndarray]:
        """Return the columns of an array that has a number, or a row of them, for each row of a table."""
        try:
            # a series has its own labels, which matching by position would ignore
            values = np.empty(()) if isinstance(made, nw.Series) else np.asarray(made, dtype=float)
        except (TypeError, ValueError):  # anything but numbers
            values = np.empty(())
        if values.ndim not in (1, 2) or values.size != len(values) * len(self.outputs):
            kind = "None" if made is None else type(made).__name__
            found = f"an array of shape {values.shape}" if values.ndim else kind
            numbers = "a number" if len(self.outputs) == 1 else f"{len(self.outputs)} numbers"
            raise LineageError(
                f"the function returns {found}, expected a frame with {self.key} and {', '.join(self.outputs)} among its "
                f"columns, or an array with {numbers} for each row"
            )
        return dict(zip(self.outputs, values.reshape(len(values), -1).T, strict=True))


def quietly(function: Callable[..., Any], *arguments: Any, **inputs: Any) -> Any:
    """Return what a function returns, without its warnings: those about perturbed rows are irrelevant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments, **inputs)
