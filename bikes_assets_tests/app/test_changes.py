"""What a change has rebuilt: exactly what it reaches, by the pipeline's own tables' logs; and what is told of it ever after.

Each change is told twice: what it is, and what it must have made again, by reasoning about the pipeline. The logs are read as
JSON files. Whatever was made has a cause: another input, other code or another config than the last time; and whatever stands
was materialized from what stands. Random changes follow; then every question is asked again as of each of these moments.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bikes_assets.lineage.elements import Answer
from bikes_assets.lineage.event_log import events_since
from bikes_assets.lineage.index import Index
from bikes_assets.lineage.projection import Projection
from bikes_assets.lineage.queries import KINDS
from bikes_assets.project import SCHEMAS, SERVING, SOURCE
from bikes_assets_tests.copied import Store

COLUMNS = {**SCHEMAS, SOURCE.schema.name: SOURCE.schema}
SOAK = os.environ.get("BIKES_SOAK") == "1"

ASSETS = {
    "R": "hourly_rentals",
    "F": "demand_features",
    "M": "demand_model",
    "C": "champion_model",
    "P": "demand_predictions",
    "Q": "prediction_quality",
}


@dataclass(frozen=True)
class Change:
    """A change, and what it has made again.

    Attributes:
        name: what it is.
        make: makes it.
        redone: months by the asset's letter, such as {"R": "03", "F": "03 04"}.
        kept: those of them that come out as they were.
        chosen: months whose champion the figures choose anew: it is kept, or predictions and their quality are made again, too.
    """

    name: str
    make: Callable[[Store], object]
    redone: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    chosen: str = ""


def reorder(store: Store) -> None:
    store.take(store.hours.sample(frac=1, random_state=0))


def to_parquet(store: Store) -> None:
    store.source = store.folder / "hour.parquet"
    hours = pd.read_csv(store.folder / "hour.csv", dtype={"dteday": str, "weathersit": "Int64"})
    hours.to_parquet(store.source, index=False)


def to_csv(store: Store) -> None:
    store.source = store.folder / "hour.csv"


def without(store: Store, day: str, hour: int) -> None:
    store.take(store.hours[(store.hours["dteday"] != day) | (store.hours["hr"] != str(hour))])


def with_shipped(store: Store, day: str, hour: int) -> None:
    hours = store.all_hours
    store.take(pd.concat([store.hours, hours[(hours["dteday"] == day) & (hours["hr"] == str(hour))]]))


def append_month(store: Store, month: str) -> None:
    store.take(pd.concat([store.hours, store.all_hours[store.all_hours["dteday"].str[:7] == month]]))


def comment(store: Store) -> None:
    store.edit("demand/features.py", "    return hum\n", "    # as it came\n\n    return hum\n")
    store.edit("demand/features.py", "Relative humidity of the hour;", "Share of the vapour that air can hold;")


def configure(store: Store, **model: int) -> None:
    store.settings["BIKES_MODEL"] = json.dumps(model)


def redo(assets: str, months: str) -> dict[str, str]:
    return dict.fromkeys(assets, months)


MID_MAY = {"R": "05", "F": "05 06", "M": "06", "C": "06", "P": "05 06", "Q": "05 06"}
"""What an hour of the middle of May reaches: 28 days of features, the model that is judged on May, and what reads any of it."""
MAY_KEPT = redo("MC", "06")
"""The model for June was fitted on the months before May, and May's model stays the champion of June."""

