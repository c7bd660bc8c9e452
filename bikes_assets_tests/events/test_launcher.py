"""Runs that begin in a process forked from a zygote: real instances, real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
from dagster import DagsterRunStatus as Status
from dagster._core.code_pointer import FileCodePointer
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import WorkerStatus
from dagster._core.origin import DEFAULT_DAGSTER_ENTRY_POINT, JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget

import bikes_assets
from bikes_assets.events import workers
from bikes_assets.events.warm import launcher
from bikes_assets.events.warm.launcher import WarmRunLauncher, WarmRunQueue
from bikes_assets.events.warm.libraries import memory_of, remember, remembered
from bikes_assets.events.workers import WORKER, worker_of
from bikes_assets.storage.processes import Process

pytestmark = pytest.mark.slow

YAML = """
telemetry: {enabled: false}
run_launcher: {module: bikes_assets.events.warm.launcher, class: WarmRunLauncher}
run_coordinator: {module: bikes_assets.events.warm.launcher, class: WarmRunQueue}
"""
CODE = """
    import os
    import sys
    import time
    from pathlib import Path

    BEFORE = "sqlite3" in sys.modules, "dagster" in sys.modules

    import dagster as dg
    import numpy
    import sqlite3

    import helper

    FOLDER = Path(__file__).parent

    def facts():
        return {
            "value": helper.value(),
            "before": str(BEFORE),
            "random": str(numpy.random.random()),
            "setting": os.environ.get("SETTING", ""),
            "parent": os.getppid(),
        }

    @dg.asset
    def first(context) -> dg.MaterializeResult:
        print("printed by the first asset", flush=True)
        context.log.info("logged by the first asset")
        return dg.MaterializeResult(metadata=facts())

    @dg.asset(deps=[first])
    def second() -> None:
        (FOLDER / "waits").touch()
        while (FOLDER / "wait").exists():
            time.sleep(0.05)

    defs = dg.Definitions([first, second], executor=dg.in_process_executor)
"""

TERMINATE = """
import sys
import dagster as dg
instance = dg.DagsterInstance.from_config(sys.argv[1])
print(instance.run_launcher.terminate(sys.argv[2]))
"""


@dataclass
class Project:
    """A project of two assets and a module that they use, and an instance whose runs begin warm."""

    folder: Path
    instance: dg.DagsterInstance
    location: str = "two assets"

    @property
    def launcher(self) -> WarmRunLauncher:
        launcher = self.instance.run_launcher
        assert isinstance(launcher, WarmRunLauncher)
        return launcher

    def zygote(self) -> int:
        """Return the process from which the next run is forked."""
        return self.launcher._zygotes[self.location]._process.pid

    def edit(self, value: int) -> None:
        """Have the code compute another value; the file's size stays as it is."""
        (self.folder / "helper.py").write_text(f"def value():\n    return {value:3}\n")

    def created(self, executable: str = sys.executable, name: str = "definitions.py") -> dg.DagsterRun:
        """Return a run of both assets, as Dagster's pages create it."""
        code = origins(self.folder / name, self.location, "__ASSET_JOB", executable)
        return self.instance.create_run_for_job(as_defined(), **code)

    def launch(self) -> str:
        run = self.created()
        self.instance.launch_run(run.run_id, workspace=None)
        return run.run_id

    def run(self, run_id: str) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(run_id)
        assert run
        return run

    def pid(self, run_id: str) -> int:
        worker = worker_of(self.instance, self.run(run_id))
        assert worker
        return worker.pid

    def ended(self, run_id: str, seconds: float = 120) -> Status:
        return wait_until(lambda: self.run(run_id).is_finished and self.run(run_id), seconds).status

    def succeeded(self) -> str:
        run_id = self.launch()
        assert self.ended(run_id) == Status.SUCCESS, self.told(run_id)
        return run_id

    def at_work(self) -> str:
        """Return a run whose second asset waits until the file `wait` is taken away."""
        (self.folder / "wait").touch()
        (self.folder / "waits").unlink(missing_ok=True)
        run_id = self.launch()
        wait_until((self.folder / "waits").exists)
        return run_id

    def go_on(self) -> None:
        (self.folder / "wait").unlink()

    def facts(self, run_id: str) -> dict[str, Any]:
        """Return what the first asset recorded."""
        materialized = dg.DagsterEventType.ASSET_MATERIALIZATION
        for record in self.instance.get_records_for_run(run_id, of_type=materialized).records:
            if record.asset_materialization and record.asset_key == dg.AssetKey("first"):
                return {name: value.value for name, value in record.asset_materialization.metadata.items()}
        raise AssertionError(self.told(run_id))

    def remembered(self) -> list[str]:
        return remembered(memory_of(self.instance.root_directory, self.location))

    def told(self, run_id: str) -> list[str]:
        return [entry.message for entry in self.instance.all_logs(run_id)]


