"""Projects that are copied, moved, or in a folder of an odd name: each works where it is, on its own store."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from bikes_assets_tests import forked
from bikes_assets_tests.fire.processes import SOAK

ROOT = Path(__file__).parents[1]
COMMAND = "from bikes_assets.cli import main; main()"
ODD = "My Projects #1 'n' \"q\" $HOME ${X} `id` ü &;*<>{}~ 100% =+,@:"
"""A folder's name with whatever a format, a shell or a URL has to quote."""


def environment(**settings: str) -> dict[str, str]:
    """Return the environment of a process that knows of no store."""
    others = ("BIKES_", "DAGSTER_", "MLFLOW_", "PYTHONPATH")  # a folder's name may hold what separates paths
    kept = {key: value for key, value in os.environ.items() if not key.startswith(others)}
    return kept | {"OMP_NUM_THREADS": "1", "GIT_PYTHON_REFRESH": "quiet"} | settings


def bikes(*arguments: str, code: int = 0, of: Path = ROOT, **settings: str) -> str:
    """Run a command of a project, which must end with a code, and return what it printed."""
    done = forked.run(("-c", COMMAND, *arguments), environment=environment(**settings), folder=of)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def identity(store: Path) -> str:
    return json.loads((store / "lake" / "store.json").read_text())["store"]


def contents(folder: Path) -> dict[str, bytes]:
    """Return what lies in a store, but for what SQLite keeps of who reads."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.endswith(("-shm", "-wal"))}


@pytest.fixture
def copy(history: Any, tmp_path: Path) -> Path:
    """Return a copy of the store of the tests, in a folder of an odd name."""
    from bikes_assets.app.settings import settings

    return shutil.copytree(settings().data_folder, tmp_path / ODD)


MONTHS = {"BIKES_FIRST_MONTH": "2011-01", "BIKES_LAST_MONTH": "2011-07"}
PIN = ("pin", "demand_model[2011-04]", "--month", "2011-07", "--reason", "a copy")


def test_a_copied_store_works_as_one_of_its_own_and_leaves_the_original_alone(copy: Path) -> None:
    from bikes_assets.app.settings import settings

    original = settings().data_folder
    before, known = contents(original), identity(original)
    # When the copy is asked, and then written to
    assert "demand_model[2011-05..2011-07]" in bikes(
        "upstream", "demand_predictions[2011-07]", BIKES_DATA=str(copy), **MONTHS
    )
    bikes(*PIN, BIKES_DATA=str(copy), **MONTHS)
    assert "Everything agrees." in bikes("sync", BIKES_DATA=str(copy), **MONTHS)
    # Then it is another store, whose copies of models are its own, and nothing of the original has changed
    assert identity(copy) != known
    assert contents(original) == before
    # And once it is moved, it is the same store there
    moved = copy.rename(copy.with_name("moved"))
    assert "Everything agrees." in bikes("sync", BIKES_DATA=str(moved), **MONTHS)
    assert identity(moved) != known


def test_an_event_log_that_is_older_than_the_rest_costs_no_run_in_mlflow(copy: Path, tmp_path: Path) -> None:
    known = {**MONTHS, "BIKES_DATA": str(copy)}
    bikes("sync", **known)
    log, older = copy / "dagster" / "event_log.db", tmp_path / "older.db"
    with closing(sqlite3.connect(log)) as source, closing(sqlite3.connect(older)) as target:
        source.backup(target)
    bikes("run", "--month", "2011-07", **known, BIKES_MODEL='{"seed": 1}', code=1)  # other months are stale by it, too
    runs = active_runs(copy)
    # When the event log alone is brought back from a copy
    for name in ("event_log.db-wal", "event_log.db-shm"):
        (copy / "dagster" / name).unlink(missing_ok=True)
    shutil.copy(older, log)
    told = bikes("sync", **known)
    # Then what it has lost is told again, and every run in MLflow stays what it was
    assert "was committed, and is now in the event log" in told
    assert "deleted" not in told
    assert active_runs(copy) == runs
    assert "Everything agrees." in bikes("sync", **known)


def active_runs(store: Path) -> set[tuple[str, str]]:
    """Return id and status of the runs in MLflow that are not deleted."""
    with closing(sqlite3.connect(store / "mlflow" / "mlflow.db")) as connection:
        return {*connection.execute("select run_uuid, status from runs where lifecycle_stage = 'active'")}


def test_parts_of_two_stores_are_refused_by_every_command_and_change_nothing(copy: Path, tmp_path: Path) -> None:
    bikes(*PIN, BIKES_DATA=str(copy), **MONTHS)
    mixture = {
        "BIKES_DATA": str(tmp_path / "mixed"),
        "BIKES_LAKE": f"{copy}/lake",
        "DAGSTER_HOME": os.environ["DAGSTER_HOME"],
        **MONTHS,
    }
    before = contents(copy), contents(Path(os.environ["DAGSTER_HOME"]))
    snapshot = tmp_path / "lineage.lock.json"
    for command in (
        ("run",),
        ("status",),
        ("upstream", "demand_predictions"),
        ("sync",),
        ("deployments",),
        (*PIN,),
        ("snapshot", str(snapshot)),
    ):
        told = bikes(*command, code=2, **mixture)
        assert "error: " in told, command
        assert "found the event log of the lake" in told, command
        assert "Traceback" not in told, command
    program = "import bikes_assets.definitions as d; d.defs()"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment(**mixture))
    assert loaded.returncode == 1
    assert "found the event log of the lake" in loaded.stderr
    assert (contents(copy), contents(Path(os.environ["DAGSTER_HOME"]))) == before
    assert not (tmp_path / "mixed").exists()
    assert not snapshot.exists()


def test_the_data_folder_alone_is_a_whole_store_whatever_the_file_says(history: Any, tmp_path: Path) -> None:
    """Given the .env of an earlier version, whose line led to the first store's event log."""
    project = made(tmp_path / "project")
    (project / ".env").write_text(
        f"DAGSTER_HOME={os.environ['DAGSTER_HOME']}\nBIKES_LAKE={os.environ['BIKES_DATA']}/lake\n"
    )
    told = bikes("status", code=1, of=project, BIKES_DATA=str(tmp_path / "other"), **MONTHS)
    assert "demand_model[2011-03..2011-07]  missing: never materialized" in told


