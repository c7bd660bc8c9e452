"""Why two versions of a model differ, on a real store: what is named was changed, and undoing it undoes the difference."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from bikes_assets_tests.copied import Store

SOAK = os.environ.get("BIKES_SOAK") == "1"
MODEL, FUNCTION = "demand_model[2011-03]", "bikes_assets.demand.features.wet_hours_3h"

# what the model of March is computed from, and no more
MAKE = """
import dagster as dg
from bikes_assets.cli import runner as runs
home = runs.setup()
from bikes_assets.definitions import defs

job = defs().resolve_implicit_global_asset_job_def()
with dg.DagsterInstance.from_config(str(home)) as instance:
    for month, assets in {
        "2011-01": ["hourly_rentals", "demand_features"],
        "2011-02": ["hourly_rentals", "demand_features"],
        "2011-03": ["demand_model"],
    }.items():
        job.execute_in_process(instance=instance, partition_key=month, asset_selection=[dg.AssetKey(name) for name in assets])
"""


def configure(store: Store, **settings: Any) -> None:
    store.settings["BIKES_MODEL"] = json.dumps({"min_training_months": 1, **settings})


def make(store: Store) -> str:
    """Make the model anew and return its digest, which stands in the table's log."""
    done = store.python(MAKE)
    assert done.returncode == 0, done.stderr
    return [record for record in store.records() if record["output"]["asset"] == "demand_model"][-1]["output"]["digest"]


def diff(store: Store, a: str, b: str, code: int) -> dict[str, Any]:
    return json.loads(store.bikes("diff", a, b, "--json", code=code))["items"][0]


def named(found: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {(cause["kind"], cause["what"], cause["part"]) for cause in found["causes"]}


def apply(store: Store, cause: dict[str, Any], settings: dict[str, Any]) -> None:
    """Make what a cause names as it is in B, by nothing but what the answer says."""
    change = cause["change"]
    match cause["kind"]:
        case "input":  # the rows from outside are told by those that were made of them
            hours: dict[str, dict[str, str]] = {}
            for cell in cause["rows"]["cells"]:
                hours.setdefault(cell["key"][0], {})[cell["column"]] = str(cell["b"])
            for hour, values in hours.items():
                store.set(hour[:10], int(hour[11:13]), **values)
        case "code":
            store.edit("demand/features.py", change["a"], change["b"])
        case "config":
            settings[change["name"]] = change["b"]
            configure(store, **settings)
        case kind:
            pytest.fail(f"nothing of the kind {kind} was changed")


@pytest.fixture(scope="module")
def digests(store: Store) -> list[str]:
    """Return the digest of the model before and after the changes of `store`."""
    before = make(store)
    store.rent("2011-01-20", 8, 40)
    store.edit("demand/features.py", "    return (weathersit >= 3)", "    # mist counts\n    return (weathersit >= 2)")
    configure(store, seed=1)
    # idle: a column that no feature reads, in a month that the function changes too; and what is no code
    store.set("2011-02-10", 12, atemp="0.5")
    store.edit("demand/features.py", "    return hum\n", "    # as it came\n    return hum\n")
    return [before, make(store)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("diff"), "2011-03")
    configure(store)
    return store


@pytest.mark.soak
def test_exactly_the_causes_are_named_and_undoing_them_one_by_one_undoes_the_difference(
    store: Store, digests: list[str]
) -> None:
    # Given a changed hour, function and setting between two versions of a model
    before, after = f"{MODEL}@1", f"{MODEL}@2"
    # When
    found = diff(store, after, before, code=1)
    # Then nothing else is named
    assert [found["b"]["digest"], found["a"]["digest"]] == digests
    assert named(found) == {
        ("input", "rental_records[2011-01]", "content"),
        ("code", FUNCTION, "content"),
        ("config", "demand_model.seed", "content"),
    }
    roles = {(item["partition"], item["part"], *item["roles"]) for item in found["inputs"]}
    assert roles == {
        ("2011-01", "content", "training", "training"),
        ("2011-02", "metrics", "validation", "validation"),
    }
    idle = [
        (item["asset"], item["partition"], item["columns"])
        for further in found["upstream"]
        for item in further["inputs"]
        if item["part"] == "none"
    ]
    assert idle == [("hourly_rentals", "2011-02", ["atemp"])]
    # and for people, with the function's text
    told = store.bikes("diff", before, after, code=1)
    assert "different content, 3 causes" in told
    assert "demand_model.seed: 0 -> 1" in told
    assert "2011-01-20T08:00:00 cnt: " in told
    assert "  +    # mist counts\n  +    return (weathersit >= 2)" in told
    assert "hourly_rentals[2011-02]@2 -> @4: only in atemp, which went into nothing that differs" in told
    # and each has a part: without it the model is another one; without all of them it is that of before
    settings, made = {"seed": 1}, [digests[1]]
    for number, cause in enumerate(found["causes"], 1):
        apply(store, cause, settings)
        if SOAK or number == len(found["causes"]):
            made.append(make(store))
    assert len(set(made)) == len(made) == (4 if SOAK else 2)
    assert made[-1] == digests[0]
    # whose two versions, of other table versions of all that was read, differ in the idle hour alone
    again = diff(store, f"{MODEL}@1", MODEL, code=0)
    assert again["equal"]
    assert named(again) == set()


def test_a_store_whose_functions_have_no_text_names_them_all_the_same(store: Store, digests: list[str]) -> None:
    # Given a lake as it was before texts were kept, and one before digests were
    folder = store.folder / "data" / "lake" / "code"
    texts = shutil.move(folder / "functions", store.folder / "functions")
    # When
    found = diff(store, f"{MODEL}@1", f"{MODEL}@2", code=1)
    told = store.bikes("diff", f"{MODEL}@1", f"{MODEL}@2", code=1)
    digests_alone = {cause["what"]: cause["text"] for cause in found["causes"] if cause["kind"] == "code"}
    shutil.move(folder, store.folder / "gone")
    without = [
        cause["what"] for cause in diff(store, f"{MODEL}@1", f"{MODEL}@2", code=1)["causes"] if cause["kind"] == "code"
    ]
    # Then
    assert digests_alone == {FUNCTION: ""}
    assert f"{FUNCTION} changed; its text was not kept" in told
    assert without == ["demand_features"]
    shutil.move(store.folder / "gone", folder)
    shutil.move(Path(texts), folder / "functions")


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        (MODEL, "demand_features[2011-02]", "expected two versions of one asset"),
        (MODEL, "demand_model", "found no partition"),
        (MODEL, "demand_model[2011-04]", "demand_model[2011-04]: found nothing as of version"),
        (MODEL, f"{MODEL}@1000", "found version '1000', expected one from 0 to"),
        (MODEL, f"{MODEL}@x", "found version 'x', expected one from 0 to"),
        (MODEL, "demand_model@9", "found nothing called 'demand_model@9'"),
        (MODEL, "rental_records[2011-01]", "found no asset 'rental_records' in the lake"),
        (MODEL, "champion_model[2011-03]", "found no table at"),
    ],
)
def test_what_cannot_be_compared_is_trouble(store: Store, digests: list[str], a: str, b: str, told: str) -> None:
    done = store.python("from bikes_assets.cli import main; main()", "diff", a, b)
    assert done.returncode == 2
    assert told in done.stderr
