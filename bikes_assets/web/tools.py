"""The questions that agents can ask: each a tool with its arguments, and its answer as a page of JSON.

The documentation of a class and of its arguments is what an agent reads, before it asks.
"""

from __future__ import annotations

import re
import sys
import traceback
from abc import ABC, abstractmethod
from dataclasses import dataclass
from inspect import getdoc
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bikes_assets.app import answers
from bikes_assets.app.json_answers import items
from bikes_assets.app.json_answers.pages import page
from bikes_assets.app.store import explained
from bikes_assets.core.errors import LineageError
from bikes_assets.core.texts import shortened
from bikes_assets.lineage.queries import unix_seconds_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bikes_assets.lineage.elements import Direction

MOST_PATHS = 10_000
"""Number of paths that can be reached: there may be so many that nobody could list them."""
_MOST_CHARACTERS = 4_000
"""Length of the longest argument; names of other tools' datasets may be long."""
_MOST_SHOWN, _MOST_LINES = 200, 10
"""Number of characters of a value, and of lines, that an error shows."""
_ADDRESS = (
    "Address, such as demand_features (an asset), demand_features.temperature (a column), demand_features[2012-08] (a "
    "partition), demand_features[2012-08]@20 (its table version 20), demand_features.temperature[2012-08] (a column of a "
    "partition), demand_model@3 or demand_model@champion (a registered model version, an alias), 'licence: CC BY 4.0' (a "
    "tag), or a source file, code version or run as answers print them. The tool search finds addresses."
)
_VERSION = (
    "Version, such as demand_model@3, demand_model@champion, demand_features[2012-08]@20, or demand_features[2012-08] for "
    "its current version."
)
_SHOULD = re.compile(r"^(Input|String|List) should (be |have |)")


class Tool(BaseModel, ABC):
    """A question of an agent, and its arguments."""

    model_config = ConfigDict(extra="forbid", strict=True, str_max_length=_MOST_CHARACTERS)

    @abstractmethod
    def page(self) -> str:
        """Return the answer as a page of JSON."""

    @classmethod
    def description(cls) -> str:
        """Return what the tool does, for agents."""
        return " ".join(str(getdoc(cls)).split())

    @classmethod
    def schema_of_arguments(cls) -> dict[str, Any]:
        """Return the JSON schema of the arguments, those first that a question needs."""
        schema = cls.model_json_schema()
        needed = schema.get("required", ())
        properties = sorted(schema["properties"].items(), key=lambda item: item[0] not in needed)
        about = {name: value for name, value in schema.items() if name not in ("title", "description")}
        return about | {"properties": dict(properties)}


class _Paged(Tool):
    """A question whose answer may have more items than a page."""

    next: int = Field(0, ge=0, description="To go on with an answer that was truncated: its `next`.")
    most: int | None = Field(
        None, ge=1, description="How many items to show at most; by default as many as fit in 25 kB."
    )

    def listed(
        self, found: Iterable[Mapping[str, Any]], total: int, as_of: float | None, reach: int | None = None
    ) -> str:
        """Return a page of the items that were found, as of a time."""
        return page(found, total, as_of=as_of, offset=self.next, most=self.most, reach=reach)


class _AsOf(_Paged):
    """A question that can be asked as of a past time."""

    as_of: str | None = Field(
        None,
        description="As it was then, such as 2012-08-14T17:00; by default now. With the `as_of` of an answer, further pages are "
        "of the same state.",
    )

    def time(self) -> float | None:
        """Return the time of the answer, Unix seconds: that of the last event if none is asked about."""
        return answers.last_event_time() if self.as_of is None else unix_seconds_of(self.as_of)


class _Walk(_AsOf):
    """A question about everything in one direction."""

    address: str = Field(description=_ADDRESS)
    level: Literal[tuple(items.LEVELS)] | None = Field(  # pyright: ignore[reportInvalidTypeForm] - the levels are listed once
        None,
        description="What to list, such as dataset, column, partition or version; by default what the address names.",
    )
    depth: int | None = Field(None, ge=1, description="How many edges to follow at most; by default to the end.")

    def walked(self, direction: Direction) -> str:
        """Return what is upstream or downstream."""
        time = self.time()
        found = items.related(direction, self.address, level=self.level, depth=self.depth, as_of=self.as_of)
        return self.listed(found, len(found), time)


class UpstreamTool(_Walk):
    """List everything that something was computed from: columns, tables, partitions, versions, files, code and runs.

    Answers where a column, table, version or model comes from. Items are nearest first; `depth` is the number of edges.
    """

    def page(self) -> str:
        """Return what contributed to the address."""
        return self.walked("upstream")


class DownstreamTool(_Walk):
    """List everything that was computed from something, which is the impact of changing it: what breaks, what is stale then.

    Also answers where a tag such as a licence, a source file, a code version or a run went. Items are nearest first;
    `depth` is the number of edges.
    """

    def page(self) -> str:
        """Return what the address contributed to."""
        return self.walked("downstream")


