"""A bit flipped in the index or in Dagster's databases: each answer is as before, or an error or a finding names the damage."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bikes_assets.app import answers, snapshot, state
from bikes_assets.cli import runner
from bikes_assets.core.errors import LineageError
from bikes_assets.events import identity
from bikes_assets_tests.contents import content_of
from bikes_assets_tests.fire.processes import SOAK, turns

ROW = "demand_predictions[2011-06]#2011-06-14T17:00"
FILES = {"dagster/event_log.db": 200, "lineage.db": 200, "dagster/history/runs.db": 40}
"""How many bits are flipped in each file."""
CHANGED_BY_ASKING = ("dagster", "lineage.db", "lineage.db.crc32", "reconciled.json")


def ways() -> tuple[int, list[list[str]]]:
    count, found = answers.paths("hourly_rentals.cnt", "prediction_quality.error")
    return count, [[item.name for item in way] for way in found]


PLAIN: dict[str, Callable[[], Any]] = {
    "index": lambda: content_of(answers.refreshed()),
    "status": state.statuses,
}
"""Questions whose answer is to be as before, or an error; what the index holds settles whatever is asked of it."""
MORE: dict[str, Callable[[], Any]] = {
    "upstream": lambda: answers.upstream("demand_model@champion"),
    "downstream": lambda: answers.downstream("hourly_rentals[2011-01]"),
    "columns": lambda: answers.downstream("hourly_rentals.temp"),
    "path": ways,
    "diff": lambda: answers.diff("demand_model@1", "demand_model@2"),
    "trace": lambda: answers.trace(ROW),
}
"""Questions of a soak."""
QUESTIONS = PLAIN | (MORE if SOAK else {})


@pytest.fixture
def asked(copied: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Callable[[], dict[str, Any]]:
    """Return what asks every question as a new process would, and gives each answer, or the error in its place."""
    lock = tmp_path / "lock.json"
    with runner.opened():
        pass
    runner.agree()
    snapshot.write(runner.plan(), lock)
    findings: dict[str, Callable[[], Any]] = {"agree": runner.agree}
    if SOAK:
        findings["verify"] = lambda: snapshot.verify(runner.plan(), lock, deep=True)
    questions = QUESTIONS | findings

    def ask() -> dict[str, Any]:
        found: dict[str, Any] = {}
        as_a_new_process()
        for name, question in questions.items():
            caplog.clear()
            try:
                answer = repr(question())
            except LineageError as error:
                found[name] = error
            else:
                found[name] = (answer, [record.message for record in caplog.records])
        as_a_new_process()
        return found

    return ask


def as_a_new_process() -> None:
    identity._checked.clear()
    answers._index().close()
    answers._index_of.cache_clear()


def flipped(sound: bytes, rng: random.Random) -> bytes:
    content = bytearray(sound)
    content[rng.randrange(len(sound))] ^= 1 << rng.randrange(8)
    return bytes(content)


def restore(folder: Path, pure: Path) -> None:
    for name in CHANGED_BY_ASKING:
        if (pure / name).is_dir():
            shutil.rmtree(folder / name)
            shutil.copytree(pure / name, folder / name)
        else:
            shutil.copy2(pure / name, folder / name)


@pytest.mark.soak
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_gives_no_other_answer_without_a_word(
    name: str, copied: Path, tmp_path: Path, asked: Callable[[], dict[str, Any]]
) -> None:
    # Given what is answered, and databases that are whole in their files
    before = asked()
    assert not [answer for answer in before.values() if isinstance(answer, LineageError)]
    for database in ("event_log.db", "history/runs.db"):
        with closing(sqlite3.connect(copied / "dagster" / database)) as store:
            store.execute("pragma wal_checkpoint(truncate)")
    pure = tmp_path / "pure"
    shutil.copytree(copied, pure, ignore=shutil.ignore_patterns("*.lock", "lake", "mlflow"))
    rng, seen, silent = random.Random(name), Counter[str](), list[Any]()
    for turn in turns(FILES[name]):
        # When a bit is flipped; of an event log, before the index took its events in, and after
        restore(copied, pure)
        content = flipped((pure / name).read_bytes(), rng)
        (copied / name).write_bytes(content)
        if name != "lineage.db" and turn % 4:
            for rest in ("lineage.db", "lineage.db.crc32", "reconciled.json"):
                (copied / rest).unlink()
        found = asked()
        # Then each answer is as before, or it is said that something is damaged
        named = [key for key in found.keys() - QUESTIONS.keys() if answer_of(found[key]) != answer_of(before[key])]
        for key in QUESTIONS:
            outcome = outcome_of(before[key], found[key])
            seen[outcome] += 1
            if outcome == "other":
                silent.append((turn, key, named, difference(before[key][0], found[key][0])))
        seen["named"] += bool(named)
    print(dict(seen))  # noqa: T201 - what a campaign saw
    assert silent == []


def answer_of(found: Any) -> str:
    return str(found) if isinstance(found, LineageError) else found[0]


def outcome_of(before: Any, found: Any) -> str:
    if isinstance(found, LineageError):
        return "error"
    if found[0] == before[0]:
        return "same"
    return "warned" if found[1] else "other"


def difference(one: str, other: str) -> str:
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    return f"{one[max(0, at - 60) : at + 60]!r} -> {other[max(0, at - 60) : at + 60]!r}"
