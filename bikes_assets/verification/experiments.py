"""Experiments about which columns contribute to an output, and whether the form of the table does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from bikes_assets.verification.declaration import ROWS
from bikes_assets.verification.examine import Perturbation, is_by_value, steady
from bikes_assets.verification.grounds import ABSENT, BOTH, HOLES, REAL, RESHUFFLED, Ground
from bikes_assets.verification.perturb import MISSING, MIXED, OUTSIDE, REDRAWN, Blocked, Case, Output

if TYPE_CHECKING:
    from bikes_assets.verification.declaration import Pair
    from bikes_assets.verification.examine import Examination

UNDECLARED, DECLARED, MOVED_KEY, RESTRICTED = (
    "undeclared influence",
    "declared influence",
    "moved key",
    "restricted run",
)

_SHIFTS = (1, 893, -5, 2_207, -1_103, 4_409, 6_607, 8_783)
"""Steps by which the key is shifted: in hours to another hour, weekday, month and year, never by whole days."""


def restricted(exam: Examination) -> None:
    """Compute each column from a table with only the key and its declared columns, or with all declared columns.

    Columns that invariants tie together are kept: without them the table would be no valid input.
    """
    bench, declaration = exam.bench, exam.declaration
    always = {bench.key, *declaration.rows, *bench.tied}
    declared = always.union(*declaration.sources.values())
    if bench.tied.issuperset(bench.pools):
        exam.found.leave(RESTRICTED, "an invariant may ask for any column")
    output_of = exam.of_columns(declared)
    exam.found.count(RESTRICTED, blocked=output_of if isinstance(output_of, Blocked) else None)
    if isinstance(output_of, Blocked):
        # an undeclared output column may be the one that reads it
        for name in () if bench.others else bench.names:
            without = bench.unperturbed if name in declared else exam.of_columns({*bench.names} - {name})
            if isinstance(without, Blocked):
                message = f"it fails without {name}, which no column declares: {without}"
                exam.found.find(RESTRICTED, "", name, message)
        return
    for columns, outputs in exam.alike.items():
        asked = [name for name in outputs if name != ROWS]
        narrow = exam.of_columns({*always, *columns}, asked)
        for output in outputs:
            for other in (output_of, narrow):  # the narrow one fails if a function makes several columns
                if not isinstance(other, Output) or output not in (ROWS, *other.values):
                    continue
                if bench.moved(output, other, bench.unperturbed).any():
                    _blame_absent(exam, output, {*always, *columns})


def _blame_absent(exam: Examination, output: str, declared: set[str]) -> None:
    """Add a finding for each column whose removal changes an output."""
    bench = exam.bench
    for name in bench.names:
        output_of = bench.unperturbed if name in declared else exam.of_columns({*bench.names} - {name}, [output])
        if isinstance(output_of, Output):
            moved = bench.moved(output, output_of, bench.unperturbed)
            exam.find(RESTRICTED, output, name, moved, output_of, f"when the table has no {name}")


def undeclared(exam: Examination) -> Iterator[Perturbation]:
    """Perturb everything that an output does not declare: the output must not move."""
    passed_on = exam.passed_on()
    some = exam.half
    for columns, outputs in exam.alike.items():
        others = [name for name in exam.bench.pools if name not in columns]
        ways: list[tuple[Ground, str, np.ndarray | None]] = [
            *((ground, MIXED, None) for ground in exam.ground(REAL, BOTH)),
            *((ground, MISSING, some) for ground in exam.ground(BOTH)),
        ]
        if not passed_on.issuperset(outputs):
            ways += [(ground, MIXED, None) for ground in exam.ground(HOLES, RESHUFFLED, ABSENT)]
            ways += [(ground, MISSING, None) for ground in exam.ground(REAL, RESHUFFLED)]
            ways += [(ground, MISSING, some) for ground in [*exam.ground(HOLES), *exam.ground(ABSENT)[::2]]]
        for ground, way, rows in ways:
            change = exam.changed(others, way, ground.case, rows)
            yield from exam.trial(UNDECLARED, ground, change, partial(exam.evaluate, way=way), outputs)


def moved_key(exam: Examination) -> Iterator[Perturbation]:
    """Shift the key of all rows: only outputs that declare it may move."""
    for ground in exam.ground(REAL, BOTH):
        for shift in _SHIFTS:
            outputs = [name for name, columns in exam.declaration.sources.items() if exam.bench.key not in columns]
            case, perturbed = exam.bench.perturbed(ground.case, {}, shift)
            # what invariants tie to the key moves with it
            moved = {exam.bench.key, *(name for name, rows in perturbed.items() if rows.any())}
            pairs = [
                (name, column)
                for name in exam.declaration.outputs
                for column in exam.declaration.sources[name]
                if column in moved
            ]
            if not outputs and not pairs:
                return
            firsts = {name: int(exam.bench.times[rows].min()) for name, rows in perturbed.items() if rows.any()}
            yield Perturbation(
                MOVED_KEY, ground, case, perturbed, firsts, partial(_evaluate_key, exam, shift), outputs, pairs
            )


def _evaluate_key(exam: Examination, shift: int, trial: Perturbation, output_of: Output) -> None:
    key = exam.bench.key
    for output, column in trial.pairs:
        exam.found.see(
            MOVED_KEY, (output, column), moved=bool(exam.moved(output, output_of, trial.ground).any()), by_value=True
        )
    for output in trial.outputs:
        moved = exam.moved(output, output_of, trial.ground) & exam.stay(trial, output)
        how = f"when {key} is moved by {shift:,} in every row, which it does not declare"
        exam.find(UNDECLARED, output, key, moved, output_of, how, trial.ground)


def swapped_key(exam: Examination) -> None:
    """Permute the keys of the rows, if they are names: only outputs that declare the key may move."""
    bench, key = exam.bench, exam.bench.key
    output_of = bench.alone(Case(swapped=np.roll(np.arange(bench.size), 1)))
    pairs = [(name, key) for name in exam.declaration.outputs if key in exam.declaration.sources[name]]
    exam.found.count(MOVED_KEY, pairs=pairs, blocked=output_of if isinstance(output_of, Blocked) else None)
    if isinstance(output_of, Output):
        for pair in pairs:
            moved = bench.moved(pair[0], output_of, bench.unperturbed)
            exam.found.see(MOVED_KEY, pair, moved=bool(moved.any()), by_value=True)


def declared(exam: Examination, groups: Sequence[Sequence[Pair]], *kinds: str) -> Iterator[Perturbation]:
    """Perturb each declared column: an output that declares it should move at least once, by values or by missing ones.

    Args:
        exam: the examination.
        groups: groups of dependencies that one trial can try.
        kinds: kinds of grounds to start from.
    """
    for group in groups:
        for ground in exam.ground(*kinds) if group else ():
            for way in (REDRAWN, OUTSIDE, MISSING):
                evaluate = partial(_evaluate_declared, exam, is_by_value(way))
                yield from of_pairs(exam, DECLARED, group, ground, way, evaluate)


def not_observed(exam: Examination, groups: Sequence[Sequence[Pair]]) -> list[list[Pair]]:
    """Return the groups of dependencies that no change of values has moved so far."""
    known = {pair for pair, seen in exam.found.seen.items() if seen.by_value}
    return [[pair for pair in group if pair not in known] for group in groups]


def _evaluate_declared(exam: Examination, by_value: bool, trial: Perturbation, output_of: Output) -> None:
    for pair in trial.pairs:
        moved = exam.moved(pair[0], output_of, trial.ground)
        exam.found.see(DECLARED, pair, moved=bool(moved.any()), by_value=by_value)


def of_pairs(
    exam: Examination,
    check: str,
    pairs: Sequence[Pair],
    ground: Ground,
    way: str,
    evaluate: Callable[[Perturbation, Output], None],
    cells: Mapping[str, np.ndarray] | None = None,
) -> Iterator[Perturbation]:
    """Yield a trial of dependencies: their columns are perturbed in the given rows, by default in all.

    If invariants keep a column from changing alone, tied columns that none of its readers declares change with it,
    since these move none of the readers; if there are none, all tied columns change.
    """
    columns = list(dict.fromkeys(column for _, column in pairs))
    also = [list[str]()]
    if exam.bench.invariants:
        read = {name for output, _ in pairs for name in exam.declaration.sources[output]}
        also += [[name for name in exam.bench.pools if name not in read], list(exam.bench.pools)]
    for more in also:
        names = [*columns, *(name for name in more if name not in columns)]
        rows = None if cells is None else {name: cells[name if name in cells else columns[0]] for name in names}
        change = exam.changed(names, way, ground.case, rows)
        if change.keys().isdisjoint(columns):  # these do not depend on anything that changes
            return
        trials = list(exam.trial(check, ground, change, evaluate, pairs=pairs))
        if trials and trials[0].pairs:
            yield trials[0]
            return


def presence(exam: Examination) -> Iterator[Perturbation]:
    """Drop some rows: the other rows' output must be as if all cells of the dropped ones were missing."""
    bench = exam.bench
    if lacking := [name for name, pool in bench.pools.items() if not pool.is_nullable]:
        exam.found.leave("presence", f"{', '.join(lacking)} cannot be missing")
        return
    for ground in exam.ground(REAL, RESHUFFLED):
        for length in (1, 30):
            starts = exam.draw.random(bench.size) < 0.1 / length
            dropped = np.convolve(starts, np.ones(length))[: bench.size] > 0
            empty, emptied = (
                exam.changed(bench.pools, MISSING, ground.case, dropped),
                list[tuple[Perturbation, Output]](),
            )
            for trial in exam.trial(
                "presence", ground, empty, lambda trial, output_of, to=emptied: to.append((trial, output_of))
            ):
                yield trial
                case = Case(ground.case.places, kept=np.flatnonzero(~dropped))
                evaluate = partial(_evaluate_presence, exam, dropped, emptied)
                yield Perturbation("presence", ground, case, {}, {}, evaluate, tuple(exam.declaration.sources))


