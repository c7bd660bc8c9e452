"""The numbers given to registered versions, kept in Dagster's storage: a number is never given to another version."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from bikes_assets.events.reported import of_instance

if TYPE_CHECKING:
    import dagster as dg

_KEY = "bikes_assets/registered/"


class Numbers:
    """The highest version number of each registered model, kept in Dagster's storage.

    Args:
        instance: Dagster's instance.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance

    def get(self, asset: str) -> int:
        """Return the highest number that a registered version of an asset has had, 0 where there is none."""
        key = _KEY + asset
        kept = self._instance.daemon_cursor_storage.get_cursor_values({key}).get(key)
        return int(kept) if kept else self._latest(asset)

    def note(self, asset: str, number: int) -> None:
        """Store a number that was given."""
        if number > self.get(asset):
            self._instance.daemon_cursor_storage.set_cursor_values({_KEY + asset: str(number)})

    def _latest(self, asset: str) -> int:
        """Return the highest number in the latest events, for a store from before numbers were kept."""
        latest = islice(of_instance(self._instance, asset, newest_first=True), 100)
        return max((event.registered for event in latest), default=0)
