"""The lineage page's API: who is answered, what is refused, what its description says, and that nothing is changed by it."""

from __future__ import annotations

import hashlib
import json
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from bikes_assets.web.api import MOST_BYTES, MOST_MATCHES, OPERATIONS
from bikes_assets.web.page import POLICY
from bikes_assets_tests.browser import ROOT, free_ports, wait_until
from bikes_assets_tests.lineage.openlineage.foreign import dataset, event
from bikes_assets_tests.web.opened import Served

EXAMPLES: Mapping[str, Mapping[str, str]] = {
    "graph": {"focus": "demand_features", "column": "demand_features.cnt", "open": "demand_features"},
    "overview": {"address": "demand_features"},
    "counts": {"address": "demand_features"},
    "versions": {"address": "demand_features[2011-03]"},
    "rows": {"address": "demand_features[2011-03]"},
    "metrics": {"address": "prediction_quality"},
    "edge": {"source": "hourly_rentals.temp", "target": "demand_features.temperature"},
    "impact": {"address": "hourly_rentals.temp"},
    "impact.csv": {"address": "hourly_rentals.temp"},
    "search": {"q": "temperature"},
    "path": {"start": "rental_records.temp", "end": "demand_predictions.prediction"},
    "trace": {"address": "demand_predictions.prediction[2011-06]#2011-06-14T17:00"},
    "diff": {"a": "demand_model@1", "b": "demand_model@2"},
}


