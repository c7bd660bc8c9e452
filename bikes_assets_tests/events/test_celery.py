"""Runs that Celery's workers execute: a real broker, real workers, real instances."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psutil
import pytest
import redis
from dagster import DagsterRunStatus as Status
from dagster._core.launcher import WorkerStatus
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG
from kombu.exceptions import OperationalError
from sqlalchemy import make_url

from bikes_assets.events.celery import launcher
from bikes_assets_tests.elsewhere.relay import relay
from bikes_assets_tests.elsewhere.servers import PASSWORD, CeleryWorker, Redis, create_database
from bikes_assets_tests.events.test_launcher import Project, is_there, wait_until, write_project
from bikes_assets_tests.fire.processes import SOAK

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
YAML = """
telemetry: {enabled: false}
run_launcher:
  module: bikes_assets.events.celery.launcher
  class: CeleryLauncher
  config: {broker: {env: BIKES_BROKER}}
"""


@dataclass
class Site:
    """A project, the instance that launches its runs, and what starts workers for them."""

    project: Project
    redis: Redis
    worker: Callable[[str], CeleryWorker]

    def health(self, run_id: str) -> WorkerStatus:
        return self.project.instance.run_launcher.check_run_worker_health(self.project.run(run_id)).status


@pytest.fixture
def site(tmp_path: Path, redis_server: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with site_in(tmp_path, redis_server, monkeypatch, YAML) as made:
        yield made


@contextmanager
def site_in(folder: Path, redis_server: Redis, monkeypatch: pytest.MonkeyPatch, yaml: str) -> Iterator[Site]:
    """Yield a site whose instance has a configuration; its workers are killed in the end."""
    monkeypatch.setenv("BIKES_BROKER", redis_server.url)
    monkeypatch.setattr(launcher, "_ANSWER_SECONDS", 1)
    monkeypatch.setattr(launcher, "_KNOWN_SECONDS", 0)
    home, workers = folder / "home", list[CeleryWorker]()
    home.mkdir()
    (home / "dagster.yaml").write_text(yaml)
    write_project(folder / "project")
    environment = os.environ | {"DAGSTER_HOME": str(home), "PYTHONPATH": str(ROOT)}

    def worker(name: str) -> CeleryWorker:
        started = CeleryWorker(name, environment, folder / f"{name}.log")
        started.start()
        workers.append(started)
        wait_until(started.is_ready)
        return started

    try:
        with dg.DagsterInstance.from_config(str(home)) as instance:
            yield Site(Project(folder / "project", instance), redis_server, worker)
    finally:
        for started in workers:
            started.kill()


def test_a_worker_executes_each_run_with_the_code_that_lies_on_disk(site: Site) -> None:
    # Given one worker, whose one process takes run after run
    site.worker("one")
    values = []
    for value in range(3):
        # When the code is edited between runs, the file's size staying as it is
        site.project.edit(value)
        run_id = site.project.succeeded()
        values.append(site.project.facts(run_id)["value"])
    # Then
    assert values == [0, 1, 2]


def test_two_workers_share_runs_and_neither_takes_one_in_advance(site: Site) -> None:
    # Given a worker that is at work, and a run that waits
    one = site.worker("one")
    first = site.project.at_work()
    second = site.project.launch()
    time.sleep(2)
    # When another worker comes, and the first is killed
    site.worker("two")
    one.kill()
    # Then the run that waited is executed
    site.project.go_on()
    assert site.project.ended(second) == Status.SUCCESS
    # And of the other nothing is left at work
    assert site.project.run(first).status == Status.STARTED
    wait_until(lambda: not is_there(site.project.pid(first)))
    # And it is noticed at the third look, where a worker of that name is there again, too
    lost = [WorkerStatus.RUNNING, WorkerStatus.RUNNING, WorkerStatus.NOT_FOUND]
    assert [site.health(first) for _ in lost] == lost
    site.worker("one")
    assert [site.health(first) for _ in lost] == lost


def test_a_worker_whose_main_process_is_killed_leaves_no_run_at_work(site: Site) -> None:
    worker = site.worker("one")
    run_id = site.project.at_work()
    assert [site.health(run_id) for _ in range(4)] == [WorkerStatus.RUNNING] * 4
    os.kill(worker.pid, signal.SIGKILL)
    # Then it is interrupted, and tells so itself
    assert site.project.ended(run_id) == Status.FAILURE
    wait_until(lambda: not is_there(site.project.pid(run_id)))


def test_a_run_that_is_importing_ends_with_its_worker(site: Site) -> None:
    # Given code whose import takes long, so that nothing of Dagster's handles signals yet
    code = site.project.folder / "definitions.py"
    code.write_text("import time\ntime.sleep(60)\n" + code.read_text())
    worker = site.worker("one")
    run_id = site.project.launch()

    def process() -> psutil.Process | None:
        found = psutil.Process(worker.pid).children(recursive=True)
        return next((item for item in found if any(run_id in argument for argument in item.cmdline())), None)

    importing = wait_until(process)
    # When
    os.kill(worker.pid, signal.SIGKILL)
    # Then
    wait_until(lambda: not is_there(importing.pid), 15)


def test_a_run_whose_process_is_killed_has_failed_at_once(site: Site) -> None:
    site.worker("one")
    run_id = site.project.at_work()
    os.kill(site.project.pid(run_id), signal.SIGKILL)
    assert site.project.ended(run_id) == Status.FAILURE
    assert any("SIGKILL" in line for line in site.project.told(run_id)), site.project.told(run_id)
    # And the worker goes on
    site.project.go_on()
    assert site.project.ended(site.project.launch()) == Status.SUCCESS


def test_a_run_is_terminated_at_work_and_while_it_waits(site: Site) -> None:
    worker = site.worker("one")
    run_id, waiting = site.project.at_work(), site.project.launch()
    for each in (waiting, run_id):  # the other way round the worker, free again, may have begun the one that waits
        assert site.project.instance.run_launcher.terminate(each)
    assert [site.project.ended(each) for each in (run_id, waiting)] == [Status.CANCELED, Status.CANCELED]
    # And the worker goes on, without what was taken from the queue
    site.project.go_on()
    assert site.project.ended(site.project.launch()) == Status.SUCCESS
    assert psutil.Process(worker.pid).is_running()
    assert not site.project.instance.run_launcher.terminate(run_id)
    assert not [line for line in site.project.told(waiting) if line.startswith("Started process for run")]


def test_a_broker_that_is_away_for_a_while_loses_no_run(site: Site) -> None:
    # Given a run at work, and one that waits
    site.worker("one")
    first = site.project.at_work()
    second = site.project.launch()
    # When the broker is gone, the first goes on
    site.redis.kill()
    site.project.go_on()
    assert site.project.ended(first) == Status.SUCCESS
    # And what waits does so, and so does who launches another
    with pytest.raises((OperationalError, redis.ConnectionError), match="refused"):
        site.health(second)
    threading.Timer(5, site.redis.start).start()
    third = site.project.launch()
    assert [site.project.ended(each) for each in (second, third)] == [Status.SUCCESS, Status.SUCCESS]


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="Dagster tries for two minutes to reach its database; BIKES_SOAK=1 waits for it")
def test_a_run_that_finds_the_database_away_ends_and_is_noticed(
    tmp_path: Path, redis_server: Redis, postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a run at work, whose records are in PostgreSQL
    url = make_url(create_database(postgres_server, "dagster_of_workers"))
    assert url.port
    with relay(url.port) as between:
        storage = url.set(port=between.port).render_as_string(hide_password=False)
        monkeypatch.setenv("BIKES_DAGSTER_STORAGE", storage)
        yaml = f"{YAML}storage: {{postgres: {{postgres_url: {{env: BIKES_DAGSTER_STORAGE}}}}}}\n"
        with site_in(tmp_path, redis_server, monkeypatch, yaml) as site:
            site.worker("one")
            run_id = site.project.at_work()
            # When PostgreSQL is gone, and comes back when the run's process has ended
            between.cut()
            site.project.go_on()
            log = tmp_path / "one.log"
            wait_until(lambda: "Task bikes_assets.execute_run[" in log.read_text() and "raised" in log.read_text(), 200)
            between.mend()
            # Then the run is taken for lost
            assert site.project.run(run_id).status == Status.STARTED
            lost = [WorkerStatus.RUNNING, WorkerStatus.RUNNING, WorkerStatus.NOT_FOUND]
            assert [site.health(run_id) for _ in lost] == lost
            # And the worker goes on
            assert site.project.ended(site.project.launch()) == Status.SUCCESS
            assert PASSWORD not in log.read_text()


def test_a_worker_that_is_stopped_finishes_its_runs(site: Site) -> None:
    worker = site.worker("one")
    run_id = site.project.at_work()
    os.kill(worker.pid, signal.SIGTERM)
    waiting = site.project.launch()
    time.sleep(1)
    site.project.go_on()
    assert site.project.ended(run_id) == Status.SUCCESS
    wait_until(lambda: not is_there(worker.pid))
    assert site.project.run(waiting).status == Status.STARTING  # for another worker


def test_no_password_is_in_the_queue(site: Site) -> None:
    run_id = site.project.launch()
    assert site.project.run(run_id).tags[DAGSTER_CELERY_TASK_ID_TAG]
    assert site.project.run(run_id).status == Status.STARTING
    queued = b"".join(file.read_bytes() for file in site.redis.folder.rglob("*.aof"))
    assert run_id.encode() in queued
    assert PASSWORD.encode() not in queued


def test_a_home_of_another_launcher_starts_no_worker(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}")
    environment = os.environ | {"DAGSTER_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    worker = CeleryWorker("one", environment, tmp_path / "log")
    worker.start()
    wait_until(lambda: not is_there(worker.pid))
    assert (
        f"{tmp_path}/dagster.yaml: found DefaultRunLauncher, expected run_launcher to be CeleryLauncher, "
        "as docs/scale-out.md shows" in worker.log.read_text()
    )
