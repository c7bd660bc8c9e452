"""Loading the definitions, against `import dagster`."""

import sys

from timing import ROUNDS, cost, fresh_store, medians, table

MOST = 1.5
LOAD = "from bikes_assets.definitions import defs; defs()"


def main() -> None:
    """Print the costs."""
    rounds = 3 * ROUNDS
    with fresh_store() as env:
        cost([sys.executable, "-c", LOAD], env)  # the months of the source are remembered from now on
        base, load = medians(
            [lambda code=code: cost([sys.executable, "-c", code], env) for code in ("import dagster", LOAD)], rounds
        )
    table(
        ("loading", "CPU s", "CPU ratio", "at most"),
        [
            ("`import dagster`", f"{base.cpu:.2f}", "1", ""),
            ("the definitions", f"{load.cpu:.2f}", f"{load.cpu / base.cpu:.2f}", MOST),
        ],
    )
    print(f"\nMedians of {rounds}.")


if __name__ == "__main__":
    main()