def _evaluate_presence(
    exam: Examination,
    dropped: np.ndarray,
    emptied: list[tuple[Perturbation, Output]],
    trial: Perturbation,
    output_of: Output,
) -> None:
    for empty, before in emptied:
        moving = {
            (output, exam.only(output)): exam.bench.moved(output, output_of, before) & ~dropped
            for output in exam.declaration.sources
        }
        how = f"when {int(dropped.sum())} rows are absent instead of empty"
        for output, column, moved in steady(exam, "presence", moving, empty.case, trial.case):
            exam.find("presence", output, column, moved, output_of, how, trial.ground, before)


def order(exam: Examination) -> None:
    """Reorder rows, columns and labels: the output of each row must not change."""
    bench = exam.bench
    shuffled = exam.draw.permutation(bench.size)
    names = bench.names  # the reverse swaps every pair; the other order leaves none in its place
    ways: dict[str, Callable[[nw.DataFrame[Any]], Any]] = {
        "columns are in reverse order, and rows have other labels": lambda frame: _labelled(
            frame.select(*names[::-1]), shuffled
        ),
        "columns stand in other places": lambda frame: frame.select(*names[1:], names[0]),
    }
    orders = {
        "rows are shuffled": Case(kept=shuffled),
        "rows are in reverse order": Case(kept=bench.sorted_rows[::-1]),
    }
    output_of = dict(zip(orders, bench.output_of(list(orders.values())), strict=True))
    output_of |= {way: bench.alone(Case(), prepared) for way, prepared in ways.items()}
    for way, other in output_of.items():
        exam.found.count("order", blocked=other if isinstance(other, Blocked) else None, ground=way)
        if isinstance(other, Blocked):
            continue
        moving = {(output, ""): bench.moved(output, other, bench.unperturbed) for output in exam.declaration.sources}
        for output, column, moved in (
            steady(exam, "order", moving, Case(), orders[way])
            if way in orders
            else ((*pair, rows) for pair, rows in moving.items())
        ):
            exam.find("order", output, column, moved, other, f"when {way}")


