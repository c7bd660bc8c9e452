"""How the features are computed, for the record: it describes their code and is not part of it."""

from __future__ import annotations

from typing import Any

import narwhals as nw

from bikes_assets.core.code_version import code_version
from bikes_assets.demand.features import FEATURE_NAMES, HISTORY_HOURS, HORIZON_HOURS, IMPUTATION_HOURS, STEPS

NOT_IN_CODE_VERSION = True


def transformations(rentals: Any = None) -> dict[str, str]:
    """Return how the features are computed, for the record: code version of each and of the steps, imputation, windows.

    Args:
        rentals: the frame that they were computed from; the record names its engine.
    """
    module = STEPS[0].function.__module__
    versions = {f"feature.{name}": code_version(module, name) for name in FEATURE_NAMES}
    engine = {} if rentals is None else {"engine": nw.get_native_namespace(nw.from_native(rentals)).__name__}
    return (
        versions
        | engine
        | {
            "steps": code_version(module, "STEPS"),
            "imputation": f"last known weather, at most {IMPUTATION_HOURS} h old",
            "demand_horizon_hours": str(HORIZON_HOURS),
            "history_hours": str(HISTORY_HOURS),
        }
    )
