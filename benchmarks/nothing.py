"""A second run: nothing to do, and one month that is asked for again, against one pass of the bare script."""

import tempfile

from timing import BIKES, ROUNDS, bare, cost, fresh_store, medians, table

MOST = 0.4
MONTH = "2012-08"
MOST_OF_MONTH = 6
"""CPU s."""


def main() -> None:
    """Print the costs."""
    with fresh_store() as env, tempfile.TemporaryDirectory() as folder:
        cost([*BIKES, "run"], env)
        base, again, month = medians(
            [
                lambda: cost(bare(folder)),
                lambda: cost([*BIKES, "run"], env),
                lambda: cost([*BIKES, "run", "--month", MONTH, "--force"], env),
            ]
        )
    table(
        ("24 months are materialized", "CPU s", "wall s", "CPU ratio", "at most"),
        [
            ("bare script, one pass", f"{base.cpu:.1f}", f"{base.wall:.1f}", "1", ""),
            (
                "`bikes run`, a second time",
                f"{again.cpu:.1f}",
                f"{again.wall:.1f}",
                f"{again.cpu / base.cpu:.2f}",
                MOST,
            ),
            (
                f"`bikes run --month {MONTH} --force`, six assets",
                f"{month.cpu:.1f}",
                f"{month.wall:.1f}",
                f"{month.cpu / base.cpu:.2f}",
                f"{MOST_OF_MONTH} CPU s",
            ),
        ],
    )
    print(f"\nMedians of {ROUNDS}.")


if __name__ == "__main__":
    main()
