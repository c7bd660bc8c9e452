"""The plan says what Dagster's definitions say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bikes_assets.core.code_version import code_version
from bikes_assets.core.staleness import Node, Plan
from bikes_assets.demand.features import FEATURE_NAMES
from bikes_assets.orchestration.plan import plan_of, since_first_seen

ASSETS = {
    "hourly_rentals": "raw",
    "demand_features": "features",
    "demand_model": "model",
    "champion_model": "model",
    "demand_predictions": "predictions",
    "prediction_quality": "predictions",
}
MONTHS = tuple(f"2011-{month:02}" for month in range(1, 8))


@pytest.fixture(scope="module")
def graph():
    from bikes_assets.definitions import defs

    return defs().resolve_asset_graph()


@pytest.fixture(scope="module")
def plan(graph):
    return plan_of(graph)


def test_it_has_what_can_be_made_upstream_first(plan):
    assert list(plan.nodes) == list(ASSETS)
    assert {name: node.partitions[0] for name, node in plan.nodes.items()} == {
        "hourly_rentals": "2011-01",
        "demand_features": "2011-01",
        **dict.fromkeys(["demand_model", "champion_model", "demand_predictions", "prediction_quality"], "2011-03"),
    }
    assert len({node.group for node in plan.nodes.values()}) == 2


def test_each_partition_reads_what_dagster_maps_it_to(graph, plan):
    import dagster as dg
    from dagster._core.definitions.assets.graph.base_asset_graph import AssetKeyPartitionKey

    for name, node in plan.nodes.items():
        asset = graph.get(dg.AssetKey(name))
        assert node.partitions == tuple(asset.partitions_def.get_partition_keys())
        for month in node.partitions:
            parents = graph.get_parents_partitions(asset.key, month).parent_partitions
            assert all(isinstance(item, AssetKeyPartitionKey) for item in parents)
            assert sorted(node.inputs[month]) == sorted(
                (item.asset_key.to_user_string(), item.partition_key) for item in parents
            )


def test_the_inputs_of_may_in_so_many_words(plan):
    def read(asset):
        months = {}
        for name, month in plan.nodes[asset].inputs["2011-05"]:
            months.setdefault(name, []).append(month[-2:])
        return {name: " ".join(found) for name, found in months.items()}

    assert {asset: read(asset) for asset in ASSETS} == {
        "hourly_rentals": {"rental_records": "05"},
        "demand_features": {"hourly_rentals": "04 05"},
        "demand_model": {"demand_features": "01 02 03 04"},
        "champion_model": {"champion_pins": "05", "demand_features": "04", "demand_model": "03 04 05"},
        "demand_predictions": {"champion_model": "05", "demand_features": "05"},
        "prediction_quality": {
            "champion_model": "05",
            "demand_features": "01 02 03 04 05",
            "demand_predictions": "05",
            "hourly_rentals": "05",
        },
    }
    assert plan.nodes["demand_features"].inputs["2011-01"] == (("hourly_rentals", "2011-01"),)


def test_code_versions_and_functions(graph, plan):
    import dagster as dg

    for name, file in ASSETS.items():
        module = f"bikes_assets.defs.{file}"
        assert plan.nodes[name].function == f"{module}.{name}"
        assert plan.nodes[name].code_version == code_version(module, name) == graph.get(dg.AssetKey(name)).code_version


def test_the_config_is_what_a_run_gets_that_gives_none(plan):
    from bikes_assets.defs.model import DemandModelConfig

    configs = {name: node.config for name, node in plan.nodes.items() if node.config}
    expected = {**json.loads(DemandModelConfig().model_dump_json()), "features": list(FEATURE_NAMES)}
    assert configs == {"demand_model": expected}
    assert configs["demand_model"]["seed"] == 0


def test_a_setting_of_the_model_changes_its_config_and_nothing_else(plan):
    program = (
        "import json\nfrom bikes_assets.orchestration.plan import plan_of\nfrom bikes_assets.definitions import defs\n"
        "print(json.dumps(plan_of(defs().resolve_asset_graph()).to_dict()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "BIKES_MODEL": '{"seed": 7}'},
        cwd=Path(__file__).parents[2],
    )
    model = plan.nodes["demand_model"]
    expected = {**plan.nodes, "demand_model": replace(model, config={**model.config, "seed": 7})}
    assert Plan.from_dict(json.loads(done.stdout)) == Plan(expected)


def test_a_node_says_since_when_code_and_config_are_as_they_are():
    node = Node((None,), {None: ()}, "code", "f", {"seed": 0}, 0)
    before = Plan({"a": replace(node, since=5.0), "b": replace(node, since=5.0), "c": replace(node, since=5.0)})
    now = {"a": node, "b": replace(node, code_version="other"), "c": replace(node, config={"seed": 1}), "d": node}

    def since(plan):
        return {name: item.since for name, item in plan.nodes.items()}

    assert since(since_first_seen(Plan(now), before, 9.0)) == {"a": 5.0, "b": 9.0, "c": 9.0, "d": 0.0}
    assert since(since_first_seen(Plan(now), None, 9.0)) == dict.fromkeys("abcd", 0.0)
