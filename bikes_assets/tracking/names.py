"""Names that MLflow accepts, unique for any asset, metric or parameter; and what MLflow refuses or does not have."""

from __future__ import annotations

import posixpath
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from bikes_assets.core.errors import TrackingError
from bikes_assets.core.secrets import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Answer = TypeVar("Answer")

MOST_DATASET_NAME = 500
"""Longest name of a dataset that MLflow accepts, in characters."""

_MOST_KEY = 250
_MOST_FILE = 100


def model_name(asset: str) -> str:
    """Return the name of the registered model of an asset: `taxi/fare_model` is `taxi~fare_model`.

    MLflow allows no `/` and `:` in a registered model's name, and no `.`, `%` and quotes in a logged model's.
    """
    return re.sub(r"[^\w/-]", _escaped("="), asset).replace("/", "~")


def logged_model_name(asset: str, partition: str | None) -> str:
    """Return the name of a partition's logged model: of `taxi/fare_model` for 2012-08, `taxi~fare_model-2012-08`."""
    return shortened(model_name(f"{asset}-{partition}" if partition else asset), _MOST_KEY)


def file_name(title: str) -> str:
    """Return a file name without suffix for a title: `error by hour` is `error-by-hour`."""
    return shortened(re.sub("[^A-Za-z0-9_-]", _escaped("="), title.replace(" ", "-")), _MOST_FILE)


def key_name(name: str) -> str:
    """Return a metric's, parameter's or tag's name as MLflow allows it: `Temp [C]` is `Temp :5b:C:5d:`."""
    found = re.sub(r"[^\w.\- /]", _escaped(":"), name)
    if (
        posixpath.normpath(found) != found or found.startswith(("..", "/")) or found == "."
    ):  # MLflow would treat it as a path
        found = re.sub(r"[^\w\- ]", _escaped(":"), name)
    return shortened(found, _MOST_KEY)


def shortened(name: str, most: int) -> str:
    """Return a name, or where it is too long, its beginning and what distinguishes it from similar ones."""
    if len(name) <= most:
        return name
    from bikes_assets.core.digest import file_digest

    return f"{name[: most - 33]}~{file_digest(name.encode())[:32]}"


def is_refusal(error: BaseException) -> bool:
    """Return whether MLflow has refused one item, and would again: it is no outage, other items can still be logged."""
    from mlflow.exceptions import MlflowException

    refusals = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST")
    return isinstance(error, MlflowException) and error.error_code in refusals


def or_none(call: Callable[[], Answer]) -> Answer | None:
    """Return MLflow's answer to a call, None where what it asks for does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        return call()
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


@contextmanager
def reaching(uri: str, what: str) -> Iterator[None]:
    """Make an error of MLflow name what was requested, and where.

    Raises:
        TrackingError: MLflow cannot be reached, or refuses.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise TrackingError(f"{what}: MLflow at {shown(uri)} cannot be reached: {error.message}") from None


def _escaped(mark: str) -> Callable[[re.Match[str]], str]:
    return lambda match: f"{mark}{ord(match[0]):x}{mark}"
