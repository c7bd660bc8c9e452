"""Why two versions of a thing differ: which inputs, code and config contributed to only one, or differ between them.

`compare` compares two records; `explain` goes on to the inputs that differ, and to theirs, until it reaches what no
record of ours explains: external rows, code, settings. Only what can have contributed is a cause. An input that was
rematerialized with the same digest is none, nor is one that differs only in columns that contributed to nothing that
differs.

A `Known` answers what it has to know beyond the records.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from difflib import unified_diff
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from bikes_assets.core.record import Record, Version, partition_address
from bikes_assets.core.source_text import contributing

if TYPE_CHECKING:
    import pyarrow as pa

Side: TypeAlias = Literal["", "a", "b"]
"""Which of the two versions has something; "" for both."""

Part: TypeAlias = Literal["content", "metrics", "none"]
"""What a difference can have contributed to: the content, only the metrics of a model (`metrics`), or neither."""

Kind: TypeAlias = Literal["partition", "input", "code", "config", "environment", "unknown"]
"""Kind of a cause; `environment` where nothing else differs, `unknown` where not even that does."""

_CELLS = 10


@dataclass(frozen=True, slots=True)
class Change:
    """A value that differs, JSON-ready.

    Attributes:
        name: name of the setting or the like; parts of a nested name are joined by dots.
        a: the value in A.
        b: the value in B.
        only: which of the two has it, "" for both.
    """

    name: str
    a: Any
    b: Any
    only: Side = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a row that both have: the row's key, the column, and its value in A and in B, JSON-ready."""

    key: tuple[Any, ...]
    column: str
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class RowChange:
    """How the rows of two tables differ, by their key.

    Attributes:
        added: number of rows that only B has.
        removed: number of rows that only A has.
        changed: number of rows that differ, of those that both have.
        columns: in how many of these each column differs, where it does.
        cells: the first values that differ, a few.
    """

    added: int
    removed: int
    changed: int
    columns: Mapping[str, int]
    cells: tuple[Cell, ...] = ()


@dataclass(frozen=True, slots=True)
class InputChange:
    """An input that differs.

    Attributes:
        asset: name of the asset.
        partition: partition key.
        a: the version that A read, None where it read none.
        b: the version that B read, None where it read none.
        part: what the difference can have contributed to.
        roles: the role in which A and B read it, such as `training`; "" where that is not known.
        columns: columns whose digest differs; empty where that is not known, and for a model.
        rows: how the rows differ, None where they are not available.
    """

    asset: str
    partition: str | None
    a: Version | None
    b: Version | None
    part: Part
    roles: tuple[str, str] = ("", "")
    columns: tuple[str, ...] = ()
    rows: RowChange | None = None

    @property
    def address(self) -> str:
        """The partition's address."""
        return partition_address(self.asset, self.partition)

    @property
    def only(self) -> Side:
        """Which of the two read it, "" for both."""
        return _only(self.a is not None, self.b is not None)


@dataclass(frozen=True, slots=True)
class FunctionChange:
    """A function, class or constant that differs.

    Attributes:
        name: its dotted name.
        change: how it changed from A to B.
        a: its source text in A, "" where it does not exist there or is not known.
        b: its source text in B.
    """

    name: str
    change: Literal["changed", "new", "gone"]
    a: str = ""
    b: str = ""

    @property
    def text(self) -> str:
        """The change as a unified diff; "" where a text of it is not known."""
        if (self.change != "new" and not self.a) or (self.change != "gone" and not self.b):
            return ""
        sides = (self.a.splitlines(), self.b.splitlines())
        return "\n".join(unified_diff(*sides, f"a/{self.name}", f"b/{self.name}", lineterm=""))


@dataclass(frozen=True, slots=True)
class CodeChange:
    """Two code versions, and the functions that differ between them; none where they were not stored."""

    a: str
    b: str
    functions: tuple[FunctionChange, ...] = ()


