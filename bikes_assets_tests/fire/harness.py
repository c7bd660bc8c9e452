"""What Dagster, the lake and MLflow say of the same runs, read from each by itself, and where they disagree.

Nothing here uses the project's own code for reconciliation: the rules are written down a second time.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from math import inf
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import DagsterEventType, DagsterRunStatus

ENDS = {
    DagsterRunStatus.SUCCESS: "FINISHED",
    DagsterRunStatus.FAILURE: "FAILED",
    DagsterRunStatus.CANCELED: "KILLED",
}
Datasets = frozenset[tuple[str, str, str]]
"""Context, name and digest of each dataset."""


@dataclass
class Attempt:
    """An attempt at a step, as Dagster's event log has it: `run id/step/number`."""

    key: str
    start: float
    end: float | None = None
    ended: str = ""


@dataclass(frozen=True)
class Materialized:
    """A materialization's event."""

    storage_id: int
    run_id: str
    step: str
    attempt: int
    address: str
    digest: str
    datasets: Datasets
    fitted: bool
    metrics: dict[str, float]
    params: dict[str, str]

    @property
    def key(self) -> str:
        return f"{self.run_id}/{self.step}/{self.attempt}"


@dataclass
class DagsterRun:
    run_id: str
    status: DagsterRunStatus
    start: float | None
    end: float | None
    attempts: list[Attempt] = field(default_factory=list)


@dataclass(frozen=True)
class MlflowRun:
    run_id: str
    status: str
    start: int
    end: int | None
    tags: dict[str, str]
    datasets: Datasets
    metrics: dict[str, float]
    points: int
    params: dict[str, str]
    parent: str


@dataclass(frozen=True)
class ModelVersion:
    number: int
    digest: str
    run_id: str
    status: str
    model_status: str


@dataclass
class State:
    """Everything that three systems say, each by itself."""

    runs: list[DagsterRun]
    made: list[Materialized]
    commits: list[str]
    parents: list[MlflowRun]
    nested: list[MlflowRun]
    versions: list[ModelVersion]


def state(instance: dg.DagsterInstance, client: Any, experiment: str, lake: Path, model: str = "ridge") -> State:
    """Read what Dagster, the lake and MLflow say.

    Args:
        instance: Dagster's instance.
        client: client of MLflow's store.
        experiment: name of the experiment.
        lake: folder of the Delta tables.
        model: asset whose materializations are registered.
    """
    runs = [_dagster_run(instance, record) for record in instance.get_run_records(ascending=True)]
    assets = sorted(folder.name for folder in lake.glob("*") if (folder / "_delta_log").exists())
    made = sorted((item for asset in assets for item in _made(instance, asset)), key=lambda item: item.storage_id)
    named = (client.get_experiment_by_name(name) for name in (experiment, f"{experiment}-lineage"))
    mlflow_runs = [
        _mlflow_run(client, run) for found in named if found for run in _all_runs(client, found.experiment_id)
    ]
    return State(
        runs,
        made,
        [address for asset in assets for address in _commits(lake / asset)],
        [run for run in mlflow_runs if not run.parent],
        [run for run in mlflow_runs if run.parent],
        _versions(client, model),
    )


def disagreements(found: State, model: str = "ridge") -> list[str]:
    """Return each disagreement between the three in a sentence; none when all is well."""
    return [
        *_of_parents(found),
        *_of_events(found),
        *_of_nested(found),
        *_of_versions(found, model),
        *_of_order(found),
    ]


def intact(store: Path) -> str:
    """Return what SQLite says of a database file: `ok` when it is whole."""
    with closing(sqlite3.connect(store)) as database:
        return str(database.execute("pragma integrity_check").fetchone()[0])


# --- rules


