"""`bikes`: the project's commands. Heavy libraries are imported by the commands that need them."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bikes_assets.app.settings import settings
from bikes_assets.cli.reports.terminal import complain, say, say_json
from bikes_assets.core import secrets
from bikes_assets.core.errors import LineageError, StoreError
from bikes_assets.core.faults import away, store_fault
from bikes_assets.core.record import parse_address
from bikes_assets.storage.processes import end_as_interrupted

if TYPE_CHECKING:
    from collections.abc import Callable

    from bikes_assets.lineage.packed import Direction


_PIPE = 141
"""Exit code when the reader of a pipe has closed it, as shells report it for other programs."""

LEVELS = {
    "dataset": "dataset",
    "column": "column",
    "partition": "partition",
    "version": "version",
    "column-version": "column version",
    "model-version": "model version",
    "alias": "alias",
    "tag": "tag",
    "file": "file",
    "code": "code",
    "run": "run",
}
"""Kinds of things that `--level` accepts."""

FAMILIES = {
    "Run": ("setup", "run", "status", "sync", "ui"),
    "Ask": ("upstream", "downstream", "path", "trace", "diff", "search", "columns", "index", "waste"),
    "Prove": ("check-lineage", "reproduce", "snapshot", "verify"),
    "Models": ("deployments", "evaluate", "pin", "unpin", "tune"),
    "Keep and remove": ("retain", "hold", "release"),
}
"""The commands by purpose, as `bikes --help` lists them."""

_DAGSTER_PORT, _MLFLOW_PORT = 3000, 5000
_COUNT, _SEED, _PORT = click.IntRange(1, 10_000), click.IntRange(0, 2**32 - 1), click.IntRange(1, 65_535)


class _File(click.Path):
    """A file's path; an empty one is refused, as it would be the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("found an empty file name, expected a file", param, ctx)
        return super().convert(value, param, ctx)


_FILE = _File(dir_okay=False, path_type=Path)


def _not_blank(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    """Refuse an empty text."""
    if not text.strip():
        raise click.BadParameter("found a blank text, expected a reason")
    return text


_reason = click.option("--reason", required=True, callback=_not_blank, help="Why; it is recorded.")


class _Group(click.Group):
    """Prints the project's own errors, and an unusable store, as one line that says what to do."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run a command: secrets are removed from its output, a closed pipe is no error, signals act as Ctrl-C."""
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
            if not isinstance(unwritten[0], BrokenPipeError):
                complain(f"error: what is printed cannot be written: {unwritten[0].strerror}")
            sys.exit(_PIPE if isinstance(unwritten[0], BrokenPipeError) else 1)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse arguments that are not valid text: they would be recorded, and readers of the record might fail."""
        for argument in args:
            try:
                argument.encode()
            except UnicodeEncodeError:
                complain(f"error: found argument {argument!r}, which is not UTF-8; expected text")
                ctx.exit(2)
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the commands by purpose."""
        width = max(map(len, self.commands))
        for family, names in FAMILIES.items():
            with formatter.section(family):
                most = formatter.width - 6 - width
                formatter.write_dl(
                    [(f"{name:{width}}", self.commands[name].get_short_help_str(most)) for name in names]
                )

    def invoke(self, ctx: click.Context) -> object:
        # an interruption is reported below, in one line, and not by SQLAlchemy too, with a traceback
        logging.getLogger("sqlalchemy").addHandler(logging.NullHandler())
        try:
            return super().invoke(ctx)
        except Exception as error:
            if error in _output_errors():
                raise  # the error is about what is printed
            told = _own_error(error) or _no_folder(error) or store_fault(error, _home()) or away(error)
            if not told:
                raise
            complain(f"error: {told}")
            sys.exit(2 if ctx.invoked_subcommand in ("diff", "reproduce", "verify") else 1)  # for these, 1 is an answer
        except BaseException as error:
            # Dagster turns Ctrl-C into its own interruption, and SIGTERM and SIGHUP are made to act as Ctrl-C
            if type(error).__name__ not in ("KeyboardInterrupt", "DagsterExecutionInterruptedError"):
                raise
            click.echo("Interrupted: what was published stands, the rest is as it was; run again to go on.", err=True)
            sys.exit(130)


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
        sys.exit(1)


def _output_errors() -> list[OSError]:
    """Return errors of writing to standard output; it is watched from the first call on."""
    output: Any = sys.stdout
    if hasattr(output, "_output_errors"):
        return output._output_errors
    output._output_errors = found = list[OSError]()

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*arguments: Any) -> Any:
            try:
                return call(*arguments)
            except OSError as error:
                found.append(error)
                raise

        return noting

    output.write, output.flush = watched(output.write), watched(output.flush)
    return found


