"""Reproduction on a schedule: the champion is rebuilt from its record, and compared with what is stored."""

import dagster as dg

from bikes_assets.app.settings import settings
from bikes_assets.events.run_log import REPRODUCTION

CHAMPION = "demand_model@champion"


@dg.op(
    description="Rebuild the champion, and all that is upstream of it, apart from the store; fail where the result differs."
)
def rebuild_and_compare(context: dg.OpExecutionContext) -> None:
    """Rebuild the champion, with all that is upstream of it, apart from the store; fail where the result differs."""
    from bikes_assets.app import reproduction

    (found,) = reproduction.reproduce([CHAMPION], stored=True)
    context.log.info(f"{found.address}: {found.verdict}, rebuilt: {dict(found.rebuilt)}")
    told = {REPRODUCTION: dg.MetadataValue.json(found.to_dict())}
    context.add_output_metadata({"verdict": found.verdict, **told})
    if found.verdict == "different":
        where = ", ".join(part.address for part in found.parts)
        raise dg.Failure(
            f"{found.address} is not what its record makes: they differ at {where}; bikes reproduce {found.address} says why",
            metadata={
                "found": f"different at {where}",
                "expected": "identical",
                "advice": f"bikes reproduce {found.address}",
                **told,
            },
            allow_retries=False,
        )


@dg.job(
    description="Rebuild the champion from its record, apart from the store; the run fails where the result differs."
)
def reproduce_champion() -> None:
    """Return the job of one op."""
    rebuild_and_compare()


weekly_reproduction = dg.ScheduleDefinition(
    name="weekly_reproduction",
    job=reproduce_champion,
    description="Rebuilds the champion from its record, at the times in BIKES_REPRODUCTION; the run fails where the result "
    "differs.",
    cron_schedule=settings().reproduction,
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING if settings().triggers else dg.DefaultScheduleStatus.STOPPED,
)
