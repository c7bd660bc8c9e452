"""`bikes report`, `deployments`, `evaluate`, `pin`, `unpin` and `tune`, and what they print."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from bikes_assets.app import tuning as searches
from bikes_assets.app.notebook import load
from bikes_assets.app.store import current, lake
from bikes_assets.cli import options, runner
from bikes_assets.cli.commands import ExitCode
from bikes_assets.cli.terminal import print_json, print_table, progress_bar, say
from bikes_assets.core.address import Address
from bikes_assets.core.errors import LineageError, NothingToDo
from bikes_assets.core.record import parse_address
from bikes_assets.core.secrets import scrubbed
from bikes_assets.core.texts import counted
from bikes_assets.demand import tuning
from bikes_assets.governance import deployments as history
from bikes_assets.project import PINS

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from bikes_assets.app.tuning import Trial
    from bikes_assets.governance.deployments import Deployment
    from bikes_assets.governance.report.structure import ModelReport


@click.command()
@click.option("--month", help="Only this month, such as 2012-08.")
@options.as_json
def deployments(month: str | None, as_json: bool) -> None:
    """List which model was promoted for which month, and why. With --json also when, by whom and from which code."""
    listed = [item for item in history.deployments(lake(), current().pins) if month in (None, item.partition)]
    if month is not None and not listed:
        runner.check_served(month)
    if as_json:
        print_json(json.loads(item.to_json()) for item in listed)
    else:
        print_deployments(listed, month)


@click.command()
@click.option("--since", required=True, help="First hour that is evaluated, such as 2012-08-07T12:00.")
@click.option("--by", type=click.Choice(["month", "hour", "weather"]), help="Errors by group, beside the baseline's.")
def evaluate(since: str, by: str | None) -> None:
    """Print the accuracy on the rows from an hour on. For the published predictions, and one fit on earlier rows."""
    if by:
        _print_by_group(since, by)
    else:
        _print_scores(since)


@click.command()
@options.address("model")
@click.option("--html", "file", type=options.FILE, help="Write the whole report to this file, as one page.")
@options.as_json
def report(model: str, file: Path | None, as_json: bool) -> None:
    """Report on a fitted model, as a page or JSON. Without either, a summary is printed.

    MODEL is demand_model@3, demand_model@champion, or demand_model[2012-08]@18. What is not known is called not
    declared, not recorded or not verified. The page loads nothing and runs nothing, and prints to PDF.
    """
    from bikes_assets.app.report.model_report import model_report
    from bikes_assets.governance.report.page import as_html
    from bikes_assets.storage import disk

    written = model_report(model)
    if file is not None:
        with disk.named(file, "page") as write:
            write(scrubbed(as_html(written)).encode())
    if as_json:
        print_json([written.to_dict()])
        return
    print_report(written)
    say(f"Wrote {file}" if file else f"The whole report: bikes report {shlex.quote(model)} --html report.html")


@click.command()
@click.argument("model")
@click.option("--month", required=True, help="Month that the model is to serve.")
@options.reason
def pin(model: str, month: str, reason: str) -> None:
    """Promote MODEL for a month. MODEL is like demand_model[2012-06]; materialize champion_model to apply it."""
    from bikes_assets.governance import pins

    asset, fitted_for, version = parse_address(model)
    if asset != "demand_model" or fitted_for is None:
        raise LineageError(f"found model {model!r}, expected one like demand_model[2012-06]")
    runner.check_served(month)
    with runner.opened() as instance:
        pinned = pins.pin(
            lake(),
            instance,
            pins=PINS,
            partition=month,
            model=asset,
            fitted_for=fitted_for,
            reason=reason,
            version=version,
        )
    runner.audited()
    say(f"{pinned.address}: {asset}[{fitted_for}] serves {month} from its next champion_model on")


@click.command()
@click.option("--month", required=True, help="Month whose pin is lifted.")
@options.reason
def unpin(month: str, reason: str) -> None:
    """Lift a month's pin. Materialize champion_model to let the best model serve the month again."""
    from bikes_assets.governance import pins

    with runner.opened() as instance:
        lifted = pins.unpin(lake(), instance, pins=PINS, partition=month, reason=reason)
    runner.audited()
    say(f"{lifted.address}: the best model serves {month} from its next champion_model on")


