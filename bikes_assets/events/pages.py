"""Addresses of pages of Dagster, MLflow and the lineage page for links; a server's own address has no slash at its end."""

from __future__ import annotations

from urllib.parse import quote

_MODEL_TRAINING = "?workflowType=machine_learning"
"""Without this, MLflow opens its pages for language models, which show no runs."""
_CHARTS = "&compareRunsMode=CHART"
"""Shows a chart of each metric beside the list of runs, which has no metric columns until people choose some."""


def dagster_run(server: str, run_id: str) -> str:
    """Return the address of a Dagster run's page."""
    return f"{server}/runs/{run_id}"


def dagster_asset(server: str, asset: str, partition: str | None) -> str:
    """Return the address of an asset's page, opened at a partition where it has one."""
    opened = f"?view=partitions&partition={quote(partition, safe='')}" if partition else ""
    return f"{server}/assets/{quote(asset)}{opened}"


def lineage_page(server: str, address: str) -> str:
    """Return the address of the lineage page, opened at an asset, partition, version or column."""
    return f"{server}/?focus={quote(address, safe='')}"


def mlflow_run(server: str, experiment_id: str, run_id: str) -> str:
    """Return the address of a run's page."""
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}{_MODEL_TRAINING}"


def mlflow_experiment(server: str, experiment_id: str = "") -> str:
    """Return the address of an experiment's runs and metrics, or of the list of all experiments where none is named."""
    opened = f"/{experiment_id}/runs{_MODEL_TRAINING}{_CHARTS}" if experiment_id else _MODEL_TRAINING
    return f"{server}/#/experiments{opened}"
