"""What should happen at least once in a campaign: ``kafkasim.sometimes("a rebalance hit a commit", condition)``.

Inputs:   calls from user code while a trial runs; a module's source, for the names that it never gets to.
Effects:  the names that were reached and those that were only passed by; outside every trial nothing.
Rule 1:   a call changes nothing in the run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs


@attrs.define(slots=True)
class Reached:
    """Names in the order of their first call: reached, and passed by with a condition that was false."""

    reached: dict[str, None] = attrs.field(factory=dict)
    passed: dict[str, None] = attrs.field(factory=dict)


_listening: list[Reached] = []
"""The trials that run now, innermost last: user code calls a plain function, which has nothing else to find its trial by."""


def sometimes(name: str, condition: object = True) -> None:
    """Say that this should be so in some run of a campaign; ``kafkasim explore`` lists by name what never was.

    Costs next to nothing, changes nothing, and does nothing outside a campaign.
    """
    if _listening:
        reached = _listening[-1]
        (reached.reached if condition else reached.passed)[name] = None


@contextmanager
def listening() -> Iterator[Reached]:
    """Collect what is called inside."""
    reached = Reached()
    _listening.append(reached)
    try:
        yield reached
    finally:
        _listening.remove(reached)


def names_in_source(file: str | Path) -> tuple[str, ...]:
    """The names that a module's text passes to ``sometimes``; nothing is run. Empty where it cannot be read."""
    try:
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return ()
    names: dict[str, None] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        first = node.args[0]
        if called == "sometimes" and isinstance(first, ast.Constant) and isinstance(first.value, str):
            names[first.value] = None
    return tuple(names)
