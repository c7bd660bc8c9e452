"""What received events tell, as a graph: its things by their numbers in the file, and what is one edge away from each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from bikes_assets.core.address import WHOLE
from bikes_assets.lineage.elements import COLUMN, DATASET, JOB, RUN
from bikes_assets.lineage.openlineage.received import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bikes_assets.lineage.elements import Direction
    from bikes_assets.lineage.openlineage.received import Received

_DATASET, _JOB, _RUN = (KINDS.index(kind) for kind in (DATASET, JOB, RUN))
_SEPARATORS = ("/", ".", ":")
"""What a short name of a dataset comes after: `trips` is a name of `s3://lake/trips` and of `postgres://host:5432/db.trips`."""
_DIRECT = {
    "upstream": """
select source from edge where target = :at and since <= :time
union
select unit.job from used join unit on unit.id = used.unit where dataset = :at and is_output and since <= :time
""",
    "downstream": """
select target from edge where source = :at and since <= :time
union
select unit.job from used join unit on unit.id = used.unit where dataset = :at and not is_output and since <= :time
""",
}
"""What an event names to be one edge away, and jobs."""
_UNITS = {
    "upstream": """
select unit from used where dataset = :at and is_output and since <= :time
and not exists (select 1 from explicit where explicit.unit = used.unit and explicit.dataset = used.dataset)
""",
    "downstream": "select unit from used where dataset = :at and not is_output and since <= :time",
}
"""The runs through which something is one edge away."""
_OF_UNIT = {
    "upstream": "select dataset from used where unit = :at and not is_output and since <= :time",
    "downstream": """
