"""The lake: one Delta table per asset, and model files named by their SHA-256. It knows nothing of Dagster."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bikes_assets.core import model_file
from bikes_assets.core.code_version import code_version_of, reached_code
from bikes_assets.core.digest import combined_digest, file_digest, table_digest
from bikes_assets.core.errors import DigestError, LineageError, UntrustedError
from bikes_assets.core.record import Origin, Record, Version, partition_address
from bikes_assets.core.schema import Column, Schema
from bikes_assets.core.source_text import function_digests, source_text
from bikes_assets.core.texts import newest
from bikes_assets.core.transient import at_store
from bikes_assets.storage.code.working_tree import WorkingTreeDiff, difference
from bikes_assets.storage.delta import Files, LakeTable, stored_schema
from bikes_assets.storage.estimators import EstimatorTypes, Named
from bikes_assets.storage.files import filesystem_of, is_remote, read_file, read_json, write_file, write_files
from bikes_assets.storage.parsed import texts
from bikes_assets.storage.removals import raise_if_model_removed
from bikes_assets.storage.sources.readers import Raw, Reader

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from bikes_assets.storage.commits import Commit

_SHA256 = re.compile("[0-9a-f]{64}")

MODEL_ROWS = Schema(
    "models",
    key=("digest",),
    columns=(
        Column("digest", "string", "Digest of the fitted state."),
        Column("sha256", "string", "SHA-256 of the model's file, which is its name in the lake."),
        Column("origin", "string", "Address of the model version that was fitted, empty in that version itself."),
        Column("card", "string", "How it was fitted, as JSON."),
        Column("example", "string", "A handful of input rows, as JSON; empty where there are none."),
        Column("mlflow_model_id", "string", "Id of its copy in MLflow, empty where MLflow could not be reached."),
    ),
)
"""Rows of a model asset's table: one for each fitted model of a partition, none where a decision was revoked."""


@dataclass(frozen=True)
class ModelFormat:
    """How the domain serializes its models; the lake knows nothing else of them.

    Attributes:
        dump: model to the bytes of its file.
        load: bytes of a file that was checked, and its card, to a model.
        card: model to JSON-ready values: how it was fitted.
        state: all fitted parts, which are digested.
        estimator: the fitted scikit-learn estimator, of which MLflow gets a copy.
        trusted: the types that a file may hold.
        part: where the file holds more than the estimator, the estimator's key in it.
        stored: a model and the address of the version that it was stored as, to what `load` would return of its file;
            None where each use loads the file.
    """

    dump: Callable[[Any], bytes]
    load: Callable[[bytes, dict[str, Any]], Any]
    card: Callable[[Any], dict[str, Any]]
    state: Callable[[Any], Any]
    estimator: Callable[[Any], Any]
    trusted: Sequence[str]
    part: str = ""
    stored: Callable[[Any, str], Any] | None = None

    @classmethod
    def of_estimators(cls, *others: Named) -> ModelFormat:
        """Return the format of models that are estimators and nothing else: any of scikit-learn, pipelines included.

        What a file may hold is derived from the installed scikit-learn, never from a file: see `storage.estimators`.

        Args:
            others: estimators of other packages, and functions that estimators were given, each as itself or by its
                dotted name, such as `lightgbm.LGBMRegressor`.
        """
        trusted = EstimatorTypes(*others)

        def dump(model: Any) -> bytes:
            try:
                return model_file.dumps(model, trusted)
            except UntrustedError as error:
                raise UntrustedError(
                    f"{type(model).__name__}: {error}; name what is of a module of yours or of another package, as in "
                    "ModelFormat.of_estimators('lightgbm.LGBMRegressor'), or store a part, such as a search's best estimator"
                ) from error

        def itself(model: Any) -> Any:
            return model

        return cls(
            dump=dump,
            load=lambda content, _: model_file.loads(content, trusted),
            card=lambda model: {"name": type(model).__name__, "origin": ""},
            state=itself,
            estimator=itself,
            trusted=trusted,
        )

    def copy(self, content: bytes) -> bytes:
        """Return the estimator's own file, of which MLflow gets a copy, from a model's file."""
        return model_file.part(content, self.part) if self.part else content


