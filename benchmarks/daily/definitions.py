"""Readings of each hour of a day, and how they differ from those of the day before."""

import dagster as dg
import numpy as np
import pandas as pd
from daily.project import END, LAKE, PARTITIONS

from bikes_assets import TableIOManager, with_lineage

DAYS = dg.DailyPartitionsDefinition(PARTITIONS[0], end_date=END)
AFTER_ONE = dg.DailyPartitionsDefinition(PARTITIONS[1], end_date=END)
BEFORE = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=0)


@dg.asset(partitions_def=DAYS)
def readings(context: dg.AssetExecutionContext) -> pd.DataFrame:
    """A day's readings."""
    hours = pd.date_range(context.partition_key, periods=24, freq="h", unit="us")
    return pd.DataFrame({"hour": hours, "value": np.random.default_rng(hours[0].toordinal()).normal(size=24)})


@dg.asset(partitions_def=AFTER_ONE, ins={"readings": dg.AssetIn(partition_mapping=BEFORE)})
def changes(context: dg.AssetExecutionContext, readings: pd.DataFrame) -> pd.DataFrame:
    """How each reading differs from that of the day before."""
    ordered = readings.sort_values("hour")
    table = ordered.assign(change=ordered["value"].diff(24))
    return table[table["hour"] >= pd.Timestamp(context.partition_key)].reset_index(drop=True)


defs = dg.Definitions(
    assets=with_lineage([readings, changes]),
    resources={
        "io_manager": TableIOManager(LAKE).resource(),
        "mlflow": dg.ResourceDefinition.none_resource(),
    },
    executor=dg.in_process_executor,
)
