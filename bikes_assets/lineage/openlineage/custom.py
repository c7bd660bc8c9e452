"""The one facet of this project's own, for what the standard has none: metrics. Its schema lies in `schemas/`."""

from __future__ import annotations

from pathlib import Path

import attr
from openlineage.client.facet_v2 import RunFacet

HOME = "https://bikes-assets.invalid/openlineage"
"""What producer and schemas of this project begin with: an identifier, under a name that is reserved and never resolves."""
SCHEMAS = Path(__file__).parent / "schemas"
"""Folder of the schemas of the facets that are no part of the standard."""


@attr.define
class MetricsRunFacet(RunFacet):
    """Metrics of a run, such as the error of a model.

    Attributes:
        metrics: metrics by name.
        series: metrics by a whole number, such as the error by hour of the day: name to number to value.
    """

    metrics: dict[str, float]
    series: dict[str, dict[str, float]] | None = None

    @staticmethod
    def _get_schema() -> str:
        return f"{HOME}/1-0-0/MetricsRunFacet.json#/$defs/MetricsRunFacet"
