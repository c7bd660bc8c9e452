"""Model files: what is in them, and files that are larger than they look. What would run code is in test_attacks.py."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from bikes_assets.core import model_file
from bikes_assets.core.errors import ModelError
from bikes_assets_tests.forging import mapping, node, several, skops_file

RIDGE = ("sklearn.linear_model._ridge.Ridge",)


def test_a_value_comes_back_from_its_file() -> None:
    value = {
        "line": Ridge().fit([[0.0], [1.0]], [1.0, 3.0]),
        "words": ["a", None, 1, 0.5, True],
        "pair": (1, np.float64(2)),
    }
    loaded = model_file.loads(model_file.dumps(value, RIDGE), RIDGE)
    assert loaded["line"].coef_ == value["line"].coef_
    assert loaded["words"] == value["words"]
    assert loaded["pair"] == value["pair"]


@pytest.mark.parametrize("value", [Ridge(), [Ridge()], {"a": (Ridge(),)}])
def test_a_type_that_is_not_listed_is_neither_written_nor_read(value: Any) -> None:
    message = "found sklearn.linear_model._ridge.Ridge as ObjectNode, which is not among the types that are trusted"
    with pytest.raises(ModelError) as error:
        model_file.dumps(value, ())
    assert str(error.value) == message
    with pytest.raises(ModelError) as error:
        model_file.loads(model_file.dumps(value, RIDGE), ())
    assert str(error.value) == message


@pytest.mark.parametrize("value", [(number for number in range(3)), open])
def test_what_cannot_be_written_is_named(value: Any) -> None:
    with pytest.raises(ModelError):
        model_file.dumps(value, ())


def test_a_part_is_a_file_of_its_own() -> None:
    line = Ridge().fit([[0.0], [1.0]], [1.0, 3.0])
    whole = model_file.dumps({"line": line, "again": [line, line.coef_], "other": np.arange(3)}, RIDGE)
    for key, found in (("line", lambda value: value), ("again", lambda value: value[0])):
        loaded = found(model_file.loads(model_file.part(whole, key), RIDGE))
        assert np.array_equal(loaded.predict([[0.25]]), line.predict([[0.25]]))
    names = zipfile.ZipFile(io.BytesIO(model_file.part(whole, "line"))).namelist()
    assert len(names) < len(zipfile.ZipFile(io.BytesIO(whole)).namelist())


@pytest.mark.parametrize("value", [{"line": 1}, ["other"], "other"])
def test_a_part_that_a_file_does_not_have_is_named(value: Any) -> None:
    with pytest.raises(ModelError, match="found no mapping with 'other' in the file"):
        model_file.part(model_file.dumps(value, ()), "other")


# Files that are larger than they look


def array(**more: Any) -> dict[str, Any]:
    return node("numpy.ndarray", "NdArrayNode", type="numpy", file="0.npy", **more)


def npy(count: int) -> bytes:
    target = io.BytesIO()
    np.save(target, np.zeros(count))
    return target.getvalue()


def packed() -> bytes:
    """50 kB that unpack to 40 MB."""
    return skops_file(mapping(estimator=array()), {"0.npy": npy(5_000_000)}, zipfile.ZIP_DEFLATED)


def repeated() -> bytes:
    """80 kB of an array, which is read a thousand times."""
    nodes = [array() for _ in range(1000)]
    return skops_file(several("list", *nodes), {"0.npy": npy(10_000)})


def overlapping() -> bytes:
    """A directory in which many names stand for the same bytes."""
    content = skops_file(several("list", array()), {"0.npy": npy(10_000)})
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entry = archive.getinfo("0.npy")
        target = io.BytesIO(content)
        with zipfile.ZipFile(target, "a") as copy:
            for number in range(1, 100):
                other = zipfile.ZipInfo(f"{number}.npy")
                other.header_offset, other.file_size, other.compress_size = (
                    entry.header_offset,
                    entry.file_size,
                    entry.file_size,
                )
                other.CRC, other.flag_bits = entry.CRC, entry.flag_bits
                copy.filelist.append(other)
                copy.NameToInfo[other.filename] = other
            copy._didModify = True
    return target.getvalue()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (packed, "found schema.json compressed, expected members stored as they are"),
        (repeated, "found 80,128,000 bytes to read in a file of "),
        (overlapping, "found 8,0"),
    ],
)
def test_a_file_that_reads_more_than_it_holds_is_refused(make: Callable[[], bytes], message: str) -> None:
    content = make()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        held = sum(member.file_size for member in archive.infolist())
    assert make is repeated or held > 20 * len(content)
    with pytest.raises(ModelError) as error:
        model_file.loads(content, ())
    assert str(error.value).startswith(message)


def test_a_file_that_is_too_large_is_neither_written_nor_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    content = model_file.dumps([np.zeros(1000)], ())
    assert model_file.loads(content, ())[0].sum() == 0
    monkeypatch.setattr(model_file, "MAX_BYTES", len(content) - 1)
    for refused in (lambda: model_file.dumps([np.zeros(1000)], ()), lambda: model_file.loads(content, ())):
        with pytest.raises(ModelError, match=f"found {len(content):,} bytes, expected at most {len(content) - 1:,}"):
            refused()


def test_a_file_that_nests_without_end_is_refused() -> None:
    nested = skops_file(several("list", several("list")))
    assert model_file.loads(nested, ()) == [[]]
    level = '{"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "protocol": 2, "content": ['
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("schema.json", level * 5000 + "]}" * 5000)
    with pytest.raises(ModelError, match="found no skops file that can be read: RecursionError"):
        model_file.loads(target.getvalue(), ())


def test_skops_finds_the_module_of_each_ufunc_without_a_search_of_all_modules() -> None:
    # Given which types skops trusts by default, each found by a search of all modules that are loaded
    names = "print(*t.SCIPY_UFUNC_TYPE_NAMES, *t.NUMPY_UFUNC_TYPE_NAMES, *t.SKLEARN_ESTIMATOR_TYPE_NAMES)"
    searched = _printed(f"import skops.io._trusted_types as t; {names}")
    # When a model file was written first
    written = "from bikes_assets.core import model_file; model_file.dumps(1, ())"
    found = _printed(f"{written}; import skops.io._trusted_types as t; {names}")
    # Then they are the same
    assert "scipy.special." in searched
    assert found == searched


def test_skops_is_imported_without_a_search_of_all_modules_for_ufuncs() -> None:
    # Given a module that counts what is looked for in it
    searched = "import sys, types; looked_for = []; module = types.ModuleType('a_module')"
    searched += "; module.__getattr__ = looked_for.append; sys.modules['a_module'] = module"
    # When skops is imported to write a model file
    program = f"{searched}; from bikes_assets.core import model_file; model_file.dumps(1, ()); print(*looked_for)"
    # Then none of SciPy's ufuncs was, and they are as they were
    assert "expit" not in _printed(program).split()
    program += "; from scipy.special import expit; print(hasattr(expit, '__module__'))"
    assert _printed(program).split()[-1] == "False"
    assert "expit" in _printed(f"{searched}; import skops.io; print(*looked_for)").split()


def _printed(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
