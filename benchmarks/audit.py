"""What the audit log adds to a run of six months: appending its entries, and signing the head.

A timer is around whatever brings the log up to date, in CPU time of the process, what it imports meanwhile included.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import BIKES, HERE, ROUNDS, Cost, cost, fresh_store, medians, table

MOST = 0.05
MONTHS = {"BIKES_FIRST_MONTH": "2011-01", "BIKES_LAST_MONTH": "2011-06"}
TIMED = """
import json, sys, time
from pathlib import Path
from bikes_assets.app.audit import upkeep
spent, real = [], upkeep.bring_up_to_date

def timed():
    start = time.process_time()
    try:
        return real()
    finally:
        spent.append(time.process_time() - start)

upkeep.bring_up_to_date = timed
from bikes_assets.cli import main
try:
    main(["run"])
finally:
    Path(sys.argv[1]).write_text(json.dumps([sum(spent), len(spent)]))
"""


def main() -> None:
    """Print the costs."""
    with tempfile.TemporaryDirectory() as folder:
        key, told = Path(folder) / "key.pem", Path(folder) / "told.json"
        subprocess.run([*BIKES, "audit", "init", str(key)], check=True, capture_output=True, cwd=HERE.parent)
        counts: list[int] = []
        whole: list[float] = []

        def appending(signed: bool) -> Cost:
            with fresh_store() as env:
                env |= MONTHS | ({"BIKES_AUDIT_KEY_FILE": str(key)} if signed else {})
                run = cost([sys.executable, "-c", TIMED, str(told)], env)
                spent, count = json.loads(told.read_text())
                counts.append(count)
                whole.append(run.cpu)
                log = Path(env["BIKES_DATA"]) / "audit" / "log.ndjson"
                assert len(log.read_bytes().splitlines()) == 29
                return Cost(spent, run.wall, run.peak)

        found = medians([lambda: appending(False), lambda: appending(True)])
    run = sorted(whole)[len(whole) // 2]
    rows = [
        (name, f"{item.cpu:.2f}", f"{1000 * item.cpu / counts[0]:.0f}", f"{item.cpu / run:.1%}", f"{MOST:.0%}")
        for name, item in zip(("appending", "appending and signing"), found, strict=True)
    ]
    table(("6 months, 28 materializations", "CPU s", "ms each time", "of the run", "at most"), rows)
    print(
        f"\nMedians of {ROUNDS}; the log was brought up to date {counts[0]} times in a run of {run:.1f} s of CPU time."
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
