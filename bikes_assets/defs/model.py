"""Models: one fitted for each month, and the one that serves it."""

from typing import Any

import dagster as dg
from pydantic import Field

from bikes_assets.app.settings import settings
from bikes_assets.core.staleness import KEEP
from bikes_assets.defs.asset import OWNERS, TAGS, Served, demand_asset
from bikes_assets.defs.partitions import MODEL_MONTHS, all_earlier, earlier
from bikes_assets.demand import checks
from bikes_assets.demand.features import FEATURE_NAMES
from bikes_assets.demand.model import ESTIMATORS, MIN_TRAINING_MONTHS, Recipe
from bikes_assets.orchestration.io_managers import Outcome

DEFAULT = Recipe()


class DemandModelConfig(dg.Config):
    """Which model to fit (see `demand.model.Recipe`). Seed and threads are part of the record: a fit can be repeated.

    The features that there are stand here by their names: their code is the features' own, and what of it a model uses reaches it
    by the columns that it reads.
    """

    features: list[str] = Field([], description="Columns of demand_features that the model is fitted on.")
    estimator: str = Field(DEFAULT.estimator, description="Kind of estimator: " + ", ".join(ESTIMATORS) + ".")
    parameters: dict[str, Any] = Field(
        dict(DEFAULT.parameters),
        description="Hyperparameters, as scikit-learn's estimator takes them, in the place of all of the project's: name those "
        "that stay, too.",
    )
    level: str = Field(DEFAULT.level, description="Column that demand is divided by before the fit; empty for none.")
    without: list[str] = Field(list(DEFAULT.without), description="Features that are left out of the fit.")
    seed: int = Field(DEFAULT.seed, ge=0, le=2**32 - 1, description="Random seed; with it a fit can be reproduced.")
    threads: int = Field(
        DEFAULT.threads, ge=1, le=256, description="Threads of the fit; with more than one, last digits may differ."
    )
    min_training_months: int = Field(
        MIN_TRAINING_MONTHS,
        ge=1,
        description="With fewer months to fit on, the month gets the mean of each hour of the week instead.",
    )
    keep: bool | None = Field(
        None,
        description="true: keep this config for this month, also when it is materialized again. false: keep it no more. Without "
        "either, a config that differs from the project's is replaced by the next `bikes run` or automation tick.",
    )

    def recipe(self) -> Recipe:
        """Return the recipe that these settings are."""
        return Recipe(**self.model_dump(exclude={"features", "min_training_months", KEEP}))


@demand_asset(
    partitions=MODEL_MONTHS,
    ins={"demand_features": dg.AssetIn(partition_mapping=all_earlier())},
    group="model",
    kinds={"scikitlearn", "mlflow"},
    io_manager="models",
    checks=checks.OF_MODEL,
    config={"features": list(FEATURE_NAMES), **settings().model},
)
def demand_model(context: dg.AssetExecutionContext, config: DemandModelConfig, demand_features) -> Outcome:
    """Model for a month: fitted on the months before the previous one, validated on that one, and not fitted again after that."""
    from bikes_assets.demand import model, plots

    month, names, least = context.partition_key, config.features, config.min_training_months
    fitted = model.fit(demand_features, month, names, config.recipe(), min_training_months=least, say=context.log.info)
    context.log.info(f"computing permutation importance on {fitted.validation_month}")
    return Outcome(
        fitted,
        datasets={
            "training": ("demand_features", fitted.training_months),
            "validation": ("demand_features", [fitted.validation_month]),
        },
        metrics=fitted.metrics,
        used={"demand_features": [*fitted.features, model.TARGET]},
        unused={"demand_features": model.unused(fitted)},
        params={"model": fitted.name},
        plots={"importance": plots.importance(fitted, demand_features)},
        example=model.inputs(demand_features.tail(5), fitted.features),
    )


champion_pins = dg.AssetSpec(
    "champion_pins",
    description="Recorded decisions that promote a model for a month whatever its scores, each with reason and author "
    "(`bikes pin`, `bikes unpin`).",
    partitions_def=MODEL_MONTHS,
    group_name="model",
    kinds={"deltalake"},
    owners=OWNERS,
    tags=TAGS,
)


@demand_asset(
    partitions=MODEL_MONTHS,
    ins={
        "demand_model": dg.AssetIn(partition_mapping=earlier(-2, 0)),
        "demand_features": dg.AssetIn(partition_mapping=earlier(-1, -1)),
        "champion_pins": dg.AssetIn(input_manager_key="models"),
    },
    group="model",
    kinds={"scikitlearn", "mlflow"},
    io_manager="models",
    checks=checks.OF_CHAMPION,
)
def champion_model(
    context: dg.AssetExecutionContext, demand_model: dict[str, Any], demand_features, champion_pins: Served
) -> Outcome:
    """Model that serves a month: the best of the last three on the month before, which none was fitted on, or the pinned one."""
    from bikes_assets.demand import champion, plots

    choice = champion.choose(demand_model, champion_pins, demand_features, context.partition_key)
    return Outcome(
        choice.model,
        datasets={"validation": ("demand_features", None)},
        used={"demand_features": choice.columns},
        metrics=choice.metrics,
        params=choice.params,
        plots={"candidates": plots.candidates(choice)},
    )
