"""Answers about a real run, held against brute force over Dagster's own events."""

from __future__ import annotations

import importlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise

import dagster as dg
import pytest

from bikes_assets.app import answers
from bikes_assets.app.settings import settings
from bikes_assets.app.store import current
from bikes_assets.cli import runner as runs
from bikes_assets.core.errors import LineageError
from bikes_assets.core.record import Record
from bikes_assets.lineage import queries
from bikes_assets.lineage.event_log import events_since
from bikes_assets.lineage.index import Index
from bikes_assets.lineage.projection import MaterializedEvent, Projection
from bikes_assets.lineage.tree import Branch
from bikes_assets.project import SCHEMAS, SERVING, SOURCE
from bikes_assets_tests import forked
from bikes_assets_tests.conftest import MADE, ROOT
from bikes_assets_tests.contents import content_of

COLUMNS = {**SCHEMAS, SOURCE.schema.name: SOURCE.schema}
MODELS = ("demand_model", "champion_model")
Name = tuple[str, str]


@dataclass(frozen=True)
class Event:
    """A materialization, as Dagster's own calls tell it."""

    number: int
    time: float
    record: Record
    lineage: dict[str, list[tuple[str, str]]]


@pytest.fixture(scope="module")
def log(history) -> list[Event]:
    found = []
    for asset in MADE:
        records = history.instance.fetch_materializations(dg.AssetKey(asset), limit=10_000).records
        for item in records:
            metadata = item.asset_materialization.metadata
            columns = metadata["dagster/column_lineage"].value.deps_by_column if asset not in MODELS else {}
            lineage = {
                column: [(dep.asset_key.to_user_string(), dep.column_name) for dep in deps]
                for column, deps in columns.items()
            }
            found.append(Event(item.storage_id, item.timestamp, Record.from_dict(metadata["lineage"].value), lineage))
    return sorted(found, key=lambda event: event.number)


def column_edges(event: Event) -> set[tuple[str, str, str, str]]:
    """Return which columns of which input are in which columns of what an event made; `*` stands for a model."""
    record, found = event.record, set()
    for asset in {item.asset for item in record.inputs}:
        names = [column.name for column in COLUMNS[asset].columns] if asset in COLUMNS else ["*"]
        used = [name for name in names if asset not in record.used or name in record.used[asset]]
        if record.output.asset in MODELS:
            found |= {(asset, name, record.output.asset, "*") for name in used}
        elif names == ["*"]:
            found |= {(asset, "*", record.output.asset, column) for column in record.columns if column != "ts" if used}
        else:
            found |= {
                (asset, name, record.output.asset, column)
                for column, sources in event.lineage.items()
                for of, name in sources
                if of == asset and name in used
            }
    return found


def edges_of(log: list[Event], level: str) -> set[tuple[str, str]]:
    """Return the edges of a level, by the names of both ends, from the records alone."""
    latest = {(event.record.output.asset, event.record.output.partition): event for event in log}
    newest_of = {asset: [event for event in log if event.record.output.asset == asset][-1:] for asset in MADE}
    newest = max(partition for asset, partition in latest if asset == SERVING)
    if level == "dataset":
        return {(item.asset, event.record.output.asset) for event in log for item in event.record.inputs}
    if level == "partition":
        return {
            (f"{item.asset}[{item.partition}]", f"{asset}[{partition}]")
            for (asset, partition), event in latest.items()
            for item in event.record.inputs
        }
    if level == "version":
        found = {(item.address, event.record.output.address) for event in log for item in event.record.inputs}
        for event in log:
            record = event.record
            found |= {
                (record.code_version, record.output.address),
                (record.made_by["dagster_run_id"], record.output.address),
            }
            found |= {
                (model["origin"].removesuffix(" baseline"), record.output.address)
                for model in record.models
                if model["origin"]
            }
            found |= {
                (f"hour.csv@{item.version[:16]}", item.address)
                for item in record.inputs
                if item.asset == "rental_records"
            }
        (serves,) = latest[SERVING, newest].record.models
        return found | {(serves["origin"], "demand_model@champion")}
    # a column's edges are those of its asset's newest event
    found = {
        (f"{asset}.{name}", f"{output}.{column}")
        for events in newest_of.values()
        for event in events
        for asset, name, output, column in column_edges(event)
    }
    return found | {
        (tag, f"{asset}.{column.name}") for asset in COLUMNS for column in COLUMNS[asset].columns for tag in column.tags
    }


