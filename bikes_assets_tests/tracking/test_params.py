"""Parameters, names, descriptions and plots as MLflow shows them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from bikes_assets.core.record import Origin, Record, Use, Version
from bikes_assets.events import metadata
from bikes_assets.events.pages import dagster_asset, mlflow_experiment
from bikes_assets.tracking import notes
from bikes_assets.tracking.artifacts import MOST_OF_PLOT, log_plots
from bikes_assets.tracking.client import client_of, experiment_of, lineage_of
from bikes_assets.tracking.names import file_name, logged_model_name
from bikes_assets.tracking.params import as_one_value_each, of_record, settings
from bikes_assets.tracking.resource import connect
from bikes_assets.tracking.runs import contradictions

CONFIG = {"estimator": "trees", "parameters": {"max_iter": 300, "loss": {"name": "huber"}}, "columns": ["a", "b"]}


@pytest.mark.parametrize(
    ("config", "params", "taken", "expected"),
    [
        (CONFIG, {}, (), {"estimator": "trees", "max_iter": "300", "name": "huber", "columns": "a, b"}),
        ({"none": {}, "no": [], "off": None}, {}, (), {"none": "{}", "no": "[]", "off": "None"}),
        # whoever has a name first keeps it: the outcome's parameters, then what says the rows
        ({"model": 1}, {"model": "ridge"}, (), {"config.model": "1", "model": "ridge"}),
        ({"training": 3}, {}, ("training",), {"config.training": "3"}),
        ({"a": {"depth": 1}, "b": {"depth": 2}}, {}, (), {"config.a.depth": "1", "config.b.depth": "2"}),
        ({"text": "x" * 7_000}, {}, (), {"text": "x" * 6_000}),
    ],
)
def test_each_setting_is_a_parameter_under_a_name_of_its_own(
    config: dict[str, Any], params: dict[str, Any], taken: tuple[str, ...], expected: dict[str, str]
) -> None:
    assert settings(config, params, taken) == expected


def record(**values: Any) -> Record:
    """Return the record of a fit on two months."""
    source = Origin("rows", "file:///rows", "delta", "1", 0).to_dict()
    training = Use("training", "rows", ("2011-01", "2011-02"), "0" * 32, 1_500, source)
    fitted = {"origin": "", "sha256": "1", "digest": "2", "mlflow_model_id": ""}
    made: dict[str, Any] = {
        "datasets": (training,),
        "models": (fitted,),
        "metrics": {"rmse": 1.5, "nothing": float("nan")},
        **values,
    }
    return Record(Version("m", "2011-03", 7, "2" * 32), {}, (), "c", CONFIG, {"git_commit": "g"}, {}, **made)


def test_a_fit_says_the_rows_in_each_role_and_what_fitted_nothing_does_not() -> None:
    assert of_record(record()).items() >= {"training": "2011-01..2011-02", "training_rows": "1500"}.items()
    assert "training" not in of_record(record(models=()))


def test_a_run_is_as_its_record_in_either_form_of_its_parameters_and_in_no_mixture(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    runs = connect(uri, "one", "http://m", "http://d", {})
    made = record(models=())
    for form in (of_record(made), as_one_value_each(made)):
        run_id = runs.client.create_run(runs.experiment_id).info.run_id
        runs.finish(run_id, made)
        other = runs.client.create_run(runs.experiment_id, tags=runs.client.get_run(run_id).data.tags).info.run_id
        runs.client.log_metric(other, "rmse", 1.5)
        first, *rest = form.items()
        for name, value in rest:
            runs.client.log_param(other, name, value)
        assert contradictions(runs.client.get_run(run_id), made) == []
        assert contradictions(runs.client.get_run(other), made) == [f"parameter {first[0]}"]
        runs.client.log_param(other, *first)
        assert contradictions(runs.client.get_run(other), made) == []


@pytest.mark.parametrize(
    ("asset", "partition", "expected"),
    [
        ("demand_model", "2012-08", "demand_model-2012-08"),
        ("taxi/fare_model", None, "taxi~fare_model"),
        ("m", "a:b|c.d%", "m-a=3a=b=7c=c=2e=d=25="),
    ],
)
def test_a_logged_model_is_named_after_its_partition_as_mlflow_allows_it(
    tmp_path: Path, asset: str, partition: str | None, expected: str
) -> None:
    name = logged_model_name(asset, partition)
    client = client_of(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = experiment_of(client, f"sqlite:///{tmp_path}/mlflow.db", "one")

    assert name == expected
    assert client.create_logged_model(experiment, name).name == expected


def test_plots_are_artifacts_unless_they_are_too_large(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = client_of(uri)
    run_id = client.create_run(experiment_of(client, uri, "one")).info.run_id

    log_plots(client, run_id, {})
    assert client.list_artifacts(run_id) == []
    log_plots(client, run_id, {"error by hour": "<svg/>", "../../large": "x" * (MOST_OF_PLOT + 1), "../up": "<svg/>"})

    assert sorted(item.path for item in client.list_artifacts(run_id)) == ["=2e==2e==2f=up.svg", "error-by-hour.svg"]
    assert len(file_name("ä" * 300).encode()) <= 100


@dataclass(frozen=True)
class Drawn:
    """A plot whose small drawing, where it has one, is told from the whole."""

    whole: str
    small_one: str = ""

    def svg(self) -> str:
        return self.whole

    def small(self, fits: Callable[[str], bool]) -> str:
        return self.small_one if fits(self.small_one) else ""


def test_the_plots_of_an_event_are_those_that_it_shows() -> None:
    plots = {"by hour": Drawn("<svg>whole</svg>", "<svg>ä % # ()</svg>"), "odd ](x) title": Drawn("<svg/>")}
    rows, made = pa.table({"a": [1]}), record()
    values = metadata.of_materialization(rows, made, {}, shown=metadata.Shown({"rmse": 1.0}, plots))
    older = base64.b64encode("<svg>ö</svg>".encode()).decode()
    others = {
        "of before": dg.MetadataValue.md(f"![of before](data:image/svg+xml;base64,{older})"),
        "table": dg.MetadataValue.md("| a |"),
        "text": dg.MetadataValue.text(f"![x](data:image/svg+xml;base64,{older})"),
    }
    shown = {"by hour": "<svg>ä % # ()</svg>", "odd ](x) title": "<svg/>", "of before": "<svg>ö</svg>"}
    assert metadata.plots_of(values | others) == shown


def test_a_description_says_what_was_fitted_and_where_it_is_and_no_name_acts_in_it() -> None:
    hostile = Use("training", "a](http://evil)<b>", (), "0" * 32, 2, {})
    told = notes.of_version(record(datasets=(hostile,)), "http://d").split("\n\n")

    assert "](http://evil)" not in told[0].replace("\\](http", "")
    assert "<b>" not in told[0]
    assert told[1] == "Metrics: rmse 1.5"
    assert told[3] == "[Open in Dagster](http://d/assets/m?view=partitions&partition=2011-03)"


def test_pages_have_the_address_that_opens_them() -> None:
    assert dagster_asset("http://d", "taxi/fares", None) == "http://d/assets/taxi/fares"
    assert dagster_asset("http://d", "a", "x/y & (z)").endswith("?view=partitions&partition=x%2Fy%20%26%20%28z%29")
    assert mlflow_experiment("http://m") == "http://m/#/experiments?workflowType=machine_learning"


def test_what_people_wrote_about_an_experiment_stays(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    runs = connect(uri, "one", "http://m", "http://d", {}, "store")
    assert runs.client.get_experiment_by_name(lineage_of("one")).experiment_id == runs.lineage_id
    runs.client.set_experiment_tag(runs.experiment_id, notes.NOTE, "mine")

    connect(uri, "one", "http://m", "http://d", {}, "store")

    assert runs.client.get_experiment(runs.experiment_id).tags[notes.NOTE] == "mine"
    assert "one" in runs.client.get_experiment(runs.lineage_id).tags[notes.NOTE]

    # an experiment that was there before any store used it gets the store's tags, and keeps its description
    there = runs.client.create_experiment("two", tags={notes.NOTE: "mine"})
    assert connect(uri, "two", "http://m", "http://d", {}, "store").experiment_id == there
    assert runs.client.get_experiment(there).tags.keys() > {notes.NOTE}
    assert runs.client.get_experiment(there).tags[notes.NOTE] == "mine"
