"""`bikes openlineage ingest`: files of other tools' events, and what questions then find."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bikes_assets.app.settings import settings
from bikes_assets.app.store import lake
from bikes_assets.cli import main
from bikes_assets_tests.conftest import store_at
from bikes_assets_tests.lineage.openlineage.foreign import column_lineage, dataset, event

EVENTS = [event(f"run{number}", [f"t{number}"], [f"t{number + 1}"]) for number in range(3)]


def bikes(*words: str | Path, given: bytes = b"") -> Result:
    return CliRunner().invoke(main, [*map(str, words)], prog_name="bikes", input=given)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of an empty store."""
    for name, value in store_at(tmp_path / "data").items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


@pytest.mark.parametrize("form", ["lines", "blank lines", "a list", "pretty", "one", "one, pretty", "no end of line"])
def test_a_file_of_any_form_is_read(store: Path, form: str) -> None:
    lines, file = [json.dumps(item) for item in EVENTS], store / "events.json"
    texts = {
        "lines": "\n".join(lines) + "\n",
        "blank lines": "\n\n".join(["", *lines, ""]),
        "a list": json.dumps(EVENTS),
        "pretty": json.dumps(EVENTS, indent=2),
        "one": lines[0],
        "one, pretty": json.dumps(EVENTS[0], indent=4),
        "no end of line": "\n".join(lines),
    }
    file.write_text(texts[form])
    count = "1 event" if form.startswith("one") else "3 events"
    done = bikes("openlineage", "ingest", file)
    assert (done.exit_code, done.stdout) == (0, f"{file}: {count} stored, 0 known already\n")
    done = bikes("openlineage", "ingest", "-", given=texts[form].encode())
    assert (done.exit_code, done.stdout) == (0, f"-: 0 events stored, {count[0]} known already\n")


def test_what_is_invalid_is_named_and_the_rest_is_stored(store: Path) -> None:
    lines = ["not JSON", json.dumps(EVENTS[0]), '{"eventTime": 5}', "[" * 10_000, json.dumps(EVENTS[1:])]
    (store / "bad.ndjson").write_text("\n".join(lines))
    done = bikes("openlineage", "ingest", store / "bad.ndjson")
    assert (done.exit_code, done.stdout) == (1, f"{store}/bad.ndjson: 3 events stored, 0 known already, 3 invalid\n")
    assert [line.partition(": ")[2][:22] for line in done.stderr.splitlines()] == [
        "event 1: found no JSON",
        "event 3: found eventTi",
        "event 4: found JSON th",
    ]
    done = bikes("openlineage", "ingest", "--json", store / "bad.ndjson")
    (answer,) = json.loads(done.stdout)["items"]
    assert (answer["stored"], answer["known"], [item["event"] for item in answer["refused"]]) == (0, 3, [1, 3, 4])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda _: None, "No such file or directory; name a file of OpenLineage events"),
        (lambda file: file.mkdir(), "Is a directory; name a file of OpenLineage events"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_before_any_is_stored(store: Path, make, told: str) -> None:
    (store / "good.ndjson").write_text(json.dumps(EVENTS[0]))
    make(store / "other")
    done = bikes("openlineage", "ingest", store / "good.ndjson", store / "other")
    assert (done.exit_code, done.stderr) == (2, f"error: {store}/other: {told}\n")
    assert not (store / "data" / "openlineage.db").exists()


def test_questions_go_on_from_what_is_ours_to_what_others_made_of_it(copied: Path, tmp_path: Path) -> None:
    ours = f"{lake().location}/demand_predictions"
    daily = dataset("mart/daily", columnLineage=column_lineage({"total": [(ours, "prediction")]}))
    (tmp_path / "events.ndjson").write_text(json.dumps(event("r1", [ours], [daily], job="make_daily")))
    assert bikes("openlineage", "ingest", tmp_path / "events.ndjson").exit_code == 0
    done = bikes("downstream", "hourly_rentals.temp", "--json")
    assert "s3://elsewhere/mart/daily.total" in [item["address"] for item in json.loads(done.stdout)["items"]]
    done = bikes("upstream", "daily.total")
    assert "rental_records.temp" in done.stdout
    done = bikes("upstream", "daily.total", "--level", "file")
    assert "file hour.csv@" in done.stdout
    done = bikes("upstream", "daily", "--level", "code")
    assert "code defs.model.demand_model" in done.stdout
    done = bikes("path", "rental_records.temp", "daily.total")
    assert (done.exit_code, "-> s3://elsewhere/mart/daily.total" in " ".join(done.stdout.split())) == (0, True)
    done = bikes("downstream", "demand_features[2011-06]", "--level", "dataset")
    assert "s3://elsewhere/mart/daily" in done.stdout
    done = bikes("search", "daily")
    assert "s3://elsewhere/mart/daily" in done.stdout


def test_a_dataset_that_is_mapped_to_no_asset_is_an_error_that_names_both(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store / "events.ndjson").write_text(json.dumps(EVENTS[0]))
    assert bikes("openlineage", "ingest", store / "events.ndjson").exit_code == 0
    monkeypatch.setenv("BIKES_OPENLINEAGE_DATASETS", '{"duckdb:///trips main.trips": "hourly_rental"}')
    settings.cache_clear()
    done = bikes("search", "t1")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "error: dataset 'duckdb:///trips main.trips': found no asset 'hourly_rental', expected one like hourly_rentals"
    )