def reached(edges: set[tuple[str, str]], start: str, direction: str) -> set[str]:
    ahead: dict[str, set[str]] = defaultdict(set)
    for one, other in edges:
        here, there = (one, other) if direction == "downstream" else (other, one)
        ahead[here].add(there)
    found, waiting = set(), [start]
    while waiting:
        for other in ahead[waiting.pop()] - found:
            found.add(other)
            waiting.append(other)
    return found


@pytest.mark.parametrize("direction", ["upstream", "downstream"])
@pytest.mark.parametrize("level", ["dataset", "column", "partition", "version"])
def test_every_answer_is_that_of_brute_force(log, level: str, direction: str) -> None:
    edges = edges_of(log, level)
    starts = {end for edge in edges for end in edge} - {"demand_model@champion"}  # a name of a version
    assert len(starts) >= 6
    ask = answers.upstream if direction == "upstream" else answers.downstream
    for start in starts:
        answer = ask(start)
        # names of versions are told beside them: see test_levels.py
        names = {item.name for item in answer.things if item.kind == "model version"} | {"demand_model@champion"}
        assert {item.name for item in answer.things} - names == reached(edges, start, direction) - names, start


def test_a_partitions_column_is_followed_through_versions(log) -> None:
    edges = set()
    for event in log:
        made = event.record.output
        for asset, name, output, column in column_edges(event):
            target = f"{output}.{column}[{made.partition}]@{made.version}"
            read = (item for item in event.record.inputs if item.asset == asset)
            edges |= {(f"{asset}.{name}[{item.partition}]@{item.version}", target) for item in read}
    for start in random.Random(0).sample(sorted({one for one, _ in edges}), 60):
        found = {item.name for item in answers.downstream(start).things if item.kind == "column version"}
        assert found == reached(edges, start, "downstream"), start
    newest = [event for event in log if event.record.output.asset == "demand_features"][-1].record.output
    partition = f"demand_features.temperature[{newest.partition}]"
    assert answers.upstream(partition) == answers.upstream(f"{partition}@{newest.version}")


def test_the_way_of_a_column_is_told(log) -> None:
    edges = edges_of(log, "column")

    def ways(start: str, end: str) -> int:
        return 1 if start == end else sum(ways(other, end) for one, other in edges if one == start)

    for start, end in (("rental_records.temp", "prediction_quality.error"), ("hourly_rentals.cnt", "demand_model.*")):
        count, found = answers.paths(start, end)
        assert count == ways(start, end) > 1
        for way in found:
            names = [item.name for item in way]
            assert (names[0], names[-1]) == (start, end)
            assert all(pair in edges for pair in pairwise(names))


def test_a_tag_goes_wherever_its_columns_go(log) -> None:
    found = answers.downstream("licence: CC BY 4.0")
    below = reached(edges_of(log, "column"), "licence: CC BY 4.0", "downstream")
    assert {item.name for item in found.things} == below | {"demand_model@champion"}
    assert found.counts["column"] > 40
    assert "licence: CC BY 4.0" in {item.name for item in answers.upstream("demand_predictions.prediction").things}


def test_a_model_does_not_stand_on_columns_that_it_does_not_use(log) -> None:
    fitted = next(event.record for event in reversed(log) if event.record.output.asset == "demand_model")
    found = {item.name for item in answers.upstream("demand_model.*", depth=1).things}
    assert found == {f"demand_features.{name}" for name in fitted.used["demand_features"]}
    assert "demand_features.demand_lag_24h" not in found
    assert "demand_features.cnt" in found


def test_what_is_registered_is_a_version_of_the_lake(log, history) -> None:
    index = answers.refreshed()
    for version in history.client.search_model_versions("name = 'demand_model'"):
        address = f"demand_model@{version.version}"
        found = queries.version_named(index, queries.find(index, address))
        assert answers.named(address) == f"{address} ({found.name})"
        assert found.name == version.tags["address"]
        assert found.facts["digest"] == version.tags["digest"]


