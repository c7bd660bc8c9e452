"""Declarative automation: Dagster's daemon materializes by itself what `bikes run` would, by the same rule of staleness."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import dagster as dg

from bikes_assets.app.settings import settings
from bikes_assets.core.texts import counted
from bikes_assets.defs import due

AUTOMATED = ("demand_features", "demand_model", "champion_model", "demand_predictions", "prediction_quality")
"""Assets that automation materializes; `hourly_rentals` is for the sensor `source_changes` or the schedule `finished_months`."""

MOST_OUTLOOKS = 12
"""Sentences on the page of one evaluation."""


@dataclass(frozen=True)
class Outlook(dg.AutomationCondition[dg.AssetKey]):
    """A sentence on the page of an evaluation, beside the partitions that it is true of."""

    sentence: str

    @property
    def name(self) -> str:
        """Return the sentence, which Dagster shows."""
        return self.sentence

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Return the candidates: `DueCondition` has chosen them."""
        return dg.AutomationResult(context, context.candidate_subset)


class DueCondition(dg.AutomationCondition[dg.AssetKey]):
    """True for partitions that are stale or missing and wait for nothing; not for what failed and has not changed since."""

    @property
    def name(self) -> str:
        """Return what Dagster shows of it."""
        return "stale or missing, and waiting for nothing"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Return the partitions of an asset that are to be materialized now, and of each that is not fresh what comes of it."""
        view: Any = context.asset_graph_view
        found = _due(view.effective_dt, view.asset_graph)
        asset, every = context.key.to_user_string(), context.candidate_subset
        wanted = {str(run.partition) for run in found.runs if asset in run.assets}
        of: dict[str, set[str]] = {}
        for (other, partition), sentence in found.outlooks.items():
            if other == asset:
                of.setdefault(sentence, set()).add(str(partition))
        children: list[dg.AutomationResult[dg.AssetKey]] = []
        if found.outdated:
            of = {found.outdated: {str(key) for key in every.expensively_compute_partition_keys()}}
        for place, (sentence, keys) in enumerate(listed(of)):
            subset = every.compute_intersection_with_partition_keys(keys)
            outlook = Outlook(sentence)
            children.append(outlook.evaluate(context.for_child_condition(outlook, [place], subset)))
        chosen = every.compute_intersection_with_partition_keys(wanted)
        return dg.AutomationResult(context, chosen, child_results=children)


def listed(of: dict[str, set[str]]) -> list[tuple[str, set[str]]]:
    """Return sentences with the partitions that they are true of; of too many, the last stands for all that follow."""
    found = list(of.items())
    if len(found) <= MOST_OUTLOOKS:
        return found
    shown, rest = found[: MOST_OUTLOOKS - 1], found[MOST_OUTLOOKS - 1 :]
    told = f"{counted(len(rest), 'other reason')}: bikes status lists them"
    return [*shown, (told, set[str]().union(*(keys for _, keys in rest)))]


@lru_cache(maxsize=1)
def _due(tick: datetime, graph: Any) -> due.Due:
    reason = due.outdated()
    return due.Due(outdated=reason) if reason else due.due(graph, makes=AUTOMATED)


with warnings.catch_warnings():
    warnings.simplefilter("ignore", dg.BetaWarning)  # `use_user_code_server` is one
    automation = dg.AutomationConditionSensorDefinition(
        "automation",
        target=dg.AssetSelection.assets(*AUTOMATED),
        use_user_code_server=True,
        emit_backfills=False,  # they would begin their runs later than the next look, which would ask for the same again
        minimum_interval_seconds=settings().tick_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING if settings().triggers else dg.DefaultSensorStatus.STOPPED,
        description="Makes whatever is stale or missing downstream of hourly_rentals, each partition once for one cause.",
    )
