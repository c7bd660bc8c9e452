"""`bikes openlineage send` and `status`, over a whole small history and real receivers on 127.0.0.1."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bikes_assets.cli import main
from bikes_assets_tests.lineage.openlineage.receiver import Receiver, key_of, receiver


def bikes(*words: str) -> Result:
    return CliRunner().invoke(main, ["openlineage", *words], prog_name="bikes")


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("OPENLINEAGE")]:
        monkeypatch.delenv(name)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiver() as made:
        monkeypatch.setenv("OPENLINEAGE_URL", made.url.replace("://", "://me:secretpassword@"))
        monkeypatch.setenv("OPENLINEAGE_API_KEY", "k3yk3yk3yk3y")
        yield made


def keys(done: Result) -> set[tuple[str, str]]:
    return {key_of(json.loads(line)) for line in done.stdout.splitlines()}


def test_a_history_is_sent_to_the_url_of_the_environment(copied: Path, server: Receiver) -> None:
    exported = keys(bikes("export", "-"))
    name = f"http {server.url}/api/v1/lineage"
    # Given that it is down
    server.set("503")
    done = bikes("send")
    assert (done.exit_code, done.stdout) == (1, f"{name}: 0 events sent, then answered 503 On fire\n")
    # Then the status says how far it is, in lines that fit a terminal, and shows no secret
    done = bikes("status")
    lines = done.stdout.splitlines()
    assert (done.exit_code, lines[0], lines[2]) == (1, name, "  last success  none")
    assert lines[1].startswith(f"  behind        {len(exported)} events, the oldest of 20")
    assert lines[3].startswith("  last error    20")
    assert ": answered 503 On fire; the daemon asks again from " in " ".join(done.stdout.split())
    (item,) = json.loads(bikes("status", "--json").stdout)["items"]
    assert (item["receiver"], item["behind"], item["error"]) == (name, len(exported), "answered 503 On fire")
    # And when it is up it gets everything, once
    server.set("fine")
    done = bikes("send")
    assert (done.exit_code, done.stdout) == (0, f"{name}: {len(exported)} events sent\n")
    assert (server.keys, set(server.counts.values())) == (exported, {1})
    assert server.headers[0]["Authorization"].startswith("Basic ")
    done = bikes("status")
    assert (done.exit_code, done.stdout.splitlines()[1:2]) == (0, ["  behind        0 events"])
    assert len(done.stdout.splitlines()) == 3
    assert bikes("send").stdout == f"{name}: 0 events sent\n"
    # And no secret is stored
    stored = b"".join(file.read_bytes() for file in copied.glob("openlineage_sent.db*"))
    assert not [word for word in (b"secretpassword", b"k3yk3yk3y") if word in stored]


def test_without_a_receiver_it_says_how_to_configure_one(copied: Path) -> None:
    done = bikes("send")
    assert done.exit_code == 2
    assert "found no receiver, expected one; set OPENLINEAGE_URL, or OPENLINEAGE_CONFIG" in done.stderr
    done = bikes("status")
    assert (done.exit_code, done.stdout.startswith("No receiver is configured: set OPENLINEAGE_URL")) == (1, True)
    assert json.loads(bikes("status", "--json").stdout) == {"command": "openlineage status", "version": 1, "items": []}
    assert not (copied / "openlineage_sent.db").exists()


def test_a_second_sender_says_that_another_is_at_it(copied: Path, server: Receiver) -> None:
    from bikes_assets.app.outgoing.sending import sender, tick

    with sender():
        done = bikes("send")
        assert (done.exit_code, "found another process that sends" in done.stderr) == (2, True)
        assert "found another process that sends" in tick()
        # And whoever looks need not wait
        assert bikes("status").exit_code == 1


@pytest.mark.slow
def test_follow_goes_on_until_it_is_interrupted(copied: Path, server: Receiver) -> None:
    server.set("500")
    program = "from bikes_assets.cli import main; main(prog_name='bikes')"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "openlineage", "send", "--follow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout
        assert "0 events sent, then answered 500" in process.stdout.readline()
        server.set("fine")
        # Then it asks again by itself, a quarter of a minute after the first failure
        line = process.stdout.readline()
        assert line.endswith(" events sent\n")
        assert server.keys == keys(bikes("export", "-"))
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.startswith("Interrupted")) == (130, True)


def test_a_receiver_that_takes_long_holds_up_no_other(
    copied: Path, server: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bikes_assets.app.outgoing.sending import sender

    with receiver() as other:
        for name, url in (("A", server.url), ("B", other.url)):
            monkeypatch.setenv(f"OPENLINEAGE__TRANSPORT__TRANSPORTS__{name}__URL", url)
            monkeypatch.setenv(f"OPENLINEAGE__TRANSPORT__TRANSPORTS__{name}__TYPE", "http")
        monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "composite")
        monkeypatch.delenv("OPENLINEAGE_URL")
        server.set("slow")
        with sender() as sending:
            start = time.monotonic()
            found = sending.round(4, waits=True)
        assert time.monotonic() - start < 10
        assert len(found) == 2
        assert found[0].sent > 0
        assert found[1].sent > 0