select dataset from used where unit = :at and is_output and since <= :time
and not exists (select 1 from explicit where explicit.unit = used.unit and explicit.dataset = used.dataset)
""",
}
_OF_JOB = """
select dataset from used join unit on unit.id = used.unit
where unit.job = :at and is_output = :is_output and since <= :time
union
select dataset from used join unit on unit.id = used.unit
where unit.run = :at and is_output = :is_output and since <= :time
"""
_SYMLINKED = """
with recursive same (id) as (
  select id from entity where kind = ? and label = ? and col = ''
  union select other from same join symlink on dataset = same.id
  union select dataset from same join symlink on other = same.id
)
select label from same join entity using (id)
"""
_TEXTS = ("documentation", "description", "tags")
"""Facts by whose words a thing is found."""


class NumberedEntity(NamedTuple):
    """A thing that events tell of.

    Attributes:
        number: its number.
        kind: `dataset`, `column`, `job` or `run`.
        label: the dataset or job; id of a run.
        column: the column, "" for anything else.
    """

    number: int
    kind: str
    label: str
    column: str


class ReceivedGraph:
    """The graph of received events.

    Args:
        received: the events.
    """

    def __init__(self, received: Received) -> None:
        self._ask = received.store.execute

    @property
    def last(self) -> int:
        """The largest number of a thing, 0 without things."""
        return self._ask("select coalesce(max(id), 0) from entity").fetchone()[0]

    def last_time(self) -> float | None:
        """Return the last time from which something is told, Unix seconds; None where nothing is."""
        times = " union all ".join(f"select max(since) as time from {table}" for table in ("entity", "edge", "used"))  # noqa: S608 - names of ours
        return self._ask(f"select max(time) from ({times})").fetchone()[0]  # noqa: S608

    def symlinked(self, label: str) -> list[str]:
        """Return all labels that mean the same dataset as one, by any number of symlinks."""
        return [other for (other,) in self._ask(_SYMLINKED, [_DATASET, label])]

    def thing(self, number: int) -> NumberedEntity:
        """Return a thing by its number."""
        return self._entity(self._ask("select id, kind, label, col from entity where id = ?", [number]).fetchone())

    def named(self, kind: str, label: str, column: str = "") -> NumberedEntity | None:
        """Return the thing of a kind with a label, and a column of it; None where there is none."""
        query = "select id, kind, label, col from entity where label = ? and kind = ? and col = ?"
        row = self._ask(query, [label, KINDS.index(kind), column]).fetchone()
        return self._entity(row) if row else None

    def labelled(self, label: str, time: float) -> list[NumberedEntity]:
        """Return the things of a label that were told of by a time: a dataset with its columns, a job, a run."""
        query = "select id, kind, label, col from entity where label = ? and since <= ? order by kind, col"
        return [self._entity(row) for row in self._ask(query, [label, time])]

    def ending(self, end: str, column: str, time: float) -> list[NumberedEntity]:
        """Return the datasets, or their columns, and the jobs whose label ends with a short name."""
        marks = " or ".join(f"substr(label, -length(:end) - 1) = '{mark}' || :end" for mark in _SEPARATORS)
        query = f"select id, kind, label, col from entity where col = :col and since <= :time and kind <> :run and ({marks})"  # noqa: S608 - no text of others
        values = {"end": end, "col": column, "time": time, "run": _RUN}
        return [self._entity(row) for row in self._ask(query, values)]

    def beginning(self, kind: str, prefix: str, time: float, most: int) -> list[NumberedEntity]:
        """Return the first things of a kind whose label begins with a text; of columns, those of the label itself."""
        holds = "label = :prefix" if kind == COLUMN else "label >= :prefix and label < :prefix || char(0x10ffff)"
        query = f"select id, kind, label, col from entity where {holds} and kind = :kind and since <= :time limit :most"  # noqa: S608 - no text of others
        values = {"prefix": prefix, "kind": KINDS.index(kind), "time": time, "most": most}
        return [self._entity(row) for row in self._ask(query, values)]

    def search(self, words: Sequence[str], most: int) -> list[NumberedEntity]:
        """Return the datasets, columns and jobs whose label or description has all words."""
        facets = ",".join(f"'{facet}'" for facet in _TEXTS)
        described = f"select entity from fact where facet in ({facets}) and value like ? escape '\\'"  # noqa: S608 - no text of others
        one = f"(label like ? escape '\\' or col like ? escape '\\' or id in ({described}))"
        query = (
            f"select id, kind, label, col from entity where kind <> {_RUN} and col <> '{WHOLE}' "  # noqa: S608 - no text of others
            f"and {' and '.join(one for _ in words)} order by kind, label, col limit ?"
        )
        texts = [f"%{_literal(word)}%" for word in words for _ in range(3)]
        return [self._entity(row) for row in self._ask(query, [*texts, most])]

    def facts(self, number: int) -> dict[str, Any]:
        """Return what is known of a thing, by facet."""
        rows = self._ask("select facet, value from fact where entity = ? order by facet", [number])
        return {facet: json.loads(value) for facet, value in rows}

    def text(self, number: int) -> str:
        """Return the description of a dataset, column or job, "" without one."""
        facts = self.facts(number)
        documentation = facts.get("documentation")
        told = documentation.get("description") if isinstance(documentation, dict) else facts.get("description")
        return told if isinstance(told, str) else ""

    def is_end(self, number: int) -> bool:
        """Return whether a thing is a job or run: what one run wrote is not computed from what another one read."""
        return self._ask("select kind from entity where id = ?", [number]).fetchone()[0] in (_JOB, _RUN)

    def direct(self, number: int, direction: Direction, time: float) -> list[NumberedEntity]:
        """Return what is one edge away from a thing by itself: of a dataset, datasets and jobs; of a job or run, datasets.

        Args:
            number: of the thing.
            direction: upstream or downstream.
            time: only edges that events of up to then tell of.
        """
        values = {"at": number, "time": time, "is_output": direction == "downstream"}
        return self._entities(_OF_JOB if self.is_end(number) else _DIRECT[direction], values)

    def units(self, number: int, direction: Direction, time: float) -> list[int]:
        """Return the runs that have written a dataset, or for downstream read it: what is beyond is in `of_unit`."""
        if self.is_end(number):
            return []
        return [unit for (unit,) in self._ask(_UNITS[direction], {"at": number, "time": time})]

    def of_unit(self, unit: int, direction: Direction, time: float) -> list[NumberedEntity]:
        """Return what a run has read, or for downstream what it has written that is computed from all of that."""
        return self._entities(_OF_UNIT[direction], {"at": unit, "time": time})

    def _entities(self, query: str, values: Mapping[str, object]) -> list[NumberedEntity]:
        rows = self._ask(f"select id, kind, label, col from entity where id in ({query})", values)  # noqa: S608 - no text of others
        return [self._entity(row) for row in rows]

    def _entity(self, row: tuple[int, int, str, str]) -> NumberedEntity:
        number, kind, label, column = row
        return NumberedEntity(number, KINDS[kind], label, column)


def _literal(text: str) -> str:
    """Return a text escaped for SQLite's LIKE."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
