"""Declared column lineage held against functions: planted faults are named, honest functions are not, limits are as told."""

from __future__ import annotations

import doctest
import json
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.linear_model import LinearRegression

from bikes_assets.core.errors import FeatureError, LineageError
from bikes_assets.verification import column_lineage as module
from bikes_assets.verification.column_lineage import Dependency, Evidence, Window, check
from bikes_assets.verification.invariants import Ordered, Rising, Total, Unique
from bikes_assets.verification.side_inputs import signals
from bikes_assets.verification.tables import assert_column_lineage
from bikes_assets_tests.core import faults_corpus as corpus
from bikes_assets_tests.core.faults_corpus import FAULTS, LIMITS, Fault
from bikes_assets_tests.fire.processes import SOAK

HOURS = corpus.hours()


def checked(makers: dict[str, Any], declared: dict[str, Any], seed: int = 0, **more: Any) -> Evidence:
    """Return what is found of a table of several columns, each made by a function of its own."""
    corpus.FIRST.clear()
    settings = {"target": corpus.TARGET, "horizon": corpus.HORIZON, "history": corpus.HISTORY, **more}
    return check(
        lambda raw: corpus.made(raw, makers), HOURS, declared, key="ts", schema=corpus.SCHEMA, seed=seed, **settings
    )


def test_whoever_waits_is_told_of_each_perturbed_table() -> None:
    told: list[tuple[str, int]] = []
    found = check(
        lambda raw: raw.assign(wet=raw["weathersit"] > 2)[["ts", "wet"]],
        HOURS,
        {"wet": ["weathersit"]},
        key="ts",
        progress=lambda check, tables: told.append((check, tables)),
    )
    assert [tables for _, tables in told] == [*range(1, found.trials + found.blocked_trials + 1)]
    assert {check for check, _ in told} == {*found.checks}


def said_of(found: Evidence, fault: Fault) -> set[tuple[str, str]]:
    """Return what is output_of of a fault: check and column."""
    not_observed = {("not observed", column) for output, column in found.not_observed if output == fault.name}
    return not_observed | {(item.check, item.column) for item in found.findings if item.output == fault.name}


def is_named(fault: Fault, output_of: set[tuple[str, str]]) -> bool:
    return any((fault.check, column) in output_of for column in fault.column.split(" or "))


# Planted faults


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(50 if SOAK else 1))
def test_every_planted_fault_is_named_with_its_column(seed: int) -> None:
    faults = [fault for fault in FAULTS if fault.check != "repeat"]
    found = checked(
        {fault.name: fault.make for fault in faults},
        {fault.name: fault.declared for fault in faults},
        seed,
        windows={(fault.name, fault.declared[-1]): window for fault in faults for window in fault.windows},
    )
    missed = {fault.name: said_of(found, fault) for fault in faults if not is_named(fault, said_of(found, fault))}
    assert not missed


def test_the_corpus_holds_forty_faults_of_each_kind() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 40
    assert {fault.check for fault in FAULTS} == {
        "undeclared influence", "not observed", "time", "windows", "presence", "slice", "order", "type", "repeat",
    }  # fmt: skip


def test_a_function_that_does_not_repeat_itself_is_told_and_nothing_else_is_said() -> None:
    found = checked({"chance": next(fault.make for fault in FAULTS if fault.name == "chance")}, {"chance": ["hum"]})

    assert [(item.check, item.output) for item in found.findings] == [("repeat", "chance")]


def test_what_no_disturbance_shows_is_told_by_the_code_or_is_a_limit() -> None:
    """Another column reads all that they do: else the table of the declared columns alone would lack it."""
    declared = dict.fromkeys(LIMITS, ("temp",)) | {"swapped_in_one_signature": ("hum", "temp")}
    declared["everything"] = ("holiday", "weathersit", "hum", "casual", "registered", "cnt")
    makers = {name: make for name, (make, _) in LIMITS.items()}
    makers["everything"] = lambda grid, _: grid[[*declared["everything"]]].shift(24).sum(axis=1)
    found = checked(makers, declared)

    assert not found.findings
    for make, word in LIMITS.values():
        assert word in " ".join(signals(make))


