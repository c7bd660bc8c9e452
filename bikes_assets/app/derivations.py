"""How the values of each table of this project are derived, for tracing them."""

from bikes_assets.app.settings import settings
from bikes_assets.app.store import lake
from bikes_assets.demand import features, tables
from bikes_assets.lineage.trace import Computed, Derivations, Tracer

_DERIVATIONS = Derivations(
    same_row={
        "demand_features": {name: {"hourly_rentals": [name]} for name in ("ts", tables.ACTUAL.name)},
        "demand_predictions": {"ts": {"demand_features": ["ts"]}},
        "prediction_quality": tables.QUALITY_LINEAGE,
    },
    computed={
        "demand_features": Computed("hourly_rentals", features.FEATURES, features.STEPS, features.on_hourly_grid)
    },
    predicted={"demand_predictions": ("demand_features", {"prediction": "", "baseline": "baseline"})},
)


def tracer() -> Tracer:
    """Return a tracer of rows in the lake."""
    return Tracer(lake(), _DERIVATIONS, settings().source_files)
