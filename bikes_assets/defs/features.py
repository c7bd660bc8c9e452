"""Features: each computed from the columns that it declares, by the engine that is set."""

import dagster as dg

from bikes_assets.defs.asset import demand_asset
from bikes_assets.defs.partitions import MONTHS, earlier
from bikes_assets.demand import checks
from bikes_assets.demand.features import COLUMN_LINEAGE, DEMAND_FEATURES
from bikes_assets.orchestration.io_managers import Outcome


@demand_asset(
    partitions=MONTHS,
    ins={"hourly_rentals": dg.AssetIn(partition_mapping=earlier(-1, 0), input_manager_key="engine")},
    group="features",
    kinds={"narwhals", "deltalake"},
    schema=DEMAND_FEATURES,
    lineage={column: {"hourly_rentals": names} for column, names in COLUMN_LINEAGE.items()},
    checks=checks.OF_FEATURES,
)
def demand_features(context: dg.AssetExecutionContext, hourly_rentals) -> Outcome:
    """Calendar, weather and past demand of each hour, and the demand to predict; lags reach into the month before."""
    from bikes_assets.demand import features
    from bikes_assets.demand.transformations import transformations

    table = features.demand_features(hourly_rentals, context.partition_key)
    return Outcome(
        table,
        datasets={"raw": ("hourly_rentals", None)},
        role="features",
        used={"hourly_rentals": features.COLUMNS_READ},
        metrics={"rows": len(table)},
        params=transformations(rentals=hourly_rentals),
    )
