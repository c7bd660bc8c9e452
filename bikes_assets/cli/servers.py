"""`bikes mcp`, and the servers behind `bikes ui`, all on 127.0.0.1: started together, stopped together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from urllib.parse import urlsplit

import click

from bikes_assets.app.settings import ROOT, settings
from bikes_assets.app.store import current, current_identity, mlflow_client, mlflow_runs
from bikes_assets.core.errors import SettingsError, StoreError, TrackingError
from bikes_assets.events.pages import mlflow_experiment
from bikes_assets.storage.processes import end_as_interrupted, ending_with_this

LINEAGE_PORT = 5050
_LOOPBACK = "127.0.0.1"
_STOP_SECONDS = 15
_DEFAULTS = {
    "DAGSTER_GRPC_TIMEOUT_SECONDS": "300",  # a busy machine may take more than Dagster's minute to start a run
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "127.0.0.1,127.0.0.1:*,localhost,localhost:*",  # no foreign name for it
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # it would keep eight processes for jobs that do not exist
}


@click.command()
@click.option("--host", default=_LOOPBACK, show_default=True, help="Address to listen on.")
@click.option("--port", default=LINEAGE_PORT, show_default=True, type=click.IntRange(1, 65_535), help="Its port.")
def explore(host: str, port: int) -> None:
    """Open the lineage page. It shows what is computed from what, down to columns, versions and rows; Ctrl-C stops it.

    It only reads, and also takes events of other tools, as bikes openlineage serve does. On another host than 127.0.0.1
    it needs a token, BIKES_LINEAGE_TOKEN, and is opened as http://HOST:PORT/?token=TOKEN.
    """
    import uvicorn

    from bikes_assets.web.own_pages import LOCAL
    from bikes_assets.web.page import application

    known = settings()
    token, is_local = known.lineage_token.get_secret_value(), host in LOCAL
    if not (is_local or token):
        raise SettingsError(
            f"BIKES_LINEAGE_TOKEN: found none, expected a token, since others may reach {host}; set one"
        )
    current_identity()  # an error of the store is one before anybody asks
    require_free(port, "by --port", host)
    shown = urlsplit(known.lineage_url).hostname
    names = (*LOCAL, host, *([shown] if shown else []))
    app = application(names=names, token=token, key=known.openlineage_api_key.get_secret_value())
    click.echo(f"http://{f'[{host}]' if ':' in host else host}:{port} (Ctrl-C stops it)")
    # h11 reads headers of 64 kB at most, other parsers as long as any sends them
    uvicorn.run(
        app, host=host, port=port, log_level="warning", access_log=False, http="h11", timeout_graceful_shutdown=1
    )


def lineage_command(port: int) -> list[str]:
    """Return the command for the lineage page."""
    return [sys.executable, "-m", "bikes_assets", "explore", "--port", str(port)]


@click.command()
def mcp() -> None:
    """Answer questions of agents over MCP. An agent starts it, and asks on its standard input and output.

    Its tools are upstream, downstream, path, trace, diff, status and search. They only read, and answer what the commands
    print with --json, in pages of at most 25 kB. How to add it to an agent's configuration: docs/agents.md.
    """
    current()  # an error of the settings is one before anybody asks
    if find_spec("mcp") is None:
        raise SettingsError("bikes mcp needs a package that is missing: pip install 'bikes-assets[mcp]'")
    from bikes_assets.web.mcp import serve

    serve()


def dagster_command(port: int, *, read_only: bool = False) -> list[str]:
    """Return the command for Dagster's guarded webserver and daemon; or for a read-only webserver alone."""
    serve = ["bikes_assets.cli.guarded", *(("webserver", "--read-only") if read_only else ("dev",))]
    workspace = ["--workspace", str(ROOT / "workspace.yaml")]
    return [sys.executable, "-m", *serve, "-h", "127.0.0.1", "-p", str(port), *workspace]


def mlflow_command(port: int) -> list[str]:
    """Return the command for MLflow's UI; the environment names the store, whose URL may contain a password.

    Raises:
        SettingsError: MLflow's store is in use by another store.
        StoreError: it is damaged, or of another version of MLflow.
    """
    mlflow_client()  # creates the tables before several workers would at once
    return [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]


def mlflow_page(server: str) -> str:
    """Return the URL of the MLflow page that people want to see: the experiment, which is created if it is missing.

    MLflow's own links, in the list of experiments, lead to its pages for language models.

    Args:
        server: URL at which MLflow is served.

    Raises:
        SettingsError: MLflow's store is in use by another store.
        StoreError: it is damaged, or of another version of MLflow.
    """
    mlflow_client()
    try:
        return mlflow_experiment(server, mlflow_runs(current_identity().store).experiment_id)
    except TrackingError:  # somebody has deleted or renamed the experiment: `bikes sync` restores it
        return mlflow_experiment(server)


def require_free(port: int, how: str, host: str = _LOOPBACK) -> None:
    """Fail where something listens on a port.

    Args:
        port: the port.
        how: how to choose another one, in words.
        host: address of this machine.

    Raises:
        SettingsError: something does.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        if probe.connect_ex((host, port)) == 0:
            raise SettingsError(f"port {port} of {host} is taken; choose another {how}")


def serve_until_interrupted(commands: Mapping[str, Sequence[str]], ports: Sequence[int]) -> None:
    """Run the commands until Ctrl-C, SIGTERM or SIGHUP, or until one of them ends, and then stop them all.

    If this process is killed, they stop as well.

    Args:
        commands: name shown to people, and the command.
        ports: ports of 127.0.0.1 that must be free.

    Raises:
        SettingsError: a port is taken.
        StoreError: a server has ended by itself.
    """
    for port in ports:
        require_free(port, "(see bikes ui --help)")
    # a background shell passes on ignored signals, which the servers would inherit
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end_as_interrupted()
    environment = _DEFAULTS | os.environ | {"MLFLOW_BACKEND_STORE_URI": settings().tracking_uri}
    # not in the project's root: Dagster would read DAGSTER_HOME from .env there, over the environment's
    folder = settings().dagster_home
    ending = ending_with_this(signal.SIGINT)
    servers = [
        subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, preexec_fn=ending)
        for command in commands.values()
    ]
    for line in commands:
        click.secho(line, bold=True)
    click.echo("Ctrl-C stops all.")
    try:
        while all(server.poll() is None for server in servers):
            time.sleep(0.5)
        raise StoreError("a server has ended by itself, so all were stopped; what it printed says why")
    except KeyboardInterrupt:
        click.echo("Stopping.")
    finally:
        _stop(servers)


def _stop(servers: Sequence[subprocess.Popen[bytes]]) -> None:
    for server in servers:
        if server.poll() is None:
            server.send_signal(signal.SIGINT)
    deadline = time.monotonic() + _STOP_SECONDS
    for server in servers:
        try:
            server.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            server.kill()
