"""Which logged model a registered version is of: decided by its source, which nobody can change, not by its tags."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bikes_assets.tracking.names import or_none

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

_SOURCE = re.compile(r"(?:models:|.*/models)/([^/]+)(?:/artifacts)?")


def model_id_in(version: ModelVersion) -> str:
    """Return the id of the logged model that a version's source names, whether it exists or not; "" where none."""
    named = _SOURCE.fullmatch(version.source or "")
    return named[1] if named else ""


def model_of(client: MlflowClient, version: ModelVersion) -> LoggedModel | None:
    """Return the logged model that a registered version is of; None where it is of none or of a deleted one.

    Args:
        client: client of the tracking store.
        version: the registered version.
    """
    model = _logged_model(client, model_id_in(version))
    # a path elsewhere may look like that of a logged model
    return model if model and version.source in (model.artifact_location, f"models:/{model.model_id}") else None


def is_gone(client: MlflowClient, version: ModelVersion) -> bool:
    """Return whether a version's source names a logged model that no longer exists."""
    model_id = model_id_in(version)
    return bool(model_id) and _logged_model(client, model_id) is None


def is_copy(model: LoggedModel, fitted: Mapping[str, Any]) -> bool:
    """Return whether a logged model is a copy of a fitted model: that of its record, or a later one of the same file.

    Args:
        model: the logged model.
        fitted: what was fitted, as its record says: `Record.fitted`.
    """
    return model.model_id == fitted["mlflow_model_id"] or model.tags.get("sha256") == fitted["sha256"]


def is_as_tagged(client: MlflowClient, version: ModelVersion) -> bool:
    """Return whether a version is of a logged model whose tags agree with the version's tags.

    Args:
        client: client of the tracking store.
        version: a version whose record is not at hand.
    """
    model = model_of(client, version)
    if model is None:
        return is_gone(client, version)
    told = {tag: value for tag, value in model.tags.items() if tag in ("digest", "sha256")}
    return all(version.tags.get(tag, value) == value for tag, value in told.items())


def _logged_model(client: MlflowClient, model_id: str) -> LoggedModel | None:
    return or_none(lambda: client.get_logged_model(model_id)) if model_id else None
