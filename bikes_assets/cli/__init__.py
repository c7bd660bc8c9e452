"""The command `bikes`, and the servers that it starts."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bikes_assets.cli.commands import main

__all__ = ["main"]


def __getattr__(name: str) -> Any:
    """Return the command `bikes`, imported only on demand: a server that this package starts needs none of it."""
    if name != "main":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bikes_assets.cli.commands import main

    return main
