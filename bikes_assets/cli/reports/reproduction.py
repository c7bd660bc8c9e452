"""What `bikes reproduce` prints: verdicts, and for each difference where it begins, why, and in which environment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bikes_assets.cli.reports.terminal import say, say_json
from bikes_assets.verification.reproduction import TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bikes_assets.verification.reproduction import Reproduction

_COLOURS = {"identical": "green", "equal": "yellow", "different": "red"}
_MOST = 5


def print_reproductions(found: Sequence[Reproduction], *, as_json: bool) -> None:
    """Print the results of rebuilding versions, and for each that is not identical, how it differs and why."""
    if as_json:
        for item in found:
            say_json(json.dumps(item.to_dict()))
        return
    for item in found:
        say(f"{item.address}: ", ends=False)
        say(_verdict(item), colour=_COLOURS[item.verdict])
        for line in _lines(item):
            say(f"  {line}")
    counted = {name: sum(item.verdict == name for item in found) for name in _COLOURS}
    if len(found) > 1:
        say(", ".join(f"{count} {name}" for name, count in counted.items() if count))


def _verdict(item: Reproduction) -> str:
    match item.verdict:
        case "identical":
            return "identical"
        case "equal":
            return f"equal within {TOLERANCE:g}: the largest relative difference is {item.largest:.1e}"
        case _:
            return f"different, digest {item.digests[0]} -> {item.digests[1]}"


def _lines(item: Reproduction) -> Iterator[str]:
    from bikes_assets.cli.reports.diff import cause_lines, change_line

    made = ", ".join(f"{count} {asset}" for asset, count in item.made.items())
    yield f"made again: {made}"
    if item.predictions[0] and item.predictions[0] == item.predictions[1]:
        yield f"predictions on the recorded rows: identical, {item.predictions[0]}"
    if item.removed:
        yield f"compared by digest and metrics alone: {item.removed}"
    for address, why in [*item.taken.items()][:_MOST]:
        yield f"taken as stored: {address}, {why}"
    if len(item.taken) > _MOST:
        yield f"taken as stored: {len(item.taken) - _MOST} more"
    for part in item.parts[:_MOST]:
        yield f"parts at {part.address}" + (f", columns {', '.join(part.columns)}" if part.columns else "")
    if len(item.parts) > _MOST:
        yield f"parts at {len(item.parts) - _MOST} more of its partitions"
    for cause in item.causes:
        for line in cause_lines(cause):
            yield f"cause: {line}"
    for change in item.environment:
        yield f"environment: {change_line(change)}"
    for change in item.metrics:
        yield f"metric {change_line(change)}"
