"""Jobs that people look for: a month of everything, its models, its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

# not public: `define_asset_job` refuses assets of several partitions definitions, which runs do not mind; a test pins this
from dagster._core.definitions.assets.job.asset_job import build_asset_job, get_asset_graph_for_job
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from bikes_assets.defs.partitions import MODEL_MONTHS

MODELS = ("demand_model", "champion_model")
PREDICTIONS = ("demand_predictions", "prediction_quality")


class MonthJob(UnresolvedAssetJobDefinition):
    """A job of assets whose months begin at different times: of the months that all of them have, a run materializes one."""

    def resolve(
        self,
        asset_graph: Any,
        default_executor_def: dg.ExecutorDefinition | None = None,
        resource_defs: Mapping[str, dg.ResourceDefinition] | None = None,
    ) -> dg.JobDefinition:
        """Return the job over the asset graph."""
        job = build_asset_job(
            self.name,
            get_asset_graph_for_job(asset_graph, self.selection, allow_different_partitions_defs=True),
            allow_different_partitions_defs=True,
            description=self.description,
            executor_def=default_executor_def,
            resource_defs=resource_defs,
        )
        return job._copy(partitions_def=self.partitions_def)  # pyright: ignore[reportPrivateUsage]


monthly_refresh = MonthJob(
    "monthly_refresh",
    selection=dg.AssetSelection.assets("hourly_rentals", "demand_features", *MODELS, *PREDICTIONS),
    partitions_def=MODEL_MONTHS,
    description="Everything of a month: rentals, features, model, champion, predictions and their quality.",
)
train = dg.define_asset_job(
    "train",
    selection=dg.AssetSelection.assets(*MODELS),
    description="The model of a month and its champion, from features of the months before.",
)
predict = dg.define_asset_job(
    "predict",
    selection=dg.AssetSelection.assets(*PREDICTIONS),
    description="Predictions of a month by its champion, and their quality.",
)
