"""Settings: read from the environment (`BIKES_...`) and from .env in the project's root; each has a default."""

from __future__ import annotations

import json
import os
import re
import shlex
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    SecretStr,
    ValidationError,
    model_validator,
)

from bikes_assets.app import env_file
from bikes_assets.core import secrets
from bikes_assets.core.errors import SettingsError
from bikes_assets.core.record import fits_json
from bikes_assets.orchestration import cron

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
"""The project's root; relative paths in settings are relative to it."""
MLFLOW = ("BIKES_MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_URI")
PLACES = ("BIKES_LAKE", "BIKES_DAGSTER_STORAGE", "DAGSTER_HOME", *MLFLOW)
"""Settings, beside BIKES_DATA, that say where parts of the store are."""
_TRACKING = re.compile(r"sqlite:///[^?]+(\?.*)?|(https?|(postgresql|mysql|mssql)(\+\w+)?)://[^/].*", re.DOTALL)
_STORAGE = re.compile(r"postgresql(\+psycopg2)?://.*", re.DOTALL)
_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), ("s3fs", "'bikes-assets[s3]'")),
    **dict.fromkeys(("gs", "gcs"), ("gcsfs", "gcsfs")),
    **dict.fromkeys(("az", "abfs", "abfss"), ("adlfs", "adlfs")),
    "file": ("fsspec", "fsspec"),
}
"""Package that reads a lake for each URL scheme, and what to install for it."""
_NOT_IN_DELTA = re.compile(r"[\x00-\x1f\x7f\\\[\]^|\ud800-\udfff]|%[0-9A-Fa-f]{2}"), "Delta Lake"
_NOT_IN_SQLITE = re.compile(r"[?\ud800-\udfff]|%[0-9A-Fa-f]{2}"), "the URL of a SQLite file"
"""What the path of a part of the store must not contain, and why."""


def _place(path: str) -> str:
    """Return the absolute path of a local folder or file: `~` is the home, a relative path is relative to the root."""
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise ValueError(f"found {path!r}, and no such user's home folder is known; give the path itself")
    if "\0" in expanded:
        raise ValueError("found a NUL character in a path")
    return str(ROOT / expanded)


def _folder(path: str) -> str:
    place = _place(path)
    there = next(part for part in (Path(place), *Path(place).parents) if part.exists())
    if not there.is_dir():
        raise ValueError(f"found {there}, which is no folder, expected a folder, which is created where there is none")
    return place


def _location(location: str) -> str:
    """Return a URL without trailing slashes, or the absolute path of a folder."""
    if "://" not in location:
        return _folder(location) if location else ""
    if (kind := location.partition("://")[0]) not in _PACKAGES:
        raise ValueError(f"found {secrets.shown(location)}, expected a folder, or a URL such as s3://bucket/prefix")
    package, wanted = _PACKAGES[kind]
    if find_spec(package) is None:
        raise ValueError(f"{location.rstrip('/')} needs a package that is missing: pip install {wanted}")
    return location.rstrip("/")


def _in_sqlite(uri: str) -> str:
    """Return a SQLite URL with the file's absolute path; any other URL unchanged."""
    path, mark, query = uri.removeprefix("sqlite:///").partition("?")
    return f"sqlite:///{_place(path)}{mark}{query}" if uri.startswith("sqlite:///") else uri


def _is_placed(source: str) -> str:
    """Return a source unchanged, after checking that its location can be determined."""
    _in_sqlite(source) if "://" in source else _place(source)
    return source


def _tracking(uri: str) -> str:
    """Return MLflow's store or server; a SQLite file with its absolute path."""
    if uri and not _TRACKING.fullmatch(uri):
        raise ValueError(
            f"found {secrets.shown(uri)}, expected a server, such as http://127.0.0.1:5000, or a database, such as "
            "sqlite:////folder/mlflow.db"
        )
    return _in_sqlite(uri)


def _storage(url: SecretStr) -> SecretStr:
    if url.get_secret_value() and not _STORAGE.fullmatch(url.get_secret_value()):
        raise ValueError(
            "found a value of another form, expected one like postgresql+psycopg2://user:password@host/database, or none for "
            "SQLite"
        )
    return url


