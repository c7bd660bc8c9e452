"""The one rule of what is stale, and why; and what is to be materialized next.

A partition is stale when the digest of an input that it read, the code version of what materialized it, or its config
differs from the current state. Nothing else counts: not times, not an input that was rematerialized with the same
digest, and not changes in columns of an input that it does not use.

An asset's *plan* says what would materialize each of its partitions now; the *current state* is what is materialized.
`staleness_of` compares the two. `next_runs` says what can be materialized at once: a partition waits while one of its
inputs is still to be materialized, because that may leave the input's digest unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from bikes_assets.core.record import Record, parse_address, partition_address, used_digest

Key: TypeAlias = tuple[str, str | None]
"""Asset and partition."""

State: TypeAlias = Literal["fresh", "pending", "stale", "missing", "failed", "skipped"]
"""State of a partition. `pending`: it is fresh by what it read, but one of its inputs is to be materialized first.
`skipped`: it had nothing to work on."""

KEEP = "keep"
"""Config field: the partition keeps the config that it was materialized with, whatever the project's config is."""

DUE: frozenset[State] = frozenset(("stale", "missing", "failed"))


@dataclass(frozen=True, slots=True)
class Node:
    """What would make an asset's partitions now.

    Attributes:
        partitions: partition keys, in order; `(None,)` where the asset has none.
        inputs: for each partition, the partitions that are read of each upstream asset.
        code_version: of the function that makes them.
        function: dotted name of that function.
        config: settings that it would get.
        group: assets of one group have the same partitions, so that one run can make several of them.
        since: when this code version and config were first seen, Unix seconds.
        optional: upstream assets that may have no partitions yet.
        owners: who is responsible for it: teams (`team:name`) or people (by e-mail).
    """

    partitions: tuple[str | None, ...]
    inputs: Mapping[str | None, tuple[Key, ...]]
    code_version: str
    function: str
    config: Mapping[str, Any]
    group: int
    since: float = 0.0
    optional: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What would make everything now: each asset's node, upstream assets first; assets without a node are external."""

    nodes: Mapping[str, Node]

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-ready values."""
        return {
            name: {
                "partitions": node.partitions,
                "inputs": [[partition, list(keys)] for partition, keys in node.inputs.items()],
                "code_version": node.code_version,
                "function": node.function,
                "config": node.config,
                "group": node.group,
                "since": node.since,
                "optional": node.optional,
                "owners": node.owners,
            }
            for name, node in self.nodes.items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """Return the plan that `to_dict` wrote."""
        return cls(
            {
                name: Node(
                    **item
                    | {
                        "partitions": tuple(item["partitions"]),
                        "optional": tuple(item["optional"]),
                        "owners": tuple(item.get("owners", ())),
                        "inputs": {
                            partition: tuple((asset, key) for asset, key in keys) for partition, keys in item["inputs"]
                        },
                    }
                )
                for name, item in values.items()
            }
        )


@dataclass(frozen=True, slots=True)
class Materialized:
    """The current version of a partition, and what it was materialized from; an external one has only a digest and a time.

    Attributes:
        digest: its content.
        time: when it was materialized, Unix seconds.
        inputs: digest of each partition that was read.
        code_version: of what materialized it.
        config: settings that it got.
        columns: digest of each of its columns.
        used: columns of an input that were used, by asset, where not all were.
        used_digests: digest of those columns of each partition that was read.
    """

    digest: str
    time: float
    inputs: Mapping[Key, str] = field(default_factory=dict)
    code_version: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    used: Mapping[str, Collection[str]] = field(default_factory=dict)
    used_digests: Mapping[Key, str] = field(default_factory=dict)

    @classmethod
    def of(cls, record: Record) -> Materialized:
        """Return it from a record."""
        inputs = {(item.asset, item.partition): item.digest for item in record.inputs}
        used = {parse_address(address)[:2]: digest for address, digest in record.used_digests.items()}
        return cls(
            record.output.digest,
            record.time,
            inputs,
            record.code_version,
            record.config,
            record.columns,
            record.used,
            used,
        )

    def is_in_other_columns(self, item: Key, now: Materialized) -> bool:
        """Return whether an input that was read differs from its current version only in columns that were not used."""
        was = self.used_digests.get(item)
        return bool(was and now.columns) and was == used_digest(now.columns, self.used[item[0]])


@dataclass(frozen=True, slots=True)
class Ended:
    """The latest attempt at a partition, where it published nothing.

    Attributes:
        state: `failed`, or `skipped` where there was nothing to work on.
        time: when it ended, Unix seconds.
        message: why.
        run: Dagster's run.
    """

    state: Literal["failed", "skipped"]
    time: float
    message: str
    run: str


@dataclass(slots=True)
class CurrentState:
    """The current state.

    Attributes:
        materialized: the current version of each partition.
        ended: the latest attempts that published nothing.
        at_work: partitions that runs are materializing or are queued to materialize.
        empty: what stands for a partition in which an external asset holds no rows, by asset: reading no rows is an
            input too.
        altered: partitions that are not as they were published, and what happened to them.
    """

    materialized: dict[Key, Materialized] = field(default_factory=dict)
    ended: dict[Key, Ended] = field(default_factory=dict)
    at_work: set[Key] = field(default_factory=set)
    empty: dict[str, Materialized] = field(default_factory=dict)
    altered: dict[Key, str] = field(default_factory=dict)

    def of(self, keys: Iterable[Key]) -> dict[Key, Materialized]:
        """Return the current versions of those of some partitions that have one."""
        found = {key: self.materialized.get(key) or self.empty.get(key[0]) for key in keys}
        return {key: made for key, made in found.items() if made}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a partition is not fresh, or why it is fresh although something differs.

    Attributes:
        kind: what differs: `missing`, `input`, `code`, `config`, `failed`, `skipped`, `upstream`, `asked` for what is
            to be rematerialized in any case, `altered` for what is not as it was published, `unused` for an input that
            differs only in columns that are not used, or `kept` for a setting that the partition keeps.
        what: address of the input, name of the function or of the setting.
        was: its value when the partition was materialized; "" where it did not exist.
        now: its value now; "" where it no longer exists.
    """

    kind: str
    what: str
    was: str = ""
    now: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "missing":
                return "never materialized"
            case "input" if not self.was:
                return f"input {self.what} is new: {self.now[:8]}"
            case "input" if not self.now:
                return f"input {self.what} is gone: {self.was[:8]}"
            case "input":
                return f"input {self.what}: {self.was[:8]} -> {self.now[:8]}"
            case "unused":
                return f"input {self.what}: {self.was[:8]} -> {self.now[:8]}, but only in columns that are not used"
            case "code":
                return f"code of {self.what}: {self.was[:8]} -> {self.now[:8]}"
            case "config":
                return f"setting {self.what}: {self.was or 'none'} -> {self.now or 'none'}"
            case "kept":
                return f"setting {self.what} is kept: {self.was or 'none'}; the project's is {self.now or 'none'}"
            case "upstream":
                return f"{self.what} is to be materialized first"
            case "asked":
                return "asked for"
            case "altered":
                return self.what
            case _:  # failed or skipped, which the partition's state already says
                return self.what or "there was nothing to work on"


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a partition, and why."""

    asset: str
    partition: str | None
    state: State
    reasons: tuple[Reason, ...] = ()

    @property
    def address(self) -> str:
        """The partition's address."""
        return partition_address(self.asset, self.partition)


