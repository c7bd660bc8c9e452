"""Names of datasets and runs: those of datasets are OpenLineage's, so that whoever else uses a table names it the same.

The namespace says which store, the name which file or table in it. Ids of runs are computed from what they are of: an
event that is sent again is of the same run.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit
from uuid import NAMESPACE_URL, UUID, uuid5

if TYPE_CHECKING:
    from bikes_assets.lineage.openlineage.history import StepAttempt

_RUNS = uuid5(NAMESPACE_URL, "bikes-assets/openlineage/runs")
_DATABASES = {"postgresql": ("postgres", 5432), "postgres": ("postgres", 5432), "mysql": ("mysql", 3306)}
"""Databases with a rule of their own: the scheme of their namespace, and the port where a URL names none."""
_WITH_USER = ("abfs", "abfss", "wasb", "wasbs")
"""Stores whose URL has the container where others have a user."""
_PATHS = ("hdfs", "http", "https", *_WITH_USER)
"""Stores whose names are paths; with others, a name is the key of an object, without a slash before it."""
_FILES = ("file", "file:", "file://", "file:///", "file://localhost")
"""What producers call the namespace of files."""
_PART = r'(?:[\w$]++|"[^"]++")'
_TABLE = re.compile(rf'\bfrom\s++({_PART}(?:\.{_PART})*+)(?!(?:\s+[\w$"]+){{0,2}}\s*,)', re.IGNORECASE)
_SEVERAL = re.compile(
    r"\b(join|union|intersect|except|with)\b|\(\s*select\b|\bfrom\b.*\bfrom\b", re.IGNORECASE | re.DOTALL
)


class DatasetName(NamedTuple):
    """What identifies a dataset: its store, and its place there."""

    namespace: str
    name: str


def dataset_at(location: str) -> DatasetName:
    """Return the name of a file, folder or Delta table by its path or URL; users, passwords and queries are no part of it."""
    location = location.rpartition("::")[2]
    if "://" not in location:
        return DatasetName("file", os.path.abspath(location))
    if location.startswith("file://"):
        return DatasetName("file", os.path.abspath(unquote(urlsplit(location).path)))
    scheme, _, rest = location.partition("://")
    host, slash, path = rest.partition("?")[0].partition("/")
    if scheme not in _WITH_USER:
        host = host.rpartition("@")[2]
    scheme = "s3" if scheme in ("s3a", "s3n") else scheme
    return DatasetName(f"{scheme}://{host}", f"{slash}{path}" if scheme in _PATHS else path)


def dataset_of_query(url: str, query: str) -> DatasetName:
    """Return the name of the table that a query reads; that of the database where it reads several, or it cannot be told.

    Args:
        url: URL of the database, as SQLAlchemy has it.
        query: the query.
    """
    parts = urlsplit(url.partition("?")[0])
    dialect, database = parts.scheme.partition("+")[0], parts.path.removeprefix("/")
    if dialect not in _DATABASES:
        return DatasetName("file", os.path.abspath(database)) if dialect == "sqlite" else dataset_at(url)
    scheme, port = _DATABASES[dialect]
    namespace = f"{scheme}://{parts.hostname or 'localhost'}:{parts.port or port}"
    tables = [] if _SEVERAL.search(query) else _TABLE.findall(query)
    if len(tables) != 1:
        return DatasetName(namespace, database)
    table = tables[0].replace('"', "")
    if scheme == "postgres" and "." not in table:
        table = f"public.{table}"
    return DatasetName(
        namespace, f"{database}.{table}" if table.count(".") < (2 if scheme == "postgres" else 1) else table
    )


def label(namespace: str, name: str) -> str:
    """Return a dataset or job in one text, as a URL where its namespace is one: `s3://bucket/key`, `file:/srv/trips`.

    Producers differ in slashes and in the schemes of one store; what they mean has one label.
    """
    namespace = "file" if namespace in _FILES else re.sub("^s3[an]://", "s3://", namespace.rstrip("/") or namespace)
    name = name.rstrip("/") or name
    if not namespace:
        return name
    return f"{namespace}/{name.removeprefix('/')}" if "://" in namespace else f"{namespace}:{name}"


def run_id(attempt: StepAttempt) -> str:
    """Return the id of an attempt's run: the same each time, and another for each attempt."""
    record = attempt.record
    of = attempt.run.id if attempt.run else record.made_by.get("dagster_run_id", "") if record else ""
    number = attempt.number if of or record is None else record.output.version  # a person's decision is no attempt
    if not attempt.run and record and of:
        number = int(record.made_by.get("attempt", 1))
    return str(uuid5(_RUNS, json.dumps([of, attempt.asset, attempt.partition, number])))


def parent_id(dagster_run: str) -> str:
    """Return the id of a Dagster run: Dagster's own, which is a UUID."""
    try:
        return str(UUID(dagster_run))
    except ValueError:
        return str(uuid5(_RUNS, dagster_run))
