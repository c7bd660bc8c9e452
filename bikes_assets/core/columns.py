"""Column lineage by construction: a function's name is its output column, its parameters are the columns that it reads.

Each function is computed on a frame that holds only the key and its own parameters, so a read that is not declared
fails: the signatures say exactly what was read, and nothing has to be written twice.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from bikes_assets.core.errors import FeatureError
from bikes_assets.core.schema import Column, Schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import narwhals as nw

    Int64: TypeAlias = nw.Expr
    Float64: TypeAlias = nw.Expr
else:
    # an annotation is its text, whether it is evaluated or not
    Int64, Float64 = "Int64", "Float64"

EvidenceState: TypeAlias = Literal["observed", "missing only", "not observed", "unverified"]
"""What perturbation has shown about a declared input of a column, as records hold it."""
_EARLIER_STATES: Mapping[str, EvidenceState] = {"proven": "observed", "never seen": "not observed"}
"""States in records of earlier releases."""

_TYPES: dict[str, Literal["int64", "float64"]] = {"Int64": "int64", "Float64": "float64"}


def evidence_state(recorded: str) -> str:
    """Return a state of evidence as it is called now, whatever a record of an earlier release calls it."""
    return _EARLIER_STATES.get(recorded, recorded)


@dataclass(frozen=True, slots=True)
class ColumnFunction:
    """A function from columns to one column, with what its signature and docstring declare.

    Attributes:
        function: takes one Narwhals expression per input column, returns one expression.
        inputs: names of the columns that it reads.
        column: the column that it makes: name, type (return annotation), meaning (first sentence), unit (`Unit:` line).
        rationale: the docstring's `Why:` sentence.
    """

    function: Callable[..., nw.Expr]
    inputs: tuple[str, ...]
    column: Column
    rationale: str

    @property
    def name(self) -> str:
        """Name of the column that it makes."""
        return self.column.name


def column_function(function: Callable[..., nw.Expr]) -> ColumnFunction:
    """Read a column function's signature and docstring.

    Raises:
        FeatureError: the return annotation is not Int64 or Float64, or the docstring lacks its Unit or Why line.
    """
    name = function.__name__
    text = inspect.getdoc(function) or ""
    parts = re.fullmatch(r"(?P<meaning>.+?)\n\nUnit: (?P<unit>.+?)\.\nWhy: (?P<why>.+)", text, re.DOTALL)
    annotation = str(function.__annotations__.get("return"))
    if parts is None or annotation not in _TYPES:
        raise FeatureError(
            f"{name}: expected `-> Int64` or `-> Float64` and a docstring of a sentence, a blank line, 'Unit: ...' and 'Why: ...'"
        )
    meaning, why = (" ".join(parts[key].split()) for key in ("meaning", "why"))
    column = Column(name, _TYPES[annotation], meaning, unit=parts["unit"], nullable=True)
    return ColumnFunction(function, tuple(inspect.signature(function).parameters), column, why)


def column_lineage(
    functions: Sequence[ColumnFunction], steps: Sequence[ColumnFunction] = ()
) -> dict[str, tuple[str, ...]]:
    """Return the table's columns that each output column is computed from, through any `steps` in between."""
    made = {item.name: item for item in (*steps, *functions)}

    def sources(name: str) -> tuple[str, ...]:
        if name not in made:
            return (name,)
        return tuple(dict.fromkeys(source for column in made[name].inputs for source in sources(column)))

    return {item.name: sources(item.name) for item in functions}


def schema_of(
    name: str, key: Sequence[Column], passed: Sequence[Column], functions: Sequence[ColumnFunction]
) -> Schema:
    """Return the schema of a table of the `key` columns, the columns `passed` on, and those that `functions` make."""
    return Schema(name, tuple(item.name for item in key), (*key, *passed, *(item.column for item in functions)))


