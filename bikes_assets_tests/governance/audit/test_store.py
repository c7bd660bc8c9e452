"""The log beside the records of a lake: each is an entry once, and whatever differs is named."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bikes_assets.core.errors import LineageError, StoreError
from bikes_assets.governance.audit import facts
from bikes_assets.governance.audit.checking import ChainCheck
from bikes_assets.governance.audit.comparing import differences
from bikes_assets.governance.audit.entries import AuditEntry, AuditFact
from bikes_assets.governance.audit.log import AuditLog
from bikes_assets.governance.holds import hold, release
from bikes_assets.governance.retention import apply
from bikes_assets.storage import commits
from bikes_assets.storage.removals import removals
from bikes_assets_tests.fire.processes import turns
from bikes_assets_tests.governance.test_retention import ASSETS, Small

ROOT = Path(__file__).parents[3]


class Logged(Small):
    """A lake with a log."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.log = AuditLog(folder / "audit")

    def extend(self) -> int:
        with self.log.extended(lambda progress: facts.missing(self.lake, ASSETS, progress), None) as (_, appended):
            return appended

    def entries(self) -> list[AuditEntry]:
        check = ChainCheck()
        found = [*check.entries(self.log.lines())]
        assert check.finding is None
        return found

    def facts(self) -> list[AuditFact]:
        return [entry.fact for entry in self.entries()]

    def different(self) -> list[tuple[int | None, str]]:
        return [(item.number, item.what) for item in differences(self.lake, ASSETS, self.entries())]


@pytest.fixture
def small(tmp_path: Path) -> Logged:
    return Logged(tmp_path)


def test_each_record_is_an_entry_once_and_in_order(small: Logged) -> None:
    first = small.raw("2012-01", 1)
    small.features("2012-01", first)
    assert small.extend() == 2
    fitted = small.model("2012-01", b"a model", first)
    small.raw("2012-01", 2)
    held = hold(small.lake.location, "raw[2012-01]", first.address, reason="an audit", user="somebody")
    assert [small.extend(), small.extend()] == [3, 0]
    release(small.lake.location, "raw[2012-01]", reason="it is over", user="another")
    small.raw("2012-02", 3)
    assert small.extend() == 2
    told = [(fact.kind, fact.subjects, fact.who, fact.reason) for fact in small.facts()]
    assert told == [
        ("materialization", ("raw[2012-01]@1",), "", ""),
        ("materialization", ("features[2012-01]@1",), "", ""),
        ("materialization", (fitted.address,), "", ""),
        ("materialization", ("raw[2012-01]@2",), "", ""),
        ("hold", ("raw[2012-01]@1", "raw[2012-01]"), "somebody", "an audit"),
        ("release", ("raw[2012-01]",), "another", "it is over"),
        ("materialization", ("raw[2012-02]@3",), "", ""),
    ]
    assert small.facts()[0].digests["digest"] == first.digest
    assert small.facts()[2].digests["model"].startswith(fitted.digest) or len(small.facts()[2].digests["model"]) == 64
    assert small.facts()[4].record == f"holds/{held.id}.json"
    assert small.different() == []


def test_a_removal_and_its_withdrawal_are_entries(small: Logged) -> None:
    old = small.raw("2012-01", 1)
    model = small.model("2012-01", b"old", old)
    small.raw("2012-01", 2)
    small.model("2012-01", b"new")
    removed = small.apply()
    assert {item.address for item in removed.going} == {old.address, model.address}
    small.extend()
    (removal,) = [fact for fact in small.facts() if fact.kind == "removal"]
    assert (set(removal.subjects), removal.who) == ({old.address, model.address}, "somebody")
    assert small.different() == []
    # And one of which nothing was deleted
    later = small.raw("2012-01", 3)
    looks = iter([small.look(), None])

    def look() -> Any:
        if planned := next(looks):
            return planned
        small.extend()  # another process, while the removal is written down and not withdrawn yet
        hold(small.lake.location, "raw[2012-01]@2", "raw[2012-01]@2", reason="needed", user="another")
        return small.look()

    with pytest.raises(LineageError, match="came to be needed"):
        apply(small.lake, look, "somebody")
    assert len(removals(small.lake.location)) == 1
    small.extend()
    assert [fact.kind for fact in small.facts()[-4:]] == ["materialization", "removal", "hold", "withdrawal"]
    assert small.facts()[-1].subjects == small.facts()[-3].subjects == ("raw[2012-01]@2",)
    assert small.different() == []
    assert later.version == 3


