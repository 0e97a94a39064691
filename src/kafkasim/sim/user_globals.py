"""The names that user code has for things: found among the globals of its modules, exchanged, and put back.

Inputs:   what takes the place of which object.      Effects: globals of user modules.
Rule 1:   user code is every loaded module but the standard library, kafkasim, the real client and test runners; ``__main__`` is.
Rule 2:   a name is exchanged where it *is* the object in question, so that ``from confluent_kafka import Producer`` is found.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

#: Where a name stands, the name, and what it stood for.
Swapped: TypeAlias = tuple[dict[str, Any], str, Any]

#: Roots of modules that hold no client of a user: looking through them is most of what a swap would cost.
_NO_USERS = frozenset(
    {*sys.stdlib_module_names, "kafkasim", "confluent_kafka", "_pytest", "pytest", "pluggy", "hypothesis"}
) - {"__main__"}


def swap(replacements: Mapping[int, Any], *others: dict[str, Any]) -> list[Swapped]:
    """Exchange what has one of these ids, in user code and in ``others``; `put_back` takes what is returned."""
    swapped: list[Swapped] = []
    wanted = replacements.keys()
    for names in (*others, *_user_globals()):
        if wanted.isdisjoint(map(id, names.values())):
            continue
        for name, value in list(names.items()):
            if id(value) in replacements:
                swapped.append((names, name, value))
                names[name] = replacements[id(value)]
    return swapped


def put_back(swapped: Iterable[Swapped]) -> None:
    """Every name stands for what it stood for before."""
    for names, name, value in swapped:
        names[name] = value


def _user_globals() -> Iterator[dict[str, Any]]:
    for name, module in list(sys.modules.items()):
        names = getattr(module, "__dict__", None)
        if isinstance(names, dict) and name.partition(".")[0] not in _NO_USERS:
            yield names
