"""Declared tables: each column's type, unit, range and meaning, and the strict check that a frame conforms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from bikes_assets.core.address import WHOLE
from bikes_assets.core.errors import SchemaError

if TYPE_CHECKING:
    import pyarrow as pa

ColumnType = Literal["int64", "float64", "bool", "string", "timestamp"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column as declared: the only place where its meaning, unit and range are written.

    Attributes:
        name: column name.
        type: `int64`, `float64`, `bool`, `string` (UTF-8) or `timestamp` (microseconds, no timezone).
        meaning: one sentence for people.
        unit: unit of measure, empty for codes and names.
        minimum: lowest allowed value, inclusive.
        maximum: highest allowed value, inclusive.
        allowed: the allowed values where they are few.
        nullable: whether a value may be missing.
        tags: labels that apply to it and to everything computed from it, such as a licence, a purpose, or `personal`.
    """

    name: str
    type: ColumnType
    meaning: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[int | str, ...] = ()
    nullable: bool = False
    tags: tuple[str, ...] = ()

    @property
    def constraint(self) -> str:
        """The allowed values in words, empty when any value of the type is allowed."""
        if self.allowed:
            return "one of " + ", ".join(str(value) for value in self.allowed)
        low = "" if self.minimum is None else f"{self.minimum:g}"
        high = "" if self.maximum is None else f"{self.maximum:g}"
        return f"{low}..{high}" if low or high else ""


@dataclass(frozen=True, slots=True)
class Schema:
    """A declared table.

    Attributes:
        name: name of the table, as in error messages.
        key: columns whose values together are unique and give the row order. Without a key, rows are in order of their
            columns from left to right, and may be equal.
        columns: the columns, in order.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        """Refuse a reserved name.

        Raises:
            SchemaError: a column is called WHOLE.
        """
        if WHOLE in self.names:
            raise SchemaError(f"{self.name}: found a column {WHOLE!r}, which stands for a whole model; rename it")

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in declared order."""
        return tuple(column.name for column in self.columns)

    def __getitem__(self, name: str) -> Column:
        """Return the column of that name; KeyError when there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name} has no column {name!r}: it has {', '.join(self.names)}")

    @property
    def types(self) -> dict[str, ColumnType]:
        """Type of each column, in declared order."""
        return {column.name: column.type for column in self.columns}

    def arrow(self) -> pa.Schema:
        """Return the Arrow schema; every column is nullable, so that `nullable` never changes what is stored."""
        import pyarrow as pa

        return pa.schema([(column.name, _arrow_type(column.type)) for column in self.columns])

    def conform(self, frame: Any) -> pa.Table:
        """Return `frame` as an Arrow table of exactly this schema, rows in key order.

        Only representations are changed (nanoseconds that are whole microseconds, large or view strings, a
        pandas NaN that means null): no value is cast.

        Args:
            frame: anything Narwhals reads: pandas, Polars, DuckDB relation, Arrow table.

        Raises:
            SchemaError: the columns, their order, a type or a timezone differs; a null is not allowed; there is a NaN
                or a duplicate key.
        """
        table = _to_arrow(frame, self.name)
        if tuple(table.column_names) != self.names:
            raise SchemaError(
                f"{self.name}: found columns {', '.join(table.column_names)}, expected {', '.join(self.names)}"
            )
        arrays = [_conform_column(table[column.name], column, self.name) for column in self.columns]
        import pyarrow as pa

        return self._in_key_order(pa.Table.from_arrays(arrays, schema=self.arrow()))

    def _in_key_order(self, table: pa.Table) -> pa.Table:
        import pyarrow.compute as pc

        order = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in self.key or self.names])
        ordered = table.take(order).combine_chunks()
        if self.key and len(ordered) > 1:
            same = None
            for name in self.key:
                equal = pc.equal(ordered[name][1:], ordered[name][:-1])
                same = equal if same is None else pc.and_(same, equal)
            if pc.any(same).as_py():
                row = pc.index(same, True).as_py()
                twice = ", ".join(f"{name} {ordered[name][row].as_py()}" for name in self.key)
                raise SchemaError(f"{self.name}: {twice} stands twice, expected once")
        return ordered


def schema_from(frame: Any, name: str) -> Schema:
    """Return the schema of a frame whose columns nobody has declared: names and types, every column nullable, no key.

    Args:
        frame: anything Narwhals reads, or an Arrow table.
        name: name of the table.

    Raises:
        SchemaError: it is no table, has a named index, or has a column of an unsupported type.
    """
    if named := [str(level) for level in getattr(getattr(frame, "index", None), "names", ()) if level is not None]:
        raise SchemaError(f"{name}: found index {', '.join(named)}, expected columns alone; use frame.reset_index()")
    return Schema(name, (), tuple(_column_from(field, name) for field in _to_arrow(frame, name).schema))


def _column_from(field: pa.Field, table: str) -> Column:
    types: tuple[ColumnType, ...] = get_args(ColumnType)
    for type_name in types:
        if field.type in _same_content(type_name):
            return Column(field.name, type_name, "", nullable=True)
    raise SchemaError(
        f"{table}.{field.name}: found type {field.type}, expected one of {', '.join(types)}; convert it, such as by "
        f'frame["{field.name}"].astype("float64"), or leave it out'
    )


def _same_content(name: ColumnType) -> tuple[pa.DataType, ...]:
    """Return the Arrow types that hold just what a type of ours does."""
    import pyarrow as pa

    return {
        "string": (pa.string(), pa.large_string(), pa.string_view()),
        "timestamp": (pa.timestamp("us"), pa.timestamp("ns")),
    }.get(name, (_arrow_type(name),))


def _arrow_type(name: ColumnType) -> pa.DataType:
    import pyarrow as pa

    return {
        "int64": pa.int64(),
        "float64": pa.float64(),
        "bool": pa.bool_(),
        "string": pa.string(),
        "timestamp": pa.timestamp("us"),
    }[name]


def _to_arrow(frame: Any, name: str) -> pa.Table:
    import narwhals as nw
    import pyarrow as pa

    if isinstance(frame, pa.Table):
        return frame
    try:
        wrapped = nw.from_native(frame)
        if isinstance(wrapped, nw.LazyFrame):
            return wrapped.collect("pyarrow").to_native()
        if wrapped.implementation.is_pandas():
            return pa.Table.from_pandas(wrapped.to_native(), preserve_index=False)
        return wrapped.to_arrow()
    except (TypeError, ValueError, OverflowError, pa.ArrowException) as error:
        raise SchemaError(
            f"{name}: found {type(frame).__name__} that is not a table of plain types: {error}"
        ) from error


def _conform_column(array: pa.ChunkedArray, column: Column, table: str) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if array.type not in _same_content(column.type):
        raise SchemaError(f"{table}.{column.name}: found type {array.type}, expected {column.type}")
    if array.null_count and not column.nullable:
        row = pc.index(pc.is_null(array), True).as_py() + 1
        raise SchemaError(f"{table}.{column.name}: found null in row {row}, expected a value in every row")
    if column.type == "float64" and pc.any(pc.is_nan(array)).as_py():
        raise SchemaError(f"{table}.{column.name}: found NaN, expected null for a missing value")
    try:
        return pa.concat_arrays(
            array.cast(_arrow_type(column.type), safe=True).chunks or [pa.array([], _arrow_type(column.type))]
        )
    except pa.ArrowInvalid as error:
        raise SchemaError(f"{table}.{column.name}: {error}") from error
