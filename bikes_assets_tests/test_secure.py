"""What docs/secure.md claims: of Dagster's and MLflow's own servers, of docs/nginx/bikes.conf, and of `bikes ui`."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from bikes_assets_tests import browser

CONF = browser.ROOT / "docs" / "nginx" / "bikes.conf"
SERVICES = browser.ROOT / "docs" / "systemd"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
needs_nginx = pytest.mark.skipif(not NGINX, reason="needs nginx: apt-get install nginx-light")

DAGSTER, LOOK, MLFLOW = "dagster.bikes.example", "look.bikes.example", "mlflow.bikes.example"
EDITOR, VIEWER = ("alice", "open sesame"), ("bob", "only looking")
EDITORS = "alice:$6$bikesbikes$S4c6Y3z8u8lwE5HtdXyqclrMwkQO2jRbsO6uFNL9Cf22JuZjuaerqfju2EQgTUPv5LMqTlKCMmr56ypL1W2eU0\n"
VIEWERS = "bob:$6$bikesbikes$JbP/Zt6ZunkzjEU8PX6Bx76f5DjUANGNTctPTLHLa4165eIkn3H79FKVTMQHkkZ1qGlanqbZMmTjD0lIDwz5V0\n"
FOREIGN = {"Origin": "https://elsewhere.example"}
JSON = {"Content-Type": "application/json"}
HOME = """\
telemetry: {enabled: false}
nux: {enabled: false}
"""
PLACE = 'repositoryName: "__repository__", repositoryLocationName: "throwaway.py"'
CODE = """\
import dagster as dg

@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
def thing() -> None: ...

@dg.job
def nothing(): ...

@dg.sensor(job=nothing)
def watcher(): ...

yearly = dg.ScheduleDefinition(job=nothing, cron_schedule="0 0 1 1 *")
defs = dg.Definitions([thing], jobs=[nothing], sensors=[watcher], schedules=[yearly])
"""


@dataclass(frozen=True)
class Server:
    """A server on 127.0.0.1, reached plainly, or by a name through TLS."""

    port: int
    name: str = ""

    @property
    def origin(self) -> str:
        return f"https://{self.name}:{self.port}" if self.name else f"http://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: str | None = None
    ) -> tuple[int, str, Mapping[str, str]]:
        """Send a request and return status, content and headers; a header of the mapping goes over what is usual."""
        address = self.name or "127.0.0.1"
        if self.name:
            raw = socket.create_connection(("127.0.0.1", self.port), timeout=60)
            connection = http.client.HTTPConnection(address, self.port, timeout=60)
            connection.sock = unverified().wrap_socket(raw, server_hostname=address)
        else:
            connection = http.client.HTTPConnection(address, self.port, timeout=60)
        try:
            connection.request(method, path, body, {"Host": f"{address}:{self.port}", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace"), dict(answer.getheaders())
        finally:
            connection.close()

    def status(self, method: str, path: str, headers: Mapping[str, str] | None = None, body: str | None = None) -> int:
        return self.ask(method, path, headers, body)[0]

    def graphql(self, query: str, headers: Mapping[str, str] | None = None, **variables: Any) -> dict[str, Any]:
        """Send a query as Dagster's own pages do and return the answer."""
        own = {**JSON, "Origin": self.origin, "Sec-Fetch-Site": "same-origin", **(headers or {})}
        status, text, _ = self.ask("POST", "/graphql", own, json.dumps({"query": query, "variables": variables}))
        assert status in (200, 400, 500), (status, text)
        return json.loads(text)


@dataclass(frozen=True)
class Site:
    """nginx with the project's example, and what stands behind it."""

    dagster: Server
    look: Server
    mlflow: Server
    behind: Mapping[str, Server]
    processes: tuple[psutil.Process, ...]


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def as_user(who: tuple[str, str], **more: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(":".join(who).encode()).decode(), **more}


def pausing(paused: bool) -> str:
    """Return a mutation that any instance has and that changes nothing else."""
    return f"mutation {{ setAutoMaterializePaused(paused: {str(paused).lower()}) }}"


def is_paused(dagster: Server) -> bool:
    return dagster.graphql("{ instance { autoMaterializePaused } }")["data"]["instance"]["autoMaterializePaused"]


def by_address(query: str) -> str:
    return f"/graphql?query={quote(query)}"


