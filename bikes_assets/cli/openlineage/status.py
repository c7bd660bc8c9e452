"""`bikes openlineage status`: how far each receiver is."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from bikes_assets.cli import options
from bikes_assets.cli.terminal import print_json, say, say_wrapped
from bikes_assets.core.texts import counted
from bikes_assets.lineage.openlineage.sending.receivers import HOW

if TYPE_CHECKING:
    from bikes_assets.app.outgoing.sending import ReceiverState


@click.command()
@options.as_json
def status(*, as_json: bool) -> bool:
    """Show how many events each receiver has not had, and why.

    Exit code 1 when there are some, or no receiver is configured. Nothing is sent, and no receiver is asked.
    """
    from bikes_assets.app.outgoing.sending import states

    found = states()
    if as_json:
        print_json(map(_values, found))
    elif not found:
        say_wrapped(f"No receiver is configured: {HOW}. docs/openlineage.md says more.")
    else:
        for item in found:
            _show(item)
    return bool(found) and not any(item.behind for item in found)


def _show(item: ReceiverState) -> None:
    contact = item.contact
    say(item.name, bold=True)
    since = f", the oldest of {_local(datetime.fromisoformat(item.oldest).timestamp())}" if item.oldest else ""
    say_wrapped(f"behind        {counted(item.behind, 'event')}{since}", "  ", "yellow" if item.behind else None)
    say_wrapped(f"last success  {_local(contact.succeeded) if contact.succeeded else 'none'}", "  ")
    if contact.failed is not None:
        again = f"; the daemon asks again from {_local(contact.again)} on" if contact.again > time.time() else ""
        say_wrapped(f"last error    {_local(contact.failed)}: {contact.error}{again}", "  ", "red")


def _values(item: ReceiverState) -> dict[str, Any]:
    contact = item.contact
    return {
        "receiver": item.name,
        "behind": item.behind,
        "oldest": item.oldest or None,
        "succeeded": _utc(contact.succeeded),
        "failed": _utc(contact.failed),
        "error": contact.error or None,
        "failures": contact.failures,
        "again": _utc(contact.again or None),
    }


def _local(time_of: float) -> str:
    return datetime.fromtimestamp(time_of).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _utc(time_of: float | None) -> str | None:
    return None if time_of is None else datetime.fromtimestamp(time_of, UTC).isoformat(timespec="seconds")
