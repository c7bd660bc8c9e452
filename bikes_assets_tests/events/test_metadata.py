"""What Dagster shows of a materialization: what people look for first, the record last, and each plot without a click."""

from __future__ import annotations

import math

import dagster as dg
import pyarrow as pa
import pytest

from bikes_assets.core.record import Record, Version
from bikes_assets.core.schema import Column, Schema
from bikes_assets.demand.svg import Bars, Line, Plot
from bikes_assets.events import metadata
from bikes_assets.events.materialized_from import INLINE

ROWS = pa.table({"a": [1, 2]})
RECORD = Record(Version("a", "2012-08", 1, "d" * 32), {}, (), "c" * 32, {}, {}, {})
DRIFT = {f"{kind}_{name}": 0.123456 for name in ("temperature", "wind_speed", "error") for kind in ("psi", "ks")}


def shown(**values: object) -> dict[str, dg.MetadataValue]:
    return metadata.of_materialization(ROWS, RECORD, {}, shown=metadata.Shown(**values))


def test_what_people_look_for_comes_first_and_the_record_last() -> None:
    metrics = {"rows": 2.0, "bias": -1.28, "rmse": 45.2978, "skill": 0.7, "r2": 0.96043, **DRIFT}
    values = shown(metrics=metrics, plots={"plot": Plot()}, links={"mlflow_run": "http://x"}, facts={"champion": "m"})
    assert list(values) == [
        "Materialized from",
        "champion",
        "r2",
        "rmse",
        "skill",
        "bias",
        "plot",
        "psi, ks",
        "dagster/row_count",
        "preview",
        "mlflow_run",
        "address",
        "lineage/checksum",
        "lineage",
    ]


@pytest.mark.parametrize(
    ("value", "told"),
    [(45.29782, 45.3), (0.960431, 0.9604), (16042.0, 16042), (16042.4, 16042.0), (0.0000123456, 0.00001235), (0.0, 0)],
)
def test_numbers_have_four_significant_digits(value: float, told: float) -> None:
    assert shown(metrics={"m": value})["m"].value == told
    assert shown(metrics={"m": -value})["m"].value == -told


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_number_that_is_none_is_text(value: float) -> None:
    assert shown(metrics={"m": value})["m"].value == str(value)


def test_metrics_of_the_same_names_stand_in_one_table() -> None:
    table = shown(metrics=DRIFT)["psi, ks"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [record.data["name"] for record in table.records] == ["temperature", "wind_speed", "error"]
    assert table.records[0].data["psi"] == 0.1235
    assert not any(name.startswith(("psi_", "ks_")) for name in shown(metrics=DRIFT))


def test_a_model_shows_its_settings_and_no_row() -> None:
    card = (
        '{"name": "Tree", "config": {"estimator": "Tree", "parameters": {"max_iter": 250}}, "metrics": {"rmse": 1.0}, '
        '"baseline": {"name": "mean", "config": {}}, "training_months": ["1", "2", "3", "4", "5"], "decision": ""}'
    )
    values = metadata.of_materialization(pa.table({"card": [card], "sha256": ["f" * 64]}), RECORD, {})
    assert not {"dagster/row_count", "preview"} & values.keys()
    assert values["model"].value.splitlines()[2:] == [
        "| name | Tree |",
        "| config.estimator | Tree |",
        "| config.parameters | (max_iter 250) |",
        "| baseline | mean |",
        "| training_months | 1 .. 5 (5) |",
    ]


HOURS = [float(hour) for hour in range(744)]
WAVES = [300 + 250 * math.sin(hour / 4) for hour in HOURS]
GAPS = [math.nan if hour % 50 < 9 else value for hour, value in zip(HOURS, WAVES, strict=True)]
NAMES = [(float(place), f"feature_of_a_long_name_{place}") for place in range(30)]
PLOTS = {
    "nothing": Plot(),
    "a line": Plot([Line(HOURS, WAVES, "#2f6fab")], ticks=[(0, "Aug 2012"), (96, "5"), (192, "9")]),
    "two lines with gaps": Plot([Line(HOURS, WAVES, "#b8bec6", "actual"), Line(HOURS, GAPS, "#2f6fab", "predicted")]),
    "bars": Plot(bars=[Bars([1, 2, 3], [5, math.nan, 2], ["#2f6fab"] * 3, "predicted", 0.4)], ticks=[(1, "clear")]),
    "a ranking": Plot(bars=[Bars([p for p, _ in NAMES], HOURS[:30], ["#2f6fab"] * 30)], ticks=NAMES, flat=True),
    "a ranking of one color each": Plot(
        bars=[Bars([p for p, _ in NAMES], HOURS[:30], [f"#{p:06d}" for p in range(30)])], ticks=NAMES, flat=True
    ),
    "negative values": Plot([Line(HOURS, [-value for value in WAVES], "#2f6fab")]),
    "names that are marks": Plot([Line(HOURS, WAVES, "#2f6fab", "<b>&'\"</b>")], ticks=[(0, "<script>"), (700, "')")]),
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_seen_without_a_click(name: str) -> None:
    told = str(shown(plots={name: PLOTS[name]})[name].value)
    assert told.startswith(f"![{name}](<data:image/svg+xml,%3Csvg")
    assert len(told) < INLINE
    assert not set("<>") & set(told.removeprefix(f"![{name}](<").removesuffix(">)"))


def test_a_column_tells_what_it_is_made_from() -> None:
    schema = Schema("t", ("a",), (Column("a", "int64", "Hours.", unit="h"), Column("b", "int64", "Others.")))
    columns = metadata.table_schema(schema, {"a": {"raw": ["x", "y"]}}).columns
    assert [column.description for column in columns] == ["Hours. Unit: h. From raw.x, raw.y.", "Others."]
