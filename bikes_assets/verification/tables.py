"""Verification of the column lineage of a function from several tables to one, such as that of a plain asset.

Nothing is assumed of the rows: they may be joined, filtered and grouped. Each column of each input is perturbed by
itself, on the tables as they are and on redrawn ones, and the output columns that move are compared with the
declaration. Columns by which rows are identified, joined, grouped or filtered decide which rows an output row is
computed from: that they move other columns is no finding.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import narwhals as nw
import numpy as np

from bikes_assets.core.errors import FeatureError, LineageError
from bikes_assets.lineage.perturbation import Case, Cells, Table, differ, numbers_of, scale_of
from bikes_assets.verification.column_lineage import Evidence, check, edge_of, evidence_of, why_untried
from bikes_assets.verification.declaration import ROWS
from bikes_assets.verification.examine import Results, is_by_value
from bikes_assets.verification.experiments import DECLARED, UNDECLARED
from bikes_assets.verification.grounds import REAL, RESHUFFLED
from bikes_assets.verification.perturb import (
    MISSING,
    OUTSIDE,
    REDRAWN,
    Blocked,
    Pool,
    quietly,
    usual_values,
)

if TYPE_CHECKING:
    from bikes_assets.core.schema import Schema

Input: TypeAlias = tuple[str, str]
"""Name of an input, and of one of its columns."""

_MOST_ROWS = 20_000
_PLAIN = (nw.String, nw.Boolean, nw.Categorical)
"""Types of columns that are perturbed, beside numbers and times."""


def check_tables(
    function: Callable[..., Any],
    inputs: Mapping[str, Any],
    declared: Mapping[str, Mapping[str, Collection[str]]],
    *,
    key: str | Collection[str] = (),
    rows: Mapping[str, Collection[str]] | None = None,
    schemas: Mapping[str, Schema] | None = None,
    seed: int = 0,
    progress: Callable[[str, int], None] | None = None,
) -> Evidence:
    """Verify the declared column lineage of a function from tables to a table by perturbation.

    It is called six times for each column of each input, always with fresh frames.

    Args:
        function: takes each input under its name; returns a frame of any engine.
        inputs: its inputs by name. Those that are no frames are handed over as they are. Of a frame with many rows, the
            first ones are used.
        declared: for each output column, the columns of each input that it is computed from; "*" stands for all.
        key: columns that identify an output row; without them, rows are compared by their position.
        rows: by input, the columns that decide which rows an output row is computed from, beside those that the key is
            computed from: the keys of joins and groups, and what rows are filtered by.
        schemas: by input, the allowed values of its columns.
        seed: seed of the perturbations: the same seed gives the same evidence.
        progress: called after each call with the experiment and their number so far.

    Raises:
        LineageError: a declared column does not exist, a table has no rows, or the function returns no frame.
        FeatureError: the function fails on the unperturbed tables.
    """
    names = (key,) if isinstance(key, str) else tuple(key)
    run = _Run(function, inputs, schemas or {}, tuple(declared), names)
    found, draw = Results(progress=progress), np.random.default_rng(seed)
    for name, why in run.kept.items():
        found.leave(name, why)
    sources = {output: tuple(run.columns_of(columns)) for output, columns in declared.items()}
    deciding = {*run.columns_of(rows or {}), *(item for name in names for item in sources.get(name, ()))}
    found.undeclared |= dict.fromkeys(run.others)
    if _repeats(run, found):
        for where, places in _grounds(run, deciding, draw):
            before = run.unperturbed if where == REAL else run.output(places)
            if isinstance(before, Blocked):
                found.count("grounds", blocked=before, ground=where)
            else:
                _perturb_each(run, found, draw, _Ground(where, places, before), sources, deciding)
    edges = tuple(edge_of(output, ".".join(item), found) for output, items in sources.items() for item in items)
    unverified = tuple(why_untried(edge, found) for edge in edges if edge.state == "unverified")
    return evidence_of(function, sum(table.size for table in run.tables.values()), seed, edges, found, unverified)


@dataclass(frozen=True, slots=True)
class _Output:
    """What a function returned: numbers of the columns in question, and of the key of each row."""

    values: Mapping[str, np.ndarray]
    keys: np.ndarray
    frame: nw.DataFrame[Any]


@dataclass(frozen=True, slots=True)
class _Ground:
    """Tables that are perturbed: in words, the places of their cells, and the output for them."""

    where: str
    places: Mapping[Input, np.ndarray]
    output: _Output


class _Run:
    """A function of tables, and its output when some of their columns are perturbed."""

    def __init__(
        self,
        function: Callable[..., Any],
        inputs: Mapping[str, Any],
        schemas: Mapping[str, Schema],
        outputs: tuple[str, ...],
        key: tuple[str, ...],
    ) -> None:
        self.function, self.inputs, self.outputs, self.key = function, inputs, outputs, key
        self.tables, self.pools = dict[str, Table](), dict[Input, Pool]()
        self.kept: dict[str, str] = {}
        """What is not perturbed, or only in part, and why."""
        self._texts = dict[Any, float]()
        for name, value in inputs.items():
            frame = nw.from_native(value, eager_only=True, pass_through=True)
            if not isinstance(frame, nw.DataFrame):
                self.kept[name] = "it is no table, so that nothing of it is perturbed"
                continue
            if not len(frame):
                raise LineageError(f"{name} has no rows, expected some; materialize it first")
            if len(frame) > _MOST_ROWS:
                frame = frame.head(_MOST_ROWS)
                self.kept[name] = f"its first {_MOST_ROWS:,} rows alone are used"
            known = {column.name: column for column in schemas[name].columns} if name in schemas else {}
            pools = {
                each: Pool(cells, usual_values(cells), known.get(each))
                for each, cells in ((each, frame[each]) for each in frame.columns)
                if cells.dtype.is_numeric() or cells.dtype.is_temporal() or isinstance(cells.dtype, _PLAIN)
            }
            others = {each: Cells(frame[each]) for each in frame.columns if each not in pools}
            self.tables[name] = Table(frame, {**pools, **others})
            self.pools |= {(name, each): pool for each, pool in pools.items()}
            self.kept |= {f"{name}.{each}": "its type cannot be perturbed" for each in others}
        made = self._called({})
        if isinstance(made, Blocked):
            raise FeatureError(f"cannot be computed on the tables as they are: {made.error}") from made.error
        self.unperturbed = self._read(made)
        self.others = [name for name in self.unperturbed.frame.columns if name not in (*outputs, *key)]
        self.scales = {
            name: scale_of(values, is_float=self.unperturbed.frame[name].dtype.is_float())
            for name, values in self.unperturbed.values.items()
        }

    def columns_of(self, named: Mapping[str, Collection[str]]) -> Iterator[Input]:
        """Yield the columns of tables that a declaration names.

        Raises:
            LineageError: there is no such input or column.
        """
        for name, columns in named.items():
            if name not in self.inputs:
                raise LineageError(f"found input {name}, expected one of {', '.join(self.inputs)}")
            names = self.tables[name].names if name in self.tables else ()
            for column in names if "*" in columns else columns if names else ():
                if column not in names:
                    raise LineageError(f"{name}: found column {column}, expected one of {', '.join(names)}")
                yield name, column

    def output(self, places: Mapping[Input, np.ndarray]) -> _Output | Blocked:
        """Return the function's output when the cells of some columns are taken from other places."""
        made = self._called(places)
        try:
            return made if isinstance(made, Blocked) else self._read(made)
        except LineageError as error:
            return Blocked(error)

    def _called(self, places: Mapping[Input, np.ndarray]) -> Any:
        of = {name: {each: at for (table, each), at in places.items() if table == name} for name in self.tables}
        frames = {name: table.frame([Case(of[name])]).to_native() for name, table in self.tables.items()}
        try:
            return quietly(self.function, **{**self.inputs, **frames})
        except Exception as error:  # noqa: BLE001 - whatever a user's function raises
            return Blocked(error)

    def _read(self, made: Any) -> _Output:
        frame = nw.from_native(made, pass_through=True)
        frame = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
        if not isinstance(frame, nw.DataFrame):
            raise LineageError(f"the function returns {type(made).__name__}, expected a frame")
        if lacking := sorted({*self.outputs, *self.key}.difference(frame.columns)):
            raise LineageError(f"the function makes no {', '.join(lacking)}; it makes {', '.join(frame.columns)}")
        keys = [numbers_of(frame[name], self._texts) for name in self.key] or [np.arange(len(frame), dtype=float)]
        values = {name: numbers_of(frame[name], self._texts) for name in self.outputs}
        return _Output(values, np.column_stack(keys), frame)