CHANGES = (
    Change(
        "an input of no feature: atemp",
        lambda store: store.set("2011-03-15", 12, atemp="0.5"),
        {"R": "03"},
    ),
    Change(
        "atemp as it was",
        lambda store: with_shipped_fields(store, "2011-03-15", 12, "atemp"),
        {"R": "03"},
    ),
    Change(
        "missing weather filled with what it was taken for",
        lambda store: store.set("2011-04-14", 10, weathersit="1"),
        {"R": "04", "F": "04 05"},
        {"F": "04 05"},
    ),
    Change("rentals of an hour in mid-month", lambda store: store.rent("2011-05-10", 8, 40), MID_MAY, MAY_KEPT),
    Change("those rentals as they were", lambda store: store.rent("2011-05-10", 8, -40), MID_MAY, MAY_KEPT),
    Change(
        "rentals of a month's last hour",  # its features end in demand alone; the lags of May begin with it
        lambda store: store.rent("2011-04-30", 23, 25),
        {"R": "04", "F": "04 05", "M": "05 06", "C": "05 06", "P": "05", "Q": "04 05 06"},
        {"M": "05", "C": "05 06", "Q": "06"},
    ),
    Change("an hour removed", lambda store: without(store, "2011-05-20", 3), MID_MAY, MAY_KEPT),
    Change("the hour back", lambda store: with_shipped(store, "2011-05-20", 3), MID_MAY, MAY_KEPT),
    Change("rows in another order", reorder),
    Change("the same rows as Parquet", to_parquet),
    Change("the CSV again", to_csv),
    Change(
        "humidity in the last month",
        lambda store: store.set("2011-06-20", 15, hum="0.99"),
        redo("RFPQ", "06"),
    ),
    Change(
        "rentals of the very last hour",
        lambda store: store.rent("2011-06-30", 23, 7),
        redo("RFQ", "06"),  # the predictions' columns are as they were
    ),
    Change(
        "rentals of an hour early in the first month",
        lambda store: store.rent("2011-01-02", 6, 30),
        {"R": "01", "F": "01 02", **redo("MCPQ", "03 04 05 06")},
        {"F": "02"},
    ),
    Change("a comment and a docstring", comment),
    Change(  # a drawing is no part of what it is drawn of
        "the width of a line in one plot",
        lambda store: store.edit("demand/plots.py", '_GREY, "actual", 1.2', '_GREY, "actual", 1.4'),
    ),
    Change(
        "how errors are computed, to an equal result",
        lambda store: store.edit("demand/evaluation.py", '["prediction"] - actual', '["prediction"] - 1 * actual'),
        redo("Q", "03 04 05 06"),
        redo("Q", "03 04 05 06"),
    ),
    Change(
        "a feature's body to an equal result",  # the code of features reaches a model through their columns alone
        lambda store: store.edit("demand/features.py", "    return hum\n", "    return hum * 1\n"),
        redo("F", "01 02 03 04 05 06"),
        redo("F", "01 02 03 04 05 06"),
    ),
    Change(
        "a feature's constant",  # the first two models are baselines, which do not read it
        lambda store: store.edit("demand/features.py", "(weathersit >= 3)", "(weathersit >= 2)"),
        {"F": "01 02 03 04 05 06", **redo("Q", "03 04 05 06"), **redo("MCP", "05 06")},
        redo("Q", "03 04"),
    ),
    Change(
        "the default seed",
        lambda store: store.edit("demand/model.py", "    seed: int = 0\n", "    seed: int = 1\n"),
        {"M": "03 04 05 06", **redo("CPQ", "05 06")},
        {"M": "03 04"},
    ),
    Change(
        "a setting: seed",
        lambda store: configure(store, seed=2),
        {"M": "03 04 05 06", **redo("CPQ", "05 06")},
        {"M": "03 04"},
    ),
    Change(
        "a setting: min_training_months",  # May's model is a baseline then
        lambda store: configure(store, seed=2, min_training_months=4),
        {"M": "03 04 05 06", **redo("C", "05 06")},
        {"M": "03 04 06"},
        chosen="05 06",
    ),
    Change(
        "a pin",
        lambda store: store.bikes("pin", "demand_model[2011-03]", "--month", "2011-06", "--reason", "a trial"),
        redo("CPQ", "06"),
    ),
    Change(
        "the pin lifted",
        lambda store: store.bikes("unpin", "--month", "2011-06", "--reason", "it is over"),
        redo("CPQ", "06"),
    ),
    Change("a new month", lambda store: append_month(store, "2011-07"), redo("RFMCPQ", "07")),
)

