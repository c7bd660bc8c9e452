"""The table of guards is of the code and the tests as they are."""

from __future__ import annotations

import pytest

from bikes_assets_tests.guards.table import GUARDS, ROOT, Guard


@pytest.mark.parametrize("guard", GUARDS, ids=str)
def test_a_guard_stands_once_in_its_file_and_its_tests_are_there(guard: Guard) -> None:
    assert guard.stands() == 1
    for test in guard.tests:
        file, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}(" in (ROOT / file).read_text()
