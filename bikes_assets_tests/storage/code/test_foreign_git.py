"""The git history of folders that somebody else made: what they bring along is read and never obeyed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from bikes_assets.core.errors import StoreError
from bikes_assets.storage.code.foreign_git import commit_that_wrote, has_commit
from bikes_assets.tracking import client
from bikes_assets.tracking.client import one_by_one
from bikes_assets_tests.repositories import git

MD5 = "0123456789abcdef0123456789abcdef"
POINTER = f"outs:\n- md5: {MD5}\n  hash: md5\n  path: hour.csv\n"

# each has git run the program that it names, at one command or another
CONFIGURED = {
    "signature": {"log.showSignature": "true", "gpg.program": "{evil}"},
    "signature by another program": {"log.showSignature": "true", "gpg.openpgp.program": "{evil}"},
    "monitor of files": {"core.fsmonitor": "{evil}"},
    "external diff": {"diff.external": "{evil}"},
    "driver of a diff": {"diff.x.command": "{evil}", "diff.x.textconv": "{evil}"},
    "filter": {"filter.x.clean": "{evil}", "filter.x.smudge": "{evil}", "filter.x.process": "{evil}"},
    "pager": {"core.pager": "{evil}", "pager.log": "{evil}", "core.editor": "{evil}"},
    "alias": {"alias.log": "!{evil}", "alias.rev-parse": "!{evil}"},
    "hooks": {"core.hooksPath": "{folder}"},
    "commands of the way": {"core.sshCommand": "{evil}", "core.gitProxy": "{evil}", "core.askPass": "{evil}"},
    "credentials": {"credential.helper": "!{evil}", "core.alternateRefsCommand": "{evil}"},
    "another file of settings": {"include.path": "{folder}/included"},
    "another working tree": {"core.worktree": "/"},
    "a promise": {
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": "ext::{evil}",
        "protocol.ext.allow": "always",
    },
    "what an unknown version needs": {"core.repositoryFormatVersion": "99", "extensions.unknown": "true"},
}


def repository(root: Path, *, kind: str = "sha1") -> str:
    """Make a repository whose one commit, said to be signed, holds a pointer; return the commit."""
    root.mkdir()
    git(root, "init", "--quiet", f"--object-format={kind}")
    (root / ".gitattributes").write_text("* diff=x filter=x\n")
    (root / "hour.csv.dvc").write_text(POINTER)
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "first")
    signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n abc\n -----END PGP SIGNATURE-----\n\n"
    written = git(root, "cat-file", "commit", "HEAD").replace("\n\n", f"\n{signature}", 1) + "\n"
    command = ["git", "-C", str(root), "hash-object", "-t", "commit", "-w", "--stdin"]
    commit = subprocess.run(command, input=written, capture_output=True, check=True, text=True).stdout.strip()
    git(root, "update-ref", "HEAD", commit)
    return commit


def configure(root: Path, settings: dict[str, str]) -> Path:
    """Write settings into a repository's configuration, and return the file that their program makes."""
    evil, canary = root / ".git" / "evil", root.parent / "canary"
    evil.write_text(f"#!/bin/sh\ntouch {canary}\n")
    evil.chmod(0o755)
    for name in ("post-checkout", "post-index-change", "reference-transaction"):
        (root / ".git" / name).symlink_to(evil)
    (root / ".git" / "included").write_text(f"[gpg]\n\tprogram = {evil}\n[log]\n\tshowSignature = true\n")
    for name, value in settings.items():
        git(root, "config", "--file", str(root / ".git" / "config"), name, value.format(evil=evil, folder=evil.parent))
    return canary


@pytest.mark.parametrize("how", CONFIGURED)
def test_no_configuration_of_a_foreign_repository_is_obeyed(tmp_path: Path, how: str) -> None:
    root = tmp_path / "source"
    commit = repository(root)
    canary = configure(root, CONFIGURED[how])
    assert commit_that_wrote(root / "hour.csv.dvc", MD5) == commit
    assert has_commit(root, commit)
    assert not has_commit(root, "f" * 40)
    assert not canary.exists()


@pytest.mark.parametrize("how", ["signature", "another file of settings", "alias"])
def test_git_itself_obeys_it(tmp_path: Path, how: str) -> None:
    # Given that git runs no alias in the place of a command of its own
    root = tmp_path / "source"
    repository(root)
    canary = configure(root, CONFIGURED[how])
    git(root, "log", "-1")
    assert canary.exists() == (how != "alias")


