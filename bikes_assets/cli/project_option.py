"""The option `--project`: which project the commands work on; see `orchestration.project.Project`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bikes_assets.cli.terminal import complain
from bikes_assets.core.errors import LineageError, SettingsError

HELP = (
    "Another project than the bikes: the module of its Project, or MODULE:NAME; by default, what the nearest "
    "pyproject.toml names as `project` under [tool.bikes]."
)
OWN = {"check-lineage", "deployments", "evaluate", "pin", "tune", "ui", "unpin"}
"""Commands that are about the bikes alone."""


def use(context: click.Context, name: str | None) -> None:
    """Work on a project; end with one line and exit code 2 if it cannot be used, or not by this command.

    Args:
        context: of the command.
        name: what `--project` says, None without it.
    """
    try:
        if not choose(name):
            return
        from bikes_assets.app import store

        known, command = store.current().name, context.invoked_subcommand
        if command in OWN and not store.is_own():
            instead = "; start Dagster by dagster dev -m and the module of its definitions" if command == "ui" else ""
            raise SettingsError(
                f"bikes {command}: found project {known}, expected the bikes' own, the one it is for{instead}"
            )
    except LineageError as error:
        complain(f"error: {error}")
        context.exit(2)


def choose(name: str | None) -> bool:
    """Have this process work on a named project, else on that of a pyproject.toml; return whether there is one.

    Raises:
        SettingsError: a pyproject.toml names none under [tool.bikes].
    """
    folder, name = (Path.cwd(), name) if name is not None else _set()
    if name is None:
        return False
    from bikes_assets.app import store

    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    store.use(name)
    return True


def _set() -> tuple[Path, str | None]:
    """Return the folder of the nearest pyproject.toml that sets a project, and that project; None without one."""
    try:
        place = Path.cwd()
    except FileNotFoundError:  # it was removed
        return Path(), None
    for folder in (place, *place.parents):
        file = folder / "pyproject.toml"
        try:
            content = file.read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            continue
        except OSError as error:
            raise SettingsError(
                f"{file}: {error.strerror}; make it readable, or name a project with --project"
            ) from error
        name = _named_in(file, content)
        if name is not None:
            return folder, name
    return place, None


def _named_in(file: Path, content: bytes) -> str | None:
    """Return the project that a pyproject.toml sets, None if it has no table `[tool.bikes]`.

    Raises:
        SettingsError: it is no TOML, so that nobody knows, or the table sets no project.
    """
    import tomllib

    try:
        tool = tomllib.loads(content.decode()).get("tool")
    except ValueError as error:
        told = f"{file}: found no TOML ({error}), expected a file that may set a project under [tool.bikes]; mend it, or name"
        raise SettingsError(f"{told} a project with --project") from error
    known = tool.get("bikes") if isinstance(tool, dict) else None
    if known is None:
        return None
    name = known.get("project") if isinstance(known, dict) else known
    if not isinstance(name, str):
        there = "none" if name is None else repr(name)
        raise SettingsError(f"{file}: found project {there} under [tool.bikes], expected one, such as 'my.definitions'")
    return name.strip()