def _of_parents(found: State) -> Iterable[str]:
    by_run = Counter(run.tags.get("dagster_run_id", "") for run in found.parents)
    started = {run.run_id: run for run in found.runs if run.attempts}
    for run_id, run in started.items():
        if run.status not in ENDS:
            yield f"Dagster run {run_id} is {run.status.value}, and nothing executes it"
        if by_run[run_id] != 1:
            yield f"Dagster run {run_id} ({run.status.value}) has {by_run[run_id]} parents in MLflow"
    for (
        parent
    ) in found.parents:  # one may have been created before the run was interrupted on its way to the first step
        run = next((run for run in found.runs if run.run_id == parent.tags.get("dagster_run_id")), None)
        if run is None:
            yield f"MLflow's run {parent.run_id} ({parent.status}) stands for no Dagster run"
        elif parent.status != ENDS.get(run.status):
            yield f"Dagster run {run.run_id} is {run.status.value}, MLflow says {parent.status}"
        if parent.end is None:
            yield f"MLflow's run {parent.run_id} has no end"


def _of_events(found: State) -> Iterable[str]:
    events = Counter(item.address for item in found.made)
    commits = Counter(found.commits)
    for address in sorted(events.keys() | commits.keys()):
        if (commits[address], events[address]) != (1, 1):
            yield f"{address}: {commits[address]} commits in the lake, {events[address]} events in Dagster"
    attempts = {attempt.key for run in found.runs for attempt in run.attempts}
    for item in found.made:
        if item.key not in attempts:
            yield f"{item.address} is said to be made by {item.key}, which did not begin"


def _of_nested(found: State) -> Iterable[str]:
    parents = {run.run_id: run for run in found.parents}
    by_key: dict[str, list[MlflowRun]] = {}
    for run in found.nested:
        by_key.setdefault(run.tags.get("materialization", ""), []).append(run)
    made = {item.key: item for item in found.made}
    wanted = {
        attempt.key: (run, attempt)
        for run in found.runs
        for attempt in run.attempts
        if attempt.key in made or attempt.ended != "success"
    }
    for key, runs in by_key.items():
        if key not in wanted and key not in made:  # of what was made without having begun, `_of_events` tells
            yield f"MLflow's nested run {runs[0].run_id} ({runs[0].status}, {key or 'no tag'}) stands for no attempt"
    for key, (run, attempt) in wanted.items():
        runs = by_key.get(key, [])
        if len(runs) != 1:
            yield f"attempt {key} ({attempt.ended or 'interrupted'}) has {len(runs)} nested runs"
            continue
        yield from _of_one(runs[0], run, attempt, made.get(key), parents)


def _of_one(
    nested: MlflowRun, run: DagsterRun, attempt: Attempt, made: Materialized | None, parents: dict[str, MlflowRun]
) -> Iterable[str]:
    asset = attempt.key.split("/")[1]
    told = [nested.tags.get(key) for key in ("dagster_run_id", "asset", "attempt")]
    if told != [run.run_id, asset, attempt.key.split("/")[2]]:
        yield f"the nested run of {attempt.key} says {told}"
    if nested.parent not in parents or parents[nested.parent].tags.get("dagster_run_id") != run.run_id:
        yield f"the nested run of {attempt.key} has the parent {nested.parent}, which is not of its Dagster run"
    expected = "FINISHED" if made else "KILLED" if run.status == DagsterRunStatus.CANCELED else "FAILED"
    if nested.status != expected:
        yield f"attempt {attempt.key} ({run.status.value}) is {nested.status} in MLflow, expected {expected}"
    if nested.end is None:
        yield f"the nested run of {attempt.key} has no end"
    if not made:
        return
    if f"{nested.tags.get('asset')}[{nested.tags.get('partition')}]" != made.address.split("@")[0]:
        yield f"{made.address} is {nested.tags.get('asset')}[{nested.tags.get('partition')}] in MLflow"
    if nested.tags.get("digest") != made.digest:
        yield f"{made.address} has digest {made.digest}, MLflow says {nested.tags.get('digest')}"
    if nested.datasets != made.datasets:
        yield f"{made.address} has datasets {sorted(made.datasets)}, MLflow says {sorted(nested.datasets)}"
    if (nested.metrics, nested.params) != (made.metrics, made.params):
        yield f"{made.address}: MLflow says {nested.metrics}, {nested.params}, its record {made.metrics}, {made.params}"
    if nested.points != len(made.metrics):
        yield f"{made.address} has {len(made.metrics)} figures, MLflow {nested.points} points of them"


