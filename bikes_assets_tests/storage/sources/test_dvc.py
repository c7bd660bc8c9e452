"""Sources that DVC tracks: real repositories of DVC and git, and a remote in a folder."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bikes_assets.core.errors import DataError, DigestError, LineageError, SettingsError
from bikes_assets.core.record import Origin
from bikes_assets.demand.tables import RENTAL_RECORDS
from bikes_assets.storage.sources.dvc import Pointer, fetch, read_pointer
from bikes_assets.storage.sources.readers import reader_for
from bikes_assets.tracking.datasets import VersionedSource
from bikes_assets_tests.repositories import git

ROOT = Path(__file__).parents[3]
SHIPPED = (ROOT / "data" / "raw" / "hour.csv").read_bytes().splitlines(keepends=True)
OLD, NEW = b"".join(SHIPPED[:600]), b"".join(SHIPPED[:689])
PARTS = {"a.csv": b"".join(SHIPPED[:10]), "b.csv": SHIPPED[0] + b"".join(SHIPPED[10:20])}

pytestmark = pytest.mark.skipif(importlib.util.find_spec("dvc") is None, reason="the extra dvc is not installed")

MADE = """
import os, sys
from pathlib import Path
from subprocess import run
from dvc.cli import main

def dvc(*words):
    assert main([*words, "-q"]) == 0, words

def commit(message):
    run(["git", "add", "-A"], check=True)
    run(["git", "-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", message], check=True)

