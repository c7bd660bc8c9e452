"""`bikes check-lineage`, `reproduce`, `snapshot` and `verify`, and what they print."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from bikes_assets.app import column_lineage, reproduction
from bikes_assets.app import snapshot as snapshots
from bikes_assets.cli import options, runner
from bikes_assets.cli.terminal import print_json, print_table, progress_bar, say, say_wrapped
from bikes_assets.cli.versions import cause_lines, change_line
from bikes_assets.core.texts import counted
from bikes_assets.verification.reproduction import TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bikes_assets.app.column_lineage import ModelEvidence
    from bikes_assets.app.snapshot import Verification
    from bikes_assets.verification.column_lineage import Evidence
    from bikes_assets.verification.reproduction import Reproduction
    from bikes_assets.verification.snapshot import Snapshot

_COLOURS = {"identical": "green", "equal": "yellow", "different": "red"}
_MOST = 5


@click.command()
@click.option("--seed", default=0, show_default=True, type=options.SEED, help="Seed of the perturbations.")
@options.as_json
def check_lineage(seed: int, as_json: bool) -> bool:
    """Verify the features' column lineage by perturbation. Exit code 1 when the code contradicts the declaration.

    Every run verifies it on its own months before features are published; this command verifies it on all months. It
    also shows which inputs move the newest model's prediction.
    """
    with progress_bar() as show:
        evidence = column_lineage.of_features(
            seed, lambda check, tables: show(f"{check}, perturbed tables", tables, None)
        )
        tables = evidence.trials + evidence.blocked_trials
        show("inputs of the newest model", tables, None)
        model = column_lineage.of_model(seed)
        show("done", tables, tables)
    if as_json:
        print_json([{"features": evidence.to_dict(), "model": asdict(model)}])
    else:
        print_evidence(evidence, model)
    return evidence.holds


@click.command()
@options.addresses
@click.option(
    "--all", "everything", is_flag=True, help="Every partition's current version, and every registered model's."
)
@click.option("--here", is_flag=True, help="With the current code, settings and source instead of the recorded ones.")
@click.option("--stored", is_flag=True, help="Take what cannot be rebuilt, upstream of it, as it is stored, checked.")
@click.option(
    "--trust-lake", "trusted", is_flag=True, help="Run code that only a lake holds to which others can write."
)
@options.as_json
def reproduce(
    addresses: tuple[str, ...], *, everything: bool, here: bool, stored: bool, trusted: bool, as_json: bool
) -> bool:
    """Rebuild versions from their records and compare them. The store is not changed.

    ADDRESS is demand_model@3, demand_model@champion, demand_features[2012-08]@20, or demand_features[2012-08].
    Everything upstream of it is rebuilt as well, from the source on, by the code of the recorded commit.

    Exit code 0 when all are as recorded, or equal within the tolerance, 1 when one differs, 2 when one cannot be
    rebuilt.
    """
    if everything == bool(addresses):
        raise click.UsageError("expected an ADDRESS, or --all without one")
    with progress_bar() as show:
        plan = runner.plan() if here else None
        rebuilt = reproduction.reproduce(
            addresses or reproduction.live(), here=plan, stored=stored, trusted=trusted, progress=show
        )
    if as_json:
        print_json(item.to_dict() for item in rebuilt)
    else:
        print_reproductions(rebuilt)
    return not any(item.verdict == "different" for item in rebuilt)


@click.command()
@options.file
def snapshot(file: Path | None) -> None:
    """Write what the store holds to FILE. By default lineage.lock.json, for version control; see bikes verify."""
    place = file or snapshots.default_file()
    print_snapshot(snapshots.write(runner.plan(), place), place)


@click.command()
@options.file
@click.option("--deep", is_flag=True, help="Read and check all that is stored, too: files, rows, models, their copies.")
@options.as_json
def verify(file: Path | None, *, deep: bool, as_json: bool) -> bool:
    """Compare the store with the snapshot in FILE. By default that is lineage.lock.json.

    Exit code 0 when the content is the same, 1 when it differs or is damaged, 2 when it cannot be compared. What was
    rematerialized with an unchanged digest counts as the same.
    """
    # a comparison alone is too short for a progress bar, and for its import
    with progress_bar() if deep else nullcontext(lambda *_: None) as show:
        verification = snapshots.verify(runner.plan(), file, deep=deep, progress=show)
    if as_json:
        print_json([verification.to_dict()])
    else:
        print_verification(verification)
    return verification.is_same


def print_evidence(evidence: Evidence, model: ModelEvidence) -> None:
    """Print what perturbation observed of each column's inputs, contradictions, and what moves a prediction."""
    rows = (
        (
            edge.output,
            edge.input,
            edge.state,
            f"{edge.observed.last} to {edge.observed.first}" if edge.observed else "",
            f"{edge.trials:,}",
            f"{edge.blocked:,}",
        )
        for edge in evidence.edges
    )
    print_table(["column", "computed from", "evidence"], ["hours before", "trials", "blocked"], rows)
    tables = f"{evidence.trials:,} perturbed tables, {evidence.blocked_trials:,} more on which the code failed"
    say(f"{evidence.rows:,} rows, {tables}, seed {evidence.seed}")
    say(*(f"not checked: {what}" for what in (*evidence.unchecked, *evidence.blocked)), colour="yellow")
    say(*(f"beside the table: {what}" for what in evidence.signals), colour="yellow")
    say(*(f"undeclared: {name} is computed, but not declared" for name in evidence.undeclared), colour="red")
    say(*(f"unverified: {item.message}" for item in evidence.unverified), colour="red")
    say(*(f"{finding.check}: {finding.message}" for finding in evidence.findings), colour="red")
    unverified = "" if evidence.findings else ": not everything could be verified"
    say("Column lineage holds." if evidence.holds else f"Column lineage does not hold{unverified}.")
    used = (
        (
            item.column,
            "cannot" if item.cannot_reach else "yes" if item.moves else "not observed",
            "" if item.splits is None else f"{item.splits:,}",
            f"{model.importance[item.column]:+.2f}",
        )
        for item in model.inputs
    )
    print_table([f"input of {model.address}", "moves the prediction"], ["splits", "RMSE when shuffled"], used)


