"""The code location as Dagster's pages know it: reloading it, and runs of this process that belong to it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import dagster as dg


def reload(url: str, location: str) -> str:
    """Ask the webserver to reload a code location, and return the outcome in a sentence.

    Args:
        url: address of the webserver.
        location: name of the code location.
    """
    from dagster_graphql import DagsterGraphQLClient, ReloadRepositoryLocationStatus

    where = urlsplit(url)
    try:
        client = DagsterGraphQLClient(str(where.hostname), where.port, use_https=where.scheme == "https", timeout=120)
        answer = client.reload_repository_location(location)
    except Exception as error:  # noqa: BLE001 - the transport may raise anything
        reason = str(error).split("\n")[0]
        return f"{url} could not be asked to reload {location}: {reason}. Reload it there (Deployment, Reload)."
    if answer.status == ReloadRepositoryLocationStatus.SUCCESS:
        return f"{location} is reloaded."
    return f"{location} could not be reloaded: {answer.message}"


def attribute_runs(instance: dg.DagsterInstance, job: dg.JobDefinition, module: str, location: str) -> None:
    """Make runs that this process executes belong to the code location, as those launched from Dagster's pages do.

    `execute_in_process` creates a run of a copy of the job without a code location: no timeline shows the run, and
    "Re-execute" warns that it may be of another version.

    Args:
        instance: the instance in which this process creates runs.
        job: the job that it executes, as the code location defines it.
        module: the module of its definitions, as the workspace file names it.
        location: name of the code location.
    """
    # no public function sets the code location of a run; a browser test looks at the timeline
    from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
    from dagster._core.remote_origin import RemoteJobOrigin, RemoteRepositoryOrigin
    from dagster._core.workspace.load import location_origin_from_module_name

    place = location_origin_from_module_name(module, None, None, location)
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(place, SINGLETON_REPOSITORY_NAME), job.name)
    create = instance.create_run_for_job

    def created(job_def: dg.JobDefinition, **given: Any) -> dg.DagsterRun:
        definition: Any = job if job_def.name == job.name else job_def
        with getattr(instance.event_log_storage, "together", nullcontext)():  # an event for each asset and each check
            return create(definition, remote_job_origin=origin, **given)

    instance.create_run_for_job = created  # type: ignore[method-assign]
