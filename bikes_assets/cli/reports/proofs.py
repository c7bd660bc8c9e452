"""What `bikes check-lineage` prints."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from bikes_assets.cli.reports.terminal import say_json, terminal

if TYPE_CHECKING:
    from bikes_assets.app.column_lineage import ModelProof
    from bikes_assets.verification.column_lineage import Evidence


def print_proofs(evidence: Evidence, model: ModelProof, *, as_json: bool) -> None:
    """Print what perturbation observed of each column's inputs, contradictions, and what moves a prediction."""
    from bikes_assets.core.columns import SHOWN

    if as_json:
        told = {"features": evidence.to_dict(), "model": asdict(model)}
        say_json(json.dumps(told))
        return
    from rich.table import Column, Table

    console = terminal()
    numbers = (Column(name, justify="right") for name in ("hours before", "trials", "blocked"))
    shown = Table("column", "computed from", "evidence", *numbers)
    for edge in evidence.edges:
        seen = f"{edge.observed.last} to {edge.observed.first}" if edge.observed else ""
        shown.add_row(edge.output, edge.input, SHOWN[edge.state], seen, f"{edge.trials:,}", f"{edge.blocked:,}")
    console.print(shown)
    tables = f"{evidence.trials:,} perturbed tables, {evidence.blocked_trials:,} more on which the code failed"
    console.print(f"{evidence.rows:,} rows, {tables}, seed {evidence.seed}")
    for what in (*evidence.unchecked, *evidence.blocked):
        console.print(f"not checked: {what}", style="yellow")
    for what in evidence.signals:
        console.print(f"beside the table: {what}", style="yellow")
    for name in evidence.undeclared:
        console.print(f"undeclared: {name} is computed, but not declared", style="red")
    for item in evidence.unverified:
        console.print(f"unverified: {item.message}", style="red")
    for finding in evidence.findings:
        console.print(f"{finding.check}: {finding.message}", style="red")
    unverified = "" if evidence.findings else ": not everything could be verified"
    console.print("Column lineage holds." if evidence.holds else f"Column lineage does not hold{unverified}.")
    numbers = (Column(name, justify="right") for name in ("splits", "RMSE when shuffled"))
    used = Table(f"input of {model.address}", "moves the prediction", *numbers)
    for item in model.inputs:
        splits = "" if item.splits is None else f"{item.splits:,}"
        moves = "cannot" if item.cannot_reach else "yes" if item.moves else "not observed"
        used.add_row(item.column, moves, splits, f"{model.importance[item.column]:+.2f}")
    console.print(used)