def _of_versions(found: State, model: str) -> Iterable[str]:
    fitted = _as_registered(found, [item for item in found.made if item.fitted and item.step == model])
    if [version.digest for version in found.versions] != [item.digest for item in fitted]:
        said = ", ".join(f"{version.number}: {version.digest[:8]}" for version in found.versions)
        made = ", ".join(f"{item.address} {item.digest[:8]}" for item in fitted)
        yield f"registered are {said or 'none'}; materialized were, in order, {made or 'none'}"
    keys = {run.run_id: run.tags.get("materialization") for run in found.nested}
    for version, item in zip(found.versions, fitted, strict=False):
        if keys.get(version.run_id) != item.key:
            yield f"version {version.number} is of {keys.get(version.run_id)}, expected {item.key}"
    for version in found.versions:
        if (version.status, version.model_status) != ("READY", "READY"):
            yield f"version {version.number} is {version.status}, its logged model {version.model_status}"


def _as_registered(found: State, fitted: list[Materialized]) -> list[Materialized]:
    """Return models in the order of their versions, unless that differs among runs that were not at work at once."""
    keys = {run.run_id: run.tags.get("materialization") for run in found.nested}
    numbers = {keys.get(version.run_id): version.number for version in found.versions}
    ends = {run.run_id: run.end or inf for run in found.runs}
    starts = {run.run_id: run.start or 0.0 for run in found.runs}
    for before, after in combinations(fitted, 2):
        if ends.get(before.run_id, 0.0) < starts.get(after.run_id, inf) and _of(numbers, before) > _of(numbers, after):
            return fitted
    return sorted(fitted, key=lambda item: _of(numbers, item))


def _of(numbers: dict[str | None, int], item: Materialized) -> float:
    return numbers.get(item.key, inf)


def _of_order(found: State) -> Iterable[str]:
    parents = {run.tags.get("dagster_run_id"): run for run in found.parents}
    nested = {run.tags.get("materialization"): run for run in found.nested}
    spans = [(run.start, run.end, parents[run.run_id]) for run in found.runs if run.run_id in parents]
    spans_of_attempts = [
        (item.start, item.end, nested[item.key]) for run in found.runs for item in run.attempts if item.key in nested
    ]
    for items in (spans, spans_of_attempts):
        known = sorted((item for item in items if item[0]), key=lambda item: item[0] or 0)
        for (_, end, before), (start, _, after) in pairwise(known):
            if end and start and end < start and before.start > after.start:
                yield f"MLflow's run {after.run_id} begins before {before.run_id}, which ended before it in Dagster"


# --- reading


def _dagster_run(instance: dg.DagsterInstance, record: Any) -> DagsterRun:
    run = DagsterRun(record.dagster_run.run_id, record.dagster_run.status, record.start_time, record.end_time)
    latest: dict[str, Attempt] = {}
    for entry in instance.all_logs(run.run_id):
        event = entry.dagster_event
        if event is None or event.step_key is None:
            continue
        step, kind = event.step_key, event.event_type
        if kind in (DagsterEventType.STEP_START, DagsterEventType.STEP_RESTARTED):
            number = int(latest[step].key.rpartition("/")[2]) + 1 if step in latest else 1
            latest[step] = Attempt(f"{run.run_id}/{step}/{number}", entry.timestamp)
            run.attempts.append(latest[step])
        elif step in latest:
            ended = {
                DagsterEventType.STEP_SUCCESS: "success",
                DagsterEventType.STEP_FAILURE: "failure",
                DagsterEventType.STEP_UP_FOR_RETRY: "retry",
            }.get(kind)
            if ended:
                latest[step].ended, latest[step].end = ended, entry.timestamp
    return run


