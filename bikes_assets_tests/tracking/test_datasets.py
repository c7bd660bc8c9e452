"""Datasets as MLflow is told of them: made of a record's uses, without a data frame."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from bikes_assets.core.record import Origin, Use
from bikes_assets.core.schema import Column, Schema
from bikes_assets.tracking.datasets import VersionedSource, dataset_entity

SCHEMA = Schema(
    "rentals",
    ("ts",),
    (
        Column("ts", "timestamp", "Hour."),
        Column("cnt", "int64", "Rentals.", nullable=True),
        Column("temp", "float64", "Temperature."),
        Column("open", "bool", "Open."),
        Column("note", "string", "Note."),
    ),
)
ORIGIN = Origin("rentals", "/lake/rentals", "delta", "17", 0)
USE = Use("training", "rentals", ("2011-02", "2011-01"), "ab" * 16, 1337, asdict(ORIGIN))


def test_a_use_becomes_a_dataset_without_its_rows():
    found = dataset_entity(USE, SCHEMA)
    assert (found.name, found.digest, found.source_type) == ("rentals[2011-01..2011-02]", "ab" * 16, "bikes_versioned")
    assert json.loads(str(found.profile)) == {"num_rows": 1337}
    assert json.loads(str(found.schema)) == {
        "mlflow_colspec": [
            {"type": "datetime", "name": "ts", "required": True},
            {"type": "long", "name": "cnt", "required": False},
            {"type": "double", "name": "temp", "required": True},
            {"type": "boolean", "name": "open", "required": True},
            {"type": "string", "name": "note", "required": True},
        ]
    }


def test_a_table_without_declared_columns_has_no_schema():
    assert dataset_entity(USE, None).schema is None


def test_mlflow_stores_it_and_gives_its_source_and_columns_back(tmp_path):
    import mlflow
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, InputTag
    from mlflow.types import Schema as Columns

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run = client.create_run(client.create_experiment("test", artifact_location=tmp_path.as_uri()))
    client.log_inputs(
        run.info.run_id, [DatasetInput(dataset_entity(USE, SCHEMA), [InputTag("mlflow.data.context", "training")])]
    )

    (stored,) = client.get_run(run.info.run_id).inputs.dataset_inputs
    source = mlflow.data.get_source(stored)
    assert isinstance(source, VersionedSource)
    assert source.origin == ORIGIN
    columns = Columns.from_json(json.dumps(json.loads(stored.dataset.schema)["mlflow_colspec"]))
    assert columns.input_names() == ["ts", "cnt", "temp", "open", "note"]


@pytest.mark.parametrize("first", ["mlflow", "bikes_assets.tracking.datasets"])
def test_mlflow_knows_the_source_whichever_is_imported_first(first):
    code = f"""
import {first}, mlflow
from mlflow.data.dataset_source_registry import get_registered_sources
print([source._get_source_type() for source in get_registered_sources()].count("bikes_versioned"))
"""
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr


def test_a_source_of_many_files_still_fits():
    files = tuple((f"part-{number:05}.csv", "f" * 64, 10) for number in range(2000))
    found = dataset_entity(replace(USE, source=asdict(replace(ORIGIN, files=files))), SCHEMA)
    assert len(found.source) < 65_535
    assert json.loads(found.source)["version"] == "17"


def test_it_takes_less_than_half_a_millisecond():
    dataset_entity(USE, SCHEMA)
    start = time.process_time()
    for _ in range(200):
        dataset_entity(USE, SCHEMA)
    assert (time.process_time() - start) / 200 < 0.0005
