"""`bikes audit show`: the entries of the log, newest last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bikes_assets.cli import options
from bikes_assets.cli.terminal import complain, print_json, say, say_wrapped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bikes_assets.governance.audit.entries import AuditEntry


@click.command()
@options.address(required=False, metavar="[ADDRESS]")
@options.as_json
def show(address: str | None, *, as_json: bool) -> bool:
    """List the entries of the log, newest last, with times in UTC.

    ADDRESS, such as demand_features, demand_features[2012-08] or demand_model[2012-06]@18, restricts it to what happened to an
    asset, a partition or a version. Exit code 1 when there is no such entry, or one is wrong.
    """
    from bikes_assets.app.audit import upkeep

    entries, finding = upkeep.entries(address)
    if as_json:
        print_json(entry.to_dict() for entry in entries)
    elif entries:
        print_entries(entries)
    else:
        say(f"The log has no entry{f' about {address}' if address else ' yet'}.")
    if finding:
        complain(f"{finding.what}; bikes audit verify says more")
    return not finding and bool(entries or not address)


def print_entries(entries: Sequence[AuditEntry]) -> None:
    """Print entries, each with what it is about on a line, and who did it, and why, on the next."""
    settings: Mapping[str, str] = {}
    for entry in entries:
        fact, known = entry.fact, settings
        settings = fact.settings or settings
        changed = [f"{name}={value}" for name, value in fact.settings.items() if known.get(name) != value]
        first, *others = fact.subjects or (f"{len(changed)} of them",)
        if len(others) > 1:
            first, others = f"{first} and {len(others):,} more", []
        by = f"{fact.who}{f', {fact.deployment}' if fact.deployment else ''}"
        say_wrapped(f"{entry.number:>5}  {fact.time[:16].replace('T', ' ')}  {fact.kind:<15}  {first}", folds=True)
        about = [f"{by}: {fact.reason}" if fact.reason else by, *others, *(changed if known else ())]
        say_wrapped("; ".join(about), " " * 7, folds=True)
