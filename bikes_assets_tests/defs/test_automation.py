"""What a tick of the automation says."""

from __future__ import annotations

import random

import pytest

from bikes_assets.defs.automation import MOST_OUTLOOKS, listed


@pytest.mark.parametrize("count", [0, 1, MOST_OUTLOOKS, MOST_OUTLOOKS + 1, 60])
def test_every_partition_that_waits_is_under_a_reason(count: int) -> None:
    chosen = random.Random(count)
    partitions = {f"reason {at}": {f"2012-{chosen.randint(1, 12):02}" for _ in range(3)} for at in range(count)}
    shown = listed(partitions)
    assert len(shown) == min(count, MOST_OUTLOOKS)
    assert set().union(*(keys for _, keys in shown)) == set().union(*partitions.values())
    if count > MOST_OUTLOOKS:
        more = count - MOST_OUTLOOKS + 1
        assert shown[-1][0] == f"{more} other reasons: bikes status lists them"
