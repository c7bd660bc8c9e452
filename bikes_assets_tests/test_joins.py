"""Tools whose lineage joins this project's, run as docs/openlineage.md says: dbt by dbt-ol, Spark by OpenLineage's client."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from dotenv import dotenv_values

from bikes_assets.lineage.openlineage.names import dataset_at
from bikes_assets_tests import forked
from bikes_assets_tests.conftest import store_at
from bikes_assets_tests.environments import environment_of
from bikes_assets_tests.lineage.openlineage.spec import problems_of

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "examples" / "dbt" / "requirements.lock"
REPORTS = "duckdb://reports.duckdb"
DBT, SPARK = "Join your dbt project in five minutes", "Join a Spark job"

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Joined:
    """A folder with a history, the examples, and what they reported.

    Attributes:
        folder: what the page takes for the project's root.
        environment: variables of what is run in it.
        answers: what the page's questions print once the events are ingested.
        dbt: the events of dbt-ol.
        spark: the events of the Spark job.
    """

    folder: Path
    environment: dict[str, str]
    answers: dict[str, str]
    dbt: list[dict[str, Any]]
    spark: list[dict[str, Any]]


def section(heading: str) -> str:
    """Return a section of the page."""
    page = (ROOT / "docs" / "openlineage.md").read_text()
    return page[page.index(f"## {heading}\n") :].partition("\n## ")[0]


def commands(heading: str) -> list[str]:
    """Return the blocks of commands in a section of the page."""
    return re.findall(r"```sh\n(.*?)```", section(heading), re.DOTALL)


def run(block: str, folder: Path, environment: dict[str, str]) -> str:
    """Run commands of the page, which must succeed, and return what they printed."""
    done = subprocess.run(["bash", "-euc", block], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def events_in(file: Path) -> list[dict[str, Any]]:
    """Return the events of a file, one a line."""
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="session")
def dbt_environment() -> Path:
    """Return dbt's environment."""
    return environment_of("dbt", LOCK)


