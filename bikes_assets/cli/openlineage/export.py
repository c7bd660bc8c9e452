"""`bikes openlineage export`: runs as OpenLineage's events, in a file."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bikes_assets.cli import options
from bikes_assets.cli.terminal import complain, say
from bikes_assets.core.errors import LineageError, SettingsError
from bikes_assets.core.record import parse_address
from bikes_assets.core.texts import counted
from bikes_assets.lineage.openlineage.sending.receivers import require_package
from bikes_assets.storage import disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bikes_assets.lineage.openlineage.events import Selection

STDOUT = Path("-")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@options.addresses
@click.option("--run", "runs", multiple=True, metavar="ID", help="Only this Dagster run; may be given several times.")
@click.option("--since", metavar="TIME", help="Only what has ended since, such as 2012-08-14T17:00, or is going on.")
def export(file: Path, addresses: tuple[str, ...], runs: tuple[str, ...], since: str | None) -> bool:
    """Write runs to FILE, one event a line. FILE - is standard output; the file is replaced atomically.

    With ADDRESS only the runs that materialized it: demand_features or demand_features[2012-08]. Exit code 1 when there
    are none.
    """
    chosen = _selection(addresses, runs, since)
    from bikes_assets.app.outgoing.catalog import catalog
    from bikes_assets.app.store import current
    from bikes_assets.lineage.openlineage.events import events, line
    from bikes_assets.lineage.openlineage.history import history

    seen, count = set[str](), 0
    with _written(file) as write:
        for event in events(history(current().events), catalog(), chosen):
            write(f"{line(event)}\n")
            seen.add(event["run"]["runId"])
            count += 1
    if not count:
        complain("found no such runs; bikes status lists what there is")
    elif file != STDOUT:
        say(f"{file}: {counted(count, 'event')} of {counted(len(seen), 'run')}")
    return count > 0


def _selection(addresses: tuple[str, ...], runs: tuple[str, ...], since: str | None) -> Selection:
    """Return which attempts are wanted.

    Raises:
        LineageError: an address is none, or of a version.
        SettingsError: the package of OpenLineage is not installed.
    """
    require_package()
    from bikes_assets.lineage.openlineage.events import Selection
    from bikes_assets.lineage.queries import unix_seconds_of

    places = set[tuple[str, str | None]]()
    for address in addresses:
        asset, partition, version = parse_address(address)
        if version is not None:
            raise LineageError(
                f"found address {address!r}, expected an asset or a partition, such as demand_features[2012-08]"
            )
        places.add((asset, partition))
    return Selection(frozenset(runs), frozenset(places), unix_seconds_of(since) if since else 0.0)


@contextmanager
def _written(file: Path) -> Iterator[Callable[[str], object]]:
    """Yield what writes to a file, which is replaced when all is written; to a device or standard output it goes at once."""
    if file == STDOUT:
        yield sys.stdout.write
        return
    try:
        with disk.replaced(file) as handle:
            yield lambda text: handle.write(text.encode())
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}; name a file in a folder that this user may write to") from error
