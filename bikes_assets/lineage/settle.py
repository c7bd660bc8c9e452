"""What a function lets its columns be set to: one that validates its input fails on tables that it takes for wrong.

Where it fails on some perturbed table, each column is tried by itself: whether it may have values that were not observed, may be
missing, and may change while the others stay. Columns that may not are tried together, with values from one and the same row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bikes_assets.lineage.disturb import MISSING, MIXED, REDRAWN, Bench, Blocked, Case
from bikes_assets.lineage.invariants import Together

if TYPE_CHECKING:
    import numpy as np

    from bikes_assets.lineage.findings import Found

_CHECK = "what columns can be set to"
_MOST_TIED = 8


class Settling:
    """Finds out what the columns of a table can be set to, and has its bench keep to it.

    Args:
        bench: the table, and the function.
        draw: where randomness comes from.
        found: where it is noted what cannot be tried.
    """

    def __init__(self, bench: Bench, draw: np.random.Generator, found: Found) -> None:
        self.bench, self.draw, self.found = bench, draw, found
        self.some = draw.random(bench.size) < 0.5

    def settle(self) -> None:
        """Try all columns at once, and one by one those ways in which that fails."""
        names = list(self.bench.pools)
        if self._blocked(names, MIXED):
            tied = dict[str, Blocked]()
            for name in names:
                if blocked := self._blocked([name], MIXED):
                    self.bench.pools[name].only_observed()
                    if again := self._blocked([name], REDRAWN):
                        tied[name] = again
                    else:
                        self.found.leave(name, f"set to observed values alone, else the function fails: {blocked}")
            if tied:
                self._tie(tied)
        if self._blocked(names, MISSING):
            for name in names:
                if blocked := self._blocked([name], MISSING):
                    self.bench.pools[name].never_missing()
                    self.found.leave(name, f"never set to missing, else the function fails: {blocked}")

    def _tie(self, tied: dict[str, Blocked]) -> None:
        """Have columns perturbed together that the function lets nobody perturb by themselves."""
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
            self.found.leave(
                ", ".join(group), f"taken together from rows of the table, else the function fails: {error}"
            )
        for name in stuck:
            self.bench.pools[name].freeze()
            self.found.leave(name, f"never perturbed, for the function then fails: {tied[name]}")

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
        """Return whether a column is the same all day, or all hours of one name: no row of another time may have it then."""
        import numpy as np

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
        """Return why the function fails when columns are perturbed in some rows, None where it runs or nothing is to be tried."""
        import numpy as np

        here, change = np.arange(self.bench.size), dict[str, np.ndarray]()
        for name in names:
            drawn = self.bench.pools[name].drawn(self.draw, way)
            if drawn is not None:
                change[name] = np.where(self.some, drawn, here)
        case, perturbed = self.bench.perturbed(Case(), change)
        if not perturbed:
            return None
        said = self.bench.alone(case)
        blocked = said if isinstance(said, Blocked) else None
        self.found.count(
            _CHECK, blocked=blocked, ground=f"{', '.join(names)} {way}" if len(names) < len(self.bench.pools) else way
        )
        return blocked
