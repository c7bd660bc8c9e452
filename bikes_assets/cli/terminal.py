"""How commands print: external text in their output must not control the terminal or act as rich markup."""

from __future__ import annotations

import json
import shutil
import textwrap
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from bikes_assets.core.secrets import scrubbed
from bikes_assets.core.texts import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from rich.console import Console
    from rich.table import Table

JSON_VERSION = 1
"""Version of the form in which `--json` answers; a field that is renamed or dropped is a new version."""


def displayed(text: object) -> str:
    """Return a text that is safe to show; secrets are removed before wrapping, which would hide parts of them."""
    return plain(scrubbed(str(text)))


def say(*lines: object, colour: str | None = None, bold: bool | None = None, ends: bool = True) -> None:
    """Print lines.

    Args:
        lines: the lines; characters that would break one, or control a terminal, are escaped.
        colour: colour of whole lines, on a terminal.
        bold: whether they are bold, on a terminal.
        ends: whether to end the lines.
    """
    for line in lines:
        click.secho(plain(line), fg=colour, bold=bold, nl=ends)


def say_wrapped(text: str, indent: str = "", colour: str | None = None, *, folds: bool = False) -> None:
    """Print a text wrapped at spaces to the terminal's width; on one line without a terminal.

    Args:
        text: text to print.
        indent: indentation of the first line; further lines have two more spaces.
        colour: its colour, on a terminal.
        folds: whether a word that is longer than a line is folded.
    """
    lines = textwrap.wrap(
        displayed(text),
        shutil.get_terminal_size((100_000, 24)).columns,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=folds,
        break_on_hyphens=False,
    )
    click.secho("\n".join(lines), fg=colour)


def print_json(items: Iterable[Mapping[str, Any]]) -> None:
    """Print the answer of the command that is running as one JSON document, with each item on a line of its own.

    It is ASCII, so it is printed unchanged and cannot control a terminal.
    """
    head = f'"command": {json.dumps(_command())}, "version": {JSON_VERSION}'
    lines = ",\n".join(map(json.dumps, items))
    document = f'{{{head}, "items": [\n{lines}\n]}}' if lines else f'{{{head}, "items": []}}'
    click.echo(document.replace("\x7f", "\\u007f"))  # the one control character that JSON allows unescaped


def _command() -> str:
    """Return the name of the command that is running, with that of the group that it is in: `openlineage status`."""
    context, names = click.get_current_context(), list[str]()
    while context is not None and (context.parent or not names):
        names.insert(0, context.info_name or "")
        context = context.parent
    return " ".join(names)


def complain(message: object) -> None:
    """Print an error in red on standard error, line by line."""
    click.secho("\n".join(map(plain, str(message).split("\n"))), fg="red", err=True)


def terminal(**options: Any) -> Console:
    """Return rich's console, which prints every string literally, in tables too: without markup.

    Args:
        options: options of rich's console, such as `stderr`.
    """
    from rich.console import Console
    from rich.text import Text

    class Terminal(Console):
        def render_str(
            self, text: str, *, style: Any = "", justify: Any = None, overflow: Any = None, **_: Any
        ) -> Text:
            return Text(displayed(text), style=style, justify=justify, overflow=overflow)

    return Terminal(highlight=False, **options)


def print_table(
    texts: Sequence[str],
    numbers: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str = "",
    lines: bool = True,
) -> None:
    """Print a table that is no wider than the terminal: texts are folded in their cells, names only if they must be.

    Args:
        texts: names of its first columns.
        numbers: names of the columns after these, which are aligned at the right.
        rows: cells of each row.
        title: title above it.
        lines: whether to draw lines around the cells; without them there is more space for text.
    """
    from rich.box import HEAVY_HEAD, SIMPLE
    from rich.table import Column, Table

    table = Table(
        *texts,
        *(Column(name, justify="right") for name in numbers),
        title=title or None,
        title_justify="left",
        box=HEAVY_HEAD if lines else SIMPLE,
        padding=(0, 1) if lines else (0, 1, 0, 0),
    )
    for row in rows:
        table.add_row(*map(str, row))
    console = terminal()
    _fit(table, console.width)
    console.print(table)


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a progress bar; the yielded function takes the current step, how much is done, and the total, if known.

    Without a terminal nothing is printed before the first step, so that an argument refused before it gives one line.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:8}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=terminal(stderr=True))
    task = bar.add_task("starting", total=None)
    with ExitStack() as shown:
        if bar.console.is_terminal:
            shown.enter_context(bar)

        def show(name: str, done: int, total: int | None) -> None:
            bar.update(task, description=plain(name), completed=done, total=total)
            if not bar.live.is_started:
                shown.enter_context(bar)

        yield show


def _fit(table: Table, width: int) -> None:
    """Make a table fold texts and headers rather than names and numbers, if that is enough to fit the width."""
    whole: list[int] = []
    least: list[int] = []
    texts: list[bool] = []
    for column in table.columns:
        column.overflow = "fold"
        cells, header = [*map(str, column.cells)], str(column.header)
        texts.append(column.justify != "right" and any(" " in cell for cell in cells))
        words = [word for cell in cells for word in cell.split()] if texts[-1] else cells
        whole.append(max(map(len, (header, *cells))))
        least.append(max(map(len, (*header.split(), *words)), default=0))
    gaps = 1 + len(table.columns) * (1 + table.padding[1] + table.padding[3])
    if gaps + sum(whole) > width >= gaps + sum(least):
        for column, most, is_text in zip(table.columns, least, texts, strict=True):
            column.width = None if is_text else most