def _own_error(error: BaseException | None) -> LineageError | None:
    """Return the first of our errors among an error and its causes: Dagster wraps errors while it loads definitions."""
    while error and not isinstance(error, LineageError):
        error = error.__cause__
    return error


def _home() -> str:
    """Return the folder to name when an error of the file system names none itself."""
    try:
        return str(settings().dagster_home)
    except LineageError:
        return "a folder"


def _no_folder(error: Exception) -> LineageError | None:
    """Return the message for a missing folder for temporary files, None for any other error."""
    if isinstance(error, FileNotFoundError) and "No usable temporary directory" in str(error):
        return StoreError(f"TMPDIR: {error.strerror}; set it to a folder that this user may write to")
    return None


def _begun(_context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    """Return the addresses that begin with a text, for shell completion."""
    from bikes_assets.app import answers

    return answers.begun(text)


@click.group(cls=_Group)
def main() -> None:
    """Hourly bike-sharing demand, with the lineage of every number."""


@main.command()
def setup() -> None:
    """Prepare DAGSTER_HOME and write .env."""
    from bikes_assets.cli import runner as runs

    say(f"DAGSTER_HOME={runs.setup()}")


@main.command()
@click.option("--month", "months", multiple=True, help="Only this month, such as 2012-08; may be repeated.")
@click.option("--force", is_flag=True, help="Make it again even where nothing has changed.")
def run(months: tuple[str, ...], force: bool) -> None:
    """Materialize what is stale, missing or failed. Months are materialized in order; bikes status says why each is."""
    from bikes_assets.cli import runner as runs
    from bikes_assets.cli.reports.runs import print_summary, progress_bar

    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # it would log each table that it creates
    runs.ready()
    with progress_bar() as show:
        summary = runs.run_history(months or None, show, force=force)
    print_summary(summary)
    if summary.failed or summary.waiting:
        sys.exit(1)


@main.command()
@click.argument("addresses", nargs=-1, shell_complete=_begun, metavar="[ADDRESS]...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for each partition.")
def status(addresses: tuple[str, ...], as_json: bool) -> None:
    """List what is fresh, stale, missing or failed, and why. Exit code 1 when not everything is fresh.

    ADDRESS, such as demand_features or demand_features[2012-08], restricts it to an asset or a partition. For a
    partition, it also lists when each version was materialized, why, and what changed in it.
    """
    from bikes_assets.app import answers
    from bikes_assets.cli import runner as runs
    from bikes_assets.cli.reports.runs import print_makings, print_status, status_line

    found = runs.status_of(addresses)
    made = {item.address: answers.makings(item.address) for item in found if item.address in addresses}
    if as_json:
        for item in found:
            say_json(status_line(item, made.get(item.address)))
    else:
        print_status(found)
        for makings in made.values():
            print_makings(makings)
    if any(item.state not in ("fresh", "skipped") for item in found):
        sys.exit(1)


def _walked(direction: Direction) -> Callable[[Callable[..., None]], click.Command]:
    """Return a decorator that makes a command follow lineage, with the options of both directions."""

    def decorate(function: Callable[..., None]) -> click.Command:
        for option in (
            click.option("--json", "as_json", is_flag=True, help="One JSON object a line."),
            click.option("--runs", is_flag=True, help="List the runs, too."),
            click.option("--as-of", metavar="TIME", help="As it was then, such as 2012-08-14T17:00."),
            click.option("--depth", type=click.IntRange(1), help="How far to go; by default to the end."),
            click.option("--level", type=click.Choice([*LEVELS]), help="What to list; by default what ADDRESS names."),
            click.argument("address", required=direction == "upstream", shell_complete=_begun),
        ):
            function = option(function)
        return main.command(name=direction)(function)

    return decorate


@_walked("upstream")
def upstream(
    address: str, level: str | None, depth: int | None, as_of: str | None, *, runs: bool, as_json: bool
) -> None:
    """List what ADDRESS was made from, as a tree. By default, it lists things of ADDRESS's own kind; see --level.

    Each is listed once, under the nearest thing made from it; [2011-01..2011-05]@1..5 are five partitions and their
    versions.

    ADDRESS is demand_features, demand_features.temperature, demand_features[2012-08], demand_features[2012-08]@20,
    demand_features.temperature[2012-08], demand_model@3, demand_model@champion, or a tag, file, code version or run.
    """
    from bikes_assets.app import answers
    from bikes_assets.cli.reports.answers import print_answer

    found = answers.upstream(address, level=LEVELS.get(level or ""), depth=depth, as_of=as_of)
    what = f"upstream of {answers.named(address, as_of=as_of)}"
    print_answer(found, what, "upstream", as_of=as_of, runs=runs, as_json=as_json)


@_walked("downstream")
@click.option("--change", is_flag=True, help="Of the working tree's code, where it differs from what was made last.")
def downstream(
    address: str | None,
    level: str | None,
    depth: int | None,
    as_of: str | None,
    *,
    runs: bool,
    as_json: bool,
    change: bool,
) -> None:
    """List what was made from ADDRESS, as a tree. This is the impact of a change; for addresses, see bikes upstream.

    With --change and no ADDRESS, list what is downstream of the functions that were edited since everything was
    materialized; exit code 1 when there is any.
    """
    from bikes_assets.app import answers
    from bikes_assets.cli.reports.answers import print_answer, print_changes

    if change == bool(address):
        raise click.UsageError("expected an ADDRESS, or --change without one")
    if address:
        found = answers.downstream(address, level=LEVELS.get(level or ""), depth=depth, as_of=as_of)
        what = f"downstream of {answers.named(address, as_of=as_of)}"
        print_answer(found, what, "downstream", as_of=as_of, runs=runs, as_json=as_json)
        return
    from bikes_assets.cli.runner import plan

    changes, found = answers.changed(plan())
    print_changes(changes, found, as_json=as_json)
    if changes:
        sys.exit(1)


@main.command()
@click.argument("start", shell_complete=_begun)
@click.argument("end", shell_complete=_begun)
@click.option("--as-of", metavar="TIME", help="As it was then, such as 2012-08-14T17:00.")
@click.option("--most", default=20, show_default=True, type=_COUNT, help="How many ways are shown; all are counted.")
@click.option("--json", "as_json", is_flag=True, help="One JSON list of addresses a line.")
def path(start: str, end: str, as_of: str | None, most: int, as_json: bool) -> None:
    """List the paths from START downstream to END. Exit code 1 when there is none.

    If one end is a column, a table, partition or version at the other end means any of its columns.
    """
    from bikes_assets.app import answers
    from bikes_assets.cli.reports.answers import print_paths

    count, ways = answers.paths(start, end, as_of=as_of)
    print_paths(start, end, count, ways, most, as_of=as_of, as_json=as_json)
    if not count:
        sys.exit(1)


@main.command()
@click.argument("a", shell_complete=_begun)
@click.argument("b", shell_complete=_begun)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def diff(a: str, b: str, as_json: bool) -> None:
    """Explain why two versions of one asset differ. Root causes (rows, code, settings) come first.

    A and B are addresses of versions, such as demand_model@3, demand_model@champion, demand_features[2012-08]@20, or
    demand_features[2012-08] for the current one. Differences that cannot have contributed are listed apart.

    Exit code 0 when their content is equal, 1 when it differs, 2 when they cannot be compared.
    """
    from bikes_assets.app import answers
    from bikes_assets.cli.reports.diff import print_difference

    found = answers.diff(a, b)
    print_difference(found, as_json=as_json)
    if not found.equal:
        sys.exit(1)


@main.command()
@click.argument("address", shell_complete=_begun)
@click.option("--json", "as_json", is_flag=True, help="All of it as one JSON object.")
def trace(address: str, as_json: bool) -> None:
    """Show where one row's values came from. Model, features, raw rows and file are as recorded, with verified digests.

    ADDRESS is demand_predictions[2012-08]#2012-08-14T17:00, demand_predictions.prediction[2012-08]#2012-08-14T17:00 for
    one column, or demand_predictions[2012-08]@18#2012-08-14T17:00 as of a table version.
    """
    from bikes_assets.app import answers
    from bikes_assets.cli.reports.trace import print_trace

    print_trace(answers.trace(address), as_json=as_json)


@main.command()
@click.argument("addresses", nargs=-1, shell_complete=_begun, metavar="[ADDRESS]...")
@click.option(
    "--all", "everything", is_flag=True, help="Every partition's present version, and every registered model's."
)
@click.option(
    "--here", is_flag=True, help="With the code, settings and source that are here now, not with the recorded ones."
)
@click.option(
    "--stored", is_flag=True, help="Take what cannot be made again, upstream of it, as it is stored, checked."
)
@click.option(
    "--trust-lake", "trusted", is_flag=True, help="Run code that only a lake holds to which others can write."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for each version.")
def reproduce(
    addresses: tuple[str, ...], *, everything: bool, here: bool, stored: bool, trusted: bool, as_json: bool
) -> None:
    """Rebuild versions from their records and compare them. The store is not changed.

    ADDRESS is demand_model@3, demand_model@champion, demand_features[2012-08]@20, or demand_features[2012-08].
    Everything upstream of it is rebuilt as well, from the source on, by the code of the recorded commit.

    Exit code 0 when all are as recorded, or equal within the tolerance, 1 when one differs, 2 when one cannot be
    rebuilt.
    """
    from bikes_assets.app import reproduction as again
    from bikes_assets.cli import runner as runs
    from bikes_assets.cli.reports.reproduction import print_reproductions
    from bikes_assets.cli.reports.runs import progress_bar

    if everything == bool(addresses):
        raise click.UsageError("expected an ADDRESS, or --all without one")
    with progress_bar() as show:
        plan = runs.plan() if here else None
        found = again.reproduce(addresses or again.live(), here=plan, stored=stored, trusted=trusted, progress=show)
    print_reproductions(found, as_json=as_json)
    if any(item.verdict == "different" for item in found):
        sys.exit(1)


@main.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def search(words: tuple[str, ...], as_json: bool) -> None:
    """Find tables, columns, models and tags. Names, meanings and units are searched; exit code 1 without a match."""
    from bikes_assets.app import answers
    from bikes_assets.cli.reports.answers import print_found

    found = answers.search(" ".join(words))
    print_found(found, as_json=as_json)
    if not found:
        sys.exit(1)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="All of it as one JSON object.")
def waste(as_json: bool) -> None:
    """Show what nobody reads and where the time goes. It also lists unchanged rematerializations."""
    from bikes_assets.app import answers
    from bikes_assets.cli.reports.answers import print_waste

    print_waste(answers.waste(), as_json=as_json)


@main.command("check-lineage")
@click.option("--seed", default=0, show_default=True, type=_SEED, help="Seed of the perturbations.")
@click.option("--json", "as_json", is_flag=True, help="All of it as one JSON object.")
def check_lineage(seed: int, as_json: bool) -> None:
    """Verify the features' column lineage by perturbation. Exit code 1 when the code contradicts the declaration.

    Every run verifies it on its own months before features are published; this command verifies it on all months. It
    also shows which inputs move the newest model's prediction.
    """
    from bikes_assets.app import column_lineage
    from bikes_assets.cli.reports.proofs import print_proofs
    from bikes_assets.cli.reports.runs import progress_bar

    with progress_bar() as show:
        evidence = column_lineage.of_features(
            seed, lambda check, tables: show(f"{check}, perturbed tables", tables, None)
        )
        tables = evidence.trials + evidence.blocked_trials
        show("inputs of the newest model", tables, None)
        model = column_lineage.of_model(seed)
        show("done", tables, tables)
    print_proofs(evidence, model, as_json=as_json)
    if not evidence.holds:
        sys.exit(1)


@main.command()
@click.option("--rebuild", is_flag=True, help="Make it anew from nothing.")
def index(rebuild: bool) -> None:
    """Update the lineage index. It follows Dagster's event log; every query updates it by itself."""
    from bikes_assets.app import answers

    found = answers.rebuild() if rebuild else answers.refreshed()
    say(f"{found.path}: up to date with event {found.cursor:,}")


@main.command()
@click.option("--markdown", is_flag=True, help="As a page of Markdown: docs/columns.md.")
def columns(markdown: bool) -> None:
    """Print every table's columns. For each: type, unit, allowed values, what it is computed from and what it means."""
    from bikes_assets.cli.reports.columns import columns_page, print_columns

    if markdown:
        click.echo(columns_page(), nl=False)
    else:
        print_columns()


@main.command()
@click.argument("model")
@click.option("--month", required=True, help="Month that the model is to serve.")
@_reason
def pin(model: str, month: str, reason: str) -> None:
    """Promote MODEL for a month. MODEL is like demand_model[2012-06]; materialize champion_model to apply it."""
    from bikes_assets.app.store import PINS, lake
    from bikes_assets.cli import runner as runs
    from bikes_assets.governance import pins

    asset, fitted_for, version = parse_address(model)
    if asset != "demand_model" or fitted_for is None:
        raise LineageError(f"found model {model!r}, expected one like demand_model[2012-06]")
    runs.check_served(month)
    with runs.opened() as instance:
        made = pins.pin(
            lake(),
            instance,
            pins=PINS,
            partition=month,
            model=asset,
            fitted_for=fitted_for,
            reason=reason,
            version=version,
        )
    say(f"{made.address}: {asset}[{fitted_for}] serves {month} from its next champion_model on")


@main.command()
@click.option("--month", required=True, help="Month whose pin is lifted.")
@_reason
def unpin(month: str, reason: str) -> None:
    """Lift a month's pin. Materialize champion_model to let the best model serve the month again."""
    from bikes_assets.app.store import PINS, lake
    from bikes_assets.cli import runner as runs
    from bikes_assets.governance import pins

    with runs.opened() as instance:
        made = pins.unpin(lake(), instance, pins=PINS, partition=month, reason=reason)
    say(f"{made.address}: the best model serves {month} from its next champion_model on")


@main.command()
@click.option("--month", help="Only this month, such as 2012-08.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with everything that is known of each.")
def deployments(month: str | None, as_json: bool) -> None:
    """List which model was promoted for which month, and why. With --json also when, by whom and from which code."""
    from bikes_assets.app.store import PINS, lake
    from bikes_assets.cli import runner as runs
    from bikes_assets.cli.reports.runs import print_deployments
    from bikes_assets.governance import deployments as history

    found = [item for item in history.deployments(lake(), PINS) if month in (None, item.partition)]
    if month is not None and not found:
        runs.check_served(month)
    if as_json:
        for item in found:
            say_json(item.to_json())
    else:
        print_deployments(found, month)


@main.command()
def sync() -> None:
    """Reconcile run states, events and MLflow. It lists what was done; exit code 1 when something is left."""
    from bikes_assets.app import answers
    from bikes_assets.cli import runner as runs
    from bikes_assets.cli.reports.runs import print_agreement

    result = runs.agree()
    answers.refreshed()
    print_agreement(result)
    if result.left or result.refused:
        sys.exit(1)


@main.command()
@click.option("--since", required=True, help="First hour that is judged, such as 2012-08-07T12:00.")
@click.option("--by", type=click.Choice(["month", "hour", "weather"]), help="Errors by group, beside the baseline's.")
def evaluate(since: str, by: str | None) -> None:
    """Print the accuracy on the rows from an hour on. For the published predictions, and one fit on earlier rows."""
    from bikes_assets.cli.reports.accuracy import print_evaluation, print_quality

    if by:
        print_quality(since, by)
    else:
        print_evaluation(since)


@main.command()
@click.option(
    "--trials", default=20, show_default=True, type=_COUNT, help="Number of recipes; the first is the present default."
)
@click.option("--seed", default=0, show_default=True, type=_SEED, help="Seed of the draws.")
@click.option(
    "--before", help="First month that is not looked at; by default, and at the latest, the hold-out's first."
)
@click.option("--groups", is_flag=True, help="Judge what each group of features adds instead.")
def tune(trials: int, seed: int, before: str | None, groups: bool) -> None:
    """Search for a better recipe. It reads no hold-out month; each trial is an MLflow run, kept after Ctrl-C."""
    from bikes_assets.app import tuning as searches
    from bikes_assets.cli.reports.runs import progress_bar
    from bikes_assets.cli.reports.trials import print_trials
    from bikes_assets.demand import tuning

    context = click.get_current_context()
    if groups and any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in ("trials", "seed")):
        raise click.UsageError("found --groups with --trials or --seed, expected it without: its recipes are not drawn")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    before = before or tuning.HOLD_OUT
    recipes = tuning.ablations() if groups else searches.drawn(trials, seed)
    params = {"groups": True} if groups else {"trials": trials, "seed": seed}
    name = "feature groups" if groups else f"tune, {trials} trials, seed {seed}"
    done: list[searches.Trial] = []
    stopped = False
    try:
        with progress_bar() as show:
            searches.search(recipes, name=name, before=before, params=params, progress=show, done=done.append)
    except KeyboardInterrupt:
        stopped = True
    print_trials(done if groups else searches.ranked(done), before, of=len(recipes))
    if stopped:
        sys.exit(130)


