"""The lineage page of a copy of the history: one server and one browser for each file of tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from bikes_assets_tests.browser import free_ports
from bikes_assets_tests.conftest import store_at
from bikes_assets_tests.web.opened import NPM, Opened, Served, browsing, started


@pytest.fixture(scope="module")
def served(as_made: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a copy of the history, into which the file's `EVENTS` of other tools are taken."""
    folder, (port,) = tmp_path_factory.mktemp("served") / "data", free_ports(1)
    shutil.copytree(as_made, folder)
    environment = {**os.environ, **store_at(folder), "BIKES_LINEAGE_URL": f"http://127.0.0.1:{port}"}
    known = Served(f"http://127.0.0.1:{port}", folder, environment)
    process = started(known)
    try:
        if events := getattr(request.module, "EVENTS", []):
            known.post("/api/v1/lineage/batch", json.dumps(events).encode())
        known.ask("status")  # what is slow at first is so before any page is opened
        yield known
    finally:
        process.terminate()
        process.wait(60)
    text = (folder.parent / "printed").read_text()
    assert "Traceback" not in text, text


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Return a browser."""
    with browsing() as found:
        yield found


@pytest.fixture
def opened(served: Served, chromium: Any) -> Iterator[Opened]:
    """Return a page of its own, which must have met no error, run nothing foreign and asked no other server."""
    found = Opened(served, chromium)
    yield found
    found.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """Return the text of axe-core, installed once as its lock file has it."""
    lock = Path(__file__).with_name("axe")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bikes-assets-tests" / "axe"
    cache.mkdir(parents=True, exist_ok=True)
    file = cache / "node_modules" / "axe-core" / "axe.min.js"
    with FileLock(cache / ".lock"):
        wanted = (lock / "package-lock.json").read_text()
        kept = cache / "package-lock.json"
        if not (file.exists() and kept.exists() and kept.read_text() == wanted):
            for name in ("package.json", "package-lock.json"):
                shutil.copy(lock / name, cache)
            command = [str(NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=cache, capture_output=True, text=True, timeout=240)
            if any(why in done.stderr for why in ("ENOTFOUND", "ECONNREFUSED", "ETIMEDOUT", "EAI_AGAIN")):
                pytest.skip("axe-core is not installed, and npm reaches no registry")
            assert done.returncode == 0, done.stderr
    return file.read_text()
