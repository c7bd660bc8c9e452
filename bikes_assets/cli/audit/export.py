"""`bikes audit export`: the log for somebody who has no access to the store."""

from __future__ import annotations

from pathlib import Path

import click

from bikes_assets.cli.terminal import say


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def export(folder: Path) -> None:
    """Write log.ndjson, head.json, head.sig and public.pem into FOLDER.

    bikes audit verify FOLDER checks them without the store. The signature alone, with openssl: openssl pkeyutl -verify
    -pubin -inkey public.pem -rawin -in head.json -sigfile head.sig
    """
    from bikes_assets.app.audit import upkeep

    result = upkeep.export(folder)
    by = (
        f"signed by the key {result.key[:16]}" if result.key else "not signed, for no key is set: bikes audit init FILE"
    )
    say(f"{folder}: entries 1 to {result.head.number:,}, {by}")
