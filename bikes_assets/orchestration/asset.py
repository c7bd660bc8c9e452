"""The asset decorator: what all assets with lineage have in common."""

from __future__ import annotations

import functools
import inspect
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from tempfile import gettempdir
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias, get_type_hints

import dagster as dg

from bikes_assets.core.checks import Check, Subject, Verdict, failure, run_checks, stops
from bikes_assets.core.code_version import code_version, module_of
from bikes_assets.core.errors import NothingToDo, SettingsError
from bikes_assets.core.record import fits_json
from bikes_assets.core.schema import Schema
from bikes_assets.core.staleness import KEEP, config_changes
from bikes_assets.events import metadata
from bikes_assets.events.reported import of_instance
from bikes_assets.events.retries import classified_errors, failure_of
from bikes_assets.events.up_to_date import CURRENT
from bikes_assets.orchestration.io_managers import Outcome, may_be_absent

if TYPE_CHECKING:
    from pydantic import ValidationError

    from bikes_assets.tracking.resource import Tracking

_Yielded: TypeAlias = "dg.Output[Outcome] | dg.Output[None] | dg.AssetCheckResult"


def lineage_asset(
    *,
    partitions: dg.PartitionsDefinition | None = None,
    ins: Mapping[str, dg.AssetIn] | None = None,
    group: str | None = None,
    kinds: set[str] | None = None,
    io_manager: str = "tables",
    schema: Schema | None = None,
    lineage: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    checks: Sequence[Check] = (),
    owners: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    automation: dg.AutomationCondition[Any] | None = None,
    freshness: dg.FreshnessPolicy | None = None,
    config: Mapping[str, Any] | None = None,
    up_to_date: bool = False,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Return a decorator that turns a function returning an `Outcome`, or a plain value, into an asset.

    It adds what every asset has: the docstring as description, code version, owners, column schema, column lineage,
    checks and a reference to the code; and it skips a partition that has nothing to do. Checks run before the outcome
    is published: a blocking check that fails also fails the step, so that the outcome reaches neither the lake nor
    anything downstream.

    Args:
        partitions: the asset's partitions, None if it is not partitioned.
        ins: upstream assets by parameter, with their partition mappings; by default the assets named by the parameters.
        group: Dagster's asset group.
        kinds: Dagster's kinds, the technologies that it uses.
        io_manager: `tables` or `models`.
        schema: declared columns of a table.
        lineage: output column to input asset to its columns from which the output column is computed.
        checks: checks of the outcome.
        owners: teams (`team:name`) or people (by e-mail).
        tags: Dagster's tags.
        automation: when Dagster's daemon materializes it, None for never.
        freshness: largest age of its latest materialization, None for no limit.
        config: defaults of its config that differ from those in the code. They are not part of the code version.
        up_to_date: whether it has the check `up_to_date`, which a materialization passes, and which a sensor of the
            project fails when the partition becomes stale; see `events.up_to_date`.
    """
    of_dagster: dict[str, Any] = {
        "partitions_def": partitions,
        "ins": ins,
        "group_name": group,
        "kinds": kinds,
        "io_manager_key": io_manager,
        "owners": owners,
        "tags": tags,
        "automation_condition": automation,
        "freshness_policy": freshness,
    }
    return functools.partial(_decorated, of_dagster, schema, lineage, checks, config or {}, up_to_date)


def _decorated(
    of_dagster: Mapping[str, Any],
    schema: Schema | None,
    lineage: Mapping[str, Mapping[str, Sequence[str]]] | None,
    checks: Sequence[Check],
    config: Mapping[str, Any],
    up_to_date: bool,
    function: Callable[..., Any],
) -> dg.AssetsDefinition:
    """Return the asset of a function; see `lineage_asset`."""
    stated = [*checks, CURRENT] if up_to_date else checks
    specs = _check_specs(function.__name__, stated, of_dagster["partitions_def"])

    @functools.wraps(function)
    def run(context: dg.AssetExecutionContext, **inputs: Any) -> Iterator[_Yielded]:
        effective = _effective(context, inputs["config"], described[metadata.CONFIG]) if "config" in inputs else {}
        inputs |= {"config": settled(**effective)} if settled and effective else {}
        tracking: Tracking | None = context.resources.mlflow
        try:
            with (
                classified_errors(context.retry_number + 1, gettempdir()),
                tracking.active() if tracking else nullcontext(),
            ):
                made = function(context, **inputs)
        except NothingToDo as reason:
            context.log.warning(str(reason))
            # Dagster fails a step with a check that gave no result; without one they count as skipped
            for spec in specs:
                yield dg.Output(None, output_name=spec.get_python_identifier())
            return
        outcome = replace(made if isinstance(made, Outcome) else Outcome(made), config=effective)
        yield from _checked(context, checks, outcome, inputs, up_to_date=up_to_date)

    signature = inspect.signature(function)
    run.__signature__ = signature.replace(return_annotation=inspect.Signature.empty)  # type: ignore[attr-defined]
    run.__annotations__ = {key: value for key, value in function.__annotations__.items() if key != "return"}
    if settled := _config_class(function, config):
        run.__annotations__["config"] = settled
        run.__signature__ = _with_annotation(run.__signature__, "config", settled)  # type: ignore[attr-defined]
    described = _described(run, schema, lineage)
    described[metadata.CONFIG] = json.loads(settled().model_dump_json()) if settled else {}
    return dg.asset(
        **of_dagster,
        required_resource_keys={"mlflow"},
        description=inspect.getdoc(function),
        code_version=code_version(module_of(function), function.__name__),
        metadata=described,
        output_required=False,
        check_specs=specs,
    )(run)


def _checked(
    context: dg.AssetExecutionContext,
    checks: Sequence[Check],
    outcome: Outcome,
    inputs: Mapping[str, Any],
    *,
    up_to_date: bool,
) -> Iterator[_Yielded]:
    """Yield an outcome with the results of its checks; where a blocking one fails, the results alone, and the failure."""
    asset = context.asset_key.to_user_string()
    partition = context.partition_key if context.has_partition_key else ""
    kept = _Evidence(context.instance, asset)
    subject = Subject(asset, partition, outcome.value, outcome.metrics, inputs, kept.get())
    verdicts = run_checks(checks, subject)
    results = [_result(context.asset_key, check, verdict) for check, verdict in verdicts]
    evidence = next((verdict.evidence for _, verdict in reversed(verdicts) if verdict.evidence), {})
    stopped = failure(verdicts, subject)
    kept.put(evidence, lasting=not stopped)
    if stopped:
        yield from results
        raise failure_of(stopped)
    passed = {check.name: bool(verdict.passed) for check, verdict in verdicts}
    yield dg.Output(replace(outcome, checks=passed, evidence=evidence))
    yield from results  # after the output, so that Dagster shows them with its materialization
    if up_to_date:
        yield _result(context.asset_key, CURRENT, CURRENT.function(subject))


def _effective(context: dg.AssetExecutionContext, config: dg.Config, project: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config to materialize with: the run's, or the stored one if the run has the project's.

    Differences from the project's config are logged, since they apply to this run only unless they are stored.
    """
    given = json.loads(config.model_dump_json())
    if KEEP not in given:
        return given
    changes = config_changes(project, given)
    if not changes and given[KEEP] is None:
        partition = context.partition_key if context.has_partition_key else None
        events = of_instance(context.instance, context.asset_key.to_user_string(), partition, newest_first=True)
        known = next((event.record.config for event in events if event.record), {})
        if known.get(KEEP) is True:
            context.log.info(f"This partition keeps its config: {_told(config_changes(project, known))}.")
            return dict(known)
    elif changes and given[KEEP] is None:
        context.log.warning(
            f"This config differs from the project's: {_told(changes)}. The next `bikes run` or automation tick materializes "
            f"this partition again with the project's config. To keep this one, launch it with `{KEEP}: true`."
        )
    return given


def _told(changes: Sequence[tuple[str, str, str]]) -> str:
    return "; ".join(f"{name} {now or 'none'} instead of {was or 'none'}" for name, was, now in changes)


class _Evidence:
    """Evidence of checks on an asset's function; the instance stores it, but only this process keeps failures."""

    _of_process: ClassVar[dict[str, Mapping[str, Any]]] = {}

    def __init__(self, instance: dg.DagsterInstance, asset: str) -> None:
        self.storage, self.key = instance.daemon_cursor_storage, f"bikes_assets/evidence/{asset}"

    def get(self) -> Mapping[str, Any]:
        if self.key not in self._of_process:
            self._of_process[self.key] = json.loads(self.storage.get_cursor_values({self.key}).get(self.key, "{}"))
        return self._of_process[self.key]

    def put(self, evidence: Mapping[str, Any], *, lasting: bool) -> None:
        if evidence and evidence != self.get():
            self._of_process[self.key] = evidence
            if lasting:
                self.storage.set_cursor_values({self.key: json.dumps(evidence)})


def with_lineage(
    assets: Iterable[dg.AssetsDefinition],
    lineage: Mapping[str, Mapping[str, Mapping[str, Sequence[str]]]] | None = None,
    schemas: Mapping[str, Schema] | None = None,
) -> list[dg.AssetsDefinition]:
    """Return plain Dagster assets, each of one function, with the definition metadata that a record needs.

    These are the code version (unless it is set explicitly), a reference to the code, the column schema and the column
    lineage. The IO managers do everything else, and the functions are unchanged.

    Args:
        assets: assets created by `dg.asset`.
        lineage: for an asset, output column to input asset to its columns from which the output column is computed.
        schemas: declared columns of tables, if any.
    """

    def described(spec: dg.AssetSpec, function: Callable[..., Any]) -> dg.AssetSpec:
        name = spec.key.to_user_string()
        found = _described(
            function, (schemas or {}).get(name), (lineage or {}).get(name), by_hand=bool(spec.code_version)
        )
        version = spec.code_version or code_version(module_of(function), function.__name__)
        return spec.replace_attributes(code_version=version, metadata={**found, **spec.metadata})

    def function_of(asset: dg.AssetsDefinition) -> Callable[..., Any]:
        decorated: Any = asset.op.compute_fn
        return decorated.decorated_fn

    return [asset.map_asset_specs(functools.partial(described, function=function_of(asset))) for asset in assets]


def _described(
    function: Callable[..., Any],
    schema: Schema | None,
    lineage: Mapping[str, Mapping[str, Sequence[str]]] | None,
    *,
    by_hand: bool = False,
) -> dict[str, Any]:
    """Return a definition's metadata: location of its function, and column lineage.

    A function without a source file has no location if the code version is set explicitly.
    """
    described: dict[str, Any] = {"dagster/code_references": metadata.code_reference(function)}
    try:
        described[metadata.FUNCTION] = f"{module_of(function)}.{function.__name__}"
    except SettingsError:
        if not by_hand:
            raise
    if optional := _optional(function):
        described[metadata.OPTIONAL] = optional
    if schema:
        described["dagster/column_schema"] = metadata.table_schema(schema, lineage)
    if lineage:
        described[metadata.COLUMN_LINEAGE] = metadata.column_lineage(lineage)
    return described


def _optional(function: Callable[..., Any]) -> list[str]:
    """Return the parameters of a function that may be None."""
    return [name for name, kind in get_type_hints(function).items() if name != "return" and may_be_absent(kind)]


def _config_class(function: Callable[..., Any], config: Mapping[str, Any]) -> type[dg.Config] | None:
    """Return the class of a function's config with other defaults, None if it takes no config."""
    parameter = inspect.signature(function).parameters.get("config")
    if parameter is None:
        return None
    declared: Any = parameter.annotation
    if unknown := sorted(config.keys() - declared.model_fields.keys()):
        known = ", ".join(declared.model_fields)
        raise SettingsError(f"{function.__name__}: found setting {', '.join(unknown)}, expected one of {known}")
    from pydantic import ConfigDict, Field, ValidationError, create_model, field_validator
    from pydantic_core import PydanticCustomError

    class Recorded(declared):
        """A config whose values a record can store."""

        @field_validator("*")
        @classmethod
        def _is_json(cls, value: Any) -> Any:
            if not fits_json(value):
                raise PydanticCustomError("json", "JSON has no NaN and no infinity")
            return value

    class Strict(Recorded):
        """Validate defaults as strictly as Dagster, whose error for a wrong type is a traceback while loading."""

        model_config = ConfigDict(strict=True)

    name = function.__name__
    try:
        Strict.model_validate(dict(config))
    except ValidationError as error:
        if any(item["type"] != "missing" for item in error.errors()):  # a run has to supply what has no default
            raise _refused(name, error) from None

    class Checked(Recorded):
        """A config that Dagster passes in when a step begins: invalid values give one message."""

        def __init__(self, **values: Any) -> None:
            try:
                super().__init__(**values)
            except ValidationError as error:
                failure = failure_of(_refused(name, error))
                raise failure from failure.__cause__

    fields: Any = {
        key: (
            Annotated[(field.annotation, *field.metadata, Field(description=field.description, alias=field.alias))],
            config[key],
        )
        for key, field in declared.model_fields.items()
        if key in config
    }
    settled: Any = create_model(declared.__name__, __base__=Checked, __doc__=declared.__doc__, **fields)
    return settled


def _refused(asset: str, error: ValidationError) -> SettingsError:
    """Return a line for each refused setting of an asset."""
    wrong = [item for item in error.errors() if item["type"] != "missing"] or error.errors()
    named = [".".join(map(str, item["loc"])) or "config" for item in wrong]
    lines = [
        f"{asset}: found setting {name} {item['input']!r}, expected another: {item['msg']}"
        for name, item in zip(named, wrong, strict=True)
    ]
    first = wrong[0]
    return SettingsError(*lines, setting=named[0], found=repr(first["input"]), expected=first["msg"])


def _with_annotation(signature: inspect.Signature, name: str, annotation: Any) -> inspect.Signature:
    parameters = signature.parameters
    return signature.replace(
        parameters=[item.replace(annotation=annotation) if key == name else item for key, item in parameters.items()]
    )


def _check_specs(
    asset: str, checks: Sequence[Check], partitions: dg.PartitionsDefinition | None
) -> list[dg.AssetCheckSpec]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # partitions of checks are marked as preview
        return [
            dg.AssetCheckSpec(
                check.name,
                asset=asset,
                description=check.description,
                blocking=check.blocking,
                partitions_def=partitions,
            )
            for check in checks
        ]


def _result(asset: dg.AssetKey, check: Check, verdict: Verdict) -> dg.AssetCheckResult:
    """Return what Dagster shows of a verdict; a failure that does not block is a warning."""
    only_warns = not check.blocking or (not verdict.passed and not stops(check, verdict))
    metrics = {name: dg.MetadataValue.float(float(value)) for name, value in verdict.metrics.items()}
    waived = {"waived": verdict.waived} if verdict.waived else {}
    shown = {"shown": metadata.of_evidence(verdict.evidence)} if verdict.evidence else {}
    return dg.AssetCheckResult(
        passed=bool(verdict.passed),  # Dagster does not accept NumPy's bool
        asset_key=asset,  # without it Dagster searches for the materialization again
        check_name=check.name,
        severity=dg.AssetCheckSeverity.WARN if only_warns else dg.AssetCheckSeverity.ERROR,
        description=verdict.found,
        metadata={"found": verdict.found, "expected": check.description, **waived, **metrics, **shown},
    )
