"""``@message``: the one way to declare a value that travels between machines.

A message is frozen for the type checker always, and at run time where ``KAFKASIM_FREEZE=1`` is set (the project's tests do);
elsewhere it is a plain slotted class, because freezing triples the cost of construction.
"""

from __future__ import annotations

import os
from typing import Any, TypeVar, dataclass_transform

import attrs

_T = TypeVar("_T")
_FREEZE = os.environ.get("KAFKASIM_FREEZE") == "1"


def _repr(self: Any) -> str:
    """As attrs would write it. Generating it for each of some 150 classes took two fifths of the time to import them."""
    cls = type(self)
    values = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in attrs.fields(cls) if field.repr)
    return f"{cls.__qualname__.rsplit('>.', 1)[-1]}({values})"


def _eq(self: Any, other: object) -> Any:
    """Equal by fields, as attrs would compare them; generated for each class it would cost as much as its constructor."""
    if other.__class__ is not self.__class__:
        return NotImplemented
    return all(getattr(self, name) == getattr(other, name) for name in _compared(self.__class__))


_names: dict[type[Any], tuple[str, ...]] = {}


def _compared(cls: type[Any]) -> tuple[str, ...]:
    names = _names.get(cls)
    if names is None:
        names = _names[cls] = tuple(field.name for field in attrs.fields(cls) if field.eq)
    return names


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field,))
def message(cls: type[_T]) -> type[_T]:
    """Make ``cls`` a slotted value class with equality by fields."""
    if "__repr__" not in cls.__dict__:
        cls.__repr__ = _repr  # type: ignore[method-assign]
    if "__eq__" not in cls.__dict__:
        cls.__eq__ = _eq  # type: ignore[method-assign]
    cls.__hash__ = None  # type: ignore[method-assign, assignment]
    return attrs.define(
        cls, slots=True, frozen=_FREEZE, eq=False, repr=False, hash=False, match_args=False, weakref_slot=False
    )
