"""MLflow's view of a source: where rows came from, and at which version. Imported only where MLflow is used."""

from __future__ import annotations

import json
import sys
import warnings
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from bikes_assets.core.digest import file_digest
from bikes_assets.core.errors import DigestError, SettingsError
from bikes_assets.core.record import Origin
from bikes_assets.core.schema import Schema
from bikes_assets.storage.files import filesystem_of
from bikes_assets.storage.sources.recorded_files import recorded_files
from bikes_assets.tracking.names import MOST_DATASET_NAME, shortened

if TYPE_CHECKING:
    from mlflow.data.pandas_dataset import PandasDataset
    from mlflow.entities import Dataset

    from bikes_assets.core.record import Use
    from bikes_assets.storage.sources.readers import SourceRows

_BEFORE_MLFLOW = "mlflow" not in sys.modules
with warnings.catch_warnings():
    # MLflow loads its plugins on import; where this module imports MLflow, it finds this one partially initialized
    warnings.filterwarnings("ignore", "Failure attempting to register dataset constructor")
    from mlflow.data.dataset_source import DatasetSource

SOURCE_TYPE = "bikes_versioned"
_MOST_FILES = 300
"""Characters of a source: MLflow stores at most 65,535; the version covers the files that are not listed."""
_MOST_TRACKED = 60


class VersionedSource(DatasetSource):
    """A source with the version that was read."""

    def __init__(self, origin: Origin) -> None:
        """Describe a source by what its reader reports."""
        self.origin = origin

    @staticmethod
    def _get_source_type() -> str:
        return SOURCE_TYPE

    @staticmethod
    def _can_resolve(raw_source: object) -> bool:
        return isinstance(raw_source, Origin)

    @classmethod
    def _resolve(cls, raw_source: Origin) -> VersionedSource:
        return cls(raw_source)

    def to_dict(self) -> dict[str, Any]:
        """Return name, uri, kind, version, size in bytes, files (name, SHA-256, size in bytes) and their tracking."""
        told = {"tracked": dict(islice(self.origin.tracked.items(), _MOST_TRACKED))} if self.origin.tracked else {}
        return self.origin.to_dict() | {"files": [list(file) for file in self.origin.files[:_MOST_FILES]]} | told

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> VersionedSource:
        """Return the source that `to_dict` described."""
        files = tuple((name, digest, size) for name, digest, size in source_dict["files"])
        values: dict[str, Any] = {**source_dict, "files": files}
        return cls(Origin(**values))

    def load(self) -> str:
        """Return the local path, or the URL of a remote source, after checking that it still holds this version.

        Raises:
            DataError: the source cannot be read.
            DigestError: it holds another version by now.
            SettingsError: the source is no file.
        """
        if not self.origin.files:
            raise SettingsError(f"{self.origin.uri}: found {self.origin.kind}, expected a file; use its reader")
        for file in recorded_files(self.origin.to_dict()):
            filesystem, path = filesystem_of(file.uri)
            found = file_digest(filesystem.cat_file(path))
            if found != file.sha256:
                raise DigestError(f"{file.uri}: found SHA-256 {found}, expected {file.sha256}")
        return self.origin.uri.removeprefix("file://")


if _BEFORE_MLFLOW:
    from mlflow.data.dataset_source_registry import register_dataset_source

    register_dataset_source(VersionedSource)  # pyright: ignore[reportArgumentType]


def dataset_entity(use: Use, schema: Schema | None) -> Dataset:
    """Return rows in a role as MLflow's dataset, ready for `MlflowClient.log_inputs`; no row is read.

    Args:
        use: the rows: name, digest, count and source are taken from it.
        schema: their declared columns, None where they have none.
    """
    from mlflow.entities import Dataset

    return Dataset(
        shortened(use.name, MOST_DATASET_NAME),
        use.digest,
        SOURCE_TYPE,
        VersionedSource.from_dict(use.source).to_json(),
        _columns_json(schema) if schema else None,
        json.dumps({"num_rows": use.rows}),
    )


@cache
def _columns_json(schema: Schema) -> str:
    """Return declared columns as MLflow writes a dataset's schema."""
    from mlflow.types import ColSpec, DataType
    from mlflow.types import Schema as Columns

    types = {
        "int64": DataType.long,
        "float64": DataType.double,
        "bool": DataType.boolean,
        "string": DataType.string,
        "timestamp": DataType.datetime,
    }
    columns: list[Any] = [
        ColSpec(types[column.type], column.name, required=not column.nullable) for column in schema.columns
    ]
    return json.dumps({"mlflow_colspec": Columns(columns).to_dict()})


def pandas_dataset(rows: SourceRows) -> PandasDataset:
    """Return rows of a source as MLflow's dataset, with the version of the source that they came from."""
    from mlflow.data.pandas_dataset import from_pandas

    dataset = from_pandas(
        rows.frame,
        source=VersionedSource(rows.origin),
        targets=rows.targets,
        name=rows.name,
        digest=rows.digest,
        predictions=rows.predictions,
    )
    with warnings.catch_warnings():  # a hint for models' inputs, once per dataset
        warnings.filterwarnings("ignore", message="Hint: Inferred schema contains integer column")
        dataset.schema  # noqa: B018 - inferred here, and cached
    return dataset
