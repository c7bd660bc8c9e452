"""What a function's code uses beside its argument, looked up in its bytecode without running it.

Files, the network, the clock, randomness, the environment, and data that it holds: in the function itself, in those
that it names, wraps, holds or is bound to, with their nested functions, comprehensions and default arguments. Code of
installed libraries is not inspected.
"""

from __future__ import annotations

import dis
import inspect
import random
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import PurePath
from types import CodeType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

_WORDS = {
    "files": {
        "open", "read_csv", "read_parquet", "read_json", "read_excel", "read_feather", "read_pickle", "read_ipc", "read_table",
        "scan_csv", "scan_parquet", "scan_ipc", "read_text", "read_bytes", "load", "loadtxt", "genfromtxt", "fromfile", "memmap",
        "listdir", "iterdir", "glob", "rglob", "scandir", "exists",
    },
    "the network": {"urlopen", "request", "urlretrieve", "read_sql", "read_sql_query", "read_sql_table", "read_database"},
    "the clock": {"now", "today", "utcnow", "monotonic", "perf_counter", "localtime", "gmtime", "time_ns"},
    "chance": {"default_rng", "shuffle", "sample", "randint", "uuid4", "RandomState"},
    "the environment": {"environ", "getenv", "getpid", "gethostname"},
}  # fmt: skip
"""Names that indicate by themselves what is used, whatever object they are attributes of."""

_PLACES = {
    "files": ("io", "glob", "shutil", "tempfile", "pathlib", "fsspec", "sqlite3", "pickle", "shelve", "joblib", "os.open"),
    "the network": ("socket", "urllib.request", "urllib3", "http", "requests", "httpx", "aiohttp", "ftplib", "smtplib", "ssl"),
    "the clock": ("time",),
    "chance": ("random", "numpy.random", "secrets", "uuid"),
    "the environment": ("os.environ", "os.getenv", "platform", "getpass", "locale", "sys.argv"),
}  # fmt: skip
"""Modules, and things in modules, that indicate the same."""

_MOST = 2_000
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_FRAMES = {"numpy", "pandas", "polars", "narwhals", "pyarrow"}
_MAKERS = {"__init__", "__new__", "__post_init__", "__init_subclass__", "__set_name__"}
_UNKNOWN = object()


