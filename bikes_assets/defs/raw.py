"""Raw data: the external source, and its validated rows."""

from datetime import UTC, datetime

import dagster as dg

from bikes_assets.defs.asset import OWNERS, TAGS, demand_asset
from bikes_assets.defs.external.datasets import feeding
from bikes_assets.defs.partitions import LAST_MONTH, MONTHS, freshness
from bikes_assets.demand import checks
from bikes_assets.demand.tables import HOURLY_FROM_RECORDS, HOURLY_RENTALS, RENTAL_RECORDS
from bikes_assets.events import metadata
from bikes_assets.orchestration.io_managers import Outcome

rental_records = dg.AssetSpec(
    "rental_records",
    deps=feeding("rental_records"),
    description="The source as it came: one row an hour with its weather and rentals. Observed, never written: each month's "
    "observation names the files' SHA-256 and the content digest of the month's rows.",
    partitions_def=MONTHS,
    group_name="raw",
    kinds={"file"},
    owners=OWNERS,
    tags=TAGS,
    metadata={"dagster/column_schema": metadata.table_schema(RENTAL_RECORDS)},
)


@demand_asset(
    partitions=MONTHS,
    ins={"rental_records": dg.AssetIn(input_manager_key="source")},
    group="raw",
    kinds={"pandas", "deltalake"},
    schema=HOURLY_RENTALS,
    lineage={column: {"rental_records": names} for column, names in HOURLY_FROM_RECORDS.items()},
    checks=checks.OF_RENTALS,
    automation=None,  # a sensor or a schedule makes it: see triggers
    freshness=freshness(LAST_MONTH, datetime.now(UTC).date()),
)
def hourly_rentals(context: dg.AssetExecutionContext, rental_records) -> Outcome:
    """Rentals of each hour, parsed, typed and validated; missing weather stays missing, absent hours stay absent."""
    from bikes_assets.demand import plots, source

    rentals = source.hourly_rentals(rental_records)
    return Outcome(
        rentals,
        datasets={"raw": ("rental_records", None)},
        role="rentals",
        metrics={"rows": len(rentals), "rentals": rentals["cnt"].sum()},
        plots={"demand": plots.demand_over_time(rentals)},
    )