QUICK = (
    "an input of no feature: atemp",
    "rows in another order",
    "the width of a line in one plot",
    "how errors are computed, to an equal result",
)


def with_shipped_fields(store: Store, day: str, hour: int, *names: str) -> None:
    hours = store.all_hours
    (row,) = hours[(hours["dteday"] == day) & (hours["hr"] == str(hour))].to_dict("records")
    store.set(day, hour, **{name: row[name] for name in names})


def spread(months: dict[str, str], last_month: str) -> set[tuple[str, str]]:
    keys = {(ASSETS[letter], f"2011-{month}") for letter, found in months.items() for month in found.split()}
    return {key for key in keys if key[1] <= last_month}


def inputs_of(record: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(item["asset"], item["partition"]): item["digest"] for item in record["inputs"]}


def seen(record: dict[str, Any], item: tuple[str, str], version: dict[str, Any]) -> dict[str, str]:
    """Return the digests of the columns that a record says it used of a version of an input."""
    used = record["used"].get(item[0]) or version["columns"]
    return {name: version["columns"][name] for name in used} or {"": version["output"]["digest"]}


def settled_by(record: dict[str, Any]) -> tuple[Any, ...]:
    return inputs_of(record), record["code_version"], record["config"]


def key_of(record: dict[str, Any]) -> tuple[str, str]:
    return record["output"]["asset"], record["output"]["partition"]


def same_rows(store: Store, records: list[dict[str, Any]], known: dict[str, str]) -> list[str]:
    """Return the months of which one digest stands for several rows, or the other way round; `known` is added to."""
    by_month = dict(list(store.hours.groupby(store.hours["dteday"].str[:7])))
    wrong: list[str] = []
    for record in records:
        for (asset, month), digest in inputs_of(record).items():
            if asset == "rental_records":
                rows = by_month[month].sort_values("instant", key=lambda column: column.astype(int)).to_csv(index=False)
                wrong += (
                    [month] if known.setdefault(hashlib.sha256(rows.encode()).hexdigest(), digest) != digest else []
                )
    return wrong if len(set(known.values())) == len(known) else [*wrong, "one digest for several rows"]


def judge_change(store: Store, change: Change, known: dict[str, str]) -> list[str]:
    """Make a change, let the pipeline run, and return what is wrong about what was made."""
    before = store.records()
    latest = {key_of(record): record for record in before}
    change.make(store)
    last_month = max(store.hours["dteday"])[:7]
    told = store.status(code=1 if change.redone else 0)
    store.bikes("run")
    records = store.records()
    new = [record for record in records[len(before) :] if record["output"]["asset"] != "champion_pins"]
    expected, expected_kept = spread(change.redone, last_month), spread(change.kept, last_month)
    for champion in spread({"C": change.chosen}, last_month):
        if any(key_of(record) == champion and same_digest(record, latest) for record in new):
            expected_kept.add(champion)
        else:
            expected |= {(ASSETS[letter], champion[1]) for letter in "PQ"}
    made = Counter(map(key_of, new))
    wrong = [f"made {count} times: {key}" for key, count in made.items() if count > 1]
    wrong += [f"made without a reason: {key}" for key in made if key not in expected]
    wrong += [f"not made: {key}" for key in expected if key not in made]
    kept = {key_of(new_) for new_ in new if same_digest(new_, latest)}
    wrong += [f"kept: {key}" for key in kept ^ expected_kept]
    # whatever was made had a cause
    wrong += [
        f"nothing differs: {key_of(record)}"
        for record in new
        if key_of(record) in latest and settled_by(record) == settled_by(latest[key_of(record)])
    ]
    # status had told so
    address = {f"{asset}[{month}]" for asset, month in made}
    due = {name for name, state in told.items() if state in ("stale", "missing")}
    may_be_due = due | {name for name, state in told.items() if state == "pending"}
    wrong += [f"status was wrong about {name}" for name in (due - address) | (address - may_be_due)]
    # whatever stands was materialized from what stands, but for columns that it does not use
    published = {(key_of(record), record["output"]["digest"]): record for record in records}
    latest |= {key_of(record): record for record in records}
    wrong += [
        f"{key} was materialized from another {item}"
        for key, record in latest.items()
        if key[0] != "champion_pins"
        for item, digest in inputs_of(record).items()
        if item in latest
        and latest[item]["output"]["digest"] != digest
        and seen(record, item, published[item, digest]) != seen(record, item, latest[item])
    ]
    for asset in ASSETS.values():
        of_asset = [(item["code_version"], item["config"]) for key, item in latest.items() if key[0] == asset]
        wrong += [f"{asset} is of several codes"] if any(item != of_asset[0] for item in of_asset) else []
    wrong += same_rows(store, list(latest.values()), known)
    assert set(store.status(code=0).values()) == {"fresh"}
    return wrong