def _contents(folder: Path) -> dict[str, str]:
    """Return what each file of a store holds: of databases the rows, whose files may change when they are read."""
    found = dict[str, str]()
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or file.suffix in (".lock", ".db-wal", ".db-shm") or file.name.startswith("lineage.db"):
            continue
        if file.suffix == ".db":
            with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
                content = "\n".join(database.iterdump()).encode()
        else:
            content = file.read_bytes()
        found[str(file.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def test_the_description_lists_every_question_each_is_answered_and_none_changes_the_store(served: Served) -> None:
    # Given
    before = _contents(served.folder)
    description = served.ask("openapi.json")
    assert description["openapi"] == "3.1.0"
    assert {*description["paths"]} == {f"/api/{operation.name}" for operation in OPERATIONS}
    # When
    for path, item in description["paths"].items():
        query = EXAMPLES.get(path.removeprefix("/api/"), {})
        needed = {parameter["name"] for parameter in item["get"]["parameters"] if parameter["required"]}
        assert needed <= {*query}
        status, headers, text = served.fetch(f"{path}?{urlencode(query)}")
        (media,) = item["get"]["responses"]["200"]["content"]
        assert (status, headers["Content-Type"].partition(";")[0]) == (200, media), text
        assert headers["Cache-Control"] == "no-store"
    status, _, text = served.fetch("/api/graph?focus=demand_features", b'{"demand_features": 3}')
    assert (status, json.loads(text)["focus"]) == (200, "demand_features")
    for name in EXAMPLES:
        assert served.fetch(f"/api/{name}", b"{}", method="PUT")[0] == 405
        assert served.fetch(f"/api/{name}", method="DELETE")[0] == 405
    # Then
    assert _contents(served.folder) == before


def test_the_description_says_what_the_body_of_a_post_is(served: Served) -> None:
    # Given
    paths = served.ask("openapi.json")["paths"]
    assert {path for path, item in paths.items() if "post" in item} == {"/api/graph"}
    names = [operation["operationId"] for item in paths.values() for operation in item.values()]
    assert len({*names}) == len(names)
    posted = paths["/api/graph"]["post"]
    assert posted["parameters"] == paths["/api/graph"]["get"]["parameters"]
    schema = posted["requestBody"]["content"]["application/json"]["schema"]
    assert (schema["type"], schema["additionalProperties"]) == ("object", {"type": "number"})
    # When it is asked with what the description gives as an example, and with what it does not allow
    asked = "/api/graph?focus=demand_features"
    given = json.dumps(schema["example"]).encode()
    # Then
    assert served.fetch(asked, given)[0] == 200
    assert served.fetch(asked, b"")[0] == 200  # it is not required
    status, _, _ = served.fetch(asked, b'{"demand_features": "below"}')
    assert status == 400
    assert str(status) in posted["responses"]


def test_the_total_of_a_search_is_that_of_the_command_and_not_told_where_more_match_than_are_listed(
    served: Served,
) -> None:
    few = served.ask("search", q="temperature")
    command = served.bikes("search", "temperature")["items"]
    assert (few["total"], few["shown"]) == (len(command), len(command))
    assert [item["address"] for item in few["items"]] == [item["address"] for item in command]
    many = served.ask("search", q="d")
    assert (many["total"], many["shown"], len(many["items"])) == (None, MOST_MATCHES, MOST_MATCHES)
    command = served.bikes("search", "d")["items"]
    assert len(command) > MOST_MATCHES
    assert [item["address"] for item in many["items"]] == [item["address"] for item in command[:MOST_MATCHES]]


def test_the_news_are_a_stream_of_stamps(served: Served) -> None:
    import urllib.request

    with urllib.request.urlopen(f"{served.url}/api/news", timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = [answer.readline() for _ in range(4)]
        assert lines[:3] == [b"retry: 3000\n", b"\n", b"event: stamp\n"]
        assert lines[3] == f"data: {served.ask('changes')['stamp']}\n".encode()


def test_the_stamp_changes_when_another_tool_reports(served: Served) -> None:
    before = served.ask("changes")
    assert served.ask("changes") == before
    served.post("/api/v1/lineage", json.dumps(event("run", ["a"], [dataset("b")])).encode())
    assert served.ask("changes") != before


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("graph?focus=demand_features&colour=red", 400, "found parameter 'colour', expected one of focus, show, open"),
        ("moments?a=1", 400, "found parameter 'a', expected one of none"),
        ("graph", 400, "found no parameter 'focus', expected address, such as demand_features.temperature"),
        ("overview?address=%20", 404, "found no address, expected some text"),
        (
            "graph?focus=demand_feature5",
            404,
            "found nothing called 'demand_feature5'; expected one like demand_features",
        ),
        ("graph?focus=demand_features&rows=demand_features:ten", 404, "found number of rows 'ten', expected one such"),
        ("graph?focus=demand_features&show=%2B", 404, "found nothing called"),
        ("overview?address=demand_features&as_of=yesterday", 404, "found time 'yesterday', expected"),
        ("path?start=rental_records.temp", 400, "found no parameter 'end'"),
        (f"counts?{'&'.join(['address=demand_model'] * 51)}", 404, "found 51 addresses, expected at most 50"),
        ("rows?address=demand_model[2011-05]", 404, "found an asset of models, which have no rows; expected a table"),
        ("rows?address=rental_records", 404, "found no asset of this project, expected one of"),
        ("edge?source=demand_model&target=hourly_rentals", 404, "demand_model"),
        ("overview?address=%22%5Cud800%22", 404, "found nothing called '\"\\\\ud800\"'"),  # JSON of half a character
        (f"impact?address={'[' * 20_000}", 404, "found nothing called '[[["),
        (
            f"search?q={'+'.join(f'a{number}' for number in range(51))}",
            404,
            "found 51 words to search, expected at most 50",
        ),
    ],
)
def test_what_cannot_be_answered_is_an_error_that_names_it(served: Served, path: str, status: int, told: str) -> None:
    found, headers, text = served.fetch(f"/api/{path}")
    assert (found, headers["Content-Type"]) == (status, "application/json")
    assert told in json.loads(text)["error"]


@pytest.mark.parametrize(
    "body", [b"[", b"[]", b'{"a": "x"}', b'{"a": null}', b"[" * 100_000, b"\xff\xfe", b" " * (MOST_BYTES + 1), b"7"]
)
def test_a_body_that_is_no_places_or_too_large_is_refused(served: Served, body: bytes) -> None:
    status, _, text = served.fetch("/api/graph?focus=demand_features", body)
    assert status == 400
    assert json.loads(text)["error"].startswith(("found a body that is none", "found a request of more than 1,048,576"))


@pytest.mark.parametrize("places", ['{"demand_features": NaN}', '{"demand_features": 1e400, "hourly_rentals": -1e400}'])
def test_places_that_are_no_numbers_are_refused(served: Served, places: str) -> None:
    status, _, text = served.fetch("/api/graph?focus=demand_features", places.encode())
    assert (status, json.loads(text)["error"][:24]) == (400, "found a body that is non")


def test_only_this_server_s_own_pages_and_programs_are_answered(served: Served) -> None:
    refused = [
        {"Host": "lineage.example.org"},
        {"Origin": "https://example.org"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"},
    ]
    for path in ("/api/search?q=temperature", "/api/changes", "/", "/static/main.js", "/api/openapi.json"):
        for headers in refused:
            assert served.fetch(path, headers=headers)[0] == 403, (path, headers)
    assert served.fetch("/api/graph?focus=demand_features", b"{}", {"Origin": "https://example.org"})[0] == 403
    assert served.fetch("/api/search?q=temperature", headers={"Origin": served.url})[0] == 200


def _sent(served: Served, text: bytes) -> bytes:
    """Return the first line of what is answered to some bytes, after which the client has nothing more to say."""
    with socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2])), timeout=60) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(1_000).partition(b"\r\n")[0]


@pytest.mark.parametrize("host", ["[", "[::1", "[zz]", "127.0.0.1@example.org", "example.org@127.0.0.1", "127.0.0.1/x"])
def test_what_is_no_host_is_the_name_of_nobody(served: Served, host: str) -> None:
    assert _sent(served, f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).startswith(
        (b"HTTP/1.1 403", b"HTTP/1.1 400")
    )
    assert served.fetch("/", headers={"Origin": f"http://{host}"})[0] == 403