def print_reproductions(rebuilt: Sequence[Reproduction]) -> None:
    """Print the results of rebuilding versions, and for each that is not identical, how it differs and why."""
    for item in rebuilt:
        say(f"{item.address}: ", ends=False)
        say(_verdict(item), colour=_COLOURS[item.verdict])
        say(*(f"  {line}" for line in _lines(item)))
    counts = {name: sum(item.verdict == name for item in rebuilt) for name in _COLOURS}
    if len(rebuilt) > 1:
        say(", ".join(f"{count} {name}" for name, count in counts.items() if count))


def _verdict(item: Reproduction) -> str:
    match item.verdict:
        case "identical":
            return "identical"
        case "equal":
            return f"equal within {TOLERANCE:g}: the largest relative difference is {item.largest:.1e}"
        case _:
            return f"different, digest {item.digests[0]} -> {item.digests[1]}"


def _lines(item: Reproduction) -> Iterator[str]:
    rebuilt = ", ".join(f"{count} {asset}" for asset, count in item.rebuilt.items())
    yield f"rebuilt: {rebuilt}"
    if item.predictions[0] and item.predictions[0] == item.predictions[1]:
        yield f"predictions on the recorded rows: identical, {item.predictions[0]}"
    if item.removed:
        yield f"compared by digest and metrics alone: {item.removed}"
    for address, why in [*item.taken.items()][:_MOST]:
        yield f"taken as stored: {address}, {why}"
    if len(item.taken) > _MOST:
        yield f"taken as stored: {len(item.taken) - _MOST} more"
    for part in item.parts[:_MOST]:
        yield f"parts at {part.address}" + (f", columns {', '.join(part.columns)}" if part.columns else "")
    if len(item.parts) > _MOST:
        yield f"parts at {len(item.parts) - _MOST} more of its partitions"
    for cause in item.causes:
        for line in cause_lines(cause):
            yield f"cause: {line}"
    for change in item.environment:
        yield f"environment: {change_line(change)}"
    for change in item.metrics:
        yield f"metric {change_line(change)}"


def print_snapshot(snapshot: Snapshot, file: Path) -> None:
    """Print what was written, and where."""
    counts = {
        "partition": snapshot.partitions,
        "registered model": snapshot.models,
        "source file": snapshot.source,
    }
    told = ", ".join(counted(len(items), what) for what, items in counts.items())
    say(f"{file}: {told}, code of {counted(len(snapshot.code), 'asset')}")


def print_verification(verification: Verification) -> None:
    """Print each difference between store and snapshot, what is damaged, and what could not be checked."""
    for change in verification.changes:
        say_wrapped(str(change), colour=None if change.is_rematerialized else "red")
    say(*verification.damage.values(), colour="red")
    say(*verification.notes, colour="yellow")
    if verification.checked:
        damaged = len(verification.damage)
        say(f"{verification.checked} versions, model files and copies were read and checked, {damaged} are damaged.")
    differing = sum(not change.is_rematerialized for change in verification.changes)
    if differing:
        say(f"The store differs from the snapshot in {differing} of these.")
    elif not verification.damage:
        say("The store is what the snapshot says.")
