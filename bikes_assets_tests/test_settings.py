"""Settings: each has a default; the environment counts before .env, and what is empty does not count."""

from __future__ import annotations

import os

import pytest

from bikes_assets import settings as module
from bikes_assets.lineage.errors import SettingsError

read = module.settings.__wrapped__


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """Have no settings, and a project's root without .env."""
    for name in (*os.environ,):
        if name.startswith(("BIKES_", "MLFLOW_", "DAGSTER_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


def test_each_has_a_default(bare):
    known = read()
    assert known.source_location == str(bare / "data" / "raw" / "hour.csv")
    assert known.lake_location == str(bare / "data" / "lake")
    assert known.tracking_uri == f"sqlite:///{bare}/data/mlflow/mlflow.db"
    assert (known.dagster_home, known.event_storage) == (bare / "data" / "dagster", str(bare / "data" / "dagster"))
    assert (known.model, known.triggers, known.engine) == ({}, False, "pandas")


def test_the_environment_counts_before_the_file_and_what_is_empty_does_not(bare, monkeypatch):
    (bare / ".env").write_text("BIKES_ENGINE=duckdb\nBIKES_TICK_SECONDS=7\nDAGSTER_HOME=/there\nSOMETHING_ELSE=1\n")
    monkeypatch.setenv("BIKES_TICK_SECONDS", "9")
    monkeypatch.setenv("BIKES_ENGINE", "")
    monkeypatch.setenv("BIKES_LAKE", "")
    monkeypatch.setenv("BIKES_MODEL", '{"seed": 3}')
    monkeypatch.setenv("BIKES_TRIGGERS", "true")
    known = read()
    assert (known.engine, known.tick_seconds, known.home, known.lake) == ("duckdb", 9, "/there", "")
    assert (known.model, known.triggers) == ({"seed": 3}, True)


def test_the_tracking_store_may_be_named_as_mlflow_names_it(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there")
    assert read().tracking_uri == "http://there"
    monkeypatch.setenv("BIKES_MLFLOW_TRACKING_URI", "http://here")
    assert read().tracking_uri == "http://here"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BIKES_FIRST_MONTH", "2012-13"),
        ("BIKES_ENGINE", "abacus"),
        ("BIKES_MODEL", "{seed}"),
        ("BIKES_TICK_SECONDS", "0"),
    ],
)
def test_what_makes_no_sense_is_named(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name}: found '{value}', expected another: "):
        read()


def test_a_secret_is_not_shown(monkeypatch):
    monkeypatch.setenv("BIKES_DAGSTER_STORAGE", "postgresql://user:hidden@host/name")
    assert "hidden" not in repr(read())
    assert read().event_storage == "postgresql://user:hidden@host/name"
