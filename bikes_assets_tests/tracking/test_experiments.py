"""Runs of people's own in MLflow: they end as they went, hold what is logged, and leave nothing active."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict

import pytest

from bikes_assets.core.errors import ModelError, TrackingError
from bikes_assets.core.record import Origin, Use
from bikes_assets.tracking.client import client_of
from bikes_assets.tracking.experiments import experiment_run

USE = Use("training", "rows", ("2011-01",), "a" * 32, 10, asdict(Origin("rows", "/lake/rows", "delta", "3", 0)))
JUDGED = Use("validation", "rows", ("2011-02",), "b" * 32, 5, asdict(Origin("rows", "/lake/rows", "delta", "3", 0)))
TRUSTED = ("sklearn.tree._classes.DecisionTreeRegressor", "sklearn.tree._tree.Tree")


@pytest.fixture(scope="module")
def uri(tmp_path_factory) -> str:
    """Return a MLflow store."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


def opened(uri, name="idea", **more):
    return experiment_run(uri, "ideas", name, tags={"who": "me"}, **more)


def stored(uri, run_id):
    return client_of(uri).get_run(run_id)


@pytest.mark.parametrize(
    ("raised", "status"), [(None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_a_run_ends_as_its_block_does(uri, raised, status):
    with suppress(ValueError, KeyboardInterrupt), opened(uri) as run:
        if raised:
            raise raised("stop")
    found = stored(uri, run.run_id)
    assert (found.info.status, found.info.run_name, found.data.tags["who"]) == (status, "idea", "me")


def test_parameters_figures_and_datasets_are_logged_to_it(uri):
    with opened(uri) as run:
        run.log_dataset(USE, None)
        run.log_dataset(JUDGED, None)
        run.log({"depth": 3, "text": "x" * 9000}, {"rmse": 2, "by_month": {201201: 4.0, 201202: 5.0}})
    found = stored(uri, run.run_id)
    assert found.data.params["depth"] == "3"
    assert len(found.data.params["text"]) == 6000
    assert found.data.metrics == {"rmse": 2.0, "by_month": 5.0}
    history = client_of(uri).get_metric_history(run.run_id, "by_month")
    assert {item.step: item.value for item in history} == {201201: 4.0, 201202: 5.0}
    assert {(item.dataset.name, item.tags[0].value) for item in found.inputs.dataset_inputs} == {
        ("rows[2011-01]", "training"),
        ("rows[2011-02]", "validation"),
    }


def test_what_is_no_number_is_refused_by_name(uri):
    with pytest.raises(TrackingError, match=r"metric rmse: found 'low', expected a number"), opened(uri) as run:
        run.log({}, {"rmse": "low"})


def test_what_mlflow_refuses_is_said(uri):
    with opened(uri) as run:
        run.log({"depth": 1}, {})
        with pytest.raises(TrackingError, match=r"sqlite:///.*refused: .*depth"):
            run.log({"depth": 2}, {})


def test_fluent_calls_go_to_it_whatever_was_set_before(uri, tmp_path):
    import mlflow

    other = f"sqlite:///{tmp_path}/other.db"
    mlflow.set_tracking_uri(other)
    outer = None
    try:
        for name in ("one", "two", "other"):  # an id that no experiment of the first store has
            mlflow.create_experiment(name, artifact_location=tmp_path.as_uri())
        set_before = mlflow.set_experiment("other")
        with mlflow.start_run() as outer, opened(uri) as run:
            mlflow.log_metric("fluent", 1.5)
            with mlflow.start_run(nested=True) as nested:
                mlflow.log_param("inner", 1)
            assert mlflow.active_run().info.run_id == run.run_id
            assert nested.info.experiment_id == run.run.info.experiment_id != set_before.experiment_id
        assert mlflow.active_run() is None
        assert mlflow.get_tracking_uri() == other
    finally:
        mlflow.set_tracking_uri(None)
    assert stored(uri, run.run_id).data.metrics == {"fluent": 1.5}
    assert stored(uri, nested.info.run_id).data.tags["mlflow.parentRunId"] == run.run_id
    assert stored(other, outer.info.run_id).data.metrics == {}
    assert stored(other, outer.info.run_id).info.status == "FINISHED"


@pytest.mark.parametrize("variable", ["", "7"])
def test_nothing_stays_active_or_set(uri, variable, monkeypatch):
    import mlflow
    from mlflow.tracking import fluent

    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", variable)
    if not variable:
        monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    monkeypatch.setattr(fluent, "_active_experiment_id", None)
    before = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    with suppress(ValueError), opened(uri) as run:
        forgotten = mlflow.start_run(nested=True)
        mlflow.set_experiment("another")
        raise ValueError("stop")
    assert mlflow.active_run() is None
    assert fluent._active_experiment_id is None
    assert {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")} == before
    # it nested in the run, beside it, and ended with it
    nested = stored(uri, forgotten.info.run_id)
    assert (nested.info.status, nested.info.experiment_id) == ("FAILED", run.run.info.experiment_id)
    assert stored(uri, run.run_id).info.status == "FAILED"


def test_ending_it_early_by_fluent_calls_does_no_harm(uri):
    import mlflow

    with opened(uri) as run:
        mlflow.end_run("KILLED")
        run.log({}, {"late": 1.0})
    found = stored(uri, run.run_id)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"late": 1.0})


def test_runs_nest_and_a_failed_one_leaves_the_outer_going(uri):
    import mlflow

    with opened(uri) as outer:
        with suppress(ValueError), opened(uri, "trial", parent=outer.run_id) as inner:
            mlflow.log_metric("of", 1)
            raise ValueError("stop")
        mlflow.log_metric("of", 2)
    assert (stored(uri, inner.run_id).info.status, stored(uri, inner.run_id).data.metrics["of"]) == ("FAILED", 1)
    assert (stored(uri, outer.run_id).info.status, stored(uri, outer.run_id).data.metrics["of"]) == ("FINISHED", 2)
    assert stored(uri, inner.run_id).data.tags["mlflow.parentRunId"] == outer.run_id


def test_a_model_is_logged_and_not_registered(uri):
    import pandas as pd
    from sklearn.tree import DecisionTreeRegressor

    rows = pd.DataFrame({"x": [1.0, 2.0, 3.0]})
    with opened(uri) as run:
        run.log_dataset(JUDGED, None)
        model_id = run.log_model(DecisionTreeRegressor(random_state=0).fit(rows, [1, 2, 3]), rows, TRUSTED)
        run.log({}, {"rmse": 2}, model_id)
    client = client_of(uri)
    logged = client.get_logged_model(model_id)
    assert logged.status == "READY"
    assert [(item.key, item.value, item.dataset_name, item.dataset_digest) for item in logged.metrics] == [
        ("rmse", 2.0, "rows[2011-02]", "b" * 32)
    ]
    assert [item.model_id for item in stored(uri, run.run_id).outputs.model_outputs] == [model_id]
    assert client.search_registered_models() == []


def test_a_model_that_could_never_be_loaded_is_refused(uri):
    import pandas as pd
    from sklearn.tree import DecisionTreeRegressor

    rows = pd.DataFrame({"x": [1.0, 2.0, 3.0]})
    with pytest.raises(ModelError, match=r"sklearn\.tree\._tree\.Tree"), opened(uri) as run:
        run.log_model(DecisionTreeRegressor(random_state=0).fit(rows, [1, 2, 3]), rows, ())


@pytest.mark.parametrize("answers", [False, None], ids=["nothing listens", "it never answers"])
def test_mlflow_that_is_away_is_a_clear_error_in_seconds(answers):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        if answers is False:
            server.close()
        start = time.monotonic()
        with pytest.raises(TrackingError, match=rf"MLflow at {address} cannot be reached"), opened(address):
            raise AssertionError("the block must not begin")
        assert time.monotonic() - start < 10


def test_the_error_of_a_block_is_not_hidden_by_mlflow_going_away(uri):
    def block(*, fails: bool) -> None:
        with opened(uri) as run:
            run.client = client_of("http://127.0.0.1:9")  # nothing listens there
            if fails:
                raise ValueError("the reason")

    with pytest.raises(ValueError, match="the reason"):
        block(fails=True)
    with pytest.raises(TrackingError, match="cannot be reached"):
        block(fails=False)


def test_an_error_goes_on_out_of_the_block(uri):
    with pytest.raises(ValueError, match="stop"), opened(uri):
        raise ValueError("stop")
