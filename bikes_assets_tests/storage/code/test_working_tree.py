"""A working tree that is had again as it was, in real git repositories."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bikes_assets.core.errors import LineageError
from bikes_assets.storage.code import working_tree
from bikes_assets.storage.code.foreign_git import has_commit
from bikes_assets.storage.code.working_tree import WorkingTreeDiff, checked_out
from bikes_assets_tests.repositories import git
from bikes_assets_tests.storage.code.test_environment import checkout  # noqa: F401


def difference(root: Path) -> WorkingTreeDiff:
    working_tree.difference.cache_clear()
    return working_tree.difference(root)


def files(root: Path) -> dict[str, tuple[str, bytes]]:
    """Return what stands in a tree: mode and content by path."""
    return {
        path.relative_to(root).as_posix(): (
            oct(path.lstat().st_mode),
            os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes(),
        )
        for path in sorted(root.rglob("*"))
        if (path.is_file() or path.is_symlink()) and ".git" not in path.relative_to(root).parts
    }


def change(root: Path) -> None:
    (root / "code.py").write_text("x = 2\nä = 'no newline at the end'")
    (root / "data.bin").write_bytes(bytes(range(255, -1, -1)))
    (root / "staged.py").write_text("y = 1\n")
    git(root, "add", "staged.py")
    (root / "new").mkdir()
    (root / "new" / "a file.sh").write_text("#!/bin/sh\r\n")
    (root / "new" / "a file.sh").chmod(0o755)
    (root / "new" / "empty").touch()
    (root / "link").symlink_to("code.py")


def test_a_tree_is_had_again_as_it_was_from_what_was_packed(checkout: Path, tmp_path_factory) -> None:  # noqa: F811
    # Given
    change(checkout)
    commit, before, packed = git(checkout, "rev-parse", "HEAD"), files(checkout), difference(checkout).packed()
    # When all of it has moved on, in another clone
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "second")
    clone = tmp_path_factory.mktemp("clone")
    git(checkout, "clone", "--quiet", str(checkout), str(clone))
    hook = clone / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {clone}/hooked\n")
    hook.chmod(0o755)
    # Then
    with checked_out(clone, commit, WorkingTreeDiff.unpacked(packed), clone.parent / "tree") as tree:
        assert files(tree) == before
        assert git(clone, "worktree", "list").count("\n") == 1
    assert git(clone, "worktree", "list").count("\n") == 0
    assert not tree.exists()
    assert not (clone / "hooked").exists()
    assert git(clone, "status", "--porcelain") == ""


@pytest.fixture
def monorepo(checkout: Path) -> Path:  # noqa: F811
    """A repository with a project in a folder of an odd name, both with a file of the same name, both changed."""
    project = checkout / "services" / "bikes é"
    project.mkdir(parents=True)
    (project / "code.py").write_text("z = 1\n")
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "second")
    (project / "code.py").write_text("z = 2\n")
    (project / "new.py").write_text("z = 3\n")
    (checkout / "code.py").write_text("x = 'of another team'\n")
    (checkout / "new.py").write_text("x = 'of another team'\n")
    git(checkout, "add", "new.py")
    return project


def test_of_a_project_within_a_repository_nothing_is_held_of_the_rest(monorepo: Path, tmp_path_factory) -> None:
    # Given what the project's own files differ by
    found = difference(monorepo)
    assert b"of another team" not in found.packed()
    assert [*found.files] == ["new.py"]
    # When the rest changes
    (monorepo.parents[1] / "data.bin").unlink()
    # Then it is the same, and comes back without the rest
    assert difference(monorepo).digest == found.digest
    commit = git(monorepo, "rev-parse", "HEAD")
    with checked_out(
        monorepo, commit, WorkingTreeDiff.unpacked(found.packed()), tmp_path_factory.mktemp("in") / "t"
    ) as tree:
        assert files(tree) == files(monorepo)
        assert (tree.parents[1] / "code.py").read_text() == "x = 1\n"


def test_what_was_held_of_a_whole_repository_still_comes_back(monorepo: Path, tmp_path_factory) -> None:
    # Given a difference as earlier versions recorded it: its patch is of the repository, its files are of the project
    command = ["git", "-C", str(monorepo), "diff", "HEAD", "--binary", "--full-index", "--no-ext-diff", "--no-textconv"]
    patch = subprocess.run([*command, "--no-renames"], check=True, capture_output=True).stdout
    assert b"of another team" in patch
    older = WorkingTreeDiff(patch, difference(monorepo).files)
    # Then it comes back, all of it
    commit = git(monorepo, "rev-parse", "HEAD")
    with checked_out(monorepo, commit, older, tmp_path_factory.mktemp("in") / "tree") as tree:
        assert files(tree) == files(monorepo)
        assert (tree.parents[1] / "code.py").read_text() == "x = 'of another team'\n"


@pytest.mark.parametrize(
    "setting",
    ["diff.noprefix true", "diff.mnemonicPrefix true", "color.ui always", "diff.context 7", "core.quotePath false"],
)
def test_what_is_held_does_not_depend_on_how_its_user_likes_to_see_it(monorepo: Path, setting: str) -> None:
    (monorepo / "code.py").rename(monorepo / "ö.py")
    git(monorepo, "add", ".")
    plain = difference(monorepo)
    assert plain.patch
    git(monorepo, "config", *setting.split())
    assert difference(monorepo) == plain


def test_a_repository_within_this_one_is_named_alone(checkout: Path, tmp_path: Path) -> None:  # noqa: F811
    (checkout / "inner").mkdir()
    git(checkout / "inner", "init", "--quiet")
    (checkout / "inner" / "code.py").write_text("z = 1\n")
    (checkout / "new.py").write_text("y = 1\n")
    found = difference(checkout)
    assert found.digest != WorkingTreeDiff(b"", {"new.py": found.files["new.py"]}).digest
    kept = WorkingTreeDiff.unpacked(found.packed())
    assert kept == found
    assert kept.digest == found.digest
    with checked_out(checkout, git(checkout, "rev-parse", "HEAD"), kept, tmp_path / "tree") as tree:
        assert (tree / "new.py").exists()
        assert not (tree / "inner").exists()


def test_trees_that_follow_each_other_in_one_place_are_each_held_against_their_difference(
    checkout: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    for text in ("y = 1\n", "y = 2\n"):
        (checkout / "new.py").write_text(text)
        with checked_out(checkout, git(checkout, "rev-parse", "HEAD"), difference(checkout), tmp_path / "tree") as tree:
            assert (tree / "new.py").read_text() == text


def test_of_what_is_too_large_the_digest_alone_is_held(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    change(checkout)
    whole = difference(checkout)
    monkeypatch.setattr(working_tree, "MAX_BYTES", 10)
    found = difference(checkout)
    assert (found.patch, found.files) == (b"", {})
    assert found.digest == found.dropped == whole.digest


def test_a_clean_tree_has_no_difference(checkout: Path) -> None:  # noqa: F811
    assert difference(checkout) == WorkingTreeDiff(b"", {})
    assert difference(checkout).digest == ""


def test_a_commit_that_is_not_there_is_named(checkout: Path, tmp_path: Path) -> None:  # noqa: F811
    gone = "0" * 40
    assert not has_commit(checkout, gone)
    assert not has_commit(checkout, "")
    assert has_commit(checkout, git(checkout, "rev-parse", "HEAD"))
    with (
        pytest.raises(LineageError, match=f"commit {gone} cannot be had"),
        checked_out(checkout, gone, WorkingTreeDiff(), tmp_path / "tree"),
    ):
        pass


def test_a_difference_that_does_not_fit_is_an_error_and_leaves_no_tree(checkout: Path, tmp_path: Path) -> None:  # noqa: F811
    change(checkout)
    found = difference(checkout)
    git(checkout, "rm", "--quiet", "--force", "code.py")
    git(checkout, "commit", "--quiet", "-m", "without it")
    with (
        pytest.raises(LineageError, match="does not fit commit"),
        checked_out(checkout, git(checkout, "rev-parse", "HEAD"), found, tmp_path / "tree"),
    ):
        pass
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize("name", ["../out", "out/../../out", "away/out"])
def test_a_difference_writes_nothing_outside_its_tree(checkout: Path, tmp_path: Path, name: str) -> None:  # noqa: F811
    away = tmp_path.parent / f"{tmp_path.name} away"
    away.mkdir(exist_ok=True)
    forged = WorkingTreeDiff(b"", {"away": (0o120000, str(away).encode()), name: (0o644, b"x")})
    place = tmp_path / "in" / "tree"
    with (
        pytest.raises(LineageError, match="leaves the project's folder"),
        checked_out(checkout, git(checkout, "rev-parse", "HEAD"), forged, place),
    ):
        pass
    assert not [*away.iterdir()]
    assert not (tmp_path / "in" / "out").exists()
    shutil.rmtree(away)


def test_what_is_no_difference_is_refused() -> None:
    with pytest.raises(LineageError, match="no difference of a working tree"):
        WorkingTreeDiff.unpacked(b"nonsense" * 200)
