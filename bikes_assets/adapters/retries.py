"""What Dagster does after a fault: it tries the step again after a passing one, and ends it after any other."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from bikes_assets.lineage.faults import passes, store_fault

if TYPE_CHECKING:
    from collections.abc import Iterator

RETRIES = dg.RetryPolicy(max_retries=2, delay=1, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
"""How often, and after how many seconds, a step is tried again. It is asked for fault by fault, and is no asset's own policy:
with one, Dagster tries a step again that somebody has interrupted."""


@contextmanager
def judged(attempt: int, place: str) -> Iterator[None]:
    """Have Dagster try a step again after a passing fault, and say of a store that cannot be used which one it is.

    Args:
        attempt: number of the attempt, from 1.
        place: folder or URL that is worked on.

    Raises:
        StoreError: a store is full, read-only or closed to this user.
    """
    try:
        yield
    except (dg.RetryRequested, dg.Failure):
        raise
    except Exception as error:
        if passes(error):
            if attempt > RETRIES.max_retries:
                raise
            raise dg.RetryRequested(RETRIES.max_retries, RETRIES.calculate_delay(attempt)) from error
        if fault := store_fault(error, place):
            raise fault from error
        raise
