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
    Ended,
    Key,
    Made,
    NextRun,
    Node,
    Plan,
    Present,
    Reason,
    judge,
    next_runs,
    outlooks,
)

MAY, JUNE = "2012-05", "2012-06"
OLD, NEW = "0123456789abcdef" * 2, "fedcba9876543210" * 2


def node(*upstream: str, config: Mapping[str, Any] | None = None, code: str = "code", since: float = 0.0) -> Node:
    """Return an asset of May and June that reads the same month of others."""
    inputs = {month: tuple((asset, month) for asset in upstream) for month in (MAY, JUNE)}
    return Node((MAY, JUNE), inputs, code, "demand.made", config or {}, 0, since)


PLAN = Plan({"rentals": node("source"), "features": node("rentals"), "model": node("features")})


def fresh(plan: Plan = PLAN) -> Present:
    """Return what is there when everything was made at 100 from a source of 50."""
    present = Present({("source", month): Made(f"source {month}", 50.0) for month in (MAY, JUNE)})
    for asset, node_ in plan.nodes.items():
        for month in node_.partitions:
            inputs = {key: present.made[key].digest for key in node_.inputs[month]}
            present.made[asset, month] = Made(f"{asset} {month}", 100.0, inputs, node_.code_version, node_.config)
    return present


def put(present: Present, key: Key, digest: str, time: float = 200.0) -> None:
    old = present.made.get(key)
    present.made[key] = replace(old, digest=digest, time=time) if old else Made(digest, time)


def with_node(asset: str, **values: Any) -> Plan:
    return Plan({**PLAN.nodes, asset: replace(PLAN.nodes[asset], **values)})


def states(plan: Plan, present: Present, asked: Collection[Key] = ()) -> dict[str, str]:
    """Return the states of May, by asset."""
    return {asset: status.state for (asset, month), status in judge(plan, present, asked).items() if month == MAY}


def reasons(plan: Plan, present: Present, key: Key) -> list[str]:
    return [str(reason) for reason in judge(plan, present)[key].reasons]


def runs(plan: Plan, present: Present, targets: Collection[Key] | None = None, **how: Any) -> list[NextRun]:
    found = judge(plan, present, how.pop("asked", ()))
    return list(next_runs(plan, found, targets=found if targets is None else targets, present=present, **how))


def taken(*arguments: Any, **how: Any) -> list[tuple[str | None, tuple[str, ...]]]:
    return [(run.partition, run.assets) for run in runs(*arguments, **how)]


def test_what_was_made_from_what_is_there_is_fresh():
    found = judge(PLAN, fresh())
    assert {status.state for status in found.values()} == {"fresh"}
    assert [status.reasons for status in found.values()] == [()] * 6
    assert list(found) == [(asset, month) for asset in ("rentals", "features", "model") for month in (MAY, JUNE)]
    assert runs(PLAN, fresh()) == []


def test_a_later_time_alone_makes_nothing_stale():
    present = fresh()
    put(present, ("rentals", MAY), f"rentals {MAY}", time=1e9)
    assert set(states(PLAN, present).values()) == {"fresh"}


def test_a_changed_input_makes_stale_and_what_lies_downstream_waits():
    present = fresh()
    present.made["source", MAY] = Made(OLD, 50.0)
    present.made["rentals", MAY] = replace(present.made["rentals", MAY], inputs={("source", MAY): OLD})
    present.made["source", MAY] = Made(NEW, 200.0)
    assert states(PLAN, present) == {"rentals": "stale", "features": "pending", "model": "pending"}
    assert reasons(PLAN, present, ("rentals", MAY)) == [f"input source[{MAY}]: 01234567 -> fedcba98"]
    assert reasons(PLAN, present, ("features", MAY)) == [f"rentals[{MAY}] is to be made first"]
    assert judge(PLAN, present)["rentals", JUNE].state == "fresh"


def using(present: Present, *names: str) -> Present:
    """Have the features of May and June use some columns of the rentals, which have three."""
    for month in (MAY, JUNE):
        rentals = replace(
            present.made["rentals", month], columns={name: f"{name} {month}" for name in ("ts", "cnt", "felt")}
        )
        digests = {("rentals", month): used_digest(rentals.columns, names)}
        features = replace(present.made["features", month], used={"rentals": names}, used_digests=digests)
        present.made |= {("rentals", month): rentals, ("features", month): features}
    return present