@main.command()
@click.option("--dagster-port", default=_DAGSTER_PORT, show_default=True, type=_PORT)
@click.option("--mlflow-port", default=_MLFLOW_PORT, show_default=True, type=_PORT)
@click.option("--read-only", is_flag=True, help="Dagster to look at: it changes nothing, and no daemon runs.")
def ui(dagster_port: int, mlflow_port: int, *, read_only: bool) -> None:
    """Open Dagster and MLflow on 127.0.0.1. Dagster's daemon runs too; Ctrl-C stops all.

    If MLflow is already a server, no other is started for it.
    """
    from bikes_assets.cli import runner as runs
    from bikes_assets.cli import servers

    mlflow = settings().tracking_uri
    is_served = mlflow.startswith("http")
    if dagster_port == mlflow_port and not is_served:
        raise click.UsageError(f"found port {dagster_port} twice, expected one for Dagster and another for MLflow")
    dagster_url = f"http://127.0.0.1:{dagster_port}"
    mlflow_url = secrets.shown(mlflow).replace("***@", "") if is_served else f"http://127.0.0.1:{mlflow_port}"
    for name, url in (("BIKES_DAGSTER_URL", dagster_url), ("BIKES_MLFLOW_URL", mlflow_url)):
        os.environ.setdefault(name, url)  # links from one page to the other
    settings.cache_clear()

    with runs.opened():
        pass  # by now lake, event log and MLflow carry the same store id
    if (dagster_port, mlflow_port) != (_DAGSTER_PORT, _MLFLOW_PORT):
        say(
            "Links in what was materialized before lead to the ports of that time: docs/mlflow.md says how to set them."
        )
    commands = {f"Dagster  {dagster_url}": servers.dagster_command(dagster_port, read_only=read_only)}
    if not is_served:
        commands[f"MLflow   {servers.mlflow_page(mlflow_url)}"] = servers.mlflow_command(mlflow_port)
    servers.serve_until_interrupted(commands, ports=(dagster_port, *(() if is_served else (mlflow_port,))))


