"""What Dagster does after a fault: it tries the step again after a passing one, and ends it after any other."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from bikes_assets.lineage.faults import passes, store_fault
from bikes_assets.lineage.secrets import without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

RETRIES = dg.RetryPolicy(max_retries=2, delay=1, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
"""How often, and after how many seconds, a step is tried again. It is asked for fault by fault, and is no asset's own policy:
with one, Dagster tries a step again that somebody has interrupted."""


@contextmanager
def judged(attempt: int, place: str) -> Iterator[None]:
    """Have Dagster try a step again after a passing fault, and say of a store that cannot be used which one it is.

    Dagster stores what is raised, with its causes: none of them tells a secret.

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
        told = without_secrets(error)
        if passes(error) and attempt <= RETRIES.max_retries:
            raise dg.RetryRequested(RETRIES.max_retries, RETRIES.calculate_delay(attempt)) from told
        if fault := None if passes(error) else store_fault(error, place):
            raise fault from told
        if told is error:
            raise
        raise told from None