def events_of(dagster: Server, asset: str) -> int:
    query = 'query { assetOrError(assetKey: {path: ["%s"]}) { ... on Asset { assetMaterializations { runId } } } }'
    found = dagster.graphql(query % asset)["data"]["assetOrError"]
    return len(found.get("assetMaterializations", []))


def listening(processes: tuple[psutil.Process, ...]) -> set[str]:
    """Return the addresses on which the processes, and what they started, listen."""
    family = {item for process in processes for item in (process, *process.children(recursive=True))}
    return {address for process in family for address in browser.listening(process.pid)}


@contextmanager
def started(command: list[str], folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[psutil.Process]:
    """Run a server; in the end it is killed with all that it started."""
    name = f"{Path(command[0]).name}-{len(list(folder.glob('*.log')))}.log"
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("BIKES_", "DAGSTER_", "MLFLOW_"))
    }
    settings = inherited | dict(environment or {})
    with (folder / name).open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=settings, stdout=log, stderr=subprocess.STDOUT)
    known = psutil.Process(process.pid)
    try:
        yield known
    finally:
        for item in (known, *known.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                item.kill()
        process.wait()


def wait_for(server: Server, path: str, process: psutil.Process, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        try:
            server.ask("GET", path)
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"nothing answers at {server.origin}, within {seconds:.0f} s or ever")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("secure")
    (made / "home").mkdir()
    (made / "home" / "dagster.yaml").write_text(HOME)
    (made / "throwaway.py").write_text(CODE)
    return made


@contextmanager
def webserver(folder: Path, *options: str) -> Iterator[tuple[Server, psutil.Process]]:
    (port,) = browser.free_ports(1)
    command = [
        sys.executable,
        "-m",
        "dagster_webserver",
        "-f",
        "throwaway.py",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        *options,
    ]
    with started(command, folder, {"DAGSTER_HOME": str(folder / "home")}) as process:
        wait_for(Server(port), "/server_info", process)
        yield Server(port), process


@pytest.fixture(scope="module")
def dagster(folder: Path) -> Iterator[tuple[Server, psutil.Process]]:
    with webserver(folder) as made:
        yield made


@pytest.fixture(scope="module")
def look(folder: Path, dagster: Any) -> Iterator[tuple[Server, psutil.Process]]:
    with webserver(folder, "--read-only") as made:
        yield made


@pytest.fixture(scope="module")
def site(folder: Path, dagster: Any, look: Any) -> Iterator[Site]:
    """Start MLflow, and nginx with the example itself: its ports and the folder of its secrets are all that is put in place."""
    port, mlflow_port = browser.free_ports(2)
    names = ["--allowed-hosts", f"{MLFLOW}:{port},127.0.0.1:{mlflow_port}"]
    names += ["--cors-allowed-origins", f"https://{MLFLOW}:{port}"]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"]
    serve = ["server", "--host", "127.0.0.1", "--port", str(mlflow_port), "--workers", "1"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    conf = CONF.read_text()
    for there, here in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("server 127.0.0.1:3000;", f"server 127.0.0.1:{dagster[0].port};"),
        ("server 127.0.0.1:3001;", f"server 127.0.0.1:{look[0].port};"),
        ("server 127.0.0.1:5000;", f"server 127.0.0.1:{mlflow_port};"),
        ("/etc/nginx/bikes/", f"{folder}/"),
    ):
        assert there in conf
        conf = conf.replace(there, here)
    (folder / "bikes.conf").write_text(conf)
    (folder / "nginx.conf").write_text(frame_of(folder))
    (folder / "editors.htpasswd").write_text(EDITORS)
    (folder / "viewers.htpasswd").write_text(VIEWERS)
    certify(folder)
    with ExitStack() as stack:
        mlflow = stack.enter_context(started([sys.executable, "-m", "mlflow", *serve, *stores, *names], folder, quiet))
        nginx = stack.enter_context(
            started([str(NGINX), "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"], folder)
        )
        wait_for(Server(mlflow_port), "/health", mlflow)
        wait_for(Server(port, DAGSTER), "/", nginx)
        yield Site(
            Server(port, DAGSTER),
            Server(port, LOOK),
            Server(port, MLFLOW),
            {DAGSTER: dagster[0], LOOK: look[0], MLFLOW: Server(mlflow_port)},
            (dagster[1], look[1], mlflow, nginx),
        )


def frame_of(folder: Path) -> str:
    """Return the frame that a system's nginx.conf is: one process, nothing outside of a folder."""
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off; master_process off; pid {folder}/nginx.pid; events {{}}\n"
        f"http {{ access_log {folder}/access.txt; {temporary} include bikes.conf; }}\n"
    )


