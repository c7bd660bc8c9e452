"""What the reconciliation of this project's stores needs: its instance, its lake, MLflow, and its index."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from bikes_assets.app import answers, state
from bikes_assets.app.store import assets, claim, current, lake, mlflow_runs

if TYPE_CHECKING:
    import dagster as dg

    from bikes_assets.orchestration.reconcile import Pipeline


def pipeline(instance: dg.DagsterInstance) -> Pipeline:
    """Return what is to agree: see `orchestration.reconcile`.

    Raises:
        SettingsError: the instance is of another store than the lake.
    """
    from bikes_assets.orchestration.reconcile import Pipeline

    known, connected = current(), partial(mlflow_runs, claim(instance))
    stores: Any = state.stores()
    return Pipeline(instance, lake(), known.models, tuple(assets()), connected, known.mlflow, answers.refreshed, stores)
