"""Snapshots of a real store: the same is the same, whatever differs is named, and whatever is damaged is found."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from bikes_assets.app import snapshot as snapshots
from bikes_assets.app.settings import settings
from bikes_assets.app.store import table
from bikes_assets.cli import runner
from bikes_assets.core.errors import LineageError
from bikes_assets.core.record import record_digest
from bikes_assets.core.staleness import Plan
from bikes_assets.tracking.version_source import model_id_in
from bikes_assets.verification.snapshot import Snapshot, loads

SOURCE = Path(__file__).parents[2] / "data" / "raw" / "hour.csv"


@pytest.fixture
def store(copied: Path) -> Path:
    """Return where a snapshot of a copy of the history is to lie."""
    return copied.with_name("snapshot.json")


def taken(file: Path) -> Snapshot:
    return snapshots.write(runner.plan(), file)


def differing(file: Path, plan: Plan | None = None) -> list[str]:
    """Return what differs, without what came out as it was."""
    found = snapshots.verify(plan or runner.plan(), file)
    assert found.is_same == all(change.is_rematerialized for change in found.changes)
    return [str(change) for change in found.changes if not change.is_rematerialized]


def make_again(partition: str, digest: str = "") -> int:
    """Publish a partition of prediction_quality again, as another run would, under its digest or another; return its version."""
    quality = table("prediction_quality")
    record = quality.published()[partition].record
    ((_, rows),) = quality.read([partition]).values()
    made_by = record["made_by"] | {"dagster_run_id": str(uuid4()), "mlflow_run_id": ""}
    record = record | {"made_by": made_by, "output": record["output"] | ({"digest": digest} if digest else {})}
    return quality.write(partition, rows, record, since=quality.version())


def test_a_pipe_is_written_to_and_what_a_link_leads_to_is_replaced(store: Path) -> None:
    # Given
    pipe, link, target = (store.with_name(name) for name in ("pipe", "link", "target"))
    os.mkfifo(pipe)
    target.write_text("old")
    link.symlink_to(target)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True)
    # When
    known = taken(pipe)
    taken(link)
    # Then
    told, _ = reader.communicate(timeout=60)
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert loads(told, "told") == loads(target.read_text(), "target") == known


def flip(file: Path, rng: random.Random) -> bytes:
    """Flip a bit in a file and return what it held."""
    sound = file.read_bytes()
    content = bytearray(sound)
    content[rng.randrange(len(sound))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)
    return sound


def test_a_store_is_what_its_snapshot_says_and_nothing_in_it_changes_without_cause(store: Path) -> None:
    snapshot = taken(store)

    assert snapshots.verify(runner.plan(), store) == snapshots.Verification([])
    assert loads(store.read_text(), "file") == snapshot
    text = store.read_text()
    taken(store)
    assert store.read_text() == text
    # And it is what the records say
    quality = table("prediction_quality").published()["2011-05"]
    assert snapshot.partitions["prediction_quality[2011-05]"] == {
        "version": quality.version,
        "digest": quality.digest,
        "content": quality.content,
        "record": record_digest(quality.record),
    }
    model = snapshot.models["demand_model@1"]
    asset, key = str(model["address"]).partition("@")[0].removesuffix("]").split("[")
    made = table(asset).published()[key]
    assert (model["digest"], model["sha256"]) == (made.digest, made.record["models"][0]["sha256"])
    assert {name.partition("[")[0] for name in snapshot.partitions} >= snapshot.code.keys()


def test_each_kind_of_difference_is_named(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    was = taken(store)
    plan = runner.plan()
    # A partition that came out as it was
    version = make_again("2011-04")
    (change,) = snapshots.verify(plan, store).changes
    assert change.is_rematerialized
    assert str(change).endswith(f" -> {version}")
    assert differing(store) == []
    # One that came out otherwise
    version = make_again("2011-05", "0" * 32)
    (told,) = differing(store)
    assert told.startswith("prediction_quality[2011-05]: version ")
    assert f" -> {version}, digest " in told
    assert " -> 00000000, record " in told
    # One that is new to a snapshot, and one that is gone since
    partitions = dict(taken(store).partitions)
    partitions["demand_features[2031-01]"] = partitions.pop("demand_features[2011-01]")
    store.write_text(replace(was, partitions=partitions).dumps())
    new, gone = differing(store)
    assert new.startswith("demand_features[2011-01]: is new: version ")
    assert gone.startswith("demand_features[2031-01]: is gone: version ")
    # A registered model
    taken(store)
    models = was.models | {"demand_model@1": was.models["demand_model@1"] | {"digest": "1" * 32}}
    store.write_text(replace(loads(store.read_text(), "file"), models=models).dumps())
    (told,) = differing(store)
    assert told.startswith("demand_model@1: digest 11111111 -> ")
    # Code
    taken(store)
    node = replace(plan.nodes["demand_features"], code_version="2" * 32)
    (told,) = differing(store, Plan({**plan.nodes, "demand_features": node}))
    assert told == f"demand_features: code version {plan.nodes['demand_features'].code_version[:8]} -> 22222222"
    # The source
    shutil.copy(SOURCE, tmp_path / "hour.csv")
    sound = flip(tmp_path / "hour.csv", random.Random(0))
    monkeypatch.setenv("BIKES_SOURCE", str(tmp_path / "hour.csv"))
    settings.cache_clear()
    (told,) = differing(store, plan)
    assert told.startswith("hour.csv: SHA-256 ")
    (tmp_path / "hour.csv").write_bytes(sound)
    assert differing(store, plan) == []


def test_deep_finds_a_flipped_bit_in_data_models_and_their_copies(history: Any, store: Path) -> None:
    # Given
    taken(store)
    make_again("2011-04")
    told: list[tuple[str, int, int]] = []
    plan = runner.plan()
    sound = snapshots.verify(plan, store, deep=True, progress=lambda *values: told.append(values))
    assert (sound.damage, sound.notes, sound.is_same) == ({}, [], True)
    assert sound.checked == len(told) == told[-1][1] == told[-1][2]
    # When a bit of each kind is flipped
    rng, lake = random.Random(0), Path(settings().lake_location)
    features = next(lake.glob("demand_features/partition=2011-02/*.parquet"))
    earlier = min(lake.glob("prediction_quality/partition=2011-04/*.parquet"), key=lambda file: file.stat().st_mtime_ns)
    model = min(lake.glob("model_files/*"))
    registered = model_id_in(history.client.get_model_version("demand_model", "1"))
    (copy,) = (store.parent / "data" / "mlflow").rglob(f"{registered}/artifacts/model.skops")
    damaged = [features, earlier, model, copy]
    contents = [flip(file, rng) for file in damaged]
    try:
        found = snapshots.verify(plan, store, deep=True)
    finally:
        for file, content in zip(damaged, contents, strict=True):
            file.write_bytes(content)
    # Then each is found, and comparing alone reads none of it
    first = next(item.version for item in table("prediction_quality").commits() if item.partition == "2011-04")
    names = sorted(found.damage)
    assert len(names) == 4
    assert names[0] == "MLflow demand_model@1"
    assert names[1].startswith("demand_features[2011-02]@")
    assert names[2:] == [f"model_files/{model.name}", f"prediction_quality[2011-04]@{first}"]
    assert not found.is_same
    assert snapshots.verify(plan, store).is_same


def test_an_mlflow_that_is_away_is_said_and_the_rest_is_checked(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken(store)
    for uri, told in (
        (f"sqlite:///{store.parent}/none.db", "MLflow: there is no store, so no copy was checked"),
        ("http://127.0.0.1:9", "MLflow: not all copies were checked: "),
    ):
        monkeypatch.setenv("BIKES_MLFLOW_TRACKING_URI", uri)
        settings.cache_clear()
        found = snapshots.verify(runner.plan(), store, deep=True)
        (note,) = found.notes
        assert note.startswith(told)
        assert found.checked >= 36
        assert found.damage == {}
    assert not (store.parent / "none.db").exists()


def test_what_cannot_be_told_is_an_error(store: Path) -> None:
    with pytest.raises(LineageError, match=r"snapshot\.json: cannot be read: .*; write it with bikes snapshot$"):
        snapshots.verify(runner.plan(), store)
    store.write_bytes(b"\xff\xfe")
    with pytest.raises(LineageError, match=r"snapshot\.json: cannot be read: "):
        snapshots.verify(runner.plan(), store)


def bikes(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = (
        "import sys\nfrom bikes_assets.cli import main\ntry:\n    main()\nfinally:\n"
        "    print([m for m in ('dagster', 'mlflow', 'sklearn', 'pandas') if m in sys.modules], file=sys.stderr)"
    )
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)


def test_the_commands_say_so_by_their_exit_codes_and_import_nothing_heavy(store: Path) -> None:
    assert bikes("snapshot", str(store)).returncode == 0  # the plan is remembered from now on
    written = bikes("snapshot", str(store))
    assert (written.returncode, written.stderr) == (0, "[]\n")
    assert written.stdout.startswith(f"{store}: ")
    same = bikes("verify", str(store))
    assert (same.returncode, same.stdout, same.stderr) == (0, "The store is what the snapshot says.\n", "[]\n")

    make_again("2011-05", "0" * 32)

    other = bikes("verify", str(store))
    assert other.returncode == 1
    assert other.stdout.startswith("prediction_quality[2011-05]: version ")
    assert other.stdout.endswith("\nThe store differs from the snapshot in 1 of these.\n")
    told = bikes("verify", str(store), "--json")
    assert told.returncode == 1
    (values,) = json.loads(told.stdout)["items"]
    assert (values["same"], values["damage"], values["notes"]) == (False, {}, [])
    assert [change["name"] for change in values["changes"]] == ["prediction_quality[2011-05]"]
    for file, text in ((store, "{}"), (store.parent / "none.json", None)):
        if text:
            file.write_text(text)
        refused = bikes("verify", str(file))
        assert refused.returncode == 2
        assert refused.stderr.startswith(f"error: {file}: ")
