r"""Content digests: one for a table, one for each of its columns, one for the fitted state of a model.

Canonical form of a column of n rows, in key order (all integers little-endian)::

    b"bikes-column-1\0"  type name, b"\0"   n as uint64
    n bytes: 1 where the row has a value, 0 where it is null
    the values; a null is written as zero bits or as length 0:
      int64 8 bytes   float64 8 bytes IEEE 754   timestamp int64 microseconds since 1970   bool 1 byte
      string: n lengths as uint64, then the UTF-8 bytes of all rows

Canonical form of a table::

    b"bikes-table-1\0"   n as uint64   number of columns as uint64
    for each column, in order: length of its name as uint64, name in UTF-8, 1 if in the key or 0, digest (16 bytes)

A digest is the first 16 bytes (128 bits) of the SHA-256 of the canonical form, as 32 hexadecimal digits: short enough
to be an MLflow dataset digest, long enough that no two contents share one. It depends on nothing but content: not on
chunks, engine, file format, process or library version.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from bikes_assets.core.schema import Schema

DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class TableDigest:
    """Digest of a table and of each of its columns, as 32 hexadecimal digits each."""

    table: str
    columns: dict[str, str]


def table_digest(table: pa.Table, schema: Schema) -> TableDigest:
    """Return the content digest of `table`, which `schema.conform` must have returned."""
    columns = {column.name: _column_digest(table[column.name], column.type) for column in schema.columns}
    state = hashlib.sha256(b"bikes-table-1\0" + struct.pack("<QQ", len(table), len(columns)))
    for name, digest in columns.items():
        encoded = name.encode()
        state.update(struct.pack("<Q", len(encoded)) + encoded + bytes([name in schema.key]) + digest)
    return TableDigest(state.digest()[:DIGEST_BYTES].hex(), {name: digest.hex() for name, digest in columns.items()})


def _column_digest(array: pa.ChunkedArray, type_name: str) -> bytes:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    state = hashlib.sha256(b"bikes-column-1\0" + type_name.encode() + b"\0" + struct.pack("<Q", len(array)))
    state.update(pc.is_valid(array).to_numpy().astype(np.uint8).tobytes())
    if type_name == "string":
        filled = array.fill_null("")
        state.update(pc.binary_length(filled).to_numpy().astype("<u8").tobytes())
        state.update(b"".join(filled.cast(pa.binary()).to_pylist()))
    else:
        plain = array.cast(pa.int64()) if type_name == "timestamp" else array
        values = plain.fill_null(False if type_name == "bool" else 0).to_numpy()
        state.update(values.astype({"bool": "u1", "float64": "<f8"}.get(type_name, "<i8"), copy=False).tobytes())
    return state.digest()[:DIGEST_BYTES]


def combined_digest(parts: Iterable[str]) -> str:
    """Return one digest for an ordered sequence of texts (digests, names), as 32 hexadecimal digits."""
    state = hashlib.sha256(b"bikes-list-1\0")
    for part in parts:
        encoded = part.encode()
        state.update(struct.pack("<Q", len(encoded)) + encoded)
    return state.digest()[:DIGEST_BYTES].hex()


def file_digest(content: bytes) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def object_digest(value: object) -> str:
    """Return the digest of a fitted object's state, as 32 hexadecimal digits.

    Two identical fits are equal in it although their serialized files differ (object ids, zip dates). The canonical
    form is a walk over the state: plain values by type and content, arrays by dtype, shape and little-endian elements,
    mappings and sets in order of their entries' digests, functions and classes by name, any other object by its
    `__reduce_ex__`.

    Raises:
        TypeError: a part has no state that can be written down (an open file, a lambda).
    """
    return _walk(value, ()).hex()


def _walk(value: Any, above: tuple[int, ...]) -> bytes:
    """Return the 16-byte digest of one node; `above` holds the ids of its ancestors, to cut cycles by depth."""
    import numpy as np

    if id(value) in above:
        return _node("cycle", struct.pack("<Q", len(above) - above.index(id(value))))
    inside = (*above, id(value))
    match value:
        case None | bool() | int() | str() | bytes():
            return _node(type(value).__name__, value if isinstance(value, bytes) else str(value).encode())
        case np.generic():
            return _walk(np.asarray(value), inside)
        case float():
            return _node("float", struct.pack("<d", value))
        case np.ndarray():
            return _walk_array(value, inside)
        case list() | tuple():
            return _node(type(value).__name__, *(_walk(item, inside) for item in value))
        case dict():
            pairs = (_walk(key, inside) + _walk(item, inside) for key, item in value.items())
            return _node("dict", *sorted(pairs))
        case set() | frozenset():
            return _node("set", *sorted(_walk(item, inside) for item in value))
        case slice():
            return _node("slice", *(_walk(item, inside) for item in (value.start, value.stop, value.step)))
        case np.dtype():
            return _node("dtype", str(value.newbyteorder("<").descr if value.fields else value.str).encode())
        case _ if hasattr(value, "__qualname__") and hasattr(value, "__module__") and not _is_bound(value):
            if "<" in value.__qualname__:
                raise TypeError(f"{value.__qualname__} has no name by which it could be found again")
            return _node("name", f"{value.__module__}.{value.__qualname__}".encode())
        case np.random.RandomState():  # what is drawn next; the random seed that it came from is not kept in a file
            return _node("random", _walk(value.get_state(legacy=False), inside))
        case np.random.Generator():
            return _node("random", _walk(value.bit_generator.state, inside))
        case np.ufunc():
            return _node("name", f"numpy.{value.__name__}".encode())
        case _:
            return _walk_object(value, inside)


def _is_bound(value: Any) -> bool:
    """Return whether `value` is a method of an object, whose state counts as well."""
    return not isinstance(getattr(value, "__self__", None), ModuleType | type | None)


def _walk_array(array: Any, above: tuple[int, ...]) -> bytes:
    if array.dtype.fields:
        parts = [_walk(array[name], above) for name in array.dtype.names]
        return _node("record", *(name.encode() for name in array.dtype.names), *parts)
    if array.dtype.hasobject:
        return _node("objects", repr(array.shape).encode(), *(_walk(item, above) for item in array.ravel().tolist()))
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return _node("array", little.dtype.str.encode(), repr(array.shape).encode(), little.tobytes())


def _walk_object(value: Any, above: tuple[int, ...]) -> bytes:
    """Return the digest of an object by how pickle would rebuild it: the parts are digested, not written."""
    reduced = value.__reduce_ex__(2)
    if isinstance(reduced, str):
        return _node("name", f"{type(value).__module__}.{reduced}".encode())
    build, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    if isinstance(state, dict):
        state = {key: item for key, item in state.items() if key != "_sklearn_version"}
    parts = (build, arguments, state, list(items or ()), dict(pairs or ()))
    return _node("object", *(_walk(part, above) for part in parts))


def _node(kind: str, *parts: bytes) -> bytes:
    state = hashlib.sha256(kind.encode() + b"\0")
    for part in parts:
        state.update(struct.pack("<Q", len(part)) + part)
    return state.digest()[:DIGEST_BYTES]
