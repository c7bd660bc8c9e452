"""Dagster's webserver, restricted to its own pages: requests from pages of another origin are refused.

Dagster checks neither `Origin` nor `Host`, executes GraphQL sent by GET, and lets anybody report events. So `bikes ui`
starts it by one of

    python -m bikes_assets.cli.guarded webserver ARGUMENTS...     as dagster-webserver does
    python -m bikes_assets.cli.guarded dev ARGUMENTS...           as dagster dev does, with that webserver
"""

from __future__ import annotations

import os
import sys
from typing import Any
from urllib.parse import urlsplit

from bikes_assets.web.own_pages import LOCAL, OwnPages


def main() -> None:
    """Start the server that the first argument names, with the other arguments."""
    {"webserver": _webserver, "dev": _dev}[sys.argv.pop(1)]()


def _webserver() -> None:
    from dagster_webserver.cli import main as serve
    from dagster_webserver.webserver import DagsterWebserver
    from starlette.middleware import Middleware

    from bikes_assets.events.webserver import correct

    correct()
    ask = DagsterWebserver.build_middleware
    shown = urlsplit(os.environ.get("BIKES_DAGSTER_URL", "")).hostname
    names = (*LOCAL, shown) if shown else LOCAL
    DagsterWebserver.build_middleware = lambda self: [Middleware(OwnPages, names=names), *ask(self)]
    serve()


def _dev() -> None:
    import warnings

    from dagster._cli import dev

    # its successor, `dg dev`, starts this command and has no option for another webserver
    warnings.filterwarnings("ignore", message="Function `dev_command` is superseded")

    # the only place where the webserver's program is chosen; a test checks the process that it starts
    start = dev.open_ipc_subprocess  # pyright: ignore[reportPrivateImportUsage] - Dagster has no public way
    ours = ["-m", "bikes_assets.cli.guarded", "webserver"]

    def guarded(parts: list[str], **more: Any) -> Any:
        is_webserver = parts[1:3] == ["-m", "dagster_webserver"]
        return start([parts[0], *ours, *parts[3:]] if is_webserver else parts, **more)

    dev.open_ipc_subprocess = guarded  # pyright: ignore[reportPrivateImportUsage]
    dev.dev_command()


if __name__ == "__main__":
    main()
