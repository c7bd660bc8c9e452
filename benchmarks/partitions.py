"""What a thousand partitions cost: each run of some of them, and what is asked when they are all there."""

import os
import sys
import tempfile

from timing import HERE, ROUNDS, cost, medians, table

COUNT = int(os.environ.get("BENCH_PARTITIONS", "1000"))
BLOCKS = 4
SECOND = 1.0
"""Most CPU seconds of what people wait for."""
COMMANDS = {
    "`bikes status`": ["status"],
    "`bikes run`, nothing to do": ["run"],
    "`bikes sync`, nothing to do": ["sync"],
    "a question": ["upstream", "changes[2022-01-03]"],
}


def main() -> None:
    """Print what each block of partitions costs, and then the commands."""
    with tempfile.TemporaryDirectory(prefix="bikes-bench-") as folder:
        env = {"DAILY_DATA": folder, "DAGSTER_HOME": f"{folder}/dagster", "BENCH_PARTITIONS": str(COUNT)}
        env["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent)])
        os.environ |= env
        sys.path.insert(0, str(HERE))
        from daily.project import PARTITIONS

        bikes = [sys.executable, "-m", "bikes_assets", "--project", "daily.project"]
        size, rows = COUNT // BLOCKS, []
        for block in range(BLOCKS):
            wanted = PARTITIONS[block * size : (block + 1) * size]
            took = cost([*bikes, "run", *(word for name in wanted for word in ("--partition", name))], env)
            rows.append((f"{wanted[0]} to {wanted[-1]}", size, f"{took.cpu / size:.3f}", f"{took.peak:,.0f}"))
        table(("days", "partitions", "CPU s a partition", "MB at most"), rows)
        for command in ("status", "sync", "index"):  # which look at history once
            cost([*bikes, command], env)
        found = medians([lambda words=words: cost([*bikes, *words], env) for words in COMMANDS.values()])
        print()
        table(
            ("with all partitions", "CPU s", "wall s", "at most"),
            [(what, f"{took.cpu:.2f}", f"{took.wall:.2f}", SECOND) for what, took in zip(COMMANDS, found, strict=True)],
        )
    print(f"\nTwo assets of {COUNT:,} partitions each, without MLflow; the commands are medians of {ROUNDS}.")


if __name__ == "__main__":
    main()
