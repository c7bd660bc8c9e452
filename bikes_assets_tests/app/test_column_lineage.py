"""What features declare is held against their code before they are published, remembered while it is the same, and told."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from bikes_assets_tests.copied import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: Any) -> Store:
    """Return a store of three months, in which everything was made."""
    made = Store(tmp_path_factory.mktemp("evidence"), "2011-03")
    made.settings["BIKES_MODEL"] = json.dumps({"min_training_months": 1})
    made.bikes("run")
    return made


def features_of(store: Store) -> list[dict[str, Any]]:
    return [record for record in store.records() if record["output"]["asset"] == "demand_features"]


def test_what_was_shown_is_in_each_record_and_was_shown_once(store: Store) -> None:
    shown = [record["evidence"] for record in features_of(store)]
    assert len(shown) == 3
    assert len({item["code_version"] for item in shown}) == 1
    last = shown[-1]
    assert {(edge["output"], edge["input"]) for edge in last["edges"]} >= {
        ("demand_level_7d", "cnt"),
        ("wet_hours_3h", "weathersit"),
    }
    assert {edge["state"] for edge in last["edges"]} == {"observed"}
    assert last["findings"] == []
    assert len({item["time"] for item in shown}) < 3  # a month with little history may show too little
    record = store.records()[-1]
    assert record["evidence"] == {}  # of what nothing was shown


def test_the_index_and_questions_say_what_is_proven(store: Store) -> None:
    told = json.loads(store.bikes("downstream", "hourly_rentals.cnt", "--depth", "1", "--json"))["items"]
    lag = next(item for item in told if item["address"] == "demand_features.demand_lag_24h")["evidence"]
    assert lag["code_version"] == features_of(store)[-1]["evidence"]["code_version"]
    assert lag["inputs"]["cnt"]["observed"] == {"first": 24, "last": 24}
    assert "demand_features.demand_lag_24h  observed" in store.bikes("downstream", "hourly_rentals.cnt", "--depth", "1")


def test_a_leak_is_named_before_it_is_published_and_stops_what_comes_after_it(store: Store) -> None:
    before = store.records()
    store.edit("demand/features.py", "return cnt.shift(24)", "return cnt.shift(23)")
    done = store.bikes("run", "--month", "2011-02", code=1)
    assert "demand_features[2011-02] failed" in done
    assert "no_leak_in_time" in done
    assert "demand_lag_24h" in done
    assert store.records() == before
    found = json.loads(store.bikes("check-lineage", "--json", code=1))["items"][0]["features"]["findings"]
    assert {(item["check"], item["output"]) for item in found} >= {
        ("time", "demand_lag_24h"),
        ("windows", "demand_lag_24h"),
    }
    assert {item["output"] for item in found} == {"demand_lag_24h"}
    store.edit("demand/features.py", "return cnt.shift(23)", "return cnt.shift(24)")
    assert "nothing to do" in store.bikes("run")


@pytest.mark.soak
@pytest.mark.skipif(os.environ.get("BIKES_SOAK") != "1", reason="one kind of change is above")
def test_other_code_is_shown_anew(store: Store) -> None:
    before = features_of(store)[-1]
    store.edit("demand/features.py", "    return hum\n", "    return hum * 1\n")
    store.bikes("run")
    after = features_of(store)[-1]
    assert after["evidence"]["code_version"] != before["evidence"]["code_version"]
    assert after["evidence"]["time"] > before["evidence"]["time"]


def test_the_command_looks_at_every_month_and_at_the_model(store: Store) -> None:
    assert "Column lineage holds." in store.bikes("check-lineage")
    (told,) = json.loads(store.bikes("check-lineage", "--json"))["items"]
    assert told["features"]["rows"] == sum(store.hours["dteday"].str[:7] <= "2011-03")
    assert told["features"]["holds"] is True
    assert told["model"]["address"] == "demand_model[2011-03]"
    reached = {item["column"]: item for item in told["model"]["inputs"]}
    assert reached["demand_level_7d"]["moves"] is True
    assert set(told["model"]["importance"]) == set(reached)
    model = [record for record in store.records() if record["output"]["asset"] == "demand_model"][-1]
    # the baseline is made of the hour of the week
    unused = {name for name, item in reached.items() if item["splits"] == 0} - {"hour_of_week"}
    assert unused == set(model["inert"].get("demand_features", []))
    assert unused
    assert not any(reached[name]["moves"] for name in unused)
    waste = json.loads(store.bikes("waste", "--json"))["items"][0]["unused_by_model"]
    assert set(waste.get("demand_model", [])) == {f"demand_features.{name}" for name in unused}
