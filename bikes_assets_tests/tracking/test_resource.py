"""MLflow: one parent run per Dagster run, one run per materialization, datasets with our digests, links both ways."""

import multiprocessing
import signal
import time
from concurrent.futures import ProcessPoolExecutor

import dagster as dg
import pytest

from bikes_assets.app.settings import settings
from bikes_assets_tests.fire.servers import black_hole, free_port


@pytest.fixture(scope="module")
def runs(history):
    return history.client.search_runs([*experiments(history.client).values()], max_results=1000)


def experiments(client):
    """Return the id of the experiment whose runs people compare, and of the one beside it."""
    return {name: client.get_experiment_by_name(name).experiment_id for name in ("bike-demand", "bike-demand-lineage")}


def run_of(runs, asset, partition):
    """Return the first run of a partition: other tests may materialize it again."""
    found = [run for run in runs if run.data.tags.get("asset") == asset and run.data.tags.get("partition") == partition]
    return min(found, key=lambda run: run.info.start_time)


def test_each_materialization_is_one_run_that_names_its_dagster_runs_parent(history, runs):
    parents = {run.info.run_id: run for run in runs if "materialization" not in run.data.tags}
    children = [run for run in runs if "materialization" in run.data.tags]

    made = {
        (record.run_id, record.asset_key.to_user_string(), record.partition_key)
        for asset in history.summary.partitions
        for record in history.instance.fetch_materializations(dg.AssetKey(asset), limit=100).records
    }
    tags = [tuple(child.data.tags[key] for key in ("dagster_run_id", "asset", "partition")) for child in children]

    assert sorted(tags) == sorted(made)
    assert len({run.data.tags["dagster_run_id"] for run in parents.values()}) == len(parents)
    for child in children:
        (named,) = (
            child.data.tags.get(tag) for tag in ("mlflow.parentRunId", "parent_run_id") if tag in child.data.tags
        )
        parent = parents[named]
        assert child.data.tags["dagster_run_id"] == parent.data.tags["dagster_run_id"]
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_fits_and_evaluations_stand_side_by_side_and_everything_else_is_beside_them(history, runs):
    compared, lineage = experiments(history.client).values()
    shown = [run for run in runs if run.info.experiment_id == compared]

    assert sorted(run.info.run_name for run in shown) == sorted(
        f"2011-{month:02} {asset}" for asset in ("demand_model", "prediction_quality") for month in range(3, 8)
    )
    assert {run.data.tags.get("mlflow.parentRunId") for run in shown} == {None}
    rest = [run for run in runs if run.info.experiment_id == lineage]
    parents = {run.info.run_id for run in rest if run.info.run_name.startswith("dagster ")}
    assert {run.data.tags.get("parent_run_id") for run in shown} <= parents
    assert {run.data.tags.get("mlflow.parentRunId") for run in rest if run.info.run_id not in parents} <= parents
    assert {run.data.tags["asset"] for run in rest if "asset" in run.data.tags} == {
        "hourly_rentals",
        "demand_features",
        "champion_model",
        "demand_predictions",
    }


def test_experiments_and_the_registered_model_have_descriptions(history):
    notes = [
        history.client.get_experiment(key).tags["mlflow.note.content"] for key in experiments(history.client).values()
    ]

    assert notes[0].startswith("One run per fitted model and per evaluation")
    assert notes[1].startswith("The rest of the record: one run per Dagster run")
    assert "demand_model" in history.client.get_registered_model("demand_model").description


def test_a_fit_has_its_hyperparameters_one_by_one_and_the_rows_of_each_role(runs):
    params = run_of(runs, "demand_model", "2011-07").data.params

    assert {name: params[name] for name in ("seed", "training", "validation", "validation_rows")} == {
        "seed": "0",
        "training": "2011-01..2011-05",
        "validation": "2011-06",
        "validation_rows": "720",
    }
    assert params["estimator"].startswith("sklearn.")
    assert params.keys() >= {"max_iter", "learning_rate", "level", "threads"}
    assert params["features"].startswith("hour_of_day, ")
    assert not any(value.startswith("{") or name.startswith("config") for name, value in params.items())


