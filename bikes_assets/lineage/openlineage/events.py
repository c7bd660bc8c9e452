"""Runs as OpenLineage's events, in the order of their times: one job for each asset, with the Dagster run as its parent."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attr
from openlineage.client import event_v2 as ol
from openlineage.client.facet_v2 import (
    JobFacet,
    documentation_job,
    job_type_job,
    ownership_job,
    source_code_location_job,
    sql_job,
)
from openlineage.client.serde import Serde

from bikes_assets.core.secrets import scrubbed
from bikes_assets.lineage.openlineage import dataset_facets, run_facets
from bikes_assets.lineage.openlineage.catalog import use_of
from bikes_assets.lineage.openlineage.column_lineage import column_lineage, contributions, lineage
from bikes_assets.lineage.openlineage.custom import HOME
from bikes_assets.lineage.openlineage.names import DatasetName, parent_id, run_id
from bikes_assets.lineage.projection import models_beside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bikes_assets.core.record import Record, Version
    from bikes_assets.lineage.openlineage.catalog import Catalog
    from bikes_assets.lineage.openlineage.history import PipelineRun, StepAttempt

    Timed = tuple[float, ol.RunEvent]

_ENDS = {"SUCCESS": "COMPLETE", "FAILURE": "FAIL", "CANCELED": "ABORT"}
"""Dagster's statuses of runs that are over, as OpenLineage calls them."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which attempts events are of; by default all.

    Attributes:
        runs: ids of Dagster runs, none for any.
        places: assets, or assets and partitions, none for any.
        since: attempts that ended then or later, Unix seconds, or are still going on.
    """

    runs: frozenset[str] = frozenset()
    places: frozenset[tuple[str, str | None]] = frozenset()
    since: float = 0.0

    def has(self, attempt: StepAttempt) -> bool:
        """Return whether an attempt is among them."""
        run = attempt.run.id if attempt.run else ""
        place = (attempt.asset, attempt.partition)
        ended = attempt.ended
        return (
            (not self.runs or run in self.runs)
            and (not self.places or place in self.places or (attempt.asset, None) in self.places)
            and (ended is None or ended >= self.since)
        )


def events(
    history: Iterable[tuple[PipelineRun | None, Sequence[StepAttempt]]], catalog: Catalog, chosen: Selection
) -> Iterator[dict[str, Any]]:
    """Yield events as JSON-ready values without secrets, in the order of their times; no more than a few runs are in memory.

    Args:
        history: runs by start, each with its attempts; see `history.history`.
        catalog: the project.
        chosen: which attempts.
    """
    yield from map(Serde.to_dict, run_events(history, catalog, chosen))


def run_events(
    history: Iterable[tuple[PipelineRun | None, Sequence[StepAttempt]]], catalog: Catalog, chosen: Selection
) -> Iterator[ol.RunEvent]:
    """Yield the same events as objects, as transports take them."""
    ol.set_producer(HOME)
    yield from map(_scrubbed, _in_order(_of_runs(history, catalog, chosen)))


def line(event: dict[str, Any]) -> str:
    """Return an event as one line of JSON."""
    return json.dumps(event, sort_keys=True)


def _of_runs(
    history: Iterable[tuple[PipelineRun | None, Sequence[StepAttempt]]], catalog: Catalog, chosen: Selection
) -> Iterator[tuple[float, list[Timed]]]:
    """Yield each run's events with a time that no event of a later run precedes."""
    for run, attempts in history:
        found = [event for attempt in attempts if chosen.has(attempt) for event in _of_attempt(attempt, catalog)]
        if run and (found or chosen == Selection()):
            found += _of_parent(run, catalog)
        yield run.start if run else (attempts[0].ended or 0.0), found


def _in_order(runs: Iterable[tuple[float, list[Timed]]]) -> Iterator[ol.RunEvent]:
    """Yield events by their times; runs come by their starts, and may overlap."""
    waiting, number = list[tuple[float, int, ol.RunEvent]](), count()
    for start, found in runs:
        while waiting and waiting[0][0] < start:
            yield heappop(waiting)[2]
        for time, event in found:
            heappush(waiting, (time, next(number), event))
    while waiting:
        yield heappop(waiting)[2]


def _of_parent(run: PipelineRun, catalog: Catalog) -> Iterator[Timed]:
    """Yield the start and the end of a Dagster run."""
    kind = job_type_job.JobTypeJobFacet(processingType="BATCH", integration="DAGSTER", jobType="JOB")
    job = ol.Job(catalog.namespace, run.job, {"jobType": kind})
    yield run.start, _event("START", run.start, ol.Run(parent_id(run.id)), job)
    if run.end is not None and run.status in _ENDS:
        facets = run_facets.error(run.error) if run.status != "SUCCESS" else {}
        yield run.end, _event(_ENDS[run.status], run.end, ol.Run(parent_id(run.id), facets), job)


