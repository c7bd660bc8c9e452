"""What is told of a server that does not give a source, and what of it may be tried again: real servers on 127.0.0.1."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bikes_assets.core.errors import DataError
from bikes_assets.core.transient import is_transient, store_error
from bikes_assets.storage import files
from bikes_assets.storage.sources.errors import reporting
from bikes_assets.storage.sources.readers import reader_for
from bikes_assets_tests.fire.servers import black_hole, failing, free_port

COLUMNS = ("day", "hour", "rentals")
GOOD = b"day,hour,rentals\n2011-01-01,0,16\n"
TRY = "look whether the server runs and whether the address is right, then try again"


def refusal(source: str) -> DataError:
    with pytest.raises(DataError) as caught:
        reader_for(source, columns=COLUMNS, date_column="day").read()
    assert caught.value.__suppress_context__  # a traceback shows no secrets
    assert store_error(caught.value, "/lake") is None  # nor is it taken for an error of the lake
    return caught.value


@contextmanager
def serving(content: bytes, *, tls: Path | None = None, told: bool = True, cut: int = 0) -> Iterator[str]:
    """Yield the host and port of a server that knows no ranges, and answers any path with some content.

    Args:
        content: what it answers.
        tls: file with its certificate and key, None for plain HTTP.
        told: whether it tells the size, and takes HEAD.
        cut: after how many bytes it closes the connection, 0 for none.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200 if told else 405)
            if told:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(200)
            if told:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: cut or None])

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join(5)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("path", ["hour.csv", "download?file=hour.csv", "export/1234/", ""])
def test_a_file_is_read_from_a_server_that_tells_little(path: str, told: bool) -> None:
    large = GOOD + b"2011-01-01,1,40\n" * 400_000  # more than one block of fsspec's
    with serving(large, told=told) as host:
        raw = reader_for(f"http://{host}/{path}", columns=COLUMNS, date_column="day").read()
    assert len(raw.frame) == 400_001
    assert raw.origin.name == {"hour.csv": "hour.csv", "export/1234/": "1234", "": host}.get(path, "download")


@pytest.mark.parametrize(
    ("status", "found", "expected", "transient"),
    [
        (404, "nothing there", "a file or folder that can be read; look at the path or URL", False),
        (410, "nothing there", "a file or folder that can be read; look at the path or URL", False),
        (401, "access denied (HTTP 401)", "the right to read it", False),
        (403, "access denied (HTTP 403)", "the right to read it", False),
        (400, "HTTP 400 Bad Request", "an answer that holds the file; look at the URL", False),
        (429, "HTTP 429 Too Many Requests", "an answer; the server is busy or out of order, try again later", True),
        (500, "HTTP 500 Internal Server Error", "an answer; the server is busy or out of order", True),
        (503, "HTTP 503 Service Unavailable", "an answer; the server is busy or out of order", True),
    ],
)
def test_an_answer_of_a_server_is_told_as_what_it_is(status: int, found: str, expected: str, transient: bool) -> None:
    with failing(status) as server:
        error = refusal(f"{server.url}/hour.csv?key=s3cret")
    assert error.file == f"{server.url}/hour.csv?***"
    assert error.found == found
    assert error.expected.startswith(expected)
    assert is_transient(error) is transient


def test_a_server_that_is_not_there_is_told_and_may_be_tried_again() -> None:
    for scheme in ("http", "https", "ftp"):
        error = refusal(f"{scheme}://me:s3cret@127.0.0.1:{free_port()}/hour.csv")
        assert (error.found, error.expected) == ("connection refused", f"a server that answers; {TRY}")
        assert is_transient(error)
        assert "s3cret" not in str(error)


def test_a_host_that_nobody_knows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a resolver that knows no such name, and one that cannot be reached for now
    for number, said, transient in (
        (socket.EAI_NONAME, "Name or service not known", False),
        (socket.EAI_AGAIN, "Temporary failure in name resolution", True),
    ):

        def resolve(*_: Any, number: int = number, said: str = said, **__: Any) -> None:
            raise socket.gaierror(number, said)

        with monkeypatch.context() as patched:
            patched.setattr(socket, "getaddrinfo", resolve)
            error = refusal(f"http://nobody-{number}.invalid/hour.csv")
        assert error.found == f"no address of that host ({said})"
        assert is_transient(error) is transient


def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_SILENT_SECONDS", 0.5)
    with black_hole() as server:
        error = refusal(f"{server.url}/hour.csv")
    assert (error.found, error.expected) == ("no answer in time", f"an answer; {TRY}")
    assert is_transient(error)


def test_an_answer_that_is_cut_is_told_and_may_be_tried_again() -> None:
    with serving(GOOD * 1000, cut=5000) as host:
        error = refusal(f"http://{host}/hour.csv")
    assert (error.found, error.expected) == ("a connection that was lost", f"a whole answer; {TRY}")
    assert is_transient(error)


def test_a_certificate_that_nobody_trusts_is_told(tmp_path: Path) -> None:
    with serving(GOOD, tls=certificate(tmp_path)) as host:
        error = refusal(f"https://{host}/hour.csv")
    expected = "a server whose certificate this machine trusts; look at the address"
    assert (error.found, error.expected) == ("no TLS connection: self-signed certificate", expected)
    assert not is_transient(error)
    with serving(GOOD) as host:  # which speaks no TLS at all
        error = refusal(f"https://{host}/hour.csv")
    assert str(error.found).startswith("no TLS connection: ")
    assert not is_transient(error)


def certificate(folder: Path) -> Path:
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1)).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return folder / "server.pem"


def test_what_s3_answers_is_told(s3: str) -> None:
    assert refusal(f"{s3}/none.csv").found == "nothing there"
    assert refusal("s3://no-such-bucket-here/none.csv").found == "nothing there"


@pytest.mark.parametrize(
    ("code", "status", "found", "transient"),
    [
        ("AccessDenied", 403, "access denied (HTTP 403)", False),
        ("ExpiredToken", 400, "access denied (HTTP 400)", False),
        ("SlowDown", 503, "HTTP 503 Service Unavailable", True),
        ("InternalError", 500, "HTTP 500 Internal Server Error", True),
        ("TooManyRequests", 429, "HTTP 429 Too Many Requests", True),  # which s3fs calls an error of the disk
    ],
)
def test_what_else_s3_answers_is_told(code: str, status: int, found: str, transient: bool) -> None:
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    answer: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    with pytest.raises(DataError) as caught, reporting("s3://bucket/x.csv", "x.csv", "a file"):
        raise translate_boto_error(ClientError(answer, "GetObject"))
    assert (caught.value.file, caught.value.found) == ("s3://bucket/x.csv", found)
    assert is_transient(caught.value) is transient


@pytest.mark.parametrize(
    ("raised", "found"),
    [
        (OSError(errno.EIO, "it\nhas\ntwo lines"), "OSError: [Errno 5] it has two lines"),
        (RuntimeError("x" * 9000), "RuntimeError: " + "x" * 486),
        (KeyError("me:s3cret"), "KeyError: '***'"),
    ],
)
def test_any_other_error_is_one_line_without_secrets(raised: Exception, found: str) -> None:
    with pytest.raises(DataError) as caught, reporting("odd://me:s3cret@host/x", "x", "a file"):
        raise raised
    assert (caught.value.file, caught.value.found, caught.value.expected) == ("x", found, "a file")
    assert (caught.value.__cause__, caught.value.__suppress_context__) == (
        None,
        True,
    )  # a traceback shows no secret either