def test_a_column_that_is_read_and_declared_nowhere_fails_the_restricted_run() -> None:
    def wet(frame: pd.DataFrame) -> pd.DataFrame:
        unless_never = frame["hum"] < -1
        return frame[["ts"]].assign(wet=(frame["weathersit"].fillna(1) > 2) | unless_never)

    found = check(wet, HOURS, {"wet": ["weathersit"]}, key="ts", schema=corpus.SCHEMA)

    assert [(item.check, item.column) for item in found.findings] == [("restricted run", "hum")]
    assert found.findings[0].message == "it fails without hum, which no column declares: KeyError: 'hum'"


# What is found of honest functions


def honest(frame: pd.DataFrame) -> pd.DataFrame:
    """Return columns that are what `HONEST` says, by a plain pandas function."""
    grid = corpus.on_grid(frame)
    grid["lag"] = grid["cnt"].shift(24)
    grid["level"] = grid["cnt"].rolling(48, min_periods=1).mean().shift(24)
    grid["mild"] = grid["temp"].between(0.3, 0.5) & (grid["weathersit"] < 3)
    grid["unknown"] = grid["hum"].isna().astype(int)
    grid["night"] = grid["ts"].dt.hour < 6
    grid["kind"] = grid["weathersit"].map({1.0: "clear", 2.0: "mist"})
    return grid.loc[grid["ts"].isin(frame["ts"]), ["ts", *HONEST]]


HONEST = {
    "lag": ["cnt"],
    "level": ["cnt"],
    "mild": ["temp", "weathersit"],
    "unknown": ["hum"],
    "night": ["ts"],
    "kind": ["weathersit"],
}
SETTINGS: dict[str, Any] = {
    "key": "ts", "schema": corpus.SCHEMA, "target": corpus.TARGET, "horizon": 24, "history": 72,
}  # fmt: skip


def test_an_honest_function_is_proven_and_its_windows_are_observed() -> None:
    found = check(honest, HOURS, HONEST, **SETTINGS)

    assert found.holds, found.findings
    assert {(edge.output, edge.input): edge.state for edge in found.edges} == {
        ("lag", "cnt"): "observed",
        ("level", "cnt"): "observed",
        ("mild", "temp"): "observed",
        ("mild", "weathersit"): "observed",
        ("unknown", "hum"): "missing only",
        ("night", "ts"): "observed",
        ("kind", "weathersit"): "observed",
    }
    observed = {edge.output: edge.observed for edge in found.edges}
    assert (observed["lag"], observed["level"]) == (Window(24, 24), Window(71, 24))
    assert (found.rows, found.unchecked, found.blocked) == (len(HOURS), (), ())


