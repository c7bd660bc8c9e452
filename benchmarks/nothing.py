"""A run that has nothing to do, against one pass of the bare script."""

import tempfile

from timing import BIKES, ROUNDS, bare, cost, fresh_store, medians, table

MOST = 0.4


def main() -> None:
    """Print the costs."""
    with fresh_store() as env, tempfile.TemporaryDirectory() as folder:
        cost([*BIKES, "run"], env)
        base, again = medians([lambda: cost(bare(folder)), lambda: cost([*BIKES, "run"], env)])
    table(
        ("nothing has changed", "CPU s", "wall s", "CPU ratio", "at most"),
        [
            ("bare script, one pass", f"{base.cpu:.1f}", f"{base.wall:.1f}", "1", ""),
            (
                "`bikes run`, a second time",
                f"{again.cpu:.1f}",
                f"{again.wall:.1f}",
                f"{again.cpu / base.cpu:.2f}",
                MOST,
            ),
        ],
    )
    print(f"\nMedians of {ROUNDS}.")


if __name__ == "__main__":
    main()