@main.command()
@click.argument("file", required=False, type=_FILE)
def snapshot(file: Path | None) -> None:
    """Write what the store holds to FILE. By default lineage.lock.json, for version control; see bikes verify."""
    from bikes_assets.app import snapshot as snapshots
    from bikes_assets.cli import runner as runs
    from bikes_assets.cli.reports.snapshot import print_snapshot

    place = file or snapshots.FILE
    print_snapshot(snapshots.write(runs.plan(), place), place)


@main.command()
@click.argument("file", required=False, type=_FILE)
@click.option("--deep", is_flag=True, help="Read and check all that is stored, too: files, rows, models, their copies.")
@click.option("--json", "as_json", is_flag=True, help="All of it as one JSON object.")
def verify(file: Path | None, *, deep: bool, as_json: bool) -> None:
    """Compare the store with the snapshot in FILE. By default that is lineage.lock.json.

    Exit code 0 when the content is the same, 1 when it differs or is damaged, 2 when it cannot be compared. What was
    rematerialized with an unchanged digest counts as the same.
    """
    from bikes_assets.app import snapshot as snapshots
    from bikes_assets.cli import runner as runs
    from bikes_assets.cli.reports.snapshot import print_verification, progress

    with progress(deep) as show:
        found = snapshots.verify(runs.plan(), file or snapshots.FILE, deep=deep, progress=show)
    print_verification(found, as_json=as_json)
    if not found.is_same:
        sys.exit(1)


