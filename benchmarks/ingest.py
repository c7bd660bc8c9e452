"""Events of other tools: storing 100,000 of them, against reading them as JSON."""

import json
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from timing import BIKES, Cost, cost, table

from bikes_assets_tests.lineage.openlineage.foreign import column_lineage, dataset, event

EVENTS = 100_000
MOST_CPU = 120
"""CPU s."""
COLUMNS = [f"column{number}" for number in range(20)]
READ = "import json, sys\nfor line in open(sys.argv[1]): json.loads(line)"


def write(file: Path, seed: int = 1) -> None:
    """Write events of runs that each read up to four tables of one layer and write one of the next, all with 20 columns."""
    rng, schema = random.Random(seed), {"fields": [{"name": name, "type": "string"} for name in COLUMNS]}
    with file.open("w") as handle:
        for number in range(EVENTS // 2):
            layer = rng.randrange(1, 20)
            inputs = [f"db/layer{layer - 1}/table{rng.randrange(500)}" for _ in range(rng.randint(1, 4))]
            output = f"db/layer{layer}/table{rng.randrange(500)}"
            sources = {
                name: [(rng.choice(inputs), rng.choice(COLUMNS)) for _ in range(rng.randint(1, 3))] for name in COLUMNS
            }
            read = [dataset(name, schema=schema) for name in inputs]
            wrote = [dataset(output, schema=schema, columnLineage=column_lineage(sources))]
            begun = event(f"run-{number}", read, [], job=f"job {output}", seconds=number, event_type="START")
            ended = event(f"run-{number}", inputs, wrote, job=f"job {output}", seconds=number + 0.5)
            handle.writelines(f"{json.dumps(item)}\n" for item in (begun, ended))


def row(name: str, measured: Cost, ratio: str, most: str) -> tuple[str, ...]:
    """Return a row of the table."""
    return (name, f"{measured.cpu:.1f}", f"{measured.wall:.1f}", f"{measured.peak:.0f}", ratio, most)


def main() -> None:
    """Print the costs."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "events.ndjson"
        write(file)
        base = cost([sys.executable, "-c", READ, str(file)])
        stored = cost([*BIKES, "openlineage", "ingest", str(file)], {"BIKES_DATA": f"{folder}/data"})
        size = file.stat().st_size / 1e6
    table(
        (f"{EVENTS:,} events, {size:.0f} MB", "CPU s", "wall s", "peak MB", "CPU ratio", "at most"),
        [
            row("read as JSON", base, "1", ""),
            row("`bikes openlineage ingest`", stored, f"{stored.cpu / base.cpu:.1f}", f"{MOST_CPU} CPU s"),
        ],
    )
    print(
        "\nOnce. Each event has two to five tables of 20 columns; half of them say what each column is computed from."
    )


if __name__ == "__main__":
    main()
