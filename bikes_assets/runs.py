"""Runs of the whole history in one process, months in order."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bikes_assets.lineage.errors import SettingsError
from bikes_assets.settings import ROOT, settings

# what goes wrong is told once, in the summary; Dagster's page has every event
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass
class Summary:
    """What a run of the history did.

    Attributes:
        partitions: number of partitions materialized, by asset.
        rows: rows of the partitions materialized, by asset.
        champion: address of the newest month's champion.
        seconds: wall time.
        skipped: addresses of partitions that had nothing to work on.
        unlogged: whether something is left that MLflow did not take.
        failed: what failed, by partition, with its message.
    """

    partitions: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    champion: str = ""
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)
    unlogged: bool = False
    failed: dict[str, str] = field(default_factory=dict)


def setup() -> Path:
    """Make DAGSTER_HOME ready and return it; where the environment does not name it, .env will from now on."""
    home = settings().dagster_home
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        shutil.copy(Path(__file__).with_name("dagster.yaml"), home)
    if not os.environ.get("DAGSTER_HOME"):
        if not (ROOT / ".env").exists():
            (ROOT / ".env").write_text(f"DAGSTER_HOME={home}\n")
        os.environ["DAGSTER_HOME"] = str(home)
    return home


def run_history(months: Sequence[str] | None, progress: Callable[[str, int, int], None]) -> Summary:
    """Materialize every asset for each month, in order, in this process.

    Args:
        months: partition keys; None for all that the source has.
        progress: called with the month, the number of runs that are done and of all, before each run.

    Returns:
        What was done; it stops at the first month that fails.

    Raises:
        SettingsError: the source has no such month.
    """
    import dagster as dg

    from bikes_assets.adapters.sync import WORKER, end_abandoned, sync
    from bikes_assets.adapters.tracking import backlog
    from bikes_assets.adapters.workers import was_interrupted
    from bikes_assets.definitions import defs
    from bikes_assets.defs.partitions import MODEL_MONTHS, MONTHS
    from bikes_assets.defs.resources import pipeline

    unknown = [month for month in months or () if month not in MONTHS.get_partition_keys()]
    if unknown:
        first, last = MONTHS.get_first_partition_key(), MONTHS.get_last_partition_key()
        raise SettingsError(f"found month {', '.join(unknown)}, expected one from {first} to {last}")
    job = defs().resolve_implicit_global_asset_job_def()
    groups = [
        (
            partitions.get_partition_keys(),
            [key for key in job.asset_layer.executable_asset_keys if _is_of(job, key, partitions)],
        )
        for partitions in (MONTHS, MODEL_MONTHS)
    ]
    runs = [
        (month, keys) for month in (months or MONTHS.get_partition_keys()) for known, keys in groups if month in known
    ]
    summary, start = Summary(), time.monotonic()
    with dg.DagsterInstance.get() as instance:
        if end_abandoned(instance) or backlog(instance):
            sync(pipeline(instance))
        for done, (month, keys) in enumerate(runs):
            progress(month, done, len(runs))
            result = job.execute_in_process(
                instance=instance,
                partition_key=month,
                asset_selection=keys,
                run_config=_QUIET,
                tags={WORKER: f"{os.getpid()}@{time.time()}"},
                raise_on_error=False,
            )
            if was_interrupted(result):
                raise KeyboardInterrupt
            made = [event.materialization for event in result.get_asset_materialization_events()]
            for materialization in made:
                _count(summary, materialization)
            if result.success:
                done_keys = {materialization.asset_key for materialization in made}
                summary.skipped += [f"{key.to_user_string()}[{month}]" for key in keys if key not in done_keys]
            else:
                summary.failed = {month: _reason(result)}
                break
        if backlog(instance):
            sync(pipeline(instance))
        summary.unlogged = bool(backlog(instance))
    progress("done", len(runs), len(runs))
    summary.seconds = time.monotonic() - start
    return summary


def _is_of(job: Any, key: Any, partitions: Any) -> bool:
    return job.asset_layer.get(key).partitions_def == partitions


def _count(summary: Summary, made: Any) -> None:
    from bikes_assets.store import SERVING

    asset = made.asset_key.to_user_string()
    summary.partitions[asset] += 1
    summary.rows[asset] += made.metadata["dagster/row_count"].value
    if asset == SERVING:
        (model,) = made.metadata["lineage"].value["models"]
        summary.champion = model["origin"]


def _reason(result: Any) -> str:
    """Return the innermost message of the first step that failed."""
    from bikes_assets.adapters.attempts import innermost

    for event in result.all_events:
        if event.is_step_failure:
            return f"{event.step_key}: {innermost(event.step_failure_data.error)}"
    return "the run failed before its first step; `make ui` shows its events"
