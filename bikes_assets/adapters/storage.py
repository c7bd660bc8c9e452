"""Dagster's storages under the name that dagster.yaml files of earlier releases hold; they stay in people's homes."""

from bikes_assets.events.sqlite_storage import EventLogStorage, RunStorage

__all__ = ["EventLogStorage", "RunStorage"]
