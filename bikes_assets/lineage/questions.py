"""Questions of lineage to an index of any project's event log."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bikes_assets.core.errors import LineageError
from bikes_assets.lineage import queries
from bikes_assets.lineage.event_log import refresh
from bikes_assets.lineage.index import Index
from bikes_assets.lineage.projection import Projection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from bikes_assets.core.schema import Schema
    from bikes_assets.lineage.elements import Answer, Direction, Result

MOST_WORDS = 50
"""Number of words that are searched at most: thousands of them would take minutes."""


class Questions:
    """The questions of lineage to an index of events.

    Args:
        refreshed: returns the index, brought up to date with the event log; each question calls it first.
    """

    def __init__(self, refreshed: Callable[[], Index]) -> None:
        self.refreshed = refreshed

    def upstream(
        self, address: str, *, level: str | None = None, depth: int | None = None, as_of: str | datetime | None = None
    ) -> Answer:
        """Return all that contributed to what an address names, nearest first.

        Args:
            address: a dataset, column, partition, version, column of a version, registered version, alias, tag, file,
                code or run. An alias or a registered version is resolved to the version that it names.
            level: what is asked about, one of `lineage.queries.KINDS` such as `column`; by default what the address
                names.
            depth: how many edges to go at most, None for all.
            as_of: time that counts, such as 2012-08-14T17:00; without an offset it is local time. None for now.

        Raises:
            LineageError: there is nothing of that name at that time.
        """
        index, event = self.at(as_of)
        answer = queries.walk(index, address, "upstream", level=level, depth=depth, as_of=event)
        return self._with_picture(answer, address, "upstream", as_of)

    def downstream(
        self, address: str, *, level: str | None = None, depth: int | None = None, as_of: str | datetime | None = None
    ) -> Answer:
        """Return all that what an address names contributed to, nearest first: its impact. See `upstream`."""
        index, event = self.at(as_of)
        answer = queries.walk(index, address, "downstream", level=level, depth=depth, as_of=event)
        return self._with_picture(answer, address, "downstream", as_of)

    def paths(self, start: str, end: str, *, as_of: str | datetime | None = None) -> tuple[int, Iterator[list[Result]]]:
        """Return how many paths lead from one thing downstream to another, and the paths one by one."""
        index, event = self.at(as_of)
        return queries.paths(index, start, end, as_of=event)

    def search(self, words: str, *, most: int = 50) -> list[Result]:
        """Return what matches all words, by whole word or prefix: datasets and columns (name, meaning, unit), models, tags.

        Tracked files are found by name, MD5 and revision.

        Raises:
            LineageError: there are more words than any search needs.
        """
        given = [*dict.fromkeys(words.split())]
        if len(given) > MOST_WORDS:
            raise LineageError(f"found {len(given):,} words to search, expected at most {MOST_WORDS}")
        return self.refreshed().search(" ".join(given), most=most)

    def _with_picture(self, answer: Answer, address: str, direction: Direction, as_of: str | datetime | None) -> Answer:
        """Return an answer that can be drawn; its edges are asked for only then."""

        def drawn() -> str:
            from bikes_assets.lineage.drawing.answers import drawing

            try:
                index, event = self.at(as_of)
                start = queries.find(index, address, as_of=event)
            except LineageError:  # it is no longer there; the table still is
                return ""
            return drawing(index, start, answer.things, f"{direction} of {address}", as_of=event)

        return replace(answer, drawn=drawn)

    def at(self, as_of: str | datetime | None) -> tuple[Index, int | None]:
        """Return the index, and its last event by that time, None for now."""
        index = self.refreshed()
        return index, queries.event_by(index, as_of)


class LineageIndex(Questions):
    """An index of a project's event log in one file, which each question brings up to date; one thread may ask it.

    Args:
        file: the SQLite file; it is written where there is none, and can be deleted at any time.
        storage: DAGSTER_HOME of an instance on SQLite, or the URL of the database that has the event log.
        schemas: the declared schema of each asset, which says what columns mean; others have the columns that were
            recorded.
    """

    def __init__(self, file: Path, storage: str, schemas: Mapping[str, Schema] | None = None) -> None:
        index, declared = Index(file), schemas or {}
        super().__init__(lambda: refresh(index, storage, lambda index: Projection(index, declared)))
