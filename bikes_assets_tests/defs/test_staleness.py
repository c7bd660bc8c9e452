"""What Dagster's pages show of staleness: the check `up_to_date`, the reasons of a tick, and configs that are kept."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bikes_assets_tests import forked

BEGIN = """
import json
import dagster as dg
from bikes_assets.cli import runner as runs
from bikes_assets.governance import pins as decisions
from bikes_assets.definitions import defs
from bikes_assets.defs.due import due
from bikes_assets.app.state import statuses
from bikes_assets.app.store import lake
from bikes_assets.project import PINS

repository, told, cursor = defs().get_repository_def(), {}, None
sensor = repository.get_sensor_def("stale_partitions")

def tick(instance):
    global cursor
    context = dg.build_sensor_context(instance=instance, repository_def=repository, cursor=cursor)
    found = sensor.evaluate_tick(context)
    cursor = found.cursor
    return found.skip_message

def checks(instance):
    '''Return whether each partition of champion_model passes the check, and what it says.'''
    key = dg.AssetCheckKey(dg.AssetKey("champion_model"), "up_to_date")
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=1000)
    found = {}
    for record in records:
        evaluation = record.event.dagster_event.event_specific_data
        found.setdefault(evaluation.partition, (evaluation.passed, evaluation.description))
    return found

def counted(instance):
    '''Return the partitions of each result, as the check's page counts them; missing are those of no current version.'''
    key = dg.AssetCheckKey(dg.AssetKey("champion_model"), "up_to_date")
    found = {}
    for info in instance.event_log_storage.get_asset_check_partition_info([key]):
        status = info.latest_execution_status.value if info.is_current else "missing"
        found.setdefault(status, []).append(info.partition_key)
    return found
"""
SHOWN = """
with dg.DagsterInstance.get() as instance:
    told["fresh"] = tick(instance), cursor, checks(instance)
    decisions.pin(lake(), instance, pins=PINS, partition="2011-06", model="demand_model", fitted_for="2011-04", reason="x")
    told["pinned"] = tick(instance), cursor, checks(instance)
    told["counted"] = counted(instance)
    found = dg.evaluate_automation_conditions(defs(), instance)
    told["reasons"] = {
        asset: [(child.condition.name, sorted(child.true_subset.expensively_compute_partition_keys()))
                for result in found.results if result.key == dg.AssetKey(asset) for child in result.child_results]
        for asset in ("champion_model", "demand_predictions")
    }
    told["requested"] = sorted(found.get_requested_partitions(dg.AssetKey("champion_model")))
    told["again"] = tick(instance), len(checks(instance))
    runs.run_history(None, lambda *_: None)
    told["made"] = tick(instance), cursor, checks(instance)
    told["counted again"] = counted(instance)
    print(json.dumps(told))
"""


@pytest.fixture
def asked(copied: Path) -> Callable[[str], dict[str, Any]]:
    """Return what runs a program in a copy of the history, and returns what it prints last."""

    def ask(program: str) -> dict[str, Any]:
        done = forked.run(("-c", BEGIN + program), environment=os.environ, folder=copied)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.strip().splitlines()[-1])

    return ask


def test_what_is_stale_is_shown_with_its_reason_until_it_is_materialized(
    asked: Callable[[str], dict[str, Any]],
) -> None:
    # Given a history in which everything is fresh
    told = asked(SHOWN)
    message, cursor, checks = told["fresh"]
    assert (message, cursor) == ("Everything is up to date.", "{}")
    assert set(map(tuple, checks.values())) == {(True, "materialized from its current inputs")}

    # When a model is pinned, then the month that it is to serve is stale, and only that
    message, cursor, checks = told["pinned"]
    assert message == "1 stale partition; bikes status lists them with the reasons."
    assert list(json.loads(cursor)) == ["champion_model[2011-06]"]
    assert {month for month, (passed, _) in checks.items() if not passed} == {"2011-06"}
    assert checks["2011-06"][1].startswith("stale: input champion_pins[2011-06] is new: ")
    assert told["counted"] == {"SUCCEEDED": ["2011-03", "2011-04", "2011-05", "2011-07"], "FAILED": ["2011-06"]}

    # And a tick of the automation says what it begins, and what waits for that
    ((begun, months),) = told["reasons"]["champion_model"]
    assert begun.startswith("materialized now: input champion_pins[2011-06] is new: ")
    assert months == told["requested"] == ["2011-06"]
    assert told["reasons"]["demand_predictions"] == [["waits for champion_model[2011-06]", ["2011-06"]]]

    # When it is materialized, then it passes; what is reported once is not reported again
    assert told["again"][0] == told["pinned"][0]
    message, cursor, checks = told["made"]
    assert (message, cursor) == ("Everything is up to date.", "{}")
    assert {passed for passed, _ in checks.values()} == {True}
    assert {status: len(months) for status, months in told["counted again"].items()} == {"SUCCEEDED": 5}


KEPT = """
def materialize(instance, config):
    job = defs().resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance, partition_key="2011-07", asset_selection=[dg.AssetKey("demand_model")],
        run_config={"ops": {"demand_model": {"config": config}}} if config else {}, raise_on_error=False,
    )
    assert result.success
    (event,) = result.get_asset_materialization_events()
    (status,) = statuses(["demand_model[2011-07]"])
    record = event.materialization.metadata["lineage"].value
    logged = [entry.user_message for entry in instance.all_logs(result.run_id) if "config" in entry.user_message]
    shown = [line for line in event.materialization.metadata["Materialized from"].value.splitlines() if "config" in line]
    return record["config"]["seed"], record["config"]["keep"], status.state, [*map(str, status.reasons)], logged, shown

with dg.DagsterInstance.get() as instance:
    for name, config in (
        ("other", {"seed": 7}), ("kept", {"seed": 7, "keep": True}), ("without", None), ("another", {"seed": 8}),
        ("kept again", {"seed": 9, "keep": True}), ("released", {"keep": False}), ("after", None),
    ):
        told[name] = materialize(instance, config)
    print(json.dumps(told))
"""


def test_a_config_lasts_where_it_is_kept(asked: Callable[[str], dict[str, Any]]) -> None:
    told = asked(KEPT)

    def outcome(name: str) -> list[Any]:
        return told[name][:3]

    # A config that differs from the project's is stale at once, which the run's log and the page say
    assert outcome("other") == [7, None, "stale"]
    assert told["other"][3] == ["setting seed: 7 -> 0"]
    assert [
        line.startswith("This config differs from the project's: seed 7 instead of 0. ") for line in told["other"][4]
    ] == [True]
    assert [line.endswith("unless launched with keep: true: seed 7 instead of 0") for line in told["other"][5]] == [
        True
    ]

    # Kept, it is fresh, and stays so when the partition is materialized without any config
    assert outcome("kept") == outcome("without") == [7, True, "fresh"]
    assert told["without"][3] == ["setting seed is kept: 7; the project's is 0"]
    assert told["without"][4] == ["This partition keeps its config: seed 7 instead of 0."]

    # Another config that is given is taken, and not kept where that is not said
    assert outcome("another") == [8, None, "stale"]
    assert outcome("kept again") == [9, True, "fresh"]
    assert outcome("released") == [0, False, "fresh"]
    assert outcome("after") == [0, None, "fresh"]
