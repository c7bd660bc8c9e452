"""Anything by its address, and runs from a notebook: exact, recorded like the pipeline's, and without power over it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bikes_assets import experiment, load
from bikes_assets.core.errors import DigestError, LineageError, ModelError

MONTHS = [f"2011-0{month}" for month in range(1, 8)]


def published(history, asset, partition):
    """Return the address and the digest on the event of a partition."""
    output = history.record(asset, partition).output
    return {output.address: output.digest}


def notebook_runs(history):
    known = history.client.get_experiment_by_name("bike-demand-notebook")
    return history.client.search_runs([known.experiment_id]) if known else []


def state_of(history):
    """Return what an experiment must not change: the lake's tables, registered versions and aliases."""
    from bikes_assets.project import ASSETS

    versions = history.client.search_model_versions("name = 'demand_model'")
    return (
        {asset: history.lake.table(asset).version() for asset in ASSETS},
        sorted((item.version, item.current_stage, sorted(item.tags.items())) for item in versions),
        dict(history.client.get_registered_model("demand_model").aliases),
        len(history.client.search_registered_models()),
    )


def test_a_partition_comes_with_its_address_and_digest(history):
    found = load("demand_features[2011-05]")
    assert isinstance(found, pd.DataFrame)
    assert found.attrs["lineage"] == published(history, "demand_features", "2011-05")
    assert found["ts"].is_monotonic_increasing
    assert set(found["ts"].dt.strftime("%Y-%m")) == {"2011-05"}


def test_a_table_version_is_the_past(history):
    table = history.lake.table("demand_features")
    at = table.published()["2011-03"].version
    # Given a version at which later months were not there yet
    assert list(load(f"demand_features@{at}").attrs["lineage"]) == [
        f"demand_features[{key}]@{commit.version}" for key, commit in sorted(table.published(at).items())
    ]
    assert f"demand_features[2011-03]@{at}" in load(f"demand_features[2011-03]@{at}").attrs["lineage"]
    with pytest.raises(LineageError, match=rf"found nothing as of version {at}, expected one of its versions: \d"):
        load(f"demand_features[2011-04]@{at}")


def test_without_a_partition_it_is_all_of_them_and_with_two_a_stretch(history):
    everything, some = load("hourly_rentals"), load("hourly_rentals[2011-02..2011-04]")
    assert sorted(everything["ts"].dt.strftime("%Y-%m").unique()) == MONTHS
    assert sorted(some["ts"].dt.strftime("%Y-%m").unique()) == MONTHS[1:4]
    assert len(everything.attrs["lineage"]) == 7
    pd.testing.assert_frame_equal(
        some, everything[everything["ts"].isin(some["ts"])].reset_index(drop=True), check_flags=False
    )


@pytest.mark.parametrize("partition", ["", "[2011-06]"])
def test_a_column_comes_by_its_key(history, partition):
    found = load(f"demand_features.demand_lag_24h{partition}")
    table = load(f"demand_features{partition}")
    assert isinstance(found, pd.Series)
    assert found.index.name == "ts"
    assert found.tolist() == table["demand_lag_24h"].tolist()
    record = history.record("demand_features", "2011-06")
    address = f"demand_features.demand_lag_24h[2011-06]@{record.output.version}"
    assert found.attrs["lineage"][address] == record.columns["demand_lag_24h"]
    assert len(found.attrs["lineage"]) == len(table.attrs["lineage"])


def test_the_key_is_a_column_too(history):
    assert load("demand_features.ts[2011-06]").tolist() == load("demand_features[2011-06]")["ts"].tolist()


def test_a_model_comes_from_the_lake_however_it_is_named(history):
    record = history.record("demand_model", "2011-06")
    (version,) = [
        item
        for item in history.client.search_model_versions("name = 'demand_model'")
        if item.tags["address"].startswith("demand_model[2011-06]")
    ]
    names = ["demand_model[2011-06]", record.output.address, f"demand_model@{version.version}"]
    rows = load("demand_features[2011-07]")
    models = [load(name) for name in names]
    assert {model.origin for model in models} == {record.output.address}
    first, *others = (model.predict(rows) for model in models)
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_the_champion_comes_by_its_alias_and_by_its_month(history):
    newest = history.record("champion_model", "2011-07")
    by_alias, by_month = load("demand_model@champion"), load("champion_model[2011-07]")
    assert by_alias.origin == by_month.origin == newest.models[0]["origin"] == history.summary.champion


def test_the_registry_puts_no_other_model_in_the_place_of_a_version(history):
    """What a number means is on record, and MLflow's registry is not asked."""
    (version,) = [
        item
        for item in history.client.search_model_versions("name = 'demand_model'")
        if item.tags["address"].startswith("demand_model[2011-05]")
    ]
    for tag, value in (("sha256", "0" * 64), ("address", "demand_model[2011-03]@1"), ("digest", "0" * 32)):
        history.client.set_model_version_tag("demand_model", version.version, tag, value)
        try:
            assert load(f"demand_model@{version.version}").origin == version.tags["address"]
        finally:
            history.client.set_model_version_tag("demand_model", version.version, tag, version.tags[tag])