def types(exam: Examination) -> None:
    """Pass whole numbers as floats: the output must not change."""
    bench = exam.bench
    whole = [name for name, pool in bench.pools.items() if pool.cells.dtype.is_integer()]
    if not whole:
        return
    output_of = bench.alone(Case(), partial(_floats, whole))
    exam.found.count(
        "type", blocked=output_of if isinstance(output_of, Blocked) else None, ground="whole numbers as floats"
    )
    if isinstance(output_of, Blocked):
        return
    moving = {
        output: moved
        for output in exam.declaration.sources
        if (moved := bench.moved(output, output_of, bench.unperturbed)).any()
    }
    alone = {name: bench.alone(Case(), partial(_floats, [name])) for name in whole} if moving else {}
    for output, moved in moving.items():
        culprits = {
            name: bench.moved(output, other, bench.unperturbed)
            for name, other in alone.items()
            if isinstance(other, Output) and bench.moved(output, other, bench.unperturbed).any()
        } or {exam.only(output): moved}
        for name, rows in culprits.items():
            exam.find("type", output, name, rows, output_of, "when whole numbers are floats")


def _floats(names: Sequence[str], frame: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    if not frame.implementation.is_pandas_like():
        return frame.with_columns(nw.col(*names).cast(nw.Float64))
    made = [
        nw.new_series(name, frame[name].cast(nw.Float64).to_numpy().astype(np.float64), backend=frame.implementation)
        for name in names
    ]  # plain pandas has NaN for a missing value
    return frame.with_columns(*made)


def _labelled(frame: nw.DataFrame[Any], labels: np.ndarray) -> Any:
    """Return a pandas frame with other row labels; frames of other engines have none."""
    native = frame.to_native()
    return native.set_axis(labels, axis=0) if hasattr(native, "set_axis") else native
