"""The tables that experiments begin from, before they perturb them: as it is, and others in which what is rare is frequent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bikes_assets.lineage.disturb import MISSING, REDRAWN, Bench, Case

if TYPE_CHECKING:
    import numpy as np


REAL, HOLES, RESHUFFLED, BOTH = "the table as it is", "rows with holes", "redrawn rows", "redrawn rows with holes"
TREND, ABSENT = "rows that rise or fall from first to last", "redrawn rows with holes, some absent"

_HOLE, _DROPPED = 0.05, 0.04
_RUNS = (2, 3, 5, 8, 13, 30, 72)
"""Lengths of runs of missing cells and of absent rows."""
_BLOCKS, _CONSTANT, _ENDS = (4, 12, 48), 0.4, 0.3
"""How long a value lasts at a time, on average; in which share of the times it does, and of these it is the lowest or highest."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A table that experiments begin from.

    Attributes:
        kind: what kind of ground it is.
        case: how it comes from the table.
        at: where in time it is, in words; "" where it was.
    """

    kind: str
    case: Case
    at: str = ""

    @property
    def name(self) -> str:
        """What it is, in words; each has its own."""
        return self.kind + self.at


class Grounds:
    """Makes grounds of one table.

    Args:
        bench: the table.
        draw: where randomness comes from.
    """

    def __init__(self, bench: Bench, draw: np.random.Generator) -> None:
        import numpy as np

        self.bench, self.draw = bench, draw
        self.everything = np.ones(bench.size, dtype=bool)
        self.gaps = self.runs(0.05)
        """Rows that have holes in all columns, where there are holes."""

    def base(self) -> list[Ground]:
        """Return the table as it is, with holes, redrawn, and both."""
        real, redrawn = Case(), self._redrawn()
        return [
            Ground(REAL, real),
            Ground(HOLES, self.with_holes(real)),
            Ground(RESHUFFLED, redrawn),
            Ground(BOTH, self.with_holes(redrawn)),
        ]

    def fresh(self, shift: int) -> Ground:
        """Return redrawn rows with holes, some of them absent, all of them at another time."""
        from dataclasses import replace

        case = self.with_holes(self._redrawn(shift))
        here = ~self.runs(_DROPPED)
        at = f" and all {abs(shift):,} steps {'later' if shift > 0 else 'earlier'}" if shift else ""
        return Ground(ABSENT, replace(case, kept=here.nonzero()[0]), at)

    def trend(self) -> Ground:
        """Return rows whose values rise or fall from the first to the last, so that the last have what none before them has."""
        import numpy as np

        bench, places = self.bench, dict[str, np.ndarray]()
        for name, pool in bench.pools.items():
            order = np.argsort(pool.codes(), kind="stable")[:: self.draw.choice([-1, 1])]
            near = np.argsort(np.arange(bench.size) + self.draw.normal(0, bench.size / 50, bench.size))
            places[name] = np.empty(bench.size, dtype=int)
            places[name][bench.sorted_rows] = order[near]
        case, _ = bench.perturbed(Case(), places)
        return Ground(TREND, bench.settled(case))

    def with_holes(self, case: Case) -> Case:
        """Return a case with cells missing here and there, in runs, and all cells of some rows."""
        import numpy as np

        holes = dict[str, np.ndarray]()
        for name, pool in self.bench.pools.items():
            rows = self.gaps | self.runs(_HOLE) | (self.draw.random(self.bench.size) < _HOLE)
            gone = pool.drawn(self.draw, MISSING)
            if gone is not None:
                holes[name] = np.where(rows, gone, case.places.get(name, np.arange(self.bench.size)))
        made, _ = self.bench.perturbed(case, holes)
        return self.bench.settled(made)

    def runs(self, share: float, lengths: Iterable[int] = _RUNS) -> np.ndarray:
        """Return about a share of the rows, in runs of several lengths, in order of the key."""
        import numpy as np

        size = self.bench.size
        lengths = [length for length in lengths if length < size / 20] or [1]
        chosen = np.zeros(size, dtype=bool)
        for length in lengths:
            count = max(1, round(share * size / len(lengths) / length))
            for first in self.draw.integers(0, max(1, size - length), count):
                chosen[first : first + length] = True
        rows = np.empty(size, dtype=bool)
        rows[self.bench.sorted_rows] = chosen
        return rows

    def _redrawn(self, shift: int = 0) -> Case:
        """Return redrawn rows, where some values last a while."""
        import numpy as np

        bench, draw, places = self.bench, self.draw, dict[str, np.ndarray]()
        for name, pool in bench.pools.items():
            drawn = pool.drawn(draw, REDRAWN)
            if drawn is None:
                continue
            ordered = drawn[bench.sorted_rows]
            begins = np.maximum.accumulate(
                np.where(draw.random(bench.size) < 1 / draw.choice(_BLOCKS), np.arange(bench.size), 0)
            )
            lasting = np.where(draw.random(bench.size) < _ENDS, draw.choice(pool.ends, bench.size), ordered)[begins]
            is_known = pool.is_known(ordered) & pool.is_known(lasting)
            lasts = (draw.random(bench.size) < _CONSTANT)[begins] & is_known
            places[name] = np.empty(bench.size, dtype=int)
            places[name][bench.sorted_rows] = np.where(lasts, lasting, ordered)
        case, _ = bench.perturbed(Case(), places, shift)
        return bench.settled(case)
