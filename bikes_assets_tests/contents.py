"""What an index holds, to compare one that grew with one that was rebuilt."""

from __future__ import annotations

from typing import Any

from bikes_assets.lineage.index import Index


def content_of(index: Index) -> dict[str, list[tuple[Any, ...]]]:
    """Return the whole content, without ids that may differ in a rebuilt index."""
    ask, kinds = index._store.execute, index._kinds
    things = {number: (kinds[kind], name) for number, kind, name in ask("select id, kind, name from thing")}
    edges = ask(
        "select source, target, kind, event, 0 from edge union all select source, target, kind, event, until from past"
    )
    return {
        "events": sorted(ask("select id, time from event")),
        "things": sorted(
            (*things[number], event, facts) for number, event, facts in ask("select id, event, facts from thing")
        ),
        "edges": sorted((things[one], things[other], kinds[kind], *times) for one, other, kind, *times in edges),
        "history": sorted((*things[one], until, facts) for one, until, facts in ask("select * from history")),
        "words": sorted(ask("select kind, name, text from words")),
    }
