"""How dagster-mlflow and MLflow behave today where this project works around them.

Each test here fails when the library changes: then what holds the behaviour off can be removed, or has to be looked at again.
"""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import mlflow
import pandas as pd
import pytest
import sqlalchemy
from dagster_mlflow import mlflow_tracking
from dagster_mlflow.resources import MlFlow
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput, LoggedModelOutput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from bikes_assets_tests.fire.servers import black_hole, failing, free_port

SOAK = os.environ.get("BIKES_SOAK") == "1"
OPENINGS = 20 if SOAK else 2


class Store:
    """A SQLite store, and one experiment in it for each test."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "mlflow.db"
        self.uri = f"sqlite:///{self.file}"
        self.client = MlflowClient(self.uri)
        self.name, self.experiment = "", ""

    def begin(self, name: str) -> None:
        self.name = name
        self.experiment = self.client.create_experiment(name, artifact_location=self.file.parent.as_uri())

    def run(self, **values: Any) -> str:
        return self.client.create_run(self.experiment, **values).info.run_id

    def runs(self) -> list[Any]:
        return self.client.search_runs([self.experiment])

    def config(self, **values: Any) -> dict[str, Any]:
        return {"experiment_name": self.name, "mlflow_tracking_uri": self.uri, "env": {}, "extra_tags": {}, **values}

    def rows(self) -> dict[str, list[Any]]:
        """Return every table's rows, but for the ids that MLflow draws for the edges of its graph."""
        with closing(sqlite3.connect(self.file)) as database:
            tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
            found: dict[str, list[Any]] = {}
            for table in tables:
                cursor = database.execute(f"select * from {table}")
                names = [column[0] for column in cursor.description]
                found[table] = sorted(
                    repr([item for name, item in zip(names, row, strict=True) if name != "input_uuid"])
                    for row in cursor
                )
            return found


@pytest.fixture(scope="module")
def opened(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("upstream"))


@pytest.fixture
def store(opened, request) -> Iterator[Store]:
    known = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    opened.begin(request.node.name)
    yield opened
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(known)  # pyright: ignore[reportArgumentType]


def dataset(name: str, digest: str, context: str = "raw", source: str = "{}") -> DatasetInput:
    return DatasetInput(Dataset(name, digest, "local", source, "{}", "{}"), [InputTag("mlflow.data.context", context)])


def inputs_of(store: Store, run_id: str) -> list[tuple[str, str, str]]:
    """Return context, name and source of each dataset of a run."""
    items = store.client.get_run(run_id).inputs.dataset_inputs
    return sorted((tag.value, item.dataset.name, item.dataset.source) for item in items for tag in item.tags)


def materialize(store: Store, *, fails: bool = False, **config: Any) -> Any:
    """Run one asset in a Dagster run, with dagster-mlflow's resource as it is and without its hook."""

    @dg.asset(required_resource_keys={"mlflow"})
    def thing() -> None:
        if fails:
            raise ValueError("no")

    resource = mlflow_tracking.configured(store.config(**config))
    return dg.materialize([thing], resources={"mlflow": resource}, raise_on_error=False)


# --- dagster-mlflow


def context_of(store: Store, run: dg.DagsterRun) -> Any:
    return dg.InitResourceContext(
        resource_config=store.config(),
        resources=dg.build_init_resource_context().resources,
        resource_def=mlflow_tracking,
        all_resource_defs={},
        dagster_run=run,
        log_manager=dg.build_init_resource_context().log,
    )


def test_two_steps_that_search_before_either_creates_make_two_runs(store):
    """Why the parent is found or created by us, and dagster-mlflow attaches to it."""
    # Given two steps of one Dagster run, in threads, as MLflow's active run is each thread's own
    run, both_have_searched = dg.DagsterRun(job_name="job"), threading.Barrier(2, timeout=60)

    class Step(MlFlow):
        def _get_current_run_id(self, *arguments: Any) -> Any:
            found = super()._get_current_run_id(*arguments)
            both_have_searched.wait()
            return found

    # When
    steps = [threading.Thread(target=Step, args=(context_of(store, run),)) for _ in range(2)]
    for step in steps:
        step.start()
    for step in steps:
        step.join()
    # Then
    assert [found.data.tags["dagster_run_id"] for found in store.runs()] == [run.run_id, run.run_id]


