"""Receivers of events: the transports of openlineage-python, as its own configuration names them.

A transport may wait for ever, end the connection before the answer, follow a redirection that drops what was sent, or
only log what went wrong. Here an event counts as delivered where its receiver is known to have taken it; everything else
is an error, within a time.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from bikes_assets.core.errors import LineageError, SettingsError
from bikes_assets.core.secrets import learn, scrubbed, shown
from bikes_assets.core.texts import plain, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from openlineage.client import OpenLineageClient
    from openlineage.client.client import Event
    from openlineage.client.event_v2 import RunEvent
    from openlineage.client.transport import Transport

HOW = (
    "set OPENLINEAGE_URL, or OPENLINEAGE_CONFIG to an openlineage.yml that has `transport:` (also found in the working "
    "directory and in ~/.openlineage)"
)
"""How to configure a receiver."""
_SECONDS, _WITH_RETRIES = 10.0, 60.0
"""Seconds that a transport without a timeout of its own may take for an event; and one with retries of its user's."""
_MOST_OF_ERROR = 200
_OF_TRANSPORTS = logging.getLogger("openlineage.client.transport")


class DeliveryError(LineageError):
    """A receiver is not known to have taken an event."""


def is_configured() -> bool:
    """Return whether a receiver may be configured; this imports nothing, and reads no file."""
    if os.environ.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true":
        return False
    names = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG")
    return (
        any(os.environ.get(name) for name in names)
        or any(name.startswith("OPENLINEAGE__TRANSPORT__") for name in os.environ)
        or any(file.is_file() for file in (Path("openlineage.yml"), *_of_home()))
    )


def _of_home() -> Iterable[Path]:
    with suppress(RuntimeError):  # a user without a home
        yield Path("~/.openlineage/openlineage.yml").expanduser()


