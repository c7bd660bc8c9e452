"""`bikes`: the project's commands. A family of commands is imported when one of them is called."""

from __future__ import annotations

import gc
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from enum import IntEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from bikes_assets.cli import project_option
from bikes_assets.cli.terminal import complain
from bikes_assets.core import secrets
from bikes_assets.storage.processes import end_as_interrupted

if TYPE_CHECKING:
    from collections.abc import Callable

FAMILIES = {
    "runs": {
        "setup": "Prepare DAGSTER_HOME and write .env.",
        "run": "Materialize what is stale, missing or failed.",
        "status": "List what is fresh, stale, missing or failed, and why.",
        "sync": "Reconcile run states, events and MLflow.",
        "ui": "Open Dagster, MLflow and the lineage page on 127.0.0.1.",
    },
    "lineage": {
        "upstream": "List what contributed to ADDRESS, as a tree.",
        "downstream": "List what ADDRESS contributed to, as a tree.",
        "path": "List the paths from START downstream to END.",
    },
    "versions": {
        "trace": "Show where one row's values came from.",
        "diff": "Explain why two versions of one asset differ.",
    },
    "catalog": {
        "search": "Find tables, columns, models and tags.",
        "columns": "Print every table's columns.",
        "waste": "Show what nobody reads and where the time goes.",
        "index": "Update the lineage index.",
        "export": "Write a view of the lineage to a file.",
    },
    "servers": {
        "explore": "Open the lineage page.",
        "mcp": "Answer questions of agents over MCP.",
    },
    "verification": {
        "check-lineage": "Verify the features' column lineage by perturbation.",
        "reproduce": "Rebuild versions from their records and compare them.",
        "snapshot": "Write what the store holds to FILE.",
        "verify": "Compare the store with the snapshot in FILE.",
    },
    "models": {
        "report": "Report on a fitted model, as a page or JSON.",
        "deployments": "List which model was promoted for which month, and why.",
        "evaluate": "Print the accuracy on the rows from an hour on.",
        "pin": "Promote MODEL for a month.",
        "unpin": "Lift a month's pin.",
        "tune": "Search for a better recipe.",
    },
    "openlineage": {
        "openlineage": "Exchange OpenLineage's events with other tools.",
    },
    "audit": {
        "audit": "Sign, verify and export the log of what was decided.",
    },
    "retention": {
        "retain": "Show which versions nothing live needs.",
        "hold": "Keep a version and all that it was materialized from.",
        "release": "Lift holds.",
    },
}
"""The commands of each module of this package, with the first sentences of their descriptions, as `--help` lists them."""


class ExitCode(IntEnum):
    """Exit codes. A command that returns False has answered `DIFFERENT`; an error, whatever the command, is `ERROR`."""

    DONE = 0
    DIFFERENT = 1
    ERROR = 2
    INTERRUPTED = 130
    PIPE_CLOSED = 141


class _Commands(Mapping[str, click.Command]):
    """The commands by name. Looking one up imports its family; listing their names imports nothing."""

    def __getitem__(self, name: str) -> click.Command:
        for family, names in FAMILIES.items():
            if name in names:
                return getattr(import_module(f"{__package__}.{family}"), name.replace("-", "_"))
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for names in FAMILIES.values() for name in names)

    def __len__(self) -> int:
        return sum(map(len, FAMILIES.values()))


class _Group(click.Group):
    """Prints the project's own errors, and an unusable store, as one line that says what to do."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run a command: secrets are removed from its output, a closed pipe is no error, signals act as Ctrl-C."""
        # what is imported stays: with Python's default of 700 new objects, looking for garbage in it takes a tenth of a run
        gc.set_threshold(50_000, 20, 20)
        _open_streams()
        secrets.guard()
        unwritten = _output_errors()
        _check_environment()
        end_as_interrupted()
        try:
            return super().main(*arguments, **options)
        except (SystemExit, OSError):  # a command always exits in the end
            with suppress(OSError):
                sys.stdout.flush()
            if not unwritten:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # otherwise Python would try again at exit, and complain
            if isinstance(unwritten[0], BrokenPipeError):
                sys.exit(ExitCode.PIPE_CLOSED)
            complain(f"error: what is printed cannot be written: {unwritten[0].strerror}")
            sys.exit(ExitCode.ERROR)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse arguments that are not valid text: they would be recorded, and readers of the record might fail."""
        for argument in args:
            try:
                argument.encode()
            except UnicodeEncodeError:
                complain(f"error: found argument {argument!r}, which is not UTF-8; expected text")
                ctx.exit(ExitCode.ERROR)
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the commands by family."""
        width = max(map(len, self.commands))
        for family, names in FAMILIES.items():
            with formatter.section(family.capitalize()):
                formatter.write_dl([(f"{name:{width}}", about) for name, about in names.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that begin with a text, without importing any command."""
        names = (item for family in FAMILIES.values() for item in family.items() if item[0].startswith(incomplete))
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=about) for name, about in names), *options]

    def invoke(self, ctx: click.Context) -> None:
        # an interruption is reported below, in one line, and not by SQLAlchemy too, with a traceback
        logging.getLogger("sqlalchemy").addHandler(logging.NullHandler())
        try:
            answer = super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if error in _output_errors():
                raise  # the error is about what is printed
            from bikes_assets.app.store import explained

            if told := explained(error):
                complain(f"error: {told}")
            else:
                traceback.print_exc()
            ctx.exit(ExitCode.ERROR)
        except BaseException as error:
            # Dagster turns Ctrl-C into its own interruption, and SIGTERM and SIGHUP are made to act as Ctrl-C
            if type(error).__name__ not in ("KeyboardInterrupt", "DagsterExecutionInterruptedError"):
                raise
            click.echo("Interrupted: what was published stands, the rest is as it was; run again to go on.", err=True)
            ctx.exit(ExitCode.INTERRUPTED)
        if answer is False:
            ctx.exit(ExitCode.DIFFERENT)


def _open_streams() -> None:
    """Make sure that the three standard streams are open: the next opened file would take the place of a closed one."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - it stays open


def _check_environment() -> None:
    """Set HOME for a user without one, and end if the command is that of a copied environment.

    A copied environment would run the original project on the original store. Libraries ask for a home but write
    nothing.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/nonexistent"
    called = Path(sys.argv[0])
    environment = called.absolute().parents[1] if called.name == "bikes" and called.is_file() else None
    if environment and (environment / "pyvenv.cfg").exists() and not environment.samefile(sys.prefix):
        complain(
            f"error: {environment}: found a copied or moved environment, which runs the project of {sys.prefix}; run make setup "
            f"in {environment.parent}"
        )
        sys.exit(ExitCode.ERROR)


def _output_errors() -> list[OSError]:
    """Return errors of writing to standard output; it is watched from the first call on."""
    output: Any = sys.stdout
    if hasattr(output, "_output_errors"):
        return output._output_errors
    output._output_errors = errors = list[OSError]()

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*arguments: Any) -> Any:
            try:
                return call(*arguments)
            except OSError as error:
                errors.append(error)
                raise

        return noting

    output.write, output.flush = watched(output.write), watched(output.flush)
    return errors


@click.group(
    cls=_Group,
    commands=_Commands(),  # pyright: ignore[reportArgumentType] - it is only read
    epilog="Exit codes: 0 done, 1 different or not found, 2 error, 130 interrupted.",
)
@click.option("--project", metavar="MODULE", help=project_option.HELP)
@click.pass_context
def main(context: click.Context, project: str | None) -> None:
    """Hourly bike-sharing demand, with the lineage of every number."""
    project_option.use(context, project)