@click.command()
@click.option(
    "--trials",
    default=20,
    show_default=True,
    type=options.COUNT,
    help="Number of recipes; the first is the current default.",
)
@click.option("--seed", default=0, show_default=True, type=options.SEED, help="Seed of the draws.")
@click.option(
    "--before", help="First month that is not looked at; by default, and at the latest, the hold-out's first."
)
@click.option("--groups", is_flag=True, help="Evaluate what each group of features adds instead.")
def tune(trials: int, seed: int, before: str | None, groups: bool) -> None:
    """Search for a better recipe. It reads no hold-out month; each trial is an MLflow run, kept after Ctrl-C."""
    context = click.get_current_context()
    if groups and any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in ("trials", "seed")):
        raise click.UsageError("found --groups with --trials or --seed, expected it without: its recipes are not drawn")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    before = before or tuning.HOLD_OUT
    recipes = tuning.ablations() if groups else searches.drawn(trials, seed)
    params = {"groups": True} if groups else {"trials": trials, "seed": seed}
    name = "feature groups" if groups else f"tune, {trials} trials, seed {seed}"
    done: list[Trial] = []
    stopped = False
    try:
        with progress_bar() as show:
            searches.search(recipes, name=name, before=before, params=params, progress=show, done=done.append)
    except KeyboardInterrupt:
        stopped = True
    print_trials(done if groups else searches.ranked(done), before, of=len(recipes))
    if stopped:
        context.exit(ExitCode.INTERRUPTED)


def print_deployments(listed: Sequence[Deployment], month: str | None = None) -> None:
    """Print which model was promoted for which month, with its RMSE, the next best RMSE and why, in 80 columns.

    Args:
        listed: deployments to print.
        month: only this month, None for all.
    """
    if not listed:
        say(f"No model was promoted or pinned{f' for {month}' if month else ''} yet.")
        return
    places = [Address.parse(item.model) for item in listed if item.model]
    assets = {place.asset if place and place.column is None and place.partition else "" for place in places}
    asset = assets.pop() if len(assets) == 1 else ""
    rows: list[tuple[str, ...]] = []
    for item in listed:
        scores = [item.rmse.get(item.model), _next_best(item)]
        evaluated_on = Address.parse(item.validated_on)
        reason = item.reason.removesuffix(f" on {evaluated_on.partition}" if evaluated_on else "")
        texts = ("" if score is None else f"{score:.1f}" for score in scores)
        rows.append((item.partition, item.action, item.model.removeprefix(asset), reason, *texts))
    print_table(["month", "action", asset or "model", "why"], ["RMSE", "next best"], rows, lines=False)


def print_report(report: ModelReport) -> None:
    """Print the summary of a report, and how many items of each document it covers, in 80 columns."""
    from bikes_assets.governance.report.coverage import STATES
    from bikes_assets.governance.report.structure import shown_number

    summary, coverage = report.sections[0], report.sections[-1]
    same = "" if report.name == report.address else f" ({report.address})"
    say(f"{report.name}{same}, {report.kind}", bold=True)
    lines = [(row["name"], row["value"]) for table in summary.tables for row in table.rows]
    rows = ((name, shown_number(value) if isinstance(value, int | float) else value) for name, value in lines)
    print_table(["model", report.name], [], rows, lines=False)
    counts = [
        (table.title, *(sum(row["state"] == state for row in table.rows) for state in STATES))
        for table in coverage.tables
    ]
    print_table(["items of"], STATES, counts, lines=False)


def _next_best(item: Deployment) -> float | None:
    """Return the lowest RMSE of the models that were not promoted, the baseline included."""
    return min((rmse for model, rmse in item.rmse.items() if model != item.model), default=None)


