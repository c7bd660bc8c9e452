"""A report in its two forms as tests read it: the JSON, and the page as a person sees it."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from bikes_assets.governance.report.structure import decimals, shown_number

FORBIDDEN = {
    "script",
    "link",
    "img",
    "iframe",
    "object",
    "embed",
    "form",
    "base",
    "audio",
    "video",
    "animate",
    "image",
    "use",
}
"""Elements that load or run something; none of them is in a report."""


class ReadPage(HTMLParser):
    """The page of a report.

    Attributes:
        tags: its elements, each with its attributes.
        sections: the rows of each section's tables, by the section's name: texts of the cells.
        texts: the text of each section.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.sections, self.texts = (
            list[tuple[str, dict[str, str | None]]](),
            dict[str, Any](),
            dict[str, str](),
        )
        self._section, self._in_body, self._in_cell = "", False, False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("header", "section"):
            self._section = str(dict(attrs).get("id") or "summary")
            self.sections[self._section], self.texts[self._section] = [], ""
        elif tag == "tbody":
            self._in_body = True
        elif tag == "tr" and self._in_body:
            self.sections[self._section].append([])
        elif tag in ("td", "th") and self._in_body:
            self.sections[self._section][-1].append("")
            self._in_cell = True
        elif tag == "div" and self._in_cell:
            self.sections[self._section][-1][-1] += "\n"

    def handle_endtag(self, tag: str) -> None:
        if tag == "tbody":
            self._in_body = False
        elif tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._section:
            self.texts[self._section] += data
        if self._in_cell:
            self.sections[self._section][-1][-1] += data


def shown_in_cell(value: Any, kind: str, places: int | None) -> str:
    """Return how the page has to show a value of the JSON."""
    if value is None or value in ("", []):
        return "–"  # noqa: RUF001 - the dash of the page
    if isinstance(value, bool):
        return {True: "passed", False: "failed"}[value] if kind == "check" else {True: "yes", False: "no"}[value]
    if isinstance(value, int | float):
        return shown_number(value, places)
    return ", ".join(value) if isinstance(value, list) else str(value)


def table(document: dict[str, Any], section: str, name: str) -> list[dict[str, Any]]:
    """Return the rows of a table of the JSON."""
    return document["sections"][section]["tables"][name]["rows"]


def places_of(rows: list[dict[str, Any]], name: str) -> int:
    """Return with how many decimal places the page has to show the numbers of a column."""
    return decimals([row[name] for row in rows])
