"""Searches: each trial a nested run with its rows and figures, and what is done stays whatever happens."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from bikes_assets.app import tuning as tune
from bikes_assets.app.notebook import load
from bikes_assets.cli import main
from bikes_assets.core.errors import NothingToDo, SettingsError
from bikes_assets.demand import tuning
from bikes_assets.demand.features import FEATURE_NAMES
from bikes_assets.demand.model import Recipe

RIDGE = Recipe("sklearn.linear_model.Ridge", {"alpha": 1.0})
STIFF = Recipe("sklearn.linear_model.Ridge", {"alpha": 1000.0})
WRONG = Recipe("sklearn.linear_model.Ridge", {"alpha": -1.0})


def search(recipes, name, done, before="2011-08"):
    tune.search(recipes, name=name, before=before, params={"seed": 0}, progress=lambda *_: None, done=done)


def runs_of(history, name):
    """Return the run of a search and the runs nested in it, by name."""
    known = history.client.get_experiment_by_name("bike-demand-notebook")
    found = history.client.search_runs([known.experiment_id])
    (parent,) = [run for run in found if run.info.run_name == name]
    nested = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    return parent, {run.info.run_name: run for run in nested}


def test_each_trial_is_a_run_with_its_rows_and_figures(history):
    done = []
    search({"default": RIDGE, "stiff": STIFF}, "two ridges", done.append)

    parent, nested = runs_of(history, "two ridges")
    assert [trial.name for trial in done] == ["default", "stiff"]
    assert {name: run.info.status for name, run in nested.items()} == {"default": "FINISHED", "stiff": "FINISHED"}
    found = nested["stiff"].data
    expected = tuning.evaluate(load("demand_features"), STIFF)
    assert done[1].evaluation == expected
    assert (found.params["estimator"], found.params["parameters.alpha"]) == (STIFF.estimator, "1000.0")
    assert found.metrics["walk_forward_r2"] == expected.walk_forward["r2"]
    steps = history.client.get_metric_history(nested["stiff"].info.run_id, "month_r2")
    assert {item.step: item.value for item in steps} == {
        int(month.replace("-", "")): values["r2"] for month, values in expected.months.items()
    }
    assert [item.step for item in steps] == [201105, 201106, 201107]
    # the rows: those that any fit saw, and those that were judged, with the digests of the pipeline's own datasets
    inputs = {item.tags[0].value: item.dataset for item in nested["stiff"].inputs.dataset_inputs}
    assert {role: item.name for role, item in inputs.items()} == {
        "training": "demand_features[2011-01..2011-06]",
        "validation": "demand_features[2011-05..2011-07]",
    }
    best = history.client.get_metric_history(parent.info.run_id, "best_r2")
    assert [item.value for item in sorted(best, key=lambda item: item.step)] == [
        done[0].evaluation.r2,
        max(done[0].evaluation.r2, done[1].evaluation.r2),
    ]
    assert (parent.info.status, parent.data.params["before"], parent.data.params["recipes"]) == (
        "FINISHED",
        "2011-08",
        "2",
    )


def test_a_recipe_that_cannot_be_fitted_does_not_end_the_search(history):
    done = []
    search({"wrong": WRONG, "default": RIDGE}, "one is wrong", done.append)
    parent, nested = runs_of(history, "one is wrong")
    assert {name: run.info.status for name, run in nested.items()} == {"wrong": "FAILED", "default": "FINISHED"}
    assert parent.info.status == "FINISHED"
    assert "alpha" in done[0].error
    assert [trial.name for trial in tune.ranked(done)] == ["default", "wrong"]


def test_what_is_done_stays_when_it_is_stopped(history):
    done = []

    def stop_after_one(trial):
        done.append(trial)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search({"default": RIDGE, "stiff": STIFF}, "stopped", stop_after_one)
    parent, nested = runs_of(history, "stopped")
    assert (parent.info.status, [trial.name for trial in done]) == ("KILLED", ["default"])
    assert {name: run.info.status for name, run in nested.items()} == {"default": "FINISHED"}


def test_the_hold_out_is_refused_before_anything_is_done(history):
    with pytest.raises(SettingsError, match="expected 2012-08 or earlier"):
        search({"default": RIDGE}, "too late", print, before="2012-09")
    with pytest.raises(NothingToDo, match="found months 2011-01 to 2011-04, expected at least 5"):
        search({"default": RIDGE}, "too early", print, before="2011-05")
    assert [run for run in ("too late", "too early") if _exists(history, run)] == []


def test_months_from_the_limit_on_play_no_part(history):
    done = []
    search({"default": RIDGE}, "without July", done.append, before="2011-07")
    assert list(done[0].evaluation.months) == ["2011-05", "2011-06"]
    _, nested = runs_of(history, "without July")
    names = {item.dataset.name for item in nested["default"].inputs.dataset_inputs}
    assert names == {"demand_features[2011-01..2011-04]", "demand_features[2011-05..2011-06]"}


def test_the_command_shows_the_best_and_the_default(history, monkeypatch):
    quick = tuning.Space(RIDGE.estimator, {}, {"alpha": (1.0, 10.0, 100.0)})
    monkeypatch.setattr(tuning, "SPACES", (quick, quick))
    done = CliRunner().invoke(main, ["tune", "--trials", "3", "--seed", "1"])
    assert done.exit_code == 0, done.output
    assert "3 of 3 recipes, evaluated on months before 2012-08" in done.output
    assert "current default" in done.output
    assert re.search(r"^trial 2: Ridge, alpha=10*\.0\b", done.output, re.MULTILINE)
    parent, nested = runs_of(history, "tune, 3 trials, seed 1")
    assert set(nested) == {"default", "trial 1", "trial 2"}
    assert parent.data.params["seed"] == "1"


@pytest.mark.parametrize("trials", ["0", "-1", "x"])
def test_a_search_of_nothing_is_refused_and_leaves_no_run(history, trials):
    known = history.client.get_experiment_by_name("bike-demand-notebook")
    before = len(history.client.search_runs([known.experiment_id])) if known else 0
    done = CliRunner().invoke(main, ["tune", "--trials", trials])
    assert (done.exit_code, "Invalid value for '--trials'" in done.output) == (2, True)
    after = history.client.get_experiment_by_name("bike-demand-notebook")
    assert (len(history.client.search_runs([after.experiment_id])) if after else 0) == before


def test_the_command_shows_what_each_group_adds(history, monkeypatch):
    monkeypatch.setattr(
        tuning, "ablations", lambda: {"default": RIDGE, "level alone": tuning.reading(RIDGE, ["demand_level_7d"])}
    )
    done = CliRunner().invoke(main, ["tune", "--groups"])
    assert done.exit_code == 0, done.output
    assert "level alone" in done.output
    _, nested = runs_of(history, "feature groups")
    assert nested["level alone"].data.params["without"].split(", ") == [
        name for name in FEATURE_NAMES if name != "demand_level_7d"
    ]


def _exists(history, name):
    known = history.client.get_experiment_by_name("bike-demand-notebook")
    return known is not None and any(
        run.info.run_name == name for run in history.client.search_runs([known.experiment_id])
    )
