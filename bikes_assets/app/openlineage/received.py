"""Where the project keeps the OpenLineage events of other tools, and which of their datasets are its own."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from threading import get_ident
from typing import TYPE_CHECKING

from bikes_assets.app.store import assets, current
from bikes_assets.core.address import Address
from bikes_assets.core.errors import SettingsError
from bikes_assets.lineage.elements import FILE, VERSION
from bikes_assets.lineage.openlineage.names import dataset_at, dataset_of_query, label
from bikes_assets.lineage.openlineage.received import Received

if TYPE_CHECKING:
    from pathlib import Path

    from bikes_assets.lineage.index import Index


def file() -> Path:
    """Return the file of received events, which is there once some were received."""
    return current().data / "openlineage.db"


def received() -> Received:
    """Return the received events, for this thread, of the file that is there now."""
    found = _received(get_ident(), file())
    found.check()
    return found


@cache
def _received(thread: int, path: Path) -> Received:  # noqa: ARG001 - a SQLite connection is bound to one thread
    return Received(path)


def names(index: Index) -> dict[str, str]:
    """Return what the project calls each dataset that events may call otherwise, by its label.

    These are the tables in the lake, the files and tables of sources, and what the user maps.

    Raises:
        SettingsError: the user maps a dataset to an asset that is none.
    """
    known = current()
    found = {label(*dataset_at(f"{known.lake.location}/{asset}")): asset for asset in assets()}
    for name in index.names(FILE):
        (item,) = index.find(name, FILE)
        for edge in index.neighbours(FILE, name, "downstream", to=VERSION):
            if place := Address.parse(edge.target[1]):
                uri, query = str(item.facts["uri"]), _query(place.asset) if item.facts["kind"] == "sql" else ""
                found[label(*(dataset_of_query(uri, query) if query else dataset_at(uri)))] = place.asset
    own = {*assets(), *known.sources}
    for name, asset in known.datasets.items():
        if asset not in own:
            near = get_close_matches(asset, own, n=3, cutoff=0.5) or sorted(own)
            raise SettingsError(f"dataset {name!r}: found no asset {asset!r}, expected one like {', '.join(near)}")
    mapped = ((name.partition(" "), asset) for name, asset in known.datasets.items())
    return found | {label(namespace, name): asset for (namespace, _, name), asset in mapped}


def _query(asset: str) -> str:
    """Return the query by which an external asset is read, "" for one that the project does not read any more."""
    sources = current().sources
    return getattr(sources[asset][0](), "query", "") if asset in sources else ""
