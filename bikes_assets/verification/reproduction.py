"""Rebuilding a version from its record: in which order, and whether the result is what was recorded.

Everything upstream is rebuilt too, down to the external inputs: only that shows that a record is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from bikes_assets.core.record import Record, Version

if TYPE_CHECKING:
    import pyarrow as pa

    from bikes_assets.lineage.diff import Cause, Change

Match: TypeAlias = Literal["identical", "equal", "different"]
"""Whether the rebuilt content has the recorded digest, is equal within the tolerance, or neither."""

TOLERANCE = 1e-9
"""Largest relative difference of numbers that still count as equal.

Sums of floating-point numbers depend on their order, which engines and threads choose: n of them differ by up to about
n times 2**-53 of their absolute sum (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 4.2). A
model is fitted on some 17,000 rows: 2e-12. The tolerance allows for a few such sums in sequence, and for no difference
that anybody could notice.
"""


@dataclass(frozen=True, slots=True)
class Step:
    """A version to materialize in the sandbox.

    Attributes:
        record: its record.
        place: what it is rebuilt with: code, source, engine; None if its stored rows are used.
    """

    record: Record
    place: Any

    @property
    def version(self) -> Version:
        """The version."""
        return self.record.output


def steps(
    targets: Sequence[Record],
    known: Callable[[Version], Record | None],
    place_of: Callable[[Record], Any],
) -> list[Step]:
    """Return the order in which versions are rebuilt so that each finds its inputs as it read them.

    Args:
        targets: records of the requested versions.
        known: a version's record, None for what comes from outside.
        place_of: what a version is rebuilt with; None if its stored rows are used.
    """
    found: dict[str, _Node] = {}

    def node(record: Record) -> _Node:
        address = record.output.address
        if address not in found:
            place = place_of(record)
            inputs = [known(version) for version in record.inputs] if place is not None else []
            upstream = [node(item) for item in inputs if item]
            level = 1 + max((item.level for item in upstream), default=-1)
            found[address] = _Node(Step(record, place), upstream, level)
        return found[address]

    wanted = [node(record) for record in targets]
    if len({_key(item) for item in found.values()}) == len(found):
        # those of one level do not need each other: grouped by place, they need few processes
        places = {
            place: number for number, place in enumerate(dict.fromkeys(item.step.place for item in found.values()))
        }
        return [
            item.step
            for item in sorted(found.values(), key=lambda item: (item.level, places[item.step.place], _key(item)))
        ]
    rebuilt, ranks = dict[tuple[str, str], _Node](), _ranks(found.values())
    return [step for item in wanted for step in _in_turn(item, rebuilt, ranks)]


@dataclass(eq=False, slots=True)
class _Node:
    step: Step
    upstream: list[_Node]
    level: int


def _key(node: _Node) -> tuple[str, str]:
    return node.step.version.asset, node.step.version.partition or ""


def _ranks(nodes: Iterable[_Node]) -> dict[str, int]:
    """Return how far downstream each asset of some versions is."""
    upstream: dict[str, set[str]] = {}
    for node in nodes:
        upstream.setdefault(node.step.version.asset, set()).update(item.step.version.asset for item in node.upstream)
    ranks: dict[str, int] = {}
    for asset in TopologicalSorter(upstream).static_order():
        ranks[asset] = 1 + max((ranks[item] for item in upstream[asset]), default=-1)
    return ranks


def _in_turn(node: _Node, rebuilt: dict[tuple[str, str], _Node], ranks: Mapping[str, int]) -> Iterator[Step]:
    """Yield what rebuilds a version if several versions of one partition are needed, one after the other.

    The inputs furthest downstream come first: rebuilding one changes only it and assets upstream of it.
    """
    if rebuilt.get(_key(node)) is node:
        return
    for item in sorted(node.upstream, key=lambda item: (-ranks[item.step.version.asset], _key(item))):
        yield from _in_turn(item, rebuilt, ranks)
    rebuilt[_key(node)] = node
    yield node.step


@dataclass(frozen=True, slots=True)
class Part:
    """A version that differs from its record, though nothing upstream of it does."""

    address: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reproduction:
    """The result of rebuilding a version.

    Attributes:
        address: the version.
        verdict: verdict on its content.
        digests: recorded and rebuilt digest.
        largest: largest relative difference of its numbers, or of a model's predictions on the rows that it was fitted
            and validated on; None if something else differs, or they cannot be compared.
        predictions: for a model, digest of its predictions on those rows: recorded and rebuilt.
        metrics: metrics that differ.
        parts: where the difference begins: the first asset upstream of it, or itself, that differs from its record.
        causes: root causes of the difference.
        environment: differences of the environment, recorded and current.
        rebuilt: number of rebuilt versions, by asset.
        taken: versions whose stored rows were used, with verified digests, and why.
        removed: why the recorded content cannot be read, so that only digest and metrics were compared; "" if it can.
    """

    address: str
    verdict: Match
    digests: tuple[str, str]
    largest: float | None
    predictions: tuple[str, str]
    metrics: tuple[Change, ...]
    parts: tuple[Part, ...]
    causes: tuple[Cause, ...]
    environment: tuple[Change, ...]
    rebuilt: Mapping[str, int]
    taken: Mapping[str, str]
    removed: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        return asdict(self)


def parts(rebuilt: Sequence[tuple[Record, Record]]) -> tuple[Part, ...]:
    """Return where a chain begins to differ from its records: the versions of the first asset that differs.

    Args:
        rebuilt: recorded and rebuilt record of each version, in the order of rebuilding.
    """
    differing = [(a, b) for a, b in rebuilt if a.output.digest != b.output.digest]
    return tuple(
        Part(
            a.output.address,
            tuple(name for name in {**a.columns, **b.columns} if a.columns.get(name) != b.columns.get(name)),
        )
        for a, b in differing
        if a.output.asset == differing[0][0].output.asset
    )


def largest_difference(a: pa.Table, b: pa.Table) -> float | None:
    """Return the largest relative difference of two tables' floating-point numbers; None if anything else differs.

    Args:
        a: rows, in key order.
        b: rows of the same schema, in key order. Numbers below 1 are compared absolutely: |x - y| / max(1, |x|, |y|).
    """
    import numpy as np
    import pyarrow as pa

    if a.schema.names != b.schema.names or len(a) != len(b):
        return None
    largest = 0.0
    for name in a.schema.names:
        if not pa.types.is_floating(a.schema.field(name).type):
            if not a[name].equals(b[name]):
                return None
            continue
        x, y = (np.asarray(table[name].to_numpy(zero_copy_only=False), dtype="float64") for table in (a, b))
        found = largest_relative(x, y)
        if found is None:
            return None
        largest = max(largest, found)
    return largest


def largest_relative(x: Any, y: Any) -> float | None:
    """Return the largest relative difference of two float64 arrays; None if only one of two numbers is finite."""
    import numpy as np

    finite = np.isfinite(x)
    odd = ~finite & ~((x == y) | (np.isnan(x) & np.isnan(y)))
    if (finite != np.isfinite(y)).any() or odd.any():
        return None
    one, other = x[finite], y[finite]
    scale = np.maximum(1.0, np.maximum(np.abs(one), np.abs(other)))
    return float((np.abs(one - other) / scale).max(initial=0.0))


def verdict(same: bool, largest: float | None) -> Match:
    """Return the verdict on content: whether its digest is the recorded one, else its largest relative difference."""
    return "identical" if same else "equal" if largest is not None and largest <= TOLERANCE else "different"
