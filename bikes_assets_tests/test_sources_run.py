"""`bikes run` on other sources than the shipped one: it succeeds, everything is fresh after it, and a second run does nothing."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bikes_assets.app import state as present
from bikes_assets.app.settings import Settings
from bikes_assets.demand.tables import RENTAL_RECORDS
from bikes_assets_tests import sources
from bikes_assets_tests.copied import Store
from bikes_assets_tests.fire.processes import SOAK

FIRST, LAST = "2011-11", "2012-03"
SOURCES: dict[str, tuple[Callable[[Path], None], str, str, set[str]]] = {
    "the original": (sources.write_original, FIRST, LAST, set()),
    "blank weather": (sources.write_without_weather, FIRST, LAST, set()),
    "blank newest": (lambda path: sources.write_without_weather(path, [LAST]), FIRST, LAST, set()),
    "a winter month absent": (lambda path: sources.write_without_months(path, "2012-01"), FIRST, LAST, {"2012-02"}),
    "the first absent": (lambda path: sources.write_without_months(path, FIRST), FIRST, LAST, {"2012-01"}),
    "the last absent": (lambda path: sources.write_without_months(path, LAST), FIRST, LAST, set()),
    "generated": (lambda path: sources.write_years(path, 2011, 2011), "2011-08", "2011-12", set()),
}
"""How each is written, the months that are run, and those that are skipped: no row of the month before to validate on."""


WHOLE: dict[str, Callable[[Path], None]] = {
    "original": sources.write_original,
    "blank": sources.write_without_weather,
    "winter": lambda path: sources.write_without_months(path, "2012-01"),
    "generated": sources.write_years,
}
"""Sources that are run with all their months."""


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="takes minutes")
def test_stores_named_by_bikes_data_alone_leave_each_other_alone(tmp_path: Path) -> None:
    # Given one project, and a folder for each source
    own = {key: value for key, value in os.environ.items() if not key.startswith(("BIKES_", "DAGSTER_", "MLFLOW_"))}

    def bikes(name: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", "from bikes_assets.cli import main; main()", *arguments],
            env=own | {"BIKES_DATA": str(tmp_path / name), "BIKES_SOURCE": str(tmp_path / f"{name}.csv")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (name, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout

    # When each is run from nothing
    there: dict[str, dict[str, str]] = {}
    for name, write in WHOLE.items():
        write(tmp_path / f"{name}.csv")
        bikes(name, "run")
        assert {other: contents(tmp_path / other) for other in there} == there, name
        there[name] = contents(tmp_path / name)
    # Then each is fresh and agrees with its MLflow, and knows of its own months alone
    for name in WHOLE:
        bikes(name, "status")
        assert "agrees" in bikes(name, "sync")
        assert "nothing to do" in bikes(name, "run")
    assert "demand_predictions[2020-12]" in bikes("generated", "status", "--json")
    assert "[2013-" not in bikes("blank", "status", "--json")


def contents(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="takes minutes; any source goes all the way in demand/test_any_source.py")
@pytest.mark.parametrize("name", SOURCES)
def test_a_source_is_run_from_end_to_end_and_all_is_fresh(tmp_path: Path, name: str) -> None:
    write, first, last, skipped = SOURCES[name]
    store = Store(tmp_path, "2011-01")
    write(store.source)
    store.settings |= {"BIKES_FIRST_MONTH": first, "BIKES_LAST_MONTH": last}
    store.bikes("run")
    states = store.status(code=0)
    assert {address for address, state in states.items() if state != "fresh"} == {
        f"{asset}[{month}]"
        for asset in ("demand_model", "champion_model", "demand_predictions", "prediction_quality")
        for month in skipped
    }
    before = store.records()
    assert "nothing to do" in store.bikes("run")
    assert store.records() == before


def test_of_a_month_without_any_row_the_empty_table_is_present(tmp_path: Path, monkeypatch: Any) -> None:
    """So that what was made of it stays fresh, inside of the source's months and at their borders."""
    rows = sources.shipped()
    kept = rows["dteday"].str[:7].isin(["2011-02", "2011-04"])
    rows[kept].to_csv(tmp_path / "hour.csv", index=False)
    known = Settings.model_validate(
        {
            "BIKES_SOURCE": str(tmp_path / "hour.csv"),
            "BIKES_DATA": str(tmp_path),
            "BIKES_FIRST_MONTH": "2011-01",
            "BIKES_LAST_MONTH": "2011-05",
        }
    )
    for module in ("bikes_assets.app.state", "bikes_assets.app.store", "bikes_assets.project"):
        monkeypatch.setattr(f"{module}.settings", lambda: known)
    keys = [(RENTAL_RECORDS.name, f"2011-0{month}") for month in range(1, 6)]
    found = present.now(present.observed()).of(keys)
    digests = {str(key[1]): found[key].digest for key in keys}
    assert digests["2011-01"] == digests["2011-03"] == digests["2011-05"] == "0ee048a774892bb59d99e50dcea60214"
    assert len(set(digests.values())) == 3
