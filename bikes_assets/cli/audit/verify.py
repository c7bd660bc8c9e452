"""`bikes audit verify`: whether the log, or an export of it, is as it was written."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bikes_assets.cli import options
from bikes_assets.cli.terminal import print_json, say, say_wrapped

if TYPE_CHECKING:
    from bikes_assets.governance.audit.export import AuditResult

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--public-key", type=_FILE, help="The key that must have signed the log, such as public.pem.")
@click.option("--head", type=_FILE, help="A head.json that was kept, with its head.sig beside it.")
@options.as_json
def verify(folder: Path | None, public_key: Path | None, head: Path | None, *, as_json: bool) -> bool:
    """Find entries that were edited, removed, moved, inserted or cut off.

    FOLDER is an export, for which no store is needed. Without it the log of this store is verified and brought up to date, and
    compared with the store's records. Exit code 1 when something is wrong.
    """
    from bikes_assets.governance.audit import export as exports

    key = exports.public_key(public_key) if public_key else None
    kept = exports.KeptHead.read(head) if head else None
    if folder:
        result = exports.verify(folder, key, kept)
    else:
        from bikes_assets.app.audit import upkeep

        result = upkeep.verify(key, kept)
    if as_json:
        print_json([_values(result)])
    else:
        print_result(result, is_store=folder is None, is_key_named=key is not None)
    return not result.findings


def print_result(result: AuditResult, *, is_store: bool, is_key_named: bool) -> None:
    """Print what was found: what is wrong first, or else what the log is verified by."""
    for finding in result.findings:
        say_wrapped(f"{finding.how}: {finding.what}", colour="red")
    entries = _entries(result.head.number)
    if result.findings:
        if result.head.number:
            say(f"up to there: {entries}")
        return
    if result.appended:
        say(f"appended, for they were missing: {_entries(result.appended)}")
    say_wrapped(f"whole: {entries}{', each as the record in the store says' if is_store else ''}")
    if result.signed is None:
        say_wrapped(
            "not signed: whoever may write to the log can replace it as a whole; bikes audit init FILE writes a key"
        )
        return
    unsigned = result.head.number - result.signed
    say_wrapped(
        f"signed: up to entry {result.signed:,}, by the key {result.key}"
        + (f"; {unsigned:,} since" if unsigned else "")
    )
    if not (is_store or is_key_named):
        say_wrapped("the key is that of the export itself: name the one that you were given by --public-key")


def _entries(count: int) -> str:
    return f"{count:,} {'entry' if count == 1 else 'entries'}"


def _values(result: AuditResult) -> dict[str, Any]:
    return {
        "is_whole": not result.findings,
        "entries": result.head.number,
        "digest": result.head.digest,
        "signed": result.signed,
        "key": result.key or None,
        "appended": result.appended,
        "findings": [asdict(finding) for finding in result.findings],
    }
