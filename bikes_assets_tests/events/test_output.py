"""What runs print: captured as Dagster does it, shown where they were started, and no process is left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.execution.compute_logs import mirror_stream_to_file
from dagster._core.storage.compute_log_manager import ComputeIOType
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager

import bikes_assets
from bikes_assets.events.warm.output import RunOutput

SHIPPED = Path(bikes_assets.__file__).parent
RUN = """
    import os, subprocess, sys, time
    import dagster as dg

    @dg.asset
    def printing() -> None:
        print("by Python")
        os.write(1, b"by the process\\n")
        subprocess.run(["echo", "by a child"])
        print("an error", file=sys.stderr)
        print("x" * 100_000)
        sys.stdout.flush()
        if len(sys.argv) > 1:
            open(sys.argv[1], "w").close()
            time.sleep(60)

    job = dg.Definitions([printing]).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.get() as instance:
        result = job.execute_in_process(instance=instance)
        print("run", result.run_id, "sees its own output again")
"""
EXPECTED = b"by Python\nby the process\nby a child\n" + b"x" * 100_000 + b"\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "dagster.yaml").write_text((SHIPPED / "dagster.yaml").read_text())
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return tmp_path


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(RUN), *words]


def test_what_a_run_prints_is_captured_and_shown(home: Path) -> None:
    done = subprocess.run(command(), capture_output=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert done.returncode == 0, done.stderr.decode()
    shown, _, run = done.stdout.rpartition(b"run ")
    assert shown == EXPECTED
    assert b"an error\n" in done.stderr
    # And Dagster's own manager reads it in the place where it looks by default
    with dg.DagsterInstance.from_config(str(home)) as instance:
        manager = instance.compute_log_manager
        assert isinstance(manager, RunOutput)
        (event,) = [
            entry.dagster_event
            for entry in instance.all_logs(run.split()[0].decode())
            if entry.dagster_event and entry.dagster_event.event_type_value == "LOGS_CAPTURED"
        ]
        key = [run.split()[0].decode(), "compute_logs", event.logs_captured_data.file_key]
        default = LocalComputeLogManager(str(home / "storage"))
        for reader in (manager, default):
            data = reader.get_log_data(key)
            assert (data.stdout, b"an error\n" in (data.stderr or b"")) == (EXPECTED, True)
            assert reader.is_capture_complete(key)
            assert reader.get_captured_local_path(key, "out") == manager.get_captured_local_path(key, "out")


def test_nothing_is_left_of_a_run_that_is_killed_while_it_prints(home: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(command(str(tmp_path / "prints")), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while not (tmp_path / "prints").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert psutil.Process(process.pid).children(recursive=True) == []
    process.send_signal(signal.SIGKILL)
    shown, _ = process.communicate(timeout=60)  # which waits until nobody has the other ends of these pipes
    assert EXPECTED.startswith(shown)


def test_a_reader_that_goes_away_or_does_not_read_holds_up_no_run(home: Path) -> None:
    for close in (True, False):
        process = subprocess.Popen(command(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout
        if close:
            process.stdout.close()
        begun = time.monotonic()
        while not [*home.glob("storage/*/compute_logs/*.complete")]:
            assert time.monotonic() < begun + 60
            time.sleep(0.05)
        for file in home.glob("storage/*/compute_logs/*.complete"):
            assert next(file.parent.glob("*.out")).read_bytes() == EXPECTED
            file.unlink()
        process.kill()
        process.wait()


def test_what_it_stands_in_for_is_as_it_was() -> None:
    """Once this fails, look at what Dagster's own manager does by now."""
    import inspect

    source = inspect.getsource(LocalComputeLogManager.capture_logs)
    assert "with mirror_stream_to_file(sys.stdout, outpath), mirror_stream_to_file(sys.stderr, errpath):" in source
    assert "touch_file(self.complete_artifact_path(log_key))" in source
    assert "with redirect_to_file(stream, filepath):" in inspect.getsource(mirror_stream_to_file)
    assert {kind.name for kind in ComputeIOType} == {"STDOUT", "STDERR"}
