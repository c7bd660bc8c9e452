"""What the length of history costs: a store of one run a month, and one of ten thousand runs."""

import os
import sys
import tempfile
from pathlib import Path

from grown import grow
from timing import BIKES, ROUNDS, Cost, cost, medians, table

RUNS = int(os.environ.get("BENCH_RUNS", "10000"))
MOST = 2.0
"""CPU seconds."""
LOADED = """
import dagster as dg
from bikes_assets.definitions import defs
repository = defs().get_repository_def()
"""
"""What Dagster's daemon has loaded before its first tick."""
TICKS = """
with dg.DagsterInstance.get() as instance:
    for name in ("source_changes", "mlflow_sync"):
        context = dg.build_sensor_context(instance=instance, repository_def=repository)
        repository.get_sensor_def(name).evaluate_tick(context)
"""
COMMANDS = {
    "`bikes status`": [*BIKES, "status"],
    "`bikes run`, nothing to do": [*BIKES, "run"],
    "`bikes sync`, nothing to do": [*BIKES, "sync"],
    "a question": [*BIKES, "upstream", "demand_predictions[2012-08]"],
}


def ticks(env: dict[str, str]) -> Cost:
    """Return what a tick of each sensor costs, beside loading everything, which Dagster's daemon does once."""
    with_ticks, without = (cost([sys.executable, "-c", script], env) for script in (LOADED + TICKS, LOADED))
    return Cost(with_ticks.cpu - without.cpu, with_ticks.wall - without.wall, with_ticks.peak)


def main() -> None:
    """Print the costs."""
    with tempfile.TemporaryDirectory(prefix="bikes-bench-") as folder:
        stores = {"46 runs": f"{folder}/few/data", f"{RUNS:,} runs": f"{folder}/many/data"}
        found: dict[str, list[Cost]] = {}
        for number, (name, data) in enumerate(stores.items()):
            env = {"BIKES_DATA": data, "DAGSTER_HOME": f"{data}/dagster"}
            cost([*BIKES, "run"], env)
            if number:
                grow(Path(data), RUNS)
            for command in ("status", "sync"):  # which look at history once
                cost([*BIKES, command], env)
            measures = [lambda command=command, env=env: cost(command, env) for command in COMMANDS.values()]
            found[name] = medians([*measures, lambda env=env: ticks(env)])
    few, many = found.values()
    table(
        ("CPU s", *found, "ratio", "at most"),
        [
            (what, f"{one.cpu:.2f}", f"{other.cpu:.2f}", f"{other.cpu / one.cpu:.1f}", MOST)
            for what, one, other in zip((*COMMANDS, "a tick of each sensor"), few, many, strict=True)
        ],
    )
    print(f"\nMedians of {ROUNDS}. Each command had been there before: what is kept of history is computed once.")


if __name__ == "__main__":
    main()
