"""Which columns an output was computed from, as a record and the event that carries it say: once, for both facets of it.

`columnLineage` is what most receivers read; `lineage`, which is experimental, can name datasets without columns, such as
models, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from openlineage.client.facet_v2 import column_lineage_dataset as classic
from openlineage.client.facet_v2 import lineage as explicit

from bikes_assets.core.address import WHOLE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from bikes_assets.core.record import Record, Version
    from bikes_assets.lineage.openlineage.catalog import Catalog
    from bikes_assets.lineage.openlineage.names import DatasetName
    from bikes_assets.lineage.projection import ColumnLineage

_ROLES = {"training": "the model was fitted on it", "validation": "the model was validated on it"}


@dataclass(frozen=True, slots=True)
class Contribution:
    """A column, or a dataset without columns, that contributed to a column of the output, or to all of it.

    Attributes:
        dataset: the dataset.
        column: the column, None where the dataset has none.
        target: column of the output, None for all of it.
        type: DIRECT where values are computed from it, INDIRECT where it decides about them.
        subtype: which of OpenLineage's transformations, as far as it is known.
        description: in words.
    """

    dataset: DatasetName
    column: str | None
    target: str | None
    type: str
    subtype: str | None = None
    description: str | None = None


def contributions(
    record: Record, inputs: Sequence[Version], told: ColumnLineage, catalog: Catalog
) -> list[Contribution]:
    """Return what contributed to a version.

    Args:
        record: its record.
        inputs: the versions that it was materialized from.
        told: output column to the assets and columns that it is computed from, as its event says.
        catalog: the project.
    """
    by_asset = dict[str, list["Version"]]()
    for item in inputs:
        by_asset.setdefault(item.asset, []).append(item)
    found = list[Contribution]()
    for asset, versions in by_asset.items():
        used, dataset = record.used.get(asset), catalog.dataset(versions[0], record)
        if used == []:  # it served the metrics alone
            continue
        targets = {
            name: [column for of, column in sources if of == asset and (used is None or column in used)]
            for name, sources in told.items()
            if name in record.columns
        }
        for target, columns in targets.items():
            found += (_direct(record, versions, dataset, column, target, catalog) for column in columns)
        direct = {column for columns in targets.values() for column in columns}
        found += _indirect(record, asset, dataset, sorted({*(used or ())} - direct), catalog)
        if not direct and not used:
            found += _whole(record, asset, dataset, catalog)
    return found


def column_lineage(found: Sequence[Contribution]) -> dict[str, classic.ColumnLineageDatasetFacet]:
    """Return the facet of an output dataset; none where no column is known to have contributed."""
    fields, whole = dict[str, list[classic.InputField]](), list[classic.InputField]()
    for item in found:
        if item.column is None:
            continue
        field = classic.InputField(*item.dataset, item.column, [classic.Transformation(*_transformation(item))])
        (whole if item.target is None else fields.setdefault(item.target, [])).append(field)
    if not fields and not whole:
        return {}
    facet = classic.ColumnLineageDatasetFacet(
        {name: classic.Fields(items) for name, items in fields.items()}, whole or None
    )
    return {"columnLineage": facet}


def lineage(
    output: DatasetName, inputs: Collection[DatasetName], found: Sequence[Contribution]
) -> explicit.LineageJobFacet:
    """Return the facet of a job: what an output dataset was materialized from in this run."""
    fields, whole = dict[str, list[explicit.LineageInput]](), list[explicit.LineageInput]()
    for item in found:
        (whole if item.target is None else fields.setdefault(item.target, [])).append(_source(item))
    known = {(item.namespace, item.name) for item in whole if isinstance(item, explicit.LineageDatasetInput)}
    whole += [
        explicit.LineageDatasetInput(*name, "DATASET", transformations=None) for name in inputs if name not in known
    ]
    entry = explicit.LineageDatasetEntry(
        *output,
        "DATASET",
        whole,
        {name: explicit.LineageFieldEntry(items) for name, items in fields.items()} or None,
    )
    return explicit.LineageJobFacet([entry])


def _direct(
    record: Record, versions: Sequence[Version], dataset: DatasetName, column: str, target: str, catalog: Catalog
) -> Contribution:
    """Return a column from which another is computed; it was passed on where both have one digest.

    What has no columns, such as a model, decides about it.
    """
    if column == WHOLE:
        return Contribution(dataset, None, target, "INDIRECT")
    digest = record.columns[target]
    is_same = any(catalog.digest_of(item, column) == digest for item in versions)
    schema = catalog.schemas.get(record.output.asset)
    meaning = schema[target].meaning if schema and target in schema.names else None
    return Contribution(dataset, column, target, "DIRECT", "IDENTITY" if is_same else "TRANSFORMATION", meaning or None)


def _indirect(
    record: Record, asset: str, dataset: DatasetName, columns: Sequence[str], catalog: Catalog
) -> Iterator[Contribution]:
    """Yield the columns that were used and that no single column is computed from.

    The key of a table beside others is what its rows are matched by; a model is fitted on its columns.
    """
    key: Collection[str] = catalog.schemas[asset].key if asset in catalog.schemas else ()
    roles = [_ROLES[use.context] for use in record.datasets if use.asset == asset and use.context in _ROLES]
    for column in columns:
        if not record.columns:
            yield Contribution(dataset, column, None, "INDIRECT", None, "; ".join(dict.fromkeys(roles)) or None)
        elif column in key:
            yield Contribution(dataset, column, None, "INDIRECT", "JOIN", "rows are matched by it")
        else:
            yield Contribution(dataset, column, None, "INDIRECT")


def _whole(record: Record, asset: str, dataset: DatasetName, catalog: Catalog) -> Iterator[Contribution]:
    """Yield what a dataset contributes as a whole: a model to each column that is no key."""
    key: Collection[str] = catalog.schemas[record.output.asset].key if record.output.asset in catalog.schemas else ()
    if not record.columns:
        yield Contribution(dataset, None, None, "DIRECT")
    elif asset in catalog.schemas:
        yield Contribution(dataset, None, None, "INDIRECT")
    else:
        yield from (Contribution(dataset, None, target, "INDIRECT") for target in record.columns if target not in key)


def _source(item: Contribution) -> explicit.LineageDatasetInput:
    made = [explicit.LineageTransformation(*_transformation(item))]
    return explicit.LineageDatasetInput(*item.dataset, "DATASET", item.column, made)


def _transformation(item: Contribution) -> tuple[str, str | None, str | None]:
    return item.type, item.subtype, item.description
