"""Reconciliation of Dagster's event log with the lake and MLflow. It is idempotent.

The event log is the outbox: what MLflow did not take during a run is written later from the events' records, in their
order, once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import dagster as dg

from bikes_assets.core.address import parse_address
from bikes_assets.core.errors import LineageError, RecordError
from bikes_assets.core.record import Record, partition_address
from bikes_assets.core.secrets import scrubbed
from bikes_assets.events import metadata
from bikes_assets.events.attempts import Attempt, attempts_of, ended
from bikes_assets.events.reported import REGISTERED, of_instance
from bikes_assets.events.run_log import BACKLOG
from bikes_assets.events.workers import end_abandoned, may_report
from bikes_assets.lineage.elements import MODEL
from bikes_assets.lineage.event_log import reported_since
from bikes_assets.orchestration.reconcile_marks import (
    NONE,
    Reconciliation,
    differing,
    everything,
    evident,
    is_so,
    keep,
    kept,
    look,
)
from bikes_assets.orchestration.reconcile_registry import Registry, is_whole, models_in
from bikes_assets.storage.commits import differing as differing_record
from bikes_assets.storage.disk import locked
from bikes_assets.storage.processes import Process
from bikes_assets.storage.removals import removed_versions
from bikes_assets.tracking.client import one_by_one
from bikes_assets.tracking.model_copies import copy_from_lake, set_aliases
from bikes_assets.tracking.names import is_refusal, model_name
from bikes_assets.tracking.numbers import Numbers
from bikes_assets.tracking.resource import backlog, clear_backlog
from bikes_assets.tracking.runs import KEY, PARENT, PARENT_OF_FLAT, batched, by_attempt, end_failed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from mlflow.entities import Run, RunInfo

    from bikes_assets.lineage.index import Index
    from bikes_assets.orchestration.reconcile_marks import Marks, Scope, Stores
    from bikes_assets.storage.lake import Lake, ModelFormat
    from bikes_assets.tracking.runs import MlflowRuns

_OVER = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_DECISION_SECONDS = 30
_ROUNDS = 3
"""Largest number of times that the result of reconciliation is checked again."""
_BATCH = 100


@dataclass(frozen=True)
class Pipeline:
    """What to reconcile.

    Attributes:
        instance: Dagster's instance.
        lake: lake with tables and models.
        models: how models are written.
        assets: the lake's assets.
        connect: returns the writer of MLflow's runs, or raises TrackingError; it appends to the list what it has
            restored.
        tracking_uri: MLflow's store or server, "" for none.
        index: returns the lineage index, updated from the event log, which knows what is registered; None without one.
        stores: location of the stores and of the marks of the last reconciliation, so that only what is new is looked
            at; None to look at everything each time.
    """

    instance: dg.DagsterInstance
    lake: Lake
    models: ModelFormat
    assets: Sequence[str]
    connect: Callable[[list[str]], MlflowRuns]
    tracking_uri: str
    index: Callable[[], Index] | None = None
    stores: Stores | None = None

    def is_reconciled(self) -> bool:
        """Return whether nothing has changed since the last reconciliation, as far as that can be determined."""
        return bool(self.stores and is_so(self.stores, BACKLOG))


def sync(pipeline: Pipeline, *, whole: bool = True) -> Reconciliation:
    """Reconcile run states, events and MLflow: what is new, or has changed since the last reconciliation.

    Args:
        pipeline: what to reconcile.
        whole: whether to look at everything on an MLflow server, which does not tell which rows have changed.

    Returns:
        What was done and what is left.
    """
    reconciliation = Reconciliation()
    with locked(Path(pipeline.instance.root_directory) / ".bikes_sync.lock", seconds=600):
        for number in range(_ROUNDS):  # what was done is checked once more
            if (number and pipeline.is_reconciled()) or not _bring_together(pipeline, reconciliation, whole=whole):
                break
    return reconciliation


def _bring_together(pipeline: Pipeline, reconciliation: Reconciliation, *, whole: bool) -> bool:
    """Reconcile what may have to be, and return whether its effect on the stores can be determined now."""
    stores = pipeline.stores
    reconciliation.done += end_abandoned(pipeline.instance)
    unlogged = backlog(pipeline.instance)
    known = kept(stores) if stores else None
    now = look(stores, known) if stores else None
    scope = differing(stores, known, now, whole=whole) if stores and now else everything(pipeline.assets)
    recovered = recover_events(pipeline, scope)
    reconciliation.done += recovered.done
    reconciliation.left += recovered.left
    before = known.set_aside if known and scope.after else ()
    reconciliation.set_aside = [*dict.fromkeys((*before, *recovered.set_aside))]
    reconciliation.foreign = [*known.foreign] if known else []
    reconciliation.refused = []
    if not pipeline.tracking_uri:
        if reconciliation.left:
            return False
        clear_backlog(pipeline.instance)
        if stores and now:
            _remember(stores, known, now, recovered.unfinished, reconciliation)
        return bool(now)
    try:
        runs = replace(pipeline.connect(reconciliation.done), registered=Numbers(pipeline.instance))
        only = scope.runs
        if only is None and stores and now and not reconciliation.set_aside:
            only = now.runs.keys() - evident(stores, runs.experiment_ids)
        unlogged_attempts, unended = _settle_runs(pipeline, runs, only, reconciliation)
        # what is registered again needs its run; what is registered first needs numbers beyond those in use
        is_restored = _reconcile_registered(pipeline, runs, reconciliation, scope.registered, whole=whole)
        runs = replace(runs, is_restored=is_restored)
        refused = _log_runs(pipeline, runs, unlogged_attempts, unended, reconciliation)
        reconciliation.done += [f"MLflow: alias {change}" for change in set_aliases(runs.client, pipeline.lake)]
    except Exception as error:  # noqa: BLE001 - whatever MLflow raises: the rest is done, and this is reported
        reconciliation.left.append(scrubbed(f"MLflow: {error}", pipeline.tracking_uri))
        return False
    if reconciliation.left or unlogged != backlog(pipeline.instance):
        return False
    clear_backlog(pipeline.instance)
    if stores and now:
        now = replace(now, runs={run: state for run, state in now.runs.items() if run not in refused})
        _remember(stores, known, now, recovered.unfinished, reconciliation)
    return bool(now and now.mlflow is not None)


def _remember(
    stores: Stores, known: Marks | None, now: Marks, unfinished: Collection[str], reconciliation: Reconciliation
) -> None:
    """Keep the marks of what is reconciled; what is not, is looked at again."""
    tables = {**now.tables, **{asset: known.tables.get(asset, NONE) if known else NONE for asset in unfinished}}
    # a table that is looked at from an earlier commit on needs the events from then on, or they would count as lost
    event, log = (known.event, known.log) if known else (0, "")
    if not unfinished:
        event, log = now.event, now.log
    told = {"set_aside": reconciliation.set_aside, "foreign": reconciliation.foreign}
    marks = replace(now, event=event, log=log, tables=tables, **told)
    keep(stores, replace(marks, registry={}, database="") if reconciliation.refused else marks)


class Recovered(NamedTuple):
    """What was done about commits without an event.

    Attributes:
        done: what was done, in words.
        left: what could not be done, and why.
        set_aside: the events that are ignored as unreliable, and why.
        unfinished: the tables with a commit that its own process may still report.
    """

    done: list[str]
    left: list[str]
    set_aside: list[str]
    unfinished: list[str]


def recover_events(pipeline: Pipeline, scope: Scope | None = None) -> Recovered:
    """Report commits to the lake that never reached the event log: their process was killed in between.

    Events whose table version the lake does not have, or has with another record, are left; events that are not from
    this project are set aside.

    Args:
        pipeline: what to reconcile.
        scope: what to look at, everything by default.
    """
    scope = scope or everything(pipeline.assets)
    found = Recovered([], [], [], [])
    removed = removed_versions(pipeline.lake.location)
    reported: dict[str, dict[int, Record]] = {}
    stores = pipeline.stores
    for event in reported_since(stores.events, scope.after) if stores else of_instance(pipeline.instance):
        if event.record:
            reported.setdefault(event.asset, {})[int(event.record.output.version)] = event.record
        elif event.set_aside:
            found.set_aside.append(event.set_aside)
    for asset in pipeline.assets:
        known, first = reported.get(asset, {}), scope.tables.get(asset)
        if known or first is not None:
            _recover_table(pipeline, found, asset, known, removed, first)
    return found


def _recover_table(
    pipeline: Pipeline,
    found: Recovered,
    asset: str,
    known: Mapping[int, Record],
    removed: Collection[str],
    first: int | None,
) -> None:
    """Compare the commits of a table with their events.

    Args:
        pipeline: what to reconcile.
        found: collects what was done, and what is left.
        asset: the asset of the table.
        known: the records of events, by version.
        removed: addresses of versions that retention has removed: events about their rows cannot be verified any more.
        first: the first commit that must have an event, None for none.
    """
    table = pipeline.lake.table(asset)
    listed = table.commits(lambda version: version in known or (first is not None and version >= first))
    commits = {commit.version: commit for commit in listed}
    found.left.extend(
        filter(None, (differing_record(record, commits.get(version), table.uri) for version, record in known.items()))
    )
    untold = sorted(commits.keys() - known.keys())
    newest = {key: commit.version for key, commit in table.published().items()} if untold else {}
    for version in untold:
        commit = commits[version]
        try:
            record = Record.from_dict(commit.record).at(version)
        except RecordError as error:
            found.left.append(f"{asset}@{version}: {error}; restore {table.uri}")
            continue
        if not _is_over(pipeline.instance, record, commit.time):
            found.unfinished.append(asset)
        elif record.output.address not in removed:
            _report(pipeline, record, is_present=newest[commit.partition] == version)
            found.done.append(f"{record.output.address}: was committed, and is now in the event log")


def _reconcile_registered(
    pipeline: Pipeline, runs: MlflowRuns, reconciliation: Reconciliation, only: Collection[str] | None, *, whole: bool
) -> bool:
    """Make MLflow's registry match the event log, and report to the event log what it does not know of the registry.

    Args:
        pipeline: what to reconcile.
        runs: MLflow's runs.
        reconciliation: collects what was done, and what cannot be.
        only: registered versions to look at, as in `reconcile_marks.Scope`, None for all.
        whole: whether to check, too, that the logged models of all versions exist.

    Returns:
        Whether the registry has every version that the event log knows.
    """
    if pipeline.index is None:
        return False
    if only is not None and not only:
        return True
    reconciliation.foreign = []
    names = None if only is None else [name.rpartition("/") for name in only]
    index = pipeline.index()
    found = Registry(runs, pipeline.lake, pipeline.models, index, removed_versions(pipeline.lake.location))
    numbers = Numbers(pipeline.instance)
    for asset in models_in(index, pipeline.assets):
        numbers_of = None if names is None else {int(number) for name, _, number in names if name == model_name(asset)}
        done = found.reconcile(asset, numbers_of, whole=whole)
        reconciliation.done += done.done
        reconciliation.refused += done.left
        reconciliation.foreign += done.foreign
        for address, number in done.registered:
            _tell_registered(pipeline, address, {REGISTERED: number})
        highest = max((int(str(item.version)) for item in index.within(MODEL, asset)), default=0)
        numbers.note(asset, max([highest, *(number for _, number in done.registered)]))
    return not reconciliation.refused


def _settle_runs(
    pipeline: Pipeline, runs: MlflowRuns, only: Collection[str] | None, reconciliation: Reconciliation
) -> tuple[list[tuple[Attempt, RunInfo, dg.DagsterRun]], list[tuple[str, dg.DagsterRun]]]:
    """Give each finished Dagster run and each of its attempts its run in MLflow.

    Args:
        pipeline: what to reconcile.
        runs: MLflow's runs.
        only: Dagster runs to look at, None for all.
        reconciliation: collects what was done.

    Returns:
        Each attempt whose record is not written yet, with its run in MLflow and in Dagster, and each parent that has to
        be ended.
    """
    unlogged: list[tuple[Attempt, RunInfo, dg.DagsterRun]] = []
    unended: list[tuple[str, dg.DagsterRun]] = []
    removed = removed_versions(pipeline.lake.location)
    for run in _runs_over(pipeline.instance, only):
        attempts = [item for item in attempts_of(pipeline.instance, run.run_id) if item.asset in pipeline.assets]
        with one_by_one(pipeline.tracking_uri):
            known = runs.of(run.run_id)
            if not attempts and not known:  # it ended before its first step, or is not one of the pipeline
                continue
            parent, found = _settled(pipeline, runs, run, attempts, known, removed, reconciliation)
        unlogged += [(attempt, info, run) for attempt, info in found]
        if parent:
            unended.append((parent, run))
    return unlogged, unended


def _log_runs(
    pipeline: Pipeline,
    runs: MlflowRuns,
    unlogged: Iterable[tuple[Attempt, RunInfo, dg.DagsterRun]],
    unended: Iterable[tuple[str, dg.DagsterRun]],
    reconciliation: Reconciliation,
) -> set[str]:
    """Write missing records to MLflow, in the order in which they were published, and end the parents.

    Returns:
        The Dagster runs with a record that MLflow refuses.
    """
    refused: set[str] = set()
    for attempt, info, run in sorted(unlogged, key=lambda item: item[0].published):
        try:
            _log(pipeline, runs, attempt, info)
        except LineageError as error:
            reconciliation.left.append(f"{_named(attempt, run)}: {error}")
        except Exception as error:
            if not is_refusal(error):
                raise
            reconciliation.refused.append(f"MLflow refuses {_named(attempt, run)}: {error}")
            refused.add(run.run_id)
        else:
            reconciliation.done.append(f"MLflow: {_named(attempt, run)} is logged")
    for parent, run in unended:
        runs.end(parent, str(ended(run)), _end_time(pipeline.instance, run))
        reconciliation.done.append(f"MLflow: Dagster run {run.run_id} has ended as {ended(run)}")
    return refused


def _settled(
    pipeline: Pipeline,
    runs: MlflowRuns,
    run: dg.DagsterRun,
    attempts: Sequence[Attempt],
    present: Sequence[Run],
    removed: Collection[str],
    reconciliation: Reconciliation,
) -> tuple[str, list[tuple[Attempt, RunInfo]]]:
    """Give a Dagster run its parent and each of its attempts its run in MLflow, and delete surplus runs.

    Attempts that retention has removed get no run again.

    Returns:
        The parent, "" if it has already ended correctly, and each attempt whose record is not written yet, with its
        run.
    """
    status = str(ended(run))
    found = _without_doubles(runs, present, reconciliation)
    current_attempts = by_attempt(found)
    known = next((item.info for item in found if KEY not in item.data.tags), None)
    parent = (known or runs.create_parent(run, attempts[0].start if attempts else None)).run_id
    if run.tags.get("mlflow_run_id") != parent:
        pipeline.instance.add_run_tags(run.run_id, {"mlflow_run_id": parent})
    for attempt in end_failed(
        runs, run, parent, [item for item in attempts if not item.record], status, current_attempts
    ):
        reconciliation.done.append(f"MLflow: {_named(attempt, run)} has ended as {attempt.status(status)}")
    for key in current_attempts.keys() - {attempt.key for attempt in attempts if attempt.status(status)}:
        runs.client.delete_run(current_attempts[key].run_id)
        reconciliation.done.append(f"MLflow: run {current_attempts[key].run_id} stood for nothing and is deleted")
    unlogged: list[tuple[Attempt, RunInfo]] = []
    for attempt in attempts:
        info = current_attempts.get(attempt.key)
        if not attempt.record or (info is None and attempt.record.output.address in removed):
            continue
        if info is None or info.status != "FINISHED":
            create = partial(runs.create, parent, run, attempt.step_key, attempt.number, attempt.asset, attempt.start)
            unlogged.append((attempt, info or create()))
    return "" if known and known.status == status else parent, unlogged


def _log(pipeline: Pipeline, runs: MlflowRuns, attempt: Attempt, info: RunInfo) -> None:
    """Write an attempt's record to its run, and report to the event log where it is, unless the event says so."""
    record, run_id = attempt.record, info.run_id
    assert record  # noqa: S101 - only those with a record are logged
    model_id = ""
    if record.fitted and not is_whole(runs, record.fitted["mlflow_model_id"]):
        model_id = _copied(runs, run_id, record.fitted["sha256"]) or copy_from_lake(
            runs.client, run_id, pipeline.lake, pipeline.models, record.output.address
        )
    version = runs.finish(run_id, record, model_id, attempt.plots)
    if record.made_by.get("mlflow_run_id") == run_id and (attempt.registered or not version):
        return
    values: dict[str, Any] = {"mlflow_run": dg.MetadataValue.url(runs.url(run_id, info.experiment_id))}
    _tell_registered(pipeline, record.output.address, values | ({REGISTERED: version} if version else {}))


