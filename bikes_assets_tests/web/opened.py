"""A lineage page in a browser: how tests ask its server, find what it has drawn, and learn of whatever went wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Locator, expect, sync_playwright

from bikes_assets_tests.browser import CHROMIUM, CHROMIUM_OPTIONS, ROOT, answers, wait_until
from bikes_assets_tests.conftest import MADE

NPM = shutil.which("npm")
needs_npm = pytest.mark.skipif(not NPM, reason="needs npm, which installs axe-core: apt-get install npm")
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="needs a browser: apt-get install chromium")
EVERYTHING = {*MADE, "rental_records"}
"""The datasets of the history."""
SECONDS = 20
"""How long a page may take."""
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
JUDGE = """async () => {
    const { violations } = await axe.run(document, { resultTypes: ['violations'] });
    return violations.filter((found) => ['serious', 'critical'].includes(found.impact))
        .map(({ id, help, nodes }) => [id, help, nodes.slice(0, 3).map((node) => [node.html, node.failureSummary])]);
}"""
"""What axe-core calls serious or critical in a page."""
_SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))"


@dataclass(frozen=True)
class Served:
    """A server of the page, and the store behind it."""

    url: str
    folder: Path
    environment: Mapping[str, str]

    def ask(self, name: str, **parameters: Any) -> Any:
        """Return the answer to a question of the API."""
        query = urlencode({key: value for key, value in parameters.items() if value}, doseq=True)
        status, _, text = self.fetch(f"/api/{name}?{query}")
        assert status == 200, text
        return json.loads(text)

    def fetch(
        self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, method: str | None = None
    ) -> tuple[int, Mapping[str, str], str]:
        """Return status, headers and text of an answer."""
        request = urllib.request.Request(self.url + path, body, dict(headers or {}), method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()

    def post(self, path: str, body: bytes) -> None:
        """Send events of another tool."""
        status, _, text = self.fetch(path, body, {"Content-Type": "application/json"})
        assert status == 201, text

    def bikes(self, *words: str) -> Any:
        """Return what a command prints as JSON."""
        command = [sys.executable, "-m", "bikes_assets", *words, "--json"]
        done = subprocess.run(command, cwd=ROOT, env=dict(self.environment), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def started(known: Served) -> subprocess.Popen[bytes]:
    """Start the server of a page, and wait until it answers; what it prints is in `printed`, beside the store."""
    command = [sys.executable, "-m", "bikes_assets", "explore", "--port", known.url.rpartition(":")[2]]
    with (known.folder.parent / "printed").open("a") as printed:
        process = subprocess.Popen(command, cwd=ROOT, env=dict(known.environment), stdout=printed, stderr=printed)
    wait_until(lambda: process.poll() is not None or answers(known.url), f"{known.url} answers", 120)
    return process


@contextmanager
def browsing() -> Iterator[Browser]:
    """Start a browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


class Opened:
    """A page, and what went wrong in it.

    Args:
        served: its server.
        browser: the browser.
        options: of the browser's context, such as the color scheme.
    """

    def __init__(self, served: Served, browser: Browser, **options: Any) -> None:
        self.served, self.wrong = served, list[str]()
        self.context = browser.new_context(**({"viewport": WIDE} | options))
        self.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=served.url)
        self.context.set_default_timeout(SECONDS * 1_000)
        expect.set_options(timeout=SECONDS * 1_000)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("console", lambda told: self._console(told.type, told.text))
        self.context.on("request", lambda request: self._request(request.url))

    def _console(self, kind: str, text: str) -> None:
        if kind == "error" and not text.startswith(
            "Failed to load resource"
        ):  # a refused question is shown in the page
            self.wrong.append(f"console: {text}")

    def _request(self, url: str) -> None:
        if not url.startswith((f"{self.served.url}/", "data:")):
            self.wrong.append(f"request: {url}")

    def close(self) -> None:
        """Close the page, and fail where anything went wrong in it."""
        self.context.close()
        assert self.wrong == []

    def go(self, **parameters: Any) -> None:
        """Open a view by its address, and wait until it is drawn."""
        self.page.goto(f"{self.served.url}/?{urlencode(parameters, doseq=True)}")
        if parameters.get("view", "graph") == "graph":
            expect(self.page.locator("#canvas .box").first).to_be_visible()
            self.quiet()
        else:
            expect(self.page.locator("#answer h1")).to_be_visible()
            expect(self.page.get_by_text("Reading …")).to_have_count(0, timeout=90_000)

    def turn(self, **parameters: Any) -> None:
        """Turn to a view within the page, as the back button does, which loads nothing again."""
        url = f"/?{urlencode(parameters, doseq=True)}"
        self.page.evaluate(
            "url => { history.pushState({}, '', url); dispatchEvent(new PopStateEvent('popstate')); }", url
        )

    def quiet(self) -> None:
        """Wait until all has come that is drawn later: numbers of what is upstream and downstream, and states."""
        expect(self.page.locator("#canvas .area:not([aria-label*=' in all'])")).to_have_count(0)
        if self.page.locator("#canvas .box.table").count():
            expect(self.page.locator("#canvas .strip").first).to_be_attached()
        self.settle()

    def settle(self) -> None:
        """Wait until what was asked is drawn."""
        self.page.evaluate(_SETTLED)

    def changing(self, act: Callable[[], Any]) -> Any:
        """Do what changes the picture, wait until it is drawn, and return it."""
        with self.page.expect_response(lambda answer: "/api/graph" in answer.url) as answered:
            act()
        found = answered.value.json()
        self.settle()
        return found

    def box(self, name: str) -> Locator:
        """Return a box of the picture."""
        return self.page.locator(f"[data-group={_quoted(name)}]")

    def head(self, name: str) -> Locator:
        """Return the head of a box, whose label says what it is."""
        return self.page.locator(f"[data-box={_quoted(name)}]")

    def column(self, address: str) -> Locator:
        """Return a column of an opened box."""
        return self.page.locator(f"[data-column={_quoted(address)}]")

    def boxes(self) -> list[str]:
        """Return the names of the boxes of the picture, in order."""
        return sorted(self._attributes("#canvas .box", "data-group"))

    def lit(self) -> set[str]:
        """Return the addresses of the columns that are on the path that is followed."""
        return {*self._attributes("#canvas .column.lit [data-column]", "data-column")}

    def _attributes(self, selector: str, name: str) -> list[str]:
        return self.page.locator(selector).evaluate_all(f"nodes => nodes.map((node) => node.getAttribute('{name}'))")

    def state(self) -> dict[str, list[str]]:
        """Return the parameters of the page's address."""
        from urllib.parse import parse_qs, urlsplit

        return parse_qs(urlsplit(self.page.url).query)

    def click_line(self, source: str, target: str) -> None:
        """Click into the middle of a line."""
        line = self.page.locator(f"[data-from={_quoted(source)}][data-to={_quoted(target)}] .hit")
        x, y = line.evaluate(
            """path => {
                const at = path.getPointAtLength(path.getTotalLength() / 2).matrixTransform(path.getScreenCTM());
                return [at.x, at.y];
            }"""
        )
        self.page.mouse.click(x, y)


def _quoted(text: str) -> str:
    """Return a text as a string of CSS."""
    signs = (sign if sign.isascii() and sign.isalnum() else f"\\{ord(sign):x} " for sign in text)
    return f'"{"".join(signs)}"'


def eventually(holds: Callable[[], Any], seconds: float = 20) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it does not hold in time"
        time.sleep(0.1)
