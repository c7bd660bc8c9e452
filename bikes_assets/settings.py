"""Settings: read from the environment (`BIKES_...`) and from .env in the project's root; each has a default."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, Json, SecretStr, ValidationError

from bikes_assets.lineage.errors import SettingsError

ROOT = Path(__file__).resolve().parents[1]
"""The project's root, which relative paths in settings are relative to."""


class Settings(BaseModel):
    """Where things are. Secrets (a database password, a store's keys) belong in the environment; they are stored nowhere.

    Attributes:
        source: rental records: a CSV or Parquet file, a folder of them, a URL that fsspec reads, or a database URL.
        source_query: SQL query, when `source` is a database URL.
        dvc: what becomes of a file that DVC tracks and that is not what its pointer says: `refuse` or `mark` it.
        first_month: first partition, such as 2011-01; default is the source's first month.
        last_month: last partition; default is the source's last month.
        data: folder of everything that is produced.
        lake: folder or URL of tables and model files; default is `lake` under `data`.
        mlflow_tracking_uri: MLflow's store or server; default is a SQLite file under `data`.
        home: Dagster's instance folder, from `DAGSTER_HOME`; default is `dagster` under `data`.
        dagster_storage: database URL of Dagster's runs and events; default is SQLite under `home`.
        experiment: MLflow experiment.
        engine: what computes features: `pandas`, `duckdb` or `spark`.
        engine_memory: memory limit of DuckDB, such as 2GB.
        deployment: which deployment this is, such as production; records name it.
        model: settings of `demand_model` that differ from the defaults, as JSON, such as {"seed": 1}.
        triggers: whether sensor, schedule and automation are on until somebody switches them in Dagster's page.
        tick_seconds: seconds between two looks of sensor and automation.
        schedule: when the schedule looks, as a cron expression in UTC.
        proof: when the champion is made again from its record, as a cron expression in UTC.
        dagster_url: where people open Dagster; links in MLflow lead there.
        mlflow_url: where people open MLflow; links in Dagster lead there.
    """

    model_config = ConfigDict(alias_generator=lambda name: f"BIKES_{name.upper()}", extra="ignore", frozen=True)

    source: str = "data/raw/hour.csv"
    source_query: str | None = None
    dvc: Literal["refuse", "mark"] = "refuse"
    first_month: str | None = Field(None, pattern=r"^\d{4}-(0[1-9]|1[0-2])$")
    last_month: str | None = Field(None, pattern=r"^\d{4}-(0[1-9]|1[0-2])$")
    data: Path = Path("data")
    lake: str = ""
    mlflow_tracking_uri: str = Field(
        "", validation_alias=AliasChoices("BIKES_MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_URI")
    )
    home: str = Field("", validation_alias="DAGSTER_HOME")
    dagster_storage: SecretStr = SecretStr("")
    experiment: str = "bike-demand"
    engine: Literal["pandas", "duckdb", "spark"] = "pandas"
    engine_memory: str = Field("2GB", pattern=r"^\d+(\.\d+)? ?[KMGT]i?B$")
    deployment: str = "local"
    model: Json[dict[str, Any]] = {}
    triggers: bool = False
    tick_seconds: int = Field(30, ge=1)
    schedule: str = "0 6 * * *"
    proof: str = "0 4 * * 0"
    dagster_url: str = "http://127.0.0.1:3000"
    mlflow_url: str = "http://127.0.0.1:5000"

    @property
    def source_location(self) -> str:
        """The source with a relative path made absolute; URLs stay as they are."""
        return self.source if "://" in self.source else str(ROOT / self.source)

    @property
    def source_files(self) -> str:
        """The source where it is a file or folder, "" where it is a database."""
        return "" if self.source_query else self.source_location

    @property
    def data_folder(self) -> Path:
        """Absolute path of the folder of everything that is produced."""
        return ROOT / self.data

    @property
    def lake_location(self) -> str:
        """Folder or URL of tables and model files."""
        return self.lake.rstrip("/") if "://" in self.lake else str(ROOT / (self.lake or self.data / "lake"))

    @property
    def tracking_uri(self) -> str:
        """MLflow's store or server."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.data_folder / 'mlflow' / 'mlflow.db'}"

    @property
    def dagster_home(self) -> Path:
        """Dagster's instance folder: `DAGSTER_HOME`, else `dagster` under `data`."""
        return Path(self.home or self.data_folder / "dagster")

    @property
    def event_storage(self) -> str:
        """Where Dagster's runs and events are: a database URL, which may hold a password, or `dagster_home`."""
        return self.dagster_storage.get_secret_value() or str(self.dagster_home)


@cache
def settings() -> Settings:
    """Return this process's settings; they are read once.

    Raises:
        SettingsError: a setting makes no sense.
    """
    given = {name: value for source in (_kept(), os.environ) for name, value in source.items() if value}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise SettingsError(f"{wrong['loc'][0]}: found {wrong['input']!r}, expected another: {wrong['msg']}") from None


def _kept() -> dict[str, str | None]:
    """Return the variables of .env."""
    file = ROOT / ".env"
    if not file.exists():
        return {}
    from dotenv import dotenv_values

    return dotenv_values(file)
