"""Code versions, of packages that are written for each test: what counts, what does not, and that nothing is imported."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

import bikes_assets
from bikes_assets.core.code_version import code_version, reached_code

NUMBERS = itertools.count()

MAIN = '''\
"""The module under test."""
import math
import json as reader
from math import sin as wave
from PKG import tools
from PKG.tools import helper as aid
import PKG.deep.far

LIMIT = 3
LOW, HIGH = 1, 2
TABLE: dict = {"a": 1}
UNUSED = 1


def decorated(function):
    return function


@decorated
def inner(x):
    """Return one more."""
    return x + 1


class Shape:
    """A shape."""

    SIDES = 4

    def area(self, side=2):
        return side**2


class Square(Shape):
    pass


def main(x, factor=10):
    """Return what it is about."""
    from PKG.local import late

    y = inner(x) * LIMIT + LOW + TABLE["a"] + wave(x) + reader.loads("1")
    return aid(y) + tools.other(y) + PKG.deep.far.away(y) + late(y) + Square().area() + factor + math.pi


def stranger():
    return UNUSED
'''
TOOLS = """\
STEP = 5


def helper(x):
    return x + STEP


def other(x):
    return x - 1


def unused(x):
    return x
"""
FAR = "def away(x):\n    return x\n"
LOCAL = "def late(x):\n    return x\n"
FILES = {"main": MAIN, "tools": TOOLS, "deep/far": FAR, "local": LOCAL}

Package = Callable[[dict[str, str]], str]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Return a function that writes a package whose name no other has; it gives the package's name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(files: dict[str, str]) -> str:
        name = f"written_{os.getpid()}_{next(NUMBERS):05}"
        for file, text in files.items():
            path = tmp_path / name / f"{file}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("PKG", name))
        return name

    return write


def counted(package: Package, main: str = MAIN, **other: str) -> dict[str, str]:
    """Return what the code version of `main` in a fresh package is the digest of, without the package's name."""
    name = package({**FILES, "main": main, **other})
    reached = reached_code(f"{name}.main", "main")
    return {place.replace(name, "PKG"): tree.replace(name, "PKG") for place, tree in reached.items()}


def changed(old: str, new: str, text: str = MAIN) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


def places(package: Package, files: dict[str, str]) -> list[str]:
    """Return the places that `main` of a package reaches, without the package's name."""
    name = package(files)
    return sorted(place.removeprefix(f"{name}.") for place in reached_code(f"{name}.main", "main"))


def test_a_code_version_is_the_same_for_the_same_code(package: Package) -> None:
    # Given
    name = package({"main": "LIMIT = 1\n\n\ndef main(x):\n    return x + LIMIT\n"})
    # When
    first = code_version(f"{name}.main", "main")
    # Then
    assert len(bytes.fromhex(first)) == 16
    assert code_version(f"{name}.main", "main") == first
    assert code_version(f"{name}.main", "LIMIT") != first


def test_another_process_gives_the_same(package: Package, tmp_path: Path) -> None:
    # Given
    name = package(FILES)
    script = f"from bikes_assets.core.code_version import code_version; print(code_version('{name}.main', 'main'))"
    # When
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={
                **os.environ,
                "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}",
                "PYTHONHASHSEED": seed,
            },
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    # Then
    assert found == {code_version(f"{name}.main", "main")}


@pytest.mark.parametrize(
    "same",
    [
        "# A comment.\n" + MAIN,
        changed("return x + 1", "return x + 1  # one more", MAIN),
        changed('"""Return what it is about."""', '"""Return it,\n    in many words."""'),
        changed('    """Return what it is about."""\n', ""),
        changed('    """A shape."""\n\n', ""),
        changed("    SIDES = 4\n", '    SIDES = 4\n    """How many sides it has."""\n'),
        changed("LIMIT = 3\n", 'LIMIT = 3\n"""How far it goes."""\n'),
        changed('TABLE["a"]', "TABLE['a']"),
        changed("return side**2", "return (\n            side ** 2\n        )"),
        changed("UNUSED = 1", "UNUSED = 2"),
        changed("return UNUSED", "return -UNUSED"),
        changed("def stranger", "@decorated\ndef stranger"),
        changed("def main", "@decorated\n@tools.unused\ndef main"),
        changed("import math\n", "import math\nimport random\n"),
    ],
    ids=[
        "comment",
        "comment at the end of a line",
        "docstring",
        "no docstring",
        "class docstring",
        "attribute docstring",
        "constant docstring",
        "quotes",
        "formatting",
        "unreached constant",
        "unreached function",
        "decorator of an unreached function",
        "own decorators",
        "unused import",
    ],
)
def test_what_does_not_change_what_is_computed_does_not_count(package: Package, same: str) -> None:
    assert counted(package, same) == counted(package)


