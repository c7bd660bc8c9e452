"""Grounds: the tables that experiments perturb. One is the table itself; in others, rare values are frequent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bikes_assets.verification.invariants import Invariant, Rising, Together, Unique
from bikes_assets.verification.perturb import MISSING, MIXED, REDRAWN, Bench, Blocked, Case

REAL, HOLES, RESHUFFLED, BOTH = "the table as it is", "rows with holes", "redrawn rows", "redrawn rows with holes"
TREND, ABSENT = "rows that rise or fall from first to last", "redrawn rows with holes, some absent"

_HOLE, _DROPPED = 0.05, 0.04
_RUNS = (2, 3, 5, 8, 13, 30, 72)
"""Lengths of runs of missing cells and of absent rows."""
_BLOCKS, _CONSTANT, _ENDS = (4, 12, 48), 0.4, 0.3
"""Mean duration of a value, the share of times at which it persists, and the share of these with an extreme value."""

_SETTLING = "what columns can be set to"
_MOST_TIED = 8


@dataclass(frozen=True, slots=True)
class Ground:
    """A table that experiments start from.

    Attributes:
        kind: what kind of ground it is.
        case: how it is derived from the table.
        at: its position in time, in words; "" if it was not shifted.
    """

    kind: str
    case: Case
    at: str = ""

    @property
    def name(self) -> str:
        """Its description, which is unique."""
        return self.kind + self.at


class Grounds:
    """Makes grounds of one table.

    Args:
        bench: the table.
        draw: random number generator.
    """

    def __init__(self, bench: Bench, draw: np.random.Generator) -> None:
        self.bench, self.draw = bench, draw
        self.everything = np.ones(bench.size, dtype=bool)
        self.gaps = self.runs(0.05)
        """Rows with holes in all columns, if there are holes."""

    def base(self) -> list[Ground]:
        """Return the table itself, one with holes, one redrawn, and one with both."""
        real, redrawn = Case(), self._redrawn()
        return [
            Ground(REAL, real),
            Ground(HOLES, self.with_holes(real)),
            Ground(RESHUFFLED, redrawn),
            Ground(BOTH, self.with_holes(redrawn)),
        ]

    def fresh(self, shift: int) -> Ground:
        """Return redrawn rows with holes, some of them absent, all shifted in time."""
        case = self.with_holes(self._redrawn(shift))
        here = ~self.runs(_DROPPED)
        at = f" and all {abs(shift):,} steps {'later' if shift > 0 else 'earlier'}" if shift else ""
        return Ground(ABSENT, replace(case, kept=here.nonzero()[0]), at)

    def trend(self) -> Ground:
        """Return rows with values that rise or fall from first to last, so that the last have new values."""
        bench, places = self.bench, dict[str, np.ndarray]()
        for name, pool in bench.pools.items():
            order = np.argsort(pool.codes(), kind="stable")[:: self.draw.choice([-1, 1])]
            near = np.argsort(np.arange(bench.size) + self.draw.normal(0, bench.size / 50, bench.size))
            places[name] = np.empty(bench.size, dtype=int)
            places[name][bench.sorted_rows] = order[near]
        case, _ = bench.perturbed(Case(), places)
        return Ground(TREND, bench.settled(case))

    def with_holes(self, case: Case) -> Case:
        """Return a case with missing cells here and there, in runs, and in all columns of some rows."""
        holes = dict[str, np.ndarray]()
        for name, pool in self.bench.pools.items():
            rows = self.gaps | self.runs(_HOLE) | (self.draw.random(self.bench.size) < _HOLE)
            gone = pool.drawn(self.draw, MISSING)
            if gone is not None:
                holes[name] = np.where(rows, gone, case.places.get(name, np.arange(self.bench.size)))
        made, _ = self.bench.perturbed(case, holes)
        return self.bench.settled(made)

    def runs(self, share: float, lengths: Iterable[int] = _RUNS) -> np.ndarray:
        """Return about this share of the rows, in runs of several lengths, in order of the key."""
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
        """Return redrawn rows, in which some values persist for a while."""
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


class Settling:
    """Finds out which values a function accepts in the columns of a table, and restricts its bench to them.

    A function that validates its input fails on tables that it considers invalid. If it fails on some perturbed table,
    each column is tried alone: whether it accepts values that were not observed, missing values, and changes of this
    column alone. Columns that cannot change alone are tried together, with values from one and the same row.

    Args:
        bench: the table, and the function.
        draw: random number generator.
        leave: called with columns and why they cannot be perturbed as others are.
        count: called for each table that the function is called with; see `examine.Results.count`.
    """

    def __init__(
        self, bench: Bench, draw: np.random.Generator, leave: Callable[[str, str], None], count: Callable[..., None]
    ) -> None:
        self.bench, self.draw, self.leave, self.count = bench, draw, leave, count
        self.some = draw.random(bench.size) < 0.5

    def settle(self) -> None:
        """Try all columns at once, and then alone those kinds of changes that fail."""
        names = list(self.bench.pools)
        if self._blocked(names, MIXED):
            tied = dict[str, Blocked]()
            for name in names:
                if blocked := self._blocked([name], MIXED):
                    self.bench.pools[name].only_observed()
                    if again := self._blocked([name], REDRAWN):
                        tied[name] = again
                    else:
                        self.leave(name, f"set to observed values alone, else the function fails: {blocked}")
            if tied:
                self._tie(tied)
            self._tie_all()
        if self._blocked(names, MISSING):
            for name in names:
                if blocked := self._blocked([name], MISSING):
                    self.bench.pools[name].never_missing()
                    self.leave(name, f"never set to missing, else the function fails: {blocked}")
            if blocked := self._blocked(names, MISSING):
                for name in names:
                    self.bench.pools[name].never_missing()
                self.leave(", ".join(names), f"never set to missing, else the function fails: {blocked}")

    def _tie_all(self) -> None:
        """Never perturb several columns at once, if each can be perturbed alone but not all together."""
        names = list(self.bench.pools)
        if blocked := self._blocked(names, MIXED):
            for name in names:
                self.bench.pools[name].only_observed()
            self.leave(", ".join(names), f"set to observed values alone, else the function fails: {blocked}")
        if blocked and (blocked := self._blocked(names, REDRAWN)):
            free = [name for name in names if name not in self.bench.frozen]
            self.bench.keep(Together(*free))
            self.leave(", ".join(free), f"taken together from rows of the table, else the function fails: {blocked}")

    def _tie(self, tied: dict[str, Blocked]) -> None:
        """Perturb columns together that the function does not accept perturbed alone."""
        for name in list(tied):
            if invariant := self._alone(name):
                self.leave(name, f"taken to be {invariant!r}, else the function fails: {tied.pop(name)}")
        if not tied:
            return
        names, error = list(tied), next(iter(tied.values()))
        stuck = [name for name in names if self._follows_the_key(name)]
        names = [name for name in names if name not in stuck]
        while len(names) > 1 and self._blocked_together(names):
            without = next((name for name in names if not self._blocked_together([*{*names} - {name}])), names[-1])
            names.remove(without)
            stuck.append(without)
        if len(names) == 1:
            stuck.append(names.pop())
        for group in self._groups(names):
            self.bench.keep(Together(*group))
            self.leave(", ".join(group), f"taken together from rows of the table, else the function fails: {error}")
        for name in stuck:
            self.bench.freeze(name)
            self.leave(name, f"never perturbed, for the function then fails: {tied[name]}")

    def _alone(self, name: str) -> Invariant | None:
        """Return an invariant of one column that holds in the table and lets it be perturbed alone, if there is one."""
        bench, pool = self.bench, self.bench.pools[name]
        codes = pool.codes()
        candidates: list[Invariant] = [Unique(name)] if len(set(codes.tolist())) == len(codes) else []
        steps = np.diff(codes[bench.sorted_rows])
        if bench.is_ordered and pool.cells.dtype.is_numeric() and (steps >= 0).all():
            candidates.append(Rising(name, bench.key))
        for invariant in candidates:
            bench.keep(invariant)
            if not self._blocked([name], REDRAWN):
                return invariant
            bench.invariants.pop()
        return None

    def _groups(self, names: Sequence[str]) -> list[list[str]]:
        """Return columns in the smallest groups that can be perturbed together."""
        if len(names) > _MOST_TIED:
            return [list(names)]
        groups, left = list[list[str]](), list(names)
        while left:
            group = list(left)
            for name in left[1:]:
                fewer = [other for other in group if other != name]
                if len(fewer) > 1 and not self._blocked_together(fewer):
                    group = fewer
            groups.append(group)
            left = [name for name in left if name not in group]
            if len(left) == 1:
                groups[-1].append(left.pop())
        return groups

    def _follows_the_key(self, name: str) -> bool:
        """Return whether the key determines a column: one value for each day, hour of the day, or weekday."""
        bench = self.bench
        if not bench.is_ordered:
            return False
        codes = bench.pools[name].codes()
        hours = bench.times // 3_600_000_000
        for labels in (hours // 24, hours % 24, hours // 24 % 7):
            groups = np.unique(labels, return_inverse=True)[1]
            low, high = (np.full(groups.max() + 1, fill) for fill in (codes.max() + 1, -1))
            np.minimum.at(low, groups, codes)
            np.maximum.at(high, groups, codes)
            if len(low) < len(codes) / 2 and (low == high).all():
                return True
        return False

    def _blocked_together(self, names: Sequence[str]) -> Blocked | None:
        self.bench.invariants.append(Together(*names))
        try:
            return self._blocked(names, REDRAWN)
        finally:
            self.bench.invariants.pop()

    def _blocked(self, names: Sequence[str], way: str) -> Blocked | None:
        """Return the function's error when columns are perturbed in some rows, None if it runs or nothing changes."""
        here, change = np.arange(self.bench.size), dict[str, np.ndarray]()
        for name in names:
            drawn = self.bench.pools[name].drawn(self.draw, way)
            if drawn is not None:
                change[name] = np.where(self.some, drawn, here)
        case, perturbed = self.bench.perturbed(Case(), change)
        if not perturbed:
            return None
        output_of = self.bench.alone(case)
        blocked = output_of if isinstance(output_of, Blocked) else None
        self.count(
            _SETTLING,
            blocked=blocked,
            ground=f"{', '.join(names)} {way}" if len(names) < len(self.bench.pools) else way,
        )
        return blocked
