"""Whether an event is one of OpenLineage's: against the published schemas, which lie in `spec/`, and this project's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource

from bikes_assets.lineage.openlineage.custom import SCHEMAS

SPEC = Path(__file__).with_name("spec")
CORE = json.loads((SPEC / "OpenLineage.json").read_text())
FACETS = [json.loads(file.read_text()) for file in (*(SPEC / "facets").glob("*.json"), *SCHEMAS.glob("*.json"))]
REGISTRY = Registry().with_resources([(schema["$id"], Resource.from_contents(schema)) for schema in (CORE, *FACETS)])


def _schemas() -> dict[str, list[str]]:
    """Return the schemas of each facet by its key; some keys are of datasets and of jobs."""
    found: dict[str, list[str]] = {}
    for schema in FACETS:
        for key, told in schema["properties"].items():
            for option in (told, *told.get("anyOf", ())):
                if "$ref" in option:
                    found.setdefault(key, []).append(urljoin(schema["$id"], option["$ref"]))
    return found


BY_KEY = _schemas()


def problems_of(event: dict[str, Any]) -> list[str]:
    """Return what is wrong with an event: with itself, and with each of its facets, all of which must have a schema."""
    found = _against(f"{CORE['$id']}#/$defs/RunEvent", event)
    datetime.fromisoformat(event["eventTime"])
    for key, facet in facets_of(event):
        options = [_against(schema, facet) for schema in BY_KEY.get(key, ())]
        if all(options):
            found += [f"{key}: {text}" for text in (min(options, key=len) if options else ["it has no schema"])]
    return found


def facets_of(event: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield all facets of an event, each with its key."""
    yield from event["run"].get("facets", {}).items()
    yield from event["job"].get("facets", {}).items()
    for dataset in (*event.get("inputs", ()), *event.get("outputs", ())):
        for group in ("facets", "inputFacets", "outputFacets"):
            yield from dataset.get(group, {}).items()


def _against(schema: str, value: Any) -> list[str]:
    validator = Draft202012Validator({"$ref": schema}, registry=REGISTRY, format_checker=FormatChecker())
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(value)]
