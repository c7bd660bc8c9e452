"""A lake and an event log are used together alone: whatever else is put together is one error, and nothing is written."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

import bikes_assets
from bikes_assets.core.errors import SettingsError, StoreError
from bikes_assets.core.record import Record, Version
from bikes_assets.core.schema import Column, Schema
from bikes_assets.events import identity, metadata
from bikes_assets.events.dagster_home import create_databases
from bikes_assets.events.identity import FILE, KEY, Identity, check, claim
from bikes_assets.events.run_log import remembered
from bikes_assets.storage.files import read_file
from bikes_assets.storage.lake import Lake
from bikes_assets_tests.conftest import WORK

TEMPLATE = WORK / "a home for tests of identity"
NUMBERS = Schema("numbers", key=("x",), columns=(Column("x", "int64", "A number."),))


def names() -> tuple[str, ...]:
    return ("numbers",)


class Store:
    """A lake and an event log in a folder, as the settings would name them."""

    def __init__(self, folder: Path, lake: Path | None = None, home: Path | None = None) -> None:
        self.folder, self.lake, self.home = folder, str(lake or folder / "lake"), home or folder / "dagster"

    def instance(self) -> dg.DagsterInstance:
        if not (self.home / "dagster.yaml").exists():
            shutil.copytree(TEMPLATE, self.home)
        os.environ["DAGSTER_HOME"] = str(self.home)
        return dg.DagsterInstance.from_config(str(self.home))

    def check(self) -> Identity:
        identity._checked.clear()
        return check(self.lake, str(self.home), names)

    def claim(self) -> Identity:
        with self.instance() as instance:

            def say(text: str) -> None:
                instance.daemon_cursor_storage.set_cursor_values({KEY: text})

            return claim(self.lake, str(self.home), names, say, self.home)

    def publish(self) -> None:
        """Commit a version and report it, as a run does."""
        table = Lake(self.lake, {"numbers": NUMBERS}, self.folder).table("numbers")
        rows = pa.table({"x": pa.array([1, 2], pa.int64())})
        since = table.version()
        output = Version("numbers", "2011-01", -1, "0" * 32)
        run_id = str(time.time_ns())
        record = Record(output, {}, (), "", {}, {}, {"dagster_run_id": run_id}, time=time.time())
        version = table.write("2011-01", rows, record.to_dict(), since=since)
        with self.instance() as instance:
            event = dg.AssetMaterialization(
                "numbers",
                partition="2011-01",
                metadata={"lineage": dg.MetadataValue.json(record.at(version).to_dict())},
            )
            metadata.report(instance, event, run_id=run_id, step_key="numbers")

    def says(self) -> tuple[Any, Any]:
        """Return which store lake and event log say that they are of."""
        file, log = Path(self.lake, FILE), remembered(str(self.home), KEY)
        lake = json.loads(file.read_text())["store"] if file.exists() else None
        return lake, json.loads(log)["store"] if log else None

    def files(self) -> dict[str, bytes]:
        """Return everything that is there, but for what SQLite keeps of readers."""
        found = {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        return {name: content for name, content in found.items() if not name.endswith(("-shm", "-wal", ".lock"))}


def made(folder: Path, *, is_claimed: bool = True) -> Store:
    store = Store(folder)
    if is_claimed:
        store.claim()
    store.publish()
    return store


@pytest.fixture(autouse=True, scope="module")
def template() -> None:
    """Make a home that records nothing, for each store to begin with."""
    TEMPLATE.mkdir()
    shutil.copy(Path(bikes_assets.__file__).with_name("dagster.yaml"), TEMPLATE)
    create_databases(TEMPLATE)


@pytest.fixture(autouse=True)
def home_of_the_tests(monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", os.environ["DAGSTER_HOME"])
    yield
    identity._checked.clear()


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """Return a folder with two stores that know who they are, a copy of one of them, and two from before there were ids."""
    folder = tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", os.environ["DAGSTER_HOME"])  # it is set as each is made
        for name in ("a", "b", "old", "other old"):
            made(folder / name, is_claimed="old" not in name)
    shutil.copytree(folder / "a", folder / "copy of a")
    shutil.copytree(folder / "old", folder / "copy of old")
    return folder


STORES = ("a", "b", "copy of a", "old", "other old", "none")


@pytest.mark.parametrize("log", STORES)
@pytest.mark.parametrize("lake", STORES)
def test_no_lake_goes_with_another_stores_event_log(folders: Path, lake: str, log: str) -> None:
    # Given a lake of one store and an event log of another
    store = Store(folders, folders / lake / "lake", folders / log / "dagster")
    before = store.files()
    if lake == log:
        assert store.check().store == ("" if "copy" in lake else store.says()[0] or "")
        assert not store.check().is_log_lost
    elif log == "none" and lake not in ("a", "b"):
        # a copy, or a store from before, whose event log is not there: it can be written again
        assert store.check().is_log_lost
    else:
        # When it is only asked, Then it is refused, in a line that names both, and nothing is written
        with pytest.raises(SettingsError, match=r"(?s)^[^\n]*(BIKES_DATA|BIKES_LAKE|DAGSTER_HOME)[^\n]*$") as caught:
            store.check()
        assert str(folders / lake / "lake") in str(caught.value)
        assert str(folders / log / "dagster") in str(caught.value)
    assert store.files() == before


def test_nothing_is_written_where_two_stores_are_claimed(folders: Path) -> None:
    for lake, log in (("a", "b"), ("a", "copy of a"), ("copy of a", "a"), ("old", "other old"), ("none", "a")):
        store = Store(folders, folders / lake / "lake", folders / log / "dagster")
        before = store.files()
        with pytest.raises(SettingsError):
            store.claim()
        assert store.files() == before
    assert not (folders / "none").exists()


def test_a_store_knows_itself_from_its_first_claim_on(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.check() == Identity(
        "", identity.StorePart("", store.lake, str(store.home)), identity.StorePart("", str(store.home), store.lake)
    )
    first = store.claim()
    assert len(first.store) == 32
    assert store.says() == (first.store, first.store)
    assert (store.claim(), store.check()) == (first, first)


def test_a_store_from_before_is_adopted_once(tmp_path: Path) -> None:
    store = made(tmp_path, is_claimed=False)
    assert store.says() == (None, None)
    first = store.claim()
    assert store.says() == (first.store, first.store)
    assert store.claim() == first


def test_a_copy_of_a_whole_store_is_a_store_of_its_own_and_leaves_the_original_alone(tmp_path: Path) -> None:
    original = made(tmp_path / "original")
    before = original.files()
    shutil.copytree(original.folder, tmp_path / "copy")
    copy = Store(tmp_path / "copy")
    # When it is asked, Then it answers; when something is written to it, it is another one
    assert copy.check().store == ""
    claimed = copy.claim()
    assert copy.says() == (claimed.store, claimed.store)
    assert claimed.store != original.says()[0]
    assert original.files() == before
    # And it can be copied and moved in its turn
    copy.folder.rename(tmp_path / "moved")
    assert Store(tmp_path / "moved").claim().store == claimed.store


def test_a_copy_whose_claim_was_cut_short_is_claimed_by_the_next(tmp_path: Path) -> None:
    original = made(tmp_path / "original")
    shutil.copytree(original.folder, tmp_path / "copy")
    copy = Store(tmp_path / "copy")

    def killed(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        claim(copy.lake, str(copy.home), names, killed, copy.home)
    assert copy.says()[0] != copy.says()[1] == original.says()[1]
    claimed = copy.claim()
    assert copy.says() == (claimed.store, claimed.store)


def test_a_moved_store_stays_the_same(tmp_path: Path) -> None:
    store = made(tmp_path / "here")
    known = store.says()
    store.folder.rename(tmp_path / "there")
    moved = Store(tmp_path / "there")
    assert moved.check().store == known[0]
    assert moved.claim().lake.place == moved.lake
    assert moved.says() == known
    # And where each part was moved to another folder, too
    Path(moved.lake).rename(tmp_path / "big disk")
    apart = Store(moved.folder, tmp_path / "big disk")
    assert apart.claim().store == known[0]
    assert apart.check().log.other == str(tmp_path / "big disk")


def test_the_parts_of_a_backup_that_is_restored_to_two_places_do_not_mix(tmp_path: Path) -> None:
    """Neither is a copy, for the original is gone: both have its id, and know each its own other part."""
    original = made(tmp_path / "here")
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    for place in (one, two):
        shutil.copytree(original.folder, place.folder)
    shutil.rmtree(original.folder)
    assert one.claim().store == two.claim().store
    for lake, log in ((one, two), (two, one)):
        mixed = Store(tmp_path, Path(lake.lake), log.home)
        before = mixed.files()
        with pytest.raises(SettingsError, match="a lake and its event log belong together"):
            mixed.check()
        with pytest.raises(SettingsError, match="a lake and its event log belong together"):
            mixed.claim()
        assert mixed.files() == before
    assert one.check().store == two.check().store


def test_a_link_to_a_store_is_that_store(tmp_path: Path) -> None:
    store = made(tmp_path / "here")
    (tmp_path / "link").symlink_to(tmp_path / "here")
    linked = Store(tmp_path / "link")
    assert linked.check().store == store.says()[0]
    assert linked.claim().store == store.says()[0]


def test_an_event_log_that_was_lost_is_told_and_begun_again(tmp_path: Path) -> None:
    store = made(tmp_path)
    known = store.says()[0]
    shutil.rmtree(store.home)
    assert store.check().is_log_lost
    assert "run bikes sync" in str(identity.lost_log(store.check()))
    claimed = store.claim()
    assert (claimed.store, claimed.is_log_lost) == (known, True)
    assert store.says() == (known, known)
    # So too where one of its databases was lost, and where it is begun and still records nothing
    assert store.check().is_log_lost
    store.publish()
    assert not store.check().is_log_lost
    (store.home / "event_log.db").write_bytes(b"")
    assert store.check().is_log_lost


def test_a_second_event_log_is_refused_while_the_first_is_there(tmp_path: Path) -> None:
    store = made(tmp_path / "store")
    second = Store(tmp_path / "store", home=tmp_path / "second")
    with pytest.raises(SettingsError, match=r"found no event log of the lake .*, expected .*store/dagster"):
        second.check()
    store.home.rename(tmp_path / "away")
    assert second.claim().is_log_lost


@pytest.mark.parametrize("is_claimed", [True, False])
def test_a_lake_that_was_lost_or_emptied_is_told(tmp_path: Path, *, is_claimed: bool) -> None:
    store = made(tmp_path, is_claimed=is_claimed)
    shutil.rmtree(store.lake)
    for _ in ("gone", "emptied"):
        with pytest.raises(
            SettingsError, match=r"found a lake without numbers\[2011-01\]@1, .* restore it from a backup"
        ):
            store.claim()
        Path(store.lake).mkdir(exist_ok=True)


def test_an_earlier_backup_of_either_part_in_its_place_is_the_store(tmp_path: Path) -> None:
    store = made(tmp_path / "store")
    known = store.says()
    for part in ("lake", "dagster"):
        shutil.copytree(store.folder / part, tmp_path / "backup" / part)
    store.publish()
    for part in ("lake", "dagster"):
        (store.folder / part).rename(tmp_path / f"{part} of today")
        shutil.copytree(tmp_path / "backup" / part, store.folder / part)
        assert store.claim().store == known[0], part
        shutil.rmtree(store.folder / part)
        (tmp_path / f"{part} of today").rename(store.folder / part)
    assert store.says() == known


def test_a_lake_whose_file_was_removed_says_it_again_where_the_event_log_fits(tmp_path: Path) -> None:
    store = made(tmp_path / "store")
    known = store.says()[0]
    Path(store.lake, FILE).unlink()
    assert store.claim().store == known
    assert store.says() == (known, known)


def test_a_damaged_file_is_named(folders: Path) -> None:
    store = Store(folders / "b")
    file = Path(store.lake, FILE)
    good = file.read_bytes()
    for content in (b"", b"{", b"[]", b'{"store": "x"}', b"\xff"):
        file.write_bytes(content)
        with pytest.raises(StoreError, match=rf"{FILE}: found what cannot be read .* restore the file, or remove it"):
            store.check()
    file.write_bytes(good)


def test_an_event_log_that_records_nothing_becomes_that_of_any_lake(tmp_path: Path) -> None:
    # Given a home that was made ready for a lake, before anything was made
    store = Store(tmp_path / "store")
    store.claim()
    elsewhere = Store(tmp_path / "store", tmp_path / "another lake")
    claimed = elsewhere.claim()
    assert elsewhere.says() == (claimed.store, claimed.store)
    assert claimed.store != json.loads(Path(store.lake, FILE).read_text())["store"]


def test_what_other_projects_record_in_the_same_home_is_theirs(tmp_path: Path) -> None:
    store = made(tmp_path / "store", is_claimed=False)
    other = Store(tmp_path / "other", home=store.home)
    identity._checked.clear()
    assert check(other.lake, str(other.home), lambda: ("letters",)).store == ""


def test_a_lake_at_a_url_is_tied_to_its_event_log(s3: str, tmp_path: Path) -> None:
    store, second = Store(tmp_path / "a"), Store(tmp_path / "b")
    store.lake = second.lake = s3
    claimed = store.claim()
    assert json.loads(read_file(f"{s3}/{FILE}") or b"") == {"store": claimed.store, "place": s3, "other": ""}
    assert store.check().store == claimed.store
    # another machine's home, which records nothing yet, is of the same store
    assert second.claim().store == claimed.store
    # and one that was copied is refused, of which the lake is not
    store.publish()
    shutil.copytree(store.home, tmp_path / "copy")
    copy = Store(tmp_path, home=tmp_path / "copy")
    copy.lake = s3
    with pytest.raises(SettingsError, match="found a copy of the event log"):
        copy.check()
