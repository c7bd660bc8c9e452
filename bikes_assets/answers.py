"""Answers to questions of lineage, for the command line, notebooks and pages; it imports none of the heavy libraries.

```python
from bikes_assets import answers

answers.downstream("hourly_rentals.weathersit").counts       # {'column': 9, 'alias': 1}
answers.upstream("demand_predictions[2012-08]", depth=1).things
answers.trace("demand_predictions.prediction[2012-08]#2012-08-14T17:00").values[0].made_from  # the features' values
```
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

from bikes_assets.adapters import event_log
from bikes_assets.adapters.trace import Computed, Derivations, Trace, Tracer
from bikes_assets.demand import features, tables
from bikes_assets.lineage import queries
from bikes_assets.lineage.errors import LineageError
from bikes_assets.lineage.index import Index
from bikes_assets.lineage.projection import Projection
from bikes_assets.settings import settings
from bikes_assets.store import COLUMNS, SERVING, lake

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bikes_assets.lineage.index import Answer, Found

_DERIVATIONS = Derivations(
    same_row={
        "demand_features": {name: {"hourly_rentals": [name]} for name in ("ts", tables.ACTUAL.name)},
        "demand_predictions": {"ts": {"demand_features": ["ts"]}},
        "prediction_quality": tables.QUALITY_LINEAGE,
    },
    computed={
        "demand_features": Computed("hourly_rentals", features.FEATURES, features.STEPS, features.on_hourly_grid)
    },
    predicted={"demand_predictions": ("demand_features", {"prediction": "", "baseline": "baseline"})},
)


def upstream(address: str, *, depth: int | None = None, as_of: str | datetime | None = None) -> Answer:
    """Return all that had a part in what an address names, nearest first.

    Args:
        address: a dataset, column, partition, version, column of a version, model version, alias, file, code or run.
        depth: how many edges to go at most, None for all.
        as_of: time that counts, such as 2012-08-14T17:00; without an offset it is local time. None for now.

    Raises:
        LineageError: there is nothing of that name at that time.
    """
    index = refreshed()
    return queries.walk(index, address, "upstream", depth=depth, as_of=_event(index, as_of))


def downstream(address: str, *, depth: int | None = None, as_of: str | datetime | None = None) -> Answer:
    """Return all that what an address names had a part in, nearest first: its impact. See `upstream`."""
    index = refreshed()
    return queries.walk(index, address, "downstream", depth=depth, as_of=_event(index, as_of))


def paths(start: str, end: str, *, as_of: str | datetime | None = None) -> tuple[int, Iterator[list[Found]]]:
    """Return how many ways lead from one thing downstream to another, and the ways one by one."""
    index = refreshed()
    return queries.paths(index, start, end, as_of=_event(index, as_of))


def search(words: str, *, most: int = 50) -> list[Found]:
    """Return the datasets and columns whose name, meaning or unit has all words, or words that begin so."""
    return refreshed().search(words, most=most)


def trace(address: str) -> Trace:
    """Return where the values of one row came from: the model, the features, the raw rows and the source's file, as recorded.

    Everything is read from the lake with its digest checked; see `adapters.trace.Trace`.

    Args:
        address: `demand_predictions[2012-08]#2012-08-14T17:00`; with a column, `demand_predictions.prediction[2012-08]#...`, for
            that alone; with a table version, `demand_predictions[2012-08]@17#...`, for what stood there then.

    Raises:
        LineageError: there is no such table, column, partition, version or row; the message says which there are.
        DigestError: what lies there is not what was published, or not what was read according to a record.
    """
    return tracer().trace(address)


def tracer() -> Tracer:
    """Return what traces several rows, and reads and checks each version once for all of them."""
    return Tracer(lake(), _DERIVATIONS)


def refreshed() -> Index:
    """Return the index, brought up to date with Dagster's event log."""
    index, storage = _index(), settings().event_storage
    newest = event_log.newest_event(storage)
    if newest < index.cursor:  # the log is another one, or was restored from a backup
        index.clear()
    if newest > index.cursor:
        projection = Projection(index, COLUMNS, SERVING)
        index.append((projection.fact(event) for event in event_log.events_since(storage, index.cursor)), newest)
    return index


def rebuild() -> Index:
    """Return the index after making it anew from nothing."""
    _index().clear()
    return refreshed()


@cache
def _index() -> Index:
    return Index(settings().data_folder / "lineage.db")


def _event(index: Index, as_of: str | datetime | None) -> int | None:
    """Return the number of the last event by a time; None for now."""
    if as_of is None:
        return None
    try:
        moment = as_of if isinstance(as_of, datetime) else datetime.fromisoformat(as_of)
    except ValueError:
        now = datetime.now(UTC).isoformat(timespec="minutes")
        raise LineageError(f"found time {as_of!r}, expected one like {now}") from None
    return index.event_at(moment.timestamp())
