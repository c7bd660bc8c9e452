"""Removing from a lake at a URL: what holds in a folder holds there too."""

from __future__ import annotations

import pytest
from upath import UPath

from bikes_assets.core.errors import RemovedError
from bikes_assets.governance.holds import hold, holds, release
from bikes_assets_tests.governance import test_retention as in_a_folder
from bikes_assets_tests.governance.test_retention import Small, states

test_a_hold_at_the_last_moment = in_a_folder.test_a_hold_that_is_put_while_it_is_being_removed_keeps_everything
test_a_model_file = in_a_folder.test_a_model_file_goes_with_the_last_version_that_names_it


@pytest.fixture
def small(s3: str) -> Small:
    return Small(UPath(s3))  # type: ignore[arg-type]


def test_what_nothing_live_needs_goes_and_what_is_held_stays(small: Small) -> None:
    # Given
    old, held, present = (small.raw("2012 01/ä", number) for number in range(3))
    files = {str(path) for path in UPath(small.lake.uri("raw")).rglob("*.parquet")}
    hold(small.lake.location, held.address, held.address, reason="an audit", user="somebody")
    # When
    done = small.apply()
    # Then
    assert [item.address for item in done.going] == [old.address]
    assert {str(path) for path in UPath(small.lake.uri("raw")).rglob("*.parquet")} == files - set(done.files)
    assert len(done.files) == 1
    assert [small.read(item).num_rows for item in (held, present)] == [3, 3]
    with pytest.raises(RemovedError, match="were removed by retention on"):
        small.read(old)
    # And a release lets go of it
    release(small.lake.location, held.address, reason="over", user="somebody")
    small.apply()
    assert holds(small.lake.location) == []
    assert states(small.look()) == {old.address: "removed", held.address: "removed", present.address: "current"}
