"""Attacks on model files and on MLflow's copies: each would run code in a loader that believes what it reads.

A canary is a file that an attack writes when its code runs. Every attack is first shown to be live, by the loader that people
would reach for; then the project's refuses it, by a message that names the culprit, and the canary is not there.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
import yaml

from bikes_assets.core.digest import file_digest
from bikes_assets.core.errors import DigestError, LineageError, ModelError
from bikes_assets.demand.model import TRUSTED_TYPES, Recipe, build, load
from bikes_assets.storage.lake import Lake
from bikes_assets.tracking import registry
from bikes_assets.tracking.client import client_of, experiment_of
from bikes_assets_tests.forging import mapping, node, several, skops_file, text

ROWS = pd.DataFrame({"hour_of_week": np.arange(60.0) % 24, "demand_level_7d": 5.0 + np.arange(60) % 7})
DEMAND = pd.Series(10.0 + np.arange(60) % 24)
CARD = {"name": "Ridge", "baseline": None, "origin": ""}


# Forged skops files


def call(canary: Path) -> dict[str, Any]:
    return node("os.system", "ConstructorFromReduceNode", content=several("tuple", text(f"touch {canary}")))


def operator_call(canary: Path) -> dict[str, Any]:
    return node("operator.call", "OperatorFuncNode", attrs=several("tuple", shell(), text(f"touch {canary}")))


def shell() -> dict[str, Any]:
    return node("os.system", "FunctionNode")


def partial() -> dict[str, Any]:
    parts = {"func": shell(), "args": several("tuple"), "kwds": mapping(), "namespace": mapping()}
    return node("functools.partial", "PartialNode", content=parts)


def key(canary: Path, kind: dict[str, Any]) -> dict[str, Any]:
    """A mapping whose keys are made by calling what the file says."""
    return mapping(kind, **{f"touch {canary}": text("")})


def relative(regressor: dict[str, Any]) -> dict[str, Any]:
    own = {"regressor": text("none"), "level": text("demand_level_7d"), "regressor_": regressor}
    return node("bikes_assets.demand.relative.RelativeRegressor", "ObjectNode", content=mapping(**own))


FORGED: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "function, called": (call, "os.system as ConstructorFromReduceNode"),
    "function, called by an operator": (operator_call, "operator.call as OperatorFuncNode"),
    "function, called for a key": (lambda canary: key(canary, shell()), "os.system as FunctionNode"),
    "partial of a function": (lambda canary: key(canary, partial()), "os.system as FunctionNode"),
    "partial in a trusted regressor": (lambda canary: relative(key(canary, partial())), "os.system as FunctionNode"),
    "call in a list in a trusted regressor": (
        lambda canary: relative(several("list", text("x"), call(canary))),
        "os.system as ConstructorFromReduceNode",
    ),
    "method of a path": (
        lambda canary: node(
            "operator.call",
            "OperatorFuncNode",
            attrs=several(
                "tuple",
                node(
                    "pathlib.PosixPath",
                    "MethodNode",
                    content={
                        "func": "touch",
                        "obj": node(
                            "pathlib.PosixPath",
                            "ConstructorFromReduceNode",
                            content=several("tuple", text(str(canary))),
                        ),
                    },
                ),
            ),
        ),
        "pathlib.PosixPath as MethodNode",
    ),
}


class Payload:
    """Writes the canary when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


def payload(canary: Path) -> bytes:
    return pickle.dumps(Payload(canary))


def forged_file(canary: Path, how: str) -> bytes:
    return skops_file(FORGED[how][0](canary))


# Attacks on MLflow's copy: each edits the folder of a registered copy


