"""Experiments with time: whether an output depends on later values, or on values outside of its declared windows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bikes_assets.verification.declaration import ROWS, Pair
from bikes_assets.verification.examine import TIME, Perturbation, is_by_value, steady
from bikes_assets.verification.experiments import of_pairs
from bikes_assets.verification.grounds import ABSENT, BOTH, HOLES, REAL, RESHUFFLED, Ground
from bikes_assets.verification.perturb import MISSING, MIXED, OUTSIDE, REDRAWN, Case, Output

if TYPE_CHECKING:
    from bikes_assets.verification.examine import Examination
    from bikes_assets.verification.perturb import Bench

WINDOWS, SLICE = "windows", "slice"

_AHEAD, _DAY, _PERIODS = 24, 24, (701, 61, 211, 11, 61, 29)
"""How many steps ahead single rows are watched, and how many steps lie between perturbed rows: few, and many."""
_MARGIN, _FEW_MOVE, _USUAL = 2 * _AHEAD + 5, 0.4, 0.4
_MOST_PEEKS, _ENOUGH, _EDGE = 24, 100, 0.08


# From some row on


def time(exam: Examination) -> Iterator[Perturbation]:
    """Perturb all rows from a cut on: outputs before it that may not depend on them must not move.

    The target is perturbed earlier by its horizon, and columns that are known ahead are perturbed later by as much: no
    row before the cut may depend on any of these cells.
    """
    for number, (ground, cut) in enumerate(cuts(exam)):
        way = (MIXED, OUTSIDE, MIXED, REDRAWN)[number % 4]
        yield from after(exam, ground, cut, way)
        if number % 3 == 0:
            yield from after(exam, ground, cut, MISSING)
        if number % 3 == 1:
            yield from dropped(exam, ground, cut, some=number % 2 == 1)


def cuts(exam: Examination) -> Iterator[tuple[Ground, int]]:
    """Yield grounds, and cuts from which on they are perturbed: after gaps, at starts of months, each hour of a day."""
    bench, horizon = exam.bench, exam.declaration.horizon * exam.bench.step
    times, inside = _inner_times(exam)
    gaps = exam.maker.gaps[bench.sorted_rows]
    behind_absent = np.append(False, np.diff(times) > bench.step)
    wanted = [(ground, behind_absent, 1) for ground in exam.ground(REAL)]
    wanted += [(ground, np.append(False, gaps[:-1]) & ~gaps, 2) for ground in exam.ground(HOLES, BOTH)]
    for ground in exam.ground(REAL, ABSENT):
        moved = times + ground.case.shift * bench.step
        month = moved.astype("datetime64[us]").astype("datetime64[M]")
        begins = np.append(False, month[1:] != month[:-1])
        wanted.append((ground, begins, 1))
        if ground.case.kept is None:
            wanted.append((ground, np.roll(begins, 1), 1))
            wanted.append((ground, np.roll(begins, -max(exam.declaration.horizon // 2, 1)), 1))
        else:
            here = np.isin(bench.sorted_rows, ground.case.kept)
            wanted.append((ground, np.append(False, ~here[:-1]) & here, 1))
    for ground, where, count in wanted:
        possible = times[where & inside]
        for place, cut in enumerate(exam.draw.choice(possible, min(count, len(possible)), replace=False)):
            yield ground, int(cut)
            if horizon and place == 0:  # the target is perturbed from there on
                yield ground, int(cut) + horizon
    yield from _at_all_hours(exam, exam.grounds)


def repeat_time(exam: Examination) -> Iterator[Perturbation]:
    """Make more cuts for outputs about which single rows told little: those that look back far, or never nearby."""
    outputs = [name for name in exam.declaration.outputs if exam.watched.get(name, 0) < _ENOUGH]
    for ground in exam.ground(RESHUFFLED, BOTH) if outputs else ():
        for _, cut in _at_all_hours(exam, [ground]):
            yield from after(exam, ground, cut, MIXED, outputs)


def _at_all_hours(exam: Examination, grounds: Sequence[Ground]) -> Iterator[tuple[Ground, int]]:
    """Yield a cut at each hour of a day, on some grounds in turn."""
    times, inside = _inner_times(exam)
    number = (times - times[0]) // exam.bench.step
    for place, hour in enumerate(exam.draw.permutation(_DAY)):
        possible = times[inside & (number % _DAY == hour)]
        if len(possible):
            yield grounds[place % len(grounds)], int(exam.draw.choice(possible))


def _inner_times(exam: Examination) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys in order, and which of them have enough rows before and after them for a cut."""
    times = exam.bench.times[exam.bench.sorted_rows]
    through = (times - times[0]) / (times[-1] - times[0])
    return times, (through >= _EDGE) & (through < 1 - _EDGE) if len(times) > _DAY else through > 0


