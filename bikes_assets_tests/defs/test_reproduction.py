"""The job that makes the champion again, as Dagster runs it."""

from __future__ import annotations

import dagster as dg

from bikes_assets.app.report import identity
from bikes_assets.app.report.subject import fitted_model
from bikes_assets.definitions import defs


def test_the_champion_of_a_history_is_made_again_by_the_job(history) -> None:
    done = defs().resolve_job_def("reproduce_champion").execute_in_process(instance=history.instance)

    assert done.success
    (output,) = [event for event in done.all_events if event.event_type_value == "STEP_OUTPUT"]
    metadata = output.step_output_data.metadata
    assert metadata["verdict"].value == "identical"
    assert metadata["reproduction"].value["address"] == history.summary.champion
    assert metadata["reproduction"].value["rebuilt"]["demand_model"] == 1
    # And the report on the champion has the verdict, with the run that it is from
    (table,) = identity.reproduction(fitted_model(history.summary.champion)).tables
    told = {row["name"]: row["value"] for row in table.rows}
    assert (told["verdict"], told["in Dagster run"]) == ("identical", done.run_id)
    assert "1 demand_model" in str(told["rebuilt"])


def test_it_is_on_a_schedule_that_is_off_until_somebody_wants_it() -> None:
    schedule = defs().resolve_schedule_def("weekly_reproduction")
    assert schedule.job_name == "reproduce_champion"
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
