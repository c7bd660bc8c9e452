"""What an OpenLineage event of any producer says: the datasets, columns, jobs and runs that it names, and their edges.

Producers differ, and so do versions of the standard. What an event has to have is little: what it is of, and a time. A
part of it that has another form than the standard's is passed over, and the rest of the event counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypeAlias

from bikes_assets.core.address import WHOLE
from bikes_assets.core.errors import EventError
from bikes_assets.core.texts import shortened
from bikes_assets.lineage.elements import COLUMN, DATASET, JOB, RUN
from bikes_assets.lineage.openlineage.names import label

MOST_BYTES = 32 << 20
"""Largest event that is taken: Spark sends plans of several megabytes."""
_MOST_CHARACTERS = 10_000
"""Longest name."""
_MOST_LEVELS = 200
"""How deeply an event may be nested, far below where Python's encoder gives up, which depends on who calls it."""
_UUID = re.compile("[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ZONE = re.compile(r"\s*(?:\[[^\]]*\]|z|UTC|GMT)$|\s+(?=[+-]\d)", re.IGNORECASE)
"""How some producers end a time: with the name of a zone, a small z, or a space before the offset."""
_OWN_FACETS = ("columnLineage", "lineage", "schema", "symlinks")
"""Facets of datasets that become things and edges, and are not shown as facts again."""
_MOST_OF_FACET = 20_000
"""Size of the largest facet, as JSON, that is kept as a fact; the event itself keeps all."""

Role: TypeAlias = Literal["read", "wrote"]
Json: TypeAlias = "Mapping[str, Any]"


class Entity(NamedTuple):
    """Something that events name.

    Attributes:
        kind: `dataset`, `column`, `job` or `run`.
        label: namespace and name of the dataset or job in one; id of a run.
        column: the column, "" for anything else.
    """

    kind: str
    label: str
    column: str = ""


class Link(NamedTuple):
    """One thing contributes to another, as an event says by itself."""

    source: Entity
    target: Entity
    kind: str


@dataclass(slots=True)
class Parsed:
    """What an event says.

    Attributes:
        time: when it happened, Unix seconds.
        job: the job that it is of, if any.
        run: the run that it is of, if any.
        uses: the datasets that the job or run reads and writes.
        explicit: datasets whose inputs are in `links`; others are computed from everything that the job or run reads.
        links: edges between datasets, and between columns.
        models: datasets that are models, which have no columns: what they are computed from, all of a model is.
        facts: what is known of each thing, by facet.
        symlinks: other names of datasets.
    """

    time: float
    job: Entity | None = None
    run: Entity | None = None
    uses: list[tuple[Entity, Role]] = field(default_factory=list[tuple[Entity, Role]])
    explicit: set[Entity] = field(default_factory=set[Entity])
    links: set[Link] = field(default_factory=set[Link])
    models: set[Entity] = field(default_factory=set[Entity])
    facts: dict[Entity, dict[str, Any]] = field(default_factory=dict[Entity, dict[str, Any]])
    symlinks: set[tuple[Entity, Entity]] = field(default_factory=set[tuple[Entity, Entity]])

    def know(self, entity: Entity, facets: Mapping[str, Any] | None = None) -> Entity:
        """Note that something exists, and what is known of it; return it."""
        self.facts.setdefault(entity, {}).update(facets or {})
        return entity


def loaded(text: bytes, most: int = MOST_BYTES) -> Any:
    """Return the JSON value of a text.

    Args:
        text: the text, in UTF-8.
        most: number of bytes that it may have.

    Raises:
        EventError: it is no JSON, is nested too deeply, or too large.
    """
    if len(text) > most:
        raise EventError(f"found more than {most:,} bytes, expected {most:,} at most")
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise EventError("found JSON that is nested too deeply, expected an OpenLineage event") from None
    except ValueError as error:  # no JSON, no UTF-8, or a number of too many digits
        raise EventError(f"found no JSON ({shortened(str(error))}), expected an OpenLineage event") from None


def parse(event: object) -> Parsed:
    """Return what an event says: of a run, a job or a dataset.

    Raises:
        EventError: it is no such event; the message names what is wrong.
    """
    if not isinstance(event, Mapping):
        raise EventError(f"found {_kind(event)}, expected an event, which is a JSON object")
    known: Json = event  # pyright: ignore[reportUnknownVariableType] - JSON
    _check_levels(known)
    found = Parsed(_time(known.get("eventTime")))
    if known.get("job") is None:  # some producers write what is not there as null
        if known.get("dataset") is None:
            raise EventError("found neither job nor dataset, expected an event of a run, a job or a dataset")
        dataset = _dataset(found, _object(known, "dataset"), "dataset")
        # no run says what the dataset is computed from: its columns alone do
        sources = {Entity(DATASET, link.source.label) for link in found.links} - {dataset}
        found.links |= {Link(found.know(source), dataset, "read") for source in sources}
        return found
    job = _object(known, "job")
    facets = {key: value for key, value in _facets(job).items() if key != "lineage"}
    found.job = found.know(Entity(JOB, label(*_name(job, "job"))), facets | _names(job))
    if known.get("run") is not None:
        _run(found, known)
    sides = _datasets_of(known)
    found.models = {Entity(DATASET, label(*_name(item, where))) for where, _, item in sides if _is_model(item)}
    found.uses = [(_dataset(found, item, where), role) for where, role, item in sides]
    _lineage_of_job(found, job)
    return found


