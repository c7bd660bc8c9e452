"""Predictions, and how good they turned out to be."""

import dagster as dg

from bikes_assets.adapters.lake import Outcome
from bikes_assets.defs.asset import demand_asset
from bikes_assets.defs.partitions import MODEL_MONTHS
from bikes_assets.demand.features import FEATURE_NAMES
from bikes_assets.demand.tables import DEMAND_PREDICTIONS, PREDICTION_QUALITY


@demand_asset(
    partitions=MODEL_MONTHS,
    ins={"demand_features": dg.AssetIn(), "champion_model": dg.AssetIn()},
    group="predictions",
    kinds={"scikitlearn", "deltalake"},
    schema=DEMAND_PREDICTIONS,
    lineage={"ts": {"demand_features": ["ts"]}, "prediction": {"demand_features": FEATURE_NAMES}},
)
def demand_predictions(context: dg.AssetExecutionContext, demand_features, champion_model) -> Outcome:
    """Demand of each hour of a month as its champion predicts it; no model has seen the month or the one before."""
    from bikes_assets.demand import champion

    model = champion_model[context.partition_key]
    predicted = champion.predictions(model, demand_features)
    return Outcome(
        predicted,
        datasets={"inference": ("demand_features", None)},
        role="predictions",
        metrics={"rows": len(predicted)},
        params={"model": model.name, "model_address": model.origin},
    )


@demand_asset(
    partitions=MODEL_MONTHS,
    ins={"demand_predictions": dg.AssetIn(), "hourly_rentals": dg.AssetIn()},
    group="predictions",
    kinds={"pandas", "deltalake"},
    schema=PREDICTION_QUALITY,
    lineage={
        "ts": {"demand_predictions": ["ts"]},
        "actual": {"hourly_rentals": ["cnt"]},
        "prediction": {"demand_predictions": ["prediction"]},
        "error": {"demand_predictions": ["prediction"], "hourly_rentals": ["cnt"]},
    },
)
def prediction_quality(context: dg.AssetExecutionContext, demand_predictions, hourly_rentals) -> Outcome:
    """Error of each prediction against what was rented."""
    from bikes_assets.demand import evaluation, plots

    errors, scores = evaluation.quality(demand_predictions, hourly_rentals)
    return Outcome(
        errors,
        datasets={"predictions": ("demand_predictions", None), "actuals": ("hourly_rentals", None)},
        metrics=scores,
        figures={
            "predicted and actual": plots.predicted_and_actual(errors),
            "error by hour": plots.error_by_hour(errors),
        },
    )
