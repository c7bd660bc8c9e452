"""The one rule of what is stale, by itself: what differs, what is due, what waits, and what one run takes together."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bikes_assets.core.record import Record, Version, used_digest
from bikes_assets.core.staleness import (
    CurrentState,
    Ended,
    Key,
    Materialized,
    NextRun,
    Node,
    Plan,
    Reason,
    next_runs,
    outlooks,
    staleness_of,
)

MAY, JUNE = "2012-05", "2012-06"
OLD, NEW = "0123456789abcdef" * 2, "fedcba9876543210" * 2


def node(*upstream: str, config: Mapping[str, Any] | None = None, code: str = "code", since: float = 0.0) -> Node:
    """Return an asset of May and June that reads the same month of others."""
    inputs = {month: tuple((asset, month) for asset in upstream) for month in (MAY, JUNE)}
    return Node((MAY, JUNE), inputs, code, "demand.made", config or {}, 0, since)


PLAN = Plan({"rentals": node("source"), "features": node("rentals"), "model": node("features")})


def fresh(plan: Plan = PLAN) -> CurrentState:
    """Return what is there when everything was made at 100 from a source of 50."""
    current = CurrentState({("source", month): Materialized(f"source {month}", 50.0) for month in (MAY, JUNE)})
    for asset, node_ in plan.nodes.items():
        for month in node_.partitions:
            inputs = {key: current.materialized[key].digest for key in node_.inputs[month]}
            current.materialized[asset, month] = Materialized(
                f"{asset} {month}", 100.0, inputs, node_.code_version, node_.config
            )
    return current


def put(current: CurrentState, key: Key, digest: str, time: float = 200.0) -> None:
    old = current.materialized.get(key)
    current.materialized[key] = replace(old, digest=digest, time=time) if old else Materialized(digest, time)


def with_node(asset: str, **values: Any) -> Plan:
    return Plan({**PLAN.nodes, asset: replace(PLAN.nodes[asset], **values)})


def states(plan: Plan, current: CurrentState, asked: Collection[Key] = ()) -> dict[str, str]:
    """Return the states of May, by asset."""
    return {
        asset: status.state for (asset, month), status in staleness_of(plan, current, asked).items() if month == MAY
    }


def reasons(plan: Plan, current: CurrentState, key: Key) -> list[str]:
    return [str(reason) for reason in staleness_of(plan, current)[key].reasons]


def runs(plan: Plan, current: CurrentState, targets: Collection[Key] | None = None, **how: Any) -> list[NextRun]:
    found = staleness_of(plan, current, how.pop("asked", ()))
    return list(next_runs(plan, found, targets=found if targets is None else targets, current=current, **how))


def taken(*arguments: Any, **how: Any) -> list[tuple[str | None, tuple[str, ...]]]:
    return [(run.partition, run.assets) for run in runs(*arguments, **how)]


def test_what_was_made_from_what_is_there_is_fresh():
    found = staleness_of(PLAN, fresh())
    assert {status.state for status in found.values()} == {"fresh"}
    assert [status.reasons for status in found.values()] == [()] * 6
    assert list(found) == [(asset, month) for asset in ("rentals", "features", "model") for month in (MAY, JUNE)]
    assert runs(PLAN, fresh()) == []


def test_a_later_time_alone_makes_nothing_stale():
    current = fresh()
    put(current, ("rentals", MAY), f"rentals {MAY}", time=1e9)
    assert set(states(PLAN, current).values()) == {"fresh"}


def test_a_changed_input_makes_stale_and_what_lies_downstream_waits():
    current = fresh()
    current.materialized["source", MAY] = Materialized(OLD, 50.0)
    current.materialized["rentals", MAY] = replace(current.materialized["rentals", MAY], inputs={("source", MAY): OLD})
    current.materialized["source", MAY] = Materialized(NEW, 200.0)
    assert states(PLAN, current) == {"rentals": "stale", "features": "pending", "model": "pending"}
    assert reasons(PLAN, current, ("rentals", MAY)) == [f"input source[{MAY}]: 01234567 -> fedcba98"]
    assert reasons(PLAN, current, ("features", MAY)) == [f"rentals[{MAY}] is to be materialized first"]
    assert staleness_of(PLAN, current)["rentals", JUNE].state == "fresh"


def using(current: CurrentState, *names: str) -> CurrentState:
    """Have the features of May and June use some columns of the rentals, which have three."""
    for month in (MAY, JUNE):
        rentals = replace(
            current.materialized["rentals", month], columns={name: f"{name} {month}" for name in ("ts", "cnt", "felt")}
        )
        digests = {("rentals", month): used_digest(rentals.columns, names)}
        features = replace(current.materialized["features", month], used={"rentals": names}, used_digests=digests)
        current.materialized |= {("rentals", month): rentals, ("features", month): features}
    return current


@pytest.mark.parametrize(("column", "state"), [("felt", "fresh"), ("cnt", "stale"), ("ts", "stale")])
def test_a_change_of_a_column_reaches_what_uses_it(column, state):
    current = using(fresh(), "cnt", "ts")
    rentals = current.materialized["rentals", MAY]
    current.materialized["rentals", MAY] = replace(rentals, digest=NEW, columns={**rentals.columns, column: "changed"})
    found = staleness_of(PLAN, current)["features", MAY]
    assert found.state == state
    assert [(reason.kind, reason.what, reason.now) for reason in found.reasons] == [
        ("input" if state == "stale" else "unused", f"rentals[{MAY}]", NEW)
    ]
    assert ("but only in columns that are not used" in str(found.reasons[0])) == (state == "fresh")
    assert staleness_of(PLAN, current)["features", JUNE].reasons == ()


def test_a_column_that_is_gone_or_an_unknown_version_reaches_what_uses_it():
    for columns in ({"ts": f"ts {MAY}", "felt": f"felt {MAY}"}, {}):
        current = using(fresh(), "cnt", "ts")
        current.materialized["rentals", MAY] = replace(
            current.materialized["rentals", MAY], digest=NEW, columns=columns
        )
        assert states(PLAN, current)["features"] == "stale"


def test_an_input_that_is_new_or_gone_makes_stale():
    current = fresh()
    pinned = with_node("model", inputs={month: (("features", month), ("pins", month)) for month in (MAY, JUNE)})
    assert states(pinned, current)["model"] == "fresh"
    current.materialized["pins", MAY] = Materialized(NEW, 200.0)
    assert reasons(pinned, current, ("model", MAY)) == [f"input pins[{MAY}] is new: fedcba98"]
    record = current.materialized["model", MAY]
    current.materialized["model", MAY] = replace(record, inputs={**record.inputs, ("pins", MAY): OLD})
    del current.materialized["pins", MAY]
    assert reasons(pinned, current, ("model", MAY)) == [f"input pins[{MAY}] is gone: 01234567"]
    assert states(pinned, current)["model"] == "stale"


def test_an_input_that_the_plan_reads_no_more_is_gone():
    current = fresh()
    assert reasons(with_node("model", inputs={MAY: (), JUNE: ()}), current, ("model", MAY)) == [
        f"input features[{MAY}] is gone: features"
    ]


def test_changed_code_makes_every_partition_stale():
    current = fresh()
    current.materialized["features", MAY] = replace(current.materialized["features", MAY], code_version=OLD)
    assert reasons(with_node("features", code_version=NEW), current, ("features", MAY)) == [
        "code of demand.made: 01234567 -> fedcba98"
    ]
    found = staleness_of(with_node("features", code_version=NEW), current)
    assert [found["features", month].state for month in (MAY, JUNE)] == ["stale", "stale"]


@pytest.mark.parametrize(
    ("was", "now", "text"),
    [
        ({"seed": 0}, {"seed": 1}, "setting seed: 0 -> 1"),
        ({}, {"seed": 1}, "setting seed: none -> 1"),
        ({"seed": 1}, {}, "setting seed: 1 -> none"),
        ({"name": "a"}, {"name": None}, "setting name: 'a' -> None"),
        ({}, {"name": None}, "setting name: none -> None"),
    ],
)
def test_a_setting_that_is_changed_new_or_gone_makes_stale(was, now, text):
    current = fresh(with_node("model", config=was))
    changed = with_node("model", config=now)
    assert states(changed, current) == {"rentals": "fresh", "features": "fresh", "model": "stale"}
    assert reasons(changed, current, ("model", MAY)) == [text]


def test_each_difference_is_named():
    current = fresh()
    put(current, ("features", MAY), NEW)
    changed = with_node("model", code_version=NEW, config={"a": 1, "b": 2})
    kinds = [reason.kind for reason in staleness_of(changed, current)["model", MAY].reasons]
    assert kinds == ["input", "code", "config", "config"]


def test_what_was_never_made_is_missing():
    current = CurrentState({("source", MAY): Materialized(OLD, 50.0)})
    assert states(PLAN, current) == {"rentals": "missing", "features": "missing", "model": "missing"}
    assert reasons(PLAN, current, ("model", MAY)) == ["never materialized"]


def test_what_failed_is_failed_until_something_that_makes_it_changes():
    # Given a source that changed at 200, and rentals that failed on it at 300
    current = fresh()
    put(current, ("source", MAY), NEW)
    current.ended["rentals", MAY] = Ended("failed", 300.0, "no such thing", "run")
    assert states(PLAN, current) == {"rentals": "failed", "features": "pending", "model": "pending"}
    assert reasons(PLAN, current, ("rentals", MAY))[0] == "no such thing"
    assert taken(PLAN, current) == []
    assert taken(PLAN, current, retried=[("rentals", MAY)]) == [(MAY, ("rentals",))]
    # When the code is changed at 400, or an input is
    assert states(with_node("rentals", code_version=NEW, since=400.0), current)["rentals"] == "stale"
    put(current, ("source", MAY), OLD, time=400.0)
    assert states(PLAN, current)["rentals"] == "stale"
    assert taken(PLAN, current) == [(MAY, ("rentals",))]


def test_a_failure_that_was_overtaken_does_not_count():
    current = fresh()
    current.ended["rentals", MAY] = Ended("failed", 300.0, "no such thing", "run")
    assert states(PLAN, current)["rentals"] == "fresh"


def test_what_never_came_about_and_failed_is_failed():
    current = CurrentState({("source", MAY): Materialized(OLD, 50.0)})
    current.ended["rentals", MAY] = Ended("failed", 60.0, "no such thing", "run")
    assert states(PLAN, current)["rentals"] == "failed"
    assert reasons(PLAN, current, ("rentals", MAY)) == ["no such thing", "never materialized"]


def test_what_was_skipped_is_not_due_and_holds_nothing_up():
    # Given features that had nothing to work on, and a model that is to be made
    current = fresh()
    for asset in ("features", "model"):
        del current.materialized[asset, MAY]
    current.ended["features", MAY] = Ended("skipped", 300.0, "there was nothing to work on", "run")
    assert states(PLAN, current) == {"rentals": "fresh", "features": "skipped", "model": "skipped"}
    optional = with_node("model", optional=("features",))
    assert states(optional, current) == {"rentals": "fresh", "features": "skipped", "model": "missing"}
    assert taken(optional, current) == [(MAY, ("model",))]
    # When its input has changed since, it is due again
    put(current, ("rentals", MAY), NEW, time=400.0)
    assert states(PLAN, current)["features"] == "missing"


def test_what_is_asked_for_is_made_whatever_it_is():
    everything = [(asset, MAY) for asset in PLAN.nodes]
    current = fresh()
    assert set(states(PLAN, current, everything).values()) == {"stale"}
    assert taken(PLAN, current, asked=everything) == [(MAY, ("rentals", "features", "model"))]
    (run,) = runs(PLAN, current, asked=everything)
    assert run.why == f"rentals[{MAY}]: asked for"
    current.ended["rentals", MAY] = Ended("failed", 1e9, "no such thing", "run")
    assert states(PLAN, current, everything)["rentals"] == "stale"


def test_runs_come_in_order_of_months_and_groups_and_say_why():
    grouped = Plan({**PLAN.nodes, "report": replace(node("model"), group=1)})
    current = CurrentState({("source", month): Materialized(OLD, 50.0) for month in (JUNE, MAY)})
    assert taken(grouped, current) == [
        (MAY, ("rentals", "features", "model")),
        (JUNE, ("rentals", "features", "model")),
    ]
    assert runs(grouped, current)[0].why == f"rentals[{MAY}]: never materialized"
    current = fresh(grouped)
    for key in [("rentals", JUNE), ("report", MAY), ("rentals", MAY), ("report", JUNE)]:
        del current.materialized[key]
    assert taken(grouped, current) == [(MAY, ("rentals",)), (JUNE, ("rentals",))]


def test_a_run_may_take_all_that_is_due_of_a_partition():
    grouped = Plan({**PLAN.nodes, "model": replace(PLAN.nodes["model"], group=1)})
    current = CurrentState({("source", month): Materialized(OLD, 50.0) for month in (JUNE, MAY)})
    assert taken(grouped, current) == [(MAY, ("rentals", "features")), (JUNE, ("rentals", "features"))]
    assert taken(grouped, current, across=True) == [
        (MAY, ("rentals", "features", "model")),
        (JUNE, ("rentals", "features", "model")),
    ]


def test_a_run_takes_what_lies_downstream_only_where_that_is_certain():
    # Given rentals that are to be rebuilt: features may come out of it as they are
    current = fresh()
    put(current, ("source", MAY), NEW)
    assert taken(PLAN, current) == [(MAY, ("rentals",))]
    # ... whatever features were computed from: rentals may come out as that again
    put(current, ("rentals", MAY), "of another source")
    assert states(PLAN, current)["features"] == "stale"
    assert taken(PLAN, current) == [(MAY, ("rentals",))]
    # ... but their code has changed
    changed = with_node("features", code_version=NEW)
    assert taken(changed, current) == [(MAY, ("rentals", "features")), (JUNE, ("features",))]


def test_a_run_takes_what_differs_in_another_input_than_what_is_made_before_it():
    both = with_node("model", inputs={month: (("features", month), ("source", month)) for month in (MAY, JUNE)})
    current = fresh(both)
    put(current, ("rentals", MAY), "made again")
    put(current, ("source", JUNE), NEW)
    current.materialized["rentals", JUNE] = replace(
        current.materialized["rentals", JUNE], inputs={("source", JUNE): NEW}
    )
    del current.materialized["features", JUNE]
    assert taken(both, current) == [(MAY, ("features",)), (JUNE, ("features", "model"))]


def test_an_input_that_comes_out_as_it_was_ends_it_there():
    current = fresh()
    put(current, ("source", MAY), NEW)
    # When rentals are made again, with the digest that they had
    current.materialized["rentals", MAY] = Materialized(f"rentals {MAY}", 300.0, {("source", MAY): NEW}, "code", {})
    assert set(states(PLAN, current).values()) == {"fresh"}
    assert runs(PLAN, current) == []


def test_what_is_at_work_is_left_and_what_reads_it_waits():
    current = fresh()
    put(current, ("source", MAY), NEW)
    current.at_work = {("rentals", MAY)}
    assert runs(PLAN, current) == []
    changed = with_node("features", code_version=NEW)
    assert taken(changed, current) == [(JUNE, ("features",))]
    # a fresh input that is made once more holds up, too
    current = fresh()
    current.at_work = {("rentals", MAY)}
    assert taken(changed, current) == [(JUNE, ("features",))]


def test_runs_make_only_what_they_are_to_make():
    current = CurrentState({("source", MAY): Materialized(OLD, 50.0), ("source", JUNE): Materialized(OLD, 50.0)})
    assert taken(PLAN, current, makes=["rentals"]) == [(MAY, ("rentals",)), (JUNE, ("rentals",))]
    assert taken(PLAN, current, makes=["features", "model"]) == []
    del (whole := fresh()).materialized["features", MAY]
    assert taken(PLAN, whole, makes=["features", "model"]) == [(MAY, ("features",))]


def test_what_is_no_target_counts_as_settled():
    current = fresh()
    put(current, ("source", MAY), NEW)
    changed = with_node("features", code_version=NEW)
    assert taken(changed, current, targets=[("features", MAY), ("model", MAY)]) == [(MAY, ("features",))]


def test_an_asset_without_partitions():
    whole = Plan({"report": Node((None,), {None: (("source", MAY), ("source", JUNE))}, "code", "f", {}, 0)})
    current = CurrentState({("source", MAY): Materialized(OLD, 50.0)})
    assert staleness_of(whole, current)["report", None].address == "report"
    assert taken(whole, current) == [(None, ("report",))]


def test_a_plan_comes_back_from_json_as_it_was():
    plan = Plan(
        {**PLAN.nodes, "report": Node((None,), {None: (("model", MAY),)}, "c", "f", {"a": [1, {"b": None}]}, 1, 2.5)}
    )
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_what_a_record_says_is_what_was_made():
    materialized_from = (Version("source", MAY, "f" * 64, OLD),)
    record = Record(Version("rentals", MAY, 3, NEW), {}, materialized_from, "code", {"seed": 0}, {}, {}, time=7.0)
    assert Materialized.of(record) == Materialized(NEW, 7.0, {("source", MAY): OLD}, "code", {"seed": 0})


def test_reasons_in_words():
    # the state is told beside it, and not twice
    assert (
        str(Reason("skipped", ""))
        == str(Reason("skipped", "there was nothing to work on"))
        == "there was nothing to work on"
    )
    assert str(Reason("failed", "no such thing")) == "no such thing"
    assert str(Reason("asked", "")) == "asked for"
    assert str(Reason("input", "a[b]", OLD, NEW)) == "input a[b]: 01234567 -> fedcba98"


# What the rule and `next_runs` make, against recomputing everything in order.


@dataclass(frozen=True)
class World:
    """Assets over three months; what is made of inputs is one of three values, so that much comes out as it was."""

    plan: Plan

    def made(self, key: Key, current: Mapping[Key, Materialized], time: float) -> Materialized:
        node_ = self.plan.nodes[key[0]]
        inputs = {item: current[item].digest for item in node_.inputs[key[1]] if item in current}
        said = repr((key, sorted(inputs.items()), node_.code_version, sorted(node_.config.items())))
        digest = str(int(hashlib.sha256(said.encode()).hexdigest(), 16) % 3)
        return Materialized(digest, time, inputs, node_.code_version, node_.config)


MONTHS = ("1", "2", "3")
EXTERNAL: list[Key] = [("external", month) for month in MONTHS]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    nodes: dict[str, Node] = {}
    for number in range(draw(st.integers(1, 4))):
        known = ["external", *nodes]
        reads = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True))
        windows = {asset: draw(st.sampled_from([(0, 0), (-1, 0), (-1, -1), (-2, 0), (-3, -1)])) for asset in reads}
        skip = draw(st.integers(0, 1))
        partitions = MONTHS[skip:]
        inputs = {
            month: tuple(
                (asset, other)
                for asset, (first, last) in windows.items()
                for other in (nodes[asset].partitions if asset in nodes else MONTHS)
                if int(month) + first <= int(other) <= int(month) + last
            )
            for month in partitions
        }
        nodes[f"asset{number}"] = Node(partitions, inputs, "0", "f", {"seed": 0}, skip)
    return Plan(nodes)


def changed(draw: st.DrawFn, plan: Plan, made: dict[Key, Materialized]) -> Plan:
    """Change sources, code, config, or lose what was made."""
    nodes = dict(plan.nodes)
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["source", "gone", "lost", "code", "config"]))
        asset, external = draw(st.sampled_from(sorted(nodes))), draw(st.sampled_from(EXTERNAL))
        if kind == "source":
            made[external] = Materialized(draw(st.sampled_from("ab")), 0.0)
        elif kind == "gone":
            made.pop(external, None)
        elif kind == "lost":
            made.pop((asset, draw(st.sampled_from(nodes[asset].partitions))), None)
        elif kind == "code":
            nodes[asset] = replace(nodes[asset], code_version=draw(st.sampled_from("01")))
        else:
            nodes[asset] = replace(nodes[asset], config={"seed": draw(st.integers(0, 1))})
    return Plan(nodes)


def by_brute_force(world: World, before: Mapping[Key, Materialized]) -> tuple[set[Key], dict[Key, Materialized]]:
    """Return what is to be made, and what is there in the end, going through everything in order once."""
    made, redone = dict(before), set[Key]()
    for asset, node_ in world.plan.nodes.items():
        for month in node_.partitions:
            would = world.made((asset, month), made, 0.0)
            old = made.get((asset, month))
            if old is None or (old.inputs, old.code_version, old.config) != (
                would.inputs,
                would.code_version,
                would.config,
            ):
                made[asset, month] = would
                redone.add((asset, month))
    return redone, made


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_runs_make_what_recomputing_everything_would_change_and_each_once(data: st.DataObject) -> None:
    draw: Any = data.draw
    plan = draw(plans())
    made = {key: Materialized("a", 0.0) for key in EXTERNAL}
    _, made = by_brute_force(World(plan), made)
    at_once, across = draw(st.booleans()), draw(st.booleans())
    for _ in range(3):
        plan = changed(draw, plan, made)
        world, current = World(plan), CurrentState(dict(made))
        expected, in_the_end = by_brute_force(world, made)
        counted = Counter[Key]()
        for turn in range(100):
            found = runs(plan, current, across=across)
            if not found:
                break
            began = dict(current.materialized)
            batch = {(asset, run.partition) for run in found for asset in run.assets}
            for run in found if at_once else found[:1]:
                own = {(asset, run.partition) for asset in run.assets}
                seen = dict(began)
                for asset in run.assets:
                    key = (asset, run.partition)
                    assert not set(plan.nodes[asset].inputs[run.partition]) & (batch - own), "runs need each other"
                    seen[key] = current.materialized[key] = world.made(key, seen, float(turn))
                    counted[key] += 1
        assert set(counted) == expected
        assert set(counted.values()) <= {1}
        assert {key: item.digest for key, item in current.materialized.items()} == {
            key: item.digest for key, item in in_the_end.items()
        }
        assert {status.state for status in staleness_of(plan, current).values()} == {"fresh"}
        made = current.materialized


# No rows, rows that others changed, and what was skipped upstream


def test_no_rows_of_a_source_are_read_like_any_others():
    current = fresh()
    del current.materialized["source", MAY]
    assert states(PLAN, current)["rentals"] == "stale"
    assert reasons(PLAN, current, ("rentals", MAY)) == ["input source[2012-05] is gone: source 2"]
    current.empty["source"] = Materialized(NEW, 0.0)
    assert reasons(PLAN, current, ("rentals", MAY)) == ["input source[2012-05]: source 2 -> fedcba98"]
    # materialized from no rows, it is fresh
    current.materialized["rentals", MAY] = replace(current.materialized["rentals", MAY], inputs={("source", MAY): NEW})
    assert set(states(PLAN, current).values()) == {"fresh"}
    assert runs(PLAN, current) == []


def test_what_another_program_changed_is_stale_although_its_record_is_as_it_was():
    current = fresh()
    current.altered["features", MAY] = "another program has changed its rows (DELETE by somebody, table version 7)"
    assert states(PLAN, current) == {"rentals": "fresh", "features": "stale", "model": "pending"}
    assert reasons(PLAN, current, ("features", MAY)) == [
        "another program has changed its rows (DELETE by somebody, table version 7)"
    ]
    assert taken(PLAN, current) == [(MAY, ("features",))]


def test_what_reads_only_what_was_skipped_is_skipped_whatever_its_own_code():
    current = fresh()
    for asset in ("features", "model"):
        del current.materialized[asset, MAY]
    current.ended["features", MAY] = Ended("skipped", 300.0, "there was nothing to work on", "r1")
    edited = with_node("model", code_version="edited", since=400.0)
    assert states(edited, current) == {"rentals": "fresh", "features": "skipped", "model": "skipped"}
    assert reasons(edited, current, ("model", MAY))[0] == "features has nothing for it"
    assert taken(edited, current) == [(JUNE, ("model",))]
    # what reads another partition of it as well has something to work on
    both = replace(edited.nodes["model"], inputs=dict.fromkeys((MAY, JUNE), (("features", MAY), ("features", JUNE))))
    assert states(Plan({**PLAN.nodes, "model": both}), current)["model"] == "missing"


def told(current: CurrentState, plan: Plan = PLAN, begun: Collection[Key] = ()) -> dict[str, str]:
    """Return what is said of May, by asset."""
    found = outlooks(plan, staleness_of(plan, current), current, begun)
    return {asset: sentence for (asset, month), sentence in found.items() if month == MAY}


def test_of_each_partition_that_is_not_fresh_it_is_said_what_comes_next_and_why():
    current = fresh()
    assert told(current) == {}

    put(current, ("source", MAY), "other")
    why = f"input source[{MAY}]: source 2 -> other"
    assert told(current) == {
        "rentals": f"stale: {why}",
        "features": f"waits for rentals[{MAY}]",
        "model": f"waits for features[{MAY}]",
    }
    assert told(current, begun=[("rentals", MAY)])["rentals"] == f"materialized now: {why}"

    current.at_work.add(("rentals", MAY))
    assert told(current)["rentals"] == "a run is at work on it"


def test_what_failed_is_said_to_be_tried_again_and_what_waits_for_it():
    current = fresh()
    put(current, ("source", MAY), "other")
    current.ended["rentals", MAY] = Ended("failed", 300.0, "no rows", "run")
    shown = told(current, with_node("features", code_version="new"))
    assert shown["rentals"].startswith(
        "failed, tried again a day later or when something changes: no rows; input source"
    )
    assert shown["features"] == (
        f"waits for rentals[{MAY}], which failed and is tried again a day later; stale: code of demand.made: code -> new"
    )


def test_a_config_that_is_kept_is_fresh_and_says_so():
    plan = with_node("model", config={"depth": 3, "keep": None})
    current = fresh()
    key = ("model", MAY)
    current.materialized[key] = replace(current.materialized[key], config={"depth": 5, "keep": True})
    assert states(plan, current)["model"] == "fresh"
    assert reasons(plan, current, key) == ["setting depth is kept: 5; the project's is 3"]
    current.materialized[key] = replace(current.materialized[key], config={"depth": 5, "keep": None})
    assert reasons(plan, current, key) == ["setting depth: 5 -> 3"]
    current.materialized[key] = replace(current.materialized[key], config={"depth": 3, "keep": False})
    assert states(plan, current)["model"] == "fresh"
