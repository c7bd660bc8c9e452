"""`bikes openlineage send`: events to the receivers that openlineage-python's configuration names."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from bikes_assets.cli.terminal import say
from bikes_assets.core.errors import SettingsError
from bikes_assets.core.texts import counted
from bikes_assets.lineage.openlineage.sending.receivers import HOW

if TYPE_CHECKING:
    from bikes_assets.app.outgoing.sending import Sender
    from bikes_assets.lineage.openlineage.sending.outbox import Delivery

_SHARE, _PAUSE = 10.0, 5.0
"""Seconds in which each receiver gets its turn; seconds between two looks at the event log."""


@click.command()
@click.option(
    "--follow", is_flag=True, help="Go on until interrupted: send what runs add, and ask failed receivers again."
)
def send(*, follow: bool) -> bool:
    """Send each receiver the events that it has not had.

    Receivers are those of openlineage-python's own configuration: OPENLINEAGE_URL, or openlineage.yml. Exit code 1 when
    one has not had everything in the end.
    """
    from bikes_assets.app.outgoing.sending import sender

    with sender() as sending:
        if not sending.receivers:
            raise SettingsError(f"bikes openlineage send: found no receiver, expected one; {HOW}")
        return _follow(sending) if follow else _once(sending)


def _once(sending: Sender) -> bool:
    """Send until each receiver has had everything, or has failed; return whether none has failed."""
    counts, ends = dict.fromkeys((item.name for item in sending.receivers), 0), dict[str, "Delivery"]()
    every = list(sending.receivers)
    while sending.receivers:
        for item in sending.round(_SHARE * len(sending.receivers), waits=False):
            counts[item.receiver] += item.sent
            if item.is_restarted:
                say(f"{item.receiver}: the event log is another one than before: everything is sent again")
            if item.is_complete or item.error:
                ends[item.receiver] = item
        sending.receivers = [item for item in every if item.name not in ends]
    for name, count in counts.items():
        error = ends[name].error
        say(f"{name}: {counted(count, 'event')} sent{f', then {error}' if error else ''}")
    return not any(item.error for item in ends.values())


def _follow(sending: Sender) -> bool:
    """Send what comes, and say so, until interrupted; a receiver that failed is asked again later each time."""
    while True:
        found = sending.round(_SHARE, waits=True)
        for item in found:
            if item.sent or item.error:
                then = f", then {item.error}" if item.error else ""
                say(f"{time.strftime('%H:%M:%S')} {item.receiver}: {counted(item.sent, 'event')} sent{then}")
        if all(item.is_complete or item.error for item in found):
            time.sleep(_PAUSE)
