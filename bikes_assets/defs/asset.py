"""What the assets of this project have in common."""

from functools import partial
from typing import Any, TypeAlias

from bikes_assets.defs.automation import DueCondition
from bikes_assets.orchestration.asset import lineage_asset

OWNERS = ["team:demand"]
TAGS = {"domain": "bike-sharing"}

Served: TypeAlias = Any | None
"""The model that serves a month, None where none does."""

demand_asset = partial(lineage_asset, owners=OWNERS, tags=TAGS, automation=DueCondition(), up_to_date=True)
"""Decorator of an asset of this project; see `lineage_asset`."""
