"""`bikes audit` on a real history: the log has exactly its facts, whoever wrote them, and none of the secrets of the settings."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from bikes_assets.app import retention
from bikes_assets.app.audit import upkeep
from bikes_assets.app.settings import settings
from bikes_assets.cli import main, runner
from bikes_assets.core.errors import LineageError
from bikes_assets.core.record import Record
from bikes_assets.governance.audit.facts import record_of
from bikes_assets.governance.audit.signing import new_key
from bikes_assets_tests.conftest import MADE, ROOT

SECRET = "hunter2-hunter2"


def bikes(*words: str) -> Result:
    return CliRunner().invoke(main, words, prog_name="bikes")


def told(*words: str) -> str:
    done = bikes(*words)
    assert done.exit_code == 0, done.output
    return done.stdout


def items(*words: str) -> list[dict[str, Any]]:
    document = json.loads(bikes(*words, "--json").stdout)
    assert (document["command"], document["version"]) == (" ".join(words[:2]), 1)
    return document["items"]


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of a key that signs from now on."""
    file = tmp_path / "key.pem"
    told("audit", "init", str(file))
    monkeypatch.setenv("BIKES_AUDIT_KEY_FILE", str(file))
    settings.cache_clear()
    return file


def test_a_run_leaves_a_log_of_exactly_what_it_published(copied: Path) -> None:
    entries = items("audit", "show")
    assert [entry["number"] for entry in entries] == [*range(1, len(entries) + 1)]
    assert Counter(entry["kind"] for entry in entries) == {"settings": 1, "materialization": 29, "promotion": 5}
    assert entries[0]["kind"] == "settings"  # before anything was published with them
    events = _events()
    logged = {entry["subjects"][0]: entry for entry in entries[1:]}
    assert logged.keys() == events.keys()
    for address, record in events.items():
        entry = logged[address]
        assert entry["digests"]["digest"] == record["output"]["digest"]
        assert (entry["who"], entry["deployment"]) == (record["made_by"]["user"], record["made_by"]["deployment"])
        assert entry["run"] == record["made_by"]["dagster_run_id"]
        assert entry["git_commit"] == record["environment"]["git_commit"]
    champion = logged["champion_model[2011-07]@5"]
    assert champion["subjects"][1] in events
    assert champion["reason"].startswith("lowest error of ")
    # The copy is in another place, which its settings name
    first, *others = told("audit", "verify").splitlines()
    assert first == "appended, for they were missing: 1 entry"
    assert others[0] == f"whole: {len(entries) + 1} entries, each as the record in the store says"
    assert others[1].startswith("not signed: ")


def _events() -> dict[str, Any]:
    """Return the record on each materialization's event, by address, as Dagster has it."""
    with runner.opened() as instance:
        found = [
            item.asset_materialization.metadata["lineage"].value
            for asset in MADE
            for item in instance.fetch_materializations(dg.AssetKey(asset), limit=500).records
        ]
    return {Record.from_dict(record).output.address: record for record in found}


def test_decisions_are_entries_with_their_reasons(copied: Path, key: Path) -> None:
    before = len(items("audit", "show"))
    told("pin", "demand_model[2011-06]", "--month", "2011-07", "--reason", "it was reviewed")
    told("unpin", "--month", "2011-07", "--reason", "it is over")
    told("hold", "demand_model@champion", "--reason", "an audit")
    told("release", "demand_model@champion", "--reason", "the audit is over")
    told("retain", "--days", "1", "--apply")
    entries = items("audit", "show")[before:]
    assert [entry["kind"] for entry in entries] == ["settings", "pin", "lift", "hold", "release"]
    reasons = [entry["reason"] for entry in entries]
    assert reasons == ["", "it was reviewed", "it is over", "an audit", "the audit is over"]
    assert entries[1]["subjects"] == ["champion_pins[2011-07]@1", "demand_model[2011-06]@4"]
    assert entries[2]["subjects"] == ["champion_pins[2011-07]@2"]
    assert "demand_model@champion" in entries[3]["subjects"]
    assert {entry["who"] for entry in entries} == {entries[0]["who"]}
    (result,) = items("audit", "verify")
    assert (result["is_whole"], result["signed"], result["findings"]) == (True, before + 5, [])
    # And of one version, its own
    assert [entry["kind"] for entry in items("audit", "show", "demand_model[2011-06]@4")][-1] == "pin"
    assert {entry["kind"] for entry in items("audit", "show", "champion_pins")} == {"pin", "lift"}
    assert (bikes("audit", "show", "nonesuch").exit_code, bikes("audit", "show", "a.b").exit_code) == (1, 2)


