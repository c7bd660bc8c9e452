"""Which parts of two documents a report covers: the EU AI Act's technical documentation, and model cards.

Sources: Regulation (EU) 2024/1689, Annex IV; Mitchell et al., "Model Cards for Model Reporting" (2019). Items are
paraphrased. A part counts as covered only where the report at hand has what it needs, whatever other reports have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bikes_assets.governance.report.structure import ReportSection, ReportTable, TableField

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from bikes_assets.governance.report.structure import Value

COVERED, PARTLY, NOT_COVERED = STATES = "covered", "partly", "not covered"

ABOUT = (
    "What of two documents this report covers, and by what. It is no statement of conformity: whether a system falls "
    "under the Act, and which of its duties apply, people have to decide."
)
_FIELDS = (
    TableField("item", "item"),
    TableField("what", "what it asks for"),
    TableField("state", "here", "state"),
    TableField("by", "by what, or what is missing"),
)


@dataclass(frozen=True, slots=True)
class CoverageItem:
    """A part of a document.

    Attributes:
        item: its number or name there.
        what: what it asks for.
        by: titles of the report's sections that answer it; none where no report does.
        needs: what the report must have for that: names of tables as `section/table`, and of what a project declares.
        missing: what it asks for beyond that, "" for nothing; where `by` is empty, where to find it instead.
    """

    item: str
    what: str
    by: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    missing: str = ""

    def row(self, known: Collection[str]) -> dict[str, Value]:
        """Return its row of the table.

        Args:
            known: what the report has, see `needs`.
        """
        absent = [name for name in self.needs if name not in known]
        is_open = not self.by or len(absent) == len(self.needs) > 0
        state = NOT_COVERED if is_open else PARTLY if absent or self.missing else COVERED
        lacking = [*(name.rpartition("/")[2].replace("_", " ") for name in absent), *filter(None, [self.missing])]
        if is_open:
            return {"item": self.item, "what": self.what, "state": state, "by": "; ".join(lacking)}
        told = ", ".join(self.by) + (f". Missing: {'; '.join(lacking)}" if lacking else "")
        return {"item": self.item, "what": self.what, "state": state, "by": told}


_OUTSIDE = "to be written by the provider"
ANNEX_IV = (
    CoverageItem(
        "1(a)",
        "intended purpose, provider, version and its relation to earlier ones",
        ("Purpose", "Model"),
        ("purpose", "responsible", "model/versions"),
    ),
    CoverageItem(
        "1(b)",
        "interaction with other hardware, software and AI systems",
        ("Lineage",),
        ("lineage/inputs",),
        "uses beyond this lineage",
    ),
    CoverageItem("1(c)", "versions of relevant software", ("Environment",), ("environment/packages",)),
    CoverageItem("1(d)", "forms in which it is placed on the market", missing=_OUTSIDE),
    CoverageItem(
        "1(e)",
        "hardware on which it is to run",
        ("Environment",),
        ("environment/machine",),
        "hardware it is intended for; this is what it was fitted on",
    ),
    CoverageItem("1(f)", "photographs of products that it is a component of", missing=_OUTSIDE),
    CoverageItem("1(g), (h)", "user interface and instructions for the deployer", missing=_OUTSIDE),
    CoverageItem(
        "2(a)",
        "methods and steps of development, third-party tools",
        ("Model", "Splits", "Environment"),
        ("model/settings", "splits/splits", "environment/packages"),
    ),
    CoverageItem(
        "2(b)",
        "design: logic, choices with rationale, what is optimised, parameters, expected output",
        ("Model", "Features"),
        ("model/settings", "features/features"),
        "trade-offs, and assumptions about persons",
    ),
    CoverageItem(
        "2(c)",
        "architecture, and computational resources used",
        ("Lineage", "Environment"),
        ("lineage/inputs", "environment/machine"),
        "time, memory and energy used",
    ),
    CoverageItem(
        "2(d)",
        "data: provenance, scope, how obtained and selected, labelling, cleaning",
        ("Data", "Features", "Splits", "Checks"),
        ("data/files", "obtained", "splits/splits"),
        "labelling procedures",
    ),
    CoverageItem("2(e)", "human oversight", ("Purpose",), ("oversight",), "an assessment of the measures"),
    CoverageItem("2(f)", "pre-determined changes", missing=_OUTSIDE),
    CoverageItem(
        "2(g)",
        "validation and testing: data, metrics of accuracy, robustness, discriminatory impact; dated, signed logs",
        ("Splits", "Accuracy", "Checks", "Drift"),
        ("splits/splits", "accuracy/validated", "accuracy/evaluated", "checks/own"),
        "discriminatory impact, and signatures",
    ),
    CoverageItem("2(h)", "cybersecurity", missing="not in this report; what the software does is in docs/secure.md"),
    CoverageItem(
        "3",
        "monitoring and control: limits, accuracy for groups, risks, oversight, input data",
        ("Purpose", "Accuracy", "Drift", "Known limits"),
        ("limits", "risks", "oversight", "accuracy/segments", "drift/drift"),
        "accuracy for groups of persons",
    ),
    CoverageItem("4", "why the metrics are appropriate", missing=_OUTSIDE),
    CoverageItem("5", "risk management system", missing=_OUTSIDE),
    CoverageItem(
        "6",
        "changes through the lifecycle",
        ("Model", "Decisions"),
        ("model/versions",),
        "reasons for changes; bikes diff explains two versions",
    ),
    CoverageItem("7", "harmonised standards applied", missing=_OUTSIDE),
    CoverageItem("8", "EU declaration of conformity", missing=_OUTSIDE),
    CoverageItem(
        "9",
        "post-market monitoring and its plan",
        ("Accuracy", "Drift"),
        ("accuracy/evaluated",),
        "the plan",
    ),
)
"""Regulation (EU) 2024/1689, Annex IV: what the technical documentation of a high-risk AI system holds at least."""

MODEL_CARDS = (
    CoverageItem(
        "Model details",
        "developer, date, version, type, algorithm and parameters, licence, contact",
        ("Purpose", "Model"),
        ("responsible", "model/identity", "model/settings"),
        "licence and citation of the model",
    ),
    CoverageItem("Intended use", "uses, users, and uses out of scope", ("Purpose",), ("purpose", "users", "not_for")),
    CoverageItem(
        "Factors",
        "groups, instruments and environments that accuracy may vary with",
        ("Accuracy",),
        ("accuracy/segments",),
        "which factors are relevant, and why",
    ),
    CoverageItem(
        "Metrics",
        "measures, thresholds, how variation is estimated",
        ("Accuracy", "Checks"),
        ("accuracy/validated", "checks/own"),
        "uncertainty of the metrics",
    ),
    CoverageItem(
        "Evaluation data",
        "datasets, why these, preprocessing",
        ("Splits", "Accuracy", "Features"),
        ("splits/splits", "accuracy/evaluated"),
        "why these",
    ),
    CoverageItem(
        "Training data",
        "the same of what it was fitted on",
        ("Data", "Splits", "Features"),
        ("data/files", "obtained", "licences", "splits/splits"),
    ),
    CoverageItem(
        "Quantitative analyses",
        "results by factor, and by several factors together",
        ("Accuracy",),
        ("accuracy/segments",),
        "results by several factors together",
    ),
    CoverageItem("Ethical considerations", "sensitive data, harms, mitigations", ("Purpose",), ("risks",)),
    CoverageItem("Caveats and recommendations", "what else has to be known", ("Known limits",), ("limits",)),
)
"""The sections of a model card, after Mitchell et al. (2019)."""


def coverage(known: Collection[str]) -> ReportSection:
    """Return the section that says what a report covers.

    Args:
        known: what the report has: `section/table` of each table with rows, and the names of what is declared.
    """
    tables = [
        _table("annex_iv", "EU AI Act, Annex IV: technical documentation", ANNEX_IV, known),
        _table("model_cards", "Model cards (Mitchell et al. 2019)", MODEL_CARDS, known),
    ]
    return ReportSection("coverage", "Coverage", tables, about=ABOUT)


def _table(name: str, title: str, items: Sequence[CoverageItem], known: Collection[str]) -> ReportTable:
    rows = [item.row(known) for item in items]
    counts = [f"{sum(row['state'] == state for row in rows)} {state}" for state in STATES]
    return ReportTable(name, title, _FIELDS, rows, note=f"{len(rows)} items: {', '.join(counts)}.")
