"""Events of other tools: what they say is the same in whatever order they come, and no event harms another."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bikes_assets.core.errors import EventError, StoreError
from bikes_assets.lineage.openlineage import received as module
from bikes_assets.lineage.openlineage.parsed import loaded
from bikes_assets.lineage.openlineage.received import Received
from bikes_assets_tests.lineage.openlineage.foreign import event, random_events

WILD = Path(__file__).with_name("wild")
GOOD = event("run", ["a"], ["b"])


def content_of(received: Received) -> dict[str, list[tuple[Any, ...]]]:
    """Return what events say, without numbers that depend on the order in which they came."""
    ask = received.store.execute
    entities = {number: tuple(rest) for number, *rest in ask("select id, kind, label, col, since from entity")}
    units = {number: (entities[job], entities.get(run)) for number, job, run in ask("select id, job, run from unit")}
    return {
        "events": sorted(ask("select digest from event")),
        "entities": sorted(entities.values()),
        "facts": sorted((entities[at], *rest) for at, *rest in ask("select entity, facet, time, value from fact")),
        "edges": sorted((entities[one], entities[two], *rest) for one, two, *rest in ask("select * from edge")),
        "used": sorted(
            (str(units[unit]), out, entities[at], since) for unit, out, at, since in ask("select * from used")
        ),
        "explicit": sorted((str(units[unit]), entities[at]) for unit, at in ask("select * from explicit")),
        "symlinks": sorted((entities[one], entities[two]) for one, two in ask("select * from symlink")),
    }


@pytest.fixture
def received(tmp_path: Path) -> Iterator[Received]:
    found = Received(tmp_path / "openlineage.db")
    yield found
    found.close()


@pytest.mark.parametrize("seed", range(5))
def test_in_any_order_and_any_number_of_times_events_say_the_same(
    received: Received, tmp_path: Path, seed: int
) -> None:
    rng, events = random.Random(seed), random_events(seed)
    received.add(events)
    other = Received(tmp_path / "other.db")
    while events:
        some = rng.sample(events, min(len(events), rng.randint(1, 7)))
        added = other.add([*some, *some[:2]])
        assert added.known == min(len(some), 2)
        events = [item for item in events if item not in some]
    assert content_of(other) == content_of(received)
    # And read from its events again it has them all
    other.close()
    with sqlite3.connect(other.path) as store:
        store.execute("pragma user_version = 0")
    assert content_of(other) == content_of(received)
    assert [*other.events()] != [] == [item for item in other.events() if item not in [*received.events()]]


def test_events_found_in_the_wild_are_taken_whole(received: Received) -> None:
    events = [json.loads(file.read_text()) for file in sorted(WILD.glob("*.json"))]
    added = received.add(events)
    assert (added.stored, added.refused, [*received.events()]) == (13, {}, events)
    assert received.counts() == {"event": 13, "dataset": 11, "column": 27, "job": 8, "run": 8}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (None, "found nothing, expected an event"),
        ([], "found a list, expected an event"),
        (7, "found a number, expected an event"),
        ({}, "found eventTime nothing, expected a time"),
        (GOOD | {"eventTime": "yesterday"}, "found eventTime 'yesterday', expected a time"),
        (GOOD | {"eventTime": 10**400}, "found eventTime a number"),
        (GOOD | {"job": None}, "found neither job nor dataset"),
        (GOOD | {"job": 3}, "found job a number, expected a JSON object"),
        (GOOD | {"job": {"namespace": "n", "name": 5}}, "found job.name a number, expected text"),
        ({"eventTime": GOOD["eventTime"]}, "found neither job nor dataset"),
        (GOOD | {"run": {"runId": ""}}, "found run.runId text, expected the id of a run"),
        (GOOD | {"inputs": {}}, "found inputs an object, expected a list"),
        (GOOD | {"outputs": [3]}, "found outputs[0] a number, expected a dataset"),
        (GOOD | {"inputs": [{"namespace": "n"}]}, "found inputs[0].name nothing, expected text"),
        (GOOD | {"job": {"namespace": "n", "name": "x" * 10_001}}, "found job.name of 10,001 characters"),
        (GOOD | {"job": {"namespace": "n", "name": "x\0"}}, "found job.name with a NUL character"),
        (GOOD | {"job": {"namespace": "n", "name": "x\ud800"}}, "found job.name with half a character"),
        (EventError("found no JSON"), "found no JSON"),
        (GOOD | {"eventTime": 20240101}, "found eventTime a number"),
        (GOOD | {"more": json.loads("[" * 210 + "]" * 210)}, "found JSON that is nested too deeply, expected 200"),
        (GOOD | {"more": float("inf")}, "found a number that is too large"),
    ],
)
def test_an_invalid_event_is_refused_with_the_reason_and_harms_no_other(
    received: Received, wrong: object, told: str
) -> None:
    before = Received(received.path.with_name("before.db"))
    before.add([GOOD])
    added = received.add([GOOD, wrong])
    assert (added.stored, [*added.refused]) == (1, [1])
    assert added.refused[1].startswith(told)
    assert content_of(received) == content_of(before)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"{", "found no JSON"),
        (b"\xff", "found no JSON"),
        (b"[" * 100_000, "found JSON that is nested too deeply"),
        (b'{"a":' * 100_000, "found JSON that is nested too deeply"),
        (b'{"a": NaN}', "found no JSON (NaN is no number of JSON)"),
        (b"1" * 5_000, "found no JSON"),
        (b" " * (32 << 20) + b"1", "found more than 33,554,432 bytes"),
    ],
)
def test_what_is_no_json_is_an_error_that_says_so(text: bytes, told: str) -> None:
    with pytest.raises(EventError) as error:
        loaded(text)
    assert str(error.value).startswith(told)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    "facets",
    [
        {"schema": 3},
        {"schema": {"fields": {"a": 1}}},
        {"schema": {"fields": [None, {"name": 4}, {"name": "x", "type": {}}]}},
        {"columnLineage": {"fields": []}},
        {"columnLineage": {"fields": {"x": {"inputFields": [{"namespace": 1, "name": "y", "field": "z"}]}}}},
        {"columnLineage": {"fields": {"x": None}, "dataset": "all"}},
        {"symlinks": {"identifiers": [{"namespace": "n"}, 7]}},
        {"lineage": {"inputs": [{"namespace": "n", "name": "m", "field": 3, "type": "JOB"}], "fields": {"x": []}}},
        {"unknown": {"deep": [[[[{}]]]], "text": "\ud800"}},
        {"documentation": None},
        {"<script>alert(1)</script>": {"a": "</script>"}},
    ],
)
def test_a_part_in_another_form_is_passed_over(received: Received, facets: dict[str, Any]) -> None:
    strange = event("run", ["a"], ["b"])
    strange["outputs"][0]["facets"] = facets
    assert received.add([strange]).stored == 1
    assert received.counts()["dataset"] == 2
    assert [*received.events()] == [strange]


def test_no_dataset_in_a_list_of_them_is_none(received: Received) -> None:
    assert received.add([event("run", ["a"], ["b"]) | {"inputs": [None], "outputs": None}]).stored == 1
    assert received.counts().get("dataset", 0) == 0


def test_one_run_id_of_two_jobs_joins_nothing_of_them(received: Received) -> None:
    received.add([event("same", ["a"], ["b"], job="one"), event("same", ["c"], ["d"], job="two")])
    units = received.store.execute("select count(*) from unit").fetchone()
    assert units == (2,)


def test_what_cannot_be_finished_is_as_it_was_and_goes_on(
    received: Received, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BATCH", 10)
    events = random_events(1, 45)

    def broken() -> Iterator[object]:
        yield from events[:25]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        received.add(broken())
    assert received.counts()["event"] == 20
    assert received.add(events).stored == 25
    whole = Received(tmp_path / "whole.db")
    whole.add(events)
    assert content_of(received) == content_of(whole)


_ADD = """
import sys
from pathlib import Path
from bikes_assets.lineage.openlineage.received import Received
from bikes_assets_tests.lineage.openlineage.foreign import random_events
print(Received(Path(sys.argv[1])).add(random_events(2, 300)).stored)
"""


def test_two_processes_at_once_store_each_event_once(received: Received, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _ADD, str(received.path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sum(int(process.communicate()[0]) for process in both) == 300
    whole = Received(tmp_path / "whole.db")
    whole.add(random_events(2, 300))
    assert content_of(received) == content_of(whole)


def test_a_damaged_event_or_file_is_an_error_that_names_it(received: Received) -> None:
    received.add([GOOD, event("other", ["b"], ["c"])])
    received.store.execute("update event set content = zeroblob(5) where id = 2")
    with pytest.raises(
        StoreError, match=r"openlineage\.db: found event 2 damaged, expected OpenLineage events; restore"
    ):
        [*received.events()]
    received.close()
    received.path.write_bytes(b"no database" * 1_000)
    with pytest.raises(StoreError, match="found no SQLite database, or a damaged one"):
        received.counts()


@pytest.mark.parametrize(
    "time",
    [
        "2024-01-01T00:00:00.000000999Z",
        "2024-01-01t00:00:00z",
        "2024-01-01T01:00:00.000+01:00[Europe/Paris]",
        "2024-01-01T00:00:00Z[UTC]",
        "2024-01-01 00:00:00 UTC",
        "2024-01-01 00:00:00.000 +0000",
        "2024-01-01T00:00:00",
    ],
)
def test_a_time_of_any_producer_is_read(received: Received, time: str) -> None:
    assert received.add([GOOD | {"eventTime": time}]).stored == 1
    assert received.store.execute("select distinct round(since, 3) from entity").fetchall() == [(1704067200.0,)]


def test_what_a_producer_writes_as_null_is_as_if_it_were_not_there(received: Received) -> None:
    told = {"eventTime": GOOD["eventTime"], "run": None, "inputs": None, "outputs": None}
    dataset = {"namespace": "n", "name": "d", "facets": None}
    added = received.add([told | {"dataset": dataset, "job": None}, told | {"dataset": None, "job": dataset}])
    assert (added.stored, added.refused) == (2, {})
    assert received.counts() == {"event": 2, "dataset": 1, "job": 1}


def test_fields_of_fields_are_columns_and_a_field_without_a_name_is_none(received: Received) -> None:
    city = {"name": "city", "type": "string", "fields": None}
    fields = [{"name": "address", "type": "struct", "fields": [city, {"name": ""}]}, {"name": ""}]
    wrote = {"namespace": "n", "name": "d", "facets": {"schema": {"fields": fields}}}
    received.add([GOOD | {"outputs": [wrote]}])
    columns = received.store.execute("select col from entity where kind = 1 order by col").fetchall()
    assert columns == [("address",), ("address.city",)]


def test_one_run_is_one_in_upper_and_lower_case(received: Received) -> None:
    run = "0190a1b2-0000-7000-8000-00000000000f"
    received.add([event(run, ["a"], []), event(run.upper(), [], ["b"])])
    assert received.counts()["run"] == 1


def test_of_very_many_invalid_events_the_first_are_named_and_all_are_counted(received: Received) -> None:
    added = received.add({} for _ in range(5_000))
    assert (added.invalid, len(added.refused), max(added.refused)) == (5_000, 1_000, 999)


def test_nothing_is_written_to_a_file_that_was_moved_away(received: Received) -> None:
    received.add([GOOD])
    received.path.rename(received.path.with_name("moved.db"))
    assert received.add([event("other", ["a"], ["b"])]).stored == 1
    assert received.path.exists()
    assert received.counts()["event"] == 1


def test_a_file_that_somebody_has_replaced_is_read_as_it_is_now(received: Received, tmp_path: Path) -> None:
    received.add([GOOD])
    other = Received(tmp_path / "replacing.db")
    other.add([GOOD, event("other", ["a"], ["b"])])
    other.close()
    other.path.replace(received.path)
    received.check()
    assert received.counts()["event"] == 2


def test_an_event_that_an_earlier_version_has_taken_harms_no_other(received: Received) -> None:
    received.add([GOOD])
    content = json.dumps(strange := {"eventTime": "yesterday"}, sort_keys=True, separators=(",", ":")).encode()
    row = [module.hashlib.sha256(content).digest(), 0.0, module.zlib.compress(content)]
    received.store.execute("insert into event values (null, ?, ?, ?)", row)
    received.store.execute("pragma user_version = 0")
    received.close()
    assert received.counts()["run"] == 1
    assert strange in [*received.events()]
