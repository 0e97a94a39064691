"""Loads the client's own Python layer (admin, serialization, aio, Schema Registry ...) over our `cimpl`.

The user's installed confluent-kafka is a large Python layer over a C extension. Its files are found without importing it and
loaded a second time as submodules of `kafkasim.confluent_kafka`, their imports redirected, so that what runs is the layer that
the user has, over the classes of this package.

Mirrors:  nothing of Kafka; the module tree of confluent_kafka 2.16.
Rule 1:   the real package is never imported: neither its `__init__` nor its C extension is executed.
Rule 2:   an import of `confluent_kafka` inside the layer means this package, however it is spelled.
Rule 3:   `concurrent.futures` inside the layer is ours, because a future of a simulated client waits in virtual time.
Rule 4:   compiled code is neither read from nor written to the wheel's own bytecode cache.
"""

from __future__ import annotations

import ast
import functools
import importlib.machinery
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

PACKAGE = "kafkasim.confluent_kafka"
REAL_PACKAGE = "confluent_kafka"
EXTRA_HINT = (
    "this part of the client comes from the installed confluent-kafka package, which is missing: "
    "pip install 'kafkasim[confluent]'"
)

#: What these mean inside the layer: the module itself, and the package that ``import concurrent.futures`` binds.
_STAND_INS = {"concurrent.futures": f"{PACKAGE}.futures", "concurrent": f"{PACKAGE}._concurrent"}

_OWN_DIRECTORY = os.path.dirname(__file__)


@functools.cache
def layer_directory() -> str | None:
    """Folder of the installed confluent-kafka, or None where there is none."""
    found = importlib.machinery.PathFinder.find_spec(REAL_PACKAGE)
    if found is None:
        found = _spec_from_other_finders()
    if found is None or not found.submodule_search_locations:
        return None
    return next(iter(found.submodule_search_locations))


def _spec_from_other_finders() -> importlib.machinery.ModuleSpec | None:
    """An editable install is known to a finder of its own."""
    for finder in sys.meta_path:
        if isinstance(finder, (type, LayerFinder)):
            continue
        find_spec = getattr(finder, "find_spec", None)
        found = find_spec(REAL_PACKAGE, None) if find_spec is not None else None
        if found is not None and isinstance(found, importlib.machinery.ModuleSpec):
            return found
    return None


def _redirected(name: str) -> str:
    """The module that an absolute import inside the layer means here."""
    if name == REAL_PACKAGE or name.startswith(REAL_PACKAGE + "."):
        return PACKAGE + name[len(REAL_PACKAGE) :]
    return _STAND_INS.get(name, name)


class _Redirect(ast.NodeTransformer):
    """Rewrites the imports of a layer module."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        if node.level == 0 and node.module is not None:
            node.module = _redirected(node.module)
        return node

    def visit_Import(self, node: ast.Import) -> ast.AST | list[ast.AST]:
        statements: list[ast.AST] = []
        for alias in node.names:
            target = _redirected(alias.name)
            if target == alias.name or alias.asname is not None:
                renamed = ast.alias(name=target, asname=alias.asname)
                statements.append(ast.copy_location(ast.Import(names=[renamed]), node))
            else:
                statements.extend(_rebound(alias.name, target, node))
        return statements


def _rebound(name: str, target: str, node: ast.Import) -> list[ast.AST]:
    """``import a.b`` binds ``a``: import the stand-in of ``a.b``, then bind the stand-in of ``a`` by that name."""
    top = name.partition(".")[0]
    statements: list[ast.AST] = []
    if "." in name:
        loading = ast.alias(name=target, asname=None)
        statements.append(ast.copy_location(ast.Import(names=[loading]), node))
        # Loading binds "kafkasim", which the module itself does not know; the next statement is what it sees.
    binding = ast.alias(name=_redirected(top), asname=top)
    statements.append(ast.copy_location(ast.Import(names=[binding]), node))
    return statements


def redirected_code(source: bytes, path: str) -> CodeType:
    """The code of a layer module with its imports redirected."""
    tree = _Redirect().visit(ast.parse(source, path))
    ast.fix_missing_locations(tree)
    code: CodeType = compile(tree, path, "exec", dont_inherit=True)
    return code


_FIRST, _SECOND = f"{PACKAGE}.error", f"{PACKAGE}.serialization"


class LayerLoader(importlib.machinery.SourceFileLoader):
    """Compiles a file of the layer with its imports redirected, past the bytecode cache."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return redirected_code(self.get_data(path), path)

    def exec_module(self, module: ModuleType) -> None:
        """``serialization`` and ``error`` import each other, and only the latter may come first (as it does in the real package)."""
        if module.__name__ == _SECOND and _FIRST not in sys.modules:
            del sys.modules[_SECOND]
            importlib.import_module(_FIRST)  # This loads ``serialization`` anew, and that one stays.
        else:
            super().exec_module(module)


class LayerFinder:
    """Finds submodules of this package that are not ours in the installed client."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(PACKAGE + "."):
            return None
        relative = fullname[len(PACKAGE) + 1 :].split(".")
        if len(relative) == 1 and os.path.isfile(os.path.join(_OWN_DIRECTORY, relative[0] + ".py")):
            return None  # One of ours, such as cimpl: the standard finder knows it.
        directory = layer_directory()
        if directory is None:
            raise ImportError(f"{fullname}: {EXTRA_HINT}", name=fullname)
        return _layer_spec(fullname, os.path.join(directory, *relative))


def _layer_spec(fullname: str, base: str) -> importlib.machinery.ModuleSpec | None:
    package_file = os.path.join(base, "__init__.py")
    if os.path.isfile(package_file):
        loader = LayerLoader(fullname, package_file)
        return importlib.util.spec_from_file_location(
            fullname, package_file, loader=loader, submodule_search_locations=[base]
        )
    if os.path.isfile(base + ".py"):
        return importlib.util.spec_from_file_location(
            fullname, base + ".py", loader=LayerLoader(fullname, base + ".py")
        )
    return None


def register() -> None:
    """Make the layer importable below this package, once.

    The finder stands first: the standard one would find the submodules of a layer package by its folder, and load them with
    their imports as they are.
    """
    if not any(isinstance(finder, LayerFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, LayerFinder())


def layer_module(name: str) -> Any:
    """A module of the layer, as ``admin`` or ``_model``."""
    return importlib.import_module(f"{PACKAGE}.{name}")
