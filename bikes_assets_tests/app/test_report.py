"""The report on a model of a real store: its numbers beside pandas over the lake's files and MLflow's own, and its addresses."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from deltalake import DeltaTable

from bikes_assets.app.report.model_report import model_report
from bikes_assets.cli import main
from bikes_assets.core.address import Address
from bikes_assets.events.run_log import REPRODUCTION
from bikes_assets.governance.report.page import as_html
from bikes_assets.lineage import queries
from bikes_assets.project import project
from bikes_assets_tests.conftest import ROOT
from bikes_assets_tests.governance.reports import FORBIDDEN, ReadPage, places_of, shown_in_cell, table

MODEL, VERSION = "demand_model@3", "demand_model[2011-05]@3"


def bikes(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, words)], prog_name="bikes")


def document_of(address: str) -> dict[str, Any]:
    """Return the report on a model as `--json` prints it."""
    done = bikes("report", address, "--json")
    assert done.exit_code == 0, done.output
    (item,) = json.loads(done.stdout)["items"]
    return item


def rows_of(lake: Path, address: str) -> pd.DataFrame:
    """Return the rows of a version, read by pandas from the Parquet files that Delta lists for it."""
    place = Address.parse(address)
    assert place
    known = DeltaTable(str(lake / place.asset), version=int(place.version or 0))
    files = [file for file in known.file_uris() if f"={place.partition}/" in file]
    return pd.concat([pd.read_parquet(file) for file in files])


def scores(rows: pd.DataFrame) -> dict[str, float]:
    """Return the errors of predictions, by their definitions."""
    actual, error = rows["actual"].to_numpy(float), (rows["prediction"] - rows["actual"]).to_numpy(float)
    of_baseline = (rows["baseline"] - rows["actual"]).to_numpy(float)
    rmse, baseline = np.sqrt(np.mean(error**2)), np.sqrt(np.mean(of_baseline**2))
    return {
        "rows": len(rows),
        "r2": 1 - np.sum(error**2) / np.sum((actual - actual.mean()) ** 2),
        "rmse": rmse,
        "mae": np.mean(np.abs(error)),
        "bias": np.mean(error),
        "baseline_rmse": baseline,
        "skill": 1 - rmse / baseline,
    }


def test_accuracy_is_that_of_the_rows_in_the_lake(copied: Path) -> None:
    document = document_of(MODEL)
    # Given what the model predicted: the partitions whose champion it was
    evaluated = table(document, "accuracy", "evaluated")
    assert [row["address"] for row in evaluated] == ["prediction_quality[2011-05]@3", "prediction_quality[2011-06]@4"]
    # Then by partition, over all, by hour and by weather the metrics are those of these rows
    frames = [rows_of(copied / "lake", row["address"]) for row in evaluated]
    for row, frame in zip(evaluated, frames, strict=True):
        assert {name: row[name] for name in scores(frame)} == pytest.approx(scores(frame))
    rows = pd.concat(frames)
    (everything,) = table(document, "accuracy", "by all")
    assert {name: everything[name] for name in scores(rows)} == pytest.approx(scores(rows))
    by_hour = table(document, "accuracy", "by hour of the day")
    assert len(by_hour) == 24
    for row in by_hour:
        found = scores(rows[rows["ts"].dt.hour == int(row["segment"][:2])])
        assert {name: row[name] for name in found} == pytest.approx(found)
    kinds = {"clear": 1, "mist or clouds": 2, "light rain or snow": 3}
    by_weather = table(document, "accuracy", "by weather")
    assert [row["segment"] for row in by_weather] == [*kinds]
    for row in by_weather:
        found = scores(rows[rows["weather_kind"] == kinds[row["segment"]]])
        assert {name: row[name] for name in found} == pytest.approx(found)
    assert document["sections"]["accuracy"]["tables"]["by weather"]["addresses"] == [
        row["address"] for row in evaluated
    ]


def test_validation_splits_and_identity_are_those_that_mlflow_has(copied: Path) -> None:
    from bikes_assets.app.settings import settings
    from bikes_assets.tracking.client import client_of

    document = document_of(MODEL)
    version = client_of(settings().tracking_uri).get_model_version("demand_model", "3")
    run = client_of(settings().tracking_uri).get_run(version.run_id)
    (validated,) = table(document, "accuracy", "validated")
    assert validated.pop("on") == "demand_features[2011-04]"
    assert validated == {name: run.data.metrics[name] for name in ("rows", "r2", "rmse", "mae", "bias")}
    # the rows in each role, by digest and number
    used = {
        next(tag.value for tag in item.tags if tag.key == "mlflow.data.context"): item.dataset.digest
        for item in run.inputs.dataset_inputs
    }
    splits = {row["role"]: row for row in table(document, "splits", "splits")}
    assert {role: row["digest"] for role, row in splits.items()} == {
        "fitted on": used["training"],
        "validated on": used["validation"],
    }
    counted = {
        role: sum(len(rows_of(copied / "lake", address)) for address in row["address"]) for role, row in splits.items()
    }
    assert {role: row["rows"] for role, row in splits.items()} == counted
    assert (
        document["sections"]["splits"]["about"]
        == "It was validated on other partitions than those that it was fitted on."
    )
    # the file of the model, and the run
    identity = {row["name"]: row["value"] for row in table(document, "model", "identity")}
    file = copied / "lake" / "model_files" / f"{identity['SHA-256 of its file']}.skops"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == identity["SHA-256 of its file"]
    assert (identity["registered as"], identity["in MLflow"]) == (
        MODEL,
        run.outputs.model_outputs[0].model_id,
    )
    runs = {row["name"]: row["value"] for row in table(document, "environment", "code")}
    assert runs["MLflow run"] == version.run_id


def test_data_are_those_of_the_source_s_file(copied: Path) -> None:
    document = document_of(MODEL)
    source = ROOT / "data" / "raw" / "hour.csv"
    (file,) = table(document, "data", "files")
    assert (file["sha256"], file["bytes"]) == (hashlib.sha256(source.read_bytes()).hexdigest(), source.stat().st_size)
    (dataset,) = table(document, "data", "datasets")
    hours = pd.read_csv(source)
    hours = hours[hours["dteday"] < "2011-05-01"]
    assert (dataset["partitions"], dataset["rows"], dataset["licence"]) == ("2011-01..2011-04", len(hours), "CC BY 4.0")
    counts = hours["dteday"].str[:7].value_counts().to_dict()
    assert {row["address"][15:22]: row["rows"] for row in table(document, "data", "read")} == counts


def test_features_have_their_meaning_reason_and_lineage_and_those_that_the_model_does_not_read_are_left_out(
    copied: Path,
) -> None:
    from bikes_assets.demand import features

    rows = {row["address"]: row for row in table(document_of(MODEL), "features", "features")}
    read = [item for item in features.FEATURES if item.name not in ("demand_lag_24h", "demand_lag_168h")]
    assert [*rows] == [f"demand_features.{item.name}" for item in read]
    for item in read:
        row = rows[f"demand_features.{item.name}"]
        assert (row["meaning"], row["why"], row["unit"]) == (item.column.meaning, item.rationale, item.column.unit)
        assert {*row["computed_from"]} == {f"hourly_rentals.{name}" for name in features.COLUMN_LINEAGE[item.name]}
        assert row["evidence"] == "observed"
    assert rows["demand_features.hour_of_day"]["goes_back_to"] == ["rental_records.dteday", "rental_records.hr"]


def test_every_address_is_one_that_the_questions_answer(copied: Path) -> None:
    from bikes_assets.app import answers

    for asked in (MODEL, "demand_model@champion", "demand_model[2011-03]"):
        report, index = model_report(asked), answers.refreshed()
        found = [*report.addresses()]
        assert len(found) > 20
        for address in found:
            assert queries.find(index, address).name
            assert answers.named(address)


def test_the_page_and_the_json_say_the_same(copied: Path) -> None:
    report = model_report(MODEL)
    page, document = ReadPage(as_html(report)), report.to_dict()
    assert [*page.sections] == [*document["sections"]]
    for section in report.sections[1:]:
        rows = iter(page.sections[section.name])
        for known in section.tables:
            values = table(document, section.name, known.name)
            shown = [item for item in known.fields if not item.below]
            for row in values:
                cells = [cell.split("\n")[0] for cell in next(rows)]
                places = {item.name: places_of(values, item.name) for item in shown if item.kind == "number"}
                assert cells == [shown_in_cell(row[item.name], item.kind, places.get(item.name)) for item in shown]
            below = [(item, row[item.name]) for item in known.fields if item.below for row in values if row[item.name]]
            for item, value in below:
                assert f"{item.title} {shown_in_cell(value, item.kind, None)}" in page.texts[section.name]
            for text in (known.title, known.note, *known.addresses, *(() if values else (known.empty,))):
                assert text in page.texts[section.name]
        assert next(rows, None) is None
        assert section.about in page.texts[section.name]
    assert not FORBIDDEN & {tag for tag, _ in page.tags}


def test_the_command_writes_a_page_and_prints_a_summary_that_fits(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = bikes("report", MODEL, "--html", tmp_path / "report.html")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, f"Wrote {tmp_path}/report.html")
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 80
    assert re.search(r"rmse, validated +41\.\d\d\b", done.stdout)
    assert re.search(r"reproduction +not verified", done.stdout)
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "Model report: demand_model@3" in page
    # Without a file it says how to get one, and writes none
    assert (
        bikes("report", MODEL).stdout.splitlines()[-1]
        == "The whole report: bikes report demand_model@3 --html report.html"
    )


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("demand_features[2011-05]", "in which no model was fitted; expected one of a model, such as demand_model@3"),
        ("champion_model[2011-05]", f"in which no model was fitted; expected the model that it used: {VERSION}"),
        ("demand_model@99", "found nothing called 'demand_model@99'"),
        ("demand_modle@3", "found no asset 'demand_modle'"),
    ],
)
def test_what_is_no_model_is_an_error_and_leaves_no_file(copied: Path, tmp_path: Path, address: str, told: str) -> None:
    done = bikes("report", address, "--html", tmp_path / "report.html")
    assert (done.exit_code, done.stdout) == (2, "")
    assert told in done.stderr
    assert not (tmp_path / "report.html").exists()


def test_decisions_are_those_that_people_recorded(copied: Path) -> None:
    # Given a promotion, one that kept it, and one of another model after a comparison
    before = [(row["partition"], row["action"]) for row in table(document_of(MODEL), "decisions", "promotions")]
    assert before == [
        ("2011-05", "promoted"),
        ("2011-06", "kept"),
        ("2011-07", "not promoted, but demand_model[2011-07]@5"),
    ]
    # When it is pinned and held
    assert bikes("pin", "demand_model[2011-05]", "--month", "2011-07", "--reason", "<b>the strike</b>").exit_code == 0
    assert bikes("hold", MODEL, "--reason", "an audit").exit_code == 0
    document = document_of(MODEL)
    *_, pin = table(document, "decisions", "promotions")
    assert (pin["partition"], pin["action"], pin["why"]) == ("2011-07", "pin", "<b>the strike</b>")
    assert pin["address"].startswith("champion_pins[2011-07]@")
    (hold,) = table(document, "decisions", "holds")
    assert (hold["address"], hold["why"]) == (VERSION, "an audit")
    # And it serves 2011-07 only once the champion of that month is materialized
    served = {row["name"]: row["value"] for row in table(document, "summary", "summary")}
    assert served["promoted for"] == "2011-05..2011-06"
    assert table(document_of("demand_model@champion"), "decisions", "aliases") == [{"address": "demand_model@champion"}]


def test_a_failed_check_is_shown_as_one(copied: Path) -> None:
    # Given a check that warned, by the record and by Dagster's event
    from bikes_assets.app.store import lake

    rows = [
        (asset, key, name)
        for asset in ("demand_model", "prediction_quality")
        for key, commit in lake().table(asset).published().items()
        for name, passed in commit.record["checks"].items()
        if not passed
    ]
    models = {
        str(commit.record["models"][0]["origin"] or Address(asset, None, key, str(commit.version)))
        for asset, key, _ in rows
        for commit in [lake().resolve(asset, key)]
    }
    # Then each report on such a model has just its failures, and its summary counts them
    for model in models:
        document = document_of(model)
        checks = table(document, "checks", "own")
        failed = {(row["check"], row["address"].partition("@")[0]) for row in checks if not row["passed"]}
        assert failed
        assert failed <= {(name, f"{asset}[{key}]") for asset, key, name in rows}
        summary = {row["name"]: row["value"] for row in table(document, "summary", "summary")}
        assert summary["checks passed"] == f"{len(checks) - len(failed)} of {len(checks)}"
    checks = table(document_of(MODEL), "checks", "own")
    assert {row["passed"] for row in checks} == {True}
    assert next(row for row in checks if row["check"] == "skill")["found"].startswith(
        "skill 0.59 on 2011-04: RMSE 41.8"
    )
    inputs = table(document_of(MODEL), "checks", "inputs")
    assert {(row["asset"], row["versions"], row["passed"]) for row in inputs} == {
        ("demand_features", 4, 4),
        ("hourly_rentals", 4, 4),
    }


def test_what_is_not_declared_is_called_so_and_what_is_declared_is_repeated(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from bikes_assets.app import store
    from bikes_assets.orchestration.project import About

    known = {row["name"]: row["value"] for row in table(document_of(MODEL), "purpose", "declared")}
    assert known["purpose"] == project().about.purpose
    assert known["responsible"] == "not declared"
    # Given a project that declares nothing
    monkeypatch.setattr(store, "_named", lambda _: replace(project(), about=About(), segments={}))
    document = document_of(MODEL)
    assert {row["value"] for row in table(document, "purpose", "declared")} == {"not declared"}
    assert document["sections"]["limits"]["tables"]["limits"] | {"title": ""} == {
        "title": "",
        "empty": "not declared",
        "addresses": [],
        "rows": [],
    }
    assert table(document, "data", "datasets")[0]["obtained"] == "not declared"
    states = {row["item"]: row["state"] for row in table(document, "coverage", "model_cards")}
    assert (states["Intended use"], states["Caveats and recommendations"], states["Factors"]) == ("not covered",) * 3


@dg.op
def rebuilt_otherwise(context) -> None:
    """Report what a rebuild that differs reports."""
    digests, address = context.run.tags["digests"].split(), context.run.tags["rebuilt"]
    told = {"address": address, "verdict": "different", "digests": digests, "rebuilt": {"demand_model": 1}, "taken": {}}
    raise dg.Failure("it differs", metadata={REPRODUCTION: dg.MetadataValue.json(told)}, allow_retries=False)


@dg.job
def rebuild_otherwise() -> None:
    """Return a job that fails as the scheduled rebuild does where the result differs."""
    rebuilt_otherwise()


def verdict(address: str) -> dict[str, Any]:
    return {row["name"]: row["value"] for row in table(document_of(address), "reproducibility", "verdict")}


def test_a_verdict_is_the_last_one_of_this_very_version_and_none_without_a_rebuild(copied: Path) -> None:
    from bikes_assets.cli import runner

    identity = {row["name"]: row["value"] for row in table(document_of(MODEL), "model", "identity")}
    unknown = {"verdict": "not verified", "to verify it": f"bikes reproduce '{VERSION}'"}
    assert verdict(MODEL) == unknown
    with runner.opened() as instance:
        # When a rebuild is of another version with the same content, or of other content, then it is none of this version
        digest = identity["digest of its fitted state"]
        for address, recorded in (("demand_model[2011-05]@2", digest), (VERSION, "0" * 32), (VERSION, digest)):
            assert verdict(MODEL) == unknown
            tags = {"digests": f"{recorded} {'1' * 32}", "rebuilt": address}
            run = rebuild_otherwise.execute_in_process(instance=instance, tags=tags, raise_on_error=False)
            assert not run.success
    # When one of this version fails because the result differs, then that is the verdict, and of no other version
    assert (verdict(MODEL)["verdict"], verdict(MODEL)["in Dagster run"]) == ("different", run.run_id)
    assert verdict("demand_model@champion")["verdict"] == "not verified"