def _check_levels(event: object) -> None:
    """Raise an error where an event is nested so deeply that it could be read but not be written."""
    level = [event]
    for _ in range(_MOST_LEVELS):
        parts = (part.values() if type(part) is dict else part for part in level)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - JSON
        level = [item for part in parts for item in part if type(item) in (dict, list)]  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType] - JSON
        if not level:
            return
    raise EventError(f"found JSON that is nested too deeply, expected {_MOST_LEVELS} levels at most")


def _run(found: Parsed, event: Json) -> None:
    run = _object(event, "run")
    name = run.get("runId")
    if not isinstance(name, str) or not name:
        raise EventError(f"found run.runId {_kind(name)}, expected the id of a run")
    facets = _facets(run)
    told = {key: facets[key] for key in ("nominalTime", "parent", "errorMessage") if key in facets}
    state = event.get("eventType")
    if isinstance(state, str):
        told["state"] = state
    if found.job:
        told["job"] = found.job.label
    name = name.lower() if _UUID.fullmatch(name) else name  # which is the same in any case
    found.run = found.know(Entity(RUN, _text(name, "run.runId")), told)


def _datasets_of(event: Json) -> list[tuple[str, Role, Json]]:
    """Return the datasets of an event: where each stands in it, what is done with it, and itself.

    Raises:
        EventError: one is none.
    """
    found, roles = list[tuple[str, Role, Json]](), {"inputs": "read", "outputs": "wrote"}
    for key, role in roles.items():
        for place, item in enumerate(_list(event.get(key), key)):
            if item is None:
                continue
            if not isinstance(item, Mapping):
                raise EventError(f"found {key}[{place}] {_kind(item)}, expected a dataset")
            found.append((f"{key}[{place}]", role, item))  # pyright: ignore[reportArgumentType] - JSON
    return found


def _is_model(dataset: Json) -> bool:
    return _mapping(_facets(dataset).get("datasetType")).get("datasetType") == "MODEL"


def _dataset(found: Parsed, told: Json, where: str) -> Entity:
    """Note a dataset, its columns, its other names and what its columns are computed from; return it."""
    dataset, facets = Entity(DATASET, label(*_name(told, where))), _facets(told)
    found.know(dataset, {key: value for key, value in facets.items() if key not in _OWN_FACETS} | _names(told))
    for name, item in _columns(_mapping(facets.get("schema"))):
        about = {key: item[key] for key in ("type", "description") if isinstance(item.get(key), str)}
        found.know(_column(dataset, name), about)
    for item in _mappings(_mapping(facets.get("symlinks")).get("identifiers")):
        if other := _named(item):
            found.symlinks.add((dataset, found.know(other)))
    lineage = _mapping(facets.get("columnLineage"))
    for name, entry in _of_columns(lineage):
        for item in _mappings(_mapping(entry).get("inputFields")):
            _field(found, item, _column(dataset, name), _mapping(entry).get("transformationType"))
    for item in _mappings(lineage.get("dataset")):
        _field(found, item, dataset)
    if "lineage" in facets:
        _lineage(found, dataset, _mapping(facets["lineage"]))
    return dataset


def _columns(told: Json, within: str = "") -> Iterator[tuple[str, Json]]:
    """Yield the columns of a schema; a field of a field has the names of both, as in `address.city`."""
    for item in _mappings(told.get("fields")):
        if isinstance(name := item.get("name"), str) and name:
            yield f"{within}{name}", item
            yield from _columns(item, f"{within}{name}.")


def _of_columns(told: Json) -> Iterator[tuple[str, Any]]:
    """Yield what a facet says of each column; one without a name is none."""
    return ((name, entry) for name, entry in _mapping(told.get("fields")).items() if name)


def _lineage_of_job(found: Parsed, job: Json) -> None:
    """Note the edges of a job's facet `lineage`, which names the inputs of each of its outputs."""
    for entry in _mappings(_mapping(_facets(job).get("lineage")).get("entries")):
        if entry.get("type", "DATASET") == "DATASET" and (target := _named(entry)):
            _lineage(found, found.know(target), entry)


def _lineage(found: Parsed, target: Entity, entry: Json) -> None:
    if isinstance(entry.get("inputs"), list):
        found.explicit.add(target)
    for item in _mappings(entry.get("inputs")):
        if item.get("type", "DATASET") == "DATASET" and (source := _named(item)):
            found.links.add(Link(found.know(source), target, "read"))
            _field(found, item, target)
    for name, column in _of_columns(entry):
        for item in _mappings(_mapping(column).get("inputs")):
            _field(found, item, _column(target, name))