def _repeats(run: _Run, found: Results) -> bool:
    """Return whether the function returns the same when it is called again with the same tables."""
    again = run.output({})
    if isinstance(again, Blocked):
        found.count("repeat", blocked=again)
        found.find("repeat", "", "", f"it fails when it is called again with the same tables: {again}")
        return False
    found.count("repeat")
    for name, *_ in _moved(run, run.unperturbed, again):
        found.find("repeat", name, "", f"{name} differs when the function is called again with the same tables")
    return not found.findings


def _grounds(
    run: _Run, deciding: Collection[Input], draw: np.random.Generator
) -> Iterator[tuple[str, Mapping[Input, np.ndarray]]]:
    """Yield the tables as they are, and redrawn ones, in which rare values are frequent."""
    yield REAL, {}
    redrawn = {item: pool.drawn(draw, REDRAWN) for item, pool in run.pools.items() if item not in deciding}
    yield RESHUFFLED, {item: places for item, places in redrawn.items() if places is not None}


def _perturb_each(
    run: _Run,
    found: Results,
    draw: np.random.Generator,
    ground: _Ground,
    sources: Mapping[str, Sequence[Input]],
    deciding: Collection[Input],
) -> None:
    """Perturb each column by itself in each way, and compare what moves with what is declared."""
    for item, pool in run.pools.items():
        before, column = ground.places.get(item, np.arange(pool.size)), ".".join(item)
        readers = [output for output, items in sources.items() if item in items]
        for way in (REDRAWN, OUTSIDE, MISSING):
            places = pool.drawn(draw, way, before)
            if places is None or not pool.differs(places, before).any():
                continue
            after, pairs = run.output({**ground.places, item: places}), [(output, column) for output in readers]
            others = [output for output in sources if output not in readers]
            blocked = after if isinstance(after, Blocked) else None
            found.count(DECLARED, others, pairs, blocked, ground.where)
            if isinstance(after, Blocked):
                continue
            moving = {name: told for name, *told in _moved(run, ground.output, after)}
            for output in readers:
                found.see(DECLARED, (output, column), moved=output in moving, by_value=is_by_value(way))
            for output, (what, count) in moving.items():
                if item not in deciding and output not in readers:
                    message = f"{what} when {column} is {way} ({count} such rows, of {ground.where})"
                    found.find(UNDECLARED, output, column, message)