def origins(file: Path, location: str, job: str, executable: str = sys.executable) -> dict[str, Any]:
    """Return what a run that Dagster's pages create has to say of its code: a job of the definitions in a file."""
    target = LoadableTargetOrigin(executable_path=executable, python_file=str(file), working_directory=str(file.parent))
    place = ManagedGrpcPythonEnvCodeLocationOrigin(target, location_name=location)
    code = RepositoryPythonOrigin(
        executable, FileCodePointer(str(file), "defs", str(file.parent)), entry_point=DEFAULT_DAGSTER_ENTRY_POINT
    )
    return {
        "remote_job_origin": RemoteJobOrigin(RemoteRepositoryOrigin(place, "__repository__"), job),
        "job_code_origin": JobPythonOrigin(job, code),
    }


def as_defined() -> dg.JobDefinition:
    """Return the job of two assets of these names: a run records its plan, and is executed by the project's own code."""

    @dg.asset
    def first() -> None: ...

    @dg.asset(deps=[first])
    def second() -> None: ...

    return dg.Definitions([first, second]).resolve_implicit_global_asset_job_def()


def wait_until(holds: Callable[[], Any], seconds: float = 120, told: Callable[[], str] = str) -> Any:
    end = time.monotonic() + seconds
    while not (answer := holds()):
        assert time.monotonic() < end, f"it did not come to pass in time {told()}"
        time.sleep(0.05)
    return answer


