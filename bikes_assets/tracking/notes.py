"""Descriptions that MLflow shows of experiments, runs, registered models and versions, in Markdown."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from bikes_assets.core.record import partition_address
from bikes_assets.core.texts import markdown, shortened
from bikes_assets.events.pages import dagster_asset

if TYPE_CHECKING:
    from bikes_assets.core.record import Record, Use

NOTE = "mlflow.note.content"
"""Tag of an experiment or a run that MLflow shows as its description."""

_MOST_INPUTS = 30
_ROLES = {"training": "trained on", "validation": "validated on"}


def of_experiment(lineage: str) -> str:
    """Return the description of the experiment whose runs people compare.

    Args:
        lineage: name of the experiment of all other runs.
    """
    return (
        "One run per fitted model and per evaluation; select several to compare them. "
        f"All other runs are in {markdown(lineage)}."
    )


def of_lineage_experiment(experiment: str) -> str:
    """Return the description of the experiment of all runs that are kept for the record.

    Args:
        experiment: name of the experiment whose runs people compare.
    """
    others = markdown(experiment)
    return f"The rest of the record: one run per Dagster run, and in it those of all assets that are not in {others}."


def of_page(page: str, lineage: str = "") -> str:
    """Return the description of a run about which nothing else is known: links to Dagster and to the lineage page."""
    return f"[Open in Dagster]({page})" + (f" - [see its lineage]({lineage})" if lineage else "")


def of_failure(page: str, error: str) -> str:
    """Return the description of a run that published nothing: a link to its Dagster run, and what went wrong."""
    return f"{of_page(page)}\n\n{markdown(shortened(error))}"


def of_materialization(record: Record, page: str, lineage: str = "") -> str:
    """Return the description of a materialization: what it is, and its inputs; with links as `of_page` has them."""
    output = record.output
    inputs = "\n".join(f"- {markdown(item.address)}" for item in record.inputs[-_MOST_INPUTS:])
    older = len(record.inputs) - _MOST_INPUTS
    more = f"\n- and {older} earlier" if older > 0 else ""
    title = markdown(partition_address(output.asset, output.partition))
    # the link first: MLflow hides a long description below its first lines
    return f"{of_page(page, lineage)}\n\n**{title}** at table version {output.version}\n\nInputs:\n{inputs}{more}"


def of_version(record: Record, server: str) -> str:
    """Return the description of a registered version: on which rows it was fitted, its metrics and its digest.

    Args:
        record: the record of what was fitted.
        server: where people open Dagster.
    """
    output = record.output
    rows = [f"{_ROLES.get(use.context, use.context)} {_rows(use)}" for use in record.datasets]
    metrics = [f"{markdown(name)} {value:.4g}" for name, value in record.metrics.items() if isfinite(value)]
    link = of_page(dagster_asset(server, output.asset, output.partition))
    fitted = "; ".join(rows)
    told = [
        fitted[:1].upper() + fitted[1:],
        f"Metrics: {', '.join(metrics)}" if metrics else "",
        f"Digest: {output.digest}",
        link,
    ]
    return "\n\n".join(filter(None, told))


def of_registered_model(asset: str, server: str) -> str:
    """Return the description of a registered model.

    Args:
        asset: the asset that its versions are of.
        server: where people open Dagster.
    """
    page = of_page(dagster_asset(server, asset, None))
    return (
        f"Models that the asset {markdown(asset)} has fitted, one version each. The alias `champion` names the version that "
        f"serves the newest partition, `challenger` the newest one that it was preferred to. {page}"
    )


def _rows(use: Use) -> str:
    several = f"{len(use.partitions)} partitions, " if len(use.partitions) > 1 else ""
    return f"{markdown(use.name)} ({several}{use.rows:,} rows)"
