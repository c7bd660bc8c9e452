"""The lake on S3, Dagster on PostgreSQL: what is made there is what is made here, and is mended in the same way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from bikes_assets.app import answers
from bikes_assets.lineage.event_log import newest_event
from bikes_assets_tests import forked
from bikes_assets_tests.elsewhere.servers import PASSWORD, create_database
from bikes_assets_tests.elsewhere.told import bikes

ROOT = Path(__file__).parents[2]
MONTHS = ("2011-01", "2011-02", "2011-03")
SOAK = os.environ.get("BIKES_SOAK") == "1"


def surroundings(place: str, request: Any) -> dict[str, str]:
    """Return the variables that put the lake, or Dagster, elsewhere."""
    found: dict[str, str] = {}
    if "s3" in place:
        found |= request.getfixturevalue("s3_environment") | {"BIKES_LAKE": f"s3://bikes/{place.replace(' ', '-')}"}
    if "postgres" in place:
        found["BIKES_DAGSTER_STORAGE"] = create_database(
            request.getfixturevalue("postgres_server"), f"dagster_{place.replace(' ', '_')}"
        )
    return found


@pytest.fixture(scope="module", params=["s3", "postgres"])
def told(request: Any, tmp_path_factory: Any) -> dict[str, Any]:
    """Return what a process tells of three months in another place, and where it was."""
    folder = tmp_path_factory.mktemp(request.param)
    environment = os.environ | surroundings(request.param, request)
    environment |= {
        "BIKES_DATA": str(folder),
        "DAGSTER_HOME": str(folder / "dagster"),
        "BIKES_MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow/mlflow.db",
        "BIKES_FIRST_MONTH": MONTHS[0],
        "BIKES_LAST_MONTH": MONTHS[-1],
    }
    done = forked.run(("-m", "bikes_assets_tests.elsewhere.story"), environment=environment, folder=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    printed = done.stdout + done.stderr
    return said | {"place": request.param, "folder": folder, "printed": printed, "environment": environment}


def test_every_asset_is_made(told):
    assert told["failed"] == {}
    assert told["partitions"] == {
        "hourly_rentals": 3,
        "demand_features": 3,
        "demand_model": 1,
        "champion_model": 1,
        "demand_predictions": 1,
        "prediction_quality": 1,
    }


def test_records_and_tables_lie_where_the_settings_say(told):
    here = (told["folder"] / "lake").exists(), (told["folder"] / "dagster" / "event_log.db").exists()
    expected = {"s3": (False, True), "postgres": (True, False)}

    assert here == expected[told["place"]]
    assert (told["storage"][0] == "PostgresEventLogStorage") == (told["place"] == "postgres")


def test_the_digests_are_those_of_a_local_lake(told, history):
    local = {asset: history.lake.table(asset).published() for asset in told["digests"] if asset != "champion_pins"}

    assert told["digests"].pop("champion_pins") == {}
    assert told["digests"] == {
        asset: {month: commit.digest for month, commit in commits.items() if month in MONTHS}
        for asset, commits in local.items()
    }


def test_each_record_is_exact(told):
    assert told["events"] == 10
    assert told["inexact"] == []


def test_questions_have_the_answers_of_a_local_store(told, history):
    assert told["upstream"] == {
        address: [item.name for item in answers.upstream(address).things] for address in told["upstream"]
    }
    assert told["rebuilt"]


def test_an_event_that_shows_later_than_a_newer_one_is_waited_for(postgres_server):
    engine = sa.create_engine(create_database(postgres_server, "late_event"))
    storage = engine.url.render_as_string(hide_password=False)
    with engine.begin() as made:
        made.execute(sa.text("create table event_logs (id serial primary key)"))
        made.execute(sa.text("create table daemon_heartbeats (id integer)"))
    write = sa.text("insert into event_logs default values")
    with ThreadPoolExecutor() as pool, engine.connect() as early:
        early.execute(write)
        with engine.begin() as later:
            later.execute(write)
        newest = pool.submit(newest_event, storage)
        assert wait([newest], timeout=0.5).not_done  # the first event cannot be seen yet
        early.commit()
        assert newest.result(timeout=10) == 2
    engine.dispose()


def test_who_is_overtaken_is_told_by_whom(told):
    assert told["conflict"].startswith("prediction_quality[2011-03]: run ")
    assert "published version 1 while this one was at work from version 0" in told["conflict"]


def test_a_lost_event_is_mended_once(told):
    nothing = {key: [] for key in ("done", "left", "refused", "foreign", "set_aside")}
    assert told["first sync"] == nothing
    mended = "prediction_quality[2011-03]@2: was committed, and is now in the event log"
    assert told["second sync"] == nothing | {"done": [mended]}
    assert told["third sync"] == nothing


def test_an_old_version_stays_readable(told):
    assert told["pinned"] == [1, 2]


def test_the_model_file_is_named_by_its_sha256(told):
    ((sha256, size),) = told["models"].items()

    assert len(sha256) == 64
    assert size > 1000


def test_the_deployment_is_told(told):
    assert told["deployments"] == [["promoted", "demand_model[2011-03]@1", "2011-03"]]


def test_the_lake_of_another_store_is_refused(told, tmp_path):
    elsewhere = {
        "s3": {"BIKES_LAKE": "s3://bikes/another"},
        "postgres": {"BIKES_DATA": str(tmp_path), "DAGSTER_HOME": str(tmp_path / "dagster")},
    }[told["place"]]
    done = bikes(told["environment"] | elsewhere, "status")
    assert done.returncode == 2
    lakes = (
        ("s3://bikes/s3", "s3://bikes/another")
        if told["place"] == "s3"
        else (f"{told['folder']}/lake", f"{tmp_path}/lake")
    )
    assert "found the event log of the lake {}, expected that of the lake {}".format(*lakes) in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_no_secret_is_written_down_or_told(told):
    secrets = [PASSWORD, quote(PASSWORD, safe=""), "key-that-stands-nowhere"]
    files = [path for path in told["folder"].rglob("*") if path.is_file()]
    texts = {"what was printed": told["printed"].encode(), **{str(path): path.read_bytes() for path in files}}

    assert len(files) > 10
    assert found_in(texts.items(), secrets) == []


def found_in(texts: Iterable[tuple[str, bytes]], secrets: list[str]) -> list[str]:
    return [name for name, text in texts if any(secret.encode() in text for secret in secrets)]


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="three months are told above; BIKES_SOAK=1 runs the tests of a history elsewhere")
@pytest.mark.parametrize("place", ["s3", "postgres", "s3 and postgres"])
def test_the_tests_of_a_history_pass_elsewhere(place, request, tmp_path):
    modules = ["test_record.py", "orchestration/test_reconcile.py", "governance/test_deployments.py"]
    environment = {key: value for key, value in os.environ.items() if key != "BIKES_SOAK"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *(f"bikes_assets_tests/{name}" for name in modules)],
        env=environment | surroundings(place + " soak", request),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1800,
    )

    assert done.returncode == 0, done.stdout[-3000:]
    assert "skipped" not in done.stdout.splitlines()[-1]
