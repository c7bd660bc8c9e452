"""The order in which versions are rebuilt, and when what came out counts as what was recorded."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bikes_assets.core.record import Record, Version
from bikes_assets.verification.reproduction import (
    TOLERANCE,
    largest_difference,
    largest_relative,
    parts,
    steps,
    verdict,
)

ASSETS = ("raw", "features", "model", "champion")


def record(asset: str, partition: str, version: int, *inputs: Version, digest: str = "", **columns: str) -> Record:
    output = Version(asset, partition, version, digest or f"{asset}{partition}{version}")
    return Record(output, columns, inputs, "code", {}, {}, {})


def history(seed: int) -> list[Record]:
    """Return random history: each reads what is present of some partitions of the assets before it, or an older version of it."""
    rng, rebuilt = random.Random(seed), list[Record]()
    for version in range(rng.randint(4, 30)):
        level = rng.randrange(len(ASSETS))
        inputs: dict[tuple[str, str | None], Version] = {}
        for _ in range(rng.randint(0, 4)):
            known = [item.output for item in rebuilt if ASSETS.index(item.output.asset) < level]
            if known:
                chosen = rng.choice(known)
                inputs[chosen.asset, chosen.partition] = chosen
        rebuilt.append(record(ASSETS[level], str(rng.randrange(3)), version, *inputs.values()))
    return rebuilt


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_each_step_finds_its_inputs_in_the_versions_that_it_read(seed: int, wanted: int) -> None:
    rebuilt = history(seed)
    known = {item.output: item for item in rebuilt}
    taken = {item.output for item in rebuilt if item.output.asset == "raw"}
    targets = random.Random(seed).sample(rebuilt, min(wanted, len(rebuilt)))

    there: dict[tuple[str, str | None], Version] = {}
    done: set[Version] = set()
    for step in steps(targets, known.get, lambda item: None if item.output in taken else "here"):
        if step.place is not None:
            for version in step.record.inputs:
                assert there[version.asset, version.partition] == version
        there[step.version.asset, step.version.partition] = step.version
        done.add(step.version)

    assert {item.output for item in targets} <= done


def test_what_needs_nothing_of_each_other_is_kept_together_by_what_it_is_made_with() -> None:
    raws = [record("raw", str(number), number) for number in range(4)]
    features = [record("features", str(number), number, raws[number].output) for number in range(4)]
    model = record("model", "9", 1, *(item.output for item in features))
    known = {item.output: item for item in (*raws, *features, model)}
    found = steps([model], known.get, lambda item: int(item.output.partition or 0) % 2)
    assert [step.version.asset for step in found] == ["raw"] * 4 + ["features"] * 4 + ["model"]
    assert [step.place for step in found[:4]] in ([0, 0, 1, 1], [1, 1, 0, 0])


def test_a_chain_parts_at_the_first_asset_that_came_out_otherwise() -> None:
    pairs = [
        (record("raw", "1", 1, digest="a", x="1"), record("raw", "1", 9, digest="a", x="1")),
        (record("features", "1", 1, digest="b", x="1", y="2"), record("features", "1", 9, digest="c", x="1", y="3")),
        (record("features", "2", 1, digest="b", x="1"), record("features", "2", 9, digest="c", x="2")),
        (record("model", "1", 1, digest="d"), record("model", "1", 9, digest="e")),
    ]
    assert [(part.address, part.columns) for part in parts(pairs)] == [
        ("features[1]@1", ("y",)),
        ("features[2]@1", ("x",)),
    ]
    assert parts(pairs[:1]) == ()


def table(k: list[int], x: list[float | None]) -> pa.Table:
    return pa.table({"k": pa.array(k, pa.int64()), "x": pa.array(x, pa.float64())})


@pytest.mark.parametrize(
    ("other", "largest"),
    [
        (table([1, 2], [100.0, None]), 0.0),
        (table([1, 2], [100.0 + 1e-8, None]), pytest.approx(1e-10, rel=1e-3)),
        (table([1, 2], [101.0, None]), pytest.approx(1 / 101)),
        (table([1, 3], [100.0, None]), None),
        (table([1, 2], [100.0, 0.0]), None),
        (table([1], [100.0]), None),
    ],
)
def test_tables_are_compared_number_by_number_and_all_else_exactly(other: pa.Table, largest: float | None) -> None:
    assert largest_difference(table([1, 2], [100.0, None]), other) == largest


def test_infinities_and_missing_numbers_have_to_be_the_same() -> None:
    x = np.array([np.inf, np.nan, 1.0])
    assert largest_relative(x, x.copy()) == 0.0
    assert largest_relative(x, np.array([-np.inf, np.nan, 1.0])) is None
    assert largest_relative(x, np.array([np.inf, 1.0, 1.0])) is None


@pytest.mark.parametrize(
    ("same", "largest", "expected"),
    [
        (True, None, "identical"),
        (False, 0.0, "equal"),
        (False, TOLERANCE, "equal"),
        (False, TOLERANCE * 1.01, "different"),
        (False, None, "different"),
    ],
)
def test_the_verdict(same: bool, largest: float | None, expected: str) -> None:
    assert verdict(same, largest) == expected