def _alert(target: SecretStr) -> SecretStr:
    """Return a webhook or a command unchanged; its value may contain a token, so no message repeats it."""
    text = target.get_secret_value()
    if text and (wrong := _wrong_webhook(text) if re.match(r"\s*\w+://", text) else _wrong_command(text)):
        raise ValueError(
            f"found {wrong}, expected an http(s) URL, or a command with its arguments, quoted as in a shell"
        )
    return target


def _wrong_webhook(text: str) -> str:
    """Return why a POST can never reach a URL, "" if it may; the reason repeats nothing of the URL."""
    if not re.fullmatch(r"[!-~]+", text):
        return "a URL with spaces, control characters or others that are not ASCII"
    try:
        url = urlsplit(text)
    except ValueError:
        return "another URL"
    if url.scheme not in ("http", "https"):
        return "another URL"
    if "@" in url.netloc:
        return "a URL with a user or password, which is not sent"
    if not re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::\w*)?", url.netloc):
        return "another URL"  # urlsplit and urllib read different hosts in others, such as `x[::1]`
    try:
        return "" if url.port != 0 else "a URL with port 0"
    except ValueError:
        return "a URL whose port is no number up to 65535"


def _wrong_command(text: str) -> str:
    """Return why a text is not a command, "" if it is one."""
    try:
        return "" if shlex.split(text) else "no command"
    except ValueError:
        return "what cannot be read as a command"


def _no_nan(values: dict[str, Any]) -> dict[str, Any]:
    """Return a model's settings unchanged, after checking that a record, which is JSON, can store them."""
    if not fits_json(values):
        raise ValueError(f"found {json.dumps(values)}, expected JSON, which has no NaN and no infinity")
    return values


def _of_datasets(assets: dict[str, str]) -> dict[str, str]:
    """Return assets by namespaces and names unchanged, after checking that each has both."""
    for name in assets:
        if not all(name.partition(" ")):
            raise ValueError(f"found {name!r}, expected namespace and name of a dataset with a space between them")
    return assets


def _page(url: str) -> str:
    """Return a page's address as people open it: links contain no password."""
    if not url.startswith(("http://", "https://")) or not urlsplit(url).hostname:
        raise ValueError(f"found {secrets.shown(url)}, expected a URL such as http://127.0.0.1:3000")
    return re.sub(r"(?<=://)[^/]*@", "", url).rstrip("/")


def _token(token: SecretStr) -> SecretStr:
    """Return a token that every browser can send in a cookie."""
    if not re.fullmatch(r"[!-~]*", token.get_secret_value()):
        raise ValueError("found a sign that no cookie carries, expected letters, digits and signs of ASCII, no space")
    return token


Month = Annotated[str, Field(pattern=r"^(1[7-9]|20|21)\d\d-(0[1-9]|1[0-2])$")]
Text = Annotated[str, Field(pattern=r"\S")]
Page = Annotated[str, AfterValidator(_page)]
Cron = Annotated[str, AfterValidator(cron.checked)]