def _of_attempt(attempt: StepAttempt, catalog: Catalog) -> Iterator[Timed]:
    """Yield the start and the end of an attempt, as far as they are known."""
    identifier, record = run_id(attempt), attempt.record
    job = ol.Job(catalog.namespace, attempt.asset, _of_job(attempt.asset, catalog))
    if attempt.start is not None:
        run = ol.Run(identifier, run_facets.at_start(attempt, catalog.namespace))
        yield attempt.start, _event("START", attempt.start, run, job)
    ended = attempt.ended
    if attempt.outcome is None or ended is None:
        return
    run = ol.Run(identifier, run_facets.at_end(attempt, catalog.namespace))
    if record is None:
        yield ended, _event(attempt.outcome, ended, run, job)
        return
    inputs, outputs, facets = _datasets(attempt, record, catalog)
    job = ol.Job(job.namespace, job.name, (job.facets or {}) | facets | _of_code(record, catalog))
    yield ended, _event(attempt.outcome, ended, run, job, inputs, outputs)


def _datasets(
    attempt: StepAttempt, record: Record, catalog: Catalog
) -> tuple[list[ol.InputDataset], list[ol.OutputDataset], dict[str, JobFacet]]:
    """Return what was read and written, and the job's facets that say how the one was computed from the other."""
    reported = attempt.reported
    assert reported is not None  # noqa: S101 - it has a record
    beside = [replace(item, version=int(item.version)) for item in models_beside(record)]
    versions = [*record.inputs, *(() if record.columns else beside)]
    read = dict[DatasetName, list["Version"]]()
    for item in versions:
        read.setdefault(catalog.dataset(item, record), []).append(item)
    found = contributions(record, versions, reported.column_lineage, catalog)
    output = catalog.dataset(record.output, record)
    facets = dataset_facets.of_output(reported, record, attempt.checks, catalog) | column_lineage(found)
    inputs = [
        ol.InputDataset(
            *name,
            facets=dataset_facets.of_input(items, record, catalog),
            inputFacets=dataset_facets.read_of(items, record),
        )
        for name, items in read.items()
    ]
    outputs = [ol.OutputDataset(*output, facets=facets, outputFacets=dataset_facets.written_to(reported, record))]
    return inputs, outputs, {"lineage": lineage(output, read, found), **_query(versions, record)}


def _of_job(asset: str, catalog: Catalog) -> dict[str, JobFacet]:
    """Return what is the same of an asset's job in each run."""
    kind = job_type_job.JobTypeJobFacet(processingType="BATCH", integration="DAGSTER", jobType="ASSET")
    text = catalog.described.get(asset)
    told: dict[str, JobFacet] = {"jobType": kind}
    if text:
        told["documentation"] = documentation_job.DocumentationJobFacet(text, contentType="text/plain")
    if owners := catalog.owners.get(asset):
        told["ownership"] = ownership_job.OwnershipJobFacet([ownership_job.Owner(name) for name in owners])
    return told


def _of_code(record: Record, catalog: Catalog) -> dict[str, JobFacet]:
    """Return where the code is, and the commit that ran."""
    commit = record.environment.get("git_commit")
    if not commit:
        return {}
    url = Path(catalog.code).absolute().as_uri()
    return {"sourceCodeLocation": source_code_location_job.SourceCodeLocationJobFacet("git", url, version=commit)}


def _query(versions: Sequence[Version], record: Record) -> dict[str, JobFacet]:
    """Return the query by which a source was read."""
    uses = [use for item in versions if (use := use_of(item, record)) and use.source["kind"] == "sql"]
    return {"sql": sql_job.SQLJobFacet(uses[0].source["name"])} if uses else {}


def _event(
    state: str,
    time: float,
    run: ol.Run,
    job: ol.Job,
    inputs: list[ol.InputDataset] | None = None,
    outputs: list[ol.OutputDataset] | None = None,
) -> ol.RunEvent:
    told = datetime.fromtimestamp(time, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return ol.RunEvent(
        eventType=ol.RunState(state), eventTime=told, run=run, job=job, inputs=inputs or [], outputs=outputs or []
    )


def _scrubbed(values: Any) -> Any:
    """Return values without secrets in their texts; those of an object are replaced in it, as its class must stay."""
    match values:
        case str():
            return scrubbed(values)
        case dict():
            return {name: _scrubbed(value) for name, value in values.items()}
        case list():
            return [_scrubbed(value) for value in values]
        case _ if attr.has(type(values)):
            for name in (field.name for field in attr.fields(type(values))):
                object.__setattr__(values, name, _scrubbed(getattr(values, name)))
            return values
        case _:
            return values