@dataclass(frozen=True)
class Lake:
    """Where tables and model files are stored.

    Attributes:
        location: folder or URL.
        schemas: declared schema of each table asset. Any other asset's table has the columns that were stored, and
            holds models while there are none.
        root: the project's root, for the environment's record.
        serving: the asset whose newest partition says which model serves, "" where none does.
        made_by: what a record also says about who materialized a version, such as the user and the deployment.
        memory: folder of this machine that caches what is derived from the tables' logs; None for none.
    """

    location: str
    schemas: Mapping[str, Schema]
    root: Path
    serving: str = ""
    made_by: Mapping[str, str] = field(default_factory=dict)
    memory: Path | None = None
    _kept: set[str] = field(default_factory=set, compare=False, repr=False)

    def table(self, asset: str, schema: Schema | None = None) -> LakeTable:
        """Return the table of an asset.

        Args:
            asset: name of the asset.
            schema: its columns; they take precedence over `schemas`.
        """
        uri, schema = self.uri(asset), schema or self.schemas.get(asset)
        if schema is None:
            stored = stored_schema(asset, uri)
            schema = stored if stored and stored.types != MODEL_ROWS.types else MODEL_ROWS
        return LakeTable(asset, uri, schema, self.memory and self.memory / f"{quote(asset, safe='')}.json")

    def uri(self, asset: str) -> str:
        """Return the location of an asset's table.

        Raises:
            LineageError: the name leads out of the lake, as that of no asset does.
        """
        if not {"", ".", ".."}.isdisjoint(asset.split("/")):
            raise LineageError(f"found asset {asset!r}, expected one whose table is in the lake")
        return f"{self.location}/{asset}"

    def look(self, table: LakeTable) -> tuple[dict[str | None, Commit], dict[str | None, str]]:
        """Return the commit that published each partition of a table, and what happened to those changed since.

        Another program has changed their rows, or a power loss has cut their files short. At a URL only the former can
        be noticed without reading everything.
        """
        found = table.look()
        if found is None:
            return {}, {}
        altered = dict(found.cut_short)
        if table.schema.types == MODEL_ROWS.types and not is_remote(self.location):
            altered = {**self._cut_short(found.published), **altered}
        for key, by in found.altered.items():
            altered[key] = f"another program has changed its rows ({by.operation}, table version {by.version})"
        return found.published, altered

    def _cut_short(self, published: Mapping[str | None, Commit]) -> dict[str | None, str]:
        found: dict[str | None, str] = {}
        for key, commit in published.items():
            for model in commit.record.get("models", ()):
                _, path = filesystem_of(self.model_location(model["sha256"]))
                if not (Path(path).exists() and Path(path).stat().st_size):
                    found.setdefault(key, f"its model file {path} is empty or gone")
        return found

    def save_file(self, content: bytes) -> str:
        """Store a model's file atomically under its SHA-256, and return that."""
        sha256 = file_digest(content)
        write_file(self.model_location(sha256), content)
        return sha256

    def load_file(self, sha256: str) -> bytes:
        """Return a model's file after checking it.

        Raises:
            DigestError: the file is missing, too large, or differs from what was stored.
            RemovedError: it was removed by retention.
        """
        location = self.model_location(sha256)
        filesystem, path = filesystem_of(location)
        try:
            with at_store(location):
                if (size := filesystem.size(path)) > model_file.MAX_BYTES:
                    raise DigestError(f"{path}: found {size:,} bytes, expected at most {model_file.MAX_BYTES:,}")
                content: bytes = filesystem.cat_file(path)
        except FileNotFoundError:
            raise_if_model_removed(self.location, sha256)
            raise DigestError(f"{path}: found no file there; restore it, or materialize the model again") from None
        if file_digest(content) != sha256:
            raise DigestError(f"{path}: found SHA-256 {file_digest(content)}; restore the file")
        return content

    def model_location(self, sha256: str) -> str:
        """Return the location of a model's file.

        Raises:
            DigestError: the name is no SHA-256.
        """
        if not _SHA256.fullmatch(sha256):
            raise DigestError(f"found model file {sha256!r}, expected a SHA-256 of 64 hexadecimal digits")
        return f"{self.location}/model_files/{sha256}.skops"

    def model_files(self) -> dict[str, tuple[int, float]]:
        """Return the current model files: SHA-256 to size in bytes, and when the file was written, Unix seconds."""
        filesystem, folder = filesystem_of(f"{self.location}/model_files")
        filesystem.invalidate_cache()
        with at_store(self.location):
            found: dict[str, Any] = filesystem.find(folder, detail=True) if filesystem.exists(folder) else {}
        return {
            Path(path).stem: (int(about["size"]), _written(about))
            for path, about in found.items()
            if path.endswith(".skops")
        }

    def keep_code(self, function: str, code_version: str) -> None:
        """Store once what a code version consists of, to compare later ones with: each function's digest and text.

        Args:
            function: dotted name of the function whose code version it is.
            code_version: the code version.
        """
        if not function or code_version in self._kept:
            return
        module, _, name = function.rpartition(".")
        reached = reached_code(module, name)
        if code_version_of(reached) == code_version:
            digests = function_digests(reached)
            # a store may hold only digests, from before texts were kept
            if self.code(code_version) is None or self.text(digests[function]) is None:
                self._keep_texts([*(digests.keys() - {function}), function], digests)
                write_file(f"{self.location}/code/{code_version}.json", json.dumps(digests, indent=0).encode())
        self._kept.add(code_version)

    def keep_difference(self) -> None:
        """Store, once, how the working tree differs from its commit, so that what is materialized with it can be rebuilt."""
        changed = difference(self.root)
        if changed.digest and not changed.dropped and changed.digest not in self._kept:
            place = self.difference_file(changed.digest)
            if read_file(place) is None:
                write_file(place, changed.packed())
            self._kept.add(changed.digest)

    def difference(self, digest: str) -> WorkingTreeDiff | None:
        """Return a working tree's difference from its commit by its digest, "" for none; None where it was not kept.

        Raises:
            DigestError: the stored file differs from what was kept.
        """
        if not digest:
            return WorkingTreeDiff()
        content = read_file(self.difference_file(digest))
        if content is None:
            return None
        found = WorkingTreeDiff.unpacked(content)
        if found.digest != digest:
            raise DigestError(f"{self.difference_file(digest)}: found digest {found.digest}; restore the file")
        return found

    def difference_file(self, digest: str) -> str:
        """Return the location of a working tree's difference from its commit."""
        return f"{self.location}/code/differences/{digest}.tar"

    def code(self, code_version: str) -> dict[str, str] | None:
        """Return the digest of each function that a code version consists of, None where it was not kept."""
        place = f"{self.location}/code/{code_version}.json"
        content = read_file(place)
        expected = (
            "functions and their digests; restore the file, or remove it: the next run of this code writes it again"
        )
        return None if content is None else read_json(content, place, texts, expected)

    def text(self, digest: str) -> str | None:
        """Return a function's source as it was first kept under its digest, with comments; None where it was not."""
        content = read_file(self._text_file(digest))
        return None if content is None else content.decode(errors="replace")  # it is shown, never run

    def record(self, asset: str, partition: str | None, version: int | str | None = None) -> Record:
        """Return the record of how a partition was materialized; see `resolve`."""
        commit = self.resolve(asset, partition, version)
        return Record.from_dict(commit.record).at(commit.version)

    def resolve(self, asset: str, partition: str | None, version: int | str | None = None) -> Commit:
        """Return the commit that published a partition, as of a table version, by default the current one.

        Raises:
            LineageError: there is no such table, version or partition; the message says which there are.
        """
        table, at, published = self.as_of(asset, version)
        if partition in published:
            return published[partition]
        raise LineageError(
            f"{partition_address(asset, partition)}: found nothing as of version {at}, "
            f"expected {_instead_of(partition, published, table)}"
        )

    def as_of(self, asset: str, version: int | str | None) -> tuple[LakeTable, int, dict[str | None, Commit]]:
        """Return an asset's table, the number of the table version that is meant, and what was published by then.

        Raises:
            LineageError: there is no such table or version.
        """
        table = self.table(asset)
        if not table.exists():  # asking for its version would create it
            raise LineageError(f"{asset}: found no table at {table.uri}; materialize {asset} first, as with bikes run")
        present = table.version()
        if version is not None and not (str(version).isdecimal() and int(version) <= present):
            raise LineageError(f"{asset}@{version}: found version '{version}', expected one from 0 to {present}")
        at = present if version is None else int(version)
        return table, at, table.published(at)

    def load_model(self, models: ModelFormat, sha256: str, card: str, origin: str, fitted: Any = None) -> Any:
        """Return the model of a row of MODEL_ROWS, whose file is checked first.

        Args:
            models: how models are serialized.
            sha256: its file.
            card: how it was fitted, as JSON.
            origin: address of the version that was fitted.
            fitted: the model that this process stored as that file, if it did: it need not be built again.

        Raises:
            DigestError: the file is not what it was when it was stored.
        """
        content = self.load_file(sha256)
        if fitted is not None and models.stored:
            return models.stored(fitted, origin)
        return models.load(content, {**json.loads(card), "origin": origin})

    def _text_file(self, digest: str) -> str:
        return f"{self.location}/code/functions/{digest}.py"

    def _keep_texts(self, places: Sequence[str], digests: Mapping[str, str]) -> None:
        """Keep the source text of functions whose digest has none yet."""
        filesystem, folder = filesystem_of(f"{self.location}/code/functions")
        with at_store(self.location):
            there = filesystem.ls(folder, detail=False) if filesystem.exists(folder) else ()
        known = {Path(name).stem for name in there}
        wanted = {digests[place]: place for place in places if digests[place] not in known}
        write_files({self._text_file(digest): source_text(place).encode() for digest, place in wanted.items()})