def made(project: Path) -> Path:
    """Return a project's folder with what a command needs of it."""
    project.mkdir(parents=True)
    for name in ("bikes_assets", "data/raw"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dg.toml", "workspace.yaml", "Makefile"):
        shutil.copy(ROOT / name, project)
    return project


def test_a_moved_project_has_its_line_for_dagster_written_again(tmp_path: Path) -> None:
    project = made(tmp_path / ODD)
    for place in (project, tmp_path / "elsewhere", tmp_path / f"{ODD} 2"):
        project = project.rename(place)
        assert bikes("setup", of=project) == f"DAGSTER_HOME={project}/data/dagster\n"
        assert dotenv_values(project / ".env") == {"DAGSTER_HOME": f"{project}/data/dagster"}
        assert (project / "data" / "dagster" / "dagster.yaml").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [project.name]


def test_a_checkout_that_nobody_may_write_to_works_on_another_folder(tmp_path: Path) -> None:
    project = made(tmp_path / "project")
    (project / ".env").mkdir()  # as a file that cannot be written, to the superuser too
    told = bikes("setup", code=2, of=project)
    assert told.startswith(f"error: {project}/.env: cannot be read: ")
    (project / ".env").rmdir()
    (project / ".env").symlink_to("/proc/version")  # which no file can be put beside
    bikes("setup", of=project, BIKES_DATA=str(tmp_path / "data"))
    assert (tmp_path / "data" / "dagster" / "dagster.yaml").exists()


def test_the_command_of_a_copied_environment_does_not_run_the_original(tmp_path: Path) -> None:
    script = tmp_path / ".venv" / "bin" / "bikes"
    script.parent.mkdir(parents=True)
    script.write_text(f"#!{sys.executable}\n{COMMAND}\n")
    script.chmod(0o755)
    assert (
        subprocess.run([script, "columns"], capture_output=True, env=environment(PYTHONPATH=str(ROOT))).returncode == 0
    )
    (tmp_path / ".venv" / "pyvenv.cfg").write_text("home = /usr/bin\n")
    done = subprocess.run([script, "columns"], capture_output=True, text=True, env=environment(PYTHONPATH=str(ROOT)))
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {tmp_path}/.venv: found a copied or moved environment, which runs the project of {sys.prefix}; run make "
        f"setup in {tmp_path}\n"
    )


@pytest.mark.parametrize("name", ["plain", "My Projects 'n' $HOME"])
def test_make_makes_the_environment_of_a_copied_project_anew(tmp_path: Path, name: str) -> None:
    def makes(project: Path) -> bool:
        subprocess.run(["make", "--silent", "help"], cwd=project, check=True, capture_output=True)
        return not (project / ".venv" / "pyvenv.cfg").exists()

    project = tmp_path / name
    (project / ".venv").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", project)
    (project / ".venv" / "pyvenv.cfg").write_text(f"command = /usr/bin/python3 -m venv {project}/.venv\n")
    shutil.copytree(project, tmp_path / "copy")
    (tmp_path / "linked").mkdir()
    shutil.copy(ROOT / "Makefile", tmp_path / "linked")
    (tmp_path / "linked" / ".venv").symlink_to(project / ".venv")
    assert not makes(project)
    assert not makes(tmp_path / "linked")
    assert makes(tmp_path / "copy")
    assert (project / ".venv" / "pyvenv.cfg").exists()


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="a store in a folder of an odd name is copied and written to above")
def test_a_project_in_a_folder_of_an_odd_name_does_everything(tmp_path: Path) -> None:
    project = made(tmp_path / ODD)
    settings = {"of": project, "BIKES_LAST_MONTH": "2011-03"}
    bikes("run", **settings)
    assert "Everything is fresh." in bikes("status", **settings)
    assert "demand_features[2011-02]" in bikes("upstream", "demand_model@1", **settings)
    assert "Everything agrees." in bikes("sync", **settings)
    assert "identical" in bikes("reproduce", "demand_features[2011-02]", **settings)
    bikes("snapshot", **settings)
    assert "0 are damaged" in bikes("verify", "--deep", **settings)
    copied = shutil.copytree(project, tmp_path / "copy")
    before = contents(project / "data")
    bikes("run", "--force", "--month", "2011-01", of=copied, BIKES_LAST_MONTH="2011-03")
    assert contents(project / "data") == before
    assert identity(copied / "data") != identity(project / "data")
