"""What Dagster's definitions would materialize each partition with, as a plan that can be stored without them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bikes_assets.core.staleness import Key, Node, Plan
from bikes_assets.events.metadata import CONFIG, FUNCTION, OPTIONAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dagster as dg


def plan_of(graph: Any) -> Plan:
    """Return the plan of a code location's asset graph: every materializable asset, with its default config."""
    nodes: dict[str, Node] = {}
    groups: list[dg.PartitionsDefinition | None] = []
    for key in graph.toposorted_asset_keys:
        found = graph.get(key)
        if not found.is_executable or not found.code_version:  # without one, it has no record
            continue
        if found.partitions_def not in groups:
            groups.append(found.partitions_def)
        partitions = tuple(found.partitions_def.get_partition_keys()) if found.partitions_def else (None,)
        nodes[key.to_user_string()] = Node(
            partitions,
            {partition: _inputs(graph, found, partition) for partition in partitions},
            found.code_version or "",
            found.metadata.get(FUNCTION, ""),
            found.metadata.get(CONFIG, {}),
            groups.index(found.partitions_def),
            optional=tuple(
                parent.to_user_string()
                for parent in sorted(found.parent_keys)
                if parent.path[-1] in found.metadata.get(OPTIONAL, ())
            ),
            owners=tuple(found.owners),
        )
    return Plan(nodes)


def since_first_seen(plan: Plan, before: Plan | None, now: float) -> Plan:
    """Return a plan whose nodes say since when code and config are unchanged, given the plan that was stored before."""

    def since(name: str, node: Node) -> float:
        known = before.nodes.get(name) if before else None
        if known is None:
            return 0.0
        return known.since if (known.code_version, known.config) == (node.code_version, node.config) else now

    return Plan({name: replace(node, since=since(name, node)) for name, node in plan.nodes.items()})


def _inputs(graph: Any, found: Any, partition: str | None) -> tuple[Key, ...]:
    """Return the partitions that are read to materialize one."""
    inputs: list[Key] = []
    for parent in sorted(found.parent_keys):
        upstream = graph.get(parent).partitions_def
        inputs += [(parent.to_user_string(), key) for key in _mapped(graph, found, parent, upstream, partition)]
    return tuple(inputs)


def _mapped(graph: Any, found: Any, parent: Any, upstream: Any, partition: str | None) -> Sequence[str | None]:
    if upstream is None:
        return [None]
    mapping = graph.get_partition_mapping(found.key, parent_asset_key=parent)
    wanted = found.partitions_def.subset_with_partition_keys([partition]) if partition is not None else None
    result = mapping.get_upstream_mapped_partitions_result_for_partitions(wanted, found.partitions_def, upstream)
    return sorted(result.partitions_subset.get_partition_keys())
