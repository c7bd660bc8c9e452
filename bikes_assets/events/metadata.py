"""Lineage as Dagster metadata: schemas with meanings, column lineage, previews, plots, links and observations."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from math import floor, isfinite, log10
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import dagster as dg

from bikes_assets.core.columns import evidence_state
from bikes_assets.core.record import Origin, Record, Version
from bikes_assets.core.texts import markdown, markdown_table, plain, shortened
from bikes_assets.events.materialized_from import INLINE, materialized_from
from bikes_assets.events.reported import CHECKSUM, MARK, RECORD, checksum, of_instance, plots_in, reading_checksum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from bikes_assets.core.schema import Schema

COLUMN_LINEAGE = "dagster/column_lineage"
CONFIG = "lineage/config"
"""Metadata key of an asset's default config."""
FUNCTION = "lineage/function"
"""Metadata key of the dotted name of the function that makes an asset; its code version is that of what it reaches."""
OPTIONAL = "lineage/optional"
"""Metadata key of the upstream assets that may have no partitions yet: parameters that are mappings, or may be None."""

_PREVIEW_ROWS = 5
_MOST_OF_CELL = 200
_FEW = 4
_FEWEST_ROWS = 3
_FIRST = ("r2", "rmse", "skill", "baseline_rmse", "mae", "bias")
"""Metrics that come first, in the order in which people look for them."""


class Drawing(Protocol):
    """A plot."""

    def svg(self) -> str:
        """Return it as SVG."""
        ...

    def small(self, fits: Callable[[str], bool]) -> str:
        """Return a version of it whose text is short enough, "" where none is."""
        ...


@dataclass(frozen=True)
class Shown:
    """What a page shows of an outcome in addition to its record.

    Attributes:
        metrics: numbers by name. Those whose names combine two or more prefixes with three or more names, such as
            `psi_temperature` and `ks_temperature`, are shown in one table.
        plots: plots by title.
        facts: texts and whole numbers by name.
        links: addresses by name.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    plots: Mapping[str, Drawing] = field(default_factory=dict)
    facts: Mapping[str, str | int] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)


def table_schema(schema: Schema, lineage: Mapping[str, Mapping[str, Sequence[str]]] | None = None) -> dg.TableSchema:
    """Return a declared schema as Dagster shows it: each column's meaning, unit, range and input columns."""
    columns = []
    for column in schema.columns:
        unit = f" Unit: {column.unit}." if column.unit else ""
        sources = [f"{asset}.{name}" for asset, names in (lineage or {}).get(column.name, {}).items() for name in names]
        unit += f" From {', '.join(sources)}." if sources else ""
        lawful = [column.constraint] if column.constraint else []
        constraints = dg.TableColumnConstraints(
            nullable=column.nullable, unique=schema.key == (column.name,), other=lawful
        )
        columns.append(dg.TableColumn(column.name, column.type, column.meaning + unit, constraints))
    return dg.TableSchema(columns)


def of_evidence(evidence: Mapping[str, Any]) -> dg.MarkdownMetadataValue:
    """Return what was observed of each column's lineage as a table; see `verification.column_lineage.Evidence`."""
    rows: list[Sequence[object]] = []
    for edge in evidence["edges"]:
        seen = edge["observed"]
        reach = f"{seen['last']} to {seen['first']}" if seen else ""
        blocked = str(edge.get("blocked", ""))  # older records do not contain it
        rows.append((edge["output"], edge["input"], evidence_state(edge["state"]), reach, edge["trials"], blocked))
    names = ("column", "computed from", "shown", "hours before", "trials", "blocked")
    return dg.MetadataValue.md("\n".join(markdown_table(names, rows)))


def column_lineage(upstream: Mapping[str, Mapping[str, Sequence[str]]]) -> dg.TableColumnLineage:
    """Return column lineage: output column to input asset to the columns that were read of it."""
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(asset, name) for asset, names in inputs.items() for name in names]
            for column, inputs in upstream.items()
        }
    )


def code_reference(function: Callable[..., Any]) -> dg.CodeReferencesMetadataValue:
    """Return where a function's code is, for Dagster's link to it."""
    code = function.__code__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        place = dg.LocalFileCodeReference(file_path=code.co_filename, line_number=code.co_firstlineno)
        return dg.CodeReferencesMetadataValue(code_references=[place])


