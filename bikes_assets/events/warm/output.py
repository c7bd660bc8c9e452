"""What runs print, captured in files and shown where they were started, for dagster.yaml to name.

compute_logs: {module: bikes_assets.events.warm.output, class: RunOutput, config: {base_dir: {env: DAGSTER_HOME}}}

Dagster starts four processes for that with each run: two that show what is written to the files, and two that end those
when the run is killed. One that is killed before the latter have begun leaves the former behind for good. Here threads of
the run itself do it, which end with it, however it ends.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from dagster._core.execution.compute_logs import redirect_to_file
from dagster._core.storage.compute_log_manager import CapturedLogContext, ComputeIOType
from dagster._core.storage.local_compute_log_manager import IO_TYPE_EXTENSION, LocalComputeLogManager
from dagster._utils import ensure_file, touch_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dagster._serdes import ConfigurableClassData

_LOOK_SECONDS = 0.2
"""How often it is looked for new output."""
_END_SECONDS = 5
"""How long a run waits at its end for a terminal or pipe to take what was printed."""
_CHUNK = 1 << 16


class RunOutput(LocalComputeLogManager):
    """Captures what runs print as Dagster does by default, in the same files under `storage` of its home."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> RunOutput:
        """Return the manager of a home."""
        place = os.path.join(config_value["base_dir"], "storage")
        return cls(place, config_value.get("polling_timeout"), inst_data)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        """Capture what this process and its children print, and show it as well."""
        out, error = (self._file(log_key, kind) for kind in (ComputeIOType.STDOUT, ComputeIOType.STDERR))
        with _captured(sys.stdout, out), _captured(sys.stderr, error):
            yield CapturedLogContext(log_key)
        touch_file(self.complete_artifact_path(log_key))  # by which readers know that there is no more

    def _file(self, log_key: Sequence[str], kind: ComputeIOType) -> str:
        return self.get_captured_local_path(log_key, IO_TYPE_EXTENSION[kind])


@contextmanager
def _captured(stream: TextIO, file: str) -> Iterator[None]:
    """Write what is printed to a stream to a file, and show it in the stream's place."""
    ensure_file(file)
    try:
        shown = os.dup(stream.fileno())
    except (OSError, ValueError, AttributeError):  # none, a closed one, or one of a test, which has no descriptor
        with redirect_to_file(stream, file):
            yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_show, args=(file, os.path.getsize(file), shown, over), daemon=True)
    thread.start()
    try:
        with redirect_to_file(stream, file):
            yield
    finally:
        over.set()
        thread.join(_END_SECONDS)


def _show(file: str, begin: int, shown: int, over: threading.Event) -> None:
    """Copy what is written to a file from some byte on, until it is over."""
    with open(file, "rb") as source, os.fdopen(shown, "wb", buffering=0) as target:
        source.seek(begin)
        is_last = False
        while True:
            try:
                while chunk := source.read(_CHUNK):
                    _write(target.fileno(), chunk)
            except OSError:  # nobody reads it any more
                return
            if is_last:
                return
            is_last = over.wait(_LOOK_SECONDS)


def _write(target: int, chunk: bytes) -> None:
    while chunk:
        chunk = chunk[os.write(target, chunk) :]
