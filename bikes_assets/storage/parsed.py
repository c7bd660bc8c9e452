"""JSON of untrusted files: either it has the expected form, or a ValueError says why not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NOT_IN_CODE_VERSION = True  # reads what is recorded about rows, and makes none

T = TypeVar("T")
Types = type | tuple[type, ...]


def parsed(text: str | bytes, of: Callable[[Any], T]) -> T:
    """Return what `of` makes of the values of a JSON text.

    Raises:
        ValueError: the text is no JSON, is nested too deeply, or is not what `of` expects.
    """
    try:
        return of(json.loads(text))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def fields(values: Any, types: Mapping[str, Types]) -> dict[str, Any]:
    """Return the fields of a JSON object.

    Args:
        values: the object.
        types: the type of each field; other fields are refused, and any may be missing.

    Raises:
        ValueError: it is no object, or has other fields or types.
    """
    if not isinstance(values, dict):
        raise ValueError(f"expected an object with {', '.join(types)}")
    known: dict[str, Any] = values
    for name, value in known.items():
        if name not in types:
            raise ValueError(f"expected no field but {', '.join(types)}")
        if not isinstance(value, types[name]) or isinstance(value, bool):
            raise ValueError(f"expected another type of {name}")
    return known


def texts(values: Any) -> dict[str, str]:
    """Return a JSON object whose values are texts.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise ValueError("expected an object of texts")
    return dict(values)
