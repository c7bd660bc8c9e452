"""Column lineage that is held against what a function does: whatever it reads, it is disturbed, and what moves is looked at.

Any function from table to table will do: features, plain pandas, a model's predict. It is a black box; what is said of it is
which columns each of its columns is made from, how far back it looks, and, where there is a target, which hours of that are
not known yet. What is declared and never seen is no fault, but it is said.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from bikes_assets.lineage.disturb import Bench, usual_values
from bikes_assets.lineage.errors import LineageError
from bikes_assets.lineage.examine import Examination, Finding, Found, Pair, Question, Seen, Window
from bikes_assets.lineage.signals import signals

if TYPE_CHECKING:
    import narwhals as nw
    import numpy as np

    from bikes_assets.lineage.schema import Schema

State: TypeAlias = Literal["proven", "missing only", "never seen"]

_MOST_ROWS, _SLICE_ROWS, _SLICES = 20_000, 10_000, 2


@dataclass(frozen=True, slots=True)
class Edge:
    """What is known of one declared dependency.

    Attributes:
        output: the column that is made.
        input: the column that it is made from.
        state: `proven` when a change of values moved it, `missing only` when nothing did but values that went missing.
        trials: number of tables in which the input was disturbed.
        checks: those that saw it move.
        observed: steps before a row of the farthest and of the nearest row that moved it; None where none was seen.
    """

    output: str
    input: str
    state: State
    trials: int
    checks: tuple[str, ...] = ()
    observed: Window | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found of a function.

    Attributes:
        rows: rows of the table that it was tried on.
        trials: number of disturbed tables.
        seed: where the disturbances came from.
        edges: the declared dependencies.
        findings: what denies the declaration.
        blocked: disturbed tables on which the function failed, which say nothing of what it reads.
        unchecked: what could not be checked, and why.
        signals: what the code reaches beside the table, of which no disturbance tells.
    """

    rows: int
    trials: int
    seed: int
    edges: tuple[Edge, ...]
    findings: tuple[Finding, ...] = ()
    blocked: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing denies the declaration."""
        return not self.findings

    @property
    def never_seen(self) -> tuple[Pair, ...]:
        """Declared dependencies that nothing showed: output and input."""
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
    rows: Collection[str] = (),
    history: int | None = None,
    copy: str = "",
    seed: int = 0,
) -> Evidence:
    """Hold a function from table to table against the column lineage that is declared of it.

    It is called some hundred times, always with a fresh frame. Of a table of many rows two slices are tried.

    Args:
        function: takes a frame of the type of `frame`; returns a frame of any engine with the key among its columns, or a row,
            value or array for each row that it was given.
        frame: the table, eager, in any engine that Narwhals reads; its rows are unique in `key`.
        declared: for each column that the function makes, the columns that it reads.
        key: column that names a row. Where it is a time or a whole number, it gives the order.
        schema: lawful values of the columns. A cell is set to no other; columns that it does not name may have any.
        target: column that is predicted, and those that it can be had from, such as its parts.
        horizon: steps of the key's grid for which the target is not known before a row. A column of the target's own name is
            the label and exempt.
        windows: how far back each dependency reaches, where that is declared.
        rows: columns that decide which rows the output has, beside the key.
        history: steps that the function looks back; default is the longest window, where every dependency has one.
        copy: name of a column by which the function keeps apart what has a history of its own, as `by` of `columns.compute`
            does: when the frame has it, many disturbed tables are computed in one call.
        seed: where the disturbances come from: the same seed, the same evidence.

    Raises:
        LineageError: the key is not one, or the output lacks a column or has a row twice.
        FeatureError: the function fails on the table as it is.
    """
    import narwhals as nw
    import numpy as np

    whole = nw.from_native(frame, eager_only=True)
    columns = {column.name: column for column in schema.columns} if schema else {}
    sources = {name: tuple(inputs) for name, inputs in declared.items()}
    if absent := sorted({name for inputs in (*sources.values(), rows) for name in inputs}.difference(whole.columns)):
        raise LineageError(f"{', '.join(absent)} is declared to be read, but the table has {', '.join(whole.columns)}")
    if history is None and windows and all((name, column) in windows for name in sources for column in sources[name]):
        history = max(window.first for window in windows.values())
    targets = (target,) if isinstance(target, str) else tuple(target)
    asked = Question(sources, tuple(rows), targets, horizon, windows or {}, history)
    usual = {name: usual_values(whole[name], columns.get(name)) for name in whole.columns if name != key}

    def bench(part: nw.DataFrame[Any], name: str = "") -> Bench:
        return Bench(function, part, tuple(sources), key=key, columns=columns, usual=usual, copy=name)

    draw, found = np.random.default_rng(seed), Found()
    parts = list(_parts(whole, key, draw))
    all_rows = bench(whole) if len(parts) > 1 and history is not None else None
    for positions in parts:
        examination = Examination(bench(whole[positions], copy), asked, draw, found)
        examination.all()
        if all_rows:
            examination.whole(all_rows, positions)
    edges = tuple(_edge(name, column, found) for name in sources for column in sources[name])
    return Evidence(
        len(whole),
        found.trials,
        seed,
        edges,
        tuple(found.findings.values()),
        tuple(found.blocked),
        tuple(found.unchecked),
        signals(function),
    )


def assert_column_lineage(
    function: Callable[[Any], Any],
    frame: Any,
    *,
    declared: Mapping[str, Collection[str]],
    key: str,
    schema: Schema | None = None,
    is_complete: bool = False,
    **more: Any,
) -> Evidence:
    """Raise AssertionError unless a function reads what is declared, to be called in a test of one's own.

    >>> import pandas as pd
    >>> hours = pd.date_range("2012-08-01", periods=500, freq="h")
    >>> table = pd.DataFrame({"ts": hours, "rain": [i % 3 for i in range(500)], "cnt": [i * 7 % 90 for i in range(500)]})
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
        is_complete: whether a dependency that is declared and never seen is a fault, too.
        more: further arguments of `check`.

    Returns:
        The evidence, when it holds.

    Raises:
        AssertionError: what denies the declaration, each on a line.
    """
    evidence = check(function, frame, declared, key=key, schema=schema, **more)
    lines = [f"{item.check}: {item.message}" for item in evidence.findings]
    unseen = [f"never seen: {output} is declared to be made from {column}" for output, column in evidence.never_seen]
    if lines or (is_complete and unseen):
        raise AssertionError("\n".join([*lines, *unseen]))
    return evidence


def _parts(whole: nw.DataFrame[Any], key: str, draw: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield positions of the rows to try: all, or slices of them in order of the key."""
    import numpy as np

    if len(whole) <= _MOST_ROWS:
        yield np.arange(len(whole))
        return
    order = np.argsort(whole[key].to_numpy(), kind="stable")
    for first in draw.integers(0, len(whole) - _SLICE_ROWS, _SLICES):
        yield order[first : first + _SLICE_ROWS]


def _edge(output: str, column: str, found: Found) -> Edge:
    seen = found.seen.get((output, column), Seen())
    state: State = "proven" if seen.by_value else "missing only" if seen.checks else "never seen"
    observed = Window(max(seen.offsets), min(seen.offsets)) if seen.offsets else None
    return Edge(output, column, state, seen.trials, tuple(seen.checks), observed)
