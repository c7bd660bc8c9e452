"""Snapshots as texts: what was written is read, one thing a line, and each kind of difference is told."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bikes_assets.core.errors import LineageError
from bikes_assets.verification.snapshot import FORMAT, Snapshot, compare, loads

WAS = Snapshot(
    source={"hour.csv": {"sha256": "5" * 64}},
    code={"features": {"code_version": "c1"}},
    partitions={
        "features[2012-02]": {"version": 2, "digest": "d2", "content": "d2"},
        "features[2012-01]": {"version": 1, "digest": "d1", "content": "d1"},
    },
    models={"model@1": {"address": "model[2012-01]@1", "digest": "m1", "sha256": "a" * 64}},
)


def with_partition(**values):
    return replace(WAS, partitions=WAS.partitions | {"features[2012-02]": values} if values else {})


def told(now, was=WAS):
    return [str(change) for change in compare(was, now)]


@pytest.mark.parametrize("snapshot", [WAS, Snapshot()], ids=["full", "empty"])
def test_what_was_written_is_read(snapshot):
    assert loads(snapshot.dumps(), "file") == snapshot
    assert json.loads(snapshot.dumps())["format"] == FORMAT


def test_it_is_one_thing_a_line_in_order():
    assert WAS.dumps().splitlines()[8:14] == [
        '"partitions": {',
        '"features[2012-01]": {"version": 1, "digest": "d1", "content": "d1"},',
        '"features[2012-02]": {"version": 2, "digest": "d2", "content": "d2"}',
        "},",
        '"models": {',
        f'"model@1": {{"address": "model[2012-01]@1", "digest": "m1", "sha256": "{"a" * 64}"}}',
    ]


def test_a_month_that_was_made_anew_is_one_changed_line():
    now = with_partition(version=7, digest="e2", content="e2")

    lines = zip(WAS.dumps().splitlines(), now.dumps().splitlines(), strict=True)
    assert [b for a, b in lines if a != b] == ['"features[2012-02]": {"version": 7, "digest": "e2", "content": "e2"}']


def test_equal_snapshots_differ_in_nothing():
    assert compare(WAS, loads(WAS.dumps(), "file")) == []


def test_other_content_is_told_with_what_was_and_what_is():
    now = with_partition(version=7, digest="e2", content="e2")

    (change,) = compare(WAS, now)

    assert not change.is_rematerialized
    assert str(change) == "features[2012-02]: version 2 -> 7, digest d2 -> e2, content d2 -> e2"


def test_a_partition_that_was_made_again_with_its_digest_is_the_same():
    (change,) = compare(WAS, with_partition(version=7, digest="d2", content="other"))

    assert change.is_rematerialized
    assert str(change) == "features[2012-02]: rematerialized with the same digest d2, version 2 -> 7"


def test_other_content_under_the_same_version_is_no_making_again():
    (change,) = compare(WAS, with_partition(version=2, digest="d2", content="other"))

    assert not change.is_rematerialized


def test_what_is_gone_and_what_is_new_is_told():
    one = replace(WAS, partitions={"features[2012-01]": WAS.partitions["features[2012-01]"]})

    assert told(one) == ["features[2012-02]: is gone: version 2, digest d2, content d2"]
    assert told(WAS, one) == ["features[2012-02]: is new: version 2, digest d2, content d2"]
    assert not any(change.is_rematerialized for change in (*compare(WAS, one), *compare(one, WAS)))


def test_source_code_and_models_are_told():
    now = replace(
        WAS,
        source={"hour.csv": {"sha256": "6" * 64}},
        code={"features": {"code_version": "c2"}},
        models={"model@1": {"address": "model[2012-01]@1", "digest": "m1", "sha256": "b" * 64}},
    )

    assert told(now) == [
        "hour.csv: SHA-256 55555555 -> 66666666",
        "features: code version c1 -> c2",
        "model@1: SHA-256 aaaaaaaa -> bbbbbbbb",
    ]
    assert not any(change.is_rematerialized for change in compare(WAS, now))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "found no JSON"),
        ("[]", "found JSON that does not say its format"),
        ('{"format": "bikes-snapshot-0"}', "found JSON that does not say its format"),
        (f'{{"format": "{FORMAT}"}}', "found format, expected format, source, code, partitions, models"),
        (WAS.dumps().replace('"version": 1', '"version": "1"'), "found partitions, features[2012-01]: "),
        (WAS.dumps().replace('"sha256"', '"md5"'), "found source, hour.csv: "),
        (WAS.dumps().replace('{"code_version": "c1"}', "7"), "found code, features: 7, expected code_version (str)"),
    ],
)
def test_what_is_no_snapshot_is_refused(text, found):
    with pytest.raises(LineageError) as error:
        loads(text, "lineage.lock.json")

    assert str(error.value).startswith(f"lineage.lock.json: {found}")
    assert str(error.value).endswith("; write it with bikes snapshot")