@dataclass(frozen=True, slots=True)
class NextRun:
    """Assets of one partition that one run can materialize now, upstream first; and why the first of them is due."""

    partition: str | None
    assets: tuple[str, ...]
    why: str


def outlooks(
    plan: Plan, statuses: Mapping[Key, Status], current: CurrentState, begun: Collection[Key] = ()
) -> dict[Key, str]:
    """Return a sentence for each partition that is not fresh: what will happen to it next, and why.

    Args:
        plan: what would make everything now.
        statuses: what `staleness_of` returned.
        current: the current state.
        begun: partitions for which a run is being started now.
    """
    return {
        key: _outlook(key, plan, statuses, current, is_begun=key in begun)
        for key, status in statuses.items()
        if status.state != "fresh" or key in begun
    }


def _outlook(key: Key, plan: Plan, statuses: Mapping[Key, Status], current: CurrentState, *, is_begun: bool) -> str:
    status = statuses[key]
    reasons = [str(reason) for reason in status.reasons]
    told = "; ".join(reasons[:_MOST_REASONS])
    told += f"; and {len(reasons) - _MOST_REASONS} more" if len(reasons) > _MOST_REASONS else ""
    if is_begun:
        return f"materialized now: {told}"
    if key in current.at_work:
        return "a run is at work on it"
    if status.state == "skipped":
        return f"skipped: {told}"
    if status.state == "failed":
        return f"failed, tried again a day later or when something changes: {told}"
    awaited = [
        partition_address(*item)
        + (", which failed and is tried again a day later" if statuses[item].state == "failed" else "")
        for item in plan.nodes[key[0]].inputs[key[1]]
        if item in statuses and (statuses[item].state in _UNSETTLED or item in current.at_work)
    ]
    more = f" and {len(awaited) - 1} more" if len(awaited) > 1 else ""
    waits = f"waits for {awaited[0]}{more}" if awaited else ""
    if status.state == "pending":
        return waits or f"waits: {told}"
    what = f"{'not materialized yet' if status.state == 'missing' else 'stale'}: {told}"
    return f"{waits}; {what}" if waits else what