def same_digest(record: dict[str, Any], latest: dict[tuple[str, str], dict[str, Any]]) -> bool:
    old = latest.get(key_of(record))
    return old is not None and old["output"]["digest"] == record["output"]["digest"]


@dataclass(frozen=True)
class Moment:
    """What questions were answered after a change.

    Attributes:
        time: when, Unix seconds.
        answers: to what lies upstream and downstream of some things, by kind and name.
    """

    time: float
    answers: dict[tuple[str, str], tuple[Answer, Answer]]


@dataclass(frozen=True)
class Changed:
    """A store after changes: what was wrong about what each had made again, and what was answered after each."""

    store: Store
    wrong: dict[str, list[str]]
    moments: list[Moment]

    @property
    def index(self) -> Index:
        return index_of(self.store)


def index_of(store: Store) -> Index:
    return Index(store.folder / "data" / "lineage.db")


def both_ways(index: Index, start: tuple[str, str], as_of: int | None = None) -> tuple[Answer, Answer]:
    return index.walk([start], "upstream", as_of=as_of), index.walk([start], "downstream", as_of=as_of)


def moment_of(store: Store, rng: random.Random) -> Moment:
    store.bikes("index")  # as every question does
    index = index_of(store)
    starts = [
        (kind, name)
        for kind in KINDS
        for names in [index.names(kind)]
        for name in rng.sample(names, min(4, len(names)))
    ]
    found = Moment(time.time(), {start: both_ways(index, start) for start in starts})
    index.close()
    return found


def change_at_random(store: Store, rng: random.Random) -> None:
    """Change an hour's weather or rentals, drop it, set another seed, pin a model or lift its pin, or ask for a month again."""
    hour = store.hours.iloc[rng.randrange(len(store.hours))]
    at, months = (str(hour["dteday"]), int(hour["hr"])), sorted(set(store.hours["dteday"].str[:7]))[2:]
    served = rng.choice(months)
    kind = rng.choice(["weather", "rentals", "dropped", "seed", "pin", "asked"])
    if kind == "weather":
        store.set(*at, hum=rng.choice([known for known in ("0.35", "0.62", "0.81") if known != hour["hum"]]))
    elif kind == "rentals":
        store.rent(*at, rng.randint(1, 60))
    elif kind == "dropped":
        without(store, *at)
    elif kind == "seed":
        configure(store, seed=rng.randrange(100))
    elif kind == "pin":
        model = rng.choice([month for month in months if month <= served])
        store.bikes("pin", f"demand_model[{model}]", "--month", served, "--reason", "a trial")
        if rng.random() < 0.5:
            store.bikes("unpin", "--month", served, "--reason", "it is over")
    else:
        store.bikes("run", "--force", "--month", served)