def test_what_was_published_before_there_was_a_log_gets_its_entries_by_sync(copied: Path) -> None:
    before = items("audit", "show")
    shutil.rmtree(copied / "audit")
    assert items("audit", "show") == []
    told("sync")
    again = items("audit", "show")
    order = sorted(entry["record"] for entry in before)
    assert sorted(entry["record"] for entry in again) == order
    retention.hold("demand_model@champion", "by a notebook")  # which writes no entry itself
    (result,) = items("audit", "verify")
    assert (result["is_whole"], result["appended"], result["entries"]) == (True, 1, len(before) + 1)


def test_a_tick_of_the_daemon_logs_what_dagster_launched(copied: Path) -> None:
    from bikes_assets.defs.sensors import mlflow_sync

    before = [entry["record"] for entry in items("audit", "show")]
    shutil.rmtree(copied / "audit")
    with runner.opened() as instance:
        for _ in range(2):
            mlflow_sync(dg.build_sensor_context(instance=instance))
            assert sorted(entry["record"] for entry in items("audit", "show")) == sorted(before)
        # And says so where it cannot
        (copied / "audit" / "log.ndjson").write_bytes(b"")
        told = mlflow_sync(dg.build_sensor_context(instance=instance)).skip_message
    assert "the audit log was not brought up to date" in str(told)


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Set every setting that holds a secret, or may hold one in a URL or a query, and return the secrets."""
    pem = new_key().decode()
    variables = {
        "BIKES_AUDIT_PRIVATE_KEY": pem.replace("\n", "\\n"),
        "BIKES_LINEAGE_TOKEN": SECRET,
        "BIKES_OPENLINEAGE_API_KEY": SECRET,
        "BIKES_ALERT": f"https://hooks.example/{SECRET}",
        "BIKES_SOURCE": f"postgresql://reader:{SECRET}@db.example/rentals?sslpassword={SECRET}",
        "BIKES_SOURCE_QUERY": f"select * from remote('password={SECRET}')",
        "BIKES_OPENLINEAGE_DATASETS": json.dumps({f"postgres://u:{SECRET}@db.example rentals": "demand_features"}),
        "BIKES_MODEL": json.dumps({"note": f"https://u:{SECRET}@example.org/"}),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    return SECRET, pem.splitlines()[1]


def test_settings_are_shown_without_secrets(secrets: tuple[str, str]) -> None:
    shown = upkeep.settings_shown()
    assert not [name for name, value in shown.items() if any(secret in value for secret in secrets)]
    assert {shown[name] for name in ("audit_private_key", "lineage_token", "openlineage_api_key", "alert")} == {"set"}
    assert shown["source"] == "postgresql://***@db.example/rentals?***"
    # And a message that repeats a line of the key does not show it
    assert secrets[1] not in str(LineageError(f"found {secrets[1]}"))


def test_a_secret_of_the_settings_is_in_no_file_of_the_log_and_in_no_export(
    copied: Path, tmp_path: Path, secrets: tuple[str, str]
) -> None:
    assert upkeep.bring_up_to_date() == 1
    shown = told("audit", "export", str(tmp_path / "export")) + told("audit", "show") + told("audit", "show", "--json")
    files = [path for folder in (copied / "audit", tmp_path / "export") for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 8
    for text in (shown, *(path.read_text(errors="replace") for path in files)):
        assert not [secret for secret in secrets if secret in text]
    (result,) = items("audit", "verify")
    assert result["signed"] == result["entries"]


def test_a_change_of_settings_is_one_entry(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIKES_TICK_SECONDS", "77")
    settings.cache_clear()
    assert [upkeep.bring_up_to_date() for _ in range(2)] == [1, 0]
    monkeypatch.setenv("BIKES_DAGSTER_URL", "http://127.0.0.1:3333")  # as `bikes ui` sets it
    settings.cache_clear()
    assert upkeep.bring_up_to_date() == 0
    assert "tick_seconds=77" in told("audit", "show")


def test_what_differs_from_the_store_is_exit_code_1_and_a_cut_log_is_not_appended_to(
    copied: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")  # a finding is a line
    told("sync")
    record = copied / "lake" / record_of("demand_features", 3)
    content = record.read_bytes()
    record.write_bytes(content.replace(b'"user\\": \\"', b'"user\\": \\"not '))
    done = bikes("audit", "verify")
    assert (done.exit_code, done.stdout.count("\n")) == (1, 2)
    assert re.match(
        r"record: entry \d+ \(materialization of demand_features\[2011-03\]@3\): its record .* was changed", done.stdout
    )
    record.write_bytes(content)
    assert bikes("audit", "verify").exit_code == 0
    log = copied / "audit" / "log.ndjson"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-4]))
    done = bikes("audit", "verify")
    assert (done.exit_code, "cut: entries" in done.stdout) == (1, True)
    # What is written meanwhile stands, and it is said that it has no entry
    done = bikes("hold", "demand_model@champion", "--reason", "an audit")
    assert (done.exit_code, done.stdout.startswith("held: ")) == (0, True)
    assert "the audit log was not brought up to date" in done.stderr
    assert bikes("sync").exit_code == 2
    assert log.read_bytes() == b"".join(lines[:-4])


def test_an_export_is_verified_without_store_and_settings(copied: Path, key: Path, tmp_path: Path) -> None:
    folder, public = tmp_path / "export", key.with_name("key.public.pem")
    assert ", signed by the key " in told("audit", "export", str(folder))
    nowhere = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "BIKES_ENGINE": "abacus"}
    program = (
        "import atexit, sys\n"
        "heavy = {'mlflow', 'sklearn', 'dagster', 'deltalake', 'pandas', 'pyarrow'}\n"
        "atexit.register(lambda: print(sorted(heavy & {*sys.modules}), file=sys.stderr))\n"
        "from bikes_assets.cli import main; main(prog_name='bikes')"
    )

    def verify(*words: str) -> tuple[int, str, str]:
        command = [sys.executable, "-c", program, "audit", "verify", str(folder), *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", env=nowhere)
        return done.returncode, done.stdout, done.stderr.splitlines()[-1]

    code, out, heavy = verify("--public-key", str(public))
    assert (code, heavy) == (0, "[]"), out
    assert out.startswith("whole: 36 entries\nsigned: up to entry 36, by the key ")
    assert verify()[1].endswith("name the one that you were given by --public-key\n")
    log = folder / "log.ndjson"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([*lines[:9], *lines[10:]]))
    assert verify()[:2] == (1, "removed: entry 10 was removed: found number 11 after 9\nup to there: 9 entries\n")
    code, out, _ = verify("--head", str(log))
    assert (code, out) == (2, "")


def test_a_key_is_for_this_user_alone_and_never_replaced(tmp_path: Path) -> None:
    file = tmp_path / "new" / "key.pem"
    said = told("audit", "init", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert f"BIKES_AUDIT_KEY_FILE={file}" in said
    private, public = file.read_bytes(), file.with_name("key.public.pem").read_bytes()
    assert private.splitlines()[1].decode() not in said
    done = bikes("audit", "init", str(file))
    assert (done.exit_code, "found a file there, expected none" in done.stderr) == (2, True)
    file.unlink()
    assert bikes("audit", "init", str(file)).exit_code == 2  # the public key is there
    assert (not file.exists(), file.with_name("key.public.pem").read_bytes()) == (True, public)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"BIKES_AUDIT_KEY_FILE": "/nonexistent/key.pem"}, "BIKES_AUDIT_KEY_FILE: /nonexistent/key.pem: No such file"),
        ({"BIKES_AUDIT_KEY_FILE": "/dev/null"}, "BIKES_AUDIT_KEY_FILE: /dev/null: found no such key"),
        ({"BIKES_AUDIT_PRIVATE_KEY": SECRET}, "BIKES_AUDIT_PRIVATE_KEY: found no such key"),
        ({"BIKES_AUDIT_PRIVATE_KEY": SECRET, "BIKES_AUDIT_KEY_FILE": "/dev/null"}, "found both"),
    ],
)
def test_a_key_that_cannot_be_used_is_an_error_that_shows_nothing_of_it(
    copied: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    done = bikes("audit", "verify")
    assert (done.exit_code, done.stdout, SECRET in done.stderr) == (2, "", False)
    assert expected in done.stderr


def test_entries_fit_80_columns_and_control_no_terminal(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    told("hold", "demand_model@champion", "--reason", "a \x1b[31mred\u202e reason " + "that is long " * 20)
    shown = told("audit", "show")
    assert max(map(len, shown.splitlines())) <= 80
    assert "\\x1b[31mred\\u202e" in shown
    assert "\x1b" not in shown