class Receiver:
    """A receiver.

    Args:
        name: what it is called: its kind and where it is, without secrets.
        client: what the configuration says of all receivers, such as tags and filters.
        transport: how it is reached.
    """

    def __init__(self, name: str, client: OpenLineageClient, transport: Transport) -> None:
        self.name = name
        self._client, self._transport = client, transport
        self._is_stuck = False

    def send(self, event: RunEvent) -> None:
        """Deliver an event; one that the configuration filters out counts as delivered.

        Raises:
            DeliveryError: the receiver is not known to have taken it; the message is one line without secrets.
        """
        problems = list[str]()
        try:
            told, seconds = self._as_configured(event), _seconds_of(self._transport)
            if told is None:
                return
            with _errors_logged(problems):
                self._within(seconds, lambda: _emit(self._transport, told, seconds))
        except DeliveryError:
            raise
        except Exception as error:  # noqa: BLE001 - a transport may raise anything
            raise DeliveryError(_reason(error, self._transport)) from None
        if problems:
            raise DeliveryError(_line(problems[0]))

    def _as_configured(self, event: RunEvent) -> Event | None:
        """Return an event as the client would emit it, None where it is filtered out.

        Without the code location of the working directory, which is not where the code of a past run was.
        """
        client = self._client
        told = client.update_event_tags_facets(client.add_environment_facets(event))
        if client.config.dataset.reducing_enabled:
            told = client.reduce_datasets(told)
        return client.filter_event(told)

    def close(self) -> None:
        """Close the connection; one that is stuck is left to end by itself."""
        if not self._is_stuck:
            with suppress(Exception):
                self._transport.close(1.0)

    def _within(self, seconds: float, call: Callable[[], object]) -> None:
        """Call a function in a thread of its own, which is given up after some seconds: an answer may trickle for ever."""
        errors = list[BaseException]()

        def run() -> None:
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - it is raised below
                errors.append(error)

        if self._is_stuck:
            raise DeliveryError("the last event is still on its way")
        thread = Thread(target=run, name="openlineage", daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            self._is_stuck = True
            raise DeliveryError(f"no complete answer within {seconds:g} s")
        if errors:
            raise errors[0]


def receivers() -> list[Receiver]:
    """Return the receivers that are configured: each transport of a composite one is a receiver of its own.

    Raises:
        SettingsError: the package is not installed, or the configuration cannot be used.
    """
    file = os.environ.get("OPENLINEAGE_CONFIG")
    if not is_configured():
        return []
    if file and not os.access(file, os.R_OK):
        raise SettingsError(f"OPENLINEAGE_CONFIG: found {file!r}, expected a file that this user may read")
    require_package()
    from openlineage.client import OpenLineageClient

    try:
        client = OpenLineageClient()
        for name, value in _values("OPENLINEAGE", client.config.transport):
            learn({name: value})
        if not (client.config.transport or {}).get("type") and not os.environ.get("OPENLINEAGE_URL"):
            return []  # the client would print events
        transports = [*_single(client.transport)]
    except Exception as error:  # noqa: BLE001 - whatever a transport finds wrong in its configuration
        told = _line(str(error) or type(error).__name__)
        raise SettingsError(f"OpenLineage's configuration: found one that cannot be used ({told}); {HOW}") from None
    found = dict[str, Receiver]()
    for number, transport in enumerate(transports, 1):
        _limit(transport)
        name = _name(transport)
        if name in found:
            name = f"{name} ({transport.name or number})"
        found[name] = Receiver(name, client, transport)
    return [*found.values()]


def require_package() -> None:
    """Raise an error where openlineage-python is not installed.

    Raises:
        SettingsError: it is not.
    """
    try:
        import_module("openlineage.client")
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("openlineage"):
            raise
        raise SettingsError(
            "OpenLineage: found no package openlineage-python, expected it; install the extra `openlineage`"
        ) from None


def _single(transport: Transport) -> Iterator[Transport]:
    if transport.kind == "composite":
        for part in transport.transports:  # pyright: ignore[reportAttributeAccessIssue] - of this kind
            yield from _single(part)
    elif transport.kind != "noop":
        yield transport


def _limit(transport: Transport) -> None:
    """Have an HTTP transport try once where its user has set no retries: an event is sent again later, and not at once."""
    if transport.kind == "http":
        from openlineage.client.transport.http import HttpConfig

        config: Any = transport.config  # pyright: ignore[reportAttributeAccessIssue] - of this kind
        if config.retry == HttpConfig("http://localhost").retry:
            config.retry = {"total": 0}


def _seconds_of(transport: Any) -> float:
    """Return the seconds that a transport may take for an event: to connect, and to answer."""
    if transport.kind != "http":
        return _SECONDS
    return 2 * (transport.timeout or _SECONDS) + (1 if transport.config.retry == {"total": 0} else _WITH_RETRIES)


def _emit(transport: Any, event: Event, seconds: float) -> None:
    """Emit an event and wait until it has arrived.

    Raises:
        DeliveryError: it has not.
    """
    failed = transport.get_stats()["failed"] if hasattr(transport, "get_stats") else 0
    answer = transport.emit(event)
    if hasattr(transport, "wait_for_completion") and not transport.wait_for_completion(seconds):
        raise DeliveryError(f"not acknowledged within {seconds:g} s")
    if hasattr(transport, "get_stats") and transport.get_stats()["failed"] > failed:
        raise DeliveryError("not acknowledged")
    if transport.kind == "http" and (answer.status_code >= 300 or answer.request.method != "POST"):
        # a redirection makes a GET of it, which drops the event and may be answered by 200
        to = answer.headers.get("Location") or answer.url
        raise DeliveryError(f"redirected to {_place(to)}: configure that address")


@contextmanager
def _errors_logged(problems: list[str]) -> Iterator[None]:
    """Note what transports log as an error, and do not print it: Kafka's tells of a failed delivery by nothing else."""

    class Noting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            problems.append(record.getMessage())

    level, propagate, handler = _OF_TRANSPORTS.level, _OF_TRANSPORTS.propagate, Noting(logging.ERROR)
    _OF_TRANSPORTS.addHandler(handler)
    _OF_TRANSPORTS.propagate = False
    if not _OF_TRANSPORTS.isEnabledFor(logging.ERROR):
        _OF_TRANSPORTS.setLevel(logging.ERROR)
    try:
        yield
    finally:
        _OF_TRANSPORTS.removeHandler(handler)
        _OF_TRANSPORTS.propagate = propagate
        _OF_TRANSPORTS.setLevel(level)


def _name(transport: Any) -> str:
    """Return what a receiver is called."""
    match transport.kind:
        case "http" | "async_http":
            return f"{transport.kind} {_place(urljoin(transport.url, transport.endpoint))}"
        case "file":
            path = str(transport.config.log_file_path)
            return f"file {_place(path) if '://' in path else os.path.abspath(path)}"
        case "kafka":
            return f"kafka {transport.kafka_config.config.get('bootstrap.servers', '')}/{transport.topic}"
        case _:
            kind = str(transport.kind or type(transport).__name__)
            return f"{kind} {transport.name}" if transport.name else kind


def _place(url: str) -> str:
    """Return a URL without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return shown(url)
    return f"{parts.scheme}://{host}{parts.path}" if parts.scheme else parts.path


def _values(name: str, values: Any) -> Iterator[tuple[str, str]]:
    """Yield the texts of a configuration with their names, as those of environment variables."""
    if isinstance(values, dict):
        for key, value in values.items():
            # a header may hold a secret under any name
            yield from _values(f"{name}_{'SECRET_' if 'header' in str(key).lower() else ''}{key}".upper(), value)
    elif isinstance(values, list):
        for value in values:
            yield from _values(name, value)
    elif isinstance(values, str):
        yield name.replace(".", "_"), values


def _reason(error: Exception, transport: Any) -> str:
    """Return in one line why an event was not delivered."""
    from requests import exceptions

    answer = getattr(error, "response", None)
    if isinstance(error, exceptions.HTTPError) and answer is not None:
        told = next((item for item in answer.text.splitlines() if item.strip()), "").strip()
        told = "" if told.startswith("<") else told  # a page, which says no more in one line
        return _line(f"answered {answer.status_code} {answer.reason}{f': {told}' if told else ''}")
    if isinstance(error, exceptions.ConnectTimeout):
        return f"no connection within {transport.timeout:g} s"
    if isinstance(error, exceptions.Timeout):
        return f"no answer within {transport.timeout:g} s"
    if isinstance(error, exceptions.ConnectionError | exceptions.ChunkedEncodingError):
        of_system = next((item for item in _inside(error) if isinstance(item, OSError) and item.strerror), None)
        return _line(f"the connection failed: {of_system.strerror}" if of_system else "the connection was cut")
    return _line(f"{type(error).__name__}: {error}")


def _inside(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it was raised from, or holds; a library's own say little."""
    nested = (*error.args, getattr(error, "reason", None), error.__cause__)
    for item in nested:
        if isinstance(item, BaseException):
            yield from _inside(item)
    if not type(error).__module__.startswith(("requests", "urllib3")):
        yield error


def _line(text: str) -> str:
    return shortened(plain(scrubbed(text.strip().split("\n")[0])), _MOST_OF_ERROR)
