"""`bikes status`, as a process: what it says, its exit codes, and that asking costs nothing heavy."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from bikes_assets_tests.copied import Store

HEAVY = """
import atexit, sys
heavy = ("dagster", "mlflow", "sklearn", "pandas")
atexit.register(lambda: print([name for name in heavy if name in sys.modules], file=sys.stderr))
from bikes_assets.cli import main
main()
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return a store of one month, in which everything was made."""
    made = Store(tmp_path_factory.mktemp("status"), "2011-01")
    made.before = made.interpreter(HEAVY, "status"), made.bikes("status", "--json", code=1)
    made.bikes("run")
    return made


def imported(done):
    """Return the heavy modules that a process had imported in the end."""
    return done.stderr.splitlines()[-1]


def test_a_store_without_anything_lacks_everything(store):
    shown, lines = store.before
    assert shown.returncode == 1
    assert re.search(r"demand_features +│ +1 │", shown.stdout)
    assert "demand_features[2011-01]  missing: never materialized" in shown.stdout
    assert shown.stdout.endswith("\nNone of this is materialized yet: run bikes run.\n")
    assert json.loads(lines)["items"] == [
        {
            "address": f"{asset}[2011-01]",
            "state": "missing",
            "reasons": [{"kind": "missing", "what": "", "was": "", "now": "", "text": "never materialized"}],
        }
        for asset in ("hourly_rentals", "demand_features")
    ]


def test_where_nothing_has_changed_nothing_heavy_is_imported(store):
    store.bikes("status")
    for command in ("status", "run"):
        done = store.interpreter(HEAVY, command)
        assert (done.returncode, imported(done)) == (0, "[]")
        assert "Everything is fresh" in done.stdout


def test_the_first_look_at_changed_code_loads_dagster(store):
    edited = store.folder / "code" / "bikes_assets" / "demand" / "source.py"
    edited.write_text(edited.read_text() + "\n")
    assert "'dagster'" in imported(store.interpreter(HEAVY, "status"))
    assert imported(store.interpreter(HEAVY, "status")) == "[]"


def test_an_address_restricts_it(store):
    shown = store.bikes("status", "demand_features[2011-01]")
    assert "demand_features" in shown
    assert "hourly_rentals" not in shown


def test_an_unknown_address_is_named(store):
    assets = "hourly_rentals, demand_features, demand_model, champion_model, demand_predictions, prediction_quality"
    expected = (
        "an asset or a partition, such as demand_features or demand_features[2012-08], without column, version or alias"
    )
    for address, told in (
        ("nothing", f"found 'nothing', expected an asset or a partition of one: {assets}"),
        (
            "demand_features[2013-01]",
            "found partition 2013-01 of demand_features, expected one from 2011-01 to 2011-01",
        ),
        ("demand_model", "found 'demand_model', expected an asset with partitions: demand_model has none"),
        ("demand_features[2011-01]@1", f"found 'demand_features[2011-01]@1', expected {expected}"),
        ("demand_model@3", f"found 'demand_model@3', expected {expected}"),
        ("demand_model@champion", f"found 'demand_model@champion', expected {expected}"),
        ("demand_features.temperature", f"found 'demand_features.temperature', expected {expected}"),
        ("demand_features[", f"found 'demand_features[', expected {expected}"),
    ):
        done = store.interpreter(HEAVY, "status", address)
        assert done.returncode == 2
        assert f"error: {told}\n" in done.stderr


def test_damaged_memories_are_written_anew(store):
    for name in ("plan.json", "source.json", "months.json"):
        memory: Path = store.folder / "data" / name
        whole = memory.read_bytes()
        for garbage in (whole[: len(whole) // 2], b"[]"):
            memory.write_bytes(garbage)
            assert "Everything is fresh" in store.bikes("status"), name
            assert json.loads(memory.read_bytes()).keys() == json.loads(whole).keys()


def test_a_change_of_code_names_the_function_and_what_it_reaches(store):
    code = store.folder / "code"
    shutil.copytree(code, store.folder / "kept")
    store.edit("demand/features.py", "    return hum\n", "    return hum * 1\n")
    shown = store.bikes("status", code=1)
    (line,) = [line for line in shown.splitlines() if line.startswith("demand_features[2011-01]  stale")]
    assert re.fullmatch(
        r"demand_features\[2011-01\]  stale: code of bikes_assets\.defs\.features\.demand_features: "
        r"[0-9a-f]{8} -> [0-9a-f]{8} \(demand\.features\.humidity changed\)",
        line,
    )
    assert store.status(code=1) == {"hourly_rentals[2011-01]": "fresh", "demand_features[2011-01]": "stale"}
    assert "hourly_rentals" in store.bikes("status", "hourly_rentals")
    change, *reached = json.loads(store.bikes("downstream", "--change", "--json", code=1))["items"]
    assert change == {
        "kind": "change",
        "asset": "demand_features",
        "functions": {"bikes_assets.demand.features.humidity": "changed"},
        "columns": ["humidity"],
    }
    assert reached == []  # of a month for which there is no model
    store.edit("demand/features.py", "return _ratio(_whole(column) * count", "return _ratio(1 * _whole(column) * count")
    change, *_ = json.loads(store.bikes("downstream", "--change", "--json", code=1))["items"]
    assert change["columns"] == ["humidity", "humidity_above_7d", "temperature_above_27d"]
    store.edit("demand/features.py", "known = nw.max_horizontal(", "known = nw.max_horizontal(nw.lit(0.0), ")
    change, *_ = json.loads(store.bikes("downstream", "--change", "--json", code=1))["items"]
    assert len(change["columns"]) == 18  # a step is read by its name, not called: it may have a part in all
    shutil.rmtree(code)
    shutil.move(store.folder / "kept", code)
    assert "Everything is fresh" in store.bikes("status")
    assert store.bikes("downstream", "--change") == "0 downstream of changed code\n"
