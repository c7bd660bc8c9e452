"""The asset check of column lineage: what an asset declares is compared with what its function does on stored partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from bikes_assets.core.errors import LineageError
from bikes_assets.core.schema import Column, Schema
from bikes_assets.orchestration.asset import lineage_asset
from bikes_assets.orchestration.column_lineage import column_lineage_check
from bikes_assets.orchestration.io_managers import ModelIOManager, Outcome, TableIOManager
from bikes_assets.storage.lake import Lake, ModelFormat

if TYPE_CHECKING:
    from pathlib import Path

DAYS = dg.StaticPartitionsDefinition(["monday", "tuesday"])
SALES = Schema(
    "sales",
    ("sale",),
    (
        Column("sale", "int64", "Sale."),
        Column("price", "float64", "Price.", minimum=0),
        Column("count", "int64", "Count.", minimum=0),
    ),
)
TOTALS = Schema("totals", ("sale",), (Column("sale", "int64", "Sale."), Column("total", "float64", "Total.")))
HONEST = {"sale": {"sales": ["sale"]}, "total": {"sales": ["price", "count"]}}


@lineage_asset(partitions=DAYS, schema=SALES)
def sales(context):
    """Sales of a day."""
    first = 100 * DAYS.get_partition_keys().index(context.partition_key)
    rows = [(first + number, 1.5 + number % 7, number % 5) for number in range(50)]
    return pd.DataFrame(rows, columns=["sale", "price", "count"])


def totals(lineage: Any) -> dg.AssetsDefinition:
    """Return an asset that computes a total of each sale, and declares a column lineage."""

    @lineage_asset(partitions=DAYS, schema=TOTALS, lineage=lineage)
    def totals(context, sales):
        """Totals."""
        frame = sales[["sale"]].assign(total=sales["price"] * sales["count"])
        return Outcome(frame, metrics={"rows": len(frame), "partition": len(context.partition_key)})

    return totals


def checked(folder: Path, lineage: Any, **options: Any) -> dg.AssetCheckEvaluation:
    """Return the result of the check of totals alone, of one partition, and see that it publishes nothing."""
    lake = Lake(str(folder / "lake"), {"sales": SALES, "totals": TOTALS}, folder)
    asset = totals(lineage)
    resources = {"tables": TableIOManager(lake).resource(), "mlflow": dg.ResourceDefinition.none_resource()}
    check = column_lineage_check(asset, key="sale", **options)
    job = dg.define_asset_job("verify", dg.AssetSelection.checks(check))
    defs = dg.Definitions([sales, asset], jobs=[job], asset_checks=[check], resources=resources)
    with dg.DagsterInstance.ephemeral() as instance:
        for day in DAYS.get_partition_keys():
            assert dg.materialize([sales, asset], instance=instance, resources=resources, partition_key=day).success
        before = {name: lake.table(name).version() for name in ("sales", "totals")}
        result = defs.resolve_job_def("verify").execute_in_process(
            instance=instance, tags={"dagster/partition": "tuesday"}, raise_on_error=False
        )
        (evaluation,) = result.get_asset_check_evaluations()
    assert before == {name: lake.table(name).version() for name in ("sales", "totals")}
    return evaluation


def test_an_honest_declaration_passes_on_a_partition(tmp_path: Path) -> None:
    result = checked(tmp_path, HONEST)

    assert result.passed
    assert result.metadata["rows"].value == 50  # those of the partition alone
    assert result.metadata["declared, not observed"].value == []
    assert "| total | sales.count | observed |" in result.metadata["column evidence"].value


def test_a_column_that_contributes_and_is_not_declared_is_named(tmp_path: Path) -> None:
    result = checked(tmp_path, {**HONEST, "total": {"sales": ["price"]}}, blocking=True)

    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert result.metadata["contribute, not declared"].value == ["total from sales.count"]
    assert "total moves at " in result.description
    assert "when sales.count is " in result.description


def test_a_column_that_is_declared_and_does_not_contribute_is_told(tmp_path: Path) -> None:
    result = checked(tmp_path, {**HONEST, "sale": {"sales": ["sale", "price"]}})

    assert (result.passed, result.severity) == (True, dg.AssetCheckSeverity.WARN)
    assert "declared, not observed: sale from sales.price" in result.description


def test_an_asset_without_column_lineage_is_refused() -> None:
    with pytest.raises(
        LineageError, match="totals: found no column lineage, expected some; declare it by with_lineage"
    ):
        column_lineage_check(totals(None))


def test_what_is_no_input_has_to_be_given() -> None:
    lineage = dg.TableColumnLineage({"price": [dg.TableColumnDep("sales", "price")]})

    @dg.asset(metadata={"dagster/column_lineage": lineage})
    def scaled(sales, factor: dg.ResourceParam[float]):
        """Sales at another price."""
        return sales.assign(price=sales["price"] * factor)

    with pytest.raises(
        LineageError, match="scaled: its function takes factor, which is no input; expected it in `given`"
    ):
        column_lineage_check(scaled)
    column_lineage_check(scaled, given={"factor": 2.0})


@lineage_asset(partitions=DAYS, io_manager="models")
def price_model(context, sales):
    """A regression of the price."""
    return LinearRegression().fit(sales[["count"]].astype(float), sales["price"])


@lineage_asset(
    partitions=DAYS,
    io_manager="plain",
    lineage={"sale": {"sales": ["sale"]}, "expected": {"sales": ["count"], "price_model": ["*"]}},
)
def expected_prices(context, sales, price_model: Any):
    """Prices as the model expects them."""
    return sales[["sale"]].assign(expected=price_model.predict(sales[["count"]].astype(float)))


def test_a_model_is_handed_over_as_it_is(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"), {"sales": SALES}, tmp_path)
    resources = {
        "tables": TableIOManager(lake).resource(),
        "plain": TableIOManager(lake).resource(),
        "models": ModelIOManager(lake, ModelFormat.of_estimators()).resource(),
        "mlflow": dg.ResourceDefinition.none_resource(),
    }
    everything = [sales, price_model, expected_prices, column_lineage_check(expected_prices, key="sale")]
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(everything, instance=instance, resources=resources, partition_key="monday")
    (evaluation,) = result.get_asset_check_evaluations()
    assert evaluation.passed, evaluation.description
    assert evaluation.metadata["declared, not observed"].value == []
    assert evaluation.metadata["not perturbed"].value == [
        "price_model: it is no table, so that nothing of it is perturbed"
    ]


def test_an_asset_that_reads_other_partitions_than_its_own_is_refused() -> None:
    before = dg.AssetIn("sales", partition_mapping=dg.StaticPartitionMapping({"monday": "tuesday"}))
    lineage = dg.TableColumnLineage({"sale": [dg.TableColumnDep("sales", "sale")]})

    @dg.asset(partitions_def=DAYS, ins={"before": before}, metadata={"dagster/column_lineage": lineage})
    def later(before):
        """Sales of the day before."""
        return before

    with pytest.raises(LineageError, match="later: found a StaticPartitionMapping of its input before, expected none"):
        column_lineage_check(later)
