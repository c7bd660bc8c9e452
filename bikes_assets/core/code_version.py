"""Code versions: a digest of a function and of the project's own code that it reaches.

It is taken from the normalised syntax tree, so comments, docstrings, formatting and moves within a file do not count,
and it is found by reading source files only: nothing is imported, so asking for it costs no heavy imports. What a
function calls on an object that it was given (`reader.read()`) cannot be seen this way.

The project's own code is that of the same top-level package; of a module in no package, also what lies in its folder. A
file has one code version however it is run: as a script, by `python -m`, imported, or loaded by its path.

A name counts as what it stands for, by whatever module it is imported: the imports of a package's `__init__.py` are
followed, those for type checkers alone included, which is how a package says what it imports lazily. What another
project imports of this library counts under its public name.

A module that only describes what others make, for example with plots, says so by `NOT_IN_CODE_VERSION = True` at its
top: its definitions are not followed, and an edit of it makes nothing stale.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from bikes_assets.core.errors import SettingsError

_APART = "NOT_IN_CODE_VERSION"
_MAIN = ("__main__", "__mp_main__")
"""Names of the module that is run as a script: in its own process, and in a process that it starts."""

_Place: TypeAlias = tuple[str, str]

_folders: dict[str, Path] = {}
"""Top-level modules and packages of files that were run or loaded by their path, mapped to their folder."""


@dataclass(frozen=True)
class _Module:
    """The top-level names of one source file: what is defined there, and what is imported from where."""

    package: str
    definitions: dict[str, list[ast.stmt]]
    imports: dict[str, list[str]]


@dataclass(frozen=True)
class _Project:
    """What counts as the project's own code: a top-level package, and the folder of a module that is in none."""

    package: str
    folder: Path | None


def module_of(function: Callable[..., Any]) -> str:
    """Return the dotted name of the module that defines a function: that of its file, however that is run.

    Raises:
        SettingsError: it was typed into a session, such as a notebook, so no file has it.
    """
    name = function.__module__
    module = sys.modules.get("__main__" if name in _MAIN else name)
    file, spec = getattr(module, "__file__", None), getattr(module, "__spec__", None)
    if name in _MAIN and file and spec:
        return spec.name
    if not file:
        if name not in _MAIN:
            return name
        raise SettingsError(
            f"{function.__name__}: found a function that was typed into a session, expected one of a file, which its code "
            "version is read from; write it to a file and import that, or give the asset a code_version of your own"
        )
    path = Path(file).resolve()
    root = path.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    if "." not in name:  # others may import it from further above
        above = [folder for folder in map(Path, sys.path) if folder in root.parents]
        root = max(above, key=lambda folder: len(folder.parts), default=root)
    named = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    if f".{name}".endswith(f".{named}"):
        return name
    _folders[named.partition(".")[0]] = root
    return named


@cache
def code_version(module: str, name: str) -> str:
    """Return the code version of the function or class `name` in `module`: 32 hexadecimal digits.

    Args:
        module: dotted name of a module; the code that counts is that of the same top-level package.
        name: a name defined at the top of that module. Its decorators do not count.

    Raises:
        LookupError: the module has no such definition.
    """
    return code_version_of(reached_code(module, name))


