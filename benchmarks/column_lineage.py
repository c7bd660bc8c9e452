"""Planted hidden reads and looks ahead that a check of column lineage names, and honest functions that it accuses.

The functions are those of bikes_assets_tests/verification/planted.py, on 1,440 hours: each alone, and as one of many columns of a
wide function whose other columns are passed on and declared, so that a table without a column shows nothing. Printed are rates by
form and seed, what was missed or accused, and the CPU time of one check.

    python benchmarks/column_lineage.py                      # as many seeds as BENCH_ROUNDS
    python benchmarks/column_lineage.py --forms wide --seeds 10 --jobs 4
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from timing import ROUNDS, table

KINDS = ("hidden", "ahead", "honest")


def measure(form: str, seed: int, names: Sequence[str]) -> tuple[list[tuple[str, str, bool]], float]:
    """Return of each function its kind, its name and whether it was caught or accused; and the CPU seconds of all."""
    from bikes_assets_tests.verification.planted import PLANTED, is_caught, tried

    start = time.process_time()
    found = []
    for name in names:
        item = PLANTED[name]
        found.append((item.kind, name, is_caught(item, tried(item, wide=form == "wide", seed=seed))))
    return found, time.process_time() - start


def row(form: str, seed: int, parts: Iterable[tuple[list[tuple[str, str, bool]], float]]) -> list[str]:
    """Return a line of the table."""
    results = [result for part, _ in parts for result in part]
    cpu = sum(cost for _, cost in parts)
    known, of = Counter(kind for kind, _, output in results if output), Counter(kind for kind, _, _ in results)
    wrong = [name for kind, name, output in results if output == (kind == "honest")]
    rates = [f"{known[kind]}/{of[kind]}" for kind in KINDS]
    return [form, str(seed), *rates, f"{cpu / len(results):.1f}", ", ".join(wrong) or "none"]


def main() -> None:
    """Measure, and print the table."""
    from bikes_assets_tests.verification.planted import PLANTED

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forms", nargs="+", default=["alone", "wide"], choices=["alone", "wide"])
    parser.add_argument("--seeds", type=int, default=ROUNDS, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    names = list(PLANTED)
    parts = [names[first :: asked.jobs] for first in range(asked.jobs)]
    header = ["form", "seed", "hidden reads named", "looks ahead named", "honest accused", "CPU s a check", "wrong"]
    with ProcessPoolExecutor(asked.jobs) as pool:
        rows = [
            row(form, seed, list(pool.map(partial(measure, form, seed), parts)))
            for form in asked.forms
            for seed in range(asked.first, asked.first + asked.seeds)
        ]
    table(header, rows)


if __name__ == "__main__":
    main()
