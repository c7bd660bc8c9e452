"""One small history, made once for all tests that look at it: real Delta tables, a real Dagster instance, a real MLflow store."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bikes_assets_tests.elsewhere.fixtures import postgres_server, s3, s3_environment  # noqa: F401

# Settings are read when definitions are loaded, so they are set before anything is imported.
WORK = Path(tempfile.mkdtemp(prefix="bikes-tests-"))
AS_MADE = WORK.with_name(f"{WORK.name}-as-made")
"""A copy of the history that no test changes."""
for folder in (WORK, AS_MADE):
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
os.environ |= {
    "BIKES_DATA": str(WORK),
    "DAGSTER_HOME": str(WORK / "dagster"),
    "BIKES_FIRST_MONTH": "2011-01",
    "BIKES_LAST_MONTH": "2011-07",
    "BIKES_MLFLOW_TRACKING_URI": f"sqlite:///{WORK}/mlflow/mlflow.db",
    "OMP_NUM_THREADS": "1",
    "GIT_PYTHON_REFRESH": "quiet",
}

MADE = (
    "hourly_rentals",
    "demand_features",
    "demand_model",
    "champion_model",
    "demand_predictions",
    "prediction_quality",
)
"""The assets that a run makes, upstream first."""


@dataclass(frozen=True)
class History:
    """A run of all assets over seven months, and where to look at it."""

    instance: Any
    lake: Any
    client: Any
    summary: Any

    def record(self, asset: str, partition: str) -> Any:
        """Return the record on the latest materialization event of a partition."""
        from bikes_assets.core.record import Record

        return Record.from_dict(self.event(asset, partition).metadata["lineage"].value)

    def event(self, asset: str, partition: str) -> Any:
        """Return the latest materialization event of a partition."""
        import dagster as dg

        wanted = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[partition])
        return self.instance.fetch_materializations(wanted, limit=1).records[0].asset_materialization


@pytest.fixture(scope="session")
def history() -> Any:
    """Return the history of all assets from 2011-01 to 2011-07."""
    import dagster as dg

    from bikes_assets.app.settings import settings
    from bikes_assets.app.store import lake
    from bikes_assets.cli import runner
    from bikes_assets.tracking.client import client_of

    runner.setup()
    summary = runner.run_history(None, lambda *_: None)
    assert not summary.failed, summary.failed
    shutil.copytree(WORK, AS_MADE, ignore=shutil.ignore_patterns("*.lock"))
    with dg.DagsterInstance.get() as instance:
        yield History(instance, lake(), client_of(settings().tracking_uri), summary)


@pytest.fixture
def copies(history: History, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Return what makes a copy of the history as it was made in a folder, which is this process's store from then on."""

    def copy(folder: Path) -> None:
        assert history.summary
        shutil.copytree(AS_MADE, folder)
        monkeypatch.setenv("BIKES_DATA", str(folder))
        monkeypatch.setenv("DAGSTER_HOME", str(folder / "dagster"))
        monkeypatch.setenv("BIKES_MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow/mlflow.db")
        _forget()

    yield copy
    _forget()


@pytest.fixture
def copied(copies: Callable[[Path], None], tmp_path: Path) -> Path:
    """Return the folder of a copy of the history as it was made, which is this process's store meanwhile."""
    copies(tmp_path / "data")
    return tmp_path / "data"


def _forget() -> None:
    from bikes_assets.app import answers
    from bikes_assets.app.settings import settings

    settings.cache_clear()
    answers._index_of.cache_clear()


PRISTINE = ("app/test_answers", "app/test_levels", "app/test_trace", "test_questions", "app/test_retention")
"""Files that look at the history as it was made: before others pin models in it, and take events from it."""
SLOWEST = (
    "fire/test_whole_store",
    "fire/test_kill",
    "test_ui",
    "fire/test_triggers",
    "app/test_reproduction",
    "fire/test_outage",
    "elsewhere/test_elsewhere",
    "elsewhere/test_s3_away",
    "app/test_changes",
    "app/test_diff",
    "app/test_column_lineage",
    "orchestration/test_engines",
    "fire/test_backup",
    "fire/test_statuses",
    "test_secure",
    "fire/test_registry",
    "tracking/test_registry",
)
"""Files that take long: with several processes, the last to begin is not to be one of them."""
TOGETHER = (
    "test_attacks",
    "app/test_changes",
    "app/test_diff",
    "elsewhere/test_elsewhere",
    "orchestration/test_engines",
    "fire/test_harness",
    "test_pages",
    "app/test_column_lineage",
    "app/test_reproduction",
    "app/test_retention",
    "fire/test_retain",
    "test_secure",
    "app/test_status",
    "fire/test_whole_store",
)
"""Files whose tests share something that takes long to make."""
HISTORY = (
    "fire/test_clock",
    "fire/test_damaged_databases",
    "fire/test_disk",
    "fire/test_interrupt",
    "fire/test_kill",
    "fire/test_zombie",
)
"""Files whose tests work on one history of four months."""