def code_version_of(reached: Mapping[str, str]) -> str:
    """Return the code version of what `reached_code` returned."""
    lines = sorted(f"{_label(place)} {tree}" for place, tree in reached.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def reached_code(module: str, name: str) -> dict[str, str]:
    """Return the normalised syntax tree of every definition that `name` in `module` reaches, by its dotted name."""
    file = _source(module)
    is_loose = file and not (file.parent / "__init__.py").is_file()
    project = _Project(module.partition(".")[0], file.parent if file and is_loose else None)
    if name not in _module(module).definitions:
        raise LookupError(f"{module} defines no {name}")
    waiting: list[_Place] = [(module, name)]
    reached: dict[str, str] = {}
    while waiting:
        place = waiting.pop()
        if ".".join(place) in reached:
            continue
        places, reached[".".join(place)] = _definition(*place, project, decorated=place != (module, name))
        waiting.extend(places)
    return reached


def columns_computed_by(functions: Collection[str], columns: Sequence[str], maker: str) -> tuple[str, ...]:
    """Return the columns of a table that some functions contribute to.

    A column is computed by the function of its name that the table's own function reaches, and by what that reaches.
    Code that no such function reaches contributes to every column.

    Args:
        functions: dotted names.
        columns: the table's columns.
        maker: dotted name of the function that makes the table.
    """
    module, _, name = maker.rpartition(".")
    makers = {place.rpartition(".")[2]: place for place in reached_code(module, name) if place != maker}
    reached = {
        column: reached_code(*makers[column].rpartition(".")[::2]).keys() for column in columns if column in makers
    }
    if not functions or set(functions).difference(*reached.values()):
        return tuple(columns)
    return tuple(column for column in columns if column in reached and reached[column] & set(functions))


def definition(module: str, name: str) -> tuple[Path | None, list[ast.stmt]]:
    """Return the file that defines a name at its top, and the statements that do, as of the first time it was read."""
    return _source(module), _module(module).definitions.get(name, [])


@cache
def _definition(module: str, name: str, project: _Project, *, decorated: bool) -> tuple[list[_Place], str]:
    """Return the definitions that one names, and its normalised syntax tree; cached, as several assets reach most."""
    found = _module(module).definitions[name]
    if not decorated:
        found = [_without_decorators(node) for node in found]
    places, outside = _references(module, found, project)
    return places, " ".join([_normal(found), *sorted(outside)])


@cache
def _source(module: str) -> Path | None:
    """Return the source file of a module, None when there is none; only its top-level package is looked up."""
    package, *rest = module.split(".")
    if package in _folders:
        return _file_of(Path(_folders[package], package, *rest))
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # a module that was made by hand
        return None
    if spec is None or not spec.submodule_search_locations:
        file = Path(spec.origin) if spec and spec.origin and not rest else None
        return file if file and file.suffix == ".py" else None
    return _file_of(Path(spec.submodule_search_locations[0], *rest))


def _file_of(place: Path) -> Path | None:
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


@cache
def _is_own(package: str, project: _Project) -> bool:
    """Return whether a top-level package or module is the project's own code."""
    if package == project.package or project.folder is None:
        return package == project.package
    file = _source(package)
    if file is None:
        return False
    folder = file.parent.parent if file.name == "__init__.py" else file.parent
    return folder.resolve() == project.folder.resolve()


@cache
def _label(place: str) -> str:
    """Return a definition's name without the folders above its package, which some ways to run a file add."""
    *parts, name = place.split(".")
    above = next((count for count in range(len(parts)) if _source(".".join(parts[: count + 1]))), 0)
    return ".".join([*parts[above:], name])


@cache
def _module(name: str) -> _Module:
    source = _source(name)
    if source is None:
        return _Module("", {}, {})
    package = name if source.name == "__init__.py" else name.rpartition(".")[0]
    definitions: dict[str, list[ast.stmt]] = {}
    imports: dict[str, list[str]] = {}
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        for defined in dict.fromkeys(_defined(node)):
            definitions.setdefault(defined, []).append(node)
        if not isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        ):  # those are read where they are reached
            for imported, targets in _imports(_below(node), package).items():
                imports.setdefault(imported, []).extend(targets)
    return _Module(package, definitions, imports)


def _defined(node: ast.AST) -> list[str]:
    """Return the names that a statement at the top of a module defines or changes; those of `if` or `try` included."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.Name():
            return [node.id]
        case ast.Assign(targets=parts) | ast.Tuple(elts=parts) | ast.List(elts=parts):
            return [name for part in parts for name in _defined(part)]
        case ast.AnnAssign(target=part) | ast.AugAssign(target=part):
            return _defined(part)
        case ast.Attribute(value=part) | ast.Subscript(value=part) | ast.Starred(value=part):
            return _defined(part)
        case ast.If() | ast.Try() | ast.With() | ast.For() | ast.While() | ast.ExceptHandler():
            inside = [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.stmt | ast.ExceptHandler)]
            return [name for part in inside for name in _defined(part)]
        case _:
            return []


def _imports(nodes: Iterable[ast.AST], package: str) -> dict[str, list[str]]:
    """Return what each name that some nodes import can stand for; `package` is that of the module."""
    names: dict[str, list[str]] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for item in node.names:
                top = item.name.partition(".")[0]
                names.setdefault(item.asname or top, []).append(item.name if item.asname else top)
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            origin = ".".join(part for part in (above, node.module) if part)
            for item in node.names:
                names.setdefault(item.asname or item.name, []).append(f"{origin}.{item.name}")
    return names


def _references(module: str, definition: list[ast.stmt], project: _Project) -> tuple[list[_Place], set[str]]:
    """Return the project's definitions that `definition` names, and what its other imported names stand for."""
    known, nodes = _module(module), [node for statement in definition for node in _meant(statement)]
    imports = (known.imports, _imports(nodes, known.package))
    found: list[_Place] = []
    outside: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Name):
            if node.id in known.definitions:
                found.append((module, node.id))
            for target in (target for names in imports for target in names.get(node.id, ())):
                places = _place(target, project)
                found += places
                outside |= set() if places else {f"{node.id}={origin}" for origin in _origins(target, project)}
        elif isinstance(node, ast.Attribute):
            head, _, rest = _dotted(node).partition(".")
            if rest:
                for target in (target for names in imports for target in names.get(head, ())):
                    found += _place(f"{target}.{rest}", project)
    return found, outside


