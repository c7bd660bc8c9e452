"""The experiments that `evidence.check` makes with one table: each disturbs it in one way, and judges what may move.

Rare cases come from what is disturbed, not from more trials: each experiment begins from the rows as they are, from rows with
holes, from rows that are redrawn so that rare values are frequent, and from both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from bikes_assets.lineage.disturb import MISSING, MIXED, OUTSIDE, REDRAWN, ROWS, Bench, Blocked, Case, Said
from bikes_assets.lineage.rows import groups_apart

if TYPE_CHECKING:
    import narwhals as nw
    import numpy as np

    from bikes_assets.lineage.disturb import Places

Pair: TypeAlias = tuple[str, str]
"""Output column and input column."""

_REAL, _HOLES, _REDRAWN, _BOTH = "the table as it is", "rows with holes", "redrawn rows", "redrawn rows with holes"
_SHIFTS = (1, 893)
"""Steps that the key is moved by: one, and in hours more than a month that is neither whole days nor weeks."""
_PERIOD, _AHEAD = 720, 24
_HOLE, _DROPPED = 0.05, 0.1


@dataclass(frozen=True, slots=True)
class Window:
    """Which rows before a row, in steps of the key's grid such as hours, have a part in its value.

    Attributes:
        first: the farthest.
        last: the nearest, 0 for the row itself; negative for one that comes after it.
    """

    first: int
    last: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a function does and its declaration denies.

    Attributes:
        check: the experiment that found it.
        output: the column that it makes, "(rows)" for which rows there are, "" for all.
        column: the column that it reads; "" where it is not one column that does it.
        message: what was disturbed how, and what moved.
    """

    check: str
    output: str
    column: str
    message: str


@dataclass(frozen=True, slots=True)
class Question:
    """What is declared of a function; see `evidence.check`."""

    declared: Mapping[str, tuple[str, ...]]
    rows: tuple[str, ...]
    target: tuple[str, ...]
    horizon: int
    windows: Mapping[Pair, Window]
    history: int | None


@dataclass(frozen=True, slots=True)
class Trial:
    """One disturbed table of an experiment, what it was before, and what judges what is said of it."""

    check: str
    ground: str
    case: Case
    judge: Callable[[Said], None]


@dataclass(slots=True)
class Seen:
    """What was seen of one dependency so far: in how many tables, which checks saw it move, at which offsets."""

    trials: int = 0
    by_value: bool = False
    checks: dict[str, None] = field(default_factory=dict)
    offsets: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Found:
    """What the experiments have found so far."""

    trials: int = 0
    seen: dict[Pair, Seen] = field(default_factory=dict)
    findings: dict[tuple[str, str, str], Finding] = field(default_factory=dict)
    blocked: dict[str, None] = field(default_factory=dict)
    unchecked: dict[str, None] = field(default_factory=dict)

    def find(self, check: str, output: str, column: str, message: str) -> None:
        """Add a finding, unless there is one of the same."""
        self.findings.setdefault((check, output, column), Finding(check, output, column, message))