@pytest.mark.parametrize(("column", "state"), [("felt", "fresh"), ("cnt", "stale"), ("ts", "stale")])
def test_a_change_of_a_column_reaches_what_uses_it(column, state):
    present = using(fresh(), "cnt", "ts")
    rentals = present.made["rentals", MAY]
    present.made["rentals", MAY] = replace(rentals, digest=NEW, columns={**rentals.columns, column: "changed"})
    found = judge(PLAN, present)["features", MAY]
    assert found.state == state
    assert [(reason.kind, reason.what, reason.now) for reason in found.reasons] == [
        ("input" if state == "stale" else "unused", f"rentals[{MAY}]", NEW)
    ]
    assert ("but only in columns that are not used" in str(found.reasons[0])) == (state == "fresh")
    assert judge(PLAN, present)["features", JUNE].reasons == ()


def test_a_column_that_is_gone_or_an_unknown_version_reaches_what_uses_it():
    for columns in ({"ts": f"ts {MAY}", "felt": f"felt {MAY}"}, {}):
        present = using(fresh(), "cnt", "ts")
        present.made["rentals", MAY] = replace(present.made["rentals", MAY], digest=NEW, columns=columns)
        assert states(PLAN, present)["features"] == "stale"


def test_an_input_that_is_new_or_gone_makes_stale():
    present = fresh()
    pinned = with_node("model", inputs={month: (("features", month), ("pins", month)) for month in (MAY, JUNE)})
    assert states(pinned, present)["model"] == "fresh"
    present.made["pins", MAY] = Made(NEW, 200.0)
    assert reasons(pinned, present, ("model", MAY)) == [f"input pins[{MAY}] is new: fedcba98"]
    record = present.made["model", MAY]
    present.made["model", MAY] = replace(record, inputs={**record.inputs, ("pins", MAY): OLD})
    del present.made["pins", MAY]
    assert reasons(pinned, present, ("model", MAY)) == [f"input pins[{MAY}] is gone: 01234567"]
    assert states(pinned, present)["model"] == "stale"


def test_an_input_that_the_plan_reads_no_more_is_gone():
    present = fresh()
    assert reasons(with_node("model", inputs={MAY: (), JUNE: ()}), present, ("model", MAY)) == [
        f"input features[{MAY}] is gone: features"
    ]


def test_changed_code_makes_every_partition_stale():
    present = fresh()
    present.made["features", MAY] = replace(present.made["features", MAY], code_version=OLD)
    assert reasons(with_node("features", code_version=NEW), present, ("features", MAY)) == [
        "code of demand.made: 01234567 -> fedcba98"
    ]
    found = judge(with_node("features", code_version=NEW), present)
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
    present = fresh(with_node("model", config=was))
    changed = with_node("model", config=now)
    assert states(changed, present) == {"rentals": "fresh", "features": "fresh", "model": "stale"}
    assert reasons(changed, present, ("model", MAY)) == [text]


def test_each_difference_is_named():
    present = fresh()
    put(present, ("features", MAY), NEW)
    changed = with_node("model", code_version=NEW, config={"a": 1, "b": 2})
    kinds = [reason.kind for reason in judge(changed, present)["model", MAY].reasons]
    assert kinds == ["input", "code", "config", "config"]


def test_what_was_never_made_is_missing():
    present = Present({("source", MAY): Made(OLD, 50.0)})
    assert states(PLAN, present) == {"rentals": "missing", "features": "missing", "model": "missing"}
    assert reasons(PLAN, present, ("model", MAY)) == ["never made"]


def test_what_failed_is_failed_until_something_that_makes_it_changes():
    # Given a source that changed at 200, and rentals that failed on it at 300
    present = fresh()
    put(present, ("source", MAY), NEW)
    present.ended["rentals", MAY] = Ended("failed", 300.0, "no such thing", "run")
    assert states(PLAN, present) == {"rentals": "failed", "features": "pending", "model": "pending"}
    assert reasons(PLAN, present, ("rentals", MAY))[0] == "no such thing"
    assert taken(PLAN, present) == []
    assert taken(PLAN, present, retried=[("rentals", MAY)]) == [(MAY, ("rentals",))]
    # When the code is changed at 400, or an input is
    assert states(with_node("rentals", code_version=NEW, since=400.0), present)["rentals"] == "stale"
    put(present, ("source", MAY), OLD, time=400.0)
    assert states(PLAN, present)["rentals"] == "stale"
    assert taken(PLAN, present) == [(MAY, ("rentals",))]


def test_a_failure_that_was_overtaken_does_not_count():
    present = fresh()
    present.ended["rentals", MAY] = Ended("failed", 300.0, "no such thing", "run")
    assert states(PLAN, present)["rentals"] == "fresh"