@pytest.mark.parametrize(
    ("asset", "plots"),
    [("demand_model", {"importance.svg"}), ("champion_model", {"candidates.svg"}), ("demand_predictions", set())],
)
def test_the_plots_of_a_materialization_are_artifacts_of_its_run(history, runs, asset, plots):
    run = run_of(runs, asset, "2011-07")
    found = {item.path for item in history.client.list_artifacts(run.info.run_id)}

    assert found == plots
    assert all(history.client.download_artifacts(run.info.run_id, path) for path in plots)


def test_a_run_names_dagster_asset_partition_and_table_version(history, runs):
    run = run_of(runs, "demand_features", "2011-05")
    record = history.record("demand_features", "2011-05")

    assert run.data.tags["dagster_run_id"] == record.made_by["dagster_run_id"]
    assert run.data.tags["table_version"] == str(record.output.version)
    assert run.data.tags["digest"] == record.output.digest
    assert run.data.params["feature.demand_trend_7d"]
    assert run.data.params["imputation"] == "last known weather, at most 24 h old"


@pytest.mark.parametrize(
    ("asset", "contexts"),
    [
        ("hourly_rentals", {"raw": "rental_records[2011-06]", "rentals": "hourly_rentals[2011-06]"}),
        ("demand_features", {"raw": "hourly_rentals[2011-05..2011-06]", "features": "demand_features[2011-06]"}),
        ("demand_model", {"training": "demand_features[2011-01..2011-04]", "validation": "demand_features[2011-05]"}),
        ("champion_model", {"validation": "demand_features[2011-05]"}),
        ("demand_predictions", {"inference": "demand_features[2011-06]", "predictions": "demand_predictions[2011-06]"}),
    ],
)
def test_datasets_are_logged_with_their_context(runs, asset, contexts):
    inputs = run_of(runs, asset, "2011-06").inputs.dataset_inputs

    assert {tag.value: item.dataset.name for item in inputs for tag in item.tags} == contexts


def test_a_datasets_digest_is_the_data_version_in_dagster(history, runs):
    (found,) = [
        item.dataset
        for item in run_of(runs, "demand_predictions", "2011-06").inputs.dataset_inputs
        if item.dataset.name == "demand_predictions[2011-06]"
    ]

    assert found.digest == history.event("demand_predictions", "2011-06").tags["dagster/data_version"]


def test_the_source_of_a_dataset_names_its_version(history, runs):
    import json

    sources = {
        item.dataset.name: json.loads(item.dataset.source)
        for item in run_of(runs, "hourly_rentals", "2011-06").inputs.dataset_inputs
    }

    assert (
        sources["rental_records[2011-06]"]["version"]
        == "35f54957b7ccea2a33464ad2115d14b73540cf8ac57763717b171e95fbb0394f"
    )
    assert sources["hourly_rentals[2011-06]"]["version"] == str(
        history.record("hourly_rentals", "2011-06").output.version
    )


def test_metrics_of_a_model_are_linked_to_the_model_and_its_validation_rows(history, runs):
    run = run_of(runs, "demand_model", "2011-07")
    (output,) = run.outputs.model_outputs
    model = history.client.get_logged_model(output.model_id)
    metrics = {metric.key: metric for metric in model.metrics}

    assert metrics["r2"].value == pytest.approx(history.record("demand_model", "2011-07").metrics["r2"])
    assert metrics["r2"].dataset_name == "demand_features[2011-06]"


def test_each_model_is_a_version_of_the_registered_model_with_its_digest(history):
    versions = history.client.search_model_versions("name = 'demand_model'")
    by_address = {version.tags["address"]: version for version in versions}
    record = history.record("demand_model", "2011-07")
    version = by_address[record.output.address]

    assert sorted(by_address) == [f"demand_model[2011-{month:02}]@{month - 2}" for month in range(3, 8)]
    assert version.tags.keys() == {"address", "digest", "sha256", "manifest"}
    assert version.tags["digest"] == record.output.digest
    told = version.description.split("\n\n")
    assert told[0].startswith("Trained on demand_features[2011-01..2011-05] (5 partitions, ")
    assert told[0].endswith("; validated on demand_features[2011-06] (720 rows)")
    assert told[1].startswith("Metrics: ")
    assert f" rmse {record.metrics['rmse']:.4g}," in told[1]
    assert told[2] == f"Digest: {record.output.digest}"
    assert (
        told[3] == f"[Open in Dagster]({settings().dagster_url}/assets/demand_model?view=partitions&partition=2011-07)"
    )