_MOST_REASONS = 3


def staleness_of(plan: Plan, current: CurrentState, asked: Collection[Key] = ()) -> dict[Key, Status]:
    """Return the status of every partition of every asset of a plan, upstream assets first.

    Args:
        plan: what would make everything now.
        current: the current state.
        asked: partitions that are to be rematerialized in any case.
    """
    found: dict[Key, Status] = {}
    for asset, node in plan.nodes.items():
        for partition in node.partitions:
            key = (asset, partition)
            if key not in current.materialized and (nothing := _nothing_to_read(key, node, current, found)):
                found[key] = Status(asset, partition, "skipped", (Reason("skipped", nothing), Reason("missing", "")))
                continue
            reasons = [Reason("asked", "")] if key in asked else _differences(key, node, current)
            if not reasons:
                awaited = [item for item in node.inputs[partition] if item in found and found[item].state in _UNSETTLED]
                reasons = [Reason("upstream", partition_address(*item)) for item in awaited]
                reasons = reasons or _unused(key, node, current) + _kept(current.materialized[key], node)
                found[key] = Status(asset, partition, "pending" if awaited else "fresh", tuple(reasons))
                continue
            ended = current.ended.get(key)
            if ended and key not in asked and ended.time >= _settled(key, node, current):
                reasons = [Reason(ended.state, ended.message), *reasons]
                found[key] = Status(asset, partition, ended.state, tuple(reasons))
            else:
                state = "stale" if key in current.materialized else "missing"
                found[key] = Status(asset, partition, state, tuple(reasons))
    return found


def next_runs(
    plan: Plan,
    statuses: Mapping[Key, Status],
    *,
    targets: Collection[Key],
    current: CurrentState,
    retried: Collection[Key] = (),
    makes: Collection[str] | None = None,
    across: bool = False,
) -> Iterator[NextRun]:
    """Yield the runs that can start now, in order of partitions: none of them needs the output of another.

    A run takes an asset together with its downstream assets in the same partition only where those are to be
    materialized whatever the asset's output is. What is running, or waits for something that is running, is left for
    later.

    Args:
        plan: what would make everything now.
        statuses: what `staleness_of` returned.
        targets: partitions that may be materialized; any other is left as it is.
        current: the current state.
        retried: partitions that are retried although they failed for the same cause.
        makes: assets that the runs may materialize, None for all; the others are left to whoever materializes them.
        across: whether a run may take assets of several groups that have a partition of one name.
    """
    wanted = {
        key
        for key in targets
        if statuses[key].state in DUE
        and (statuses[key].state != "failed" or key in retried)
        and key not in current.at_work
        and (makes is None or key[0] in makes)
    }
    open_keys = {key for key in targets if statuses[key].state in _UNSETTLED} | current.at_work
    groups = {asset: 0 if across else node.group for asset, node in plan.nodes.items()}
    order = {
        (partition, group): [asset for asset in groups if groups[asset] == group and (asset, partition) in wanted]
        for partition in sorted({partition for _, partition in wanted}, key=lambda item: item or "")
        for group in sorted({*groups.values()})
    }
    for (partition, _), assets in order.items():
        taken: list[str] = []
        for asset in assets:
            key = (asset, partition)
            within = {(other, partition) for other in taken}
            inputs = plan.nodes[asset].inputs[partition]
            if any(item in open_keys and item not in within for item in inputs):
                continue
            if _certain(statuses[key], within & set(inputs)):
                taken.append(asset)
        if taken:
            first = statuses[taken[0], partition]
            yield NextRun(partition, tuple(taken), f"{first.address}: {first.reasons[0]}")


_UNSETTLED: frozenset[State] = frozenset(("pending", "stale", "missing", "failed"))


