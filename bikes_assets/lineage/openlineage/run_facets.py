"""Facets of runs: what an attempt is part of, when, with which settings and versions, how it ended, what it was tested for."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from openlineage.client.facet_v2 import (
    RunFacet,
    error_message_run,
    execution_parameters_run,
    nominal_time_run,
    parent_run,
    processing_engine_run,
    tags_run,
    test_run,
)

from bikes_assets.core.columns import evidence_state
from bikes_assets.lineage.openlineage.custom import MetricsRunFacet
from bikes_assets.lineage.openlineage.names import parent_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bikes_assets.core.record import Record
    from bikes_assets.lineage.openlineage.history import CheckResult, PipelineRun, StepAttempt

SOURCE = "BIKES_ASSETS"
"""Who has put a tag on a run or a dataset."""
_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")
_STATUS = {"observed": "pass", "missing only": "pass", "not observed": "fail", "unverified": "skip"}
"""Evidence as the result of a test: of the declaration that an output column is computed from an input column."""


def at_start(attempt: StepAttempt, namespace: str) -> dict[str, RunFacet]:
    """Return what is known of an attempt when it begins."""
    return {
        **({"parent": parent(attempt.run, namespace)} if attempt.run else {}),
        **nominal_time(attempt.partition),
    }


def at_end(attempt: StepAttempt, namespace: str) -> dict[str, RunFacet]:
    """Return all that is known of an attempt."""
    record, facets = attempt.record, at_start(attempt, namespace)
    tests = [*_tests_of(record)] if record else [_test_of(item) for item in attempt.checks]
    if tests:
        facets["test"] = test_run.TestRunFacet(tests)
    if record:
        facets |= of_record(record)
    if attempt.outcome != "COMPLETE":
        facets |= error(attempt.error or (attempt.run.error if attempt.run else ""))
    return facets


def of_record(record: Record) -> dict[str, RunFacet]:
    """Return what a record says of its run."""
    facets: dict[str, RunFacet] = {"tags": tags_run.TagsRunFacet([*_tags_of(record)])}
    if engine := record.environment.get("libraries", {}).get("dagster"):
        facets["processing_engine"] = processing_engine_run.ProcessingEngineRunFacet(version=engine, name="Dagster")
    parameters = [*_flat("", record.config), *_flat("", record.params)]
    if parameters:
        facets["executionParameters"] = execution_parameters_run.ExecutionParametersRunFacet(
            [execution_parameters_run.ExecutionParameter(key=key, value=value) for key, value in parameters]
        )
    if record.metrics:
        facets["bikes_metrics"] = MetricsRunFacet(metrics=record.metrics, series=record.series or None)
    return facets


def parent(run: PipelineRun, namespace: str) -> parent_run.ParentRunFacet:
    """Return the Dagster run that a step is of."""
    return parent_run.ParentRunFacet(parent_run.Run(parent_id(run.id)), parent_run.Job(namespace, run.job))


def nominal_time(partition: str | None) -> dict[str, RunFacet]:
    """Return the time that a partition is of, where it is a month."""
    if not (found := _MONTH.fullmatch(partition or "")):
        return {}
    year, month = map(int, found.groups())
    after = f"{year + month // 12:04}-{month % 12 + 1:02}"
    facet = nominal_time_run.NominalTimeRunFacet(f"{partition}-01T00:00:00Z", f"{after}-01T00:00:00Z")
    return {"nominalTime": facet}


def error(message: str) -> dict[str, RunFacet]:
    """Return why something failed, as far as it is known."""
    return {"errorMessage": error_message_run.ErrorMessageRunFacet(message, "python")} if message else {}


def severity(check: CheckResult) -> str:
    """Return the severity of a check, as OpenLineage calls it."""
    return "error" if check.blocking else "warn"


def _tags_of(record: Record) -> Iterator[tags_run.TagsRunFacetFields]:
    """Yield ids and versions by which a run is found elsewhere, and what it ran in."""
    environment = record.environment
    models = [model for model in record.models if model.get("mlflow_model_id")]
    values: dict[str, Any] = {
        "code_version": record.code_version,
        **{name: value for name, value in record.made_by.items() if name not in ("step_key", "process")},
        **(
            {"mlflow_model_id": ", ".join(dict.fromkeys(str(item["mlflow_model_id"]) for item in models))}
            if models
            else {}
        ),
        **{name: environment.get(name) for name in ("git_commit", "git_diff", "lock", "python", "machine")},
        **environment.get("libraries", {}),
    }
    yield from (tags_run.TagsRunFacetFields(key, str(value), SOURCE) for key, value in values.items() if value)


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield settings with dotted names, `parameters.learning_rate`, and their values as text."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)


def _test_of(check: CheckResult) -> test_run.TestExecution:
    """Return a check of what was not published."""
    told = {name: _text(check.values.get(of)) for name, of in (("expected", "expected"), ("actual", "found"))}
    return test_run.TestExecution(
        name=check.name,
        status="pass" if check.passed else "fail",
        severity=severity(check),
        type="asset_check",
        params=None,
        **told,
    )


def _tests_of(record: Record) -> Iterator[test_run.TestExecution]:
    """Yield what perturbation has shown of each declared dependency between columns."""
    for edge in record.evidence.get("edges", ()):
        state = evidence_state(edge["state"])
        yield test_run.TestExecution(
            name=f"{edge['output']} from {edge['input']}",
            status=_STATUS.get(state, "skip"),
            severity="warn",
            type="column_lineage",
            description="The output column changes where the input column is perturbed.",
            expected="observed",
            actual=state,
            params={"output": edge["output"], "input": edge["input"], "trials": edge["trials"]},
        )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
