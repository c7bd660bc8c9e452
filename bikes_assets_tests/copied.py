"""A store of its own: a source that can be changed, a copy of the code that can be edited, and what they make of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

import bikes_assets
from bikes_assets_tests import forked

ROOT = Path(__file__).parents[1]


class Store:
    """A lake of the months of a source, a copy of the code that makes it, and its settings."""

    def __init__(self, folder: Path, last_month: str) -> None:
        self.folder, self.settings = folder, dict[str, str]()
        self.source = folder / "hour.csv"
        hours = pd.read_csv(ROOT / "data" / "raw" / "hour.csv", dtype=str, keep_default_na=False)
        self.all_hours = hours
        self.hours = hours[hours["dteday"].str[:7] <= last_month].copy()
        self.write()
        shutil.copytree(
            Path(bikes_assets.__file__).parent,
            folder / "code" / "bikes_assets",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        shutil.copy(ROOT / "dg.toml", folder / "code")  # Dagster looks for it

    def set(self, day: str, hour: int, **values: str) -> None:
        """Set fields of an hour."""
        row = (self.hours["dteday"] == day) & (self.hours["hr"] == str(hour))
        assert row.sum() == 1
        for name, value in values.items():
            assert (self.hours.loc[row, name] != value).all()
            self.hours.loc[row, name] = value
        self.write()

    def rent(self, day: str, hour: int, more: int) -> None:
        """Add to the rentals of an hour."""
        row = self.hours[(self.hours["dteday"] == day) & (self.hours["hr"] == str(hour))].iloc[0]
        self.set(day, hour, casual=str(int(row["casual"]) + more), cnt=str(int(row["cnt"]) + more))

    def take(self, rows: pd.DataFrame) -> None:
        """Let the source have these rows."""
        self.hours = rows
        self.write()

    def write(self) -> None:
        self.hours.to_csv(self.source, index=False)

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a text, which stands there once, in a file of the code."""
        path = self.folder / "code" / "bikes_assets" / file
        text = path.read_text()
        assert text.count(old) == 1, (file, old)
        path.write_text(text.replace(old, new))

    def bikes(self, *arguments: str, code: int = 0) -> str:
        """Run a command, which must end with a code, and return what it printed."""
        done = self.python("from bikes_assets.cli import main; main()", *arguments)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def python(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program with this store's code and settings."""
        return forked.run(("-c", program, *arguments), environment=self.environment(), folder=self.folder)

    def interpreter(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program as `python` does, in an interpreter of its own, which has imported nothing before."""
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env=self.environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=600,
        )

    def environment(self) -> dict[str, str]:
        """Return the environment of this store's programs."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("BIKES_", "MLFLOW_"))}
        own = {
            "PYTHONPATH": str(self.folder / "code"),
            "BIKES_DATA": str(self.folder / "data"),
            "DAGSTER_HOME": str(self.folder / "data" / "dagster"),
            "BIKES_SOURCE": str(self.source),
            "OMP_NUM_THREADS": "1",
            "GIT_PYTHON_REFRESH": "quiet",
        }
        return inherited | own | self.settings

    def status(self, code: int) -> dict[str, str]:
        """Return the state of each partition, by address."""
        lines = json.loads(self.bikes("status", "--json", code=code))["items"]
        return {item["address"]: item["state"] for item in lines}

    def records(self) -> list[dict[str, Any]]:
        """Return the record of each commit, oldest first: what was made, from what, by which code and config."""
        found: list[tuple[int, dict[str, Any]]] = []
        for log in (self.folder / "data" / "lake").glob("*/_delta_log/*.json"):
            entries = [json.loads(line) for line in log.read_text().splitlines()]
            info = next((entry["commitInfo"] for entry in entries if "commitInfo" in entry), {})
            if "record" in info:
                found.append((info["timestamp"], json.loads(info["record"])))
        return [record for _, record in sorted(found, key=lambda item: item[0])]
