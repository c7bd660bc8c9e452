"""How good the model is: metrics, overall, by partition and by segment; checks and their outcomes; drift."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bikes_assets.app.report import pictures
from bikes_assets.app.store import current, table
from bikes_assets.core.address import Address
from bikes_assets.core.errors import RemovedError
from bikes_assets.governance.report.structure import ADDRESS, ReportPicture, ReportSection, ReportTable, TableField
from bikes_assets.lineage.openlineage.history import LogPart, history

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bikes_assets.app.report.subject import FittedModel
    from bikes_assets.core.record import Record
    from bikes_assets.governance.report.structure import Value
    from bikes_assets.lineage.openlineage.history import CheckResult

_PSI, _KS = "psi_", "ks_"
"""Beginnings of the names of metrics that measure drift."""
ROWS = "rows"
ALL = "all"
"""Name of the segmentation without segments."""
_LEFT_OUT = "up_to_date"
"""A check of what is stale, not of what was materialized."""


def accuracy(model: FittedModel) -> ReportSection:
    """Return the metrics of the model: as validated, of what it predicted since, and by segment."""
    metrics = model.record.metrics
    spans = [use.name for use in model.record.datasets if use.context == "validation"]
    validated = [{"on": ", ".join(spans) or "as recorded", **metrics}] if metrics else []
    evaluated = evaluations(model)
    tables = [
        ReportTable(
            "validated",
            "On the rows that it was validated on",
            (TableField("on", "on"), *_numbers(metrics)),
            validated,
            [model.address],
        ),
        by_partition(evaluated),
        *by_segment(evaluated),
    ]
    about = (
        "Metrics are repeated as they were recorded when something was published. Those by segment are computed from the "
        "stored rows, whose digests are verified."
    )
    found = [ReportPicture(*item) for table_ in tables if (item := pictures.of_metrics(table_))]
    return ReportSection("accuracy", "Accuracy", tables, found, about)


def evaluations(model: FittedModel) -> list[Record]:
    """Return the records of what evaluates the model's predictions: they have metrics beside a number of rows."""
    serving = current().lake.serving
    return [item for item in model.uses if item.output.asset != serving and _metrics(item).keys() - {ROWS}]


def by_partition(evaluated: Sequence[Record]) -> ReportTable:
    """Return the metrics of what was predicted for each partition."""
    names = list(dict.fromkeys(name for record in evaluated for name in _metrics(record)))
    rows = [
        {"partition": record.output.partition or ALL, **_metrics(record), ADDRESS: record.output.address}
        for record in evaluated
    ]
    fields = (
        TableField("partition", "partition"),
        *_numbers(names),
        TableField(ADDRESS, "from", "address"),
    )
    title = "On what it predicted, by partition"
    return ReportTable("evaluated", title, fields, rows, empty="nothing that it predicted has been evaluated")


def by_segment(evaluated: Sequence[Record]) -> list[ReportTable]:
    """Return the metrics of what was predicted, by each segmentation that the project declares."""
    tables: list[ReportTable] = []
    for asset, segmented in current().segments.items():
        records = [record for record in evaluated if record.output.asset == asset]
        frame, read = _rows_of(records)
        if frame is None:
            continue
        for name, segments in segmented(frame).items():
            metrics = list(dict.fromkeys(metric for values in segments.values() for metric in values))
            fields = (TableField("segment", "" if name == ALL else name), *_numbers(metrics))
            rows: list[Mapping[str, Value]] = [{"segment": segment, **values} for segment, values in segments.items()]
            title = "On all that it predicted" if name == ALL else f"By {name}"
            tables.append(ReportTable(f"by {name}", title, fields, rows, read))
    return tables


def _numbers(names: Iterable[str]) -> list[TableField]:
    """Return the fields of metrics."""
    return [TableField(name, name.replace("_", " "), "number") for name in names]


def _rows_of(records: Sequence[Record]) -> tuple[Any, list[str]]:
    """Return the rows of some versions as one frame, None without any, and their addresses; digests are verified."""
    from bikes_assets.storage.lake import to_pandas

    found, read = list[Any](), list[str]()
    for record in records:
        output = record.output
        try:
            found.append(table(output.asset).read([output.partition], int(output.version))[output.partition][1])
        except RemovedError:
            continue
        read.append(output.address)
    return (to_pandas(found, table(records[0].output.asset).schema) if found else None), read


def _metrics(record: Record) -> dict[str, float]:
    """Return the metrics of a record that do not measure drift."""
    return {name: value for name, value in record.metrics.items() if not name.startswith((_PSI, _KS))}


