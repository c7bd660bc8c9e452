"""`bikes audit init`: a key pair for the audit log's signatures."""

from __future__ import annotations

from pathlib import Path

import click

from bikes_assets.cli.terminal import say


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def init(file: Path) -> None:
    """Write a new private key to FILE, and the public key beside it. No file is replaced.

    Each head of the audit log is signed with it once BIKES_AUDIT_KEY_FILE names the file, or BIKES_AUDIT_PRIVATE_KEY holds
    its content. Give the public key to those who verify.
    """
    from bikes_assets.app.audit.keys import KEY, KEY_FILE, write_new

    beside, public = write_new(file)
    say(
        f"private key: {file} (only this user may read it; keep it off this machine's backups)",
        f"public key:  {beside}",
        f"fingerprint: {public.fingerprint}",
        f"Set {KEY_FILE}={file.absolute()}, or its content as {KEY}, and give the public key to those who verify.",
    )
