"""The summary of a materialization on Dagster's page: what it was materialized from, by which code, and what changed."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from bikes_assets.core.record import Record, Use, Version, parse_address, partition_address, span_of
from bikes_assets.core.staleness import KEEP, Materialized, config_changes, rematerialized_because
from bikes_assets.core.texts import markdown, shortened
from bikes_assets.events.pages import dagster_asset

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INLINE = 1000
"""Markdown of fewer characters is shown by Dagster without a click; a browser test checks that."""

_DIGITS = 8
_FEW = 3
_MOST_CHANGES = 3
_MOST_TOLD = 120


def materialized_from(
    record: Record, before: Record | None, function: str = "", project: Mapping[str, Any] | None = None
) -> str:
    """Return what a version was materialized from, in Markdown that is short enough to be shown inline.

    It lists the inputs with their partitions, table versions and digests, as links to their pages; then code and git
    commit, and what changed since the previous version of the partition. Of many inputs only the number of the last
    ones is given.

    Args:
        record: the version's record.
        before: the record of the previous version, None where there is none.
        function: dotted name of the function that materialized it.
        project: the project's config of the asset, None where it has none.
    """
    inputs = [
        _input(list(versions), record.datasets) for _, versions in groupby(record.inputs, lambda item: item.asset)
    ]
    commit = str(record.environment.get("git_commit") or "")[:_DIGITS]
    about = [
        *_serves(record),
        f"- code `{record.code_version[:_DIGITS]}`" + (f", git commit `{markdown(commit)}`" if commit else ""),
    ]
    if project and (changes := config_changes(project, record.config)):
        told = "; ".join(f"{name} {now or 'none'} instead of {was or 'none'}" for name, was, now in changes)
        lasts = (
            "is kept"
            if record.config.get(KEEP) is True
            else f"is replaced by the next run, unless launched with {KEEP}: true"
        )
        about.append(f"- config differs from the project's and {lasts}: {markdown(shortened(told, _MOST_TOLD))}")
    about.append(f"- {_changed(record, before, function)}")
    for left in range(len(inputs) + 1):
        kept = inputs[: len(inputs) - left]
        more = [f"- and {left} more inputs"] if left else []
        told = "\n".join([*kept, *more, *about])
        if len(told) < INLINE:
            return told
    return about[0]


def _input(versions: Sequence[Version], datasets: Sequence[Use]) -> str:
    """Return what was read of one asset, with a line for each role where it had several."""
    asset, keys = versions[0].asset, [item.partition for item in versions if item.partition is not None]
    roles = [use for use in datasets if use.asset == asset]
    if len(roles) > 1:
        return "\n".join(
            f"- {use.context} {_link(asset, use.partitions)} digest `{use.digest[:_DIGITS]}`" for use in roles
        )
    if len(versions) > _FEW:
        return f"- {_link(asset, keys)} {len(versions)} partitions"
    return "\n".join(map(_version, versions))


def _version(item: Version) -> str:
    version = str(item.version)
    number = f"version {version}" if version.isdecimal() else f"SHA-256 `{version[:_DIGITS]}`"
    keys = [] if item.partition is None else [item.partition]
    return f"- {_link(item.asset, keys)} {number}, digest `{item.digest[:_DIGITS]}`"


def _serves(record: Record) -> list[str]:
    """Return the model that a record chose, where it chose one that was fitted elsewhere."""
    origins = [str(model["origin"]) for model in record.models if model["origin"]]
    if record.columns or record.fitted or len(origins) != 1:
        return []
    asset, partition, _ = parse_address(origins[0].partition(" ")[0])
    return [f"- chosen: [{markdown(origins[0])}]({dagster_asset('', asset, partition)})"]


def _link(asset: str, partitions: Sequence[str]) -> str:
    name = markdown(partition_address(asset, span_of(partitions)))
    return f"[{name}]({dagster_asset('', asset, max(partitions, default=None))})"


def _changed(record: Record, before: Record | None, function: str) -> str:
    if before is None:
        return "first materialization of this partition" if record.output.partition else "first materialization"
    found = rematerialized_because(Materialized.of(before), Materialized.of(record), function)
    reasons = [shortened(str(reason), _MOST_TOLD) for reason in found if reason.kind != "asked"]
    what = "; ".join(map(markdown, reasons[:_MOST_CHANGES])) or "nothing it depends on"
    more = f"; and {len(reasons) - _MOST_CHANGES} more" if len(reasons) > _MOST_CHANGES else ""
    result = "; content unchanged" if record.output.digest == before.output.digest else ""
    return f"changed since version {before.output.version}: {what}{more}{result}"
