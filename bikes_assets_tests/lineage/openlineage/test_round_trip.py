"""What is exported and received again is the same graph: datasets, columns, and the edges between them."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from bikes_assets.app import answers, store
from bikes_assets.app.openlineage import received as place
from bikes_assets.cli import main
from bikes_assets.core.address import Address
from bikes_assets.lineage.elements import COLUMN, DATASET, JOB, RUN
from bikes_assets.lineage.index import Index
from bikes_assets.lineage.openlineage.joined import JoinedIndex
from bikes_assets.lineage.openlineage.names import label
from bikes_assets.lineage.openlineage.received import Received


def graph_of(index: Index, names: dict[str, str] | None = None) -> dict[str, set[tuple[str, str]]]:
    """Return the datasets and columns of an index, and the edges between each; names may be replaced."""
    found = dict[str, set[tuple[str, str]]]()
    datasets = [Address.parse(name) for name in index.names(DATASET)]
    columns = [str(column) for item in datasets if item for column in index.within(COLUMN, item.asset)]
    for kind, known in ((DATASET, index.names(DATASET)), (COLUMN, columns)):
        called = {name: _renamed(name, names or {}) for name in known}
        found[kind] = {(kind, name) for name in called.values()}
        found[f"{kind} edges"] = {
            (called[edge.source[1]], called[edge.target[1]])
            for name in called
            for edge in index.neighbours(kind, name, "downstream", to=kind)
        }
    return found


def _renamed(name: str, names: dict[str, str]) -> str:
    parts = Address.parse(name)
    assert parts
    return str(Address(names.get(parts.asset, parts.asset), parts.column))


def test_what_is_exported_and_received_again_is_the_same_graph(copied: Path, tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    assert CliRunner().invoke(main, ["openlineage", "export", str(file)]).exit_code == 0
    received = Received(tmp_path / "openlineage.db")
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert received.add(events).stored == len(events)
    # Given names of places in the one, and of assets in the other
    local = answers.refreshed()
    labels = {asset: text for text, asset in place.names(local).items()}
    # When they are received where there is nothing else
    empty = JoinedIndex(Index(tmp_path / "lineage.db"), received, {})
    # Then
    assert graph_of(empty) == graph_of(local, labels)
    assert len(graph_of(empty)["column edges"]) > 90
    assert {*empty.names(JOB)} == {
        label(store.current().name, job["name"]) for job in (event["job"] for event in events)
    }
    assert {*empty.names(RUN)} == {event["run"]["runId"] for event in events}
    # And where they are received by the project itself, nothing is there twice
    assert graph_of(JoinedIndex(local, received, place.names(local))) == graph_of(local)