def after(
    exam: Examination, ground: Ground, cut: int, way: str, outputs: Sequence[str] | None = None
) -> Iterator[Perturbation]:
    """Yield a trial in which each column is perturbed from the first cell that no row before the cut may depend on."""
    bench, declaration = exam.bench, exam.declaration
    rows = {
        name: bench.times >= cut + declaration.start(name) * bench.step
        for name in bench.pools
        if math.isfinite(declaration.start(name))
    }

    def since(name: str) -> str:
        steps = declaration.start(name)
        told = (
            f", which is not known for {-steps:g} steps"
            if steps < 0
            else f", known {steps:g} steps ahead"
            if steps
            else ""
        )
        return f"from {_label(bench, rows[name])} on{told}" if name in rows else ""

    change = exam.changed(rows, way, ground.case, rows)
    evaluate = partial(exam.evaluate, way=way, since=since)
    yield from exam.trial(TIME, ground, change, evaluate, tuple(declaration.sources) if outputs is None else outputs)


def dropped(exam: Examination, ground: Ground, cut: int, *, some: bool) -> Iterator[Perturbation]:
    """Yield a trial in which rows are dropped from a cut on: all, or some of those with values not known at the cut."""
    bench, declaration = exam.bench, exam.declaration
    first = cut - declaration.horizon * bench.step if some else cut
    gone = (bench.times >= first) & (exam.draw.random(bench.size) < 0.5 if some else True)
    here = np.ones(bench.size, dtype=bool)
    if ground.case.kept is not None:
        here[:] = False
        here[ground.case.kept] = True
    case = replace(ground.case, kept=np.flatnonzero(here & ~gone))
    evaluate = partial(
        _evaluate_dropped, exam, gone, f"when rows are dropped from {_label(bench, bench.times >= first)} on"
    )
    if gone.any() and (here & ~gone).sum() > 1:
        yield Perturbation(TIME, ground, case, {}, {}, evaluate, tuple(declaration.sources))


def _evaluate_dropped(exam: Examination, gone: np.ndarray, how: str, trial: Perturbation, output_of: Output) -> None:
    bench, declaration = exam.bench, exam.declaration
    first = int(bench.times[gone].min())
    for output in trial.outputs:
        inputs = declaration.inputs(output) or (bench.key,)
        stay = ~gone & (bench.times < declaration.known_from(output, dict.fromkeys(inputs, first), bench.step))
        exam.find(
            TIME,
            output,
            exam.only(output),
            exam.moved(output, output_of, trial.ground) & stay,
            output_of,
            how,
            trial.ground,
        )


def _label(bench: Bench, rows: np.ndarray) -> str:
    """Return the key of the first of some rows."""
    at = np.flatnonzero(rows)
    return bench.label(int(at[np.argmin(bench.times[at])])) if len(at) else "the end"


# A slice of the rows