def test_a_logged_model_is_named_after_its_month_and_has_its_hyperparameters(history, runs):
    run = run_of(runs, "demand_model", "2011-07")
    model = history.client.get_logged_model(history.record("demand_model", "2011-07").models[0]["mlflow_model_id"])

    assert model.name == "demand_model-2011-07"
    assert model.params.items() <= run.data.params.items()
    assert model.params["max_iter"] == run.data.params["max_iter"]


def test_the_copy_in_mlflow_predicts_what_the_pipeline_predicts(history):
    import mlflow.sklearn

    from bikes_assets import load
    from bikes_assets.demand.model import inputs

    champion = history.record("demand_predictions", "2011-07").models[0]
    assert champion["origin"] == "demand_model[2011-07]@5"
    mlflow.set_tracking_uri(settings().tracking_uri)
    copy = mlflow.sklearn.load_model(f"models:/{champion['mlflow_model_id']}")
    mlflow.set_tracking_uri(None)
    features = load("demand_features").query("ts >= '2011-07-01'")
    predicted = load("demand_predictions").query("ts >= '2011-07-01'")

    assert copy.predict(inputs(features, copy.feature_names_in_)).clip(min=0) == pytest.approx(predicted["prediction"])


def test_predictions_have_the_model_as_input(history, runs):
    run = history.client.get_run(run_of(runs, "demand_predictions", "2011-07").info.run_id)
    model = history.record("demand_predictions", "2011-07").models[0]

    assert [item.model_id for item in run.inputs.model_inputs] == [model["mlflow_model_id"]]


def test_either_page_leads_to_the_other(history, runs):
    run = run_of(runs, "demand_features", "2011-06")
    url = history.event("demand_features", "2011-06").metadata["mlflow_run"].value
    parent = history.client.get_run(run.data.tags["mlflow.parentRunId"])

    path = f"/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}?workflowType=machine_learning"
    assert url == f"{settings().mlflow_url}{path}"
    page = f"{settings().dagster_url}/assets/demand_features?view=partitions&partition=2011-06"
    assert run.data.tags["dagster.url"] == page
    assert f"[Open in Dagster]({page})" in run.data.tags["mlflow.note.content"]
    assert parent.data.tags["dagster.url"] == f"{settings().dagster_url}/runs/{parent.data.tags['dagster_run_id']}"


def test_no_run_is_left_active_in_this_process(history):
    import mlflow

    assert mlflow.active_run() is None


def test_an_empty_store_is_made_once_by_many_processes(tmp_path):
    uri = f"sqlite:///{tmp_path}/store/mlflow.db"
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:
        ids = set(pool.map(_experiment, [uri] * 4))

    assert len(ids) == 1


def _experiment(uri):
    from bikes_assets.tracking.client import client_of, experiment_of

    return experiment_of(client_of(uri), uri, "one")


def resource(uri):
    from bikes_assets.tracking.resource import tracking_resource

    return {"mlflow": tracking_resource(uri, "one", "http://m", "http://d", {})}


def store(tmp_path):
    """Return an empty store's address, and what returns all runs of the experiments `one` and `one-lineage` in it."""
    from bikes_assets.tracking.client import client_of, experiment_of

    uri = f"sqlite:///{tmp_path}/store/mlflow.db"
    client = client_of(uri)
    both = [experiment_of(client, uri, name) for name in ("one", "one-lineage")]
    return uri, lambda: client.search_runs(both)


