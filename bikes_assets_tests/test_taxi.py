"""Plain assets without partitions: what the library makes of them, held against Dagster, Delta and MLflow themselves."""

import importlib
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from deltalake import DeltaTable

from bikes_assets import assert_column_lineage, column_lineage_check
from bikes_assets.core.errors import LineageError
from bikes_assets.events.attempts import innermost
from bikes_assets.lineage.elements import address_of
from bikes_assets.orchestration.asset import with_lineage
from bikes_assets.orchestration.io_managers import TableIOManager
from bikes_assets.storage.delta import stored_schema
from bikes_assets.storage.lake import Lake

ROOT = Path(__file__).parents[1]
INPUTS = {
    "trips": set(),
    "trip_features": {"trips"},
    "fare_model": {"trip_features"},
    "fare_predictions": {"trip_features", "fare_model"},
    "zone_summary": {"trips", "fare_predictions"},
}


@pytest.fixture(scope="module")
def taxi(tmp_path_factory):
    """The project after two runs: its definitions, its instance, what each run materialized, and its index."""
    home, data = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        patch.setenv("TAXI_DATA", str(data))
        patch.syspath_prepend(str(ROOT))
        project = importlib.reload(importlib.import_module("examples.taxi.definitions"))
        job = project.defs.resolve_implicit_global_asset_job_def()
        with dg.DagsterInstance.local_temp(str(home)) as instance:
            runs = [job.execute_in_process(instance=instance) for _ in range(2)]
            made = [
                {
                    event.asset_key.to_user_string(): event.materialization
                    for event in run.get_asset_materialization_events()
                }
                for run in runs
            ]
            yield project, instance, made, project.lineage()


def _record(materialization):
    return materialization.metadata["lineage"].value


def test_a_second_run_with_nothing_changed_gives_equal_digests(taxi):
    _, _, (first, second), _ = taxi

    assert first.keys() == second.keys() == INPUTS.keys()
    for asset in INPUTS:
        stated = [made[asset].tags["dagster/data_version"] for made in (first, second)]
        assert stated == [_record(made[asset])["output"]["digest"] for made in (first, second)]
        assert stated[0] == stated[1] != ""
        assert second[asset].tags["dagster/code_version"] == _record(first[asset])["code_version"] != ""


def test_each_record_names_the_versions_that_dagster_and_delta_know(taxi):
    project, instance, (_, second), _ = taxi

    for asset, upstream in INPUTS.items():
        tags, inputs = second[asset].tags, _record(second[asset])["inputs"]
        assert {item["asset"] for item in inputs} == upstream
        for item in inputs:
            assert item["partition"] is None
            assert item["version"] == DeltaTable(f"{project.DATA}/lake/{item['asset']}").version() == 2
            # Dagster's own provenance: which event of the input, and which data version
            assert item["digest"] == tags[f"dagster/input_data_version/{item['asset']}"]
            event = instance.fetch_materializations(dg.AssetKey(item["asset"]), limit=1).records[0]
            assert str(event.storage_id) == tags[f"dagster/input_event_pointer/{item['asset']}"]
            assert event.asset_materialization.metadata["address"].value == f"{item['asset']}@{item['version']}"


def test_what_is_stored_is_what_the_functions_returned(taxi):
    project, _, _, _ = taxi
    stored = DeltaTable(f"{project.DATA}/lake/trips").to_pandas().drop(columns="partition").sort_values("trip")
    made = project.assets.trips()

    assert stored.reset_index(drop=True).equals(made.astype({"pickup": "datetime64[us]"}))


def test_the_index_has_the_column_lineage_that_was_declared(taxi):
    index = taxi[3].refreshed()

    def sources(column):
        return {edge.source[1] for edge in index.neighbours("column", column, "upstream")}

    assert sources("trip_features.crawl") == {"trips.pickup", "trips.distance"}  # the parameters of the function
    assert sources("trip_features.night") == {"trips.pickup"}
    assert sources("trip_features.fare") == {"trips.fare"}
    assert sources("zone_summary.zone") == {"trips.zone"}
    assert sources("zone_summary.mean_error") == {"trips.fare", "fare_predictions.predicted"}
    assert sources("fare_predictions.trip") == {"trip_features.trip"}


