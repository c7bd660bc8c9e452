"""From a value down to the raw rows and the file, held against the records, the file and what each feature means."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bikes_assets import load as load_
from bikes_assets.app import answers
from bikes_assets.core.errors import DigestError, LineageError
from bikes_assets.lineage.trace import Tracer
from bikes_assets_tests.cli.test_commands import bikes
from bikes_assets_tests.fire.processes import turns

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "data" / "raw" / "hour.csv"
PREDICTED = [f"2011-0{month}" for month in range(3, 8)]
DEMAND = {
    "demand_lag_24h": [24],
    "demand_lag_168h": [168],
    "demand_level_7d": range(24, 192),
    "demand_trend_1d": range(24, 192),
    "demand_trend_7d": range(24, 672),
}
MEANT = {
    "hour_of_day": ("ts", [0]),
    "hour_of_week": ("ts", [0]),
    "working_day": ("workingday", [0]),
    "public_holiday": ("holiday", [0]),
    "temperature": ("temp", [0]),
    "humidity": ("hum", [0]),
    "wind_speed": ("windspeed", [0]),
    "weather_kind": ("weathersit", [0]),  # no weather is missing in these months
    "wet_hours_3h": ("weathersit", range(3)),
    "temperature_above_27d": ("temp", range(648)),
    "humidity_above_7d": ("hum", range(168)),
    **{name: ("cnt", hours) for name, hours in DEMAND.items()},
}
"""What each feature reads by its meaning: a column of the raw rows, and how many hours before."""


load = cache(load_)


@pytest.fixture(scope="module")
def hours():
    """Return the raw file by hour, read without the project's code."""
    raw = pd.read_csv(SOURCE)
    return raw.assign(ts=pd.to_datetime(raw["dteday"]) + pd.to_timedelta(raw["hr"], unit="h")).set_index(
        "ts", drop=False
    )


def sampled(history, number, months, seed):
    """Return addresses and hours of random predictions."""
    draw = np.random.default_rng(seed)
    for month in draw.choice(months, number):
        known = load(f"demand_predictions[{month}]")["ts"]
        ts = known.iloc[int(draw.integers(len(known)))]
        yield month, ts, f"demand_predictions.prediction[{month}]#{ts:%Y-%m-%dT%H:%M}"


def name_of(value):
    return re.split(r"[.\[]", value.address)[1]


def check_rows(values, ts, hours):
    """Hold the raw rows of features against what the features mean, and their values against the file."""
    for value in values:
        column, before = MEANT[name_of(value)]
        (rows,) = value.rows
        wanted = [ts - timedelta(hours=hour) for hour in sorted(before, reverse=True)]
        there = [hour for hour in wanted if hour in hours.index]
        assert (rows.asset, rows.column) == ("hourly_rentals", column)
        assert rows.keys == tuple(f"{hour:%Y-%m-%dT%H:%M}" for hour in there), value.address
        assert rows.absent == tuple(f"{hour:%Y-%m-%dT%H:%M}" for hour in wanted if hour not in hours.index)
        held = hours.loc[there, column]
        assert list(rows.values) == ([f"{hour:%Y-%m-%dT%H:%M}" for hour in held] if column == "ts" else held.to_list())
        assert value.repeats is True


@pytest.mark.soak
def test_a_hundred_predictions_lead_to_the_recorded_versions_and_are_made_again_from_what_was_traced(history):
    sha256 = hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    features_alone = replace(answers.tracer().derivations, computed={})  # their rows are the next test's
    tracer, whole, record = Tracer(history.lake, features_alone), answers.tracer(), cache(history.record)
    for month, ts, address in sampled(history, len(turns(100)), PREDICTED, seed=1):
        trace = tracer.trace(address)
        (value,) = trace.values
        made, serving = record("demand_predictions", month), record("champion_model", month)
        assert trace.address == f"{made.output.address}#{ts:%Y-%m-%dT%H:%M}"
        assert value.value == load(f"demand_predictions.prediction[{month}]")[ts]
        read = {item.address: item.digest for item in made.inputs}
        assert {item.address: item.digest for item in trace.versions} == read | {
            made.output.address: made.output.digest
        }
        assert trace.versions[0].inputs == read

        (model,) = trace.models
        (said,) = made.models
        file = Path(history.lake.location) / "model_files" / f"{model.sha256}.skops"
        assert (model.digest, model.sha256, model.address) == (said["digest"], said["sha256"], said["origin"])
        assert model.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        assert model.served_by in read
        assert model.served_by == serving.output.address
        fitted = record("demand_model", re.split(r"[\[\]]", model.address)[1])
        trained = next(use.partitions for use in fitted.datasets if use.context == "training")
        assert model.training == tuple(item.address for item in fitted.inputs if item.partition in trained)

        served = load(f"champion_model[{month}]")
        row = pd.DataFrame({name_of(item): [item.value] for item in value.computed_from})
        assert model.features == tuple(row.columns) == served.features
        assert served.predict(row)[0] == value.value
        (features,) = {item.address.partition("]@")[2].partition("#")[0] for item in value.computed_from}
        assert features == str(record("demand_features", month).output.version)
    source = whole.trace(f"hourly_rentals.cnt[{month}]#{ts:%Y-%m-%dT%H:%M}").sources
    assert [(file.sha256, file.found, file.state) for item in source for file in item.files] == [
        (sha256, sha256, "as recorded")
    ]


