"""`bikes audit`: the log of what was materialized and decided, its signatures, and whether it is as it was written."""

from __future__ import annotations

import click

from bikes_assets.cli.audit.export import export
from bikes_assets.cli.audit.init import init
from bikes_assets.cli.audit.show import show
from bikes_assets.cli.audit.verify import verify


@click.group()
def audit() -> None:
    """Sign, verify and export the log of what was decided."""


for command in (init, show, verify, export):
    audit.add_command(command)
