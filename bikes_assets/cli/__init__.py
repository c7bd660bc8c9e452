"""The command `bikes`, and the servers that it starts."""

from bikes_assets.cli.commands import main

__all__ = ["main"]