def test_the_alias_is_the_model_that_served_at_the_time(log) -> None:
    served: list[tuple[float, str, str]] = []
    for event in log:
        output = event.record.output
        if output.asset == SERVING and all(output.partition >= partition for _, partition, _ in served):
            served.append((event.time, str(output.partition), event.record.models[0]["origin"]))
    assert len({address for _, _, address in served}) > 1
    for time, _, address in served:
        moment = datetime.fromtimestamp(time + 1e-3, UTC)
        serves = address.removesuffix(" baseline")
        assert answers.named("demand_model@champion", as_of=moment) == f"demand_model@champion ({serves})"
        assert answers.upstream("demand_model@champion", as_of=moment) == answers.upstream(serves, as_of=moment)


def test_as_of_any_event_is_an_index_of_the_log_cut_there(log, tmp_path) -> None:
    rng, storage, index = random.Random(0), current().events, answers.refreshed()
    cut = Index(tmp_path / "cut.db")
    projection = Projection(cut, COLUMNS, SERVING)
    for event in events_since(storage, 0):
        cut.append([projection.fact(event)])
        names = [name for kind in ("dataset", "column", "partition", "version") for name in cut.names(kind)]
        for name in rng.sample(names, min(8, len(names))):
            (known,) = cut.find(name)
            assert index.find(name, known.kind, as_of=event.event) == [known]
            for direction in ("upstream", "downstream"):
                start = [(known.kind, name)]
                assert index.walk(start, direction, as_of=event.event) == cut.walk(start, direction)
    assert content_of(cut)["edges"] == content_of(index)["edges"]


def test_an_event_that_was_reported_later_has_the_column_lineage_of_the_one_before(log, tmp_path) -> None:
    index = Index(tmp_path / "index.db")
    projection = Projection(index, COLUMNS, SERVING)
    events = list(events_since(current().events, 0))
    index.append(projection.fact(event) for event in events)
    columns = [name for name in index.names("column") if not name.startswith("rental_records.")]
    before = {name: index.neighbours("column", name, "upstream") for name in columns}
    for asset in ("hourly_rentals", "demand_features", "demand_predictions", "prediction_quality"):
        last = [
            event for event in events if isinstance(event, MaterializedEvent) and event.record.output.asset == asset
        ][-1]
        index.append([Projection(index, COLUMNS, SERVING).fact(replace(last, event=index.cursor + 1, lineage={}))])
    assert {name: index.neighbours("column", name, "upstream") for name in columns} == before


def test_the_index_can_be_lost(log) -> None:
    before = content_of(answers.refreshed())
    assert before["things"]
    file = answers.refreshed().path
    answers.refreshed().close()
    file.unlink()
    assert content_of(answers.refreshed()) == before
    assert content_of(answers.rebuild()) == before


def test_a_name_that_is_nothings_is_told_with_the_nearest(log) -> None:
    for wrong, near in (
        ("demand_feature", "demand_features"),
        ("demand_features.temprature", "demand_features.temperature"),
        ("demand_features[2011-99]", "demand_features[2011-0"),
        ("demand_model@99", "demand_model@"),
    ):
        with pytest.raises(
            LineageError, match=f"found nothing called '{re.escape(wrong)}'; expected one like .*{re.escape(near)}"
        ):
            answers.upstream(wrong)
    with pytest.raises(LineageError, match=r"'demand_features\[2011-05\]@99'; expected one of its versions: 5$"):
        answers.upstream("demand_features[2011-05]@99")
    with pytest.raises(LineageError, match=r"found the row 'demand_features.2011-03.#2011-03-05T08:00'.*bikes trace"):
        answers.upstream("demand_features[2011-03]#2011-03-05T08:00")
    with pytest.raises(LineageError, match="found nothing called 'demand_features' at that time; nothing has been"):
        answers.upstream("demand_features", as_of="2001-01-01")
    with pytest.raises(LineageError, match="found time 'yesterday', expected one like 20"):
        answers.upstream("demand_features", as_of="yesterday")


