"""How commands print: external text in their output must not control the terminal or act as rich markup."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bikes_assets.core.secrets import scrubbed
from bikes_assets.core.texts import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column, Table


def displayed(text: object) -> str:
    """Return a text that is safe to show; secrets are removed before wrapping, which would hide parts of them."""
    return plain(scrubbed(str(text)))


def say(text: object = "", *, colour: str | None = None, bold: bool | None = None, ends: bool = True) -> None:
    """Print a line.

    Args:
        text: the line; characters that would break it, or control a terminal, are escaped.
        colour: colour of the whole line, on a terminal.
        bold: whether it is bold, on a terminal.
        ends: whether to end the line.
    """
    click.secho(plain(text), fg=colour, bold=bold, nl=ends)


def say_wrapped(text: str, indent: str = "") -> None:
    """Print a text wrapped at spaces to the terminal's width; on one line without a terminal.

    Args:
        text: text to print.
        indent: indentation of the first line; further lines have two more spaces.
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
    """Print a line of JSON for programs: it is ASCII, so it is printed unchanged and cannot control a terminal."""
    click.echo(line.replace("\x7f", "\\u007f"))  # the one control character that JSON allows unescaped


def complain(message: object) -> None:
    """Print an error in red on standard error, line by line."""
    click.secho("\n".join(map(plain, str(message).split("\n"))), fg="red", err=True)


def terminal(**options: Any) -> Console:
    """Return rich's console, which prints every string literally, in tables too: without markup.

    A line is never wrapped, however long it is. A table is no wider than the terminal: texts are folded in their cells,
    and names only if that is not enough.

    Args:
        options: options of rich's console, such as `stderr`.
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
    """Make a table fold texts rather than names, which have no spaces, if that is enough to fit the width."""
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
