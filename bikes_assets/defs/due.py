"""The plan of what is loaded in this process, and what is due by it."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bikes_assets.app import state
from bikes_assets.app.settings import settings
from bikes_assets.core.staleness import Key, NextRun, Plan, judge, next_runs, outlooks
from bikes_assets.defs.partitions import LOADED, SPAN
from bikes_assets.events.code_location import reload
from bikes_assets.orchestration.plan import plan_of, since_first_seen
from bikes_assets.storage.sources.source_state import Observed

WHY = "bikes_assets/why"
"""Tag of a Dagster run: why it was begun."""

_AGAIN_SECONDS = 86_400


def remembered(graph: Any) -> Plan:
    """Return the plan of the asset graph that this process loaded, after remembering it for those who ask without Dagster."""
    known, is_current = state.remembered_plan()
    is_loaded = state.plan_stamp() == LOADED
    if known and is_current and is_loaded:
        return known
    plan = since_first_seen(plan_of(graph), known, time.time())
    if is_loaded:  # else the files have changed since
        state.remember_plan(plan, LOADED)
    return plan


@dataclass(frozen=True)
class Due:
    """What Dagster's daemon is to begin now, and what comes of every partition that is not fresh.

    Attributes:
        runs: the runs that are to begin.
        outlooks: a sentence for each partition that is not fresh.
        stale: those of them that are materialized, and not from what is current.
        outdated: why nothing is to begin at all, as what is loaded is not current; "" where it is.
    """

    runs: Sequence[NextRun] = ()
    outlooks: Mapping[Key, str] = field(default_factory=dict[Key, str])
    stale: Collection[Key] = ()
    outdated: str = ""


def due(graph: Any, *, makes: Collection[str], source: Observed | None = None) -> Due:
    """Return what is to begin now; what failed is tried again a day later, or when something changes.

    Args:
        graph: the asset graph.
        makes: assets that the runs may make.
        source: what the source holds; by default what it held when it was last read.
    """
    plan, found = remembered(graph), state.now(source)
    statuses, yesterday = judge(plan, found), time.time() - _AGAIN_SECONDS
    retried = {key for key, ended in found.ended.items() if ended.time < yesterday}
    runs = list(next_runs(plan, statuses, targets=set(statuses), present=found, retried=retried, makes=makes))
    begun = {(asset, run.partition) for run in runs for asset in run.assets}
    stale = [key for key, status in statuses.items() if status.state in ("stale", "failed") and key in found.made]
    return Due(runs, outlooks(plan, statuses, found, begun), stale)


def outdated() -> str:
    """Return why what this process loaded is not what is there now, "" where it is.

    New months are loaded by themselves. Changed code is not: a file that is being edited would take everything with it.
    """
    if state.source_months() != SPAN:
        return (
            f"The source has other months than {SPAN[0]} to {SPAN[1]}. {reload(settings().dagster_url, 'bikes_assets')}"
        )
    if state.plan_stamp() != LOADED:
        return "The code has changed since it was loaded: reload the code location (Deployment, Reload)."
    return ""
