"""Column lineage by construction: a function's name is the column that it makes, its parameters are the columns that it reads.

Each function is computed on a frame that holds only the key and its own parameters, so a read that is not declared fails:
what the signatures say is what happened, and it is written nowhere twice.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from bikes_assets.lineage.errors import FeatureError
from bikes_assets.lineage.schema import Column, Schema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import narwhals as nw

    Int64: TypeAlias = nw.Expr
    Float64: TypeAlias = nw.Expr

_TYPES: dict[str, Literal["int64", "float64"]] = {"Int64": "int64", "Float64": "float64"}


@dataclass(frozen=True, slots=True)
class ColumnFunction:
    """A function from columns to one column, with what its signature and docstring say.

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


def column_lineage(functions: Sequence[ColumnFunction]) -> dict[str, tuple[str, ...]]:
    """Return the input columns of each output column."""
    return {item.name: item.inputs for item in functions}


def schema_of(
    name: str, key: Sequence[Column], passed: Sequence[Column], functions: Sequence[ColumnFunction]
) -> Schema:
    """Return the schema of the table of the `key` columns, those that are `passed` on, and those that `functions` make."""
    return Schema(name, tuple(item.name for item in key), (*key, *passed, *(item.column for item in functions)))


def compute(frame: Any, functions: Sequence[ColumnFunction], key: str) -> Any:
    """Return a native frame of `key` and one column per function, each computed on its declared columns alone.

    The rows of an eager frame are returned in key order.

    Args:
        frame: a frame that Narwhals reads, eager or lazy; its rows are unique in `key`.
        functions: the column functions.
        key: name of the key column, which every function may order by.

    Raises:
        FeatureError: a function reads a column that it does not declare, or declares one that the frame lacks.
    """
    import narwhals as nw

    wide = nw.from_native(frame)
    if isinstance(
        wide, nw.DataFrame
    ):  # on pandas, an ordered window fails unless rows are in order and labelled 0, 1, ...
        wide = nw.maybe_reset_index(wide.sort(key))
    names = wide.collect_schema().names()
    for item in functions:
        missing = [column for column in item.inputs if column not in names]
        if missing:
            raise FeatureError(f"{item.name}: declares {', '.join(missing)}, but the table has {', '.join(names)}")
    columns = [_restricted(wide, item, key) for item in functions]
    if isinstance(wide, nw.DataFrame):
        parts = cast("list[nw.DataFrame[Any]]", columns)
        return nw.concat([wide.select(key), *(part.drop(key) for part in parts)], how="horizontal").to_native()
    joined = wide.select(key)
    for part in cast("list[nw.LazyFrame[Any]]", columns):
        joined = joined.join(part, on=key, how="left")
    return joined.to_native()


def _restricted(
    wide: nw.DataFrame[Any] | nw.LazyFrame[Any], item: ColumnFunction, key: str
) -> nw.DataFrame[Any] | nw.LazyFrame[Any]:
    import narwhals as nw
    from narwhals.exceptions import NarwhalsError

    narrow = wide.select(*dict.fromkeys((key, *item.inputs)))
    dtype = nw.Int64 if item.column.type == "int64" else nw.Float64
    try:
        value = item.function(*(nw.col(name) for name in item.inputs)).cast(dtype).alias(item.name)
        result = narrow.select(nw.col(key), value)
        result.collect_schema()
    except NarwhalsError as error:
        held = ", ".join(narrow.columns)
        raise FeatureError(f"{item.name}: cannot be computed from what it declares ({held}): {error}") from error
    return result
