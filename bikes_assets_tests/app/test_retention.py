"""`bikes retain`, `bikes hold` and `bikes release` on a real history of which two months were made anew."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bikes_assets.app import retention
from bikes_assets.core.errors import LineageError, RemovedError
from bikes_assets.core.record import Record, Version, parse_address
from bikes_assets.governance.retention import apply, plan
from bikes_assets.governance.retention_policy import DAY
from bikes_assets.lineage.trace import Tracer
from bikes_assets.project import ASSETS, DERIVATIONS, MODELS, SCHEMAS
from bikes_assets.storage.lake import Lake
from bikes_assets_tests import forked
from bikes_assets_tests.conftest import MADE, WORK

ROOT = Path(__file__).parents[2]
MONTHS = ("2011-06", "2011-07")
ROW = "#2011-07-14T17:00"


def make_anew(lake: Lake, months: Any = MONTHS) -> None:
    """Publish the present rows of some months again, computed from what is present now, as runs that were forced would."""
    for asset in MADE:
        table = lake.table(asset)
        for month in months:
            (_, rows), commit = table.read([month])[month], table.published()[month]
            record = Record.from_dict(commit.record)
            inputs = tuple(present(lake, item) for item in record.inputs)
            models = tuple({**item, "origin": moved(lake, item["origin"])} for item in record.models)
            if "origin" in rows.column_names:
                origins = [moved(lake, origin) for origin in rows["origin"].to_pylist()]
                rows = rows.set_column(rows.column_names.index("origin"), "origin", [origins])
            made_by = record.made_by | {"attempt": f"{table.version()}0"}
            anew = replace(record, inputs=inputs, models=models, made_by=made_by, time=time.time())
            table.write(month, table.schema.conform(rows), anew.to_dict(), since=table.version())


def present(lake: Lake, version: Version) -> Version:
    if version.asset not in MADE:
        return version
    return replace(version, version=lake.table(version.asset).published()[version.partition].version)


def moved(lake: Lake, origin: str) -> str:
    """Return the address of the present version of where a model was fitted."""
    address = origin.removesuffix(" baseline")
    if not address:
        return ""
    asset, partition, version = parse_address(address)
    return origin.replace(address, present(lake, Version(asset, partition, str(version), "")).address)


@pytest.fixture
def store(history: Any, tmp_path: Path) -> Path:
    """Return a copy of the history's store, with two months that were made anew twice."""
    shutil.copytree(WORK, tmp_path / "data", ignore=shutil.ignore_patterns("artifacts", "storage", "lineage.db*"))
    for _ in range(2):
        make_anew(lake_of(tmp_path / "data"))
    return tmp_path / "data"


def lake_of(store: Path) -> Lake:
    return Lake(str(store / "lake"), SCHEMAS, ROOT, serving="champion_model")


def age(store: Path, days: int) -> None:
    """Let everything in the lake be older."""
    for log in store.glob("lake/*/_delta_log/*.json"):
        aged = re.sub(r'(?<="timestamp":)\d+', lambda found: str(int(found[0]) - days * 86_400_000), log.read_text())
        log.write_text(aged)
    for file in store.glob("lake/model_files/*"):
        os.utime(file, (time.time() - days * DAY,) * 2)