def test_an_alias_of_ones_own_must_name_what_the_lake_holds(history):
    (version,) = [
        item
        for item in history.client.search_model_versions("name = 'demand_model'")
        if item.tags["address"].startswith("demand_model[2011-05]")
    ]
    history.client.set_registered_model_alias("demand_model", "mine", version.version)
    try:
        assert load("demand_model@mine").origin == version.tags["address"]
        history.client.set_model_version_tag("demand_model", version.version, "sha256", "0" * 64)
        with pytest.raises(DigestError, match=rf"demand_model@mine: .* expected {'0' * 64}"):
            load("demand_model@mine")
    finally:
        history.client.set_model_version_tag("demand_model", version.version, "sha256", version.tags["sha256"])
        history.client.delete_registered_model_alias("demand_model", "mine")


def test_a_version_that_was_not_registered_here_is_refused(history):
    history.client.create_registered_model("demand_predictions")  # anyone may register anything
    try:
        history.client.create_registered_model("champion_pins")
        history.client.create_model_version("champion_pins", "file:///nowhere")
        with pytest.raises(LineageError, match=r"champion_pins@1: found no tag address, digest, sha256"):
            load("champion_pins@1")
    finally:
        history.client.delete_registered_model("champion_pins")
        history.client.delete_registered_model("demand_predictions")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("demand_featurs", r"found no asset 'demand_featurs'; did you mean demand_features"),
        ("xyz", r"found no asset 'xyz'; expected one of hourly_rentals, demand_features, .*champion_model"),
        ("demand_features.demand_lag", r"no column of demand_features 'demand_lag'; did you mean demand_lag_24h"),
        ("demand_model.cnt", r"demand_model holds models, which have no columns"),
        ("demand_features[2013-01]", r"found nothing as of version \d+, expected one of 2011-01, 2011-02"),
        ("demand_features[2011-02..2013-01]", r"no partition 2013-01 as of version"),
        ("demand_features[2011-04..2011-02]", r"no partition 2011-04\.\.2011-02 as of version"),
        ("demand_features@999", r"found version '999', expected one from 0 to \d+"),
        ("demand_features@champion", r"found version 'champion', expected one from 0 to \d+"),
        ("demand_features@0", r"nothing was published by then, and the current version is \d+"),
        ("demand_features[", r"found address 'demand_features\[', expected one like"),
        ("demand_model", r"found 5 models, expected one: demand_model\[2011-07\], for any of 2011-03, .*@champion"),
        ("demand_model@999", r"no such version in MLflow's registry, expected one of 1, 2, 3, 4, 5, .*champion"),
        ("demand_model@winner", r"no such version in MLflow's registry, expected one of 1, 2, 3, 4, 5, .*champion"),
        ("champion_model@1", r"nor any other of champion_model; a table version needs its partition"),
        ("demand_model[2011-01]", r"found nothing as of version \d+, expected one of 2011-03"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(history, address, message):
    with pytest.raises(LineageError, match=message):
        load(address)


def test_an_empty_lake_is_said_and_stays_empty(history, tmp_path, monkeypatch):
    from dataclasses import replace

    from bikes_assets.app import store

    elsewhere = replace(history.lake, location=str(tmp_path / "lake"))
    monkeypatch.setattr(store, "lake", lambda: elsewhere)
    for address in ("demand_features", "demand_model[2011-05]"):
        with pytest.raises(LineageError, match=r"materialize .* first, as with bikes run"):
            load(address)
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_records_the_rows_as_the_pipeline_does(history):
    (use,) = [item for item in history.record("demand_model", "2011-06").datasets if item.context == "training"]
    with experiment("the same rows") as run:
        frame = run.load(f"{use.name}@{use.source['version']}")
        validation = run.load("demand_features[2011-05]", context="validation")
        run.log(params={"idea": "none"}, metrics={"rmse": 3, "by_month": {1: 2.0, 2: 4.0}})
    assert len(frame) == use.rows
    assert validation.attrs["lineage"] == published(history, "demand_features", "2011-05")

    stored = history.client.get_run(run.run_id)
    made = history.record("demand_model", "2011-06").made_by["mlflow_run_id"]
    pipeline = {item.dataset.name: item.dataset for item in history.client.get_run(made).inputs.dataset_inputs}
    inputs = {item.tags[0].value: item.dataset for item in stored.inputs.dataset_inputs}
    # the same dataset, at the place where the store has been moved to since
    place, made_of = str(Path(use.source["uri"]).parent), dict(pipeline[use.name])
    assert dict(inputs["training"]) == made_of | {"source": made_of["source"].replace(place, history.lake.location)}
    assert inputs["training"].digest == use.digest
    assert inputs["validation"].digest == history.record("demand_features", "2011-05").output.digest
    assert json.loads(inputs["validation"].profile) == {"num_rows": 744}
    assert (stored.info.status, stored.data.params["idea"]) == ("FINISHED", "none")
    assert stored.data.metrics == {"rmse": 3.0, "by_month": 4.0}


def test_a_column_is_recorded_with_its_own_digest(history):
    with experiment("one column") as run:
        run.load("demand_features.demand_lag_24h[2011-05]")
    (found,) = history.client.get_run(run.run_id).inputs.dataset_inputs
    assert found.dataset.name == "demand_features.demand_lag_24h[2011-05]"
    assert found.dataset.digest == history.record("demand_features", "2011-05").columns["demand_lag_24h"]
    assert [item["name"] for item in json.loads(found.dataset.schema)["mlflow_colspec"]] == ["ts", "demand_lag_24h"]


def test_an_experiment_cannot_promote(history):
    from sklearn.linear_model import LinearRegression

    before = state_of(history)
    with experiment("a model of my own") as run:
        rows = run.load("demand_features[2011-03..2011-05]")
        run.load("demand_features[2011-06]", context="validation")
        mine = LinearRegression().fit(rows[["temperature", "hour_of_day"]].astype("float64"), rows["cnt"].astype(float))
        run.log(metrics={"rmse": 100.0}, model=mine)
        champion = run.load("demand_model@champion")
        run.log(model=champion)
    assert state_of(history) == before
    stored = history.client.get_run(run.run_id)
    made = [history.client.get_logged_model(item.model_id) for item in stored.outputs.model_outputs]
    assert [(item.status, item.name, "mlflow.modelVersions" in item.tags) for item in made] == [
        ("READY", "model", False)
    ] * 2
    assert [(figure.key, figure.dataset_name) for item in made for figure in item.metrics or ()] == [
        ("rmse", "demand_features[2011-06]")
    ]
    # the champion that was read is an input
    read = history.record("champion_model", "2011-07").models[0]["mlflow_model_id"]
    assert [item.model_id for item in stored.inputs.model_inputs] == [read]


def test_a_model_whose_columns_were_not_loaded_is_refused(history):
    from sklearn.linear_model import LinearRegression

    with experiment("unknown columns") as run:
        with pytest.raises(LineageError, match=r"LinearRegression: no rows loaded by this run hold its columns x;"):
            run.log(model=LinearRegression().fit(pd.DataFrame({"x": [1.0, 2.0]}), [1, 2]))
        with pytest.raises(LineageError, match=r"LinearRegression: no rows .* columns \(unknown\);"):
            run.log(model=LinearRegression().fit([[1.0], [2.0]], [1, 2]))


def test_a_model_that_no_one_could_load_is_refused(history):
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.linear_model import LinearRegression

    with experiment("untrusted") as run:
        rows = run.load("demand_features[2011-05]")
        values = rows[["temperature"]].astype("float64")
        made = TransformedTargetRegressor(LinearRegression(), func=np.log1p, inverse_func=np.expm1)
        fitted = made.fit(values, rows["cnt"].astype(float))
        with pytest.raises(ModelError, match="TransformedTargetRegressor"):
            run.log(model=fitted)


def test_an_error_inside_ends_the_run_failed(history):
    with pytest.raises(LineageError), experiment("a slip") as run:
        run.load("demand_featurs")
    assert history.client.get_run(run.run_id).info.status == "FAILED"


def test_fluent_calls_go_to_the_run_and_nothing_stays_active(history):
    import mlflow

    with experiment("fluent") as run:
        mlflow.log_metric("fluent", 1.5)
        with run.trial("nested") as trial:
            mlflow.log_metric("fluent", 2.5)
    assert mlflow.active_run() is None
    found = {item.info.run_id: item for item in notebook_runs(history)}
    assert found[run.run_id].data.metrics == {"fluent": 1.5}
    assert found[trial.run_id].data.metrics == {"fluent": 2.5}
    assert found[trial.run_id].data.tags["mlflow.parentRunId"] == run.run_id
    assert run.url.endswith(
        f"/experiments/{found[run.run_id].info.experiment_id}/runs/{run.run_id}?workflowType=machine_learning"
    )
    assert found[run.run_id].data.tags["mlflow.source.name"] == "notebook"


def test_the_months_after_a_limit_are_not_read(history):
    from bikes_assets.app.notebook import read

    assert list(read("demand_features", before="2011-04").parts) == MONTHS[:3]


def test_what_a_notebook_gets_has_a_short_text(history):
    from bikes_assets.app import answers, notebook

    version = history.record("demand_model", "2011-05").output
    model = load("demand_model[2011-05]")
    assert repr(model) == (
        f"<Model {version.address}: {model.name} of {len(model.features)} features, "
        f"fitted on {model.training_months[0]}..{model.training_months[-1]}>"
    )
    assert repr(version) == f"<Version {version.address}>"
    rows = notebook.read("demand_features[2011-05..2011-06]")
    assert repr(rows) == f"<Rows demand_features@{rows.version}: {len(rows.value()):,} rows of 2 partitions>"
    with experiment("a\x1b short idea") as run:
        assert repr(run) == f"<Experiment a\\x1b short idea: {run.url}>"
    (making, *_) = answers.history("demand_model[2011-05]")
    assert repr(making) == f"<HistoryEntry {making.address}: missing>"
    found = answers.downstream("hourly_rentals.temp")
    assert repr(found).startswith(f"{len(found)} things: ")
    assert len(found.to_pandas()) == len(found) == len(list(found))