def of_materialization(
    rows: pa.Table,
    record: Record,
    definition: Mapping[str, Any],
    *,
    before: Record | None = None,
    shown: Shown | None = None,
) -> dict[str, Any]:
    """Return a materialization's metadata in the order in which pages show it: for people first, the record last.

    Args:
        rows: the table's rows, or the model's row.
        record: its record.
        definition: metadata of the asset's definition.
        before: record of the partition's previous version, None where there is none.
        shown: what else its page shows.
    """
    shown, is_model = shown or Shown(), "card" in rows.column_names
    told = materialized_from(record, before, definition.get(FUNCTION, ""), definition.get(CONFIG))
    values: dict[str, Any] = {"Materialized from": dg.MetadataValue.md(told)}
    values |= dict(shown.facts)
    single, tables = _arranged(shown.metrics)
    if is_model and "rows" in single:  # for a model, people would take them for the rows that it was fitted on
        single["validation_rows"] = single.pop("rows")
    values |= {name: _number(value) for name, value in single.items() if (name, value) != ("rows", len(rows))}
    values |= {title: dg.MetadataValue.md(_image(title, plot)) for title, plot in shown.plots.items()}
    values |= {", ".join(columns): _table(columns, shown.metrics, names) for columns, names in tables.items()}
    if is_model:
        (row,) = rows.to_pylist()
        card = markdown_table(("setting", "value"), _facts(json.loads(row["card"])))
        values["model"] = dg.MetadataValue.md("\n".join(card))
    else:
        values["dagster/row_count"] = len(rows)
        values["preview"] = dg.MetadataValue.md("\n".join(markdown_table(rows.column_names, _preview(rows))))
    if record.evidence:
        values["column evidence"] = _evidence_table(record.evidence)
    values |= {name: dg.MetadataValue.url(url) for name, url in shown.links.items()}
    values["address"] = record.output.address
    columns: dict[str, list[tuple[str, str]]] = {}
    if COLUMN_LINEAGE in definition:
        values[COLUMN_LINEAGE] = definition[COLUMN_LINEAGE]
        told = definition[COLUMN_LINEAGE]
        told = told.value if isinstance(told, dg.TableColumnLineageMetadataValue) else told
        columns = {
            column: [(item.asset_key.to_user_string(), item.column_name) for item in parts]
            for column, parts in told.deps_by_column.items()
        }
    known = record.to_dict()
    values[CHECKSUM] = checksum(known, 0 if is_model else len(rows), columns)
    values[RECORD] = dg.MetadataValue.json(known)
    return values


def plots_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the plots in an event's metadata, SVG by title: small ones; full ones in events of earlier releases."""
    return plots_in({key: value.md_str for key, value in values.items() if isinstance(value, dg.MarkdownMetadataValue)})


def observe(instance: dg.DagsterInstance, found: Version, origin: Origin, rows: int) -> None:
    """Report a partition of an external source to Dagster, unless its latest report says the same."""
    values: dict[str, Any] = {
        "uri": origin.uri,
        "kind": origin.kind,
        "version": str(found.version),
        "bytes": origin.size,
        "files": [list(file) for file in origin.files],
        "dagster/row_count": rows,
        **({"tracked": dict(origin.tracked)} if origin.tracked else {}),
    }
    for known in of_instance(instance, found.asset, found.partition, newest_first=True):
        if known.is_reading:
            said = (known.digest, known.values["version"], known.values.get("tracked"))
            if said == (found.digest, found.version, dict(origin.tracked) or None):
                return
            break
    report(
        instance,
        dg.AssetObservation(
            dg.AssetKey.from_user_string(found.asset),
            partition=found.partition,
            metadata=values | {CHECKSUM: reading_checksum(values, found.digest)},
            tags={"dagster/data_version": found.digest},
        ),
    )


def report(
    instance: dg.DagsterInstance,
    event: dg.AssetMaterialization | dg.AssetObservation,
    *,
    run_id: str = "",
    step_key: str = "",
) -> None:
    """Report an event of ours for a run that is over, or for none where `run_id` is empty; it carries our tag."""
    event = event._replace(tags={**(event.tags or {}), MARK: "1"})
    if not run_id:
        instance.report_runless_asset_event(event)
        return
    # no public function reports an asset's event for a given run; a test pins this one
    from dagster._core.events import AssetObservationData, DagsterEvent, DagsterEventType, StepMaterializationData

    if isinstance(event, dg.AssetMaterialization):
        kind, data = DagsterEventType.ASSET_MATERIALIZATION, StepMaterializationData(event)
    else:
        kind, data = DagsterEventType.ASSET_OBSERVATION, AssetObservationData(event)
    job = instance.get_run_by_id(run_id)
    instance.report_dagster_event(
        DagsterEvent(kind.value, job.job_name if job else "", step_key=step_key, event_specific_data=data), run_id
    )


