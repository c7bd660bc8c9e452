"""Which versions stay: the live ones, and everything that they were materialized from. It reads records alone, and no store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bikes_assets.core.address import ModelRef

if TYPE_CHECKING:
    from bikes_assets.core.record import Record

DAY = 86_400.0
"""Seconds of a day. A version replaced less than a day ago stays: a run that began before may still be reading it."""

Why = Literal["current", "held", "alias", "young", "replaced today", "needed"]


@dataclass(frozen=True, slots=True)
class Published:
    """A version of a partition, and when it was published.

    Attributes:
        record: how it was materialized.
        time: when it was published, Unix seconds.
    """

    record: Record
    time: float

    @property
    def address(self) -> str:
        """The address of the version."""
        return self.record.output.address


@dataclass(frozen=True, slots=True)
class Stays:
    """Why a version stays.

    Attributes:
        why: what makes it live; `needed` if something live was materialized from it.
        live: address of the nearest live version that needs it; the version itself if it is live.
        steps: number of steps between them.
    """

    why: Why
    live: str
    steps: int = 0


def live(
    published: Iterable[Published], *, held: Iterable[str], aliased: Iterable[str], now: float, days: float
) -> dict[str, Why]:
    """Return what is live by itself: address to the first reason that applies.

    Args:
        published: every version, in any order.
        held: addresses that a hold names.
        aliased: addresses of the versions that an alias of a registered model resolves to.
        now: current time, Unix seconds.
        days: number of days for which every version stays.
    """
    by_partition: dict[tuple[str, str | None], list[Published]] = {}
    for item in published:
        by_partition.setdefault((item.record.output.asset, item.record.output.partition), []).append(item)
    held, aliased = set(held), set(aliased)
    found: dict[str, Why] = {}
    for versions in by_partition.values():
        versions.sort(key=_number)
        for item, later in zip(versions, [*versions[1:], None], strict=True):
            reasons: tuple[tuple[Why, bool], ...] = (
                ("current", later is None),
                ("held", item.address in held),
                ("alias", item.address in aliased),
                ("young", item.time > now - days * DAY),
                ("replaced today", later is not None and later.time > now - DAY),
            )
            those: list[Why] = [why for why, holds in reasons if holds]
            if those:
                found[item.address] = those[0]
    return found


def staying(published: Iterable[Published], roots: Mapping[str, Why]) -> dict[str, Stays]:
    """Return each version that stays, and why: the live ones, and everything that they were materialized from, transitively.

    Args:
        published: every version.
        roots: the versions that are live by themselves, see `live`.
    """
    records = {item.address: item.record for item in published}
    found = {address: Stays(why, address) for address, why in roots.items() if address in records}
    level: Sequence[str] = sorted(found)
    while level:
        following: dict[str, Stays] = {}
        for address in level:
            near = found[address]
            for source in sources(records[address]):
                if source in records and source not in found:
                    following.setdefault(source, Stays("needed", near.live, near.steps + 1))
        found |= following
        level = list(following)
    return found


def sources(record: Record) -> list[str]:
    """Return the addresses that a version was materialized from: what was read, and the versions that fitted its models."""
    origins = (ModelRef.parse(model["origin"]).address for model in record.models)
    return [*(item.address for item in record.inputs), *(origin for origin in origins if origin)]


def _number(item: Published) -> int:
    return int(item.record.output.version)