def test_what_never_came_about_and_failed_is_failed():
    present = Present({("source", MAY): Made(OLD, 50.0)})
    present.ended["rentals", MAY] = Ended("failed", 60.0, "no such thing", "run")
    assert states(PLAN, present)["rentals"] == "failed"
    assert reasons(PLAN, present, ("rentals", MAY)) == ["no such thing", "never made"]


def test_what_was_skipped_is_not_due_and_holds_nothing_up():
    # Given features that had nothing to work on, and a model that is to be made
    present = fresh()
    for asset in ("features", "model"):
        del present.made[asset, MAY]
    present.ended["features", MAY] = Ended("skipped", 300.0, "there was nothing to work on", "run")
    assert states(PLAN, present) == {"rentals": "fresh", "features": "skipped", "model": "skipped"}
    optional = with_node("model", optional=("features",))
    assert states(optional, present) == {"rentals": "fresh", "features": "skipped", "model": "missing"}
    assert taken(optional, present) == [(MAY, ("model",))]
    # When its input has changed since, it is due again
    put(present, ("rentals", MAY), NEW, time=400.0)
    assert states(PLAN, present)["features"] == "missing"


def test_what_is_asked_for_is_made_whatever_it_is():
    everything = [(asset, MAY) for asset in PLAN.nodes]
    present = fresh()
    assert set(states(PLAN, present, everything).values()) == {"stale"}
    assert taken(PLAN, present, asked=everything) == [(MAY, ("rentals", "features", "model"))]
    (run,) = runs(PLAN, present, asked=everything)
    assert run.why == f"rentals[{MAY}]: asked for"
    present.ended["rentals", MAY] = Ended("failed", 1e9, "no such thing", "run")
    assert states(PLAN, present, everything)["rentals"] == "stale"


def test_runs_come_in_order_of_months_and_groups_and_say_why():
    grouped = Plan({**PLAN.nodes, "report": replace(node("model"), group=1)})
    present = Present({("source", month): Made(OLD, 50.0) for month in (JUNE, MAY)})
    assert taken(grouped, present) == [
        (MAY, ("rentals", "features", "model")),
        (JUNE, ("rentals", "features", "model")),
    ]
    assert runs(grouped, present)[0].why == f"rentals[{MAY}]: never made"
    present = fresh(grouped)
    for key in [("rentals", JUNE), ("report", MAY), ("rentals", MAY), ("report", JUNE)]:
        del present.made[key]
    assert taken(grouped, present) == [(MAY, ("rentals",)), (JUNE, ("rentals",))]


def test_a_run_takes_what_lies_downstream_only_where_that_is_certain():
    # Given rentals that are to be made again: features may come out of it as they are
    present = fresh()
    put(present, ("source", MAY), NEW)
    assert taken(PLAN, present) == [(MAY, ("rentals",))]
    # ... whatever features were made from: rentals may come out as that again
    put(present, ("rentals", MAY), "of another source")
    assert states(PLAN, present)["features"] == "stale"
    assert taken(PLAN, present) == [(MAY, ("rentals",))]
    # ... but their code has changed
    changed = with_node("features", code_version=NEW)
    assert taken(changed, present) == [(MAY, ("rentals", "features")), (JUNE, ("features",))]


def test_a_run_takes_what_differs_in_another_input_than_what_is_made_before_it():
    both = with_node("model", inputs={month: (("features", month), ("source", month)) for month in (MAY, JUNE)})
    present = fresh(both)
    put(present, ("rentals", MAY), "made again")
    put(present, ("source", JUNE), NEW)
    present.made["rentals", JUNE] = replace(present.made["rentals", JUNE], inputs={("source", JUNE): NEW})
    del present.made["features", JUNE]
    assert taken(both, present) == [(MAY, ("features",)), (JUNE, ("features", "model"))]


def test_an_input_that_comes_out_as_it_was_ends_it_there():
    present = fresh()
    put(present, ("source", MAY), NEW)
    # When rentals are made again, with the digest that they had
    present.made["rentals", MAY] = Made(f"rentals {MAY}", 300.0, {("source", MAY): NEW}, "code", {})
    assert set(states(PLAN, present).values()) == {"fresh"}
    assert runs(PLAN, present) == []


def test_what_is_at_work_is_left_and_what_reads_it_waits():
    present = fresh()
    put(present, ("source", MAY), NEW)
    present.at_work = {("rentals", MAY)}
    assert runs(PLAN, present) == []
    changed = with_node("features", code_version=NEW)
    assert taken(changed, present) == [(JUNE, ("features",))]
    # a fresh input that is made once more holds up, too
    present = fresh()
    present.at_work = {("rentals", MAY)}
    assert taken(changed, present) == [(JUNE, ("features",))]


