"""Texts from outside, as people, terminals and pages can safely show them: names, values, reasons, output of other programs.

Only this module decides what in a text may take effect where it is shown: control sequences of a terminal, Markdown,
HTML, and its length. Everything else is shown literally, so that people see what the text contains.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NOT_IN_CODE_VERSION = True
"""How a text is shown does not contribute to rows."""
MOST = 1000
"""Number of characters shown of one name or value."""
MOST_OF_MESSAGE = 8000
"""Number of characters of the longest message, which may hold several names and values."""

_ACTS = re.compile(r"[\\`*|~$]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])")
"""Characters that mean something in Markdown; a `_` within a word does not."""


def plain(text: object) -> str:
    """Return a text on one line, with control characters and invisible ones written as Python's escapes."""
    told = str(text)
    return told if told.isprintable() else "".join(char if char.isprintable() else _escaped(char) for char in told)


def shortened(text: str, most: int = MOST) -> str:
    """Return a text; of one that is too long, its beginning, its end and its number of characters."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}... ({len(text):,} characters) ...{text[-half:]}"


def counted(count: int, what: str) -> str:
    """Return a number of things in words: `1 partition`, `2,000 versions`, `3 code`, which has no plural."""
    return f"{count:,} {what}{'' if count == 1 or what == 'code' else 's'}"


def newest(versions: Iterable[int], most: int = 5) -> str:
    """Return the newest of some versions, newest first, and how many older ones there are: `31, 25, 20 and 3 older`."""
    known = sorted(versions, reverse=True)
    older = len(known) - most
    return ", ".join(map(str, known[:most])) + (f" and {older:,} older" if older > 0 else "")


def markdown(text: object) -> str:
    """Return a text escaped for a page in Markdown."""
    return _ACTS.sub(r"\\\g<0>", html.escape(plain(text), quote=False))


def markdown_table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table in Markdown."""
    lines = [[*map(markdown, row)] for row in (names, *rows)]
    first, *others = (f"| {' | '.join(cells)} |" for cells in lines)
    return [first, "|" + "---|" * len(names), *others]


def markup(text: object) -> str:
    """Return a text escaped for HTML or SVG."""
    return html.escape(plain(text))


def _escaped(char: str) -> str:
    return ascii(char)[1:-1]
