"""The lineage index on a generated history: 200 layers, three parents a table, a million edges; and what a question costs."""

import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from timing import BIKES, ROUNDS, cost, fresh_store, table

from bikes_assets.lineage.elements import Edge, Fact, Thing
from bikes_assets.lineage.index import Index

LAYERS, PARENTS = 200, 3
THINGS = int(os.environ.get("BENCH_THINGS", "333000"))
START = ("version", "table_0[5]@1")


def facts(first: int, last: int) -> Iterator[Fact]:
    """Yield an event for each thing, which is computed from some of the layer before its own."""
    rng, width = random.Random(first), THINGS // LAYERS
    for number in range(first, last):
        layer, place = divmod(number, width)
        name = ("version", f"table_{layer}[{place}]@1")
        parents = {rng.randrange(width) for _ in range(PARENTS)} if layer else set()
        edges = [Edge(("version", f"table_{layer - 1}[{parent}]@1"), name, "read") for parent in parents]
        yield Fact(number + 1, float(number), [Thing(*name, {"digest": f"{number:032x}"})], edges)


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds of this thread that some work takes."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def opened(file: Path, ask: Callable[[Index], int]) -> tuple[float, int]:
    """Return the median milliseconds in which an index is opened and answers, and how much it answers."""
    took, size = [], 0
    for _ in range(3 * ROUNDS):
        start = time.perf_counter()
        index = Index(file)
        size = ask(index)
        took.append(1000 * (time.perf_counter() - start))
        index.close()
    return statistics.median(took), size


def main() -> None:
    """Print the costs."""
    with tempfile.TemporaryDirectory(prefix="bikes-bench-") as folder:
        file = Path(folder) / "lineage.db"
        index, half = Index(file), THINGS // 2
        first = seconds(lambda: index.append(facts(0, half)))
        second = seconds(lambda: index.append(facts(half, THINGS)))
        edges = sum(len(item.edges) for item in facts(0, THINGS))
        index.close()
        size = file.stat().st_size / edges
        small, found = opened(file, lambda index: len(index.walk([START], "downstream", depth=10).things))
        closure, whole = opened(file, lambda index: index.count([START], "downstream"))
        past, then = opened(file, lambda index: index.count([START], "downstream", as_of=THINGS - THINGS // 10))
        added = seconds(lambda: Index(file).append(facts(THINGS, THINGS + 10_000)))
    rows = [
        (f"open, and answer {found:,} results", f"{small:.0f} ms", "100 ms"),
        (f"open, and count a closure of {whole:,}", f"{closure:.0f} ms", "400 ms"),
        (f"the same as of an earlier time: {then:,}", f"{past:.0f} ms", ""),
        ("10,000 events more", f"{added:.1f} s CPU", "10 s CPU"),
        ("bytes an edge", f"{size:.0f}", "100"),
        ("the second half of the events against the first", f"{second / first:.2f}", "linear: about 1"),
    ]
    table((f"{edges:,} edges between {THINGS:,} things", "found", "at most"), rows)
    with fresh_store() as env:
        cost([*BIKES, "run", "--month", "2011-01"], env)
        cost([*BIKES, "index"], env)
        rounds = range(3 * ROUNDS)
        bikes = statistics.median(cost([*BIKES, "downstream", "hourly_rentals.temp"], env).wall for _ in rounds)
        python = statistics.median(cost([sys.executable, "-c", "pass"], env).wall for _ in rounds)
    print()
    table(
        ("a question on the command line", "wall s", "ratio", "at most"),
        [
            ("`python -c pass`", f"{python:.2f}", "1", ""),
            ("`bikes downstream`", f"{bikes:.2f}", f"{bikes / python:.1f}", "0.4 s"),
        ],
    )
    print(f"\nMedians of {3 * ROUNDS}.")


if __name__ == "__main__":
    main()