def test_what_the_environment_says_of_git_is_of_another_repository(tmp_path: Path, monkeypatch) -> None:
    # Given variables as a hook of another repository has them
    commit, _ = repository(tmp_path / "source"), repository(tmp_path / "other", kind="sha1")
    there = {"GIT_DIR": "other/.git", "GIT_WORK_TREE": "other", "GIT_OBJECT_DIRECTORY": "nowhere"}
    for name, value in (there | {"GIT_EXTERNAL_DIFF": "touch"}).items():
        monkeypatch.setenv(name, str(tmp_path / value))
    assert commit_that_wrote(tmp_path / "source" / "hour.csv.dvc", MD5) == commit


@pytest.mark.parametrize("kind", ["sha1", "sha256"])
def test_worktrees_submodules_and_folders_of_a_repository_are_of_it(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "source"
    commit = repository(root, kind=kind)
    git(root, "worktree", "add", "--quiet", str(tmp_path / "linked"))
    (root / ".git").rename(tmp_path / "kept")  # as that of a submodule, which names it by a relative path
    (root / ".git").write_text("gitdir: ../kept\n")
    git(root, "pack-refs", "--all")
    (tmp_path / "linked" / ".git").write_text(f"gitdir: {tmp_path}/kept/worktrees/linked\n")
    for place in (root, tmp_path / "linked"):
        assert commit_that_wrote(place / "hour.csv.dvc", MD5) == commit
    (root / "deep" / "er").mkdir(parents=True)
    assert has_commit(root / "deep" / "er", commit)
    assert commit_that_wrote(root / "deep" / "hour.csv.dvc", MD5) == ""


def test_a_name_is_no_pattern(tmp_path: Path) -> None:
    root = tmp_path / "source"
    commit = repository(root)
    (root / "*.dvc").write_text(POINTER)
    assert commit_that_wrote(root / "*.dvc", MD5) == ""
    assert commit_that_wrote(root / "hour.csv.dvc", MD5) == commit


def damaged(git_folder: Path, how: str) -> None:
    head = git_folder / "HEAD"
    head.unlink()
    match how:
        case "a pipe":
            os.mkfifo(head)
        case "endless":
            head.symlink_to("/dev/zero")
        case "a loop":
            head.symlink_to("HEAD")
        case "large":
            head.write_bytes(b"ref: " + b"x" * 10**6)
        case "of another place":
            head.write_text("ref: ../../../../etc/passwd\n")
        case "bytes":
            head.write_bytes(bytes(range(256)))
        case _:
            head.mkdir()


@pytest.mark.parametrize("how", ["a pipe", "endless", "a loop", "large", "of another place", "bytes", "a folder"])
def test_a_damaged_repository_says_nothing_and_holds_nobody_up(tmp_path: Path, how: str) -> None:
    root = tmp_path / "source"
    repository(root)
    damaged(root / ".git", how)
    assert commit_that_wrote(root / "hour.csv.dvc", MD5) == ""


# The folder of locks


def test_locks_of_a_server_lie_in_a_folder_of_this_user_alone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(client.tempfile, "tempdir", str(tmp_path))
    for _ in range(2):
        with one_by_one("http://127.0.0.1:5000"):
            (folder,) = tmp_path.iterdir()
    assert (folder.name, folder.stat().st_mode & 0o777) == (f"bikes-assets-{os.getuid()}", 0o700)


@pytest.mark.parametrize("how", ["another's", "writable by all", "a link", "a dangling link", "a file"])
def test_a_folder_of_locks_that_somebody_else_made_is_refused(tmp_path: Path, monkeypatch, how: str) -> None:
    monkeypatch.setattr(client.tempfile, "tempdir", str(tmp_path))
    folder, other = tmp_path / f"bikes-assets-{os.getuid()}", tmp_path / "other"
    other.mkdir(mode=0o700)
    match how:
        case "another's":
            if os.getuid():
                pytest.skip("only root can give a folder away")
            folder.mkdir(mode=0o755)
            os.chown(folder, 65534, 65534)
        case "writable by all":
            folder.mkdir()
            folder.chmod(0o777)
        case "a file":
            folder.touch()
        case _:
            folder.symlink_to(other if how == "a link" else tmp_path / "nowhere")
    told = rf"^{folder}: found something that others can write to.* set TMPDIR"
    with pytest.raises(StoreError, match=told), one_by_one("http://127.0.0.1:5000"):
        raise AssertionError("the lock was taken")
    assert list(other.iterdir()) == []
