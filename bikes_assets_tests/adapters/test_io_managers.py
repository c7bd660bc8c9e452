"""IO managers: exact inputs, guarded writes, checked files, and what skips or fails by name."""

import dagster as dg
import pytest

from bikes_assets.adapters import io_managers
from bikes_assets.adapters.attempts import innermost
from bikes_assets.adapters.io_managers import Outcome, TableIOManager
from bikes_assets.adapters.lake import Lake
from bikes_assets.lineage.errors import NothingToDo
from bikes_assets.lineage.schema import Column, Schema

MONTHS = dg.MonthlyPartitionsDefinition("2012-01", end_date="2012-04", fmt="%Y-%m")
NUMBERS = Schema("numbers", ("ts",), (Column("ts", "int64", "Key."), Column("x", "float64", "Value.", nullable=True)))


def frame(*values):
    import pandas as pd

    return pd.DataFrame({"ts": range(len(values)), "x": list(values)})


def assets(before_return):
    """Two assets of a project that knows nothing of bikes: doubles is made from seeds of this month and the one before."""

    @dg.asset(partitions_def=MONTHS, io_manager_key="tables", ins={"start": dg.AssetIn(input_manager_key="start")})
    def seeds(context: dg.AssetExecutionContext, start):
        return Outcome(frame(float(context.partition_key[-1]), None))

    both_months = dg.AssetIn(partition_mapping=dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=0))

    @dg.asset(partitions_def=MONTHS, io_manager_key="tables", ins={"seeds": both_months})
    def doubles(context: dg.AssetExecutionContext, seeds):
        before_return()
        return Outcome(frame(*(seeds["x"] * 2)))

    return [seeds, doubles]


class _Start(dg.InputManager):
    def __init__(self, lake):
        self.lake = lake

    def load_input(self, context):
        io_managers._running_step(context, self.lake)


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path / "lake"), {"seeds": NUMBERS, "doubles": NUMBERS}, tmp_path)


def run(lake, asset, month, instance, before_return=lambda: None):
    manager = TableIOManager(lake)
    definitions = dg.Definitions(
        [dg.AssetSpec("start"), *assets(before_return)],
        resources={
            "tables": dg.IOManagerDefinition(lambda _: manager, required_resource_keys={"mlflow"}),
            "start": dg.InputManagerDefinition(lambda _: _Start(lake)),
            "mlflow": dg.ResourceDefinition.none_resource(),
        },
    )
    job = definitions.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=instance, partition_key=month, asset_selection=[dg.AssetKey(asset)], raise_on_error=False
    )


def record_of(result):
    (event,) = result.get_asset_materialization_events()
    return event.materialization.metadata["lineage"].value


def error_of(result):
    (event,) = [event for event in result.all_events if event.is_step_failure]
    return innermost(event.step_failure_data.error)


def test_the_record_holds_the_versions_that_were_read(lake):
    with dg.DagsterInstance.ephemeral() as instance:
        for month in ("2012-01", "2012-02", "2012-03", "2012-01"):
            run(lake, "seeds", month, instance)
        record = record_of(run(lake, "doubles", "2012-02", instance))

    published = lake.table("seeds").published()
    assert [(item["partition"], item["version"]) for item in record["inputs"]] == [
        ("2012-01", published["2012-01"].version),
        ("2012-02", published["2012-02"].version),
    ]
    assert record["output"]["version"] == lake.table("doubles").version()


def test_what_is_published_while_a_step_is_at_work_is_not_what_it_read(lake):
    with dg.DagsterInstance.ephemeral() as instance:
        run(lake, "seeds", "2012-01", instance)
        before = lake.table("seeds").published()["2012-01"].version
        result = run(
            lake, "doubles", "2012-01", instance, before_return=lambda: run(lake, "seeds", "2012-01", instance)
        )

    (read,) = record_of(result)["inputs"]
    assert read["version"] == before
    assert lake.table("seeds").published()["2012-01"].version > before


def test_a_slower_duplicate_does_not_overwrite_a_newer_result(lake):
    with dg.DagsterInstance.ephemeral() as instance:
        run(lake, "seeds", "2012-01", instance)
        result = run(
            lake, "doubles", "2012-01", instance, before_return=lambda: run(lake, "doubles", "2012-01", instance)
        )

    assert not result.success
    assert "doubles[2012-01]: run " in error_of(result)
    assert "published version 1 while this one was at work from version 0; its result stays" in error_of(result)
    assert len(lake.table("doubles").published()) == 1


def test_a_missing_partition_fails_by_name(lake):
    with dg.DagsterInstance.ephemeral() as instance:
        run(lake, "seeds", "2012-02", instance)
        result = run(lake, "doubles", "2012-02", instance)

    assert "seeds: not materialized yet for 2012-01; materialize that first" in error_of(result)


def test_a_table_of_another_schema_is_not_published(lake):
    lake = Lake(lake.location, {**lake.schemas, "seeds": Schema("seeds", ("ts",), NUMBERS.columns[:1])}, lake.root)
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(lake, "seeds", "2012-01", instance)

    assert "seeds: found columns ts, x, expected ts" in error_of(result)
    assert lake.table("seeds").published() == {}


def test_nothing_to_do_skips_a_partition_and_says_why():
    from bikes_assets.adapters.asset import lineage_asset

    @lineage_asset(partitions=MONTHS, ins={}, group="raw", kinds=set())
    def hourly_rentals(context: dg.AssetExecutionContext) -> Outcome:
        """Skips."""
        raise NothingToDo("there is nothing to do")

    # the code version is looked up by the function's name, in this module
    result = dg.materialize(
        [hourly_rentals],
        partition_key="2012-01",
        resources={"tables": dg.mem_io_manager, "mlflow": dg.ResourceDefinition.none_resource()},
    )
    assert result.success
    assert result.get_asset_materialization_events() == []


def hourly_rentals():
    """Stands for the asset function of the same name above, for its code version."""


def test_data_versions_can_be_set_while_an_output_is_handled():
    """`step_context.set_data_version` is not public: should Dagster drop it, events would lose their content digest."""
    from dagster._core.execution.context.system import StepExecutionContext

    assert callable(StepExecutionContext.set_data_version)
