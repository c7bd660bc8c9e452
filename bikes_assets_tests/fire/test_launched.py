"""Runs that Dagster launches, over edits, kills, terminations and outages: they keep every promise of docs/operate.md."""

from __future__ import annotations

import logging
import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster import DagsterRunStatus as Status
from dagster import RunsFilter
from dagster._core.launcher import WorkerStatus
from dagster._daemon.monitoring.run_monitoring import monitor_started_run

import bikes_assets
from bikes_assets.core.record import Record
from bikes_assets_tests.events.test_launcher import wait_until
from bikes_assets_tests.fire.conftest import Ground
from bikes_assets_tests.fire.harness import disagreements
from bikes_assets_tests.fire.launched import Code, Launches, MlflowFile, stale
from bikes_assets_tests.fire.processes import turns
from bikes_assets_tests.fire.project import ASSETS, Place
from bikes_assets_tests.fire.reading import Reading, lost, partial, read_lake, statuses, unmatched
from bikes_assets_tests.fire.servers import MlflowServer

YEARS = ("2023", "2024")
"""Of two runs at once each has a year of its own; all months of a year have the same rows."""
KINDS = ("edit", "kill", "terminate", "outage", "zygote", "edit", "outage", "terminate", "kill", "kill")
AT_ONCE = 20.0
"""Seconds in which a run that was killed has failed, where its zygote is there: one, on a machine with nothing else to do."""
TURNS, MOST_OF_A_STORE = 100, 20
SEED = 37
"""With which the first ten turns, those of CI, kill the zygote once: the next launch takes seconds then."""
EXPECTED = {
    "kill": ["FAILURE"],
    "terminate": ["CANCELED"],
    "zygote": ["SUCCESS"],
    "outage": ["FAILURE", "CANCELED", "SUCCESS"],
}
"""How runs end that are disturbed, unless they were through before."""
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}


