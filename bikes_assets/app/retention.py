"""What of this project's store may go and what must stay, removing it, and holds. It imports MLflow only to delete there."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bikes_assets.app import answers
from bikes_assets.app.settings import settings
from bikes_assets.app.store import ASSETS, lake, mlflow_client, table
from bikes_assets.app.versions import record_of
from bikes_assets.core.errors import LineageError, RemovedError, TrackingError
from bikes_assets.core.faults import away, store_fault
from bikes_assets.core.secrets import shown, without_secrets
from bikes_assets.governance import holds, retention
from bikes_assets.lineage.projection import ALIAS
from bikes_assets.storage.code.environment import user
from bikes_assets.storage.removals import moment, raise_if_removed, write_removed_in_mlflow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bikes_assets.governance.holds import Hold
    from bikes_assets.governance.retention import Plan

DAYS = 90.0
"""For how many days a version stays in any case, unless another number is asked for."""


@dataclass(frozen=True, slots=True)
class Retention:
    """What may go or went, and what stands.

    Attributes:
        plan: what may go, or went; and what stays.
        holds: the holds that stand.
        in_mlflow: how many versions' runs were deleted in MLflow; None where nothing was to be removed.
        left: what could not be done in MLflow, and why; "" where all was.
    """

    plan: Plan
    holds: Sequence[Hold]
    in_mlflow: int | None = None
    left: str = ""


def look(days: float = DAYS, *, now: float | None = None) -> Retention:
    """Return what may go and what must stay, and change nothing.

    Args:
        days: for how many days a version stays in any case.
        now: the time that counts as present, Unix seconds; None for the clock's.
    """
    standing = holds.holds(lake().location)
    index = answers.refreshed()
    aliased = [item.facts["address"] for name in index.names(ALIAS) for item in index.find(name, ALIAS)]
    plan = retention.plan(
        lake(),
        [table(asset) for asset in ASSETS],
        held=[item.version for item in standing],
        aliased=aliased,
        now=time.time() if now is None else now,
        days=days,
    )
    return Retention(plan, standing)


def apply(days: float = DAYS, *, now: float | None = None) -> Retention:
    """Remove what may go, and return what that was. MLflow comes last; what it does not take is left to the next time.

    Raises:
        LineageError: something that was to go came to be needed meanwhile; nothing was removed.
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
    """Put a hold on the version that an address names now, and so on everything that it was made from.

    Args:
        address: as in `versions.record_of`: a version, a partition for its present one, a registered model version or an alias.
        reason: why; it is recorded.

    Raises:
        LineageError: there is no such version.
        RemovedError: it was removed.
    """
    version = record_of(answers.refreshed(), address).output.address
    location = lake().location
    made = holds.hold(location, address, version, reason=reason, user=user())
    try:
        raise_if_removed(
            location, version
        )  # after the hold: who removes at this time looks for holds after writing it down
    except RemovedError:
        holds.release(location, made.version, reason="it was removed before", user=user())
        raise
    return made


def release(address: str, reason: str) -> list[Hold]:
    """Lift the holds that were put under an address or on the version of that address, and return them.

    Raises:
        LineageError: there is none.
    """
    return holds.release(lake().location, address, reason=reason, user=user())


def _remove_in_mlflow(plan: Plan) -> int:
    """Delete runs and copies of what went; return of how many versions.

    Raises:
        TrackingError: MLflow is away.
    """
    known = settings()
    try:
        client = mlflow_client()
        done = retention.remove_in_mlflow(client, known.experiment, plan.in_mlflow, moment(plan.now))
    except LineageError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever MLflow raises
        told = store_fault(error, shown(known.tracking_uri)) or away(error) or error
        raise TrackingError(f"MLflow: {told}; run again when it is there") from without_secrets(error)
    if done:
        write_removed_in_mlflow(lake().location, time=plan.now, versions=done)
    return len(done)
