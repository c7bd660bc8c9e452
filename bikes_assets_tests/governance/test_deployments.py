"""The history of which model serves: every promotion, pin and lift, and a rollback from beginning to end."""

import json

import dagster as dg
import pytest

from bikes_assets.governance import pins
from bikes_assets.governance.deployments import deployments

MONTH = "2011-07"


def champion(history):
    """Materialize the champion of the month."""
    from bikes_assets.definitions import defs

    job = defs().resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(
        instance=history.instance, partition_key=MONTH, asset_selection=[dg.AssetKey("champion_model")]
    ).success


def pin(history, reason):
    """Put the model of 2011-05 in charge of the month."""
    pins.pin(
        history.lake,
        history.instance,
        pins="champion_pins",
        partition=MONTH,
        model="demand_model",
        fitted_for="2011-05",
        reason=reason,
    )


@pytest.fixture
def rolled_back(history):
    """Roll the month back to an older model, and forward again in the end; return its decisions while it was back."""
    pin(history, "the newest one is odd")
    champion(history)
    yield [item for item in deployments(history.lake, "champion_pins") if item.partition == MONTH]
    pins.unpin(history.lake, history.instance, pins="champion_pins", partition=MONTH, reason="it was not")
    champion(history)


def test_a_promotion_says_which_model_why_by_which_figures_on_which_rows_by_whom_and_from_what(history):
    first = next(item for item in deployments(history.lake, "champion_pins") if item.partition == MONTH)
    record = history.record("demand_features", "2011-06")

    assert (first.action, first.model) == ("promoted", "demand_model[2011-07]@5")
    assert first.reason == "lowest error of 4 on 2011-06"
    assert (first.validated_on, first.validated_digest) == ("demand_features[2011-06]", record.output.digest)
    assert set(first.rmse) == {
        "demand_model[2011-05]@3",
        "demand_model[2011-06]@4",
        "demand_model[2011-07]@5",
        "demand_model[2011-07]@5 baseline",
    }
    assert first.rmse[first.model] == min(first.rmse.values())
    assert first.metrics["rmse"] == pytest.approx(first.rmse[first.model], abs=0.01)
    assert first.who
    assert first.deployment == "local"
    assert first.dagster_run_id


def test_a_rollback_is_one_command_and_one_materialization(history, rolled_back):
    pin, pinned = rolled_back[-2:]
    alias = history.client.get_model_version_by_alias("demand_model", "champion")
    loser = history.client.get_model_version_by_alias("demand_model", "challenger")

    assert (pin.action, pin.model, pin.reason) == ("pin", "demand_model[2011-05]@3", "the newest one is odd")
    assert (pinned.action, pinned.model) == ("pinned", "demand_model[2011-05]@3")
    assert pinned.reason.startswith("pinned: the newest one is odd (")
    assert alias.tags["address"] == "demand_model[2011-05]@3"
    assert loser.tags["address"] == "demand_model[2011-07]@5"


def test_lifting_a_pin_promotes_the_best_again(history, rolled_back):
    pins.unpin(history.lake, history.instance, pins="champion_pins", partition=MONTH, reason="it was not")
    champion(history)
    lift, promoted = [item for item in deployments(history.lake, "champion_pins") if item.partition == MONTH][-2:]
    pin(history, "for the end of the test")

    assert (lift.action, lift.model, lift.reason) == ("lift", "", "it was not")
    assert (promoted.action, promoted.model) == ("promoted", "demand_model[2011-07]@5")


def test_a_promotion_is_an_event_that_tells_the_same(history):
    event = history.event("champion_model", MONTH)

    assert event.metadata["reason"].value == "lowest error of 4 on 2011-06"
    assert event.metadata["champion"].value == "demand_model[2011-07]@5"


def test_a_line_of_json_holds_all_of_it(history):
    item = deployments(history.lake, "champion_pins")[0]

    assert json.loads(item.to_json())["model"] == item.model == "demand_model[2011-03]@1"
