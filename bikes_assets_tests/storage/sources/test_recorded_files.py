"""Where a recorded file can be had now: at its address, in the source that is set, in a project that moved; by SHA-256 alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import fsspec
import pytest

from bikes_assets.core.digest import file_digest
from bikes_assets.storage.sources.readers import reader_for
from bikes_assets.storage.sources.recorded_files import Places, recorded_files

OLD, NEW = b"day,x\n2011-01-01,1\n", b"day,x\n2011-01-01,2\n"


def origin(source: object) -> dict[str, Any]:
    """Return what a record holds of a source as it is now."""
    return reader_for(str(source), columns=("day", "x"), date_column="day").read().origin.to_dict()


def written(path: Path, content: bytes = OLD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def looked(places: Places, source: dict[str, Any]) -> tuple[str, list[str]]:
    """Return where the first file is, and what was found on the way."""
    found = places.find(recorded_files(source)[0])
    return found.location, [str(look) for look in found.looks]


def test_a_file_is_had_at_its_address_first(tmp_path: Path) -> None:
    at = written(tmp_path / "a" / "hour.csv")
    source = origin(at)
    assert looked(Places(str(written(tmp_path / "b" / "hour.csv")), tmp_path), source)[0] == f"file://{at}"


def test_a_folder_of_the_name_of_its_only_file(tmp_path: Path) -> None:
    at = written(tmp_path / "hour.csv" / "hour.csv")
    assert looked(Places("", tmp_path), origin(at.parent))[0] == f"file://{at}"


@pytest.mark.parametrize("gone", ["deleted", "replaced", "folder", "pipe", "link"])
def test_what_is_not_there_any_more_is_looked_for_in_the_source_that_is_set(tmp_path: Path, gone: str) -> None:
    at = written(tmp_path / "a" / "hour.csv")
    source, now = origin(at), written(tmp_path / "b" / "other.csv")
    at.unlink()
    if gone == "replaced":
        at.write_bytes(NEW)
    elif gone == "folder":
        at.mkdir()
    elif gone == "pipe":
        os.mkfifo(at)  # which would be waited for
    elif gone == "link":
        at.symlink_to("nowhere")
    where, looks = looked(Places(str(now), tmp_path / "project"), source)
    assert where == str(now)
    there = {"replaced": f"SHA-256 {file_digest(NEW)[:12]}", "pipe": "no file"}.get(gone, "nothing there")
    first = f"file://{at}/hour.csv" if gone == "folder" else f"file://{at}"
    assert looks == [f"{first}: {there}", f"{now}: SHA-256 {file_digest(OLD)[:12]}"]
    # And in a folder that is set, by its name; or nowhere, and every look is told
    written(tmp_path / "c" / "hour.csv")
    for place in (tmp_path / "c", f"file://{tmp_path / 'c'}"):
        assert looked(Places(str(place), tmp_path / "project"), source)[0] == f"{place}/hour.csv"
    assert looked(Places("", tmp_path / "project"), source) == ("", looks[:1])


def test_each_file_of_a_folder_is_looked_for_by_itself(tmp_path: Path) -> None:
    written(tmp_path / "in" / "a.csv")
    written(tmp_path / "in" / "b.csv", b"day,x\n2011-02-01,1\n")
    source = origin(tmp_path / "in")
    written(tmp_path / "in" / "b.csv", b"day,x\n2011-02-01,5\n")
    (a, b), places = recorded_files(source), Places(str(tmp_path / "in"), tmp_path / "project")
    assert (a.name, a.uri) == ("a.csv", f"file://{tmp_path}/in/a.csv")
    assert places.find(a).location == a.uri
    assert places.find(b).location == ""
    assert len(places.find(b).looks) == 1  # the folder that is set is the recorded one: it is looked at once


def test_a_project_that_moved_has_its_files_in_its_own_place(tmp_path: Path) -> None:
    source = origin(written(tmp_path / "old" / "project" / "data" / "raw" / "hour.csv"))
    (tmp_path / "old").rename(tmp_path / "new")
    root = tmp_path / "new" / "project"
    assert looked(Places("", root), source)[0] == str(root / "data" / "raw" / "hour.csv")
    written(root / "data" / "raw" / "hour.csv", NEW)
    assert looked(Places("", root), source)[0] == ""


def test_a_url_without_its_secrets_is_looked_up_in_the_source_that_is_set(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/kept/hour.csv": OLD})
    source = {**origin("memory://kept/hour.csv"), "uri": "https://***@host/hour.csv?***"}
    where, looks = looked(Places("memory://kept/hour.csv", tmp_path), source)
    assert where == "memory://kept/hour.csv"
    assert looks[0] == "https://***@host/hour.csv?***: not checked, for its secrets are not on record"
    assert looked(Places("memory://kept", tmp_path), source)[0] == "memory://kept/hour.csv"
    memory.rm("/kept", recursive=True)
    assert looked(Places("memory://kept", tmp_path), source)[0] == ""
    # And no look shows a secret
    _, looks = looked(Places("http://me:s3cret@127.0.0.1:9/x.csv?key=s3cret", tmp_path), source)
    assert [look for look in looks if "s3cret" in look] == []
    assert looks[1] == "http://***@127.0.0.1:9/x.csv?***: connection refused"


def test_a_copy_is_of_the_recorded_content_and_never_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bikes_assets.core.errors import DataError

    at = written(tmp_path / "hour.csv")
    (file,) = recorded_files(origin(at))
    places = Places("", tmp_path)
    assert places.copy(file, tmp_path / "to" / "hour.csv").location
    assert (tmp_path / "to" / "hour.csv").read_bytes() == OLD
    # Given one that changes between the look and the copy
    found = places.find(file)
    at.write_bytes(NEW)
    monkeypatch.setattr(places, "find", lambda _: found)
    with pytest.raises(DataError, match="which lay there a moment ago; try again"):
        places.copy(file, tmp_path / "again" / "hour.csv")


def test_what_dvc_has_is_said_and_a_database_has_no_files(tmp_path: Path) -> None:
    source = origin(written(tmp_path / "hour.csv"))
    facts = {"md5": "5" * 32, "revision": "7" * 40, "differs": False}
    assert recorded_files(source)[0].kept == ""
    assert (
        recorded_files({**source, "tracked": {"hour.csv": facts}})[0].kept
        == f"DVC, MD5 {'5' * 32}, revision {'7' * 12}"
    )
    for wrong in ({"differs": True}, {"revision": ""}):
        assert recorded_files({**source, "tracked": {"hour.csv": facts | wrong}})[0].kept == ""
    assert recorded_files({**source, "kind": "sql"}) == []
