"""Facets of datasets: what a table, model or file is, in which version, and what was read of it or written to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from openlineage.client.facet_v2 import (
    DatasetFacet,
    InputDatasetFacet,
    OutputDatasetFacet,
    base_subset_dataset,
    data_quality_assertions_dataset,
    data_quality_metrics_dataset,
    dataset_type_dataset,
    dataset_version_dataset,
    datasource_dataset,
    documentation_dataset,
    input_statistics_input_dataset,
    lifecycle_state_change_dataset,
    output_statistics_output_dataset,
    ownership_dataset,
    schema_dataset,
    storage_dataset,
    symlinks_dataset,
    tags_dataset,
)

from bikes_assets.core.address import ModelRef, parse_address
from bikes_assets.lineage.openlineage.catalog import is_stored, use_of
from bikes_assets.lineage.openlineage.names import dataset_at
from bikes_assets.lineage.openlineage.run_facets import SOURCE, severity
from bikes_assets.tracking.names import model_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bikes_assets.core.record import Record, Version
    from bikes_assets.core.schema import Schema
    from bikes_assets.events.reported import Reported
    from bikes_assets.lineage.openlineage.catalog import Catalog
    from bikes_assets.lineage.openlineage.history import CheckResult

Facets: TypeAlias = "dict[str, DatasetFacet]"
_CHAMPION = "champion"


def of_input(versions: Sequence[Version], record: Record, catalog: Catalog) -> Facets:
    """Return what is known of a dataset that was read: of the partitions of one asset."""
    newest = max(versions, key=lambda item: (isinstance(item.version, int), item.version))
    asset, source = newest.asset, use_of(newest, record)
    schema = catalog.schemas.get(asset)
    facets: Facets = {"version": dataset_version_dataset.DatasetVersionDatasetFacet(str(newest.version))}
    if is_stored(newest):
        models = {ModelRef.parse(model["origin"]).address for model in record.models if model["origin"]}
        is_model = asset in {parse_address(address)[0] for address in models}
        facets |= _stored(catalog.table(asset), "TABLE" if schema else "MODEL" if is_model else None)
    elif source:
        kind = "TABLE" if source.source["kind"] == "sql" else "FILE"
        facets |= {
            "dataSource": _data_source(source.source["uri"]),
            "datasetType": dataset_type_dataset.DatasetTypeDatasetFacet(kind),
            **({"schema": _schema(schema, schema.names)} if schema else {}),
            **_documentation(catalog.described.get(asset)),
        }
    return facets


def of_output(reported: Reported, record: Record, checks: Sequence[CheckResult], catalog: Catalog) -> Facets:
    """Return what is known of a dataset that was written."""
    output = record.output
    schema = catalog.schemas.get(output.asset)
    of_columns = _schema(schema, record.columns) if record.columns else None
    state = lifecycle_state_change_dataset.LifecycleStateChange
    facets: Facets = {
        "version": dataset_version_dataset.DatasetVersionDatasetFacet(str(output.version)),
        "lifecycleStateChange": lifecycle_state_change_dataset.LifecycleStateChangeDatasetFacet(
            state.CREATE if output.version == 1 else state.OVERWRITE
        ),
        "tags": tags_dataset.TagsDatasetFacet([*_tags(output.digest, schema, record)]),
        **_stored(catalog.table(output.asset), "TABLE" if record.columns else "MODEL" if record.models else None),
        **_documentation(catalog.described.get(output.asset)),
        **_ownership(catalog.owners.get(output.asset, ())),
        **_symlinks(reported, record, catalog),
        **_quality(record, checks, reported.values.get("dagster/row_count") if record.columns else None),
    }
    return facets | ({"schema": of_columns} if of_columns else {})


def read_of(versions: Sequence[Version], record: Record) -> dict[str, InputDatasetFacet]:
    """Return which partitions of a dataset were read, each in which version, and how much that was."""
    facets = dict[str, InputDatasetFacet]()
    if condition := _partitions(versions):
        facets["subset"] = base_subset_dataset.InputSubsetInputDatasetFacet(condition)
    uses = {use.partitions: use for use in record.datasets if use.asset == versions[0].asset}
    parts = sorted(part for keys in uses for part in keys or ("",))
    if uses and parts == sorted(item.partition or "" for item in versions):  # each once, and all of them
        source = next(iter(uses.values())).source
        facets["inputStatistics"] = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
            rowCount=sum(use.rows for use in uses.values()),
            size=source["size"] or None,
            fileCount=len(source["files"]) or None,
        )
    return facets


def written_to(reported: Reported, record: Record) -> dict[str, OutputDatasetFacet]:
    """Return which partition of a dataset was written, and how many rows."""
    facets = dict[str, OutputDatasetFacet]()
    if condition := _partitions([record.output]):
        facets["subset"] = base_subset_dataset.OutputSubsetOutputDatasetFacet(condition)
    rows = reported.values.get("dagster/row_count")
    if rows is not None and record.columns:
        facets["outputStatistics"] = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=rows)
    return facets


def _stored(location: str, kind: str | None) -> Facets:
    """Return what is the same of every table of the lake."""
    return {
        "dataSource": _data_source(location),
        "storage": storage_dataset.StorageDatasetFacet(storageLayer="delta", fileFormat="parquet"),
        **({"datasetType": dataset_type_dataset.DatasetTypeDatasetFacet(kind)} if kind else {}),
    }


def _data_source(location: str) -> datasource_dataset.DatasourceDatasetFacet:
    namespace, name = dataset_at(location)
    uri = f"file://{name}" if namespace == "file" else f"{namespace}/{name.removeprefix('/')}"
    return datasource_dataset.DatasourceDatasetFacet(name=namespace, uri=uri)


def _schema(schema: Schema | None, names: Sequence[str] | Mapping[str, str]) -> schema_dataset.SchemaDatasetFacet:
    """Return columns with what is declared of them, in the order in which they are declared."""
    declared = {column.name: column for column in schema.columns} if schema else {}
    ordered = [name for name in declared if name in names] + [name for name in names if name not in declared]
    is_declared = len(ordered) == len(declared) and declared.keys() >= {*ordered}
    return schema_dataset.SchemaDatasetFacet(
        [
            schema_dataset.SchemaDatasetFacetFields(
                name=name,
                type=declared[name].type if name in declared else None,
                description=_described(declared[name].meaning, declared[name].unit) if name in declared else None,
                ordinal_position=place if is_declared else None,
                fields=None,
            )
            for place, name in enumerate(ordered, 1)
        ]
    )


def _described(meaning: str, unit: str) -> str | None:
    return (f"{meaning} Unit: {unit}." if unit else meaning) or None


def _documentation(text: str | None) -> Facets:
    if not text:
        return {}
    return {"documentation": documentation_dataset.DocumentationDatasetFacet(text, contentType="text/plain")}


def _ownership(owners: Sequence[str]) -> Facets:
    if not owners:
        return {}
    return {"ownership": ownership_dataset.OwnershipDatasetFacet([ownership_dataset.Owner(name) for name in owners])}


def _tags(digest: str, schema: Schema | None, record: Record) -> Iterator[tags_dataset.TagsDatasetFacetFields]:
    """Yield the content digest, and the tags of columns: `licence: CC BY 4.0` is a key and its value."""
    yield tags_dataset.TagsDatasetFacetFields("digest", digest, SOURCE)
    for column in schema.columns if schema else ():
        for tag in column.tags if column.name in record.columns else ():
            key, _, value = tag.partition(":")
            yield tags_dataset.TagsDatasetFacetFields(key.strip(), value.strip() or "true", SOURCE, column.name)


def _symlinks(reported: Reported, record: Record, catalog: Catalog) -> Facets:
    """Return what MLflow's registry calls a dataset of models: a registered model, or its alias for the one that serves."""
    names = list[str]()
    if reported.registered:
        names.append(f"models:/{model_name(record.output.asset)}")
    if record.output.asset == catalog.serving and record.models:
        serves = ModelRef.parse(record.models[0]["origin"]).address
        asset = parse_address(serves)[0] if serves else record.output.asset
        names.append(f"models:/{model_name(asset)}@{_CHAMPION}")
    if not names:
        return {}
    identifiers = [symlinks_dataset.Identifier("mlflow", name, "MODEL") for name in names]
    return {"symlinks": symlinks_dataset.SymlinksDatasetFacet(identifiers)}


