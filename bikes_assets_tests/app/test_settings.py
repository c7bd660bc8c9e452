"""Settings: each has a default; the environment counts before .env, and what is empty does not count."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import urllib.request
from urllib.parse import urlsplit

import pytest
from dagster._utils.schedules import is_valid_cron_schedule
from hypothesis import given
from hypothesis import strategies as st

from bikes_assets.app import settings as module
from bikes_assets.app.env_file import write_home
from bikes_assets.core import secrets
from bikes_assets.core.errors import SettingsError
from bikes_assets.orchestration import cron
from bikes_assets.orchestration.alerts import is_webhook
from bikes_assets.orchestration.project import Project
from bikes_assets.storage.lake import Lake

read = module.settings.__wrapped__


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """Have no settings, and a project's root without .env."""
    for name in (*os.environ,):
        if name.startswith(("BIKES_", "MLFLOW_", "DAGSTER_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


def events(known):
    """Return where a project with these settings has Dagster's events."""
    lake, storage = Lake(known.lake_location, {}, known.data_folder), known.dagster_storage.get_secret_value()
    return Project("mine", "mine:defs", lake, known.data_folder, home=known.dagster_home, storage=storage).events


def test_each_has_a_default(bare):
    known = read()
    assert known.source_location == str(bare / "data" / "raw" / "hour.csv")
    assert known.lake_location == str(bare / "data" / "lake")
    assert known.tracking_uri == f"sqlite:///{bare}/data/mlflow/mlflow.db"
    assert (known.dagster_home, events(known)) == (bare / "data" / "dagster", str(bare / "data" / "dagster"))
    assert (known.model, known.triggers, known.engine) == ({}, False, "pandas")


def test_the_environment_counts_before_the_file_and_what_is_empty_does_not(bare, monkeypatch):
    (bare / ".env").write_text("BIKES_ENGINE=duckdb\nBIKES_TICK_SECONDS=7\nDAGSTER_HOME=/there\nSOMETHING_ELSE=1\n")
    monkeypatch.setenv("BIKES_TICK_SECONDS", "9")
    monkeypatch.setenv("BIKES_ENGINE", "")
    monkeypatch.setenv("BIKES_LAKE", "")
    monkeypatch.setenv("BIKES_MODEL", '{"seed": 3}')
    monkeypatch.setenv("BIKES_TRIGGERS", "true")
    known = read()
    assert (known.engine, known.tick_seconds, known.home, known.lake) == ("duckdb", 9, "/there", "")
    assert (known.model, known.triggers) == ({"seed": 3}, True)


def test_the_tracking_store_may_be_named_as_mlflow_names_it(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there")
    assert read().tracking_uri == "http://there"
    monkeypatch.setenv("BIKES_MLFLOW_TRACKING_URI", "http://here")
    assert read().tracking_uri == "http://here"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BIKES_FIRST_MONTH", "2012-13"),
        ("BIKES_ENGINE", "abacus"),
        ("BIKES_MODEL", "{seed}"),
        ("BIKES_TICK_SECONDS", "0"),
    ],
)
def test_what_makes_no_sense_is_named(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name}: found '{value}', expected another: "):
        read()


def test_a_secret_is_not_shown(monkeypatch):
    monkeypatch.setenv("BIKES_DAGSTER_STORAGE", "postgresql://user:hidden@host/name")
    assert "hidden" not in repr(read())
    assert events(read()) == "postgresql://user:hidden@host/name"


def test_the_environments_data_folder_is_a_whole_store(bare, monkeypatch):
    (bare / ".env").write_text(
        "BIKES_DATA=/kept\nBIKES_LAKE=s3://kept/lake\nBIKES_MLFLOW_TRACKING_URI=http://kept\nDAGSTER_HOME=/kept/home\n"
        "BIKES_DAGSTER_STORAGE=postgresql://kept/db\nBIKES_ENGINE=duckdb\n"
    )
    assert read().lake_location == "s3://kept/lake"
    monkeypatch.setenv("BIKES_DATA", "/given")
    known = read()
    assert (known.lake_location, events(known)) == ("/given/lake", "/given/dagster")
    assert known.tracking_uri == "sqlite:////given/mlflow/mlflow.db"
    assert known.engine == "duckdb"  # says nothing of places
    # what the environment says beside it counts
    monkeypatch.setenv("DAGSTER_HOME", "/given/home")
    assert events(read()) == "/given/home"


def test_the_environments_server_counts_before_that_of_the_file_by_either_name(bare, monkeypatch):
    (bare / ".env").write_text("BIKES_MLFLOW_TRACKING_URI=http://kept\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://given")
    assert read().tracking_uri == "http://given"


def test_what_was_written_for_dagster_is_no_setting(bare, monkeypatch):
    write_home(bare / ".env", "/where/it/was/data/dagster")
    assert read().dagster_home == bare / "data" / "dagster"
    # where Dagster has read it from there, it would work on another store's event log
    monkeypatch.setenv("DAGSTER_HOME", "/where/it/was/data/dagster")
    with pytest.raises(
        SettingsError, match=rf"found /where/it/was/data/dagster, .* expected {bare}/data/dagster, .* bikes setup"
    ):
        read()
    write_home(bare / ".env", f"{bare}/data/dagster")
    monkeypatch.setenv("DAGSTER_HOME", f"{bare}/data/dagster")
    assert read().dagster_home == bare / "data" / "dagster"
    monkeypatch.setenv("BIKES_DATA", "/other")
    with pytest.raises(SettingsError, match="expected /other/dagster, the home of the store in /other"):
        read()


@pytest.mark.parametrize(("given", "place"), [("~/x", "/home/me/x"), ("rel/x", "{root}/rel/x"), ("/abs/x", "/abs/x")])
def test_every_path_is_of_the_root_or_of_the_home(bare, monkeypatch, given, place):
    monkeypatch.setenv("HOME", "/home/me")
    place = place.format(root=bare)
    for name, found in (
        ("BIKES_DATA", lambda known: str(known.data_folder)),
        ("BIKES_LAKE", lambda known: known.lake_location),
        ("BIKES_SOURCE", lambda known: known.source_location),
        ("DAGSTER_HOME", lambda known: str(known.dagster_home)),
    ):
        monkeypatch.setenv(name, given)
        assert found(read()) == place, name
    for name in ("BIKES_MLFLOW_TRACKING_URI", "BIKES_SOURCE"):
        monkeypatch.setenv(name, f"sqlite:///{given}?timeout=5")
    assert (read().tracking_uri, read().source_location) == (f"sqlite:///{place}?timeout=5",) * 2


def test_a_home_that_nobody_knows_is_named(monkeypatch):
    monkeypatch.setenv("BIKES_DATA", "~nobody-of-that-name/x")
    with pytest.raises(
        SettingsError, match=r"^BIKES_DATA: found '~nobody-of-that-name/x', and no such user's home folder"
    ):
        read()


def test_all_that_makes_no_sense_is_told_at_once_a_line_each(bare, monkeypatch):
    (bare / "file").touch()
    wrong = {
        "BIKES_DATA": "file",
        "BIKES_LAKE": "nowhere://bucket/lake",
        "BIKES_MLFLOW_TRACKING_URI": "file:///mlruns",
        "DAGSTER_HOME": str(bare / "file"),
        "BIKES_DAGSTER_STORAGE": "mysql://bikes:s3cr3t-pw@host/db",
        "BIKES_FIRST_MONTH": "0000-01",
        "BIKES_SCHEDULE": "0 25 * * *",
        "BIKES_REPRODUCTION": "weekly",
        "BIKES_TRIGGERS": "maybe",
        "BIKES_EXPERIMENT": " ",
        "BIKES_DAGSTER_URL": "localhost:3000",
        "BIKES_MLFLOW_URL": "https://alice:s3cr3t-pw@",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        read()
    lines = str(caught.value).splitlines()
    assert {line.partition(":")[0] for line in lines} == {*wrong}
    assert len(lines) == len(wrong)
    assert all("expected" in line for line in lines)
    assert "s3cr3t-pw" not in str(caught.value)


def test_months_out_of_order_are_named(monkeypatch):
    monkeypatch.setenv("BIKES_FIRST_MONTH", "2012-02")
    monkeypatch.setenv("BIKES_LAST_MONTH", "2012-01")
    with pytest.raises(
        SettingsError, match=r"^BIKES_FIRST_MONTH: found 2012-02, expected one up to BIKES_LAST_MONTH, 2012-01$"
    ):
        read()


@pytest.mark.parametrize(
    ("name", "path", "refused"),
    [
        ("BIKES_DATA", "/a\\b", "'\\\\\\\\', which Delta Lake"),
        ("BIKES_DATA", "/a\nb", "'\\\\n', which Delta Lake"),
        ("BIKES_LAKE", "/a[b]", "'\\[', which Delta Lake"),
        ("BIKES_LAKE", "/a%20b", "'%20', which Delta Lake"),
        ("BIKES_DATA", "/a?b", "'\\?', which the URL of a SQLite file"),
        ("DAGSTER_HOME", "/a%41b", "'%41', which the URL of a SQLite file"),
        ("BIKES_MLFLOW_TRACKING_URI", "sqlite:////a%41b/mlflow.db", "'%41', which the URL of a SQLite file"),
    ],
)
def test_a_path_that_a_store_cannot_hold_is_named(monkeypatch, name, path, refused):
    monkeypatch.setenv(name, path)
    with pytest.raises(SettingsError, match=f"^{name}: found .*, expected a path without {refused} cannot hold"):
        read()
    if name in ("BIKES_DATA", "DAGSTER_HOME"):  # which is no matter where the part lies elsewhere
        monkeypatch.setenv("BIKES_LAKE", "s3://bucket/lake")
        monkeypatch.setenv("BIKES_DAGSTER_STORAGE", "postgresql://host/db")
        monkeypatch.setenv("BIKES_MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
        read()


def test_what_delta_lake_cannot_hold_is_so(tmp_path):
    program = """
import sys, pathlib, pyarrow, deltalake
for name in eval(sys.argv[2]):
    place = pathlib.Path(sys.argv[1], name, "table")
    place.parent.mkdir(parents=True)
    try:
        deltalake.write_deltalake(str(place), pyarrow.table({"x": [1]}))
        deltalake.DeltaTable(str(place)).to_pyarrow_table()
        print(name if (place / "_delta_log").exists() else "")
    except BaseException:
        pass
"""
    names = [f"a{chr(code)}b" for code in range(1, 128) if chr(code) not in "/\n"] + ["a%41b", "100%", "ü", " a "]
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path, repr(names)], capture_output=True, text=True, env=os.environ
    )
    refused, _ = module._NOT_IN_DELTA
    assert done.stdout.split("\n")[:-1] == [name for name in names if not refused.search(name)]


def test_links_hold_no_password(monkeypatch):
    monkeypatch.setenv("BIKES_DAGSTER_URL", "https://alice:s3cr3t-pw@dagster.example/")
    assert read().dagster_url == "https://dagster.example"


@pytest.mark.parametrize("text", ["0 6 * * *", "*/15 0-6 1,15 JAN-mar mon", "0 0 L * ?", "5/10 * * * 1#2", "@daily"])
def test_cron_expressions_that_dagster_knows_are_known(text):
    assert is_valid_cron_schedule(text)
    assert cron.checked(text) == text


@pytest.mark.parametrize(
    "text", ["", "@never", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "jan * * * *", "*/0 * * * *"]
)
def test_cron_expressions_that_dagster_refuses_are_refused(text):
    assert not is_valid_cron_schedule(text)
    with pytest.raises(ValueError, match="expected a cron expression"):
        cron.checked(text)


@pytest.mark.parametrize(
    "target",
    [
        "ftp://host/S3CR3T",
        "https:///S3CR3T",
        "notify 'S3CR3T",
        "https://[S3CR3T",
        "https://host:port/S3CR3T",
        "https://host:65536/S3CR3T",
        "https://host:0/S3CR3T",
        "https://host/S3CR3T token",
        " https://host/S3CR3T",
        "https://host/S3CR3T\n",
        "https://ho\tst/S3CR3T",
        "https://host/S3CR3T\x7f",
        "https://host/S3CR3T\u00e9",
        "https://user:S3CR3T@host/x",
        "https://S3CR3T@host/x",
        "https://ho%20st/S3CR3T",
        " ",
    ],
)
def test_an_alert_that_cannot_be_sent_is_refused_without_its_secret(bare, monkeypatch, target):
    monkeypatch.setenv("BIKES_ALERT", target)
    with pytest.raises(
        SettingsError, match=r"^BIKES_ALERT: found .*, expected an http\(s\) URL, or a command"
    ) as error:
        read()
    assert "S3CR3T" not in str(error.value)


@pytest.mark.parametrize(
    "target",
    ["https://hooks.example.com/T0/S3CR3T", "HTTPS://[::1]:443/S3CR3T?x=@", "mail -s 'it failed' ann@example.com", ""],
)
def test_an_alert_is_a_webhook_or_a_command_and_is_not_shown(bare, monkeypatch, target):
    monkeypatch.setenv("BIKES_ALERT", target)
    assert read().alert.get_secret_value() == target
    assert "S3CR3T" not in repr(read())


PIECES = st.lists(
    st.sampled_from([*"/:@?#[]% \t\x00\u00e9a.-0", "host", "127.0.0.1", "[::1]", ":80", ":99999", "%41", "//"]),
    max_size=8,
)


@given(scheme=st.sampled_from(["http://", "HTTPS://", "ftp://", "http:/", ""]), pieces=PIECES)
def test_a_webhook_that_is_taken_is_one_to_which_a_request_can_be_made(scheme, pieces):
    url = scheme + "".join(pieces)
    if not re.match(r"\s*\w+://", url) or module._wrong_webhook(url):
        return
    assert is_webhook(url)
    request = urllib.request.Request(url, b"{}")
    connection = http.client.HTTPConnection(str(request.host))
    connection.putrequest("POST", request.selector)  # nothing is sent yet
    assert 0 < connection.port < 65536
    assert connection.host.strip("[]") == urlsplit(url).hostname


def test_the_path_of_a_webhook_is_a_secret_once_it_is_set(bare, monkeypatch):
    monkeypatch.setattr(secrets, "_learned", {})
    monkeypatch.setenv("BIKES_ALERT", "https://hooks.example.com/T0/S3CR3TPATH")
    read()
    assert secrets.scrubbed("found https://hooks.example.com/T0/S3CR3TPATH") == "found https://hooks.example.com/***"
    secrets._pattern.cache_clear()


@pytest.mark.parametrize("name", ["BIKES_REPRODUCTION", "BIKES_PROOF"])
def test_a_setting_is_read_by_its_earlier_name(name, bare, monkeypatch):
    monkeypatch.setenv(name, "30 2 * * 1")
    assert read().reproduction == "30 2 * * 1"


def test_the_current_name_of_a_setting_counts_before_its_earlier_one(bare, monkeypatch):
    monkeypatch.setenv("BIKES_PROOF", "30 2 * * 1")
    monkeypatch.setenv("BIKES_REPRODUCTION", "0 5 * * 2")
    assert read().reproduction == "0 5 * * 2"