def test_steps_that_search_one_after_the_other_share_one_run(store):
    run = dg.DagsterRun(job_name="job")
    for _ in range(2):
        step = threading.Thread(target=MlFlow, args=(context_of(store, run),))
        step.start()
        step.join()
    assert [found.data.tags["dagster_run_id"] for found in store.runs()] == [run.run_id]


def test_a_second_dagster_run_of_a_process_takes_over_the_first_ones_run(store):
    """Why the active run is ended when a Dagster run's resource is torn down."""
    first, second = materialize(store), materialize(store)
    assert (first.success, second.success) == (True, True)
    assert [run.data.tags["dagster_run_id"] for run in store.runs()] == [second.run_id]


def test_without_the_hook_a_failed_dagster_run_is_never_failed(store):
    """Why the parent's status is set from Dagster's."""
    result = materialize(store, fails=True)
    assert not result.success
    assert [run.info.status for run in store.runs()] == ["RUNNING"]
    mlflow.end_run()
    assert [run.info.status for run in store.runs()] == ["FINISHED"]


def test_env_takes_the_name_of_a_secret_for_the_secret(store, monkeypatch):
    """Why `env` is left empty: credentials come from the process's environment."""
    monkeypatch.setenv("FIRE_SECRET", "the secret")
    monkeypatch.setenv("FIRE_TOKEN", "")
    materialize(store, env={"FIRE_TOKEN": dg.EnvVar("FIRE_SECRET")})
    assert os.environ["FIRE_TOKEN"] == "FIRE_SECRET"


def test_a_server_that_is_down_fails_the_dagster_run(store, monkeypatch):
    """Why the resource is None, and the data goes its way, while MLflow cannot be reached."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    result = materialize(store, mlflow_tracking_uri=f"http://127.0.0.1:{free_port()}")
    assert not result.success
    assert [event.step_key for event in result.all_events if event.is_step_start] == []


def test_attaching_calls_the_run_by_the_jobs_name(store):
    """Why the parent gets its name back."""
    run_id = store.run(run_name="mine")
    materialize(store, mlflow_run_id=run_id)
    assert store.client.get_run(run_id).info.run_name == "__ephemeral_asset_job__"


# --- MLflow: what happens when something is sent twice


def content(client: MlflowClient, run_id: str, model_id: str) -> None:
    """Send everything that a nested run holds."""
    client.log_inputs(
        run_id,
        [dataset("a", "1"), dataset("b", "2", "validation")],
        [LoggedModelInput(model_id)],
    )
    link = {"dataset_name": "b", "dataset_digest": "2", "model_id": model_id}
    client.log_batch(
        run_id,
        metrics=[Metric("r2", 0.5, 1000, 0, **link), Metric("r2", 0.25, 1000, 1), Metric("nan", float("nan"), 1000, 0)],
        params=[Param("alpha", "1")],
        tags=[RunTag("asset", "thing")],
    )
    client.set_terminated(run_id, "FINISHED", 2000)


@pytest.mark.parametrize("remote", [False, True], ids=["store", "server"])
def test_what_a_run_holds_can_be_sent_again_and_changes_nothing(store, remote, request):
    """What lets sync send again whatever may not have arrived."""
    run_id = store.run()
    model = store.client.create_logged_model(store.experiment, name="m")
    client = MlflowClient(request.getfixturevalue("served")) if remote else store.client
    content(client, run_id, model.model_id)
    once = store.rows()
    content(client, run_id, model.model_id)
    assert store.rows() == once
    assert (len(once["input_tags"]) >= 2, len(once["logged_model_metrics"]) >= 1) == (True, True)


@pytest.fixture(scope="module")
def served(opened) -> Iterator[str]:
    """Return the address of a server over the store."""
    from bikes_assets_tests.fire.servers import MlflowServer

    server = MlflowServer(opened.file.parent)
    server.start()
    yield server.url
    server.kill()


def test_a_metric_with_another_value_at_the_same_time_is_one_more_point(store):
    """Why a materialization's figures bear the time of its event."""
    run_id = store.run()
    for value in (0.5, 0.5, 0.25):
        store.client.log_metric(run_id, "r2", value, 1000, 0)
    assert [point.value for point in store.client.get_metric_history(run_id, "r2")] == [0.25, 0.5]


