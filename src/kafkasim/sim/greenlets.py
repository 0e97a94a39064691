"""The library greenlet, imported only when a task is spawned: the rest runs where it does not exist.

Rule 1:   this is the only module that names it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Protocol, cast


class Greenlet(Protocol):
    """The part of ``greenlet.greenlet`` that is used."""

    def switch(self) -> object: ...


class GreenletModule(Protocol):
    """The part of the module ``greenlet`` that is used."""

    def greenlet(self, run: Callable[[], object]) -> Greenlet: ...
    def getcurrent(self) -> Greenlet: ...


def greenlet_module() -> GreenletModule:
    """The module ``greenlet``, imported when the first task is spawned: the rest runs without it."""
    return cast(GreenletModule, sys.modules.get("greenlet") or importlib.import_module("greenlet"))
