"""Pages of partition keys in Dagster's webserver, which end where the partitions do.

The plots on an asset's page ask for the newest hundred or so keys. `TimeWindowPartitionsDefinition` answers with the months
before today, whatever its `end_date`: of a history that ended years ago it names months that do not exist, and the plots
stay empty. A test pins this, and fails when Dagster mends it.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from dagster._core.definitions.partitions.definition.time_window import TimeWindowPartitionsDefinition

if TYPE_CHECKING:
    from dagster._core.definitions.partitions.context import PartitionLoadingContext
    from dagster._core.types.pagination import PaginatedResults


def end_with_the_partitions() -> None:
    """Have this process's pages of partition keys end with the partitions; once is enough."""
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