def lagged(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the demand of a day before, by hours and not by rows."""
    return frame.sort("ts").upsample("ts", every="1h").select("ts", lag=pl.col("cnt").shift(24))


def test_the_same_seed_gives_the_same_evidence_ready_for_json() -> None:
    one, other = (check(lagged, pl.from_pandas(HOURS), {"lag": ["temp"]}, seed=3, **SETTINGS) for _ in range(2))

    assert one == other
    assert json.loads(json.dumps(one.to_dict()))["holds"] is False


def test_polars_expressions_hold() -> None:
    def features(frame: pl.DataFrame) -> pl.DataFrame:
        ordered = frame.sort("ts").upsample("ts", every="1h")
        return ordered.select("ts", before=pl.col("temp").shift(2), wet=pl.col("weathersit") > 2)

    frame = pl.from_pandas(HOURS)
    declared = {"before": ["temp"], "wet": ["weathersit"]}
    found = check(features, frame, declared, key="ts", schema=corpus.SCHEMA, history=2)
    assert (found.holds, found.not_observed) == (True, ())

    found = check(features, frame, declared | {"before": ["hum"]}, key="ts", schema=corpus.SCHEMA)
    assert {(item.check, item.output, item.column) for item in found.findings} == {
        ("restricted run", "", "temp"),
        ("undeclared influence", "before", "temp"),
    }
    assert found.not_observed == (("before", "hum"),)


def test_a_models_predictions_are_matched_by_position() -> None:
    inputs = HOURS.assign(**{name: HOURS[name].astype(float) for name in HOURS.columns.drop("ts")}).dropna()
    names = ["temp", "hum"]
    model = LinearRegression().fit(inputs[names], inputs["cnt"])
    found = check(lambda frame: model.predict(frame[names]), inputs, {"prediction": names}, key="ts")
    assert (found.findings, found.not_observed) == ((), ())
    assert "ValueError" in found.blocked[0]  # it takes no missing value, which says nothing of what it reads

    found = check(lambda frame: model.predict(frame[names]), inputs, {"prediction": ["temp"]}, key="ts")
    assert {(item.output, item.column) for item in found.findings} >= {("prediction", "hum")}


def test_columns_that_decide_which_rows_there_are() -> None:
    def known(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.loc[frame["hum"] > 0.5, ["ts", "temp"]]

    assert check(known, HOURS, {"temp": ["temp"]}, key="ts", schema=corpus.SCHEMA, rows=["hum"]).holds
    found = check(known, HOURS, {"temp": ["temp"]}, key="ts", schema=corpus.SCHEMA)
    assert ("(rows)", "hum") in {(item.output, item.column) for item in found.findings}


def test_a_function_that_keeps_copies_apart_is_computed_on_many_at_once_and_says_the_same() -> None:
    calls: list[int] = []

    def features(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
        calls.append(len(frame))
        ordered = frame.sort_values([*by, "ts"])
        before = ordered.groupby(by)["temp"].shift(1) if by else ordered["temp"].shift(1)
        return ordered[[*by, "ts"]].assign(before=before)

    def apart(frame: pd.DataFrame) -> pd.DataFrame:
        return features(frame, [name for name in ["copy"] if name in frame])

    def mixed(frame: pd.DataFrame) -> pd.DataFrame:
        return features(frame, []).assign(copy=frame.get("copy"))

    together, one_by_one, wrongly = (
        check(function, HOURS, {"before": ["hum"]}, key="ts", schema=corpus.SCHEMA, copy=copy)
        for function, copy in ((apart, "copy"), (apart, ""), (mixed, "copy"))
    )
    assert max(calls) > 20 * len(HOURS)
    assert together.findings == one_by_one.findings == wrongly.findings
    assert together.edges == one_by_one.edges == wrongly.edges


def test_many_rows_are_tried_in_slices_and_compared_with_all() -> None:
    draw = np.random.default_rng(1)
    frame = pd.DataFrame({"ts": np.arange(60_000), "one": draw.random(60_000), "two": draw.integers(0, 9, 60_000)})
    frame["two"] = frame["two"].astype("Int64")

    def features(table: pd.DataFrame) -> pd.DataFrame:
        table = table.sort_values("ts").set_index("ts").reindex(range(table["ts"].min(), table["ts"].max() + 1))
        return pd.DataFrame({"lag": table["two"].shift(3), "rank": table["one"].rank(pct=True)}).reset_index(names="ts")

    found = check(features, frame, {"lag": ["two"], "rank": ["one"]}, key="ts", history=3)
    assert {item.output for item in found.findings} == {"rank"}
    assert {item.check for item in found.findings} == {"time", "slice", "windows"} - {"windows"}
    assert found.rows == 60_000


# What is refused, and the helper


@pytest.mark.parametrize(
    ("declared", "frame", "error", "words"),
    [
        ({"lag": ["rain"]}, HOURS, LineageError, "rain is declared to be read, but the table has ts, holiday"),
        ({"wind": ["temp"]}, HOURS, LineageError, "the function makes no wind; it makes ts, lag"),
        ({"lag": ["cnt"]}, pd.concat([HOURS, HOURS]), LineageError, "found a row's ts twice"),
        (
            {"lag": ["cnt"]},
            HOURS.drop(columns="cnt").assign(cnt="many"),
            FeatureError,
            "cannot be computed on the table",
        ),
    ],
)
def test_what_cannot_be_checked_is_refused(declared, frame, error, words) -> None:
    with pytest.raises(error, match=words):
        check(honest, frame, declared, **({**SETTINGS, "target": (), "horizon": 0} if "lag" in declared else SETTINGS))


RAINS = pd.DataFrame(
    {
        "ts": pd.date_range("2012-08-01", periods=200, freq="h"),
        "rain": [number % 3 for number in range(200)],
        "cnt": [number * 7 % 90 for number in range(200)],
    }
)


def wet(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a feature of the rain."""
    return pd.DataFrame({"ts": frame["ts"], "wet": frame["rain"] > 1})


def leaky(frame: pd.DataFrame) -> pd.DataFrame:
    """Return that, and one that knows the target too early."""
    return wet(frame).assign(recent=frame["cnt"].shift(1))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"target": "count", "horizon": 24}, "count is declared to be the target, but the table has ts, rain, cnt"),
        (
            {"target": ["cnt", "casual"], "horizon": 24},
            "casual is declared to be the target, but the table has ts, rain",
        ),
        ({"horizon": 24}, "a horizon of 24 is declared without a target; name the column"),
        ({"target": "cnt"}, "cnt is declared to be the target with a horizon of 0, expected 1 or more"),
        ({"target": ["cnt", "rain"], "horizon": -1}, "cnt, rain are declared to be the target with a horizon of -1"),
        ({"key": "time"}, "time is declared to be the key, but the table has ts, rain, cnt"),
        ({"rows": ["count", "actual"]}, "actual, count are declared to be read, but the table has ts, rain, cnt"),
        (
            {"windows": {("recent", "count"): Window(24, 24)}},
            "a window is declared of recent on count, but recent is not declared to be computed from count",
        ),
        (
            {"invariants": [Total("count", ("cnt", "rain"))]},
            r"Total\(column='count', parts=\('cnt', 'rain'\)\) names count, but the table has ts, rain, cnt",
        ),
        (
            {"invariants": [Ordered("rain", "high")]},
            r"Ordered\(columns=\('rain', 'high'\)\) names high, but the table has",
        ),
        ({"invariants": [Rising("rain", "time")]}, r"Rising\(.*\) names time, but the table has ts, rain, cnt"),
        (
            {"invariants": [Unique("ticket")]},
            r"Unique\(column='ticket'\) names ticket, but the table has ts, rain, cnt",
        ),
    ],
)
def test_a_name_that_is_not_there_is_refused_for_what_it_protects_would_pass(settings: Any, words: str) -> None:
    with pytest.raises(LineageError, match=f"^{words}"):
        check(leaky, RAINS, {"wet": ["rain"], "recent": ["cnt"]}, **{"key": "ts", **settings})


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda _: None, "None"),
        (lambda frame: frame["rain"], "Series"),
        (lambda _: {"wet": 1}, "dict"),
        (lambda _: 3, "int"),
        (lambda frame: frame[["rain", "cnt"]].to_numpy(), r"an array of shape \(200, 2\)"),
        (lambda frame: frame["rain"].map({0: "dry", 1: "wet", 2: "wet"}).to_numpy(), "ndarray"),
    ],
)
def test_what_is_neither_a_frame_nor_an_array_of_its_rows_is_refused(function: Any, found: str) -> None:
    expected = "expected a frame with ts and wet among its columns, or an array with a number for each row"
    with pytest.raises(LineageError, match=f"^the function returns {found}, {expected}$"):
        check(function, RAINS, {"wet": ["rain"]}, key="ts")


