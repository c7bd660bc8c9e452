"""Which functions of a code version can contribute to some columns of a table, by the names in their source texts.

A column function has the name of its column (see `core.columns`). Code that only the functions of other columns reach
does not contribute to the columns in question; any other code may.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

_WORD = re.compile(r"[^\W\d]\w*")


def contributing(texts: Mapping[str, str], columns: Collection[str], asked: Collection[str]) -> set[str]:
    """Return the functions that may contribute to the columns in question.

    Args:
        texts: source text of each function, class or constant of a code version, by its dotted name; "" where it is not
            known.
        columns: columns of the table that they make.
        asked: the columns in question.
    """
    if not all(texts.values()):
        return {*texts}
    by_name: dict[str, list[str]] = {}
    for place in texts:
        by_name.setdefault(place.rpartition(".")[2], []).append(place)
    makers = {name: by_name[name] for name in columns if name in by_name}
    named = {place: {word for word in _WORD.findall(text) if word in by_name} for place, text in texts.items()}

    def reached(starts: Collection[str], within: Collection[str]) -> set[str]:
        """Return what some functions reach, themselves included, within some functions."""
        found, waiting = set[str](), [*starts]
        while waiting:
            place = waiting.pop()
            if place in within and place not in found:
                found.add(place)
                waiting += [other for word in named[place] for other in by_name[word]]
        return found

    of_columns = {place for places in makers.values() for place in places}
    of_asked = {place for name, places in makers.items() if name in asked for place in places}
    others = {*texts} - of_columns
    by_columns = reached(of_columns, texts)
    # code that does not depend on a column, such as code that assembles them, may contribute to any
    apart = others - by_columns
    return reached(of_asked, texts) | reached(apart, others)
