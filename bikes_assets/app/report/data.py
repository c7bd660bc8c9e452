"""What the model was fitted from: external data, features, lineage, and which rows in which role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bikes_assets.app import answers
from bikes_assets.app.report import pictures
from bikes_assets.app.store import columns, current, is_table, table
from bikes_assets.core.address import WHOLE, Address
from bikes_assets.core.columns import evidence_state
from bikes_assets.core.record import span_of
from bikes_assets.governance.report.structure import (
    ADDRESS,
    NOT_DECLARED,
    ReportPicture,
    ReportSection,
    ReportTable,
    TableField,
)
from bikes_assets.lineage import queries
from bikes_assets.lineage.elements import COLUMN, FILE, address_of
from bikes_assets.lineage.projection import ROLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bikes_assets.app.report.subject import FittedModel
    from bikes_assets.governance.report.structure import Value

_LICENCE = "licence:"
_NOTHING = "nothing upstream of the model was read from outside of the project's code"
_UNNAMED = "The model's card names no features: these are all columns that it used but the key, the target among them."


def licence_of(asset: str) -> str:
    """Return the licence of an asset's data: as the project declares it, else by its columns' tags; "" for neither."""
    if told := current().about.licences.get(asset, ""):
        return told
    schema = columns().get(asset)
    tags = [tag for column in (schema.columns if schema else ()) for tag in column.tags if tag.startswith(_LICENCE)]
    return ", ".join(dict.fromkeys(tag.removeprefix(_LICENCE).strip() for tag in tags))


def data(model: FittedModel) -> ReportSection:
    """Return the external data that the model goes back to: files, datasets with licences, and the rows that were read."""
    files = [
        {ADDRESS: item.name, **{name: item.facts.get(name) for name in ("uri", "bytes", "sha256")}}
        for item in model.upstream
        if item.kind == FILE
    ]
    read = [
        {ADDRESS: address, "rows": facts.get("rows"), "digest": facts.get("digest")}
        for address, facts in sorted(model.contributing.items())
        if _is_external(model, address)
    ]
    by_asset: dict[str, list[Mapping[str, Value]]] = {}
    for row in read:
        by_asset.setdefault(_place(str(row[ADDRESS])).asset, []).append(row)
    datasets = [
        {
            ADDRESS: str(Address(asset)),
            "partitions": _span(_place(str(row[ADDRESS])).partition for row in rows),
            "rows": sum(int(str(row["rows"] or 0)) for row in rows),
            "licence": licence_of(asset) or NOT_DECLARED,
            "obtained": current().about.obtained.get(asset) or NOT_DECLARED,
        }
        for asset, rows in by_asset.items()
    ]
    rows, where = TableField("rows", "rows", "number"), TableField(ADDRESS, "address", "address")
    tables = [
        ReportTable(
            "datasets",
            "External datasets",
            (
                where,
                TableField("partitions", "partitions"),
                rows,
                TableField("licence", "licence"),
                TableField("obtained", "how it was obtained"),
            ),
            datasets,
            empty=_NOTHING,
        ),
        ReportTable(
            "files",
            "Files that were read",
            (
                where,
                TableField("bytes", "bytes", "number"),
                TableField("uri", "origin"),
                TableField("sha256", "SHA-256", "code"),
            ),
            files,
            empty=_NOTHING,
        ),
        ReportTable(
            "read", "Rows that were read", (where, rows, TableField("digest", "digest", "code")), read, empty=_NOTHING
        ),
    ]
    return ReportSection("data", "Data", tables)


def features(model: FittedModel) -> ReportSection:
    """Return what the model reads of each row: meaning, reason and lineage of each feature."""
    rows = [row for asset in _inputs(model) for row in _features_of(model, asset)]
    fields = (
        TableField(ADDRESS, "feature", "address"),
        TableField("meaning", "meaning"),
        TableField("why", "why"),
        TableField("unit", "Unit:", below="meaning"),
        TableField("computed_from", "computed from", "address"),
        TableField("goes_back_to", "from", "address", below="computed_from"),
        TableField("evidence", "evidence"),
    )
    about = (
        "Meanings and reasons are those that the code declares now. Evidence: whether the feature moved when that input was "
        "perturbed."
    )
    unused = [name for names in model.record.inert.values() for name in names]
    told = [] if model.card.get("features") else [_UNNAMED]
    told += [f"The fitted model cannot use: {', '.join(unused)}."] if unused else []
    table_ = ReportTable("features", "", fields, rows, note=" ".join(told), empty="it reads no table of the project")
    return ReportSection("features", "Features", [table_], about=about)


def lineage(model: FittedModel) -> ReportSection:
    """Return a picture of the lineage around the model, and the exact versions that it was fitted and validated on."""
    roles: dict[tuple[str, str], list[str]] = {}
    for use in model.record.datasets:
        for partition in use.partitions or ("",):
            roles.setdefault((use.asset, partition), []).append(ROLES.get(use.context, use.context))
    rows = [
        {
            ADDRESS: item.address,
            "role": ", ".join(roles.get((item.asset, item.partition or ""), ())) or "read",
            "rows": model.contributing.get(item.address, {}).get("rows"),
            "digest": item.digest,
        }
        for item in model.record.inputs
    ]
    fields = (
        TableField(ADDRESS, "version", "address"),
        TableField("role", "role"),
        TableField("rows", "rows", "number"),
        TableField("digest", "digest", "code"),
    )
    asset = str(Address(model.record.output.asset))
    svg, title = pictures.lineage(asset), f"What {asset} is computed from, and what it contributes to"
    pictures_ = [ReportPicture(title, svg)] if svg else []
    table_ = ReportTable("inputs", "Versions that were read", fields, rows, [model.address], empty="it read no version")
    return ReportSection("lineage", "Lineage", [table_], pictures_)


def splits(model: FittedModel) -> ReportSection:
    """Return which rows the model was fitted and validated on, by digest."""
    rows: list[Mapping[str, Value]] = []
    for use in model.record.datasets:
        if use.asset == model.record.output.asset:
            continue
        of = use.partitions or ("",)
        read = [item for item in model.record.inputs if item.asset == use.asset and (item.partition or "") in of]
        rows.append(
            {
                "role": ROLES.get(use.context, use.context),
                "asset": str(Address(use.asset)),
                "partitions": use.span or "all",
                "rows": use.rows,
                "digest": use.digest,
                ADDRESS: [item.address for item in read],
            }
        )
    fields = (
        TableField("role", "role"),
        TableField("partitions", "partitions"),
        TableField("asset", "of", "address", below="partitions"),
        TableField("rows", "rows", "number"),
        TableField(ADDRESS, "versions", "address"),
        TableField("digest", "Digest of these rows:", "code", below=ADDRESS),
    )
    about = "It was validated on other partitions than those that it was fitted on." if _are_apart(rows) else ""
    return ReportSection("splits", "Splits", [ReportTable("splits", "", fields, rows, [model.address])], about=about)


def _are_apart(rows: Sequence[Mapping[str, Value]]) -> bool:
    """Return whether there are both kinds of rows, and no version is of both."""
    fitted, validated = (
        {address for row in rows if row["role"] == role for address in _listed(row[ADDRESS])} for role in ROLES.values()
    )
    return bool(fitted) and bool(validated) and not fitted & validated


def _listed(value: Value) -> list[str]:
    return value if isinstance(value, list) else []


def _inputs(model: FittedModel) -> list[str]:
    return [name for name in dict.fromkeys(item.asset for item in model.record.inputs) if is_table(name)]


def _features_of(model: FittedModel, asset: str) -> Iterator[Mapping[str, Value]]:
    """Yield a row for each feature of a table: what its card names, else all columns that were used but the key."""
    schema = table(asset).schema
    used = model.record.used.get(asset, schema.names)
    wanted = model.card.get("features") or [name for name in used if name not in schema.key]
    derivations = current().derivations
    computed = derivations.computed.get(asset) if derivations else None
    reasons = {item.name: item.rationale for item in computed.functions} if computed else {}
    for name in (name for name in schema.names if name in wanted):
        column = schema[name]
        address = str(Address(asset, name))
        direct, roots = _lineage_of(model, address)
        yield {
            ADDRESS: address,
            "meaning": column.meaning,
            "why": reasons.get(name, ""),
            "unit": column.unit,
            "computed_from": direct,
            "goes_back_to": roots,
            "evidence": _evidence(model, address),
        }


def _lineage_of(model: FittedModel, address: str) -> tuple[list[str], list[str]]:
    """Return the columns that a column is computed from, and those outside of the project that it goes back to."""
    things = [item for item in answers.upstream(address).things if item.kind == COLUMN]
    outside = [item for item in things if model.is_external(_place(item.name).asset)]
    return [address_of(item) for item in things if item.depth == 1], [address_of(item) for item in outside]


def _evidence(model: FittedModel, address: str) -> str:
    """Return what perturbation has shown of a column's inputs, in words."""
    evidence = queries.find(model.index, address).facts.get("evidence", {})
    states = {name: evidence_state(item["state"]) for name, item in evidence.get("inputs", {}).items()}
    if len({*states.values()}) == 1:
        return next(iter(states.values()))
    return ", ".join(f"{name}: {state}" for name, state in states.items())


def _is_external(model: FittedModel, address: str) -> bool:
    return model.is_external(_place(address).asset)


def _place(address: str) -> Address:
    return Address.parse(address) or Address(address, WHOLE)


def _span(partitions: Iterator[str | None]) -> str:
    return span_of(key for key in partitions if key is not None) or "all"
