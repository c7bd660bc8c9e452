"""What is declared of this project's columns, held against what its code does on all that has been made."""

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
    """Return what is found when the features are held against their declaration, on every month of the lake.

    Args:
        seed: where the perturbations come from.
        progress: called with the experiment and the number of perturbed tables so far, after each.

    Raises:
        LineageError: there are no rentals.
    """
    from bikes_assets import load
    from bikes_assets.demand.column_lineage import features_evidence

    return features_evidence(load("hourly_rentals"), seed, progress=progress)


@dataclass(frozen=True, slots=True)
class ModelProof:
    """How far each input of a fitted model reaches, and how much it matters, which has no part in that.

    Attributes:
        address: the model's partition.
        inputs: each input, on the rows of the month that the model was judged on.
        importance: by how much its RMSE grows there when an input is shuffled, rentals/hour.
    """

    address: str
    inputs: tuple[Reach, ...]
    importance: Mapping[str, float]


def of_model(seed: int = 0) -> ModelProof:
    """Return what is found of the newest fitted model.

    Raises:
        NothingToDo: there is no model.
    """
    from bikes_assets import load
    from bikes_assets.demand.model import inputs, permutation_importance
    from bikes_assets.verification.model_inputs import reach

    models = table("demand_model")
    if not models.exists() or not (months := models.published()):
        raise NothingToDo("there is no demand_model to look at; run bikes run first")
    address = f"demand_model[{max(map(str, months))}]"
    model = load(address)
    rows = load(f"demand_features[{model.validation_month}]")
    reached = reach(model.estimator, inputs(rows, model.features), seed)
    return ModelProof(address, reached, permutation_importance(model, rows))
