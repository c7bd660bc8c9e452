"""The declaration of a function from table to table, and which output rows may not move with a perturbed cell."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from bikes_assets.core.errors import LineageError

if TYPE_CHECKING:
    import numpy as np

Pair: TypeAlias = tuple[str, str]
"""Output column and input column."""

ROWS = "(rows)"
"""Stands for the set of output rows, as if that were an output column."""


@dataclass(frozen=True, slots=True)
class Window:
    """The rows before a row, in steps of the key's grid such as hours, that contribute to its value.

    Attributes:
        first: offset of the farthest.
        last: offset of the nearest, 0 for the row itself; negative for a later row.
    """

    first: int
    last: int = 0


@dataclass(frozen=True, slots=True)
class Declaration:
    """The declaration of a function; see `evidence.check`.

    Attributes:
        sources: each output column, and `ROWS`, with the columns that it is computed from.
        key: the column that identifies a row.
        rows: columns that decide which output rows there are.
        target: the column to predict, and those from which it can be computed.
        horizon: steps for which the target is not known before a row.
        windows: how far back each dependency reaches, if that is declared.
        history: steps that the function looks back, None if unknown.
        known_ahead: columns that are known before their time, and by how many steps.
    """

    sources: Mapping[str, tuple[str, ...]]
    key: str
    rows: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    horizon: int = 0
    windows: Mapping[Pair, Window] = field(default_factory=dict)
    history: int | None = None
    known_ahead: Mapping[str, float] = field(default_factory=dict)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The output columns."""
        return tuple(name for name in self.sources if name != ROWS)

    def refuse_what_is_not_there(self, columns: Collection[str]) -> None:
        """Refuse a declaration of which a part would be silently ignored.

        Args:
            columns: columns of the table.

        Raises:
            LineageError: it names a column that the table does not have, a window of an undeclared dependency, a target
                without a horizon, or a horizon without a target.
        """
        for names, what in (
            ((self.key,), "the key"),
            ({name for inputs in self.sources.values() for name in inputs}, "read"),
            (self.known_ahead, "known ahead"),
            (self.target, "the target"),
        ):
            if absent := sorted({*names}.difference(columns)):
                raise LineageError(
                    f"{_are(absent)} declared to be {what}, but the table has {', '.join(columns) or 'no column'}"
                )
        for output, column in self.windows:
            if column not in self.sources.get(output, ()):
                raise LineageError(
                    f"a window is declared of {output} on {column}, but {output} is not declared to be computed from {column}"
                )
        if both := sorted({*self.known_ahead}.intersection(self.target)):
            raise LineageError(f"{_are(both)} declared to be known ahead and to be the target; expected one of both")
        if self.target and self.horizon < 1:
            raise LineageError(
                f"{_are(self.target)} declared to be the target with a horizon of {self.horizon}, expected 1 or more: the steps "
                "before a row for which it is not known"
            )
        if self.horizon and not self.target:
            raise LineageError(
                f"a horizon of {self.horizon} is declared without a target; name the column that is not known so long before"
            )

    def inputs(self, output: str) -> tuple[str, ...]:
        """Return the declared columns of an output, without the key."""
        return tuple(name for name in self.sources[output] if name != self.key)

    def nearest(self, output: str, column: str) -> float:
        """Return how many steps before a row the nearest cell is that it may depend on: negative for a later cell.

        The label (a column with the target's own name) and the set of rows may depend on the target itself.
        """
        if column in self.known_ahead:
            return -self.known_ahead[column]
        is_label = output in self.target or output == ROWS
        return self.horizon if column in self.target and not is_label else 0

    def start(self, column: str) -> float:
        """Return the first step, from some row on, at which a column's cells are known to no earlier row."""
        if column in self.known_ahead:
            return self.known_ahead[column]
        return -self.horizon if column in self.target else 0

    def history_of(self, output: str) -> int | None:
        """Return how many steps an output looks back, None if unknown."""
        if self.history is not None:
            return self.history
        pairs = [(output, column) for column in self.inputs(output)]
        if not pairs or any(pair not in self.windows for pair in pairs):
            return None
        return max(self.windows[pair].first for pair in pairs)

    def known_from(self, output: str, firsts: Mapping[str, int], step: int, *, only_time: bool = False) -> float:
        """Return the first key at which a row of an output may depend on some cells: earlier rows must not move.

        Args:
            output: an output column, or `ROWS`.
            firsts: for each perturbed column, the first key of a perturbed cell.
            step: a step of the key's grid.
            only_time: whether a row may depend on undeclared columns, as long as the cells are not too near in time.
        """
        columns = firsts if only_time else set(firsts).intersection(self.sources[output])
        return min((firsts[name] + self.nearest(output, name) * step for name in columns), default=float("inf"))

    def outside_window(self, pair: Pair, cells: np.ndarray, times: np.ndarray, step: int) -> np.ndarray:
        """Return the rows with none of a column's given cells in their declared window: they must not move.

        Args:
            pair: the output and the column.
            cells: keys of the cells, in order.
            times: keys of the rows.
            step: a step of the key's grid.
        """
        import numpy as np

        window = self.windows[pair]
        first = np.searchsorted(cells, times - window.first * step)
        return np.append(cells, np.iinfo(np.int64).max)[first] > times - window.last * step


def _are(names: Iterable[str]) -> str:
    """Return names followed by their verb."""
    return f"{', '.join(names)} {'is' if len([*names]) == 1 else 'are'}"


def known_ahead_of(declared: Mapping[str, int] | Iterable[str]) -> dict[str, float]:
    """Return by how many steps each column is known before its time: without a number, by any number."""
    if isinstance(declared, Mapping):
        return {name: float(steps) for name, steps in declared.items()}
    names = (declared,) if isinstance(declared, str) else declared
    return dict.fromkeys(names, float("inf"))
