"""The check `up_to_date` of an asset's partitions, by which Dagster's pages show what is stale and why.

A partition passes the check when it is materialized. It fails, as a warning, when an input, the code or the config
changes afterwards, and passes again when the change is undone: a sensor of the project reports that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData

from bikes_assets.core.checks import Check, Verdict
from bikes_assets.core.record import parse_address

if TYPE_CHECKING:
    from collections.abc import Mapping

_PASSED = "materialized from its current inputs"
CURRENT = Check(
    "up_to_date",
    "The partition is what its current inputs, code and config make. A sensor reports when that is no longer so, and why.",
    blocking=False,
    function=lambda _: Verdict(True, _PASSED),
)


def report(
    instance: dg.DagsterInstance, stale: Mapping[str, str], reported: Mapping[str, str], most: int
) -> dict[str, str]:
    """Report to Dagster which partitions are stale and which no longer are, and return what is reported by now.

    Args:
        instance: Dagster's instance.
        stale: why each stale partition is stale, by address.
        reported: those that were reported before.
        most: how many are reported at most; the others are left for the next call.
    """
    known = dict(reported)
    changed = [address for address in {**stale, **known} if stale.get(address) != known.get(address)]
    for address in changed[:most]:
        why = stale.get(address, "")
        _evaluate(instance, address, why)
        known |= {address: why} if why else {}
        if not why:
            del known[address]
    return known


def _evaluate(instance: dg.DagsterInstance, address: str, why: str) -> None:
    """Report the check's result for a partition, outside of any run.

    Dagster's table holds one such result per check and partition, so the previous one is replaced; its event stays in
    the log. A test pins this.
    """
    import sqlalchemy as sa
    from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable as Executions

    asset, partition, _ = parse_address(address)
    key, found = dg.AssetKey.from_user_string(asset), why or _PASSED
    at, storage = Executions.c, cast("Any", instance.event_log_storage)
    of_no_run = (
        at.asset_key == key.to_string(),
        at.check_name == CURRENT.name,
        at.run_id == "",
        at.partition == partition,
    )
    with storage.index_connection() as connection:
        connection.execute(sa.delete(Executions).where(*of_no_run))
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            key,
            CURRENT.name,
            passed=not why,
            partition=partition,
            severity=dg.AssetCheckSeverity.WARN,
            description=found,
            metadata={"found": found, "expected": CURRENT.description},
            target_materialization_data=_latest(instance, key, partition),
            blocking=False,
        )
    )


def _latest(
    instance: dg.DagsterInstance, asset: dg.AssetKey, partition: str | None
) -> AssetCheckEvaluationTargetMaterializationData | None:
    """Return the target of a result: the latest materialization, as Dagster ignores results about earlier ones."""
    chosen = dg.AssetRecordsFilter(asset, asset_partitions=[partition] if partition else None)
    records = instance.fetch_materializations(chosen, limit=1).records
    if not records:
        return None
    latest = records[0]
    return AssetCheckEvaluationTargetMaterializationData(
        storage_id=latest.storage_id, run_id=latest.run_id, timestamp=latest.timestamp
    )