def _instead_of(partition: str | None, known: Iterable[str | None], table: LakeTable) -> str:
    """Return what to ask for instead of a partition that was not published by a version: later ones of it, or others."""
    if own := [commit.version for commit in table.commits() if commit.partition == partition]:
        return f"one of its versions: {newest(own)}"
    return f"one of {', '.join(sorted(map(str, known))) or 'none, for nothing was published by then'}"


def _written(about: Mapping[str, Any]) -> float:
    """Return when a file was written, according to its file system."""
    moment: Any = about.get("mtime", about.get("LastModified"))
    return float(moment) if isinstance(moment, int | float) else moment.timestamp()


class DeltaReader(Reader):
    """Reads partitions of a lake table at one table version.

    Args:
        table: the table.
        version: table version that is read, whatever is published after it.
        partitions: partition keys; those that the table lacks are left out.
    """

    def __init__(self, table: LakeTable, version: int, partitions: Sequence[str | None]) -> None:
        self.table, self.version, self.partitions = table, version, partitions

    def origin(self) -> Origin:
        """Return the table's address and pinned version."""
        return Origin(self.table.name, self.table.uri, "delta", str(self.version), 0)

    def read(self) -> Raw:
        """Return the partitions' rows in key order."""
        parts = self.table.read(self.partitions, self.version)
        frame = to_pandas([rows for _, rows in parts.values()], self.table.schema)
        return Raw(frame, self.origin(), lambda position: (self.table.uri, position + 1))


def digest_together(parts: Sequence[tuple[Version, pa.Table | Files]], schema: Schema) -> str:
    """Return one digest of the rows of several partitions; for a single one, that on its event.

    Where rows were left in their files, it is a digest of the partitions' digests.
    """
    import pyarrow as pa

    if len(parts) == 1:
        return parts[0][0].digest
    if any(isinstance(rows, Files) for _, rows in parts):
        return combined_digest(version.digest for version, _ in parts)
    return table_digest(pa.concat_tables([rows for _, rows in parts]).combine_chunks(), schema).table


def to_pandas(tables: Sequence[pa.Table], schema: Schema) -> pd.DataFrame:
    """Return Arrow tables of one schema as one pandas frame; integers are `Int64`, also where some are missing."""
    import pandas as pd
    import pyarrow as pa

    table = pa.concat_tables(tables) if tables else schema.arrow().empty_table()
    return table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