@pytest.mark.soak
def test_the_raw_rows_of_a_prediction_are_those_that_its_features_mean(history, hours):
    tracer = answers.tracer()
    for month, ts, address in sampled(history, len(turns(100)), PREDICTED, seed=2):
        trace = tracer.trace(address)
        (value,) = trace.values
        check_rows(value.computed_from, ts, hours)
        record = history.record("demand_features", month)
        above = {item.address for item in trace.versions if item.address.startswith("hourly_rentals")}
        assert above == {item.address for item in record.inputs}
        partitions = [history.record("hourly_rentals", item.partition).inputs[0] for item in record.inputs]
        assert [(item.address, item.digest) for item in trace.sources] == [
            (item.address, item.digest) for item in partitions
        ]


@pytest.mark.parametrize("ts", ["2011-03-07T04:00", "2011-06-20T17:00"])
def test_the_raw_rows_of_every_feature_are_those_that_it_means(history, hours, ts):
    """The first has absent hours in its windows, one of them exactly a day before another's."""
    values = answers.trace(f"demand_features[{ts[:7]}]#{ts}").values

    features = [value for value in values if name_of(value) != "cnt"]
    assert {name_of(value) for value in features} == set(MEANT)
    check_rows(features, datetime.fromisoformat(ts), hours)
    (actual,) = (value for value in values if name_of(value) == "cnt")
    assert (actual.rows[0].keys, actual.rows[0].values) == ((ts,), (actual.value,))


def test_a_lag_into_an_absent_hour_is_missing_and_says_which_is_absent(history, hours):
    absent = datetime(2011, 2, 9, 4)
    assert absent not in hours.index
    (value,) = answers.trace("demand_features.demand_lag_24h[2011-02]#2011-02-10T04:00").values

    assert value.value is None
    assert [(rows.keys, rows.absent) for rows in value.rows] == [((), ("2011-02-09T04:00",))]


def test_an_error_leads_to_the_prediction_and_to_what_was_rented(history):
    trace = answers.trace("prediction_quality.error[2011-04]#2011-04-05T08:00")
    (error,) = trace.values
    (prediction,) = error.computed_from
    (actual,) = error.rows

    assert error.value == prediction.value - actual.values[0]
    assert (actual.column, actual.keys) == ("cnt", ("2011-04-05T08:00",))
    assert prediction.model == history.record("demand_predictions", "2011-04").models[0]["origin"]
    assert "prediction_quality" in trace.versions[0].address


def test_the_baseline_of_a_prediction_is_said_by_the_models_own(history):
    (value,) = answers.trace("demand_predictions.baseline[2011-07]#2011-07-05T08:00").values

    assert [name_of(item) for item in value.computed_from] == ["hour_of_week"]
    served = load("champion_model[2011-07]")
    baseline = served.baseline or served
    assert baseline.predict(pd.DataFrame({"hour_of_week": [value.computed_from[0].value]}))[0] == value.value


def test_a_trace_is_of_the_recorded_versions_and_not_of_the_latest(history, tmp_path):
    """The month's features are published again with other values; the prediction's trace stays as it was."""
    copy = copied(history, tmp_path)
    address = "demand_predictions.prediction[2011-04]#2011-04-05T08:00"
    before = Tracer(copy, answers.tracer().derivations).trace(address)
    table = copy.table("demand_features")
    ((version, rows),) = table.read(["2011-04"]).values()
    commit = table.published()["2011-04"]
    table.write("2011-04", rows.slice(100), commit.record, since=version.version)
    assert table.published()["2011-04"].version > version.version

    assert Tracer(copy, answers.tracer().derivations).trace(address) == before


def copied(history, folder):
    shutil.copytree(history.lake.location, folder / "lake")
    return replace(history.lake, location=str(folder / "lake"))


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))


@pytest.mark.parametrize("asset", ["demand_predictions", "demand_features", "hourly_rentals", "champion_model"])
def test_a_flipped_byte_in_a_table_is_found_and_named(history, tmp_path, asset):
    copy = copied(history, tmp_path)
    for file in (tmp_path / "lake" / asset / "partition=2011-04").glob("*.parquet"):
        flip(file)

    with pytest.raises(DigestError, match=rf"{asset}\[2011-04\]"):
        Tracer(copy, answers.tracer().derivations).trace("demand_predictions[2011-04]#2011-04-05T08:00")


