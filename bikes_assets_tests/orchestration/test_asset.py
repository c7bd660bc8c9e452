"""Assets with checks: what fails is recorded and never published, what warns is published, what is skipped leaves no fault."""

import math
import warnings
from typing import Annotated, Any

import dagster as dg
import pandas as pd
import pytest
from pydantic import Field

from bikes_assets.core.checks import Check, Verdict, range_check, schema_check
from bikes_assets.core.errors import NothingToDo
from bikes_assets.core.schema import Column, Schema
from bikes_assets.events.attempts import innermost
from bikes_assets.orchestration.asset import lineage_asset
from bikes_assets.orchestration.io_managers import Outcome, TableIOManager
from bikes_assets.storage.lake import Lake

MONTHS = dg.MonthlyPartitionsDefinition("2012-01", end_date="2012-04", fmt="%Y-%m")
NUMBERS = Schema(
    "numbers", ("ts",), (Column("ts", "int64", "Key."), Column("x", "float64", "Value.", minimum=0, maximum=100))
)
SAYS = {"x": 1.0, "waived": ""}
"""What the asset below makes next, and whether a person has waived its limit; set by each test."""


def frame(*values):
    import pandas as pd

    return pd.DataFrame({"ts": range(len(values)), "x": list(values)})


def small(subject):
    highest = subject.value["x"].max()
    return Verdict(highest < 10, f"highest {highest}", {"highest": highest})


def limited(subject):
    return Verdict(bool((subject.value["x"] <= 50).all()), "over 50", waived=SAYS["waived"])


def doubled(subject):
    return Verdict(
        subject.value["x"].tolist() == (subject.inputs["numbers"]["x"] * 2).tolist() and subject.metrics == {"rows": 1},
        f"{subject.asset} of {subject.partition}",
    )


CHECKS = (
    schema_check(NUMBERS),
    range_check(NUMBERS),
    Check("limit", "x at most 50", True, limited),
    Check("small", "x below 10", False, small),
)


@lineage_asset(partitions=MONTHS, ins={}, group="raw", kinds=set(), schema=NUMBERS, checks=CHECKS)
def numbers(context: dg.AssetExecutionContext) -> Outcome:
    """Makes one number."""
    if SAYS["x"] is None:
        raise NothingToDo("there is no number")
    return Outcome(frame(SAYS["x"]))


@lineage_asset(
    partitions=MONTHS,
    ins={"numbers": dg.AssetIn()},
    group="raw",
    kinds=set(),
    schema=NUMBERS,
    checks=(Check("doubled", "twice what was read", True, doubled),),
)
def doubles(context, numbers) -> Outcome:
    """Doubles it."""
    return Outcome(frame(*(numbers["x"] * 2)), metrics={"rows": len(numbers)})


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path / "lake"), {"numbers": NUMBERS, "doubles": NUMBERS}, tmp_path)


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def run(lake, instance, x, month="2012-01", waived=""):
    SAYS.update(x=x, waived=waived)
    manager = TableIOManager(lake)
    definitions = dg.Definitions(
        [numbers, doubles],
        resources={
            "tables": dg.IOManagerDefinition(lambda _: manager, required_resource_keys={"mlflow"}),
            "mlflow": dg.ResourceDefinition.none_resource(),
        },
    )
    job = definitions.resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey("numbers"), dg.AssetKey("doubles")]
    return job.execute_in_process(instance=instance, partition_key=month, asset_selection=keys, raise_on_error=False)


def evaluations(instance, check, asset="numbers"):
    """Return what Dagster keeps of a check, newest first: partition, status, and the evaluation where there is one."""
    key = dg.AssetCheckKey(dg.AssetKey(asset), check)
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=20)
    return [
        (record.partition, record.status.value, record.event.dagster_event.event_specific_data) for record in records
    ]


def error_of(result):
    (event,) = [event for event in result.all_events if event.is_step_failure]
    return innermost(event.step_failure_data.error)


def published(lake, asset="numbers"):
    return {
        month: rows["x"].to_pylist() for month, (_, rows) in lake.table(asset).read(MONTHS.get_partition_keys()).items()
    }


def test_checks_are_recorded_for_the_partition_and_the_materialization_that_they_are_about(lake, instance):
    result = run(lake, instance, 3.0, "2012-02")

    assert result.success
    made = instance.fetch_materializations(dg.AssetKey("numbers"), limit=1).records[0]
    for name in ("schema", "ranges", "limit", "small"):
        ((partition, status, evaluation),) = evaluations(instance, name)
        assert (partition, status) == ("2012-02", "SUCCEEDED")
        assert evaluation.target_materialization_data.storage_id == made.storage_id
    assert evaluation.metadata["found"].value == "highest 3.0"
    assert evaluation.metadata["expected"].value == "x below 10"
    assert evaluation.metadata["highest"].value == 3.0


def test_a_check_is_handed_value_figures_inputs_and_partition(lake, instance):
    run(lake, instance, 3.0, "2012-02")

    ((partition, status, evaluation),) = evaluations(instance, "doubled", "doubles")
    assert (partition, status) == ("2012-02", "SUCCEEDED")
    assert evaluation.metadata["found"].value == "doubles of 2012-02"