run(["git", "init", "-q", "."], check=True)
dvc("init")
dvc("config", "core.analytics", "false")
dvc("remote", "add", "-d", "store", "../store")
dvc("add", "hour.csv", "whole", "parts/a.csv", "parts/b.csv")
dvc("push")
commit("old")
Path("hour.csv").write_bytes(Path("../new.csv").read_bytes())
dvc("add", "hour.csv")
dvc("push")
commit("new")
Path("notes").write_text("a commit that has no part in it")
commit("notes")
"""


@dataclass(frozen=True)
class Kept:
    """A repository of DVC, with two versions of a file, a folder that is tracked as one, and one of tracked files."""

    root: Path

    @property
    def file(self) -> Path:
        return self.root / "hour.csv"

    @property
    def pointer(self) -> Path:
        return self.root / "hour.csv.dvc"

    def commits(self) -> list[str]:
        """Return the commits, oldest first."""
        return self.git("log", "--format=%H", "--reverse").split()

    def git(self, *words: str) -> str:
        return git(self.root, *words)

    def origin(self, name: str = "hour.csv", **settings: Any) -> Origin:
        return reading(self.root / name, **settings).read().origin

    def old(self) -> dict[str, Any]:
        """Return what was recorded of the old version."""
        self.git("checkout", "-q", self.commits()[0], "--", "hour.csv.dvc")
        self.file.write_bytes(OLD)
        return self.origin().to_dict()


def reading(source: object, **settings: Any) -> Any:
    return reader_for(str(source), columns=RENTAL_RECORDS.names, date_column="dteday", **settings)


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Return the folder of a repository, made once; DVC takes seconds to begin, so one process does all of it."""
    place = tmp_path_factory.mktemp("kept")
    root = place / "repository"
    for name, content in {"hour.csv": OLD, "../new.csv": NEW}.items():
        root.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    for folder in ("whole", "parts"):
        (root / folder).mkdir()
        for name, content in PARTS.items():
            (root / folder / name).write_bytes(content)
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run([sys.executable, "-c", MADE], cwd=root, env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return place


@pytest.fixture
def kept(made, tmp_path):
    """Return a repository of one's own, its remote beside it."""
    shutil.copytree(made, tmp_path / "kept")
    return Kept(tmp_path / "kept" / "repository")


def test_a_tracked_file_is_recorded_with_md5_revision_and_remote(kept):
    origin = kept.origin()
    assert origin.tracked == {
        "hour.csv": {
            "md5": md5(NEW),
            "revision": kept.commits()[1],  # not of the newest commit, which has no part in it
            "remote": "store",
            "url": str(kept.root.parent / "store"),
            "repository": str(kept.root),
            "path": "hour.csv",
            "differs": False,
        }
    }
    assert origin.version == hashlib.sha256(NEW).hexdigest()
    assert reading(kept.file).origin() == origin  # without reading rows


def test_another_version_has_another_revision_whatever_was_committed_since(kept):
    old = Origin(**kept.old() | {"files": ()}).tracked["hour.csv"]
    assert (old["md5"], old["revision"]) == (md5(OLD), kept.commits()[0])


def test_a_pointer_that_is_not_committed_has_no_revision(kept):
    other = NEW + SHIPPED[689]
    kept.file.write_bytes(other)
    kept.pointer.write_text(kept.pointer.read_text().replace(md5(NEW), md5(other)))
    facts = kept.origin().tracked["hour.csv"]
    assert (facts["md5"], facts["revision"]) == (md5(other), "")


def test_a_file_outside_dvc_is_recorded_as_before(tmp_path):
    (tmp_path / "hour.csv").write_bytes(OLD)
    origin = reading(tmp_path / "hour.csv").read().origin
    assert origin.tracked == {}
    assert "tracked" not in origin.to_dict()
    assert "tracked" not in VersionedSource(origin).to_dict()


def test_an_altered_file_is_refused_with_both_md5s_and_what_to_do(kept):
    for altered, ask in ((OLD, "read"), (OLD, "span"), (OLD, "origin"), (b"no rows at all", "read"), (b"", "span")):
        kept.file.write_bytes(altered)
        with pytest.raises(DataError) as caught:
            getattr(reading(kept.file), ask)()
        for part in (str(kept.file), md5(altered), md5(NEW), "`dvc add`", "`dvc checkout`", "BIKES_DVC=mark"):
            assert part in str(caught.value)


def test_an_altered_file_is_marked_where_that_is_wanted_and_cannot_be_fetched(kept, tmp_path):
    kept.file.write_bytes(OLD)
    origin = kept.origin(altered="mark")
    assert origin.tracked["hour.csv"]["differs"] is True
    assert origin.version == hashlib.sha256(OLD).hexdigest()
    with pytest.raises(DataError, match="a version that differed from MD5"):
        fetch(origin.to_dict(), tmp_path / "into")


def test_a_file_that_was_not_pulled_is_named_with_the_command_that_brings_it(kept):
    kept.file.unlink()
    for ask in ("read", "origin", "span"):
        with pytest.raises(DataError, match=r"hour\.csv: found nothing, .*hour\.csv\.dvc.*`dvc pull`"):
            getattr(reading(kept.file), ask)()
    (kept.root / "parts" / "b.csv").unlink()
    with pytest.raises(DataError, match=r"b\.csv: found nothing.*`dvc pull`"):
        kept.origin("parts")


def test_the_fingerprint_changes_with_pointer_revision_and_setting(kept):
    marks = [reading(kept.file).fingerprint(), reading(kept.file, altered="mark").fingerprint()]
    state = kept.file.stat()
    kept.pointer.write_text(kept.pointer.read_text().replace(md5(NEW), md5(OLD)))
    marks.append(reading(kept.file).fingerprint())
    kept.git("commit", "-qam", "another pointer")
    marks.append(reading(kept.file).fingerprint())
    assert kept.file.stat().st_mtime_ns == state.st_mtime_ns
    assert len(set(marks)) == 4
    assert reading(kept.file).fingerprint() == marks[-1]


def test_a_folder_is_tracked_by_its_files_or_as_one(kept):
    parts, whole = kept.origin("parts"), kept.origin("whole")
    assert {name: facts["md5"] for name, facts in parts.tracked.items()} == {n: md5(c) for n, c in PARTS.items()}
    assert parts.tracked["b.csv"]["path"] == "parts/b.csv"
    assert whole.tracked["whole"]["md5"] == read_pointer(kept.root / "whole.dvc").md5
    assert whole.tracked["whole"]["md5"].endswith(".dir")
    assert whole.version == parts.version


def test_a_file_of_a_folder_that_is_tracked_as_one_is_held_against_it(kept):
    (kept.root / "whole" / "b.csv").write_bytes(PARTS["a.csv"])
    with pytest.raises(DataError, match=r"whole: found MD5 .*\.dir, expected .*\.dir"):
        kept.origin("whole")
    assert kept.origin("whole", altered="mark").tracked["whole"]["differs"] is True
    (kept.root / "whole" / ".notes").write_text("")
    with pytest.raises(DataError, match=r"whole: found \.notes, expected the source's files alone"):
        kept.origin("whole")


def test_a_remote_is_recorded_without_secrets_and_the_local_config_counts(kept):
    config = "[core]\n    remote = other\n['remote \"other\"']\n    url = https://me:secret@there/x?key=secret\n"
    (kept.root / ".dvc" / "config.local").write_text(config)
    facts = kept.origin().tracked["hour.csv"]
    assert (facts["remote"], facts["url"]) == ("other", "https://***@there/x?***")
    kept.pointer.write_text(f"{kept.pointer.read_text()}  remote: store\n")  # a pointer may name its own
    assert kept.origin().tracked["hour.csv"]["url"] == str(kept.root.parent / "store")
    (kept.root / ".dvc" / "config.local").write_text("secret = 1\n")
    with pytest.raises(DataError, match="MissingSectionHeaderError in its config") as caught:
        kept.origin()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "outs: 3", "outs:\n- path: hour.csv\n", "outs:\n- md5: xyz\n  path: hour.csv\n", "a: ["]
)
def test_a_pointer_that_says_nothing_is_an_error_that_names_it(kept, text):
    kept.pointer.write_text(text)
    with pytest.raises(DataError, match=r"hour\.csv\.dvc: found no MD5 of hour\.csv .*`dvc add hour\.csv`"):
        kept.origin()


