"""A record's settings as MLflow's parameters: one by one, so that its pages sort, filter and compare runs by each."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bikes_assets.core.record import Record

_PARAM = 6_000
"""Longest parameter value that MLflow accepts, in characters."""


def settings(config: Mapping[str, Any], params: Mapping[str, Any], taken: Iterable[str] = ()) -> dict[str, str]:
    """Return the settings of a run's config and an outcome's parameters, each by its own name.

    A nested value is a setting too: `{"parameters": {"max_iter": 300}}` is `max_iter`. Where two have the same name,
    that of the config gets its whole path, such as `config.parameters.max_iter`. A list is written as its items.

    Args:
        config: the run's config of the step.
        params: the outcome's parameters, which keep their names.
        taken: names that are already used for something else.
    """
    leaves = dict(_leaves(config))
    uses = Counter([*taken, *params, *(path[-1] for path in leaves)])
    named = {path[-1] if uses[path[-1]] == 1 else ".".join(("config", *path)): value for path, value in leaves.items()}
    return _texts({**{name: _listed(value) for name, value in named.items()}, **params})


def of_record(record: Record) -> dict[str, str]:
    """Return all parameters of a run: the settings, and for a fitted model the rows in each role."""
    roles = _roles(record)
    return settings(record.config, record.params, roles) | roles


def as_one_value_each(record: Record) -> dict[str, str]:
    """Return a run's parameters as before settings were logged one by one: each value of the config as one text."""
    return _texts({**{f"config.{name}": value for name, value in record.config.items()}, **record.params})


def _roles(record: Record) -> dict[str, str]:
    """Return the partitions and the number of rows that something was fitted on, and those that it was validated on."""
    found: dict[str, str] = {}
    for use in record.datasets if record.fitted else ():
        found |= {use.context: use.span} if use.span else {}
        found[f"{use.context}_rows"] = str(use.rows)
    return found


def _leaves(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, name))  # pyright: ignore[reportUnknownArgumentType] - JSON
        else:
            yield (*path, name), value


def _listed(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) and value else value  # pyright: ignore[reportUnknownArgumentType]


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value)[:_PARAM] for name, value in values.items()}