def test_a_dagster_run_has_one_parent_however_often_it_is_asked_for(tmp_path):
    from bikes_assets.tracking.resource import connect, parent_run

    uri, _ = store(tmp_path)
    runs = connect(uri, "one", "http://m", "http://d", {})
    with dg.DagsterInstance.ephemeral() as instance:
        one, other = (instance.add_run(dg.DagsterRun(job_name="job")) for _ in range(2))

        first, second = (parent_run(runs, uri, instance, one) for _ in range(2))

        assert first.run_id == second.run_id
        assert parent_run(runs, uri, instance, other).run_id != first.run_id
        assert instance.get_run_by_id(one.run_id).tags["mlflow_run_id"] == first.run_id


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:///{folder}"])
def test_without_mlflow_the_data_goes_its_way(tmp_path, uri):
    from bikes_assets.tracking.resource import backlog

    @dg.asset(required_resource_keys={"mlflow"})
    def thing(context: dg.AssetExecutionContext):
        return context.resources.mlflow.start("thing", 1, "thing")

    # a folder is no SQLite file, and nothing listens on port 9
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([thing], instance=instance, resources=resource(uri.format(folder=tmp_path)))

        assert result.success
        assert result.output_for_node("thing") == ""
        assert backlog(instance)


@pytest.mark.parametrize("kind", ["closed", "silent"])
def test_a_database_server_that_is_away_is_asked_once_and_not_for_long(kind):
    from bikes_assets.tracking.client import PATIENCE
    from bikes_assets.tracking.resource import Tracking, backlog, connect

    with black_hole() as silent, dg.DagsterInstance.ephemeral() as instance:
        # Given
        port = silent.port if kind == "silent" else free_port()
        uri, told = f"postgresql+psycopg2://me:secret@127.0.0.1:{port}/mlflow", []
        run = instance.add_run(dg.DagsterRun(job_name="job"))
        tracking = Tracking(instance, run, told.append)
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 - its import takes seconds

        # When
        start = time.monotonic()
        tracking.connect(uri, "one", lambda: connect(uri, "one", "http://m", "http://d", {}), None)
        assert tracking.start("thing", 1, "thing") == ""
        # Then
        assert time.monotonic() - start < PATIENCE + 2
        assert len(silent.requests) == (kind == "silent")
        assert len(told) == 1
        assert "secret" not in told[0]
        assert backlog(instance)


