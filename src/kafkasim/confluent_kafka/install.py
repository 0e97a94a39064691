"""Put the simulated client in the place of the real one: in ``sys.modules``, and behind names that were imported before.

Rule 1:   what is swapped is remembered with its owner and put back; afterwards no trace is left.
Rule 2:   a name is swapped only where a module's global *is* an object of the real package (``from confluent_kafka import Producer``).
Differs:  classes that user code derived from a real class before stay what they are; a warning names each.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
import warnings
from importlib.abc import Loader
from types import ModuleType
from typing import Any

from kafkasim.sim.user_globals import Swapped, put_back, swap

_REAL = "confluent_kafka"
_OURS = "kafkasim.confluent_kafka"
#: Modules of the client that are always there; others are loaded when the real one has them loaded.
_ALWAYS = ("", ".cimpl")
_LAYER = (".admin", ".error", ".serialization", ".aio")


class _Finder:
    """A meta path finder: ``import confluent_kafka.admin`` inside ``install`` loads ours."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        if name != _REAL and not name.startswith(_REAL + "."):
            return None
        ours = importlib.import_module(_OURS + name[len(_REAL) :])
        return importlib.machinery.ModuleSpec(name, _Loader(ours))


class _Loader(Loader):
    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._spec = module.__spec__

    def create_module(self, spec: object) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """Ours is initialised already; it keeps the spec under which it was loaded."""
        module.__spec__ = self._spec


class Installation:
    """``install`` and ``uninstall`` may be called again and again; they nest."""

    def __init__(self) -> None:
        self._depth = 0
        self._saved_modules: dict[str, ModuleType] = {}
        self._swapped: list[Swapped] = []
        self._finder = _Finder()
        self._warned: set[str] = set()

    def install(self) -> None:
        self._depth += 1
        if self._depth > 1:
            return
        self._saved_modules = {name: module for name, module in sys.modules.items() if _is_real(name)}
        replacements = self._replacements()
        for name in self._saved_modules:
            del sys.modules[name]
        sys.meta_path.insert(0, self._finder)
        for suffix in _ALWAYS:
            sys.modules[_REAL + suffix] = importlib.import_module(_OURS + suffix)
        for suffix in _LAYER:
            if _REAL + suffix in self._saved_modules and _REAL + suffix not in sys.modules:
                sys.modules[_REAL + suffix] = importlib.import_module(_OURS + suffix)
        if replacements:
            self._swapped = swap(replacements)
            self._warn_of_derived()

    def uninstall(self) -> None:
        self._depth -= 1
        if self._depth > 0:
            return
        sys.meta_path.remove(self._finder)
        for name in [name for name in sys.modules if _is_real(name)]:
            del sys.modules[name]
        sys.modules.update(self._saved_modules)
        self._saved_modules = {}
        put_back(self._swapped)
        self._swapped = []
        # What user code imported first inside ``install`` stays ours: the real client was never there to go back to.

    def _replacements(self) -> dict[int, Any]:
        """id of each object of the real package that is loaded -> ours."""
        found: dict[int, Any] = {}
        for name, module in self._saved_modules.items():
            try:
                ours = importlib.import_module(_OURS + name[len(_REAL) :])
            except ImportError:
                continue
            found[id(module)] = ours
            for attribute, value in list(vars(module).items()):
                if attribute.startswith("__") or not _belongs(value):
                    continue
                replacement = getattr(ours, attribute, None)
                if replacement is not None and replacement is not value:
                    found.setdefault(id(value), replacement)
        return found

    def _warn_of_derived(self) -> None:
        """A class made from a real one cannot be given another base; whoever uses it talks to a real cluster, or to none."""
        cimpl = self._saved_modules.get(_REAL + ".cimpl")
        pending = [getattr(cimpl, name) for name in ("Consumer", "Producer") if hasattr(cimpl, name)]
        while pending:
            for derived in pending.pop().__subclasses__():
                pending.append(derived)
                name = f"{derived.__module__}.{derived.__qualname__}"
                if derived.__module__.partition(".")[0] not in (_REAL, "kafkasim") and name not in self._warned:
                    self._warned.add(name)
                    warnings.warn(
                        f"{name} derives from the real client and was made before the simulator was installed: it stays a real client. "
                        f"Import {derived.__module__} inside cluster.install() or a task, or hold the client in an attribute",
                        RuntimeWarning,
                        stacklevel=2,
                    )


def _is_real(name: str) -> bool:
    return name == _REAL or name.startswith(_REAL + ".")


def _belongs(value: object) -> bool:
    """Is ``value`` a class, function or module of the real package?"""
    if isinstance(value, ModuleType):
        return _is_real(value.__name__)
    home = getattr(value, "__module__", None)
    if not isinstance(home, str):
        return False
    return (_is_real(home) or home == "cimpl") and (isinstance(value, type) or callable(value))


#: One for the process: several clusters may be installed at once, the swap is the same.
INSTALLATION = Installation()
