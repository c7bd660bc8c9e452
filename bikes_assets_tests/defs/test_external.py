"""External assets: what other tools' events tell to be around the project's assets, as Dagster's graph shows it."""

from __future__ import annotations

import time
from typing import Any

import dagster as dg
import pytest

from bikes_assets.app import answers
from bikes_assets.app.settings import settings
from bikes_assets.defs.external.datasets import external_assets, feeding
from bikes_assets.lineage.elements import DATASET, Edge, Fact, Thing
from bikes_assets.lineage.index import Index
from bikes_assets.lineage.openlineage.joined import JoinedIndex
from bikes_assets.lineage.openlineage.received import Received

OWN = ["rental_records", "hourly_rentals"]
NAMES = {f"file:/srv/{name}": name for name in OWN}


def dataset(name: str, **facets: Any) -> dict[str, Any]:
    """Return a dataset, as an event names it, of its namespace and name in one text."""
    namespace, _, place = name.partition(" ")
    return {"namespace": namespace, "name": place, "facets": facets}


def event(job: str, read: list[str], wrote: list[str], tool: str = "SPARK", **facets: Any) -> dict[str, Any]:
    """Return an event by which a job has read and written datasets; facets are those of what it wrote."""
    return {
        "eventType": "COMPLETE",
        "eventTime": "2026-11-30T18:00:00Z",
        "run": {"runId": f"run of {job}"},
        "job": {"namespace": "jobs", "name": job, "facets": {"jobType": {"integration": tool}}},
        "inputs": [dataset(name) for name in read],
        "outputs": [dataset(name, **facets) for name in wrote],
    }


@pytest.fixture
def joined(tmp_path, monkeypatch):
    """Return what stores events, and returns the index of two of the project's datasets with them."""
    monkeypatch.setenv("BIKES_EXTERNAL_ASSETS", "1")
    settings.cache_clear()
    local = Index(tmp_path / "lineage.db")
    things = [Thing(DATASET, name) for name in OWN]
    local.append([Fact(1, 1.0, things, [Edge((DATASET, OWN[0]), (DATASET, OWN[1]), "read")])])

    def index(*events: dict[str, Any]) -> JoinedIndex:
        received = Received(tmp_path / "openlineage.db")
        received.add(events)
        found = JoinedIndex(local, received, NAMES)
        monkeypatch.setattr(answers, "as_last_updated", lambda: (found, OWN))
        return found

    yield index
    settings.cache_clear()


def graph(specs: list[dg.AssetSpec]) -> dict[str, set[str]]:
    dg.Definitions(assets=specs).resolve_asset_graph()  # it takes them
    return {spec.key.to_user_string(): {dep.asset_key.to_user_string() for dep in spec.deps} for spec in specs}


def test_what_comes_before_and_after_is_shown_and_nothing_else(joined):
    # Given a tool that writes the source, one that reads a table, one after it, and one that has nothing to do with either
    index = joined(
        event("load", ["postgres://db:5432 rentals"], ["file /srv/rental_records"], "AIRFLOW"),
        event("weekly", ["file /srv/hourly_rentals"], ["s3://reports weekly"]),
        event("yearly", ["s3://reports weekly"], ["s3://reports yearly"]),
        event("other", ["s3://other a"], ["s3://other b"]),
    )
    # Then the graph has what is around the project's datasets
    assert graph(external_assets(index, OWN)) == {
        "postgres/db/5432/rentals": set(),
        "s3/reports/weekly": {"hourly_rentals"},
        "s3/reports/yearly": {"s3/reports/weekly"},
    }
    assert [key.to_user_string() for key in feeding("rental_records")] == ["postgres/db/5432/rentals"]


def test_a_dataset_shows_its_tool_its_job_and_its_columns(joined):
    lineage = {"mean": {"inputFields": [{"namespace": "file", "name": "/srv/hourly_rentals", "field": "temp"}]}}
    facets = {
        "schema": {"fields": [{"name": "mean", "type": "double", "description": "Mean temperature."}]},
        "documentation": {"description": "One row a week."},
        "columnLineage": {"fields": lineage},
    }
    index = joined(event("weekly", ["file /srv/hourly_rentals"], ["s3://reports weekly"], **facets))

    (spec,) = external_assets(index, OWN)

    assert (spec.group_name, spec.kinds, spec.description) == ("spark", {"spark", "s3"}, "One row a week.")
    told = {key: spec.metadata[key] for key in ("namespace", "name", "written by")}
    assert told == {"namespace": "s3://reports", "name": "weekly", "written by": "jobs:weekly"}
    (column,) = spec.metadata["dagster/column_schema"].columns
    assert (column.name, column.type) == ("mean", "double")
    assert column.description == "Mean temperature. From hourly_rentals.temp."


def test_circles_of_other_tools_are_cut_open(joined):
    index = joined(
        event("feedback", ["file /srv/hourly_rentals"], ["s3://reports a"]),
        event("there", ["s3://reports a"], ["s3://reports b"]),
        event("back", ["s3://reports b"], ["s3://reports a"]),
        event("on", ["s3://reports b"], ["file /srv/rental_records"]),
    )

    found = graph(external_assets(index, OWN))

    assert found == {"s3/reports/a": {"hourly_rentals", "s3/reports/b"}, "s3/reports/b": set()} or found == {
        "s3/reports/a": {"hourly_rentals"},
        "s3/reports/b": {"s3/reports/a"},
    }
    assert feeding("rental_records") == []


def test_two_names_of_one_key_are_one_asset(joined):
    index = joined(event("two", ["file /srv/hourly_rentals"], ["s3://reports a//b", "s3://reports a/b"]))

    assert graph(external_assets(index, OWN)) == {"s3/reports/a/b": {"hourly_rentals"}}


def test_of_too_many_the_nearest_are_shown_in_a_short_time(joined, caplog):
    chain = [event(f"job {n}", [f"s3://far {n}"], [f"s3://far {n + 1}"]) for n in range(300)]
    index = joined(event("first", ["file /srv/hourly_rentals"], ["s3://far 0"]), *chain)

    since = time.perf_counter()
    found = graph(external_assets(index, OWN))
    assert time.perf_counter() - since < 5
    assert set(found) == {f"s3/far/{n}" for n in range(200)}
    assert "found 301 datasets of other tools, expected 200 at most" in caplog.text


def test_a_damaged_file_of_events_leaves_the_project_as_it_is(joined, tmp_path, monkeypatch, caplog):
    # Given events that cannot be read, in place of what told where the source comes from
    joined(event("load", ["postgres://db:5432 rentals"], ["file /srv/rental_records"], "AIRFLOW"))
    assert len(feeding("rental_records")) == 1
    (tmp_path / "broken.db").write_text("no database")
    local, broken = Index(tmp_path / "lineage.db"), Received(tmp_path / "broken.db")
    monkeypatch.setattr(answers, "as_last_updated", lambda: (JoinedIndex(local, broken, NAMES), OWN))
    # Then nothing is shown, and a log message says why
    assert feeding("rental_records") == []
    assert f"no external assets are shown: {tmp_path}/broken.db: found no SQLite database" in caplog.text


def test_nothing_is_read_where_the_setting_is_off(joined, monkeypatch):
    joined(event("load", ["postgres://db:5432 rentals"], ["file /srv/rental_records"], "AIRFLOW"))
    monkeypatch.delenv("BIKES_EXTERNAL_ASSETS")
    settings.cache_clear()

    monkeypatch.setattr(answers, "as_last_updated", pytest.fail)
    assert feeding("rental_records") == []
