"""One small history, made once for all tests that look at it: real Delta tables, a real Dagster instance, a real MLflow store."""

from __future__ import annotations

import atexit
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bikes_assets_tests.elsewhere.fixtures import postgres_server, redis_server, s3, s3_environment  # noqa: F401

ROOT = Path(__file__).parents[1]


def store_at(folder: Path) -> dict[str, str]:
    """Return the variables that name a store all of whose parts are in one folder."""
    return {
        "BIKES_DATA": str(folder),
        "DAGSTER_HOME": str(folder / "dagster"),
        "BIKES_MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow/mlflow.db",
    }


gc.set_threshold(50_000, 20, 20)  # as the command line has it


def _in_memory() -> str | None:
    """Return the folder of a file system in memory if there is one with room enough, from which programs can be started.

    Thousands of small transactions then wait for no disk.
    """
    import psutil

    folder, most = Path("/dev/shm"), 10 * 1024**3
    if not os.access(folder, os.W_OK) or psutil.virtual_memory().available < most:
        return None
    found = os.statvfs(folder)
    return None if found.f_flag & os.ST_NOEXEC or found.f_bavail * found.f_frsize < most else str(folder)


if "TMPDIR" not in os.environ and (_memory := _in_memory()):
    os.environ["TMPDIR"] = tempfile.tempdir = _memory
