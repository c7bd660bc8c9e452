"""The source text of functions as people wrote it, in addition to the digests that make up their code version."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from bikes_assets.core.code_version import definition
from bikes_assets.core.digest import file_digest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_WORD = re.compile(r"[^\W\d]\w*")


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


def contributing(texts: Mapping[str, str], columns: Collection[str], asked: Collection[str]) -> set[str]:
    """Return the functions that may contribute to the columns in question, by the names in their source texts.

    A column function has the name of its column (see `core.columns`). Code that only the functions of other columns
    reach does not contribute to the columns in question; any other code may.

    Args:
        texts: source text of each function, class or constant of a code version, by its dotted name; "" where it is not
            known.
        columns: columns of the table that they make.
        asked: the columns in question.
    """
    if not all(texts.values()):
        return {*texts}
    by_name: dict[str, list[str]] = {}
    for place in texts:
        by_name.setdefault(place.rpartition(".")[2], []).append(place)
    makers = {name: by_name[name] for name in columns if name in by_name}
    named = {place: {word for word in _WORD.findall(text) if word in by_name} for place, text in texts.items()}

    def reached(starts: Collection[str], within: Collection[str]) -> set[str]:
        """Return what some functions reach, themselves included, within some functions."""
        found, waiting = set[str](), [*starts]
        while waiting:
            place = waiting.pop()
            if place in within and place not in found:
                found.add(place)
                waiting += [other for word in named[place] for other in by_name[word]]
        return found

    of_columns = {place for places in makers.values() for place in places}
    of_asked = {place for name, places in makers.items() if name in asked for place in places}
    others = {*texts} - of_columns
    by_columns = reached(of_columns, texts)
    # code that does not depend on a column, such as code that assembles them, may contribute to any
    apart = others - by_columns
    return reached(of_asked, texts) | reached(apart, others)


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