def test_a_move_within_a_file_does_not_count(package: Package) -> None:
    # Given a function that stands at the end of the file instead
    function = '@decorated\ndef inner(x):\n    """Return one more."""\n    return x + 1\n'
    moved = changed(function, "") + "\n\n" + function
    # Then
    assert counted(package, moved) == counted(package)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("LIMIT = 3", "LIMIT = 3.0"),
        ("LIMIT = 3", "LIMIT = 3\nLIMIT += 1"),
        ("LIMIT = 3", "if True:\n    LIMIT = 3\nelse:\n    LIMIT = 4"),
        ("LOW, HIGH = 1, 2", "LOW, HIGH = 0, 2"),
        ('{"a": 1}', '{"a": 2}'),
        ('{"a": 1}', '{"a": 1}\nTABLE["a"] = 2'),
        ("return x + 1", "return x + 2"),
        ("factor=10", "factor=11"),
        ("side=2", "side=3"),
        ("return side**2", "return side**3"),
        ("SIDES = 4", "SIDES = 5"),
        ("class Square(Shape)", "class Square"),
        ("@decorated\n", ""),
        ("    return function\n", "    return lambda x: function(x)\n"),
        ("from math import sin as wave", "from math import cos as wave"),
        ("import json as reader", "import pickle as reader"),
        ("from PKG.tools import helper as aid", "from PKG.tools import other as aid"),
        ("from PKG.local import late", "from PKG.tools import helper as late"),
        ("factor + math.pi", "factor - math.pi"),
    ],
)
def test_each_change_of_what_is_reached_counts(package: Package, old: str, new: str) -> None:
    assert counted(package, changed(old, new)) != counted(package)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("tools", changed("STEP = 5", "STEP = 6", TOOLS)),
        ("tools", changed("return x - 1", "return x - 2", TOOLS)),
        ("deep/far", changed("return x", "return -x", FAR)),
        ("local", changed("return x", "return -x", LOCAL)),
    ],
    ids=["constant of a helper", "function of a module", "dotted module", "import in a function"],
)
def test_a_change_in_another_module_counts(package: Package, file: str, text: str) -> None:
    assert counted(package, **{file: text}) != counted(package)


def test_what_is_not_reached_in_another_module_does_not_count(package: Package) -> None:
    assert counted(package, tools=changed("    return x\n", "    return -x\n", TOOLS)) == counted(package)


def test_reached_code_lists_the_places(package: Package) -> None:
    assert places(package, FILES) == [
        "deep.far.away",
        "local.late",
        "main.HIGH",
        "main.LIMIT",
        "main.LOW",
        "main.Shape",
        "main.Square",
        "main.TABLE",
        "main.decorated",
        "main.inner",
        "main.main",
        "tools.STEP",
        "tools.helper",
        "tools.other",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "from .sub import f",
        "from . import f",
        "from .sub import g as f",
        "from PKG import f",
        "from PKG.sub.here import f",
    ],
)
def test_every_form_of_import_is_followed(package: Package, line: str) -> None:
    found = places(
        package,
        {
            "__init__": "from .sub.here import f\n",
            "sub/__init__": "from .here import f, f as g\n",
            "sub/here": "from ..tools import base\n\n\ndef f():\n    return base()\n",
            "tools": "def base():\n    return 1\n",
            "main": f"{line}\n\n\ndef main():\n    return f()\n",
        },
    )
    assert found == ["main.main", "sub.here.f", "tools.base"]


def test_a_package_that_imports_a_module_of_its_own_ends(package: Package) -> None:
    files = {
        "__init__": "from . import tools\nfrom PKG.main import again\n",
        "tools": "def f():\n    return 1\n",
        "main": "from PKG import again, tools\n\n\ndef main():\n    return tools.f() + again\n",
    }
    assert places(package, files) == ["main.main", "tools.f"]


def test_what_a_module_hands_on_of_another_package_counts(package: Package) -> None:
    main = "from PKG.tools import wave\n\n\ndef main(x):\n    return wave(x)\n"
    by_sine, by_cosine = (counted(package, main, tools=f"from math import {name} as wave\n") for name in ("sin", "cos"))
    assert by_sine != by_cosine
    assert by_sine == counted(package, main.replace("PKG.tools import wave", "math import sin as wave"))


def lazy_face() -> dict[str, str]:
    """Return the library's own `__init__.py`, and each module that it names with functions of these names."""
    modules = defaultdict(list)
    for place in bikes_assets._PUBLIC.values():
        module, _, defined = place.removeprefix("bikes_assets.").partition(":")
        modules[module.replace(".", "/")].append(defined or "dumps")
    files = {
        module: "\n\n".join(f"def {item}(x):\n    return helper({item!r})\n" for item in names)
        + "\n\ndef helper(x):\n    return x\n"
        for module, names in modules.items()
    }
    return {**files, "__init__": Path(bikes_assets.__file__).read_text().replace("bikes_assets", "PKG")}


