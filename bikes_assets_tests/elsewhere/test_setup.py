"""`bikes setup` writes the dagster.yaml that the settings ask for, and never uses one that they contradict."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import bikes_assets
from bikes_assets_tests import forked

PACKAGE = Path(bikes_assets.__file__).parent
URL = "postgresql+psycopg2://bikes:s3cr3t@127.0.0.1:9/dagster"
MAIN = "from bikes_assets.cli import main; main()"
WITHOUT_EXTRAS = """
import importlib.util as util
find = util.find_spec
util.find_spec = lambda name, *rest: None if name in ("s3fs", "dagster_postgres") else find(name, *rest)
"""


def bikes(folder: Path, *arguments: str, program: str = MAIN, **settings: str) -> subprocess.CompletedProcess[str]:
    places = {"BIKES_DATA": str(folder), "DAGSTER_HOME": str(folder / "dagster"), "BIKES_DAGSTER_STORAGE": ""}
    environment = os.environ | places | settings
    return forked.run(("-c", program, *arguments), environment=environment, folder=PACKAGE.parent)


@pytest.mark.parametrize(
    ("storage", "expected"),
    [("", "dagster.yaml"), (URL, "dagster-postgres.yaml"), (URL.replace("+psycopg2", ""), "dagster-postgres.yaml")],
    ids=["SQLite", "PostgreSQL by its driver", "PostgreSQL"],
)
def test_the_instance_is_made_for_the_storage_and_stays(tmp_path, storage, expected):
    for _ in range(2):
        assert bikes(tmp_path, "setup", BIKES_DAGSTER_STORAGE=storage).returncode == 0

    assert (tmp_path / "dagster" / "dagster.yaml").read_bytes() == (PACKAGE / expected).read_bytes()
    assert [path.name for path in (tmp_path / "dagster").iterdir()] == ["dagster.yaml"]


@pytest.mark.parametrize("storage", ["", URL], ids=["SQLite", "PostgreSQL"])
def test_an_instance_that_people_edited_is_left_alone(tmp_path, storage):
    bikes(tmp_path, "setup", BIKES_DAGSTER_STORAGE=storage)
    instance = tmp_path / "dagster" / "dagster.yaml"
    edited = instance.read_text().replace("max_concurrent_runs: 2", "max_concurrent_runs: 3")
    instance.write_text(edited)

    assert bikes(tmp_path, "setup", BIKES_DAGSTER_STORAGE=storage).returncode == 0
    assert instance.read_text() == edited


def test_an_instance_of_the_other_storage_is_refused(tmp_path):
    instance = tmp_path / "dagster" / "dagster.yaml"
    bikes(tmp_path, "setup")

    refused = bikes(tmp_path, "run", BIKES_DAGSTER_STORAGE=URL)
    instance.unlink()
    bikes(tmp_path, "setup", BIKES_DAGSTER_STORAGE=URL)
    other = bikes(tmp_path, "run")

    assert (refused.returncode, other.returncode) == (2, 2)
    assert refused.stderr == (
        f"error: {instance}: found Dagster's records kept elsewhere than in the database of BIKES_DAGSTER_STORAGE; unset it, or "
        "move the file away and a new one is created; records are not carried over\n"
    )
    assert other.stderr == (
        f"error: {instance}: found Dagster's records kept in a database, expected its URL in BIKES_DAGSTER_STORAGE; set it, or "
        "move the file away and a new one is created; records are not carried over\n"
    )


@pytest.mark.parametrize("wrong", ["mysql://bikes:s3cr3t@host/db", "s3cr3t", "postgres://bikes:s3cr3t@host/db"])
def test_another_url_is_refused_and_not_repeated(tmp_path, wrong):
    refused = bikes(tmp_path, "setup", BIKES_DAGSTER_STORAGE=wrong)

    assert refused.returncode == 2
    assert refused.stderr == (
        "error: BIKES_DAGSTER_STORAGE: found a value of another form, expected one like "
        "postgresql+psycopg2://user:password@host/database, or none for SQLite\n"
    )
    assert not (tmp_path / "dagster" / "dagster.yaml").exists()


def test_a_missing_package_is_named_with_its_extra(tmp_path):
    program = WITHOUT_EXTRAS + MAIN

    postgres = bikes(tmp_path, "setup", program=program, BIKES_DAGSTER_STORAGE=URL)
    lake = bikes(tmp_path, "deployments", program=program, BIKES_LAKE="s3://bucket/lake/")

    assert postgres.stderr == (
        "error: BIKES_DAGSTER_STORAGE: PostgreSQL needs a package that is missing: pip install 'bikes-assets[postgres]'\n"
    )
    assert lake.stderr == (
        "error: BIKES_LAKE: s3://bucket/lake needs a package that is missing: pip install 'bikes-assets[s3]'\n"
    )


def test_the_settings_show_no_password(monkeypatch):
    from bikes_assets.app.settings import Settings

    monkeypatch.setenv("BIKES_DAGSTER_STORAGE", URL)

    assert "s3cr3t" not in f"{Settings.model_validate({})!r} {Settings.model_validate({}).model_dump()}"
