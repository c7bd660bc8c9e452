"""What somebody deletes, renames and changes in MLflow's registry is restored or told, and no address changes its meaning."""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from mlflow import MlflowClient

from bikes_assets.core.record import Record
from bikes_assets.lineage import queries
from bikes_assets.lineage.elements import MODEL
from bikes_assets.lineage.event_log import refresh
from bikes_assets.lineage.index import Index
from bikes_assets.lineage.projection import Projection
from bikes_assets.orchestration.reconcile_marks import Reconciliation
from bikes_assets.tracking import registry
from bikes_assets.tracking.numbers import Numbers
from bikes_assets.tracking.version_source import model_id_in
from bikes_assets.verification.integrity import of_copies
from bikes_assets_tests.contents import content_of
from bikes_assets_tests.fire.conftest import Ground, ground
from bikes_assets_tests.fire.harness import disagreements, intact
from bikes_assets_tests.fire.processes import SOAK
from bikes_assets_tests.fire.project import EXPERIMENT, SCHEMAS, Place

MONTHS = ("2016-01", "2016-02", "2016-03")
NAME = "ridge"
PLACES = (
    ("experiments", "artifact_location"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("runs", "artifact_uri"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a store with a model of each of three months, registered as 1, 2 and 3."""
    folder = tmp_path_factory.mktemp("registered")
    place = Place(folder, f"sqlite:///{folder}/store/mlflow.db")
    with place.instance() as instance:
        for month in MONTHS:
            assert place.run(instance, month).success
    return folder


@pytest.fixture
def three(made: Path, tmp_path: Path) -> Iterator[Ground]:
    """Yield a copy of that store that is all its own: MLflow keeps where its files lie, and is told."""
    for name in ("lake", "store", "dagster"):
        shutil.copytree(made / name, tmp_path / name)
    settings, file = tmp_path / "dagster" / "dagster.yaml", tmp_path / "store" / "mlflow.db"
    settings.write_text(settings.read_text().replace(str(made), str(tmp_path)))
    with closing(sqlite3.connect(file)) as store, store:
        for table, column in PLACES:
            store.execute(f"update {table} set {column} = replace({column}, ?, ?)", (str(made), str(tmp_path)))
    for found in ground(tmp_path, f"sqlite:///{file}", file):
        assert contents(found) == {number: f"{NAME}[{month}]@{number}" for number, month in enumerate(MONTHS, 1)}
        assert meanings(found) == {f"{NAME}@{number}": address for number, address in contents(found).items()}
        yield found


def client(ground: Ground) -> MlflowClient:
    return MlflowClient(ground.place.uri)


def meanings(ground: Ground) -> dict[str, str]:
    """Return what the index says that each registered version is."""
    index = ground.place.index()
    return {name: queries.version_named(index, queries.find(index, name)).name for name in index.names(MODEL)}


def tagged(ground: Ground) -> dict[int, dict[str, str]]:
    """Return the tags of each version in MLflow."""
    return {int(item.version): item.tags for item in client(ground).search_model_versions(f"name = '{NAME}'")}


def registered(ground: Ground) -> dict[int, str]:
    """Return which version each number stands for in MLflow, by its tags."""
    return {number: tags["address"] for number, tags in tagged(ground).items() if "address" in tags}


def records(ground: Ground) -> dict[str, Record]:
    """Return how each model was made, by its address."""
    made = (Record.from_dict(commit.record).at(commit.version) for commit in ground.place.lake.table(NAME).commits())
    return {record.output.address: record for record in made}


def contents(ground: Ground) -> dict[int, str]:
    """Return which version each number leads to in MLflow, by the files where it leads; "" where that is none of ours."""
    other = client(ground)
    files = {record.fitted["sha256"]: address for address, record in records(ground).items() if record.fitted}
    experiments = [item.experiment_id for item in other.search_experiments()]
    copies = {model.artifact_location: files[model.tags["sha256"]] for model in other.search_logged_models(experiments)}
    return {int(item.version): copies.get(item.source, "") for item in other.search_model_versions(f"name = '{NAME}'")}


def damaged(ground: Ground) -> dict[str, str]:
    """Return what `bikes verify --deep` finds wrong with the copies in MLflow."""
    made = records(ground)
    models = {name: made[address].fitted or {} for name, address in meanings(ground).items()}
    return {item.name: item.damage for item in of_copies(client(ground), models) if item.damage}


def settled(ground: Ground) -> list[str]:
    """Reconcile, and return what was done; a second time there is nothing to do, and the index is what a rebuilt one is."""
    found = reconciled(ground)
    assert found.refused == []
    return found.done


def reconciled(ground: Ground) -> Reconciliation:
    """Reconcile where others have registered versions: what is told of these is told again, and that is all."""
    found = ground.place.sync(ground.instance)
    again = ground.place.sync(ground.instance)
    assert (found.left, again.left, again.done) == ([], [], [])
    assert (again.refused, again.foreign) == (found.refused, found.foreign)
    grown, rebuilt = ground.place.index(), Index(ground.place.folder / "rebuilt.db")
    refresh(rebuilt, str(ground.place.folder / "dagster"), lambda index: Projection(index, SCHEMAS))
    assert content_of(grown) == content_of(rebuilt)
    return found


def test_a_deleted_version_is_registered_again_and_its_number_keeps_its_meaning(three: Ground) -> None:
    before = meanings(three)
    client(three).delete_model_version(NAME, "2")

    assert settled(three) == [
        "MLflow: ridge@2, ridge[2016-02]@2, was deleted, and is registered again as ridge@4: MLflow does not give a number "
        "twice. ridge@2 stays another name of it"
    ]
    assert registered(three) == {1: "ridge[2016-01]@1", 3: "ridge[2016-03]@3", 4: "ridge[2016-02]@2"}
    assert meanings(three) == {**before, "ridge@4": "ridge[2016-02]@2"}


def test_a_deleted_registered_model_is_restored_with_the_numbers_of_its_versions(three: Ground) -> None:
    before = registered(three)
    client(three).delete_registered_model(NAME)

    assert settled(three) == [
        "MLflow: registered model ridge was deleted, and is there again",
        *(
            f"MLflow: ridge@{n}, ridge[{month}]@{n}, was deleted, and is registered again"
            for n, month in enumerate(MONTHS, 1)
        ),
    ]
    assert registered(three) == before


def test_a_run_after_a_deletion_takes_no_number_that_has_a_meaning(three: Ground) -> None:
    before = meanings(three)
    client(three).delete_registered_model(NAME)

    assert three.place.run(three.instance, "2016-04").success

    assert registered(three) == {}
    settled(three)
    assert registered(three) == {
        1: "ridge[2016-01]@1",
        2: "ridge[2016-02]@2",
        3: "ridge[2016-03]@3",
        4: "ridge[2016-04]@4",
    }
    assert meanings(three) == {**before, "ridge@4": "ridge[2016-04]@4"}


def test_so_does_a_run_in_a_store_from_before_numbers_were_kept(three: Ground) -> None:
    three.instance.daemon_cursor_storage.set_cursor_values({"bikes_assets/registered/ridge": ""})
    assert Numbers(three.instance).get(NAME) == 3
    client(three).delete_registered_model(NAME)
    assert three.place.run(three.instance, "2016-04").success
    assert registered(three) == {}


def test_a_renamed_registered_model_is_renamed_back(three: Ground) -> None:
    before = registered(three)
    client(three).rename_registered_model(NAME, "theirs")
    assert three.place.run(three.instance, "2016-04").success

    assert settled(three)[0] == "MLflow: registered model theirs was renamed, and is ridge again"
    assert registered(three) == {**before, 4: "ridge[2016-04]@4"}
    assert [item.name for item in client(three).search_registered_models()] == [NAME]


def test_a_changed_tag_is_put_right(three: Ground) -> None:
    client(three).set_model_version_tag(NAME, "1", "digest", "0" * 32)
    client(three).delete_model_version_tag(NAME, "2", "address")
    digest = three.place.lake.record(NAME, "2016-01").output.digest

    assert settled(three) == [
        f"MLflow: tag digest of ridge version 1 is {digest} again",
        "MLflow: tag address of ridge version 2 is ridge[2016-02]@2 again",
    ]


def test_a_version_keeps_its_model_whatever_its_tags_say(three: Ground) -> None:
    other, before = client(three), tagged(three)
    for tag in before[1]:
        other.delete_model_version_tag(NAME, "1", tag)
    for tag, value in before[3].items():
        other.set_model_version_tag(NAME, "2", tag, value)
    other.set_model_version_tag(NAME, "2", "owner", "alice")
    # A copy that is damaged is named, though the tags of its version name another one
    (file,) = three.store.parent.rglob(
        f"{model_id_in(client(three).get_model_version(NAME, '2'))}/artifacts/model.skops"
    )
    sound = file.read_bytes()
    file.write_bytes(sound[:-1])
    assert list(damaged(three)) == ["MLflow ridge@2"]
    file.write_bytes(sound)
    # And only the version whose copy is gone is registered again
    other.delete_logged_model(model_id_in(client(three).get_model_version(NAME, "3")))

    done = settled(three)

    assert [line for line in done if "tag" not in line] == [
        "MLflow: ridge@3, ridge[2016-03]@3, was deleted, and is registered again as ridge@4: MLflow does not give a number "
        "twice. ridge@3 stays another name of it"
    ]
    assert {line.split()[2] for line in done if "version 1" in line} == set(before[1])
    now = tagged(three)
    assert (now[1], now[2]) == (before[1], before[2] | {"owner": "alice"})
    assert contents(three) == {1: "ridge[2016-01]@1", 2: "ridge[2016-02]@2", 4: "ridge[2016-03]@3"}
    assert damaged(three) == {}


def test_the_manifest_of_a_version_outlives_one_that_was_changed_on_its_copy(three: Ground) -> None:
    before = tagged(three)
    model_id = model_id_in(client(three).get_model_version(NAME, "2"))
    client(three).set_logged_model_tags(model_id, {"manifest": "0" * 32})

    found = three.place.sync(three.instance)

    assert (found.done, found.left) == ([], [])
    assert found.refused == [
        f"MLflow: tag manifest of ridge version 2 cannot be put right: MLflow model {model_id}: its manifest is not the one "
        "expected, and its own list of files agrees with its files; log it again"
    ]
    assert tagged(three) == before


def test_an_experiment_that_mlflow_has_removed_is_logged_again_and_its_numbers_stay_other_names(three: Ground) -> None:
    other, before = client(three), meanings(three)
    experiment = other.get_experiment_by_name(EXPERIMENT).experiment_id
    other.delete_experiment(experiment)
    where = [f"--backend-store-uri={three.place.uri}", f"--tracking-uri={three.place.uri}"]
    subprocess.run([sys.executable, "-m", "mlflow", "gc", *where, f"--experiment-ids={experiment}"], check=True)

    done = settled(three)

    assert [line for line in done if "ridge@" in line] == [
        f"MLflow: ridge@{n}, ridge[{month}]@{n}, was deleted, and is registered again as ridge@{n + 3}: MLflow does not give a "
        f"number twice. ridge@{n} stays another name of it"
        for n, month in enumerate(MONTHS, 1)
    ]
    restored = {n + 3: f"ridge[{month}]@{n}" for n, month in enumerate(MONTHS, 1)}
    assert contents(three) == restored
    assert meanings(three) == before | {f"{NAME}@{number}": address for number, address in restored.items()}


def test_a_version_that_is_deleted_twice_gets_one_number_each_time(three: Ground) -> None:
    for number in ("2", "4"):
        client(three).delete_model_version(NAME, number)
        settled(three)
    assert contents(three) == {1: "ridge[2016-01]@1", 3: "ridge[2016-03]@3", 5: "ridge[2016-02]@2"}


def test_a_run_and_its_registered_model_that_are_deleted_together_come_back(three: Ground) -> None:
    before = contents(three)
    client(three).delete_run(client(three).get_model_version(NAME, "3").run_id)
    client(three).delete_registered_model(NAME)
    settled(three)
    assert contents(three) == before


def test_a_version_whose_copy_was_deleted_gets_another(three: Ground) -> None:
    version = client(three).get_model_version(NAME, "3")
    client(three).delete_logged_model(model_id_in(version))

    assert settled(three) == [
        "MLflow: ridge@3, ridge[2016-03]@3, was deleted, and is registered again as ridge@4: MLflow does not give a number "
        "twice. ridge@3 stays another name of it"
    ]
    assert registered(three) == {1: "ridge[2016-01]@1", 2: "ridge[2016-02]@2", 4: "ridge[2016-03]@3"}


@pytest.mark.parametrize("by", ["bikes sync", "the sensor"])
@pytest.mark.parametrize("theirs", ["another model", "another model with its tags", "nothing"])
def test_what_others_register_under_a_number_of_ours_is_told_and_left_alone(
    three: Ground, theirs: str, by: str
) -> None:
    other = client(three)
    source = other.get_model_version(NAME, "3")
    what, tags = f"logged model {model_id_in(source)}", {"owner": "alice"}
    other.delete_registered_model(NAME)
    other.create_registered_model(NAME)
    if theirs == "nothing":
        what = "/tmp/nothing"
        other.create_model_version(NAME, what, None, tags=tags)
    else:
        tags |= source.tags if theirs == "another model with its tags" else {}
        other.create_model_version(NAME, source.source, source.run_id, tags=tags, model_id=model_id_in(source))
    whole = by != "the sensor"

    found = three.place.sync(three.instance, whole=whole)

    told = [
        f"MLflow: ridge version 1 is of {what}, but ridge@1 is ridge[2016-01]@1: the registered model was deleted or renamed, "
        "and somebody else has registered versions since; delete this version in MLflow, or register it under another name first"
    ]
    assert found.refused == told
    assert tagged(three)[1] == tags
    assert meanings(three)["ridge@1"] == "ridge[2016-01]@1"
    ours = {2: "ridge[2016-02]@2", 3: "ridge[2016-03]@3", 4: "ridge[2016-01]@1"}
    assert contents(three) == ours | {1: "" if theirs == "nothing" else "ridge[2016-03]@3"}
    assert list(damaged(three)) == ["MLflow ridge@1"]
    again = three.place.sync(three.instance, whole=whole)
    assert (again.done, again.left, again.refused) == ([], [], told)
    # When it is deleted, nothing is left to do
    other.delete_model_version(NAME, "1")
    assert settled(three) == []
    assert contents(three) == ours


def test_versions_that_others_register_beyond_our_numbers_are_told_and_left_alone(three: Ground) -> None:
    other = client(three)
    second, third = (other.get_model_version(NAME, number) for number in ("2", "3"))
    other.create_model_version(NAME, third.source, third.run_id, description="mine")
    other.create_model_version(NAME, "/tmp/nothing", tags={"asset": "theirs", "address": "ridge[2016-03]@3"})
    other.create_model_version(NAME, second.source, second.run_id, tags=third.tags)
    before = tagged(three)

    found = three.place.sync(three.instance)

    assert (found.done, found.left, found.refused) == ([], [], [])
    assert found.foreign == [
        "MLflow: ridge version 4 is none of this store's: somebody else has registered it; it is left alone",
        "MLflow: ridge version 5 is none of this store's: somebody else has registered it; it is left alone",
        "MLflow: ridge version 6 is none of this store's: its tags say ridge[2016-03]@3, and it is of logged model "
        f"{model_id_in(second)}; it is left alone",
    ]
    assert tagged(three) == before
    assert sorted(meanings(three)) == ["ridge@1", "ridge@2", "ridge@3"]
    assert three.place.run(three.instance, "2016-04").success
    assert (contents(three)[7], meanings(three)["ridge@7"]) == ("ridge[2016-04]@4", "ridge[2016-04]@4")


def test_a_version_that_was_registered_and_never_told_is_told(three: Ground) -> None:
    """A process is killed between registering a model and the storing of its event."""
    record = three.place.lake.record(NAME, "2016-03")
    with three.instance.event_log_storage.index_connection() as connection:
        connection.execute(
            sa.text(
                "delete from event_logs where dagster_event_type = 'ASSET_MATERIALIZATION' and asset_key like '%ridge%' "
                "and run_id = :run"
            ),
            {"run": record.made_by["dagster_run_id"]},
        )
    assert "ridge@3" not in meanings(three)

    assert settled(three) == [
        "ridge[2016-03]@3: was committed, and is now in the event log",
        "ridge[2016-03]@3: is registered as ridge@3, and the event log says so now",
    ]
    assert meanings(three)["ridge@3"] == "ridge[2016-03]@3"


def test_a_renamed_registered_model_is_renamed_back_although_the_event_log_has_lost_it(three: Ground) -> None:
    client(three).rename_registered_model(NAME, "theirs")
    with three.instance.event_log_storage.index_connection() as connection:
        connection.execute(sa.text("delete from event_logs where asset_key like '%ridge%'"))

    done = settled(three)

    assert "MLflow: registered model theirs was renamed, and is ridge again" in done
    assert meanings(three) == {
        f"{NAME}@{number}": f"{NAME}[{month}]@{number}" for number, month in enumerate(MONTHS, 1)
    }


def test_a_version_whose_number_both_have_lost_is_registered_as_the_next(three: Ground) -> None:
    """Somebody deletes it in MLflow, and the event log is lost with all that was noted in it."""
    record = three.place.lake.record(NAME, "2016-03")
    client(three).delete_model_version(NAME, "3")
    with three.instance.event_log_storage.index_connection() as connection:
        connection.execute(
            sa.text("delete from event_logs where asset_key like '%ridge%' and run_id = :run"),
            {"run": record.made_by["dagster_run_id"]},
        )
    three.instance.daemon_cursor_storage.set_cursor_values({"bikes_assets/registered/ridge": ""})

    assert settled(three) == [
        "ridge[2016-03]@3: was committed, and is now in the event log",
        "MLflow: ridge[2016-03]@3 was registered no more, and is ridge@4 now",  # MLflow does not give a number twice
    ]
    assert meanings(three)["ridge@4"] == "ridge[2016-03]@3"


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(50 if SOAK else 4))
def test_after_whatever_is_done_in_mlflow_no_address_has_changed_its_meaning(three: Ground, seed: int) -> None:
    draw, known, month = random.Random(seed), meanings(three), 4
    registered_by_others: dict[tuple[int, int], tuple[str, dict[str, str], str]] = {}
    other = client(three)

    def born() -> int:
        """Return what tells the registered model of our name from others that had the name, or have it no more."""
        model = registered_model(three)
        return model.creation_timestamp if model else 0

    def theirs() -> dict[int, tuple[str, dict[str, str], str]]:
        """Return what others have registered in the registered model that has our name now."""
        return {number: told for (of, number), told in registered_by_others.items() if of == born()}

    def all_versions() -> list[Any]:
        return other.search_model_versions(f"name = '{NAME}'")

    def any_version() -> Any:
        known = theirs()
        found = [item for item in all_versions() if int(item.version) not in known]
        return draw.choice(found) if found else None

    def run() -> None:
        nonlocal month
        assert three.place.run(three.instance, f"2016-{month:02}").success
        month += 1

    def rename() -> None:
        if registered_model(three):
            other.rename_registered_model(NAME, f"theirs {draw.random()}")

    def delete_version() -> None:
        if version := any_version():
            other.delete_model_version(NAME, version.version)

    def delete_copy() -> None:
        there = contents(three)
        version = any_version()
        if version and there[int(version.version)]:
            other.delete_logged_model(model_id_in(version))

    def delete_run() -> None:
        if version := any_version():
            other.delete_run(version.run_id)

    def untag() -> None:
        if version := any_version():
            other.delete_model_version_tag(NAME, version.version, draw.choice(sorted(version.tags) or ["address"]))

    def retag() -> None:
        version, source = any_version(), any_version()
        if version and source:
            for tag in draw.sample(sorted(source.tags), k=min(3, len(source.tags))):
                other.set_model_version_tag(NAME, version.version, tag, source.tags[tag])

    def delete_all() -> None:
        if registered_model(three):
            other.delete_registered_model(NAME)

    def register() -> None:
        version, source = any_version(), any_version()
        tags = draw.choice([{}, {"owner": "alice"}, source.tags if source else {}])
        of = (version.source, version.run_id) if version and draw.random() < 0.8 else ("/tmp/nothing", None)
        registry.create_registered_model(other, NAME, {})
        made = other.create_model_version(NAME, *of, tags=tags, description="mine")
        number, content = int(made.version), contents(three)[int(made.version)]
        meaning = meanings(three).get(f"{NAME}@{number}", tags.get("address"))
        if not content or content != meaning:  # else it is what it says, or what its number means
            registered_by_others[born(), number] = (of[0], tags, "mine")

    def register_after_deletion() -> None:
        version = any_version()
        delete_all()
        if version:
            other.create_registered_model(NAME)
            other.create_model_version(
                NAME, version.source, version.run_id, tags={"owner": "alice"}, description="mine"
            )
            if contents(three)[1] != meanings(three)[f"{NAME}@1"]:
                registered_by_others[born(), 1] = (version.source, {"owner": "alice"}, "mine")

    def reconcile() -> None:
        three.place.sync(three.instance, whole=draw.choice([True, False]))

    actions: list[Callable[[], None]] = [
        run,
        rename,
        delete_version,
        delete_copy,
        delete_run,
        untag,
        retag,
        delete_all,
        register,
        register,
        register_after_deletion,
        reconcile,
    ]
    done = []
    for action in draw.choices(actions, k=8):
        done.append(action.__name__)
        action()
        now = meanings(three)
        assert {name: now[name] for name in known} == known, done
        known = now
    found = reconciled(three)
    now, there = meanings(three), contents(three)
    assert {name: now[name] for name in known} == known, done
    # what others registered is as they left it, and told
    left = {int(item.version): (item.source, item.tags, item.description) for item in all_versions()}
    assert {number: left[number] for number in theirs()} == theirs(), done
    told = [int(line.split()[3]) for line in (*found.refused, *found.foreign)]
    assert set(theirs()) <= set(told), done
    # every model is registered, whole, under a number that means it; verify names what another model has the number of
    ours = {number: address for number, address in there.items() if number not in told}
    fitted = {f"{NAME}[2016-{number:02}]" for number in range(1, month)}
    assert {address.partition("@")[0] for address in ours.values()} == fitted, done
    assert {number: now.get(f"{NAME}@{number}") for number in ours} == ours, done
    assert {number: address for number, address in registered(three).items() if number in ours} == ours, done
    named = {int(name.rpartition("@")[2]) for name in damaged(three)}
    wrong = {n for n, address in there.items() if f"{NAME}@{n}" in now and address and address != now[f"{NAME}@{n}"]}
    assert wrong <= named <= set(told), done
    # and all agree once what others registered is gone
    for number in told:
        other.delete_model_version(NAME, str(number))
    assert settled(three) == [], done
    # but for the order of the numbers, for what was deleted has a later one, and for runs that were deleted and stay a version's
    differing = [
        line for line in disagreements(three.state()) if not re.match(r"registered are |version \d+ is of ", line)
    ]
    assert differing == [], done
    assert intact(three.store) == "ok"


def registered_model(ground: Ground) -> Any:
    return registry.registered_model(client(ground), NAME)