def _made(instance: dg.DagsterInstance, asset: str) -> Iterable[Materialized]:
    """Yield a record's event: a materialization, or, for what was lost and then replaced, an observation with a record."""
    for fetch, name in (
        (instance.fetch_materializations, "asset_materialization"),
        (instance.fetch_observations, "asset_observation"),
    ):
        cursor, more = None, True
        while more:
            page = fetch(dg.AssetKey(asset), limit=500, cursor=cursor)
            cursor, more = page.cursor, page.has_more
            for item in page.records:
                event = getattr(item, name)
                if "lineage" in event.metadata:
                    yield _of_record(item.storage_id, event.metadata["lineage"].value)


def _of_record(storage_id: int, record: dict[str, Any]) -> Materialized:
    output, by = record["output"], record["made_by"]
    return Materialized(
        storage_id,
        by["dagster_run_id"],
        by["step_key"],
        int(by["attempt"]),
        f"{output['asset']}[{output['partition']}]@{output['version']}",
        output["digest"],
        frozenset(
            (use["context"], _name(use["asset"], use["partitions"]), use["digest"]) for use in record["datasets"]
        ),
        any(not model["origin"] for model in record["models"]),
        record["metrics"],
        record["params"] | (_rows_of(record["datasets"]) if _is_fitted(record) else {}),
    )


def _name(asset: str, partitions: Sequence[str]) -> str:
    return f"{asset}[{min(partitions)}]" if len(partitions) == 1 else f"{asset}[{min(partitions)}..{max(partitions)}]"


def _is_fitted(record: dict[str, Any]) -> bool:
    return any(not model["origin"] for model in record["models"])


def _rows_of(datasets: list[dict[str, Any]]) -> dict[str, str]:
    """Return the parameters that say which rows something was fitted on; here each role is of one month's."""
    months = {use["context"]: use["partitions"][0] for use in datasets}
    return months | {f"{use['context']}_rows": str(use["rows"]) for use in datasets}


def _commits(table: Path) -> Iterable[str]:
    for file in sorted((table / "_delta_log").glob("*.json")):
        infos = [json.loads(line).get("commitInfo") for line in file.read_text().splitlines()]
        for info in infos:
            if info and "partition" in info:
                yield f"{table.name}[{info['partition']}]@{int(file.stem)}"


def _all_runs(client: Any, experiment_id: str) -> Iterable[Any]:
    token: str | None = ""
    while token is not None:
        page = client.search_runs([experiment_id], max_results=1000, page_token=token or None)
        yield from page
        token = page.token or None


def _mlflow_run(client: Any, run: Any) -> MlflowRun:
    datasets = [(item, tag) for item in run.inputs.dataset_inputs for tag in item.tags]
    return MlflowRun(
        run.info.run_id,
        run.info.status,
        run.info.start_time,
        run.info.end_time,
        run.data.tags,
        frozenset((tag.value, item.dataset.name, item.dataset.digest) for item, tag in datasets),
        run.data.metrics,
        sum(len(client.get_metric_history(run.info.run_id, name)) for name in run.data.metrics),
        run.data.params,
        run.data.tags.get("mlflow.parentRunId", run.data.tags.get("parent_run_id", "")),
    )


def _versions(client: Any, model: str) -> list[ModelVersion]:
    found: list[ModelVersion] = []
    token: str | None = ""
    while token is not None:
        page = client.search_model_versions(f"name = '{model}'", max_results=1000, page_token=token or None)
        for version in page:
            named = re.search("m-[0-9a-f]{32}", version.source or "")
            model_id = named and named[0]
            logged = client.get_logged_model(model_id) if model_id else None
            found.append(
                ModelVersion(
                    int(version.version),
                    version.tags.get("digest", ""),
                    version.run_id or "",
                    version.status,
                    logged.status.value if logged else "not there",
                )
            )
        token = page.token or None
    return sorted(found, key=lambda version: version.number)
