"""Proof, on a schedule: the champion is made again from its record, and comes out as it was."""

import dagster as dg

from bikes_assets.settings import settings

CHAMPION = "demand_model@champion"


@dg.op
def champion_made_again(context: dg.OpExecutionContext) -> None:
    """Make the champion again, with all that is upstream of it, apart from the store; fail where it comes out otherwise."""
    from bikes_assets import reproduce

    (found,) = reproduce.reproduce([CHAMPION], stored=True)
    context.log.info(f"{found.address}: {found.verdict}, made again: {dict(found.made)}")
    context.add_output_metadata({"verdict": found.verdict, "reproduction": dg.MetadataValue.json(found.to_dict())})
    if found.verdict == "different":
        where = ", ".join(part.address for part in found.parts)
        raise dg.Failure(
            f"{found.address} is not what its record makes: it parts at {where}; bikes reproduce {found.address} says why",
            allow_retries=False,
        )


@dg.job(description="Make the champion again from its record; it fails where something else comes out.")
def reproduce_champion() -> None:
    """Return the job of one op."""
    champion_made_again()


proof = dg.ScheduleDefinition(
    name="proof",
    job=reproduce_champion,
    description="Makes the champion again from its record; the run fails where something else comes out.",
    cron_schedule=settings().proof,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING if settings().triggers else dg.DefaultScheduleStatus.STOPPED,
)
