"""The file .env: settings that people write there, and one line that is written for Dagster's own commands.

`dagster dev` and `dg` read .env in the folder in which they start; it overrides the environment, and must name
DAGSTER_HOME. So `bikes setup` writes that line. It is output and never read as a setting: in a copied or moved project
it names the old place.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from bikes_assets.core.errors import SettingsError
from bikes_assets.storage.disk import put

if TYPE_CHECKING:
    from pathlib import Path

HOME = "DAGSTER_HOME"
_MARK = "# Written by bikes setup for Dagster's own commands, and again where it is not right; bikes does not read it:"
_QUOTED = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""
_LINE = re.compile(rf"^{re.escape(_MARK)}\n{HOME}=(?:{_QUOTED}|.*)\n?", re.MULTILINE | re.DOTALL)
_OLDER = re.compile(rf"\s*{HOME}=[^\n]*/data/dagster\s*")
"""Content of the whole file as earlier versions wrote it, without marking the line."""


def read(file: Path) -> tuple[dict[str, str], str]:
    """Return what people wrote, and the value of the line that was written for Dagster, "" without one.

    Raises:
        SettingsError: the file cannot be read.
    """
    text = _text(file)
    theirs, ours = _split(text)
    return _parsed(theirs), _parsed(ours).get(HOME, "")


def write_home(file: Path, home: str) -> None:
    """Make the line for Dagster name a home, once; a DAGSTER_HOME line that people wrote is left alone.

    A file that cannot be written is left as it is: Dagster's own commands then need DAGSTER_HOME in the environment.
    """
    text = _text(file)
    theirs, _ = _split(text)
    line = f"{_MARK}\n{HOME}={_quoted(home)}\n"
    gap = "\n" if theirs and not theirs.endswith("\n") else ""
    wanted = theirs if HOME in _parsed(theirs) else f"{theirs}{gap}{line}"
    if wanted != text:
        with suppress(OSError, UnicodeEncodeError):  # a read-only checkout, or a folder name that is not text
            _replace(file, wanted)


def _split(text: str) -> tuple[str, str]:
    """Return a file's text without the line for Dagster, and that line."""
    if _OLDER.fullmatch(text):
        return "", text
    found = _LINE.search(text)
    return (_LINE.sub("", text), found[0]) if found else (text, "")


def _parsed(text: str) -> dict[str, str]:
    if not text.strip():
        return {}
    from io import StringIO

    from dotenv import dotenv_values

    return {name: value for name, value in dotenv_values(stream=StringIO(text)).items() if value}


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{file}: cannot be read: {error}; expected settings in UTF-8, which this user may read"
        ) from None


def _quoted(value: str) -> str:
    """Quote a value so that python-dotenv reads it back; so does a shell if it has no backslash, quote or newline."""
    value = value.replace("\\", "\\\\").replace("${", "${:-$}{")
    if "\n" in value or "\r" in value:
        return '"' + value.replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r") + '"'
    return "'" + value.replace("'", "\\'") + "'"


def _replace(file: Path, text: str) -> None:
    """Write the file atomically and keep its permissions: people may keep passwords in it."""
    place = file.resolve()  # it may be a symbolic link
    put(place, text.encode(), place.stat().st_mode & 0o777 if place.exists() else None)
