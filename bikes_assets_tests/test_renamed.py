"""Modules are found by the names of the release before, and are the same modules."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from bikes_assets.renamed import MODULES, Renamed

LOOK = """
import importlib, sys
from bikes_assets.renamed import MODULES
wrong = []
for old, new in sorted(MODULES.items(), reverse=bool(sys.argv[2:])):
    pair = (old, new) if sys.argv[1] == "old" else (new, old)
    first, second = (importlib.import_module(f"bikes_assets.{name}") for name in pair)
    if first is not second or not first.__spec__.name == first.__name__ == f"bikes_assets.{new}":
        wrong.append(old)
print(wrong)
"""


@pytest.mark.parametrize("arguments", [("old",), ("old", "backwards"), ("new",)], ids=" ".join)
def test_a_module_by_its_old_name_is_the_one_by_its_present_name(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-c", LOOK, *arguments], capture_output=True, text=True, check=True)
    assert len(MODULES) > 20
    assert done.stdout == "[]\n"


def test_another_project_has_modules_of_these_names_too() -> None:
    found = [name for name in MODULES if Renamed().find_spec(name) or Renamed().find_spec(f"other.{name}")]
    assert found == []


def test_a_module_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match="nonesuch"):
        import_module("bikes_assets.adapters.nonesuch")