def compute(
    frame: Any,
    functions: Sequence[ColumnFunction],
    key: str,
    *,
    steps: Sequence[ColumnFunction] = (),
    by: Sequence[str] = (),
    passed: Sequence[str] = (),
) -> Any:
    """Return a native frame of `by`, `key`, the columns that are `passed` on and one per function.

    A function is a plain expression of a row and the rows before it. It does not mention order or group: both are added
    to each of its windows here. Each function is computed on its declared columns alone. On a lazy engine that is
    verified on each function's query, and then all are computed in one query: one join per function would cost several
    times as much.

    The rows of an eager frame are returned in order of `by` and `key`.

    Args:
        frame: a frame that Narwhals reads, eager or lazy; its rows are unique in `by` and `key`.
        functions: the column functions. Each reads columns of the frame, or those that others make.
        key: name of the key column, by which rows are ordered.
        steps: functions whose columns other functions read and the result leaves out.
        by: columns of the groups that each have a history of their own, such as stations.
        passed: columns that are passed on.

    Raises:
        FeatureError: a function reads a column that it does not declare, declares one that the frame lacks, depends on
            its own column, or cannot be computed.
    """
    import narwhals as nw

    wide = nw.from_native(frame)
    if isinstance(
        wide, nw.DataFrame
    ):  # pandas computes an ordered window only where rows are in order, labelled 0, 1, ...
        wide = nw.maybe_reset_index(wide.sort(*by, key))
    for level in _levels((*functions, *steps), wide.collect_schema().names()):
        made = [_alone(wide, item, key, by) for item in level]
        if isinstance(wide, nw.LazyFrame):
            wide = wide.with_columns(*(expression for expression, _ in made))
        else:
            columns = cast("list[nw.DataFrame[Any]]", [column for _, column in made])
            wide = nw.concat([wide, *columns], how="horizontal")
    return wide.select(*dict.fromkeys((*by, key, *passed, *(item.name for item in functions)))).to_native()


def _levels(functions: Sequence[ColumnFunction], names: Sequence[str]) -> Iterator[list[ColumnFunction]]:
    """Yield the functions in groups, so that each reads only columns of the table and of earlier groups."""
    waiting, known = list(functions), list(names)
    while waiting:
        uncomputed = {item.name for item in waiting}
        for item in waiting:
            missing = [column for column in item.inputs if column not in uncomputed and column not in known]
            if missing:
                raise FeatureError(f"{item.name}: declares {', '.join(missing)}, but the table has {', '.join(names)}")
        level = [item for item in waiting if uncomputed.isdisjoint(item.inputs)]
        if not level:
            raise FeatureError(
                f"{', '.join(sorted(uncomputed))}: each reads what is computed from it; expected a first one"
            )
        yield level
        known += [item.name for item in level]
        waiting = [item for item in waiting if item not in level]


def _alone(
    wide: nw.DataFrame[Any] | nw.LazyFrame[Any], item: ColumnFunction, key: str, by: Sequence[str]
) -> tuple[nw.Expr, nw.DataFrame[Any] | nw.LazyFrame[Any]]:
    """Return a function's expression, and its column, computed on a frame of only its declared columns and the keys."""
    from narwhals.exceptions import NarwhalsError

    narrow = wide.select(*dict.fromkeys((*by, key, *item.inputs)))
    try:
        expression = _in_order(item, key, by)
        column = narrow.select(expression)
        column.collect_schema()
    except (NarwhalsError, NotImplementedError) as error:
        held = ", ".join(narrow.columns)
        raise FeatureError(f"{item.name}: cannot be computed from what it declares ({held}): {error}") from error
    return expression, column


def _in_order(item: ColumnFunction, key: str, by: Sequence[str]) -> nw.Expr:
    """Return a function's expression, its windows ordered by `key` and separate for each group."""
    import narwhals as nw
    from narwhals.exceptions import InvalidOperationError

    dtype = nw.Int64 if item.column.type == "int64" else nw.Float64
    value = item.function(*(nw.col(name) for name in item.inputs)).cast(dtype)
    try:
        return value.over(*by, order_by=key).alias(item.name)
    except InvalidOperationError:  # it has no window: each row is computed from itself
        return value.alias(item.name)