def test_code_and_runs_are_found_by_the_beginnings_of_their_names(log) -> None:
    record = log[-1].record
    for name in (record.code_version, record.made_by["dagster_run_id"]):
        assert answers.downstream(name[:12]) == answers.downstream(name)
        assert record.output.address in {item.name for item in answers.downstream(name).things}


def bikes(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ("-c", "from bikes_assets.cli import main; main(prog_name='bikes')", *arguments)
    return forked.run(command, environment=os.environ | {"COLUMNS": "200"} | environment, folder=ROOT)


def heavy_imports(*arguments: str) -> str:
    """Return which of the libraries that take long to import a command imports."""
    code = (
        "import sys; from bikes_assets.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'dagster', 'mlflow', 'sklearn', 'pandas', 'pyarrow'} & set(sys.modules)), file=sys.stderr)"
    )
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True).stderr


@pytest.mark.parametrize("width", [80, 120])
def test_ways_and_counts_are_no_wider_than_the_terminal(log, width: int) -> None:
    ways = ("path", "hourly_rentals.cnt", "prediction_quality.error")
    for words in (ways, ("upstream", "demand_model@champion")):
        wide, narrow = bikes(*words, COLUMNS="1000").stdout, bikes(*words, COLUMNS=str(width)).stdout
        assert max(map(len, narrow.splitlines())) <= width < max(map(len, wide.splitlines()))
        assert narrow.split() == wide.split()
    assert max(map(len, bikes(*ways, COLUMNS="").stdout.splitlines())) > 120  # no terminal: a way is a line


def test_commands_count_first_and_cut_nothing(log) -> None:
    answer = answers.downstream("hourly_rentals.temp")
    done = bikes("downstream", "hourly_rentals.temp")
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert heavy_imports("downstream", "hourly_rentals.temp") == "[]\n"
    assert lines[0].startswith(f"{len(answer.things)} downstream of hourly_rentals.temp: ")
    assert len(lines) == len(answer.things) + 1
    told = json.loads(bikes("downstream", "hourly_rentals.temp", "--json").stdout)["items"]
    assert [item["depth"] for item in told] == [item.depth for item in answer.things]
    done = bikes("path", "hourly_rentals.temp", "prediction_quality.error", "--most", "1")
    count, _ = answers.paths("hourly_rentals.temp", "prediction_quality.error")
    assert done.stdout.splitlines()[0] == f"{count} ways"
    assert f"and {count - 1} more" in done.stdout
    assert bikes("path", "prediction_quality.error", "hourly_rentals.temp").returncode == 1
    done = bikes("search", "air", "temperature", "--json")
    assert {item["address"] for item in json.loads(done.stdout)["items"]} >= {"hourly_rentals.temp"}
    assert bikes("search", "nonesuch").returncode == 1
    done = bikes("upstream", "demand_featurs")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: found nothing called 'demand_featurs'; expected one like demand_features")


def listed(branches: Sequence[Branch], on: Branch | None = None) -> Iterator[tuple[Branch, Branch | None]]:
    """Yield each branch of a tree with the one that it lies on."""
    for branch in branches:
        yield branch, on
        yield from listed(branch.branches, branch)


@pytest.mark.parametrize("direction", ["upstream", "downstream"])
@pytest.mark.parametrize("level", [None, *queries.KINDS])
def test_a_tree_holds_what_was_found_once_and_each_where_an_edge_leads(log, direction, level) -> None:
    index = answers.refreshed()
    for start in ("demand_features.temperature", "demand_model[2011-06]", "demand_model@champion", "hourly_rentals"):
        answer = getattr(answers, direction)(start, level=level)
        branches = [*listed(answers.tree(answer, direction))]
        things = sorted((item.kind, item.name) for branch, _ in branches for item in branch.things)
        assert things == sorted((item.kind, item.name) for item in answer.things)
        there = {(item.kind, item.name): item.depth for item in answer.things}
        for branch, on in branches:
            first = branch.things[0]
            back = "downstream" if direction == "upstream" else "upstream"
            edges = index.neighbours(first.kind, first.name, back)
            ends_of = {edge.target if direction == "upstream" else edge.source for edge in edges}
            nearer = {end for end in ends_of if there.get(end, first.depth) < first.depth}
            ends = {(item.kind, item.name) for item in on.things} if on else set()
            assert nearer & ends or (not nearer and (on is None or first.kind in ("alias", "model version")))


