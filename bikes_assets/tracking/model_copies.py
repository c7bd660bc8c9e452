"""The lake's models in MLflow: a copy of each, and the aliases that say which one serves."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from bikes_assets.core.address import ModelRef, parse_address
from bikes_assets.storage.lake import MODEL_ROWS
from bikes_assets.tracking import registry
from bikes_assets.tracking.names import logged_model_name, model_name
from bikes_assets.tracking.params import settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient

    from bikes_assets.storage.lake import Lake, ModelFormat

CHAMPION, CHALLENGER = "champion", "challenger"


def log_copy(
    client: MlflowClient,
    run_id: str,
    name: str,
    models: ModelFormat,
    model: Any,
    content: bytes,
    row: Mapping[str, str],
    params: Mapping[str, str],
) -> str:
    """Log a copy of a model's estimator to the run that fitted it, and return the logged model's id.

    Args:
        client: client of the tracking store.
        run_id: the run of the attempt that fitted it.
        name: name of the copy; see `names.logged_model_name`.
        models: how models are serialized.
        model: the model.
        content: its file.
        row: the model's row in its asset's table.
        params: its hyperparameters.
    """
    import pandas as pd

    example = pd.read_json(io.StringIO(row["example"]), orient="table") if row["example"] else None
    tags = {"digest": row["digest"], "sha256": row["sha256"]}
    return registry.log_copy(
        client,
        run_id,
        models.estimator(model),
        name=name,
        example=example,
        trusted=models.trusted,
        tags=tags,
        content=models.copy(content),
        params=params,
    )


def copy_from_lake(client: MlflowClient, run_id: str, lake: Lake, models: ModelFormat, address: str) -> str:
    """Log a copy of a model version of the lake, whose file is checked first; return the logged model's id."""
    asset, partition, version = parse_address(address)
    ((_, rows),) = lake.table(asset, MODEL_ROWS).read([partition], int(str(version))).values()
    (row,) = rows.to_pylist()
    model = lake.load_model(models, row["sha256"], row["card"], address)
    record = lake.record(asset, partition, int(str(version)))
    name, params = logged_model_name(asset, partition), settings(record.config, record.params)
    return log_copy(client, run_id, name, models, model, lake.load_file(row["sha256"]), row, params)


def set_aliases(client: MlflowClient, lake: Lake) -> list[str]:
    """Set the registry's aliases by the newest partition of the lake's `serving` asset.

    `champion` is the model that serves, `challenger` the newest other candidate that it was chosen over. A baseline is
    no registered version: while it serves, there is no champion.

    Returns:
        The changes, in words; none where no partition says which model serves.
    """
    table = lake.table(lake.serving, MODEL_ROWS) if lake.serving else None
    published = table.published() if table and table.exists() else {}
    if not published:
        return []
    record = published[max(published, key=str)].record
    (model,) = record["models"]
    origin = ModelRef.parse(model["origin"])
    asset, chosen, _ = parse_address(origin.address)
    name = model_name(asset)
    serves = None if origin.part else registry.version_of(client, name, sha256=model["sha256"])
    candidates = {item["partition"]: item for item in record["inputs"] if item["asset"] == asset}
    losers = sorted(key for key in candidates if origin.part or key != chosen)
    lost = None
    if losers:
        newest = candidates[losers[-1]]
        commit = lake.table(asset, MODEL_ROWS).published(int(newest["version"]))[newest["partition"]]
        lost = registry.version_of(client, name, sha256=commit.record["models"][0]["sha256"])
    return registry.set_aliases(client, name, {CHAMPION: serves, CHALLENGER: lost})
