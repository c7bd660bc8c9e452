"""What a killed process leaves is removed by the next one, which touches nothing of a living one; and children end with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from bikes_assets.storage.code.working_tree import remove_abandoned
from bikes_assets.storage.processes import Process
from bikes_assets.storage.scratch import abandoned, scratch_folder
from bikes_assets_tests.repositories import git
from bikes_assets_tests.storage.code.test_environment import checkout  # noqa: F401

PROGRAM = """
import sys, time
from pathlib import Path
from bikes_assets.storage.scratch import scratch_folder
from bikes_assets.storage.code.working_tree import WorkingTreeDiff, checked_out

root = Path(sys.argv[1])
with scratch_folder() as folder, checked_out(root, sys.argv[2], WorkingTreeDiff(), folder / "tree"):
    (folder / "lake").mkdir()
    print("there", flush=True)
    time.sleep(300)
"""
Begin = Callable[..., "subprocess.Popen[str]"]


def wait_until(holds: Callable[[], object], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of this test's own, in which temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def begin(checkout: Path, temporary: Path) -> Iterator[Begin]:  # noqa: F811
    """Return what begins a process that has a worktree of a repository in a temporary folder."""
    begun: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM, str(checkout), git(checkout, "rev-parse", "HEAD")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        begun.append(process)
        return process

    assert temporary.is_dir()
    yield start
    for process in begun:
        process.kill()
        process.communicate()


def worktrees(root: Path) -> int:
    return git(root, "worktree", "list").count("\n")


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(
    checkout: Path,  # noqa: F811
    temporary: Path,
    begin: Begin,
) -> None:
    # Given a process that was killed and one that lives, each with a worktree, and a worktree of the user's
    dead, living = begin(), begin()
    for process in (dead, living):
        assert process.stdout
        assert process.stdout.readline() == "there\n"
    own = temporary / "own"
    git(checkout, "worktree", "add", "--quiet", "--detach", str(own))
    own.rename(temporary / "not mounted now")
    dead.kill()
    dead.wait()
    assert (worktrees(checkout), len([*temporary.glob("bikes-*")])) == (3, 2)
    # When
    remove_abandoned(checkout)
    # Then
    (left,) = temporary.glob("bikes-*")
    assert str(Process.of(living.pid)) in left.name
    assert (left / "tree" / "code.py").exists()
    assert worktrees(checkout) == 2


def test_a_worktree_that_was_being_made_is_removed_though_git_has_locked_it(
    checkout: Path,  # noqa: F811
    temporary: Path,
    begin: Begin,
) -> None:
    # Given git in the midst of a checkout, which waits for a filter, killed together with who called it
    (checkout / ".gitattributes").write_text("*.py filter=slow\n")
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "slow")
    git(checkout, "config", "filter.slow.smudge", "sleep 300")
    process = begin()
    wait_until(lambda: [*(checkout / ".git" / "worktrees").glob("*/locked")], "git locked a worktree")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert worktrees(checkout) == 1
    # When
    remove_abandoned(checkout)
    # Then
    assert worktrees(checkout) == 0
    assert [*temporary.glob("bikes-*")] == []


def test_a_temporary_folder_of_a_process_that_is_gone_is_removed_by_the_next(temporary: Path) -> None:
    here = Process.this()
    kept = [f"bikes-scratch-{here}-a", f"bikes-scratch-4194303@1@not-{here.host}-b", "bikes-scratch-x", "bikes-else"]
    for name in (*kept, f"bikes-scratch-4194303@1@{here.host}-c", f"bikes-scratch-{here.pid}@1@{here.host}-d"):
        (temporary / name / "inside").mkdir(parents=True)
    with scratch_folder() as folder:
        assert abandoned(folder / "inside") is None
        assert sorted(item.name for item in temporary.iterdir()) == sorted((*kept, folder.name))
    assert not folder.exists()


CHILD = "from bikes_assets.storage.processes import ending_with_this as e; import signal, subprocess, sys, time; "
CHILD += (
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'], preexec_fn=e(signal.SIGKILL)); "
)
CHILD += "print(child.pid, flush=True); time.sleep(300)"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a child that its parent is gone")
def test_a_child_ends_with_its_parent_however_that_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the child ended")
