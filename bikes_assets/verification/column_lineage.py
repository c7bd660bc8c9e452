"""Verification of column lineage by perturbation: a function's input is perturbed, and its output is observed.

Any function from table to table will do: features, plain pandas, a model's predict. It is a black box; its declaration
says which columns each output column is made from, how far back it looks, and, if there is a target, which hours of it
are not known yet. A declared dependency that is not observed is no error, but it is reported; one that could not be
tried is an error.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from bikes_assets.core.columns import EvidenceState
from bikes_assets.core.errors import LineageError
from bikes_assets.verification.declaration import ROWS, Declaration, Pair, Window, known_ahead_of
from bikes_assets.verification.examine import TIME, Count, Examination, Finding, Found, Seen, Trial
from bikes_assets.verification.experiments import (
    DECLARED,
    UNDECLARED,
    moved_key,
    order,
    presence,
    restricted,
    swapped_key,
    types,
    undeclared,
    unseen,
)
from bikes_assets.verification.experiments import (
    declared as declared_influence,
)
from bikes_assets.verification.grounds import ABSENT, BOTH, HOLES, REAL, RESHUFFLED, Settling
from bikes_assets.verification.perturb import Bench, usual_values
from bikes_assets.verification.signals import signals
from bikes_assets.verification.timely import gapped, points, slices, time, time_again, whole, whole_cuts

if TYPE_CHECKING:
    import narwhals as nw
    import numpy as np

    from bikes_assets.core.schema import Schema
    from bikes_assets.verification.invariants import Invariant

__all__ = ["Count", "Edge", "Evidence", "Finding", "Window", "assert_column_lineage", "check"]

_MOST_ROWS, _SLICE_ROWS, _SLICES = 20_000, 10_000, 2


@dataclass(frozen=True, slots=True)
class Edge:
    """Evidence for one declared dependency.

    Attributes:
        output: the output column.
        input: the column that it is made from.
        state: `proven` when a change of values moved the output, `missing only` when nothing did but values that went
            missing,
                `never seen` when nothing did, `unverified` when the function ran on no table in which the input was
                perturbed.
        trials: number of tables in which the input was perturbed and on which the function ran.
        checks: the experiments in which the output moved.
        observed: steps before a row of the farthest and of the nearest input row that moved it; None if none did.
        blocked: number of tables in which the input was perturbed and on which the function failed.
    """

    output: str
    input: str
    state: EvidenceState
    trials: int
    checks: tuple[str, ...] = ()
    observed: Window | None = None
    blocked: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence about a function.

    Attributes:
        rows: rows of the table that it was tried on.
        trials: number of perturbed tables on which it ran.
        seed: seed of the perturbations.
        edges: the declared dependencies.
        findings: what contradicts the declaration.
        unverified: what could not be tried: a dependency without a successful trial, or an experiment with an output.
        blocked: errors of the function on perturbed tables, which say nothing of what it reads.
        blocked_trials: number of perturbed tables on which it failed.
        checks: by experiment, on how many tables it ran and failed.
        unchecked: what could not be checked, or only in part, and why.
        undeclared: output columns, beside the key, of which nothing is declared.
        signals: what the code uses beside the table, which perturbation cannot test.
    """

    rows: int
    trials: int
    seed: int
    edges: tuple[Edge, ...]
    findings: tuple[Finding, ...] = ()
    unverified: tuple[Finding, ...] = ()
    blocked: tuple[str, ...] = ()
    blocked_trials: int = 0
    checks: Mapping[str, Count] = field(default_factory=dict)
    unchecked: tuple[str, ...] = ()
    undeclared: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether every output is declared, every declaration was tried, and nothing contradicts it."""
        return not self.findings and not self.unverified and not self.undeclared

    @property
    def never_seen(self) -> tuple[Pair, ...]:
        """Declared dependencies that were not observed: output and input."""
        return tuple((edge.output, edge.input) for edge in self.edges if edge.state == "never seen")

    def to_dict(self) -> dict[str, Any]:
        """Return the evidence as JSON-ready values."""
        return {**asdict(self), "holds": self.holds}


def check(
    function: Callable[[Any], Any],
    frame: Any,
    declared: Mapping[str, Collection[str]],
    *,
    key: str,
    schema: Schema | None = None,
    target: str | Collection[str] = (),
    horizon: int = 0,
    windows: Mapping[Pair, Window] | None = None,
    known_ahead: Mapping[str, int] | Collection[str] = (),
    invariants: Sequence[Invariant] = (),
    rows: Collection[str] = (),
    history: int | None = None,
    copy: str = "",
    seed: int = 0,
    progress: Callable[[str, int], None] | None = None,
) -> Evidence:
    """Verify the declared column lineage of a function from table to table by perturbation.

    It is called some hundred times, always with a fresh frame. Of a table with many rows, two slices are tried and
    compared with the whole.

    Args:
        function: takes a frame of the type of `frame`; returns a frame of any engine with the key among its columns, or
            an array with a number, or a row of them, for each input row, as a model's `predict` does. Nothing is
            checked of an
                output column that is neither the key nor declared.
        frame: the table, eager, in any engine that Narwhals reads; its rows are unique in `key`.
        declared: for each output column, the columns that it reads.
        key: column that identifies a row. A time or a whole number also gives the order.
        schema: allowed values of the columns. A cell is only set to these; columns that it does not name may have any
            value.
        target: column to predict, and those from which it can be computed, such as its parts.
        horizon: steps of the key's grid for which the target is not known before a row; required with a target. An
            output
                column with the target's own name is the label and exempt.
        windows: how far back each dependency reaches, if that is declared.
        known_ahead: columns that are known before their time, such as holidays and forecasts, with the number of steps,
            or
                without limit. Rows up to that many steps before may read them.
        invariants: what holds of each table that the function is given, such as `Total("cnt", ("casual",
            "registered"))`; see
                `verification.invariants`. Every perturbed table satisfies it.
        rows: columns that decide which rows the output has, beside the key.
        history: steps that the function looks back; default is an output's longest window, if all its dependencies have
            one.
        copy: name of a column by which the function keeps separate histories apart, as `by` of `columns.compute` does:
            if the
                frame has it, many perturbed tables are computed in one call.
        seed: seed of the perturbations: the same seed gives the same evidence.
        progress: called after each table with the experiment and the number of perturbed tables so far.

    Raises:
        LineageError: the key is not unique, a declared name is no column of the table, the function returns another
            type than
                expected, lacks a column or repeats a row, or the table breaks an invariant.
        FeatureError: the function fails on the unperturbed table.
    """
    import narwhals as nw
    import numpy as np

    table = nw.from_native(frame, eager_only=True)
    columns = {column.name: column for column in schema.columns} if schema else {}
    sources = {name: tuple(inputs) for name, inputs in declared.items()}
    declaration = Declaration(
        {**sources, ROWS: (key, *rows)},
        key,
        rows=tuple(rows),
        target=(target,) if isinstance(target, str) else tuple(target),
        horizon=horizon,
        windows=windows or {},
        history=history,
        known_ahead=known_ahead_of(known_ahead),
    )
    declaration.refuse_what_is_not_there(table.columns)
    if not len(table):
        raise LineageError(f"the table has no rows, expected some hundred, each with a {key} of its own")
    usual = {name: usual_values(table[name]) for name in table.columns if name != key}
    texts = dict[Any, float]()

    def bench(part: nw.DataFrame[Any], name: str = "") -> Bench:
        return Bench(
            function,
            part,
            tuple(sources),
            key=key,
            columns=columns,
            usual=usual,
            copy=name,
            invariants=invariants,
            texts=texts,
        )

    draw, found = np.random.default_rng(seed), Found(progress=progress)
    parts, frozen, restricted = list(_parts(table, key, draw)), dict[str, None](), set[str]()
    everything = Examination(bench(table), declaration, draw, found) if len(parts) > 1 else None
    for positions in parts:
        part = bench(table[positions], copy)
        _examine(Examination(part, declaration, draw, found))
        frozen |= dict.fromkeys(sorted(part.frozen))
        restricted |= {name for name, pool in part.pools.items() if pool.is_restricted}
        if everything:
            whole(everything, positions, part.unperturbed)
    if everything and everything.bench.is_ordered:
        whole_cuts(everything)
    edges = tuple(_edge(name, column, found) for name in sources for column in sources[name])
    return Evidence(
        rows=len(table),
        trials=sum(count.ran for count in found.counts.values()),
        seed=seed,
        edges=edges,
        findings=tuple(found.findings.values()),
        unverified=tuple(_unverified(declaration, table, edges, found, frozen, restricted, usual)),
        blocked=tuple(found.blocked),
        blocked_trials=sum(count.blocked for count in found.counts.values()),
        checks=found.counts,
        unchecked=tuple(found.unchecked),
        undeclared=tuple(found.undeclared),
        signals=signals(function),
    )


def assert_column_lineage(
    function: Callable[[Any], Any],
    frame: Any,
    *,
    declared: Mapping[str, Collection[str]],
    key: str,
    schema: Schema | None = None,
    is_complete: bool = False,
    unverified: Literal["fail", "warn"] = "fail",
    **more: Any,
) -> Evidence:
    """Raise AssertionError unless a function reads what is declared; for use in one's own tests.

    >>> import pandas as pd
    >>> hours = pd.date_range("2012-08-01", periods=500, freq="h")
    >>> table = pd.DataFrame(
    ...     {"ts": hours, "rain": [i % 3 for i in range(500)], "cnt": [i * 7 % 90 for i in range(500)]}
    ... )
    >>> def features(frame):
    ...     return frame.assign(wet=frame["rain"] > 1, recent=frame["cnt"].shift(1))[["ts", "wet", "recent"]]
    >>> assert_column_lineage(features, table, declared={"wet": ["rain"], "recent": ["rain"]}, key="ts")
    Traceback (most recent call last):
    AssertionError: ...

    Args:
        function: see `check`.
        frame: see `check`.
        declared: see `check`.
        key: see `check`.
        schema: see `check`.
        is_complete: whether a declared dependency that was not observed is an error, too.
        unverified: whether what could not be verified is an error or a warning: what could not be tried, such as a
            column for
                which the function fails on every table in which it is perturbed, and an output column that is not
                declared.
        more: further arguments of `check`.

    Returns:
        The evidence, if the assertion holds.

    Raises:
        AssertionError: what contradicts the declaration, and what could not be tried, each on a line.
    """
    evidence = check(function, frame, declared, key=key, schema=schema, **more)
    lines = [f"{item.check}: {item.message}" for item in evidence.findings]
    untried = [f"unverified: {item.message}" for item in evidence.unverified]
    untried += [
        f"undeclared: the function makes {name}, of which nothing is declared; declare the columns that it is made from"
        for name in evidence.undeclared
    ]
    unseen = [f"never seen: {output} is declared to be made from {column}" for output, column in evidence.never_seen]
    if unverified == "fail":
        lines += untried
    if is_complete:
        lines += unseen
    if lines:
        raise AssertionError("\n".join(lines))
    if untried:
        warnings.warn("\n".join(untried), stacklevel=2)
    return evidence


def _examine(exam: Examination) -> None:
    """Run all experiments with one table; if the function is not deterministic, only that is reported."""
    bench, found = exam.bench, exam.found
    found.undeclared |= dict.fromkeys(bench.others)
    if not exam.repeats("twice"):
        return
    Settling(bench, exam.draw, found).settle()
    exam.begin()
    restricted(exam)
    experiments = [moved_key, time, presence, slices] if bench.is_ordered else []
    exam.run(chain(undeclared(exam), *(experiment(exam) for experiment in experiments)))
    groups, peeks = exam.groups(), list[Trial]()
    timely = [points(exam, groups, peeks), gapped(exam, groups)] if bench.is_ordered else []
    exam.run(chain(declared_influence(exam, groups, REAL, BOTH), *timely))
    exam.run(declared_influence(exam, unseen(exam, groups), HOLES, RESHUFFLED, ABSENT))
    exam.run(peeks)
    if bench.is_ordered:
        exam.run(time_again(exam))
    else:
        swapped_key(exam)
        found.leave("key, time, presence, slice and windows", f"{bench.key} is neither a time nor a whole number")
    order(exam)
    types(exam)
    exam.repeats("again after all experiments")


def _parts(table: nw.DataFrame[Any], key: str, draw: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield positions of the rows to try: all, or slices of them in order of the key."""
    import numpy as np

    if len(table) <= _MOST_ROWS:
        yield np.arange(len(table))
        return
    order = np.argsort(table[key].to_numpy(), kind="stable")
    for first in draw.integers(0, len(table) - _SLICE_ROWS, _SLICES):
        yield order[first : first + _SLICE_ROWS]


