"""What happens to a store in its life, one thing after another, and what must hold of it whatever has happened.

Functions that take an instance are called in forks of a process that has loaded the definitions.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from deltalake import DeltaTable, write_deltalake

from bikes_assets.project import ASSETS, PINS
from bikes_assets_tests.contents import content_of
from bikes_assets_tests.fire.history import FAKETIME, Fork, History
from bikes_assets_tests.fire.reading import events_of, numbers_of
from bikes_assets_tests.sources import generated

MONTHS = ("2011-01", "2011-02", "2011-03")
TABLES = tuple(name for name in ASSETS if name != PINS)
MODEL = "demand_model"
PARTS = ("lake", "dagster", "mlflow")
_HERE = "bikes_assets_tests.fire.whole_store"


def of_source(folder: Path) -> History:
    """Return the project over the months of a generated source, and what forks workers in it."""
    folder.mkdir(parents=True)
    source = folder / "hour.csv"
    generated(f"{MONTHS[0]}-01", "2011-04-01").to_csv(source, index=False)
    shutil.copy(source, folder / "valid.csv")
    return History(
        folder, {"BIKES_SOURCE": str(source), "BIKES_FIRST_MONTH": MONTHS[0], "BIKES_LAST_MONTH": MONTHS[-1]}
    )


@dataclass
class Life:
    """A store, what happened to it, and what its addresses mean.

    Attributes:
        history: the store.
        rng: what decides what happens.
        meanings: what each address meant when it was seen first: the digest of a version, the version of a registered one.
        told: what happened, in words.
        backups: copies of the whole store, and what the addresses meant then.
        clock: how far the clock of processes is off.
    """

    history: History
    rng: random.Random
    meanings: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    backups: list[tuple[Path, dict[str, str]]] = field(default_factory=list)
    clock: str = ""

    def __post_init__(self) -> None:
        for old in self.history.folder.glob("backup-*"):
            shutil.rmtree(old)
        self.history.renew()
        self.rows = pd.read_csv(self.history.folder / "valid.csv", dtype=str, keep_default_na=False)
        self.write(self.rows)
        self.look()

    def happens(self) -> None:
        """Have one thing happen, and look what addresses mean."""
        kind = self.rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        self.told.append(kind.__name__.strip("_"))
        kind(self)
        self.look()

    def look(self) -> None:
        """Compare what addresses mean now with what they meant; forget those that nothing holds any more."""
        now: dict[str, str] = {}
        for name, meaning in self._held():
            was = self.meanings.get(name, now.setdefault(name, meaning))
            assert was == now[name] == meaning, f"{name} meant {was}, and is {meaning}; {self}"
        self.meanings = now

    def settle(self) -> dict[str, Any]:
        """Give the store a source that is valid, do what people do, and return how it is then."""
        self.clock = ""
        self.write(self.rows)
        self.told.append("then run and sync")
        ran = self.command("run")
        printed = ran.printed()
        code = ran.wait()
        first = self.call("synced").told()
        self.look()
        again = self.call("synced").told()
        return {"code": code, "printed": printed, "first": first, "again": again, **self.call("judged").told()}

    def anew(self) -> dict[str, str]:
        """Return the digest of each fresh partition of a store that is made of the same source from nothing."""
        shutil.rmtree(self.history.data)
        ran = self.command("run")
        assert ran.wait() == 0, ran.printed()
        return self.call("judged").told()["fresh"]

    def write(self, rows: pd.DataFrame) -> None:
        """Put the source there, as a whole."""
        aside = self.history.folder / "hour.new"
        rows.to_csv(aside, index=False)
        aside.replace(self.history.folder / "hour.csv")

    def command(self, *arguments: str) -> Fork:
        """Return the process of a command; it has ended."""
        fork = self.history.begin("command", arguments=list(arguments), clock=self.clock)
        fork.wait()
        return fork

    def call(self, function: str, **given: Any) -> Fork:
        return self.history.begin("call", clock=self.clock, function=f"{_HERE}:{function}", given=given)

    def __str__(self) -> str:
        return "; ".join(self.told)

    def _held(self) -> Iterator[tuple[str, str]]:
        """Yield each address and its meaning, as lake, event log and MLflow have it, read from their files alone."""
        for file in sorted(self.history.lake.glob("*/_delta_log/*.json")):
            for line in file.read_text().splitlines():
                info = json.loads(line).get("commitInfo", {})
                if "partition" in info:
                    digest = json.loads(info["record"])["output"]["digest"]
                    yield f"{file.parents[1].name}[{info['partition']}]@{int(file.stem)}", digest
        if (self.history.home / "event_log.db").exists():
            yield from events_of(self.history.home)
            yield from numbers_of(self.history.home)
        store = self.history.store / "mlflow.db"
        if store.exists():
            query = (
                "select name, version, value from model_version_tags join model_versions using (name, version) "
                "where key = 'address' and current_stage != 'Deleted_Internal'"
            )
            with closing(sqlite3.connect(store)) as database:
                for name, version, address in database.execute(query):
                    yield f"{name}@{version}", address


# --- what happens


def _run(life: Life) -> None:
    life.command("run")


def _month(life: Life) -> None:
    force = ["--force"] if life.rng.random() < 0.7 else []
    life.command("run", "--month", life.rng.choice(MONTHS), *force)


def _absent(life: Life) -> None:
    """Hours, days or months go from the source, at its borders or inside, for good; a part of it stays."""
    rng, rows = life.rng, life.rows
    month = rng.choice(MONTHS)
    inside = rows["dteday"].str.startswith(month)
    kind = rng.choice(["hours", "days", "month"])
    if kind == "hours":
        gone = inside & pd.Series([rng.random() < 0.2 for _ in range(len(rows))], index=rows.index)
    elif kind == "days":
        first = rng.randint(1, 28)
        gone = inside & rows["dteday"].str[8:].astype(int).between(first, first + rng.randint(0, 10))
    else:
        gone = inside
    if rows[~gone]["dteday"].str[:7].nunique() > 1:
        life.rows = rows[~gone]
    _edit(life)


def _edited(life: Life) -> None:
    """Counts of some hours change for good, or the source is again as it was in the beginning."""
    if life.rng.random() < 0.3:
        life.rows = pd.read_csv(life.history.folder / "valid.csv", dtype=str, keep_default_na=False)
    else:
        rows = life.rows.copy()
        for index in life.rng.sample(list(rows.index), 3):
            for name in ("casual", "cnt"):
                rows.loc[index, name] = str(int(str(rows.loc[index, name])) + 7)
        life.rows = rows
    _edit(life)


def _edit(life: Life) -> None:
    life.write(life.rows)
    if life.rng.random() < 0.6:
        _run(life)


def _failed(life: Life) -> None:
    """A run meets a source with a value that no rule allows."""
    rows = life.rows.copy()
    rows.loc[life.rng.choice(list(rows.index)), life.rng.choice(["temp", "cnt", "hum"])] = life.rng.choice(
        ["7", "x", "-3"]
    )
    life.write(rows)
    life.command("run")
    if life.rng.random() < 0.7:
        life.write(life.rows)


def _killed(life: Life) -> None:
    arguments = ["run", "--month", life.rng.choice(MONTHS), "--force"] if life.rng.random() < 0.7 else ["run"]
    fork = life.history.begin("command", arguments=arguments, clock=life.clock)
    end = time.monotonic() + life.rng.uniform(0.1, 6)
    while time.monotonic() < end and fork.is_at_work():
        time.sleep(0.01)
    fork.signal(signal.SIGKILL)
    fork.wait()


def _synced(life: Life) -> None:
    life.command("sync")


def _wiped(life: Life) -> None:
    """Dagster forgets an asset, or a run."""
    if life.history.home.exists():
        life.call("wiped", seed=life.rng.random()).told()


def _lost(life: Life) -> None:
    """A folder or a file of the store is deleted."""
    data = life.history.data
    what = life.rng.choice([f"lake/{life.rng.choice(TABLES)}", "lineage.db", "memories", "dagster"])
    life.told.append(what)
    for name in ("plan.json", "source.json", "months.json") if what == "memories" else (what,):
        place = data / name
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)


def _saved(life: Life) -> None:
    place = life.history.folder / f"backup-{len(life.backups)}"
    shutil.copytree(life.history.data, place)
    life.backups.append((place, dict(life.meanings)))


def _restored(life: Life) -> None:
    """The whole store, or a part of it, is as it was when it was saved."""
    if not life.backups:
        return _saved(life)
    place, meanings = life.rng.choice(life.backups)
    data = life.history.data
    if life.rng.random() < 0.5:
        shutil.rmtree(data)
        shutil.copytree(place, data)
        life.meanings = dict(meanings)
        life.told.append("whole")
        return None
    part = life.rng.choice([item for item in (*PARTS, "lineage.db") if (place / item).exists()])
    life.told.append(part)
    if (place / part).is_dir():
        shutil.rmtree(data / part, ignore_errors=True)
        shutil.copytree(place / part, data / part)
    else:
        shutil.copy(place / part, data / part)
    return None


def _in_mlflow(life: Life) -> None:
    """Somebody deletes or renames something in MLflow."""
    if life.history.home.exists():
        life.told.append(life.call("changed_in_mlflow", seed=life.rng.random()).told()["what"])


def _clock(life: Life) -> None:
    life.clock = life.rng.choice(["-2d", "-2d", "+2d", ""]) if FAKETIME else ""
    life.told.append(life.clock or "right again")
    _month(life)


def _outside(life: Life) -> None:
    """Another program works on a table: it vacuums, deletes rows, or appends rows with a column of its own."""
    name = life.rng.choice(TABLES)
    place = life.history.lake / name
    if not (place / "_delta_log").exists():
        return
    table = DeltaTable(place)
    kind = life.rng.choice(["vacuum", "delete", "append"])
    life.told.append(f"{kind} {name}")
    partitions = sorted({str(item["partition"]) for item in table.partitions()})
    if kind == "vacuum":
        table.vacuum(0, dry_run=False, enforce_retention_duration=False)
    elif partitions and kind == "delete":
        table.delete(f"partition = '{life.rng.choice(partitions)}'")
    elif partitions:
        rows = table.to_pandas()
        write_deltalake(place, rows.head(3).assign(theirs=1), mode="append", schema_mode="merge")


WEIGHTS: dict[Callable[[Life], Any], int] = {
    _run: 1,
    _month: 2,
    _absent: 3,
    _edited: 2,
    _failed: 2,
    _killed: 3,
    _synced: 1,
    _wiped: 2,
    _lost: 2,
    _saved: 1,
    _restored: 2,
    _in_mlflow: 4,
    _clock: 1,
    _outside: 3,
}


# --- in a fork


def synced(instance: Any) -> dict[str, Any]:
    """Bring everything into reconciliation, as `bikes sync` does."""
    from bikes_assets.app.reconciliation import pipeline
    from bikes_assets.orchestration.reconcile import sync

    found = sync(pipeline(instance))
    return {"done": found.done, "left": found.left, "refused": found.refused}


def judged(instance: Any) -> dict[str, Any]:
    """Return what is not fresh and why, what is due, whether the index is what a rebuilt one is, and its meanings."""
    from bikes_assets.app import answers, state
    from bikes_assets.app.settings import settings
    from bikes_assets.cli import runner as runs
    from bikes_assets.core.record import partition_address
    from bikes_assets.core.staleness import staleness_of
    from bikes_assets.definitions import defs
    from bikes_assets.defs.due import due
    from bikes_assets.lineage import queries
    from bikes_assets.lineage.elements import MODEL as REGISTERED
    from bikes_assets.lineage.elements import VERSION
    from bikes_assets.lineage.index import Index

    source = state.observed()
    graph = defs().resolve_asset_graph()
    plan = runs.plan()
    found = state.now(source)
    statuses = staleness_of(plan, found)
    wanted = due(graph, makes=set(plan.nodes), source=source).runs
    grown = answers.refreshed()
    content = content_of(grown)
    registered = {
        name: queries.version_named(grown, queries.find(grown, name)).name for name in grown.names(REGISTERED)
    }
    versions = {name: grown.find(name, VERSION)[0].facts["digest"] for name in grown.names(VERSION)}
    file = Path(settings().data_folder) / "lineage.db"
    file.rename(file.with_name("grown.db"))
    rebuilt = answers.refreshed()
    same = content == content_of(rebuilt)
    assert isinstance(rebuilt, Index)
    unsettled = [
        f"{item.asset}[{item.partition}] {item.state}: {[str(reason) for reason in item.reasons]}"
        for item in statuses.values()
        if item.state not in ("fresh", "skipped")
    ]
    # Another program has changed its rows, and the source no longer has what it was made of: what needs it cannot be created
    lost = [partition_address(*key) for key in found.altered if statuses[key].state == "skipped"]
    return {
        "unsettled": [what for what in unsettled if not any(f"DigestError: {address}@" in what for address in lost)],
        "fresh": {
            f"{asset}[{key}]": found.materialized[asset, key].digest
            for (asset, key), status in statuses.items()
            if status.state == "fresh"
        },
        "due": [f"{run.assets} {run.partition}: {run.why}" for run in wanted],
        "rebuilt": same,
        "meanings": {**versions, **registered},
    }


def wiped(instance: Any, seed: float) -> dict[str, Any]:
    import dagster as dg

    rng = random.Random(seed)
    runs = instance.get_runs()
    if runs and rng.random() < 0.5:
        instance.delete_run(rng.choice(runs).run_id)
    else:
        instance.wipe_assets([dg.AssetKey(rng.choice(TABLES))])
    return {}


def changed_in_mlflow(instance: Any, seed: float) -> dict[str, Any]:
    from bikes_assets.app.settings import settings
    from bikes_assets.tracking.client import client_of, lineage_of
    from bikes_assets.tracking.version_source import model_id_in

    rng, client = random.Random(seed), client_of(settings().tracking_uri)
    name = rng.choice([settings().experiment, lineage_of(settings().experiment)])
    models = [item.name for item in client.search_registered_models()]
    versions = list(client.search_model_versions(f"name = '{MODEL}'"))
    experiment = client.get_experiment_by_name(name)
    runs = (
        client.search_runs([experiment.experiment_id]) if experiment and experiment.lifecycle_stage == "active" else []
    )
    kind = rng.choice(
        ["version", "version", "model", "renamed model", "alias", "experiment", "renamed", "run", "logged"]
    )
    if kind == "version" and versions:
        version = rng.choice(versions)
        client.delete_model_version(MODEL, version.version)
        kind = f"version {version.version}"
    elif kind == "model" and MODEL in models:
        client.delete_registered_model(MODEL)
    elif kind == "renamed model" and MODEL in models:
        client.rename_registered_model(MODEL, f"theirs-{seed}")
    elif kind == "alias" and versions:
        if rng.random() < 0.5:
            client.delete_registered_model_alias(MODEL, "champion")
        else:
            client.set_registered_model_alias(MODEL, "champion", rng.choice(versions).version)
    elif kind == "experiment" and experiment and experiment.lifecycle_stage == "active":
        client.delete_experiment(experiment.experiment_id)
    elif kind == "renamed" and experiment:
        client.rename_experiment(experiment.experiment_id, f"theirs-{seed}")
    elif kind == "run" and runs:
        client.delete_run(rng.choice(runs).info.run_id)
    elif kind == "logged" and versions:
        if model_id := model_id_in(rng.choice(versions)):
            client.delete_logged_model(model_id)
    else:
        kind = f"no {kind} to change"
    return {"what": kind}