class Settings(BaseModel):
    """Where things are. Secrets (a database password, a store's keys) belong in the environment; they are never stored.

    Attributes:
        source: rental records: a CSV or Parquet file, a folder of them, a URL that fsspec reads, or a database URL.
        source_query: SQL query, when `source` is a database URL.
        dvc: what to do with a file that DVC tracks and that differs from its pointer: `refuse` or `mark` it.
        first_month: first partition, such as 2011-01; default is the source's first month.
        last_month: last partition; default is the source's last month.
        data: folder of everything that is produced.
        lake: folder or URL of tables and model files; default is `lake` under `data`.
        mlflow_tracking_uri: MLflow's store or server; default is a SQLite file under `data`.
        home: Dagster's instance folder, from `DAGSTER_HOME`; default is `dagster` under `data`.
        dagster_storage: database URL of Dagster's runs and events; default is SQLite under `home`.
        experiment: MLflow experiment.
        engine: engine that computes features: `pandas`, `duckdb` or `spark`.
        engine_memory: memory limit of DuckDB, such as 2GB.
        deployment: name of this deployment, such as production; records contain it.
        model: settings of `demand_model` that differ from the defaults, as JSON, such as {"seed": 1}.
        triggers: whether sensor, schedule and automation are on until somebody switches them in Dagster's UI.
        tick_seconds: seconds between two evaluations of sensor and automation.
        schedule: when the schedule runs, as a cron expression in UTC.
        reproduction: when the champion is rebuilt from its record, as a cron expression in UTC.
        alert: who is alerted of a failed run: an http(s) URL that takes a POST, or a command that reads it; "" for
            nobody.
        audit_key_file: file of the Ed25519 key (PEM, PKCS8) that signs the audit log's head; "" for none.
        audit_private_key: that key itself, where it is in no file.
        openlineage_datasets: which asset each dataset of other tools is, by OpenLineage's namespace and name, as JSON, such as
            {"duckdb:///srv/trips.duckdb main.trips": "demand_predictions"}.
        openlineage_api_key: key without which nobody may send OpenLineage events; "" where anybody of this machine may.
        external_assets: whether Dagster shows datasets of other tools that OpenLineage events tell of, as external assets.
        lineage_url: where people open the lineage page; links in Dagster and MLflow lead there.
        lineage_token: token without which nobody sees the lineage page; it is needed where others than this machine reach it.
        dagster_url: where people open Dagster; links in MLflow lead there.
        mlflow_url: where people open MLflow; links in Dagster lead there.
    """

    model_config = ConfigDict(alias_generator=lambda name: f"BIKES_{name.upper()}", extra="ignore", frozen=True)

    source: Annotated[str, AfterValidator(_is_placed)] = "data/raw/hour.csv"
    source_query: str | None = None
    dvc: Literal["refuse", "mark"] = "refuse"
    first_month: Month | None = None
    last_month: Month | None = None
    data: Annotated[str, AfterValidator(_folder)] = Field("data", validate_default=True)
    lake: Annotated[str, AfterValidator(_location)] = ""
    mlflow_tracking_uri: Annotated[str, AfterValidator(_tracking)] = Field("", validation_alias=AliasChoices(*MLFLOW))
    home: Annotated[str, AfterValidator(lambda path: _folder(path) if path else "")] = Field(
        "", validation_alias="DAGSTER_HOME"
    )
    dagster_storage: Annotated[SecretStr, AfterValidator(_storage)] = SecretStr("")
    experiment: Text = "bike-demand"
    engine: Literal["pandas", "duckdb", "spark"] = "pandas"
    engine_memory: str = Field("2GB", pattern=r"^\d+(\.\d+)? ?[KMGT]i?B$")
    deployment: Text = "local"
    model: Annotated[Json[dict[str, Any]], AfterValidator(_no_nan)] = {}
    triggers: bool = False
    tick_seconds: int = Field(30, ge=1, le=31_536_000)
    schedule: Cron = "0 6 * * *"
    reproduction: Cron = Field("0 4 * * 0", validation_alias=AliasChoices("BIKES_REPRODUCTION", "BIKES_PROOF"))
    alert: Annotated[SecretStr, AfterValidator(_alert)] = SecretStr("")
    audit_key_file: Annotated[str, AfterValidator(lambda path: _place(path) if path else "")] = ""
    audit_private_key: SecretStr = SecretStr("")
    openlineage_datasets: Annotated[Json[dict[str, str]], AfterValidator(_of_datasets)] = {}
    openlineage_api_key: SecretStr = SecretStr("")
    external_assets: bool = False
    lineage_url: Page = "http://127.0.0.1:5050"
    lineage_token: Annotated[SecretStr, AfterValidator(_token)] = SecretStr("")
    dagster_url: Page = "http://127.0.0.1:3000"
    mlflow_url: Page = "http://127.0.0.1:5000"

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        if self.first_month and self.last_month and self.first_month > self.last_month:
            raise ValueError(
                f"BIKES_FIRST_MONTH: found {self.first_month}, expected one up to BIKES_LAST_MONTH, {self.last_month}"
            )
        for name, path, (refused, by) in self._paths():
            if found := refused.search(path):
                raise ValueError(
                    f"{name}: found {path!r}, expected a path without {found[0]!r}, which {by} cannot hold; name another folder"
                )
        return self

    def _paths(self) -> Iterator[tuple[str, str, tuple[re.Pattern[str], str]]]:
        """Yield the local paths of the store's parts: the setting that names each, and what the path must not have."""
        if "://" not in self.lake:
            yield "BIKES_LAKE" if self.lake else "BIKES_DATA", self.lake_location, _NOT_IN_DELTA
        if not self.dagster_storage.get_secret_value():
            yield "DAGSTER_HOME" if self.home else "BIKES_DATA", str(self.dagster_home), _NOT_IN_SQLITE
        if self.tracking_uri.startswith("sqlite:///"):
            path = self.tracking_uri.removeprefix("sqlite:///")
            theirs = self.mlflow_tracking_uri and path.partition("?")[0]
            yield MLFLOW[0] if theirs else "BIKES_DATA", theirs or path, _NOT_IN_SQLITE

    @property
    def source_location(self) -> str:
        """The source, as an absolute path; URLs of anything but SQLite files are unchanged."""
        return _in_sqlite(self.source) if "://" in self.source else _place(self.source)

    @property
    def data_folder(self) -> Path:
        """Absolute path of the folder of everything that is produced."""
        return Path(self.data)

    @property
    def lake_location(self) -> str:
        """Folder or URL of tables and model files."""
        return self.lake or str(self.data_folder / "lake")

    @property
    def tracking_uri(self) -> str:
        """MLflow's store or server."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.data_folder / 'mlflow' / 'mlflow.db'}"

    @property
    def dagster_home(self) -> Path:
        """Dagster's instance folder: `DAGSTER_HOME`, else `dagster` under `data`."""
        return Path(self.home) if self.home else self.default_home

    @property
    def default_home(self) -> Path:
        """Dagster's instance folder if `DAGSTER_HOME` names none."""
        return self.data_folder / "dagster"