def slices(exam: Examination) -> Iterator[Perturbation]:
    """Compute some rows without those before their history: the output must be as in the whole table."""
    bench = exam.bench
    histories = {name: exam.declaration.history_of(name) for name in exam.declaration.outputs}
    known = {name: history for name, history in histories.items() if history is not None}
    if exam.declaration.history is not None:
        known[ROWS] = exam.declaration.history
    if not known:
        exam.found.leave(SLICE, "no history is declared, nor a window of every dependency")
    for history in sorted(set(known.values()))[-3:]:
        possible = bench.times[bench.times > bench.times.min() + history * bench.step]
        if not len(possible):
            exam.found.leave(SLICE, f"the table is not longer than the history of {history} steps")
            continue
        outputs = [name for name, own in known.items() if own <= history]
        for ground in exam.ground(REAL, BOTH):
            first = int(exam.draw.choice(possible))
            here = np.flatnonzero(bench.times >= first - history * bench.step)
            if len(here) > 1:
                evaluate = partial(_evaluate_slice, exam, bench.times >= first, history)
                yield Perturbation(SLICE, ground, replace(ground.case, kept=here), {}, {}, evaluate, outputs)


def _evaluate_slice(exam: Examination, rows: np.ndarray, history: int, trial: Perturbation, output_of: Output) -> None:
    moving = {
        (output, exam.only(output)): exam.moved(output, output_of, trial.ground) & rows for output in trial.outputs
    }
    how = f"when rows more than {history} steps before are absent"
    for output, column, moved in steady(exam, SLICE, moving, trial.ground.case, trial.case):
        exam.find(SLICE, output, column, moved, output_of, how, trial.ground)


def whole(exam: Examination, positions: np.ndarray, slice_output: Output) -> None:
    """Compare the output for a slice with the output for the whole table; `exam` is of the whole table.

    Args:
        exam: examination of the whole table.
        positions: rows of the slice.
        slice_output: the function's output for the slice alone.
    """
    bench, output_of = exam.bench, _spread(slice_output, positions, exam.bench.size)
    first, moving = bench.times[positions].min(), dict[Pair, np.ndarray]()
    for output in exam.declaration.outputs:
        history = exam.declaration.history_of(output)
        if history is not None:
            rows = bench.times >= first + history * bench.step
            moving[output, exam.only(output)] = rows & bench.moved(output, bench.unperturbed, output_of)
    how = f"in all rows instead of a slice of {len(positions):,}"
    for output, column, rows in steady(exam, SLICE, moving, Case(), Case(kept=np.sort(positions))):
        exam.find(SLICE, output, column, rows, bench.unperturbed, how, before=output_of)


def _spread(output_of: Output, positions: np.ndarray, size: int) -> Output:
    """Return the output for some rows as one for all, in which the others are absent."""
    present, values = np.zeros(size, dtype=bool), {name: np.full(size, np.nan) for name in output_of.values}
    present[positions] = output_of.exists
    for name, known in output_of.values.items():
        values[name][positions] = known
    return Output(values, present)


# Single rows


@dataclass(frozen=True, slots=True)
class _Points:
    """Rows that are perturbed in one column, with so many rows between them that most movements have a single cause.

    Attributes:
        cells: the perturbed rows.
        period: approximate number of steps from one to the next.
        is_long: whether that is more than any assumed history.
    """

    cells: np.ndarray
    period: int
    is_long: bool


def points(exam: Examination, groups: Sequence[Sequence[Pair]], peeks: list[Perturbation]) -> Iterator[Perturbation]:
    """Perturb single rows: what moves must lie in the declared window; rows before them that move are checked again.

    Args:
        exam: the examination.
        groups: groups of dependencies that one trial can try.
        peeks: collects trials that tell whether a row moved because of later values.
    """
    bench = exam.bench
    grid = (bench.times - bench.times.min()) // bench.step
    is_dense = len(grid) >= grid.max() / 2
    if not is_dense:
        exam.found.leave(WINDOWS, f"most steps of {bench.key} have no row")
    turns = 4 + 4 * exam.effort
    grounds = {
        OUTSIDE: exam.ground(REAL, BOTH),
        REDRAWN: exam.ground(BOTH, RESHUFFLED, ABSENT, HOLES),
        MISSING: exam.ground(REAL, BOTH),
    }
    for group in groups:
        for turn in range(turns):
            way = (OUTSIDE, REDRAWN, MISSING, REDRAWN, REDRAWN)[turn % 5]  # five ways of six periods: each meets each
            if not grounds[way]:
                continue
            ground = grounds[way][turn % len(grounds[way])]
            chosen = {
                column: _chosen(exam, ground, [pair for pair in group if pair[1] == column], turn, is_dense=is_dense)
                for column in dict.fromkeys(column for _, column in group)
            }
            cells = {column: item.cells for column, item in chosen.items() if item}
            pairs = [pair for pair in group if pair[1] in cells]
            evaluate = partial(_evaluate_points, exam, chosen, way, peeks, is_dense)
            if pairs:
                yield from of_pairs(exam, WINDOWS, pairs, ground, way, evaluate, cells)