def signals(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return what a function, and those of its project that it reaches, use beside their arguments, each in words.

    A name only says that something may be used. A library object that is held, such as a fitted model, is named but not
    inspected.
    """
    search = _Search()
    search.hold(function, _name(function), "", {"__call__"})
    while search.waiting and len(search.known) < _MOST:
        search.visit(search.waiting.pop(0))
    return tuple(search.found)


@dataclass(frozen=True, slots=True)
class _Item:
    """A reachable function, and the object or class of which it is a method, None for a plain function."""

    function: Any
    owner: Any = None


@dataclass(slots=True)
class _Chain:
    """A name in code, its value, and the attributes that are accessed on it in one chain, such as `np.random.rand`."""

    name: str
    value: Any
    attributes: list[str] = field(default_factory=list)
    is_kept: bool = False
    """Whether the code sets it, or its last attribute, so that the next call sees the change."""


class _Search:
    """What was found so far, and which functions are still to be inspected."""

    def __init__(self) -> None:
        self.found: dict[str, None] = {}
        self.waiting: list[_Item] = []
        self.known: dict[tuple[int, int], _Item] = {}

    def visit(self, item: _Item) -> None:
        """Inspect a function's code, its default arguments, and what it wraps."""
        function, name = item.function, item.function.__name__
        code = function.__code__
        cells = dict(zip(code.co_freevars, map(_content, function.__closure__ or ()), strict=True))
        itself = {} if item.owner is None else dict.fromkeys(code.co_varnames[: min(code.co_argcount, 1)], item.owner)
        chains = list(_chains(code, cells | itself, function.__globals__, {*itself, *code.co_freevars}))
        asked = {attribute for chain in chains for attribute in chain.attributes}
        for chain in chains:
            self.refer(chain, name, asked, is_itself=chain.name in itself)
        defaults = dict(
            zip(reversed(code.co_varnames[: code.co_argcount]), reversed(function.__defaults__ or ()), strict=False)
        )
        for label, value in {**defaults, **(function.__kwdefaults__ or {})}.items():
            self.hold(value, label, name, asked)
        if "__wrapped__" in vars(function):
            self.hold(vars(function)["__wrapped__"], name, name, asked)

    def refer(self, chain: _Chain, holder: str, asked: set[str], *, is_itself: bool) -> None:
        """Inspect a name and its attributes, as far as they can be resolved without running anything."""
        value, label, place = chain.value, chain.name, _place_of(chain.value)
        if chain.is_kept and holder in _MAKERS:
            return
        if chain.is_kept:
            self._tell(holder, f"keeps something from call to call: {'.'.join((label, *chain.attributes))}")
            return
        self._reaches(
            holder, label if value is open or value is _UNKNOWN else "", "" if isinstance(value, ModuleType) else place
        )
        if not is_itself:
            self.hold(value, label, holder, asked)
        for attribute in chain.attributes:
            before, value, label = value, _attribute(value, attribute), f"{label}.{attribute}"
            place = (
                value.__name__
                if isinstance(value, ModuleType)
                else f"{place}.{attribute}"
                if place
                else _place_of(value)
            )
            self._reaches(holder, attribute, "" if isinstance(value, ModuleType) else place)
            if (
                value is _UNKNOWN
                or isinstance(value, ModuleType)
                or (isinstance(before, ModuleType) and _is_library(before))
            ):
                continue
            self.hold(value, label, holder, asked)
            if _may_change(before) and not is_itself and _is_plain(value) and not callable(value):
                self._tell(holder, f"holds data beside its table: {label}")

    def hold(self, value: Any, label: str, holder: str, asked: set[str]) -> None:
        """Inspect a value that code names or holds: a function is followed, data is reported, a constant is code."""
        holder = holder or label
        if isinstance(value, partial):
            self.hold(value.func, label, "", asked)
            numbered = {f"argument {number}": each for number, each in enumerate(value.args, 1)}
            for name, each in {**numbered, **value.keywords}.items():
                self.hold(each, name, _name(value), asked)
        elif isinstance(value, MethodType) and isinstance(value.__func__, FunctionType) and _is_own(value.__func__):
            self._follow(value.__func__, value.__self__)
        elif isinstance(value, MethodType):
            self.hold(value.__self__, label, holder, asked)
        elif isinstance(value, type):
            if not issubclass(value, BaseException):  # a message in an error is no value of a column
                self._methods(value, value, asked)
        elif isinstance(value, FunctionType):
            self._follow(value)
        elif isinstance(value, ModuleType) or value is None or value is _UNKNOWN:
            return
        elif isinstance(getattr(value, "__wrapped__", None), FunctionType):  # a cache, for example
            self.hold(value.__wrapped__, label, holder, asked)
        elif isinstance(value, list | dict | set | bytearray | tuple | frozenset):
            self._container(value, label, holder, asked)
        elif hasattr(type(value), "__array__") or hasattr(type(value), "__dataframe__"):
            if getattr(value, "shape", None) != ():  # a number of NumPy is one
                self._tell(holder, f"holds data beside its table: {label}")
        elif type(value).__module__.startswith("numpy.random") or isinstance(value, random.Random):
            self._tell(holder, f"may reach chance: {label}")
        elif isinstance(value, PurePath):
            self._tell(holder, f"may reach files: {label}")
        elif _is_own(type(value)):
            self._methods(type(value), value, {*asked, "__call__"})
        elif not _is_plain(value):
            kind = f"{type(value).__module__.partition('.')[0]}'s {type(value).__name__}"
            self._tell(holder, f"holds an object that is not looked into: {label}, {kind}")

    def _reaches(self, holder: str, word: str, place: str) -> None:
        """Report what a name indicates by itself or by its module."""
        for what, words in _WORDS.items():
            if word in words or any(place == each or place.startswith(f"{each}.") for each in _PLACES[what]):
                self._tell(holder, f"may reach {what}: {word or place.rpartition('.')[2]}")
                return

    def _container(self, value: Any, label: str, holder: str, asked: set[str]) -> None:
        """Inspect a container: its functions are followed; a mutable one, or one with data, counts as data."""
        items = list(value.values() if isinstance(value, dict) else value)[:_MOST]
        code = [item for item in items if callable(item) or _is_own(type(item))]
        for item in items if isinstance(value, tuple | frozenset) else code:
            self.hold(item, label, holder, asked)
        if not isinstance(value, tuple | frozenset) and (len(code) < len(items) or not items):
            self._tell(holder, f"holds data beside its table: {label}")

    def _methods(self, kind: type, owner: Any, asked: set[str]) -> None:
        """Follow the methods of a project's class that are accessed, and those that Python calls itself."""
        unasked = {"__call__", "__repr__", "__str__"} | (set() if isinstance(owner, type) else _MAKERS)
        for each in kind.__mro__ if _is_own(kind) else ():
            for name, value in vars(each).items() if _is_own(each) else ():
                is_called = name in asked or (name.startswith("__") and name not in unasked)
                if is_called and isinstance(function := _function(value), FunctionType):
                    self._follow(function, owner)

    def _follow(self, function: FunctionType, owner: Any = None) -> None:
        item = _Item(function, owner)
        if _is_own(function) and self.known.setdefault((id(function), id(owner)), item) is item:
            self.waiting.append(item)

    def _tell(self, holder: str, what: str) -> None:
        self.found[f"{holder} {what}"] = None


def _chains(code: CodeType, known: Mapping[str, Any], names: Mapping[str, Any], outer: set[str]) -> Iterator[_Chain]:
    """Yield the names in a code object and its nested ones, with their values.

    Args:
        code: code object of a function.
        known: values of names that are neither global nor set in the code.
        names: the global names.
        outer: names whose value outlives a call.
    """
    own, imported, last = dict(known), _UNKNOWN, None
    builtins = names.get("__builtins__", {})
    builtins = vars(builtins) if isinstance(builtins, ModuleType) else builtins
    for step in dis.get_instructions(code):
        operation, value = step.opname, step.argval
        if operation in ("LOAD_ATTR", "LOAD_METHOD"):
            last = last or _Chain("", _UNKNOWN)
            last.attributes.append(str(value))
            continue
        if operation == "STORE_ATTR" and last is not None and last.name in outer:
            last.attributes.append(str(value))
            last.is_kept = True
        if operation in ("PUSH_NULL", "CACHE", "NOP"):
            continue
        if last is not None:
            yield last
            last = None
        if operation == "IMPORT_NAME":
            imported = sys.modules.get(str(value), _UNKNOWN)
        elif operation == "IMPORT_FROM":
            own[""] = _attribute(imported, str(value))  # until it is bound to a name
            yield _Chain(str(value), _UNKNOWN)
        elif operation in ("STORE_FAST", "STORE_DEREF", "STORE_NAME") and ("" in own or imported is not _UNKNOWN):
            own[str(value)] = own.pop("") if "" in own else _top(imported, str(value))
            imported = imported if "" in own else _UNKNOWN
        elif operation == "STORE_GLOBAL" or (operation == "STORE_DEREF" and value in outer):
            yield _Chain(str(value), _UNKNOWN, is_kept=True)
        elif operation in ("LOAD_GLOBAL", "LOAD_NAME"):
            last = _Chain(str(value), names.get(str(value), builtins.get(str(value), _UNKNOWN)))
        elif operation.startswith(
            ("LOAD_FAST", "LOAD_DEREF", "LOAD_CLOSURE", "LOAD_FROM_DICT_OR_DEREF", "STORE_FAST_LOAD_FAST")
        ):
            name = value[-1] if isinstance(value, tuple) else value
            last = _Chain(str(name), own[name]) if name in own else None
    if last is not None:
        yield last
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _chains(inner, own, names, outer & {*inner.co_freevars})


def _top(module: Any, name: str) -> Any:
    """Return the module that an import binds to a name: `import a.b` binds a."""
    top = getattr(module, "__name__", "").partition(".")[0]
    return sys.modules.get(top, module) if name == top else module


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is filled later
        return _UNKNOWN


def _attribute(value: Any, name: str) -> Any:
    """Return an attribute without running code of a property or a lazy module."""
    found = _UNKNOWN if value is _UNKNOWN else inspect.getattr_static(value, name, _UNKNOWN)
    if isinstance(found, MemberDescriptorType) and not isinstance(value, type):  # of a class with slots
        return found.__get__(value)
    return _function(found)


def _function(value: Any) -> Any:
    """Return the function that implements a method or property of a class."""
    if isinstance(value, property):
        return value.fget
    if isinstance(value, cached_property):
        return value.func
    return value.__func__ if isinstance(value, staticmethod | classmethod) else value


def _name(value: Any) -> str:
    while isinstance(value, partial):
        value = value.func
    return getattr(value, "__name__", type(value).__name__)


def _place_of(value: Any) -> str:
    """Return the dotted name of a module, or of a function or class in a module; "" for anything else."""
    if isinstance(value, ModuleType):
        return value.__name__
    name, module = getattr(value, "__qualname__", None), getattr(value, "__module__", None)
    return (
        f"{module.removeprefix('_')}.{name}"
        if isinstance(name, str) and isinstance(module, str) and callable(value)
        else ""
    )


def _is_own(value: Any) -> bool:
    """Return whether a function or class belongs to a project, and not to Python or an installed library."""
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    return module is not None and not _is_library(module)


def _is_library(module: ModuleType) -> bool:
    top = module.__name__.partition(".")[0]
    file = str(getattr(module, "__file__", None) or getattr(sys.modules.get(top), "__file__", None) or "")
    in_library = file.startswith(_LIBRARIES) or "site-packages" in file or "dist-packages" in file
    return top != "__main__" and (top in sys.stdlib_module_names or in_library)


def _may_change(value: Any) -> bool:
    """Return whether an attribute may have another value at the next call: of a module or an unfrozen object."""
    is_frozen = getattr(getattr(type(value), "__dataclass_params__", None), "frozen", False) or isinstance(value, tuple)
    is_code = isinstance(value, type) or callable(value)
    return isinstance(value, ModuleType) or (hasattr(value, "__dict__") and not is_code and not is_frozen)


def _is_plain(value: Any) -> bool:
    """Return whether a value could be a literal in code, or belongs to a library and holds no data."""
    top = type(value).__module__.partition(".")[0]
    return top in sys.stdlib_module_names or top in _FRAMES or callable(value)