def _tell_registered(pipeline: Pipeline, address: str, values: Mapping[str, Any]) -> None:
    """Report to the event log where in MLflow a version is that was logged or registered after its materialization."""
    asset, partition, _ = parse_address(address)
    metadata.report(
        pipeline.instance,
        dg.AssetObservation(
            dg.AssetKey.from_user_string(asset),
            partition=partition,
            description="Logged in MLflow after the fact.",
            metadata={**values, "address": address},
        ),
    )


def _copied(runs: MlflowRuns, run_id: str, sha256: str) -> str:
    """Return the complete copy that an earlier, interrupted attempt to log left at a run, "" without one."""
    outputs = runs.client.get_run(run_id).outputs
    whole = (item.model_id for item in (outputs.model_outputs if outputs else ()) if is_whole(runs, item.model_id))
    return next((known for known in whole if runs.client.get_logged_model(known).tags.get("sha256") == sha256), "")


def _without_doubles(runs: MlflowRuns, found: Iterable[Run], reconciliation: Reconciliation) -> list[Run]:
    """Return one run for each attempt and one parent, deleting duplicates that a server killed while answering left."""
    kept: dict[str, Run] = {}
    for run in sorted(found, key=lambda item: (item.info.status != "FINISHED", item.info.start_time)):
        key = run.data.tags.get(KEY, "")
        if key not in kept:
            kept[key] = run
            continue
        runs.client.delete_run(run.info.run_id)
        reconciliation.done.append(
            f"MLflow: run {run.info.run_id} was a second one of {key or 'its parent'} and is deleted"
        )
    if "" in kept:
        parent = kept[""].info.run_id
        for run in kept.values():
            for tag in (PARENT, PARENT_OF_FLAT):
                if run.data.tags.get(tag, parent) != parent:
                    runs.client.set_tag(run.info.run_id, tag, parent)
    return list(kept.values())


