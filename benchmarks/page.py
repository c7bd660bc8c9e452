"""The lineage page on a generated index of 10,000 datasets, 100,000 columns and 1,000,000 edges."""

import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

from timing import ROUNDS, fresh_store, table

from bikes_assets.core.address import Address
from bikes_assets.lineage.elements import COLUMN, DATASET, Edge, Fact, Thing
from bikes_assets.lineage.index import Index

DATASETS = int(os.environ.get("BENCH_DATASETS", "10000"))
LAYERS, COLUMNS, PARENTS, INPUTS = 50, 10, 3, 10
WIDE = 2_000
"""Columns of the one table that is wide."""
ASKED = 100 * ROUNDS
"""How often each question is asked, each time about something else."""
_SERVER = """
import sys
from functools import cache
from pathlib import Path
from threading import get_ident
import uvicorn
from bikes_assets.app import answers
from bikes_assets.lineage.index import Index
from bikes_assets.web.page import application

of_thread, own = cache(lambda thread: Index(Path(sys.argv[1]))), answers.joined
answers.joined = lambda: (own(), of_thread(get_ident()))[1]  # the store's own index is brought up to date as ever
uvicorn.run(application(), host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False)
"""


def name(layer: int, place: int) -> str:
    """Return the name of a dataset."""
    return f"dataset_{layer}_{place}"


def facts() -> Iterator[Fact]:
    """Yield an event for each dataset, whose columns are computed from those of some datasets of the layer before."""
    rng, width, event = random.Random(0), DATASETS // LAYERS, 0
    for layer in range(LAYERS):
        for place in range(width):
            event += 1
            own = Address(name(layer, place))
            near = {max(0, min(width - 1, place + round(rng.gauss(0, 4)))) for _ in range(4 * PARENTS)}
            parents = [Address(name(layer - 1, other)) for other in sorted(near)[:PARENTS]] if layer else []
            columns = [Address(own.asset, f"column_{number}") for number in range(COLUMNS)]
            things = [Thing.at(DATASET, own), *(Thing.at(COLUMN, column, {"type": "float64"}) for column in columns)]
            edges = [Edge((DATASET, str(parent)), (DATASET, str(own)), "read") for parent in parents]
            inputs = [Address(parent.asset, f"column_{number}") for parent in parents for number in range(COLUMNS)]
            for column in columns:
                chosen = rng.sample(inputs, min(INPUTS, len(inputs)))
                edges += [Edge((COLUMN, str(item)), (COLUMN, str(column)), "direct") for item in chosen]
            yield Fact(event, float(event), things, edges)
    wide, source = Address("wide"), Address(name(0, 0))
    columns = [Address("wide", f"measure_{number}") for number in range(WIDE)]
    yield Fact(
        event + 1,
        float(event + 1),
        [Thing.at(DATASET, wide), *(Thing.at(COLUMN, column, {"type": "float64"}) for column in columns)],
        [
            Edge((DATASET, str(source)), (DATASET, str(wide)), "read"),
            *(Edge((COLUMN, f"{source}.column_0"), (COLUMN, str(column)), "direct") for column in columns),
        ],
    )


