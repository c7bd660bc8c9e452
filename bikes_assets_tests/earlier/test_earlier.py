"""Stores of an earlier release: the same content is computed now, and a store that it made is opened, asked and continued.

`store.tar.xz` was made by `bikes run` of commit e95ec4e for 2011-01 to 2011-05, with the snapshot beside it; `digests.json`
are the content digests of the shipped history by that commit.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bikes_assets_tests import forked
from bikes_assets_tests.fire.processes import SOAK

HERE = Path(__file__).parent
DIGESTS: dict[str, str] = json.loads((HERE / "digests.json").read_text())
Bikes = Callable[..., str]


@pytest.fixture
def bikes(tmp_path: Path) -> Bikes:
    """Return what runs a command on the store of the earlier release."""
    with tarfile.open(HERE / "store.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("BIKES_", "DAGSTER_", "MLFLOW_"))}
    months = {"BIKES_FIRST_MONTH": "2011-01", "BIKES_LAST_MONTH": "2011-05"}

    def run(*arguments: str, code: int = 0, **settings: str) -> str:
        environment = kept | months | {"BIKES_DATA": str(tmp_path / "data")} | settings
        done = forked.run(("-m", "bikes_assets", *arguments), environment=environment, folder=tmp_path)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    return run


def stored(snapshot: Path) -> dict[str, Any]:
    return json.loads(snapshot.read_text())["partitions"]


def test_a_store_of_an_earlier_release_is_asked_verified_and_continued(bikes: Bikes, tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot.json"
    was = stored(snapshot)
    # Given the store as it was made, of code that has changed since
    assert "hourly_rentals[2011-01..2011-05]" in bikes("upstream", "demand_predictions[2011-05]")
    assert "file verified" in bikes("trace", "demand_predictions[2011-05]#2011-05-14T17:00")
    (told,) = json.loads(bikes("verify", str(snapshot), "--deep", "--json", code=1))["items"]
    assert (told["damage"], {change["kind"] for change in told["changes"]}) == ({}, {"code"})
    assert "Everything agrees" in bikes("sync")
    # When it is continued by a month
    bikes("run", BIKES_LAST_MONTH="2011-06")
    assert "Everything is fresh" in bikes("status", BIKES_LAST_MONTH="2011-06")
    # Then what was there has the content that it had
    bikes("snapshot", str(tmp_path / "now.json"), BIKES_LAST_MONTH="2011-06")
    now = stored(tmp_path / "now.json")
    assert {name: now[name]["digest"] for name in was} == {name: item["digest"] for name, item in was.items()}
    assert now.keys() - was.keys() == {name for name in DIGESTS if name.endswith("[2011-06]")}


def test_a_history_has_the_content_that_an_earlier_release_computed(bikes: Bikes, tmp_path: Path) -> None:
    months = {"BIKES_DATA": str(tmp_path / "other"), "BIKES_LAST_MONTH": "2011-03"}
    months |= {"BIKES_FIRST_MONTH": "", "BIKES_LAST_MONTH": ""} if SOAK else {}
    bikes("run", **months)
    bikes("snapshot", str(tmp_path / "now.json"), **months)
    found = {name: item["digest"] for name, item in stored(tmp_path / "now.json").items()}
    assert found == {name: DIGESTS[name] for name in found}
    assert len(found) == (len(DIGESTS) if SOAK else 10)
