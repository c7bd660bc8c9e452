"""Waste in the pipeline: what nobody reads, what was rematerialized and stayed unchanged, and where the time goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bikes_assets.core.address import WHOLE, Address, parse_address
from bikes_assets.lineage.elements import COLUMN, DATASET, RUN, VERSION

if TYPE_CHECKING:
    from bikes_assets.lineage.elements import Result
    from bikes_assets.lineage.index import Index


@dataclass(frozen=True, slots=True)
class Spent:
    """What materializing an asset took.

    Attributes:
        asset: the asset.
        times: how often a partition of it was materialized.
        seconds: wall time of its steps.
        unchanged: how often a partition's digest stayed unchanged.
        unchanged_seconds: wall time of those steps.
    """

    asset: str
    times: int
    seconds: float
    unchanged: int
    unchanged_seconds: float


@dataclass(frozen=True, slots=True)
class Waste:
    """Waste in the pipeline.

    Attributes:
        without_readers: datasets that no other is computed from, including those that people look at.
        unread: columns that nothing is computed from, of datasets that have readers.
        unused: columns that a model's inputs have and the model does not read, by the model's asset.
        unused_by_model: columns that the newest version of a model was fitted on and does not use: no tree splits on
            them.
        spent: what materializing each asset took, most first.
        steps: wall seconds of all steps.
        runs: wall seconds of all runs that ended; the time beyond the steps is spent on starting, connecting and
            ending.
    """

    without_readers: tuple[str, ...]
    unread: tuple[str, ...]
    unused: Mapping[str, tuple[str, ...]]
    unused_by_model: Mapping[str, tuple[str, ...]]
    spent: tuple[Spent, ...]
    steps: float
    runs: float

    @property
    def overhead(self) -> float:
        """The share of the runs' time that is beyond their steps."""
        return 1 - self.steps / self.runs if self.runs else 0.0


def waste(index: Index, steps: Mapping[tuple[str, str], float], runs: Mapping[str, float]) -> Waste:
    """Return the waste in the pipeline.

    Args:
        index: the index.
        steps: wall seconds of each step, by run and asset.
        runs: wall seconds of each run that ended.
    """
    known = [Address.parse(name) for name in index.names(DATASET)]
    datasets = [item.asset for item in known if item and index.within(VERSION, item.asset)]  # other tools' have none
    read = {name for name in datasets if index.neighbours(DATASET, str(Address(name)), "downstream")}
    columns = {name: [str(item) for item in index.within(COLUMN, name)] for name in datasets}
    unread = [column for name in datasets if name in read for column in columns[name] if not _targets(index, column)]
    models = [name for name in datasets if columns[name] == [str(Address(name, WHOLE))]]
    unused: dict[str, tuple[str, ...]] = {}
    for model in models:
        above = index.neighbours(DATASET, str(Address(model)), "upstream")
        inputs = {parse_address(edge.source[1])[0] for edge in above} - set(models)
        used = {edge.source[1] for edge in index.neighbours(COLUMN, str(Address(model, WHOLE)), "upstream")}
        unused[model] = tuple(column for name in sorted(inputs) for column in columns[name] if column not in used)
    spent = sorted((_spent(index, name, steps) for name in datasets), key=lambda item: -item.seconds)
    ended = {key: seconds for key, seconds in steps.items() if key[0] in runs}
    return Waste(
        tuple(name for name in datasets if name not in read),
        tuple(unread),
        {model: names for model, names in unused.items() if names},
        {model: names for model in models if (names := _unused_by_model(index, model))},
        tuple(item for item in spent if item.times),
        sum(ended.values()),
        sum(runs.values()),
    )


def _targets(index: Index, column: str) -> set[str]:
    return {edge.target[1] for edge in index.neighbours(COLUMN, column, "downstream")}


def _versions(index: Index, asset: str) -> list[Result]:
    """Return an asset's versions in the order in which they were published."""
    found = [index.find(str(item), VERSION)[0] for item in index.within(VERSION, asset)]
    return sorted((item for item in found if "code" in item.facts), key=lambda item: item.facts["time"])


def _unused_by_model(index: Index, model: str) -> tuple[str, ...]:
    partitions = {parse_address(item.name)[1] or "": item for item in _versions(index, model)}
    newest = partitions[max(partitions)].facts if partitions else {}
    return tuple(str(Address(asset, name)) for asset, names in newest.get("unused", {}).items() for name in names)


def _spent(index: Index, asset: str, steps: Mapping[tuple[str, str], float]) -> Spent:
    """Return what materializing an asset took."""
    made = _versions(index, asset)
    latest: dict[str | None, str] = {}
    times = [0.0, 0.0]
    unchanged = 0
    for item in made:
        runs = [edge.source[1] for edge in index.neighbours(VERSION, item.name, "upstream") if edge.source[0] == RUN]
        seconds = sum(steps.get((run, asset), 0.0) for run in runs)
        partition = parse_address(item.name)[1]
        same = latest.get(partition) == item.facts["digest"]
        latest[partition] = item.facts["digest"]
        unchanged += same
        times = [times[0] + seconds, times[1] + same * seconds]
    return Spent(asset, len(made), times[0], unchanged, times[1])
