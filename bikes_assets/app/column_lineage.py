"""The declared column lineage of this project, compared with what its code does on the data in the lake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bikes_assets.app.store import table
from bikes_assets.core.errors import NothingToDo

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bikes_assets.verification.column_lineage import Evidence
    from bikes_assets.verification.model_inputs import Reach


def of_features(seed: int = 0, progress: Callable[[str, int], None] | None = None) -> Evidence:
    """Return the result of verifying the features' declared column lineage by perturbation, on every month of the lake.

    Args:
        seed: seed of the perturbations.
        progress: called with the experiment and the number of perturbed tables so far, after each.

    Raises:
        LineageError: there are no rentals.
    """
    from bikes_assets.app.notebook import load
    from bikes_assets.demand.column_lineage import features_evidence

    return features_evidence(load("hourly_rentals"), seed, progress=progress)


@dataclass(frozen=True, slots=True)
class ModelEvidence:
    """How far each input of a fitted model reaches, and its importance, which is measured independently of that.

    Attributes:
        address: the model's partition.
        inputs: reach of each input, on the rows of the month that the model was validated on.
        importance: increase of the RMSE on those rows when an input is shuffled, rentals/hour.
    """

    address: str
    inputs: tuple[Reach, ...]
    importance: Mapping[str, float]


def of_model(seed: int = 0) -> ModelEvidence:
    """Return the model inputs of the newest fitted model.

    Raises:
        NothingToDo: there is no model.
    """
    from bikes_assets.app.notebook import load
    from bikes_assets.demand.model import inputs, permutation_importance
    from bikes_assets.verification.model_inputs import reach

    models = table("demand_model")
    if not models.exists() or not (months := models.published()):
        raise NothingToDo("there is no demand_model to look at; run bikes run first")
    address = f"demand_model[{max(map(str, months))}]"
    model = load(address)
    rows = load(f"demand_features[{model.validation_month}]")
    reached = reach(model.estimator, inputs(rows, model.features), seed)
    return ModelEvidence(address, reached, permutation_importance(model, rows))
