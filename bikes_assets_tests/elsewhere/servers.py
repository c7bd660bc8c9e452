"""An S3-compatible store, a PostgreSQL cluster, a Redis broker and Celery's workers: private, on 127.0.0.1, gone in the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import quote
from urllib.request import Request, urlopen

from bikes_assets_tests.fire.servers import free_port

CARELESS = "careless"
"""A bucket that takes no notice of If-None-Match, as some stores do."""
FAULTS = "/faults"
"""Path at which the store is told what goes wrong in it next."""
PASSWORD = "p@ss/w:rd%1 #?"
"""A password of characters that a URL has to quote."""
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Fault:
    """What goes wrong in the store.

    Attributes:
        kind: `503 before` and `503 after` the request is carried out, `no answer` after it, an answer that is `cut short` or
            `slow`; or connections are `refused`, the one of the first request among them.
        first: number of the first request that meets it, from 0.
        times: how many requests in a row do.
        seconds: how long every request does, from the first one on.
        like: regular expression of the requests, such as `PUT /bucket/key`, that `first` counts; "" counts all.
    """

    kind: str = ""
    first: int = 0
    times: int = 0
    seconds: float = 0
    like: str = ""


def fail_next(endpoint: str, *faults: Fault) -> list[str]:
    """Have a store meet faults from now on, and return the requests since the last ones."""
    request = Request(f"{endpoint}{FAULTS}", json.dumps([asdict(fault) for fault in faults]).encode(), method="PUT")
    with urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


@contextmanager
def s3_store() -> Iterator[dict[str, str]]:
    """Run a store, and yield the environment that leads to it."""
    port = free_port()
    command = [sys.executable, "-m", "bikes_assets_tests.elsewhere.s3_server", str(port)]
    server = subprocess.Popen(command, cwd=_ROOT, stderr=subprocess.DEVNULL)
    try:
        _wait(port, server)
        yield {
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "key-that-stands-nowhere",
            "AWS_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        }
    finally:
        server.kill()
        server.wait()


def postgres_programs() -> Path | None:
    """Return the folder of PostgreSQL's server programs, the newest there is, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).parent if initdb else None


@contextmanager
def postgres_cluster(programs: Path) -> Iterator[str]:
    """Make a cluster in a temporary folder, and yield its URL with everything but a database's name."""
    folder, port = Path(tempfile.mkdtemp(prefix="bikes-postgres-")), free_port()
    (folder / "password").write_text(PASSWORD)
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]

    def run(program: str, *arguments: str) -> None:
        with (folder / "log").open("ab") as log:
            command = [*as_user, str(programs / program), "-D", str(folder / "data"), *arguments]
            subprocess.run(command, check=True, stdout=log, stderr=log, cwd=folder, timeout=120)

    try:
        run(
            "initdb", "-U", "bikes", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}", "--no-sync", "-E", "UTF8"
        )
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        run("pg_ctl", "-w", "-l", str(folder / "data" / "server.log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg2://bikes:{quote(PASSWORD, safe='')}@127.0.0.1:{port}"
        finally:
            run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def create_database(cluster: str, name: str) -> str:
    """Create a database, and return its URL."""
    import sqlalchemy as sa

    engine = sa.create_engine(f"{cluster}/postgres", isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
    return f"{cluster}/{name}"


@dataclass
class Redis:
    """A Redis server whose queues survive it: `kill` it at any moment, `start` it again on the same port."""

    folder: Path
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL by which Celery reaches it."""
        return f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Begin to serve."""
        self.folder.mkdir(exist_ok=True)
        configuration = ["bind 127.0.0.1", f"port {self.port}", "appendonly yes", "appendfsync always", 'save ""']
        configuration += [f"dir {self.folder}", f"requirepass {json.dumps(PASSWORD)}"]
        (self.folder / "redis.conf").write_text("\n".join(configuration))
        with (self.folder / "log").open("ab") as log:
            command = ["redis-server", str(self.folder / "redis.conf")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        _wait(self.port, self._process)

    def kill(self) -> None:
        """End it at once."""
        if self._process:
            self._process.kill()
            self._process.wait()


@dataclass
class CeleryWorker:
    """A worker as docs/scale-out.md starts it, with its processes: `kill` all of them at any moment.

    Attributes:
        on: what precedes its command.
    """

    name: str
    environment: Mapping[str, str]
    log: Path
    processes: int = 1
    on: Sequence[str] = ()
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to take runs."""
        options = ["--hostname", f"{self.name}@%h", "--concurrency", str(self.processes), "--loglevel", "INFO"]
        command = [sys.executable, "-m", "celery", "-A", "bikes_assets.events.celery.worker", "worker", *options]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.on, *command],
                env=self.environment,
                cwd=self.log.parent,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The worker's main process."""
        assert self._process
        return self._process.pid

    def kill(self) -> None:
        """Kill -9 the main process and all that it started, as when its machine is gone."""
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def is_ready(self) -> bool:
        """Return whether it takes runs."""
        return b" ready." in self.log.read_bytes()


def _wait(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"no server on port {port}: exit code {server.poll()}")