def is_there(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def zombies(project: Project) -> list[int]:
    """Return the processes of a zygote that have ended and that it has not waited for."""
    forked = psutil.Process(project.zygote()).children(recursive=True)
    return [item.pid for item in forked if item.status() == psutil.STATUS_ZOMBIE]


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of installed packages that the processes of runs have beside the others."""
    monkeypatch.setenv("PYTHONUSERBASE", str(folder / "user"))
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    packages = folder / "user" / "lib" / version / "site-packages"
    (packages / "__pycache__").mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", str(packages), prepend=os.pathsep)
    return packages


def write_project(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "definitions.py").write_text(textwrap.dedent(CODE))
    (folder / "helper.py").write_text("def value():\n    return   0\n")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text(YAML)
    return home


@pytest.fixture
def project(tmp_path: Path, home: Path) -> Iterator[Project]:
    write_project(tmp_path / "project")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield Project(tmp_path / "project", instance)


def test_a_run_is_executed_and_recorded_as_by_dagsters_launcher(project: Project) -> None:
    # When
    run_id = project.succeeded()
    # Then its events are those of any run
    told = project.told(run_id)
    assert any(line.startswith("Started process for run (pid: ") for line in told)
    assert "logged by the first asset" in told
    kinds = [entry.dagster_event.event_type_value for entry in project.instance.all_logs(run_id) if entry.dagster_event]
    assert kinds.count("ASSET_MATERIALIZATION") == 2
    assert kinds[-1] in ("PIPELINE_SUCCESS", "ENGINE_EVENT")
    # And what it printed is with the run's logs
    (logs,) = project.instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.LOGS_CAPTURED).records
    key = logs.event_log_entry.dagster_event.logs_captured_data
    data = project.instance.compute_log_manager.get_log_data([run_id, "compute_logs", key.file_key])
    assert b"printed by the first asset" in (data.stdout or b"")
    # And its process is known, and gone
    worker = worker_of(project.instance, project.run(run_id))
    assert worker
    assert worker.birth
    wait_until(worker.is_gone)
    wait_until(lambda: zombies(project) == [])


def test_the_second_run_finds_the_libraries_imported_but_no_module_of_the_project(project: Project) -> None:
    first = project.facts(project.succeeded())
    memory = memory_of(project.instance.root_directory, project.location)
    wait_until(memory.exists)
    second, third = (project.facts(project.succeeded()) for _ in range(2))
    assert (first["before"], second["before"]) == ("(True, True)", "(True, True)")
    assert {"sqlite3", "dagster"} < {*remembered(memory)}
    assert not {"helper", "definitions"} & {*remembered(memory)}
    # And nothing random is as in another run
    assert len({first["random"], second["random"], third["random"]}) == 3
    assert first["parent"] == second["parent"] == project.zygote()
    assert memory.parent.stat().st_mode & 0o777 == 0o700


def test_a_run_may_execute_its_steps_in_processes_of_their_own(project: Project) -> None:
    code = project.folder / "definitions.py"
    code.write_text(code.read_text().replace("dg.in_process_executor", "dg.multiprocess_executor"))
    facts = project.facts(project.succeeded())
    assert facts["parent"] != project.zygote()
    project.succeeded()


def test_twenty_edits_between_runs_are_all_executed(project: Project) -> None:
    values = []
    for value in range(20):
        project.edit(value)
        values.append(project.facts(project.succeeded())["value"])
    assert values == [*range(20)]
    zygote = project.zygote()
    assert is_there(zygote)  # which was never replaced: it holds nothing of the project
    assert psutil.Process(zygote).ppid() == os.getpid()


def test_two_edits_in_the_same_second_are_told_apart(project: Project) -> None:
    # Given bytecode of an edit that has the size and the second of the next one
    project.edit(1)
    now = time.time_ns() // 10**9 * 10**9 - 10 * 10**9
    helper = project.folder / "helper.py"
    os.utime(helper, ns=(now, now + 10**8))
    project.succeeded()
    (bytecode,) = (project.folder / "__pycache__").glob("helper*.pyc")
    os.utime(bytecode, ns=(now, now + 2 * 10**8))
    # When
    project.edit(2)
    os.utime(helper, ns=(now, now + 3 * 10**8))
    # Then
    assert project.facts(project.succeeded())["value"] == 2


def test_a_library_that_has_changed_on_disk_has_the_zygote_replaced(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a library that runs import
    packages = installed(tmp_path, monkeypatch)
    (packages / "helper.py").write_text("def value():\n    return 1\n")
    (project.folder / "helper.py").unlink()
    # When
    first, zygote = project.facts(project.succeeded()), project.zygote()
    wait_until(lambda: "helper" in project.remembered())
    second = project.facts(project.succeeded())
    assert project.zygote() == zygote
    (packages / "helper.py").write_text("def value():\n    return 2\n")
    third = project.facts(project.succeeded())
    # Then
    assert [item["value"] for item in (first, second, third)] == [1, 1, 2]
    assert project.zygote() != zygote
    wait_until(lambda: not is_there(zygote))


def test_another_environment_has_the_zygote_replaced(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SETTING", "1")
    first, zygote = project.facts(project.succeeded()), project.zygote()
    monkeypatch.setenv("SETTING", "2")
    second = project.facts(project.succeeded())
    assert (first["setting"], second["setting"]) == ("1", "2")
    assert project.zygote() != zygote
    wait_until(lambda: not is_there(zygote))


def test_a_zygote_that_was_killed_is_replaced(project: Project) -> None:
    project.succeeded()
    killed = project.zygote()
    os.kill(killed, signal.SIGKILL)
    project.succeeded()
    assert project.zygote() != killed
    wait_until(lambda: not psutil.pid_exists(killed))  # it is no zombie either


def test_a_zygote_that_is_killed_with_an_order_leaves_it_to_the_next(project: Project) -> None:
    # Given a zygote that is stopped
    project.succeeded()
    stopped = project.zygote()
    os.kill(stopped, signal.SIGSTOP)
    run = project.created()
    launch = threading.Thread(target=project.instance.launch_run, args=(run.run_id, None))
    launch.start()
    # When
    time.sleep(0.5)
    os.kill(stopped, signal.SIGKILL)
    launch.join(60)
    # Then
    assert project.ended(run.run_id) == Status.SUCCESS
    assert len([line for line in project.told(run.run_id) if line.startswith("Started process for run")]) == 1
    assert project.zygote() != stopped


def test_a_run_goes_on_when_its_zygote_is_killed(project: Project) -> None:
    run_id = project.at_work()
    os.kill(project.zygote(), signal.SIGKILL)
    start = time.monotonic()
    other = project.launch()
    assert time.monotonic() - start < 60  # it saw at once that nobody would answer
    project.go_on()
    assert (project.ended(run_id), project.ended(other)) == (Status.SUCCESS, Status.SUCCESS)
    assert project.facts(run_id)["value"] == 0


def test_a_run_that_is_killed_has_failed_at_once(project: Project) -> None:
    project.succeeded()  # so that the zygote has imported Dagster
    run_id = project.at_work()
    pid = project.pid(run_id)
    assert project.launcher.check_run_worker_health(project.run(run_id)).status == WorkerStatus.RUNNING
    os.kill(pid, signal.SIGKILL)
    assert project.ended(run_id, 10) == Status.FAILURE
    assert any("was terminated by signal 9 (SIGKILL)" in line for line in project.told(run_id))
    assert project.launcher.check_run_worker_health(project.run(run_id)).status == WorkerStatus.NOT_FOUND
    wait_until(lambda: zombies(project) == [])


def test_a_run_is_canceled_by_whichever_process_is_asked(project: Project, home: Path) -> None:
    for launcher_asked in (True, False):
        run_id = project.at_work()
        if launcher_asked:
            assert project.launcher.terminate(run_id)
        else:
            command = [sys.executable, "-c", TERMINATE, str(home), run_id]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.stdout == "True\n", done.stderr
        assert project.ended(run_id, 20) == Status.CANCELED
        assert not project.launcher.terminate(run_id)


def test_a_run_that_is_terminated_before_its_process_is_known_is_canceled(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a termination that is asked for between the fork and the moment at which the run begins
    run = project.created()

    def terminated_before(*arguments: Any) -> None:
        assert not project.launcher.terminate(run.run_id)
        workers.tag(*arguments)

    monkeypatch.setattr(launcher, "_BEGIN_SECONDS", 0)  # nobody waits for a run that takes so long to begin
    monkeypatch.setattr(launcher, "tag", terminated_before)
    # When
    project.instance.launch_run(run.run_id, workspace=None)
    # Then
    assert project.ended(run.run_id) == Status.CANCELED
    assert "The run cannot be terminated from here: its process is not known." in project.told(run.run_id)
    assert not any("STEP_START" in str(entry.dagster_event) for entry in project.instance.all_logs(run.run_id))


def test_a_run_that_is_terminated_while_its_code_is_loaded_is_canceled(project: Project) -> None:
    # Given a project that takes a while to be imported
    slowly = "import time\nfrom pathlib import Path\nPath(__file__).with_name('loads').touch()\ntime.sleep(2)\n"
    (project.folder / "helper.py").write_text(f"{slowly}def value():\n    return 0\n")
    run_id = project.launch()
    wait_until((project.folder / "loads").exists)
    # When
    assert project.launcher.terminate(run_id)
    # Then
    assert project.ended(run_id) == Status.CANCELED


def test_a_run_whose_process_is_another_machines_is_not_interrupted(project: Project) -> None:
    run = project.created()
    elsewhere = Process(os.getpid(), Process.this().birth, "elsewhere")
    project.instance.add_run_tags(run.run_id, {WORKER: f"{elsewhere}@{run.run_id[:8]}"})
    assert not project.launcher.terminate(run.run_id)
    assert "The run cannot be terminated from here: it is a process of elsewhere." in project.told(run.run_id)
    assert project.launcher.check_run_worker_health(project.run(run.run_id)).status == WorkerStatus.RUNNING


def test_runs_at_the_same_time_and_launchers_beside_each_other(project: Project, home: Path) -> None:
    # Given another launcher of the same home
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home))) as other:
        beside = Project(project.folder, other)
        # When
        runs = [project.launch(), beside.launch(), project.launch(), beside.launch()]
        # Then
        assert [project.ended(run_id) for run_id in runs] == [Status.SUCCESS] * 4
        zygote = beside.zygote()
        assert zygote != project.zygote()
    wait_until(lambda: not is_there(zygote), 10)  # its launcher is gone
    project.succeeded()


def test_a_run_that_was_given_up_before_it_began_does_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launcher fails between the fork and the moment at which it lets the run begin."""
    project.succeeded()

    def fails(*_: object) -> None:
        raise OSError("the database is away")

    run = project.created()
    with monkeypatch.context() as patch:
        patch.setattr(project.instance, "add_run_tags", fails)
        with pytest.raises(OSError, match="the database is away"):
            project.instance.launch_run(run.run_id, workspace=None)
    wait_until(lambda: not psutil.Process(project.zygote()).children())
    assert project.run(run.run_id).status == Status.FAILURE
    assert not any("Started process" in line for line in project.told(run.run_id))
    project.succeeded()


def test_a_project_that_cannot_be_imported_fails_its_run(project: Project) -> None:
    (project.folder / "helper.py").write_text("1 / 0\n")
    run_id = project.launch()
    assert project.ended(run_id) == Status.FAILURE
    assert any("ZeroDivisionError" in str(entry.dagster_event) for entry in project.instance.all_logs(run_id))
    project.edit(7)
    assert project.facts(project.succeeded())["value"] == 7


def test_a_process_that_launches_and_is_killed_leaves_nothing_behind_but_runs_at_work(
    project: Project, home: Path
) -> None:
    # Given
    (project.folder / "wait").touch()
    run = project.created()
    command = """
        import sys, time
        import dagster as dg
        instance = dg.DagsterInstance.from_config(sys.argv[1])
        instance.launch_run(sys.argv[2], workspace=None)
        (zygote,) = instance.run_launcher._zygotes.values()
        print(zygote._process.pid, flush=True)
        time.sleep(600)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(command), str(home), run.run_id], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    zygote = int(process.stdout.readline())
    wait_until((project.folder / "waits").exists)
    # When
    process.kill()
    process.wait()
    # Then the run goes on, as one of Dagster's launcher does
    time.sleep(0.5)
    assert is_there(zygote)
    project.go_on()
    assert project.ended(run.run_id) == Status.SUCCESS
    wait_until(lambda: not is_there(zygote), 10)


def test_sigterm_to_all_processes_as_systemd_sends_it_ends_runs_and_zygote(project: Project) -> None:
    run_id = project.at_work()
    zygote = project.zygote()
    for pid in (zygote, project.pid(run_id)):
        os.kill(pid, signal.SIGTERM)
    assert project.ended(run_id, 20) in (Status.FAILURE, Status.CANCELED)
    wait_until(lambda: not is_there(zygote), 10)


def test_a_run_that_cannot_be_forked_is_begun_by_dagsters_launcher(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an installed library that starts a thread when it is imported, so that forking is not safe
    packages = installed(tmp_path, monkeypatch)
    thread = (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True, name='busy').start()\n"
    )
    (packages / "helper.py").write_text(f"{thread}def value():\n    return 5\n")
    (project.folder / "helper.py").unlink()
    project.succeeded()
    wait_until(lambda: "helper" in project.remembered())
    target = PythonFileTarget(str(project.folder / "definitions.py"), None, str(project.folder), project.location)
    with WorkspaceProcessContext(project.instance, target) as process:
        workspace = process.create_request_context()
        # When
        (project.folder / "wait").touch()
        (project.folder / "waits").unlink()
        run, other = project.created(), project.created(executable="/another/python")
        for each in (run, other):
            project.instance.launch_run(each.run_id, workspace)
        # Then
        why = "The run begins in a process that imports everything: a library has started threads when it was imported: busy"
        assert (why in project.told(run.run_id), why in project.told(other.run_id)) == (True, False)
        assert {GRPC_INFO_TAG} < {*project.run(run.run_id).tags}
        # And it is terminated by that launcher, too
        wait_until((project.folder / "waits").exists)
        assert project.launcher.terminate(run.run_id)
        assert project.ended(run.run_id) == Status.CANCELED
        project.go_on()
        assert project.ended(other.run_id) == Status.SUCCESS
        assert project.facts(other.run_id)["value"] == 5


def test_the_home_may_have_a_long_path(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 40) / ("longer" * 30)
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text(YAML)
    write_project(tmp_path / "project")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        Project(tmp_path / "project", instance).succeeded()


def test_the_queues_daemon_starts_the_zygotes_of_known_code_locations(project: Project, home: Path) -> None:
    project.succeeded()
    memory = memory_of(project.instance.root_directory, project.location)
    wait_until(memory.exists)
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home))) as daemons:
        queue = daemons.run_coordinator
        assert isinstance(queue, WarmRunQueue)
        assert queue.dequeue_interval_seconds == 5
        launcher = daemons.run_launcher
        assert isinstance(launcher, WarmRunLauncher)
        assert [*launcher._zygotes] == [project.location]


def test_a_zygote_that_is_importing_ends_with_its_launcher(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given libraries whose import takes a minute
    packages, names = installed(tmp_path, monkeypatch), [f"slow_{number}" for number in range(60)]
    for name in names:
        (packages / f"{name}.py").write_text("import time\ntime.sleep(1)\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        remember(memory_of(instance.root_directory, "two assets"), names)
        project = Project(tmp_path, instance)
        project.launcher.prepare()
        zygote = project.zygote()
        wait_until((packages / "__pycache__" / f"slow_0.{sys.implementation.cache_tag}.pyc").exists)
        # When its launcher lets it go
    # Then
    wait_until(lambda: not is_there(zygote), 10)


def test_what_is_remembered_wrongly_is_left_out(project: Project) -> None:
    memory = memory_of(project.instance.root_directory, project.location)
    remember(memory, ["no_such_module", "antigravity_of_nobody", "sqlite3"])
    project.succeeded()
    wait_until(lambda: "no_such_module" not in remembered(memory))
    memory.write_text("{")
    assert remembered(memory) == []


@pytest.mark.parametrize("name", ["dagster.yaml", "dagster-postgres.yaml"])
def test_new_homes_have_it(name: str) -> None:
    text = (Path(bikes_assets.__file__).parent / name).read_text()
    assert "class: WarmRunLauncher" in text
    assert "class: WarmRunQueue" in text


def test_a_home_from_before_keeps_dagsters_launcher_and_queue(home: Path) -> None:
    text = (Path(bikes_assets.__file__).parent / "dagster.yaml").read_text()
    (home / "dagster.yaml").write_text(text.partition("# A run begins")[0] + "# One" + text.partition("# One")[2])
    os.environ["DAGSTER_HOME"] = str(home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert type(instance.run_launcher) is dg.DefaultRunLauncher
        assert type(instance.run_coordinator) is dg.QueuedRunCoordinator
        assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 2
