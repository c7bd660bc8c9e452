"""Validation of cron expressions without Dagster, which takes a second to import."""

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

    def takes(self, text: str, number: int) -> bool:
        """Return whether a valid field includes a number; for steps, whether its range does."""
        for part in text.split(","):
            found = _PART.fullmatch(part)
            assert found  # noqa: S101 - the field is valid
            if found["every"] or found["step"]:
                return True
            first = self._number(found["first"])
            if first <= number <= (self._number(found["last"]) if found["last"] else first):
                return True
        return False

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


_LENGTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_NAMED = [["@hourly"], ["@daily"], ["@midnight"], ["@weekly"], ["@monthly"], ["@yearly"], ["@annually"]]


def checked(text: str) -> str:
    """Return a valid cron expression unchanged.

    Raises:
        ValueError: it is not valid.
    """
    fields = text.lower().split()
    if fields in _NAMED:
        return text
    if len(fields) != len(_FIELDS) or not all(field.holds(part) for field, part in zip(_FIELDS, fields, strict=True)):
        raise ValueError(
            f"found {text!r}, expected a cron expression: minute, hour, day, month and day of the week, such as 0 6 * * *"
        )
    if _never_comes(fields[2], fields[3]):
        raise ValueError(f"found {text!r}, expected a cron expression of a day that comes: no such month has that day")
    return text


def _never_comes(day: str, month: str) -> bool:
    """Return whether the days of the month exist in none of the months."""
    if not re.fullmatch(r"[\d,-]+", day):
        return False
    earliest = min(int(part.partition("-")[0]) for part in day.split(","))
    return earliest > max(length for number, length in enumerate(_LENGTHS, 1) if _FIELDS[3].takes(month, number))