def certify(folder: Path) -> None:
    """Write a certificate of our own for the three names."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bikes.example")])
    names = x509.SubjectAlternativeName([x509.DNSName(item) for item in (DAGSTER, LOOK, MLFLOW)])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    certificate = made.add_extension(names, critical=False).sign(key, hashes.SHA256())
    (folder / "fullchain.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


# Dagster's webserver by itself: each of these pins what the proxy is there for


@pytest.mark.parametrize(
    ("method", "headers", "in_body"),
    [
        ("GET", {"Accept": "image/avif,*/*;q=0.8", "Sec-Fetch-Site": "cross-site"}, False),  # <img src=...>
        ("POST", {"Content-Type": "application/x-www-form-urlencoded", **FOREIGN}, False),  # <form method=post>
        ("POST", {"Content-Type": "text/plain", **FOREIGN}, False),
        ("POST", {"Content-Type": "text/plain; application/json", **FOREIGN}, True),  # no preflight asks about it
        ("POST", {**JSON, **FOREIGN}, True),
        ("POST", {**JSON, "Host": "rebound.elsewhere.example"}, True),
    ],
    ids=["get", "form", "text", "text-that-says-json", "json", "another-host"],
)
def test_dagsters_webserver_executes_a_mutation_for_whoever_asks(
    dagster: Any, method: str, headers: dict[str, str], in_body: bool
) -> None:
    server = dagster[0]
    server.graphql(pausing(False))
    query = pausing(True)

    status = server.status(
        method, "/graphql" if in_body else by_address(query), headers, json.dumps({"query": query}) if in_body else None
    )

    assert status == 200
    assert is_paused(server)


def test_dagsters_webserver_records_a_materialization_that_another_sites_page_makes_up(dagster: Any) -> None:
    server = dagster[0]

    status = server.status("POST", "/report_asset_materialization/forged?data_version=x", FOREIGN)

    assert status == 200
    assert events_of(server, "forged") == 1


def test_dagsters_webserver_gives_live_updates_to_pages_of_any_origin(dagster: Any) -> None:
    assert acknowledged(dagster[0], FOREIGN["Origin"])


# Read-only


def test_read_only_refuses_every_mutation_but_two_that_change_no_instance(
    dagster: Any, look: Any, folder: Path
) -> None:
    """Each mutation of the schema is sent with arguments of the right types, and with real ones where it looks at them first."""
    from dagster_graphql.schema import create_schema

    # Given
    mutations = create_schema().graphql_schema.mutation_type.fields
    real = real_calls(dagster[0], folder / "home")
    calls = {name: real.get(name) or made_up_call(name, field) for name, field in mutations.items()}
    before = content_of(folder / "home")
    # When
    answers = {name: json.dumps(look[0].graphql(call)) for name, call in calls.items()}
    # Then
    allowed = [name for name, text in answers.items() if "UnauthorizedError" not in text and "permission" not in text]
    assert allowed == ["logTelemetry", "setNuxSeen"], {name: answers[name] for name in allowed}
    assert content_of(folder / "home") == before


def test_read_only_records_no_materialization_either(look: Any) -> None:
    assert look[0].status("POST", "/report_asset_materialization/forged?data_version=x") == 401


def real_calls(server: Server, home: Path) -> dict[str, str]:
    """Make a run and two backfills, one of them over, and return calls of what would change them, the sensor and the schedule."""
    params = f'{{selector: {{pipelineName: "nothing", {PLACE}}}, mode: "default"}}'
    backfill = '(backfillParams: {assetSelection: [{path: ["thing"]}], partitionNames: ["a"]})'
    sensor = f'sensorOrError(sensorSelector: {{{PLACE}, sensorName: "watcher"}}) {{ ... on Sensor {{ id }} }}'
    schedule = f'scheduleOrError(scheduleSelector: {{{PLACE}, scheduleName: "nothing_schedule"}}) {{ ... on Schedule {{ id }} }}'
    launched = server.graphql(
        f"mutation {{ launchRun(executionParams: {params}) {{ ... on LaunchRunSuccess {{ run {{ runId }} }} }} "
        f"one: launchPartitionBackfill{backfill} {{ ... on LaunchBackfillSuccess {{ backfillId }} }} "
        f"other: launchPartitionBackfill{backfill} {{ ... on LaunchBackfillSuccess {{ backfillId }} }} }}"
    )["data"]
    run = json.dumps(launched["launchRun"]["run"]["runId"])
    waiting = json.dumps(launched["one"]["backfillId"])
    canceled = json.dumps(canceled_backfill(home, launched["other"]["backfillId"]))
    found = server.graphql(f"{{ {sensor} {schedule} }}")["data"]
    arguments = {
        "launchPipelineReexecution": f"(executionParams: {params})",
        "launchRunReexecution": f"(executionParams: {params})",
        "stopRunningSchedule": f"(id: {json.dumps(found['scheduleOrError']['id'])})",
        "stopSensor": f"(id: {json.dumps(found['sensorOrError']['id'])})",
        "deleteRun": f"(runId: {run})",
        "launchPartitionBackfill": backfill,
        "resumePartitionBackfill": f"(backfillId: {waiting})",
        "reexecutePartitionBackfill": f"(reexecutionParams: {{parentRunId: {canceled}, strategy: ALL_STEPS}})",
        "cancelPartitionBackfill": f"(backfillId: {waiting})",
    }
    calls = {name: f"{name}{call} {{ __typename }}" for name, call in arguments.items()} | {
        "terminateRun": f"terminateRun(runId: {run}) {{ ... on TerminateRunFailure {{ message }} }}",
        "terminateRuns": f"terminateRuns(runIds: [{run}]) {{ ... on TerminateRunsResult "
        "{ terminateRunResults { ... on TerminateRunFailure { message } } } }",
        "launchMultipleRuns": f"launchMultipleRuns(executionParamsList: [{params}]) {{ ... on LaunchMultipleRunsResult "
        "{ launchMultipleRunsResult { __typename } } }",
    }
    return {name: f"mutation {{ {call} }}" for name, call in calls.items()}


def canceled_backfill(home: Path, backfill_id: str) -> str:
    """Give a backfill the end that the daemon would give it."""
    import dagster as dg
    from dagster._core.execution.backfill import BulkActionStatus

    with dg.DagsterInstance.from_config(str(home)) as instance:
        backfill = instance.get_backfill(backfill_id)
        assert backfill
        instance.update_backfill(backfill.with_status(BulkActionStatus.CANCELED))
    return backfill_id


def content_of(home: Path) -> dict[str, list[str]]:
    """Return every row of every database of an instance."""
    found = {}
    for file in sorted(home.rglob("*.db")):
        with closing(sqlite3.connect(file)) as database:
            found[str(file.relative_to(home))] = list(database.iterdump())
    assert len(found) > 2
    return found


def made_up_call(name: str, field: Any) -> str:
    """Return a call of a mutation with all its arguments, made up."""
    arguments = ", ".join(f"{key}: {value_of(item.type)}" for key, item in field.args.items())
    return f"mutation {{ {name}{f'({arguments})' if arguments else ''} {selection_of(field.type)} }}"


def selection_of(type_: Any) -> str:
    import graphql

    return "" if graphql.is_leaf_type(graphql.get_named_type(type_)) else "{ __typename }"


def value_of(type_: Any) -> str:
    import graphql

    if graphql.is_non_null_type(type_):
        return value_of(type_.of_type)
    if graphql.is_list_type(type_):
        return f"[{value_of(type_.of_type)}]"
    if graphql.is_enum_type(type_):
        return next(iter(type_.values))
    if graphql.is_input_object_type(type_):
        needed = {
            key: item
            for key, item in type_.fields.items()
            if graphql.is_non_null_type(item.type)
            or key in ("repositoryName", "repositoryLocationName", "pipelineName")
        }
        return "{" + ", ".join(f"{key}: {value_of(item.type)}" for key, item in needed.items()) + "}"
    made_up = {"Int": "1", "Float": "1.0", "Boolean": "true", "RunConfigData": "{}", "JSONString": '"{}"'}
    return made_up.get(type_.name, '"x"')


# The example for nginx


@needs_nginx
def test_nothing_behind_nginx_listens_elsewhere_than_on_loopback(site: Site) -> None:
    assert listening(site.processes) == {"127.0.0.1"}


@needs_nginx
@pytest.mark.parametrize("name", ["dagster", "look", "mlflow"])
def test_nginx_asks_for_a_password(site: Site, name: str) -> None:
    server, who = getattr(site, name), VIEWER if name == "look" else EDITOR

    assert server.status("GET", "/") == 401
    assert server.status("GET", "/", as_user((who[0], "wrong"))) == 401
    assert server.status("GET", "/", as_user(EDITOR if who == VIEWER else VIEWER)) == 401
    assert server.status("GET", "/", as_user(who)) == 200


@needs_nginx
@pytest.mark.parametrize("name", ["dagster", "look", "mlflow"])
def test_nginx_sets_the_headers_that_keep_pages_apart(site: Site, name: str) -> None:
    _, _, headers = getattr(site, name).ask("GET", "/", as_user(VIEWER if name == "look" else EDITOR))

    assert headers["Strict-Transport-Security"] == "max-age=31536000"
    assert headers["X-Frame-Options"] == "SAMEORIGIN"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


@needs_nginx
def test_what_dagsters_own_pages_send_passes_nginx(site: Site) -> None:
    site.dagster.graphql(pausing(False), as_user(EDITOR))

    answer = site.dagster.graphql(pausing(True), as_user(EDITOR))

    assert answer == {"data": {"setAutoMaterializePaused": True}}
    assert is_paused(site.behind[DAGSTER])
    assert acknowledged(site.dagster, site.dagster.origin, as_user(EDITOR))


OWN = "https://dagster.bikes.example:PORT"


@needs_nginx
@pytest.mark.parametrize("server", [DAGSTER, LOOK])
@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", by_address(pausing(True)), {}),
        ("GET", by_address(pausing(True)), {"Origin": "OWN", "Sec-Fetch-Site": "same-origin"}),
        ("GET", by_address(pausing(True)).replace("graphql", "%67raphql"), {}),
        ("GET", "/x/.." + by_address(pausing(True)), {}),
        ("HEAD", by_address(pausing(True)), {}),
        ("POST", by_address(pausing(True)), {"Origin": "OWN"}),
        ("POST", by_address(pausing(True)), {"Content-Type": "application/x-www-form-urlencoded", "Origin": "OWN"}),
        ("POST", "/graphql", {"Content-Type": "text/plain", "Origin": "OWN"}),
        ("POST", "/graphql", {"Content-Type": "text/plain; application/json", "Origin": "OWN"}),
        ("POST", "/graphql", {"Content-Type": "application/graphql", "Origin": "OWN"}),
        ("POST", "/graphql", {**JSON, **FOREIGN}),
        ("POST", "/graphql", {**JSON, "Origin": "null"}),
        ("POST", "/graphql", {**JSON, "Origin": f"https://{MLFLOW}:PORT"}),
        ("POST", "/graphql", {**JSON, "Origin": "OWN.elsewhere.example"}),
        ("POST", "/graphql", {**JSON, "Origin": "OWN", "Sec-Fetch-Site": "same-site"}),
        ("POST", "/graphql", JSON),
        ("PUT", "/graphql", {**JSON, "Origin": "OWN"}),
        ("POST", "/graphql/", {**JSON, "Origin": "OWN"}),
        ("POST", "//graphql", {**JSON, **FOREIGN}),
        ("POST", "/report_asset_materialization/made_up?data_version=x", {"Origin": "OWN"}),
        ("POST", "/report_asset_check/made_up", {"Origin": "OWN"}),
        ("POST", "/report_asset_observation/made_up", {"Origin": "OWN"}),
    ],
)
def test_nginx_refuses_every_other_way_to_change_dagster(
    site: Site, server: str, method: str, path: str, headers: dict[str, str]
) -> None:
    asked, behind = (site.dagster if server == DAGSTER else site.look), site.behind[DAGSTER]
    who = as_user(EDITOR if server == DAGSTER else VIEWER)
    behind.graphql(pausing(False))
    filled = {
        key: value.replace("OWN", asked.origin).replace("PORT", str(asked.port)) for key, value in headers.items()
    }
    body = json.dumps({"query": pausing(True)}) if method in ("POST", "PUT") else None

    status = asked.status(method, path, who | filled, body)

    assert status == 403
    assert not is_paused(behind)


@needs_nginx
def test_nginx_gives_live_updates_to_its_own_pages_alone(site: Site) -> None:
    assert handshake(site.dagster, site.dagster.origin, as_user(EDITOR)) == 101
    assert handshake(site.dagster, site.dagster.origin, {}) == 401
    assert handshake(site.dagster, FOREIGN["Origin"], as_user(EDITOR)) == 403
    assert handshake(site.dagster, site.mlflow.origin, as_user(EDITOR)) == 403


@needs_nginx
def test_viewers_change_nothing(site: Site) -> None:
    site.behind[DAGSTER].graphql(pausing(False))

    answer = site.look.graphql(pausing(True), as_user(VIEWER))

    assert "UnauthorizedError" in answer["errors"][0]["message"]
    assert not is_paused(site.behind[DAGSTER])
    assert site.look.graphql("{ version }", as_user(VIEWER))["data"]["version"]


@needs_nginx
@pytest.mark.parametrize("host", ["elsewhere.example", "127.0.0.1", "localhost", f"{DAGSTER}.elsewhere.example"])
def test_nginx_answers_to_its_own_names_alone(site: Site, host: str) -> None:
    assert site.dagster.status("GET", "/", as_user(EDITOR, Host=f"{host}:{site.dagster.port}")) == 421
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        Server(site.dagster.port, host).status("GET", "/", as_user(EDITOR))


@needs_nginx
def test_nginx_limits_what_is_sent(site: Site) -> None:
    own = as_user(EDITOR, Origin=site.dagster.origin, **JSON)

    assert site.dagster.status("POST", "/graphql", own, " " * (1024 * 1024 + 1)) == 413


EXPERIMENTS = "/api/2.0/mlflow/experiments/create"


@needs_nginx
def test_mlflow_is_changed_by_its_own_pages_and_by_programs_alone(site: Site) -> None:
    def create(name: str, headers: Mapping[str, str]) -> int:
        return site.mlflow.status(
            "POST", EXPERIMENTS, as_user(EDITOR) | JSON | dict(headers), json.dumps({"name": name})
        )

    assert create("by a program", {}) == 200
    assert create("by a page", {"Origin": site.mlflow.origin, "Sec-Fetch-Site": "same-origin"}) == 200
    assert create("by another page", FOREIGN) == 403
    assert create("by Dagster's page", {"Origin": site.dagster.origin, "Sec-Fetch-Site": "same-site"}) == 403
    assert create("by a page of this machine", {"Origin": "http://localhost:8000"}) == 403
    assert site.mlflow.status("POST", EXPERIMENTS, JSON, json.dumps({"name": "by nobody"})) == 401


@needs_nginx
def test_mlflow_itself_believes_every_page_of_the_same_machine_and_refuses_other_names(site: Site) -> None:
    mlflow = site.behind[MLFLOW]

    def create(name: str, headers: Mapping[str, str]) -> int:
        return mlflow.status("POST", EXPERIMENTS, JSON | dict(headers), json.dumps({"name": name}))

    assert create("local page", {"Origin": "http://localhost:8000"}) == 200
    assert create("foreign page", FOREIGN) == 403
    assert create("foreign name", {"Host": "elsewhere.example"}) == 403


@needs_nginx
@pytest.mark.skipif(not browser.CHROMIUM, reason="needs a browser: apt-get install chromium")
def test_dagsters_and_mlflows_pages_work_through_nginx(site: Site, tmp_path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    # Given
    run = f'launchRun(executionParams: {{selector: {{pipelineName: "nothing", {PLACE}}}}})'
    answer = site.dagster.graphql(
        f"mutation {{ {run} {{ ... on LaunchRunSuccess {{ run {{ runId }} }} }} }}", as_user(EDITOR)
    )
    launched = answer["data"]["launchRun"]["run"]["runId"]
    errors: list[str] = []
    refused: list[str] = []
    frames: list[str] = []
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path,
            executable_path=browser.CHROMIUM,
            args=[*browser.CHROMIUM_OPTIONS, "--host-resolver-rules=MAP *.bikes.example 127.0.0.1"],
            ignore_https_errors=True,
            http_credentials={"username": EDITOR[0], "password": EDITOR[1]},
        )
        page = context.pages[0]
        page.on(
            "console",
            lambda message: errors.append(f"{message.text} {message.location}") if message.type == "error" else None,
        )
        page.on(
            "response", lambda answer: refused.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None
        )
        page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(str(frame))))
        # When
        page.goto(f"{site.dagster.origin}/runs")
        expect(page.get_by_text(launched[:8]).first).to_be_visible(timeout=30_000)
        page.goto(f"{site.dagster.origin}/runs/{launched}")
        expect(page.get_by_text("Queued").first).to_be_visible(timeout=30_000)
        for _ in range(150):
            if any("RunEnqueuedEvent" in frame for frame in frames):  # a live update
                break
            page.wait_for_timeout(100)
        else:
            raise AssertionError(f"no live update among {frames}")
        page.goto(f"{site.mlflow.origin}/#/experiments")
        expect(page.get_by_text("Default", exact=True).first).to_be_visible(timeout=30_000)
        context.close()
    # Then
    assert refused == [f"404 {site.mlflow.origin}/ajax-api/2.0/mlflow/users/current"]  # it has no users of its own
    assert len(errors) == len(refused), errors


# bikes ui


def test_bikes_ui_read_only_changes_nothing_and_runs_no_daemon(tmp_path: Path) -> None:
    # Given
    port, mlflow_port, lineage_port = browser.free_ports(3)
    ports = ["--dagster-port", str(port), "--mlflow-port", str(mlflow_port), "--lineage-port", str(lineage_port)]
    command = [sys.executable, "-c", "from bikes_assets.cli import main; main()", "ui", "--read-only", *ports]
    settings = browser.settings_of(tmp_path, "2011-02", f"http://127.0.0.1:{port}", f"http://127.0.0.1:{mlflow_port}")
    server = Server(port)
    # When
    with started(command, tmp_path, settings | {"PYTHONPATH": str(browser.ROOT)}) as process:
        wait_for(server, "/server_info", process)
        wait_for(Server(mlflow_port), "/health", process)
        answer = server.graphql(pausing(True))
        nodes = server.graphql("{ assetNodes { assetKey { path } } }")["data"]["assetNodes"]
        created = Server(mlflow_port).status("POST", EXPERIMENTS, JSON, json.dumps({"name": "by hand"}))
        commands = [" ".join(child.cmdline()) for child in process.children(recursive=True)]
        addresses = listening((process,))
    # Then
    assert "UnauthorizedError" in answer["errors"][0]["message"]
    assert ["demand_features"] in [node["assetKey"]["path"] for node in nodes]
    assert [command for command in commands if "daemon" in command] == []
    assert addresses == {"127.0.0.1"}
    assert created == 200
    with closing(sqlite3.connect(tmp_path / "data" / "mlflow" / "mlflow.db")) as store:
        assert ("by hand",) in store.execute("SELECT name FROM experiments").fetchall()
    assert [command for command in commands if "mlflow.db" in command] == []  # whoever is here may read arguments


# The services of docs/operate.md


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize("unit", sorted(SERVICES.glob("*.service")), ids=lambda unit: unit.stem)
def test_each_service_is_one_that_systemd_takes_and_is_fenced_in(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text()
    copy = tmp_path / unit.name
    copy.write_text(text.replace("/opt/bikes/.venv/bin/", str(Path(sys.executable).parent) + "/"))

    verified = subprocess.run(["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True)
    security = ["systemd-analyze", "security", "--offline=true", "--threshold=40", str(copy)]
    fenced = subprocess.run(security, capture_output=True, text=True)

    assert (verified.returncode, verified.stderr) == (0, "")
    assert fenced.returncode == 0, fenced.stdout
    assert "127.0.0.1" in text or any(listens_nowhere in text for listens_nowhere in ("dagster-daemon", "bin/celery"))


def handshake(server: Server, origin: str, headers: Mapping[str, str]) -> int:
    """Return the status with which a WebSocket's handshake is answered."""
    from websockets.exceptions import InvalidStatus

    try:
        acknowledged(server, origin, headers)
    except InvalidStatus as error:
        return error.response.status_code
    return 101


def acknowledged(server: Server, origin: str, headers: Mapping[str, str] | None = None) -> bool:
    """Open a WebSocket as a page of an origin does, and return whether the server begins to talk."""
    from websockets.sync.client import connect
    from websockets.typing import Origin, Subprotocol

    secure = {"ssl": unverified(), "server_hostname": server.name} if server.name else {}
    with connect(
        server.origin.replace("http", "ws", 1) + "/graphql",
        sock=socket.create_connection(("127.0.0.1", server.port), timeout=30),
        origin=Origin(origin),
        subprotocols=[Subprotocol("graphql-ws")],
        additional_headers=dict(headers or {}),
        proxy=None,
        **secure,
    ) as connection:
        connection.send(json.dumps({"type": "connection_init"}))
        return json.loads(connection.recv(30))["type"] == "connection_ack"
