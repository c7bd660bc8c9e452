"""The sensor sends in the daemon what the event log holds; no receiver makes a tick fail, or a run longer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

from bikes_assets.defs.sensors import openlineage_send
from bikes_assets_tests.lineage.openlineage.receiver import receiver

LOADED = "import sys, bikes_assets.definitions as d; found = d.defs(); "
STATUS = "print(found.get_sensor_def('openlineage_send').default_status.value, 'openlineage' in sys.modules)"


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("OPENLINEAGE")]:
        monkeypatch.delenv(name)


def tick() -> str | None:
    """Evaluate the sensor once, and return what it says."""
    return openlineage_send(dg.build_sensor_context()).skip_message


@pytest.mark.parametrize(("variables", "status"), [({}, "STOPPED"), ({"OPENLINEAGE_URL": "http://x"}, "RUNNING")])
def test_it_is_on_where_a_receiver_is_configured(variables: dict[str, str], status: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED + STATUS],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | variables,
        cwd=tmp_path,
    )
    # And loading the definitions imports nothing of openlineage-python
    assert done.stdout.split() == [status, "False"]


def test_it_sends_what_is_new_and_asks_a_receiver_later_that_failed(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tick() == "No receiver is configured."
    with receiver() as server:
        monkeypatch.setenv("OPENLINEAGE_URL", server.url)
        server.set("500")
        told = f"http {server.url}/api/v1/lineage: answered 500 On fire; asked again from "
        assert (tick() or "").startswith(told)
        assert (tick() or "").startswith(told)
        assert server.requests == 1
        # When its time has come
        monkeypatch.setattr(time, "time", lambda now=time.time: now() + 60)
        server.set("fine")
        assert tick() == f"http {server.url}/api/v1/lineage: {len(server.events)} events sent"
        assert len(server.events) > 50
        assert tick() == "Everything is sent."


def test_a_tick_takes_a_bounded_time_and_says_what_is_left(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bikes_assets.app.outgoing import sending

    monkeypatch.setattr(sending, "TICK_SECONDS", 1.0)
    with receiver() as server:
        monkeypatch.setenv("OPENLINEAGE_URL", server.url)
        server.set("slow")
        assert (tick() or "").endswith("sent, more the next time")
        assert server.events


def test_a_configuration_that_cannot_be_used_is_told_and_fails_no_tick(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "kafkaesque.Transport")
    assert "OpenLineage's configuration: found one that cannot be used" in (tick() or "")
