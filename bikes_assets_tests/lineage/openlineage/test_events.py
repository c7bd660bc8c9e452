"""Events of a whole small history, and of what such a history does not have."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bikes_assets.cli import main
from bikes_assets.core import secrets
from bikes_assets.core.record import Record, Use, Version
from bikes_assets.core.schema import Column, Schema
from bikes_assets.events.reported import Reported
from bikes_assets.lineage.openlineage.catalog import Catalog
from bikes_assets.lineage.openlineage.events import Selection, events
from bikes_assets.lineage.openlineage.history import CheckResult, PipelineRun, StepAttempt
from bikes_assets_tests.lineage.openlineage.spec import BY_KEY, facets_of, problems_of

RUN = PipelineRun("537e00cd-22d1-418c-8b71-5693411f5dcd", "job", "SUCCESS", 1.0, 9.0)
SCHEMAS = {
    "rentals": Schema("rentals", ("ts",), (Column("ts", "timestamp", "Hour."), Column("cnt", "int64", "Rentals."))),
    "features": Schema(
        "features",
        ("ts",),
        (
            Column("ts", "timestamp", "Hour."),
            Column("lag", "int64", "Before.", unit="rentals", tags=("licence: CC BY",)),
        ),
    ),
}
DIGESTS = {"ts": "1" * 32, "cnt": "2" * 32}
CATALOG = Catalog(
    "project",
    "s3://bucket/lake",
    "/code",
    SCHEMAS,
    owners={"features": ("team:demand", "jo@example.org")},
    digest_of=lambda _, column: DIGESTS.get(column, ""),
)
SOURCE = {"name": "rentals", "uri": "", "kind": "delta", "version": "7", "size": 0, "files": []}


def published(**more: Any) -> StepAttempt:
    """Return an attempt that published features of two months of rentals, and what else is said of it."""
    inputs = (Version("rentals", "2011-12", 6, "a" * 32), Version("rentals", "2012-01", 7, "b" * 32))
    record = Record(
        Version("features", "2012-01", 3, "d" * 32),
        {"lag": "3" * 32, "ts": "1" * 32},
        inputs,
        "c0de",
        {"nested": {"depth": 2}, "name": "x"},
        {"git_commit": "abc", "libraries": {"dagster": "1.13", "numpy": "2.4"}},
        {"dagster_run_id": RUN.id, "mlflow_run_id": "m1", "step_key": "features", "attempt": "1"},
        datasets=(Use("raw", "rentals", ("2011-12", "2012-01"), "e" * 32, 1488, SOURCE),),
        metrics={"rmse": 1.5},
        checks={"ranges": True, "older": True},
        used={"rentals": ["cnt", "ts"]},
        time=4.0,
    )
    values = {"dagster/row_count": 744, "dagster/column_lineage": _deps({"lag": ["cnt"], "ts": ["ts"]})}
    reported = Reported(8, "features", "2012-01", 5.0, True, values, record=replace(record, **more))
    return StepAttempt(RUN, "features", "2012-01", 1, 2.0, 5.0, True, reported=reported)


def _deps(columns: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "deps_by_column": {
            name: [{"asset_key": {"path": ["rentals"]}, "column_name": source} for source in sources]
            for name, sources in columns.items()
        }
    }


def end_of(attempt: StepAttempt, catalog: Catalog = CATALOG) -> dict[str, Any]:
    """Return the event at the end of an attempt, which is valid."""
    found = [*events([(RUN, [attempt])], catalog, Selection())]
    assert [problem for event in found for problem in problems_of(event)] == []
    return next(event for event in found if event["job"]["name"] == attempt.asset and event["eventType"] != "START")


def bare(facet: Any) -> Any:
    """Return a facet without what each has."""
    return {name: value for name, value in facet.items() if not name.startswith("_")}


def export(file: Path, *words: str) -> tuple[int, list[dict[str, Any]]]:
    done = CliRunner().invoke(main, ["openlineage", "export", str(file), *words], prog_name="bikes")
    assert done.exit_code < 2, done.output
    return done.exit_code, [json.loads(line) for line in file.read_text().splitlines()]


def test_a_history_is_exported_as_valid_events_in_order_and_again_the_same(copied: Path, tmp_path: Path) -> None:
    code, found = export(tmp_path / "events.ndjson")
    assert (code, [problem for event in found for problem in problems_of(event)]) == (0, [])
    # Then each run has a start and an end, in the order of their times
    assert [event["eventTime"] for event in found] == sorted(event["eventTime"] for event in found)
    for event_type in ("START", "COMPLETE"):
        runs = Counter(event["run"]["runId"] for event in found if event["eventType"] == event_type)
        assert {*runs.values()} == {1}
        assert runs.keys() == {event["run"]["runId"] for event in found}
    # And their parents are among them
    parents = {
        event["run"]["facets"]["parent"]["run"]["runId"] for event in found if "parent" in event["run"]["facets"]
    }
    assert parents < {event["run"]["runId"] for event in found}
    # And inputs are exactly those of the records, outputs the versions that were published
    for event in found:
        for dataset in event["outputs"]:
            (part,) = dataset["outputFacets"]["subset"]["outputCondition"]["partitions"]
            record = _record(part["identifier"])
            read = [
                part["identifier"]
                for item in event["inputs"]
                for part in item["inputFacets"]["subset"]["inputCondition"]["partitions"]
            ]
            assert sorted(read) == sorted(item.address for item in record.inputs)
            assert dataset["facets"]["version"]["datasetVersion"] == str(record.output.version)
            assert dataset["name"] == f"{copied}/lake/{record.output.asset}"
    # And again the events are the same to the byte
    _, again = export(tmp_path / "again.ndjson")
    assert again == found
    # And all facets that the schemas are of occur, but for the query of a database
    kinds = {key for event in found for key, _ in facets_of(event)}
    assert BY_KEY.keys() - kinds == {"sql", "errorMessage"}
    # And asked for some of it, that is all
    code, some = export(tmp_path / "some.ndjson", "demand_model[2011-06]", "demand_model[2011-07]")
    assert (code, Counter(event["job"]["name"] for event in some)["demand_model"]) == (0, 4)
    assert {event["job"]["name"] for event in some} == {"demand_model", "__ASSET_JOB"}
    assert [event for event in found if event in some] == some
    one = next(iter(parents))
    _, of_run = export(tmp_path / "run.ndjson", "--run", one)
    assert {event["run"]["facets"].get("parent", {"run": event["run"]})["run"]["runId"] for event in of_run} == {one}
    moment = found[len(found) // 2]["eventTime"]
    _, since = export(tmp_path / "since.ndjson", "--since", moment)
    assert {event["run"]["runId"] for event in found if event["eventTime"] >= moment} == {
        event["run"]["runId"] for event in since
    }
    assert export(tmp_path / "none.ndjson", "nonesuch") == (1, [])


def _record(address: str) -> Record:
    from bikes_assets.app import answers, versions

    return versions.record_of(answers.refreshed(), address)


def test_columns_are_told_with_how_they_contributed() -> None:
    end = end_of(published(used={"rentals": ["cnt", "ts"]}))
    output, dataset = end["outputs"][0], {"namespace": "s3://bucket", "name": "lake/rentals"}
    assert (output["namespace"], output["name"]) == ("s3://bucket", "lake/features")
    changed = [{"type": "DIRECT", "subtype": "TRANSFORMATION", "description": "Before."}]
    passed_on = [{"type": "DIRECT", "subtype": "IDENTITY", "description": "Hour."}]
    assert bare(output["facets"]["columnLineage"]) == {
        "fields": {
            "lag": {"inputFields": [{**dataset, "field": "cnt", "transformations": changed}]},
            "ts": {"inputFields": [{**dataset, "field": "ts", "transformations": passed_on}]},
        }
    }
    (entry,) = end["job"]["facets"]["lineage"]["entries"]
    assert entry["inputs"] == [{**dataset, "type": "DATASET"}]
    assert entry["fields"]["lag"]["inputs"] == [
        {**dataset, "type": "DATASET", "field": "cnt", "transformations": changed}
    ]


def test_a_key_that_no_column_is_computed_from_matches_the_rows() -> None:
    attempt = published()
    assert attempt.reported
    values = {**attempt.reported.values, "dagster/column_lineage": _deps({"lag": ["cnt"]})}
    end = end_of(replace(attempt, reported=replace(attempt.reported, values=values)))
    whole = end["outputs"][0]["facets"]["columnLineage"]["dataset"]
    joined = [{"type": "INDIRECT", "subtype": "JOIN", "description": "rows are matched by it"}]
    assert [(item["field"], item["transformations"]) for item in whole] == [("ts", joined)]


def test_a_column_that_was_not_used_contributed_nothing() -> None:
    fields = end_of(published(used={"rentals": ["ts"]}))["outputs"][0]["facets"]["columnLineage"]["fields"]
    assert [*fields] == ["ts"]
    served = end_of(published(used={"rentals": []}))
    assert "columnLineage" not in served["outputs"][0]["facets"]
    assert [item["name"] for item in served["inputs"]] == ["lake/rentals"]


def test_facets_say_what_the_record_knows() -> None:
    check = CheckResult("ranges", True, True, {"expected": "0..", "found": "all", "min lag": 0.0, "max lag": 9.0})
    end = end_of(replace(published(), checks=[check]))
    run, output, (read,) = end["run"]["facets"], end["outputs"][0], end["inputs"]
    facets = output["facets"]
    owners = [{"name": "team:demand"}, {"name": "jo@example.org"}]
    assert bare(facets["ownership"]) == bare(end["job"]["facets"]["ownership"]) == {"owners": owners}
    assert bare(run["nominalTime"]) == {
        "nominalStartTime": "2012-01-01T00:00:00Z",
        "nominalEndTime": "2012-02-01T00:00:00Z",
    }
    assert {item["key"]: item["value"] for item in run["executionParameters"]["parameters"]} == {
        "nested.depth": "2",
        "name": "x",
    }
    tags = {item["key"]: item["value"] for item in run["tags"]["tags"]}
    assert tags["mlflow_run_id"] == "m1"
    assert (tags["git_commit"], tags["numpy"]) == ("abc", "2.4")
    assert (run["processing_engine"]["name"], run["processing_engine"]["version"]) == ("Dagster", "1.13")
    assert bare(run["bikes_metrics"]) == {"metrics": {"rmse": 1.5}}
    assert facets["lifecycleStateChange"]["lifecycleStateChange"] == "OVERWRITE"
    assert facets["datasetType"]["datasetType"] == "TABLE"
    assert [(item["name"], item["type"], item["description"]) for item in facets["schema"]["fields"]] == [
        ("ts", "timestamp", "Hour."),
        ("lag", "int64", "Before. Unit: rentals."),
    ]
    assert [(item["key"], item["value"], item.get("field")) for item in facets["tags"]["tags"]] == [
        ("digest", "d" * 32, None),
        ("licence", "CC BY", "lag"),
    ]
    assert facets["dataQualityAssertions"]["assertions"] == [
        {"assertion": "ranges", "success": True, "severity": "error", "expected": "0..", "actual": "all"},
        {"assertion": "older", "success": True},
    ]
    assert bare(facets["dataQualityMetrics"]) == {"rowCount": 744, "columnMetrics": {"lag": {"min": 0.0, "max": 9.0}}}
    assert bare(output["outputFacets"]["outputStatistics"]) == {"rowCount": 744}
    assert bare(read["inputFacets"]["inputStatistics"]) == {"rowCount": 1488}
    assert read["facets"]["version"]["datasetVersion"] == "7"
    assert end["job"]["facets"]["sourceCodeLocation"]["version"] == "abc"


def test_rows_that_were_read_are_told_only_where_the_record_counts_them_all() -> None:
    half = Use("raw", "rentals", ("2012-01",), "e" * 32, 744, SOURCE)
    assert "inputStatistics" not in end_of(published(datasets=(half,)))["inputs"][0]["inputFacets"]
    twice = (half, replace(half, context="again", partitions=("2011-12", "2012-01")))
    assert "inputStatistics" not in end_of(published(datasets=twice))["inputs"][0]["inputFacets"]


def test_a_model_is_one_and_a_pinned_one_was_read_though_it_is_no_input() -> None:
    pinned = {"origin": "demand_model[2011-05]@4", "digest": "f" * 32, "mlflow_model_id": "m-1"}
    attempt = published(columns={}, models=(pinned,), checks={})
    assert attempt.reported
    assert attempt.reported.record
    output = replace(attempt.reported.record.output, asset="champion_model")
    record = replace(attempt.reported.record, output=output)
    attempt = replace(attempt, asset="champion_model", reported=replace(attempt.reported, record=record))
    end = end_of(attempt, replace(CATALOG, serving="champion_model"))
    facets, model = end["outputs"][0]["facets"], end["inputs"][-1]
    assert facets["datasetType"]["datasetType"] == "MODEL"
    assert bare(facets["symlinks"]) == {
        "identifiers": [{"namespace": "mlflow", "name": "models:/demand_model@champion", "type": "MODEL"}]
    }
    assert (model["name"], model["facets"]["version"]["datasetVersion"]) == ("lake/demand_model", "4")
    assert model["facets"]["datasetType"]["datasetType"] == "MODEL"
    assert "schema" not in facets


def test_a_source_is_the_file_or_the_table_that_was_read() -> None:
    of = Version("records", "2012-01", "5" * 64, "b" * 32)
    file = {
        "name": "hour.csv",
        "uri": "file:///data/hour.csv",
        "kind": "csv",
        "version": "5",
        "size": 9,
        "files": [["hour.csv", "5", 9]],
    }
    use = Use("raw", "records", ("2012-01",), "e" * 32, 744, file)
    (read,) = end_of(published(inputs=(of,), datasets=(use,), used={}))["inputs"]
    assert (read["namespace"], read["name"]) == ("file", "/data/hour.csv")
    assert (read["facets"]["datasetType"]["datasetType"], read["facets"]["version"]["datasetVersion"]) == (
        "FILE",
        "5" * 64,
    )
    assert bare(read["inputFacets"]["inputStatistics"]) == {"rowCount": 744, "size": 9, "fileCount": 1}
    table = file | {"name": "select * from hours", "uri": "postgresql://***@db:5432/bikes", "kind": "sql", "files": []}
    end = end_of(published(inputs=(of,), datasets=(replace(use, source=table),), used={}))
    assert (end["inputs"][0]["namespace"], end["inputs"][0]["name"]) == ("postgres://db:5432", "bikes.public.hours")
    assert end["job"]["facets"]["sql"]["query"] == "select * from hours"
    # And what a record names without saying where it is has the name of its asset
    (unknown,) = end_of(published(inputs=(of,), datasets=(), used={}))["inputs"]
    assert (unknown["namespace"], unknown["name"]) == ("project", "records")


def test_evidence_of_column_lineage_is_told_as_tests() -> None:
    edges = [
        {"output": "lag", "input": "cnt", "state": "observed", "trials": 26},
        {"output": "lag", "input": "ts", "state": "never seen", "trials": 2},
        {"output": "ts", "input": "ts", "state": "unverified", "trials": 0},
    ]
    tests = end_of(published(evidence={"edges": edges}))["run"]["facets"]["test"]["tests"]
    assert [(item["name"], item["status"], item["actual"]) for item in tests] == [
        ("lag from cnt", "pass", "observed"),
        ("lag from ts", "fail", "not observed"),
        ("ts from ts", "skip", "unverified"),
    ]


def test_what_a_check_has_kept_from_being_published_is_told_with_the_check() -> None:
    check = CheckResult("schema", False, True, {"expected": "ts, cnt", "found": "ts"})
    failed = StepAttempt(RUN, "features", "2012-01", 1, 2.0, 3.0, False, "CheckFailed: no", checks=[check])
    end = end_of(failed)
    assert (end["eventType"], end["outputs"]) == ("FAIL", [])
    (test,) = end["run"]["facets"]["test"]["tests"]
    assert (test["name"], test["status"], test["severity"], test["actual"]) == ("schema", "fail", "error", "ts")
    assert end["run"]["facets"]["errorMessage"]["message"] == "CheckFailed: no"


@pytest.mark.parametrize(
    ("status", "attempt", "outcome"),
    [
        ("FAILURE", {"end": None, "succeeded": None}, ("FAIL", "its process is gone")),
        ("CANCELED", {"end": None, "succeeded": None}, ("ABORT", "its process is gone")),
        ("CANCELED", {"succeeded": False, "error": "it was interrupted"}, ("ABORT", "it was interrupted")),
        ("CANCELED", {"succeeded": False, "error": "OSError: full"}, ("FAIL", "OSError: full")),
        ("STARTED", {"end": None, "succeeded": None}, None),
    ],
)
def test_an_attempt_ends_as_it_ended(status: str, attempt: dict[str, Any], outcome: tuple[str, str] | None) -> None:
    run = replace(RUN, status=status, end=None if status == "STARTED" else 9.0, error="its process is gone")
    step = StepAttempt(run, "features", "2012-01", 1, 2.0, **({"end": 3.0} | attempt))
    found = [event for event in events([(run, [step])], CATALOG, Selection()) if event["job"]["name"] == "features"]
    assert [problem for event in found for problem in problems_of(event)] == []
    ends = [(event["eventType"], event["run"]["facets"]["errorMessage"]["message"]) for event in found[1:]]
    assert ends == ([outcome] if outcome else [])


def test_what_was_published_stays_published_however_its_run_ended() -> None:
    run = replace(RUN, status="FAILURE")
    end = end_of(replace(published(), run=run, end=None, succeeded=None))
    assert (end["eventType"], end["eventTime"]) == ("COMPLETE", "1970-01-01T00:00:04.000000Z")
    assert "errorMessage" not in end["run"]["facets"]


def test_no_secret_is_in_an_event() -> None:
    secrets.learn({"STORE_PASSWORD": "correct-horse"})
    attempt = published(
        config={"url": "postgresql://alice:swordfish@db/bikes", "note": 'said "correct-horse"'},
        params={"source": 'https://h/x?token=abcdefgh"&part=1'},
    )
    attempt = replace(attempt, run=replace(RUN, status="FAILURE", error="no correct-horse at s3://key:swordfish@b"))
    text = "\n".join(map(json.dumps, events([(attempt.run, [attempt])], CATALOG, Selection())))
    assert not [secret for secret in ("correct-horse", "swordfish", "abcdefgh") if secret in text]
    assert "***" in text


def test_runs_that_overlap_are_in_order_and_few_are_in_memory() -> None:
    read = count()

    def endless() -> Iterator[tuple[PipelineRun, list[StepAttempt]]]:
        for number in read:
            run = replace(RUN, id=f"run-{number}", start=float(number), end=number + 2.5)
            yield run, [replace(published(), run=run, start=number + 0.5, end=number + 2.0)]

    found = [*islice(events(endless(), CATALOG, Selection()), 400)]
    times = [event["eventTime"] for event in found]
    assert times == sorted(times)
    # Given 100 runs' events, which are 4 each, no more was read than what may come between
    assert next(read) <= 100 + 5


def test_a_link_stays_one_and_standard_output_has_nothing_but_events(copied: Path, tmp_path: Path) -> None:
    link, target = tmp_path / "link.ndjson", tmp_path / "target.ndjson"
    target.write_text("before\n")
    link.symlink_to(target)
    _, found = export(link, "demand_model[2011-07]")
    assert link.is_symlink()
    assert len(target.read_text().splitlines()) == len(found) == 4
    # And on standard output there are events and nothing else
    done = CliRunner().invoke(main, ["openlineage", "export", "-", "demand_model[2011-07]"])
    assert [json.loads(line) for line in done.stdout.splitlines()] == found


def test_a_file_stays_as_it_was_where_an_event_is_damaged(copied: Path, tmp_path: Path) -> None:
    import sqlite3

    file = tmp_path / "events.ndjson"
    export(file)
    before = file.read_bytes()
    log = sqlite3.connect(copied / "dagster" / "event_log.db")
    last = "select max(id) from event_logs where dagster_event_type = 'ASSET_MATERIALIZATION'"
    with log:
        log.execute(f"update event_logs set event = replace(event, 'row_count', 'row_c0unt') where id = ({last})")
    log.close()
    done = CliRunner().invoke(main, ["openlineage", "export", str(file)], prog_name="bikes")
    assert (done.exit_code, file.read_bytes() == before) == (2, True)
    assert (done.stderr.startswith("error: "), "damaged" in done.stderr, done.stderr.count("\n")) == (True, True, 1)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("x.ndjson", "demand_model[2011-07]@3"), "expected an asset or a partition"),
        (("x.ndjson", "--since", "yesterday"), "found time 'yesterday'"),
        (("/dev/null/x.ndjson",), "name a file in a folder that this user may write to"),
    ],
)
def test_bad_input_is_one_line(copied: Path, words: tuple[str, ...], told: str) -> None:
    done = CliRunner().invoke(main, ["openlineage", "export", *words], prog_name="bikes")
    assert (done.exit_code, told in done.stderr, done.stderr.count("\n")) == (2, True, 1)


def test_without_its_package_the_command_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [*sys.modules]:
        if name == "openlineage" or name.startswith(("openlineage.", "bikes_assets.lineage.openlineage")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "openlineage", None)
    done = CliRunner().invoke(main, ["openlineage", "export", "-"], prog_name="bikes")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "install the extra `openlineage`" in done.stderr