def test_runs_make_only_what_they_are_to_make():
    present = Present({("source", MAY): Made(OLD, 50.0), ("source", JUNE): Made(OLD, 50.0)})
    assert taken(PLAN, present, makes=["rentals"]) == [(MAY, ("rentals",)), (JUNE, ("rentals",))]
    assert taken(PLAN, present, makes=["features", "model"]) == []
    del (whole := fresh()).made["features", MAY]
    assert taken(PLAN, whole, makes=["features", "model"]) == [(MAY, ("features",))]


def test_what_is_no_target_counts_as_settled():
    present = fresh()
    put(present, ("source", MAY), NEW)
    changed = with_node("features", code_version=NEW)
    assert taken(changed, present, targets=[("features", MAY), ("model", MAY)]) == [(MAY, ("features",))]


def test_an_asset_without_partitions():
    whole = Plan({"report": Node((None,), {None: (("source", MAY), ("source", JUNE))}, "code", "f", {}, 0)})
    present = Present({("source", MAY): Made(OLD, 50.0)})
    assert judge(whole, present)["report", None].address == "report"
    assert taken(whole, present) == [(None, ("report",))]


def test_a_plan_comes_back_from_json_as_it_was():
    plan = Plan(
        {**PLAN.nodes, "report": Node((None,), {None: (("model", MAY),)}, "c", "f", {"a": [1, {"b": None}]}, 1, 2.5)}
    )
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_what_a_record_says_is_what_was_made():
    made_from = (Version("source", MAY, "f" * 64, OLD),)
    record = Record(Version("rentals", MAY, 3, NEW), {}, made_from, "code", {"seed": 0}, {}, {}, time=7.0)
    assert Made.of(record) == Made(NEW, 7.0, {("source", MAY): OLD}, "code", {"seed": 0})


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

    def made(self, key: Key, present: Mapping[Key, Made], time: float) -> Made:
        node_ = self.plan.nodes[key[0]]
        inputs = {item: present[item].digest for item in node_.inputs[key[1]] if item in present}
        said = repr((key, sorted(inputs.items()), node_.code_version, sorted(node_.config.items())))
        digest = str(int(hashlib.sha256(said.encode()).hexdigest(), 16) % 3)
        return Made(digest, time, inputs, node_.code_version, node_.config)


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


def changed(draw: st.DrawFn, plan: Plan, made: dict[Key, Made]) -> Plan:
    """Change sources, code, config, or lose what was made."""
    nodes = dict(plan.nodes)
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["source", "gone", "lost", "code", "config"]))
        asset, external = draw(st.sampled_from(sorted(nodes))), draw(st.sampled_from(EXTERNAL))
        if kind == "source":
            made[external] = Made(draw(st.sampled_from("ab")), 0.0)
        elif kind == "gone":
            made.pop(external, None)
        elif kind == "lost":
            made.pop((asset, draw(st.sampled_from(nodes[asset].partitions))), None)
        elif kind == "code":
            nodes[asset] = replace(nodes[asset], code_version=draw(st.sampled_from("01")))
        else:
            nodes[asset] = replace(nodes[asset], config={"seed": draw(st.integers(0, 1))})
    return Plan(nodes)


def by_brute_force(world: World, before: Mapping[Key, Made]) -> tuple[set[Key], dict[Key, Made]]:
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
    made = {key: Made("a", 0.0) for key in EXTERNAL}
    _, made = by_brute_force(World(plan), made)
    at_once = draw(st.booleans())
    for _ in range(3):
        plan = changed(draw, plan, made)
        world, present = World(plan), Present(dict(made))
        expected, in_the_end = by_brute_force(world, made)
        counted = Counter[Key]()
        for turn in range(100):
            found = runs(plan, present)
            if not found:
                break
            began = dict(present.made)
            batch = {(asset, run.partition) for run in found for asset in run.assets}
            for run in found if at_once else found[:1]:
                own = {(asset, run.partition) for asset in run.assets}
                seen = dict(began)
                for asset in run.assets:
                    key = (asset, run.partition)
                    assert not set(plan.nodes[asset].inputs[run.partition]) & (batch - own), "runs need each other"
                    seen[key] = present.made[key] = world.made(key, seen, float(turn))
                    counted[key] += 1
        assert set(counted) == expected
        assert set(counted.values()) <= {1}
        assert {key: item.digest for key, item in present.made.items()} == {
            key: item.digest for key, item in in_the_end.items()
        }
        assert {status.state for status in judge(plan, present).values()} == {"fresh"}
        made = present.made


