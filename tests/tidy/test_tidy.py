"""Style rules as tests: what keeps the core pure and the modules readable.

Lengths are ratchets: the listed exceptions may only shrink, and leave the list when they fit.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "kafkasim"
MODULES = sorted(SRC.rglob("*.py"))
CORE = [path for path in MODULES if "core" in path.relative_to(SRC).parts[:1]]

MAX_MODULE_LINES = 600
MAX_FUNCTION_LINES = 60
#: Module -> lines it may have until it is cut.
LONG_MODULES: dict[str, int] = {}

BANNED_CALLS = {"hash", "id", "print", "open", "input"}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def name_of(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_opens_with_a_header(path: Path) -> None:
    """A reader learns from the first lines what a module is."""
    assert ast.get_docstring(tree_of(path)), f"{path} has no docstring"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_length(path: Path) -> None:
    """One module, one idea: a long one wants to be two."""
    lines = len(path.read_text().splitlines())
    allowed = LONG_MODULES.get(name_of(path), MAX_MODULE_LINES)
    assert lines <= allowed, f"{path} has {lines} lines, {allowed} are allowed"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_function_length(path: Path) -> None:
    """A function fits on a screen."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{path}:{node.lineno} {node.name} has {lines} lines"


def impurities(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.AsyncFunctionDef | ast.Await):
            yield f"{line}: core never suspends"
        if isinstance(node, ast.For | ast.comprehension):
            iterated = node.iter
            if isinstance(iterated, ast.Set | ast.SetComp):
                yield f"{line}: iteration over a set"
            if isinstance(iterated, ast.Call) and getattr(iterated.func, "id", "") in {"set", "frozenset"}:
                yield f"{line}: iteration over a set"
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in BANNED_CALLS:
            yield f"{line}: {node.func.id}() in the core"  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_core_is_pure(path: Path) -> None:
    """No suspension, no order of sets, no hash() or id(), no I/O: determinism rests on it."""
    assert list(impurities(path)) == []
