"""The second project on the library runs, and docs/adapt.md says what it does."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from bikes_assets.core.errors import LineageError
from bikes_assets.storage.lake import Lake, ModelFormat
from bikes_assets.verification import invariants

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


def blocks(name, heading="", end="\x00"):
    """Return the code in a guide, from a heading to another, one block after the other."""
    text = (ROOT / "docs" / name).read_text()
    text = text[text.index(heading) :].partition(end)[0]
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize(
    ("name", "heading", "end"),
    [("parcels", "## Your own tables", "## Plain assets"), ("taxi", "### In modules", "\x00")],
)
def test_code_in_the_guide_is_that_of_an_example(name, heading, end):
    example = (ROOT / "examples" / name / "definitions.py").read_text()

    for block in blocks("adapt.md", heading, end):
        assert block.strip() in example


def test_code_in_the_guide_is_a_whole_project(tmp_path, monkeypatch):
    # Given a module of nothing but the code of the guide
    (tmp_path / "parcels_of_the_guide.py").write_text(
        "\n\n".join(blocks("adapt.md", "## Your own tables", "## Plain assets"))
    )
    shutil.copy(ROOT / "examples" / "parcels" / "parcels.csv", tmp_path)
    monkeypatch.setenv("PARCELS_LAKE", str(tmp_path / "lake"))
    monkeypatch.syspath_prepend(str(tmp_path))
    guide = importlib.import_module("parcels_of_the_guide")
    # When its assets are materialized
    job = guide.defs.resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey(name) for name in ("parcels", "parcel_features", "parcel_model")]
    with dg.DagsterInstance.ephemeral() as instance:
        runs = [
            job.execute_in_process(instance=instance, partition_key=month, asset_selection=keys)
            for month in ("2024-01", "2024-02")
        ]
    # Then all of it is there, and a row is traced as the guide says
    assert all(run.success for run in runs)
    assert len(runs[-1].get_asset_materialization_events()) == 3
    values = guide.tracer().trace("parcel_features[2024-02]#2024-02-03").values
    assert [(value.value, value.repeats, value.rows[0].versions) for value in values] == [
        (86, None, ("parcels[2024-02]@2",)),
        (83.0, True, ("parcels[2024-01]@1",)),
    ]
    with pytest.raises(LineageError, match="found no table 'parcel_model', expected one of parcels, parcel_features"):
        guide.tracer().trace("parcel_model[2024-02]#2024-02-03")


BAKERY = ROOT / "examples" / "bakery" / "pipeline.py"


def test_a_plain_file_is_a_project_as_a_script_and_as_a_module(tmp_path):
    # Given a file of four assets under a key prefix
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    known = {"PYTHONPATH": str(ROOT), "DAGSTER_HOME": str(tmp_path / "home"), "BAKERY_LAKE": str(tmp_path / "lake")}
    # When it is run as a script, then as a module
    for form in ([str(BAKERY)], ["-m", "examples.bakery.pipeline"]):
        command = [sys.executable, *form]
        done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **known}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    # Then each run has published each asset, by the same code and with the same content
    lake = Lake(str(tmp_path / "lake"), {}, tmp_path)
    names = [f"bakery/{name}" for name in ("sales", "sales_features", "sales_model", "sales_predictions")]
    records = {name: [lake.record(name, None, version) for version in (1, 2)] for name in names}
    for first, second in records.values():
        assert (first.code_version, first.output.digest) == (second.code_version, second.output.digest)
        assert first.code_version
        assert lake.code(first.code_version)
    assert [item.asset for item in records["bakery/sales_predictions"][1].inputs] == names[1:3]
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        assert {key.to_user_string() for key in instance.get_asset_keys()} == set(names)
    # and the pipeline of scikit-learn comes back from the lake
    ((_, rows),) = lake.table("bakery/sales_model").read([None]).values()
    (row,) = rows.to_pylist()
    model = lake.load_model(ModelFormat.of_estimators(), row["sha256"], row["card"], "")
    assert [type(step).__name__ for _, step in model.steps] == ["ColumnTransformer", "Ridge"]


def test_the_wiring_of_a_plain_file_takes_twelve_lines():
    _, wiring = BAKERY.read_text().split("\n\n\nLAKE = ")
    assert len(f"LAKE = {wiring}".strip().splitlines()) <= 12
    assert f"LAKE = {wiring}".strip() in (ROOT / "docs" / "adapt.md").read_text()


def test_code_in_the_guide_to_column_lineage_holds(monkeypatch):
    names = {}
    for block in blocks("column-lineage.md"):
        exec(compile(block, "column-lineage.md", "exec"), names)

    tests = [name for name in names if name.startswith("test_")]
    assert tests == ["test_lineage_of_my_features", "test_lineage_of_zones", "test_lineage_of_strict_features"]
    for name in tests:
        names[name]()


def test_the_guide_to_column_lineage_shows_each_invariant_as_it_is_called():
    shown = re.findall(r"^\| `(\w+\(.*?\))` \|", (ROOT / "docs" / "column-lineage.md").read_text(), re.MULTILINE)

    made = [type(eval(text, vars(invariants))).__name__ for text in shown]
    assert made == ["Total", "Ordered", "Derived", "Together", "Rising", "Unique"]
