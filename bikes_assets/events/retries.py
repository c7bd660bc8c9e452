"""What Dagster does after an error: it tries the step again after a transient one, and fails it after any other.

An error of ours reaches Dagster as a `dg.Failure`: its description is the message, its metadata what was found, what
was expected and what to do, so that the page of a run starts with these rather than with a stack trace.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from bikes_assets.core.errors import LineageError, NothingToDo
from bikes_assets.core.transient import is_transient, store_error, without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

RETRIES = dg.RetryPolicy(max_retries=2, delay=1, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
"""How often, and after how many seconds, a step is retried. A retry is requested for each error, not set as an asset's
policy: with such a policy, Dagster also retries a step that somebody has interrupted."""


@contextmanager
def classified_errors(attempt: int, place: str) -> Iterator[None]:
    """Make Dagster retry a step after a transient error, and fail it with one message after an error of ours.

    The error of a store that cannot be used names the store. Dagster stores what is raised, with its causes: none of
    them contains a secret.

    Args:
        attempt: number of the attempt, from 1.
        place: folder or URL that is worked on.

    Raises:
        dg.Failure: for an error of ours, which is its cause, or a store that is full, read-only or closed to this user.
        dg.RetryRequested: for a transient error.
        NothingToDo: unchanged; it is no failure.
    """
    try:
        yield
    except (dg.RetryRequested, dg.Failure, NothingToDo):
        raise
    except Exception as error:
        told, transient = without_secrets(error), is_transient(error)
        if not transient and (unusable := store_error(error, place)):
            unusable.__cause__ = told
            told = unusable
        if isinstance(told, LineageError):
            told = failure_of(told)
        if transient and attempt <= RETRIES.max_retries:
            raise dg.RetryRequested(RETRIES.max_retries, RETRIES.calculate_delay(attempt)) from told
        if told is error:
            raise
        raise told from told.__cause__


def failure_of(error: LineageError) -> dg.Failure:
    """Return an error of ours as Dagster shows it: its message, and its named parts."""
    failure = dg.Failure(f"{type(error).__name__}: {error}", metadata=dict(error.details), allow_retries=False)
    failure.__cause__ = error
    return failure
