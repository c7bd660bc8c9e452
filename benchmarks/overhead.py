"""Where the CPU time of a run of the whole shipped history into a fresh store goes, beside that of the bare script.

A timer interrupts the process after each few milliseconds of its CPU time; the time counts for the first part below that
any of the functions that are at work then belongs to.
"""

import functools
import json
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

from timing import bare, cost, fresh_store, medians, table

INTERVAL = 0.004
PARTS = {
    "imports": ("_LoaderBasics.exec_module",),
    "MLflow: runs, datasets, models, versions": ("/bikes_assets/tracking/",),
    "checks before publishing, most of it the evidence for column lineage": ("/core/checks.py run_checks",),
    "fits": (" fit_estimator",),
    "permutation importance": (" permutation_importance",),
    "model files: written, read, digested": ("/core/model_file.py", "/storage/lake.py Lake.", " object_digest"),
    "features, predictions, errors, drift, plots": ("/bikes_assets/demand/", "/bikes_assets/defs/"),
    "Delta tables": ("/deltalake/", "/storage/delta"),
    "records, pinned reads, guarded writes": ("/bikes_assets/orchestration/lake_io.py",),
    "Dagster: its event log": ("/bikes_assets/events/sqlite_storage.py",),
    "Dagster: steps, runs, resources": (" core_execute_in_process",),
    "the command: what is due, what was done": ("",),
}


@functools.cache
def place(code: CodeType) -> int:
    """Return the first part that a function belongs to."""
    named = f"{code.co_filename} {code.co_qualname}"
    return next(number for number, marks in enumerate(PARTS.values()) if any(mark in named for mark in marks))


def sampled(file: Path) -> None:
    """Run `bikes run` in this process, and write how many samples each part has."""
    counts = Counter[int]()

    def sample(_: int, frame: FrameType | None) -> None:
        found = len(PARTS) - 1
        while frame is not None:
            found, frame = min(found, place(frame.f_code)), frame.f_back
        counts[found] += 1

    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
    from bikes_assets.cli import main as command

    sys.argv = ["bikes", "run"]
    try:
        command()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        file.write_text(json.dumps([counts[number] for number in range(len(PARTS))]))


def main() -> None:
    """Print the costs."""
    with tempfile.TemporaryDirectory() as folder, fresh_store() as env:
        (base,) = medians([lambda: cost(bare(folder))])
        file = Path(folder) / "samples.json"
        whole = cost([sys.executable, __file__, str(file)], env)
        counts: list[int] = json.loads(file.read_text())
    each = whole.cpu / sum(counts)
    rows = [("bare script", f"{base.cpu:.1f}", "", "1")]
    rows += [
        (part, f"{count * each:.1f}", f"{count / sum(counts):.0%}", f"{count * each / base.cpu:.2f}")
        for part, count in zip(PARTS, counts, strict=True)
    ]
    rows.append(("**`bikes run`, fresh store**", f"{whole.cpu:.1f}", "100%", f"{whole.cpu / base.cpu:.2f}"))
    table(("24 months, 136 materializations", "CPU s", "of all", "ratio"), rows)
    print(f"\nOne run, a sample after each {INTERVAL * 1000:.0f} ms of CPU time.")


if __name__ == "__main__":
    sampled(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
