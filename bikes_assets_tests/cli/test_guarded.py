"""`bikes ui` answers its own pages and programs alone, and leaves nothing behind, however it ends: real servers."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bikes_assets.web.own_pages import refusal
from bikes_assets_tests.browser import bikes_ui, is_open
from bikes_assets_tests.test_secure import Server

OWN = "http://127.0.0.1:3000"
LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/graphql", {}),  # a program
        ("POST", "/graphql", {"origin": OWN, "sec-fetch-site": "same-origin"}),
        ("GET", "/graphql", {"origin": OWN}),  # a WebSocket
        ("POST", "/report_asset_materialization/x", {}),
        ("GET", "/assets", {"sec-fetch-site": "none"}),
        ("GET", "/runs/1", LINK),
        ("GET", "/runs/1", LINK | {"sec-fetch-site": "same-site"}),  # MLflow's page links there
        ("GET", "/", {"host": "localhost:8000"}),  # a tunnel
        ("POST", "/graphql", {"host": "[::1]:3000", "origin": "http://[::1]:3000"}),
    ],
)
def test_own_pages_programs_and_links_are_answered(method: str, path: str, headers: dict[str, str]) -> None:
    assert refusal(method, path, {"host": "127.0.0.1:3000", **headers}) == ""


def test_a_name_is_the_same_in_any_case() -> None:
    assert refusal("GET", "/", {"host": "LocalHost:3000"}) == ""
    assert refusal("GET", "/", {"host": "the-machine:3000", "origin": "http://the-machine:3000"}, ["The-Machine"]) == ""


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/graphql", {"origin": "http://evil.example"}),
        ("POST", "/graphql", {"origin": "null"}),
        ("POST", "/graphql", {"origin": ""}),
        ("POST", "/graphql", {"origin": "http://127.0.0.1:3001"}),  # another program's page
        ("POST", "/graphql", {"origin": "http://127.0.0.1:3000.evil.example"}),
        ("POST", "/graphql", {"origin": "http://127.0.0.1:3000@evil.example"}),
        ("POST", "/graphql", {"sec-fetch-site": "cross-site"}),
        ("POST", "/graphql", {"sec-fetch-site": "same-site"}),
        ("GET", "/graphql", {"origin": "http://evil.example"}),
        ("GET", "/graphql", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}),
        ("GET", "/graphql", LINK),
        ("GET", "/graphql/", LINK),
        ("POST", "/runs/1", LINK),
        ("GET", "/runs/1", LINK | {"sec-fetch-dest": "iframe"}),
        ("POST", "/report_asset_materialization/x", {"origin": "http://evil.example"}),
        ("GET", "/", {"host": "evil.example:3000"}),
        ("GET", "/", {"host": "127.0.0.1.evil.example"}),
        ("GET", "/", {"host": ""}),
        ("GET", "/", {"host": "["}),
        ("GET", "/", {"host": "[::1"}),
        ("GET", "/", {"host": "evil.example@127.0.0.1"}),
        ("GET", "/", {"host": "127.0.0.1/evil.example"}),
        ("GET", "/", {"host": "127.0.0.1, evil.example"}),
        ("GET", "/", {"origin": "http://["}),
        ("GET", "/", {"origin": "ftp://127.0.0.1:3000"}),
        (
            "POST",
            "/graphql",
            {"host": "evil.example:3000", "origin": "http://evil.example:3000"},
        ),  # a name made to point here
    ],
)
def test_what_other_pages_send_is_refused(method: str, path: str, headers: dict[str, str]) -> None:
    assert refusal(method, path, {"host": "127.0.0.1:3000", **headers}).startswith("found ")


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def check_guard(dagster: Server, mlflow: Server) -> None:
    """Ask as pages and programs do."""
    foreign = {"Origin": "http://evil.example"}
    as_json = {"Content-Type": "application/json"}
    query = json.dumps({"query": "{ version }"})
    for headers in (
        foreign,
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": f"evil.example:{dagster.port}"},
    ):
        assert dagster.status("POST", "/graphql", as_json | headers, query) == 403
        assert dagster.status("GET", "/graphql?query=%7Bversion%7D", headers) == 403
        for kind in ("materialization", "observation", "check"):
            assert dagster.status("POST", f"/report_asset_{kind}/hourly_rentals?metadata=%7B%7D", headers) == 403
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        key = {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol": "graphql-ws"}
        assert dagster.status("GET", "/graphql", upgrade | key | headers) == 403
    assert dagster.status("POST", "/graphql", as_json, query) == 200
    assert dagster.graphql("{ version }")["data"]["version"]
    assert dagster.status("GET", "/") == 200
    create = "/api/2.0/mlflow/experiments/create"
    assert mlflow.status("POST", create, as_json | foreign, '{"name": "evil"}') == 403
    assert mlflow.status("POST", create, as_json | {"Origin": "null"}, '{"name": "evil"}') == 403
    assert mlflow.status("POST", create, as_json | {"Host": f"10.0.0.1:{mlflow.port}"}, '{"name": "evil"}') == 403
    assert mlflow.status("POST", create, as_json | {"Origin": mlflow.origin}, '{"name": "own"}') == 200
    assert mlflow.status("GET", "/") == 200


@pytest.fixture
def _heard() -> Iterator[None]:
    """Have what is started hear of a closed terminal, also where these tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
@pytest.mark.usefixtures("_heard")
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_it_however_it_ends(tmp_path: Path, ending: signal.Signals) -> None:
    with bikes_ui(tmp_path, "2011-03") as servers:
        if ending == signal.SIGKILL:
            check_guard(Server(port_of(servers.dagster)), Server(port_of(servers.mlflow)))
        assert len(servers.processes()) >= 5

        os.kill(servers.process.pid, ending)

        servers.process.wait(90)
        end = time.monotonic() + 180  # code servers notice by heartbeats, one after the other
        while (left := servers.processes()) and time.monotonic() < end:
            time.sleep(0.5)
        assert not left, [Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in left]
        assert not is_open(servers.dagster)
        assert not is_open(servers.mlflow)
