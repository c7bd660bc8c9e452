"""What a report on a model consists of: sections of tables, each row with the addresses that its values come from.

The page and the JSON are two forms of one `ModelReport`, so that neither can say what the other does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Value: TypeAlias = "str | int | float | bool | list[str] | None"
Kind: TypeAlias = Literal["text", "number", "address", "code", "check", "state"]

NOT_DECLARED = "not declared"
"""What a report says where a project has to say something itself, and does not."""
NOT_RECORDED = "not recorded"
ADDRESS = "address"
"""Name of the field with the address that a row comes from."""


@dataclass(frozen=True, slots=True)
class TableField:
    """A column of a table in a report.

    Attributes:
        name: its name in JSON.
        title: its title on the page.
        kind: what its values are: text, numbers, addresses, code such as digests, results of checks, or words for a
            state, such as `covered`.
        below: name of the field in whose cell the page shows it, under that one's value; "" for a column of its own.
    """

    name: str
    title: str
    kind: Kind = "text"
    below: str = ""


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table of a report.

    Attributes:
        name: its name in JSON, unique in its section.
        title: its title.
        fields: its columns.
        rows: its rows: value by name of the field.
        addresses: what all rows come from, in addition to what a row names itself in the field `address`.
        note: a sentence below its title.
        empty: what stands in place of rows where there are none.
    """

    name: str
    title: str
    fields: Sequence[TableField]
    rows: Sequence[Mapping[str, Value]]
    addresses: Sequence[str] = ()
    note: str = ""
    empty: str = NOT_RECORDED

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready values; each row has all fields."""
        rows = [{item.name: _in_json(row.get(item.name)) for item in self.fields} for row in self.rows]
        told = {"note": self.note, "empty": "" if rows else self.empty}
        return {
            "title": self.title,
            **{name: text for name, text in told.items() if text},
            "addresses": list(self.addresses),
            "rows": rows,
        }


@dataclass(frozen=True, slots=True)
class ReportPicture:
    """A picture of a report, which shows what stands in tables of its section.

    Attributes:
        title: what it shows.
        svg: the picture, in which all texts are escaped.
        table: name of the table that it is drawn from, "" where it shows more than that.
    """

    title: str
    svg: str
    table: str = ""


@dataclass(frozen=True, slots=True)
class ReportSection:
    """A section of a report.

    Attributes:
        name: its name in JSON.
        title: its title.
        tables: its tables.
        pictures: its pictures, which stand above the tables.
        about: what it is about, in a sentence.
    """

    name: str
    title: str
    tables: Sequence[ReportTable] = ()
    pictures: Sequence[ReportPicture] = ()
    about: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready values; of a picture, what it shows and from which table."""
        pictures = [{"title": item.title, "table": item.table} for item in self.pictures]
        return {
            "title": self.title,
            "about": self.about,
            **({"pictures": pictures} if pictures else {}),
            "tables": {table.name: table.to_dict() for table in self.tables},
        }


@dataclass(frozen=True, slots=True)
class ModelReport:
    """A report on a fitted model.

    Attributes:
        name: what it is about, as it was asked for, such as `demand_model@3`.
        address: the version that this is.
        kind: what kind of model it is.
        project: the project's name.
        time: when the report was written, ISO 8601 in UTC.
        sections: its sections; the first one is the summary.
    """

    name: str
    address: str
    kind: str
    project: str
    time: str
    sections: Sequence[ReportSection]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        return {
            "name": self.name,
            "address": self.address,
            "kind": self.kind,
            "project": self.project,
            "time": self.time,
            "sections": {section.name: section.to_dict() for section in self.sections},
        }

    def addresses(self) -> Iterator[str]:
        """Yield every address that the report names, each once."""
        yield from dict.fromkeys(_addresses(self))


def _addresses(report: ModelReport) -> Iterator[str]:
    yield report.address
    for table in (table for section in report.sections for table in section.tables):
        yield from table.addresses
        names = [item.name for item in table.fields if item.kind == "address"]
        for value in (row.get(name) for row in table.rows for name in names):
            yield from value if isinstance(value, list) else [str(value)] if value else []


STATEMENTS = (TableField("name", "what"), TableField("value", "value"))
"""Fields of a table of single values."""
IDENTIFIERS = (TableField("name", "what"), TableField("value", "value", "code"))
"""The same, of digests, paths and other code."""
SOURCED = (*STATEMENTS, TableField(ADDRESS, "from", "address"))
"""The same, where each value has an address of its own."""


def _in_json(value: Value) -> Value:
    """Return a value that JSON has: it knows no number that is not finite."""
    return str(value) if isinstance(value, float) and not isfinite(value) else value


def decimals(values: Iterable[Value]) -> int:
    """Return with how many decimal places the numbers of a column are shown, so that they are comparable at a glance."""
    numbers = [abs(value) for value in values if isinstance(value, int | float) and isfinite(value)]
    if all(float(value).is_integer() for value in numbers):
        return 0
    largest = max(numbers)
    return 1 if largest >= 100 else 2 if largest >= 10 else 3 if largest >= 1 else 4


def shown_number(value: float, places: int | None = None) -> str:
    """Return a number as a page shows it.

    Args:
        value: the number.
        places: decimal places; None for all digits of a whole number, and for four significant ones of any other.
    """
    if not isfinite(value):
        return str(value)
    if places is not None:
        return f"{value:,.{places}f}"
    return (
        f"{int(value):,}" if float(value).is_integer() else f"{value:,.1f}" if abs(value) >= 10**4 else f"{value:.4g}"
    )
