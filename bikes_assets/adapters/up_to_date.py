"""The check `up_to_date` of an asset's partitions, by which Dagster's pages show what is stale and why.

A partition passes it when it is materialized. It fails it, as a warning, when an input, the code or the config changes
afterwards, and passes again when the change is undone: a sensor of the project reports that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from bikes_assets.lineage.checks import Check, Verdict
from bikes_assets.lineage.graph import parse_address

if TYPE_CHECKING:
    from collections.abc import Mapping

_PASSED = "materialized from its current inputs"
CURRENT = Check(
    "up_to_date",
    "The partition is what its current inputs, code and config make. A sensor reports when that is no longer so, and why.",
    blocking=False,
    function=lambda _: Verdict(True, _PASSED),
)


@dataclass(frozen=True)
class Stale:
    """A partition that is materialized, and not from what is current.

    Attributes:
        run: Dagster's run that materialized it.
        why: what differs, in a sentence.
    """

    run: str
    why: str


def report(
    instance: dg.DagsterInstance, stale: Mapping[str, Stale], reported: Mapping[str, Stale], most: int
) -> dict[str, Stale]:
    """Report to Dagster which partitions are stale and which are no more, and return what is reported by now.

    Args:
        instance: Dagster's instance.
        stale: the stale partitions by address.
        reported: those that were reported before.
        most: how many are reported at most; the others are left for the next time.
    """
    known = dict(reported)
    changed = [address for address in {**stale, **known} if stale.get(address) != known.get(address)]
    for address in changed[:most]:
        if now := stale.get(address):
            _evaluate(instance, address, now.run, now.why)
            known[address] = now
        else:
            _evaluate(instance, address, known.pop(address).run, "")
    return known


def _evaluate(instance: dg.DagsterInstance, address: str, run_id: str, why: str) -> None:
    """Report the check's result to the run that materialized a partition, which passed it then.

    Dagster takes but one result of a check of a partition that belongs to no run; no public way reports one to a run.
    """
    from dagster._core.events import DagsterEvent, DagsterEventType

    asset, partition, _ = parse_address(address)
    found = why or _PASSED
    evaluation = dg.AssetCheckEvaluation(
        dg.AssetKey.from_user_string(asset),
        CURRENT.name,
        passed=not why,
        partition=partition,
        severity=dg.AssetCheckSeverity.WARN,
        description=found,
        metadata={"found": found, "expected": CURRENT.description},
        blocking=False,
    )
    run = instance.get_run_by_id(run_id)
    kind, job = DagsterEventType.ASSET_CHECK_EVALUATION.value, run.job_name if run else ""
    instance.report_dagster_event(DagsterEvent(kind, job, event_specific_data=evaluation), run_id)
