"""The impact of a change: everything downstream, what serves first, then what was observed to follow it."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from bikes_assets.app.answers import moment
from bikes_assets.lineage import queries
from bikes_assets.lineage.elements import ALIAS, COLUMN, COLUMN_VERSION, MODEL, address_of

if TYPE_CHECKING:
    from bikes_assets.lineage.elements import Result

SEVERITIES = ("serving", "observed", "computed", "not observed")
"""How sure it is that something follows a change, most urgent first: it serves predictions; it moved when its inputs were
perturbed; it is computed from what changes; it was perturbed and did not move."""
FIELDS = ("severity", "kind", "address", "depth", "why")


def impact(address: str, *, as_of: str | None = None) -> dict[str, Any]:
    """Return what is downstream of an address, most severe first, and how many there are of each severity and kind.

    Raises:
        LineageError: there is nothing of that name at that time.
    """
    index, event = moment(as_of)
    answer = queries.walk(index, address, "downstream", as_of=event)
    items = [_item(thing) for thing in answer]
    items.sort(key=lambda item: (SEVERITIES.index(item["severity"]), item["kind"], item["depth"], item["address"]))
    counts = {name: sum(item["severity"] == name for item in items) for name in SEVERITIES}
    return {"address": address, "total": len(items), "severities": counts, "kinds": answer.counts, "items": items}


def as_csv(address: str, *, as_of: str | None = None) -> str:
    """Return the impact as CSV; cells that a spreadsheet would compute begin with an apostrophe."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, extrasaction="ignore", lineterminator="\r\n")
    writer.writeheader()
    for item in impact(address, as_of=as_of)["items"]:
        writer.writerow({name: _cell(value) for name, value in item.items()})
    return text.getvalue()


def _cell(value: object) -> object:
    text = str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _item(thing: Result) -> dict[str, Any]:
    severity, why = _severity(thing)
    return {
        "severity": severity,
        "kind": thing.kind,
        "address": address_of(thing),
        "depth": thing.depth,
        "why": why,
    }


def _severity(thing: Result) -> tuple[str, str]:
    if thing.kind in (ALIAS, MODEL):
        return "serving", f"names {thing.facts['address']}" if "address" in thing.facts else ""
    states = {shown["state"] for shown in thing.facts.get("evidence", {}).get("inputs", {}).values()}
    if states & {"observed", "missing only"}:
        return "observed", "moved when its inputs were perturbed"
    if states and "unverified" not in states and thing.kind in (COLUMN, COLUMN_VERSION):
        return "not observed", "did not move when its inputs were perturbed"
    return "computed", "computed from what is upstream of it"
