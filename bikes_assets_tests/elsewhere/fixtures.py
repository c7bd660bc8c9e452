"""Fixtures that start a server when the first test asks for it."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bikes_assets_tests.elsewhere.servers import (
    CARELESS,
    Redis,
    postgres_cluster,
    postgres_programs,
    s3_store,
)


@pytest.fixture(scope="session")
def s3_environment() -> Iterator[dict[str, str]]:
    """Return the variables that lead to a store with the buckets `bikes` and `careless`."""
    from s3fs import S3FileSystem

    with s3_store() as environment:
        keys = environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]
        store = S3FileSystem(key=keys[0], secret=keys[1], endpoint_url=environment["AWS_ENDPOINT_URL"])
        for bucket in ("bikes", CARELESS):
            store.mkdir(bucket)
        yield environment


@pytest.fixture
def s3(s3_environment: dict[str, str], monkeypatch: Any) -> str:
    """Return a URL of S3 under which nothing is, with the environment set for it."""
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://bikes/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Return a PostgreSQL cluster's URL, to which a database's name is to be added."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    with postgres_cluster(programs) as url:
        yield url


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[Redis]:
    """Yield a Redis server that runs."""
    if not shutil.which("redis-server"):
        pytest.skip("Redis is not installed (Debian: redis-server)")
    server = Redis(tmp_path / "redis")
    server.start()
    yield server
    server.kill()
