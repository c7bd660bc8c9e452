"""The text of functions: as people wrote it, and never of another code than the code version stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from bikes_assets.core.code_version import code_version_of, reached_code
from bikes_assets.core.source_text import function_digests, source_text

MAIN = """\
import math

# How far it goes:
# not farther.
LIMIT = 3  # steps
LOW = 1; HIGH = 2

# Of another matter.

def main(x):
    \"\"\"Return it.\"\"\"
    # one more
    return inner(x) + LIMIT + LOW + HIGH


@staticmethod
# the inner one
def inner(x):
    return x
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"texts_{abs(hash(request.node.name))}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "main.py").write_text(MAIN)
    return f"{name}.main"


def test_a_text_has_comments_decorators_and_what_stands_right_above(module: str) -> None:
    assert source_text(f"{module}.LIMIT") == "# How far it goes:\n# not farther.\nLIMIT = 3  # steps\n"
    assert source_text(f"{module}.main").startswith("def main(x):\n")
    assert "    # one more\n" in source_text(f"{module}.main")
    assert source_text(f"{module}.inner").startswith("@staticmethod\n# the inner one\ndef inner")


def test_of_two_statements_in_a_line_each_has_its_own(module: str) -> None:
    assert (source_text(f"{module}.LOW"), source_text(f"{module}.HIGH")) == ("LOW = 1\n", "HIGH = 2\n")


@pytest.mark.parametrize("edited", [MAIN.replace("return x\n", "return -x\n"), "x = (\n", ""])
def test_a_file_that_was_edited_meanwhile_is_not_taken_for_what_was_read(
    module: str, tmp_path: Path, edited: str
) -> None:
    # Given a code version of a file that is edited afterwards
    reached = reached_code(module, "main")
    (tmp_path / module.replace(".", "/")).with_suffix(".py").write_text(edited)
    # Then
    assert source_text(f"{module}.inner") == "@staticmethod\ndef inner(x):\n    return x\n"
    assert code_version_of(reached_code(module, "main")) == code_version_of(reached)


def test_each_function_has_a_digest(module: str) -> None:
    digests = function_digests(reached_code(module, "main"))
    assert {name.rpartition(".")[2] for name in digests} == {"main", "inner", "LIMIT", "LOW", "HIGH"}
    assert all(len(bytes.fromhex(digest)) == 16 for digest in digests.values())