@pytest.fixture(scope="module")
def changed(tmp_path_factory: Any) -> Changed:
    """Return a store after changes: some of three months, and all of six months in a soak."""
    rng, last_month = random.Random(5), "2011-06" if SOAK else "2011-03"
    store, known = Store(tmp_path_factory.mktemp("changes"), last_month), dict[str, str]()
    if last_month >= "2011-04":
        store.set("2011-04-14", 10, weathersit="")
    store.bikes("run")
    assert same_rows(store, store.records(), known) == []
    moments, wrong = [moment_of(store, rng)], dict[str, list[str]]()
    for change in CHANGES:
        if SOAK or change.name in QUICK:
            wrong[change.name] = judge_change(store, change, known)
            moments.append(moment_of(store, rng))
    while len(moments) <= (50 if SOAK else 4):
        change_at_random(store, rng)
        store.bikes("run")
        moments.append(moment_of(store, rng))
    return Changed(store, wrong, moments)


@pytest.mark.soak
def test_what_is_made_again_after_a_change_is_what_it_reaches(changed: Changed) -> None:
    assert changed.wrong == {change.name: [] for change in CHANGES if SOAK or change.name in QUICK}


@pytest.mark.soak
def test_as_of_a_moment_each_question_is_answered_as_it_was_then(changed: Changed) -> None:
    index = changed.index
    for moment in changed.moments:
        as_of = index.event_at(moment.time)
        for start, answers in moment.answers.items():
            assert both_ways(index, start, as_of) == answers, (moment.time, start)


@pytest.mark.soak
def test_as_of_a_moment_is_an_index_of_the_log_cut_there(changed: Changed, tmp_path: Path) -> None:
    index, cut = changed.index, Index(tmp_path / "cut.db")
    projection = Projection(cut, COLUMNS, SERVING)
    waiting = list(events_since(str(changed.store.folder / "data" / "dagster"), 0))
    for moment in changed.moments:
        as_of = index.event_at(moment.time)
        while waiting and waiting[0].event <= as_of:
            cut.append([projection.fact(waiting.pop(0))])
        for start in moment.answers:
            for here, there in zip(both_ways(index, start, as_of), both_ways(cut, start), strict=True):
                # what a column means is told by the code of the time
                assert [(item.depth, item.kind, item.name) for item in here.things] == [
                    (item.depth, item.kind, item.name) for item in there.things
                ]
    assert waiting == []


@pytest.mark.soak
def test_status_says_of_each_version_why_it_was_made_and_what_was_new(changed: Changed) -> None:
    made: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in changed.store.records():
        made.setdefault(key_of(record), []).append(record)
    addresses = {f"{asset}[{month}]": (asset, month) for asset, month in made if asset != "champion_pins"}
    told = json.loads(changed.store.bikes("status", "--json", *addresses))["items"]
    for item in told:
        records = made[addresses[item["address"]]]
        assert len(item["versions"]) == len(records)
        for version, before, record in zip(item["versions"], [None, *records], records, strict=False):
            digests = record["columns"] or {"*": record["output"]["digest"]}
            was = (before["columns"] or {"*": before["output"]["digest"]}) if before else {}
            assert version["changed"] == [name for name in digests if was.get(name) != digests[name]]
            assert version["run"] == record["made_by"]["dagster_run_id"]
            reasons = {(reason["kind"], reason["what"]) for reason in version["reasons"]}
            if before is None:
                assert reasons == {("missing", "")}
                continue
            differ = {
                f"{asset}[{month}]"
                for asset, month in {*inputs_of(before), *inputs_of(record)}
                if inputs_of(before).get((asset, month)) != inputs_of(record).get((asset, month))
            }
            inputs = {what for kind, what in reasons if kind == "input"}
            assert inputs <= differ
            assert inputs == differ or before["used"]
            assert ("code" in dict(reasons)) == (before["code_version"] != record["code_version"])
            settings = {name for name in record["config"] if record["config"][name] != before["config"].get(name)}
            assert {what for kind, what in reasons if kind == "config"} >= settings
            if (("asked", "") in reasons) != (settled_by(before) == settled_by(record)):
                assert before["used"]  # what it does not use counts for nothing