def test_what_is_downstream_of_a_column_reaches_model_predictions_and_summary(taxi):
    lineage = taxi[3]
    found = {address_of(item) for item in lineage.downstream("trips.distance")}

    assert found == {
        "trip_features.distance",
        "trip_features.crawl",
        "fare_model",
        "fare_predictions.predicted",
        "zone_summary.mean_error",
    }
    assert "zone_summary.mean_error" not in {item.name for item in lineage.downstream("trips.tip")}


def test_datasets_and_versions_are_walked_and_found(taxi):
    lineage = taxi[3]

    assert [item.name for item in lineage.downstream("trips", depth=1)] == ["trip_features", "zone_summary"]
    versions = {item.name for item in lineage.upstream("zone_summary@2") if item.kind == "version"}
    assert versions == {"trips@2", "trip_features@2", "fare_model@2", "fare_predictions@2"}
    count, ways = lineage.paths("trips.distance", "zone_summary.mean_error")
    assert count == len(list(ways)) == 4
    assert [item.name for item in lineage.search("mean err")] == ["zone_summary.mean_error"]


def test_the_index_is_asked_as_of_a_time(taxi):
    _, _, (first, _), lineage = taxi
    address = first["zone_summary"].metadata["address"].value

    assert address in {item.name for item in lineage.downstream("trips", level="version", as_of=datetime.now(UTC))}
    with pytest.raises(LineageError, match="found nothing called 'trips'"):
        lineage.downstream("trips", as_of="2012-08-14T17:00")
    with pytest.raises(LineageError, match="found time 'yesterday', expected one like 20"):
        lineage.downstream("trips", as_of="yesterday")


def test_mlflow_has_a_run_for_each_materialization_with_its_datasets(taxi):
    from mlflow import MlflowClient

    project, _, made, _ = taxi
    client = MlflowClient(f"sqlite:///{project.DATA}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'taxi'")
    runs = client.search_runs([experiment.experiment_id], "tags.asset != ''")

    assert len(runs) == 2 * len(INPUTS)
    for materializations in made:
        for asset, materialization in materializations.items():
            record = _record(materialization)
            (run,) = [run for run in runs if run.info.run_id == record["made_by"]["mlflow_run_id"]]
            assert (run.info.run_name, run.info.status) == (asset, "FINISHED")
            logged = {(item.dataset.name, item.dataset.digest) for item in run.inputs.dataset_inputs}
            tables = {(item["asset"], item["digest"]) for item in record["inputs"] if item["asset"] != "fare_model"}
            itself = {(asset, record["output"]["digest"])} if asset != "fare_model" else set()
            assert logged == tables | itself
    assert len(client.search_model_versions("name = 'fare_model'")) == 2


def test_the_wiring_is_short_and_reaches_nothing_of_the_bikes():
    text = (ROOT / "examples" / "taxi" / "definitions.py").read_text()
    wiring = text[text.index("DATA = ") :]
    assert len([line for line in wiring.splitlines() if line.strip()]) < 40

    code = "import sys, examples.taxi.definitions; print(*(name for name in sys.modules if name.startswith('bikes_assets.')))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {name.split(".")[1] for name in found.stdout.split()} == {
        "core",
        "events",
        "lineage",
        "orchestration",
        "renamed",
        "storage",
        "tracking",
        "verification",
    }


def test_dagster_takes_the_definitions_file(tmp_path):
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-f", "examples/taxi/definitions.py"]
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path), "TAXI_DATA": str(tmp_path)}
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)

    assert found.returncode == 0, found.stderr
    assert "All code locations passed validation" in found.stderr + found.stdout


SAYS = {}
"""What the assets below make next; set by each test."""


@dg.asset
def numbers():
    """Makes what a test says."""
    return SAYS["numbers"]


@dg.asset
def shown(numbers):
    """Hands on what it reads, or what a test says."""
    return SAYS.get("shown", numbers)


def frame(**columns):
    import pandas as pd

    return pd.DataFrame(columns)


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path / "lake"), {}, tmp_path)


def run(lake, instance, lineage=None, code=None, **says):
    SAYS.clear()
    SAYS.update(says)
    resources = {"io_manager": TableIOManager(lake).resource(), "mlflow": dg.ResourceDefinition.none_resource()}
    first = numbers.map_asset_specs(lambda spec: spec.replace_attributes(code_version=code))
    assets = with_lineage([first, shown], lineage)
    return dg.materialize(assets, instance=instance, resources=resources, raise_on_error=False)


def error_of(result):
    (event,) = [event for event in result.all_events if event.is_step_failure]
    return innermost(event.step_failure_data.error)


