"""The jobs: what each materializes of a month, in one run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import dagster as dg
import pytest

from bikes_assets.definitions import defs
from bikes_assets_tests import forked
from bikes_assets_tests.conftest import MADE

EVERYTHING = list(MADE)
SELECTED = {"monthly_refresh": EVERYTHING, "train": EVERYTHING[2:4], "predict": EVERYTHING[4:]}
PROGRAM = """
import json, sys
import dagster as dg
from bikes_assets.definitions import defs

job = defs().resolve_job_def("monthly_refresh")
with dg.DagsterInstance.get() as instance:
    done = job.execute_in_process(instance=instance, partition_key=sys.argv[1], raise_on_error=False)
    made = done.get_asset_materialization_events()
    print(json.dumps([done.success, [[e.asset_key.to_user_string(), e.partition] for e in made]]))
"""


@pytest.mark.parametrize("name", SELECTED)
def test_each_job_selects_its_assets_and_says_what_it_is_for(name: str) -> None:
    job = defs().resolve_job_def(name)
    assert {key.to_user_string() for key in job.asset_layer.selected_asset_keys} == set(SELECTED[name])
    assert job.description


def test_each_is_launched_by_a_month_that_all_its_assets_have() -> None:
    for name in SELECTED:
        months = defs().resolve_job_def(name).partitions_def
        assert months is not None
        assert months.get_partition_keys()[0] == "2011-03"


def test_dagster_itself_refuses_a_job_of_months_that_begin_at_different_times() -> None:
    """Why `monthly_refresh` is a job of our own."""
    job = dg.define_asset_job("all", selection=dg.AssetSelection.assets(*EVERYTHING))
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="must have the same partitions definitions"):
        job.resolve(asset_graph=defs().resolve_asset_graph())


def test_a_month_of_everything_is_one_run(copied: Path) -> None:
    done = forked.run(("-c", PROGRAM, "2011-07"), environment=os.environ, folder=copied)
    assert json.loads(done.stdout.splitlines()[-1]) == [True, [[asset, "2011-07"] for asset in EVERYTHING]]
