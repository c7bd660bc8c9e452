"""Two corrections of Dagster's webserver, which has no public setting for either; tests pin its own behaviour."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from dagster._core.definitions.partitions.definition.time_window import TimeWindowPartitionsDefinition
from dagster._core.storage.tags import TAGS_TO_MAYBE_OMIT_ON_RETRY

if TYPE_CHECKING:
    from dagster._core.definitions.partitions.context import PartitionLoadingContext
    from dagster._core.types.pagination import PaginatedResults


FAILURE = "bikes_assets/failure"
"""Tag of a Dagster run that the list of runs shows: what failed, why, and what to do."""


def correct() -> None:
    """Apply the corrections to this process; once is enough."""
    TAGS_TO_MAYBE_OMIT_ON_RETRY.add(FAILURE)  # otherwise a re-executed run would show the failure of the previous one
    _end_with_the_partitions()


def _end_with_the_partitions() -> None:
    """Make pages of partition keys end with the last partition.

    The plots on an asset's page ask for the newest hundred or so keys. `TimeWindowPartitionsDefinition` answers with
    the months before today, whatever its `end_date`: of a history that ended years ago it names months that do not
    exist, and the plots stay empty.
    """
    listed = TimeWindowPartitionsDefinition.get_paginated_partition_keys
    if hasattr(listed, "__wrapped__"):
        return

    @wraps(listed)
    def ended(
        self: TimeWindowPartitionsDefinition, context: PartitionLoadingContext, *args: Any, **more: Any
    ) -> PaginatedResults[str]:
        if self.end and self.end < context.effective_dt:
            context = context.updated(self.end, None)
        return listed(self, context, *args, **more)

    TimeWindowPartitionsDefinition.get_paginated_partition_keys = ended
