"""MLflow's SQLite store: created whole, told where it is damaged, and of the place where it lies; it serves one store alone."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from bikes_assets.core.errors import SettingsError, StoreError, TrackingError
from bikes_assets.tracking import database
from bikes_assets.tracking.client import client_of, client_of_store, experiment_of, file_of
from bikes_assets.tracking.database import LOCATIONS, STORE, artifacts_of, ready, revisions

OTHERS = {
    # what these columns hold is no place of an artifact, or of nothing that is written here
    *(("assessments", name) for name in ("source_type", "source_id")),
    *(("datasets", name) for name in ("dataset_source_type", "dataset_source")),  # where rows came from: a record
    *(("endpoint_bindings", name) for name in ("resource_type", "resource_id")),
    *(("entity_associations", name) for name in ("source_type", "source_id")),
    *(("evaluation_dataset_records", name) for name in ("source", "source_id", "source_type")),
    *(("inputs", name) for name in ("source_type", "source_id")),
    *(("issues", name) for name in ("root_causes", "source_run_id")),
    ("job_locks", "lock_key"),
    ("logged_models", "source_run_id"),
    ("mcp_server_versions", "source"),
    *(("runs", name) for name in ("source_type", "source_name", "source_version")),
    *(("workspaces", name) for name in ("default_artifact_root", "trace_archival_location")),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Return a store with a registered model, made once."""
    file = tmp_path_factory.mktemp("made") / "mlflow.db"
    fill(file)
    return file


def fill(file: Path, store: str | None = "one") -> None:
    uri = f"sqlite:///{file}"
    client = client_of(uri)
    run = client.create_run(experiment_of(client, uri, "bike-demand", store))
    model = client.create_logged_model(run.info.experiment_id, "model", run.info.run_id)
    client.log_model_artifacts(model.model_id, str(Path(__file__).parents[1] / "elsewhere"))
    client.finalize_logged_model(model.model_id, "READY")
    client.create_registered_model("demand_model")
    client.create_model_version("demand_model", model.artifact_location, run.info.run_id, model_id=model.model_id)
    client.set_registered_model_alias("demand_model", "champion", "1")


def rows(file: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as store:
        return store.execute(query).fetchall()


def places(file: Path) -> set[str]:
    """Return the beginnings of all places of artifacts that a store names."""
    found = {row[0] for table, column in LOCATIONS for row in rows(file, f"select {column} from {table}")}
    return {place.partition("/artifacts")[0] for place in found}


def moved(made: Path, folder: Path) -> Path:
    """Return a copy of a store in another folder, of which the original is not there any more."""
    shutil.copytree(made.parent, folder / "before")
    file = folder / "before" / made.name
    ready(file)
    return (folder / "before").rename(folder / "after") / made.name


def test_what_is_known_of_mlflows_tables_is_so(made: Path) -> None:
    from mlflow.store.db.utils import _get_latest_schema_revision

    newest, all_known = revisions()
    assert newest == _get_latest_schema_revision()
    assert rows(made, "select version_num from alembic_version") == [(newest,)]
    assert len(all_known) > 50
    tables = [name for (name,) in rows(made, "select name from sqlite_master where type = 'table'")]
    named = {
        (table, column[1])
        for table in tables
        for column in rows(made, f"pragma table_info('{table}')")
        if re.search("loc|uri|source|artifact|path|root", column[1])
    }
    assert named == {*LOCATIONS, *OTHERS}
    assert rows(made, "select name, artifact_location from experiments") == [
        ("Default", f"{artifacts_of(made)}/0"),
        ("bike-demand", artifacts_of(made)),
    ]


def half_migrated(file: Path) -> None:
    """Leave a store as a first use does that is killed in MLflow's migrations: with other columns than its revision has."""
    with closing(sqlite3.connect(file)) as store:
        store.execute("pragma foreign_keys = off")
        store.execute("update alembic_version set version_num = '451aebb31d03'")
        store.execute("delete from experiments")
        store.execute("drop table model_versions")
        store.commit()


@pytest.mark.parametrize("state", ["empty", "no tables", "half-migrated"])
def test_a_store_that_holds_nothing_is_made_anew(made: Path, tmp_path: Path, monkeypatch: Any, state: str) -> None:
    # Given what a first use left that was killed; the fixture shows that a store can be made, which takes seconds
    file = tmp_path / "mlflow.db"
    if state == "half-migrated":
        shutil.copy(made, file)
        half_migrated(file)
    elif state == "no tables":
        sqlite3.connect(file).execute("vacuum").close()
    else:
        file.touch()
    monkeypatch.setattr(database, "_build", lambda part, _: shutil.copy(made, part))
    (tmp_path / "mlflow.db-journal").write_bytes(b"of what was there")
    ready(file)
    assert rows(file, "select name from experiments") == [("Default",), ("bike-demand",)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db"]


def damaged(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file)) as store:
        store.execute(statement)
        store.commit()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            lambda file: file.write_text("dear diary,\n" * 500),
            "found no SQLite database, or a damaged one (file is not a",
        ),
        (
            lambda file: file.write_bytes(file.read_bytes()[:400_000]),
            "found no SQLite database, or a damaged one (database disk",
        ),
        (
            lambda file: file.write_bytes(b"\0" * 5_000 + file.read_bytes()[5_000:]),
            "found no SQLite database, or a damaged",
        ),
        (
            lambda file: damaged(file, "update alembic_version set version_num = 'from2031'"),
            "found MLflow's store of revision from2031, which this MLflow does not know",
        ),
        (
            lambda file: damaged(file, "update alembic_version set version_num = '451aebb31d03'"),
            "found MLflow's store of revision 451aebb31d03, expected ",
        ),
        (
            lambda file: damaged(file, "delete from alembic_version"),
            "found MLflow's store of revision none, expected ",
        ),
    ],
    ids=["text", "truncated", "zeroes", "newer", "older", "no revision"],
)
def test_a_damaged_store_is_named_in_a_line_and_left_as_it_is(
    made: Path, tmp_path: Path, damage: Any, told: str
) -> None:
    file = Path(shutil.copy(made, tmp_path / "mlflow.db"))
    damage(file)
    before = file.read_bytes()
    with pytest.raises(StoreError) as caught:
        client_of(f"sqlite:///{file}")
    assert str(caught.value).startswith(f"{file}: {told}")
    assert "\n" not in str(caught.value)
    assert re.search("move it away|install that", str(caught.value))
    assert file.read_bytes() == before


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "event_log.db"
    damaged(file, "create table event_logs (id integer)")
    with pytest.raises(
        StoreError, match="found a database of something else, with tables event_logs, expected MLflow's"
    ):
        ready(file)
    assert rows(file, "select count(*) from event_logs") == [(0,)]


