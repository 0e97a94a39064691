"""Event loops of tasks kept apart: asyncio knows one running loop for each thread of the operating system, and tasks share one.

Inputs:   a greenlet to switch into, the loop that ran in it when it was left.      Effects: the switch.
Rule 1:   until the first event loop runs in virtual time a switch costs nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafkasim.sim.greenlets import Greenlet

_access: tuple[Callable[[], Any], Callable[[Any], None]] | None = None


def keep_apart(get: Callable[[], Any], put: Callable[[Any], None]) -> None:
    """From now on each task has a running event loop of its own, or none; these get and set the thread's."""
    global _access
    _access = (get, put)


def switch(greenlet: Greenlet, loop: Any) -> Any:
    """Switch with ``loop`` as the running one; returns the one that runs when the greenlet is left."""
    outside = None
    if _access is not None:
        outside = _access[0]()
        _access[1](loop)
    try:
        greenlet.switch()
    finally:
        left = None
        if _access is not None:
            left = _access[0]()
            _access[1](outside)
    return left
