"""What a materialization costs beyond its own compute, by part, inside a real run.

Timers are put around the calls of each part; each second of the thread's CPU counts for the innermost part that it is in.
"""

import functools
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from timing import fresh_store, table

MOST = 200
WARM = 4
"""Months that are made first: imports and empty stores are the run's cost, not a materialization's."""

COMPUTE = "own compute"
PARTS = ("Dagster", "Delta", "digest", "model files", "MLflow", "plots", "rest")


class Ledger:
    """CPU seconds of this thread, by part."""

    def __init__(self) -> None:
        """Begin in Dagster: what nobody else is timed for."""
        self.spent: Counter[str] = Counter()
        self.inside = ["Dagster"]
        self.since = time.thread_time()

    def settle(self) -> None:
        """Count the time since the last change for the part that it was in."""
        now = time.thread_time()
        self.spent[self.inside[-1]] += now - self.since
        self.since = now

    @contextmanager
    def within(self, part: str) -> Any:
        """Count the block for a part."""
        self.settle()
        self.inside.append(part)
        try:
            yield
        finally:
            self.settle()
            self.inside.pop()

    def watch(self, owner: Any, name: str, part: str) -> None:
        """Count the calls of a function or method for a part."""
        function: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.within(part):
                return function(*args, **kwargs)

        setattr(owner, name, timed)


def watch_all(ledger: Ledger) -> None:
    """Put a timer around every call that is part of something."""
    from bikes_assets.demand import svg
    from bikes_assets.orchestration import asset, io_managers
    from bikes_assets.storage import delta, lake
    from bikes_assets.tracking import resource

    active = resource.Tracking.active

    @contextmanager
    def compute(self: Any) -> Any:  # what it is active for is the asset's function
        with active(self), ledger.within(COMPUTE):
            yield

    resource.Tracking.active = compute
    ledger.watch(asset, "judge", COMPUTE)
    for module in (delta, io_managers, lake):
        ledger.watch(module, "table_digest", "digest")
    ledger.watch(io_managers, "object_digest", "digest")
    for name in ("read_present", "write", "version"):
        ledger.watch(delta.LakeTable, name, "Delta")
    ledger.watch(resource.Tracking, "_try", "MLflow")
    ledger.watch(svg.Plot, "svg", "plots")
    for name in ("save_file", "load_model"):
        ledger.watch(lake.Lake, name, "model files")
    for manager in (io_managers.SourceInputManager, io_managers.TableIOManager, io_managers.ModelIOManager):
        ledger.watch(manager, "load_input", "rest")
        ledger.watch(manager, "handle_output" if hasattr(manager, "handle_output") else "load_input", "rest")


def main() -> None:
    """Print the costs."""
    with fresh_store() as env:
        os.environ |= {**env, "MLFLOW_LOGGING_LEVEL": "WARNING"}
        from bikes_assets.app import store
        from bikes_assets.cli import runner

        dump = store.MODELS.dump
        ledger = Ledger()

        def timed_dump(model: Any) -> bytes:
            with ledger.within("model files"):
                return dump(model)

        object.__setattr__(store.MODELS, "dump", timed_dump)
        runner.setup()
        from bikes_assets.defs.partitions import MONTHS

        watch_all(ledger)
        months = MONTHS.get_partition_keys()
        runner.run_history(months[:WARM], lambda *_: None)
        by_month: dict[str, Counter[str]] = {}

        def progress(month: str, *_: int) -> None:
            """Begin a month's account; a month has two runs."""
            ledger.settle()
            ledger.spent = by_month.setdefault(month, Counter())

        made = runner.run_history(months[WARM:], progress)
        if made.failed:
            raise RuntimeError(str(made.failed))
    by_month.pop("done")
    count = sum(made.partitions.values()) / len(by_month)
    found = [{part: 1000 * spent[part] / count for part in (COMPUTE, *PARTS)} for spent in by_month.values()]
    middle = {part: statistics.median(month[part] for month in found) for part in (COMPUTE, *PARTS)}
    beyond = statistics.median(sum(month[part] for part in PARTS) for month in found)
    rows = [(COMPUTE, f"{middle[COMPUTE]:.0f}", "1", "")]
    rows += [(part, f"{middle[part]:.0f}", f"{middle[part] / middle[COMPUTE]:.2f}", "") for part in PARTS]
    rows.append(("**beyond own compute**", f"**{beyond:.0f}**", f"{beyond / middle[COMPUTE]:.2f}", MOST))
    table(("a materialization", "CPU ms", "ratio", "at most"), rows)
    print(
        f"\nMedians over {len(by_month)} months, {count:.0f} materializations each, after {WARM} that are not counted."
    )


if __name__ == "__main__":
    main()