def checks(model: FittedModel) -> ReportSection:
    """Return the checks of the model, of all that uses it and of all that it was fitted from, with their outcomes."""
    results = own_checks(model)
    fields = (
        TableField("check", "check"),
        TableField("passed", "outcome", "check"),
        TableField("blocks", "blocks"),
        TableField("found", "found"),
        TableField("expected", "Expected:", below="found"),
        TableField(ADDRESS, "of", "address"),
    )
    inputs = (
        TableField("asset", "of", "address"),
        TableField("check", "check"),
        TableField("versions", "versions", "number"),
        TableField("passed", "passed", "number"),
        TableField("failed", "failed", "address"),
    )
    tables = [
        ReportTable("own", "Of the model, its predictions and their evaluation", fields, results, empty="none was run"),
        ReportTable("inputs", "Of all that it was fitted from", inputs, [*_of_inputs(model)], empty="none was run"),
    ]
    about = (
        "Outcomes as they were recorded before each version was published. Nothing is published that fails a check that "
        "blocks; the others warn."
    )
    return ReportSection("checks", "Checks", tables, about=about)


def own_checks(model: FittedModel) -> list[Mapping[str, Value]]:
    """Return a row for each check of the model and of what uses it; what was found is as Dagster's event log has it."""
    records = [model.record, *model.uses]
    details = _details(records)
    return [
        {
            "check": name,
            "passed": passed,
            "blocks": item.blocking if (item := details.get((record.output.address, name))) else None,
            "found": _told(item, "found"),
            "expected": _told(item, "expected"),
            ADDRESS: record.output.address,
        }
        for record in records
        for name, passed in record.checks.items()
    ]


def _details(records: Sequence[Record]) -> dict[tuple[str, str], CheckResult]:
    """Return what Dagster's event log has of the checks of some versions, by address and name."""
    runs = frozenset(run for record in records if (run := record.made_by.get("dagster_run_id", "")))
    wanted = {record.output.address for record in records}
    found: dict[tuple[str, str], CheckResult] = {}
    for _, attempts in history(current().events, LogPart(runs, 0, -1)) if runs else ():
        for attempt in attempts:
            if attempt.record and attempt.record.output.address in wanted:
                found |= {
                    (attempt.record.output.address, item.name): item
                    for item in attempt.checks
                    if item.name != _LEFT_OUT
                }
    return found


def _told(item: CheckResult | None, name: str) -> str:
    return str(item.values.get(name) or "") if item else ""


def _of_inputs(model: FittedModel) -> Iterator[Mapping[str, Value]]:
    """Yield a row for each check of each asset that contributed to the model, over its versions."""
    outcomes: dict[tuple[str, str], dict[str, bool]] = {}
    for address, facts in model.contributing.items():
        place = Address.parse(address)
        for name, passed in facts.get("checks", {}).items() if place else ():
            outcomes.setdefault((place.asset if place else "", name), {})[address] = passed
    for (asset, name), passed in sorted(outcomes.items()):
        failed = [address for address, holds in passed.items() if not holds]
        yield {
            "asset": str(Address(asset)),
            "check": name,
            "versions": len(passed),
            "passed": len(passed) - len(failed),
            "failed": failed,
        }


def drift(model: FittedModel) -> ReportSection:
    """Return how far the partitions that the model predicted are from those that it was fitted on, as recorded."""
    rows: list[Mapping[str, Value]] = [
        {
            "partition": record.output.partition or ALL,
            "what": name,
            "psi": value,
            "ks": record.metrics.get(f"{_KS}{name}"),
            ADDRESS: record.output.address,
        }
        for record in evaluations(model)
        for key, value in sorted(record.metrics.items(), key=lambda item: -item[1])
        if key.startswith(_PSI)
        for name in [key.removeprefix(_PSI)]
    ]
    fields = (
        TableField("what", "of what"),
        TableField("partition", "partition"),
        TableField("psi", "stability index", "number"),
        TableField("ks", "distance", "number"),
        TableField(ADDRESS, "from", "address"),
    )
    about = (
        "How far a partition is from the rows that it was compared with. Population stability index: 0 for the same "
        "distribution; above 0.25 it usually counts as another one. Distance: the largest between the two cumulative "
        "distributions, 0 to 1. The project's check of drift, if there is one, says whether it is worth a warning."
    )
    empty = "not measured: nothing that evaluates its predictions has metrics of drift"
    table_ = ReportTable("drift", "", fields, rows, empty=empty)
    found = pictures.of_drift(rows)
    return ReportSection("drift", "Drift", [table_], [ReportPicture(*found)] if found else [], about if rows else "")