@dataclass(frozen=True, slots=True)
class Cause:
    """A root cause of the difference between two versions.

    Attributes:
        kind: its kind.
        what: address of the input; dotted name of the function; asset and setting; else the asset.
        of: assets that it contributed to directly.
        part: what it can have contributed to: the content, or only the metrics (`metrics`).
        change: the value in A, and the value in B.
        rows: for an external input, how the rows that were materialized from it differ.
    """

    kind: Kind
    what: str
    of: tuple[str, ...]
    part: Part
    change: Change | InputChange | FunctionChange
    rows: RowChange | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """How two versions of a thing differ, and why.

    Attributes:
        a: the one.
        b: the other.
        inputs: inputs that differ.
        code: code versions, None where they are equal or the difference does not contribute to the columns in question.
        config: settings.
        environment: git commit, lock file, Python, libraries: they can be a cause, and need not be.
        columns: columns whose digest differs.
        rows: how the rows differ, None for models and for different partitions.
        file: SHA-256 of the model's file, None where it is equal or there is none.
        params: what else is recorded of the result. These and the next two are consequences, not causes.
        metrics: the metrics.
        checks: whether they passed.
        part: what these versions, where they are upstream, can have contributed to in the versions in question.
        upstream: from `explain`: how the inputs differ, and theirs: each pair of versions once, nearest first.
    """

    a: Version
    b: Version
    inputs: tuple[InputChange, ...] = ()
    code: CodeChange | None = None
    config: tuple[Change, ...] = ()
    environment: tuple[Change, ...] = ()
    columns: tuple[str, ...] = ()
    rows: RowChange | None = None
    file: Change | None = None
    params: tuple[Change, ...] = ()
    metrics: tuple[Change, ...] = ()
    checks: tuple[Change, ...] = ()
    part: Part = "content"
    upstream: tuple[Difference, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether both hold the same content."""
        return self.a.digest == self.b.digest

    @property
    def causes(self) -> tuple[Cause, ...]:
        """The root causes: external inputs, code, settings; each once, whatever it contributed to."""
        explained = {(item.a.address, item.b.address) for item in self.upstream}
        found: dict[tuple[Kind, str, str], Cause] = {}
        for item in (self, *self.upstream):
            for cause in item._own_causes(explained):
                key = (cause.kind, cause.what, repr(cause.change))
                known = found.get(key, cause)
                part: Part = "content" if "content" in (known.part, cause.part) else "metrics"
                found[key] = replace(known, of=tuple(dict.fromkeys((*known.of, *cause.of))), part=part)
        return tuple(found.values())

    @property
    def surroundings(self) -> tuple[Change, ...]:
        """How the environments differ in which they and their upstream versions were materialized."""
        changes = (change for item in (self, *self.upstream) for change in item.environment)
        return tuple({repr(change): change for change in changes}.values())

    @property
    def idle(self) -> tuple[InputChange, ...]:
        """Inputs, at any distance, that differ and cannot have contributed."""
        return tuple(change for item in (self, *self.upstream) for change in item.inputs if change.part == "none")

    def to_dict(self) -> dict[str, Any]:
        """Return the difference as JSON-ready values, with its causes."""
        causes = [asdict(cause) | _told(cause) for cause in self.causes]
        return {"equal": self.equal, "causes": causes} | asdict(self)

    @property
    def _unexplained(self) -> bool:
        """Whether the content differs although nothing that is recorded does, except for the environment."""
        known = self.code or self.config or self.a.partition != self.b.partition
        return not self.equal and not known and all(item.part != "content" for item in self.inputs)

    def _own_causes(self, explained: Collection[tuple[str, str]]) -> Iterator[Cause]:
        """Yield the causes between these two versions, except inputs whose difference is explained upstream."""
        asset = (self.a.asset,)
        if self.a.partition != self.b.partition:
            change = Change("partition", self.a.partition, self.b.partition)
            yield Cause("partition", self.a.asset, asset, self.part, change)
        for item in self.inputs:
            pair = (item.a.address if item.a else "", item.b.address if item.b else "")
            if item.part != "none" and pair not in explained:
                outside = item.a and item.b and not item.rows
                part = "metrics" if "metrics" in (self.part, item.part) else "content"
                yield Cause("input", item.address, asset, part, item, self.rows if outside else item.rows)
        if self.code:
            for function in self.code.functions:
                yield Cause("code", function.name, asset, self.part, function)
            if not self.code.functions:
                yield Cause("code", self.a.asset, asset, self.part, Change("code", self.code.a, self.code.b))
        for change in self.config:
            yield Cause("config", f"{self.a.asset}.{change.name}", asset, self.part, change)
        if self._unexplained:
            kind = "environment" if self.environment else "unknown"
            yield Cause(kind, self.a.asset, asset, self.part, Change("digest", self.a.digest, self.b.digest))


class Known:
    """What is known beyond two records; this class knows nothing."""

    def record(self, version: Version) -> Record | None:
        """Return how a version was materialized, None where that is not known, such as for a source."""

    def rows(self, a: Version, b: Version) -> RowChange | None:
        """Return how the rows of two versions of one partition differ, None where they are not available."""

    def functions(self, code_version: str) -> Mapping[str, str] | None:
        """Return the digest of each function that a code version consists of, None where that is not known."""

    def text(self, digest: str) -> str | None:
        """Return the source text of a function by its digest, None where that is not known."""

    def used(self, record: Record, columns: Collection[str]) -> Mapping[str, Collection[str]] | None:
        """Return which columns of each input contributed to some columns of the output; None where that is not known.

        Args:
            record: how it was materialized.
            columns: columns of the output; none for a model.
        """

    def key(self, asset: str) -> Collection[str]:
        """Return an asset's key columns, which always contribute."""
        del asset
        return ()


def compare(a: Record, b: Record, known: Known | None = None, columns: Collection[str] | None = None) -> Difference:
    """Return how two versions of an asset differ, and how their inputs, code, config and environment do.

    Args:
        a: record of the one.
        b: record of the other.
        known: what is known beyond the records.
        columns: the columns in question, None for all.
    """
    known = known or Known()
    one, other = a.output, b.output
    differing = tuple(name for name in {**a.columns, **b.columns} if a.columns.get(name) != b.columns.get(name))
    asked = [name for name in differing if columns is None or name in columns] or differing or tuple(a.columns)
    file, of_other = _file(a), _file(b)
    return Difference(
        one,
        other,
        inputs=tuple(_inputs(a, b, known, asked)),
        code=_code(a, b, known, asked),
        config=changes(a.config, b.config),
        environment=changes(a.environment, b.environment),
        columns=differing,
        rows=known.rows(one, other) if one.digest != other.digest and one.partition == other.partition else None,
        file=Change("sha256", file, of_other) if file != of_other else None,
        params=changes(a.params, b.params),
        metrics=changes(a.metrics, b.metrics),
        checks=changes(a.checks, b.checks),
    )


def explain(a: Record, b: Record, known: Known) -> Difference:
    """Return how two versions differ, with the differences of the inputs that contributed to it, up to the roots."""
    first = compare(a, b, known)
    asked: dict[tuple[str, str], _Asked] = {}
    found: dict[tuple[str, str], Difference] = {}
    waiting: list[tuple[Difference, Part]] = [(first, "content")]
    while waiting:
        item, part = waiting.pop(0)
        for change in item.inputs:
            if change.part == "none" or not change.a or not change.b or change.a.digest == change.b.digest:
                continue
            one, other = known.record(change.a), known.record(change.b)
            if one is None or other is None:
                continue
            pair = (change.a.address, change.b.address)
            before = asked.get(pair)
            now = _Asked.of(change, "metrics" if "metrics" in (part, change.part) else "content").joined(before)
            if now != before:  # more is asked about this pair than before
                asked[pair] = now
                found[pair] = replace(compare(one, other, known, now.columns), part=now.part)
                waiting.append((found[pair], now.part))
    return replace(first, upstream=tuple(found.values()))


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked about a pair of versions: which columns, None for all, and what they contributed to."""

    columns: frozenset[str] | None
    part: Part

    @classmethod
    def of(cls, change: InputChange, part: Part) -> _Asked:
        return cls(frozenset(change.columns) or None, part)

    def joined(self, other: _Asked | None) -> _Asked:
        if other is None:
            return self
        columns = None if self.columns is None or other.columns is None else self.columns | other.columns
        return _Asked(columns, "content" if "content" in (self.part, other.part) else "metrics")


def changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return the values that differ between two mappings, by name; nested ones part by part."""
    one, other = dict(_leaves(a)), dict(_leaves(b))
    return tuple(
        Change(".".join(path), one.get(path), other.get(path), _only(path in one, path in other))
        for path in sorted({*one, *other})
        if path not in one or path not in other or json.dumps(one[path]) != json.dumps(other[path])
    )


def _only(a: bool, b: bool) -> Side:
    return "" if a and b else "a" if a else "b"


def changed_functions(a: Mapping[str, str], b: Mapping[str, str]) -> dict[str, Literal["changed", "new", "gone"]]:
    """Return how each function whose digest differs has changed, by its dotted name."""
    return {
        name: "changed" if name in a and name in b else "new" if name in b else "gone"
        for name in sorted({*a, *b})
        if a.get(name) != b.get(name)
    }


def compare_rows(a: pa.Table, b: pa.Table, key: Collection[str]) -> RowChange:
    """Return how the rows of two tables of one schema differ; values are compared bit by bit, as for their digests.

    Args:
        a: the one; its rows are unique in `key`.
        b: the other.
        key: columns that tell the rows apart.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = list(key)
    left, right = (
        table.select(keys).append_column(name, pa.array(range(len(table)), pa.int64()))
        for table, name in ((a, " a"), (b, " b"))
    )
    joined = left.join(right, keys, join_type="full outer").sort_by([(name, "ascending") for name in keys])
    one_only, other_only = (pc.sum(pc.is_null(joined[name])).as_py() or 0 for name in (" b", " a"))
    both = joined.filter(pc.and_(pc.is_valid(joined[" a"]), pc.is_valid(joined[" b"])))
    one, other = a.take(both[" a"]), b.take(both[" b"])
    changed, columns, cells = pa.array([False] * len(both)), dict[str, int](), list[Cell]()
    for name in (name for name in a.column_names if name not in keys):
        differs = _differs(one[name], other[name])
        if count := pc.sum(differs).as_py() or 0:
            columns[name] = count
            changed = pc.or_(changed, differs)
            rows = pc.indices_nonzero(differs)[:_CELLS]
            known = zip(*(table.take(rows).to_pylist() for table in (one, other)), strict=True)
            cells += [
                Cell(tuple(_plain(x[part]) for part in keys), name, _plain(x[name]), _plain(y[name])) for x, y in known
            ]
    cells.sort(key=lambda cell: cell.key)
    return RowChange(other_only, one_only, pc.sum(changed).as_py() or 0, columns, tuple(cells[:_CELLS]))


def _differs(a: pa.ChunkedArray, b: pa.ChunkedArray) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    one, other = (pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type) for array in (a, b))
    if pa.types.is_floating(one.type):  # 0.0 and -0.0 are equal, but not in a digest
        one, other = one.view(pa.int64()), other.view(pa.int64())
    unequal = pc.fill_null(pc.not_equal(one, other), False)
    return pc.or_(unequal, pc.xor(pc.is_null(one), pc.is_null(other)))


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def _inputs(a: Record, b: Record, known: Known, asked: Collection[str]) -> Iterator[InputChange]:
    """Yield the inputs that differ, with what each can have contributed to; `asked` are columns of the output."""
    one, other = ({(item.asset, item.partition): item for item in record.inputs} for record in (a, b))
    used = _used(a, known, asked), _used(b, known, asked)
    fitted = bool(a.fitted and b.fitted)
    for asset, partition in sorted({*one, *other}, key=lambda item: (item[0], item[1] or "")):
        was, now = one.get((asset, partition)), other.get((asset, partition))
        roles = (_role(a, asset, partition), _role(b, asset, partition))
        moved = fitted and all(roles) and roles[0] != roles[1]  # such as from validation to training
        if was and now and was.digest == now.digest and not moved:
            continue
        columns: tuple[str, ...] = ()
        wanted = [each(asset) for each in used]
        part: Part = "metrics" if fitted and {*roles} - {""} == {"validation"} else "content"
        if was and now and was.digest != now.digest:
            columns = _columns(known.record(was), known.record(now))
            if columns and None not in wanted:
                mattering = {name for names in (*wanted, known.key(asset)) for name in names or ()}
                if mattering.isdisjoint(columns):
                    part = "none"
                else:
                    columns = tuple(name for name in columns if name in mattering)
        rows = known.rows(was, now) if was and now and was.digest != now.digest else None
        yield InputChange(asset, partition, was, now, part, roles, columns, rows)


def _used(record: Record, known: Known, asked: Collection[str]):  # noqa: ANN202
    """Return a function from an asset to its columns that contributed to `asked`, None where all may have."""
    found = known.used(record, asked)

    def of(asset: str) -> Collection[str] | None:
        return record.used.get(asset) if found is None else found.get(asset, ())

    return of


def _file(record: Record) -> str:
    """Return the SHA-256 of a model's file, "" for a table."""
    return "" if record.columns else next((model["sha256"] for model in record.models), "")


def _columns(a: Record | None, b: Record | None) -> tuple[str, ...]:
    one, other = (record.columns if record else {} for record in (a, b))
    return tuple(name for name in {**one, **other} if one and other and one.get(name) != other.get(name))


def _role(record: Record, asset: str, partition: str | None) -> str:
    contexts = (
        use.context for use in record.datasets if use.asset == asset and partition in (use.partitions or (None,))
    )
    return "+".join(sorted({*contexts}))


def _code(a: Record, b: Record, known: Known, asked: Collection[str]) -> CodeChange | None:
    """Return how the code of two versions differs, with the functions that can contribute to the asked columns."""
    if a.code_version == b.code_version:
        return None
    one, other = known.functions(a.code_version), known.functions(b.code_version)
    if one is None or other is None:
        return CodeChange(a.code_version, b.code_version)
    texts = [{name: known.text(digest) or "" for name, digest in side.items()} for side in (one, other)]
    columns = {**a.columns, **b.columns}
    relevant = set[str]().union(*(contributing(side, columns, asked) for side in texts))
    found = tuple(
        FunctionChange(name, change, *(side.get(name, "") for side in texts))
        for name, change in changed_functions(one, other).items()
        if name in relevant
    )
    return CodeChange(a.code_version, b.code_version, found) if found else None


def _leaves(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterable[tuple[tuple[str, ...], Any]]:
    """Yield the leaves of nested mappings (values that are no mappings, or empty ones), with the path to each."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _told(cause: Cause) -> dict[str, Any]:
    return {"text": cause.change.text} if isinstance(cause.change, FunctionChange) else {}
