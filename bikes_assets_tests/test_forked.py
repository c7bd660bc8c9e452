"""Processes that are forked are those that were asked for: of their own code, variables, folder and end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bikes_assets_tests import forked

TOLD = "import os, sys; print(os.environ.get('OWN'), os.getcwd(), sys.argv, 'INHERITED' in os.environ)"


def test_a_process_has_its_own_variables_folder_and_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INHERITED", "1")
    done = forked.run(("-c", TOLD, "a", "b"), environment={"OWN": "value"}, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"value {tmp_path} ['-c', 'a', 'b'] False\n"


def test_a_process_imports_the_code_that_its_path_names(tmp_path: Path) -> None:
    (tmp_path / "bikes_assets").mkdir()
    for text in ("one", "other"):
        (tmp_path / "bikes_assets" / "__init__.py").write_text(f"TEXT = {text!r}\n")
        known = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        done = forked.run(("-c", "import bikes_assets; print(bikes_assets.TEXT)"), environment=known, folder="/")
        assert done.stdout == f"{text}\n", done.stderr


@pytest.mark.parametrize(
    ("program", "code", "printed"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('told')", 1, "told\n"),
        ("raise ValueError('told')", 1, "ValueError: told\n"),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
        ("import atexit, sys; atexit.register(print, 'told', file=sys.stderr)", 0, "told\n"),
    ],
)
def test_a_process_ends_as_an_interpreter_does(program: str, code: int, printed: str) -> None:
    done = forked.run(("-c", program), environment=os.environ, folder="/")
    assert done.returncode == code
    assert done.stderr.endswith(printed)


def test_a_process_that_takes_too_long_is_killed() -> None:
    done = forked.run(("-c", "import time; time.sleep(60)"), environment=os.environ, folder="/", seconds=0.5)
    assert done.returncode == -9
