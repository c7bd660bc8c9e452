"""Dagster's databases emptied, cut off or overwritten: every command works, or ends soon with one line that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from bikes_assets_tests.fire.history import History

DATABASES = ("event_log.db", "history/runs.db", "schedules/schedules.db")
READING = (["status"], ["upstream", "demand_features[2011-02]"], ["verify", "{snapshot}"])
WRITING = (["run", "--month", "2011-02", "--force"], ["ui", "--dagster-port", "1", "--mlflow-port", "2"], ["sync"])


@pytest.fixture
def snapshot(fresh: History) -> str:
    """Return the file of a snapshot of the store as it was made."""
    file = str(fresh.folder / "snapshot.json")
    assert fresh.begin("command", arguments=["snapshot", file]).wait() == 0
    return file


def damage(home: Path, name: str, content: bytes) -> Path:
    file = home / name
    for rest in ("-wal", "-shm"):
        file.with_name(f"{file.name}{rest}").unlink(missing_ok=True)
    file.write_bytes(content)
    return file


def asked(fresh: History, command: list[str], snapshot: str) -> tuple[int, str]:
    """Return how a command ends, which it does within the seconds that a fork has, and what it printed."""
    done = fresh.begin("command", arguments=[part.format(snapshot=snapshot) for part in command])
    return done.wait(), done.printed()


@pytest.mark.parametrize("how", ["cut off", "overwritten"])
@pytest.mark.parametrize("name", DATABASES)
def test_a_damaged_database_is_named_in_a_line(fresh: History, snapshot: str, name: str, how: str) -> None:
    # Given
    sound = (fresh.home / name).read_bytes()
    half = len(sound) // 2
    file = damage(fresh.home, name, sound[:half] if how == "cut off" else b"\x5a\xa5" * half)
    content = file.read_bytes()
    # When
    reading, writing = ([asked(fresh, command, snapshot) for command in kind] for kind in (READING, WRITING))
    # Then what does not read it works
    if name == "schedules/schedules.db":
        assert [code for code, _ in reading] == [0, 0, 0]
        reading = []
    # And all else says which file it is, and leaves it as it is
    for code, printed in [*reading, *writing]:
        assert code == 2
        assert printed.startswith(f"error: {file}: found no SQLite database, or a damaged one (")
        assert printed.count("\n") == 1
    assert file.read_bytes() == content


@pytest.mark.parametrize("name", DATABASES)
def test_an_empty_database_is_named_where_it_is_missed_and_filled_again(
    fresh: History, snapshot: str, name: str
) -> None:
    # Given
    file = damage(fresh.home, name, b"")
    # When what reads alone is asked, then it works, or says which file lacks what it should hold
    for command in READING:
        code, printed = asked(fresh, command, snapshot)
        assert code == 0 or printed.startswith(f"error: {file}: found no record of what lies in the lake ")
        assert "Traceback" not in printed
    # And whatever works on the store works, and all is as it was
    for command in (WRITING[0], ["sync"]):
        code, printed = asked(fresh, command, snapshot)
        assert code == 0, printed
    assert asked(fresh, ["sync"], snapshot) == (0, "Everything agrees.\n")
    assert [asked(fresh, command, snapshot)[0] for command in READING] == [0, 0, 0]
