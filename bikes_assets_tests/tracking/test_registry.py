"""Copies in MLflow: what is logged, that it is what was uploaded, that a version is made once, and what a load takes."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.models import Model, infer_signature
from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LinearRegression

from bikes_assets.core.digest import object_digest
from bikes_assets.core.errors import DigestError, LineageError, ModelError
from bikes_assets.demand.model import ESTIMATORS, TRUSTED_TYPES, Recipe, build
from bikes_assets.tracking import registry
from bikes_assets.tracking.client import client_of, experiment_of
from bikes_assets.tracking.numbers import Numbers
from bikes_assets.tracking.registry import checked, fitting, load_copy, log_copy, register, set_aliases, version_of

TRUSTED = ("numpy.dtype", "sklearn.linear_model._base.LinearRegression")
FILES = [
    "MLmodel",
    "input_example.json",
    "model.skops",
    "python_env.yaml",
    "requirements.txt",
    "serving_input_example.json",
]

HOURS = np.arange(60)
ROWS = pd.DataFrame({"hour_of_week": HOURS % 24.0, "demand_level_7d": 5.0 + HOURS % 7, "x": np.sin(HOURS)})
DEMAND = pd.Series(10.0 + HOURS % 24 + HOURS % 7)


class Store:
    """An MLflow store and a run in it, into which copies of a line are logged."""

    def __init__(self, folder: Path, artifacts: str | None = None) -> None:
        self.uri = f"sqlite:///{folder}/mlflow.db"
        self.client = client_of(self.uri)
        if artifacts:
            self.experiment = self.client.create_experiment(artifacts, artifact_location=artifacts)
        else:
            self.experiment = experiment_of(self.client, self.uri, "one")
        self.run = self.client.create_run(self.experiment).info.run_id
        self.estimator = LinearRegression().fit(ROWS, DEMAND)

    def log(self, estimator: Any = None, trusted: Any = TRUSTED, **tags: Any) -> str:
        return log_copy(
            self.client,
            self.run,
            estimator or self.estimator,
            name="line",
            example=ROWS.head(3),
            trusted=trusted,
            tags=tags,
        )

    def folder(self, model_id: str) -> Path:
        return Path(self.client.get_logged_model(model_id).artifact_location.removeprefix("file://"))


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty MLflow store, to be copied: MLflow takes seconds to make one."""
    folder = tmp_path_factory.mktemp("empty")
    client_of(f"sqlite:///{folder}/mlflow.db")
    return folder / "mlflow.db"


