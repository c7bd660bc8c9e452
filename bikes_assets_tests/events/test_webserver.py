"""What the webserver answers: pages of partition keys that end with the partitions, and no old failure on a new run."""

from __future__ import annotations

import random

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import PartitionLoadingContext
from dagster._core.definitions.partitions.definition.time_window import TimeWindowPartitionsDefinition
from dagster._core.definitions.temporal_context import TemporalContext
from dagster._time import get_current_datetime

from bikes_assets.events import sqlite_storage

MONTHS = dg.MonthlyPartitionsDefinition("2011-01", end_date="2013-01", fmt="%Y-%m")
EVERY = [f"{year}-{month:02}" for year in (2011, 2012) for month in range(1, 13)]
ours = TimeWindowPartitionsDefinition.get_paginated_partition_keys
theirs = ours.__wrapped__


def context() -> PartitionLoadingContext:
    return PartitionLoadingContext(
        temporal_context=TemporalContext(effective_dt=get_current_datetime(), last_event_id=None),
        dynamic_partitions_store=None,
    )


def test_dagsters_own_pages_name_months_after_the_end() -> None:
    """Once this fails, this correction can go."""
    assert theirs(MONTHS, context(), 12, ascending=False).results[0] > "2026"


def test_whoever_imports_the_storages_has_pages_that_end() -> None:
    assert sqlite_storage.EventLogStorage
    assert MONTHS.get_paginated_partition_keys(context(), 3, ascending=False).results == [
        "2012-12",
        "2012-11",
        "2012-10",
    ]


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("limit", [1, 5, 7, 24, 100])
def test_pages_together_are_all_keys_once(ascending: bool, limit: int) -> None:
    keys: list[str] = []
    cursor, more = None, True
    while more:
        page = MONTHS.get_paginated_partition_keys(context(), limit, ascending, cursor)
        keys, cursor, more = [*keys, *page.results], page.cursor, page.has_more and bool(page.results)
    assert keys == (EVERY if ascending else EVERY[::-1])


@pytest.mark.parametrize("seed", range(20))
def test_pages_of_partitions_that_have_not_ended_are_dagsters(seed: int) -> None:
    chosen = random.Random(seed)
    start, end = f"20{chosen.randint(10, 26)}-{chosen.randint(1, 9):02}", chosen.choice([None, "2099-01"])
    partitions = dg.MonthlyPartitionsDefinition(start, end_date=end, fmt="%Y-%m", end_offset=chosen.choice([0, 1]))
    asked = (context(), chosen.randint(1, 50), chosen.choice([True, False]))
    assert ours(partitions, *asked).results == theirs(partitions, *asked).results
