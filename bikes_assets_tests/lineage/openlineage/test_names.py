"""Datasets have the names that OpenLineage's rules give them, and runs ids that never change."""

from __future__ import annotations

import os
from dataclasses import replace
from uuid import UUID

import pytest
from openlineage.client.naming.dataset import S3, Postgres

from bikes_assets.core.record import Record, Version
from bikes_assets.events.reported import Reported
from bikes_assets.lineage.openlineage.history import PipelineRun, StepAttempt
from bikes_assets.lineage.openlineage.names import dataset_at, dataset_of_query, parent_id, run_id

RUN = PipelineRun("537e00cd-22d1-418c-8b71-5693411f5dcd", "job", "SUCCESS", 1.0, 2.0)


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("/data/lake/rentals", ("file", "/data/lake/rentals")),
        ("/data/lake/../lake/rentals/", ("file", "/data/lake/rentals")),
        ("file:///data/hour%20of.csv", ("file", "/data/hour of.csv")),
        ("lake/rentals", ("file", f"{os.getcwd()}/lake/rentals")),
        ("s3://bucket/lake/rentals", ("s3://bucket", "lake/rentals")),
        ("s3a://bucket/lake/rentals", ("s3://bucket", "lake/rentals")),
        ("gs://bucket/lake/rentals", ("gs://bucket", "lake/rentals")),
        ("abfss://box@store.dfs.core.windows.net/a/b", ("abfss://box@store.dfs.core.windows.net", "/a/b")),
        ("hdfs://node:8020/a/b", ("hdfs://node:8020", "/a/b")),
        ("https://***@example.org/hour.csv?***", ("https://example.org", "/hour.csv")),
        ("simplecache::s3://bucket/hour.csv", ("s3://bucket", "hour.csv")),
    ],
)
def test_a_location_has_the_name_of_the_standard(location: str, name: tuple[str, str]) -> None:
    assert dataset_at(location) == name


def test_names_are_those_of_the_standards_own_client() -> None:
    bucket, table = S3("bucket", "lake/rentals"), Postgres("db.example", "5432", "bikes", "public", "rentals")
    assert dataset_at("s3://bucket/lake/rentals") == (bucket.get_namespace(), bucket.get_name())
    query = dataset_of_query("postgresql://***@db.example/bikes", "select * from rentals")
    assert query == (table.get_namespace(), table.get_name())


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("select * from rentals", "bikes.public.rentals"),
        ('SELECT a, b FROM "raw"."Rentals" WHERE a > 1', "bikes.raw.Rentals"),
        ("select * from other.raw.rentals", "other.raw.rentals"),
        ("select a from rentals where b in (1, 2)", "bikes.public.rentals"),
        ("select * from rentals, stations", "bikes"),
        ("select * from rentals r, stations s", "bikes"),
        ("select * from rentals join stations using (id)", "bikes"),
        ("select * from (select * from rentals) x", "bikes"),
        ("with x as (select 1) select * from x", "bikes"),
        ("select 1", "bikes"),
    ],
)
def test_a_query_of_one_table_is_that_table_and_any_other_the_database(query: str, name: str) -> None:
    found = dataset_of_query("postgresql+psycopg2://***@db.example:5433/bikes?***", query)
    assert found == ("postgres://db.example:5433", name)


def test_other_databases_have_their_own_rules() -> None:
    assert dataset_of_query("mysql+pymysql://h/bikes", "select * from rentals") == ("mysql://h:3306", "bikes.rentals")
    assert dataset_of_query("sqlite:////data/bikes.db", "select * from rentals") == ("file", "/data/bikes.db")


def _published(version: int, **made_by: str) -> Reported:
    record = Record(Version("pins", None, version, "0" * 32), {}, (), "", {}, {}, made_by)
    return Reported(version, "pins", None, 5.0, record=record)


def test_each_attempt_has_an_id_of_its_own_which_is_always_the_same() -> None:
    first = StepAttempt(RUN, "rentals", "2011-01", 1)
    others = [replace(first, number=2), replace(first, partition=None), replace(first, partition="2011-02")]
    others += [replace(first, asset="features"), replace(first, run=replace(RUN, id="other"))]
    ids = [run_id(attempt) for attempt in (first, *others)]
    assert len({*ids}) == 6
    assert all(UUID(item).version == 5 for item in ids)
    # And nothing about how it went changes it: a receiver knows an event that it gets again
    assert run_id(replace(first, start=9.0, end=10.0, succeeded=False, error="x")) == ids[0]
    assert ids[0] == "ded92fd5-f075-531b-a596-b22f07f2868d"


def test_a_run_that_was_deleted_leaves_its_attempts_their_ids() -> None:
    made_by = {"dagster_run_id": RUN.id, "attempt": "2"}
    known = StepAttempt(RUN, "pins", None, 2, reported=_published(3, **made_by))
    assert run_id(replace(known, run=None, number=1)) == run_id(known)


def test_two_decisions_are_two_runs() -> None:
    assert len({run_id(StepAttempt(None, "pins", None, reported=_published(number))) for number in (1, 2)}) == 2


def test_a_dagster_run_keeps_its_id() -> None:
    assert parent_id(RUN.id) == RUN.id
    assert UUID(parent_id("run-1")).version == 5