@dataclass(frozen=True)
class Copied:
    """A registered copy of a model, and an attacker's canary."""

    client: Any
    model_id: str
    version: int
    folder: Path
    canary: Path

    def edit(self, flavor: str, **values: Any) -> None:
        written = yaml.safe_load((self.folder / "MLmodel").read_text())
        written["flavors"][flavor] |= values
        (self.folder / "MLmodel").write_text(yaml.safe_dump(written))

    def write(self, name: str, content: bytes | str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def as_pickle(copied: Copied) -> None:
    copied.edit("sklearn", serialization_format="pickle", pickled_model="model.pkl")
    copied.write("model.pkl", payload(copied.canary))


def as_cloudpickle_in_its_place(copied: Copied) -> None:
    copied.edit("sklearn", serialization_format="cloudpickle")
    copied.write("model.skops", payload(copied.canary))


def forged_trust(copied: Copied) -> None:
    content = forged_file(copied.canary, "function, called")
    copied.write("model.skops", content)
    copied.edit("sklearn", skops_trusted_types=skops.io.get_untrusted_types(data=content))


def planted_loader(copied: Copied) -> None:
    copied.write("code/planted_loader.py", f"open({str(copied.canary)!r}, 'w')\ndef _load_pyfunc(path): return None\n")
    copied.edit("python_function", loader_module="planted_loader", code="code")


def path_outside(copied: Copied) -> None:
    (copied.folder.parent / "outside.pkl").write_bytes(payload(copied.canary))
    copied.edit("sklearn", serialization_format="pickle", pickled_model="../outside.pkl")


def link_outside(copied: Copied) -> None:
    as_pickle(copied)
    shutil.move(copied.folder / "model.pkl", copied.folder.parent / "linked.pkl")
    (copied.folder / "model.pkl").symlink_to(copied.folder.parent / "linked.pkl")


def swapped(copied: Copied) -> None:
    copied.write("model.skops", forged_file(copied.canary, "partial in a trusted regressor"))


def forged_tags(copied: Copied) -> None:
    """Swap the model, and let MLflow's own records say that this is how it was."""
    forged_trust(copied)
    files = {path.name: file_digest(path.read_bytes()) for path in copied.folder.iterdir()}
    manifest = registry._manifest(files)
    copied.client.set_logged_model_tags(copied.model_id, {"manifest": manifest, "files": json.dumps(files)})
    copied.client.set_model_version_tag("model", str(copied.version), "manifest", manifest)


TRUSTING = "mlflow.sklearn.load_model({folder!r})"
SERVING = "mlflow.pyfunc.load_model({folder!r})"
BELIEVING = "believe(open({folder!r} + '/model.skops', 'rb').read())"

COPIES: dict[str, tuple[Callable[[Copied], None], str, str]] = {
    "MLmodel says pickle": (as_pickle, TRUSTING, "found more: model.pkl; changed: MLmodel"),
    "MLmodel says cloudpickle": (as_cloudpickle_in_its_place, TRUSTING, "changed: MLmodel, model.skops"),
    "MLmodel says what to trust": (forged_trust, TRUSTING, "changed: MLmodel, model.skops"),
    "MLmodel names a loader": (planted_loader, SERVING, "found more: code/planted_loader.py; changed: MLmodel"),
    "MLmodel names a path outside": (path_outside, TRUSTING, "changed: MLmodel"),
    "link to a file outside": (link_outside, TRUSTING, "found model.pkl, which is a link or no file"),
    "another model file": (swapped, BELIEVING, "changed: model.skops"),
    "another model file, and forged tags": (
        forged_tags,
        TRUSTING,
        "model@{version}, model.skops: found os.system as ConstructorFromReduceNode",
    ),
}


# Which attacks are live


NAIVE = """
import json, pickle, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import mlflow.pyfunc, mlflow.sklearn, skops.io
def believe(content):
    return skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content))
for load, canary in json.loads(Path(sys.argv[1]).read_text()):
    try:
        eval(load)
    except Exception as error:
        print(load, repr(error), file=sys.stderr)
"""


@dataclass(frozen=True)
class Arena:
    """All attacks, prepared, and what came of the loaders that believe."""

    files: dict[str, Path]
    copies: dict[str, Copied]
    sung: set[Path]
    log: str


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Arena:
    folder = tmp_path_factory.mktemp("attacks")
    (folder / "canaries").mkdir()
    tries: list[tuple[str, str]] = []
    files: dict[str, Path] = {}
    for number, how in enumerate(["pickle", *FORGED]):
        canary = folder / "canaries" / f"file-{number}"
        files[how] = folder / f"{number}.skops"
        files[how].write_bytes(payload(canary) if how == "pickle" else forged_file(canary, how))
        loader = "pickle.loads" if how == "pickle" else "believe"
        tries.append((f"{loader}(Path({str(files[how])!r}).read_bytes())", str(canary)))
    copies = {}
    for how, copied in zip(COPIES, _copies(folder, len(COPIES)), strict=True):
        attack, naive, _ = COPIES[how]
        attack(copied)
        copies[how] = copied
        tries.append((naive.format(folder=str(copied.folder)), str(copied.canary)))
    (folder / "tries.json").write_text(json.dumps(tries))
    # without bytecode: a planted module that is loaded would leave one more file than was planted
    naive = [sys.executable, "-B", "-c", NAIVE, str(folder / "tries.json")]
    done = subprocess.run(naive, cwd=folder, capture_output=True, text=True)
    sung = set((folder / "canaries").iterdir())
    for canary in sung:
        canary.unlink()
    return Arena(files, copies, sung, done.stderr)


def _copies(folder: Path, count: int) -> list[Copied]:
    uri = f"sqlite:///{folder}/mlflow.db"
    client = client_of(uri)
    run = client.create_run(experiment_of(client, uri, "one")).info.run_id
    model = build(Recipe("sklearn.linear_model.Ridge", {})).fit(ROWS, DEMAND)
    copies = []
    for number in range(count):
        model_id = registry.log_copy(
            client, run, model, name="model", example=ROWS.head(2), trusted=TRUSTED_TYPES, tags={}
        )
        version = registry.register(client, model_id, run, name="model", tags={})
        place = Path(client.get_logged_model(model_id).artifact_location.removeprefix("file://"))
        copies.append(Copied(client, model_id, version, place, folder / "canaries" / f"copy-{number}"))
    return copies


def canary_of(arena: Arena, how: str) -> Path:
    if how in arena.copies:
        return arena.copies[how].canary
    number = list(arena.files).index(how)
    return next(iter(arena.copies.values())).canary.parent / f"file-{number}"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"), {}, tmp_path)


# The lake


@pytest.mark.parametrize("how", ["pickle", *FORGED])
def test_another_file_in_a_models_place_is_not_opened(arena: Arena, lake: Lake, how: str) -> None:
    assert canary_of(arena, how) in arena.sung, arena.log
    sha256 = lake.save_file(b"an honest model")
    (path,) = Path(lake.location, "model_files").iterdir()
    path.write_bytes(arena.files[how].read_bytes())
    with pytest.raises(DigestError, match=f"{sha256}.skops: found SHA-256 {file_digest(path.read_bytes())}"):
        load(lake.load_file(sha256), CARD)
    assert not canary_of(arena, how).exists()


@pytest.mark.parametrize("how", ["pickle", *FORGED])
def test_a_forged_file_with_its_own_digest_is_not_built(arena: Arena, lake: Lake, how: str) -> None:
    # Given an attacker who can write the row that names the file as well
    assert canary_of(arena, how) in arena.sung, arena.log
    content = lake.load_file(lake.save_file(arena.files[how].read_bytes()))
    with pytest.raises(ModelError) as error:
        load(content, CARD)
    culprit = "found no skops file that can be read: BadZipFile" if how == "pickle" else FORGED[how][1]
    assert str(error.value).startswith("Ridge: found ")
    assert culprit in str(error.value)
    assert not canary_of(arena, how).exists()


@pytest.mark.parametrize("sha256", ["../../evil", "/tmp/evil", "..", "", "x" * 64, "A" * 64])
def test_a_row_that_names_another_path_loads_nothing(lake: Lake, tmp_path: Path, sha256: str) -> None:
    # Given a file where that name leads to
    lake.save_file(b"an honest model")
    (tmp_path / "evil.skops").write_bytes(skops_file(call(tmp_path / "canary")))
    with pytest.raises(DigestError) as error:
        load(lake.load_file(sha256), CARD)
    assert sha256 in str(error.value)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("damage", ["flipped", "truncated", "longer", "empty"])
def test_a_damaged_file_is_named_and_not_opened(lake: Lake, damage: str) -> None:
    content = skops.io.dumps({"estimator": None})
    sha256 = lake.save_file(content)
    (path,) = Path(lake.location, "model_files").iterdir()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.write_bytes({"flipped": flipped, "truncated": content[:-1], "longer": content + b"\0", "empty": b""}[damage])
    with pytest.raises(DigestError, match=f"{sha256}.skops: found SHA-256"):
        lake.load_file(sha256)


# MLflow's copy


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_that_was_edited_is_not_loaded(arena: Arena, how: str) -> None:
    copied, message = arena.copies[how], COPIES[how][2]
    assert copied.canary in arena.sung, arena.log
    with pytest.raises(LineageError) as error:
        registry.load_copy(copied.client, "model", copied.version, trusted=TRUSTED_TYPES)
    named = message.format(version=copied.version)
    assert str(error.value).startswith((named, f"MLflow model {copied.model_id}: {named}"))
    assert not copied.canary.exists()
    if how != "another model file, and forged tags":
        with pytest.raises(LineageError, match=copied.model_id):
            registry.register(copied.client, copied.model_id, "", name="model", tags={})


def test_who_keeps_the_manifest_notices_forged_tags_too(arena: Arena) -> None:
    copied = arena.copies["another model file, and forged tags"]
    with pytest.raises(DigestError, match=copied.model_id):
        registry.load_copy(copied.client, "model", copied.version, trusted=TRUSTED_TYPES, manifest="0" * 32)
    assert not copied.canary.exists()
