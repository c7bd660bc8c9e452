"""From MLflow to Dagster and the lake, and back, for every run of a history: no dead link, no orphan."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from typing import Any

import dagster as dg
import pytest

from bikes_assets.core.errors import DigestError
from bikes_assets.core.record import Record, parse_address
from bikes_assets.tracking.version_source import model_id_in
from bikes_assets_tests import forked
from bikes_assets_tests.conftest import ROOT, store_at

SOAK = os.environ.get("BIKES_SOAK") == "1"
_RUN_PAGE = re.compile(r"http://127\.0\.0\.1:3000/runs/([0-9a-f-]{36})")
_ASSET_PAGE = re.compile(r"http://127\.0\.0\.1:3000/assets/(\w+)\?view=partitions&partition=([\d-]+)")
_MLFLOW_PAGE = re.compile(
    r"http://127\.0\.0\.1:5000/#/experiments/(\d+)/runs/([0-9a-f]{32})\?workflowType=machine_learning"
)

_EXPERIMENTS = ("bike-demand", "bike-demand-lineage")


class Walk:
    """What Dagster, the lake and MLflow hold, and each dead end between them in a sentence."""

    def __init__(self, instance: dg.DagsterInstance, client: Any, lake: Any) -> None:
        self.client, self.lake = client, lake
        self.dagster = {run.run_id: run for run in instance.get_runs()}
        both = [item.experiment_id for item in client.search_experiments() if item.name in _EXPERIMENTS]
        found = client.search_runs(both, max_results=50_000)
        self.mlflow = {run.info.run_id: client.get_run(run.info.run_id) for run in found}
        self.events: dict[str, tuple[Record, Any]] = {}
        for key in instance.get_asset_keys():
            for item in instance.fetch_materializations(key, limit=10_000).records:
                event = item.asset_materialization
                record = Record.from_dict(event.metadata["lineage"].value)
                self.events[record.output.address] = record, event
        self.versions = {int(item.version): item for item in client.search_model_versions("name = 'demand_model'")}

    def dead_ends(self) -> list[str]:
        return [*self.from_mlflow(), *self.from_dagster(), *self.from_registry()]

    def from_mlflow(self) -> Iterable[str]:
        parents = {key for key, run in self.mlflow.items() if "materialization" not in run.data.tags}
        named = [self.mlflow[key].data.tags["dagster_run_id"] for key in parents]
        if sorted(named) != sorted(self.dagster):
            yield f"{len(named)} parents in MLflow stand for {len(self.dagster)} runs in Dagster"
        for key, run in self.mlflow.items():
            tags = run.data.tags
            if key in parents:
                page = _RUN_PAGE.fullmatch(tags["dagster.url"])
                if not page or page[1] not in self.dagster:
                    yield f"MLflow run {key} leads to {tags['dagster.url']}, which is not there"
                elif self.dagster[page[1]].tags["mlflow_run_id"] != key:
                    yield f"Dagster run {page[1]} leads to another MLflow run than {key}"
                continue
            page = _ASSET_PAGE.fullmatch(tags["dagster.url"])
            record = self.events.get(tags["address"], (None, None))[0]
            if not page or not record or (page[1], page[2]) != (record.output.asset, record.output.partition):
                yield f"MLflow run {key} leads to {tags['dagster.url']} and {tags['address']}, which are not there"
            elif (record.made_by["dagster_run_id"], record.output.digest) != (tags["dagster_run_id"], tags["digest"]):
                yield f"MLflow run {key} is not of {tags['address']}"
            elif tags.get("mlflow.parentRunId", tags.get("parent_run_id")) not in parents:
                yield f"MLflow run {key} has no parent"
            yield from self.from_inputs(run)

    def from_inputs(self, run: Any) -> Iterable[str]:
        """Follow the datasets and models of a run to the versions in the lake that they name."""
        for item in run.inputs.dataset_inputs:
            source = json.loads(item.dataset.source)
            asset, partition, _ = parse_address(item.dataset.name.split("..")[0].rstrip("]") + "]")
            if source["kind"] != "delta":
                file = ROOT / "data" / "raw" / source["name"]
                if not file.exists() or source["size"] != file.stat().st_size:
                    yield f"{item.dataset.name} came from {source['uri']}, which is not there"
                continue
            published = self.lake.table(asset).published(int(source["version"]))
            if partition not in published:
                yield f"{item.dataset.name} is not in the lake at version {source['version']}"
            elif ".." not in item.dataset.name and published[partition].digest != item.dataset.digest:
                yield f"{item.dataset.name} has another digest in the lake"
        for item in run.inputs.model_inputs:
            if not any(model_id_in(version) == item.model_id for version in self.versions.values()):
                yield f"model {item.model_id}, input of {run.info.run_id}, is no registered version"

    def from_dagster(self) -> Iterable[str]:
        reached = set()
        for address, (record, event) in self.events.items():
            page = (
                _MLFLOW_PAGE.fullmatch(event.metadata["mlflow_run"].value) if "mlflow_run" in event.metadata else None
            )
            run = self.mlflow.get(page[2]) if page else None
            if run is None or run.data.tags["address"] != address or page[1] != run.info.experiment_id:
                yield f"{address} does not lead to its run in MLflow"
                continue
            reached.add(page[2])
            if record.made_by["mlflow_run_id"] != page[2]:
                yield f"the record of {address} names another MLflow run than its link"
        attempts = {key for key, run in self.mlflow.items() if "materialization" in run.data.tags}
        if attempts != reached:
            yield f"{len(attempts - reached)} runs in MLflow are reached from no materialization"

    def from_registry(self) -> Iterable[str]:
        fitted = {address for address in self.events if address.startswith("demand_model[")}
        if {version.tags["address"] for version in self.versions.values()} != fitted or len(self.versions) != len(
            fitted
        ):
            yield f"{len(self.versions)} registered versions stand for {len(fitted)} models"
        for number, version in self.versions.items():
            record, event = self.events[version.tags["address"]]
            model = self.client.get_logged_model(model_id_in(version))
            if event.metadata["mlflow_model_version"].value != number:
                yield f"{version.tags['address']} leads to another version than {number}"
            if (model.status.value, model.source_run_id) != ("READY", version.run_id):
                yield f"version {number} is of a logged model that is {model.status.value}"
            if (record.made_by["mlflow_run_id"], record.models[0]["mlflow_model_id"]) != (
                version.run_id,
                model_id_in(version),
            ):
                yield f"version {number} is not of the run and the logged model that the record names"
            try:
                self.lake.load_file(version.tags["sha256"])
            except DigestError as error:
                yield f"version {number}: {error}"


@pytest.mark.soak
def test_every_link_of_24_months_leads_somewhere_and_back(tmp_path, monkeypatch, request):
    """Of a history of seven months where this is no soak."""
    expected = 2 * 24 + 4 * 22 if SOAK else 2 * 7 + 4 * 5
    if SOAK:
        months = {"BIKES_FIRST_MONTH": "2011-01", "BIKES_LAST_MONTH": "2012-12"}
        done = forked.run(
            ("-m", "bikes_assets", "run"), environment=os.environ | store_at(tmp_path) | months, folder=ROOT
        )
        assert done.returncode == 0, done.stderr
    else:
        shutil.copytree(request.getfixturevalue("as_made"), tmp_path, dirs_exist_ok=True)

    from bikes_assets.app.store import lake
    from bikes_assets.storage.lake import Lake
    from bikes_assets.tracking.client import client_of

    schemas = lake().schemas  # by this process's settings, which are remembered: before DAGSTER_HOME is another's
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    with dg.DagsterInstance.get() as instance:
        walk = Walk(
            instance,
            client_of(store_at(tmp_path)["BIKES_MLFLOW_TRACKING_URI"]),
            Lake(str(tmp_path / "lake"), schemas, tmp_path),
        )

    assert walk.dead_ends() == []
    assert len(walk.events) == expected
