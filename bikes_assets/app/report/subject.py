"""The model that a report is about: its record, what contributed to it, and what it has predicted since."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bikes_assets.app import answers, versions
from bikes_assets.app.explore import panels
from bikes_assets.app.store import assets, current, lake
from bikes_assets.core.address import Address, ModelRef
from bikes_assets.core.errors import LineageError, RemovedError
from bikes_assets.lineage.elements import ALIAS, MODEL, VERSION
from bikes_assets.storage.lake import MODEL_ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bikes_assets.core.record import Record
    from bikes_assets.lineage.elements import Result
    from bikes_assets.lineage.index import Index


@dataclass(frozen=True)
class FittedModel:
    """A model that was fitted, and what the store knows of it.

    Attributes:
        name: as it was asked for, such as `demand_model@champion`.
        index: the lineage index, brought up to date.
        record: how it was materialized.
    """

    name: str
    index: Index = field(repr=False)
    record: Record = field(repr=False)

    @property
    def address(self) -> str:
        """The version in which it was fitted."""
        return self.record.output.address

    @cached_property
    def overview(self) -> Mapping[str, Any]:
        """What is known of its asset: documentation, owners, code and registered versions."""
        return panels.overview(self.record.output.asset)

    @cached_property
    def upstream(self) -> Sequence[Result]:
        """Everything that contributed to it: versions, files, code and runs, nearest first."""
        return answers.upstream(self.address).things

    @cached_property
    def contributing(self) -> Mapping[str, Mapping[str, Any]]:
        """What is known of each version that contributed to it, by address."""
        return {item.name: item.facts for item in self.upstream if item.kind == VERSION}

    @cached_property
    def uses(self) -> Sequence[Record]:
        """The newest version of each partition that was predicted by it, evaluates that, or promoted it, in order.

        Versions that only compared it with another model are none of them.
        """
        found: dict[tuple[str, str | None], Record] = {}
        for item in answers.downstream(self.address, level=VERSION):
            place = Address.parse(item.name)
            if place is None or place.asset not in assets():
                continue
            record = lake().record(place.asset, place.partition, place.version)
            key = (place.asset, place.partition)
            is_newer = key not in found or int(record.output.version) > int(found[key].output.version)
            if is_newer and any(_is(model["origin"], self.address) for model in record.models):
                found[key] = record
        return sorted(found.values(), key=lambda record: (record.output.asset, str(record.output.partition)))

    @cached_property
    def card(self) -> Mapping[str, Any]:
        """How it was fitted, as its project describes its models; empty where retention removed it."""
        output = self.record.output
        try:
            parts = lake().table(output.asset, MODEL_ROWS).read([output.partition], int(output.version))
        except RemovedError:
            return {}
        rows = parts[output.partition][1].to_pylist()
        return next((json.loads(row["card"]) for row in rows if not row["origin"]), {})

    def names(self, kind: str) -> list[str]:
        """Return its registered versions or its aliases, oldest first."""
        asset = self.record.output.asset
        found = self.index.things([*self.index.numbers(kind, asset)], None)
        return [item.name for item in found if item.facts.get("address") == self.address]

    @property
    def registered(self) -> list[str]:
        """Its registered versions, such as `demand_model@3`."""
        return self.names(MODEL)

    @property
    def aliases(self) -> list[str]:
        """The aliases that lead to it now."""
        return self.names(ALIAS)

    def is_external(self, asset: str) -> bool:
        """Return whether an asset's rows come from outside, and not from the project's code."""
        return asset in current().sources or asset not in assets()


def fitted_model(address: str) -> FittedModel:
    """Return the model that an address names.

    Args:
        address: `demand_model@3`, `demand_model@champion`, `demand_model[2012-08]@18`, or `demand_model[2012-08]` for
            its current version.

    Raises:
        LineageError: there is no such version, or no model was fitted in it.
    """
    index = answers.refreshed()
    record = versions.record_of(index, address)
    if record.fitted is None:
        origins = [model["origin"] for model in record.models]
        instead = f"the model that it used: {origins[0]}" if origins else "one of a model, such as demand_model@3"
        raise LineageError(
            f"{address}: found a version of {record.output.asset}, in which no model was fitted; expected {instead}"
        )
    return FittedModel(address, index, record)


def _is(origin: str, address: str) -> bool:
    """Return whether a record's model is the one that was fitted in a version, and not a part of it."""
    found = ModelRef.parse(origin)
    return (found.address, found.part) == (address, "")
