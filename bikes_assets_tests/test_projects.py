"""Every command works on a project that is not the bikes': three examples, each with a history of its own, as processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bikes_assets_tests import forked
from bikes_assets_tests.browser import answers, free_ports, wait_until
from bikes_assets_tests.repositories import git

ROOT = Path(__file__).parents[1]
LIGHT = """
import os
from pathlib import Path
from bikes_assets import Lake, ModelFormat, Project

DATA = Path(os.environ["TAXI_DATA"])
PROJECT = Project(
    name="taxi",
    definitions="examples.taxi.definitions:defs",
    lake=Lake(str(DATA / "lake"), schemas={}, root=Path.cwd() / "examples" / "taxi"),
    data=DATA,
    models=ModelFormat.of_estimators(),
    mlflow=f"sqlite:///{DATA}/mlflow.db",
    stamp=lambda: "",
)
"""


class Copy:
    """An example as a project of its own: a copy of its code in a git repository, its source, and its store.

    Args:
        folder: an empty folder.
        name: the example's name.
        setting: text of `[tool.bikes]`, "" without that table.
        environment: returns environment variables that say where the store and the source are.
    """

    def __init__(self, folder: Path, name: str, setting: str, environment: Callable[[Path], dict[str, str]]) -> None:
        self.root, self.code = folder / "repository", folder / "repository" / "examples" / name
        self.store = folder / "store"
        self.store.mkdir()
        shutil.copytree(ROOT / "examples" / name, self.code, ignore=shutil.ignore_patterns("__pycache__", "data"))
        shutil.copy(ROOT / "examples" / "__init__.py", self.code.parent)
        (self.root / "pyproject.toml").write_text(f"[tool.bikes]\n{setting}\n" if setting else "")
        (self.root / ".gitignore").write_text("__pycache__\n*.lock.json\n")
        for file in self.code.glob("*.csv"):
            shutil.copy(file, self.store)
        self.own = environment(self.store)
        git(self.root, "init", "--quiet")
        git(self.root, "add", "-A")
        git(self.root, "commit", "--quiet", "-m", "first")

    @property
    def environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("BIKES_", "DAGSTER_"))}
        path = os.pathsep.join(map(str, (self.root, ROOT)))
        return {**inherited, **self.own, "PYTHONPATH": path, "COLUMNS": "200"}

    def bikes(self, *arguments: str, code: int = 0, folder: Path | None = None) -> str:
        """Run a command in a folder of the project, which must end with a code, and return what it printed."""
        command = ("-m", "bikes_assets", *arguments)
        done = forked.run(command, environment=self.environment, folder=folder or self.root)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout or done.stderr

    def imported(self, *arguments: str) -> str:
        """Return which heavy libraries a command imports in a process of its own."""
        script = (
            f"import sys\nfrom bikes_assets.cli import main\ntry:\n    main({[*arguments]!r})\nexcept SystemExit:\n"
            "    print(sorted({'dagster', 'mlflow', 'sklearn'} & sys.modules.keys()))"
        )
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, env=self.environment, cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[-1]

    @contextmanager
    def page(self, *arguments: str) -> Iterator[Callable[[], dict[str, str]]]:
        """Serve the lineage page, and yield what returns the state of each partition as it is shown there, by address."""
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "bikes_assets", *arguments, "explore", "--port", str(port)]
        server, url = subprocess.Popen(command, env=self.environment, cwd=self.root), f"http://127.0.0.1:{port}"

        def states() -> dict[str, str]:
            with urllib.request.urlopen(f"{url}/api/status", timeout=120) as answer:
                return {item["address"]: item["state"] for item in json.load(answer)}

        try:
            wait_until(lambda: answers(url), f"{url} answers", 120)
            yield states
        finally:
            server.terminate()
            server.wait(60)

    def states(self, code: int) -> dict[str, str]:
        """Return the state of each partition, by address."""
        items = json.loads(self.bikes("status", "--json", code=code))["items"]
        return {item["address"]: item["state"] for item in items}

    def stale(self) -> set[str]:
        """Return the partitions that are not fresh."""
        return {address for address, state in self.states(1).items() if state not in ("fresh", "skipped")}


def test_parcels_by_month(tmp_path: Path) -> None:
    project = Copy(
        tmp_path,
        "parcels",
        'project = "examples.parcels.definitions"',
        lambda store: {
            "PARCELS_LAKE": str(store / "lake"),
            "PARCELS_DATA": str(store / "data"),
            "PARCELS_FILE": str(store / "parcels.csv"),
        },
    )
    # Given a run of everything, in a folder of the project
    assert set(project.states(1).values()) == {"missing"}
    assert "parcel_model" in project.bikes("run", folder=project.code)
    assert set(project.states(0).values()) == {"fresh"}
    # When it is asked, then each answer leads down to the file
    months = "parcel_file[2024-01..2024-02], 2 partitions"
    assert project.bikes("upstream", "parcel_model[2024-02]").splitlines()[-1].endswith(months)
    assert "parcel_model" in project.bikes("downstream", "parcels.delivered")
    assert "parcel_features.delivered" in project.bikes("downstream", "parcels.delivered")
    ways = "parcel_file -> parcels -> parcel_features -> parcel_model"
    assert ways in project.bikes("path", "parcel_file", "parcel_model")
    traced = project.bikes("trace", "parcel_features[2024-02]#2024-02-03")
    assert "parcels.delivered 2024-01-27T00:00 = 83" in traced
    assert f"file://{project.store}/parcels.csv, 1,344 bytes, now as recorded" in traced
    assert "delivered_week_before" in project.bikes("search", "week")
    # and the store is what a snapshot of it says
    assert "9 partitions, 0 registered models, 1 source file" in project.bikes("snapshot")
    assert project.bikes("verify", "--deep").endswith("The store is what the snapshot says.\n")
    # When a row of the source changes, then what depends on it is stale, and nothing else
    file = project.store / "parcels.csv"
    file.write_text(file.read_text().replace("2024-02-03,86", "2024-02-03,96"))
    dependent = {"parcels[2024-02]", "parcel_features[2024-02]", "parcel_features[2024-03]", "parcel_model[2024-02]"}
    assert project.stale() == dependent | {"parcel_model[2024-03]"}
    project.bikes("run", "--partition", "2024-02")
    assert project.stale() >= {"parcel_features[2024-03]"}
    project.bikes("run")
    assert set(project.states(0).values()) == {"fresh"}
    # and a difference is explained by that row, its version is reproduced, and the snapshot differs
    explained = project.bikes("diff", "parcel_features[2024-02]@2", "parcel_features[2024-02]", code=1)
    assert "delivered: 86 -> 96" in explained
    assert "parcel_model[2024-02]@4: identical" in project.bikes("reproduce", "parcel_model[2024-02]")
    project.bikes("verify", code=1)
    kept = project.bikes("hold", "parcels[2024-01]", "--reason", "an audit")
    assert "parcels[2024-01] (parcels[2024-01]@1): an audit" in kept
    assert "0 may go" in project.bikes("retain")
    assert "Everything agrees" in project.bikes("sync")


def test_energy_by_week_with_two_keys(tmp_path: Path) -> None:
    project = Copy(
        tmp_path,
        "energy",
        'project = "examples.energy.definitions:PROJECT"',
        lambda store: {"ENERGY_DATA": str(store), "ENERGY_FILE": str(store / "readings.csv")},
    )
    project.bikes("run")
    # Then a model's report has what the project declares, its features, and says what it does not know
    page = project.store / "report.html"
    (told,) = json.loads(project.bikes("report", "energy_model[2024-01-08]", "--html", str(page), "--json"))["items"]
    sections = {name: section["tables"] for name, section in told["sections"].items()}
    declared = {row["name"]: row["value"] for row in sections["purpose"]["declared"]["rows"]}
    assert declared["purpose"].startswith("Predict what each meter reads")
    assert declared["responsible"] == "not declared"
    assert [row["licence"] for row in sections["data"]["datasets"]["rows"]] == [
        "MIT, as this code: the readings are drawn at random"
    ]
    features = {row["address"]: row["computed_from"] for row in sections["features"]["features"]["rows"]}
    # of which the library cannot tell the target, and says so
    names = ("kwh", "kwh_day_before", "kwh_of_last_day")
    assert features == {f"energy_features.{name}": ["readings.kwh"] for name in names}
    assert "the target among them" in sections["features"]["features"]["note"]
    (split,) = sections["splits"]["splits"]["rows"]
    assert (split["role"], split["partitions"]) == ("fitted on", "2024-01-08")
    assert (sections["accuracy"]["evaluated"]["rows"], sections["drift"]["drift"]["rows"]) == ([], [])
    assert sections["decisions"]["promotions"]["empty"] == "no asset of this project says which model serves"
    assert "Model report: energy_model[2024-01-08]" in page.read_text()
    # Given a first week that nothing can be predicted of
    states = project.states(0)
    assert [address for address, state in states.items() if state == "skipped"] == ["energy_predictions[2024-01-01]"]
    assert len(states) == 20
    # When it is asked, then each answer names weeks by their first day, and rows by meter and hour
    upstream = project.bikes("upstream", "energy_predictions[2024-01-15]")
    assert "readings[2024-01-01..2024-01-15], 3 partitions" in upstream
    assert "energy_predictions.predicted" in project.bikes("downstream", "meters.kwh", "--level", "column")
    assert project.bikes("path", "meters.kwh", "energy_predictions.predicted").startswith("5 ways")
    traced = project.bikes("trace", "energy_predictions[2024-01-15]#bakery,2024-01-15T06:00")
    assert "predicted by energy_model[2024-01-08]@2" in traced
    assert "readings.kwh bakery,2024-01-14T06:00 = " in traced
    assert "source meters[2024-01-08]" in traced
    assert "energy_model" in project.bikes("search", "ridge")
    assert "Energy since the reading before." in project.bikes("columns")
    project.bikes("snapshot")
    project.bikes("verify")
    # When a row of the source changes, then what depends on it is stale, and nothing else
    file = project.store / "readings.csv"
    before = next(line for line in file.read_text().splitlines() if line.startswith("bakery,2024-01-28T18:00,"))
    file.write_text(file.read_text().replace(before, "bakery,2024-01-28T18:00,99.5"))
    assert project.stale() == {
        *(f"{asset}[2024-01-22]" for asset in ("readings", "energy_features", "energy_model", "energy_predictions")),
        *(f"{asset}[2024-01-29]" for asset in ("energy_features", "energy_model", "energy_predictions")),
    }
    project.bikes("run", "--partition", "2024-01-22", "--partition", "2024-01-29")
    assert set(project.states(0).values()) == {"fresh", "skipped"}
    explained = project.bikes("diff", "energy_model[2024-01-22]@4", "energy_model[2024-01-22]", code=1)
    assert "bakery 2024-01-28T18:00" in explained
    rebuilt = project.bikes("reproduce", "energy_predictions[2024-01-29]")
    assert ": identical\n" in rebuilt
    assert "differs from the snapshot" in project.bikes("verify", code=1)
    assert "may go" in project.bikes("retain")
    wrong = project.bikes("run", "--partition", "2024-01", code=2)
    assert wrong == "error: found partition 2024-01, expected one from 2024-01-01 to 2024-01-29\n"


def test_taxi_without_partitions(tmp_path: Path) -> None:
    project = Copy(tmp_path, "taxi", "", lambda store: {"TAXI_DATA": str(store)})

    def bikes(*arguments: str, code: int = 0) -> str:
        return project.bikes("--project", "examples.taxi.project", *arguments, code=code)

    bikes("run")
    assert "Everything is fresh" in bikes("status")
    assert "trips" in bikes("upstream", "fare_predictions")
    assert "zone_summary.mean_error" in bikes("downstream", "trips.distance")
    assert bikes("path", "trips.distance", "zone_summary.mean_error").startswith("4 ways")
    assert "found no declared key" in bikes("trace", "fare_predictions#17", code=2)
    assert "zone_summary.mean_error" in bikes("search", "mean", "err")
    assert "5 partitions, 1 registered model, 0 source files" in bikes("snapshot")
    bikes("verify", "--deep")
    assert "fare_model@1: identical" in bikes("reproduce", "fare_model@1")
    # When a function is edited, then what it makes and all downstream of it are stale, also in a page that was open before
    assets = project.code / "assets.py"
    with project.page("--project", "examples.taxi.project") as states:
        assert set(states().values()) == {"fresh"}
        assets.write_text(
            assets.read_text().replace("distance * (pickup.dt.hour() == 8)", "distance * (pickup.dt.hour() == 9)")
        )
        assert states()["trip_features"] == "stale"
    assert "trip_features  stale: code of " in bikes("status", code=1)
    assert "crawl changed" in bikes("downstream", "--change", code=1)
    bikes("run")
    explained = bikes("diff", "trip_features@1", "trip_features", code=1)
    assert "examples.taxi.assets.crawl changed" in explained
    assert "==" in explained
    bikes("verify", code=1)
    assert "trip_features" in bikes("reproduce", "trip_features")
    assert "5 versions" in bikes("retain") or "may go" in bikes("retain")
    bikes("sync")
    # And where the project is declared beside its definitions, not with them, what is known needs no heavy library
    (project.root / "light.py").write_text(LIGHT)
    assert "Everything is fresh" in project.bikes("--project", "light", "status")
    for command in ("status", "run", "sync"):
        assert project.imported("--project", "light", command) == "[]"


@pytest.mark.parametrize(
    ("text", "named", "told"),
    [
        (
            None,
            "absent.definitions",
            "error: found no module 'absent.definitions', expected one in the working directory",
        ),
        ("", "mine", "error: 'mine': found no Project in mine, expected one, such as PROJECT = Project(...)"),
        ("ONE, TWO = made('one'), made('two')", "mine", "error: 'mine': found 2 Projects, ONE, TWO in mine"),
        ("ONE = made('one')", "mine:TWO", "error: 'mine:TWO': found no TWO in mine, expected a name"),
        ("import absent", "mine", "error: mine: cannot be imported: No module named 'absent'"),
        (
            "1 / 0",
            "mine",
            "error: mine: cannot be imported: ZeroDivisionError: division by zero ({folder}/mine.py, line 4)",
        ),
        (
            "import sys; sys.exit(3)",
            "mine",
            "error: mine: cannot be imported: SystemExit: 3 ({folder}/mine.py, line 4)",
        ),
        ("ONE = (", "mine", "error: mine: cannot be imported: SyntaxError: '(' was never closed (mine.py, line 4)"),
        ("def ONE(): return 3", "mine:ONE", "error: project 'mine:ONE': found a int, expected a Project"),
        ("ONE = made('one')", "", "error: found module '', expected a dotted name, such as my.definitions"),
        ("ONE = made('one')", "mine:ONE", "error: bikes pin: found project one, expected the bikes' own"),
    ],
)
def test_what_is_no_project_is_one_line(tmp_path: Path, text: str | None, named: str, told: str) -> None:
    made = "from pathlib import Path\nfrom bikes_assets import Lake, Project\n"
    made += "def made(name): return Project(name, 'mine:defs', Lake('lake', {}, Path()), Path('data'))\n"
    if text is not None:
        (tmp_path / "mine.py").write_text(f"{made}{text}\n")
    (tmp_path / "pyproject.toml").write_text(f"[tool.bikes]\nproject = '{named}'\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for option in (("--project", named), ()):
        command = ("-m", "bikes_assets", *option, "pin", "x", "--month", "2012-08", "--reason", "y")
        done = forked.run(command, environment=environment, folder=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(told.format(folder=tmp_path))
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rubbish [[", "found no TOML (Expected '=' after a key in a key/value pair (at line 1, column 9))"),
        ("[tool]\nbikes = 3", "found project 3 under [tool.bikes]"),
        ("[tool.bikes]\nproject = 3", "found project 3 under [tool.bikes]"),
        ("[tool.bikes]\nother = 3", "found project none under [tool.bikes]"),
    ],
)
def test_a_file_that_may_name_a_project_is_never_passed_over(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BIKES_DATA": str(tmp_path / "data")}
    done = forked.run(("-m", "bikes_assets", "status"), environment=environment, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {tmp_path}/pyproject.toml: {told}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()