def _quality(record: Record, checks: Sequence[CheckResult], rows: int | None) -> Facets:
    """Return the results of checks, and the range of each column where a check has looked for it."""
    told = {check.name: check for check in checks}
    assertions = [
        data_quality_assertions_dataset.Assertion(
            assertion=name, success=passed, params=None, **(_words(told[name]) if name in told else {})
        )
        for name, passed in (record.checks | {check.name: check.passed for check in checks}).items()
    ]
    columns = {name: _metrics(known) for name in record.columns if (known := _range(name, checks))}
    facets: dict[str, Any] = {}
    if assertions:
        facets["dataQualityAssertions"] = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(assertions)
    if rows is not None:
        facets["dataQualityMetrics"] = data_quality_metrics_dataset.DataQualityMetricsDatasetFacet(
            columns, rowCount=rows
        )
    return facets


def _words(check: CheckResult) -> dict[str, str]:
    """Return what is known of a check beside its name and its result."""
    told = {name: check.values.get(of) for name, of in (("expected", "expected"), ("actual", "found"))}
    return {"severity": severity(check), **{name: str(value) for name, value in told.items() if value is not None}}


def _range(column: str, checks: Sequence[CheckResult]) -> dict[str, float]:
    """Return the lowest and highest value of a column."""
    found = {
        side: check.values.get(f"{side} {column}")
        for check in checks
        if check.name == "ranges"
        for side in ("min", "max")
    }
    return {side: value for side, value in found.items() if isinstance(value, int | float)}


def _metrics(known: Mapping[str, float]) -> data_quality_metrics_dataset.ColumnMetrics:
    return data_quality_metrics_dataset.ColumnMetrics(**known, quantiles=None)  # pyright: ignore[reportArgumentType]


def _partitions(versions: Sequence[Version]) -> base_subset_dataset.PartitionSubsetCondition | None:
    """Return the partitions of versions, each with its address, None where there are none."""
    parts = [
        base_subset_dataset.Partition({"partition": item.partition}, item.address)
        for item in versions
        if item.partition is not None
    ]
    return base_subset_dataset.PartitionSubsetCondition(parts) if parts else None
