"""Versions rebuilt from their records: identical wherever, whenever; and what was changed is named, and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import narwhals
import psutil
import pytest

from bikes_assets.demand.model import Recipe
from bikes_assets.verification.reproduction import TOLERANCE
from bikes_assets_tests.app.test_retention import age
from bikes_assets_tests.conftest import MADE
from bikes_assets_tests.copied import ROOT, Store
from bikes_assets_tests.repositories import git

SOAK = os.environ.get("BIKES_SOAK") == "1"
MODEL, RENTALS = "demand_model[2011-03]", "hourly_rentals[2011-02]"
DVC = find_spec("dvc") is not None
COMMAND = "from bikes_assets.cli import main; main()"
HEARING = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); {COMMAND}"
"""Heard also where these tests run under nohup."""
FUNCTION = "bikes_assets.demand.features.wet_hours_3h"


class Repository(Store):
    """A store whose code and source lie in a git repository."""

    def __init__(self, folder: Path, last_month: str) -> None:
        super().__init__(folder, last_month)
        self.source = folder / "code" / "data" / "raw" / "hour.csv"
        self.source.parent.mkdir(parents=True)
        self.write()
        shutil.copy(ROOT / "requirements.lock", folder / "code")
        (folder / "code" / ".gitignore").write_text("__pycache__/\n.env\n")
        self.settings |= {"BIKES_SOURCE": "data/raw/hour.csv", "BIKES_MODEL": json.dumps({"min_training_months": 1})}
        self.git("init", "--quiet")
        self.commit("first")

    def git(self, *arguments: str) -> str:
        return git(self.folder / "code", *arguments)

    def moved(self, folder: Path) -> Repository:
        """Return what is there in another place: the data, and a clone of the code, which is no more where it was."""
        elsewhere = Repository.__new__(Repository)
        vars(elsewhere).update(vars(self) | {"folder": folder})
        self.git("clone", "--quiet", ".", str(folder / "code"))
        shutil.move(self.folder / "data", folder)
        shutil.move(self.folder / "code", self.folder / "gone")
        return elsewhere

    def commit(self, message: str) -> None:
        self.git("add", ".")
        self.git("commit", "--quiet", "-m", message)

    def reproduce(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        return json.loads(self.bikes("reproduce", "--json", *arguments, code=code))["items"]

    def state(self) -> str:
        """Return a digest of every file of the lake, of MLflow and of Dagster's events."""
        files = sorted(path for path in (self.folder / "data").rglob("*") if path.is_file())
        kept = [
            path for path in files if not path.name.startswith(("lineage.db", "plan.json")) and "-shm" not in path.name
        ]
        return hashlib.sha256(
            b"".join(str(path).encode() + hashlib.sha256(path.read_bytes()).digest() for path in kept)
        ).hexdigest()


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A store of three months."""
    store = Repository(tmp_path_factory.mktemp("first"), "2011-03")
    store.bikes("run")
    return store


@pytest.fixture
def store(rebuilt: Repository, tmp_path: Path) -> Repository:
    """That store in a folder of its own: what it was rebuilt in is elsewhere."""
    copy = Repository.__new__(Repository)
    vars(copy).update(
        vars(rebuilt) | {"settings": dict(rebuilt.settings), "hours": rebuilt.hours.copy(), "folder": tmp_path}
    )
    copy.source = tmp_path / "code" / "data" / "raw" / "hour.csv"
    shutil.copytree(rebuilt.folder, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="old versions are rebuilt below, and by every other file that reproduces")
def test_everything_comes_out_as_recorded_and_the_store_is_left_as_it_is(rebuilt: Repository) -> None:
    before = rebuilt.state()

    found = rebuilt.reproduce("--all")

    assert {item["address"].partition("[")[0] for item in found} == {*MADE}
    assert {item["verdict"] for item in found} == {"identical"}
    assert not any(item["taken"] or item["parts"] or item["metrics"] for item in found)
    model = next(item for item in found if item["address"].startswith(MODEL))
    assert model["rebuilt"] == {"hourly_rentals": 2, "demand_features": 2, "demand_model": 1}
    assert model["predictions"][0] == model["predictions"][1] != ""
    assert rebuilt.state() == before
    assert rebuilt.git("worktree", "list").count("\n") == 0


@pytest.mark.soak
def test_old_versions_come_out_as_recorded_after_all_has_moved_on(store: Repository, tmp_path_factory) -> None:
    # Given a model that was materialized from another source from a tree that differed from its commit
    store.edit("demand/features.py", "    return (weathersit >= 3)", "    return (weathersit >= 2)")
    (store.folder / "code" / "notes.txt").write_text("beside it")
    store.rent("2011-01-20", 8, 40)
    store.bikes("run")
    # and code and source that have moved on since, in another place
    store.edit("demand/features.py", "    return (weathersit >= 2)", "    return (weathersit >= 1)")
    store.rent("2011-01-20", 8, 1)
    store.commit("moved on")
    elsewhere = store.moved(tmp_path_factory.mktemp("clone"))
    # When
    lake = elsewhere.folder / "data" / "lake"
    lake.chmod(0o777)
    done = elsewhere.python(COMMAND, "reproduce", "demand_model@2")
    assert done.returncode == 2
    assert "others can write there: look, then --trust-lake" in done.stderr
    lake.chmod(0o755)
    found = elsewhere.reproduce("demand_model@1", "demand_model@2")
    # Then
    assert [item["verdict"] for item in found] == ["identical"] * 2
    assert len({item["digests"][0] for item in found}) == 2
    assert not any(item["taken"] for item in found)


def raw(store: Repository) -> None:
    store.rent("2011-01-20", 8, 40)


def function(store: Repository) -> None:
    store.edit("demand/features.py", "    return (weathersit >= 3)", "    # mist counts\n    return (weathersit >= 2)")


def configured(store: Repository, **settings: Any) -> None:
    store.settings["BIKES_MODEL"] = json.dumps({"min_training_months": 1, **settings})


def hyperparameter(store: Repository) -> None:
    configured(store, parameters={**Recipe().parameters, "learning_rate": 0.06})


def seed(store: Repository) -> None:
    configured(store, seed=1)


def library(store: Repository) -> None:
    """Put another version of a library in front of the one that is installed: its week begins on a Sunday."""
    installed, place = Path(narwhals.__file__).parent, store.folder / "other"
    shutil.copytree(installed, place / "narwhals", ignore=shutil.ignore_patterns("__pycache__"))
    (info,) = installed.parent.glob("narwhals-*.dist-info")
    shutil.copytree(info, place / "narwhals-2.99.0.dist-info")
    metadata = place / "narwhals-2.99.0.dist-info" / "METADATA"
    metadata.write_text(re.sub("(?m)^Version: .*$", "Version: 2.99.0", metadata.read_text()))
    namespace = place / "narwhals" / "expr_dt.py"
    with namespace.open("a") as file:
        file.write("\n_weekday = ExprDateTimeNamespace.weekday\n")
        file.write("ExprDateTimeNamespace.weekday = lambda self: _weekday(self) % 7 + 1\n")
    store.settings["PYTHONPATH"] = os.pathsep.join((str(store.folder / "code"), str(place)))


BOTH = ("demand_features[2011-01]", "demand_features[2011-02]")
CHANGES = [
    (function, ("code", FUNCTION), {key: {"wet_hours_3h"} for key in BOTH}),
    (raw, ("input", "rental_records[2011-01]"), {"hourly_rentals[2011-01]": {"casual", "cnt"}}),
    (hyperparameter, ("config", "demand_model.parameters.learning_rate"), {MODEL: set()}),
    (seed, ("config", "demand_model.seed"), {MODEL: set()}),
    (library, ("environment", "demand_features"), {key: {"hour_of_week"} for key in BOTH}),
]
"""What is changed, what is to be named as the cause, and where the chain parts from its record, with the columns."""


@pytest.mark.soak
@pytest.mark.parametrize(("change", "cause", "parts"), CHANGES if SOAK else CHANGES[:1])
def test_a_change_is_named_at_its_place_and_nothing_else_is_blamed(
    store: Repository, change: Callable[[Repository], None], cause: tuple[str, str], parts: dict[str, set[str]]
) -> None:
    change(store)

    (found,) = store.reproduce(MODEL, "--here", code=1)

    assert found["verdict"] == "different"
    assert {(item["kind"], item["what"]) for item in found["causes"]} == {cause}
    assert {item["address"].partition("@")[0]: set(item["columns"]) for item in found["parts"]} == parts
    libraries = {item["name"] for item in found["environment"] if item["name"].startswith(("libraries", "locked"))}
    assert libraries == ({"libraries.narwhals"} if change is library else set())


def makers_of(command: psutil.Process) -> list[psutil.Process]:
    """Return the processes in which a command makes versions again."""
    found: list[psutil.Process] = []
    for item in command.children():
        with suppress(psutil.Error):  # git's end at once
            if "rebuild.py" in " ".join(item.cmdline()):
                found.append(item)
    return found


@pytest.mark.soak
def test_a_command_that_is_killed_leaves_nothing_that_the_next_one_does_not_remove(
    store: Repository, tmp_path_factory: Any
) -> None:
    temporary = tmp_path_factory.mktemp("temporary")
    store.settings["TMPDIR"] = str(temporary)
    endings = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    for ending in endings if SOAK else endings[:2]:
        # Given a command whose process makes versions again in a worktree
        with subprocess.Popen(
            [sys.executable, "-c", HEARING, "reproduce", RENTALS],
            env=store.environment(),
            cwd=store.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as command:
            known = psutil.Process(command.pid)
            while not (makers := makers_of(known)):
                assert command.poll() is None
                time.sleep(0.02)
            assert store.git("worktree", "list").count("\n") == 1
            # When
            command.send_signal(ending)
            printed, _ = command.communicate(timeout=60)
        # Then its process has ended, and where it was told to end, it has cleared up
        psutil.wait_procs(makers, timeout=30)
        assert not [item for item in makers if item.is_running() and item.status() != psutil.STATUS_ZOMBIE]
        if ending == signal.SIGKILL:
            assert [*temporary.glob("bikes-*")]
            continue
        assert (command.returncode, "Traceback" in printed) == (130, False), printed
        assert [*temporary.glob("bikes-*")] == []
        assert store.git("worktree", "list").count("\n") == 0
    # And the next command, of another version, works and leaves nothing of any
    assert store.reproduce("hourly_rentals[2011-01]")[0]["verdict"] == "identical"
    assert store.git("worktree", "list").count("\n") == 0
    assert [*temporary.glob("bikes-*")] == []


FORGE = """
from bikes_assets.app.store import table
from bikes_assets.core.digest import table_digest
import pyarrow as pa, pyarrow.compute as pc