def test_a_blocking_check_that_fails_keeps_the_value_from_being_published_and_from_flowing_on(lake, instance):
    # Given a good version
    run(lake, instance, 3.0)

    # When a bad one is made
    result = run(lake, instance, 300.0)

    # Then the run fails by name, the good one stays, and what lies downstream is not run
    assert not result.success
    assert (
        error_of(result)
        .strip()
        .endswith(
            "numbers[2012-01]: check ranges failed, nothing was published: found x 300.0 at ts 0, and 0 more values out of "
            "range: x 300 to 300; "
            "expected x 0..100; mend what it was materialized from or the code that materializes it, then materialize it again"
        )
    )
    assert published(lake) == {"2012-01": [3.0]}
    assert published(lake, "doubles") == {"2012-01": [6.0]}
    assert result.get_asset_materialization_events() == []
    assert [event.step_key for event in result.all_events if event.is_step_skipped or event.is_step_failure] == [
        "numbers",
    ]


class Settings(dg.Config):
    seed: int = Field(0, ge=0)
    names: list[Annotated[str, Field(min_length=1)]] = []  # noqa: RUF012
    parameters: dict[str, Any] = {}  # noqa: RUF012
    threads: int = Field(1, ge=1)


@lineage_asset(io_manager="tables", config={"threads": 2})
def chosen(context, config: Settings) -> pd.DataFrame:
    return pd.DataFrame({"x": [config.seed]})


@pytest.mark.parametrize(
    ("config", "told", "details"),
    [
        ({"seed": -1}, "found setting seed -1, expected another: Input should be greater than or equal to 0", "-1"),
        (
            {"names": ["x", ""]},
            "found setting names.1 '', expected another: String should have at least 1 character",
            "''",
        ),
        (
            {"parameters": {"x": [math.inf]}},
            "found setting parameters {'x': [inf]}, expected another: JSON has no NaN and no infinity",
            "{'x': [inf]}",
        ),
        ({"threads": 0}, "found setting threads 0, expected another: Input should be greater than or equal to 1", "0"),
    ],
)
def test_a_setting_that_is_refused_when_a_step_begins_is_one_message(lake, instance, config, told, details):
    result = dg.materialize(
        [chosen],
        instance=instance,
        resources={"tables": TableIOManager(lake).resource(), "mlflow": dg.ResourceDefinition.none_resource()},
        run_config={"ops": {"chosen": {"config": config}}},
        raise_on_error=False,
    )

    assert error_of(result) == f"SettingsError: chosen: {told}"
    (event,) = [event for event in result.all_events if event.is_step_failure]
    shown = event.step_failure_data.user_failure_data
    assert shown.description == error_of(result)
    assert shown.metadata["found"].value == details


def test_the_failed_evaluation_is_kept_although_the_step_fails(lake, instance):
    run(lake, instance, 300.0)

    ((partition, status, evaluation),) = evaluations(instance, "ranges")
    assert (partition, status) == ("2012-01", "FAILED")
    assert evaluation.severity == dg.AssetCheckSeverity.ERROR
    assert evaluation.blocking
    assert evaluation.metadata["out of range x"].value == 1.0
    assert [status for _, status, _ in evaluations(instance, "schema")] == ["SUCCEEDED"]
    assert [status for _, status, _ in evaluations(instance, "small")] == ["PLANNED"]  # not asked


def test_a_warning_is_published_and_flows_on(lake, instance):
    result = run(lake, instance, 30.0)

    assert result.success
    assert published(lake, "doubles") == {"2012-01": [60.0]}
    ((_, status, evaluation),) = evaluations(instance, "small")
    assert (status, evaluation.passed, evaluation.severity) == ("FAILED", False, dg.AssetCheckSeverity.WARN)


def test_a_failure_that_is_waived_is_a_warning(lake, instance):
    result = run(lake, instance, 70.0, waived="pinned by ann")

    assert result.success
    ((_, status, evaluation),) = evaluations(instance, "limit")
    assert (status, evaluation.severity) == ("FAILED", dg.AssetCheckSeverity.WARN)
    assert evaluation.metadata["waived"].value == "pinned by ann"
    assert published(lake) == {"2012-01": [70.0]}


def test_the_verdicts_are_part_of_the_record(lake, instance):
    result = run(lake, instance, 30.0)

    record = result.get_asset_materialization_events()[0].materialization.metadata["lineage"].value
    assert record["checks"] == {"schema": True, "ranges": True, "limit": True, "small": False}


def test_a_partition_that_is_skipped_leaves_checks_without_a_verdict(lake, instance):
    result = run(lake, instance, None)

    assert result.success
    assert result.get_asset_materialization_events() == []
    for name in ("schema", "ranges", "limit", "small"):
        assert [status for _, status, _ in evaluations(instance, name)] == ["PLANNED"]
    assert instance.get_run_by_id(
        result.run_id
    ).is_success  # Dagster shows a planned check of a finished run as skipped


def test_definitions_with_checks_load_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lineage_asset(partitions=MONTHS, ins={}, group="raw", kinds=set(), checks=CHECKS)(plain)
        dg.Definitions.validate_loadable(
            dg.Definitions(
                [numbers, doubles],
                resources={"tables": dg.mem_io_manager, "mlflow": dg.ResourceDefinition.none_resource()},
            )
        )


def plain(context: dg.AssetExecutionContext) -> Outcome:
    """Is made into an asset by the test above."""
    return Outcome(frame(1.0))


def test_specs_say_what_is_expected_what_blocks_and_for_which_partitions():
    specs = {spec.name: spec for spec in numbers.check_specs}
    assert {name: (spec.blocking, spec.description) for name, spec in specs.items()} == {
        "schema": (True, "columns, types, order and unique ts as declared"),
        "ranges": (True, "x 0..100"),
        "limit": (True, "x at most 50"),
        "small": (False, "x below 10"),
    }
    assert {spec.partitions_def for spec in specs.values()} == {MONTHS}
