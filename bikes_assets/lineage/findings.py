"""What experiments with a function find out, and how many of them ran."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bikes_assets.lineage.declaration import Pair

_MOST_BLOCKED = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """What an experiment says of a column that a function makes: what its declaration denies, or what could not be tried.

    Attributes:
        check: the experiment.
        output: the column that it makes, "(rows)" for which rows there are, "" for all.
        column: the column that it reads; "" where it is not one column that does it.
        message: what was perturbed how, and what moved; or why nothing ran.
    """

    check: str
    output: str
    column: str
    message: str


@dataclass(slots=True)
class Count:
    """How many perturbed tables the function was tried on: on how many it ran, and on how many it failed."""

    ran: int = 0
    blocked: int = 0


@dataclass(slots=True)
class Seen:
    """What was seen of one dependency so far: in how many tables, which checks saw it move, at which offsets."""

    trials: Count = field(default_factory=Count)
    by_value: bool = False
    checks: dict[str, None] = field(default_factory=dict)
    offsets: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Found:
    """What the experiments have found so far.

    Attributes:
        counts: by experiment, the tables that were tried.
        outputs: by experiment and output, the tables that could have shown something of it.
        seen: by dependency.
        findings: what denies the declaration.
        blocked: why the function failed on perturbed tables.
        unchecked: what could not be checked, and why.
    """

    counts: dict[str, Count] = field(default_factory=dict)
    outputs: dict[tuple[str, str], Count] = field(default_factory=dict)
    seen: dict[Pair, Seen] = field(default_factory=dict)
    findings: dict[tuple[str, str, str], Finding] = field(default_factory=dict)
    blocked: dict[str, None] = field(default_factory=dict)
    unchecked: dict[str, None] = field(default_factory=dict)

    def find(self, check: str, output: str, column: str, message: str) -> None:
        """Add a finding, unless there is one of the same."""
        self.findings.setdefault((check, output, column), Finding(check, output, column, message))

    def count(
        self,
        check: str,
        outputs: Iterable[str] = (),
        pairs: Iterable[Pair] = (),
        blocked: object = None,
        ground: str = "",
    ) -> None:
        """Count a perturbed table.

        Args:
            check: the experiment.
            outputs: what it could have shown something of.
            pairs: the dependencies that it tried.
            blocked: why the function failed on it, None where it ran.
            ground: what the table was before.
        """
        counts = [self.counts.setdefault(check, Count())]
        counts += [self.outputs.setdefault((check, name), Count()) for name in outputs]
        counts += [self.seen.setdefault(pair, Seen()).trials for pair in pairs]
        for each in counts:
            if blocked is None:
                each.ran += 1
            else:
                each.blocked += 1
        if blocked is not None and len(self.blocked) < _MOST_BLOCKED:
            self.blocked[f"{check}{', ' if ground else ''}{ground}: {blocked}"] = None

    def leave(self, what: str, why: str) -> None:
        """Note that something could not be checked."""
        self.unchecked[f"{what}: {why}"] = None

    def see(self, check: str, pair: Pair, *, moved: bool, by_value: bool) -> None:
        """Note whether a perturbed input moved an output."""
        seen = self.seen.setdefault(pair, Seen())
        if moved:
            seen.checks[check] = None
            seen.by_value |= by_value