def started(file: Path, port: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Return the server of the page of an index, once it answers."""
    server = subprocess.Popen([sys.executable, "-c", _SERVER, str(file), str(port)], env={**os.environ, **environment})
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return server
        time.sleep(0.1)
    raise RuntimeError("the server does not answer")


def milliseconds(url: str) -> float:
    """Return how long a question takes."""
    start = time.perf_counter()
    with urllib.request.urlopen(url, timeout=60) as answer:
        json.load(answer)
    return 1000 * (time.perf_counter() - start)


def asked(port: int) -> list[tuple[str, str, str, str]]:
    """Return a row for each kind of question: its median and 95th percentile."""
    rng, width = random.Random(1), DATASETS // LAYERS
    rows = list[tuple[str, str, str, str]]()

    def dataset() -> str:
        return name(rng.randrange(1, LAYERS), rng.randrange(width))

    kinds = {
        "neighbourhood of a dataset": lambda: ("graph", {"focus": dataset()}),
        "neighbourhood, one opened into its columns": lambda: ("graph", {"focus": (it := dataset()), "open": it}),
        "search": lambda: ("search", {"q": f"{dataset()} column_{rng.randrange(COLUMNS)}"}),
        "count all up- and downstream of a dataset": lambda: ("counts", {"address": dataset()}),
        "count all up- and downstream of a column": lambda: (
            "counts",
            {"address": f"{dataset()}.column_{rng.randrange(COLUMNS)}"},
        ),
    }
    for kind, made in kinds.items():
        urls = [
            f"http://127.0.0.1:{port}/api/{path}?{urlencode(query)}" for path, query in (made() for _ in range(ASKED))
        ]
        took = sorted(milliseconds(url) for url in urls)
        rows.append((kind, f"{statistics.median(took):.1f}", f"{took[int(0.95 * len(took))]:.1f}", "50"))
    return rows


def looked_at(port: int) -> list[tuple[str, str, str]]:
    """Return rows of what a browser takes: its first picture, and its longest task while somebody looks around."""
    from playwright.sync_api import sync_playwright

    url = f"http://127.0.0.1:{port}"
    watch = "window.longest = 0; new PerformanceObserver((list) => { for (const item of list.getEntries()) "
    watch += "window.longest = Math.max(window.longest, item.duration); }).observe({ entryTypes: ['longtask'] });"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        firsts = list[float]()
        for turn in range(2 * ROUNDS + 1):
            page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            page.add_init_script(watch)
            page.goto(f"{url}/?focus={name(LAYERS // 2, turn)}", wait_until="commit")
            page.wait_for_selector(".box.focused")
            firsts.append(page.evaluate("performance.getEntriesByName('drawn')[0].startTime"))
        middle = name(LAYERS // 2, 7)
        page.goto(f"{url}/?focus={middle}&show=%2B{middle}%2B", wait_until="load")
        page.wait_for_selector(".box.focused")
        page.wait_for_timeout(3000)  # totals of all boxes arrive
        boxes = page.locator(".box").count()
        for key in ("o", "u", "d", "o"):
            page.locator(".box.focused .area").focus()
            page.keyboard.press(key)
            page.wait_for_timeout(700)
        for _ in range(10):
            page.mouse.move(400, 400)
            page.mouse.wheel(0, -200)
        longest = page.evaluate("window.longest")
        page.goto(f"{url}/?focus=wide&open=wide", wait_until="load")
        page.wait_for_selector("[data-find=wide]")
        start = time.perf_counter()
        page.fill("[data-find=wide]", f"measure_{WIDE - 1}")
        page.wait_for_selector(f'[data-column="wide.measure_{WIDE - 1}"]')
        page.click(f'[data-column="wide.measure_{WIDE - 1}"]')
        page.wait_for_selector(".column.chosen")
        wide = 1000 * (time.perf_counter() - start)
        longest = max(longest, page.evaluate("window.longest"))
        browser.close()
    return [
        ("first picture of a focused dataset, ms", f"{statistics.median(firsts[1:]):.0f}", "1,000"),
        (f"longest task with {boxes} boxes, and with a table of {WIDE:,} columns, ms", f"{longest:.0f}", "200"),
        (f"one of {WIDE:,} columns found, and its lineage drawn, ms", f"{wide:.0f}", ""),
    ]


def main() -> None:
    """Print what questions and pictures take."""
    with tempfile.TemporaryDirectory(prefix="bikes-bench-") as folder, fresh_store() as environment:
        file = Path(folder) / "generated.db"
        index = Index(file)
        index.append(facts())
        index.close()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        server = started(file, port, environment)
        try:
            milliseconds(f"http://127.0.0.1:{port}/api/start")
            table(("question, over HTTP on loopback", "median ms", "p95 ms", "at most"), asked(port))
            print()
            table(("in a browser", "found", "at most"), looked_at(port))
        finally:
            server.terminate()
            server.wait()
    print(f"\n{ASKED} questions of each kind, each about something else, from a process of its own.")


if __name__ == "__main__":
    main()