def _meant(statement: ast.stmt) -> Iterator[ast.AST]:
    """Yield the nodes of a statement, except names in a function's body that are its own parameters."""
    if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        yield from _below(statement)
        return
    own = {node.arg for node in _below(statement.args) if isinstance(node, ast.arg)}
    for field, value in ast.iter_fields(statement):
        for node in _below(value):
            if field != "body" or not isinstance(node, ast.Name) or node.id not in own:
                yield node


def _below(value: object) -> Iterator[ast.AST]:
    """Yield all nodes of a tree, or of a list of trees; `ast.walk` takes twice as long."""
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(node)
        elif isinstance(node, ast.AST):
            yield node
            waiting.extend([getattr(node, name, None) for name in node._fields])


@cache
def _public_names() -> dict[str, str]:
    """Return the public name of what this library defines: what moves within it makes nothing stale in other projects."""
    library = __name__.partition(".")[0]
    return {
        target: f"{library}.{name}"
        for name, targets in _module(library).imports.items()
        for target in targets
        if target.startswith(f"{library}.")
    }


def _origins(dotted: str, project: _Project, followed: tuple[str, ...] = ()) -> list[str]:
    """Return what an imported name stands for that is no definition of the project: a module, or a name of another package."""
    module, _, name = dotted.rpartition(".")
    imported: list[str] = []
    if _is_own(dotted.partition(".")[0], project) and not _source(dotted) and _APART not in _module(module).definitions:
        imported = _module(module).imports.get(name, [])
    if not imported or dotted in followed:
        return [_public_names().get(dotted, dotted)]
    return [origin for target in imported for origin in _origins(target, project, (*followed, dotted))]


def _place(dotted: str, project: _Project, followed: tuple[str, ...] = ()) -> list[_Place]:
    """Return the definition that a dotted name of the project stands for; [] for a module or another package.

    Args:
        dotted: the name.
        project: the project.
        followed: names that led here by imports; a package that imports a module of its own leads to itself.
    """
    if dotted in followed or not _is_own(dotted.partition(".")[0], project):
        return []
    parts = dotted.split(".")
    for end in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:end])
        if _source(module):
            known = _module(module)
            if _APART in known.definitions:
                return []
            if parts[end] in known.definitions:
                return [(module, parts[end])]
            if parts[end] in known.imports:
                rest = parts[end + 1 :]
                return [
                    place
                    for target in known.imports[parts[end]]
                    for place in _place(".".join([target, *rest]), project, (*followed, dotted))
                ]
            return []
    return []


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = _dotted(node.value)
        return f"{head}.{node.attr}" if head else ""
    return ""


def _without_decorators(node: ast.stmt) -> ast.stmt:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        fields = {name: value for name, value in ast.iter_fields(node) if name != "decorator_list"}
        return type(node)(**fields, decorator_list=[])
    return node


def _normal(node: object) -> str:
    """Return a syntax tree as text, the same for every Python version: no positions, docstrings or empty fields."""
    if isinstance(node, list):
        return "[" + ",".join(_normal(item) for item in node) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields: list[str] = []
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(value, list):
            value = [item for item in value if not _is_docstring(item)]
        if value is None or value == [] or name in {"ctx", "type_comment", "kind"}:
            continue
        fields.append(f"{name}={_normal(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
