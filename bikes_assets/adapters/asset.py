"""What all assets with a lineage have in common, said once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from bikes_assets.adapters import metadata
from bikes_assets.adapters.lake import Outcome
from bikes_assets.lineage.code import code_version
from bikes_assets.lineage.errors import NothingToDo
from bikes_assets.lineage.schema import Schema


def lineage_asset(
    *,
    partitions: dg.PartitionsDefinition,
    ins: Mapping[str, dg.AssetIn],
    group: str,
    kinds: set[str],
    io_manager: str = "tables",
    schema: Schema | None = None,
    lineage: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    owners: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., Outcome]], dg.AssetsDefinition]:
    """Return a decorator that makes an asset of a function that returns an `Outcome`.

    It adds what each asset has: the docstring as description, code version, owners, column schema, column lineage and a
    reference to the code; and it skips a partition that has nothing to work on.

    Args:
        partitions: the asset's partitions.
        ins: upstream assets by parameter, with their partition mappings.
        group: Dagster's asset group.
        kinds: what it is made with.
        io_manager: `tables` or `models`.
        schema: declared columns, for a table.
        lineage: output column to input asset to the columns of it that it is made from.
        owners: teams (`team:name`) or people (by e-mail).
        tags: Dagster's tags.
    """

    def decorate(function: Callable[..., Outcome]) -> dg.AssetsDefinition:
        @functools.wraps(function)
        def run(context: dg.AssetExecutionContext, **inputs: Any) -> Iterator[dg.Output[Outcome]]:
            try:
                outcome = function(context, **inputs)
            except NothingToDo as reason:
                context.log.warning(str(reason))
                return
            yield dg.Output(outcome)

        signature = inspect.signature(function)
        run.__signature__ = signature.replace(return_annotation=inspect.Signature.empty)  # type: ignore[attr-defined]
        run.__annotations__ = {key: value for key, value in function.__annotations__.items() if key != "return"}
        described: dict[str, Any] = {"dagster/code_references": metadata.code_reference(function)}
        if schema:
            described["dagster/column_schema"] = metadata.table_schema(schema)
        if lineage:
            described[metadata.COLUMN_LINEAGE] = metadata.column_lineage(lineage)
        return dg.asset(
            partitions_def=partitions,
            ins=ins,
            group_name=group,
            kinds=kinds,
            io_manager_key=io_manager,
            owners=owners,
            tags=tags,
            description=inspect.getdoc(function),
            code_version=code_version(function.__module__, function.__name__),
            metadata=described,
            output_required=False,
        )(run)

    return decorate
