"""What other projects import from `bikes_assets`: which names, that each is light, and that docs and examples agree."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bikes_assets

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))
GUIDES = ["adapt.md", "column-lineage.md", "experiments.md", "mlflow.md", "storage.md"]

DAGSTER = {"dagster", "pydantic"}
PUBLIC = {
    "About": set(),
    "Check": set(),
    "Column": set(),
    "Computed": set(),
    "Derivations": set(),
    "Float64": set(),
    "Int64": set(),
    "Lake": set(),
    "LineageError": set(),
    "LineageIndex": set(),
    "ModelFormat": set(),
    "ModelIOManager": DAGSTER,
    "NothingToDo": set(),
    "Outcome": DAGSTER,
    "Project": set(),
    "Schema": set(),
    "SourceFormat": set(),
    "SourceInputManager": DAGSTER,
    "Subject": set(),
    "TableIOManager": DAGSTER,
    "Tracer": set(),
    "Verdict": set(),
    "Window": set(),
    "answers": {"pydantic"},
    "assert_column_lineage": {"narwhals", "numpy"},
    "column_function": set(),
    "column_lineage": set(),
    "column_lineage_check": DAGSTER,
    "compute": set(),
    "dvc": set(),
    "experiment": set(),
    "invariants": {"narwhals", "numpy"},
    "lineage_asset": DAGSTER,
    "load": set(),
    "load_copy": set(),
    "model_file": set(),
    "range_check": set(),
    "reader_for": set(),
    "schema_check": set(),
    "schema_of": set(),
    "tracking_resource": DAGSTER,
    "with_lineage": DAGSTER,
}
"""Each public name, and which of the heavy modules importing it loads."""
HEAVY = {
    "dagster",
    "deltalake",
    "fsspec",
    "mlflow",
    "narwhals",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "scipy",
    "sklearn",
    "skops",
    "sqlalchemy",
}


def loaded_by(statement: str) -> set[str]:
    """Return which heavy modules a statement loads in a fresh interpreter."""
    program = f"import sys; {statement}; print(*sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_public_names_are_these() -> None:
    assert len(bikes_assets.__all__) == len(set(bikes_assets.__all__))
    assert set(bikes_assets.__all__) == PUBLIC.keys()
    assert PUBLIC.keys() <= set(dir(bikes_assets))


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import bikes_assets") == set()
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, bikes_assets; print([m for m in sys.modules if m[:13] == 'bikes_assets.'])",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "['bikes_assets.renamed']\n"


@pytest.mark.parametrize("name", PUBLIC)
def test_a_name_loads_only_what_it_needs(name: str) -> None:
    assert loaded_by(f"from bikes_assets import {name}") == PUBLIC[name]


def test_each_name_is_that_of_its_own_module() -> None:
    # Given what the package's imports for type checkers say, which code versions follow, too
    text = (ROOT / "bikes_assets" / "__init__.py").read_text()
    (block,) = (node for node in ast.parse(text).body if isinstance(node, ast.If))
    imports = {item.asname: (node.module, item.name) for node in block.body for item in node.names}
    # Then each is what is returned, under its own name and no other
    assert imports.keys() == PUBLIC.keys()
    for name, (module, defined) in imports.items():
        assert defined == name
        own = __import__(module, fromlist=[defined])
        assert getattr(bikes_assets, name) is getattr(own, defined)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match=r"^module 'bikes_assets' has no attribute 'lod'$"):
        _ = bikes_assets.lod
    with pytest.raises(ImportError, match="cannot import name 'lod' from 'bikes_assets'"):
        from bikes_assets import lod  # noqa: F401


def test_no_name_is_that_of_a_module_of_the_package() -> None:
    modules = {path.stem for path in (ROOT / "bikes_assets").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert {"lineage", "storage", "definitions"} <= modules
    assert not modules & PUBLIC.keys()


def imports_of(text: str) -> list[tuple[str, list[str]]]:
    """Return which names some code imports from which module of the package."""
    found: list[tuple[str, list[str]]] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            found.append((node.module or "", [item.name for item in node.names]))
        elif isinstance(node, ast.Import):
            found += [(item.name, []) for item in node.names]
    return [(module, names) for module, names in found if module.partition(".")[0] == "bikes_assets"]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: str(file.relative_to(ROOT)))
def test_an_example_imports_public_names_alone(file: Path) -> None:
    for module, names in imports_of(file.read_text()):
        assert module == "bikes_assets"
        assert set(names) <= PUBLIC.keys()


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_imports_public_names_alone(name: str) -> None:
    text = (ROOT / "docs" / name).read_text()
    imports = [found for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) for found in imports_of(block)]
    assert imports
    for module, names in imports:
        assert module == "bikes_assets"
        assert set(names) <= PUBLIC.keys()
    assert "bikes_assets." not in text


def test_each_name_is_used_by_an_example_or_a_guide() -> None:
    texts = [file.read_text() for file in [*EXAMPLES, *(ROOT / "docs" / name for name in GUIDES)]]
    assert not {name for name in PUBLIC if not any(re.search(rf"\b{name}\b", text) for text in texts)}


def test_the_package_itself_imports_from_its_modules() -> None:
    for file in (ROOT / "bikes_assets").rglob("*.py"):
        for module, names in imports_of(file.read_text()):
            assert module != "bikes_assets" or not PUBLIC.keys() & set(names), file


def test_the_page_names_exactly_these() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", text, re.MULTILINE)
    assert [name for name, _ in rows] == bikes_assets.__all__
    assert all(meaning.strip() for _, meaning in rows)
