"""Whatever happened to a store: after a run and a sync it is fresh, at rest, and every address means what it meant."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from bikes_assets_tests.fire.history import History
from bikes_assets_tests.fire.processes import turns
from bikes_assets_tests.fire.whole_store import Life, of_source


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[History]:
    made = of_source(tmp_path_factory.mktemp("whole") / "of")
    yield made
    made.close()


@pytest.mark.soak
@pytest.mark.parametrize("seed", turns(500))
def test_a_store_comes_to_rest(site: History, seed: int) -> None:
    life = Life(site, random.Random(seed))
    for _ in range(life.rng.randint(2, 6)):
        life.happens()

    found = life.settle()

    assert found["unsettled"] == [], life
    assert found["due"] == [], life
    assert found["rebuilt"], life
    assert found["again"] == {**found["first"], "done": []}, life
    assert {name: found["meanings"].get(name) for name in life.meanings} == life.meanings, life
