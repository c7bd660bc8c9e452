"""The vocabulary of lineage: addresses, and records that survive JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bikes_assets.core.errors import LineageError, RecordError
from bikes_assets.core.record import Record, Version, parse_address, partition_address

MADE = Version("demand_features", "2012-08", 17, "0" * 32)
RECORD = Record(
    output=MADE,
    columns={"ts": "1" * 32},
    inputs=(Version("hourly_rentals", "2012-07", 3, "2" * 32), Version("rental_records", None, "f" * 64, "3" * 32)),
    code_version="4" * 32,
    config={"seed": 0, "parameters": {"loss": "poisson"}},
    environment={"git_commit": "abc"},
    made_by={"dagster_run_id": "r-1"},
    models=({"origin": "demand_model[2012-07]@2"},),
)


def test_an_address_names_asset_partition_and_version() -> None:
    assert MADE.address == "demand_features[2012-08]@17"
    assert Version("pins", None, 2, "").address == "pins@2"
    assert partition_address("demand_features", "2012-08") == "demand_features[2012-08]"
    assert partition_address("pins", None) == "pins"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("demand_features", ("demand_features", None, None)),
        ("demand_features[2012-08]", ("demand_features", "2012-08", None)),
        ("demand_features[2012-08]@17", ("demand_features", "2012-08", "17")),
        ("demand_model@3", ("demand_model", None, "3")),
        ("shops[north|2012-08]@1", ("shops", "north|2012-08", "1")),
    ],
)
def test_an_address_is_parsed(text: str, parts: tuple[str, str | None, str | None]) -> None:
    assert parse_address(text) == parts


@pytest.mark.parametrize(
    "text", ["", "[2012-08]", "a[", "a[]", "a[2012-08", "a@", "a [x]", "a[x]@1@2", "a\n", "a[x]#row"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(LineageError) as refused:
        parse_address(text)
    assert str(refused.value) == (
        f"found address {text!r}, expected one like demand_features[2012-08] or demand_features[2012-08]@20"
    )


def test_a_record_survives_json() -> None:
    # When
    text = json.dumps(RECORD.to_dict())
    # Then
    assert Record.from_dict(json.loads(text)) == RECORD
    assert json.loads(text)["output"] == {
        "asset": "demand_features",
        "partition": "2012-08",
        "version": 17,
        "digest": "0" * 32,
    }


def test_a_record_without_models_and_inputs_survives_json() -> None:
    bare = Record(MADE, {}, (), "", {}, {}, {})
    assert Record.from_dict(json.loads(json.dumps(bare.to_dict()))) == bare


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"metrics": {"rmse": "1"}},
            "found no record of demand_model[2011-05]: metrics.rmse: input should be a valid number",
        ),
        ({"inputs": 3}, "found no record of demand_model[2011-05]: inputs: input should be a valid array"),
        ({"sudo": 1}, "found no record of demand_model[2011-05]: sudo: unexpected keyword argument"),
        ({"output": 7}, "found no record: output: "),
        ({"time": True}, "found no record of demand_model[2011-05]: time: input should be a valid number"),
    ],
)
def test_what_is_no_record_is_refused_by_the_name_of_what_is_wrong(change: dict[str, Any], message: str) -> None:
    record = Record(Version("demand_model", "2011-05", 3, "0" * 32), {}, (), "", {}, {}, {}).to_dict()

    assert Record.from_dict(json.loads(json.dumps(record))).to_dict() == record
    with pytest.raises(RecordError) as error:
        Record.from_dict(record | change)

    assert str(error.value).startswith(message)
