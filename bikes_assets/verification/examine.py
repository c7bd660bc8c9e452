"""The examination of a function with one table: what all experiments have in common.

An experiment makes trials, each with one perturbed table. A trial starts from a ground, perturbs some cells, and checks
what moved: an output row that the declaration excludes from depending on these cells must not move.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from bikes_assets.lineage.rows import groups_apart
from bikes_assets.verification.declaration import ROWS, Declaration, Pair
from bikes_assets.verification.grounds import REAL, Ground, Grounds
from bikes_assets.verification.perturb import MISSING, Bench, Blocked, Case, Output

if TYPE_CHECKING:
    from bikes_assets.verification.perturb import PerturbedCells, Places

TIME = "time"
"""The experiments about values that come after a row."""

_MOST_BLOCKED = 20
_EFFORT_ROWS, _MOST_EFFORT = 4_200, 4
_SHIFTS = (0, 4_451, 1_487, 5_939, 2_971, 7_417)
"""Steps by which fresh grounds are shifted: in hours, through the seasons, to other hours and days of the week."""
_NUDGES, _NUDGED, _QUANTUM, _MOST_QUANTA = 3, 0.6, 2.0**-30, 9
"""Number of nudges, share of cells, and size of the change, to see whether only the last bits moved."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A result about an output column: what contradicts its declaration, or what could not be tried.

    Attributes:
        check: the experiment.
        output: the output column, "(rows)" for the set of rows, "" for all.
        column: the column that it reads; "" if no single column is the cause.
        message: what was perturbed and how, and what moved; or why nothing ran.
        failed: for what could not be tried: whether the function failed; else there was nothing to perturb.
    """

    check: str
    output: str
    column: str
    message: str
    failed: bool = False


@dataclass(slots=True)
class Count:
    """Number of perturbed tables on which the function ran, and on which it failed."""

    ran: int = 0
    blocked: int = 0


@dataclass(slots=True)
class Seen:
    """Observations of one dependency: number of tables, the experiments in which it moved, and at which offsets."""

    trials: Count = field(default_factory=Count)
    by_value: bool = False
    checks: dict[str, None] = field(default_factory=dict)
    offsets: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Results:
    """The results of the experiments so far.

    Attributes:
        counts: perturbed tables by experiment.
        outputs: by experiment and output, the tables that could have shown something about it.
        seen: observations by dependency.
        findings: what contradicts the declaration.
        blocked: errors of the function on perturbed tables.
        unchecked: what could not be checked, and why.
        undeclared: output columns of which nothing is declared.
        progress: called after each table with the experiment and the number of tables so far; None if nobody waits.
    """

    counts: dict[str, Count] = field(default_factory=dict)
    outputs: dict[tuple[str, str], Count] = field(default_factory=dict)
    seen: dict[Pair, Seen] = field(default_factory=dict)
    findings: dict[tuple[str, str, str], Finding] = field(default_factory=dict)
    blocked: dict[str, None] = field(default_factory=dict)
    unchecked: dict[str, None] = field(default_factory=dict)
    undeclared: dict[str, None] = field(default_factory=dict)
    progress: Callable[[str, int], None] | None = None

    def find(self, check: str, output: str, column: str, message: str) -> None:
        """Add a finding, unless there is already one of the same experiment, output and column."""
        self.findings.setdefault((check, output, column), Finding(check, output, column, message))

    def count(
        self,
        check: str,
        outputs: Iterable[str] = (),
        pairs: Iterable[Pair] = (),
        blocked: object = None,
        ground: str = "",
    ) -> None:
        """Count a perturbed table.

        Args:
            check: the experiment.
            outputs: outputs about which it could have shown something.
            pairs: the dependencies that it tried.
            blocked: error of the function on it, None if it ran.
            ground: the table before the perturbation.
        """
        counts = [self.counts.setdefault(check, Count())]
        counts += [self.outputs.setdefault((check, name), Count()) for name in outputs]
        counts += [self.seen.setdefault(pair, Seen()).trials for pair in pairs]
        for each in counts:
            if blocked is None:
                each.ran += 1
            else:
                each.blocked += 1
        if blocked is not None and len(self.blocked) < _MOST_BLOCKED:
            self.blocked[f"{check}{', ' if ground else ''}{ground}: {blocked}"] = None
        if self.progress:
            self.progress(check, sum(count.ran + count.blocked for count in self.counts.values()))

    def leave(self, what: str, why: str) -> None:
        """Note that something could not be checked."""
        self.unchecked[f"{what}: {why}"] = None

    def see(self, check: str, pair: Pair, *, moved: bool, by_value: bool) -> None:
        """Note whether a perturbed input moved an output."""
        seen = self.seen.setdefault(pair, Seen())
        if moved:
            seen.checks[check] = None
            seen.by_value |= by_value


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One perturbed table of an experiment.

    Attributes:
        check: the experiment.
        ground: the ground that it starts from.
        case: the perturbed table.
        perturbed: the cells that differ from the ground.
        firsts: for each column with such cells, the first key of one.
        evaluate: evaluates the output; it must not draw random numbers, so that the order of calls does not matter.
        outputs: the outputs about which it could show something.
        pairs: the dependencies that it tries.
    """

    check: str
    ground: Ground
    case: Case
    perturbed: PerturbedCells
    firsts: Mapping[str, int]
    evaluate: Callable[[Perturbation, Output], None]
    outputs: Sequence[str] = ()
    pairs: Sequence[Pair] = ()


