"""What a lake's records tell that belongs in the audit log: each commit that published something, hold, release and removal.

A fact follows from one record alone, so that the log can be compared with the records at any time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bikes_assets.core.address import ModelRef
from bikes_assets.core.digest import file_digest
from bikes_assets.core.record import Version
from bikes_assets.governance.audit.entries import AuditFact, Kind, moment
from bikes_assets.governance.holds import is_release, read_hold
from bikes_assets.storage.commits import new_commits
from bikes_assets.storage.files import names_in, read_file
from bikes_assets.storage.removals import is_removal, is_withdrawal, read_removal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bikes_assets.governance.audit.log import Progress
    from bikes_assets.storage.commits import Commit
    from bikes_assets.storage.lake import Lake

_FOLDERS = ("holds", "removed")


def missing(lake: Lake, assets: Iterable[str], progress: Progress) -> list[AuditFact]:
    """Return what has no entry yet, in the order in which it happened; of one table, in the order of its versions.

    Args:
        lake: the lake.
        assets: assets with a table.
        progress: how far the log is; what is read of the tables' logs is noted there.

    Raises:
        StoreError: a record cannot be read, or the store is unreachable or busy.
    """
    found: list[tuple[str, str, AuditFact]] = []
    for asset in sorted({*assets, *progress.tables}):
        latest = ""
        for commit in new_commits(lake.uri(asset), progress.tables.get(asset, -1)):
            progress.tables[asset] = commit.version
            if fact := of_commit(lake, asset, commit):
                latest = max(latest, fact.time)  # the clock may have been set back
                found.append((latest, asset, fact))
    for record in records(lake):
        if record not in progress.records and (fact := of_file(lake, record)):
            found.append((fact.time, record, fact))
    return [fact for _, _, fact in sorted(found, key=lambda item: item[:2])]  # sorting keeps the order of versions


def record_of(asset: str, version: int) -> str:
    """Return the file that records a commit, as a path in the lake."""
    return f"{asset}/_delta_log/{version:020}.json"


def records(lake: Lake) -> Iterator[str]:
    """Yield the files that record holds, releases and removals, as paths in the lake."""
    for folder in _FOLDERS:
        names = names_in(f"{lake.location}/{folder}")
        yield from (
            f"{folder}/{name}" for name in names if folder == "holds" or is_removal(name) or is_withdrawal(name)
        )


def of_commit(lake: Lake, asset: str, commit: Commit) -> AuditFact | None:
    """Return what a commit tells, None where it published nothing of this project's."""
    if not commit.content:
        return None
    made_by, models = _mapping(commit.record.get("made_by")), _models(commit.record)
    kind, of, reason = _kind_of(lake, asset, commit.record)
    digests = {"digest": _text(commit.digest), "content": _text(commit.content), "record": commit.sha256}
    fitted = next((_text(model.get("sha256")) for model in models if not model.get("origin")), "")
    return AuditFact(
        moment(commit.time),
        kind,
        (Version(asset, commit.partition, commit.version, "").address, *filter(None, of)),
        digests | ({"model": fitted} if fitted else {}),
        who=_text(made_by.get("user")),
        deployment=_text(made_by.get("deployment")),
        run=_text(made_by.get("dagster_run_id")),
        git_commit=_text(_mapping(commit.record.get("environment")).get("git_commit")),
        reason=reason,
        record=record_of(asset, commit.version),
    )


def of_file(lake: Lake, record: str) -> AuditFact | None:
    """Return what a file that records a hold, a release or a removal tells, None where it is gone.

    Args:
        lake: the lake.
        record: path of the file in the lake.

    Raises:
        StoreError: it records none of these.
    """
    place, (folder, name) = f"{lake.location}/{record}", record.split("/")
    content = read_file(place)
    if content is None:
        return None
    digest = {"record": file_digest(content)}
    if folder == "holds":
        kind, hold = "release" if is_release(name) else "hold", read_hold(name, content, place)
        subjects = tuple(dict.fromkeys((hold.version, hold.address)))
        return AuditFact(moment(hold.time), kind, subjects, digest, who=hold.user, reason=hold.reason, record=record)
    removal = read_removal(content, place)
    files = {address: sha256 for sha256, address in removal.models.items()}
    subjects = tuple(dict.fromkeys((*removal.versions, *files)))
    kind = "withdrawal" if is_withdrawal(name) else "removal"
    return AuditFact(moment(removal.time), kind, subjects, files | digest, who=removal.user, record=record)


def _kind_of(lake: Lake, asset: str, record: Mapping[str, Any]) -> tuple[Kind, tuple[str, ...], str]:
    """Return what a commit is, which model it is about, and why somebody, or the rule, decided so."""
    config, models = _mapping(record.get("config")), _models(record)
    if not _mapping(record.get("made_by")).get("dagster_run_id"):  # a person's decision is published by no run
        if pinned := _text(config.get("pinned")):
            return "pin", (pinned,), _text(config.get("reason"))
        if config.get("lifted"):
            return "lift", (), _text(config.get("reason"))
    if asset == lake.serving and models:
        promoted = ModelRef.parse(_text(models[0].get("origin"))).address
        return "promotion", (promoted,), _text(_mapping(record.get("params")).get("reason"))
    return "materialization", (), ""


def _models(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    models: Any = record.get("models")
    return [_mapping(model) for model in models] if isinstance(models, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return a value of a record that should be an object; an empty one for any other, as anybody may have written it."""
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
