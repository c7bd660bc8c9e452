"""What a run needs, imported once in a process that forks the others; nothing is opened here, for forks would share it."""

import importlib
import os
import warnings

os.environ |= {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "OMP_NUM_THREADS": "1",
}
warnings.simplefilter("ignore")

_MODULES = (
    "alembic.command",
    "alembic.config",
    "dagster._core.execution.api",
    "dagster._daemon",
    "dagster_mlflow",
    "dagster_shared",
    "deltalake",
    "deltalake.fs",
    "fsspec.core",
    "fsspec.implementations.local",
    "greenlet",
    "mlflow.data",
    "mlflow.pyfunc",
    "mlflow.sklearn",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "narwhals",
    "numpy.random",
    "pandas",
    "psutil",
    "pyarrow.dataset",
    "pytest",
    "skops.io",
    "sklearn.linear_model",
    "structlog",
    "upath",
    "watchdog.observers",
    "bikes_assets.tracking.datasets",
    "bikes_assets_tests.fire.processes",
)

for _name in _MODULES:
    importlib.import_module(_name)
