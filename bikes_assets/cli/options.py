"""Arguments and options that several commands have, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COUNT, SEED = click.IntRange(1, 10_000), click.IntRange(0, 2**32 - 1)


class _File(click.Path):
    """A file's path; an empty one is refused, as it would be the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("found an empty file name, expected a file", param, ctx)
        return super().convert(value, param, ctx)


def _not_blank(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    """Refuse an empty text."""
    if not text.strip():
        raise click.BadParameter("found a blank text, expected a reason")
    return text


def _addresses(context: click.Context, _parameter: click.Parameter, text: str) -> Sequence[str]:
    """Return the addresses that begin with a text, for shell completion."""
    from bikes_assets.app import answers
    from bikes_assets.cli import project_option

    project_option.choose(context.find_root().params.get("project"))
    return answers.begun(text)


def address(name: str = "address", **more: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the decorator of an argument that is an address, which shells complete."""
    return click.argument(name, shell_complete=_addresses, **more)


addresses = address("addresses", nargs=-1, metavar="[ADDRESS]...")
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document: {command, version, items}.")
as_of = click.option("--as-of", metavar="TIME", help="As it was then, such as 2012-08-14T17:00.")
FILE = _File(dir_okay=False, path_type=Path)
file = click.argument("file", required=False, type=FILE)
reason = click.option("--reason", required=True, callback=_not_blank, help="Why; it is recorded.")
