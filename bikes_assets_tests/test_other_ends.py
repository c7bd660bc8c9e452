"""What receivers of other projects make of the events: feast's lineage server and amundsen's extractor, real ones."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

import pytest

from bikes_assets.core.address import WHOLE, Address
from bikes_assets.lineage.openlineage.names import label
from bikes_assets_tests import forked
from bikes_assets_tests.conftest import MADE, store_at
from bikes_assets_tests.environments import ROOT, environment_of
from bikes_assets_tests.fire.processes import SOAK

LOCKS = ROOT / "bikes_assets_tests" / "other_ends"
LINEAGE = "/api/v1/lineage"
FEATURE_STORE = """
project: other
provider: local
registry: registry.db
online_store: {type: sqlite, path: online.db}
entity_key_serialization_version: 3
openlineage:
  enabled: false
  consumer: {enabled: true, connection_string: "sqlite:///lineage.db"}
"""
"""Feast as a receiver alone: it sends no events of its own."""

INDEX = """
import json
from bikes_assets.app import answers
from bikes_assets.app.openlineage import received
from bikes_assets_tests.lineage.openlineage.test_round_trip import graph_of

index = answers.refreshed()
graph = {kind: sorted(pairs) for kind, pairs in graph_of(index).items()}
print(json.dumps({"graph": graph, "assets": {text: name for text, name in received.names(index).items()}}))
"""
"""Print what the index has, and which label is of which asset."""

EXTRACT = """
import json, sys
from databuilder.extractor.openlineage_extractor import OpenLineageTableLineageExtractor
from pyhocon import ConfigFactory

extractor = OpenLineageTableLineageExtractor()
extractor.init(ConfigFactory.from_dict(json.loads(sys.argv[1])))
while lineage := extractor.extract():
    while relation := lineage.create_next_relation():
        print(json.dumps([relation.start_key, relation.type, relation.end_key]))
