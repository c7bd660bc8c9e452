"""`POST /api/v1/lineage` of a real server, and what OpenLineage's own client sends to it."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bikes_assets.lineage.openlineage.received import Received
from bikes_assets_tests.lineage.openlineage.foreign import event

KEY = "not-for-everybody"
TIME = "2026-01-01T00:00:00Z"


@dataclass
class Server:
    """A server, and the file that it writes."""

    port: int
    file: Path

    def post(self, body: bytes, path: str = "/api/v1/lineage", key: str = KEY, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", path, body, {"Authorization": f"Bearer {key}", **headers})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if text.startswith(b"{") else text

    def events(self) -> list[dict[str, Any]]:
        received = Received(self.file)
        try:
            return [*received.events()]
        finally:
            received.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("data")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "BIKES_DATA": str(data), "BIKES_OPENLINEAGE_API_KEY": KEY}
    command = [sys.executable, "-m", "bikes_assets", "openlineage", "serve", "--port", str(port)]
    with (data / "printed").open("w") as printed:
        process = subprocess.Popen(command, env=environment, stdout=printed, stderr=printed)
    try:
        end = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < end, (data / "printed").read_text()
            time.sleep(0.1)
        yield Server(port, data / "openlineage.db")
    finally:
        process.terminate()
        assert process.wait(60) in (0, -15, 130)
    assert "Traceback" not in (data / "printed").read_text()


def test_one_event_a_list_of_them_and_one_that_is_known_are_stored(server: Server) -> None:
    one, more = event("r1", ["a"], ["b"]), [event("r2", ["b"], ["c"]), event("r3", ["c"], ["d"])]
    status, told = server.post(json.dumps(one).encode())
    assert (status, told["summary"]["stored"], told["status"]) == (201, 1, "success")
    status, told = server.post(json.dumps([one, *more]).encode(), "/api/v1/lineage/batch")
    assert (status, told["summary"]["stored"], told["summary"]["known"]) == (201, 2, 1)
    assert [item for item in server.events() if item in (one, *more)] == [one, *more]


def test_an_invalid_event_is_refused_with_the_reason_and_the_others_are_stored(server: Server) -> None:
    good = event("good", ["a"], ["b"])
    before = len(server.events())
    status, told = server.post(json.dumps([{"eventTime": "now"}, good]).encode())
    assert (status, told["status"]) == (400, "partial_success")
    assert told["failed_events"][0]["index"] == 0
    assert told["failed_events"][0]["reason"].startswith("found eventTime 'now', expected a time")
    assert len(server.events()) == before + 1
    for body, reason in ((b"{", "found no JSON"), (b"[" * 10_000, "nested too deeply"), (b"7", "found a number")):
        status, told = server.post(body)
        assert (status, reason in json.dumps(told)) == (400, True)
    assert len(server.events()) == before + 1


def test_without_the_key_and_beyond_the_size_nothing_is_taken(server: Server) -> None:
    before, body = len(server.events()), json.dumps(event("foreign", ["a"], ["b"])).encode()
    for key in ("", "another", "not-for-everybod", "ä"):
        status, told = server.post(body, key=key.encode().decode("latin-1"))
        assert (status, told["error"]) == (
            401,
            "found no key, or another one, expected Authorization: Bearer and the key",
        )
    status, told = server.post(b" " * (64 << 20) + b"1")
    assert (status, told["error"][:29]) == (413, "found a request of more than ")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/api/v1/lineage")
    assert connection.getresponse().status == 405
    connection.close()
    assert len(server.events()) == before


def test_many_clients_at_once_lose_nothing(server: Server) -> None:
    events = [event(f"many{number}", ["a"], [f"out{number}"]) for number in range(60)]

    def send(some: list[dict[str, Any]]) -> None:
        for item in some:
            assert server.post(json.dumps(item).encode())[0] == 201

    threads = [threading.Thread(target=send, args=(events[at::6],)) for at in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = server.events()
    assert all(stored.count(item) == 1 for item in events)


def test_openlineages_own_client_sends_to_it(server: Server) -> None:
    from openlineage.client import OpenLineageClient, event_v2
    from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport

    config = HttpConfig(f"http://127.0.0.1:{server.port}", auth=ApiKeyTokenProvider({"apiKey": KEY}))
    client = OpenLineageClient(transport=HttpTransport(config))
    run, job = event_v2.Run("01936893-9751-7a91-a2a0-a51101a3970c"), event_v2.Job("tool", "job")
    event_v2.set_producer("https://example.org/tool")
    for event_type in (event_v2.RunState.START, event_v2.RunState.COMPLETE):
        outputs = [event_v2.OutputDataset("s3://bucket", "rides")]
        client.emit(event_v2.RunEvent(eventTime=TIME, run=run, job=job, eventType=event_type, outputs=outputs))
    client.emit(event_v2.DatasetEvent(eventTime=TIME, dataset=event_v2.StaticDataset("s3://bucket", "rides")))
    client.emit(event_v2.JobEvent(eventTime=TIME, job=job, inputs=[event_v2.InputDataset("s3://bucket", "raw")]))
    client.close()
    kinds = [sorted({"run", "dataset", "job"} & item.keys()) for item in server.events()[-4:]]
    assert kinds == [["job", "run"], ["job", "run"], ["dataset"], ["job"]]


def test_a_body_of_gzip_is_read_and_a_small_one_of_very_much_is_refused(server: Server) -> None:
    body = gzip.compress(json.dumps(event("zipped", ["a"], ["b"])).encode())
    assert server.post(body, **{"Content-Encoding": "gzip"})[0] == 201
    status, told = server.post(gzip.compress(b" " * (80 << 20)), **{"Content-Encoding": "gzip"})
    assert (status, told["error"][:29]) == (413, "found a request of more than ")
    status, told = server.post(b"{}", **{"Content-Encoding": "gzip"})
    assert (status, told["error"][:28]) == (400, "found a body that is no gzip")
    status, told = server.post(body, **{"Content-Encoding": "br"})
    assert (status, told["error"]) == (400, "found Content-Encoding 'br', expected gzip or none")


def test_a_web_page_of_another_origin_stores_nothing(server: Server) -> None:
    before, body = len(server.events()), json.dumps(event("page", ["a"], ["b"])).encode()
    for origin in ("https://example.org", "null", f"http://127.0.0.1:{server.port}"):
        status, told = server.post(body, Origin=origin, **{"Content-Type": "text/plain"})
        assert (status, told["error"][:29]) == (403, "found a request of a web page")
    assert len(server.events()) == before


def test_a_port_that_is_taken_is_one_line(server: Server) -> None:
    command = [sys.executable, "-m", "bikes_assets", "openlineage", "serve", "--port", str(server.port)]
    environment = {**os.environ, "BIKES_DATA": str(server.file.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    told = f"error: port {server.port} of 127.0.0.1 is taken; choose another by --port\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", told)
