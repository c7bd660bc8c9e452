"""Files of the lake: stored once, checked before they are used."""

import pytest

from bikes_assets.adapters.lake import Lake
from bikes_assets.lineage.errors import DigestError


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


def test_half_a_file_in_its_place_is_replaced(lake):
    from pathlib import Path

    sha256 = lake.save_file(b"a model")
    (Path(lake.location) / "model_files" / f"{sha256}.skops").write_bytes(b"a m")
    assert lake.load_file(lake.save_file(b"a model")) == b"a model"