def test_a_request_with_two_hosts_is_refused(served: Served) -> None:
    for hosts in (("127.0.0.1", "example.org"), ("example.org", "127.0.0.1")):
        lines = "".join(f"Host: {host}\r\n" for host in hosts)
        assert _sent(served, f"GET / HTTP/1.1\r\n{lines}\r\n".encode()).startswith(b"HTTP/1.1 4")


def test_headers_without_end_are_not_kept(served: Served) -> None:
    answer = _sent(served, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 200_000)
    assert answer.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("path", ["/api/graph?focus=demand_model", "/api/v1/lineage"])
def test_who_leaves_within_a_request_is_no_error_of_the_server(served: Served, path: str) -> None:
    """The server's log is read when it has ended: no test may have left an error there."""
    _sent(served, f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{{".encode())
    assert served.fetch("/")[0] == 200


def test_each_answer_forbids_what_the_page_does_not_need(served: Served) -> None:
    for path in ("/", "/static/main.js", "/api/moments", "/api/nothing", "/nothing"):
        _, headers, _ = served.fetch(path)
        assert headers["Content-Security-Policy"] == POLICY
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
    assert "unsafe" not in POLICY
    assert POLICY.startswith("default-src 'none'; script-src 'self'; style-src 'self';")


def test_files_beside_the_static_ones_are_not_served(served: Served) -> None:
    for path in (
        "/static/../page.py",
        "/static/%2e%2e/page.py",
        "/static/..%2fpage.py",
        "/static/",
        "/static//etc/passwd",
    ):
        assert served.fetch(path)[0] == 404, path


TOKEN = "only-for-colleagues"


@pytest.fixture(scope="module")
def guarded(served: Served) -> Iterator[Served]:
    """Serve the same store with a token, as for others."""
    (port,) = free_ports(1)
    environment = {**served.environment, "BIKES_LINEAGE_TOKEN": TOKEN}
    command = [sys.executable, "-m", "bikes_assets", "explore", "--host", "0.0.0.0", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = Served(f"http://127.0.0.1:{port}", served.folder, environment)
    try:
        wait_until(lambda: process.poll() is not None or _refuses(found), "it answers", 60)
        yield found
    finally:
        process.terminate()
        process.wait(60)


def _refuses(served: Served) -> bool:
    try:
        return served.fetch("/")[0] == 401
    except OSError:
        return False


def test_for_others_nothing_is_shown_without_the_token(guarded: Served) -> None:
    for path in (
        "/",
        "/api/search?q=a",
        "/api/openapi.json",
        "/static/main.js",
        "/api/changes",
        "/?token=another",
        "/?token=",
    ):
        status, _, text = guarded.fetch(path)
        assert (status, text) == (401, "found no token, or another one; open /?token=... with the token\n"), path
    for given in ("", "another", f"{TOKEN}x", TOKEN[:-1]):
        assert guarded.fetch("/api/moments", headers={"Authorization": f"Bearer {given}"})[0] == 401
        assert guarded.fetch("/api/moments", headers={"Cookie": f"bikes_token={quote(given)}"})[0] == 401
    assert guarded.fetch("/api/moments", headers={"Authorization": f"Bearer {TOKEN}"})[0] == 200


def test_the_token_in_the_address_becomes_a_cookie_that_scripts_cannot_read(guarded: Served) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", int(guarded.url.rpartition(":")[2]), timeout=60)
    connection.request("GET", f"/?focus=demand_model&token={TOKEN}")
    answer = connection.getresponse()
    answer.read()
    cookie = answer.headers["Set-Cookie"]
    assert (answer.status, answer.headers["Location"]) == (303, "/?focus=demand_model")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    connection.request("GET", "/api/moments", headers={"Cookie": cookie.partition(";")[0]})
    assert connection.getresponse().status == 200
    connection.close()


def test_the_token_leads_to_no_other_server(guarded: Served) -> None:
    line = _sent_and_led(guarded, f"GET //example.org/?token={TOKEN} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    assert line == b"location: /example.org/"


def _sent_and_led(served: Served, text: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2])), timeout=60) as connection:
        connection.sendall(text)
        return next(line for line in connection.recv(10_000).split(b"\r\n") if line.startswith(b"location:"))


@pytest.mark.parametrize("token", ["пароль", "two words", "a\tb"])
def test_a_token_that_no_browser_can_send_is_refused(served: Served, token: str) -> None:
    environment = {**served.environment, "BIKES_LINEAGE_TOKEN": token}
    command = [sys.executable, "-m", "bikes_assets", "explore", "--host", "0.0.0.0", "--port", "5052"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "BIKES_LINEAGE_TOKEN: found a sign that no cookie carries" in done.stderr


def test_without_a_token_it_is_not_served_to_others(served: Served) -> None:
    environment = {key: value for key, value in served.environment.items() if key != "BIKES_LINEAGE_TOKEN"}
    command = [sys.executable, "-m", "bikes_assets", "explore", "--host", "0.0.0.0", "--port", "5052"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "BIKES_LINEAGE_TOKEN: found none, expected a token, since others may reach 0.0.0.0; set one" in done.stderr