def _field(found: Parsed, item: Json, target: Entity, older: object = None) -> None:
    """Note that a column, or something without columns, contributes to a column, or to all of a dataset.

    Args:
        found: what the event says.
        item: the input as the facet names it.
        target: the column, or the dataset.
        older: the transformation as the facet's first version names it: of the whole column.
    """
    source, name = _named(item), item.get("field")
    if source is None:
        return
    if target in found.models:
        target = _column(target, WHOLE)
    if isinstance(name, str) and name:
        source = found.know(_column(found.know(source), name))
    elif target.kind == DATASET or (source not in found.models and target.column == WHOLE):
        return  # of a dataset on a dataset, which is an edge between them already
    else:
        source = found.know(_column(found.know(source), WHOLE))
    types = {step.get("type") for step in _mappings(item.get("transformations"))}
    is_indirect = types == {"INDIRECT"} or (not types and older == "INDIRECT")
    found.links.add(Link(source, found.know(target), "indirect" if is_indirect else "direct"))


def _column(dataset: Entity, name: str) -> Entity:
    return Entity(COLUMN, dataset.label, _text(name, "the name of a column"))


def _names(told: Json) -> dict[str, Any]:
    return {"namespace": told["namespace"], "name": told["name"]}


def _name(told: Json, where: str) -> tuple[str, str]:
    """Return the namespace and name of a job or dataset.

    Raises:
        EventError: it has none.
    """
    for key in ("namespace", "name"):
        if not isinstance(told.get(key), str):
            raise EventError(f"found {where}.{key} {_kind(told.get(key))}, expected text")
    return _text(told["namespace"], f"{where}.namespace"), _text(told["name"], f"{where}.name")


def _named(told: Json) -> Entity | None:
    """Return the dataset that a facet names, None where it names none."""
    names = told.get("namespace"), told.get("name")
    if not all(isinstance(name, str) for name in names):
        return None
    return Entity(DATASET, label(*_name(told, "a facet")))


def _text(text: str, where: str) -> str:
    if len(text) > _MOST_CHARACTERS:
        raise EventError(f"found {where} of {len(text):,} characters, expected {_MOST_CHARACTERS:,} at most")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise EventError(f"found {where} with half a character of UTF-16, expected Unicode text") from None
    if "\0" in text:
        raise EventError(f"found {where} with a NUL character, expected text without one")
    return text


def _time(told: object) -> float:
    """Return a time in Unix seconds; without an offset it is UTC.

    Raises:
        EventError: it is none.
    """
    try:
        if not isinstance(told, str):
            raise TypeError
        time = datetime.fromisoformat(_ZONE.sub("", told.strip()) if _ZONE.search(told) else told)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        expected = "a time such as 2026-11-30T18:00:00Z"
        raise EventError(f"found eventTime {_shown(told)}, expected {expected}") from None


def _object(event: Json, key: str) -> Json:
    found = event[key]
    if not isinstance(found, Mapping):
        raise EventError(f"found {key} {_kind(found)}, expected a JSON object")
    return found  # pyright: ignore[reportUnknownVariableType] - JSON


def _list(found: object, key: str) -> Iterable[Any]:
    if found is not None and not isinstance(found, list):
        raise EventError(f"found {key} {_kind(found)}, expected a list of datasets")
    return found or ()  # pyright: ignore[reportUnknownVariableType] - JSON


def _facets(of: Json) -> dict[str, Any]:
    """Return the facets of something, without those that are no objects, or deleted."""
    facets = {**_mapping(of.get("facets"))}
    return {key: value for key, value in facets.items() if isinstance(value, Mapping) and not value.get("_deleted")}  # pyright: ignore[reportUnknownMemberType] - JSON


def _mapping(found: object) -> Json:
    return found if isinstance(found, Mapping) else {}  # pyright: ignore[reportUnknownVariableType] - JSON


def _mappings(found: object) -> Iterator[Json]:
    """Yield the objects of a list."""
    for item in found if isinstance(found, list) else ():  # pyright: ignore[reportUnknownVariableType] - JSON
        if isinstance(item, Mapping):
            yield item


def kept(value: object) -> str:
    """Return a fact as JSON text; "" where it is too large to be shown, or holds what SQLite cannot."""
    text = (
        json.dumps(value) if isinstance(value, str) else json.dumps(value, sort_keys=True)
    )  # the one takes half as long
    return text if len(text) <= _MOST_OF_FACET else ""


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _kind(found: object) -> str:
    """Return what a JSON value is, in words."""
    words: dict[type, str] = {
        type(None): "nothing",
        bool: "true or false",
        str: "text",
        list: "a list",
        dict: "an object",
    }
    return words.get(type(found), "a number")


def _shown(found: object) -> str:
    return repr(shortened(found)) if isinstance(found, str) else _kind(found)
