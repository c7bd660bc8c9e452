"""The record of each materialization, walked from predictions back to the bytes of the source."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from bikes_assets.core.digest import object_digest, table_digest
from bikes_assets.core.record import Version, parse_address

SOURCE = Path(__file__).parents[1] / "data" / "raw" / "hour.csv"
SOURCE_SHA256 = "35f54957b7ccea2a33464ad2115d14b73540cf8ac57763717b171e95fbb0394f"


def walk(history, version: Version, seen: dict[str, Version]) -> None:
    """Follow the inputs of a version through the events, down to the source."""
    if version.address in seen:
        return
    seen[version.address] = version
    if version.asset == "rental_records":
        return
    record = event_record(history, version)
    assert record.output == version
    for item in record.inputs:
        walk(history, item, seen)


def event_record(history, version: Version):
    """Return the record on the materialization event that published exactly this version."""
    import dagster as dg

    from bikes_assets.core.record import Record

    wanted = dg.AssetRecordsFilter(dg.AssetKey(version.asset), asset_partitions=[version.partition])
    records = [
        Record.from_dict(item.asset_materialization.metadata["lineage"].value)
        for item in history.instance.fetch_materializations(wanted, limit=50).records
    ]
    (found,) = [item for item in records if item.output.version == version.version]
    return found


def recomputed(history, version: Version) -> str:
    """Return the digest of what is stored at a version, computed anew."""
    from bikes_assets.demand import source
    from bikes_assets.demand.tables import RENTAL_RECORDS
    from bikes_assets.project import MODELS, source_reader

    if version.asset == "rental_records":
        raw = source_reader().read()
        rows = source.month_of(source.parse(raw.frame, raw.locate), version.partition)
        return table_digest(RENTAL_RECORDS.conform(rows), RENTAL_RECORDS).table
    table = history.lake.table(version.asset)
    _, rows = table.read([version.partition], int(version.version))[version.partition]
    if version.asset not in history.lake.schemas:
        (row,) = rows.to_pylist()
        loaded = MODELS.load(history.lake.load_file(row["sha256"]), {**json.loads(row["card"]), "origin": ""})
        return object_digest(MODELS.state(loaded))
    return table_digest(rows, table.schema).table


@pytest.fixture(scope="module")
def walked(history) -> dict[str, Version]:
    seen: dict[str, Version] = {}
    walk(history, history.record("demand_predictions", "2011-07").output, seen)
    return seen


def test_a_prediction_leads_back_to_every_thing_that_it_was_made_from(walked):
    partitions = {(version.asset, version.partition) for version in walked.values()}
    months = [f"2011-0{month}" for month in range(1, 8)]

    assert {part for asset, part in partitions if asset == "rental_records"} == set(months)
    assert {part for asset, part in partitions if asset == "hourly_rentals"} == set(months)
    assert {part for asset, part in partitions if asset == "demand_features"} == set(months)
    assert {part for asset, part in partitions if asset == "demand_model"} == {"2011-05", "2011-06", "2011-07"}
    assert {part for asset, part in partitions if asset == "champion_model"} == {"2011-07"}


def test_every_digest_on_the_way_is_that_of_what_is_stored(history, walked):
    assert {address: recomputed(history, version) for address, version in walked.items()} == {
        address: version.digest for address, version in walked.items()
    }


def test_the_source_is_named_by_the_sha256_of_its_bytes(walked):
    versions = {version.version for version in walked.values() if version.asset == "rental_records"}

    assert hashlib.sha256(SOURCE.read_bytes()).hexdigest() == SOURCE_SHA256
    assert versions == {SOURCE_SHA256}


def test_the_model_names_the_months_that_it_was_fitted_and_judged_on(history):
    record = history.record("demand_model", "2011-07")

    assert [version.partition for version in record.inputs] == [f"2011-0{month}" for month in range(1, 7)]
    assert {version.asset for version in record.inputs} == {"demand_features"}


def test_the_data_version_of_an_event_is_the_digest(history):
    for asset in ("hourly_rentals", "demand_features", "demand_model", "champion_model", "demand_predictions"):
        event = history.event(asset, "2011-06")
        assert event.tags["dagster/data_version"] == history.record(asset, "2011-06").output.digest


def test_the_commit_of_a_prediction_names_the_model_and_the_runs(history):
    record = history.record("demand_predictions", "2011-07")
    commit = history.lake.table("demand_predictions").published()["2011-07"]

    assert commit.version == record.output.version
    (model,) = commit.record["models"]
    asset, partition, version = parse_address(model["origin"].removesuffix(" baseline"))
    assert asset == "demand_model"
    assert history.lake.table(asset).published()[partition].version == int(version)
    assert model["mlflow_model_id"].startswith("m-")
    assert commit.record["made_by"]["dagster_run_id"] == record.made_by["dagster_run_id"]
    assert history.client.get_run(commit.record["made_by"]["mlflow_run_id"]).info.status == "FINISHED"
    assert {item["digest"] for item in commit.record["inputs"]} == {item.digest for item in record.inputs}


def test_the_record_names_code_settings_and_environment(history):
    record = history.record("demand_model", "2011-07")

    assert len(record.code_version) == 32
    assert record.config["seed"] == 0
    assert record.config["threads"] == 1
    assert record.environment["python"].startswith("3.")
    assert record.environment["libraries"]["scikit-learn"]
    assert len(record.environment["lock"]) == 64


def test_what_was_read_stays_named_when_something_newer_is_published(history):
    """Dagster's own provenance names the latest event of any partition; the record names what was read."""
    record = history.record("demand_features", "2011-03")

    assert [(version.asset, version.partition) for version in record.inputs] == [
        ("hourly_rentals", "2011-02"),
        ("hourly_rentals", "2011-03"),
    ]
    published = history.lake.table("hourly_rentals").published()
    assert [version.version for version in record.inputs] == [published[key].version for key in ("2011-02", "2011-03")]


def test_the_source_is_observed_with_its_sha256_and_each_months_digest(history):
    import dagster as dg

    wanted = dg.AssetRecordsFilter(dg.AssetKey("rental_records"), asset_partitions=["2011-02"])
    (seen,) = history.instance.fetch_observations(wanted, limit=10).records
    observation = seen.asset_observation
    (read,) = history.record("hourly_rentals", "2011-02").inputs

    assert observation.metadata["version"].value == SOURCE_SHA256
    assert observation.metadata["bytes"].value == 1_138_747
    assert observation.metadata["dagster/row_count"].value == 649
    assert observation.tags["dagster/data_version"] == read.digest
