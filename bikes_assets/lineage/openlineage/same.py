"""Which names mean one dataset: by what the project calls its own, and by the symlinks that other tools tell of."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bikes_assets.core.address import Address
from bikes_assets.core.errors import LineageError
from bikes_assets.lineage.elements import JOB, RUN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bikes_assets.lineage.openlineage.graph import NumberedEntity, ReceivedGraph


class Same(NamedTuple):
    """A dataset with all its labels.

    Attributes:
        asset: what the index calls it, "" where it does not know it.
        labels: what other tools call it, in order.
    """

    asset: str
    labels: Sequence[str]

    @property
    def name(self) -> str:
        """What it is called here: as the index calls it, else by its first label."""
        return self.asset or self.labels[0]


class Names:
    """What the datasets of other tools are called here; only those that are asked about are looked up.

    Args:
        graph: what events tell; two labels mean one dataset where a symlink says so.
        names: what the index calls each dataset of other labels.
    """

    def __init__(self, graph: ReceivedGraph, names: Mapping[str, str]) -> None:
        self._graph, self._assets = graph, names
        self._own: dict[str, list[str]] = {}
        for label, asset in sorted(names.items()):
            self._own.setdefault(asset, []).append(label)
        self._found: dict[str, Same] = {}

    @property
    def own(self) -> list[Same]:
        """The datasets that the index knows."""
        return [self.same(labels[0]) for labels in self._own.values()]

    def same(self, label: str) -> Same:
        """Return the dataset that a label means."""
        if label not in self._found:
            same = self._same(label)
            self._found |= dict.fromkeys(same.labels, same)
        return self._found[label]

    def of(self, told: NumberedEntity) -> str:
        """Return what a thing is called here: for a dataset or column its address."""
        if told.kind in (JOB, RUN):
            return told.label
        return str(Address(self.same(told.label).name, told.column or None))

    def labels(self, name: str) -> Sequence[str]:
        """Return the labels of what a dataset or anything else is called here."""
        return self.same(self._own[name][0] if name in self._own else name).labels

    def called(self, name: str, time: float) -> list[NumberedEntity]:
        """Return what has a name: a dataset's may be written as in an address, or as it is."""
        parts = Address.parse(name)
        tries = [(parts.asset, parts.column or "")] if parts and not (parts.partition or parts.version) else []
        for asset, column in [*tries, (name, "")]:
            labels = self.labels(asset)
            things = [item for label in labels for item in self._graph.labelled(label, time)]
            if found := [item for item in things if item.column == column]:
                return found
        return []

    def called_shortly(self, name: str, time: float) -> list[NumberedEntity]:
        """Return what has a label that ends with a name, or a column of it.

        Raises:
            LineageError: there are several.
        """
        parts = Address.parse(name)
        if not name or (parts and (parts.partition or parts.version)):
            return []
        of_column = (parts.asset, parts.column) if parts and parts.column else name.rpartition(".")[::2]
        for end, column in [(name, ""), *([of_column] if all(of_column) else [])]:
            things = self._graph.ending(end, column, time)
            found = [item for item in things if item.kind != JOB] or things
            called = sorted({self.of(item) for item in found})
            if len(called) > 1:
                raise LineageError(f"found several that end with {name!r}: {', '.join(called[:5])}; give one of them")
            if found:
                return found
        return []

    def _same(self, label: str) -> Same:
        labels, assets, waiting = set[str](), set[str](), [label]
        while waiting:  # the first round finds all but what the other labels of an asset are symlinks of
            more = {*waiting, *(other for at in waiting for other in self._graph.symlinked(at))} - labels
            labels |= more
            new = {self._assets[other] for other in more if other in self._assets} - assets
            assets |= new
            waiting = [other for asset in new for other in self._own[asset] if other not in labels]
        if len(assets) > 1:  # symlinks that make two datasets of the index one are wrong, whichever of them it is
            asset = self._assets.get(label, "")
            return Same(asset, self._own[asset] if asset else [label])
        return Same(next(iter(assets), ""), sorted(labels))
