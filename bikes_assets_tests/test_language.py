"""The field's words: what CONTEXT.md says to avoid stands in no page, message, help text or name of a class or function."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import bikes_assets

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(bikes_assets.__file__).parent
ROOT = PACKAGE.parent
AVOIDED = {
    "current state, current": r"what is there now|\bpresent(ly)?\b",
    "materialized, rematerialized, unchanged": r"\b(re)?made\b|came out as|\bmakings?\b",
    "again, replace": r"\banew\b",
    "contributed to": r"\b(had|have|has) a part in\b",
    "verified by perturbation, perturb, output": r"\bheld against\b|what the code does|\bdisturb\w*|\bsaid\b",
    "observed, not observed, evidence": r"\bproven\b|\bnever seen\b|\bproofs?\b",
    "error, transient, permanent": r"\bfault(s|y)?\b|\bpassing\b|\bfinal\b",
    "reconciliation, reconcile": r"\bagreement\b",
    "promoted for a month": r"\bin charge\b",
    "validated on, evaluated on": r"\bjudg\w*",
    "unused by the model": r"\binert\b",
    "file checksum": r"\b(un)?seal(s|ed)?\b",
    "atomically": r"\bwhole or not\b|\bnot at all\b",
    "allowed, out of range": r"\b(un)?lawful(ly)?\b",
    "metrics, plots": r"\bfigures?\b",
    "observed weather is used as a perfect forecast": r"\bstands? for (its|their) forecast\b",
    "package, layer": r"\brooms?\b",
}
"""What to write, and what not: the table of CONTEXT.md and the words of earlier versions."""
STORED = {"made_by", "inert", "proven", "never seen", "BIKES_PROOF"}
"""Keys and states in stored records, and a setting's earlier name: read for ever, shown to nobody."""


def words_of(name: str) -> str:
    """Return a name in Python as words."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).replace("_", " ")


def texts_of(source: str) -> Iterator[tuple[int, str]]:
    """Yield each text of a module that people may read, and the names of its classes and functions, with their lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, words_of(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in STORED:
            yield node.lineno, words_of(node.value) if node.value.isidentifier() else node.value


def avoided_in(text: str) -> list[str]:
    """Return the words of a text that are to be avoided, each with what to write instead."""
    for word in ("`made_by`", "`inert`", "`proven`", "`never seen`", "inert: columns"):
        text = text.replace(word, "")
    return [
        f"{match[0]!r}: write {instead}"
        for instead, pattern in AVOIDED.items()
        for match in re.finditer(pattern, text, re.IGNORECASE)
    ]


def test_pages_have_the_words_of_the_field() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    lines = [
        f"{page.relative_to(ROOT)}:{number}: {word}"
        for page in pages
        if "soak" not in page.parts  # reports name the tests of their time
        for number, line in enumerate(page.read_text().splitlines(), 1)
        for word in avoided_in(line)
    ]
    assert lines == []


@pytest.mark.parametrize("folder", [PACKAGE, ROOT / "examples"])
def test_names_and_texts_of_the_code_have_the_words_of_the_field(folder: Path) -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}: {word}"
        for file in sorted(folder.rglob("*.py"))
        for line, text in texts_of(file.read_text())
        for word in avoided_in(text)
    ]
    assert found == []


def test_the_words_are_found_wherever_people_read_them() -> None:
    source = (
        'class SealedFile:\n    """It is judged."""\n\n\ndef never_seen(): raise ValueError("a fault: {made_again}")\n'
    )
    lines = [(line, word) for line, text in texts_of(source) for word in avoided_in(text)]
    assert [line for line, _ in lines] == [1, 5, 2, 5]
    assert {word.partition(":")[0] for _, word in lines} == {"'Sealed'", "'never seen'", "'judged'", "'fault'"}


def test_no_class_has_the_name_of_another() -> None:
    places: dict[str, list[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(file.relative_to(PACKAGE)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
