"""A table whose cells are disturbed on purpose, within their type and lawful range, and what a function then says of each row.

Many disturbed copies are computed in one call where the function keeps histories apart by a column that names the copy.
That it does shows in an undisturbed copy in each call; else, and where a call fails, each copy is computed by itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from bikes_assets.lineage.errors import FeatureError, LineageError

if TYPE_CHECKING:
    import narwhals as nw
    import numpy as np

    from bikes_assets.lineage.schema import Column

    Places: TypeAlias = Mapping[str, np.ndarray]
    """By column, for each row of the table the place in the column's pool that its value is taken from."""

ROWS = "(rows)"
"""Stands for which rows the output has, as if that were one of its columns."""
REDRAWN, OUTSIDE, MISSING = "redrawn", "set outside its range", "missing"
MIXED = "redrawn or set outside its range"

_BATCH_ROWS, _FEW, _ALIKE = 150_000, 64, 1e-9


@dataclass(frozen=True)
class Case:
    """A disturbed copy of a table.

    Attributes:
        places: where the cells of disturbed columns come from.
        kept: positions of the rows that stay, in order; None for all.
        shift: steps of the grid by which the key is moved in every row.
    """

    places: Places = field(default_factory=dict)
    kept: np.ndarray | None = None
    shift: int = 0


@dataclass(frozen=True)
class Said:
    """What a function says of each row of the table, whatever the order in which it says it.

    Attributes:
        values: each output column as float64, NaN where it is missing; texts are numbered.
        present: whether the output has the row.
    """

    values: Mapping[str, np.ndarray]
    present: np.ndarray


@dataclass(frozen=True)
class Blocked:
    """A function failed on a disturbed table, which does not say what it reads."""

    error: Exception


class Pool:
    """The cells of one column, and behind them what they may be set to: usual values, extremes, a missing one.

    Args:
        cells: the column.
        usual: values that it is redrawn from, see `usual_values`.
        column: its declaration, None where there is none.
    """

    def __init__(self, cells: nw.Series[Any], usual: nw.Series[Any], column: Column | None) -> None:
        import numpy as np

        self.size, extremes = len(cells), _extremes(usual, column)
        parts = [cells, usual, extremes]
        gap = cells[[0]].shift(1)
        self.gap = None
        if (column is None or column.nullable) and gap.dtype == cells.dtype:  # numpy's integers cannot be missing
            parts.append(gap)
            self.gap = sum(map(len, parts)) - 1
        self.cells = _joined(parts)
        self._usual = self.size + np.arange(len(usual))
        self._extremes = self.size + len(usual) + np.arange(len(extremes))
        self._known = ~_is_missing(self.cells)

    def drawn(self, draw: np.random.Generator, way: str, places: np.ndarray | None = None) -> np.ndarray | None:
        """Return places for a column that is disturbed in one way, None where it has no such value.

        Cells that are missing stay so, but for MIXED, so that the influence of values is told apart from that of gaps.

        Args:
            draw: where randomness comes from.
            way: one of the ways above.
            places: where its cells come from before; None for the column itself.
        """
        import numpy as np

        now = np.arange(self.size) if places is None else places
        if way == MISSING:
            return None if self.gap is None else np.full(self.size, self.gap)
        if not len(self._usual):
            return None
        # in one half, a rare value is as likely as any other; in the other half, as it is in the table
        is_rare, anywhere = draw.random(self.size) < 0.5, draw.integers(0, self.size, self.size)
        redrawn = np.where(is_rare, draw.choice(self._usual, self.size), anywhere)
        # most on one side, or a median would stay where it is
        most = self._extremes[draw.integers(len(self._extremes))]
        outside = np.where(draw.random(self.size) < 0.8, most, draw.choice(self._extremes, self.size))
        if way == MIXED:
            return np.where(draw.random(self.size) < 0.5, redrawn, outside)
        return np.where(self._known[now], redrawn if way == REDRAWN else outside, now)


def usual_values(cells: nw.Series[Any], column: Column | None) -> nw.Series[Any]:
    """Return the values that a column is redrawn from: all, where they are few, else quantiles; and all lawful codes."""
    import numpy as np

    values = cells.filter((~_is_missing(cells)).tolist()).unique().sort()
    if len(values) > _FEW:
        values = values[np.linspace(0, len(values) - 1, _FEW).astype(int)]
    if not len(values) or column is None:
        return values
    known = values.to_list()
    return _with(values, [code for code in column.allowed if code not in known])


def _extremes(usual: nw.Series[Any], column: Column | None) -> nw.Series[Any]:
    """Return the lowest and the highest lawful value; where no limit is declared, one outside of what was observed."""
    if not len(usual):
        return usual
    ends = usual[[0, len(usual) - 1]]
    if not usual.dtype.is_numeric() or (column and column.allowed):
        return ends
    low, high = ends.to_list()
    minimum, maximum = (column.minimum, column.maximum) if column else (None, None)
    reach = max(high - low, 1)
    lowest = low - reach if minimum is None else type(low)(minimum)
    highest = high + reach if maximum is None else type(high)(maximum)
    return _with(ends, [lowest, highest])[[2, 3]]


