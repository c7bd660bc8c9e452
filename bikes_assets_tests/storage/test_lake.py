"""Files of the lake: stored once, checked before they are used."""

import pytest

from bikes_assets.core import model_file
from bikes_assets.core.errors import DigestError, LineageError
from bikes_assets.storage.code.working_tree import WorkingTreeDiff
from bikes_assets.storage.files import write_file
from bikes_assets.storage.lake import Lake
from bikes_assets_tests.storage.test_delta import ORDERS, write


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path / "lake"), {}, tmp_path)


def test_a_model_file_is_checked_before_it_is_used(lake):
    from pathlib import Path

    sha256 = lake.save_file(b"a model")
    assert lake.load_file(sha256) == b"a model"

    file = Path(lake.location) / "model_files" / f"{sha256}.skops"
    file.write_bytes(b"b model")

    with pytest.raises(DigestError, match="restore the file"):
        lake.load_file(sha256)


def test_storing_a_model_file_twice_leaves_one_file_and_no_rest(lake):
    from pathlib import Path

    assert lake.save_file(b"a model") == lake.save_file(b"a model")
    assert len(list((Path(lake.location) / "model_files").iterdir())) == 1


def test_a_missing_model_file_is_named(lake):
    with pytest.raises(DigestError, match="found no file there; restore it, or materialize the model again"):
        lake.load_file("0" * 64)


@pytest.mark.parametrize("name", ["0" * 64 + "/../../../etc/passwd", "0" * 65, "0" * 63, "A" * 64, ""])
def test_what_is_no_sha256_names_no_model_file(lake, name):
    with pytest.raises(DigestError, match="expected a SHA-256 of 64 hexadecimal digits"):
        lake.model_location(name)


@pytest.mark.parametrize("name", ["../other/rows", "..", "a/../../rows", "/etc", "a//b", ".", "a/.", ""])
def test_no_name_of_an_asset_leads_out_of_the_lake(lake, name):
    with pytest.raises(LineageError, match="expected one whose table is in the lake"):
        lake.table(name)
    assert lake.uri("taxi/..trips") == f"{lake.location}/taxi/..trips"


def test_a_model_file_beyond_the_limit_is_not_read(lake, monkeypatch):
    sha256 = lake.save_file(b"a model")
    monkeypatch.setattr(model_file, "MAX_BYTES", 6)
    with pytest.raises(DigestError, match="found 7 bytes, expected at most 6"):
        lake.load_file(sha256)


def test_a_difference_that_is_not_what_was_kept_is_refused(lake):
    kept, other = (WorkingTreeDiff(files={"notes.txt": (0o644, content)}) for content in (b"kept", b"other"))
    write_file(lake.difference_file(kept.digest), kept.packed())
    assert lake.difference(kept.digest) == kept

    write_file(lake.difference_file(kept.digest), other.packed())

    with pytest.raises(DigestError, match=rf"found digest {other.digest}; restore the file"):
        lake.difference(kept.digest)


def test_half_a_file_in_its_place_is_replaced(lake):
    from pathlib import Path

    sha256 = lake.save_file(b"a model")
    (Path(lake.location) / "model_files" / f"{sha256}.skops").write_bytes(b"a m")
    assert lake.load_file(lake.save_file(b"a model")) == b"a model"


FUNCTION = "bikes_assets.demand.features.humidity"


def test_code_is_kept_once_with_its_text(lake):
    from pathlib import Path

    from bikes_assets.core.code_version import code_version

    version = code_version("bikes_assets.demand.features", "humidity")
    lake.keep_code(FUNCTION, version)
    digests = lake.code(version)
    assert digests is not None
    assert lake.text(digests[FUNCTION]).startswith("def humidity(hum: nw.Expr) -> Float64:\n")
    files = {file: file.stat().st_mtime_ns for file in (Path(lake.location) / "code" / "functions").iterdir()}
    assert {file.stem for file in files} == {*digests.values()}

    # another code version that reaches the same functions, and another process
    other = Lake(lake.location, {}, lake.root)
    place = ("bikes_assets.demand.features", "humidity_above_7d")
    other.keep_code(".".join(place), code_version(*place))
    assert {file: file.stat().st_mtime_ns for file in files} == files


def test_texts_are_added_to_a_lake_that_holds_digests_alone(lake):
    import shutil
    from pathlib import Path

    from bikes_assets.core.code_version import code_version

    version = code_version("bikes_assets.demand.features", "humidity")
    lake.keep_code(FUNCTION, version)
    shutil.rmtree(Path(lake.location) / "code" / "functions")
    digests = lake.code(version)
    assert lake.text(digests[FUNCTION]) is None

    Lake(lake.location, {}, lake.root).keep_code(FUNCTION, version)
    assert all(lake.text(digest) for digest in digests.values())


def test_code_that_is_not_of_its_code_version_is_not_kept(lake):
    lake.keep_code(FUNCTION, "0" * 32)
    assert lake.code("0" * 32) is None


def test_a_partition_is_resolved_to_the_commit_that_published_it(lake):
    table = lake.table("orders", ORDERS)
    for name in ("2012-01", "2012-02", "2012-01"):
        write(table, name, "rows")
    assert [lake.resolve("orders", "2012-01", version).version for version in (None, 1, "2", 3)] == [3, 1, 1, 3]
    assert lake.resolve("orders", "2012-02").version == 2


@pytest.mark.parametrize(
    ("asset", "partition", "version", "told"),
    [
        ("parcels", "2012-01", None, "parcels: found no table at .*; materialize parcels first"),
        ("orders", "2012-01", 9, "orders@9: found version '9', expected one from 0 to 2"),
        ("orders", "2012-01", "-1", "orders@-1: found version '-1', expected one from 0 to 2"),
        ("orders", "2012-01", "x", "orders@x: found version 'x', expected one from 0 to 2"),
        (
            "orders",
            "2012-03",
            None,
            r"orders\[2012-03\]: found nothing as of version 2, expected one of 2012-01, 2012-02",
        ),
        ("orders", "2012-02", 1, r"orders\[2012-02\]: found nothing as of version 1, expected one of its versions: 2"),
        ("orders", "2012-02", 0, r"orders\[2012-02\]: found nothing as of version 0, expected one of its versions: 2"),
        (
            "orders",
            None,
            0,
            "orders: found nothing as of version 0, expected one of none, for nothing was published by then",
        ),
    ],
)
def test_what_cannot_be_resolved_is_named_with_what_there_is(lake, asset, partition, version, told):
    for name in ("2012-01", "2012-02"):
        write(lake.table("orders", ORDERS), name, "rows")
    with pytest.raises(LineageError, match=f"^{told}$" if asset == "orders" else told):
        lake.resolve(asset, partition, version)
