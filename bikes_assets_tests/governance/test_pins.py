"""Pins: a recorded decision overrides the rule, and lifting it brings the rule back."""

from pathlib import Path
from uuid import uuid4

import pytest

from bikes_assets.core.errors import LineageError
from bikes_assets.governance import holds, pins

MONTH = "2011-07"


def choose_again(history):
    """Materialize the champion of the month and return the address of the model that serves."""
    import dagster as dg

    from bikes_assets.definitions import defs

    job = defs().resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=history.instance, partition_key=MONTH, asset_selection=[dg.AssetKey("champion_model")]
    )
    assert result.success
    return history.record("champion_model", MONTH).models[0]["origin"]


def pin(history, fitted_for, partition=MONTH, reason="the newest one is odd", version=None):
    return pins.pin(
        history.lake,
        history.instance,
        pins="champion_pins",
        partition=partition,
        model="demand_model",
        fitted_for=fitted_for,
        reason=reason,
        version=version,
    )


def test_a_pin_puts_a_model_in_charge_and_lifting_it_brings_the_rule_back(history):
    before = history.record("champion_model", MONTH).models[0]["origin"]

    decided = pin(history, "2011-04")
    pinned = choose_again(history)
    inputs = history.record("champion_model", MONTH).inputs
    pins.unpin(history.lake, history.instance, pins="champion_pins", partition=MONTH, reason="it was not")
    after = choose_again(history)

    assert before == "demand_model[2011-07]@5"
    assert pinned == "demand_model[2011-04]@2"
    assert decided in inputs
    assert after == before


def test_a_decision_is_an_event_with_reason_and_author(history):
    pin(history, "2011-05")
    event = history.event("champion_pins", MONTH)
    pins.unpin(history.lake, history.instance, pins="champion_pins", partition=MONTH, reason="done")

    assert event.metadata["reason"].value == "the newest one is odd"
    assert event.metadata["pinned"].value.startswith("demand_model[2011-05]@")
    assert event.metadata["user"].value
    assert history.event("champion_pins", MONTH).metadata["lifted"].value is True


def test_a_model_that_has_seen_the_month_cannot_be_pinned_to_it(history):
    with pytest.raises(LineageError, match=r"demand_model\[2011-07\] has seen months that 2011-05 may not know"):
        pin(history, "2011-07", partition="2011-05")


def test_a_model_that_does_not_exist_cannot_be_pinned(history):
    with pytest.raises(LineageError, match=r"demand_model\[2011-02\]: there is no such model"):
        pin(history, "2011-02")


def test_only_a_pin_can_be_lifted(history):
    with pytest.raises(LineageError, match=r"champion_pins\[2011-06\]: nothing is pinned there"):
        pins.unpin(history.lake, history.instance, pins="champion_pins", partition="2011-06", reason="none")


def test_the_current_version_alone_can_be_pinned(history):
    with pytest.raises(LineageError) as caught:
        pin(history, "2011-04", version="99")
    assert str(caught.value) == (
        "found version 99 of demand_model[2011-04], expected its current one, the only one that can be pinned: "
        "demand_model[2011-04]@2"
    )
    pin(history, "2011-04", version="2")
    event = history.event("champion_pins", MONTH)
    pins.unpin(history.lake, history.instance, pins="champion_pins", partition=MONTH, reason="done")
    assert event.metadata["pinned"].value == "demand_model[2011-04]@2"


def test_what_a_reason_holds_of_secrets_is_stored_nowhere(history):
    # Given reasons with a secret in each shape that is known; it is in no file of the working tree, which the lake keeps
    secret = uuid4().hex
    reason = f"see https://e.com?token={secret} postgresql://u:{secret}@h/db https://{secret}@h/x password={secret}"
    shown = "see https://e.com?token=*** postgresql://***@h/db https://***@h/x password=***"
    location = history.lake.location
    # When they are recorded, and a model serves by one of them
    pin(history, "2011-04", reason=reason)
    choose_again(history)
    pinned = history.event("champion_pins", MONTH)
    pins.unpin(history.lake, history.instance, pins="champion_pins", partition=MONTH, reason=reason)
    held = holds.hold(location, "demand_model[2011-04]", "demand_model[2011-04]@2", reason=reason, user="ann")
    standing = holds.holds(location)
    holds.release(location, "demand_model[2011-04]", reason=reason, user="ann")
    choose_again(history)
    # Then people read why, and no file of the store holds a secret
    assert pinned.metadata["reason"].value == shown
    assert history.event("champion_pins", MONTH).metadata["reason"].value == shown
    assert [item.reason for item in standing] == [held.reason] == [shown]
    files = [path for path in Path(location).parent.rglob("*") if path.is_file()]
    assert {"event_log.db", "mlflow.db"} <= {path.name for path in files}
    assert [str(path) for path in files if secret.encode() in path.read_bytes()] == []