class Examination:
    """A table, a function of it, and its declaration; each experiment adds to the results.

    Args:
        bench: the table and the function.
        declaration: the declaration.
        draw: random number generator.
        found: collects the results.
    """

    def __init__(self, bench: Bench, declaration: Declaration, draw: np.random.Generator, found: Results) -> None:
        self.bench, self.declaration, self.draw, self.found = bench, declaration, draw, found
        self.everything = np.ones(bench.size, dtype=bool)
        self.half = draw.random(bench.size) < 0.5
        self.effort = max(1, min(_MOST_EFFORT, round(_EFFORT_ROWS / bench.size)))
        """How many times experiments are repeated: fewer rows show less."""
        self.alike: dict[frozenset[str], list[str]] = {}
        """Outputs grouped by declared columns."""
        for output, columns in declaration.sources.items():
            self.alike.setdefault(frozenset(columns), []).append(output)
        self.output_of: dict[str, Output] = {}
        """Output of the function on each ground, by its name."""
        self.grounds: list[Ground] = []
        self.watched: dict[str, int] = {}
        """By output, the perturbed single rows whose effect could be told apart."""

    def begin(self) -> None:
        """Make the grounds; those on which the function fails are reported and left out."""
        self.maker = Grounds(self.bench, self.draw)
        grounds = self.maker.base()
        if self.bench.is_ordered:
            grounds += [self.maker.trend(), *(self.maker.fresh(shift) for shift in _SHIFTS[: 2 * self.effort])]
        for ground, output_of in zip(grounds, self.bench.output_of([item.case for item in grounds]), strict=True):
            if isinstance(output_of, Blocked):
                self.found.count("grounds", blocked=output_of, ground=ground.name)
            else:
                self.grounds.append(ground)
                self.output_of[ground.name] = output_of

    def ground(self, *kinds: str) -> list[Ground]:
        """Return the available grounds of some kinds."""
        return [ground for kind in kinds for ground in self.grounds if ground.kind == kind]

    def passed_on(self) -> set[str]:
        """Return the outputs that equal a declared column in every row of every ground: no other value moves them."""
        found = set[str]()
        for output in self.declaration.outputs:
            for column in self.declaration.inputs(output):
                if all(
                    self.bench.passes_on(output, column, item.case, self.output_of[item.name]) for item in self.grounds
                ):
                    found.add(output)
        return found

    def trial(
        self,
        check: str,
        ground: Ground,
        change: Places,
        evaluate: Callable[[Perturbation, Output], None],
        outputs: Sequence[str] = (),
        pairs: Sequence[Pair] = (),
        shift: int = 0,
    ) -> Iterator[Perturbation]:
        """Yield a trial in which the cells of some columns come from other places; none if that changes nothing."""
        case, perturbed = self.bench.perturbed(ground.case, change, shift)
        firsts = {name: int(self.bench.times[rows].min()) for name, rows in perturbed.items() if rows.any()}
        pairs = [pair for pair in pairs if pair[1] in firsts]
        if firsts or shift:
            trial = Perturbation(check, ground, case, perturbed, firsts, evaluate, outputs, pairs)
            start = self.bench.times.min()
            yield replace(trial, outputs=[name for name in outputs if self._known_from(trial, name) > start])

    def run(self, trials: Iterable[Perturbation]) -> None:
        """Evaluate the function's output in each trial; a blocked trial is counted."""
        waiting = list[Perturbation]()

        def cases() -> Iterator[Case]:
            for trial in trials:
                waiting.append(trial)
                yield trial.case

        for output_of in self.bench.output_of(cases()):
            trial = waiting.pop(0)
            blocked = output_of if isinstance(output_of, Blocked) else None
            self.found.count(trial.check, trial.outputs, trial.pairs, blocked, trial.ground.name)
            if isinstance(output_of, Output):
                trial.evaluate(trial, output_of)

    def groups(self) -> list[list[Pair]]:
        """Return groups of dependencies that one trial can try together.

        An output that was observed to read more than it declares is tried with one column at a time, and so are all
        outputs if invariants tie columns together.
        """
        reads_more = {item.output for item in self.found.findings.values()}
        if self.bench.invariants or not reads_more.isdisjoint(("", ROWS)):
            reads_more = {*self.declaration.outputs}
        sources = {name: self.declaration.inputs(name) for name in self.declaration.outputs}
        pairs = [(name, column) for name in sources if name in reads_more for column in sources[name]]
        return [
            *groups_apart({name: columns for name, columns in sources.items() if name not in reads_more}),
            *([pair for pair in pairs if pair[1] == column] for column in dict.fromkeys(column for _, column in pairs)),
        ]

    def changed(
        self, columns: Iterable[str], way: str, before: Case, rows: np.ndarray | Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Return new places for columns in some rows, restricted to rows in which that changes a cell."""
        now, changed = np.arange(self.bench.size), dict[str, np.ndarray]()
        for name in columns:
            here = before.places.get(name, now)
            drawn = self.bench.pools[name].drawn(self.draw, way, here) if name in self.bench.pools else None
            if drawn is None:
                continue
            mask = rows.get(name) if isinstance(rows, Mapping) else rows
            places = drawn if mask is None else np.where(mask, drawn, here)
            if self.bench.pools[name].differs(places, here).any():
                changed[name] = places
        return changed

    def moved(self, output: str, output_of: Output, ground: Ground) -> np.ndarray:
        """Return the rows of an output that differ from those on the ground."""
        return self.bench.moved(output, output_of, self.output_of[ground.name])

    def stay(self, trial: Perturbation, output: str) -> np.ndarray:
        """Return the rows of an output that may depend on none of a trial's cells."""
        return self.bench.times < self._known_from(trial, output)

    def _known_from(self, trial: Perturbation, output: str) -> float:
        only_time = trial.check == TIME
        return self.declaration.known_from(output, trial.firsts, self.bench.step, only_time=only_time)

    def evaluate(
        self, trial: Perturbation, output_of: Output, *, way: str, since: Callable[[str], str] | None = None
    ) -> None:
        """Add a finding for each output of a trial that moved although it must not, and each column that moved it."""
        bench, before = self.bench, trial.ground
        blamed = {finding.output for finding in self.found.findings.values() if finding.check == trial.check}
        moving: dict[str, np.ndarray] = {}
        for name in trial.outputs:
            if name not in blamed and (rows := self.moved(name, output_of, before)).any():
                moving[name] = rows & self.stay(trial, name)
        if trial.check == TIME:
            anywhere = {(name, ""): rows for name, rows in moving.items()}
            moving = {name: rows for name, _, rows in steady(self, TIME, anywhere, before.case, trial.case)}
        moving = {name: self.stay(trial, name) for name, rows in moving.items() if rows.any()}
        if not moving:
            return

        def only(columns: Iterable[str]) -> Case:
            """Return the case in which only these columns are perturbed."""
            places = {name: trial.case.places[name] for name in columns if name in trial.case.places}
            repaired = {name: trial.case.repaired[name] for name in columns if name in trial.case.repaired}
            case = replace(before.case, shift=trial.case.shift, repaired=repaired)
            return replace(case, places={**before.case.places, **places})

        def moves(output: str, other: Output | Blocked) -> bool:
            return isinstance(other, Output) and bool((self.moved(output, other, before) & moving[output]).any())

        columns = [name for name, rows in trial.perturbed.items() if rows.any()]
        alone = dict(zip(columns, bench.output_of([only([name]) for name in columns]), strict=True))
        for output in moving:
            culprits = {name: (other, "") for name, other in alone.items() if moves(output, other)}
            if not culprits:  # only several together: each unnecessary one is put back
                needed = list(columns)
                for name in columns:
                    without = [other for other in needed if other != name]
                    needed = without if moves(output, bench.alone(only(without))) else needed
                together = f"; only together: {', '.join(needed)}" if len(needed) > 1 else ""
                culprits = dict.fromkeys(needed, (output_of, together))
            for name, (other, together) in culprits.items():
                if isinstance(other, Output):
                    how = f"when {name} is {way} {since(name) if since else ''}".strip() + together
                    rows = self.moved(output, other, before) & moving[output]
                    self.find(trial.check, output, name, rows, other, how, before)

    def find(
        self,
        check: str,
        output: str,
        column: str,
        moved: np.ndarray,
        output_of: Output,
        how: str,
        ground: Ground | None = None,
        before: Output | None = None,
    ) -> None:
        """Add a finding if an output moved at all: where first, from which value to which, and by what change."""
        rows = moved.nonzero()[0]
        if not len(rows):
            return
        where = ground.name if ground else REAL
        before = before or self.output_of.get(where, self.bench.unperturbed)
        at = self.bench.label(int(rows[0]))
        if output == ROWS:
            what = f"the row {at} {'comes' if output_of.exists[rows[0]] else 'goes'}"
        else:
            one, other = (item.values[output][rows[0]] for item in (before, output_of))
            what = f"{output} moves at {at} from {one:g} to {other:g}"
        self.found.find(check, output, column, f"{what} {how} ({len(rows)} such rows, of {where})")

    def only(self, output: str) -> str:
        """Return the declared column of an output that has only one."""
        inputs = self.declaration.inputs(output)
        return inputs[0] if len(inputs) == 1 else ""

    def of_columns(self, columns: Collection[str], outputs: Sequence[str] | None = None) -> Output | Blocked:
        """Return the function's output for a table with only some columns."""
        names = [name for name in self.bench.names if name in columns]
        return self.bench.alone(Case(), lambda frame: frame.select(names), outputs)

    def repeats(self, when: str) -> bool:
        """Return whether the function is deterministic on one table."""
        output_of = self.bench.alone(Case())
        self.found.count("repeat")
        if isinstance(output_of, Blocked):
            self.found.find("repeat", "", "", f"it fails when it is called {when}: {output_of}")
            return False
        differs = False
        for output in self.declaration.sources:
            moved = self.bench.moved(output, output_of, self.bench.unperturbed)
            self.find("repeat", output, "", moved, output_of, f"when it is called {when} with the same table")
            differs |= bool(moved.any())
        return not differs


def is_by_value(way: str) -> bool:
    """Return whether a way to perturb a column changes its values, and not only which of them are missing."""
    return way != MISSING


def steady(
    exam: Examination, check: str, moving: Mapping[Pair, np.ndarray], one: Case, other: Case
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield outputs with rows that differ between two cases by more than floating-point noise.

    A sum of floats has other last bits when other cells were added before it. A comparison of it with a threshold
    that it just meets may flip, and a division by the spread of equal values is only noise. So the cells of both
    cases are rounded alike, which makes sums exact, and most cells are nudged by an amount of that size, in two
    ways: a real difference remains, and is larger than the effect of the nudges.

    Args:
        exam: the examination of the function.
        check: the experiment; what it has found before is not checked again.
        moving: by output and the column to name in a finding, the rows that differ.
        one: a case.
        other: another case.
    """
    left = {pair: rows for pair, rows in moving.items() if rows.any() and (check, *pair) not in exam.found.findings}
    for number in range(_NUDGES if left else 0):
        some = np.random.default_rng(number).random(exam.bench.size) < _NUDGED
        output_of = [
            exam.bench.alone(case, partial(_nudged, exam, some, way, case.kept))
            for way in (0, 1)
            for case in (one, other)
        ]
        for (output, column), rows in list(left.items()):
            moved = rows & _is_steady(exam, output, output_of)
            if moved.any():
                del left[output, column]
                yield output, column, moved
        if not left:
            return


def _nudged(exam: Examination, some: np.ndarray, way: int, kept: np.ndarray | None, frame: nw.DataFrame[Any]) -> Any:
    """Return a frame with floats rounded, and in some rows nudged by a few units of that, towards the middle."""
    series: list[nw.Series[Any]] = []
    for number, (name, pool) in enumerate(exam.bench.pools.items()):
        if pool.middle is None:
            continue
        draw = np.random.default_rng([way, number])
        quanta = draw.integers(1, _MOST_QUANTA, exam.bench.size) * some
        values, quanta = frame[name].to_numpy().astype(float), quanta if kept is None else quanta[kept]
        quantum = _QUANTUM * 2 ** np.ceil(np.log2(max(abs(pool.middle), pool.reach, 1e-300)))
        inwards = np.where(values > pool.middle, -1, 1)
        rounded = np.where(inwards > 0, np.ceil(values / quantum), np.floor(values / quantum)) + inwards * quanta
        by = np.nan_to_num(rounded * quantum - values, nan=0, posinf=0, neginf=0)
        series.append(frame[name] + nw.new_series(name, by, backend=frame.implementation))
    return frame.with_columns(*series)


def _is_steady(exam: Examination, output: str, output_of: Sequence[Output | Blocked]) -> np.ndarray:
    """Return the rows in which two cases differ under every nudge; all rows if a function fails on one of them."""
    known = [item for item in output_of if isinstance(item, Output)]
    if len(known) < len(output_of):
        return np.ones(exam.bench.size, dtype=bool)
    moved = exam.bench.moved(output, known[0], known[1]) & exam.bench.moved(output, known[2], known[3])
    if output == ROWS:
        return moved
    with np.errstate(invalid="ignore"):
        one, other, again, and_other = (item.values[output] for item in known)
        least = np.nan_to_num(np.minimum(np.abs(one - other), np.abs(again - and_other)), nan=np.inf) / 2
        for before, after in ((one, again), (other, and_other)):
            moved &= (np.isnan(before) & np.isnan(after)) | (before == after) | (np.abs(before - after) < least)
    return moved