@pytest.mark.parametrize("name", ["after", "My Projects #1 ' \" $HOME ü &;~"])
def test_the_artifacts_of_a_moved_store_are_beside_it(made: Path, tmp_path: Path, name: str) -> None:
    file = moved(made, tmp_path)
    file = file.parent.rename(tmp_path / name) / file.name
    ready(file)
    assert places(file) == {file.parent.as_uri()}
    client = client_of(f"sqlite:///{file}")
    version = client.get_model_version_by_alias("demand_model", "champion")
    assert list(Path(unquote(urlsplit(version.source).path)).iterdir())
    (model,) = client.search_logged_models(["1"])
    assert client.list_logged_model_artifacts(model.model_id)
    # and once more, nothing is to be done
    before = file.read_bytes()
    ready(file)
    assert file.read_bytes() == before


def test_a_moved_store_shows_the_same_store_and_a_copy_none(made: Path, tmp_path: Path) -> None:
    tag = f"select value from experiment_tags where key = '{STORE}'"
    original = made.read_bytes()
    copy = tmp_path / "copy" / made.name
    shutil.copytree(made.parent, copy.parent)
    ready(copy)
    assert (places(copy), rows(copy, tag)) == ({copy.parent.as_uri()}, [])
    assert made.read_bytes() == original
    damaged(copy, f"insert into experiment_tags (key, value, experiment_id) values ('{STORE}', 'two', 1)")
    file = copy.parent.rename(tmp_path / "moved") / made.name
    ready(file)
    assert (places(file), rows(file, tag)) == ({file.parent.as_uri()}, [("two",)])


