"""Scripts beside the package ask it only for what it has."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = [
    path for name in ("benchmarks", "tools") for path in sorted((ROOT / name).glob("**/*.py"))
]


def asked_for(script: Path) -> Iterator[tuple[str, str]]:
    """Yield modules of the package, and names in them, that a script imports."""
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("polysilicon"):
            yield from ((str(node.module), alias.name) for alias in node.names)


def has(module: str, name: str) -> bool:
    """Tell whether a module has a name, or is a package of one."""
    known = importlib.import_module(module)
    is_package = hasattr(known, "__path__")
    return hasattr(known, name) or (
        is_package and importlib.util.find_spec(f"{module}.{name}") is not None
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_finds_what_it_imports(script):
    missing = [f"{module}.{name}" for module, name in asked_for(script) if not has(module, name)]
    assert not missing


def test_what_is_missing_is_seen(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from polysilicon.errors import InputError, NoSuchError\n")
    assert [has(*name) for name in asked_for(script)] == [True, False]