def report_decision(
    instance: dg.DagsterInstance, decision: Version, told: Mapping[str, str | bool], record: dict[str, Any]
) -> None:
    """Report a person's decision, which no run has published, as a materialization.

    Args:
        instance: Dagster's instance.
        decision: its version.
        told: what its page shows about it.
        record: its record, as JSON-ready values.
    """
    values = {
        **told,
        "address": decision.address,
        CHECKSUM: checksum(record, 0, {}),
        RECORD: dg.MetadataValue.json(record),
    }
    report(
        instance,
        dg.AssetMaterialization(
            decision.asset,
            partition=decision.partition,
            metadata=values,
            tags={"dagster/data_version": decision.digest},
        ),
    )


def _preview(rows: pa.Table) -> Iterator[list[str]]:
    """Yield the cells of the first rows; a long value is shortened to its beginning and end."""
    for row in rows.slice(0, _PREVIEW_ROWS).to_pylist():
        yield ["" if value is None else shortened(str(value), _MOST_OF_CELL) for value in row.values()]


def _image(title: str, plot: Drawing) -> str:
    """Return an image that Dagster shows inline where the plot has a version short enough, else behind a click."""

    def image(drawing: str) -> str:
        for mark in "%#<>":
            drawing = drawing.replace(mark, quote(mark))
        return f"![{markdown(title)}](<data:image/svg+xml,{drawing}>)"

    drawing = plot.small(lambda found: len(image(found)) < INLINE)
    return image(drawing or plot.svg())


def _arranged(metrics: Mapping[str, float]) -> tuple[dict[str, float], dict[tuple[str, ...], list[str]]]:
    """Return the metrics that are shown singly, the most wanted first; and the tables: prefixes to names."""
    names: dict[str, list[str]] = {}
    for metric in metrics:
        prefix, _, name = metric.partition("_")
        names.setdefault(prefix, []).append(name)
    tables: dict[tuple[str, ...], list[str]] = {}
    for found in names.values():
        alike = tuple(other for other, theirs in names.items() if theirs == found)
        if len(alike) > 1 and len(found) >= _FEWEST_ROWS:
            tables[alike] = found
    tabled = {f"{prefix}_{name}" for prefixes, found in tables.items() for prefix in prefixes for name in found}
    ordered = sorted(metrics.keys() - tabled, key=[*_FIRST, *metrics].index)
    return {name: metrics[name] for name in ordered}, tables


def _number(value: float) -> dg.MetadataValue[Any]:
    """Return a number to four significant digits; the record has them all."""
    if not isfinite(value):
        return dg.MetadataValue.text(str(value))
    if float(value).is_integer():
        return dg.MetadataValue.int(int(value))
    return dg.MetadataValue.float(round(value, max(0, 3 - floor(log10(abs(value))))))


def _table(columns: Sequence[str], metrics: Mapping[str, float], names: Sequence[str]) -> dg.TableMetadataValue:
    records = [
        dg.TableRecord(
            {"name": plain(name), **{column: _number(metrics[f"{column}_{name}"]).value for column in columns}}
        )
        for name in names
    ]
    kinds = [dg.TableColumn("name"), *(dg.TableColumn(column, "float") for column in columns)]
    return dg.MetadataValue.table(records, dg.TableSchema(kinds))


def _evidence_table(evidence: Mapping[str, Any]) -> dg.TableMetadataValue:
    """Return the evidence of column lineage, a row per column: what it is computed from, and what was observed."""
    found: dict[str, list[str]] = {}
    for edge in evidence["edges"]:
        seen = edge["observed"]
        reach = f" ({seen['last']} to {seen['first']} h before)" if seen and seen["first"] else ""
        found.setdefault(edge["output"], []).append(f"{edge['input']}: {evidence_state(edge['state'])}{reach}")
    records = [dg.TableRecord({"column": plain(name), "from": plain("; ".join(told))}) for name, told in found.items()]
    return dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn("column"), dg.TableColumn("from")]))


def _facts(card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a model's card in short: settings one by one, a nested model by its name, no metrics shown already."""
    for name, value in card.items():
        if name == "metrics" or value in (None, "", [], {}):
            continue
        if not isinstance(value, dict):
            yield name, _short(value)
        elif "name" in value:
            yield name, _short(value["name"])
        else:
            yield from ((f"{name}.{key}", _short(item)) for key, item in value.items())


def _short(value: Any) -> str:
    if isinstance(value, list):
        texts = [str(item) for item in value]
        return f"{texts[0]} .. {texts[-1]} ({len(texts)})" if len(texts) > _FEW else ", ".join(texts)
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_short(item)}" for key, item in value.items()) + ")"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