def test_md5s_of_before_version_3_are_of_text_with_the_line_ends_of_unix():
    old = Pointer(Path("x.dvc"), "x", md5(b"a\nb\n"), "", unix=True)
    assert (old.of(b"a\r\nb\r\n"), old.of(b"a\nb\n")) == (old.md5, old.md5)
    assert old.of(b"a\r\nc\r\n") != old.md5
    assert replace(old, unix=False).of(b"a\r\nb\r\n") == md5(b"a\r\nb\r\n")


def test_an_old_version_is_fetched_from_the_remote_alone(kept, tmp_path):
    old = json.loads(json.dumps(kept.old()))
    shutil.rmtree(kept.root / ".dvc" / "cache")
    into = tmp_path / "deep" / "into"
    found = fetch(old, into)
    assert (found, found.read_bytes()) == (into / "hour.csv", OLD)
    assert [path.name for path in into.iterdir()] == ["hour.csv"]
    with pytest.raises(LineageError, match="found something there, expected a place that is free"):
        fetch(old, into)


@pytest.mark.parametrize("name", ["whole", "parts"])
def test_a_folder_is_fetched_whole(kept, tmp_path, name):
    found = fetch(kept.origin(name).to_dict(), tmp_path / "into")
    assert found == tmp_path / "into" / name
    assert {path.name: path.read_bytes() for path in found.iterdir()} == PARTS


def test_what_was_recorded_otherwise_is_not_delivered(kept, tmp_path):
    old = kept.old()
    with pytest.raises(DigestError, match=r"hour\.csv: found SHA-256 [0-9a-f]{64}, expected 0{64}, which was recorded"):
        fetch(without(old, "files") | {"version": "0" * 64}, tmp_path / "into")
    other = {"hour.csv": {**old["tracked"]["hour.csv"], "md5": "0" * 32}}
    with pytest.raises(DigestError, match=rf"hour\.csv: found MD5 {md5(OLD)}, expected 0{{32}}, which was recorded"):
        fetch(old | {"tracked": other}, tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []


def test_a_remote_that_is_gone_or_lacks_the_content_is_named(kept, tmp_path):
    old, store = kept.old(), kept.root.parent / "store"
    shutil.rmtree(kept.root / ".dvc" / "cache")
    (store / "files" / "md5" / md5(OLD)[:2] / md5(OLD)[2:]).unlink()
    with pytest.raises(DataError, match=rf"MD5 {md5(OLD)} cannot be had from remote store \({store}\): DVC says"):
        fetch(old, tmp_path / "into")
    shutil.rmtree(store)
    with pytest.raises(DataError, match="no such folder"):
        fetch(old, tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []


def test_a_repository_or_revision_that_is_gone_is_named_before_dvc_begins(kept, tmp_path):
    values = kept.origin().to_dict()
    facts = values["tracked"]["hour.csv"]
    for changed, told in (
        ({"repository": str(tmp_path / "gone")}, r"gone: found no repository of DVC"),
        ({"revision": "1" * 40}, r"found no such commit, expected revision 1{40}"),
        ({"revision": ""}, r"revision '': its pointer was not committed"),
        ({"revision": "--help"}, r"revision '--help'"),
    ):
        with pytest.raises(DataError, match=told):
            fetch(values | {"tracked": {"hour.csv": {**facts, **changed}}}, tmp_path / "into")
    with pytest.raises(DataError, match="a version that DVC did not track"):
        fetch(without(values, "tracked"), tmp_path / "into")
    with pytest.raises(DataError, match="expected the name of a file or folder"):
        fetch(values | {"name": "../hour.csv"}, tmp_path / "into")


def test_without_the_extra_the_message_says_what_to_install(kept, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT)])  # where no package is
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.delitem(sys.modules, "dvc", raising=False)
    importlib.invalidate_caches()
    with pytest.raises(SettingsError, match=r"pip install 'bikes-assets\[dvc\]', or a program dvc"):
        fetch(kept.origin().to_dict(), tmp_path / "into")


