"""What a computation ran in, told of real git repositories."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bikes_assets.storage.code.environment import environment, user
from bikes_assets.storage.code.working_tree import commit_of
from bikes_assets.storage.code.working_tree import difference as difference_of
from bikes_assets_tests.repositories import git


def told(root: Path) -> dict[str, Any]:
    """Return the environment as a process would see it that asks for the first time."""
    for known in (environment, commit_of, difference_of):
        known.cache_clear()
    return environment(root)


def difference(root: Path) -> str:
    return told(root)["git_diff"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit of a text, a binary and an ignore file."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "code.py").write_text("x = 1\n")
    (tmp_path / "data.bin").write_bytes(bytes(range(256)))
    (tmp_path / ".gitignore").write_text("ignored\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return tmp_path


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    # When
    found = told(checkout)
    # Then
    assert found["git_commit"] == git(checkout, "rev-parse", "HEAD")
    assert len(found["git_commit"]) == 40
    assert found["git_diff"] == ""


def test_python_machine_and_libraries_are_named(checkout: Path) -> None:
    found = told(checkout)
    assert found["python"] == platform.python_version()
    assert found["machine"] == platform.machine()
    assert found["libraries"]["pyarrow"] == pa.__version__
    assert sorted(found["libraries"]) == [
        "dagster",
        "deltalake",
        "mlflow",
        "narwhals",
        "numpy",
        "pandas",
        "pyarrow",
        "scikit-learn",
        "scipy",
        "skops",
    ]


def test_the_lock_file_is_told_by_its_digest(checkout: Path) -> None:
    assert told(checkout)["lock"] == ""
    (checkout / "requirements.lock").write_bytes(b"numpy==2.2.0\n")
    assert told(checkout)["lock"] == hashlib.sha256(b"numpy==2.2.0\n").hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "code.py").write_text("x = 2\n"),
        lambda root: (root / "code.py").unlink(),
        lambda root: (root / "code.py").chmod(0o755),
        lambda root: (root / "data.bin").write_bytes(bytes(range(255, -1, -1))),
        lambda root: (root / "new.py").write_text(""),
        lambda root: (root / "ä b\n.py").write_text("y = 1"),
        lambda root: (root / "link").symlink_to("nowhere"),
        lambda root: (root / "folder_link").symlink_to(root),
        lambda root: git(root, "init", "--quiet", "inner"),
        lambda root: git(root, "mv", "code.py", "moved.py"),
    ],
    ids=[
        "text",
        "deleted",
        "mode",
        "binary",
        "empty new",
        "odd name",
        "dangling link",
        "link to folder",
        "inner",
        "staged",
    ],
)
def test_each_change_shows_and_goes_with_its_cause(checkout: Path, change: Callable[[Path], Any]) -> None:
    # When
    change(checkout)
    # Then it shows, the same each time
    changed = difference(checkout)
    assert len(changed) == 32
    assert difference(checkout) == changed
    # When all is put away
    git(checkout, "add", "--all", "--force", ":!inner")
    git(checkout, "reset", "--hard", "--quiet")
    git(checkout, "clean", "-ffdq")
    # Then
    assert difference(checkout) == ""


def test_another_change_is_another_difference(checkout: Path) -> None:
    # Given
    found = set()
    for name, text in [
        ("code.py", "x = 2\n"),
        ("code.py", "x = 3\n"),
        ("new.py", "a"),
        ("new.py", "b"),
        ("newer.py", "b"),
    ]:
        (checkout / name).write_text(text)
        found.add(difference(checkout))
    # Then
    assert len(found) == 5


def test_an_ignored_file_does_not_count(checkout: Path) -> None:
    (checkout / "ignored").write_text("anything")
    assert difference(checkout) == ""


def test_how_the_user_likes_to_see_differences_does_not_count(checkout: Path) -> None:
    # Given
    (checkout / "code.py").write_text("x = 2\n")
    plain = difference(checkout)
    # When a program that shows nothing is configured for showing differences
    git(checkout, "config", "diff.external", "true")
    # Then
    assert plain != ""
    assert difference(checkout) == plain


def test_a_folder_outside_git_has_no_commit(tmp_path: Path) -> None:
    found = told(tmp_path)
    assert (found["git_commit"], found["git_diff"]) == ("", "")


def test_it_is_as_it_was_when_first_asked_for(checkout: Path) -> None:
    # Given
    first = told(checkout)
    # When
    (checkout / "code.py").write_text("x = 2\n")
    # Then
    assert environment(checkout) == first


def test_who_has_no_name_is_told_by_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert user() == getpass.getuser()
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises((KeyError, OSError)):
        getpass.getuser()
    assert user() == "54321"
