"""Why two versions differ, of records that are written down here: what is a cause, what is none, and what mirrors what."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bikes_assets.core.record import Record, Use, Version
from bikes_assets.lineage.diff import (
    Cell,
    Change,
    CodeChange,
    Difference,
    FunctionChange,
    InputChange,
    Known,
    RowChange,
    changes,
    compare,
    compare_rows,
    explain,
)

JAN, FEB = "2011-01", "2011-02"


def version(asset: str, partition: str, number: int, digest: str) -> Version:
    return Version(asset, partition, number, digest)


def record(output: Version, *inputs: Version, columns: Mapping[str, str] | None = None, **values: Any) -> Record:
    values = {"code_version": "code", "config": {}, "environment": {}, "made_by": {}} | values
    return Record(output=output, columns=dict(columns or {}), inputs=inputs, **values)


def fitted(number: int, digest: str, *inputs: Version, validation: str = FEB, **values: Any) -> Record:
    """Return the record of a model, fitted on all inputs but those of a month."""
    months = {
        "training": tuple(str(item.partition) for item in inputs if item.partition != validation),
        "validation": (validation,),
    }
    uses = tuple(Use(context, "features", keys, "", 0, {}) for context, keys in months.items())
    models = ({"origin": "", "sha256": digest * 2},)
    return record(version("model", "2011-03", number, digest), *inputs, models=models, datasets=uses, **values)


class Written(Known):
    """Knows the records, functions and column lineage that it is given."""

    def __init__(
        self,
        *records: Record,
        codes: Mapping[str, Mapping[str, str]] | None = None,
        texts: Mapping[str, str] | None = None,
        lineage: Mapping[str, Mapping[str, Mapping[str, Collection[str]]]] | None = None,
    ) -> None:
        self.records = {item.output.address: item for item in records}
        self.codes, self.texts, self.lineage = codes or {}, texts or {}, lineage or {}

    def record(self, version: Version) -> Record | None:
        return self.records.get(version.address)

    def functions(self, code_version: str) -> Mapping[str, str] | None:
        return self.codes.get(code_version)

    def text(self, digest: str) -> str | None:
        return self.texts.get(digest)

    def used(self, record: Record, columns: Collection[str]) -> Mapping[str, Collection[str]] | None:
        computed_from = self.lineage.get(record.output.asset)
        if computed_from is None:
            return None
        found: dict[str, set[str]] = {}
        for column in columns:
            for asset, names in computed_from.get(column, {}).items():
                found.setdefault(asset, set()).update(names)
        return found

    def key(self, asset: str) -> Collection[str]:
        return () if asset == "model" else ("ts",)


OLD, NEW = version("features", JAN, 1, "old"), version("features", JAN, 5, "new")
SAME = version("features", FEB, 2, "same")
OLD_COLUMNS, NEW_COLUMNS = {"ts": "0", "hum": "1", "lag": "2"}, {"ts": "0", "hum": "1", "lag": "9"}


def test_an_input_that_was_made_again_with_the_same_digest_is_no_cause() -> None:
    found = compare(fitted(1, "a", SAME, OLD), fitted(2, "b", replace(SAME, version=9), NEW))
    assert [(item.address, item.part) for item in found.inputs] == [("features[2011-01]", "content")]


def test_an_input_that_one_of_them_read_is_named_with_which() -> None:
    one = record(version("table", FEB, 1, "a"), OLD)
    other = record(version("table", FEB, 2, "b"), SAME)
    assert [(item.address, item.only) for item in compare(one, other).inputs] == [
        ("features[2011-01]", "a"),
        ("features[2011-02]", "b"),
    ]


def test_what_a_model_was_judged_on_has_a_part_in_its_figures_alone() -> None:
    changed = replace(SAME, digest="changed", version=7)
    found = compare(fitted(1, "a", OLD, SAME), fitted(2, "a", OLD, changed))
    assert [(item.address, item.part, item.roles) for item in found.inputs] == [
        ("features[2011-02]", "metrics", ("validation", "validation"))
    ]
    assert [(cause.what, cause.part) for cause in found.causes] == [("features[2011-02]", "metrics")]


def test_rows_that_were_judged_on_and_are_fitted_on_are_a_cause_although_they_are_the_same() -> None:
    found = compare(fitted(1, "a", OLD, SAME), fitted(2, "b", OLD, SAME, validation="2011-04"))
    assert [(item.address, item.part, item.roles) for item in found.inputs] == [
        ("features[2011-02]", "content", ("validation", "training"))
    ]


@pytest.mark.parametrize(
    ("used", "part", "columns"),
    [
        ({}, "content", ("lag",)),
        ({"features": ["hum"]}, "none", ("lag",)),
        ({"features": ["hum", "lag"]}, "content", ("lag",)),
    ],
    ids=["not recorded", "another column", "the column"],
)
def test_a_column_that_did_not_go_in_has_no_part(
    used: dict[str, list[str]], part: str, columns: tuple[str, ...]
) -> None:
    known = Written(record(OLD, columns=OLD_COLUMNS), record(NEW, columns=NEW_COLUMNS))
    found = explain(fitted(1, "a", OLD, used=used), fitted(2, "b", NEW, used=used), known)
    assert [(item.part, item.columns) for item in found.inputs] == [(part, columns)]
    assert bool(found.idle) == (part == "none")
    # what is upstream of what had no part is not looked at
    assert [item.a for item in found.upstream] == ([] if part == "none" else [OLD])


def test_a_key_always_has_a_part() -> None:
    known = Written(record(OLD, columns=OLD_COLUMNS), record(NEW, columns=OLD_COLUMNS | {"ts": "8"}))
    used = {"features": ["hum"]}
    (item,) = compare(fitted(1, "a", OLD, used=used), fitted(2, "b", NEW, used=used), known).inputs
    assert (item.part, item.columns) == ("content", ("ts",))


def test_the_roots_are_found_through_the_columns_that_differ() -> None:
    """The weather of the raw table differs too, but the features that differ are not computed from it."""
    raw = [version("raw", JAN, number, digest) for number, digest in ((1, "x"), (2, "y"))]
    source = [version("source", JAN, number, digest) for number, digest in ((1, "s"), (2, "t"))]
    pins = [version("weather", JAN, number, digest) for number, digest in ((1, "v"), (2, "w"))]
    known = Written(
        record(OLD, raw[0], pins[0], columns=OLD_COLUMNS),
        record(NEW, raw[1], pins[1], columns=NEW_COLUMNS, config={"window": 3}),
        record(raw[0], source[0], columns={"ts": "0", "cnt": "1", "hum": "1"}),
        record(raw[1], source[1], columns={"ts": "0", "cnt": "2", "hum": "1"}),
        record(pins[0], columns={"ts": "0", "hum": "1"}),
        record(pins[1], columns={"ts": "0", "hum": "2"}),
        lineage={"features": {"lag": {"raw": ["cnt"]}, "hum": {"weather": ["hum"]}}},
    )
    found = explain(fitted(1, "a", OLD), fitted(2, "b", NEW), known)
    assert {(cause.kind, cause.what) for cause in found.causes} == {
        ("input", "source[2011-01]"),
        ("config", "features.window"),
    }
    assert [item.address for item in found.idle] == ["weather[2011-01]"]
    assert [item.a.address for item in found.upstream] == ["features[2011-01]@1", "raw[2011-01]@1"]


def test_functions_are_named_once_with_their_text_whatever_they_went_into() -> None:
    known = Written(
        record(OLD, columns=OLD_COLUMNS, code_version="f1"),
        record(NEW, columns=NEW_COLUMNS, code_version="f2"),
        codes={"m1": {"p.f": "1", "p.g": "5"}, "m2": {"p.f": "2", "p.h": "6"}, "f1": {"p.f": "1"}, "f2": {"p.f": "2"}},
        texts={"1": "def f():\n    return 1\n", "2": "# one more\ndef f():\n    return 2\n", "6": "def h(): ...\n"},
    )
    found = explain(fitted(1, "a", OLD, code_version="m1"), fitted(2, "b", NEW, code_version="m2"), known)
    causes = {cause.what: cause for cause in found.causes}
    assert {name: cause.of for name, cause in causes.items()} == {
        "p.f": ("model", "features"),
        "p.g": ("model",),
        "p.h": ("model",),
    }
    changed, gone, new = (causes[name].change for name in ("p.f", "p.g", "p.h"))
    assert isinstance(changed, FunctionChange)
    assert changed.text.splitlines()[3:] == ["+# one more", " def f():", "-    return 1", "+    return 2"]
    assert gone == FunctionChange("p.g", "gone")
    assert gone.text == ""
    assert isinstance(new, FunctionChange)
    assert "+def h(): ..." in new.text


def test_settings_are_compared_part_by_part() -> None:
    one = {"seed": 0, "parameters": {"rate": 0.1, "loss": "poisson"}, "level": None, "on": True}
    other = {"seed": 0, "parameters": {"rate": 0.2, "depth": 3}, "on": 1}
    assert changes(one, other) == (
        Change("level", None, None, "a"),
        Change("on", True, 1),
        Change("parameters.depth", None, 3, "b"),
        Change("parameters.loss", "poisson", None, "a"),
        Change("parameters.rate", 0.1, 0.2),
    )


@pytest.mark.parametrize(
    ("environment", "kind"), [({"libraries": {"numpy": "2"}}, "environment"), ({}, "unknown")], ids=["numpy", "nothing"]
)
def test_where_nothing_else_differs_it_is_the_environment_or_unknown(environment: dict[str, Any], kind: str) -> None:
    found = compare(fitted(1, "a", OLD), fitted(2, "b", OLD, environment=environment))
    assert [(cause.kind, cause.what) for cause in found.causes] == [(kind, "model")]


def test_the_environment_alone_is_no_cause_of_equal_content() -> None:
    found = compare(fitted(1, "a", OLD), fitted(2, "a", OLD, environment={"python": "3.12"}))
    assert found.equal
    assert found.causes == ()
    assert found.surroundings == (Change("python", None, "3.12", "b"),)


def table(*rows: tuple[int, float | None, str]) -> pa.Table:
    names = ("ts", "hum", "name")
    types = (pa.int64(), pa.float64(), pa.string())
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return pa.table({name: pa.array(values, kind) for name, values, kind in zip(names, columns, types, strict=True)})


def test_rows_are_compared_by_key() -> None:
    a = table((1, 0.5, "x"), (2, None, "x"), (3, 0.0, "x"), (4, 1.0, "x"))
    b = table((2, 0.5, "x"), (3, -0.0, "y"), (4, 1.0, "x"), (5, 1.0, "x"), (6, 1.0, "x"))
    found = compare_rows(a, b, ["ts"])
    assert (found.added, found.removed, found.changed) == (2, 1, 2)
    assert found.columns == {"hum": 2, "name": 1}
    assert found.cells == (Cell((2,), "hum", None, 0.5), Cell((3,), "hum", 0.0, -0.0), Cell((3,), "name", "x", "y"))


def test_a_difference_survives_json() -> None:
    known = Written(codes={"1": {"p.f": "1"}, "2": {"p.f": "2"}}, texts={"1": "1\n", "2": "2\n"})
    found = compare(fitted(1, "a", OLD, code_version="1"), fitted(2, "b", NEW, code_version="2"), known)
    told = json.loads(json.dumps(found.to_dict()))
    assert (told["equal"], [cause["kind"] for cause in told["causes"]]) == (False, ["input", "code"])
    assert told["causes"][1]["text"].endswith("-1\n+2")


DIGESTS = st.sampled_from("0123")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "x"]),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "a.b"]), inner, max_size=2),
    max_leaves=3,
)
CONFIGS = st.dictionaries(st.sampled_from(["a", "b", "a.b"]), VALUES, max_size=3)
KEYS = st.dictionaries(st.tuples(st.sampled_from(["x", "y"]), st.sampled_from([JAN, FEB])), DIGESTS, max_size=4)


@st.composite
def records(draw: st.DrawFn) -> Record:
    inputs = [Version(*key, draw(st.integers(1, 3)), digest) for key, digest in draw(KEYS).items()]
    return record(
        version("table", draw(st.sampled_from([JAN, FEB])), draw(st.integers(1, 3)), draw(DIGESTS)),
        *inputs,
        columns=draw(st.dictionaries(st.sampled_from(["ts", "c"]), DIGESTS)),
        code_version=draw(DIGESTS),
        config=draw(CONFIGS),
        environment=draw(CONFIGS),
        metrics=draw(st.dictionaries(st.sampled_from(["rmse", "r2"]), st.floats(0, 1))),
        checks=draw(st.dictionaries(st.sampled_from(["skill"]), st.booleans())),
    )


KNOWN = Written(
    codes={"0": {}, "1": {"p.f": "1"}, "2": {"p.f": "2", "p.g": "3"}},
    texts={"1": "def f(): ...\n", "2": "def f():\n    pass\n", "3": "G = 1\n"},
)
TURNED = {"a": "b", "b": "a", "": ""}


def mirrored(value: Any) -> Any:
    """Return a difference, or a part of one, as it is seen from the other side."""
    match value:
        case Change() | FunctionChange() | CodeChange() | InputChange() | Difference():
            parts = {name: mirrored(getattr(value, name)) for name in type(value).__dataclass_fields__}
            parts |= {"a": parts["b"], "b": parts["a"]}
            if isinstance(value, Change):
                parts["only"] = TURNED[value.only]
            if isinstance(value, FunctionChange):
                parts["change"] = {"new": "gone", "gone": "new", "changed": "changed"}[value.change]
            if isinstance(value, InputChange):
                parts["roles"] = value.roles[::-1]
            return type(value)(**parts)
        case tuple():
            return tuple(map(mirrored, value))
        case _:
            return value


@given(records(), records())
def test_a_difference_mirrors_that_of_the_other_way_round(a: Record, b: Record) -> None:
    there, back = explain(a, b, KNOWN), explain(b, a, KNOWN)
    names = {*there.columns}
    assert replace(back, columns=()) == replace(mirrored(there), columns=())
    assert {*back.columns} == names
    assert {(cause.kind, cause.what) for cause in there.causes} == {(cause.kind, cause.what) for cause in back.causes}


@given(records())
def test_nothing_differs_from_itself(item: Record) -> None:
    found = explain(item, item, KNOWN)
    assert found == Difference(item.output, item.output)
    assert found.equal
    assert found.causes == ()


@given(CONFIGS, CONFIGS)
def test_settings_differ_where_their_json_does(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert bool(changes(a, b)) == (json.dumps(a, sort_keys=True) != json.dumps(b, sort_keys=True))


ROWS = st.dictionaries(
    st.integers(0, 5), st.tuples(st.none() | st.sampled_from([0.0, -0.0, 1.0]), st.sampled_from("xy"))
)


@given(ROWS, ROWS)
def test_rows_differ_as_dictionaries_by_key_do(a: dict[int, Any], b: dict[int, Any]) -> None:
    found = compare_rows(*(table(*((key, *rest) for key, rest in rows.items())) for rows in (a, b)), ["ts"])
    back = compare_rows(*(table(*((key, *rest) for key, rest in rows.items())) for rows in (b, a)), ["ts"])
    both = a.keys() & b.keys()
    assert (found.added, found.removed) == (len(b.keys() - a.keys()), len(a.keys() - b.keys()))
    assert found.changed == sum(repr(a[key]) != repr(b[key]) for key in both)
    assert found.columns.get("hum", 0) == sum(repr(a[key][0]) != repr(b[key][0]) for key in both)
    turned = tuple(Cell(cell.key, cell.column, cell.b, cell.a) for cell in found.cells)
    assert back == RowChange(found.removed, found.added, found.changed, found.columns, turned)
