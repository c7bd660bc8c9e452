"""Sales of a bakery: four plain assets under a key prefix, in a file that is a script and a module.

```sh
export DAGSTER_HOME=~/dagster
python examples/bakery/pipeline.py  # materialize all
python -m examples.bakery.pipeline  # the same
dagster dev -f examples/bakery/pipeline.py
```
"""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, SplineTransformer

from bikes_assets import Lake, ModelFormat, ModelIOManager, TableIOManager, with_lineage

INPUTS = ["weekday", "temperature"]


@dg.asset
def sales() -> pd.DataFrame:
    """Loaves sold on each day of a year, drawn with a seed."""
    random, day = np.random.default_rng(5), np.arange(365)
    temperature = (12 - 9 * np.cos(2 * np.pi * day / 365) + random.normal(0, 3, 365)).round(1)
    loaves = 300 + 80 * (day % 7 == 5) - 0.2 * (temperature - 15) ** 2 + random.normal(0, 12, 365)
    dates = pd.date_range("2024-01-01", periods=365, unit="us")
    return pd.DataFrame({"day": dates, "temperature": temperature, "loaves": loaves.round().astype("int64")})


@dg.asset
def sales_features(sales: pd.DataFrame) -> pd.DataFrame:
    """What the model reads of each day, and the loaves to predict."""
    return sales.assign(weekday=sales["day"].dt.day_name().astype("str"))[["day", *INPUTS, "loaves"]]


@dg.asset(io_manager_key="models")
def sales_model(sales_features: pd.DataFrame) -> Pipeline:
    """Ridge regression of the loaves, with a day of the week each and a smooth curve of the temperature."""
    columns = make_column_transformer((OneHotEncoder(), ["weekday"]), (SplineTransformer(), ["temperature"]))
    return make_pipeline(columns, Ridge()).fit(sales_features[INPUTS], sales_features["loaves"])


@dg.asset
def sales_predictions(sales_features: pd.DataFrame, sales_model: Pipeline) -> pd.DataFrame:
    """What the model predicts for each day."""
    return sales_features[["day"]].assign(predicted=sales_model.predict(sales_features[INPUTS]).round(1))


LAKE = Lake(os.environ.get("BAKERY_LAKE", "lake"), schemas={}, root=Path(__file__).parent)
defs = dg.Definitions(
    assets=with_lineage(dg.load_assets_from_current_module(key_prefix="bakery")),
    resources={
        "io_manager": TableIOManager(LAKE).resource(),
        "models": ModelIOManager(LAKE, ModelFormat.of_estimators()).resource(),
        "mlflow": dg.ResourceDefinition.none_resource(),
    },
    executor=dg.in_process_executor,
)
if __name__ == "__main__":
    defs.resolve_implicit_global_asset_job_def().execute_in_process(instance=dg.DagsterInstance.get())