@pytest.fixture(scope="module")
def joined(as_made: Path, dbt_environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Joined:
    """Return what the examples reported when they were run as the page says."""
    if not shutil.which("java"):
        pytest.skip("no Java is installed, which Spark needs")
    folder = tmp_path_factory.mktemp("joined")
    shutil.copytree(as_made, folder / "data")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__", "target"))
    (folder / ".venv-dbt").symlink_to(dbt_environment)
    environment = {
        **os.environ,
        **store_at(folder / "data"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_SUBMIT_ARGS": "--conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=2 pyspark-shell",
        "JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1",
        "COLUMNS": "160",
    }
    install, models, mapping, ask = commands(DBT)
    assert str(LOCK.relative_to(ROOT)) in install
    job, ask_of_job = commands(SPARK)
    for block in (models, mapping, job):
        run(block, folder, environment)
    environment |= {"PYTHONPATH": str(ROOT), **dotenv_values(folder / ".env")}
    answers = {DBT: run(ask, folder, environment), SPARK: run(ask_of_job, folder, environment)}
    return Joined(folder, environment, answers, events_in(folder / "dbt.ndjson"), events_in(folder / "spark.ndjson"))


def completed(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the event by which each job ended."""
    return {event["job"]["name"]: event for event in events if event["eventType"] == "COMPLETE"}


def names(datasets: list[dict[str, Any]] | None) -> set[tuple[str, str]]:
    return {(item["namespace"], item["name"]) for item in datasets or ()}


def columns(event: dict[str, Any]) -> dict[str, set[tuple[str, str]]]:
    """Return the columns from which each column of the only output is computed, as dataset and column."""
    (output,) = event["outputs"]
    fields = output["facets"]["columnLineage"]["fields"]
    return {name: {(item["name"], item["field"]) for item in entry["inputFields"]} for name, entry in fields.items()}


def test_dbt_ol_names_things_as_the_page_says(joined: Joined) -> None:
    ended = completed(joined.dbt)

    assert {event["job"]["namespace"] for event in joined.dbt} == {"dbt"}
    daily, busiest = "reports.main.bike_reports.daily_demand", "reports.main.bike_reports.busiest_days"
    assert set(ended) == {"dbt-run-bike_reports", daily, busiest}
    predictions, rentals = "reports.bikes.demand_predictions", "reports.bikes.hourly_rentals"
    assert names(ended[daily]["inputs"]) == {(REPORTS, predictions), (REPORTS, rentals)}
    assert names(ended[daily]["outputs"]) == names(ended[busiest]["inputs"]) == {(REPORTS, "reports.main.daily_demand")}
    assert names(ended[busiest]["outputs"]) == {(REPORTS, "reports.main.busiest_days")}
    assert columns(ended[daily]) == {
        "day": {(predictions, "ts")},
        "predicted": {(predictions, "prediction")},
        "actual": {(rentals, "cnt")},
        "temp": {(rentals, "temp")},
    }
    assert columns(ended[busiest])["error"] == {
        ("reports.main.daily_demand", "predicted"),
        ("reports.main.daily_demand", "actual"),
    }
    assert {event["run"]["facets"]["parent"]["job"]["name"] for event in (ended[daily], ended[busiest])} == {
        "dbt-run-bike_reports"
    }


def test_dbt_reads_the_newest_version_of_each_month(joined: Joined) -> None:
    import duckdb
    import pyarrow.compute as pc

    months = pc.field("partition").isin(["2011-03", "2011-07"])
    table = DeltaTable(str(joined.folder / "data" / "lake" / "hourly_rentals")).to_pyarrow_dataset()
    rentals = sum(table.to_table(filter=months)["cnt"].to_pylist())
    with duckdb.connect(str(joined.folder / "examples" / "dbt" / "reports.duckdb"), read_only=True) as reports:
        found = reports.sql("select sum(actual) from daily_demand where month(day) in (3, 7)").fetchall()
        assert found == [(rentals,)]
        assert reports.sql("select count(*) from busiest_days").fetchall() == [(10,)]


def test_the_spark_job_names_the_table_as_this_project_does(joined: Joined) -> None:
    start, complete = joined.spark

    assert [problems_of(event) for event in joined.spark] == [[], []]
    assert (start["eventType"], complete["eventType"]) == ("START", "COMPLETE")
    assert names(complete["inputs"]) == {dataset_at(str(joined.folder / "data" / "lake" / "hourly_rentals"))}
    assert complete["inputs"][0]["facets"]["version"]["datasetVersion"] == "7"
    (pattern,) = complete["outputs"]
    assert pattern["outputFacets"]["outputStatistics"]["rowCount"] == 48
    assert {name: {field for _, field in used} for name, used in columns(complete).items()} == {
        "workingday": {"workingday"},
        "hr": {"hr"},
        "rentals": {"cnt"},
        "temp": {"temp"},
    }


def test_a_spark_job_that_fails_says_why(joined: Joined) -> None:
    # Given no Java where it is looked for
    environment = joined.environment | {"JAVA_HOME": "/nowhere"}
    block = commands(SPARK)[0].replace("spark.ndjson", "failed.ndjson")
    # When the job is run
    with pytest.raises(AssertionError, match="JAVA_GATEWAY_EXITED"):
        run(block, joined.folder, environment)
    # Then the run that began has failed, with the error
    start, failed = events_in(joined.folder / "failed.ndjson")
    assert (start["eventType"], failed["eventType"]) == ("START", "FAIL")
    assert start["run"]["runId"] == failed["run"]["runId"]
    assert "JAVA_GATEWAY_EXITED" in failed["run"]["facets"]["errorMessage"]["message"]
    assert problems_of(failed) == []


def things(text: str) -> list[str]:
    """Return the things of a tree, without its branches."""
    return [line.lstrip("│├└─ ") for line in text.splitlines() if line]


def bikes(joined: Joined, *arguments: str) -> str:
    """Run a command on the history, and return what it printed."""
    done = forked.run(("-m", "bikes_assets", *arguments), environment=joined.environment, folder=joined.folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_columns_of_dbt_are_downstream_of_the_raw_ones_and_upstream_leads_to_them(joined: Joined) -> None:
    answer = things(joined.answers[DBT])

    (shown,) = re.findall(r"```\n(├.*?)```", section(DBT), re.DOTALL)
    assert set(things(shown)) <= set(answer)
    assert "dbt.ndjson: 6 events stored, 0 known already" in answer
    assert {"rental_records.cnt", "rental_records.temp", "demand_model", "tag licence: CC BY 4.0"} <= set(answer)
    from_raw = things(bikes(joined, "downstream", "rental_records.temp"))
    assert f'"{REPORTS}/reports.main.busiest_days".error' in from_raw


def test_what_spark_wrote_is_downstream_of_the_table_and_upstream_leads_to_the_raw_column(joined: Joined) -> None:
    assert {"hourly_rentals.temp", "rental_records.temp"} <= set(things(joined.answers[SPARK]))
    pattern = f"file:{joined.folder}/data/hourly_pattern"
    answer = things(bikes(joined, "downstream", "hourly_rentals.temp"))
    assert f"{pattern}.temp" in answer
    assert f"{pattern}.rentals" not in answer
    assert {pattern, "job spark:hourly_pattern"} <= set(things(bikes(joined, "downstream", "hourly_rentals")))


GRAPH = """
import json
from bikes_assets.definitions import defs
specs = defs().resolve_all_asset_specs()
print(json.dumps({spec.key.to_user_string(): [d.asset_key.to_user_string() for d in spec.deps] for spec in specs}))
"""


def test_dagster_shows_the_models_of_dbt_where_the_setting_is_on(joined: Joined) -> None:
    def graph(**more: str) -> dict[str, list[str]]:
        done = forked.run(("-c", GRAPH), environment=joined.environment | more, folder=joined.folder)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    alone, shown = graph(), graph(BIKES_EXTERNAL_ASSETS="1")

    daily, busiest = (f"duckdb/reports.duckdb/reports.main.{name}" for name in ("daily_demand", "busiest_days"))
    pattern = "file" + str(joined.folder / "data" / "hourly_pattern")
    assert {name: sorted(shown[name]) for name in shown.keys() - alone.keys()} == {
        daily: ["demand_predictions", "hourly_rentals"],
        busiest: [daily],
        pattern: ["hourly_rentals"],
    }
    assert alone.items() <= shown.items()


def test_dbt_ol_sends_its_events_to_the_endpoint(joined: Joined) -> None:
    # Given the endpoint, on a port that is free
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bikes_assets", "openlineage", "serve", "--port", str(port)]
    with subprocess.Popen(
        command, env=joined.environment, cwd=joined.folder, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert str(port) in server.stdout.readline()
            wait_for(port)
            # When dbt-ol sends the events of the last run to it
            send = f"export PATH=$PWD/.venv-dbt/bin:$PATH OPENLINEAGE_URL=http://127.0.0.1:{port}; cd examples/dbt"
            told = run(
                f"{send}; BIKES_LAKE=$OLDPWD/data/lake OPENLINEAGE_NAMESPACE=sent dbt-ol send-events",
                joined.folder,
                joined.environment,
            )
        finally:
            server.terminate()
    # Then they are found as those of a file are
    assert "Emitted 6 OpenLineage events" in told
    assert "job sent:reports.main.bike_reports.daily_demand" in things(bikes(joined, "downstream", "hourly_rentals"))


def wait_for(port: int) -> None:
    """Wait until something answers at a port."""
    for _ in range(200):
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise AssertionError(f"nothing answers at port {port}")