@main.command()
@click.option(
    "--days", default=90, show_default=True, type=click.IntRange(1), help="For how many days a version stays."
)
@click.option("--apply", "applied", is_flag=True, help="Remove what may go; without it nothing is changed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for each version, model file and hold.")
def retain(days: int, applied: bool, as_json: bool) -> None:
    """Show which versions nothing live needs. It also says why the others stay; --apply removes rows and model files.

    Live versions are the current version of each partition, those with a hold or an alias, and recent ones; everything
    that they were made from stays too. Records, events and the index are never removed. Exit code 1 when MLflow was
    unreachable.
    """
    from bikes_assets.app import retention
    from bikes_assets.cli.reports.retention import print_retention

    found = retention.apply(days) if applied else retention.look(days)
    print_retention(found, applied=applied, as_json=as_json)
    if found.left:
        complain(f"error: {found.left}")
        sys.exit(1)


@main.command()
@click.argument("address", shell_complete=_begun)
@_reason
def hold(address: str, reason: str) -> None:
    """Keep a version and all that it was made from. The version that ADDRESS currently names is kept until released.

    ADDRESS is demand_features[2012-08]@20, demand_features[2012-08], demand_model@3 or demand_model@champion.
    """
    from bikes_assets.app import retention
    from bikes_assets.cli.reports.retention import print_holds

    print_holds([retention.hold(address, reason)], "held")


@main.command()
@click.argument("address", shell_complete=_begun)
@_reason
def release(address: str, reason: str) -> None:
    """Lift holds. Those that were put under ADDRESS, or on the version that it names, are lifted."""
    from bikes_assets.app import retention
    from bikes_assets.cli.reports.retention import print_holds

    print_holds(retention.release(address, reason), "released")
