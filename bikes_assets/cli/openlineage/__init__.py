"""`bikes openlineage`: runs as OpenLineage's events, and those of other tools."""

from __future__ import annotations

import click

from bikes_assets.cli.openlineage.export import export
from bikes_assets.cli.openlineage.receive import ingest, serve
from bikes_assets.cli.openlineage.send import send
from bikes_assets.cli.openlineage.status import status


@click.group()
def openlineage() -> None:
    """Exchange OpenLineage's events with other tools."""


for command in (export, send, status, ingest, serve):
    openlineage.add_command(command)
