"""The report on a fitted model, from the store: `bikes report demand_model@3`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bikes_assets.app.report import data, decisions, identity, quality
from bikes_assets.app.report.subject import fitted_model
from bikes_assets.app.store import current
from bikes_assets.core.record import span_of
from bikes_assets.governance.report.coverage import coverage
from bikes_assets.governance.report.structure import (
    NOT_DECLARED,
    SOURCED,
    ModelReport,
    ReportSection,
    ReportTable,
)
from bikes_assets.lineage.projection import ROLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bikes_assets.app.report.subject import FittedModel
    from bikes_assets.governance.deployments import Deployment
    from bikes_assets.governance.report.structure import Value

_SHOWN = ("r2", "rmse")
"""Metrics that the summary shows, where they are among the recorded ones; else the first ones."""


def model_report(address: str) -> ModelReport:
    """Return the report on the model that an address names.

    Args:
        address: see `subject.fitted_model`.

    Raises:
        LineageError: there is no such version, or no model was fitted in it.
        DigestError: rows that metrics are computed from are not those that were published.
    """
    model = fitted_model(address)
    decided = decisions.about(model)
    sections = [
        identity.purpose(model),
        identity.identity(model),
        data.data(model),
        data.features(model),
        data.lineage(model),
        data.splits(model),
        quality.accuracy(model),
        quality.checks(model),
        quality.drift(model),
        decisions.decisions(model, decided),
        identity.environment(model),
        identity.reproduction(model),
        identity.limits(model),
    ]
    sections.append(coverage(_known(sections)))
    summary = ReportSection("summary", "Summary", [_summary(model, sections, decided)])
    now = identity.moment(time.time())
    return ModelReport(address, model.address, identity.kind_of(model), current().name, now, [summary, *sections])


def _known(sections: Sequence[ReportSection]) -> set[str]:
    """Return what a report has, as the table of coverage asks for it."""
    tables = {f"{section.name}/{table.name}" for section in sections for table in section.tables if table.rows}
    tables |= {"accuracy/segments"} if any(name.startswith("accuracy/by ") for name in tables) else set()
    about = current().about
    declared = {name for name in (*identity.DECLARED, "limits") if getattr(about, name)}
    datasets = [row for section in sections if section.name == "data" for row in section.tables[0].rows]
    # of data, everything or nothing: a report with one licence of two does not say how the data may be used
    of_data = {"licence": "licences", "obtained": "obtained"} if datasets else {}
    whole = {name for key, name in of_data.items() if all(row[key] != NOT_DECLARED for row in datasets)}
    return tables | declared | whole


def _summary(model: FittedModel, sections: Sequence[ReportSection], decided: Sequence[Deployment]) -> ReportTable:
    """Return what is told first of the model, each with the address that it comes from."""
    rows = [*_lines(model, {section.name: section for section in sections}, decided)]
    return ReportTable("summary", "", SOURCED, [identity.statement(*row) for row in rows])


def _lines(
    model: FittedModel, sections: dict[str, ReportSection], decided: Sequence[Deployment]
) -> Iterator[tuple[str, Value, str | list[str]]]:
    fitted = [row for row in sections["splits"].tables[0].rows if row["role"] == ROLES["training"]]
    if fitted:
        yield "rows fitted on", sum(int(str(row["rows"])) for row in fitted), model.address
    metrics = {name: value for name, value in model.record.metrics.items() if name != quality.ROWS}
    for name in [name for name in _SHOWN if name in metrics] or [*metrics][:2]:
        yield f"{name}, validated", metrics[name], model.address
    everything = next((table for table in sections["accuracy"].tables if table.name == f"by {quality.ALL}"), None)
    for row in everything.rows if everything else ():
        for name in (name for name in _SHOWN if name in row):
            yield f"{name}, on what it predicted", row[name], list(everything.addresses) if everything else []
    results = sections["checks"].tables[0].rows
    yield "checks passed", f"{sum(row['passed'] is True for row in results)} of {len(results)}", ""
    if current().lake.serving:
        partitions = decisions.served(decided, model.address)
        yield "promoted for", span_of(partitions) or "no partition", ""
    verdict = next(row["value"] for row in sections["reproducibility"].tables[0].rows if row["name"] == "verdict")
    yield "reproduction", verdict, ""
