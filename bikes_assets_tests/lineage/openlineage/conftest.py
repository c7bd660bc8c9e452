"""A Dagster instance of its own for each test."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import bikes_assets


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    shutil.copy(Path(bikes_assets.__file__).with_name("dagster.yaml"), tmp_path)
    return tmp_path


@pytest.fixture
def instance(home: Path) -> Any:
    with dg.DagsterInstance.from_config(str(home)) as made:
        yield made