# No rows, rows that others changed, and what was skipped upstream


def test_no_rows_of_a_source_are_read_like_any_others():
    present = fresh()
    del present.made["source", MAY]
    assert states(PLAN, present)["rentals"] == "stale"
    assert reasons(PLAN, present, ("rentals", MAY)) == ["input source[2012-05] is gone: source 2"]
    present.empty["source"] = Made(NEW, 0.0)
    assert reasons(PLAN, present, ("rentals", MAY)) == ["input source[2012-05]: source 2 -> fedcba98"]
    # materialized from no rows, it is fresh
    present.made["rentals", MAY] = replace(present.made["rentals", MAY], inputs={("source", MAY): NEW})
    assert set(states(PLAN, present).values()) == {"fresh"}
    assert runs(PLAN, present) == []


def test_what_another_program_changed_is_stale_although_its_record_is_as_it_was():
    present = fresh()
    present.altered["features", MAY] = "another program has changed its rows (DELETE by somebody, table version 7)"
    assert states(PLAN, present) == {"rentals": "fresh", "features": "stale", "model": "pending"}
    assert reasons(PLAN, present, ("features", MAY)) == [
        "another program has changed its rows (DELETE by somebody, table version 7)"
    ]
    assert taken(PLAN, present) == [(MAY, ("features",))]


def test_what_reads_only_what_was_skipped_is_skipped_whatever_its_own_code():
    present = fresh()
    for asset in ("features", "model"):
        del present.made[asset, MAY]
    present.ended["features", MAY] = Ended("skipped", 300.0, "there was nothing to work on", "r1")
    edited = with_node("model", code_version="edited", since=400.0)
    assert states(edited, present) == {"rentals": "fresh", "features": "skipped", "model": "skipped"}
    assert reasons(edited, present, ("model", MAY))[0] == "features has nothing for it"
    assert taken(edited, present) == [(JUNE, ("model",))]
    # what reads another partition of it as well has something to work on
    both = replace(edited.nodes["model"], inputs=dict.fromkeys((MAY, JUNE), (("features", MAY), ("features", JUNE))))
    assert states(Plan({**PLAN.nodes, "model": both}), present)["model"] == "missing"


def told(present: Present, plan: Plan = PLAN, begun: Collection[Key] = ()) -> dict[str, str]:
    """Return what is said of May, by asset."""
    found = outlooks(plan, judge(plan, present), present, begun)
    return {asset: sentence for (asset, month), sentence in found.items() if month == MAY}


def test_of_each_partition_that_is_not_fresh_it_is_said_what_comes_next_and_why():
    present = fresh()
    assert told(present) == {}

    put(present, ("source", MAY), "other")
    why = f"input source[{MAY}]: source 2 -> other"
    assert told(present) == {
        "rentals": f"stale: {why}",
        "features": f"waits for rentals[{MAY}]",
        "model": f"waits for features[{MAY}]",
    }
    assert told(present, begun=[("rentals", MAY)])["rentals"] == f"materialized now: {why}"

    present.at_work.add(("rentals", MAY))
    assert told(present)["rentals"] == "a run is at work on it"


def test_what_failed_is_said_to_be_tried_again_and_what_waits_for_it():
    present = fresh()
    put(present, ("source", MAY), "other")
    present.ended["rentals", MAY] = Ended("failed", 300.0, "no rows", "run")
    shown = told(present, with_node("features", code_version="new"))
    assert shown["rentals"].startswith(
        "failed, tried again a day later or when something changes: no rows; input source"
    )
    assert shown["features"] == (
        f"waits for rentals[{MAY}], which failed and is tried again a day later; stale: code of demand.made: code -> new"
    )


def test_a_config_that_is_kept_is_fresh_and_says_so():
    plan = with_node("model", config={"depth": 3, "keep": None})
    present = fresh()
    key = ("model", MAY)
    present.made[key] = replace(present.made[key], config={"depth": 5, "keep": True})
    assert states(plan, present)["model"] == "fresh"
    assert reasons(plan, present, key) == ["setting depth is kept: 5; the project's is 3"]
    present.made[key] = replace(present.made[key], config={"depth": 5, "keep": None})
    assert reasons(plan, present, key) == ["setting depth: 5 -> 3"]
    present.made[key] = replace(present.made[key], config={"depth": 3, "keep": False})
    assert states(plan, present)["model"] == "fresh"