@cache
def settings() -> Settings:
    """Return this process's settings; they are read once.

    If the environment sets `BIKES_DATA`, it names a whole store, and locations in .env are ignored. Otherwise each
    setting in the environment overrides that in .env.

    Raises:
        SettingsError: settings are invalid; the message has a line for each.
    """
    kept, written = env_file.read(ROOT / ".env")
    given = {name: value for name, value in os.environ.items() if value}
    overruled = {*(PLACES if "BIKES_DATA" in given else ()), *(MLFLOW if not given.keys().isdisjoint(MLFLOW) else ())}
    values = {name: value for name, value in kept.items() if name not in overruled} | given
    secrets.learn(values)
    secrets.learn_webhooks(values.get("BIKES_ALERT", ""))
    for line in values.get("BIKES_AUDIT_PRIVATE_KEY", "").replace("\\n", "\n").splitlines():
        if not line.startswith("-----"):  # a message may repeat a line of the key
            secrets.learn({"PRIVATE_KEY": line})
    try:
        known = Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(*map(_message, error.errors())) from None
    if written and given.get(env_file.HOME) == written != str(known.default_home):
        raise SettingsError(
            f"DAGSTER_HOME: found {written}, which is what {ROOT / '.env'} says for Dagster's own commands, expected "
            f"{known.default_home}, the home of the store in {known.data_folder}; where the project was copied or moved, run "
            f"bikes setup, else start Dagster by bikes ui, or in another folder with DAGSTER_HOME={known.default_home}"
        )
    return known


def _message(error: Any) -> str:
    """Return one line for an error that pydantic reported."""
    own = error.get("ctx", {}).get("error")
    if not error["loc"]:
        return str(own)
    name = error["loc"][0]
    return (
        f"{name}: {own}"
        if isinstance(own, ValueError)
        else f"{name}: found {error['input']!r}, expected another: {error['msg']}"
    )