def test_an_observation_is_reported_anew_where_its_revision_is_another_and_not_where_nothing_is(kept):
    import dagster as dg

    from bikes_assets.core.record import Version
    from bikes_assets.events.metadata import observe

    origin = kept.origin()
    facts = origin.tracked["hour.csv"]
    found = Version("rental_records", "2011-01", origin.version, "ab" * 16)
    with dg.DagsterInstance.ephemeral() as instance:
        for revision in ("", "", facts["revision"], facts["revision"]):
            observe(instance, found, replace(origin, tracked={"hour.csv": {**facts, "revision": revision}}), 688)
        seen = instance.fetch_observations(dg.AssetKey("rental_records"), limit=9).records
    told = [item.asset_observation.metadata["tracked"].value["hour.csv"]["revision"] for item in seen]
    assert told == [facts["revision"], ""]  # the latest first


RUN = """
import json, sys
import dagster as dg
from click.testing import CliRunner
from bikes_assets.cli import runner as runs
from bikes_assets.tracking.client import client_of
from bikes_assets.cli import main
from bikes_assets.app.settings import settings

def told(what, *words):
    done = CliRunner().invoke(main, [*words, "--json"], catch_exceptions=False)
    found = json.loads(done.stdout)["items"]
    return [item[what] for item in found if item["address"].startswith("hour.csv@")]

runs.setup()
from bikes_assets.definitions import defs

with dg.DagsterInstance.get() as instance:
    job = defs().resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey("hourly_rentals")]
    assert job.execute_in_process(instance=instance, partition_key="2011-01", asset_selection=keys).success
    wanted = dg.AssetRecordsFilter(dg.AssetKey("rental_records"), asset_partitions=["2011-01"])
    seen = instance.fetch_observations(wanted, limit=9).records
    made = instance.fetch_materializations(keys[0], limit=1).records[0].asset_materialization
client = client_of(settings().tracking_uri)
experiments = [item.experiment_id for item in client.search_experiments()]
datasets = [item.dataset for run in client.search_runs(experiments) for item in run.inputs.dataset_inputs]
uses = made.metadata["lineage"].value["datasets"]
print(json.dumps({
    "search": [told("text", "search", word) for word in ("hour.csv", sys.argv[1])],
    "upstream": told("tracked", "upstream", "hourly_rentals[2011-01]@1"),
    "dagster": [item.asset_observation.metadata["tracked"].value["hour.csv"] for item in seen],
    "record": [use["source"]["tracked"]["hour.csv"] for use in uses if use["context"] == "raw"],
    "mlflow": [json.loads(item.source)["tracked"]["hour.csv"] for item in datasets if item.name == "rental_records[2011-01]"],
}))
"""


def test_index_dagster_record_and_mlflow_say_the_same_of_a_tracked_source(kept, tmp_path):
    environment = {
        **os.environ,
        "BIKES_SOURCE": str(kept.file),
        "BIKES_DATA": str(tmp_path / "data"),
        "DAGSTER_HOME": str(tmp_path / "data" / "dagster"),
        "BIKES_MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "BIKES_LAST_MONTH": "2011-01",
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, md5(NEW)[:8]], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    facts = kept.origin().tracked["hour.csv"]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "search": [[f"MD5 {md5(NEW)}, revision {kept.commits()[1]}"]] * 2,
        "upstream": [facts],
        "dagster": [facts],
        "record": [facts],
        "mlflow": [facts],
    }