target = table("demand_features")
rows = target.read(["2011-01"])["2011-01"][1]
place = rows.schema.get_field_index("humidity")
rows = rows.set_column(place, "humidity", pc.multiply(rows["humidity"], 0.5))
record, digest = target.published()["2011-01"].record, table_digest(rows, target.schema)
record["output"]["digest"], record["columns"] = digest.table, digest.columns
target.write("2011-01", rows, record, since=target.version())
"""


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="another of the kinds of change that a soak shows")
def test_a_table_version_that_its_record_does_not_make_is_named(store: Repository) -> None:
    # Given a model that was fitted on a month that somebody wrote into the table by hand
    done = store.python(FORGE)
    assert done.returncode == 0, done.stderr
    store.bikes("run")
    # When
    (found,) = store.reproduce("demand_model@2", code=1)
    # Then
    assert found["verdict"] == "different"
    assert [(item["kind"], item["what"]) for item in found["causes"]] == [("unknown", "demand_features")]
    assert [(item["address"].partition("@")[0], item["columns"]) for item in found["parts"]] == [
        ("demand_features[2011-01]", ["humidity"])
    ]
    # and the model before it is what it was
    assert store.reproduce("demand_model@1")[0]["verdict"] == "identical"


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="takes a minute")
def test_what_cannot_be_had_is_said(rebuilt: Repository, store: Repository) -> None:
    # Given a source that lies nowhere any more, not where it was read either, and a commit that is gone
    away = rebuilt.source.rename(rebuilt.source.with_name("away.csv"))
    try:
        _what_cannot_be_had_is_said(store)
    finally:
        away.rename(rebuilt.source)


def _what_cannot_be_had_is_said(store: Repository) -> None:
    store.git("checkout", "--quiet", "--orphan", "other")
    store.source.unlink()
    store.commit("anew")
    store.git("branch", "-D", store.git("for-each-ref", "--format=%(refname:short)", "refs/heads").split()[0])
    store.git("reflog", "expire", "--expire=now", "--all")
    store.git("gc", "--quiet", "--prune=now")
    # Then that is an error
    done = store.python(COMMAND, "reproduce", MODEL)
    assert done.returncode == 2
    assert "the source of SHA-256" in done.stderr
    # and where it is asked for, the rentals are taken as they are stored; the rest is rebuilt by the code here, which is the same
    (found,) = store.reproduce(MODEL, "--stored")
    assert found["verdict"] == "identical"
    assert found["rebuilt"] == {"demand_features": 2, "demand_model": 1}
    assert all("the source of SHA-256" in why for why in found["taken"].values())
    # and where it is another, that is an error
    store.edit("defs/raw.py", 'role="rentals"', 'role="rents"')
    done = store.python(COMMAND, "reproduce", RENTALS, "--stored")
    assert done.returncode == 2
    assert "is not in this repository, and the code here is another" in done.stderr


@pytest.mark.soak
@pytest.mark.skipif(
    not SOAK, reason="takes minutes; with which source a version is rebuilt is shown in test_sandbox.py"
)
def test_rows_of_several_sources_and_versions_that_were_removed_come_out_as_recorded(tmp_path: Path) -> None:
    # Given rows of a file, then of another at another place, then of a folder, one of whose files was replaced
    store = Repository(tmp_path, "2011-03")
    first = tmp_path / "first.csv"
    shutil.copy(store.source, first)
    store.settings["BIKES_SOURCE"] = str(first)
    store.bikes("run")
    store.source = tmp_path / "second.csv"
    store.rent("2011-02-10", 8, 40)
    store.settings["BIKES_SOURCE"] = str(store.source)
    store.bikes("run")
    # When the model of both is rebuilt, and the rows of the first file
    (found,) = store.reproduce(MODEL)
    assert found["verdict"] == "identical"
    (old,) = store.reproduce(f"{RENTALS}@2")
    assert old["verdict"] == "identical"
    # And when all that the first file had a part in is removed by retention
    age(store.folder / "data", 200)
    assert "demand_model[2011-03]@1" in store.bikes("retain", "--apply")
    (found,) = store.reproduce("demand_model[2011-03]@1")
    assert found["verdict"] == "identical"
    assert "its rows were removed by retention" in found["removed"]
    # And with the first file gone, it is said at once, with where it was looked for, and found by trace and reproduce alike
    trace = ("trace", "--json", "hourly_rentals.cnt[2011-02]#2011-02-10T08:00")
    store.source.rename(tmp_path / "code" / "second.csv")
    (told,) = json.loads(store.bikes(*trace))["items"][0]["sources"][0]["files"]
    assert (told["state"], told["at"]) == ("gone", str(tmp_path / "code" / "second.csv"))
    assert store.reproduce(RENTALS)[0]["verdict"] == "identical"
    first.unlink()
    done = store.python(COMMAND, "reproduce", "demand_model[2011-03]@1")
    assert done.returncode == 2
    assert f"is not at hand (looked at file://{first}: nothing there" in done.stderr


@pytest.mark.soak
@pytest.mark.skipif(not DVC or not SOAK, reason="needs the extra dvc, and a minute; what DVC has is got in every test")
def test_the_revision_of_the_source_that_was_recorded_comes_from_dvcs_remote(
    tmp_path: Path, tmp_path_factory: Any
) -> None:
    # Given a source that DVC tracks in a repository of its own, with a remote in a folder
    remote = tmp_path_factory.mktemp("remote")
    store = Repository(tmp_path, "2011-02")
    place = store.folder / "rentals"
    place.mkdir()
    store.source = Path(shutil.move(store.source, place))
    store.settings["BIKES_SOURCE"] = str(store.source)

    def dvc(*arguments: str) -> None:
        command, quiet = [sys.executable, "-m", "dvc", *arguments], os.environ | {"DVC_NO_ANALYTICS": "1"}
        subprocess.run(command, cwd=place, env=quiet, check=True, capture_output=True)

    git(place, "init", "--quiet")
    dvc("init", "--quiet")
    dvc("remote", "add", "--default", "store", str(remote))

    def track(message: str) -> None:
        dvc("add", "--quiet", "hour.csv")
        dvc("push", "--quiet")
        git(place, "add", ".")
        git(place, "commit", "--quiet", "-m", message)

    track("first")
    store.bikes("run", "--month", "2011-01")
    # When it is replaced, pushed as a new revision, and the month is rebuilt
    first = store.records()[-1]["output"]
    store.rent("2011-01-20", 8, 40)
    track("second")
    store.bikes("run", "--month", "2011-01")
    shutil.rmtree(place / ".dvc" / "cache")
    # Then the old version is rebuilt from the old revision
    old = f"demand_features[2011-01]@{first['version'] if first['version'] >= 0 else 1}"
    (found,) = store.reproduce(old)
    assert found["verdict"] == "identical"
    assert found["rebuilt"] == {"hourly_rentals": 1, "demand_features": 1}
    assert found["digests"][0] == first["digest"]
    assert store.reproduce("demand_features[2011-01]")[0]["digests"][0] != first["digest"]
    # and where the remote is gone, that is said
    remote.rename(remote.with_name("away"))
    done = store.python(COMMAND, "reproduce", old)
    assert done.returncode == 2
    assert f"cannot be had from remote store ({remote})" in done.stderr
    # as is a source that is not what its pointer says, or is missing
    store.rent("2011-01-21", 8, 40)
    assert "which hour.csv.dvc says" in store.python(COMMAND, "run").stderr
    store.source.unlink()
    assert "run `dvc pull`" in store.python(COMMAND, "run").stderr


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="24 months take minutes; three are above")
def test_every_version_of_24_months_comes_out_as_recorded_in_another_place(tmp_path_factory: Any) -> None:
    # Given 24 months, some of which were materialized from another source, and code and source that have moved on since
    store = Repository(tmp_path_factory.mktemp("years"), "2012-12")
    store.settings["BIKES_MODEL"] = "{}"
    store.bikes("run")
    store.rent("2012-10-20", 8, 40)
    store.bikes("run")
    store.edit("demand/features.py", "    return (weathersit >= 3)", "    return (weathersit >= 2)")
    store.rent("2012-10-20", 8, 1)
    store.commit("moved on")
    clone = store.moved(tmp_path_factory.mktemp("clone"))
    # When
    found = clone.reproduce("--all")
    # Then
    assert {item["verdict"] for item in found} == {"identical"}
    assert not any(item["taken"] for item in found)
    models = {item["address"] for item in found if item["address"].startswith("demand_model")}
    assert len(models) > len({address.partition("@")[0] for address in models}) == 22


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="shown once for each kind of change in a soak")
def test_a_model_that_is_fitted_with_more_threads_is_equal_within_the_tolerance(store: Repository) -> None:
    configured(store, threads=2)
    (found,) = store.reproduce(MODEL, "--here")
    assert found["verdict"] in ("identical", "equal")
    assert found["largest"] <= TOLERANCE
    assert {(item["kind"], item["what"]) for item in found["causes"]} <= {("config", "demand_model.threads")}
