"""Texts from outside, as people, terminals and pages may be shown them: names, values, reasons, what other programs say.

Here alone it is decided what of a text may act where it is shown: control sequences of a terminal, marks of Markdown, HTML, and
its length. A text is shown as it is written, so that people see what stands there.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NOT_IN_CODE_VERSION = True
"""How a text is shown has no part in rows."""
MOST = 1000
"""Characters that are shown of one name or value."""
MOST_OF_MESSAGE = 8000
"""Characters of the longest message, which may hold several names and values."""

_ACTS = re.compile(r"[\\`*|~$]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])")
"""What Markdown takes for a mark; a `_` within a word is none."""


def plain(text: object) -> str:
    """Return a text on one line, in which control characters, and those that are not seen, stand as Python's escapes."""
    told = str(text)
    return told if told.isprintable() else "".join(char if char.isprintable() else _escaped(char) for char in told)


def shortened(text: str, most: int = MOST) -> str:
    """Return a text, or of one that is too long, its beginning and its end, and how many characters it has."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}... ({len(text):,} characters) ...{text[-half:]}"


def counted(count: int, what: str) -> str:
    """Return how many there are of what, in words: `1 partition`, `2,000 versions`, `3 code`, which has no plural."""
    return f"{count:,} {what}{'' if count == 1 or what == 'code' else 's'}"


def newest(versions: Iterable[int], most: int = 5) -> str:
    """Return the newest of some versions, newest first, and how many older ones there are: `31, 25, 20 and 3 older`."""
    known = sorted(versions, reverse=True)
    older = len(known) - most
    return ", ".join(map(str, known[:most])) + (f" and {older:,} older" if older > 0 else "")


def markdown(text: object) -> str:
    """Return a text for a page in Markdown, where it means nothing but itself."""
    return _ACTS.sub(r"\\\g<0>", html.escape(plain(text), quote=False))


def markdown_table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table in Markdown."""
    lines = [[*map(markdown, row)] for row in (names, *rows)]
    first, *others = (f"| {' | '.join(cells)} |" for cells in lines)
    return [first, "|" + "---|" * len(names), *others]


def markup(text: object) -> str:
    """Return a text for HTML or SVG, where it means nothing but itself."""
    return html.escape(plain(text))


def _escaped(char: str) -> str:
    return ascii(char)[1:-1]
