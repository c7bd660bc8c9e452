"""Verification of column lineage by perturbation: a function's input is perturbed, and its output is observed.

Any function from table to table will do: features, plain pandas, a model's predict. It is a black box; its declaration
says which columns each output column is computed from, how far back it looks, and, if there is a target, which hours of it
are not known yet. A declared dependency that is not observed is no error, but it is reported; one that could not be
tried is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import narwhals as nw
import numpy as np

from bikes_assets.core.columns import EvidenceState
from bikes_assets.core.errors import LineageError
from bikes_assets.verification.declaration import ROWS, Declaration, Pair, Window, known_ahead_of
from bikes_assets.verification.examine import TIME, Count, Examination, Finding, Perturbation, Results, Seen
from bikes_assets.verification.experiments import (
    DECLARED,
    UNDECLARED,
    moved_key,
    not_observed,
    order,
    presence,
    restricted,
    swapped_key,
    types,
    undeclared,
)
from bikes_assets.verification.experiments import (
    declared as declared_influence,
)
from bikes_assets.verification.grounds import ABSENT, BOTH, HOLES, REAL, RESHUFFLED, Settling
from bikes_assets.verification.perturb import Bench, usual_values
from bikes_assets.verification.side_inputs import signals
from bikes_assets.verification.time_experiments import gapped, points, repeat_time, slices, time, whole, whole_cuts

if TYPE_CHECKING:
    from bikes_assets.core.schema import Schema
    from bikes_assets.verification.invariants import Invariant

__all__ = ["Count", "Dependency", "Evidence", "Finding", "Window", "check"]

_MOST_ROWS, _SLICE_ROWS, _SLICES = 20_000, 10_000, 2


@dataclass(frozen=True, slots=True)
class Dependency:
    """Evidence for one declared dependency.

    Attributes:
        output: the output column.
        input: the column that it is computed from.
        state: `observed` when a change of values moved the output, `missing only` when nothing did but values that went
            missing, `not observed` when nothing did, `unverified` when the function ran on no table in which the input
            was perturbed.
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
    edges: tuple[Dependency, ...]
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
    def not_observed(self) -> tuple[Pair, ...]:
        """Declared dependencies that were not observed: output and input."""
        return tuple((edge.output, edge.input) for edge in self.edges if edge.state == "not observed")

    def to_dict(self) -> dict[str, Any]:
        """Return the evidence as JSON-ready values."""
        return {**asdict(self), "holds": self.holds}


class Options(TypedDict, total=False):
    """What may be stated of a function and its table beside its declaration.

    Attributes:
        schema: allowed values of the columns. A cell is only set to these; columns that it does not name may have any
            value.
        target: column to predict, and those from which it can be computed, such as its parts.
        horizon: steps of the key's grid for which the target is not known before a row; required with a target. An
            output column with the target's own name is the label and exempt.
        windows: how far back each dependency reaches, if that is declared.
        known_ahead: columns that are known before their time, such as holidays and forecasts, with the number of steps,
            or without limit. Rows up to that many steps before may read them.
        invariants: what holds of each table that the function is given, such as `Total("cnt", ("casual",
            "registered"))`; see `verification.invariants`. Every perturbed table satisfies it.
        rows: columns that decide which rows the output has, beside the key.
        history: steps that the function looks back; default is an output's longest window, if all its dependencies have
            one.
        copy: name of a column by which the function keeps separate histories apart, as `by` of `columns.compute` does:
            if the frame has it, many perturbed tables are computed in one call.
        seed: seed of the perturbations: the same seed gives the same evidence.
        progress: called after each table with the experiment and the number of perturbed tables so far.
    """

    schema: Schema | None
    target: str | Collection[str]
    horizon: int
    windows: Mapping[Pair, Window] | None
    known_ahead: Mapping[str, int] | Collection[str]
    invariants: Sequence[Invariant]
    rows: Collection[str]
    history: int | None
    copy: str
    seed: int
    progress: Callable[[str, int], None] | None


