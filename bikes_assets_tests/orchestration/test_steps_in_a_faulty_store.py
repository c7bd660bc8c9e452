"""Steps in a store that keeps a commit without saying so and then cannot be asked: nothing is published or registered twice."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterEventType

from bikes_assets.events.reported import of_instance
from bikes_assets.tracking.client import client_of
from bikes_assets.tracking.runs import KEY
from bikes_assets_tests.elsewhere.servers import Fault, fail_next
from bikes_assets_tests.fire.project import ASSETS, Place

MONTH = "2024-01"
LOST = ("joined", "ridge")
"""A table and a model whose commits the store keeps without saying so."""
LONGER_THAN_CLIENTS_TRY = 25
"""Requests: Delta Lake sends a commit eleven times, and it is asked ten times whether the commit is there."""


@pytest.mark.slow
def test_a_retry_takes_over_the_commit_of_the_earlier_attempt(
    s3: str, s3_environment: dict[str, str], tmp_path: Path
) -> None:
    place = Place(tmp_path, f"sqlite:///{tmp_path}/mlflow.db", s3)
    with place.instance() as instance:
        # Given
        commits = (rf"PUT .*/{asset}/_delta_log/0*1\.json$" for asset in LOST)
        faults = (Fault("503 after", times=LONGER_THAN_CLIENTS_TRY, like=commit) for commit in commits)
        fail_next(s3_environment["AWS_ENDPOINT_URL"], *faults)
        # When
        result = place.run(instance, MONTH)
        # Then
        assert result.success
        kinds = (DagsterEventType.STEP_UP_FOR_RETRY, DagsterEventType.ASSET_MATERIALIZATION)
        retried, made = ([event for event in result.all_events if event.event_type == kind] for kind in kinds)
        assert [event.step_key for event in retried] == list(LOST)
        assert len(made) == len(ASSETS)
        for synced in (False, True):
            if synced:
                reconciliation = place.sync(instance)
                assert (reconciliation.done, reconciliation.left, reconciliation.refused) == ([], [], [])
            assert versions(place) == {asset: [1] for asset in ASSETS}
            assert reported(instance) == {asset: [(True, 1, "1")] for asset in ASSETS}
            assert in_mlflow(place) == (
                sorted(("FINISHED", f"{result.run_id}/{asset}/1") for asset in ASSETS),
                ["ridge[2024-01]@1"],
            )


def versions(place: Place) -> dict[str, list[int]]:
    return {asset: [commit.version for commit in place.lake.table(asset).commits()] for asset in ASSETS}


def reported(instance: dg.DagsterInstance) -> dict[str, list[tuple[bool, object, str]]]:
    """Return of each event with a record, by asset: whether it is a materialization, its table version, and its attempt."""
    found: dict[str, list[tuple[bool, object, str]]] = {}
    for event in of_instance(instance):
        if event.record:
            told = event.is_materialization, event.record.output.version, event.record.made_by["attempt"]
            found.setdefault(event.asset, []).append(told)
    return found


def in_mlflow(place: Place) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the status of each nested run with its attempt, and the address of each registered version."""
    client = client_of(place.uri)
    runs = client.search_runs([item.experiment_id for item in client.search_experiments()])
    nested = sorted((run.info.status, run.data.tags[KEY]) for run in runs if KEY in run.data.tags)
    return nested, [version.tags["address"] for version in client.search_model_versions()]