def test_a_tree_has_ranges_and_functions_and_runs_where_they_are_asked_for(log) -> None:
    lines = bikes("upstream", "demand_model[2011-07]@5").stdout.splitlines()
    assert lines[0] == (
        "29 upstream of demand_model[2011-07]@5: 3 code, 7 runs, 18 versions, 1 file (--runs lists the runs)"
    )
    assert [re.sub(r" [0-9a-f]{8}$", "", line) for line in lines[1:]] == [
        "├─ code defs.model.demand_model",
        "└─ demand_features[2011-01..2011-06]@1..6, 6 versions",
        "   ├─ code defs.features.demand_features",
        "   └─ hourly_rentals[2011-01..2011-06]@1..6, 6 versions",
        "      ├─ code defs.raw.hourly_rentals",
        "      └─ rental_records[2011-01..2011-06], 6 versions",
        "         └─ file hour.csv@35f54957b7ccea2a",
    ]
    runs = [
        line for line in bikes("upstream", "demand_model[2011-07]@5", "--runs").stdout.splitlines() if "─ run " in line
    ]
    assert len(runs) == 7
    assert len(bikes("upstream", "demand_model[2011-07]@5", "--level", "run").stdout.splitlines()) == 8


def test_a_path_that_leads_the_other_way_is_told(log) -> None:
    done = bikes("path", "prediction_quality.error", "hourly_rentals")
    count = answers.paths("hourly_rentals", "prediction_quality.error")[0]
    told = f"0 ways; {count} in the other direction: bikes path hourly_rentals prediction_quality.error\n"
    assert (done.returncode, done.stdout) == (1, told)


def test_a_search_finds_all_that_has_the_words(log) -> None:
    def words(*texts: str) -> set[str]:
        return set(re.findall(r"[a-z0-9]+", " ".join(texts).lower()))

    known = {
        f"{asset}.{column.name}": words(asset, column.name, column.meaning, column.unit)
        for asset, schema in COLUMNS.items()
        for column in schema.columns
    }
    plan = runs.plan()
    for asset in {*MADE, "rental_records"}:
        function = plan.nodes[asset].function if asset in plan.nodes else ""
        told = getattr(importlib.import_module(function.rpartition(".")[0]), asset).op.description if function else ""
        columns = [text for name, text in known.items() if name.startswith(f"{asset}.")]
        known[asset] = set().union(
            words(asset, (told or "").partition("\n")[0]), *(part - words(asset) for part in columns)
        )
    for asked in ("temperature", "mean demand", "rental", "fitted", "champion predict", "hour"):
        beginnings = words(asked)
        expected = {
            name for name, has in known.items() if all(any(word.startswith(one) for word in has) for one in beginnings)
        }
        found = {item.name for item in answers.search(asked, most=1000) if item.kind in ("dataset", "column")}
        assert found == expected, asked
        assert expected
    for called in ("demand_features.temperature", "Temperature", "demand_model", "prediction_quality.error"):
        name = "demand_features.temperature" if called == "Temperature" else called
        assert answers.search(called)[0].name == name, called
    assert [(item.kind, item.name) for item in answers.search("licence")] == [("tag", "licence: CC BY 4.0")]
    assert {item.kind for item in answers.search("demand_model")} >= {"dataset", "model version", "alias"}
    boosted = {
        event.record.output.address
        for event in log
        if event.record.output.asset == "demand_model"
        and event.record.params["model"].startswith("HistGradientBoosting")
    }
    assert {item.facts["text"].split()[-1] for item in answers.search("histgradientboosting")} == boosted


