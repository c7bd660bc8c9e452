"""The plan of what is loaded in this process, and what is due by it."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bikes_assets.app import state
from bikes_assets.app.settings import settings
from bikes_assets.core.staleness import Key, NextRun, next_runs, outlooks, staleness_of
from bikes_assets.defs.partitions import LOADED, SPAN
from bikes_assets.events.code_location import reload
from bikes_assets.project import source_months
from bikes_assets.storage.sources.source_state import SourceState

_AGAIN_SECONDS = 86_400


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


def due(graph: Any, *, makes: Collection[str], source: Mapping[str, SourceState] | None = None) -> Due:
    """Return what is to begin now; what failed is tried again a day later, or when something changes.

    Args:
        graph: the asset graph.
        makes: assets that the runs may make.
        source: what each source holds; by default what it held when it was last read.
    """
    plan, found = state.plan_of(graph), state.now(source)
    statuses, yesterday = staleness_of(plan, found), time.time() - _AGAIN_SECONDS
    retried = {key for key, ended in found.ended.items() if ended.time < yesterday}
    runs = list(next_runs(plan, statuses, targets=set(statuses), current=found, retried=retried, makes=makes))
    begun = {(asset, run.partition) for run in runs for asset in run.assets}
    stale = [
        key for key, status in statuses.items() if status.state in ("stale", "failed") and key in found.materialized
    ]
    return Due(runs, outlooks(plan, statuses, found, begun), stale)


def outdated() -> str:
    """Return why what this process loaded is not current, "" where it is.

    New months are loaded by themselves. Changed code is not: a file that is being edited would take everything with it.
    """
    if source_months() != SPAN:
        return (
            f"The source has other months than {SPAN[0]} to {SPAN[1]}. {reload(settings().dagster_url, 'bikes_assets')}"
        )
    if state.plan_stamp() != LOADED:
        return "The code has changed since it was loaded: reload the code location (Deployment, Reload)."
    return ""
