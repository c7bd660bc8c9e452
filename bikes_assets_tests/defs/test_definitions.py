"""What Dagster sees: names, graph, partitions, metadata; and what loading it costs."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta

import dagster as dg
import pytest

from bikes_assets.definitions import defs
from bikes_assets.demand.features import COLUMN_LINEAGE, FEATURE_NAMES

HEAVY = (
    "mlflow",
    "dagster_mlflow",
    "sklearn",
    "scipy",
    "skops",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "pyspark",
)
HEAVY += ("deltalake", "duckdb", "sqlalchemy", "rich", "psutil", "threadpoolctl")
HEAVY += ("dagster.components.core.snapshot",)  # it writes documentation of Dagster's own components
"""What only a run needs: a code location is loaded by every process of Dagster, often to be asked one thing."""

GRAPH = {
    "rental_records": set(),
    "hourly_rentals": {"rental_records"},
    "demand_features": {"hourly_rentals"},
    "demand_model": {"demand_features"},
    "champion_pins": set(),
    "champion_model": {"demand_model", "demand_features", "champion_pins"},
    "demand_predictions": {"demand_features", "champion_model"},
    "prediction_quality": {"demand_predictions", "hourly_rentals", "demand_features", "champion_model"},
}


@pytest.fixture(scope="module")
def specs() -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in defs().resolve_all_asset_specs()}


def test_the_graph_is_the_lineage(specs):
    assert {name: {dep.asset_key.to_user_string() for dep in spec.deps} for name, spec in specs.items()} == GRAPH


def test_each_asset_says_who_owns_it_what_it_is_and_which_code_makes_it(specs):
    for name, spec in specs.items():
        assert spec.owners == ["team:demand"], name
        assert spec.description, name
        assert spec.tags["domain"] == "bike-sharing", name
        assert spec.kinds, name
        assert spec.group_name in {"raw", "features", "model", "predictions"}, name
        if name not in ("rental_records", "champion_pins"):
            assert len(spec.code_version) == 32, name
            assert "dagster/code_references" in spec.metadata, name


def test_tables_show_the_meaning_of_each_column(specs):
    for name in ("rental_records", "hourly_rentals", "demand_features", "demand_predictions", "prediction_quality"):
        columns = specs[name].metadata["dagster/column_schema"].columns
        assert all(column.description for column in columns), name


def test_column_lineage_of_features_is_that_of_their_signatures(specs):
    shown = specs["demand_features"].metadata["dagster/column_lineage"].deps_by_column

    assert {column: tuple(dep.column_name for dep in deps) for column, deps in shown.items()} == COLUMN_LINEAGE
    assert shown["demand_trend_7d"] == [dg.TableColumnDep("hourly_rentals", "cnt")]


def test_months_are_named_by_year_and_month_and_models_begin_two_months_later(specs):
    assert specs["hourly_rentals"].partitions_def.get_partition_keys() == [f"2011-0{month}" for month in range(1, 8)]
    assert specs["demand_model"].partitions_def.get_first_partition_key() == "2011-03"


@pytest.mark.parametrize(
    ("asset", "upstream", "month", "expected"),
    [
        ("demand_features", "hourly_rentals", "2011-04", ["2011-03", "2011-04"]),
        ("demand_features", "hourly_rentals", "2011-01", ["2011-01"]),
        ("demand_model", "demand_features", "2011-04", ["2011-01", "2011-02", "2011-03"]),
        ("champion_model", "demand_model", "2011-07", ["2011-05", "2011-06", "2011-07"]),
        ("champion_model", "demand_model", "2011-03", ["2011-03"]),
        ("champion_model", "demand_features", "2011-07", ["2011-06"]),
        ("prediction_quality", "demand_features", "2011-03", ["2011-01", "2011-02", "2011-03"]),
        ("prediction_quality", "demand_features", "2011-07", [f"2011-0{month}" for month in range(1, 8)]),
    ],
)
def test_which_months_a_month_is_made_from(specs, asset, upstream, month, expected):
    (dep,) = [dep for dep in specs[asset].deps if dep.asset_key == dg.AssetKey(upstream)]
    downstream = specs[asset].partitions_def
    subset = downstream.empty_subset().with_partition_keys([month])
    mapped = dep.partition_mapping.get_upstream_mapped_partitions_result_for_partitions(
        subset, downstream, specs[upstream].partitions_def
    )

    assert sorted(mapped.partitions_subset.get_partition_keys()) == expected


def test_loading_the_definitions_imports_nothing_heavy(tmp_path):
    program = (
        f"import sys, bikes_assets.definitions as d; d.defs(); print([name for name in {HEAVY} if name in sys.modules])"
    )
    kept = {key: value for key, value in os.environ.items() if key not in ("BIKES_FIRST_MONTH", "BIKES_LAST_MONTH")}
    fresh = {
        **kept,
        "BIKES_DATA": str(tmp_path),
        "DAGSTER_HOME": str(tmp_path / "dagster"),
    }  # months are those of the source

    # the first process reads the months of the source, the next ones know them
    first, second = (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=fresh)
        for _ in range(2)
    )

    assert first.stdout.strip() in ("[]", "['numpy', 'pyarrow']")
    assert second.stdout.strip() == "[]"
    assert '"span": ["2011-01", "2012-12"]' in (tmp_path / "months.json").read_text()


def test_definitions_are_valid():
    dg.Definitions.validate_loadable(defs())


def test_an_asset_is_at_most_25_lines():
    import inspect

    from bikes_assets.defs import features, model, predictions, raw

    for module in (raw, features, model, predictions):
        for text in inspect.getsource(module).split("@demand_asset(")[1:]:
            lines = [line for line in text.split("\n\n\n")[0].splitlines() if line.strip()]
            assert len(lines) <= 27, lines  # the decorator's own two lines aside


def test_every_feature_is_a_column_of_the_predictions_lineage(specs):
    shown = specs["demand_predictions"].metadata["dagster/column_lineage"].deps_by_column["prediction"]

    assert {dep.column_name for dep in shown} == set(FEATURE_NAMES)


def test_each_asset_has_its_checks_for_each_of_its_partitions(specs):
    graph = defs().resolve_asset_graph()
    checks = {key: graph.get_check_spec(key) for key in graph.asset_check_keys}
    names: dict[str, set[str]] = {}
    for key, spec in checks.items():
        asset = key.asset_key.to_user_string()
        names.setdefault(asset, set()).add(key.name)
        assert spec.partitions_def == specs[asset].partitions_def, key
        assert spec.description, key

    assert all("up_to_date" in found for found in names.values())
    assert {asset: found - {"up_to_date"} for asset, found in names.items()} == {
        "hourly_rentals": {"schema", "ranges", "hour_sequence", "absent_hours"},
        "demand_features": {
            "schema",
            "ranges",
            "hour_sequence",
            "absent_hours",
            "no_leak_in_time",
            "column_lineage_holds",
        },
        "demand_model": {"skill"},
        "champion_model": {"minimum_skill"},
        "demand_predictions": {"schema", "ranges", "plausible"},
        "prediction_quality": {"schema", "ranges", "skill", "drift"},
    }
    assert {key.name for key, spec in checks.items() if spec.blocking} == {
        "schema",
        "ranges",
        "hour_sequence",
        "minimum_skill",
        "plausible",
        "no_leak_in_time",
        "column_lineage_holds",
    }


def test_each_column_of_the_quality_names_what_it_is_made_from(specs):
    shown = specs["prediction_quality"].metadata["dagster/column_lineage"].deps_by_column

    assert shown["weather_kind"] == [dg.TableColumnDep("demand_features", "weather_kind")]
    assert {dep.asset_key.to_user_string() for dep in shown["error"]} == {"demand_predictions", "hourly_rentals"}


def test_resources_are_shown_by_their_kind_and_purpose():
    from dagster._config.pythonic_config.resource import get_resource_type_name

    resources = defs().resources
    managers = "bikes_assets.orchestration.io_managers"
    assert {name: get_resource_type_name(found) for name, found in resources.items()} == {
        "source": "dagster._core.storage.input_manager.InputManagerDefinition",
        "tables": f"{managers}.TableIOManager",
        "engine": f"{managers}.TableIOManager",
        "models": f"{managers}.ModelIOManager",
        "mlflow": "bikes_assets.tracking.resource.mlflow",
    }
    for name, found in resources.items():
        assert found.description, name
        assert "\n" not in found.description, name


@pytest.mark.parametrize(
    ("last_month", "is_expected"),
    [("2026-11", True), ("2026-10", True), ("2025-11", True), ("2025-10", False), ("2012-12", False)],
)
def test_a_month_is_expected_of_a_source_that_lives_and_not_of_a_finished_history(last_month, is_expected):
    from datetime import date

    from bikes_assets.defs.partitions import freshness

    policy = freshness(last_month, date(2026, 11, 29))
    assert (policy is not None) is is_expected
    assert policy == (dg.FreshnessPolicy.time_window(timedelta(days=45), timedelta(days=35)) if is_expected else None)


def test_nothing_of_the_shipped_history_is_overdue(specs):
    assert all(spec.freshness_policy is None for spec in specs.values())
