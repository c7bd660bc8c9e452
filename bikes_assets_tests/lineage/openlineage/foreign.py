"""Events as another tool might send them: single ones, and random ones of many runs."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

NAMESPACE = "s3://elsewhere"
START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
TYPES = ("START", "RUNNING", "COMPLETE")


def dataset(name: str, **facets: Any) -> dict[str, Any]:
    """Return a dataset; one whose name begins with a slash is a file."""
    namespace = "file" if name.startswith("/") else NAMESPACE
    return {"namespace": namespace, "name": name, "facets": facets}


def named(name: str) -> dict[str, str]:
    """Return what names a dataset in a facet."""
    return {key: value for key, value in dataset(name).items() if key != "facets"}


def column_lineage(fields: Mapping[str, Collection[tuple[str, str]]]) -> dict[str, Any]:
    """Return the facet: output column to the datasets and columns that it is computed from."""
    return {
        "fields": {
            name: {"inputFields": [{**named(of), "field": column} for of, column in sources]}
            for name, sources in fields.items()
        }
    }


def event(
    run: str,
    inputs: Sequence[str | Mapping[str, Any]],
    outputs: Sequence[str | Mapping[str, Any]],
    *,
    job: str = "job",
    seconds: float = 0,
    event_type: str = "COMPLETE",
    facets: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the event of a run, some seconds after `START`."""
    sides = [[dataset(item) if isinstance(item, str) else {**item} for item in side] for side in (inputs, outputs)]
    return {
        "eventType": event_type,
        "eventTime": datetime.fromtimestamp(START + seconds, UTC).isoformat(),
        "producer": "https://example.org/tool",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": run},
        "job": {"namespace": "elsewhere", "name": job, "facets": {**(facets or {})}},
        "inputs": sides[0],
        "outputs": sides[1],
    }


def random_events(seed: int, count: int = 60, more: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return events of some runs, whose datasets are computed from those of lower numbers.

    Args:
        seed: of what is drawn.
        count: how many.
        more: names of other datasets, which are read, and written where that makes no circle.
    """
    rng, found = random.Random(seed), list[dict[str, Any]]()
    names = [f"t{number}" for number in range(12)] + [*more]
    rng.shuffle(names)
    while len(found) < count:
        at = rng.randrange(1, len(names))
        inputs = rng.sample(names[:at], min(at, rng.randint(0, 3)))
        outputs = rng.sample(names[at:], min(len(names) - at, rng.randint(0, 2)))
        run, job = f"run{rng.randrange(count // 3 + 1)}", f"job{rng.randrange(6)}"
        facets = {}
        if outputs and rng.random() < 0.3:
            entries = [
                {
                    **named(outputs[0]),
                    "type": "DATASET",
                    "inputs": [{**named(of), "type": "DATASET"} for of in inputs[:1]],
                }
            ]
            facets = {"lineage": {"entries": entries}}
        shown = [dataset(name, **_facets(rng, name, inputs)) for name in outputs]
        kind = rng.choice(TYPES)
        found.append(event(run, inputs, shown, job=job, seconds=rng.randrange(1_000), event_type=kind, facets=facets))
        if rng.random() < 0.3:  # what a run reads and writes may come apart
            found.append(event(run, inputs[:1], outputs[:1], job=job, seconds=rng.randrange(1_000), event_type=kind))
    return found[:count]


def _facets(rng: random.Random, name: str, inputs: Sequence[str]) -> dict[str, Any]:
    columns = [f"c{number}" for number in range(3)]
    facets: dict[str, Any] = {}
    if rng.random() < 0.5:
        described = rng.choice(["", "one", "another"])
        facets["schema"] = {"fields": [{"name": column, "type": "int", "description": described} for column in columns]}
        facets["documentation"] = {"description": f"{described} {name}"}
    if inputs and rng.random() < 0.6:
        facets["columnLineage"] = column_lineage(
            {column: [(rng.choice(inputs), rng.choice(columns))] for column in rng.sample(columns, 2)}
        )
    if rng.random() < 0.1:
        facets["symlinks"] = {"identifiers": [{"namespace": "hive", "name": f"link.{name}", "type": "TABLE"}]}
    return facets