def _moved(run: _Run, before: _Output, after: _Output) -> Iterator[tuple[str, str, int]]:
    """Yield each output column that differs, how the first row of it moves, and the number of such rows.

    Rows are compared by key. Columns of the key differ, and so does the set of rows, when rows come or go.
    """
    codes = np.unique(np.concatenate([before.keys, after.keys]), axis=0, return_inverse=True)[1].ravel()
    one, other = np.split(codes, [len(before.keys)])
    at, to = np.intersect1d(one, other, return_indices=True)[1:]
    if changed := len(one) + len(other) - 2 * len(at):
        for name in (ROWS, *(name for name in run.outputs if name in run.key)):
            yield name, "rows come or go", changed
    for name in (name for name in run.outputs if name not in run.key):
        was, now = before.values[name][at], after.values[name][to]
        rows = np.flatnonzero(differ(was, now, run.scales[name]))
        if len(rows):
            first = int(at[rows[0]])
            label = ", ".join(str(before.frame[each][first]) for each in run.key) or f"row {first}"
            yield name, f"{name} moves at {label} from {was[rows[0]]:g} to {now[rows[0]]:g}", len(rows)


def assert_column_lineage(
    function: Any,
    frame: Any,
    *,
    declared: Mapping[str, Any] | None = None,
    key: Any = (),
    is_complete: bool = False,
    unverified: Literal["fail", "warn"] = "fail",
    **options: Any,
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
        function: takes a frame, see `column_lineage.check`; or several under their names, see `check_tables`; or a Dagster
            asset of such a function.
        frame: the frame, or the inputs by name.
        declared: for each output column, the columns of the frame, or of each input; by default what an asset declares.
        key: see `column_lineage.check` and `check_tables`.
        is_complete: whether a declared dependency that was not observed is an error, too.
        unverified: whether what could not be verified is an error or a warning: what could not be tried, such as a
            column for which the function fails on every table in which it is perturbed, and an output column that is
            not declared.
        options: further arguments of `check` or `check_tables`.

    Returns:
        The evidence, if the assertion holds.

    Raises:
        AssertionError: what contradicts the declaration, and what could not be tried, each on a line.
    """
    declared = declared_of(function) if declared is None else declared
    verify = check_tables if isinstance(frame, Mapping) else check
    evidence = verify(function_of(function), frame, declared, key=key, **options)
    untried = _untried(evidence)
    lines = [f"{item.check}: {item.message}" for item in evidence.findings] + (untried if unverified == "fail" else [])
    if is_complete:
        lines += [
            f"declared, not observed: {name} is declared to be computed from {column}"
            for name, column in evidence.not_observed
        ]
    if lines:
        raise AssertionError("\n".join(lines))
    if untried:
        warnings.warn("\n".join(untried), stacklevel=2)
    return evidence


def _untried(evidence: Evidence) -> list[str]:
    """Return a line for each thing that could not be tried, and for each column of which nothing is declared."""
    return [f"unverified: {item.message}" for item in evidence.unverified] + [
        f"undeclared: the function makes {name}, of which nothing is declared; declare the columns that it is computed from"
        for name in evidence.undeclared
    ]


def function_of(asset: Any, context: Any = None) -> Callable[..., Any]:
    """Return the function of a Dagster asset, whose outcome's value alone counts; any other function as it is.

    Args:
        asset: an asset with one function, or a function.
        context: what a function whose first parameter is `context` is given.
    """
    if not hasattr(asset, "op"):
        return asset
    function = inspect.unwrap(asset.op.compute_fn.decorated_fn)
    parameters = inspect.signature(function).parameters
    return partial(_value_of, partial(function, context) if next(iter(parameters), "") == "context" else function)


def _value_of(function: Callable[..., Any], *arguments: Any, **inputs: Any) -> Any:
    made = function(*arguments, **inputs)
    is_frame = isinstance(nw.from_native(made, pass_through=True), nw.DataFrame | nw.LazyFrame)
    return made if is_frame else getattr(made, "value", made)


def declared_of(asset: Any) -> dict[str, dict[str, list[str]]]:
    """Return the column lineage that a Dagster asset declares, with the names that its function has for its inputs.

    Raises:
        LineageError: it declares none.
    """
    if not hasattr(asset, "specs"):
        raise LineageError("found a function that declares nothing, expected its column lineage as `declared`")
    spec, *more = asset.specs
    if more:
        raise LineageError(f"found {1 + len(more)} assets of one function, expected one; verify the function itself")
    stated = spec.metadata.get("dagster/column_lineage")
    if stated is None:
        name = spec.key.to_user_string()
        raise LineageError(
            f"{name}: found no column lineage, expected some; declare it by with_lineage or lineage_asset"
        )
    parameters = {key: name for name, key in asset.keys_by_input_name.items()}
    declared: dict[str, dict[str, list[str]]] = {}
    for output, parts in getattr(stated, "value", stated).deps_by_column.items():
        for part in parts:
            name = parameters.get(part.asset_key, part.asset_key.to_user_string())
            declared.setdefault(output, {}).setdefault(name, []).append(part.column_name)
    return declared