def _chosen(exam: Examination, ground: Ground, pairs: Sequence[Pair], turn: int, *, is_dense: bool) -> _Points | None:
    """Return the rows in which a column is perturbed: with no period of the calendar, and half of them after a gap."""
    bench, draw = exam.bench, exam.draw
    windows = [exam.declaration.windows.get(pair) for pair in pairs]
    bound = max((window.first - min(window.last, 0) for window in windows if window), default=0) + _MARGIN
    is_bound = is_dense and all(windows)
    about = bound if is_bound else max(bound, _PERIODS[turn % len(_PERIODS)])
    period = _apart(int(min(about, max(bench.size // 2, 2)) * draw.uniform(1, 1.15)))
    order = bench.sorted_rows
    places = np.arange(draw.integers(period), bench.size, period)
    places = places + draw.integers(0, max(period // 8, 1), len(places)) * (not is_bound)
    behind = _behind_gaps(exam, ground, pairs[0][1])
    if len(behind):  # the nearest there is
        nearest = behind[np.searchsorted(behind, places).clip(max=len(behind) - 1)]
        near = (np.abs(nearest - places) < period / 4) & (draw.random(len(places)) < 0.5)
        places = np.where(near, nearest, places)
    places = places[places < bench.size]
    if not len(places):
        return None
    cells = np.zeros(bench.size, dtype=bool)
    cells[order[places]] = True
    return _Points(cells, period, is_bound or about >= _PERIODS[0] or about >= bench.size // 2)


def _behind_gaps(exam: Examination, ground: Ground, column: str) -> np.ndarray:
    """Return places, in order of the key, whose cell is known while the one before it is missing or absent."""
    bench = exam.bench
    known = bench.pools[column].is_known(ground.case.places.get(column, np.arange(bench.size)))
    if ground.case.kept is not None:
        known = known & np.isin(np.arange(bench.size), ground.case.kept)
    known, times = known[bench.sorted_rows], bench.times[bench.sorted_rows]
    gap = np.append(False, ~known[:-1] | (np.diff(times) > bench.step))
    return np.flatnonzero(known & gap)


def _apart(period: int) -> int:
    """Return the next number that is coprime to the hours of a day and of a week."""
    while math.gcd(period, 168) > 1:
        period += 1
    return max(period, 1)


def _evaluate_points(
    exam: Examination,
    chosen: Mapping[str, _Points | None],
    way: str,
    peeks: list[Perturbation],
    is_dense: bool,
    trial: Perturbation,
    output_of: Output,
) -> None:
    bench, moving, steps = exam.bench, dict[Pair, np.ndarray](), dict[Pair, np.ndarray]()
    for output, column in trial.pairs:
        moved, own = exam.moved(output, output_of, trial.ground), chosen[column]
        exam.found.see(WINDOWS, (output, column), moved=bool(moved.any()), by_value=is_by_value(way))
        if own is None:
            continue
        cells = np.sort(bench.times[trial.perturbed[column]])
        at = np.searchsorted(cells, bench.times, side="right")
        since = (bench.times - np.append(cells[0], cells)[at]) // bench.step
        until = (np.append(cells, np.iinfo(np.int64).max)[at] - bench.times) // bench.step
        since = np.where(at == 0, np.iinfo(np.int64).max, since)
        if is_dense:
            offsets = np.where((until <= _AHEAD) & (since > until), -until, since)
            if own.is_long:
                exam.found.seen[output, column].offsets |= set(
                    offsets[moved & (np.abs(offsets) <= own.period)].tolist()
                )
            if (output, column) in exam.declaration.windows:
                stay = exam.declaration.outside_window((output, column), cells, bench.times, bench.step)
                moving[output, column] = moved & stay
                steps[output, column] = offsets
        if len(peeks) < _MOST_PEEKS * exam.effort:
            peeks += _peeks(exam, trial, (output, column), moved, since, until, way)
    for output, column, moved in steady(exam, WINDOWS, moving, trial.ground.case, trial.case):
        window, own = exam.declaration.windows[output, column], chosen[column]
        far = f"{steps[output, column][moved][0]} steps before, of {window.first} to {window.last} that are declared"
        how = f"when {column} is {way} in one row of {own.period if own else 0}, {far}"
        exam.find(WINDOWS, output, column, moved, output_of, how, trial.ground)


def _peeks(
    exam: Examination,
    trial: Perturbation,
    pair: Pair,
    moved: np.ndarray,
    since: np.ndarray,
    until: np.ndarray,
    way: str,
) -> Iterator[Perturbation]:
    """Yield trials that tell whether rows moved because of cells that they may not depend on, and no others."""
    bench, (output, column) = exam.bench, pair
    if ("time", output) in {(item.check, item.output) for item in exam.found.findings.values()}:
        return
    nearest = exam.declaration.nearest(output, column)
    if not math.isfinite(nearest):
        return
    # rows shortly before a perturbed one, and later ones that may not depend on it yet
    watched = ((until + nearest > 0) & (until + min(nearest, 0) <= _AHEAD)) | (since < nearest)
    rows = moved & watched
    if rows.sum() > max(3, _FEW_MOVE * watched.sum()):  # it looks back too far to tell which row moved what
        return
    exam.watched[output] = exam.watched.get(output, 0) + int(trial.perturbed[column].sum())
    if not rows.any():
        return
    count = max(1, int(trial.perturbed[column].sum()))
    usual, often = np.unique(since[moved], return_counts=True)
    rows &= ~np.isin(since, usual[often > max(1, _USUAL * count)]) | (since < nearest)
    case = bench.settled(trial.case)
    for row in np.flatnonzero(rows)[[0, -1]] if rows.any() else ():
        later = trial.perturbed[column] & (bench.times + nearest * bench.step > bench.times[row])
        here = {name: trial.ground.case.places.get(name, np.arange(bench.size)) for name in trial.perturbed}
        change = {name: np.where(later, case.places[name], places) for name, places in here.items()}
        evaluate = partial(exam.evaluate, way=way, since=partial(_in_rows, _label(bench, later)))
        yield from exam.trial(TIME, trial.ground, change, evaluate, [output])


def _in_rows(first: str, _: str) -> str:
    return f"in some rows from {first} on"


def gapped(exam: Examination, groups: Sequence[Sequence[Pair]]) -> Iterator[Perturbation]:
    """Perturb the last row before a gap longer than the declared windows: rows after the gap must not move.

    The gap consists of missing cells, or of absent rows.
    """
    windows = exam.declaration.windows
    for group in groups:
        pairs = [pair for pair in group if pair in windows]
        lengths = {column: sorted(windows[pair].first for pair in pairs if pair[1] == column) for _, column in pairs}
        for pick in (max, min) if any(len(set(some)) > 1 for some in lengths.values()) else (max,) if lengths else ():
            own = {column: pick(some) + _MARGIN for column, some in lengths.items()}
            for ground in exam.ground(REAL, RESHUFFLED):
                yield from _over_gaps(exam, ground, pairs, {name: _gaps(exam, length) for name, length in own.items()})
                yield from _over_absent(exam, ground, pairs, *_gaps(exam, pick(own.values())))


def _gaps(exam: Examination, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return some rows, and those after them that make gaps of a given length."""
    size, order = exam.bench.size, exam.bench.sorted_rows
    firsts = np.arange(exam.draw.integers(1, max(2, min(2 * length, size // 2))), size - 1, 2 * length)
    before, gap = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
    for first in firsts:
        before[order[first]] = True
        gap[order[first + 1 : first + 1 + length]] = True
    return before, gap


def _over_gaps(
    exam: Examination,
    ground: Ground,
    pairs: Sequence[Pair],
    gaps: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Iterator[Perturbation]:
    """Yield trials of a table with gaps of missing cells in each column."""
    holes = exam.changed(gaps, MISSING, ground.case, {name: gap for name, (_, gap) in gaps.items()})
    case, perturbed = exam.bench.perturbed(ground.case, holes)
    gapped = Ground(ground.kind, exam.bench.settled(case), ", with gaps")
    some = [pair for pair in pairs if pair[1] in perturbed]
    yield from _beyond(exam, gapped, some, {name: gaps[name][0] for name in perturbed if name in gaps}, "missing cells")


def _over_absent(
    exam: Examination, ground: Ground, pairs: Sequence[Pair], before: np.ndarray, gap: np.ndarray
) -> Iterator[Perturbation]:
    """Yield trials of a table with gaps of absent rows."""
    gapped = Ground(ground.kind, replace(ground.case, kept=np.flatnonzero(~gap)), ", with gaps")
    yield from _beyond(exam, gapped, pairs, dict.fromkeys({column for _, column in pairs}, before), "absent rows")


def _beyond(
    exam: Examination, gapped: Ground, pairs: Sequence[Pair], before: Mapping[str, np.ndarray], gap: str
) -> Iterator[Perturbation]:
    """Yield a table with gaps, and trials of it in which the rows before the gaps are perturbed."""
    unperturbed = list[Output]()
    if pairs:
        yield Perturbation(WINDOWS, gapped, gapped.case, {}, {}, lambda _, output_of: unperturbed.append(output_of))
    for way in (OUTSIDE, REDRAWN) if pairs else ():
        evaluate = partial(_evaluate_gap, exam, unperturbed, way, gap)
        yield from of_pairs(exam, WINDOWS, pairs, gapped, way, evaluate, before)


def _evaluate_gap(
    exam: Examination, unperturbed: Sequence[Output], way: str, gap: str, trial: Perturbation, output_of: Output
) -> None:
    if not unperturbed:  # the function fails on the table with gaps
        return
    bench, moving = exam.bench, dict[Pair, np.ndarray]()
    for output, column in trial.pairs:
        moved = bench.moved(output, output_of, unperturbed[0])
        exam.found.see(WINDOWS, (output, column), moved=bool(moved.any()), by_value=is_by_value(way))
        cells = np.sort(bench.times[trial.perturbed[column]])
        stay = exam.declaration.outside_window((output, column), cells, bench.times, bench.step)
        moving[output, column] = moved & stay
    for output, column, moved in steady(exam, WINDOWS, moving, trial.ground.case, trial.case):
        window = exam.declaration.windows[output, column]
        far = f"which is not {window.first} to {window.last} steps before"
        how = f"when {column} is {way} in the last row before a run of {gap}, {far}"
        exam.find(WINDOWS, output, column, moved, output_of, how, trial.ground, unperturbed[0])


def whole_cuts(exam: Examination) -> None:
    """Perturb and drop the rows of a large table from some rows on, of which slices show less."""
    exam.grounds, exam.output_of[REAL] = [Ground(REAL, Case())], exam.bench.unperturbed
    times = np.sort(exam.bench.times)
    trials = list[Perturbation]()
    for share in (0.2, 0.5, 0.8):
        cut = int(times[int(len(times) * share)])
        trials += after(exam, exam.grounds[0], cut, MIXED)
        trials += dropped(exam, exam.grounds[0], cut, some=False)
    exam.run(trials)
