"""Any names: what is written as an address is read back, and an index that grew equals one that is rebuilt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from bikes_assets.core.address import WHOLE, Address, ModelRef, parse_address
from bikes_assets.core.errors import LineageError, SchemaError
from bikes_assets.core.record import Record, Version
from bikes_assets.core.schema import Column, Schema
from bikes_assets.lineage import queries
from bikes_assets.lineage.index import Index
from bikes_assets.lineage.projection import MaterializedEvent, Projection, RegisteredEvent
from bikes_assets_tests.contents import content_of
from bikes_assets_tests.fire.processes import SOAK

ODD = ".[]@#\"\\*? /:%'`-_0aé漢\u200b\n\t"
NAME = some.text(
    some.one_of(some.sampled_from(ODD), some.characters(exclude_categories=["Cs"])), min_size=1, max_size=6
)
COLUMN = NAME.filter(lambda name: name != WHOLE)
quiet = settings(
    max_examples=500 if SOAK else 60, deadline=None, derandomize=not SOAK, suppress_health_check=list(HealthCheck)
)


@quiet
@given(NAME, some.none() | NAME, some.none() | NAME, some.none() | NAME)
def test_an_address_is_read_back_as_it_was_written(asset, column, partition, version) -> None:
    address = Address(asset, column, partition, version)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize("half", [r"\ud800", r"\udfff", r"a\ud83d", r"\ude00\ud83d"])
def test_half_of_a_character_is_no_part_of_an_address(half: str) -> None:
    for text in (f'"{half}"', f'a."{half}"', f'a["{half}"]', f'a@"{half}"'):
        assert Address.parse(text) is None
    assert Address.parse(r'"\ud83d\ude00"') == Address("😀")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("demand_features", ("demand_features", None, None, None)),
        ("demand_features.temperature[2012-08]@17", ("demand_features", "temperature", "2012-08", "17")),
        ("demand_model.*", ("demand_model", "*", None, None)),
        ("taxi/trips[2011-01..2012-05]", ("taxi/trips", None, "2011-01..2012-05", None)),
        ('trips."Temp [C]"@3', ("trips", "Temp [C]", None, "3")),
        ('trips."price@noon"["a]b"]', ("trips", "price@noon", "a]b", None)),
        ("trips[2012-08|north west]", ("trips", None, "2012-08|north west", None)),
    ],
)
def test_addresses_are_written_so(text: str, parts: tuple[str | None, ...]) -> None:
    assert Address.parse(text) == Address(*parts)
    assert str(Address(*parts)) == text


@quiet
@given(NAME, some.none() | NAME, some.none() | NAME, some.sampled_from(["", "baseline"]))
def test_a_model_and_its_baseline_are_read_back_as_they_were_written(asset, partition, version, part) -> None:
    model = ModelRef(str(Address(asset, None, partition, version)), part)
    assert ModelRef.parse(str(model)) == model


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("demand_model[2012-08]@12", ModelRef("demand_model[2012-08]@12")),
        ("demand_model[2012-08]@12 baseline", ModelRef("demand_model[2012-08]@12", "baseline")),
        ("fares[north west]", ModelRef("fares[north west]")),
        ("", ModelRef("")),
    ],
)
def test_models_are_written_so(text: str, model: ModelRef) -> None:
    assert ModelRef.parse(text) == model
    assert str(model) == text


@pytest.mark.parametrize(
    "text", ["", "two words", "a..b", "a[", "a[]", "a[b", "a]b", 'a."', "a@", "a@b@c", "[b]", 'a."\\x"', "a[b]c"]
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert Address.parse(text) is None
    with pytest.raises(LineageError, match=r"found address .*, expected one like"):
        parse_address(text)


def test_no_table_has_a_column_that_stands_for_a_whole_model() -> None:
    with pytest.raises(SchemaError, match=r"trips: found a column '\*', which stands for a whole model; rename it"):
        Schema("trips", (), (Column("*", "int64", ""),))


@dataclass(frozen=True)
class Asset:
    name: str
    columns: tuple[str, ...]  # none for a model
    inputs: tuple[int, ...]  # places of earlier assets


@some.composite
def histories(draw: Any) -> list[MaterializedEvent | RegisteredEvent]:
    """Return events of a few assets of any names, each computed from earlier ones, column by column, again and again."""
    names = draw(some.lists(NAME, min_size=2, max_size=5, unique=True))
    assets = [
        Asset(
            name,
            tuple(draw(some.lists(COLUMN, max_size=4, unique=True))),
            tuple(draw(some.lists(some.integers(0, place - 1), max_size=2, unique=True))) if place else (),
        )
        for place, name in enumerate(names)
    ]
    keys = draw(some.one_of(some.just([None]), some.lists(NAME, min_size=1, max_size=3, unique=True)))
    events: list[MaterializedEvent | RegisteredEvent] = []
    made: dict[tuple[int, str | None], Version] = {}
    versions = dict.fromkeys(range(len(assets)), 0)
    for number in range(1, draw(some.integers(1, 9)) + 1):
        place, key = draw(some.integers(0, len(assets) - 1)), draw(some.sampled_from(keys))
        asset = assets[place]
        versions[place] += 1
        output = Version(asset.name, key, versions[place], f"digest {number}")
        inputs = [made[other, key] for other in asset.inputs if (other, key) in made]
        lineage: dict[str, list[tuple[str, str]]] = {}
        for column in asset.columns if draw(some.booleans()) else ():
            lineage[column] = [
                (assets[other].name, name)
                for other in asset.inputs
                for name in draw(
                    some.lists(some.sampled_from(assets[other].columns or (WHOLE,)), max_size=2, unique=True)
                )
            ]
        record = Record(
            output,
            dict.fromkeys(asset.columns, f"{number}"),
            tuple(inputs),
            f"code {number % 3}",
            {},
            {},
            {"dagster_run_id": f"run {number}"},
        )
        is_current = draw(some.integers(0, 5)) > 0
        events.append(MaterializedEvent(number, float(number), record, lineage, rows=1, is_current=is_current))
        if is_current:
            made[place, key] = output
        if not asset.columns and draw(some.booleans()):
            events.append(RegisteredEvent(number, float(number), output.address, versions[place]))
    return [_numbered(event, at) for at, event in enumerate(events, 1)]


def _numbered(event: Any, number: int) -> Any:
    from dataclasses import replace

    return replace(event, event=number)


def taken(events: Sequence[Any], file: Path, serving: str, *, one_by_one: bool) -> Index:
    index = Index(file)
    if not one_by_one:
        projection = Projection(index, {}, serving)
        index.append(projection.fact(event) for event in events)
        return index
    for event in events:
        index.append([Projection(index, {}, serving).fact(event)])
        index.close()
    return index


@quiet
@given(histories())
def test_an_index_that_grew_equals_one_that_is_rebuilt_and_knows_all_of_it(events) -> None:
    with TemporaryDirectory() as folder:
        grew, rebuilt = (taken(events, Path(folder, str(way)), "", one_by_one=way) for way in (True, False))
        assert content_of(grew) == content_of(rebuilt)
        for event in events:
            if isinstance(event, RegisteredEvent):
                asset, _, _ = parse_address(event.address)
                assert queries.find(grew, str(Address(asset, version=str(event.number)))).kind in (
                    "model version",
                    "version",
                )
                continue
            output, record = event.record.output, event.record
            (version,) = grew.find(output.address, "version")
            assert version.facts["digest"] == output.digest
            above = {edge.source for edge in grew.neighbours("version", output.address, "upstream")}
            assert {("version", item.address) for item in record.inputs} <= above
            for column in record.columns:
                known = grew.within("column version", output.asset, column=column, partition=output.partition)
                assert Address(output.asset, column, output.partition, str(output.version)) in known
                told = {
                    str(Address(item.asset, name, item.partition, str(item.version)))
                    for item in record.inputs
                    for of, name in event.lineage.get(column, ())
                    if of == item.asset
                }
                at = str(Address(output.asset, column, output.partition, str(output.version)))
                edges = grew.neighbours("column version", at, "upstream")
                assert told <= {edge.source[1] for edge in edges}
        grew.close()
        rebuilt.close()
