"""The house: imports only go down.

The floors are monitors -> circuits -> probes. Within a floor a wing or file imports only those listed before it in
the docstring of its package ("In reading order: ..."), and the listing is complete.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("probes", "circuits", "monitors")
PACKAGES = sorted(path.parent for floor in FLOORS for path in (ROOT / floor).rglob("__init__.py"))
FILES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py") if path.name != "__init__.py")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def reading_order(package: Path) -> list[str]:
    """The names that the docstring of a package lists, in order."""
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    found = re.search(r"In reading order:\s*(.*?)\.(\s|$)", text, re.DOTALL)
    assert found, f"{name_of(package)}/__init__.py does not say 'In reading order: ...'"
    return [name.strip().rstrip("/") for name in re.sub(r"\([^)]*\)", "", found[1]).replace("\n", " ").split(",")]


def imported(path: Path) -> set[tuple[str, ...]]:
    """Our own modules that a file imports anywhere in it, as parts of their names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {tuple(name.split(".")) for name in names if name.split(".")[0] in FLOORS}


@pytest.mark.parametrize("package", PACKAGES, ids=name_of)
def test_the_listing_of_a_package_is_complete(package):
    there = {p.stem for p in package.glob("*.py") if p.name != "__init__.py"}
    there |= {p.parent.name for p in package.glob("*/__init__.py")}
    listed = reading_order(package)
    assert len(listed) == len(set(listed))
    assert set(listed) == there


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_imports_only_what_is_listed_before_it(path):
    here = path.relative_to(ROOT).with_suffix("").parts
    for parts in sorted(imported(path)):
        assert FLOORS.index(parts[0]) <= FLOORS.index(here[0]), f"{name_of(path)} imports upwards: {'.'.join(parts)}"
        shared = next((i for i, (a, b) in enumerate(zip(here, parts, strict=False)) if a != b), len(here))
        if 0 < shared < len(here) and shared < len(parts):
            order = reading_order(ROOT.joinpath(*here[:shared]))
            if parts[shared] in order:  # else it is a name that the package itself exports
                assert order.index(parts[shared]) < order.index(here[shared]), (
                    f"{name_of(path)} imports {'.'.join(parts)}"
                )


def test_the_public_names_resolve_and_are_pinned():
    import circuits
    import monitors
    import probes

    for floor in (probes, circuits, monitors):
        for name in floor.__all__:
            assert getattr(floor, name) is not None
    assert {"load_model", "load_topic", "capture", "sweep", "controls", "read", "LinearProbe", "taps"} <= set(
        probes.__all__
    )
    assert {"Breaker", "BreakerOpen", "Journal", "Monitor", "Policy", "guard"} <= set(monitors.__all__)
    assert {"patch", "Pair"} <= set(circuits.__all__)


@pytest.mark.parametrize(
    "module", ["probes", "circuits", "monitors", "monitors.cli", "monitors.breaker.journal", "probes.facts.contexts"]
)
def test_what_must_be_light_brings_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_no_artifact_is_unpickled_anywhere():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not {"pickle", "joblib", "dill"} & set(names), name_of(path)
            if isinstance(node, ast.Attribute) and node.attr == "load" and isinstance(node.value, ast.Name):
                assert node.value.id != "torch", name_of(path)