"""
"""Print the table lineage that amundsen reads from a file, as the relations that it would store."""

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not SOAK, reason="the receivers are large, and need environments of their own"),
]

Edges = set[tuple[str, str]]


@dataclass(frozen=True)
class Told:
    """A history, and what is told of it.

    Attributes:
        folder: where its files are.
        environment: variables of what is run on it.
        file: its events as they are exported.
        events: the same.
        assets: which label is of which asset.
        edges: of the index, between its datasets.
        columns: of the index, between its columns.
    """

    folder: Path
    environment: dict[str, str]
    file: Path
    events: list[dict[str, Any]]
    assets: dict[str, str]
    edges: Edges
    columns: Edges

    def run(self, *arguments: str, **more: str) -> str:
        """Run Python on the history, which must succeed, and return what it printed."""
        done = forked.run(arguments, environment=self.environment | more, folder=self.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def between_tables(self) -> Edges:
        """Return the edges between columns without those of models, which have none: theirs are of all that a model is."""
        return {edge for edge in self.columns if not any(end.endswith(f".{WHOLE}") for end in edge)}

    def asset(self, namespace: str, name: str) -> str:
        """Return which asset a dataset is, or its label where it is none."""
        text = label(namespace, name)
        return self.assets.get(text, text)


@pytest.fixture(scope="module")
def told(as_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Return a copy of the history as it was made, with what its index has."""
    folder = tmp_path_factory.mktemp("told")
    shutil.copytree(as_made, folder / "data")
    environment = {**os.environ, **store_at(folder / "data"), "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    empty = Told(folder, environment, folder / "events.ndjson", [], {}, set(), set())
    empty.run("-m", "bikes_assets", "openlineage", "export", str(empty.file))
    index = json.loads(empty.run("-c", INDEX))
    events = [json.loads(line) for line in empty.file.read_text().splitlines()]
    edges, columns = ({(a, b) for a, b in index["graph"][f"{kind} edges"]} for kind in ("dataset", "column"))
    assert (len(events), len(edges), len(columns)) == (82, 11, 96)
    return Told(folder, environment, empty.file, events, index["assets"], edges, columns)


@dataclass(frozen=True)
class Feast:
    """Feast's lineage server.

    Attributes:
        url: where it listens.
        folder: where its files are.
    """

    url: str
    folder: Path

    def post(self, event: dict[str, Any]) -> int:
        """Send an event, and return the status of the answer."""
        request = Request(self.url + LINEAGE, json.dumps(event).encode(), {"Content-Type": "application/json"})
        with urlopen(request) as answer:
            return answer.status

    def get(self, *parts: str, **query: str) -> Any:
        """Return an answer; the parts of the path are escaped."""
        path = "/".join(quote(part, safe="") for part in parts)
        with urlopen(f"{self.url}{LINEAGE}/openlineage/{path}?{urlencode(query)}") as answer:
            return json.load(answer)

    def statuses(self) -> Counter[str]:
        """Return how often each status was answered to events, by the server's own log."""
        return Counter(re.findall(rf'"POST {LINEAGE} HTTP/1.1" (\d+)', (self.folder / "log").read_text()))

    def columns(self) -> list[tuple[tuple[str, str, str], tuple[str, str, str]]]:
        """Return the column lineage that is stored: namespace, name and column of an input, and of what is computed from it."""
        query = (
            "select input_namespace, input_name, input_field, dataset_namespace, dataset_name, output_field"
            " from openlineage_column_lineage"
        )
        with closing(sqlite3.connect(self.folder / "lineage.db")) as store:
            return [(row[:3], row[3:]) for row in store.execute(query)]


@contextmanager
def served(folder: Path) -> Iterator[Feast]:
    """Serve feast's lineage server in a folder."""
    program = environment_of("feast", LOCKS / "feast.lock") / "bin" / "feast"
    (folder / "feature_store.yaml").write_text(FEATURE_STORE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [program, "serve_lineage", "-h", "127.0.0.1", "-p", str(port)]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(port, server, folder / "log")
        yield Feast(f"http://127.0.0.1:{port}", folder)
    finally:
        server.terminate()
        server.wait(60)


def wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers at a port."""
    for _ in range(1200):
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        assert server.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(f"nothing answers at port {port}:\n{log.read_text()}")


@pytest.fixture(scope="module")
def feast(told: Told, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Feast]:
    """Return feast's lineage server, to which all events were sent."""
    with served(tmp_path_factory.mktemp("feast")) as server:
        done = told.run("-m", "bikes_assets", "openlineage", "send", OPENLINEAGE_URL=server.url)
        assert "82 events" in done
        yield server


def test_feast_takes_every_event_as_it_is_exported(told: Told, feast: Feast) -> None:
    assert feast.statuses() == {"201": len(told.events)}
    stored = [json.loads(item["event_json"]) for item in feast.get("events", limit="1000")["events"]]
    assert sorted(_line(event) for event in stored) == sorted(_line(event) for event in told.events)


def _line(event: dict[str, Any]) -> str:
    """Return an event without what OpenLineage's client adds to it: a tag with its own version."""
    facets = dict(event["run"].get("facets", {}))
    if tags := facets.pop("tags", None):
        own = [tag for tag in tags["tags"] if tag["key"] != "openlineage_client_version"]
        facets |= {"tags": tags | {"tags": own}} if own else {}
    return json.dumps(event | {"run": event["run"] | {"facets": facets}}, sort_keys=True)


def test_feast_shows_our_datasets_and_jobs_and_the_edges_between_them_and_no_others(told: Told, feast: Feast) -> None:
    graph = feast.get("graph")

    def ends(kind: str) -> list[tuple[str, str]]:
        edges = [edge for edge in graph["edges"] if edge["edge_type"] == kind]
        return sorted({(_end(told, edge, "source"), _end(told, edge, "target")) for edge in edges})

    # Then the nodes are the datasets and jobs, and what MLflow's registry calls the models
    names = {
        kind: sorted(_name(told, node) for node in graph["nodes"] if node["type"] == kind)
        for kind in ("dataset", "job")
    }
    registered = ["mlflow:models:/demand_model", "mlflow:models:/demand_model@champion"]
    assert names == {"dataset": sorted(["rental_records", *MADE, *registered]), "job": sorted(["__ASSET_JOB", *MADE])}
    # And the edges are exactly those of the index, by jobs and from dataset to dataset
    assert {edge["edge_type"] for edge in graph["edges"]} == {"parent", "input", "output", "derived", "symlink"}
    assert ends("derived") == ends("input") == sorted(told.edges)
    assert ends("output") == sorted((asset, asset) for asset in MADE)
    assert ends("parent") == sorted(("__ASSET_JOB", asset) for asset in MADE)
    models = list(zip(("demand_model", "champion_model"), registered, strict=True))
    assert ends("symlink") == sorted([*models, *(pair[::-1] for pair in models)])


def _name(told: Told, node: dict[str, Any]) -> str:
    return told.asset(node["namespace"], node["name"]) if node["type"] == "dataset" else node["name"]


def _end(told: Told, edge: dict[str, Any], side: str) -> str:
    """Return an end of an edge: an asset, or what has another name."""
    return _name(told, {part: edge[f"{side}_{part}"] for part in ("type", "namespace", "name")})


def test_feast_leads_from_predictions_through_the_models_to_the_source(told: Told, feast: Feast) -> None:
    graph = feast.get("graph", "job", "bike-demand", "demand_predictions", direction="upstream")

    upstream = {_name(told, node) for node in graph["nodes"] if node["type"] == "dataset"}
    assert {"champion_model", "demand_model", "demand_features", "hourly_rentals", "rental_records"} <= upstream
    assert not {"demand_predictions", "prediction_quality"} & upstream


def test_feast_stores_every_edge_between_columns_that_tables_have(told: Told, feast: Feast) -> None:
    stored = {
        (str(Address(told.asset(*source[:2]), source[2])), str(Address(told.asset(*target[:2]), target[2])))
        for source, target in feast.columns()
    }

    # Then those alone are left out that begin or end at a model, which has no columns
    left_out = told.columns - told.between_tables()
    assert stored == told.between_tables()
    assert (len(stored), len(left_out)) == (61, 35)
    assert ("champion_model.*", "demand_predictions.prediction") in left_out
    assert ("demand_features.temperature", "demand_predictions.prediction") in stored


def test_feast_has_no_address_for_a_dataset_with_a_slash_in_its_name_or_namespace(told: Told, feast: Feast) -> None:
    # its routes take one part of a path for each, and an escaped slash separates parts, too
    for parts in (
        ("datasets", "file", f"{told.folder}/data/lake/demand_features", "columns"),
        ("datasets", "s3://bucket", "demand_features", "columns"),
        ("graph", "dataset", "file", f"{told.folder}/data/lake/demand_features"),
    ):
        with pytest.raises(HTTPError) as refused:
            feast.get(*parts)
        assert refused.value.code == 404


def test_feast_shows_facets_of_a_run_and_of_a_dataset_those_of_the_last_event_that_named_it(
    told: Told, feast: Feast
) -> None:
    published = _published(told.events, "demand_predictions")
    (output,) = published["outputs"]

    # Then a run shows the columns and the table version that were written
    (written,) = feast.get("runs", published["run"]["runId"])["outputs"]
    assert written["facets"] == output["facets"]
    # And the dataset what was read of it since, beside its schema
    nodes = {_name(told, node): node for node in feast.get("graph")["nodes"] if node["type"] == "dataset"}
    assert "columnLineage" not in nodes["demand_predictions"]["facets"]
    assert "columnLineage" in nodes["prediction_quality"]["facets"]  # which nothing reads
    assert nodes["demand_predictions"]["schema"] == output["facets"]["schema"]


def test_feast_answers_columns_where_names_have_no_slash_and_counts_versions_by_itself(
    told: Told, tmp_path: Path
) -> None:
    # Given the same events, with datasets named by their assets alone
    text = told.file.read_text()
    for place, asset in told.assets.items():
        text = text.replace(json.dumps(place.removeprefix("file:")), json.dumps(asset))
    events = [json.loads(line) for line in text.splitlines()]
    began = time.time() * 1000
    with served(tmp_path) as feast:
        assert {feast.post(event) for event in events} == {201}
        # When feast is asked for the columns of each, then they are those of the index
        answers = [feast.get("datasets", "file", asset, "columns", direction="upstream") for asset in MADE]
        edges = {
            (f"{item['input_name']}.{item['input_field']}", f"{item['dataset_name']}.{item['output_field']}")
            for answer in answers
            for item in answer["column_lineage"]
        }
        assert edges == told.between_tables()
        # And an event that comes again is no second run, but another version of the dataset
        runs, versions = len(_runs(feast)), _versions(feast, "demand_model")
        assert feast.post(_published(events, "demand_model")) == 201
        assert (len(_runs(feast)), _versions(feast, "demand_model")) == (runs, versions + 1)
        # And the times of runs are those at which it received their events
        assert {run["started_at"] > began for run in _runs(feast)} == {True}


def _runs(feast: Feast) -> list[dict[str, Any]]:
    return feast.get("runs", limit="500")["runs"]


def _versions(feast: Feast, asset: str) -> int:
    """Return how many versions of a dataset feast has counted."""
    return feast.get("datasets", "file", asset, "versions")["total"]


def _published(events: list[dict[str, Any]], asset: str) -> dict[str, Any]:
    """Return the last event by which an asset was published."""
    return [event for event in events if event["job"]["name"] == asset and event["eventType"] == "COMPLETE"][-1]


def amundsen(told: Told, **more: str) -> tuple[list[list[str]], str]:
    """Return the relations that amundsen reads from the exported file, and what it logged."""
    place = environment_of("amundsen", LOCKS / "amundsen.lock", "--no-deps")
    config = {"table_lineage_file_location": str(told.file), "cluster_name": "demand", **more}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [place / "bin" / "python", "-c", EXTRACT, json.dumps(config)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=told.folder, env=environment)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_amundsen_reads_exactly_the_edges_between_tables(told: Told) -> None:
    # When the namespace is taken for the database, which OpenLineage's datasets do not name
    relations, log = amundsen(told, database_key="namespace")

    # Then each edge is there, between the last parts of the names, once for each run
    last = {"rental_records": "hour.csv"}
    expected = {tuple(f"file://demand.file/{last.get(asset, asset)}" for asset in edge) for edge in told.edges}
    assert {(start, end) for start, kind, end in relations if kind == "HAS_DOWNSTREAM"} == expected
    assert len(relations) == sum(len(event["inputs"]) * len(event["outputs"]) for event in told.events)
    assert log == ""


def test_amundsen_reads_nothing_of_a_key_that_no_dataset_has(told: Told) -> None:
    relations, log = amundsen(told)

    assert relations == []
    assert "Cannot extract valid input or output" in log
