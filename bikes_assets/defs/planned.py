"""The plan of what is loaded in this process, remembered for those who ask without Dagster."""

import time

import dagster as dg

from bikes_assets import present
from bikes_assets.adapters.plan import plan_of, since_first_seen
from bikes_assets.defs.partitions import LOADED
from bikes_assets.lineage.staleness import Plan


def remembered(repository: dg.RepositoryDefinition) -> Plan:
    """Return the plan of the definitions that this process loaded, after remembering it."""
    known, is_current = present.remembered_plan()
    is_loaded = present.plan_stamp() == LOADED
    if known and is_current and is_loaded:
        return known
    plan = since_first_seen(plan_of(repository), known, time.time())
    if is_loaded:  # else the files have changed since
        present.remember_plan(plan, LOADED)
    return plan