@pytest.fixture(scope="module")
def store(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(Path(shutil.copy(empty, tmp_path_factory.mktemp("store"))).parent)


@pytest.fixture
def own(empty: Path, tmp_path: Path) -> Store:
    return Store(Path(shutil.copy(empty, tmp_path)).parent)


# What is logged


def test_a_copy_is_an_output_of_its_run_in_the_runs_experiment(store: Store) -> None:
    model_id = store.log(digest="d1", inputs=["a[1]@2", "b[1]@7"])
    model = store.client.get_logged_model(model_id)
    assert model.status == "READY"
    assert model.experiment_id == store.experiment
    assert model.source_run_id == store.run
    assert model_id in [item.model_id for item in store.client.get_run(store.run).outputs.model_outputs]
    assert model.tags["digest"] == "d1"
    assert model.tags["inputs"] == "a[1]@2, b[1]@7"
    assert sorted(json.loads(model.tags["files"])) == FILES
    assert model.tags["copy_sha256"] == json.loads(model.tags["files"])["model.skops"]
    assert len(model.tags["manifest"]) == 32


def test_mlflows_global_state_is_neither_used_nor_changed(own: Store, tmp_path: Path) -> None:
    before = mlflow.get_tracking_uri()
    elsewhere = f"sqlite:///{tmp_path}/elsewhere.db"
    mlflow.set_tracking_uri(elsewhere)
    try:
        model_id = own.log()
        assert register(own.client, model_id, own.run, name="line", tags={}) == 1
        assert isinstance(load_copy(own.client, "line", 1, trusted=TRUSTED), LinearRegression)
        assert mlflow.get_tracking_uri() == elsewhere
        assert mlflow.active_run() is None
        assert not (tmp_path / "elsewhere.db").exists()
    finally:
        mlflow.set_tracking_uri(before)


def test_mlflows_own_loaders_read_it(store: Store) -> None:
    folder = str(store.folder(store.log()))
    model = Model.load(folder)
    expected = store.estimator.predict(ROWS)
    assert (mlflow.sklearn.load_model(folder).predict(ROWS) == expected).all()
    assert mlflow.pyfunc.load_model(folder).predict(ROWS) == pytest.approx(expected)
    assert model.signature == infer_signature(ROWS, expected)
    pd.testing.assert_frame_equal(model.load_input_example(folder), ROWS.head(3))
    with open(mlflow.pyfunc.get_model_dependencies(folder)) as requirements:
        assert [line.partition("==")[0] for line in requirements] == ["scikit-learn", "skops", "numpy", "pandas"]


def test_a_copy_can_do_without_an_example(own: Store) -> None:
    model_id = log_copy(own.client, own.run, own.estimator, name="line", example=None, trusted=TRUSTED, tags={})
    assert sorted(checked(own.client, model_id)) == ["MLmodel", "model.skops", "python_env.yaml", "requirements.txt"]
    register(own.client, model_id, own.run, name="line", tags={})
    assert isinstance(load_copy(own.client, "line", 1, trusted=TRUSTED), LinearRegression)
    assert isinstance(mlflow.sklearn.load_model(str(own.folder(model_id))), LinearRegression)


def test_it_is_what_mlflows_flavor_would_write(store: Store, tmp_path: Path) -> None:
    """The layout is MLflow's; should MLflow change it, this fails."""
    ours = yaml.safe_load((store.folder(store.log()) / "MLmodel").read_text())
    mlflow.sklearn.save_model(
        store.estimator,
        str(tmp_path / "theirs"),
        input_example=ROWS.head(3),
        signature=infer_signature(ROWS.head(3), store.estimator.predict(ROWS.head(3))),
        serialization_format="skops",
        skops_trusted_types=["sklearn.linear_model._base.LinearRegression"],  # of the list, what this one holds
        pip_requirements=list(registry.requirements()),
    )
    theirs = yaml.safe_load((tmp_path / "theirs" / "MLmodel").read_text())
    del theirs["flavors"]["python_function"]["env"]["conda"]  # the same once more, for another tool
    for part in ("flavors", "saved_input_example_info", "signature", "mlflow_version"):
        assert ours[part] == theirs[part]
    assert {path.name for path in (tmp_path / "theirs").iterdir()} == {*FILES, "conda.yaml"}


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_each_listed_estimator_comes_back_from_mlflow(store: Store, name: str) -> None:
    model = build(Recipe(name, {})).fit(ROWS, DEMAND)
    model_id = store.log(model, TRUSTED_TYPES)
    version = register(store.client, model_id, store.run, name="any", tags={})
    loaded = load_copy(store.client, "any", version, trusted=TRUSTED_TYPES)
    assert object_digest(loaded) == object_digest(model)
    assert (loaded.predict(ROWS) == model.predict(ROWS)).all()


def test_what_could_not_be_loaded_is_not_logged(own: Store) -> None:
    with pytest.raises(
        ModelError, match=r"found sklearn\.gaussian_process\._gpr\.GaussianProcessRegressor as ObjectNode"
    ):
        own.log(GaussianProcessRegressor().fit(ROWS, DEMAND))
    assert own.client.search_logged_models([own.experiment]) == []


def test_an_upload_that_mlflow_refuses_is_failed(empty: Path, tmp_path: Path) -> None:
    # Given a store whose folder is a file
    (tmp_path / "file").write_text("")
    shutil.copy(empty, tmp_path)
    store = Store(tmp_path, (tmp_path / "file" / "artifacts").as_uri())
    with pytest.raises(OSError):  # noqa: PT011
        store.log()
    (model,) = store.client.search_logged_models([store.experiment])
    assert model.status == "FAILED"
    with pytest.raises(ModelError, match="found status FAILED, expected READY"):
        register(store.client, model.model_id, store.run, name="line", tags={})


KILLED = """
import os, sys
from pathlib import Path
from bikes_assets_tests.tracking.test_registry import Store
store = Store(Path(sys.argv[1]))
upload = store.client.log_model_artifact
def killed(model_id, folder):
    upload(model_id, folder + "/model.skops")
    os.kill(os.getpid(), 9)
store.client.log_model_artifacts = killed
store.log()
"""


def test_a_copy_whose_upload_was_killed_is_not_registered(own: Store, tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=Path(__file__).parents[2])
    assert killed.returncode == -9
    (model,) = own.client.search_logged_models([own.experiment])
    assert [path.name for path in own.folder(model.model_id).iterdir()] == ["model.skops"]
    with pytest.raises(ModelError) as error:
        register(own.client, model.model_id, own.run, name="line", tags={})
    assert str(error.value) == (
        f"MLflow model {model.model_id}: found status PENDING, expected READY: its upload did not end; log it again"
    )
    assert own.client.search_registered_models() == []
    # MLflow itself would say that all is well
    own.client.create_registered_model("line")
    source = own.client.get_logged_model(model.model_id).artifact_location
    assert own.client.create_model_version("line", source, own.run, model_id=model.model_id).status == "READY"


# That it is what was uploaded


def change(folder: Path) -> None:
    content = bytearray((folder / "model.skops").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.skops").write_bytes(content)


def add_code(folder: Path) -> None:
    (folder / "code").mkdir()
    (folder / "code" / "sklearn.py").write_text("raise SystemExit")


DAMAGES: dict[str, tuple[Any, str]] = {
    "one bit": (change, "changed: model.skops"),
    "MLmodel": (lambda folder: (folder / "MLmodel").write_text("{}"), "changed: MLmodel"),
    "missing": (lambda folder: (folder / "requirements.txt").unlink(), "missing: requirements.txt"),
    "all missing": (
        lambda folder: [path.unlink() for path in folder.iterdir()],
        "missing: MLmodel, input_example.json, ",
    ),
    "more": (lambda folder: (folder / "model.pkl").write_text(""), "found more: model.pkl"),
    "a folder more": (add_code, "found more: code/sklearn.py"),
    "renamed": (
        lambda folder: (folder / "model.skops").rename(folder / "other.skops"),
        "found more: other.skops; missing: model.skops",
    ),
    "link to a file": (lambda folder: (folder / "x").symlink_to("/etc/passwd"), "found x, which is a link or no file"),
    "link to itself": (lambda folder: (folder / "x").symlink_to(folder), "found x, which is a link or no file"),
    "pipe": (lambda folder: os.mkfifo(folder / "x"), "found x, which is a link or no file, expected a file"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_copy_that_is_not_what_was_uploaded_is_refused(store: Store, damage: str) -> None:
    model_id = store.log()
    version = register(store.client, model_id, store.run, name="damaged", tags={})
    assert sorted(checked(store.client, model_id)) == FILES
    do, message = DAMAGES[damage]
    do(store.folder(model_id))
    for call in (
        lambda: checked(store.client, model_id),
        lambda: register(store.client, model_id, store.run, name="damaged", tags={}),
        lambda: load_copy(store.client, "damaged", version, trusted=TRUSTED),
    ):
        with pytest.raises(LineageError) as error:
            call()
        assert str(error.value).startswith(f"MLflow model {model_id}: {message}")


def test_what_mlflow_writes_beside_a_copy_that_it_loads_is_no_damage(store: Store) -> None:
    model_id = store.log()
    version = register(store.client, model_id, store.run, name="loaded", tags={})
    # MLflow does so when the copy of a registered version is loaded where it lies
    (store.folder(model_id) / "registered_model_meta").write_text(f"model_name: loaded\nmodel_version: {version}\n")
    assert sorted(checked(store.client, model_id)) == FILES
    load_copy(store.client, "loaded", version, trusted=TRUSTED)


def test_a_copy_of_another_project_is_refused(own: Store) -> None:
    model_id = own.client.create_logged_model(own.experiment, "line").model_id
    own.client.finalize_logged_model(model_id, "READY")
    with pytest.raises(ModelError, match="found no tag 'manifest', so nothing says what was uploaded; log it again"):
        checked(own.client, model_id)


def test_a_copy_that_is_too_large_is_not_opened(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    model_id = store.log()
    size = sum(path.stat().st_size for path in store.folder(model_id).iterdir())
    monkeypatch.setattr(registry, "MAX_BYTES", size - 1)
    with pytest.raises(ModelError, match=f"found {size:,} bytes, expected at most {size - 1:,}"):
        checked(store.client, model_id)


class Kept(LocalArtifactRepository):
    """A store that is elsewhere, as MLflow sees it; it may say that it has a file outside."""

    outside = ""

    def __init__(self, artifact_uri: str, **_: Any) -> None:
        super().__init__("file" + artifact_uri.removeprefix("kept"))

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        more = [FileInfo(self.outside, False, 1)] if self.outside else []
        return super().list_artifacts(path) + more


@pytest.fixture
def kept(empty: Path, tmp_path: Path) -> Store:
    shutil.copy(empty, tmp_path)
    _artifact_repository_registry.register("kept", Kept)
    return Store(tmp_path, f"kept://{tmp_path}/kept")


def test_a_copy_in_a_store_elsewhere_is_fetched_and_checked(kept: Store) -> None:
    model_id = kept.log()
    register(kept.client, model_id, kept.run, name="line", tags={})
    assert isinstance(load_copy(kept.client, "line", 1, trusted=TRUSTED), LinearRegression)
    change(Path(kept.client.get_logged_model(model_id).artifact_location.removeprefix("kept:")))
    with pytest.raises(DigestError, match=r"changed: model\.skops"):
        load_copy(kept.client, "line", 1, trusted=TRUSTED)


@pytest.mark.parametrize("path", ["../../canary", "/tmp/canary", "a/../../canary"])
def test_a_store_elsewhere_that_leaves_the_folder_is_refused(
    kept: Store, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_id = kept.log()
    monkeypatch.setattr(Kept, "outside", path)
    with pytest.raises(ModelError, match=f"found path '{path}', which leaves the model's folder"):
        checked(kept.client, model_id)


# Versions


def test_a_version_names_what_it_was_made_from(own: Store) -> None:
    tags = {"digest": "d", "address": "model[1]@2", "inputs": ["a[1]@1", "b[1]@5"]}
    model_id = own.log(**tags)
    assert register(own.client, model_id, own.run, name="line", tags=tags) == 1
    version = own.client.get_model_version("line", "1")
    model = own.client.get_logged_model(model_id)
    assert version.status == "READY"
    assert version.run_id == own.run
    assert version.tags == {
        "digest": "d",
        "address": "model[1]@2",
        "inputs": "a[1]@1, b[1]@5",
        "manifest": model.tags["manifest"],
    }
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "line", "version": 1}]  # a link on MLflow's page


def test_a_model_is_registered_once(own: Store) -> None:
    tags = {"digest": "d", "address": "model[1]@2"}
    first, again, later = (own.log(**tags) for _ in range(3))
    assert register(own.client, first, own.run, name="line", tags=tags) == 1
    # When it is asked for again, or logged again by an attempt that did not know of the first
    assert register(own.client, first, own.run, name="line", tags=tags) == 1
    assert register(own.client, first, own.run, name="line", tags={}) == 1
    assert register(own.client, again, own.run, name="line", tags=tags) == 1
    # then there is one version, while another address or another name is another version
    assert register(own.client, later, own.run, name="line", tags=tags | {"address": "model[1]@3"}) == 2
    assert register(own.client, first, own.run, name="other", tags=tags) == 1
    assert len(own.client.search_model_versions("name = 'line'")) == 2


def test_a_version_whose_files_were_changed_does_not_stand_for_another_copy(own: Store) -> None:
    tags = {"digest": "d", "address": "model[1]@2"}
    first, again = own.log(**tags), own.log(**tags)
    register(own.client, first, own.run, name="line", tags=tags)
    change(own.folder(first))
    with pytest.raises(DigestError, match=f"MLflow model {first}: changed: model.skops"):
        register(own.client, again, own.run, name="line", tags=tags)


def test_many_that_register_at_once_make_one_version(own: Store) -> None:
    tags = {"digest": "d", "address": "model[1]@2"}
    copies = [own.log(**tags) for _ in range(4)]
    start, found = threading.Barrier(4), []

    def one(model_id: str) -> None:
        start.wait()
        found.append(register(own.client, model_id, own.run, name="line", tags=tags))

    threads = [threading.Thread(target=one, args=(model_id,)) for model_id in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1, 1, 1, 1]
    assert [version.version for version in own.client.search_model_versions("name = 'line'")] == [1]


def test_a_version_is_found_by_its_tags(own: Store) -> None:
    for address in ("m[1]@1", "m[2]@2", "m[2]@3"):
        tags = {"sha256": address[2], "address": address}
        register(own.client, own.log(**tags), own.run, name="line", tags=tags)
    assert version_of(own.client, "line", sha256="1") == 1
    assert version_of(own.client, "line", sha256="2") == 2
    assert version_of(own.client, "line", sha256="2", address="m[2]@3") == 3
    assert version_of(own.client, "line", sha256="1", address="m[2]@3") is None
    assert version_of(own.client, "nowhere", sha256="1") is None


@pytest.mark.parametrize("source", ["another model", "a folder of that name", "nothing"])
def test_a_version_with_the_tags_of_another_does_not_stand_for_it(own: Store, tmp_path: Path, source: str) -> None:
    tags = {"sha256": "1", "digest": "d", "address": "m[1]@1"}
    model_id, other = own.log(**tags), own.log(sha256="2", digest="e")
    sources = {
        "another model": own.client.get_logged_model(other).artifact_location,
        "a folder of that name": f"{tmp_path}/elsewhere/models/{model_id}/artifacts",
        "nothing": str(tmp_path),
    }
    own.client.create_registered_model("line")
    own.client.create_model_version("line", sources[source], own.run, tags=tags | {"mlflow_model_id": model_id})

    assert version_of(own.client, "line", sha256="1") is None
    assert register(own.client, model_id, own.run, name="line", tags=tags) == 2
    assert version_of(own.client, "line", sha256="1") == 2


def test_a_version_that_others_made_with_the_tags_of_one_model_and_the_id_of_another_is_not_it(own: Store) -> None:
    tags = {"sha256": "1", "digest": "d", "address": "m[1]@1"}
    other = own.client.get_logged_model(own.log(sha256="2", digest="e"))
    own.client.create_registered_model("line")
    source, named = other.artifact_location, {"mlflow_model_id": other.model_id}
    own.client.create_model_version("line", source, own.run, tags=tags | named)

    assert version_of(own.client, "line", sha256="1") is None
    assert register(own.client, own.log(**tags), own.run, name="line", tags=tags) == 2


def test_a_version_whose_copy_is_gone_does_not_stand_for_another_copy(own: Store) -> None:
    tags = {"digest": "d", "address": "m[1]@1"}
    first, again = own.log(**tags), own.log(**tags)
    assert register(own.client, first, own.run, name="line", tags=tags) == 1
    own.client.delete_logged_model(first)
    assert version_of(own.client, "line", address="m[1]@1") == 1
    assert register(own.client, again, own.run, name="line", tags=tags) == 2


def test_tags_fit_and_say_what_was_left_out(own: Store) -> None:
    items = [f"rental_records[2011-01]@{number}" for number in range(10_000)]
    tags = fitting({"inputs": items, "note": "x" * 20_000, "few": ["a", "b"], "none": []})
    shown, _, rest = tags["inputs"].rpartition(", and ")
    assert len(tags["inputs"]) <= 8_000
    assert shown == ", ".join(items[: len(shown.split(", "))])
    assert rest == f"{10_000 - len(shown.split(', '))} more"
    assert tags["note"] == "x" * 7_960 + " and 12040 more characters"
    assert (tags["few"], tags["none"]) == ("a, b", "")
    # MLflow takes what fits, and would refuse the rest
    model_id = own.log(inputs=items)
    register(own.client, model_id, own.run, name="line", tags={"inputs": items})
    assert own.client.get_model_version("line", "1").tags["inputs"] == tags["inputs"]
    with pytest.raises(MlflowException, match="exceeds the maximum length of 100000"):
        own.client.set_model_version_tag("line", "1", "inputs", "x" * 100_001)


# Aliases


def writes(store: Store) -> Any:
    """Return a count that grows when anyone else writes to the store."""
    connection = sqlite3.connect(store.uri.removeprefix("sqlite:///"))
    return closing(connection), lambda: connection.execute("pragma data_version").fetchone()[0]


def test_aliases_move_when_they_must_and_cost_nothing_when_they_are_right(own: Store) -> None:
    for address in ("m@1", "m@2"):
        register(own.client, own.log(), own.run, name="line", tags={"address": address})
    assert set_aliases(own.client, "line", {"champion": 1, "challenger": None}) == ["champion: none -> 1"]
    assert set_aliases(own.client, "line", {"champion": 2, "challenger": 1}) == [
        "champion: 1 -> 2",
        "challenger: none -> 1",
    ]
    assert own.client.get_registered_model("line").aliases == {"champion": 2, "challenger": 1}
    open_connection, count = writes(own)
    with open_connection:
        before = count()
        assert set_aliases(own.client, "line", {"champion": 2, "challenger": 1, "other": None}) == []
        assert count() == before
        assert set_aliases(own.client, "line", {"challenger": None}) == ["challenger: 1 -> none"]
        assert count() != before
    assert own.client.get_registered_model("line").aliases == {"champion": 2}


def test_aliases_of_what_is_not_there_are_refused_by_name(own: Store) -> None:
    with pytest.raises(ModelError, match=r"aliases of line: .*line.* not found; register the model first"):
        set_aliases(own.client, "line", {"champion": 1})
    register(own.client, own.log(), own.run, name="line", tags={})
    with pytest.raises(ModelError, match=r"aliases of line: .*version=7.* not found"):
        set_aliases(own.client, "line", {"champion": 7})


# Loading


def test_a_copy_is_loaded_by_version_or_alias(own: Store) -> None:
    register(own.client, own.log(), own.run, name="line", tags={})
    set_aliases(own.client, "line", {"champion": 1})
    expected = own.estimator.predict(ROWS)
    for which in (1, "1", "champion"):
        assert (load_copy(own.client, "line", which, trusted=TRUSTED).predict(ROWS) == expected).all()
    for which in (2, "challenger"):
        with pytest.raises(ModelError, match=f"^line@{which}: "):
            load_copy(own.client, "line", which, trusted=TRUSTED)


def test_who_keeps_the_manifest_gets_that_copy_or_none(own: Store) -> None:
    model_id = own.log()
    register(own.client, model_id, own.run, name="line", tags={})
    manifest = own.client.get_logged_model(model_id).tags["manifest"]
    assert isinstance(load_copy(own.client, "line", 1, trusted=TRUSTED, manifest=manifest), LinearRegression)
    with pytest.raises(DigestError, match="its manifest is not the one expected"):
        load_copy(own.client, "line", 1, trusted=TRUSTED, manifest="0" * 32)


def test_a_version_of_another_project_is_not_loaded(own: Store) -> None:
    own.client.create_registered_model("line")
    own.client.create_model_version("line", own.client.get_logged_model(own.log()).artifact_location)
    own.client.create_model_version("line", "/tmp/nothing", tags={"manifest": "0" * 32})
    for number, lacks in ((1, "tag manifest"), (2, "logged model")):
        with pytest.raises(
            ModelError, match=f"line@{number}: found no {lacks}, expected a version that was registered"
        ):
            load_copy(own.client, "line", number, trusted=TRUSTED)


def test_what_is_not_trusted_is_not_loaded(own: Store) -> None:
    register(own.client, own.log(), own.run, name="line", tags={})
    with pytest.raises(ModelError) as error:
        load_copy(own.client, "line", 1, trusted=("numpy.dtype",))
    assert str(error.value) == (
        "line@1, model.skops: found sklearn.linear_model._base.LinearRegression as ObjectNode, which is not among the types "
        "that are trusted"
    )


def test_the_highest_number_that_was_given_is_kept() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        numbers = Numbers(instance)
        for number in (1, 3, 2):
            numbers.note("demand_model", number)
        assert (numbers.get("demand_model"), numbers.get("another")) == (3, 0)
