"""Skops files as an attacker writes them: node by node."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import skops.io


def node(kind: str, loader: str, **more: Any) -> dict[str, Any]:
    module, _, name = kind.rpartition(".")
    return {"__module__": module, "__class__": name, "__loader__": loader, **more}


def text(value: str) -> dict[str, Any]:
    return node("builtins.str", "JsonNode", content=json.dumps(value), is_json=True)


def several(kind: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return node(f"builtins.{kind}", f"{kind.title()}Node", content=list(parts))


def mapping(*key_types: dict[str, Any], **parts: dict[str, Any]) -> dict[str, Any]:
    kinds = key_types or tuple(node("builtins.str", "TypeNode") for _ in parts)
    return node("builtins.dict", "DictNode", content=parts, key_types=several("list", *kinds))


def skops_file(content: dict[str, Any], members: dict[str, bytes] | None = None, compression: int = 0) -> bytes:
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(None))) as honest:
        written = json.loads(honest.read("schema.json"))
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        archive.writestr("schema.json", json.dumps({**content, "protocol": written["protocol"]}))
        for name, member in (members or {}).items():
            archive.writestr(name, member)
    return target.getvalue()