class Examination:
    """A table, a function of it, and what is declared; each experiment adds to what was found."""

    def __init__(self, bench: Bench, asked: Question, draw: np.random.Generator, found: Found) -> None:
        import numpy as np

        self.bench, self.asked, self.draw, self.found = bench, asked, draw, found
        self.everything = np.ones(bench.size, dtype=bool)
        self.sources = {**asked.declared, ROWS: (bench.key, *asked.rows)}
        self.alike: dict[frozenset[str], list[str]] = {}
        for output, columns in self.sources.items():
            self.alike.setdefault(frozenset(columns), []).append(output)
        self.gaps = draw.random(bench.size) < _HOLE
        """Rows that have holes in all columns, where there are holes."""
        self.half = draw.random(bench.size) < 0.5
        redrawn = self._changed(bench.pools, REDRAWN, {})
        self.grounds = {_REAL: {}, _HOLES: self._with_holes({}), _REDRAWN: redrawn, _BOTH: self._with_holes(redrawn)}
        self.said: dict[str, Said] = {}

    def all(self) -> None:
        """Make all experiments; where the function does not repeat itself, no other says anything."""
        if self.bench.others:
            self._leave(", ".join(self.bench.others), "made, but not declared")
        if not self._repeats("twice"):
            return
        grounds = self.bench.said([Case(places) for places in self.grounds.values()])
        for name, said in zip(self.grounds, grounds, strict=True):
            if isinstance(said, Blocked):
                self._block(name, said)
            else:
                self.said[name] = said
        self.restricted()
        timely = [*self.moved_key(), *self.time(), *self.presence(), *self.slices()] if self.bench.is_ordered else []
        self._run([*self.undeclared(), *timely])
        self._run([*self.declared(), *(self.windows() if self.bench.is_ordered else [])])
        if not self.bench.is_ordered:
            self._leave(
                "key, time, presence, slice and windows", f"{self.bench.key} is neither a time nor a whole number"
            )
        self.order()
        self.types()
        self._repeats("again after all experiments")

    def restricted(self) -> None:
        """Compute each column from a table that has only the key and what it declares, or all that is declared."""
        bench = self.bench
        declared = {bench.key, *self.asked.rows, *(name for columns in self.sources.values() for name in columns)}
        said = self._of_columns(declared)
        if isinstance(said, Blocked):
            # a column that it makes and nobody declares may be the one that reads it
            for name in () if bench.others else bench.names:
                without = bench.undisturbed if name in declared else self._of_columns({*bench.names} - {name})
                if isinstance(without, Blocked):
                    message = f"it fails without {name}, which no column declares: {_words(without)}"
                    self.found.find("restricted run", "", name, message)
            self._block("a table of the declared columns alone", said)
            return
        for columns, outputs in self.alike.items():
            narrow = self._of_columns({bench.key, *self.asked.rows, *columns})
            for output in outputs:
                for other in (said, narrow):  # the narrow one fails where a function makes several columns
                    if isinstance(other, Said) and bench.moved(output, other, bench.undisturbed).any():
                        self._blame_absent(output, {*columns, bench.key, *self.asked.rows})

    def undeclared(self) -> Iterator[Trial]:
        """Disturb all that a column does not declare: it stays."""
        for columns, outputs in self.alike.items():
            for ground, places in self.grounds.items():
                for way in (MIXED, MISSING):
                    others = [name for name in self.bench.pools if name not in columns]
                    rows = self.half if way == MISSING and ground in (_HOLES, _BOTH) else self.everything
                    change = self._changed(others, way, places, rows)
                    if change:
                        judge = partial(
                            self._judge, "undeclared influence", outputs, ground, change, way, self.everything, ""
                        )
                        yield Trial("undeclared influence", ground, Case({**places, **change}), judge)

    def moved_key(self) -> Iterator[Trial]:
        """Move the key of all rows: only what declares it may move with it."""
        for ground in (_REAL, _BOTH):
            for shift in _SHIFTS:
                judge = partial(self._judge_key, ground, shift)
                yield Trial("moved key", ground, Case(self.grounds[ground], shift=shift), judge)

    def _judge_key(self, ground: str, shift: int, said: Said) -> None:
        key = self.bench.key
        for output, columns in self.sources.items():
            moved = self.bench.moved(output, said, self.said[ground])
            if key in columns and output != ROWS:
                self._see("moved key", output, key, moved, by_value=True)
            elif key not in columns:
                how = f"when {key} is moved by {shift} in every row, which it does not declare"
                self._find("undeclared influence", output, key, moved, ground, said, how)

    def declared(self) -> Iterator[Trial]:
        """Disturb each declared column: what declares it moves at least once, by a change of values or by what is missing."""
        for group in self._groups():
            for ground, places in self.grounds.items():
                for way in (REDRAWN, OUTSIDE, MISSING):
                    change = self._changed({column for _, column in group}, way, places)
                    pairs = [pair for pair in group if pair[1] in change]
                    if pairs:
                        judge = partial(self._judge_declared, pairs, ground, way != MISSING)
                        yield Trial("declared influence", ground, Case({**places, **change}), judge)

    def _judge_declared(self, pairs: Sequence[Pair], ground: str, by_value: bool, said: Said) -> None:
        for output, column in pairs:
            moved = self.bench.moved(output, said, self.said[ground])
            self._see("declared influence", output, column, moved, by_value=by_value)

    def time(self) -> Iterator[Trial]:
        """Disturb all rows from some row on: nothing moves before it, nor what the target makes until its horizon has passed."""
        import numpy as np

        bench, asked = self.bench, self.asked
        made = [name for name in asked.declared if name not in asked.target] if asked.horizon else []
        of_target = [name for name in made if self._inputs(name) and {*self._inputs(name)} <= {*asked.target}]
        for number, (ground, cut) in enumerate(self._cuts()):
            places, late, before = self.grounds[ground], bench.times >= cut, bench.times < cut
            known = bench.times < cut + asked.horizon * bench.step
            since = f"from {bench.label(int(np.flatnonzero(bench.times == cut)[0]))} on"
            for way in (MIXED, MISSING):
                for names, outputs, rows in ((bench.pools, list(self.sources), before), (asked.target, made, known)):
                    if outputs and (change := self._changed(names, way, places, late)):
                        judge = partial(self._judge, "time", outputs, ground, change, way, rows, since)
                        yield Trial("time", ground, Case({**places, **change}), judge)
            stays = ~late | ((number % 2 == 1) & (self.draw.random(bench.size) < 0.5))
            judge = partial(
                self._judge_time, of_target, ground, before, known & stays, f"when rows are dropped {since}"
            )
            yield Trial("time", ground, Case(places, kept=np.flatnonzero(stays)), judge)

    def _judge_time(
        self, of_target: Sequence[str], ground: str, before: np.ndarray, known: np.ndarray, how: str, said: Said
    ) -> None:
        for output in self.sources:
            moved = self.bench.moved(output, said, self.said[ground]) & (known if output in of_target else before)
            self._find("time", output, self._only(output), moved, ground, said, how)

    def presence(self) -> Iterator[Trial]:
        """Drop some rows: the others say the same as when all cells of those are missing."""
        import numpy as np

        bench = self.bench
        if lacking := [name for name, pool in bench.pools.items() if pool.gap is None]:
            self._leave("presence", f"{', '.join(lacking)} cannot be missing")
            return
        for ground in (_REAL, _REDRAWN):
            for length in (1, 30):
                starts, places = self.draw.random(bench.size) < _DROPPED / length, self.grounds[ground]
                dropped = np.convolve(starts, np.ones(length))[: bench.size] > 0
                empty, said_of_empty = self._changed(bench.pools, MISSING, places, dropped), list[Said]()
                yield Trial("presence", ground, Case({**places, **empty}), said_of_empty.append)
                judge = partial(self._judge_presence, ground, dropped, said_of_empty)
                yield Trial("presence", ground, Case(places, kept=np.flatnonzero(~dropped)), judge)

    def _judge_presence(self, ground: str, dropped: np.ndarray, empty: Sequence[Said], said: Said) -> None:
        for output in self.sources if empty else ():
            moved = self.bench.moved(output, said, empty[0]) & ~dropped
            how = f"when {int(dropped.sum())} rows are absent instead of empty"
            self._find("presence", output, self._only(output), moved, ground, said, how, empty[0])

    def slices(self) -> Iterator[Trial]:
        """Compute some rows with their history alone: they say the same as in the whole table."""
        import numpy as np

        bench, history = self.bench, self.asked.history
        if history is None:
            self._leave("slice", "no history is declared, nor a window of every dependency")
            return
        possible = bench.times[bench.times > bench.times.min() + history * bench.step]
        if not len(possible):
            self._leave("slice", f"the table is not longer than the history of {history} steps")
            return
        for ground in (_REAL, _BOTH):
            first, last = np.sort(self.draw.choice(possible, 2))
            rows = (bench.times >= first) & (bench.times <= last)
            kept = np.flatnonzero((bench.times >= first - history * bench.step) & (bench.times <= last))
            judge = partial(self._judge_slice, ground, rows)
            yield Trial("slice", ground, Case(self.grounds[ground], kept=kept), judge)

    def _judge_slice(self, ground: str, rows: np.ndarray, said: Said) -> None:
        how = f"when rows more than {self.asked.history} steps before and those behind are absent"
        for output in self.sources:
            moved = self.bench.moved(output, said, self.said[ground]) & rows
            self._find("slice", output, self._only(output), moved, ground, said, how)

    def windows(self) -> Iterator[Trial]:
        """Disturb single hours: what moves lies in the window that is declared."""
        bench = self.bench
        grid = (bench.times - bench.times.min()) // bench.step
        if len(grid) < grid.max() / 2:
            self._leave("windows", f"most steps of {bench.key} have no row")
            return
        period = max([_PERIOD, *(window.first + 2 * _AHEAD for window in self.asked.windows.values())])
        for group in self._groups():
            for way in (OUTSIDE, MISSING, REDRAWN):
                for ground in (_REAL, _BOTH):
                    phase = int(grid[self.draw.integers(0, bench.size)]) % period
                    places, hours = self.grounds[ground], grid % period == phase
                    change = self._changed({column for _, column in group}, way, places, hours)
                    pairs = [pair for pair in group if pair[1] in change]
                    if pairs:
                        judge = partial(self._judge_windows, pairs, ground, way, (grid - phase) % period, period)
                        yield Trial("windows", ground, Case({**places, **change}), judge)

    def _judge_windows(
        self, pairs: Sequence[Pair], ground: str, way: str, after: np.ndarray, period: int, said: Said
    ) -> None:
        import numpy as np

        for output, column in pairs:
            moved = self.bench.moved(output, said, self.said[ground])
            self._see("windows", output, column, moved, by_value=way != MISSING)
            offsets = np.where(after >= period - _AHEAD, after - period, after)
            self.found.seen[output, column].offsets |= set(offsets[moved].tolist())
            if window := self.asked.windows.get((output, column)):
                outside = moved & ((offsets > window.first) | (offsets < window.last))
                steps = (
                    f"{offsets[outside][0]} steps before, of {window.first} to {window.last}" if outside.any() else ""
                )
                how = f"when {column} is {way} in one row of {period}, {steps} that are declared"
                self._find("windows", output, column, outside, ground, said, how)

    def order(self) -> None:
        """Put rows, columns and labels in another order: each row says the same."""
        bench, shuffled = self.bench, self.draw.permutation(self.bench.size)
        names = bench.names  # the reverse swaps every pair; the other order leaves none in its place
        ways: dict[str, Callable[[nw.DataFrame[Any]], Any]] = {
            "columns are in reverse order, and rows have other labels": lambda frame: _labelled(
                frame.select(*names[::-1]), shuffled
            ),
            "columns stand in other places": lambda frame: frame.select(*names[1:], names[0]),
        }
        orders = {"rows are shuffled": shuffled, "rows are in reverse order": bench.sorted_rows[::-1]}
        said = dict(zip(orders, bench.said([Case(kept=rows) for rows in orders.values()]), strict=True))
        said |= {way: bench.alone(Case(), prepared) for way, prepared in ways.items()}
        self.found.trials += len(said)
        for way, disturbed in said.items():
            if isinstance(disturbed, Blocked):
                self._block(f"order, {way}", disturbed)
                continue
            for output in self.sources:
                moved = bench.moved(output, disturbed, bench.undisturbed)
                self._find("order", output, "", moved, _REAL, disturbed, f"when {way}")

    def types(self) -> None:
        """Hand over whole numbers as floats: the same is said."""
        import narwhals as nw
        import numpy as np

        bench = self.bench
        whole = [name for name, pool in bench.pools.items() if pool.cells.dtype.is_integer()]
        if not whole:
            return

        def floats(frame: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
            if not frame.implementation.is_pandas_like():
                return frame.with_columns(nw.col(*whole).cast(nw.Float64))
            made = [
                nw.new_series(
                    name, frame[name].cast(nw.Float64).to_numpy().astype(np.float64), backend=frame.implementation
                )
                for name in whole
            ]  # plain pandas has NaN for a missing value
            return frame.with_columns(*made)

        said = bench.alone(Case(), floats)
        self.found.trials += 1
        if isinstance(said, Blocked):
            self._block("whole numbers as floats", said)
            return
        for output in self.sources:
            moved = bench.moved(output, said, bench.undisturbed)
            self._find("type", output, self._only(output), moved, _REAL, said, "when whole numbers are floats")

    def whole(self, whole: Bench, positions: np.ndarray) -> None:
        """Compare what was said of these rows, a slice of a larger table, with what is said of them in all of it."""
        history = self.asked.history
        if history is None:
            return
        in_all = Said(
            {name: values[positions] for name, values in whole.undisturbed.values.items()},
            whole.undisturbed.present[positions],
        )
        rows = self.bench.times >= self.bench.times.min() + history * self.bench.step
        how = f"in all rows instead of a slice of {len(rows)}"
        for output in self.sources:
            moved = self.bench.moved(output, in_all, self.bench.undisturbed) & rows
            self._find("slice", output, self._only(output), moved, _REAL, in_all, how)

    # what experiments have in common

    def _run(self, trials: Iterable[Trial]) -> None:
        """Judge what the function says of each trial; one that is blocked, or whose ground is, is told and left out."""
        trials = [trial for trial in trials if trial.ground in self.said]
        self.found.trials += len(trials)
        for trial, said in zip(trials, self.bench.said([trial.case for trial in trials]), strict=True):
            if isinstance(said, Blocked):
                self._block(f"{trial.check}, {trial.ground}", said)
            else:
                trial.judge(said)

    def _groups(self) -> list[list[Pair]]:
        """Return dependencies that one trial can try, as long as no column reads more than it declares."""
        groups = groups_apart({name: self._inputs(name) for name in self.asked.declared})
        if not self.found.findings:
            return groups
        pairs = [pair for group in groups for pair in group]
        return [
            [pair for pair in pairs if pair[1] == column] for column in dict.fromkeys(column for _, column in pairs)
        ]

    def _judge(
        self,
        check: str,
        outputs: Sequence[str],
        ground: str,
        change: Places,
        way: str,
        rows: np.ndarray,
        since: str,
        said: Said,
    ) -> None:
        """Add a finding for each output that moves in these rows, and each column whose disturbance moves it."""
        before, places, bench = self.said[ground], self.grounds[ground], self.bench

        def moved(output: str, other: Said | Blocked) -> bool:
            return isinstance(other, Said) and bool((bench.moved(output, other, before) & rows).any())

        def disturbed(columns: Iterable[str]) -> Case:
            return Case({**places, **{name: change[name] for name in columns}})

        blamed = {finding.output for finding in self.found.findings.values() if finding.check == check}
        moving = [name for name in outputs if name not in blamed and moved(name, said)]
        alone = dict(zip(change, bench.said([disturbed([name]) for name in change]), strict=True)) if moving else {}
        for output in moving:
            culprits = {name: (other, "") for name, other in alone.items() if moved(output, other)}
            if not culprits:  # only together: each that is not needed is put back
                needed = list(change)
                for name in change:
                    without = [other for other in needed if other != name]
                    needed = without if moved(output, next(bench.said([disturbed(without)]))) else needed
                together = f"; only together: {', '.join(needed)}" if len(needed) > 1 else ""
                culprits = dict.fromkeys(needed, (said, together))
            for name, (other, together) in culprits.items():
                if isinstance(other, Said):
                    how = f"when {name} is {way} {since}".strip() + together
                    self._find(check, output, name, bench.moved(output, other, before) & rows, ground, other, how)

    def _blame_absent(self, output: str, declared: Collection[str]) -> None:
        """Add a finding for each column without which an output is another."""
        bench = self.bench
        for name in bench.names:
            if name in declared:
                continue
            said = self._of_columns({*bench.names} - {name})
            if isinstance(said, Said):
                moved = bench.moved(output, said, bench.undisturbed)
                self._find("restricted run", output, name, moved, _REAL, said, f"when the table has no {name}")

    def _of_columns(self, columns: Collection[str]) -> Said | Blocked:
        self.found.trials += 1
        names = [name for name in self.bench.names if name in columns]
        return self.bench.alone(Case(), lambda frame: frame.select(names))

    def _repeats(self, when: str) -> bool:
        """Return whether the function says the same of the same table."""
        said = self.bench.alone(Case())
        self.found.trials += 1
        if isinstance(said, Blocked):
            self.found.find("repeat", "", "", f"it fails when it is called {when}: {_words(said)}")
            return False
        differs = False
        for output in self.sources:
            moved = self.bench.moved(output, said, self.bench.undisturbed)
            self._find("repeat", output, "", moved, _REAL, said, f"when it is called {when} with the same table")
            differs |= bool(moved.any())
        return not differs

    def _changed(
        self, columns: Iterable[str], way: str, places: Places, rows: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Return new places for columns in some rows, for those that can be disturbed in that way."""
        import numpy as np

        now, changed = np.arange(self.bench.size), dict[str, np.ndarray]()
        for name in columns:
            before = places.get(name, now)
            drawn = self.bench.pools[name].drawn(self.draw, way, before) if name in self.bench.pools else None
            if drawn is not None:
                changed[name] = drawn if rows is None else np.where(rows, drawn, before)
        return changed

    def _with_holes(self, places: Places) -> Places:
        """Return places with cells missing here and there, and all cells of some rows."""
        holes = dict(places)
        for name in self.bench.pools:
            rows = self.gaps | (self.draw.random(self.bench.size) < _HOLE)
            holes |= self._changed([name], MISSING, places, rows)
        return holes

    def _cuts(self) -> Iterator[tuple[str, int]]:
        """Yield grounds, and times from which on they are disturbed: where months begin, behind gaps, anywhere."""
        import numpy as np

        times = np.sort(self.bench.times)
        inside = (times > np.quantile(times, 0.1)) & (times < np.quantile(times, 0.8))
        after_gap = np.append(False, np.diff(times) > self.bench.step)
        month = times.astype("datetime64[us]").astype("datetime64[M]")
        begins = np.append(False, month[1:] != month[:-1])
        ends = np.roll(begins, -max(self.asked.horizon // 2, 1))
        gaps = self.gaps[np.argsort(self.bench.times)]
        after_hole = np.append(False, gaps[:-1] & ~gaps[1:])
        for ground, where, count in (
            (_REAL, begins, 1), (_REAL, ends, 1), (_REAL, after_gap, 1), (_REAL, inside, 1),
            (_HOLES, after_hole, 2), (_REDRAWN, inside, 1), (_BOTH, after_hole, 1),
        ):  # fmt: skip
            possible = times[where & inside]
            for cut in self.draw.choice(possible, min(count, len(possible)), replace=False):
                yield ground, int(cut)

    def _inputs(self, output: str) -> tuple[str, ...]:
        """Return the columns that an output declares, without the key."""
        return tuple(name for name in self.sources[output] if name != self.bench.key)

    def _only(self, output: str) -> str:
        """Return the column that an output declares, where it is one."""
        inputs = self._inputs(output)
        return inputs[0] if len(inputs) == 1 else ""

    def _see(self, check: str, output: str, column: str, moved: np.ndarray, *, by_value: bool) -> None:
        seen = self.found.seen.setdefault((output, column), Seen())
        seen.trials += 1
        if moved.any():
            seen.checks[check] = None
            seen.by_value |= by_value

    def _find(
        self,
        check: str,
        output: str,
        column: str,
        moved: np.ndarray,
        ground: str,
        said: Said,
        how: str,
        before: Said | None = None,
    ) -> None:
        """Add a finding where an output moved at all: where first, from what to what, and how that came."""
        rows = moved.nonzero()[0]
        if not len(rows):
            return
        before = before or self.said.get(ground, self.bench.undisturbed)
        at = self.bench.label(int(rows[0]))
        if output == ROWS:
            what = f"the row {at} {'comes' if said.present[rows[0]] else 'goes'}"
        else:
            one, other = (item.values[output][rows[0]] for item in (before, said))
            what = f"{output} moves at {at} from {one:g} to {other:g}"
        self.found.find(check, output, column, f"{what} {how} ({len(rows)} such rows, of {ground})")

    def _block(self, what: str, blocked: Blocked) -> None:
        if len(self.found.blocked) < 20:
            self.found.blocked[f"{what}: {_words(blocked)}"] = None

    def _leave(self, check: str, why: str) -> None:
        self.found.unchecked[f"{check}: {why}"] = None


def _words(blocked: Blocked) -> str:
    return f"{type(blocked.error).__name__}: {blocked.error}"[:200]


def _labelled(frame: nw.DataFrame[Any], labels: np.ndarray) -> Any:
    """Return a pandas frame with other labels of its rows; frames of other engines have none."""
    native = frame.to_native()
    return native.set_axis(labels, axis=0) if hasattr(native, "set_axis") else native