def check(
    function: Callable[[Any], Any],
    frame: Any,
    declared: Mapping[str, Collection[str]],
    *,
    key: str,
    **options: Unpack[Options],
) -> Evidence:
    """Verify the declared column lineage of a function from table to table by perturbation.

    It is called some hundred times, always with a fresh frame. Of a table with many rows, two slices are tried and
    compared with the whole.

    Args:
        function: takes a frame of the type of `frame`; returns a frame of any engine with the key among its columns, or
            an array with a number, or a row of them, for each input row, as a model's `predict` does. Nothing is
            checked of an output column that is neither the key nor declared.
        frame: the table, eager, in any engine that Narwhals reads; its rows are unique in `key`.
        declared: for each output column, the columns that it reads.
        key: column that identifies a row. A time or a whole number also gives the order.
        options: see `Options`.

    Raises:
        LineageError: the key is not unique, a declared name is no column of the table, the function returns another
            type than expected, lacks a column or repeats a row, or the table breaks an invariant.
        FeatureError: the function fails on the unperturbed table.
    """
    table: nw.DataFrame[Any] = nw.from_native(frame, eager_only=True)
    declaration = _declaration(declared, key, options)
    declaration.refuse_what_is_not_there(table.columns)
    if not len(table):
        raise LineageError(f"the table has no rows, expected some hundred, each with a {key} of its own")
    usual = {name: usual_values(table[name]) for name in table.columns if name != key}
    bench = _bench(function, declared, key, usual, options)
    draw, found = np.random.default_rng(options.get("seed", 0)), Results(progress=options.get("progress"))
    parts, frozen, restricted = list(_parts(table, key, draw)), dict[str, None](), set[str]()
    everything = Examination(bench(table), declaration, draw, found) if len(parts) > 1 else None
    for positions in parts:
        part = bench(table[positions], copy=options.get("copy", ""))
        _examine(Examination(part, declaration, draw, found))
        frozen |= dict.fromkeys(sorted(part.frozen))
        restricted |= {name for name, pool in part.pools.items() if pool.is_restricted}
        if everything:
            whole(everything, positions, part.unperturbed)
    if everything and everything.bench.is_ordered:
        whole_cuts(everything)
    edges = tuple(edge_of(name, column, found) for name in declared for column in declaration.sources[name])
    unverified = _unverified(declaration, table, edges, found, frozen, restricted, usual)
    return evidence_of(function, len(table), options.get("seed", 0), edges, found, tuple(unverified))


def evidence_of(
    function: Callable[..., Any],
    rows: int,
    seed: int,
    edges: tuple[Dependency, ...],
    found: Results,
    unverified: tuple[Finding, ...],
) -> Evidence:
    """Return the evidence that experiments gave."""
    return Evidence(
        rows=rows,
        trials=sum(count.ran for count in found.counts.values()),
        seed=seed,
        edges=edges,
        findings=tuple(found.findings.values()),
        unverified=unverified,
        blocked=tuple(found.blocked),
        blocked_trials=sum(count.blocked for count in found.counts.values()),
        checks=found.counts,
        unchecked=tuple(found.unchecked),
        undeclared=tuple(found.undeclared),
        signals=signals(function),
    )


def _declaration(declared: Mapping[str, Collection[str]], key: str, options: Options) -> Declaration:
    target, rows = options.get("target", ()), tuple(options.get("rows", ()))
    return Declaration(
        {**{name: tuple(inputs) for name, inputs in declared.items()}, ROWS: (key, *rows)},
        key,
        rows=rows,
        target=(target,) if isinstance(target, str) else tuple(target),
        horizon=options.get("horizon", 0),
        windows=options.get("windows") or {},
        history=options.get("history"),
        known_ahead=known_ahead_of(options.get("known_ahead", ())),
    )