def test_new_columns_flow_on_and_older_versions_keep_theirs(lake):
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(lake, instance, numbers=frame(x=[1, 2])).success
        assert run(lake, instance, code="2", numbers=frame(x=["b", "a"], y=[1.0, None])).success

    table = lake.table("shown")
    assert table.schema.types == {"x": "string", "y": "float64"}
    assert table.read([None])[None][1].to_pydict() == {"x": ["a", "b"], "y": [None, 1.0]}
    assert lake.table("shown", stored_schema("shown", table.uri, 1)).read([None], 1)[None][1].to_pydict() == {
        "x": [1, 2]
    }


def test_the_same_code_makes_the_same_columns_of_the_same(lake):
    with dg.DagsterInstance.ephemeral() as instance:
        run(lake, instance, numbers=frame(x=[1, 2]))
        result = run(lake, instance, numbers=frame(x=[1, 2]), shown=frame(x=[1.0, None]))

    assert (
        "SchemaError: shown: found columns x (float64), expected x (int64), which the same code returned"
        in error_of(result)
    )
    assert lake.table("shown").version() == 1


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ([1 + 2j], "not a table of plain types"),
        ([b"1"], "numbers.x: found type binary, expected one of int64, float64, bool, string, timestamp; convert it"),
        ([None], "numbers.x: found type null, expected one of"),
    ],
)
def test_a_column_of_another_type_is_refused_by_name(lake, column, said):
    with dg.DagsterInstance.ephemeral() as instance:
        assert said in error_of(run(lake, instance, numbers=frame(x=column)))


def test_a_named_index_is_refused(lake):
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(lake, instance, numbers=frame(x=["a"], y=[1]).groupby("x").sum())

    assert "numbers: found index x, expected columns alone; use frame.reset_index()" in error_of(result)


def test_column_lineage_that_names_no_column_is_refused(lake):
    with dg.DagsterInstance.ephemeral() as instance:
        lineage = {"shown": {"x": {"numbers": ["z"]}}}
        result = run(lake, instance, lineage, numbers=frame(x=[1]))

    assert "numbers: found columns x, expected z, which the column lineage of shown names" in error_of(result)


def test_rows_without_a_key_are_the_same_in_any_order_and_may_be_equal(lake):
    with dg.DagsterInstance.ephemeral() as instance:
        digests = [
            run(lake, instance, numbers=frame(x=values)).asset_materializations_for_node("numbers")[0].tags
            for values in ([1, 2, 2], [2, 1, 2], [1, 2])
        ]

    first, second, other = (tags["dagster/data_version"] for tags in digests)
    assert first == second != other


# The column lineage that is declared, verified by perturbation


def tables(project):
    """Return the inputs of the assets, as the functions themselves make them."""
    assets = project.assets
    trips = assets.trips()
    features = assets.trip_features(trips)
    model = assets.fare_model(features)
    return {
        "trips": trips,
        "trip_features": features,
        "fare_model": model,
        "fare_predictions": assets.fare_predictions(features, model),
    }


def test_each_run_has_verified_the_declared_column_lineage(taxi):
    _, instance, _, _ = taxi

    for asset in ("trip_features", "fare_predictions", "zone_summary"):
        key = dg.AssetCheckKey(dg.AssetKey(asset), "column_lineage")
        record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
        result = record.event.dagster_event.asset_check_evaluation_data
        assert result.passed, result.description
        assert result.description.startswith("as declared, on ")
        assert result.metadata["declared, not observed"].value == []
        assert f"| {'predicted' if asset == 'fare_predictions' else 'trip'}" in result.metadata["column evidence"].value


def test_an_honest_declaration_holds_in_a_test(taxi):
    project, _, _, _ = taxi
    given = tables(project)

    evidence = assert_column_lineage(project.features, {"trips": given["trips"]}, key="trip", is_complete=True)
    assert {edge.state for edge in evidence.edges} == {"observed"}
    inputs = {name: given[name] for name in ("trips", "fare_predictions")}
    assert_column_lineage(project.summary, inputs, key="zone", rows=project.JOINED, is_complete=True)
    inputs = {name: given[name] for name in ("trip_features", "fare_model")}
    evidence = assert_column_lineage(project.predictions, inputs, key="trip", is_complete=True)
    assert evidence.unchecked == ("fare_model: it is no table, so that nothing of it is perturbed",)


