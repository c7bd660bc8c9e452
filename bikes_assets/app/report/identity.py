"""What the model is: purpose, kind and settings, environment, whether it was reproduced, and what limits it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bikes_assets.app.store import current
from bikes_assets.core.texts import counted
from bikes_assets.events import run_log
from bikes_assets.governance.report.structure import (
    IDENTIFIERS,
    NOT_DECLARED,
    NOT_RECORDED,
    STATEMENTS,
    ReportSection,
    ReportTable,
    TableField,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bikes_assets.app.report.subject import FittedModel
    from bikes_assets.governance.report.structure import Value

DECLARED = {
    "purpose": "purpose",
    "users": "meant for",
    "not_for": "not for",
    "responsible": "responsible",
    "oversight": "human oversight",
    "risks": "risks and sensitive data",
}
"""What a project says itself, by the field of `About`."""
NOT_VERIFIED = "not verified"
_NEIGHBOURS = 3
"""Number of registered versions that are listed before and after the model's own."""


def purpose(model: FittedModel) -> ReportSection:
    """Return what the model is for, as the project declares it."""
    known, about = current().about, model.overview
    rows = [statement(title, getattr(known, name) or NOT_DECLARED) for name, title in DECLARED.items()]
    code = about["code"]
    own = [
        statement("what it computes", about["description"] or "no docstring"),
        statement("owners", ", ".join(about["owners"]) or NOT_DECLARED),
        statement("code", f"{code['function']}, {code['file']} line {code['line']}" if code else NOT_RECORDED),
    ]
    tables = [
        ReportTable("declared", "Declared by the project", STATEMENTS, rows),
        ReportTable("code", "As its code says now", STATEMENTS, own),
    ]
    return ReportSection("purpose", "Purpose", tables)


def identity(model: FittedModel) -> ReportSection:
    """Return what kind of model it is, how it was fitted, and which versions there are beside it."""
    record = model.record
    (fitted,) = [item for item in record.models if item is record.fitted]
    rows = [
        statement("version", model.address),
        statement("registered as", ", ".join(model.registered) or "not registered"),
        statement("digest of its fitted state", record.output.digest),
        statement("SHA-256 of its file", fitted["sha256"]),
        statement("code version", record.code_version),
        statement("in MLflow", fitted.get("mlflow_model_id") or NOT_RECORDED),
    ]
    settings = [
        statement("kind", kind_of(model)),
        *(statement(name, _text(value)) for name, value in sorted(record.config.items())),
    ]
    settings += [statement(name, text) for name, text in record.params.items() if name not in ("model", *record.config)]
    versions = model.overview["models"]["versions"]
    place = next((place for place, item in enumerate(versions) if item["address"] == model.address), 0)
    others = [
        {"registered": item["name"], "address": item["address"], "is_this": item["address"] == model.address}
        for item in versions[max(place - _NEIGHBOURS, 0) : place + _NEIGHBOURS + 1]
    ]
    fields = (
        TableField("registered", "registered version", "address"),
        TableField("address", "version", "address"),
        TableField("is_this", "this one"),
    )
    note = f"{len(others)} of {counted(len(versions), 'registered version')}, those before and after this one."
    tables = [
        ReportTable("identity", "", IDENTIFIERS, rows, [model.address]),
        ReportTable("settings", "Kind and settings", STATEMENTS, settings, [model.address]),
        ReportTable(
            "versions",
            "Versions before and after",
            fields,
            others,
            note=note if others else "",
            empty="none is registered",
        ),
    ]
    return ReportSection("model", "Model", tables)


def kind_of(model: FittedModel) -> str:
    """Return what kind of model it is, such as the class of its estimator."""
    return str(model.card.get("name") or model.record.params.get("model", "")) or NOT_RECORDED


def environment(model: FittedModel) -> ReportSection:
    """Return in which environment the model was fitted, by whom, and in which runs."""
    record = model.record
    known = record.environment
    rows = [
        statement("git commit", str(known.get("git_commit") or "in no repository")),
        statement("uncommitted changes", str(known.get("git_diff") or "none")),
        statement("SHA-256 of requirements.lock", str(known.get("lock") or "none")),
        statement("Dagster run", record.made_by.get("dagster_run_id", "") or NOT_RECORDED),
        statement("MLflow run", record.made_by.get("mlflow_run_id", "") or NOT_RECORDED),
    ]
    machine = [
        statement("Python", str(known.get("python") or NOT_RECORDED)),
        statement("machine", str(known.get("machine") or NOT_RECORDED)),
        statement("fitted at", moment(record.time)),
        statement("by", record.made_by.get("user", "") or NOT_RECORDED),
        statement("deployment", record.made_by.get("deployment", "") or NOT_RECORDED),
    ]
    libraries: Mapping[str, str] = known.get("libraries", {})
    packages = [{"package": name, "version": version} for name, version in sorted(libraries.items())]
    fields = (TableField("package", "package"), TableField("version", "version"))
    tables = [
        ReportTable("machine", "", STATEMENTS, machine, [model.address]),
        ReportTable("code", "Code and runs", IDENTIFIERS, rows, [model.address]),
        ReportTable("packages", "Packages", fields, packages, [model.address]),
    ]
    return ReportSection("environment", "Environment", tables)


def reproduction(model: FittedModel) -> ReportSection:
    """Return what the last rebuild of the model from its record has shown, or that none is recorded, and how to do it."""
    output, how = model.record.output, f"bikes reproduce '{model.address}'"
    about = (
        "A verdict stands here only where a rebuild of just this version, with this digest, is in Dagster's event log."
    )
    rows = [statement("verdict", NOT_VERIFIED), statement("to verify it", how)]
    for time, run, found in run_log.reproductions(current().events):
        if found.get("address") != output.address or found.get("digests", ("",))[0] != output.digest:
            continue
        rebuilt = ", ".join(f"{count} {asset}" for asset, count in found.get("rebuilt", {}).items())
        taken = len(found.get("taken", {}))
        rows = [
            statement("verdict", str(found["verdict"])),
            statement("verified", moment(time)),
            statement("in Dagster run", run),
            statement("rebuilt", rebuilt),
            statement("stored rows used instead", str(taken) if taken else "none"),
            statement(
                "packages that differed then",
                ", ".join(item["name"] for item in found.get("environment", ())) or "none",
            ),
            statement("to verify it again", how),
        ]
        break
    table = ReportTable("verdict", "", STATEMENTS, rows, [output.address])
    return ReportSection("reproducibility", "Reproducibility", [table], about=about)


def limits(_: FittedModel) -> ReportSection:
    """Return what is known to limit the model, as the project declares it."""
    rows = [{"limit": text} for text in current().about.limits]
    table = ReportTable("limits", "", (TableField("limit", "declared by the project"),), rows, empty=NOT_DECLARED)
    return ReportSection("limits", "Known limits", [table])


def statement(name: str, value: Value, address: str | list[str] = "") -> dict[str, Value]:
    """Return a row of single values."""
    return {"name": name, "value": value, "address": address} if address else {"name": name, "value": value}


def moment(time: float) -> str:
    """Return a time in Unix seconds as text, in UTC."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _text(value: object) -> str:
    """Return a setting as text: a list of names by commas, other values as JSON has them."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value) or "none"
    return "none" if value is None else json.dumps(value, sort_keys=True, default=str)
