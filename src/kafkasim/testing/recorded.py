"""What ``--kafkasim-replay`` names, for strategies, which know no pytest: set by the plugin while its session lasts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_stack: list[Mapping[str, Any] | None] = [None]


def begin(values: Mapping[str, Any] | None) -> None:
    """A session begins; sessions may lie inside one another."""
    _stack.append(values)


def end() -> None:
    """It is over."""
    if len(_stack) > 1:
        _stack.pop()


def current(name: str) -> Any:
    """A recorded value; None without one."""
    values = _stack[-1]
    return None if values is None else values.get(name)
