"""What stays, held against the same rule written a second time: as sets that grow until nothing is added."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from bikes_assets.core.record import Record, Version
from bikes_assets.governance.retention_policy import DAY, Published, live, sources, staying

NOW = 1_000 * DAY
DAYS = 90.0


def made(version: Version, *inputs: Version, origin: str = "", time: float = 0.0) -> Published:
    models = ({"origin": origin, "sha256": "0" * 64},) if origin else ()
    return Published(Record(version, {}, inputs, "", {}, {}, {}, models), time)


def of(asset: str, partition: str | None, version: int) -> Version:
    return Version(asset, partition, version, "d" * 32)


@dataclass
class Story:
    """A history of several assets, and what is held and aliased of it."""

    published: list[Published]
    held: set[str]
    aliased: set[str]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Return a history in which each version was materialized from any that were there, the present ones and older ones."""
    published: list[Published] = []
    numbers: dict[str, int] = {}
    time = 0.0
    for _ in range(draw(st.integers(0, 25))):
        asset, partition = draw(st.sampled_from("abc")), draw(st.sampled_from(["2012-01", "2012-02", None]))
        numbers[asset] = numbers.get(asset, 0) + 1
        time = min(NOW, time + draw(st.sampled_from([0.1, 30, 300])) * DAY)
        known = [item.record.output for item in published]
        inputs = draw(st.lists(st.sampled_from(known), max_size=3)) if known else []
        origin = draw(st.sampled_from(["", *(item.address for item in known)]))
        suffix = draw(st.sampled_from(["", " baseline"])) if origin else ""
        outside = [Version("source", partition, "f" * 64, "d" * 32)]
        version = of(asset, partition, numbers[asset])
        published.append(made(version, *inputs, *outside, origin=origin + suffix, time=time))
    addresses = [item.address for item in published]
    some = st.sets(st.sampled_from(addresses), max_size=2) if addresses else st.just(set())
    return Story(draw(st.permutations(published)), draw(some), draw(some))


@given(stories())
@settings(max_examples=100, deadline=None)
def test_what_something_live_needs_stays_and_all_else_goes(story: Story) -> None:
    # When
    roots = live(story.published, held=story.held, aliased=story.aliased, now=NOW, days=DAYS)
    found = staying(story.published, roots)
    # Then what is live is so by the rule, as written here
    by_key = {item.address: item for item in story.published}

    def later(item: Published) -> list[Published]:
        made = item.record.output
        return [
            other
            for other in story.published
            if (other.record.output.asset, other.record.output.partition) == (made.asset, made.partition)
            and int(other.record.output.version) > int(made.version)
        ]

    expected = {
        address
        for address, item in by_key.items()
        if not later(item)
        or address in story.held | story.aliased
        or NOW - item.time < DAYS * DAY
        or NOW - min(later(item), key=lambda other: int(other.record.output.version)).time < DAY
    }
    assert set(roots) == expected
    # And what stays is what can be reached from there: the distance between any two, by sources added one by one
    far = {(one, one): 0 for one in by_key}
    for one, item in by_key.items():
        names = {source.address for source in item.record.inputs}
        names |= {model["origin"].replace(" baseline", "") for model in item.record.models}
        far |= {(one, other): 1 for other in names & set(by_key) - {one}}
    for middle, one, other in product(by_key, by_key, by_key):
        through = far.get((one, middle), 10**9) + far.get((middle, other), 10**9)
        if through < far.get((one, other), 10**9):
            far[one, other] = through
    nearest = {
        other: min(far[root, other] for root in expected if (root, other) in far)
        for other in by_key
        if any((root, other) in far for root in expected)
    }
    assert {address: stays.steps for address, stays in found.items()} == nearest
    # And the live version that is told is one of the nearest
    for address, stays in found.items():
        assert stays.live in expected
        assert far[stays.live, address] == stays.steps
        assert (stays.why == "needed") == (address not in expected)


def test_of_several_reasons_the_first_is_told() -> None:
    old, new = made(of("a", "2012-01", 1), time=0), made(of("a", "2012-01", 2), time=NOW)
    held = ["a[2012-01]@1", "a[2012-01]@2"]

    found = live([old, new], held=held, aliased=held, now=NOW, days=DAYS)

    assert found == {"a[2012-01]@1": "held", "a[2012-01]@2": "current"}


def test_what_was_replaced_today_stays_for_a_run_that_may_be_reading_it() -> None:
    old, new = made(of("a", None, 1), time=0), made(of("a", None, 2), time=NOW)

    assert live([new, old], held=(), aliased=(), now=NOW + DAY - 1, days=0)["a@1"] == "replaced today"
    assert "a@1" not in live([new, old], held=(), aliased=(), now=NOW + DAY, days=0)


def test_a_hold_on_what_is_not_there_keeps_nothing() -> None:
    assert staying([], live([], held=["a@1"], aliased=["b@1"], now=NOW, days=DAYS)) == {}


def test_what_a_version_was_made_from_are_its_inputs_and_where_its_models_were_fitted() -> None:
    item = made(of("c", "2012-01", 3), of("a", "2012-01", 1), origin="m[2011-12]@7 baseline")

    assert sources(item.record) == ["a[2012-01]@1", "m[2011-12]@7"]