def rematerialized_because(before: Materialized | None, after: Materialized, function: str) -> list[Reason]:
    """Return why a partition was rematerialized: what differs between its two versions' history, else `asked`.

    Args:
        before: its version before, None where there was none.
        after: the version that was published in its place.
        function: dotted name of the function that makes it.
    """
    if before is None:
        return [Reason("missing", "")]

    def is_in_other_columns(item: Key) -> bool:
        was = before.used_digests.get(item)
        return bool(was) and (was, before.used.get(item[0])) == (after.used_digests.get(item), after.used.get(item[0]))

    reasons = _causes(before, after.inputs, function, after.code_version, after.config, is_in_other_columns)
    return reasons or [Reason("asked", "")]


def _differences(key: Key, node: Node, current: CurrentState) -> list[Reason]:
    """Return what differs between what materialized a partition and what would materialize it now."""
    made = current.materialized.get(key)
    if made is None:
        return [Reason("missing", "")]
    there = current.of(node.inputs[key[1]])
    altered = [Reason("altered", current.altered[key])] if key in current.altered else []
    return altered + _causes(
        made,
        {item: now.digest for item, now in there.items()},
        node.function,
        node.code_version,
        made.config if made.config.get(KEEP) is True else node.config,
        lambda item: made.is_in_other_columns(item, there[item]),
    )


def _nothing_to_read(key: Key, node: Node, current: CurrentState, found: Mapping[Key, Status]) -> str:
    """Return why a partition has nothing to work on: all that it reads of an asset was skipped; else ""."""
    by_asset: dict[str, list[Key]] = {}
    for item in node.inputs[key[1]]:
        if item[0] not in node.optional:
            by_asset.setdefault(item[0], []).append(item)
    for asset, keys in by_asset.items():
        if all(item in found and found[item].state == "skipped" and item not in current.materialized for item in keys):
            return f"{asset} has nothing for it"
    return ""


def _causes(
    made: Materialized,
    inputs: Mapping[Key, str],
    function: str,
    code_version: str,
    config: Mapping[str, Any],
    is_in_other_columns: Callable[[Key], bool],
) -> list[Reason]:
    """Return how the inputs, code and config that materialized a partition differ from others: the rule itself."""
    reasons = [
        Reason("input", partition_address(*item), made.inputs.get(item, ""), inputs.get(item, ""))
        for item in (*inputs, *(old for old in made.inputs if old not in inputs))
        if made.inputs.get(item) != inputs.get(item) and not (item in inputs and is_in_other_columns(item))
    ]
    if made.code_version != code_version:
        reasons.append(Reason("code", function, made.code_version, code_version))
    return reasons + [Reason("config", *change) for change in config_changes(made.config, config)]


def config_changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the settings in which two configs differ: name, old value and new value, "" where there is none.

    Names of nested settings are joined by dots, such as `parameters.max_iter`.
    """
    one, other = dict(_flat(was)), dict(_flat(now))
    return [
        (name, repr(one[name]) if name in one else "", repr(other[name]) if name in other else "")
        for name in sorted({*one, *other} - {KEEP})
        if (name in one, one.get(name)) != (name in other, other.get(name))
    ]


def _flat(config: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", value


def _kept(made: Materialized, node: Node) -> list[Reason]:
    """Return the settings of the project's config that a partition does not follow, as it keeps its own."""
    if made.config.get(KEEP) is not True:
        return []
    return [Reason("kept", *change) for change in config_changes(made.config, node.config)]


def _unused(key: Key, node: Node, current: CurrentState) -> list[Reason]:
    """Return the inputs of a partition that differ from what was read and do not make it stale."""
    made = current.materialized[key]
    return [
        Reason("unused", partition_address(*item), made.inputs[item], now.digest)
        for item, now in current.of(node.inputs[key[1]]).items()
        if made.inputs.get(item) not in (None, now.digest)
    ]


def _settled(key: Key, node: Node, current: CurrentState) -> float:
    """Return since when a partition's inputs, code and config are unchanged; what failed since would fail again."""
    return max(node.since, *(item.time for item in current.of(node.inputs[key[1]]).values()), 0.0)


def _certain(status: Status, rematerialized_because: Collection[Key]) -> bool:
    """Return whether a partition is to be materialized even where the inputs due before it turn out unchanged."""
    addresses = {partition_address(*item) for item in rematerialized_because}
    causes = [reason for reason in status.reasons if reason.kind not in ("failed", "skipped")]
    return any(reason.kind != "input" or reason.what not in addresses for reason in causes)
