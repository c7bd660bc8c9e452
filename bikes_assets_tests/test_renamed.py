"""Modules are found by the names of the release before, and are the same modules."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from bikes_assets.renamed import MODULES


@pytest.mark.parametrize("old", MODULES)
def test_a_module_by_its_old_name_is_the_one_by_its_present_name(old: str) -> None:
    # Given a process that has imported neither
    program = (
        f"import bikes_assets.{old} as old, bikes_assets.{MODULES[old]} as new, importlib\n"
        f"assert old is new and new.__spec__.name == new.__name__ == 'bikes_assets.{MODULES[old]}', new.__spec__\n"
        f"assert importlib.import_module('bikes_assets.{old}') is new"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_module_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match="nonesuch"):
        import_module("bikes_assets.adapters.nonesuch")
