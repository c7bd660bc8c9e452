"""Which functions may contribute to which columns, by the names in their texts."""

from __future__ import annotations

import pytest

from bikes_assets.core.source_text import contributing

TEXTS = {
    "d.features.made": "def made(rentals, month):\n    return compute(rentals, FEATURES, _grid(month))",
    "d.features.compute": "def compute(frame, functions, grid): ...",
    "d.features._grid": "def _grid(month): return SCALE * month",
    "d.features.FEATURES": "FEATURES = (temperature, level, trend, lag)",
    "d.features.SCALE": "SCALE = 10",
    "d.features.HOURS": "HOURS = 24",
    "d.features._ratio": "def _ratio(part, whole): return part / whole",
    "d.features.temperature": "def temperature(temp): return temp * SCALE",
    "d.features.level": "def level(cnt): return _ratio(cnt, HOURS)",
    "d.features.trend": "def trend(cnt, level): return _ratio(cnt, level)",
    "d.features.lag": "def lag(cnt): return cnt.shift(HOURS)",
}
COLUMNS = ("ts", "temperature", "level", "trend", "lag")
ALWAYS = {"made", "compute", "_grid", "FEATURES", "SCALE"}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["temperature"], {"temperature"}),
        (["level"], {"level", "_ratio", "HOURS"}),
        (["trend"], {"trend", "level", "_ratio", "HOURS"}),  # it reads the level
        (["lag"], {"lag", "HOURS"}),
        (["ts"], set()),
        (COLUMNS, {"temperature", "level", "trend", "lag", "_ratio", "HOURS"}),
    ],
)
def test_only_what_can_contribute_to_what_is_asked_about(asked, expected) -> None:
    found = contributing(TEXTS, COLUMNS, asked)
    assert {place.rpartition(".")[2] for place in found} == ALWAYS | expected


def test_all_may_where_a_text_is_not_known_or_no_function_bears_the_name_of_a_column() -> None:
    assert contributing({**TEXTS, "d.features.lag": ""}, COLUMNS, ["temperature"]) == {*TEXTS}
    assert contributing(TEXTS, ["x", "y"], ["x"]) == {*TEXTS}
