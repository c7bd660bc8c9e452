"""IO managers: exact inputs, guarded writes, checked files, and what skips or fails by name."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sklearn.linear_model import Ridge

from bikes_assets.core.errors import DigestError, NothingToDo
from bikes_assets.core.schema import Column, Schema
from bikes_assets.events import retries
from bikes_assets.events.attempts import innermost
from bikes_assets.orchestration import lake_io
from bikes_assets.orchestration.io_managers import ModelIOManager, Outcome, TableIOManager
from bikes_assets.storage import delta_log
from bikes_assets.storage.delta import LakeTable
from bikes_assets.storage.lake import Lake, ModelFormat

MONTHS = dg.MonthlyPartitionsDefinition("2012-01", end_date="2012-04", fmt="%Y-%m")
NUMBERS = Schema("numbers", ("ts",), (Column("ts", "int64", "Key."), Column("x", "float64", "Value.", nullable=True)))

RIDGE = ModelFormat.of_estimators("sklearn.linear_model._ridge.Ridge", "numpy.dtype")


def frame(*values):
    import pandas as pd

    return pd.DataFrame({"ts": range(len(values)), "x": list(values)})


def assets(before_return):
    """Two assets of a project that knows nothing of bikes: doubles is computed from seeds of this month and the one before."""

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
        lake_io.running_step(context, self.lake)


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


@pytest.mark.parametrize("input_changes", [False, True])
def test_a_retry_takes_over_its_earlier_commit_unless_an_input_has_changed(lake, monkeypatch, input_changes):
    monkeypatch.setattr(retries, "RETRIES", dg.RetryPolicy(max_retries=2))
    flush, lost = delta_log.flush_commit, []

    def flush_after_commit(uri, version):
        flush(uri, version)
        if uri.endswith("/doubles") and version and not lost:  # the table is created at 0
            lost.append(version)
            if input_changes:
                run(lake, "seeds", "2012-01", instance)
            raise TimeoutError("timed out")

    monkeypatch.setattr(delta_log, "flush_commit", flush_after_commit)
    with dg.DagsterInstance.ephemeral() as instance:
        run(lake, "seeds", "2012-01", instance)
        result = run(lake, "doubles", "2012-01", instance)

    record, newest = record_of(result), lake.table("seeds").published()["2012-01"].version
    assert lost == [1]
    assert [commit.version for commit in lake.table("doubles").commits()] == ([1, 2] if input_changes else [1])
    assert record["output"]["version"] == (2 if input_changes else 1)
    assert record["made_by"]["attempt"] == ("2" if input_changes else "1")
    assert [item["version"] for item in record["inputs"]] == [newest]


def competing(lake, partition="2012-01"):
    """Publish a partition as a run does that is not known here."""
    table = lake.table("doubles")
    rows = NUMBERS.conform(frame(9.0))
    table.write(partition, rows, {"output": {"digest": "9" * 32}}, since=table.version())


def test_a_slower_duplicate_gives_way_to_a_run_that_began_after_it(lake):
    with dg.DagsterInstance.ephemeral() as instance:
        run(lake, "seeds", "2012-01", instance)
        result = run(
            lake, "doubles", "2012-01", instance, before_return=lambda: run(lake, "doubles", "2012-01", instance)
        )

    assert not result.success
    assert "FencedError: doubles[2012-01]: run " in error_of(result)
    assert "published version 1 while this one was at work from version 0; its result stays" in error_of(result)
    assert lake.table("doubles").version() == 1


def test_a_run_that_is_overtaken_by_an_earlier_one_reads_anew(lake):
    with dg.DagsterInstance.ephemeral() as instance:
        run(lake, "seeds", "2012-01", instance)
        others = iter([lambda: competing(lake)])
        result = run(lake, "doubles", "2012-01", instance, before_return=lambda: next(others, bool)())

    (retry,) = [event for event in result.all_events if event.is_step_up_for_retry]
    assert "published version 1 while this one was at work from version 0" in innermost(retry.event_specific_data.error)
    assert (record_of(result)["output"]["version"], record_of(result)["made_by"]["attempt"]) == (2, "2")


def test_a_run_that_is_overtaken_again_and_again_fails(lake):
    with dg.DagsterInstance.ephemeral() as instance:
        run(lake, "seeds", "2012-01", instance)
        result = run(lake, "doubles", "2012-01", instance, before_return=lambda: competing(lake))

    assert not result.success
    assert "ConflictError: doubles[2012-01]: run unknown" in error_of(result)
    assert "published version 3 while this one was at work from version 2; its result stays" in error_of(result)


def test_a_step_whose_run_was_ended_meanwhile_publishes_nothing(lake):
    with dg.DagsterInstance.ephemeral() as instance:
        run(lake, "seeds", "2012-01", instance)

        def end():
            (at_work,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
            instance.report_run_failed(at_work)

        result = run(lake, "doubles", "2012-01", instance, before_return=end)

    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    assert "ended while this step was at work, so nothing more is published" in error_of(result)
    assert lake.table("doubles").published() == {}


def test_a_step_whose_run_was_ended_after_its_commit_leaves_the_event_to_sync(lake, monkeypatch):
    """Why it is asked twice: else the commit would be reported by sync and by the step."""
    with dg.DagsterInstance.ephemeral() as instance:
        write = LakeTable.write

        def ended_then(*arguments, **keywords):
            version = write(*arguments, **keywords)
            (at_work,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
            instance.report_run_failed(at_work)
            return version

        monkeypatch.setattr(LakeTable, "write", ended_then)
        result = run(lake, "seeds", "2012-01", instance)

    assert list(lake.table("seeds").published()) == ["2012-01"]
    assert result.get_asset_materialization_events() == []


def test_a_missing_partition_fails_by_name(lake):
    with dg.DagsterInstance.ephemeral() as instance:
        run(lake, "seeds", "2012-02", instance)
        result = run(lake, "doubles", "2012-02", instance)

    assert "seeds: not materialized yet for 2012-01; materialize that first" in error_of(result)


# What a function that reads a model is handed

EARLIER = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=0)
OF_THE_MONTH_BEFORE = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)


def handed(lake, mapping, months, annotation=Any):
    """Return what a function is handed of a model in the last of some months, in each of which there is one; or the error."""
    read = []

    @dg.asset(partitions_def=MONTHS, io_manager_key="models")
    def ridge(context: dg.AssetExecutionContext):
        return Ridge(alpha=float(context.partition_key[-1])).fit([[0.0]], [1.0])

    def doubles(ridge):
        read.append(ridge)
        return Outcome(frame(1.0))

    doubles.__annotations__ = {"ridge": annotation}
    ins = {"ridge": dg.AssetIn(partition_mapping=mapping)}
    definitions = dg.Definitions(
        [ridge, dg.asset(partitions_def=MONTHS, io_manager_key="tables", ins=ins)(doubles)],
        resources={
            "tables": TableIOManager(lake).resource(),
            "models": ModelIOManager(lake, RIDGE).resource(),
            "mlflow": dg.ResourceDefinition.none_resource(),
        },
    )
    job = definitions.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        steps = [*((month, "ridge") for month in months), ((months or ["2012-01"])[-1], "doubles")]
        for month, name in steps:
            result = job.execute_in_process(
                instance=instance, partition_key=month, asset_selection=[dg.AssetKey(name)], raise_on_error=False
            )
    return read[0] if result.success else error_of(result)


@pytest.mark.parametrize("mapping", [EARLIER, dg.AllPartitionMapping()], ids=["two months", "all months"])
@pytest.mark.parametrize("months", [["2012-01"], ["2012-01", "2012-02"]], ids=["the first month", "the second"])
def test_a_mapping_to_several_models_gives_them_by_partition_from_the_first_month_on(lake, mapping, months):
    models = handed(lake, mapping, months)

    assert {month: model.alpha for month, model in models.items()} == {month: float(month[-1]) for month in months}


@pytest.mark.parametrize(("mapping", "alpha"), [(None, 2.0), (OF_THE_MONTH_BEFORE, 1.0)], ids=["own", "before"])
def test_a_mapping_to_one_model_gives_that(lake, mapping, alpha):
    assert handed(lake, mapping, ["2012-01", "2012-02"]).alpha == alpha


@pytest.mark.parametrize("damaged", [False, True])
def test_a_model_that_was_fitted_a_moment_ago_is_not_built_again_but_its_file_is_checked(lake, damaged):
    built = []
    format_ = replace(
        RIDGE,
        load=lambda content, card: built.append(card) or RIDGE.load(content, card),
        stored=lambda model, origin: (model, origin),
    )
    manager, fitted = ModelIOManager(lake, format_), Ridge()
    row = {"sha256": lake.save_file(format_.dump(fitted)), "card": "{}"}
    manager._fitted = {(row["sha256"], row["card"]): fitted}
    if damaged:
        place = Path(lake.model_location(row["sha256"]))
        place.write_bytes(place.read_bytes()[:-1] + b"?")
        with pytest.raises(DigestError):
            manager._loaded(**row, origin="ridge[2012-01]@1")
    else:
        assert manager._loaded(**row, origin="ridge[2012-01]@1") == (fitted, "ridge[2012-01]@1")
    assert built == []


def test_a_model_that_is_not_there_fails_by_name_unless_it_may_be_none(lake):
    told = "ridge: not materialized yet for 2012-01; materialize that first; or annotate the parameter as one that may be None"
    assert told in handed(lake, None, [])
    assert handed(lake, None, [], Any | None) is None


def test_a_table_of_another_schema_is_not_published(lake):
    lake = Lake(lake.location, {**lake.schemas, "seeds": Schema("seeds", ("ts",), NUMBERS.columns[:1])}, lake.root)
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(lake, "seeds", "2012-01", instance)

    assert "seeds: found columns ts, x, expected ts" in error_of(result)
    assert lake.table("seeds").published() == {}


def test_nothing_to_do_skips_a_partition_and_says_why():
    from bikes_assets.orchestration.asset import lineage_asset

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


def test_the_digest_of_what_is_published_is_the_events_data_version(lake):
    """`step_context.set_data_version` is not public: should Dagster drop or ignore it, events would lose their digest."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(lake, "seeds", "2012-01", instance)
        event = instance.get_latest_materialization_event(dg.AssetKey("seeds")).asset_materialization

    assert event.tags["dagster/data_version"] == record_of(result)["output"]["digest"]
    assert event.tags["dagster/data_version"] == lake.table("seeds").published()["2012-01"].digest