def _runs_over(instance: dg.DagsterInstance, only: Collection[str] | None) -> Iterator[dg.DagsterRun]:
    """Yield finished Dagster runs, all or some, oldest first."""
    if only is None:
        yield from instance.get_runs(dg.RunsFilter(statuses=list(_OVER)), ascending=True)
        return
    for some in batched(sorted(only), _BATCH):
        yield from instance.get_runs(dg.RunsFilter(statuses=list(_OVER), run_ids=some), ascending=True)


def _is_over(instance: dg.DagsterInstance, record: Record, committed: float) -> bool:
    """Return whether the process of a commit has ended, so that its event is lost and not merely late."""
    made_by = record.made_by
    if run_id := made_by.get("dagster_run_id"):
        run = instance.get_run_by_id(
            run_id
        )  # None if somebody has deleted it, or the log is another: its events are gone
        return run is None or (run.is_finished and not may_report(instance, run))
    process = Process.parse(made_by.get("process", ""))
    return bool(process and process.is_gone()) or committed < time.time() - _DECISION_SECONDS


def _report(pipeline: Pipeline, record: Record, *, is_present: bool) -> None:
    """Report a lost commit: as a materialization, or as an observation if a newer one has replaced it since.

    It becomes an event of the run that materialized it, so that it is found there.
    """
    asset, partition = record.output.asset, record.output.partition
    ((_, rows),) = pipeline.lake.table(asset).read([partition], int(record.output.version)).values()
    values = metadata.of_materialization(rows, record, {})
    tags = {"dagster/data_version": record.output.digest, "dagster/code_version": record.code_version}
    kind = dg.AssetMaterialization if is_present else dg.AssetObservation
    metadata.report(
        pipeline.instance,
        kind(dg.AssetKey.from_user_string(asset), partition=partition, metadata=values, tags=tags),
        run_id=record.made_by.get("dagster_run_id", ""),
        step_key=record.made_by.get("step_key", ""),
    )


def _end_time(instance: dg.DagsterInstance, run: dg.DagsterRun) -> float | None:
    record = instance.get_run_record_by_id(run.run_id)
    return record.end_time if record else None


def _named(attempt: Attempt, run: dg.DagsterRun) -> str:
    address = partition_address(attempt.asset, run.tags.get("dagster/partition"))
    return address + (f" attempt {attempt.number}" if attempt.number > 1 else "") + f" of run {run.run_id[:8]}"