def test_a_column_that_is_left_out_of_a_declaration_is_named(taxi):
    project, _, _, _ = taxi
    given, declared = tables(project), project.LINEAGE
    short = {**declared["trip_features"], "crawl": {"trips": ["pickup"]}}

    with pytest.raises(
        AssertionError, match=r"^undeclared influence: crawl moves at \d+ from .* when trips.distance is"
    ):
        assert_column_lineage(project.assets.trip_features, {"trips": given["trips"]}, declared=short, key="trip")
    short = {**declared["zone_summary"], "mean_error": {"trips": ["fare"]}}
    inputs = {name: given[name] for name in ("trips", "fare_predictions")}
    with pytest.raises(AssertionError) as caught:
        assert_column_lineage(project.assets.zone_summary, inputs, declared=short, key="zone", rows=project.JOINED)
    (line,) = str(caught.value).splitlines()
    assert line.startswith("undeclared influence: mean_error moves at ")
    assert "when fare_predictions.predicted is " in line


def test_what_joins_rows_has_to_be_named(taxi):
    project, _, _, _ = taxi
    given = tables(project)

    with pytest.raises(AssertionError, match=r"mean_fare moves at .* when trips.trip is "):
        assert_column_lineage(
            project.summary, {name: given[name] for name in ("trips", "fare_predictions")}, key="zone"
        )


def test_a_column_that_is_declared_and_does_not_contribute_is_told(taxi):
    project, _, _, _ = taxi
    inputs, more = {"trips": tables(project)["trips"]}, {"night": {"trips": ["pickup", "tip"]}}
    declared = {**project.LINEAGE["trip_features"], **more}

    evidence = assert_column_lineage(project.assets.trip_features, inputs, declared=declared, key="trip")
    assert evidence.not_observed == (("night", "trips.tip"),)
    with pytest.raises(
        AssertionError, match=r"^declared, not observed: night is declared to be computed from trips\.tip$"
    ):
        assert_column_lineage(project.assets.trip_features, inputs, declared=declared, key="trip", is_complete=True)
    plain = with_lineage([project.assets.trip_features], {"trip_features": declared})[0]
    check, manager = column_lineage_check(plain, key="trip"), TableIOManager(project.LAKE).resource()
    job = dg.Definitions(
        assets=[project.assets.trips, plain],
        asset_checks=[check],
        jobs=[dg.define_asset_job("verify", dg.AssetSelection.checks(check))],
        resources={"io_manager": manager, "mlflow": dg.ResourceDefinition.none_resource()},
    ).resolve_job_def("verify")
    (result,) = job.execute_in_process().get_asset_check_evaluations()
    assert result.passed
    assert result.description.endswith("; declared, not observed: night from trips.tip")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda trips: trips["trip"], "the function returns Series, expected a frame"),
        (lambda trips: trips[["fare"]], "the function makes no trip; it makes fare"),
    ],
)
def test_a_function_that_makes_something_else_is_refused(taxi, made, said):
    trips = taxi[0].assets.trips()
    with pytest.raises(LineageError, match=said):
        assert_column_lineage(made, {"trips": trips}, declared={"trip": {"trips": ["trip"]}}, key="trip")


def test_a_declaration_of_what_does_not_exist_is_refused(taxi):
    trips = taxi[0].assets.trips()

    def made(trips):
        return trips[["trip"]]

    for declared, said in (
        ({"trips": ["journey"]}, "trips: found column journey, expected one of trip, pickup"),
        ({"rides": ["trip"]}, "found input rides, expected one of trips"),
    ):
        with pytest.raises(LineageError, match=said):
            assert_column_lineage(made, {"trips": trips}, declared={"trip": declared}, key="trip")
    with pytest.raises(LineageError, match="declares nothing, expected its column lineage as `declared`"):
        assert_column_lineage(made, {"trips": trips}, key="trip")
    with pytest.raises(LineageError, match="trips has no rows"):
        assert_column_lineage(made, {"trips": trips[:0]}, declared={"trip": {"trips": ["trip"]}}, key="trip")


def test_a_function_that_is_not_deterministic_is_named(taxi):
    calls = []

    def made(trips):
        calls.append(1)
        return trips[["trip"]].assign(fare=trips["fare"] + len(calls))

    declared = {"trip": {"trips": ["trip"]}, "fare": {"trips": ["fare"]}}
    with pytest.raises(AssertionError, match="repeat: fare differs when the function is called again"):
        assert_column_lineage(made, {"trips": taxi[0].assets.trips()}, declared=declared, key="trip")
