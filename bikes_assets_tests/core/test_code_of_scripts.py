"""A file has one code version however it is run: as a script, as a module, imported, or loaded by its path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from {package}helpers import helper

def asset():
    return helper()

def told():
    from bikes_assets.core.code_version import code_version, module_of
    return code_version(module_of(asset), "asset")

if __name__ == "__main__":
    print(told())
"""
IMPORTED = "from {module} import told; print(told())"
BY_PATH = "from dagster._core.code_pointer import load_python_file; print(load_python_file({file!r}, None).told())"


def run(folder: Path, *arguments: str, path: str = "") -> str:
    """Return what a Python process says that is started in a folder."""
    root = Path(__file__).parents[2]
    known = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(root), path]))}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=known, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def layout(root: Path, kind: str) -> Path:
    """Write a script and what it imports: beside each other, or in a package with or without an `__init__.py`."""
    folder = root / kind
    folder.mkdir(parents=True)
    package = "" if kind == "loose" else f"{kind}."
    (folder / "pipeline.py").write_text(SCRIPT.format(package=package))
    (folder / "helpers.py").write_text("def helper():\n    return 1\n")
    if kind == "package":
        (folder / "__init__.py").touch()
    return folder


def forms(root: Path, kind: str) -> dict[str, str]:
    """Return the code version in every form in which the script can be run."""
    folder, file = root / kind, str(root / kind / "pipeline.py")
    if kind == "loose":
        return {
            "script": run(root, file),
            "module": run(folder, "-m", "pipeline"),
            "import": run(folder, "-c", IMPORTED.format(module="pipeline")),
            "by path": run(root, "-c", BY_PATH.format(file=file), path=str(folder)),
        }
    module = f"{kind}.pipeline"
    return {
        "script": run(folder, "pipeline.py", path=str(root)),
        "module": run(root, "-m", module),
        "import": run(root, "-c", IMPORTED.format(module=module)),
        "by path": run(folder, "-c", BY_PATH.format(file=file), path=str(root)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["loose", "package", "namespace"])
def test_a_file_has_one_code_version_in_every_form(tmp_path: Path, kind: str) -> None:
    folder = layout(tmp_path, kind)
    before = forms(tmp_path, kind)
    assert len(set(before.values())) == 1, before
    (folder / "helpers.py").write_text("def helper():\n    return 2\n")
    after = forms(tmp_path, kind)
    assert len(set(after.values())) == 1, after
    assert set(after.values()) != set(before.values())


def test_what_lies_elsewhere_does_not_count_for_a_script(tmp_path: Path) -> None:
    folder, elsewhere = layout(tmp_path, "loose"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "helpers.py").rename(elsewhere / "helpers.py")
    before = run(tmp_path, str(folder / "pipeline.py"), path=str(elsewhere))
    (elsewhere / "helpers.py").write_text("def helper():\n    return 2\n")
    assert run(tmp_path, str(folder / "pipeline.py"), path=str(elsewhere)) == before


SESSION = """
import dagster as dg
from bikes_assets.orchestration.asset import with_lineage

@dg.asset{given}
def rows():
    return 1

(found,) = with_lineage([rows])
print(next(iter(found.specs)).code_version)
"""


def test_a_function_that_was_typed_into_a_session_needs_a_code_version_of_its_own(tmp_path: Path) -> None:
    message = "SettingsError: rows: found a function that was typed into a session, expected one of a file"
    with pytest.raises(AssertionError, match=message):
        run(tmp_path, "-c", SESSION.format(given=""))
    assert run(tmp_path, "-c", SESSION.format(given="(code_version='7')")) == "7"
