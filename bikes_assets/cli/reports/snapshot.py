"""What `bikes snapshot` and `bikes verify` print."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from bikes_assets.cli.reports.terminal import say, say_json
from bikes_assets.core.texts import counted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bikes_assets.app.snapshot import Verification
    from bikes_assets.verification.snapshot import Snapshot


def progress(deep: bool) -> AbstractContextManager[Callable[[str, int, int], None]]:
    """Show a progress bar if everything is read; a comparison alone is too short for one, and for its import."""
    if not deep:
        return nullcontext(lambda *_: None)
    from bikes_assets.cli.reports.runs import progress_bar

    return progress_bar()


def print_snapshot(snapshot: Snapshot, file: Path) -> None:
    """Print what was written, and where."""
    counts = {
        "partition": snapshot.partitions,
        "registered model": snapshot.models,
        "source file": snapshot.source,
    }
    told = ", ".join(counted(len(items), what) for what, items in counts.items())
    say(f"{file}: {told}, code of {counted(len(snapshot.code), 'asset')}")


def print_verification(found: Verification, *, as_json: bool) -> None:
    """Print each difference between store and snapshot, what is damaged, and what could not be checked."""
    if as_json:
        say_json(json.dumps(found.to_dict()))
        return
    for change in found.changes:
        say(change, colour=None if change.is_remade else "red")
    for message in found.damage.values():
        say(message, colour="red")
    for note in found.notes:
        say(note, colour="yellow")
    if found.checked:
        say(f"{found.checked} versions, model files and copies were read and checked, {len(found.damage)} are damaged.")
    differing = sum(not change.is_remade for change in found.changes)
    if differing:
        say(f"The store differs from the snapshot in {differing} of these.")
    elif not found.damage:
        say("The store is what the snapshot says.")
