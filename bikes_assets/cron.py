"""Cron expressions, checked without Dagster, which takes a second to import."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PART = re.compile(r"(?:(?P<every>[*?l])|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:#\d|/(?P<step>\d+))?")


@dataclass(frozen=True, slots=True)
class _Field:
    least: int
    most: int
    names: tuple[str, ...] = ()
    every: str = "*"

    def holds(self, text: str) -> bool:
        return all(self._is_part(part) for part in text.split(","))

    def _is_part(self, text: str) -> bool:
        found = _PART.fullmatch(text)
        if not found or (found["every"] and found["every"] not in self.every):
            return False
        ends = [self._number(end) for end in (found["first"], found["last"]) if end]
        return all(self.least <= end <= self.most for end in ends) and int(found["step"] or 1) > 0

    def _number(self, text: str) -> int:
        if text in self.names:
            return self.names.index(text) + self.least
        return int(text) if text.isdecimal() else -1


_FIELDS = (
    _Field(0, 59),
    _Field(0, 23),
    _Field(1, 31, every="*?l"),
    _Field(1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    _Field(0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat"), every="*?"),
)


_NAMED = [["@hourly"], ["@daily"], ["@midnight"], ["@weekly"], ["@monthly"], ["@yearly"], ["@annually"]]


def checked(text: str) -> str:
    """Return a cron expression as it is.

    Raises:
        ValueError: it is none.
    """
    fields = text.lower().split()
    if fields in _NAMED:
        return text
    if len(fields) != len(_FIELDS) or not all(field.holds(part) for field, part in zip(_FIELDS, fields, strict=True)):
        raise ValueError(
            f"found {text!r}, expected a cron expression: minute, hour, day, month and day of the week, such as 0 6 * * *"
        )
    return text