def test_artifacts_that_people_keep_elsewhere_stay_there(made: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "big" / "artifacts"
    elsewhere.mkdir(parents=True)
    file = tmp_path / "store" / made.name
    shutil.copytree(made.parent, file.parent)
    damaged(file, f"update experiments set artifact_location = '{elsewhere.as_uri()}' where experiment_id = 1")
    ready(file)
    assert rows(file, "select artifact_location from experiments where experiment_id = 1") == [(elsewhere.as_uri(),)]


def test_a_move_that_is_cut_short_has_not_happened(made: Path, tmp_path: Path, monkeypatch: Any) -> None:
    file = moved(made, tmp_path)
    before = places(file)
    monkeypatch.setattr(database, "LOCATIONS", (*LOCATIONS[:3], ("no_such_table", "x")))
    with pytest.raises(sqlite3.OperationalError):
        ready(file)
    assert places(file) == before


def test_an_mlflow_serves_one_store(made: Path, tmp_path: Path) -> None:
    file = moved(made, tmp_path)
    uri = f"sqlite:///{file}"
    client = client_of(uri)
    assert experiment_of(client, uri, "bike-demand", "one") == "1"
    # Another store is refused, by whatever experiment, before anything is written
    before = rows(file, "select * from experiments"), rows(file, "select * from experiment_tags")
    for name in ("bike-demand", "another"):
        with pytest.raises(SettingsError, match=r"in use by another store .*set BIKES_MLFLOW_TRACKING_URI"):
            experiment_of(client, uri, name, "two")
    with pytest.raises(SettingsError, match="in use by another store"):
        client_of_store(uri, "two")
    assert before == (rows(file, "select * from experiments"), rows(file, "select * from experiment_tags"))
    # Its own second experiment is its own too, and who asks for no store is served
    mine = experiment_of(client, uri, "bike-demand-notebook", "one")
    assert client.get_experiment(mine).tags[STORE] == "one"
    assert client_of_store(uri, "one") is client_of_store(uri, None) is client
    # nor is a store served that has no id yet: a new one, or a copy
    with pytest.raises(SettingsError, match="in use by another store"):
        client_of_store(uri, "")
    assert experiment_of(client, uri, "anything") == experiment_of(client, uri, "anything")


def test_a_store_from_before_there_were_ids_is_taken_once(made: Path, tmp_path: Path) -> None:
    file = moved(made, tmp_path)
    damaged(file, f"delete from experiment_tags where key = '{STORE}'")
    uri = f"sqlite:///{file}"
    client = client_of(uri)
    before = experiment_of(client, uri, "bike-demand")
    assert experiment_of(client, uri, "bike-demand", "one") == before
    assert client.get_experiment(before).tags[STORE] == "one"
    with pytest.raises(SettingsError):
        experiment_of(client, uri, "bike-demand", "two")


def test_an_experiment_that_was_deleted_or_renamed_is_named_and_restored(made: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{moved(made, tmp_path)}"
    client = client_of(uri)
    before = experiment_of(client, uri, "bike-demand", "one")

    def restored() -> list[str]:
        said: list[str] = []
        assert experiment_of(client, uri, "bike-demand", "one", said) == before
        assert client.get_experiment(before).name == "bike-demand"
        assert experiment_of(client, uri, "bike-demand", "one") == before
        return said

    client.delete_experiment(before)
    with pytest.raises(
        TrackingError, match=r"experiment bike-demand \(id 1\) was deleted in MLflow: bikes sync restores it"
    ):
        experiment_of(client, uri, "bike-demand", "one")
    assert restored() == ["MLflow: experiment bike-demand (id 1) was deleted, and is there again"]

    client.rename_experiment(before, "mine")
    with pytest.raises(
        TrackingError, match=r"was renamed to mine in MLflow: bikes sync restores it, or set BIKES_EXPERIMENT"
    ):
        experiment_of(client, uri, "bike-demand", "one")
    assert restored() == ["MLflow: experiment bike-demand (id 1) was renamed to mine, and is there again"]

    client.rename_experiment(before, "mine")
    client.delete_experiment(before)
    assert restored() == ["MLflow: experiment bike-demand (id 1) was renamed to mine and deleted, and is there again"]

    client.rename_experiment(before, "mine")
    other = client.create_experiment("bike-demand")
    with pytest.raises(TrackingError, match=rf"another experiment \(id {other}\) has its name now: rename that one"):
        experiment_of(client, uri, "bike-demand", "one", [])
    assert experiment_of(client, uri, "another", "one") not in {before, other}


def test_a_deleted_experiment_of_no_store_is_left_to_who_deleted_it(made: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{moved(made, tmp_path)}"
    client = client_of(uri)
    client.delete_experiment(client.create_experiment("theirs"))
    with pytest.raises(TrackingError, match=r"was deleted in MLflow: restore it \(mlflow experiments restore"):
        experiment_of(client, uri, "theirs", "one", [])


def test_the_file_of_a_store() -> None:
    assert file_of("sqlite:////a/b.db") == Path("/a/b.db")
    assert file_of("sqlite:////a/b.db?timeout=5") == Path("/a/b.db")
    assert file_of("http://127.0.0.1:5000") is None
