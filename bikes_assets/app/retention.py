"""Retention and holds of this project's store. It imports MLflow only to delete there."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bikes_assets.app import answers
from bikes_assets.app.store import assets, current, lake, mlflow_client, table
from bikes_assets.app.versions import record_of
from bikes_assets.core.errors import LineageError, RemovedError, TrackingError
from bikes_assets.core.secrets import shown
from bikes_assets.core.transient import away, store_error, without_secrets
from bikes_assets.governance import holds, retention
from bikes_assets.lineage.elements import ALIAS
from bikes_assets.storage.code.environment import user
from bikes_assets.storage.removals import moment, raise_if_removed, write_removed_in_mlflow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bikes_assets.governance.holds import Hold
    from bikes_assets.governance.retention import RetentionPlan

DAYS = 90.0
"""Default number of days for which every version stays."""


@dataclass(frozen=True, slots=True)
class Retention:
    """The result of retention, and the active holds.

    Attributes:
        plan: what may be removed or was removed, and what stays.
        holds: the active holds.
        in_mlflow: number of versions whose runs were deleted in MLflow; None if nothing was to be removed.
        left: what could not be done in MLflow, and why; "" if everything was done.
    """

    plan: RetentionPlan
    holds: Sequence[Hold]
    in_mlflow: int | None = None
    left: str = ""


def look(days: float = DAYS, *, now: float | None = None) -> Retention:
    """Return what may be removed and what must stay, without changing anything.

    Args:
        days: number of days for which every version stays.
        now: current time, Unix seconds; None for the clock's.
    """
    standing = holds.holds(lake().location)
    index = answers.refreshed()
    aliased = [item.facts["address"] for name in index.names(ALIAS) for item in index.find(name, ALIAS)]
    plan = retention.plan(
        lake(),
        [table(asset) for asset in assets()],
        held=[item.version for item in standing],
        aliased=aliased,
        now=time.time() if now is None else now,
        days=days,
    )
    return Retention(plan, standing)


def apply(days: float = DAYS, *, now: float | None = None) -> Retention:
    """Remove what may be removed, and return it. MLflow comes last; what it refuses is left to the next call.

    Raises:
        LineageError: something to be removed has become needed meanwhile; nothing was removed.
    """
    plan = retention.apply(lake(), lambda: look(days, now=now).plan, user())
    standing = holds.holds(lake().location)
    if not plan.in_mlflow:
        return Retention(plan, standing, 0)
    try:
        return Retention(plan, standing, _remove_in_mlflow(plan))
    except TrackingError as error:
        return Retention(plan, standing, 0, str(error))


def hold(address: str, reason: str) -> Hold:
    """Put a hold on the version that an address currently names, which also keeps everything that it was materialized from.

    Args:
        address: as in `versions.record_of`: a version, a partition for its current one, a registered model version or
            an alias.
        reason: why it is held; it is recorded.

    Raises:
        LineageError: there is no such version.
        RemovedError: the version was removed.
    """
    version = record_of(answers.refreshed(), address).output.address
    location = lake().location
    made = holds.hold(location, address, version, reason=reason, user=user())
    try:
        raise_if_removed(
            location, version
        )  # after the hold: a concurrent removal looks for holds after writing down its plan
    except RemovedError:
        holds.release(location, made.version, reason="it was removed before", user=user())
        raise
    return made


def release(address: str, reason: str) -> list[Hold]:
    """Lift the holds that were put under an address or on its version, and return them.

    Raises:
        LineageError: there is no such hold.
    """
    return holds.release(lake().location, address, reason=reason, user=user())


def _remove_in_mlflow(plan: RetentionPlan) -> int:
    """Delete the runs and copies of removed versions in MLflow; return the number of versions.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    known = current()
    if not known.mlflow:
        return 0
    try:
        client = mlflow_client()
        done = retention.remove_in_mlflow(client, known.name, plan.in_mlflow, moment(plan.now))
    except LineageError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever MLflow raises
        told = store_error(error, shown(known.mlflow)) or away(error) or error
        raise TrackingError(f"MLflow: {told}; run again when it is there") from without_secrets(error)
    if done:
        write_removed_in_mlflow(lake().location, time=plan.now, versions=done)
    return len(done)