def _with(values: nw.Series[Any], more: Sequence[Any]) -> nw.Series[Any]:
    """Return values with more behind them, in the same type."""
    if not more:
        return values
    return _joined([values, values[[0] * len(more)].scatter(list(range(len(more))), list(more))])


def _joined(parts: Sequence[nw.Series[Any]]) -> nw.Series[Any]:
    import narwhals as nw

    frames = [nw.maybe_reset_index(part.alias(parts[0].name).to_frame()) for part in parts if len(part)]
    return nw.concat(frames, how="vertical")[parts[0].name]


def _is_missing(cells: nw.Series[Any]) -> np.ndarray:
    """Return where cells are missing; NaN is what plain pandas has for that."""
    missing = cells.is_null().to_numpy().astype(bool)
    if cells.dtype.is_float():
        missing |= cells.is_nan().fill_null(value=True).to_numpy().astype(bool)
    return missing


class Bench:
    """A table, and a function of it whose output's rows are matched with the table's rows by key.

    An output without the key, such as an array of predictions, is matched by position.

    Args:
        function: from a native frame to a frame, a series or an array.
        frame: the table.
        outputs: columns that the function makes.
        key: name of the column that names a row.
        columns: declarations, by name.
        usual: values that each column is redrawn from.
        copy: name of a column by which the function keeps copies apart, "" where it does not.

    Raises:
        LineageError: the key is not one.
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
    ) -> None:
        import narwhals as nw
        import numpy as np

        self.function, self.outputs, self.key, self.copy = function, tuple(outputs), key, copy
        self.names, self.size, self._table = tuple(frame.columns), len(frame), frame
        self.pools = {name: Pool(frame[name], usual[name], columns.get(name)) for name in self.names if name != key}
        self._key = nw.maybe_reset_index(frame.select(key))[key]
        self._is_apart, self._texts = bool(copy), dict[Any, float]()
        self._is_float: dict[str, bool] = {}
        self.others: tuple[str, ...] = ()
        """Columns that the function makes beside these outputs."""
        self.is_ordered = self._key.dtype.is_integer() or self._key.dtype.is_temporal()
        self.times = self._numbers(self._key).astype(np.int64)
        self.sorted_rows = np.argsort(self.times, kind="stable")
        self._sorted = self.times[self.sorted_rows]
        gaps = np.diff(self._sorted)
        if not len(gaps) or not gaps.all():
            raise LineageError(
                f"found a row's {key} twice, or a single row; expected rows, each with a {key} of its own"
            )
        self.step = int(gaps.min())
        self.undisturbed = self._undisturbed()
        self._scale = {name: self._scale_of(name) for name in self.outputs}

    def label(self, row: int) -> str:
        """Return the key of a row, for people."""
        return str(self._key[row])

    def said(self, cases: Sequence[Case]) -> Iterator[Said | Blocked]:
        """Yield what the function says of each case; all of them together would not fit into memory."""
        count = max(1, _BATCH_ROWS // self.size - 1)
        for first in range(0, len(cases), count):
            yield from self._together(cases[first : first + count])

    def alone(self, case: Case, prepared: Callable[[nw.DataFrame[Any]], Any] | None = None) -> Said | Blocked:
        """Return what the function says of one case, whose frame is `prepared` before it is handed over."""
        import narwhals as nw

        frame = self._frame([case])
        try:
            made = self._called(nw.to_native(prepared(frame) if prepared else frame, pass_through=True))
        except Exception as error:  # noqa: BLE001 - whatever a user's function raises
            return Blocked(error)
        return self._read(made, [case])[0]

    def moved(self, name: str, one: Said, other: Said) -> np.ndarray:
        """Return the rows of which two say something else, beyond what the order of a sum of floats makes of it."""
        import numpy as np

        if name == ROWS:
            return one.present != other.present
        first, second, scale = one.values[name], other.values[name], self._scale[name]
        same = np.isclose(first, second, rtol=_ALIKE if scale else 0, atol=_ALIKE * scale, equal_nan=True)
        return one.present & other.present & ~same

    def _called(self, frame: Any) -> Any:
        with warnings.catch_warnings():  # what a function has to say of disturbed rows is nobody's business
            warnings.simplefilter("ignore")
            return self.function(frame)

    def _undisturbed(self) -> Said:
        said = self.alone(Case())
        if isinstance(said, Blocked):
            raise FeatureError(f"cannot be computed on the table as it is: {said.error}") from said.error
        return said

    def _scale_of(self, name: str) -> float:
        """Return the size of a column's values, 0 where they have no last bits that could differ."""
        import numpy as np

        values = self.undisturbed.values[name]
        return (
            float(np.nanmax(np.abs(values[np.isfinite(values)]), initial=1e-3)) if self._is_float.get(name, True) else 0
        )

    def _together(self, cases: Sequence[Case]) -> list[Said | Blocked]:
        if len(cases) < 2 or not self._is_apart:
            return [self.alone(case) for case in cases]
        whole = [*cases, Case()]
        try:
            made = self._called(self._frame(whole, self.copy).to_native())
        except Exception:  # noqa: BLE001 - one of the copies is to blame, which halves tell
            half = len(cases) // 2
            return [*self._together(cases[:half]), *self._together(cases[half:])]
        *found, guard = self._read(made, whole)
        if any(self.moved(name, guard, self.undisturbed).any() for name in (*self.outputs, ROWS)):
            self._is_apart = False
            return [self.alone(case) for case in cases]
        return list(found)

    def _frame(self, cases: Sequence[Case], copy: str = "") -> nw.DataFrame[Any]:
        """Return the cases' tables one after the other, each with its number in the column `copy`."""
        import narwhals as nw
        import numpy as np

        everything = np.arange(self.size)
        kept = [everything if case.kept is None else case.kept for case in cases]
        numbers = np.repeat(np.arange(len(cases)), [len(rows) for rows in kept])
        frame = nw.maybe_reset_index(self._table[np.concatenate(kept)])
        series: list[nw.Series[Any]] = []
        for name in self.pools:
            if any(name in case.places for case in cases):
                places = [case.places.get(name, everything)[rows] for case, rows in zip(cases, kept, strict=True)]
                series.append(self.pools[name].cells[np.concatenate(places)])
        if any(case.shift for case in cases):
            moved = np.array([case.shift * self.step for case in cases])
            series.append(_moved_by(frame[self.key], moved[numbers]))
        if copy:
            series.append(nw.new_series(copy, numbers, backend=frame.implementation))
        return frame.with_columns(*(nw.maybe_reset_index(item) for item in series))

    def _read(self, made: Any, cases: Sequence[Case]) -> list[Said]:
        """Return what an output says of the rows of each case."""
        import narwhals as nw
        import numpy as np

        frame = nw.from_native(made, pass_through=True, allow_series=True)
        frame = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
        if isinstance(frame, nw.DataFrame):
            if lacking := [name for name in self.outputs if name not in frame.columns]:
                raise LineageError(f"the function makes no {', '.join(lacking)}; it makes {', '.join(frame.columns)}")
            schema = frame.schema
            self.others = tuple(name for name in schema if name not in (*self.outputs, self.key, self.copy))
            types = {name: schema[name] for name in self.outputs}
            self._is_float = {name: dtype.is_float() for name, dtype in types.items()}
            plain = [name for name, dtype in types.items() if dtype == nw.Float64]
            columns = dict(zip(plain, frame.select(*plain).to_numpy().T, strict=True)) if plain else {}
            columns |= {name: self._numbers(frame[name]) for name in self.outputs if name not in columns}
        else:
            values = np.asarray(frame.to_numpy() if isinstance(frame, nw.Series) else made, dtype=float)
            columns = dict(zip(self.outputs, values.reshape(len(values), -1).T, strict=True))
        shape = (len(cases), self.size)
        if isinstance(frame, nw.DataFrame) and self.key in frame.columns:
            numbers = frame[self.copy].to_numpy().astype(int) if len(cases) > 1 else np.zeros(len(frame), dtype=int)
            shifts = np.array([case.shift * self.step for case in cases])
            times = self._numbers(frame[self.key]).astype(np.int64) - shifts[numbers]
            at = np.searchsorted(self._sorted, times).clip(max=self.size - 1)
            known = self._sorted[at] == times
            places = (numbers[known], self.sorted_rows[at[known]])
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
        return [
            Said({name: values[number] for name, values in filled.items()}, present[number].astype(bool))
            for number in range(len(cases))
        ]

    def _numbers(self, values: nw.Series[Any]) -> np.ndarray:
        """Return values as float64: times in microseconds, texts numbered as they come."""
        import narwhals as nw
        import numpy as np

        dtype = values.dtype
        if dtype.is_numeric():
            return values.to_numpy().astype(float)
        if dtype == nw.Boolean:
            return values.cast(nw.Float64).to_numpy().astype(float)
        if dtype.is_temporal() and dtype != nw.Duration and dtype != nw.Time:
            return values.dt.timestamp("us").to_numpy().astype(float)
        texts = zip(values.to_list(), values.is_null().to_list(), strict=True)
        return np.array([np.nan if null else self._texts.setdefault(text, len(self._texts)) for text, null in texts])


def _moved_by(times: nw.Series[Any], numbers: np.ndarray) -> nw.Series[Any]:
    """Return keys that are moved by whole numbers, of microseconds where they are times."""
    import narwhals as nw

    by = numbers if times.dtype.is_integer() else numbers.astype("timedelta64[us]")
    return times + nw.new_series("by", by, backend=times.implementation)
