"""The project of the campaigns as a code location: a launcher begins its runs, and its functions are edited between them."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import DagsterRunStatus as Status

from bikes_assets.core.record import Record
from bikes_assets.events.warm.launcher import WarmRunLauncher
from bikes_assets.events.warm.libraries import library_modules, memory_of, remember
from bikes_assets.events.workers import worker_of
from bikes_assets.storage.processes import Process
from bikes_assets.tracking.client import client_of
from bikes_assets_tests.conftest import ROOT
from bikes_assets_tests.events.test_launcher import origins, wait_until
from bikes_assets_tests.fire.project import ASSETS, ROOTS, Place, frame, warm_module

NAME = "fire"
SHARED = ("a1", "a2")
"""Assets whose functions reach one that lies in another file."""
_HEAD = """\
import sys
sys.path.append({root!r})  # where the tests and the examples lie, wherever a run begins
import figures
from bikes_assets.orchestration.asset import lineage_asset
from bikes_assets_tests.fire.launched import rows_of
from bikes_assets_tests.fire.project import MONTHS, ROOTS, SCHEMAS, Outcome, act, definitions, dg


def table(context, figure):
    act(context)
    rows = rows_of(context.asset_key.to_user_string(), context.partition_key)
    return Outcome(rows.assign(x=rows["x"] * figure), role="raw", metrics={{"figure": figure}}, params={{"rows": len(rows)}})


@lineage_asset(
    partitions=MONTHS, ins={{name: dg.AssetIn() for name in ROOTS}}, group="fire", kinds=set(), schema=SCHEMAS["joined"]
)
def joined(context, a1, a2, a3, a4) -> Outcome:
    act(context)
    rows = a1.copy()
    rows["x"] = (a1["x"] + a2["x"] + a3["x"] + a4["x"]) * figures.joined()
    return Outcome(rows, datasets={{f"of {{name}}": (name, None) for name in ROOTS}}, role="features")


@lineage_asset(partitions=MONTHS, ins={{"joined": dg.AssetIn()}}, group="fire", kinds=set(), io_manager="models")
def ridge(context, joined) -> Outcome:
    from sklearn.linear_model import Ridge

    act(context)
    fitted = Ridge(alpha=figures.ridge()).fit(joined[["x"]], joined["y"])
    metrics = {{"slope": float(fitted.coef_[0])}}
    return Outcome({{"estimator": fitted}}, datasets={{"training": ("joined", None)}}, metrics=metrics)
"""
_ROOT = """

@lineage_asset(partitions=MONTHS, ins={{}}, group="fire", kinds=set(), schema=SCHEMAS["{name}"])
def {name}(context) -> Outcome:
    return table(context, figures.{name}())
"""
_END = """

