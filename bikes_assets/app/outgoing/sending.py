"""Sending the project's events to the OpenLineage receivers that are configured, and how far each is.

Nothing is sent in the process of a run: commands and Dagster's daemon read the event log.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bikes_assets.app.store import current, current_identity
from bikes_assets.core.errors import LineageError, StoreError
from bikes_assets.core.texts import counted
from bikes_assets.lineage.openlineage.sending.receivers import receivers, require_package
from bikes_assets.lineage.openlineage.sending.sent_file import opened
from bikes_assets.storage.disk import locked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bikes_assets.lineage.openlineage.sending.outbox import Delivery
    from bikes_assets.lineage.openlineage.sending.receivers import Receiver
    from bikes_assets.lineage.openlineage.sending.sent_file import Contact, SentFile

TICK_SECONDS = 20.0
"""Seconds after which a tick of the sensor begins nothing more."""


@dataclass(frozen=True, slots=True)
class ReceiverState:
    """How far a receiver is.

    Attributes:
        name: its kind and where it is.
        behind: how many events it has not had.
        oldest: time of the oldest of them, "" where there is none.
        contact: how it has answered.
    """

    name: str
    behind: int
    oldest: str
    contact: Contact


class Sender:
    """Sends to receivers, one after the other.

    Args:
        known: the receivers.
        file: what each has had.
    """

    def __init__(self, known: list[Receiver], file: SentFile) -> None:
        self.receivers, self.file = known, file

    def contact(self, receiver: str) -> Contact:
        """Return how a receiver has answered."""
        return self.file.contact(receiver)

    def round(self, seconds: float, *, waits: bool) -> list[Delivery]:
        """Send each receiver what it has not had, in shares of some time, and return what came of it.

        Args:
            seconds: after which nothing more is begun; a receiver gets an event at least, while there is time.
            waits: whether a receiver that failed is not asked before its time has come.
        """
        from bikes_assets.app.outgoing.catalog import catalog
        from bikes_assets.lineage.openlineage.sending.outbox import deliver

        end, found = time.monotonic() + seconds, list["Delivery"]()
        asked = [item for item in self.receivers if not waits or self.contact(item.name).is_due(time.time())]
        for number, receiver in enumerate(asked):
            now = time.monotonic()
            if now >= end:
                break
            until = now + (end - now) / (len(asked) - number)  # what one leaves, the next ones have
            found.append(deliver(current().events, receiver, self.file, catalog, until))
        return found


def sent_file() -> Path:
    """Return the file that remembers what each receiver has had."""
    return current().data / "openlineage_sent.db"


@contextmanager
def sender() -> Iterator[Sender]:
    """Yield what sends to the receivers that are configured, one process at a time; without any it sends nothing.

    Raises:
        StoreError: another process is sending. SettingsError: the configuration cannot be used.
    """
    from filelock import Timeout

    file = sent_file()
    current_identity()
    require_package()
    known = receivers()
    if not known:
        with opened(file, create=False) as empty:
            yield Sender([], empty)
        return
    with ExitStack() as stack:
        for receiver in known:
            stack.callback(receiver.close)
        try:
            stack.enter_context(locked(file.with_name(f".{file.name}.lock"), 0))
        except Timeout:
            raise StoreError(
                f"{file}: found another process that sends, such as Dagster's daemon, expected none; let it go on, or end it"
            ) from None
        yield Sender(known, stack.enter_context(opened(file, create=True)))


def states() -> list[ReceiverState]:
    """Return how far each receiver is that is configured; nothing is sent, and no receiver is asked."""
    current_identity()
    known = receivers()
    if not known:
        return []
    from bikes_assets.app.outgoing.catalog import catalog
    from bikes_assets.lineage.openlineage.sending.outbox import behind

    for receiver in known:
        receiver.close()
    with opened(sent_file(), create=False) as file:
        return [
            ReceiverState(
                item.name, *behind(current().events, file.position(item.name), catalog), file.contact(item.name)
            )
            for item in known
        ]


def tick() -> str:
    """Send for at most some seconds, and return in words what came of it: no receiver makes this fail."""
    try:
        with sender() as sending:
            if not sending.receivers:
                return "No receiver is configured."
            found = {item.receiver: item for item in sending.round(TICK_SECONDS, waits=True)}
            told = [_told(item.name, found.get(item.name), sending.contact(item.name)) for item in sending.receivers]
    except LineageError as error:
        return str(error)
    return "; ".join(filter(None, told)) or "Everything is sent."


def _told(name: str, delivery: Delivery | None, contact: Contact) -> str:
    """Return what came of sending to a receiver, "" where it had had everything before."""
    sent = counted(delivery.sent, "event") + " sent" if delivery and delivery.sent else ""
    if contact.failed is not None:
        again = time.strftime("%H:%M:%S", time.localtime(contact.again))
        return f"{name}: {f'{sent}, then ' if sent else ''}{contact.error}; asked again from {again} on"
    if delivery is None or not delivery.is_complete:
        return f"{name}: {f'{sent}, ' if sent else ''}more the next time"
    return f"{name}: {sent}" if sent else ""
