"""Lineage as Dagster metadata: schemas with meanings, column lineage, previews, plots, links and observations."""

from __future__ import annotations

import base64
import warnings
from typing import TYPE_CHECKING, Any, Protocol

import dagster as dg

from bikes_assets.adapters.reported import CHECKSUM, MARK, RECORD, checksum, of_instance, reading_checksum
from bikes_assets.lineage.graph import Origin, Record, Version, partition_address
from bikes_assets.lineage.texts import markdown, markdown_table, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from bikes_assets.lineage.schema import Schema

COLUMN_LINEAGE = "dagster/column_lineage"
CONFIG = "lineage/config"
"""Metadata key of the config that an asset gets where none is given."""
FUNCTION = "lineage/function"
"""Metadata key of the dotted name of the function that makes an asset; its code version is that of what it reaches."""
OPTIONAL = "lineage/optional"
"""Metadata key of the upstream assets of which nothing has to be there: parameters that are mappings, or may be None."""

_PREVIEW_ROWS = 5
_MOST_OF_CELL = 200


class Drawing(Protocol):
    """A plot."""

    def svg(self) -> str:
        """Return it as SVG."""
        ...


def table_schema(schema: Schema) -> dg.TableSchema:
    """Return a declared schema as Dagster shows it: each column's meaning, unit and range."""
    columns = []
    for column in schema.columns:
        unit = f" Unit: {column.unit}." if column.unit else ""
        lawful = [column.constraint] if column.constraint else []
        constraints = dg.TableColumnConstraints(
            nullable=column.nullable, unique=schema.key == (column.name,), other=lawful
        )
        columns.append(dg.TableColumn(column.name, column.type, column.meaning + unit, constraints))
    return dg.TableSchema(columns)


def of_evidence(evidence: Mapping[str, Any]) -> dg.MarkdownMetadataValue:
    """Return what was shown of each column's lineage as a table; see `lineage.evidence.Evidence`."""
    rows: list[Sequence[object]] = []
    for edge in evidence["edges"]:
        seen = edge["observed"]
        reach = f"{seen['last']} to {seen['first']}" if seen else ""
        blocked = str(edge.get("blocked", ""))  # older records do not tell
        rows.append((edge["output"], edge["input"], edge["state"], reach, edge["trials"], blocked))
    names = ("column", "made from", "shown", "hours before", "trials", "blocked")
    return dg.MetadataValue.md("\n".join(markdown_table(names, rows)))


def column_lineage(upstream: Mapping[str, Mapping[str, Sequence[str]]]) -> dg.TableColumnLineage:
    """Return column lineage: output column to input asset to the columns of it that were read."""
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


def of_materialization(rows: pa.Table, record: dict[str, Any], definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return a materialization's metadata: the record, row count, address, column lineage and a preview."""
    shown = rows.drop_columns([name for name in ("card",) if name in rows.column_names])
    values: dict[str, Any] = {
        RECORD: dg.MetadataValue.json(record),
        "dagster/row_count": len(rows),
        "address": Version(**record["output"]).address,
        "preview": dg.MetadataValue.md("\n".join(markdown_table(shown.column_names, _preview(shown)))),
    }
    columns: dict[str, list[tuple[str, str]]] = {}
    if COLUMN_LINEAGE in definition:
        values[COLUMN_LINEAGE] = definition[COLUMN_LINEAGE]
        told = definition[COLUMN_LINEAGE]
        told = told.value if isinstance(told, dg.TableColumnLineageMetadataValue) else told
        columns = {
            column: [(item.asset_key.to_user_string(), item.column_name) for item in parts]
            for column, parts in told.deps_by_column.items()
        }
    values[CHECKSUM] = checksum(record, len(rows), columns)
    return values


def of_outcome(metrics: Mapping[str, float], figures: Mapping[str, Drawing]) -> dict[str, Any]:
    """Return metrics as numbers and plots as images."""
    numbers = {name: dg.MetadataValue.float(float(value)) for name, value in metrics.items()}
    return numbers | {title: dg.MetadataValue.md(_image(title, figure)) for title, figure in figures.items()}


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
    """Report an event of ours, of a run that is over, or of none where `run_id` is empty; it bears the mark of ours."""
    event = event._replace(tags={**(event.tags or {}), MARK: "1"})
    if not run_id:
        instance.report_runless_asset_event(event)
        return
    # no public way leads an asset's event to the run that it belongs to; a test pins this one
    from dagster._core.events import AssetObservationData, DagsterEvent, DagsterEventType, StepMaterializationData

    if isinstance(event, dg.AssetMaterialization):
        kind, data = DagsterEventType.ASSET_MATERIALIZATION, StepMaterializationData(event)
    else:
        kind, data = DagsterEventType.ASSET_OBSERVATION, AssetObservationData(event)
    job = instance.get_run_by_id(run_id)
    instance.report_dagster_event(
        DagsterEvent(kind.value, job.job_name if job else "", step_key=step_key, event_specific_data=data), run_id
    )


def note(record: Record) -> str:
    """Return what MLflow shows on a run's page: what was made, and from what."""
    output = record.output
    inputs = "\n".join(f"- {markdown(item.address)}" for item in record.inputs[-30:])
    older = len(record.inputs) - 30
    more = f"\n- and {older} earlier" if older > 0 else ""
    title = markdown(partition_address(output.asset, output.partition))
    return f"**{title}** at table version {output.version}\n\nMade from:\n{inputs}{more}"


def _preview(rows: pa.Table) -> Iterator[list[str]]:
    """Yield the cells of the first rows; of a long value, its beginning and end."""
    for row in rows.slice(0, _PREVIEW_ROWS).to_pylist():
        yield ["" if value is None else shortened(str(value), _MOST_OF_CELL) for value in row.values()]


def _image(title: str, figure: Drawing) -> str:
    return f"![{markdown(title)}](data:image/svg+xml;base64,{base64.b64encode(figure.svg().encode()).decode()})"
