"""What events say beside what a record does: the project's declared columns, and where its tables are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bikes_assets.lineage.openlineage.names import DatasetName, dataset_at, dataset_of_query

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bikes_assets.core.record import Record, Use, Version
    from bikes_assets.core.schema import Schema


@dataclass(frozen=True, slots=True)
class Catalog:
    """A project as events describe it.

    Attributes:
        namespace: namespace of its jobs: its name.
        lake: folder or URL of its tables.
        code: folder of its code.
        schemas: declared columns of each dataset.
        described: descriptions of assets, in a sentence each.
        owners: who is responsible for each asset: teams (`team:name`) or people (by e-mail).
        serving: the asset whose newest partition says which model serves, "" where none does.
        digest_of: returns the digest of a column of a version, "" where nobody knows it.
    """

    namespace: str
    lake: str
    code: str
    schemas: Mapping[str, Schema] = field(default_factory=dict["str", "Schema"])
    described: Mapping[str, str] = field(default_factory=dict[str, str])
    owners: Mapping[str, Sequence[str]] = field(default_factory=dict[str, "Sequence[str]"])
    serving: str = ""
    digest_of: Callable[[Version, str], str] = lambda _version, _column: ""

    def table(self, asset: str) -> str:
        """Return the location of an asset's table."""
        return f"{self.lake}/{asset}"

    def dataset(self, version: Version, record: Record) -> DatasetName:
        """Return the name of the dataset that a version is of, as a record that names the version knows it."""
        if is_stored(version):
            return dataset_at(self.table(version.asset))
        use = use_of(version, record)
        if use is None:
            return DatasetName(self.namespace, version.asset)
        source = use.source
        return dataset_of_query(source["uri"], source["name"]) if source["kind"] == "sql" else dataset_at(source["uri"])


def is_stored(version: Version) -> bool:
    """Return whether a version is of a table of the lake, and not of a source."""
    return isinstance(version.version, int)


def use_of(version: Version, record: Record) -> Use | None:
    """Return the first role in which a record says that a version's partition was used."""
    return next(
        (
            use
            for use in record.datasets
            if use.asset == version.asset and (version.partition is None or version.partition in use.partitions)
        ),
        None,
    )