def _file(path: str | Path) -> str:
    """Return the name of a test's file, from the folder of the tests on, as the lists above have it."""
    return str(Path(path).with_suffix("")).rpartition("bikes_assets_tests/")[2]


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Have what a test does to the environment end with it: a command sets DAGSTER_HOME for the processes that it starts.

    Settings that were read meanwhile are forgotten, for they may be those of another environment, and the secrets that they hold.
    """
    from bikes_assets.app.settings import settings
    from bikes_assets.core import secrets

    before, read, learned = dict(os.environ), settings.cache_info().misses, dict(secrets._learned)
    yield
    if secrets._learned != learned:
        secrets._learned.clear()
        secrets._learned.update(learned)
        secrets._pattern.cache_clear()
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)
    if settings.cache_info().misses != read:
        settings.cache_clear()


def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes run tests: two for each core, for many of them wait for servers."""
    return 2 * (os.cpu_count() or 1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take `--fast`: without the tests that work on a materialized history, kill processes, or open a browser."""
    parser.addoption(
        "--fast", action="store_true", help="only what needs no history, no server and no other process's end"
    )


def _is_fast(item: pytest.Item) -> bool:
    file = _file(item.path)
    is_slow = file.startswith(("fire/", "elsewhere/", "earlier/")) or file in (*SLOWEST, *TOGETHER)
    return not is_slow and not {"history", "copied", "copies", "copy"} & {*getattr(item, "fixturenames", ())}


@pytest.hookimpl(tryfirst=True)  # before pytest brings those together that share a fixture's parameter
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the files that need it begin first, then the slowest; processes take tests, or groups of them, in this order."""
    if items and items[0].config.getoption("--fast"):
        items[:] = filter(_is_fast, items)
    first = (*PRISTINE, *SLOWEST)
    items.sort(key=lambda item: first.index(_file(item.path)) if _file(item.path) in first else len(first))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Have one process run the tests that share something that takes long to make; with pytest 9, `xdist_group` has no effect."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            name = _file(file)
            if name in HISTORY:
                return "history"
            parameter = test.partition("[")[2] if name == "elsewhere/test_elsewhere" else ""
            return f"{file}[{parameter}" if name in TOGETHER else nodeid

    return Together(config, log)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Write what a soak showed to docs/soak/, so that it can be committed; campaigns run one by one make one report of a day."""
    if os.environ.get("BIKES_SOAK") != "1":
        return
    import platform
    import subprocess
    from datetime import UTC, datetime

    root = Path(__file__).parents[1]
    now = datetime.now(UTC)
    commit = subprocess.run(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    report = root / "docs" / "soak" / f"{now:%Y-%m-%d}.md"
    rows = dict(_soaked(report.read_text() if report.exists() else ""))
    for outcome in ("passed", "failed", "skipped"):
        for item in terminalreporter.stats.get(outcome, []):
            if item.when == "call" or outcome == "skipped":
                name = f"`{item.nodeid.removeprefix('bikes_assets_tests/')}`"
                rows[name] = f"| {name} | {outcome} | {item.duration:.0f} | {commit.stdout.strip()} |"
    lines = [
        f"# Soak of {now:%Y-%m-%d}",
        "",
        f"`make soak`, Python {platform.python_version()}, {os.cpu_count()} cores; each campaign at the commit beside it.",
        "",
        "| campaign | outcome | seconds | commit |",
        "|---|---|---|---|",
        *(rows[name] for name in sorted(rows)),
    ]
    report.parent.mkdir(exist_ok=True)
    report.write_text("\n".join(lines) + "\n")


def _soaked(report: str) -> Any:
    """Yield each campaign of a report with its line."""
    for line in report.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0].startswith("`"):
            yield cells[0], line