def bikes(store: Path, *arguments: str, code: int = 0, program: str = "", **settings: str) -> str:
    """Run a command on a store, which must end with a code, and return what it printed."""
    own = {
        "BIKES_DATA": str(store),
        "DAGSTER_HOME": str(store / "dagster"),
        "BIKES_MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlflow/mlflow.db",
    }
    environment = os.environ | own | settings
    if program:  # what is imported is its subject
        command = [sys.executable, "-c", program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    else:
        done = forked.run(("-m", "bikes_assets", *arguments), environment=environment, folder=ROOT)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_after_a_removal_every_live_version_reads_and_a_present_prediction_is_traced(store: Path) -> None:
    # Given
    lake = lake_of(store)
    before = Tracer(lake, DERIVATIONS).trace(f"demand_predictions[2011-07]{ROW}")
    old = sorted(
        commit.version for commit in lake.table("demand_predictions").commits() if commit.partition == "2011-07"
    )

    def look() -> Any:
        tables = [lake.table(asset) for asset in ASSETS]
        return plan(lake, tables, held=(), aliased=(), now=time.time() + 100 * DAY, days=90)

    # When
    done = apply(lake, look, "somebody")
    # Then only versions of what was made anew went, each month's first two; a later month read the present one of each
    assert {item.address.partition("@")[0] for item in done.going} == {
        f"{asset}[{month}]" for asset in MADE for month in MONTHS
    }
    assert len(done.going) == 2 * len(MADE) * len(MONTHS)
    # And every live version reads with its digest, each model with its file
    stays = [item for item in look().verdicts if item.state == "stays"]
    assert len(stays) == len(done.verdicts) - len(done.going)
    for item in stays:
        asset, partition, version = parse_address(item.address)
        ((found, rows),) = lake.table(asset).read([partition], int(str(version))).values()
        assert found.address == item.address
        for row in rows.to_pylist() if "sha256" in rows.column_names else ():
            lake.load_model(MODELS, row["sha256"], row["card"], row["origin"])
    # And a present prediction is traced as before, a removed one says so
    assert Tracer(lake, DERIVATIONS).trace(f"demand_predictions[2011-07]{ROW}") == before
    with pytest.raises(
        RemovedError, match=rf"^demand_predictions\[2011-07\]@{old[0]}: its rows were removed by retention on"
    ):
        Tracer(lake, DERIVATIONS).trace(f"demand_predictions[2011-07]@{old[0]}{ROW}")


def test_the_command_shows_removes_and_leaves_to_the_next_time_what_mlflow_does_not_take(store: Path) -> None:
    # Given a history of half a year ago, of which one replaced version is held
    age(store, 180)
    lake = lake_of(store)
    versions = [
        commit.version for commit in lake.table("demand_predictions").commits() if commit.partition == "2011-07"
    ]
    old, held = (f"demand_predictions[2011-07]@{version}" for version in versions[:2])
    assert bikes(store, "hold", held, "--reason", "an audit").startswith(f"held: {held}: an audit; ")
    # When it is looked at
    heavy = "('dagster', 'mlflow', 'sklearn', 'pandas')"
    shown = bikes(
        store,
        "retain",
        program="import sys\nfrom bikes_assets.cli import main\nmain(standalone_mode=False)\n"
        f"print([name for name in {heavy} if name in sys.modules])",
    )
    # Then
    assert shown.strip().endswith("Nothing was changed; bikes retain --apply removes what may go.\n[]")
    assert f"Holds: 1\n  {held}: an audit; " in shown
    assert re.search(rf"{re.escape(old)} .* may go: published .*, and nothing live needs it", shown)
    assert re.search(rf"demand_features\[2011-07\]@\d+ .* stays: {re.escape(held)} was materialized from it\n", shown)
    # When it is removed while MLflow is away
    away = bikes(store, "retain", "--apply", code=1, BIKES_MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    # Then the lake is done, MLflow is left
    assert "Runs in MLflow that were deleted: 0" in away
    assert "left for the next bikes retain --apply: MLflow: " in away
    refused = bikes(store, "hold", old, "--reason", "too late", code=2)
    assert f"error: {old}: its rows were removed by retention on " in refused
    # And the next time finishes there
    assert re.search(r"Runs in MLflow that were deleted: [1-9]", bikes(store, "retain", "--apply"))
    # And after a release what it held goes; the alias is where Dagster's events say, which know nothing of what was made anew
    assert bikes(store, "release", held, "--reason", "it is over").startswith(f"released: {held}: an audit; ")
    items = json.loads(bikes(store, "retain", "--apply", "--json"))["items"]
    found = {item["address"]: item for item in items if item["kind"] == "version"}
    assert (found[old]["state"], found[held]["state"]) == ("removed", "went")
    assert [item for item in items if item["kind"] == "hold"] == []
    (alias,) = [address for address, item in found.items() if item.get("why") == "alias"]
    assert alias.startswith("demand_model[2011-07]@")
    assert {item["live"] for item in found.values() if item.get("why") == "needed"} == {alias}


def test_what_a_hold_names_is_the_version_of_that_time(history: Any) -> None:
    by_alias = retention.hold("demand_model@champion", "it serves")
    by_number = retention.hold("demand_model@1", "the first")
    by_month = retention.hold("demand_features[2011-05]", "a month")
    try:
        chosen = history.record("champion_model", "2011-07").models[0]["origin"]
        assert by_alias.version == chosen.removesuffix(" baseline")
        assert by_number.version == "demand_model[2011-03]@1"
        assert by_month.version == history.record("demand_features", "2011-05").output.address
        assert [item.address for item in retention.look().holds] == [
            "demand_model@champion",
            "demand_model@1",
            "demand_features[2011-05]",
        ]
    finally:
        for made in (by_alias, by_number, by_month):
            retention.release(made.address, "the test is over")
    assert retention.look().holds == []


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("demand_features", "found no partition, expected one such as"),
        ("demand_features[2013-01]", r"found nothing as of version \d+, expected one of 2011-01, 2011-02, "),
        (
            "demand_features[2011-05]@4",
            r"demand_features\[2011-05\]: found nothing as of version 4, expected one of its versions: 5$",
        ),
        ("rental_records[2011-01]", "found no asset 'rental_records' in the lake"),
    ],
)
def test_a_hold_on_what_is_not_there_says_what_is_expected(history: Any, address: str, told: str) -> None:
    with pytest.raises(LineageError, match=told):
        retention.hold(address, "none")
    assert retention.look().holds == []
