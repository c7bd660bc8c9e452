"""How commands print: what they say may hold texts from outside, which say nothing to a terminal and to rich."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bikes_assets.core.secrets import scrubbed
from bikes_assets.core.texts import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column, Table


def displayed(text: object) -> str:
    """Return a text as a terminal may be shown it: what wraps it takes it without secrets, for in parts they are not known."""
    return plain(scrubbed(str(text)))


def say(text: object = "", *, colour: str | None = None, bold: bool | None = None, ends: bool = True) -> None:
    """Print a line.

    Args:
        text: the line; what would break it, or act on a terminal, stands there as an escape.
        colour: of the whole line, where there is a terminal.
        bold: whether it is bold there.
        ends: whether the line ends here.
    """
    click.secho(plain(text), fg=colour, bold=bold, nl=ends)


def say_wrapped(text: str, indent: str = "") -> None:
    """Print a text on as many lines of the terminal as it needs, broken at its spaces; on one where there is no terminal.

    Args:
        text: what is printed.
        indent: what each line begins with; all but the first, with two spaces more.
    """
    import shutil
    import textwrap

    lines = textwrap.wrap(
        displayed(text),
        shutil.get_terminal_size((100_000, 24)).columns,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    click.echo("\n".join(lines))


def say_json(line: str) -> None:
    """Print a line of JSON, which is ASCII, for programs: it stays what it is, and does nothing to a terminal either."""
    click.echo(line.replace("\x7f", "\\u007f"))  # the one control character that JSON allows as it is


def complain(message: object) -> None:
    """Print an error in red on standard error, line by line."""
    click.secho("\n".join(map(plain, str(message).split("\n"))), fg="red", err=True)


def terminal(**options: Any) -> Console:
    """Return rich's console, which takes every string, of a table too, for what it is: a line without marks.

    A line is printed whole however long it is. A table is no wider than the terminal: texts are folded in their cells, and names
    where there is no other way.

    Args:
        options: of rich's console, such as `stderr`.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    class Terminal(Console):
        def print(self, *objects: Any, **options: Any) -> None:
            for item in objects:
                if isinstance(item, Table):
                    _fit(item, self.width)
            if all(isinstance(item, str) for item in objects):
                options.setdefault("soft_wrap", True)
            super().print(*objects, **options)

        def render_str(
            self, text: str, *, style: Any = "", justify: Any = None, overflow: Any = None, **_: Any
        ) -> Text:
            return Text(displayed(text), style=style, justify=justify, overflow=overflow)

    return Terminal(highlight=False, **options)


def _fit(table: Table, width: int) -> None:
    """Have a table fold texts rather than names, which have no spaces, where that is enough for it to be that wide."""
    needed = 1
    names: list[Column] = []
    for column in table.columns:
        column.overflow = "fold"
        cells = [str(column.header), *map(str, column.cells)]
        if any(" " in cell for cell in cells[1:]):
            cells = [word for cell in cells for word in cell.split()]
        else:
            names.append(column)
        needed += 3 + max(map(len, cells), default=0)
    if needed <= width:
        for column in names:
            column.no_wrap = True