def test_a_run_is_created_again_each_time_it_is_sent(store):
    """Why a run is looked for by its tag before it is created."""
    for _ in range(2):
        store.run(run_name="one", start_time=1000, tags={"materialization": "run/step/1"})
    assert len(store.client.search_runs([store.experiment], "tags.materialization = 'run/step/1'")) == 2


def test_a_model_version_is_created_again_each_time_it_is_sent(store):
    """Why a version is looked for by its tags before it is created."""
    mlflow.set_tracking_uri(store.uri)
    model = store.client.create_logged_model(store.experiment, name="twice")
    store.client.create_registered_model("twice")
    for _ in range(2):
        store.client.create_model_version("twice", f"models:/{model.model_id}", model_id=model.model_id)
    assert sorted(int(item.version) for item in store.client.search_model_versions("name = 'twice'")) == [1, 2]
    with pytest.raises(MlflowException) as found:
        store.client.create_registered_model("twice")
    assert found.value.error_code == "RESOURCE_ALREADY_EXISTS"


def test_a_model_output_that_is_sent_again_is_an_error(store):
    run_id = store.run()
    model = store.client.create_logged_model(store.experiment, name="m")
    store.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    with pytest.raises(MlflowException, match=r"UNIQUE constraint failed: inputs\.source_type") as found:
        store.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    assert found.value.error_code == "BAD_REQUEST"


def test_a_parameter_keeps_its_first_value_and_another_refuses_the_whole_batch(store):
    """Why each attempt at a step has a nested run of its own."""
    run_id = store.run()
    store.client.log_batch(run_id, params=[Param("alpha", "1")])
    with pytest.raises(MlflowException, match="Changing param values is not allowed") as found:
        store.client.log_batch(
            run_id, metrics=[Metric("r2", 0.5, 1000, 0)], params=[Param("b", "1"), Param("alpha", "2")]
        )
    assert found.value.error_code == "INVALID_PARAMETER_VALUE"
    data = store.client.get_run(run_id).data
    assert (data.params, data.metrics) == ({"alpha": "1"}, {})


def test_rows_in_two_roles_of_one_run_keep_the_first_role_alone(store):
    """Name and digest tell a run's datasets apart, not their context: two roles of the same rows need two names, or one tag."""
    together, one_by_one = store.run(), store.run()
    store.client.log_inputs(together, [dataset("a", "1", "training"), dataset("a", "1", "validation")])
    for context in ("training", "validation"):
        store.client.log_inputs(one_by_one, [dataset("a", "1", context)])
    assert inputs_of(store, together) == [("training", "a", "{}")]
    assert inputs_of(store, one_by_one) == [("training", "a", "{}")]


def test_of_two_sources_of_one_name_and_digest_the_first_stays(store):
    """A dataset's source says where its rows were first read."""
    first, second = store.run(), store.run()
    store.client.log_inputs(first, [dataset("a", "1", source='{"version": 1}')])
    store.client.log_inputs(second, [dataset("a", "1", source='{"version": 2}')])
    assert inputs_of(store, second) == [("raw", "a", '{"version": 1}')]


# --- MLflow: runs