@pytest.mark.parametrize("name", sorted(bikes_assets.__all__))
def test_a_name_of_the_lazy_package_counts_as_that_of_its_module(package: Package, name: str) -> None:
    # Given a package like this library, and a function that reaches a name by the package or by the module that defines it
    module, _, defined = bikes_assets._PUBLIC[name].replace("bikes_assets", "PKG").partition(":")
    above, _, last = module.rpartition(".")
    own = f"from {module} import {name}" if defined else f"from {above} import {last}"
    called = name if defined else f"{name}.dumps"
    main = "{}\n\n\ndef main(x):\n    return " + called + "(x)\n"
    # When
    by_package, by_module = (
        counted(package, main.format(line), **lazy_face()) for line in (f"from PKG import {name}", own)
    )
    # Then both are one code version, with what the name reaches
    assert by_package == by_module
    reached = f"{module}.{defined or 'dumps'}"
    assert set(by_package) == {"PKG.main.main", reached, f"{module}.helper"}
    dotted = counted(package, "import PKG\n\n\ndef main(x):\n    return PKG." + called + "(x)\n", **lazy_face())
    assert dotted.keys() == by_package.keys()


@pytest.mark.parametrize("name", sorted(bikes_assets.__all__))
def test_another_project_may_reach_a_name_of_the_library_either_way(package: Package, name: str) -> None:
    module, _, defined = bikes_assets._PUBLIC[name].partition(":")
    above, _, last = module.rpartition(".")
    own = f"from {module} import {name}" if defined else f"from {above} import {last}"
    main = "{}\n\n\ndef main(x):\n    return " + name + "\n"
    by_package, by_module = (counted(package, main.format(line)) for line in (f"from bikes_assets import {name}", own))
    assert by_package == by_module
    assert f"{name}=bikes_assets.{name}" in by_package["PKG.main.main"]


def test_both_branches_of_an_import_are_followed(package: Package) -> None:
    found = places(
        package,
        {
            "fast": "def f():\n    return 1\n",
            "slow": "def f():\n    return 1\n",
            "main": "try:\n    from PKG.fast import f\nexcept ImportError:\n    from PKG.slow import f\n\n\n"
            "def main():\n    return f()\n",
        },
    )
    assert found == ["fast.f", "main.main", "slow.f"]


def test_an_import_in_one_function_is_not_taken_for_that_of_another(package: Package) -> None:
    found = places(
        package,
        {
            "one": "def f():\n    return 1\n",
            "two": "def f():\n    return 2\n",
            "main": "from PKG.one import f\n\n\ndef main():\n    return f()\n\n\n"
            "def stranger():\n    from PKG.two import f\n    return f()\n",
        },
    )
    assert found == ["main.main", "one.f"]


def test_a_parameter_is_not_taken_for_a_definition_of_its_name(package: Package) -> None:
    text = "rows = 1\nlimit = 2\n\n\ndef main(rows, limit=limit):\n    return rows + limit\n"
    assert places(package, {"main": text}) == ["main.limit", "main.main"]


def test_functions_that_call_each_other_end(package: Package) -> None:
    text = "def main(x):\n    return other(x)\n\n\ndef other(x):\n    return main(x) or other(x)\n"
    assert places(package, {"main": text}) == ["main.main", "main.other"]


def test_a_move_to_another_module_counts(package: Package) -> None:
    here = counted(package, "def f():\n    return 1\n\n\ndef main():\n    return f()\n")
    there = counted(
        package, "from PKG.moved import f\n\n\ndef main():\n    return f()\n", moved="def f():\n    return 1\n"
    )
    assert here != there


def test_nothing_is_imported(package: Package, tmp_path: Path) -> None:
    # Given a package whose every module fails when it is imported
    failing = "raise RuntimeError('imported')\n"
    main = f"{failing}from PKG.tools import helper\n\n\ndef main():\n    return helper()\n"
    name = package({"__init__": failing, "main": main, "tools": failing + TOOLS})
    script = (
        "import sys\n"
        "from bikes_assets.core.code_version import reached_code\n"
        f"found = sorted(reached_code('{name}.main', 'main'))\n"
        f"print(found, [module for module in sys.modules if module.startswith('{name}')])"
    )
    # When
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"},
        check=False,
        capture_output=True,
        text=True,
    )
    # Then
    assert run.stdout == f"{[f'{name}.main.main', f'{name}.tools.STEP', f'{name}.tools.helper']} []\n", run.stderr


def test_a_module_without_a_package_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    monkeypatch.syspath_prepend(tmp_path)
    name = f"written_alone_{os.getpid()}"
    (tmp_path / f"{name}.py").write_text("A = 1\n\n\ndef main():\n    return A\n")
    # Then
    assert sorted(reached_code(name, "main")) == [f"{name}.A", f"{name}.main"]


def test_an_unknown_name_is_refused(package: Package) -> None:
    name = package(FILES)
    with pytest.raises(LookupError, match=rf"^{name}\.main defines no absent$"):
        code_version(f"{name}.main", "absent")
    with pytest.raises(LookupError, match=rf"^{name}\.main defines no aid$"):
        code_version(f"{name}.main", "aid")
    with pytest.raises(LookupError, match=rf"^{name}\.absent defines no main$"):
        code_version(f"{name}.absent", "main")
    with pytest.raises(LookupError, match=r"^no_such_package defines no main$"):
        code_version("no_such_package", "main")
