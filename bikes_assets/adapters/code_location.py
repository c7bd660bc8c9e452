"""Asks Dagster's webserver to load a code location anew, for its partitions are those of the moment when it was loaded."""

from __future__ import annotations

from urllib.parse import urlsplit


def reload(url: str, location: str) -> str:
    """Ask for a code location to be loaded anew, and return what came of it in a sentence.

    Args:
        url: address of the webserver.
        location: name of the code location.
    """
    from dagster_graphql import DagsterGraphQLClient, ReloadRepositoryLocationStatus

    where = urlsplit(url)
    try:
        client = DagsterGraphQLClient(str(where.hostname), where.port, use_https=where.scheme == "https", timeout=120)
        answer = client.reload_repository_location(location)
    except Exception as error:  # noqa: BLE001 - whatever the transport raises
        reason = str(error).split("\n")[0]
        return f"{url} could not be asked to load {location} anew: {reason}. Reload it there (Deployment, Reload)."
    if answer.status == ReloadRepositoryLocationStatus.SUCCESS:
        return f"{location} is loaded anew."
    return f"{location} could not be loaded anew: {answer.message}"
