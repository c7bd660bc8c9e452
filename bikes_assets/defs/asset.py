"""What the assets of this project have in common."""

from functools import partial

from bikes_assets.adapters.asset import lineage_asset

OWNERS = ["team:demand"]

demand_asset = partial(lineage_asset, owners=OWNERS, tags={"domain": "bike-sharing"})
"""Decorator of an asset of this project; see `lineage_asset`."""
