"""Whatever happened to a store: after a run and a sync it is fresh, at rest, and every address means what it meant."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from bikes_assets_tests.fire.history import History
from bikes_assets_tests.fire.processes import SOAK, turns
from bikes_assets_tests.fire.whole_store import Life, of_source

LIVES = 10
"""Seeds of one test, so that the report of a soak has a line for ten."""
BLOCKS = turns(50) if SOAK else range(2)
"""Tests of that many seeds: without a soak fewer than a tenth, which would take a sixth of the time of all tests."""


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Iterator[History]:
    made = of_source(tmp_path_factory.mktemp("whole") / "of")
    yield made
    made.close()


@pytest.mark.soak
@pytest.mark.parametrize("block", BLOCKS)
def test_a_store_comes_to_rest(site: History, block: int) -> None:
    for seed in range(block * LIVES, (block + 1) * LIVES):
        life = Life(site, random.Random(seed))
        for _ in range(life.rng.randint(2, 4)):
            life.happens()

        found = life.settle()

        said = f"seed {seed}: {life}\nexit code {found['code']}: {found['printed']}{found['first']}"
        assert found["unsettled"] == [], said
        assert found["due"] == [], said
        assert found["rebuilt"], said
        assert found["again"] == {**found["first"], "done": []}, said
        assert {name: found["meanings"].get(name) for name in life.meanings} == life.meanings, said
    # And all that a new store makes of the same source is there; an old one has more where a month has lost what it was made of
    assert life.anew().items() <= found["fresh"].items(), said