def test_a_flipped_byte_in_a_models_file_is_found_and_named(history, tmp_path):
    copy = copied(history, tmp_path)
    sha256 = history.record("demand_predictions", "2011-04").models[0]["sha256"]
    flip(tmp_path / "lake" / "model_files" / f"{sha256}.skops")

    with pytest.raises(DigestError, match=sha256):
        Tracer(copy, answers.tracer().derivations).trace("demand_predictions[2011-04]#2011-04-05T08:00")


def test_a_source_file_that_has_changed_or_is_gone_is_told(history, monkeypatch, tmp_path):
    tracer = answers.tracer()
    changed = tmp_path / "hour.csv"
    changed.write_bytes(SOURCE.read_bytes() + b"\n")
    origin = history.record("hourly_rentals", "2011-04").datasets[0].source
    part = tracer.trace("hourly_rentals.cnt[2011-04]#2011-04-05T08:00").sources[0]
    assert part.files[0].uri == origin["uri"]

    for file, state in ((changed, "changed"), (tmp_path / "none.csv", "gone")):
        (found,) = tracer._files_of({**origin, "uri": file.as_uri()})
        assert (found.state, found.sha256) == (state, origin["version"])
        assert found.at == str(SOURCE)  # the file itself is where the source that is set now lies
    (found,) = tracer._files_of({**origin, "uri": "https://***@host/hour.csv"})
    assert (found.state, found.found) == ("not checked", "")


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("demand_predictions[2011-04]#2011-04-31T08:00", "expected one like 2011-04-01T00:00"),
        ("demand_predictions[2011-04]#2011-05-01T03:00", "the nearest is 2011-04-30T23:00"),
        ("demand_features[2011-02]#2011-02-09T04:00", "the nearest is 2011-02-09T03:00"),
        ("demand_features[2011-02]#2011-02-09T04:00+02:00", "expected one like 2011-02-01T00:00"),
        ("demand_forecast[2011-04]#2011-04-05T08:00", "no table 'demand_forecast', expected one of hourly_rentals"),
        ("demand_model[2011-04]#2011-04-05T08:00", "no table 'demand_model'"),
        ("demand_features.lag[2011-04]#2011-04-05T08:00", "no column demand_features.lag, expected one of ts"),
        ("demand_features[2012-04]#2012-04-05T08:00", "found nothing as of version N, expected one of 2011-01"),
        (
            "demand_features[2011-04]@3#2011-04-05T08:00",
            "found nothing as of version 3, expected one of its versions: 4",
        ),
        ("demand_features[2011-04]@99#2011-04-05T08:00", "found version '99', expected one from 0 to"),
        ("demand_features[2011-04]", "expected that of a row"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(history, address, told):
    with pytest.raises(LineageError, match=re.escape(told).replace("version\\ N", r"version\ \d+")):
        answers.trace(address)


def test_the_command_prints_it_top_down_and_as_json(history):
    address = "demand_predictions.prediction[2011-07]#2011-07-05T08:00"
    folder = Path(history.lake.location).parent
    text, as_json = (bikes("trace", address, *more, folder=folder) for more in ((), ("--json",)))
    wrong = bikes("trace", "demand_predictions[2011-07]#2011-08-05T08:00", folder=folder)

    assert text.returncode == as_json.returncode == 0, text.stderr + as_json.stderr
    told = [
        text.stdout.index(word) for word in ("prediction[2011-07]", "hour_of_day", "model demand_model", "hour.csv")
    ]
    assert told == sorted(told)
    assert json.loads(as_json.stdout)["items"] == [json.loads(json.dumps(answers.trace(address).to_dict()))]
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
    assert "the nearest is 2011-07-31T23:00" in wrong.stderr


def test_ranges_of_hours_are_told_by_their_first_and_last():
    from bikes_assets.cli.versions import _raw_rows_text
    from bikes_assets.lineage.trace_result import RawRows

    keys = ("2011-02-09T02:00", "2011-02-09T03:00", "2011-02-09T05:00")
    rows = RawRows("hourly_rentals", "cnt", keys, (3, 1, 2), (), ("2011-02-09T04:00",))

    assert _raw_rows_text(rows) == (
        "hourly_rentals.cnt 2011-02-09T02:00..2011-02-09T03:00, 2011-02-09T05:00, 3 rows; absent 2011-02-09T04:00, 1 row"
    )


def test_a_trace_loads_no_orchestrator_and_no_estimator(history):
    program = (
        "import sys; from bikes_assets.app import answers; answers.trace('demand_predictions[2011-04]#2011-04-05T08:00'); "
        "print([name for name in ('dagster', 'mlflow', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)

    assert done.stdout == "[]\n"