def _bench(
    function: Callable[[Any], Any],
    outputs: Iterable[str],
    key: str,
    usual: Mapping[str, nw.Series[Any]],
    options: Options,
) -> Callable[..., Bench]:
    """Return what makes a bench of the function and some rows of its table; all share the numbers of texts."""
    schema = options.get("schema")
    return partial(
        Bench,
        function,
        outputs=tuple(outputs),
        key=key,
        columns={column.name: column for column in schema.columns} if schema else {},
        usual=usual,
        invariants=options.get("invariants", ()),
        texts={},
    )


def _examine(exam: Examination) -> None:
    """Run all experiments with one table; if the function is not deterministic, only that is reported."""
    bench, found = exam.bench, exam.found
    found.undeclared |= dict.fromkeys(bench.others)
    if not exam.repeats("twice"):
        return
    Settling(bench, exam.draw, found.leave, found.count).settle()
    exam.begin()
    restricted(exam)
    experiments = [moved_key, time, presence, slices] if bench.is_ordered else []
    exam.run(chain(undeclared(exam), *(experiment(exam) for experiment in experiments)))
    groups, peeks = exam.groups(), list[Perturbation]()
    timely = [points(exam, groups, peeks), gapped(exam, groups)] if bench.is_ordered else []
    exam.run(chain(declared_influence(exam, groups, REAL, BOTH), *timely))
    exam.run(declared_influence(exam, not_observed(exam, groups), HOLES, RESHUFFLED, ABSENT))
    exam.run(peeks)
    if bench.is_ordered:
        exam.run(repeat_time(exam))
    else:
        swapped_key(exam)
        found.leave("key, time, presence, slice and windows", f"{bench.key} is neither a time nor a whole number")
    order(exam)
    types(exam)
    exam.repeats("again after all experiments")


def _parts(table: nw.DataFrame[Any], key: str, draw: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield positions of the rows to try: all, or slices of them in order of the key."""
    if len(table) <= _MOST_ROWS:
        yield np.arange(len(table))
        return
    order = np.argsort(table[key].to_numpy(), kind="stable")
    for first in draw.integers(0, len(table) - _SLICE_ROWS, _SLICES):
        yield order[first : first + _SLICE_ROWS]


def edge_of(output: str, column: str, found: Results) -> Dependency:
    """Return what was observed of one declared dependency."""
    seen = found.seen.get((output, column), Seen())
    state: EvidenceState = "observed" if seen.by_value else "missing only" if seen.checks else "not observed"
    if not seen.trials.ran:
        state = "unverified"
    observed = Window(max(seen.offsets), min(seen.offsets)) if seen.offsets else None
    return Dependency(output, column, state, seen.trials.ran, tuple(seen.checks), observed, seen.trials.blocked)


def _unverified(
    declaration: Declaration,
    table: nw.DataFrame[Any],
    edges: Sequence[Dependency],
    found: Results,
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
            yield why_untried(edge, found, is_restricted=edge.input in restricted, alone=alone.get(edge.input, ""))
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


def why_untried(edge: Dependency, found: Results, *, is_restricted: bool = False, alone: str = "") -> Finding:
    """Return why a declared dependency could not be tried.

    Args:
        edge: the dependency.
        found: the results of the experiments.
        is_restricted: whether there are values that its column is not set to, because the function fails on them.
        alone: what keeps the column from being perturbed, if the function does not.
    """
    failed = bool(edge.blocked) or is_restricted
    why = f": {next(iter(found.blocked))}" if found.blocked else ""
    told = f"{edge.input} could not be perturbed{why if failed else alone}"
    if edge.blocked:
        told = f"the function fails on all {edge.blocked} tables in which it is perturbed{why}"
    message = f"{edge.output} is declared to be computed from {edge.input}, of which nothing ran: {told}"
    return Finding(DECLARED, edge.output, edge.input, message, failed)