def test_times_that_are_given_are_kept(store):
    """What lets a run that MLflow did not take be written later, in its order."""
    run_id = store.run(start_time=1_234_567_890_123)
    store.client.set_terminated(run_id, "FAILED", 1_234_567_899_999)
    info = store.client.get_run(run_id).info
    assert (info.start_time, info.end_time, info.status) == (1_234_567_890_123, 1_234_567_899_999, "FAILED")


def test_a_run_that_has_ended_can_end_again_otherwise(store):
    """What lets sync correct a status."""
    run_id = store.run()
    store.client.set_terminated(run_id, "FINISHED", 1000)
    store.client.set_terminated(run_id, "KILLED", 2000)
    info = store.client.get_run(run_id).info
    assert (info.status, info.end_time) == ("KILLED", 2000)


def test_ending_the_active_run_calls_a_failed_one_finished(store):
    """Why the parent's status is set after dagster-mlflow has let go of it."""
    mlflow.set_tracking_uri(store.uri)
    mlflow.set_experiment(store.name)
    run_id = store.run()
    mlflow.start_run(run_id=run_id)
    store.client.set_terminated(run_id, "FAILED")
    mlflow.end_run()
    assert store.client.get_run(run_id).info.status == "FINISHED"


def test_a_search_finds_datasets_and_outputs_and_no_models_that_were_read(store):
    """Why a run is got by its id before its models are compared."""
    run_id = store.run()
    model = store.client.create_logged_model(store.experiment, name="m")
    store.client.log_inputs(run_id, [dataset("a", "1")], [LoggedModelInput(model.model_id)])
    store.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    (searched,) = store.runs()
    got = store.client.get_run(run_id)
    assert (len(searched.inputs.dataset_inputs), len(searched.inputs.model_inputs)) == (1, 0)
    assert len(searched.outputs.model_outputs) == 1
    assert (len(got.inputs.dataset_inputs), len(got.inputs.model_inputs), len(got.outputs.model_outputs)) == (1, 1, 1)


def test_long_values_are_cut_in_silence(store):
    """Why values are cut by us: at a length that we know."""
    run_id = store.run()
    store.client.set_tag(run_id, "long", "x" * 8001)
    store.client.log_param(run_id, "long", "x" * 6001)
    data = store.client.get_run(run_id).data
    assert (len(data.tags["long"]), len(data.params["long"])) == (8000, 6000)
    with pytest.raises(MlflowException, match="'digest' exceeds the maximum length of 36 characters"):
        store.client.log_inputs(run_id, [dataset("a", "1" * 37)])


# --- MLflow: models and datasets


def test_a_version_of_a_model_that_is_still_pending_is_called_ready(store):
    """Why a logged model's own status is looked at before it is registered."""
    mlflow.set_tracking_uri(store.uri)
    model = store.client.create_logged_model(store.experiment, name="pending")
    store.client.create_registered_model("pending")
    version = store.client.create_model_version("pending", f"models:/{model.model_id}", model_id=model.model_id)
    assert (version.status, str(store.client.get_logged_model(model.model_id).status)) == ("READY", "PENDING")


def test_a_client_looks_for_a_versions_model_in_the_processs_store_not_in_its_own(store, tmp_path):
    """Why the tracking URI of the process is set, too, wherever a model is registered."""
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/another.db")
    model = store.client.create_logged_model(store.experiment, name="elsewhere")
    store.client.create_registered_model("elsewhere")
    with pytest.raises(MlflowException, match=f"Logged model with ID '{model.model_id}' not found"):
        store.client.create_model_version("elsewhere", f"models:/{model.model_id}", model_id=model.model_id)


def test_its_own_digest_of_a_table_ends_after_ten_thousand_rows():
    """Why datasets bear our digest."""
    rows = pd.DataFrame({"demand": range(12_000)})
    tail, head = rows.copy(), rows.copy()
    tail.loc[10_000:, "demand"] = 0
    head.loc[9_999, "demand"] = 0
    digest = mlflow.data.from_pandas(rows).digest
    assert (mlflow.data.from_pandas(tail).digest == digest, mlflow.data.from_pandas(head).digest == digest) == (
        True,
        False,
    )


