"""What the commands have to know: `bikes --project examples.taxi.project status`."""

from __future__ import annotations

from typing import Any

from bikes_assets import Project
from examples.taxi.definitions import DATA, LAKE, MODELS


def _environment(rebuild: Any) -> dict[str, str]:
    """Return the settings by which the definitions use a temporary lake."""
    return {"TAXI_DATA": str(rebuild.folder)}


PROJECT = Project(
    name="taxi",
    definitions="examples.taxi.definitions:defs",
    lake=LAKE,
    data=DATA,
    models=MODELS,
    mlflow=f"sqlite:///{DATA}/mlflow.db",
    environment=_environment,
)