def _edge(output: str, column: str, found: Found) -> Edge:
    seen = found.seen.get((output, column), Seen())
    state: EvidenceState = "proven" if seen.by_value else "missing only" if seen.checks else "never seen"
    if not seen.trials.ran:
        state = "unverified"
    observed = Window(max(seen.offsets), min(seen.offsets)) if seen.offsets else None
    return Edge(output, column, state, seen.trials.ran, tuple(seen.checks), observed, seen.trials.blocked)


def _unverified(
    declaration: Declaration,
    table: nw.DataFrame[Any],
    edges: Sequence[Edge],
    found: Found,
    frozen: Collection[str],
    restricted: Collection[str],
    usual: Mapping[str, nw.Series[Any]],
) -> Iterator[Finding]:
    """Yield what was to be tried but never ran."""
    why = f": {next(iter(found.blocked))}" if found.blocked else ""
    alone = {
        name: f", for the table has {'one value of it alone' if len(values) else 'no value of it'}"
        for name, values in usual.items()
        if len(values) < 2
    }
    for name in frozen:
        message = f"{name} was never perturbed, so that nothing tells who reads it{why}"
        yield Finding(UNDECLARED, "", name, message, failed=True)
    for edge in edges:
        if edge.state == "unverified":
            failed = bool(edge.blocked) or edge.input in restricted
            told = f"{edge.input} could not be perturbed{why if failed else alone.get(edge.input, '')}"
            if edge.blocked:
                told = f"the function fails on all {edge.blocked} tables in which it is perturbed{why}"
            message = f"{edge.output} is declared to be made from {edge.input}, of which nothing ran: {told}"
            yield Finding(DECLARED, edge.output, edge.input, message, failed)
    is_ordered = table[declaration.key].dtype.is_integer() or table[declaration.key].dtype.is_temporal()
    for output in declaration.outputs:
        others = {*table.columns} - {*declaration.sources[output], declaration.key}
        for experiment, is_wanted, what, columns in (
            (UNDECLARED, bool(others), "of columns that it does not declare", others),
            (TIME, is_ordered, "of what comes after its rows", {*table.columns}),
        ):
            count = found.outputs.get((experiment, output), Count())
            if is_wanted and not count.ran:
                failed = bool(count.blocked) or not columns.isdisjoint(restricted)
                tried = (
                    f"the function fails on all {count.blocked} tables"
                    if count.blocked
                    else "nothing could be perturbed"
                )
                message = f"{output} was not tried against a change {what}: {tried}{why if failed else ''}"
                yield Finding(experiment, output, "", message, failed)
