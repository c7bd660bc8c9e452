"""What a page says first of a materialization: short enough to be seen, and each link to the month that it names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bikes_assets.core.record import Record, Use, Version
from bikes_assets.core.staleness import config_changes
from bikes_assets.events.materialized_from import INLINE, materialized_from

MONTHS = [f"{year}-{month:02}" for year in (2011, 2012) for month in range(1, 13)]


def record(*inputs: Version, datasets: tuple[Use, ...] = (), **values: object) -> Record:
    return replace(
        Record(Version("model", "2012-08", 7, "d" * 32), {}, inputs, "c" * 32, {}, {"git_commit": "a" * 40}, {}),
        datasets=datasets,
        **values,
    )


def use(context: str, *months: str) -> Use:
    return Use(context, "features", months, f"{context[0]}" * 32, 10, {})


def test_inputs_are_links_to_the_partitions_that_were_read() -> None:
    made = record(Version("raw", "2012-08", 4, "1" * 32), Version("files", None, "f" * 64, "2" * 32))
    assert materialized_from(made, None).splitlines() == [
        "- [raw[2012-08]](/assets/raw?view=partitions&partition=2012-08) version 4, digest `11111111`",
        "- [files](/assets/files) SHA-256 `ffffffff`, digest `22222222`",
        "- code `cccccccc`, git commit `aaaaaaaa`",
        "- first materialization of this partition",
    ]


def test_rows_in_several_roles_stand_by_their_role() -> None:
    months = [Version("features", month, 1, "1" * 32) for month in MONTHS[:19]]
    made = record(*months, datasets=(use("training", *MONTHS[:18]), use("validation", MONTHS[18])))
    assert materialized_from(made, None).splitlines()[:2] == [
        "- training [features[2011-01..2012-06]](/assets/features?view=partitions&partition=2012-06) digest `tttttttt`",
        "- validation [features[2012-07]](/assets/features?view=partitions&partition=2012-07) digest `vvvvvvvv`",
    ]


def test_what_changed_since_the_version_before_is_told() -> None:
    before = record(Version("raw", "2012-08", 4, "1" * 32), output=Version("model", "2012-08", 3, "e" * 32))
    made = record(Version("raw", "2012-08", 9, "3" * 32), config={"parameters": {"depth": 5}})
    before = replace(before, config={"parameters": {"depth": 3}})
    last = materialized_from(made, before, "package.model").splitlines()[-1]
    assert last == (
        "- changed since version 3: input raw[2012-08\\]: 11111111 -&gt; 33333333; setting parameters.depth: 3 -&gt; 5"
    )
    same = materialized_from(before, before, "package.model").splitlines()[-1]
    assert same == "- changed since version 3: nothing it depends on; content unchanged"


@pytest.mark.parametrize(("keep", "told"), [(None, "is replaced by the next run"), (True, "is kept")])
def test_a_config_of_its_own_is_told_and_whether_it_lasts(keep: bool | None, told: str) -> None:
    made = record(config={"seed": 5, "keep": keep})
    (line,) = [
        line for line in materialized_from(made, None, "", {"seed": 0, "keep": None}).splitlines() if "config" in line
    ]
    assert told in line
    assert line.endswith("seed 5 instead of 0")


@pytest.mark.parametrize("count", [1, 5, 12, 100, 1000])
@pytest.mark.parametrize("name", ["asset", "x" * 200, "[evil](http://x)"])
def test_it_is_short_enough_to_be_shown_without_a_click(count: int, name: str) -> None:
    inputs = [Version(f"{name}{number}", "2012-08", number, "1" * 32) for number in range(count)]
    config = {f"setting_{number}": "long" * 100 for number in range(50)}
    told = materialized_from(record(*inputs, config=config), record(), "f" * 300, {"setting_0": 1})
    assert len(told) < INLINE
    assert "code `cccccccc`" in told
    assert count < 3 or "more inputs" in told or told.count("/assets/") == count


def test_settings_that_differ_are_named_one_by_one() -> None:
    was = {"parameters": {"depth": 3, "rate": 0.1}, "seed": 0, "keep": True, "old": None}
    now = {"parameters": {"depth": 5, "rate": 0.1}, "seed": 0, "new": {}}
    assert config_changes(was, now) == [("new", "", "{}"), ("old", "None", ""), ("parameters.depth", "3", "5")]