def test_a_table_is_read_from_where_it_was_read_last(small: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        small.raw("2012-01", number)
    small.extend()
    read: list[int] = []
    real = commits.read_commit
    monkeypatch.setattr(commits, "read_commit", lambda uri, version: (read.append(version), real(uri, version))[1])
    assert small.extend() == 0
    assert read == []
    small.raw("2012-01", 31)
    assert small.extend() == 1
    assert read == [31, 32]


def test_commits_of_other_programs_have_no_entry_and_stop_nothing(small: Logged) -> None:
    first = small.raw("2012-01", 1)
    small.lake.table("raw").begin_beyond(4)
    last = small.raw("2012-01", 2)
    assert small.extend() == 2
    assert [fact.subjects for fact in small.facts()] == [(first.address,), (last.address,)]
    small.lake.table("raw").begin_beyond(9)
    assert [small.extend(), small.different()] == [0, []]


def commit_file(small: Logged, asset: str, version: int) -> Path:
    return Path(small.lake.location, facts.record_of(asset, version))


def altered(file: Path) -> None:
    """Change who made a version, in its record."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    info = next(line["commitInfo"] for line in lines if "commitInfo" in line)
    record = json.loads(info["record"])
    record["made_by"]["user"] = "mallory"
    info["record"] = json.dumps(record)
    file.write_text("\n".join(map(json.dumps, lines)))


def test_what_differs_from_the_records_is_named_with_its_entry(small: Logged) -> None:
    for number in (1, 2, 3):
        small.raw("2012-01", number)
    held = hold(small.lake.location, "raw[2012-01]@1", "raw[2012-01]@1", reason="an audit", user="somebody")
    small.extend()
    record = facts.record_of("raw", 2)
    altered(commit_file(small, "raw", 2))
    told = f"entry 2 (materialization of raw[2012-01]@2): its record {record} was changed: found another SHA-256"
    assert small.different() == [(2, told)]
    commit_file(small, "raw", 2).write_text("{")
    ((number, told),) = small.different()
    assert (number, "found what cannot be read" in told) == (2, True)
    commit_file(small, "raw", 2).unlink()
    Path(small.lake.location, "holds", f"{held.id}.json").unlink()
    assert [(number, told.partition("): ")[2]) for number, told in small.different()] == [
        (2, f"its record {record} is gone from {small.lake.location}, and nothing removes records"),
        (4, f"its record holds/{held.id}.json is gone from {small.lake.location}, and nothing removes records"),
    ]


def test_a_whole_table_that_is_gone_and_records_without_an_entry_are_named(small: Logged) -> None:
    small.raw("2012-01", 1)
    small.features("2012-01")
    small.extend()
    Path(small.lake.location, "raw").rename(Path(small.lake.location).parent / "elsewhere")
    assert [number for number, _ in small.different()] == [1]
    small.features("2012-02")
    hold(small.lake.location, "features[2012-02]@2", "features[2012-02]@2", reason="an audit", user="somebody")
    unlogged = [told for number, told in small.different() if number is None]
    assert [told.partition(":")[0] for told in unlogged] == [
        "hold of features[2012-02]@2",
        "materialization of features[2012-02]@2",
    ]


def test_an_entry_that_says_other_than_its_unchanged_record_is_named(small: Logged) -> None:
    small.raw("2012-01", 1)
    from dataclasses import replace

    def lying(progress: Any) -> list[AuditFact]:
        return [replace(fact, who="mallory", reason="none") for fact in facts.missing(small.lake, ASSETS, progress)]

    with small.log.extended(lying, None):
        pass
    ((number, told),) = small.different()
    assert (number, "it differs in who, reason from its record" in told) == (1, True)


def test_an_entry_twice_is_named(small: Logged) -> None:
    small.raw("2012-01", 1)
    small.extend()
    with small.log.extended(lambda _: small.facts(), None):
        pass
    record = facts.record_of("raw", 1)
    assert small.different() == [(2, f"entry 2 (materialization of raw[2012-01]@1): {record} has entry 1 already")]


def test_a_record_that_cannot_be_read_is_an_error_and_the_next_one_goes_on(small: Logged) -> None:
    small.raw("2012-01", 1)
    small.extend()
    small.raw("2012-01", 2)
    file = commit_file(small, "raw", 2)
    content = file.read_bytes()
    file.write_bytes(b"5\n")
    with pytest.raises(StoreError, match=r"00000000000000000002.json: found what cannot be read .* restore the file"):
        small.extend()
    file.write_bytes(content)
    assert [small.extend(), small.different()] == [1, []]


def test_a_clock_that_was_set_back_changes_no_order_of_versions(small: Logged) -> None:
    for number in (1, 2):
        small.raw("2012-01", number)
    file = commit_file(small, "raw", 2)
    file.write_text(file.read_text().replace(f'"timestamp":{str(int(time.time()))[:4]}', '"timestamp":1000'))
    assert small.extend() == 2
    assert [fact.record[-6] for fact in small.facts()] == ["1", "2"]


CAMPAIGN = """
import sys
from pathlib import Path
from bikes_assets_tests.governance.audit.test_store import campaign
campaign(Path(sys.argv[1]), int(sys.argv[2]))
"""


def campaign(folder: Path, count: int) -> None:
    """Have processes publish, hold and append, and kill each at some point; this one itself opens no table."""
    for turn in range(count):
        chance, (read, write) = random.Random(turn), os.pipe()
        child = os.fork()
        if not child:
            work(Logged(folder / str(turn)), lambda write=write: os.write(write, b"."))
        for _ in range(chance.randrange(1, 16)):
            os.read(read, 1)
        time.sleep(chance.choice((0, chance.uniform(0, 0.05))))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def work(small: Logged, step: Callable[[], object]) -> None:
    number = 0
    while True:
        number += 1
        small.raw(f"2012-{number % 9 + 1:02}", number)
        step()
        if number % 4 == 0:
            hold(small.lake.location, "raw[2012-01]", "raw[2012-01]@1", reason=f"{number}", user="somebody")
            step()
        small.extend()
        step()


@pytest.mark.soak
def test_after_kill_9_at_any_point_each_record_gets_its_entry_once(tmp_path: Path) -> None:
    count = len(turns(100))
    subprocess.run([sys.executable, "-c", CAMPAIGN, str(tmp_path), str(count)], cwd=ROOT, check=True)
    pending = 0
    for turn in range(count):
        small = Logged(tmp_path / str(turn))
        pending += small.extend() > 0
        assert small.different() == [], turn
        records = Counter(fact.record for fact in small.facts())
        assert set(records.values()) == {1}, turn
        assert len(records) == len(small.lake.table("raw").commits()) + len([*facts.records(small.lake)]), turn
    assert pending