def test_an_interruption_within_mlflow_leaves_the_rest_to_sync(tmp_path):
    """MLflow's store may be locked by the transaction that was interrupted."""
    from bikes_assets.tracking.resource import backlog

    @dg.asset(required_resource_keys={"mlflow"})
    def thing(context: dg.AssetExecutionContext):
        context.resources.mlflow.ask(lambda _: signal.raise_signal(signal.SIGINT))

    uri, found = store(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([thing], instance=instance, resources=resource(uri), raise_on_error=False)

        assert not result.success
        assert backlog(instance)
        (parent,) = found()
        assert parent.info.status == "RUNNING"


def test_what_comes_after_something_unlogged_keeps_its_turn(tmp_path):
    """Were it logged at once, versions of a registered model would not be in the order in which models were made."""
    from bikes_assets.tracking.resource import mark_backlog

    @dg.asset(required_resource_keys={"mlflow"})
    def thing(context: dg.AssetExecutionContext):
        return context.resources.mlflow.start("thing", 1, "thing")

    uri, found = store(tmp_path)
    with dg.DagsterInstance.ephemeral() as instance:
        mark_backlog(instance)
        result = dg.materialize([thing], instance=instance, resources=resource(uri))

    assert result.output_for_node("thing") == ""
    assert found() == []


def test_the_parent_of_a_dagster_run_that_skipped_steps_has_ended(tmp_path):
    """A step that had nothing to work on makes nothing, and Dagster never begins those that need it."""

    @dg.asset(required_resource_keys={"mlflow"}, output_required=False)
    def nothing():
        if False:
            yield dg.Output(None)

    @dg.asset(required_resource_keys={"mlflow"})
    def needs(nothing):
        return nothing

    @dg.asset(required_resource_keys={"mlflow"})
    def needs_that(needs):
        return needs

    uri, found = store(tmp_path)
    kept = {"io_manager": dg.mem_io_manager}
    assert dg.materialize([nothing, needs, needs_that], resources=resource(uri) | kept).success

    assert [run.info.status for run in found()] == ["FINISHED"]


def test_the_parent_of_a_failed_dagster_run_is_failed_and_keeps_its_name(tmp_path):
    """dagster-mlflow would call it __ASSET_JOB, and ending MLflow's active run would call it FINISHED."""

    @dg.asset(required_resource_keys={"mlflow"})
    def thing(context: dg.AssetExecutionContext):
        raise ValueError("no")

    uri, found = store(tmp_path)
    result = dg.materialize([thing], resources=resource(uri), raise_on_error=False)
    nested, parent = sorted(found(), key=lambda run: "attempt" not in run.data.tags)

    assert (parent.info.status, parent.info.run_name) == ("FAILED", f"dagster {result.run_id[:8]}")
    assert (nested.info.status, nested.info.run_name) == ("FAILED", "thing")
    assert nested.data.tags["materialization"] == f"{result.run_id}/thing/1"
    assert nested.data.tags["error"] == "ValueError: no"
    link, _, told = nested.data.tags["mlflow.note.content"].partition("\n\n")
    assert link == f"[Open in Dagster](http://d/runs/{result.run_id})"
    assert told == "ValueError: no"


def test_each_attempt_is_a_run_of_its_own(tmp_path):
    """One MLflow run for both would fail on the second: parameters there never change."""
    tries = []

    @dg.asset(required_resource_keys={"mlflow"})
    def thing(context: dg.AssetExecutionContext):
        tries.append(context.retry_number)
        if len(tries) < 3:
            raise dg.RetryRequested(max_retries=5)

    uri, found = store(tmp_path)
    result = dg.materialize([thing], resources=resource(uri))
    runs = found()
    names = {run.info.run_name: run.info.status for run in runs}

    # an asset without a record is no materialization of ours: its last attempt needs no run
    assert names == {f"dagster {result.run_id[:8]}": "FINISHED", "thing": "FAILED", "thing attempt 2": "FAILED"}


def test_fluent_calls_go_to_the_run_of_their_own_dagster_run(tmp_path):
    """dagster-mlflow would give the inner run the outer one's, and leave it active afterwards."""
    import mlflow

    uri, found = store(tmp_path)

    @dg.asset(required_resource_keys={"mlflow"})
    def inner(context: dg.AssetExecutionContext):
        with context.resources.mlflow.active():
            mlflow.log_param("who", "inner")

    @dg.asset(required_resource_keys={"mlflow"})
    def outer(context: dg.AssetExecutionContext):
        with context.resources.mlflow.active():
            mlflow.log_param("before", "outer")
            within.append(dg.materialize([inner], resources=resource(uri)).run_id)
            mlflow.log_param("after", "outer")

    within = []
    result = dg.materialize([outer], resources=resource(uri))
    params = {run.data.tags["dagster_run_id"]: run.data.params for run in found()}

    assert params == {result.run_id: {"before": "outer", "after": "outer"}, within[0]: {"who": "inner"}}
    assert mlflow.active_run() is None


def test_a_run_leaves_no_address_of_a_store_to_the_processes_that_follow(tmp_path):
    """MLflow writes the address that is set to the environment, where other settings of this project would take it from."""
    import os

    import mlflow

    mlflow.set_tracking_uri(None)

    @dg.asset(required_resource_keys={"mlflow"})
    def thing(context: dg.AssetExecutionContext):
        with context.resources.mlflow.active():
            return os.environ["MLFLOW_TRACKING_URI"]

    uri, _ = store(tmp_path)
    result = dg.materialize([thing], resources=resource(uri))

    assert result.output_for_node("thing") == uri
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_mlflows_stack_of_active_runs_is_where_it_is_looked_for():
    """It is not public: should MLflow move it, fluent calls of one Dagster run could reach another one's."""
    from mlflow.tracking import fluent

    assert fluent._active_run_stack.get() == []
