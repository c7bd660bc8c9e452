"""Whether what lies in the lake is what was stored: each flipped bit is found, and refused where it would be read."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from bikes_assets.core.errors import DigestError
from bikes_assets.core.model_file import dumps
from bikes_assets.storage.delta import LakeTable
from bikes_assets.storage.lake import MODEL_ROWS, Lake
from bikes_assets.verification.integrity import Inspection, of_model_files, of_table
from bikes_assets_tests.storage.test_delta import ORDERS, SOAK, forget, lake_table, write

FLIPS = 500 if SOAK else 50
KIND = "sklearn.linear_model._base.LinearRegression"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Return a lake of a table of three partitions, one of them with an earlier version and one of no rows, and two models."""
    from sklearn.linear_model import LinearRegression

    table = lake_table(tmp_path)
    for partition, run, length in (
        ("a", "old", 20),
        ("a", "new", 20),
        ("b", "r1", 300),
        ("c", "r2", 0),
        (None, "r3", 5),
    ):
        write(table, partition, run, length=length)  # type: ignore[arg-type]
    found = Lake(str(tmp_path), {"orders": ORDERS}, tmp_path)
    for intercept in (False, True):
        found.save_file(dumps(LinearRegression(fit_intercept=intercept).fit([[1.0], [2.0]], [1.0, 3.0]), [KIND]))
    return found


def table_of(lake: Lake) -> LakeTable:
    return lake.table("orders")


def looked_at(lake: Lake) -> Iterator[Inspection]:
    yield from of_table(table_of(lake))
    yield from of_model_files(lake, ())


def damaged(lake: Lake) -> list[str]:
    return [item.name for item in looked_at(lake) if item.damage]


def version_of(lake: Lake, file: Path) -> tuple[str | None, int]:
    """Return partition and version of the commit that added a file."""
    path = file.relative_to(table_of(lake).uri).as_posix()
    return next((c.partition, c.version) for c in table_of(lake).commits() if path in (c.checksums or {}))


def refuses(lake: Lake, file: Path) -> str:
    """Return the name of what a file belongs to, after seeing that loading it is refused, and that the error names it."""
    if file.suffix == ".skops":
        with pytest.raises(DigestError, match=file.name):
            lake.load_file(file.stem)
        return f"model_files/{file.name}"
    partition, version = version_of(lake, file)
    with pytest.raises(DigestError, match=file.name):
        table_of(lake).read([partition], version)
    return f"orders[{partition}]@{version}" if partition else f"orders@{version}"


def test_what_is_as_it_was_stored_is_not_complained_of(lake: Lake) -> None:
    found = list(looked_at(lake))

    names = ["orders[a]@1", "orders[a]@2", "orders[b]@3", "orders[c]@4", "orders@5"]
    assert [item.name for item in found[:5]] == names
    assert [item for item in found if item != Inspection(item.name)] == []
    assert len(found) == 7


@pytest.mark.soak
def test_every_flipped_bit_is_found_and_refused(lake: Lake) -> None:
    # Given
    files = sorted(path for kind in ("parquet", "skops") for path in Path(lake.location).rglob(f"*.{kind}"))
    rng = random.Random(0)
    assert len(files) == 6
    for turn in range(FLIPS):
        # When a bit is flipped, in each file in turn
        file = files[turn % len(files)]
        sound = file.read_bytes()
        content = bytearray(sound)
        content[rng.randrange(len(sound))] ^= 1 << rng.randrange(8)
        file.write_bytes(content)
        # Then it is found, in this and in nothing else, and refused
        assert damaged(lake) == [refuses(lake, file)]
        file.write_bytes(sound)
    assert damaged(lake) == []


def test_a_flipped_bit_is_refused_to_engines_that_read_files_themselves(lake: Lake) -> None:
    table = table_of(lake)
    (file,) = Path(table.uri, "partition=b").glob("*.parquet")
    assert len(table.current_files(["a", "b", "c", None])[1]) == 4
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)

    with pytest.raises(DigestError, match=rf"^orders\[b\]: {file} has SHA-256 .*, expected .*; restore {table.uri}$"):
        table.current_files(["b"])
    assert list(table.current_files(["a"])[1]) == ["a"]


def test_a_model_file_that_is_needed_and_gone_is_found(lake: Lake) -> None:
    file = min(Path(lake.location, "model_files").iterdir())
    file.unlink()

    assert damaged(lake) == []
    (found,) = [item for item in of_model_files(lake, [file.stem]) if item.damage]
    assert found.name == f"model_files/{file.name}"


def test_files_that_retention_has_not_removed_are_missed_in_every_version(lake: Lake) -> None:
    for file in Path(lake.location, "orders", "partition=a").iterdir():
        file.unlink()

    found = {item.name: item for item in of_table(table_of(lake))}

    assert found["orders[a]@1"].damage.startswith(
        "orders[a]@1: its rows are not there any more, and retention has not "
    )
    assert found["orders[a]@2"].damage.startswith("orders[a]: cannot be read at version 5: ")


def test_versions_from_before_files_were_sealed_are_told(lake: Lake) -> None:
    for version in (1, 2, 4):
        commit = Path(lake.location, "orders", "_delta_log", f"{version:020}.json")
        commit.write_text(commit.read_text().replace('"sha256":', '"other":'))
    forget(table_of(lake))

    assert [item.name for item in of_table(table_of(lake)) if item.unchecked] == [
        "orders[a]@1",
        "orders[a]@2",
        "orders[c]@4",
    ]
    assert damaged(lake) == []


def test_a_table_of_models_is_sealed_as_any_other(tmp_path: Path) -> None:
    table = LakeTable("models", str(tmp_path / "models"), MODEL_ROWS)
    table.write("a", MODEL_ROWS.arrow().empty_table(), {"output": {"digest": "d"}}, since=0)

    assert list(of_table(table)) == [Inspection("models[a]@1")]