def _print_scores(since: str) -> None:
    """Print the accuracy of the published predictions and of one fit, on the rows from `since` on."""
    from bikes_assets.demand import champion, features
    from bikes_assets.demand.model import Recipe

    fixed = champion.fixed_cut(load("demand_features"), _hour(since).isoformat(), features.FEATURE_NAMES, Recipe())
    scores = {"walk-forward, each month's champion": published_scores(since), "one fit on the rows before": fixed}
    rows = (
        (name, f"{of['rows']:,.0f}", f"{of['r2']:.4f}", *(f"{of[key]:.1f}" for key in ("rmse", "mae", "bias")))
        for name, of in scores.items()
    )
    names = ["rows", "R2", "RMSE", "MAE", "bias"]
    print_table([""], names, rows, title=f"Accuracy on the rows from {since} on")


def _print_by_group(since: str, by: str) -> None:
    """Print the errors of the published predictions on the rows from `since` on, by group, next to the baseline's."""
    from bikes_assets.demand.evaluation import scores_by

    digits = {"rows": 0, "r2": 3, "rmse": 1, "baseline_rmse": 1, "skill": 3, "bias": 1}
    rows = (
        (group, *(f"{scores[key]:,.{places}f}" for key, places in digits.items()))
        for group, scores in scores_by(_errors(since), by).items()
    )
    print_table([by], ["rows", "R2", "RMSE", "baseline", "skill", "bias"], rows)


def published_scores(since: str | None = None) -> dict[str, float]:
    """Return the scores of all published predictions, or of those from an hour on.

    Raises:
        NothingToDo: there are no predictions.
    """
    from bikes_assets.demand.evaluation import scores

    errors = _errors(since)
    return scores(errors["actual"], errors["prediction"])


def _errors(since: str | None) -> pd.DataFrame:
    errors = load("prediction_quality")
    errors = errors if since is None else errors[errors["ts"] >= _hour(since)]
    if errors.empty:
        raise NothingToDo("there are no predictions to evaluate; run bikes run first")
    return errors


def _hour(text: str) -> pd.Timestamp:
    """Return the time that a text denotes.

    Raises:
        LineageError: it is not a time, or has a timezone.
    """
    import pandas as pd

    try:
        hour = datetime.fromisoformat(text)
    except ValueError:
        hour = None
    if hour is None or hour.tzinfo:
        raise LineageError(f"found time {text!r}, expected one like 2012-08-07T12:00")
    return pd.Timestamp(hour)


def print_trials(trials: Sequence[Trial], before: str, of: int) -> None:
    """Print evaluated recipes, in the order given, compared with the current default: the first 15, and the default.

    R2 is the mean of walk-forward's and the fixed cuts' R2, `by month` is walk-forward's alone, `better in` counts the
    months with a lower error, and RMSE, in rentals/hour, is walk-forward's.
    """
    usual = next((trial.evaluation for trial in trials if trial.name == "default"), None)
    evaluated = [(trial, trial.evaluation) for trial in trials if trial.evaluation]
    evaluated = [item for rank, item in enumerate(evaluated) if rank < 15 or item[1] is usual]
    rows: list[tuple[str, ...]] = []
    for trial, scores in evaluated:
        gain = better = ""
        if usual and scores is not usual:
            gain = f"{scores.r2 - usual.r2:+.4f}"
            better = f"{tuning.better_months(scores, usual)} of {len(scores.months)}"
        name = "current default" if scores is usual else trial.name
        by_month = scores.walk_forward
        rows.append((name, f"{scores.r2:.4f}", gain, better, f"{by_month['r2']:.4f}", f"{by_month['rmse']:.2f}"))
    title = f"{len(trials)} of {counted(of, 'recipe')}, evaluated on months before {before}"
    print_table(["recipe"], ["R2", "gain", "better in", "by month", "RMSE"], rows, title=title)
    for trial, _ in evaluated:
        if trial.name.startswith("trial"):  # other names describe the recipe
            say(f"{trial.name}: {tuning.described(trial.recipe)}")
    for trial in trials:
        if trial.error:
            say(f"{trial.name} cannot be fitted: {trial.error} ({tuning.described(trial.recipe)})", colour="yellow")