# --- MLflow: several at once


def test_of_two_who_log_the_same_new_dataset_at_once_one_is_refused(store):
    """Why `log_inputs` is sent again after a UNIQUE constraint."""
    # Given two runs, and two threads that both have looked for the dataset before either writes it
    run_ids = [store.run(), store.run()]
    both_have_looked = threading.Barrier(2, timeout=60)
    refused: list[MlflowException] = []

    def wait(*call: Any) -> None:
        if call[2].startswith("INSERT INTO datasets"):
            both_have_looked.wait()

    def log(run_id: str) -> None:
        try:
            store.client.log_inputs(run_id, [dataset("new", "1")])
        except MlflowException as error:
            refused.append(error)

    # When
    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", wait)
    threads = [threading.Thread(target=log, args=(run_id,)) for run_id in run_ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sqlalchemy.event.remove(sqlalchemy.engine.Engine, "before_cursor_execute", wait)
    # Then
    (error,) = refused
    assert error.error_code == "BAD_REQUEST"
    assert "UNIQUE constraint failed: datasets.experiment_id, datasets.name, datasets.digest" in str(error)
    assert sorted(len(inputs_of(store, run_id)) for run_id in run_ids) == [0, 1]
    # And sent again it is there
    for run_id in run_ids:
        store.client.log_inputs(run_id, [dataset("new", "1")])
    assert [inputs_of(store, run_id) for run_id in run_ids] == [[("raw", "new", "{}")]] * 2


def open_store(uri: str, start: Any, outcomes: Any) -> None:
    start.wait()
    try:
        MlflowClient(uri).search_experiments()
        outcomes.put("")
    except Exception as error:  # noqa: BLE001 - whatever the migration raises
        outcomes.put(str(error))


@pytest.mark.soak
def test_an_empty_store_that_four_processes_open_at_once_fails_them(tmp_path):
    """Why the store is made under a lock of ours."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow", __name__])
    told: list[str] = []
    for turn in range(OPENINGS):
        uri, start, outcomes = f"sqlite:///{tmp_path}/{turn}.db", context.Barrier(4), context.Queue()
        processes = [context.Process(target=open_store, args=(uri, start, outcomes)) for _ in range(4)]
        for process in processes:
            process.start()
        told += [outcomes.get(timeout=120) for _ in processes]
        for process in processes:
            process.join()
    assert len([text for text in told if text]) >= OPENINGS, told


# --- MLflow: a server that does not answer


def test_the_clients_own_patience_is_minutes():
    """Why retries and time-out are set by us."""
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT

    assert (MLFLOW_HTTP_REQUEST_MAX_RETRIES.default, MLFLOW_HTTP_REQUEST_TIMEOUT.default) == (7, 120)


@pytest.fixture
def impatient(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")


def seconds_to_fail(uri: str) -> float:
    start = time.monotonic()
    with pytest.raises(MlflowException):
        MlflowClient(uri).search_experiments()
    return time.monotonic() - start


@pytest.mark.usefixtures("impatient")
def test_without_retries_a_closed_port_fails_at_once():
    assert seconds_to_fail(f"http://127.0.0.1:{free_port()}") < 1


@pytest.mark.usefixtures("impatient")
def test_without_retries_a_silent_server_is_asked_once_and_costs_the_time_out():
    with black_hole() as server:
        assert 1.9 < seconds_to_fail(server.url) < 3.5
        assert len(server.requests) == 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("status", [429, 500, 503])
def test_without_retries_a_failing_server_is_asked_once(status):
    with failing(status) as server:
        assert seconds_to_fail(server.url) < 1
        assert len(server.requests) == 1


def test_one_retry_asks_twice(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with failing(500) as server:
        seconds_to_fail(server.url)
        assert len(server.requests) == 2
