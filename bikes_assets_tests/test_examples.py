"""The second project on the library runs, and docs/adapt.md says what it does."""

import importlib
import json
import re
from pathlib import Path

import dagster as dg
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def parcels(tmp_path, monkeypatch):
    monkeypatch.setenv("PARCELS_LAKE", str(tmp_path / "lake"))
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.reload(importlib.import_module("examples.parcels.definitions"))


def test_the_second_project_has_the_same_record(parcels):
    job = parcels.defs.resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey(name) for name in ("parcels", "parcel_features", "parcel_model")]
    with dg.DagsterInstance.ephemeral() as instance:
        for month in ("2024-01", "2024-02"):
            result = job.execute_in_process(instance=instance, partition_key=month, asset_selection=keys)

    made = {
        event.asset_key.to_user_string(): event.materialization for event in result.get_asset_materialization_events()
    }
    record = made["parcel_features"].metadata["lineage"].value
    assert [(item["asset"], item["partition"], item["version"]) for item in record["inputs"]] == [
        ("parcels", "2024-01", 1),
        ("parcels", "2024-02", 2),
    ]
    (model,) = parcels.ModelIOManager(parcels.LAKE, parcels.RIDGE).lake.table("parcel_model").read(["2024-02"]).values()
    row = model[1].to_pylist()[0]
    loaded = parcels.RIDGE.load(parcels.LAKE.load_file(row["sha256"]), json.loads(row["card"]))
    assert loaded["estimator"].coef_ == pytest.approx(0.93, abs=0.1)


def test_code_in_the_guide_is_code_that_runs():
    example = "".join((ROOT / "examples" / name / "definitions.py").read_text() for name in ("parcels", "taxi"))
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "adapt.md").read_text(), re.DOTALL)

    assert len(blocks) >= 4
    for block in blocks:
        assert block.strip() in example
