"""An asset check that verifies the declared column lineage of an asset by perturbation."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any, cast, get_type_hints

import dagster as dg

from bikes_assets.core.errors import LineageError
from bikes_assets.events import metadata

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from bikes_assets.core.schema import Schema
    from bikes_assets.verification.column_lineage import Evidence


def column_lineage_check(
    asset: dg.AssetsDefinition,
    *,
    key: str | Collection[str] = (),
    rows: Mapping[str, Collection[str]] | None = None,
    schemas: Mapping[str, Schema] | None = None,
    given: Mapping[str, Any] | None = None,
    blocking: bool = False,
    name: str = "column_lineage",
) -> dg.AssetChecksDefinition:
    """Return a check that an asset's columns are computed from the columns that its declared column lineage names.

    It reads the current partitions of the asset's inputs through their IO managers, perturbs one column after the
    other, calls the asset's function again, and compares which of its columns move. Nothing is published.

    Args:
        asset: an asset of one function of its inputs, with column lineage: of `with_lineage` or `lineage_asset`, or in
            the metadata `dagster/column_lineage`.
        key: columns that identify a row of the asset; without them, rows are compared by their position.
        rows: by input, the columns that decide which rows one of the asset's rows is computed from, beside those that the key
            is computed from: the keys of joins and groups, and what rows are filtered by.
        schemas: by input, the allowed values of its columns.
        given: what the function takes beside its inputs, such as its config.
        blocking: whether a column that contributes and is not declared is an error, which keeps assets downstream from
            being materialized in the same run; otherwise it is a warning.
        name: name of the check.

    Raises:
        LineageError: the asset declares no column lineage; its function takes what is neither an input nor given; or an
            input has a partition mapping, which Dagster does not apply to checks.
    """
    from bikes_assets.verification.tables import check_tables, declared_of, function_of

    declared, (ins, types) = declared_of(asset), _inputs_of(asset, given or {})

    def run(context: dg.AssetCheckExecutionContext, **inputs: Any) -> dg.AssetCheckResult:
        evidence = check_tables(
            function_of(asset, context),
            {**inputs, **(given or {})},
            declared,
            key=key,
            rows=rows,
            schemas=schemas,
        )
        return _result(evidence, blocking=blocking)

    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(parameter, inspect.Parameter.POSITIONAL_OR_KEYWORD) for parameter in ("context", *ins)]
    )
    run.__annotations__ = {"context": dg.AssetCheckExecutionContext, **types}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # Dagster's partitioned checks
        return dg.asset_check(
            asset=asset,
            name=name,
            description="Its columns are computed from the columns that its column lineage names, verified by perturbation.",
            blocking=blocking,
            additional_ins=ins,
            partitions_def=asset.partitions_def,
        )(run)


def _inputs_of(asset: dg.AssetsDefinition, given: Mapping[str, Any]) -> tuple[dict[str, dg.AssetIn], dict[str, Any]]:
    """Return the inputs of an asset's function by parameter, and their types.

    Raises:
        LineageError: a parameter is neither an input nor given, or reads other partitions than the asset's own.
    """
    compute, name = cast("Any", asset.op.compute_fn), asset.key.to_user_string()
    function, ins = inspect.unwrap(compute.decorated_fn), dict[str, dg.AssetIn]()
    for place, parameter in enumerate(inspect.signature(function).parameters):
        if key := asset.keys_by_input_name.get(parameter):
            mapping = asset.get_partition_mapping_for_dep(key)
            if not isinstance(mapping, dg.IdentityPartitionMapping | None):
                raise LineageError(
                    f"{name}: found a {type(mapping).__name__} of its input {parameter}, expected none, because Dagster's checks "
                    "read the same partition of each input; verify it in a test by assert_column_lineage"
                )
            ins[parameter] = dg.AssetIn(key)
        elif parameter not in given and (parameter, place) != ("context", 0):
            raise LineageError(f"{name}: its function takes {parameter}, which is no input; expected it in `given`")
    return ins, {name: kind for name, kind in get_type_hints(function).items() if name in ins}


def _result(evidence: Evidence, *, blocking: bool) -> dg.AssetCheckResult:
    """Return what was observed as the result of a check: what contradicts the declaration, and what it is silent about."""
    undeclared = [f"{name} is returned, and nothing is declared of it" for name in evidence.undeclared]
    # with a column of one value there is nothing to perturb: this is no error
    failed = [item.message for item in evidence.unverified if item.failed]
    problems = [*(item.message for item in evidence.findings), *undeclared, *failed]
    unseen = [f"{output} from {column}" for output, column in evidence.not_observed]
    told = "; ".join(problems) or f"as declared, on {evidence.trials:,} perturbed tables"
    return dg.AssetCheckResult(
        passed=not problems,
        severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
        description=f"{told}; declared, not observed: {', '.join(unseen)}" if unseen else told,
        metadata={
            "contribute, not declared": sorted({f"{item.output} from {item.column}" for item in evidence.findings}),
            "declared, not observed": unseen,
            "trials": evidence.trials,
            "rows": evidence.rows,
            "column evidence": metadata.of_evidence(evidence.to_dict()),
            "not perturbed": [*evidence.unchecked, *(item.message for item in evidence.unverified)],
            "code uses": [*evidence.signals],
        },
    )
