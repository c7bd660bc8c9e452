"""Declarative automation by the one rule of what is stale: what `bikes run` would make, Dagster's daemon makes by itself."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any

import dagster as dg

from bikes_assets.defs.planned import due, outdated
from bikes_assets.lineage.staleness import NextRun
from bikes_assets.settings import settings

AUTOMATED = ("demand_features", "demand_model", "champion_model", "demand_predictions", "prediction_quality")
"""Assets that automation makes; `hourly_rentals` is made by the sensor `source_changes` or the schedule `finished_months`."""


class Due(dg.AutomationCondition[dg.AssetKey]):
    """True for partitions that are stale or missing and wait for nothing; not for what failed and has not changed since."""

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Return the partitions of an asset that are to be made now."""
        view: Any = context.asset_graph_view
        runs = _due(view.effective_dt, view.asset_graph)
        wanted = {str(run.partition) for run in runs if context.key.to_user_string() in run.assets}
        return dg.AutomationResult(context, context.candidate_subset.compute_intersection_with_partition_keys(wanted))


@lru_cache(maxsize=1)
def _due(tick: datetime, graph: Any) -> tuple[NextRun, ...]:
    return () if outdated() else tuple(due(graph, makes=AUTOMATED))


automation = dg.AutomationConditionSensorDefinition(
    "automation",
    target=dg.AssetSelection.assets(*AUTOMATED),
    use_user_code_server=True,
    emit_backfills=False,  # they would begin their runs later than the next look, which would ask for the same again
    minimum_interval_seconds=settings().tick_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING if settings().triggers else dg.DefaultSensorStatus.STOPPED,
    description="Makes whatever is stale or missing downstream of hourly_rentals, each partition once for one cause.",
)
