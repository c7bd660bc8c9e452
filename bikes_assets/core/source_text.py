"""The source text of functions as people wrote it, in addition to the digests that make up their code version."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from bikes_assets.core.code_version import definition
from bikes_assets.core.digest import file_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def function_digests(reached: Mapping[str, str]) -> dict[str, str]:
    """Return the digest of each definition that `code_version.reached_code` returned, by its dotted name."""
    return {place: file_digest(tree.encode())[:32] for place, tree in reached.items()}


def source_text(place: str) -> str:
    """Return the source text of a definition, with its decorators, its comments, and the comments directly above it.

    Where the file has changed since it was first read, the text is generated from what was read then, without comments,
    so that it is always the text of the code version.

    Args:
        place: dotted name, such as `bikes_assets.demand.features.humidity`.
    """
    module, _, name = place.rpartition(".")
    file, statements = definition(module, name)
    lines = file.read_text(encoding="utf-8").splitlines() if file and file.is_file() else []
    return "\n\n".join(_text(statement, lines) for statement in statements) + "\n"


def docstring(place: str) -> str:
    """Return the first line of a function's docstring, "" where it has none; see `source_text`."""
    module, _, name = place.rpartition(".")
    _, statements = definition(module, name)
    found = (ast.get_docstring(item) for item in statements if isinstance(item, ast.FunctionDef))
    return next((text.partition("\n")[0] for text in found if text), "")


def _text(statement: ast.stmt, lines: Sequence[str]) -> str:
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    first = min(node.lineno for node in (statement, *decorators)) - 1
    while 0 < first <= len(lines) and lines[first - 1].startswith("#"):
        first -= 1
    text = "\n".join(lines[first : statement.end_lineno])
    return text if _is_of(text, statement) else ast.unparse(statement)


def _is_of(text: str, statement: ast.stmt) -> bool:
    try:
        return [ast.dump(node) for node in ast.parse(text).body] == [ast.dump(statement)]
    except SyntaxError:
        return False
