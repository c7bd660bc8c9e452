"""python benchmarks: run every benchmark in order and write docs/benchmarks.md."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

SCRIPTS = ("load", "nothing", "run", "overhead", "month", "features", "lineage")
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


def main() -> None:
    """Run all scripts, or those that are named, and write what they print."""
    sections = ["# Benchmarks", f"`make bench`, {machine()}"]
    for name in sys.argv[1:] or SCRIPTS:
        script = HERE / f"{name}.py"
        print(f"benchmarks/{name}.py", file=sys.stderr)
        printed = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout
        title = script.read_text().split('"""')[1].strip().split("\n")[0]
        sections.append(f"## {title.removesuffix('.')}\n\n`benchmarks/{name}.py`\n\n{printed.strip()}")
    PAGE.write_text("\n\n".join(sections) + "\n")


if __name__ == "__main__":
    main()
