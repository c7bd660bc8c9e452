"""`bikes openlineage ingest` and `serve`: events of other tools, from files and over HTTP."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from bikes_assets.app.openlineage.received import received
from bikes_assets.app.settings import settings
from bikes_assets.cli import options
from bikes_assets.cli.servers import LINEAGE_PORT, require_free
from bikes_assets.cli.terminal import complain, print_json, say
from bikes_assets.core.errors import EventError, SettingsError
from bikes_assets.core.texts import counted
from bikes_assets.lineage.openlineage.parsed import MOST_BYTES, loaded
from bikes_assets.lineage.openlineage.received import Added, one_by_one

if TYPE_CHECKING:
    from collections.abc import Iterator

STDIN = Path("-")


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(allow_dash=True, path_type=Path), metavar="FILE...")
@options.as_json
def ingest(files: tuple[Path, ...], *, as_json: bool) -> bool:
    """Store the events of other tools: NDJSON, one event a line, or JSON. FILE - is standard input.

    Their datasets, columns, jobs and runs are then found by every question. Events that are there already are not
    stored again. Invalid ones are listed, and the others are stored; exit code 1 when there are any.
    """
    answers = dict[str, Added]()
    with ExitStack() as stack:
        opened = [(str(file), stack.enter_context(_opened(file))) for file in files]
        for name, handle in opened:
            answers[name] = received().add(one_by_one(_values(handle)))
    for name, added in answers.items():
        if as_json:
            continue
        for place, why in added.refused.items():
            complain(f"{name}: event {place + 1}: {why}")
        refused = f", {added.invalid:,} invalid" if added.invalid else ""
        say(f"{name}: {counted(added.stored, 'event')} stored, {added.known:,} known already{refused}")
    if as_json:
        print_json(
            {"file": name, "stored": added.stored, "known": added.known, "refused": _refused(added)}
            for name, added in answers.items()
        )
    return not any(added.invalid for added in answers.values())


def _refused(added: Added) -> list[dict[str, object]]:
    return [{"event": place + 1, "reason": why} for place, why in added.refused.items()]


def _opened(file: Path) -> BinaryIO:
    """Return a file to read.

    Raises:
        SettingsError: it cannot be read.
    """
    if file == STDIN:
        return sys.stdin.buffer
    try:
        return file.open("rb")
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}; name a file of OpenLineage events") from error


def _values(handle: BinaryIO) -> Iterator[object]:
    """Yield the JSON values of a file: one a line, or one over all lines; an error for each that cannot be read."""
    first = handle.readline(MOST_BYTES + 1)
    value = _or_error(first)
    if first.strip() and isinstance(value, EventError):
        rest = handle.read(MOST_BYTES)
        whole = _or_error(first + rest)
        if not isinstance(whole, EventError) or first.strip() in (b"{", b"["):
            yield whole
            return
        lines = (first + rest + handle.readline(MOST_BYTES)).splitlines()
        yield from (_or_error(line) for line in lines if line.strip())
    elif first.strip():
        yield value
    yield from _lines(handle)


def _lines(handle: BinaryIO) -> Iterator[object]:
    while line := handle.readline(MOST_BYTES + 1):
        if line.strip():
            yield _or_error(line)
        while len(line) > MOST_BYTES and not line.endswith(b"\n"):  # the rest of a line that is too long
            line = handle.readline(MOST_BYTES + 1)


def _or_error(text: bytes) -> object:
    try:
        return loaded(text)
    except EventError as error:
        return error


@click.command()
@click.option(
    "--port", default=LINEAGE_PORT, show_default=True, type=click.IntRange(1, 65535), help="Port of 127.0.0.1."
)
def serve(port: int) -> None:
    """Receive events over HTTP: POST http://127.0.0.1:5050/api/v1/lineage, until Ctrl-C.

    With BIKES_OPENLINEAGE_API_KEY each request must have Authorization: Bearer KEY.
    """
    import uvicorn

    from bikes_assets.web.openlineage import PATH, application

    received().counts()  # an error of the file is one before anybody sends
    require_free(port, "by --port")
    app = application(settings().openlineage_api_key.get_secret_value())
    say(f"http://127.0.0.1:{port}{PATH} (Ctrl-C stops it)")
    # h11 reads headers of 64 kB at most, other parsers as long as any sends them
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False, http="h11")
