"""Random and near-miss arguments of every command, on a real store: an answer or one line of error, and no torn table."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from rich.cells import cell_len

from bikes_assets.app import answers, snapshot
from bikes_assets.cli import main
from bikes_assets.lineage import queries
from bikes_assets.lineage.elements import RUN
from bikes_assets_tests.fire.processes import turns

ANSWERS_NO = {"diff", "downstream", "path", "retain", "run", "search", "status", "sync", "verify"}
"""Commands of which 1 is an answer."""
LONG = {"check-lineage", "explore", "mcp", "reproduce", "setup", "tune", "ui"}
"""Commands that take long, serve, or write outside of the store: they are given arguments that they must refuse."""
MONTHS = ("2011-01", "2011-03", "2011-07", "2011-08", "2012-13", "1999-01")
TIMES = (
    "2011-03-14T17:00",
    "2011-06-01",
    "yesterday",
    "now",
    "today",
    "",
    "2012-13-01",
    "0001-01-01",
    "9999-12-31T23:59:59",
)
NUMBERS = ("1", "2", "7", "0", "-1", "1e3", "x", "", "99999999999999999999")
TEXTS = (
    "a reason",
    "",
    " ",
    "[bold]x[/bold]",
    "x\ny",
    "\x1b[2J",
    "東京 🚲",
    "-",
    "--",
    "%s",
    "*",
    "NULL",
    "x" * 20_000,
    "\udcff",
    "\0",
    "[[]]",
    '"a"."b"["c"]',
    "../../etc/passwd",
    "'; drop table nodes; --",
    "demand_model@" + "9" * 40,
    "demand_features[2011-02]@-1",
    "demand_features[]",
    "run:",
)


class Arguments:
    """Draws arguments for commands.

    Args:
        names: what there is in the store.
        files: files and folders that there are, and some that are not.
        seed: the same seed, the same arguments.
    """

    def __init__(self, names: Sequence[str], files: Sequence[str], seed: int) -> None:
        self.names, self.files, self.random = names, files, random.Random(seed)

    def drawn(self) -> list[str]:
        """Return the arguments of one call, its command first."""
        draw = self.random
        name = draw.choice(sorted(main.commands))
        command = main.commands[name]
        found = [text for param in command.params for text in self._param(param)]
        if name in LONG or (name == "run" and "--force" in found):
            found.append(draw.choice(("--forse", "--jsn", "--trial=3", "-x")))
        elif draw.random() < 0.1:
            found.insert(draw.randrange(len(found) + 1), draw.choice(("--help", "--jsn", "extra", *TEXTS)))
        return [self._missed(name) if draw.random() < 0.03 else name, *found]

    def _param(self, param: click.Parameter) -> Iterator[str]:
        draw = self.random
        if isinstance(param, click.Argument):
            if param.nargs == -1:
                yield from (self._value(param) for _ in range(draw.choice((0, 1, 1, 2))))
            elif draw.random() < (0.95 if param.required else 0.8):
                yield self._value(param)
        elif isinstance(param, click.Option) and draw.random() < (0.95 if param.required else 0.3):
            yield param.opts[0]
            if not param.is_flag:
                yield self._value(param)

    def _value(self, param: click.Parameter) -> str:
        draw, name = self.random, str(param.name)
        if isinstance(param.type, click.Path):
            return draw.choice(self.files)
        if isinstance(param.type, click.Choice):
            pool: Sequence[str] = [*map(str, param.type.choices)]
        elif isinstance(param.type, (click.types.IntParamType, click.IntRange)):
            pool = NUMBERS
        elif name in ("since", "as_of"):
            pool = TIMES
        elif name in ("month", "months", "before"):
            pool = MONTHS
        elif name == "reason":
            pool = TEXTS
        else:
            pool = self.names
        text = draw.choice(pool)
        what = draw.random()
        return self._missed(text) if what < 0.2 else draw.choice((*TEXTS, *TIMES, *NUMBERS)) if what < 0.3 else text

    def _missed(self, text: str) -> str:
        """Return a text that is nearly another: a character less, twice, or another one, or the end gone."""
        draw = self.random
        at = draw.randrange(len(text)) if text else 0
        return draw.choice(
            (
                text[:at] + text[at + 1 :],
                text[:at] + text[at : at + 1] * 2 + text[at + 1 :],
                text[:at] + draw.choice("[]@.#\"'x0 -") + text[at + 1 :],
                text[:at],
            )
        )


def rows_of(shown: str) -> Iterator[tuple[str, str]]:
    """Yield the lines of tables with the first line of theirs."""
    first = ""
    for line in shown.splitlines():
        first = line if line.lstrip().startswith("┏") else first
        if first:
            yield first, line
        first = "" if line.lstrip().startswith("└") else first


def faults(arguments: Sequence[str], done: Result, width: int) -> Iterator[str]:
    """Yield what is wrong with what a command did."""
    command = arguments[0] if arguments[0] in main.commands else ""
    if done.exception and not isinstance(done.exception, SystemExit):
        yield f"it raised {done.exception!r}"
    if "Traceback" in done.output:
        yield "it printed a traceback"
    errors = [line for line in done.stderr.splitlines() if line.lower().startswith("error: ")]
    is_usage = "Usage: " in done.stderr or "which is not UTF-8" in done.stderr
    expected = {2} if is_usage or errors else {0, *({1} & {command in ANSWERS_NO})}
    if done.exit_code not in expected:
        yield f"its exit code is {done.exit_code}, expected {expected}"
    if len(errors) > 1:
        yield f"it told {len(errors)} errors"
    for first, line in rows_of(done.stdout):
        if cell_len(line) != cell_len(first) or cell_len(line) > width:
            yield f"a table is torn: {line}"
    if (
        command == "deployments"
        and "--json" not in arguments
        and any(cell_len(line) > width for line in done.stdout.splitlines())
    ):
        yield "its table is wider than the terminal"


@pytest.mark.soak
def test_any_arguments_get_an_answer_or_one_line_of_error(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.json").write_text("{}")
    files = ["text.json", "none.json", "no/such/folder.json", ".", "", "new.json"]
    monkeypatch.setattr(snapshot, "default_file", lambda: tmp_path / "lineage.lock.json")
    index = answers.refreshed()
    names = [name for kind in queries.KINDS if kind != RUN for name in index.names(kind)]
    rows = ("demand_predictions[2011-07]#2011-07-14T17:00", "demand_predictions.prediction[2011-07]#2011-07-14T99:00")
    drawn = Arguments([*names, *rows, *MONTHS, "temperature", "nothing"], files, seed=1)
    wrong: list[Any] = []
    for _ in turns(1000):
        arguments, width = drawn.drawn(), drawn.random.choice((80, 100, 120))
        monkeypatch.setenv("COLUMNS", str(width))
        done = CliRunner().invoke(main, arguments, prog_name="bikes")
        shown = [text if len(text) < 200 else f"{text[:80]}... ({len(text)} characters)" for text in arguments]
        wrong += [(shown, width, fault, done.output[-2000:]) for fault in faults(arguments, done, width)]
    assert not wrong, "\n".join(map(str, wrong))
