"""Predictions, and how good they turned out to be."""

import dagster as dg

from bikes_assets.defs.asset import Served, demand_asset
from bikes_assets.defs.partitions import MODEL_MONTHS, earlier
from bikes_assets.demand import checks
from bikes_assets.demand.features import FEATURE_NAMES
from bikes_assets.demand.tables import DEMAND_PREDICTIONS, PREDICTION_QUALITY, QUALITY_LINEAGE
from bikes_assets.orchestration.io_managers import Outcome


@demand_asset(
    partitions=MODEL_MONTHS,
    ins={"demand_features": dg.AssetIn(), "champion_model": dg.AssetIn()},
    group="predictions",
    kinds={"scikitlearn", "deltalake"},
    schema=DEMAND_PREDICTIONS,
    lineage={
        "ts": {"demand_features": ["ts"]},
        "prediction": {"demand_features": FEATURE_NAMES},
        "baseline": {"demand_features": ["hour_of_week"]},
    },
    checks=checks.OF_PREDICTIONS,
)
def demand_predictions(context: dg.AssetExecutionContext, demand_features, champion_model: Served) -> Outcome:
    """Demand of each hour of a month as its champion predicts it; no model has seen the month or the one before."""
    from bikes_assets.demand import champion

    model = champion.serving(champion_model, context.partition_key)
    predicted = champion.predictions(model, demand_features)
    return Outcome(
        predicted,
        datasets={"inference": ("demand_features", None)},
        role="predictions",
        used={"demand_features": ["ts", *model.columns]},
        metrics={"rows": len(predicted)},
        params={"model": model.name, "model_address": model.origin},
    )


@demand_asset(
    partitions=MODEL_MONTHS,
    ins={
        "demand_predictions": dg.AssetIn(),
        "hourly_rentals": dg.AssetIn(),
        "demand_features": dg.AssetIn(partition_mapping=earlier(-12, 0)),
        "champion_model": dg.AssetIn(),
    },
    group="predictions",
    kinds={"pandas", "deltalake"},
    schema=PREDICTION_QUALITY,
    lineage=QUALITY_LINEAGE,
    checks=checks.OF_QUALITY,
)
def prediction_quality(context, demand_predictions, hourly_rentals, demand_features, champion_model: Served) -> Outcome:
    """Error of each prediction against what was rented, beside its baseline's; and drift of what predictions rest on."""
    from bikes_assets.demand import champion, drift, evaluation, plots

    model = champion.serving(champion_model, context.partition_key)
    errors = evaluation.quality(demand_predictions, hourly_rentals, demand_features)
    drifted = drift.month_drift(model, demand_features, errors["error"], context.partition_key)
    return Outcome(
        errors,
        datasets={"predictions": ("demand_predictions", None), "actuals": ("hourly_rentals", None)},
        used={"hourly_rentals": ["cnt"], "champion_model": []},  # drift is a figure, no column
        metrics={**evaluation.quality_scores(errors), **drifted.metrics},
        series=evaluation.quality_series(errors),
        plots=plots.of_quality(errors, drifted),
    )