def test_a_table_without_rows_is_refused() -> None:
    with pytest.raises(LineageError, match="the table has no rows, expected some hundred, each with a ts of its own"):
        check(leaky, RAINS[:0], {"wet": ["rain"]}, key="ts")


def test_what_is_made_and_not_declared_does_not_hold() -> None:
    told = "undeclared: the function makes recent, of which nothing is declared; declare the columns that it is computed from"
    settings: dict[str, Any] = {"declared": {"wet": ["rain"]}, "key": "ts", "target": "cnt", "horizon": 24}

    with pytest.raises(AssertionError, match=f"^{told}$"):
        assert_column_lineage(leaky, RAINS, **settings)
    with pytest.warns(UserWarning, match=f"^{told}$"):
        found = assert_column_lineage(leaky, RAINS, unverified="warn", **settings)
    assert (found.undeclared, found.holds, found.findings) == (("recent",), False, ())
    # the key needs no declaration
    assert assert_column_lineage(wet, RAINS, **settings).undeclared == ()


def test_the_helper_raises_with_all_findings_and_on_demand_with_what_was_never_seen() -> None:
    with pytest.raises(AssertionError, match=r"undeclared influence: lag moves at .* when cnt is redrawn"):
        assert_column_lineage(lagged, pl.from_pandas(HOURS), declared={"lag": ["temp"]}, **SETTINGS)
    more = {"lag": ["cnt", "hum"]}
    assert isinstance(
        assert_column_lineage(lagged, pl.from_pandas(HOURS), declared=more, **SETTINGS).edges[0], Dependency
    )
    with pytest.raises(AssertionError, match=r"^declared, not observed: lag is declared to be computed from hum$"):
        assert_column_lineage(lagged, pl.from_pandas(HOURS), declared=more, is_complete=True, **SETTINGS)


def test_the_example_of_the_helper_is_true() -> None:
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0
