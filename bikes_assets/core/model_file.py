"""Model files: skops files of bounded size that hold only listed types, inspected before any object is built from them.

skops trusts some 300 types of its own choice, and any trusted name in any role: as a class to build, or as a function
to call. Here the list is closed, and each name has the roles that skops writes it in. Keys of mappings are of plain
types alone, and no estimator may have a cache of joblib, whose files are pickles that a fit would load. Numbers
are not checked: a file with the right digest and forged arrays can make a model that predicts nonsense or, as trees
index memory by what they hold, crashes.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from bikes_assets.core.errors import ModelError, UntrustedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_BYTES = 2**30
"""A larger file is neither written nor opened. Members are not compressed, so opened it is about as large."""

_WIDTHS = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_SCALARS = frozenset(f"numpy.{name}" for name in ("bool", "str_", *_WIDTHS))
_PLAIN = {
    "JsonNode": frozenset({"builtins.str"}),
    "DictNode": frozenset({"builtins.dict"}),
    "ListNode": frozenset({"builtins.list"}),
    "TupleNode": frozenset({"builtins.tuple"}),
    "SetNode": frozenset({"builtins.set"}),
    "BytesNode": frozenset({"builtins.bytes"}),
    "SliceNode": frozenset({"builtins.slice"}),
    "TypeNode": frozenset({"builtins.str", "builtins.int", "builtins.float", "builtins.bool"}) | _SCALARS,
    "NdArrayNode": frozenset({"numpy.ndarray"}) | _SCALARS,
    "MaskedArrayNode": frozenset({"numpy.ma.MaskedArray"}),
    "RandomStateNode": frozenset({"numpy.random.mtrand.RandomState"}),
    "RandomGeneratorNode": frozenset({"numpy.random._generator.Generator"}),
}
"""Role, as skops names its loaders, to the values without behaviour that any model may hold in that role."""

_LISTED = {
    "ObjectNode": "",  # made without a call of its class, then given its attributes
    "TreeNode": "sklearn.tree._tree.Tree",
    "LossNode": ("sklearn._loss._loss.", "sklearn.linear_model._sgd_fast."),  # called with what stands in the file
    "DictNode": "sklearn.utils._bunch.Bunch",
    "SparseMatrixNode": "scipy.sparse._",
    "DTypeNode": "numpy.dtype",
    "PartialNode": "functools.partial",
    "FunctionNode": "",  # named, not called
}
"""Role to the prefix that a listed name in that role must have."""


def dumps(value: Any, trusted: Sequence[str]) -> bytes:
    """Return a fitted object as a skops file that `loads` will take.

    Raises:
        ModelError: the object holds a type that is not listed or cannot be written, or its file is too large.
    """
    skops_io = _skops_io()
    try:
        content = skops_io.dumps(value)
    except (TypeError, ValueError, AttributeError, RecursionError) as error:  # a generator, an open file, a cycle
        raise ModelError(f"{type(value).__name__} cannot be written as a skops file: {error}") from error
    held(content, trusted)
    return content


def loads(content: bytes, trusted: Sequence[str]) -> Any:
    """Return the object of a skops file.

    Args:
        content: bytes of the file, of whatever origin.
        trusted: the types and functions that it may hold beside plain values; never read from a file.

    Raises:
        ModelError: it is no skops file, is too large, or holds what is not listed; nothing in it was imported or built.
    """
    skops_io = _skops_io()
    try:
        return skops_io.loads(content, trusted=held(content, trusted))
    except ModelError:
        raise
    except Exception as error:  # a damaged file may raise anything
        raise ModelError(f"found no skops file that can be read: {error!r}") from error


def part(content: bytes, key: str) -> bytes:
    """Return the skops file of one value of a mapping that a skops file holds; nothing of either is built.

    Raises:
        ModelError: the file holds no mapping with that key.
    """
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(target, "w") as picked:
        whole = json.loads(archive.read("schema.json"))
        if whole["__loader__"] != "DictNode" or key not in whole["content"]:
            raise ModelError(f"found no mapping with {key!r} in the file")
        schema = {**whole["content"][key], **{name: whole[name] for name in ("protocol", "_skops_version")}}
        # a value that occurs in several places is written in full in each: no node refers to one outside its own value
        for name in {node["file"]: None for node in _nodes(schema) if "file" in node}:
            picked.writestr(name, archive.read(name))
        picked.writestr("schema.json", json.dumps(schema))
    return target.getvalue()


def held(content: bytes, trusted: Sequence[str]) -> list[str]:
    """Return the trusted names that a file holds, for skops to trust, after checking that it holds no others.

    Raises:
        ModelError: it holds other names, or more than is allowed; nothing in it was imported or built.
    """
    if len(content) > MAX_BYTES:
        raise ModelError(f"found {len(content):,} bytes, expected at most {MAX_BYTES:,}")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
        packed = [member.filename for member in archive.infolist() if member.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise ModelError(f"found {packed[0]} compressed, expected members stored as they are")
        _check_size(sum(member.file_size for member in archive.infolist()), content)
        nodes = list(_nodes(json.loads(archive.read("schema.json"))))
    kinds = {(node["__loader__"], f"{node['__module__']}.{node['__class__']}") for node in nodes}
    foreign = {f"{name} as {role}" for role, name in kinds if not _is_allowed(role, name, trusted)}
    if foreign:
        raise UntrustedError(f"found {', '.join(sorted(foreign))}, which is not among the types that are trusted")
    _check_mappings(nodes)
    # an array that several nodes name is read for each of them, unless they have one id
    read = {node.get("__id__", id(node)): node for node in nodes if "file" in node}
    _check_size(sum(sizes[node["file"]] for node in read.values()), content)
    unpacked = sum(
        _unpacked(content, node["file"]) for node in read.values() if node["__loader__"] == "SparseMatrixNode"
    )
    if unpacked > MAX_BYTES:
        raise ModelError(f"found {unpacked:,} bytes of sparse matrices, expected at most {MAX_BYTES:,}")
    return sorted({name for _, name in kinds if name in trusted})


@cache
def _skops_io() -> Any:
    """Return `skops.io`, whose import would look for each of SciPy's ufuncs in every module that is loaded.

    It does so because they do not say which module they are of. Meanwhile they do: it is the one that skops would find.
    """
    import numpy as np
    from scipy import special

    named: list[Any] = []
    for name in [name for name in sys.modules if name.startswith(special.__name__)]:
        for ufunc in vars(sys.modules[name]).values():
            if isinstance(ufunc, np.ufunc) and not hasattr(ufunc, "__module__"):
                with suppress(AttributeError):  # an older NumPy does not allow it
                    ufunc.__module__ = name
                    named.append(ufunc)
    import skops.io

    for ufunc in named:
        del ufunc.__module__
    return skops.io


def _check_mappings(nodes: Sequence[dict[str, Any]]) -> None:
    """Refuse mappings whose keys are built by anything but plain types, and caches of joblib.

    Of several nodes with the same id skops builds the first, wherever it is, so all of them must pass wherever one is
    used.
    """
    alike: dict[Any, list[dict[str, Any]]] = {}
    for node in nodes:
        alike.setdefault(node.get("__id__", id(node)), []).append(node)
    called = {number for number, group in alike.items() if any(node["__loader__"] != "TypeNode" for node in group)}

    def all_of(node: dict[str, Any]) -> list[dict[str, Any]]:
        return alike[node.get("__id__", id(node))]

    for node in (node for node in nodes if node["__loader__"] == "DictNode"):
        lists = all_of(node["key_types"])
        makers = (item.get("__id__", id(item)) for types in lists for item in types["content"])
        if any(types["__loader__"] != "ListNode" for types in lists) or not called.isdisjoint(makers):
            raise ModelError("found keys of a mapping that are built by a call, expected plain types")
        for key, value in node["content"].items():
            if f"__{key}".endswith("__memory") and {item["content"] for item in all_of(value)} != {"null"}:
                raise ModelError(
                    f"found {key!r}: a cache of joblib, whose files are pickles, expected None; set it so before the fit, or "
                    "afterwards by set_params"
                )


def _unpacked(content: bytes, name: str) -> int:
    """Return the bytes that a sparse matrix has, which SciPy compresses."""
    with zipfile.ZipFile(io.BytesIO(content)) as whole, zipfile.ZipFile(io.BytesIO(whole.read(name))) as archive:
        return sum(member.file_size for member in archive.infolist())


def _check_size(size: int, content: bytes) -> None:
    if size > len(content):
        raise ModelError(f"found {size:,} bytes to read in a file of {len(content):,}, expected no more than it has")


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Return everything that skops could take for a node: every mapping with a loader, wherever it is."""
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict) and "__loader__" in value:
            yield value
        inside = value.values() if isinstance(value, dict) else value
        waiting.extend([item for item in inside if isinstance(item, dict | list)])


def _is_allowed(role: str, name: str, trusted: Sequence[str]) -> bool:
    if name in _PLAIN.get(role, ()):
        return True
    return role in _LISTED and name.startswith(_LISTED[role]) and name in trusted
