"""What somebody deletes, renames and changes in MLflow's registry is restored or told, and no address changes its meaning."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from mlflow import MlflowClient

from bikes_assets.adapters import registry
from bikes_assets.adapters.event_log import refresh
from bikes_assets.adapters.registered import Numbers
from bikes_assets.lineage import queries
from bikes_assets.lineage.index import Index
from bikes_assets.lineage.projection import MODEL, Projection
from bikes_assets_tests.fire.conftest import Ground
from bikes_assets_tests.fire.processes import SOAK
from bikes_assets_tests.fire.project import SCHEMAS

MONTHS = ("2016-01", "2016-02", "2016-03")
NAME = "ridge"


@pytest.fixture
def three(local: Ground) -> Ground:
    """Return a place with a model of each of three months, registered as 1, 2 and 3."""
    for month in MONTHS:
        assert local.place.run(local.instance, month).success
    assert meanings(local) == {
        f"{NAME}@{number}": f"{NAME}[{month}]@{number}" for number, month in enumerate(MONTHS, 1)
    }
    return local


def client(ground: Ground) -> MlflowClient:
    return MlflowClient(ground.place.uri)


def meanings(ground: Ground) -> dict[str, str]:
    """Return what the index says that each registered version is."""
    index = ground.place.index()
    return {name: queries.version_named(index, queries.find(index, name)).name for name in index.names(MODEL)}


def registered(ground: Ground) -> dict[int, str]:
    """Return which version each number stands for in MLflow."""
    return {
        int(item.version): item.tags["address"] for item in client(ground).search_model_versions(f"name = '{NAME}'")
    }


def settled(ground: Ground) -> list[str]:
    """Reconcile, and return what was done; a second time there is nothing to do, and the index is what a rebuilt one is."""
    found = ground.place.sync(ground.instance)
    assert (found.left, found.refused) == ([], [])
    again = ground.place.sync(ground.instance)
    assert (again.done, again.left, again.refused) == ([], [], [])
    grown, rebuilt = ground.place.index(), Index(ground.place.folder / "rebuilt.db")
    rebuilt.clear()
    refresh(rebuilt, str(ground.place.folder / "dagster"), lambda index: Projection(index, SCHEMAS))
    assert grown.content() == rebuilt.content()
    return found.done


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


def test_a_version_whose_copy_was_deleted_gets_another(three: Ground) -> None:
    version = client(three).get_model_version(NAME, "3")
    client(three).delete_logged_model(version.tags["mlflow_model_id"])

    assert settled(three) == [
        "MLflow: ridge@3, ridge[2016-03]@3, was deleted, and is registered again as ridge@4: MLflow does not give a number "
        "twice. ridge@3 stays another name of it"
    ]
    assert registered(three) == {1: "ridge[2016-01]@1", 2: "ridge[2016-02]@2", 4: "ridge[2016-03]@3"}


def test_versions_that_others_register_under_numbers_of_ours_are_told(three: Ground) -> None:
    other = client(three)
    source = other.get_model_version(NAME, "2")
    other.delete_registered_model(NAME)
    other.create_registered_model(NAME)
    other.create_model_version(NAME, source.source, tags=source.tags)

    found = three.place.sync(three.instance)

    assert found.refused == [
        "MLflow: ridge version 1 is ridge[2016-02]@2, but ridge@1 is ridge[2016-01]@1: the registered model was deleted or "
        "renamed, and another program has registered versions since; delete it in MLflow, then bikes sync restores it with the "
        "numbers that its versions had"
    ]
    assert meanings(three)["ridge@1"] == "ridge[2016-01]@1"
    other.delete_registered_model(NAME)
    three.place.sync(three.instance)
    assert {number: address for number, address in registered(three).items() if number < 4} == {
        1: "ridge[2016-01]@1", 2: "ridge[2016-02]@2", 3: "ridge[2016-03]@3",
    }  # fmt: skip


def test_a_version_that_somebody_else_registered_is_left_alone(three: Ground) -> None:
    other = client(three)
    other.create_model_version(NAME, other.get_model_version(NAME, "1").source)
    assert settled(three) == []


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

    def any_version() -> Any:
        found = client(three).search_model_versions(f"name = '{NAME}'")
        return draw.choice(found) if found else None

    def run() -> None:
        nonlocal month
        assert three.place.run(three.instance, f"2016-{month:02}").success
        month += 1

    def rename() -> None:
        client(three).rename_registered_model(NAME, f"theirs {draw.random()}")

    def delete_version() -> None:
        if version := any_version():
            client(three).delete_model_version(NAME, version.version)

    def delete_copy() -> None:
        if version := any_version():
            client(three).delete_logged_model(version.tags["mlflow_model_id"])

    def delete_run() -> None:
        if version := any_version():
            client(three).delete_run(version.run_id)

    def untag() -> None:
        if version := any_version():
            client(three).delete_model_version_tag(NAME, version.version, draw.choice(["address", "digest"]))

    def delete_all() -> None:
        client(three).delete_registered_model(NAME)

    def reconcile() -> None:
        three.place.sync(three.instance)

    actions: list[Callable[[], None]] = [
        run,
        rename,
        delete_version,
        delete_copy,
        delete_run,
        untag,
        delete_all,
        reconcile,
    ]
    done = []
    for action in draw.choices(actions, k=6):
        if registered_model(three) is None and action in (rename, delete_all):
            continue
        done.append(action.__name__)
        action()
        now = meanings(three)
        assert {name: now[name] for name in known} == known, done
        known = now
    settled(three)
    now = meanings(three)
    assert {name: now[name] for name in known} == known, done
    # every model is registered, whole, under a number that means it
    fitted = {f"{NAME}[2016-{number:02}]" for number in range(1, month)}
    found = registered(three)
    assert {address.partition("@")[0] for address in found.values()} == fitted, done
    assert {f"{NAME}@{number}": address for number, address in found.items()}.items() <= now.items(), done
    three.agrees()


def registered_model(ground: Ground) -> Any:
    return registry.registered_model(client(ground), NAME)