@dataclass
class Campaign:
    """A store, the launcher of its runs, and what is known of them.

    Attributes:
        ground: the store.
        mlflow: its MLflow server, or what stands for one.
        launches: the code location and its runs.
        rng: draws what happens, and when.
        usual: seconds of two runs at once that nothing disturbs.
        undisturbed: digest of each asset in a year, as runs made it that nothing disturbed; of the current code.
        waiting: a month whose run was disturbed, which a later run is to mend.
        before: what lay in the lake before this turn.
        unanswered: how many syncs MLflow did not answer.
        seen: how the disturbed runs ended, by what disturbed them.
    """

    ground: Ground
    mlflow: MlflowServer | MlflowFile
    launches: Launches
    rng: random.Random
    usual: float = 60.0
    undisturbed: dict[tuple[str, str], str] = field(default_factory=dict)
    waiting: str = ""
    before: Reading = field(default_factory=Reading)
    unanswered: int = 0
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)

    # --- what happens

    def turn(self, kind: str) -> None:
        """Launch two runs at once, do something to one of them, or to both, and check what is left after one sync."""
        if kind == "edit":
            self._edited()
        else:
            self._disturbed(kind)

    def finish(self) -> None:
        """Mend what is still to be mended."""
        run_id = self.launches.launch(self.waiting)
        self.launches.through([run_id])
        self._sync()
        self._settled([run_id])

    def _edited(self) -> None:
        """Have two runs show what the code makes after an edit."""
        self.launches.code.edit(self.rng)
        self.undisturbed.clear()
        run_ids = [self.launches.launch(f"{year}-01") for year in YEARS]
        start = time.monotonic()
        self.launches.through(run_ids)
        self.usual = min(self.usual, time.monotonic() - start)
        self._sync()
        self._settled(run_ids)

    def _disturbed(self, kind: str) -> None:
        year = YEARS[self.waiting.startswith(YEARS[0])] if self.waiting else self.rng.choice(YEARS)
        month = f"{year}-{self.rng.randint(2, 12):02}"
        victim = self.launches.create(month)
        if kind == "outage":
            self.mlflow.kill()
        others = [self.launches.launch(self.waiting)] if self.waiting else []
        launch = threading.Thread(target=self.launches.begin, args=(victim,))
        launch.start()
        if kind == "zygote" and self.rng.random() < 0.3:  # while it forks, or answers
            time.sleep(self.rng.uniform(0, 0.1))
            self.launches.kill_zygote()
        launch.join()
        time.sleep(self.rng.uniform(0, 0.7 * self.usual))
        getattr(self, f"_{kind}")(victim)
        self.launches.through([victim, *others])
        self._ended(victim)
        if kind == "outage":
            if isinstance(self.mlflow, MlflowServer) and self.rng.random() < 0.5:  # a file that is open stays open
                assert self.ground.place.sync(self.ground.instance).left
            self.mlflow.start()
        self._sync()
        end = self.launches.status(victim).value
        assert end in ("SUCCESS", *EXPECTED[kind]), self._told(victim)
        self.seen[kind, end] += 1
        self.waiting = month
        self._settled(others, victim)

    def _sync(self) -> None:
        """Have one sync reconcile what there is; one to which MLflow does not answer in time says so, and is no such."""
        while left := self.ground.place.sync(self.ground.instance).left:
            assert all(line.startswith("MLflow:") for line in left), left
            self.unanswered += 1
            assert self.unanswered < 20, left

    def _kill(self, run_id: str) -> None:
        """Kill a run's process, whose zygote reports it at once, unless that is killed before."""
        has_zygote = self.rng.random() < 0.8
        if not has_zygote:
            self.launches.kill_zygote()
        if self.launches.workers[run_id].send(signal.SIGKILL) and has_zygote:
            wait_until(lambda: self.launches.run(run_id).is_finished, AT_ONCE)

    def _terminate(self, run_id: str) -> None:
        """Terminate a run as its page does, and maybe again, by somebody who does not wait."""
        self.launches.launcher.terminate(run_id)
        if self.rng.random() < 0.3:
            time.sleep(self.rng.uniform(0, 0.3))
            self.launches.launcher.terminate(run_id)

    def _zygote(self, run_id: str) -> None:
        """Kill the zygote: the runs at work go on."""
        self.launches.kill_zygote()
        self.launches.through([run_id])
        assert self.launches.status(run_id) == Status.SUCCESS, self._told(run_id)

    def _outage(self, run_id: str) -> None:
        """Have MLflow be away, which stops no run; and maybe kill or terminate one meanwhile."""
        also = self.rng.choice(["", "kill", "terminate"])
        if also:
            getattr(self, f"_{also}")(run_id)
        else:
            self.launches.through([run_id])
            assert self.launches.status(run_id) == Status.SUCCESS, self._told(run_id)

    def _ended(self, run_id: str) -> None:
        """Have run monitoring look at a run whose process has ended, or leave it to the sync."""
        (record,) = self.ground.instance.get_run_records(RunsFilter(run_ids=[run_id]))
        health = self.launches.launcher.check_run_worker_health(record.dagster_run)
        assert health.status == WorkerStatus.NOT_FOUND
        is_monitored = self.rng.random() < 0.5
        if is_monitored and record.dagster_run.status == Status.STARTED:
            log = logging.getLogger("monitoring")
            monitor_started_run(self.ground.instance, None, record, log)  # pyright: ignore[reportArgumentType]
            assert self.launches.status(run_id) == Status.FAILURE

    # --- what must hold

    def _settled(self, went_on: list[str], disturbed: str = "") -> None:
        """Check what one sync has left of runs that nothing disturbed, and of one that something did."""
        home = self.ground.place.folder / "dagster"
        # no run is said to be at work, and the three say the same of all of them
        assert {*statuses(home)} <= ENDED
        told = disagreements(self.ground.state())
        assert not told, "\n".join(told)
        # what was committed is whole, is reported once, and nothing of what was there is lost
        after = read_lake(self.ground.place.folder / "lake")
        assert partial(after, Reading()) == lost(after, self.before) == []
        assert unmatched(after, home) == []
        # what was made since is what the code of its code version computes, and its run had the code as it was then
        known = {item.address for item in self.before.commits}
        made = [record for record in self._records() if record.output.address not in known]
        assert stale(self.launches.code, made) == []
        versions = self.launches.code.versions()
        assert all(record.code_version == versions[record.output.asset] for record in made)
        # runs that nothing disturbed made everything, also where one was disturbed before
        for run_id in went_on:
            assert self.launches.status(run_id) == Status.SUCCESS, self._told(run_id)
            own = [record for record in made if record.made_by["dagster_run_id"] == run_id]
            assert [record.output.asset for record in own] == [*ASSETS]
        # and what anyone made is as undisturbed runs make it
        for record in made:
            year = str(record.output.partition)[:4]
            if not disturbed:
                self.undisturbed.setdefault((record.output.asset, year), record.output.digest)
            assert self.undisturbed[record.output.asset, year] == record.output.digest, record.output.address
        self.before = after
        # no process of them is left
        for worker in self.launches.workers.values():
            assert worker.is_gone()

    def _records(self) -> list[Record]:
        tables = (self.ground.place.lake.table(asset) for asset in ASSETS)
        return [Record.from_dict(commit.record).at(commit.version) for table in tables for commit in table.commits()]

    def _told(self, run_id: str) -> str:
        return "\n".join(f"{entry.message} {error_of(entry)}" for entry in self.ground.instance.all_logs(run_id))


def error_of(entry: dg.EventLogEntry) -> str:
    """Return the error of an event, with where it was raised; "" where it has none."""
    data = entry.dagster_event.event_specific_data if entry.dagster_event else None
    error = getattr(data, "error", None)
    return error.to_string() if error else ""


def of_home(home: Path) -> list[int]:
    """Return the processes whose environment names a home: zygotes, and what was forked from them."""
    found = list[int]()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("DAGSTER_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


@pytest.mark.soak
@pytest.mark.parametrize("store", range(len(turns(TURNS)) // MOST_OF_A_STORE or 1))
def test_launched_runs_over_edits_kills_terminations_and_outages(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: int
) -> None:
    # Given MLflow, a server in every second store, which has nothing to do with the home, and that as it is shipped
    mlflow = request.getfixturevalue("server") if store % 2 else MlflowFile(tmp_path / "store")
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text((Path(bikes_assets.__file__).parent / "dagster.yaml").read_text())
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    place = Place(tmp_path, mlflow.url)
    with place.instance() as instance:
        launches = Launches(Code(tmp_path / "code", place), instance)
        campaign = Campaign(Ground(place, instance, mlflow.store), mlflow, launches, random.Random(SEED + store))
        # When
        for turn in range(min(len(turns(TURNS)), MOST_OF_A_STORE)):
            campaign.turn(KINDS[turn % len(KINDS)])
        campaign.finish()
        # Then, beside what holds after each turn
        campaign.ground.agrees()
        assert of_home(home)
    wait_until(lambda: not of_home(home))
    for kind, ends in EXPECTED.items():
        assert any(campaign.seen[kind, end] for end in ends), campaign.seen