defs = definitions([a1, a2, a3, a4, joined, ridge], {folder!r}, {uri!r}, {lake!r})
"""
_VERSIONS = """
import sys
from bikes_assets.core.code_version import code_version
print(*(code_version("definitions", name) for name in sys.argv[1:]))
"""
_FUNCTION = "\n\ndef {name}():\n    return {value:5}.0{factor}\n"


def rows_of(asset: str, month: str) -> Any:
    """Return rows that are the same in all months of a year, so that one month shows what the others must have."""
    return frame(asset, f"{month[:4]}-01")


@dataclass
class Code:
    """The project's code in a folder, where each function multiplies by a figure, and edits change a figure.

    Attributes:
        folder: where it lies.
        figures: what each function multiplies by: one for each asset, and one that two of them share.
        known: the figure by which the code of an asset's code version multiplies.
    """

    folder: Path
    place: Place
    figures: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*ASSETS, "shared"), 1))
    known: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        roots = "".join(_ROOT.format(name=name) for name in ROOTS)
        end = _END.format(folder=str(self.place.folder), uri=self.place.uri, lake=self.place.location)
        self.file.write_text(_HEAD.format(root=str(ROOT)) + roots + end)
        self._write()

    @property
    def file(self) -> Path:
        return self.folder / "definitions.py"

    def edit(self, rng: random.Random) -> None:
        """Have one function multiply by another figure; no file changes its size."""
        self.figures[rng.choice([*self.figures])] = max(self.figures.values()) + 1
        self._write()

    def versions(self) -> dict[str, str]:
        """Return the code version of each asset, as a process that reads the code now has it."""
        done = subprocess.run(
            [sys.executable, "-c", _VERSIONS, *ASSETS], cwd=self.folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return dict(zip(ASSETS, done.stdout.split(), strict=True))

    def _write(self) -> None:
        texts = {
            name: _FUNCTION.format(name=name, value=value, factor=" * shared.shared()" if name in SHARED else "")
            for name, value in self.figures.items()
        }
        (self.folder / "shared.py").write_text(texts.pop("shared"))
        (self.folder / "figures.py").write_text("import shared\n" + "".join(texts.values()))
        for asset, version in self.versions().items():
            figure = self.figures[asset] * (self.figures["shared"] if asset in SHARED else 1)
            assert self.known.setdefault((asset, version), figure) == figure, "one code version is of two codes"


@dataclass
class Launches:
    """The code location with the launcher of an instance, and the runs that it has begun.

    Attributes:
        code: the code of the location.
        instance: Dagster's instance.
        workers: the process of each run.
    """

    code: Code
    instance: dg.DagsterInstance
    workers: dict[str, Process] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import_module(warm_module())  # what runs import, for the first zygote to import
        client_of(self.code.place.uri)  # sets MLflow's variables; a zygote is replaced where a variable has changed
        remember(memory_of(self.instance.root_directory, NAME), library_modules())
        self.launcher.prepare()

    @property
    def launcher(self) -> WarmRunLauncher:
        launcher = self.instance.run_launcher
        assert isinstance(launcher, WarmRunLauncher)
        return launcher

    def kill_zygote(self) -> None:
        """Kill the process from which the next run would be forked."""
        self.launcher._zygotes[NAME]._process.kill()

    def create(self, month: str) -> str:
        return self.code.place.create(self.instance, month, **origins(self.code.file, NAME, "fire"))

    def launch(self, month: str) -> str:
        run_id = self.create(month)
        self.begin(run_id)
        return run_id

    def begin(self, run_id: str) -> None:
        """Have a run begin that was created."""
        self.instance.launch_run(run_id, workspace=None)
        worker = worker_of(self.instance, self.run(run_id))
        assert worker
        assert worker.birth
        self.workers[run_id] = worker

    def run(self, run_id: str) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(run_id)
        assert run
        return run

    def status(self, run_id: str) -> Status:
        return self.run(run_id).status

    def through(self, run_ids: Sequence[str]) -> None:
        """Wait until the processes of runs have ended, each in its way."""
        for run_id in run_ids:
            wait_until(self.workers[run_id].is_gone)


@dataclass
class MlflowFile:
    """MLflow's store in a SQLite file, with the methods of a server: `kill` takes it away, `start` brings it back."""

    folder: Path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.store}"

    @property
    def store(self) -> Path:
        return self.folder / "mlflow.db"

    def kill(self) -> None:
        self.folder.rename(self.folder.with_name("away"))
        self.folder.touch()  # a file where the folder was, so that nobody creates another store

    def start(self) -> None:
        self.folder.unlink()
        self.folder.with_name("away").rename(self.folder)


def stale(code: Code, records: Sequence[Record]) -> list[str]:
    """Return versions that are not what the code of their record's code version computes from their inputs."""
    from sklearn.linear_model import Ridge

    lake, told = code.place.lake, list[str]()

    def rows(asset: str, version: int | str, month: str) -> Any:
        return lake.table(asset).read([month], int(version))[month][1].to_pandas()

    for record in records:
        asset, month, version = record.output.asset, str(record.output.partition), record.output.version
        figure = code.known.get((asset, record.code_version))
        if figure is None:
            told.append(f"{record.output.address} has the code version {record.code_version}, which no code had")
            continue
        read = {use.asset: rows(use.asset, use.version, month) for use in record.inputs}
        if asset == "ridge":
            expected = Ridge(alpha=float(figure)).fit(read["joined"][["x"]], read["joined"]["y"]).coef_[0]
            found = record.metrics["slope"]
        else:
            sums = sum(read[name]["x"] for name in ROOTS) if asset == "joined" else rows_of(asset, month)["x"]
            expected, found = list(sums * float(figure)), list(rows(asset, version, month)["x"])
        if found != expected:
            told.append(f"{record.output.address} is not what the code of its code version computes")
    return told
