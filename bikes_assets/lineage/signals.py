"""What a function's code reaches beside its argument, looked up and never run: files, the clock, chance, data that it holds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from types import FunctionType
from typing import Any

_REACHES = {
    "files": {
        "open",
        "read_csv",
        "read_parquet",
        "read_json",
        "scan_csv",
        "scan_parquet",
        "read_text",
        "read_bytes",
        "load",
    },
    "the network": {"urlopen", "request", "urlretrieve", "connect", "read_sql"},
    "the clock": {"now", "today", "utcnow", "time", "monotonic", "perf_counter", "localtime"},
    "chance": {"random", "default_rng", "shuffle", "sample", "randint"},
    "the environment": {"environ", "getenv"},
}


def signals(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return what a function, and those of its own package that it calls, reach beside their arguments, each in words.

    A name says only that something may be reached. An object that is called, such as a fitted model, is not looked into.
    """
    found: dict[str, None] = {}
    for item in _reached(function):
        reached = inspect.getclosurevars(item)
        names = {*reached.builtins, *reached.globals, *reached.unbound}
        for what, words in _REACHES.items():
            for word in sorted(words & names):
                found[f"{item.__name__} may reach {what}: {word}"] = None
        held = {**reached.globals, **reached.nonlocals}
        parameters = inspect.signature(item).parameters.values()
        held |= {each.name: each.default for each in parameters if each.default is not each.empty}
        for name, value in held.items():
            if isinstance(value, list | dict | set | bytearray) or hasattr(value, "__array__"):
                found[f"{item.__name__} holds data beside its table: {name}"] = None
    return tuple(found)


def _reached(function: Callable[..., Any]) -> Iterator[FunctionType]:
    """Yield a function and those of its package that it names."""
    waiting, known = [_plain(function)], set[Any]()
    while waiting:
        item = waiting.pop()
        if not isinstance(item, FunctionType) or item in known:
            continue
        known.add(item)
        yield item
        reached = inspect.getclosurevars(item)
        package = item.__module__.partition(".")[0]
        for value in (*reached.globals.values(), *reached.nonlocals.values()):
            other = _plain(value)
            if isinstance(other, FunctionType) and other.__module__.partition(".")[0] == package:
                waiting.append(other)


def _plain(value: Any) -> Any:
    while isinstance(value, partial):
        value = value.func
    return inspect.unwrap(value) if callable(value) else value
