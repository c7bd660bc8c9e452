"""Monthly partitions, from the months that the source holds."""

from __future__ import annotations

from datetime import date, timedelta

import dagster as dg

from bikes_assets.app.state import loaded_stamp
from bikes_assets.project import source_months

FORMAT = "%Y-%m"


def months_from(first: str, last: str, skip: int = 0) -> dg.MonthlyPartitionsDefinition:
    """Return the months from `first` to `last`, both included, without the first `skip` months."""
    return dg.MonthlyPartitionsDefinition(_later(first, skip), end_date=_later(last, 1), fmt=FORMAT)


def _later(month: str, months: int) -> str:
    day = date.fromisoformat(f"{month}-01")
    count = day.year * 12 + day.month - 1 + months
    return f"{count // 12}-{count % 12 + 1:02}"


LOADED = loaded_stamp()
SPAN = FIRST_MONTH, LAST_MONTH = source_months()
MONTHS = months_from(FIRST_MONTH, LAST_MONTH)
MODEL_MONTHS = months_from(FIRST_MONTH, LAST_MONTH, skip=2)
"""A model needs a month to be fitted on and one to be validated on before the month that it is for."""


def freshness(last_month: str, today: date) -> dg.FreshnessPolicy | None:
    """Return when an asset that is materialized from the source is overdue: where no month has come for a month and a bit.

    A source whose last month is more than a year ago is a finished history, of which nothing is overdue: None.
    """
    if _later(last_month, 12) < f"{today:%Y-%m}":
        return None
    return dg.FreshnessPolicy.time_window(fail_window=timedelta(days=45), warn_window=timedelta(days=35))


def earlier(first: int, last: int) -> dg.TimeWindowPartitionMapping:
    """Return the mapping to the months from `first` to `last` before or at (0) a month, such as -1 to -1."""
    return dg.TimeWindowPartitionMapping(start_offset=first, end_offset=last)


def all_earlier() -> dg.TimeWindowPartitionMapping:
    """Return the mapping to every month before a month."""
    return earlier(-len(MONTHS.get_partition_keys()), -1)