def test_who_has_read_enough_is_no_error(log) -> None:
    program = f"{sys.executable} -c 'from bikes_assets.cli import main; main()' upstream demand_predictions | head -1"
    done = subprocess.run(program, shell=True, capture_output=True, text=True)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_shells_complete_addresses(log) -> None:
    def completed(*words: str) -> list[str]:
        told = bikes(
            _BIKES_COMPLETE="bash_complete", COMP_WORDS=" ".join(("bikes", *words)), COMP_CWORD=str(len(words))
        )
        assert told.returncode == 0
        return [line.removeprefix("plain,") for line in told.stdout.splitlines()]

    assert completed("downstream", "demand_features.temp") == [
        "demand_features.temperature",
        "demand_features.temperature_above_27d",
    ]
    assert completed("diff", "demand_model@c") == ["demand_model@champion"]
    assert completed("status", "hourly_rentals[2011-0") == [f"hourly_rentals[2011-0{month}]" for month in range(1, 8)]
    assert completed("diff", "demand_features[2011-01]", "demand_features[2011-01]@")[0] == "demand_features[2011-01]@1"
    assert completed("path", "nothing_of_that") == [""]
    assert answers.begun("") == [*sorted({*MADE, "rental_records"}), "licence: CC BY 4.0"]


def test_waste_is_what_nothing_reads_and_what_it_took(log, history) -> None:
    found = answers.waste()
    edges = edges_of(log, "column")
    readers = {one for one, _ in edges_of(log, "dataset")}
    known = {f"{asset}.{name}" for asset in ("hourly_rentals", "demand_features") for name in COLUMNS[asset].names}
    known |= {f"demand_predictions.{name}" for name in COLUMNS["demand_predictions"].names}
    assert set(found.without_readers) == {"prediction_quality"} == {*MADE} - readers
    source = {name for name in found.unread if name.startswith("rental_records.")}
    assert {*found.unread} - source == {name for name in known if not any(one == name for one, _ in edges)}
    assert "hourly_rentals.casual" in found.unread
    fitted = [event.record.used["demand_features"] for event in log if event.record.output.asset == "demand_model"][-1]
    assert {name.partition(".")[2] for name in found.unused["demand_model"]} == {*COLUMNS["demand_features"].names} - {
        *fitted
    }
    seconds = {
        asset: sum(
            step.end_time - step.start_time
            for event in log
            if event.record.output.asset == asset
            for step in history.instance.get_run_step_stats(event.record.made_by["dagster_run_id"], [asset])
        )
        for asset in MADE
    }
    told = {item.asset: (item.times, item.unchanged) for item in found.spent}
    assert told == {asset: (sum(event.record.output.asset == asset for event in log), 0) for asset in MADE}
    for item in found.spent:
        assert item.seconds == pytest.approx(seconds[item.asset], rel=0.2)
    assert 0 < found.overhead < 1
    assert found.steps == pytest.approx(sum(item.seconds for item in found.spent))


def test_a_question_takes_in_what_has_happened_since(log, tmp_path) -> None:
    """A run's events are in the answer to the next question, whoever made them."""
    shutil.copytree(settings().data_folder, tmp_path / "data", ignore=shutil.ignore_patterns("*.lock"))
    elsewhere = {
        "BIKES_DATA": str(tmp_path / "data"),
        "DAGSTER_HOME": str(tmp_path / "data" / "dagster"),
        "BIKES_MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/data/mlflow/mlflow.db",
    }
    question = ("downstream", "hourly_rentals[2011-01]@1", "--json")
    before = bikes(*question, **elsewhere).stdout
    done = bikes("run", "--force", "--month", "2011-01", **elsewhere)
    assert done.returncode == 0, done.stderr
    new = set(bikes(*question, **elsewhere).stdout.splitlines()) ^ set(before.splitlines())
    assert new == set()  # what was read then was read then
    again = json.loads(bikes("upstream", "demand_features[2011-01]", "--json", **elsewhere).stdout)["items"]
    assert [item["address"] for item in again] == ["hourly_rentals[2011-01]", "rental_records[2011-01]"]
    made = json.loads(bikes("downstream", "rental_records[2011-01]", "--json", **elsewhere).stdout)["items"]
    assert len(made) > 5
    events = bikes("index", **elsewhere).stdout
    assert int(events.rpartition(" ")[2].replace(",", "")) > answers.refreshed().cursor
    assert bikes("index", "--rebuild", **elsewhere).stdout == events
    spent = {
        item["asset"]: item for item in json.loads(bikes("waste", "--json", **elsewhere).stdout)["items"][0]["spent"]
    }
    assert {asset: item["unchanged"] for asset, item in spent.items() if item["unchanged"]} == {
        "hourly_rentals": 1,
        "demand_features": 1,
    }