# Settings are read when definitions are loaded, so they are set before anything is imported.
WORK = Path(tempfile.mkdtemp(prefix="bikes-tests-"))
atexit.register(shutil.rmtree, WORK, ignore_errors=True)
os.environ |= store_at(WORK) | {
    "BIKES_FIRST_MONTH": "2011-01",
    "BIKES_LAST_MONTH": "2011-07",
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
def as_made(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the history of all assets from 2011-01 to 2011-07, made once for all processes of a session.

    No test changes it. It is not where it was made, so that a copy of it is a store that was moved, in MLflow's links, too.
    """
    from filelock import FileLock

    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if hasattr(pytestconfig, "workerinput") else own) / "as-made"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            _materialize(folder.with_name("in-the-making"))
            folder.with_name("in-the-making").rename(folder)
    return folder


_RUN = """
import json
from bikes_assets.cli import runner
runner.setup()
print(json.dumps(vars(runner.run_history(None, lambda *_: None))))
"""


def _materialize(folder: Path) -> None:
    """Run all assets of all months in a process of its own, and leave beside the store what the run says of itself."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-c", _RUN]
    done = subprocess.run(command, env=os.environ | store_at(folder), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()[-1]
    assert not json.loads(said)["failed"], said
    (folder.parent / "summary.json").write_text(said)
    for lock in folder.rglob("*.lock"):
        lock.unlink()


@pytest.fixture(scope="session")
def history(as_made: Path) -> Iterator[History]:
    """Return that history in this process's own store, where tests pin models and take events from it."""
    from bikes_assets.app.settings import settings
    from bikes_assets.app.store import lake
    from bikes_assets.cli import runner
    from bikes_assets.events import identity
    from bikes_assets.tracking.client import client_of

    _forget()
    identity._checked.clear()
    for part in as_made.iterdir():  # what tests that came before have left there is no part of it
        place = WORK / part.name
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    shutil.copytree(as_made, WORK, dirs_exist_ok=True)
    client = client_of(settings().tracking_uri)
    with runner.opened() as instance:
        yield History(
            instance, lake(), client, runner.Summary(**json.loads((as_made.parent / "summary.json").read_text()))
        )


@pytest.fixture
def copies(as_made: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Return what makes a copy of the history as it was made in a folder, which is this process's store from then on."""

    def copy(folder: Path) -> None:
        shutil.copytree(as_made, folder)
        for name, value in store_at(folder).items():
            monkeypatch.setenv(name, value)
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
    "fire/test_kill",
    "fire/test_zombie",
    "fire/test_whole_store",
    "test_projects",
    "test_ui",
    "test_joins",
    "fire/test_triggers",
    "app/test_reproduction",
    "app/test_changes",
    "fire/test_outage",
    "elsewhere/test_elsewhere",
    "elsewhere/test_s3_away",
    "elsewhere/test_scale_out",
    "earlier/test_earlier",
    "app/test_diff",
    "app/test_column_lineage",
    "orchestration/test_engines",
    "fire/test_backup",
    "fire/test_statuses",
    "fire/test_launched",
    "test_secure",
    "events/test_launcher",
    "events/test_celery",
    "fire/test_registry",
    "tracking/test_registry",
    "test_pages",
    "test_copies",
    "web/test_page_graph",
    "web/test_page_questions",
    "web/test_page_safety",
    "web/test_page_accessible",
    "web/test_api",
)
"""Files that take long: with several processes, the last to begin is not to be one of them."""
TOGETHER = (
    "test_attacks",
    "test_joins",
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
    "web/test_page_graph",
    "web/test_page_questions",
    "web/test_page_safety",
    "web/test_page_accessible",
    "web/test_api",
)
"""Files whose tests share something that takes long to make."""
HISTORY = {
    "fire/test_kill": "history",
    "fire/test_clock": "history",
    "fire/test_interrupt": "history",
    "fire/test_zombie": "history again",
    "fire/test_disk": "history again",
    "fire/test_power_cut": "history again",
    "fire/test_damaged_databases": "history again",
}
"""Files whose tests work on a history of four months, and which of two processes makes it and runs them: it takes minutes."""


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


UNHURRIED = (
    "storage/test_delta_in_a_faulty_store",
    "storage/test_delta_at_url",
    "storage/sources/test_hostile_sources",
    "storage/sources/test_dvc",
    "tracking/test_resource",
    "verification/test_column_lineage",
    "verification/test_invariants",
    "cli/test_commands",
    "test_examples",
    "test_renamed",
    "test_taxi",
)
"""Files that need neither history nor server, and take a quarter of a minute or more."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many processes run tests: two for each core where many of them wait for servers."""
    return (1 if config.getoption("--fast") else 2) * (os.cpu_count() or 1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take `--fast`: without campaigns, and tests that work on a materialized history, start servers or kill processes."""
    parser.addoption(
        "--fast", action="store_true", help="only what takes a few seconds, and needs neither history nor server"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out whole files of what is not fast: importing them takes time, too."""
    if config.getoption("--fast") and collection_path.name.startswith("test_"):
        file = _file(collection_path)
        return file.startswith(("fire/", "elsewhere/", "earlier/")) or file in (*SLOWEST, *TOGETHER, *UNHURRIED) or None
    return None


def _is_fast(item: pytest.Item) -> bool:
    if item.get_closest_marker("soak") or item.get_closest_marker("slow"):
        return False
    return not {"as_made", "history", "copied", "copies", "copy"} & {*getattr(item, "fixturenames", ())}


@pytest.hookimpl(tryfirst=True)  # before pytest brings those together that share a fixture's parameter
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the slowest files begin first, then those that need the history as it was made, which the slowest do not change.

    Processes take tests, or groups of them, in this order: one makes the history, and the others need not wait for it.
    """
    if items and items[0].config.getoption("--fast"):
        items[:] = filter(_is_fast, items)
    first = (*SLOWEST, *PRISTINE)
    items.sort(key=lambda item: first.index(_file(item.path)) if _file(item.path) in first else len(first))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Have one process run the tests that share something that takes long to make; with pytest 9, `xdist_group` has no effect."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            name = _file(file)
            if name in HISTORY:
                return HISTORY[name]
            parameter = test.partition("[")[2] if name == "elsewhere/test_elsewhere" else ""
            return f"{file}[{parameter}" if name in TOGETHER else nodeid

    return Together(config, log)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Write what a soak showed to docs/soak/, so that it can be committed; campaigns run one by one make one report of a day."""
    if os.environ.get("BIKES_SOAK") != "1":
        return
    import platform
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    report = ROOT / "docs" / "soak" / f"{now:%Y-%m-%d}.md"
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
