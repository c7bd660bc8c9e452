"""A store against its snapshot: of one month, and of a table of 10,000 versions.

The versions are written as log entries of the form of a real one, for as many real commits take an hour.
"""

import json
import os
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path

from timing import BIKES, ROUNDS, cost, fresh_store, table

VERSIONS = int(os.environ.get("BENCH_VERSIONS", "10000"))
PARTITIONS = 240


def prolong(folder: Path) -> int:
    """Add versions to a table's log, each a partition made again, and return how many bytes a commit has."""
    from deltalake import DeltaTable

    log = folder / "_delta_log"
    entries = [json.loads(line) for line in (log / f"{1:020}.json").read_text().splitlines()]
    info, added = (next(entry[kind] for entry in entries if kind in entry) for kind in ("commitInfo", "add"))
    record = json.loads(info["record"])
    before: dict[str, str] = {}
    text = ""
    for version in range(2, VERSIONS + 1):
        year, month = divmod(version % PARTITIONS, 12)
        partition = f"{2013 + year}-{month + 1:02}"
        path = f"partition={partition}/part-00000-{version:032x}.parquet"
        record["output"] |= {"partition": partition, "digest": f"{version:032x}"}
        checksum = json.dumps({path: f"{version:064x}"})
        told = {**info, "partition": partition, "record": json.dumps(record), "sha256": checksum}
        lines = [{"commitInfo": told}, {"add": {**added, "path": path, "partitionValues": {"partition": partition}}}]
        if partition in before:
            lines.append(
                {"remove": {"path": before[partition], "dataChange": True, "deletionTimestamp": info["timestamp"]}}
            )
        lines.append({"txn": {"appId": partition, "version": version}})
        text = "\n".join(map(json.dumps, lines))
        (log / f"{version:020}.json").write_text(text)
        before[partition] = path
    DeltaTable(str(folder)).create_checkpoint()
    return len(text)


def verified(env: Mapping[str, str], file: Path) -> float:
    """Return the median CPU seconds of `bikes verify`, as a process."""
    return statistics.median(cost([*BIKES, "verify", str(file)], dict(env)).cpu for _ in range(ROUNDS))


def main() -> None:
    """Print the costs."""
    with fresh_store() as env:
        file = Path(env["BIKES_DATA"]) / "snapshot.json"
        cost([*BIKES, "run", "--month", "2011-01"], env)
        cost([*BIKES, "snapshot", str(file)], env)
        python = statistics.median(cost([sys.executable, "-c", "pass"], env).cpu for _ in range(ROUNDS))
        small = verified(env, file)
        size = prolong(Path(env["BIKES_LAKE"]) / "hourly_rentals")
        cost([*BIKES, "snapshot", str(file)], env)
        large = verified(env, file)
    table(
        ("`bikes verify`, as a process", "CPU s", "ratio", "at most"),
        [
            ("`python -c pass`", f"{python:.2f}", "1", ""),
            ("a store of one month", f"{small:.2f}", f"{small / python:.0f}", "1 s"),
            (
                f"a table of {VERSIONS:,} versions, {size:,} bytes a commit",
                f"{large:.2f}",
                f"{large / python:.0f}",
                "5 s",
            ),
        ],
    )
    print(f"\nMedians of {ROUNDS}.")


if __name__ == "__main__":
    main()
