"""python benchmarks: run every benchmark in order, or those that are named, and write docs/benchmarks.md."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

SCRIPTS = (
    "load",
    "nothing",
    "run",
    "overhead",
    "plain_nodes",
    "month",
    "backfill",
    "features",
    "lineage",
    "layout",
    "column_lineage",
    "verify",
    "ingest",
    "history",
    "partitions",
    "audit",
    "page",
)
HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"


def machine() -> str:
    """Return what the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE)
    libraries = ", ".join(f"{name} {version(name)}" for name in ("dagster", "mlflow", "deltalake", "scikit-learn"))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit.stdout.strip()}: {model or platform.machine()}, {os.cpu_count()} cores, "
        f"{memory:.0f} GB; Python {platform.python_version()}, {libraries}."
    )


def title(name: str) -> str:
    """Return the title of a script's section: the first sentence of its docstring."""
    return (HERE / f"{name}.py").read_text().split('"""')[1].strip().split("\n")[0].removesuffix(".")


def main() -> None:
    """Run all scripts, or those that are named, and put what each prints into its section of the page as soon as it is there."""
    for name in sys.argv[1:] or SCRIPTS:
        print(f"benchmarks/{name}.py", file=sys.stderr)
        command = [sys.executable, str(HERE / f"{name}.py")]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        page = PAGE.read_text() if PAGE.exists() else ""
        sections = dict(part.split("\n\n", 1) for part in page.split("\n## ")[1:])
        sections[title(name)] = f"`benchmarks/{name}.py`, {machine()}\n\n{printed.strip()}\n"
        shown = [f"## {title(known)}\n\n{sections[title(known)]}" for known in SCRIPTS if title(known) in sections]
        PAGE.write_text("\n".join(["# Benchmarks\n\nWritten by `make bench`.\n", *shown]))


if __name__ == "__main__":
    main()
