"""What the index takes from events of tables whose column lineage is declared in part, or through a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from bikes_assets.core.record import Record, Version
from bikes_assets.lineage.elements import COLUMN
from bikes_assets.lineage.index import Index
from bikes_assets.lineage.projection import MaterializedEvent, Projection

FEATURES, MODEL = Version("features", None, 1, "f1"), Version("model", None, 1, "m1")
DECLARED = {
    "day": [("features", "day")],
    "expected": [("features", "level"), ("model", "*")],
    "predicted": [("model", "*")],
}


def materialized(
    event: int, output: Version, columns: str, inputs: tuple[Version, ...], lineage=None
) -> MaterializedEvent:
    record = Record(output, dict.fromkeys(columns.split(), "c"), inputs, "", {}, {}, {}, time=float(event))
    return MaterializedEvent(event, float(event), record, lineage or {})


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Return an index of features, and of predictions that are declared but for one column."""
    found = Index(tmp_path / "index.db")
    first = materialized(1, FEATURES, "day level", ())
    second = materialized(
        2, Version("predictions", None, 1, "p1"), "day expected predicted other", (FEATURES, MODEL), DECLARED
    )
    for event in (first, second):
        found.append([Projection(found, {}).fact(event)])
    return found


def upstream(index: Index) -> dict[str, set[tuple[str, str]]]:
    """Return what each column of the predictions is computed from, and how."""
    names = ("day", "expected", "predicted", "other")
    edges = {name: index.neighbours(COLUMN, f"predictions.{name}", "upstream") for name in names}
    return {name: {(edge.source[1], edge.kind) for edge in found} for name, found in edges.items()}


def test_a_column_that_a_declaration_leaves_out_is_computed_from_all_that_was_read(index: Index) -> None:
    assert upstream(index) == {
        "day": {("features.day", "direct")},
        "expected": {("features.level", "direct"), ("model.*", "indirect")},
        "predicted": {("model.*", "indirect")},
        "other": {("features.day", "undeclared"), ("features.level", "undeclared"), ("model.*", "indirect")},
    }


def test_an_event_that_is_reported_later_has_the_lineage_of_the_one_before(index: Index) -> None:
    before = upstream(index)
    later = materialized(3, Version("predictions", None, 2, "p2"), "day expected predicted other", (FEATURES, MODEL))
    index.append([Projection(index, {}).fact(later)])
    assert upstream(index) == before
