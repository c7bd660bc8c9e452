"""What `bikes check-lineage` prints."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bikes_assets.lineage.evidence import Evidence
    from bikes_assets.lineage.reach import Reach


def print_proofs(evidence: Evidence, model: str, reaches: Sequence[Reach], *, as_json: bool) -> None:
    """Print what was shown of each column's lineage, what denies it, and which inputs reach a model's prediction."""
    if as_json:
        told = {
            "features": evidence.to_dict(),
            "model": {"address": model, "inputs": [asdict(item) for item in reaches]},
        }
        click.echo(json.dumps(told))
        return
    from rich.console import Console
    from rich.table import Column, Table

    console = Console(highlight=False, soft_wrap=True)
    shown = Table(
        "column", "made from", "shown", Column("hours before", justify="right"), Column("trials", justify="right")
    )
    for edge in evidence.edges:
        seen = f"{edge.observed.last} to {edge.observed.first}" if edge.observed else ""
        shown.add_row(edge.output, edge.input, edge.state, seen, f"{edge.trials:,}")
    console.print(shown)
    console.print(f"{evidence.rows:,} rows, {evidence.trials:,} disturbed tables, seed {evidence.seed}")
    for what in (*evidence.unchecked, *evidence.blocked):
        console.print(f"not checked: {what}", style="yellow", markup=False)
    for what in evidence.signals:
        console.print(f"beside the table: {what}", style="yellow", markup=False)
    for finding in evidence.findings:
        console.print(f"{finding.check}: {finding.message}", style="red", markup=False)
    console.print("Column lineage holds." if evidence.holds else "Column lineage does not hold.")
    used = Table(f"input of {model}", Column("splits", justify="right"), "moves the prediction")
    for item in reaches:
        splits = "" if item.splits is None else f"{item.splits:,}"
        used.add_row(item.column, splits, "cannot" if item.cannot_reach else "yes" if item.moves else "not seen")
    console.print(used)