class PathTool(_AsOf):
    """List the paths by which one thing contributed to another, each as addresses from start downstream to end.

    `total` counts all of them; 0 says that start did not contribute to end. The first 10,000 can be shown.
    """

    start: str = Field(description=f"Where paths begin, upstream. {_ADDRESS}")
    end: str = Field(description="Where paths end, downstream: an address, as for start.")

    def page(self) -> str:
        """Return the paths."""
        time = self.time()
        count, paths = items.paths(self.start, self.end, as_of=self.as_of)
        return self.listed(paths, count, time, MOST_PATHS)


class TraceTool(Tool):
    """Show where one row's values came from: model, features, raw rows and source file, as recorded, digests verified.

    The one item has the row's values with what each was computed from, the models, the versions that were read, and the
    source files. Its long lists are cut; ask about one column for more of them.
    """

    address: str = Field(
        description="Row, such as demand_predictions[2012-08]#2012-08-14T17:00; of one column, which is shorter and faster: "
        "demand_predictions.prediction[2012-08]#2012-08-14T17:00; as of a table version: "
        "demand_predictions[2012-08]@18#2012-08-14T17:00. Values of several key columns are separated by commas."
    )

    def page(self) -> str:
        """Return the trace, the only item."""
        time = answers.last_event_time()
        return page(items.trace(self.address), 1, as_of=time)


class DiffTool(Tool):
    """Explain why two versions of one asset differ: `causes` at the root, which are rows, code and settings.

    The one item also says what lies between, which columns, rows, parameters, metrics and checks differ, and whether the
    content is `equal`.
    """

    a: str = Field(description=_VERSION)
    b: str = Field(description="The other version of the same asset, as for a.")

    def page(self) -> str:
        """Return the difference, the only item."""
        time = answers.last_event_time()
        return page(items.diff(self.a, self.b), 1, as_of=time)


class StatusTool(_Paged):
    """List the state of each partition (fresh, pending, stale, missing, failed or skipped), and the reasons.

    It knows edited code and changed sources. Of a partition that is asked about by its address, each version is listed:
    when it was materialized, why, and which columns changed.
    """

    addresses: list[str] = Field(
        default_factory=list[str],
        max_length=1_000,
        description="Assets or partitions, such as demand_features or demand_features[2012-08]; by default all.",
    )

    def page(self) -> str:
        """Return the states."""
        time = answers.last_event_time()
        found = items.status(self.addresses)
        return self.listed(found, len(found), time)


class SearchTool(_Paged):
    """Find tables, columns, models, tags and files by their names, meanings and units: what has all words, the best first.

    Begin here where you do not know an address.
    """

    words: str = Field(min_length=1, description="Words or their beginnings, such as 'air temp'; all must occur.")

    def page(self) -> str:
        """Return the matches."""
        time = answers.last_event_time()
        found = items.search(self.words)
        return self.listed(found, len(found), time)


TOOLS: Mapping[str, type[Tool]] = {
    "upstream": UpstreamTool,
    "downstream": DownstreamTool,
    "path": PathTool,
    "trace": TraceTool,
    "diff": DiffTool,
    "status": StatusTool,
    "search": SearchTool,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What an agent is told: a page of JSON, or the message of an error."""

    text: str
    is_error: bool = False


def asked(name: str, values: Mapping[str, Any]) -> Reply:
    """Return the answer to a question, or why there is none; nothing is raised.

    Args:
        name: name of the tool.
        values: its arguments, as the agent has given them.
    """
    try:
        if name not in TOOLS:
            raise LineageError(f"found no tool {shortened(name, _MOST_SHOWN)!r}, expected one of {', '.join(TOOLS)}")
        return Reply(_with(TOOLS[name], values).page())
    except Exception as error:  # noqa: BLE001 - the next question has its answer all the same
        if told := explained(error):
            return Reply(str(told), is_error=True)
        traceback.print_exc(file=sys.stderr)
        what = LineageError(
            f"found an error that nobody foresaw, {type(error).__name__}: {error}; see the server's log"
        )
        return Reply(str(what), is_error=True)


def _with(tool: type[Tool], values: Mapping[str, Any]) -> Tool:
    """Return a question with its arguments.

    Raises:
        LineageError: they are not those of the tool; the message has a line for each.
    """
    try:
        return tool.model_validate(values)
    except ValidationError as error:
        names = ", ".join(tool.schema_of_arguments()["properties"])
        raise LineageError(*(_told(item, names) for item in error.errors()[:_MOST_LINES])) from None


def _told(error: Mapping[str, Any], names: str) -> str:
    """Return one line for an error that pydantic reported."""
    place = shortened(".".join(map(str, error["loc"])), _MOST_SHOWN)
    if error["type"] == "missing":
        return f"found no argument {place!r}, expected one; the arguments are {names}"
    if error["type"] == "extra_forbidden":
        return f"found argument {place!r}, expected one of {names}"
    expected = _SHOULD.sub("", error["msg"]).replace("Literal error", "another")
    return f"{place}: found {shortened(repr(error['input']), _MOST_SHOWN)}, expected {expected}"
