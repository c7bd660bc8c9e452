"""The size of packages, classes and functions: what is larger has more than one subject."""

from __future__ import annotations

import ast
from pathlib import Path

import bikes_assets

ROOT = Path(bikes_assets.__file__).parent
MOST_FILES, MOST_OF_CLASS, MOST_OF_FUNCTION = 15, 250, 60


def test_no_package_has_more_files_than_one_sees_at_a_glance() -> None:
    counts = {folder: len([*folder.glob("*.py")]) for folder in [ROOT, *ROOT.rglob("*/")]}
    assert {str(folder.relative_to(ROOT)): count for folder, count in counts.items() if count > MOST_FILES} == {}


def test_no_class_or_function_is_longer_than_a_few_screens() -> None:
    found = {
        f"{'.'.join(file.relative_to(ROOT).with_suffix('').parts)}.{node.name}": (node.end_lineno or 0)
        - node.lineno
        + 1
        for file in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        and (node.end_lineno or 0) - node.lineno
        >= (MOST_OF_CLASS if isinstance(node, ast.ClassDef) else MOST_OF_FUNCTION)
    }
    assert found == {}
