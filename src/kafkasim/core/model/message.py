"""``@message``: the one way to declare a value that travels between machines; ``@slotted``: what a machine keeps.

A message is frozen for the type checker always, and at run time where ``KAFKASIM_FREEZE=1`` is set (the project's tests do);
elsewhere it is a plain slotted class, because freezing triples the cost of construction.

Rule 1:   declaring a class compiles nothing: there are some three hundred, and most processes construct a third of them. The
          constructor is compiled when it is first called, as attrs would write it; text and equality are one function for all.
Rule 2:   ``attrs.fields``, ``evolve`` and ``asdict`` work as for any attrs class; what they need is made when first asked for.
Rule 3:   there are no validators and no converters, and methods do not call ``super()``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal, TypeVar, dataclass_transform

import attrs
from attrs.exceptions import FrozenInstanceError

_T = TypeVar("_T")
_FREEZE = os.environ.get("KAFKASIM_FREEZE") == "1"


class _Aside:
    """The mark that ``aside`` leaves on a field."""


class _Fresh:
    """The mark that ``fresh`` leaves on a field."""

    def __init__(self, factory: Callable[[], Any]) -> None:
        self.factory = factory


_ASIDE = _Aside()
_UNSET = object()


def aside(*, init: Literal[False]) -> Any:
    """A field that begins as None and is no argument, nor compared, nor shown: what somebody keeps with the message."""
    return _ASIDE


def fresh(*, factory: Callable[[], _T]) -> _T:
    """A default of its own for each instance: ``fresh(factory=list)``."""
    return _Fresh(factory)  # type: ignore[return-value]


@dataclass_transform(frozen_default=True, field_specifiers=(aside,))
def message(cls: type[_T]) -> type[_T]:
    """Make ``cls`` a slotted value class with equality by fields."""
    members: dict[str, Any] = {"__hash__": None}
    if "__eq__" not in cls.__dict__:
        members["__eq__"] = _eq
    if _FREEZE:
        members["__setattr__"] = members["__delattr__"] = _refuse
    return _remade(cls, members)


@dataclass_transform(eq_default=False, field_specifiers=(fresh,))
def slotted(cls: type[_T]) -> type[_T]:
    """Make ``cls`` a slotted class of values that change: equal only to itself."""
    return _remade(cls, {})


def _remade(cls: type[_T], more: dict[str, Any]) -> type[_T]:
    members = {**cls.__dict__, **more}
    declared = [name for name, kind in cls.__annotations__.items() if not kind.startswith("ClassVar")]
    given = {name: members.pop(name) for name in declared if name in members}
    asides = tuple(name for name, default in given.items() if default is _ASIDE)
    names = tuple(name for name in declared if name not in asides)
    defaults = {name: default for name, default in given.items() if name not in asides}
    for unslotted in ("__dict__", "__weakref__"):
        members.pop(unslotted, None)
    members["__slots__"] = tuple(declared)
    members["__reduce__"] = _reduce
    members["__match_args__"] = names
    members["__init__"] = _uncompiled(names, defaults, asides)
    members["__attrs_attrs__"] = _Fields(names, defaults)
    members.setdefault("__repr__", _repr)
    made: type[_T] = type(cls).__new__(type(cls), cls.__name__, cls.__bases__, members)
    return made


# --- the constructor -------------------------------------------------------------------------------------------------


def _uncompiled(names: tuple[str, ...], defaults: dict[str, Any], asides: tuple[str, ...]) -> Callable[..., None]:
    """A constructor that puts the compiled one in its place when it is first called."""

    def __init__(self: Any, *values: Any, **keywords: Any) -> None:
        cls: Any = next(base for base in type(self).__mro__ if base.__dict__.get("__init__") is __init__)
        cls.__init__ = _compiled(cls.__qualname__, names, defaults, asides)
        cls.__init__(self, *values, **keywords)

    return __init__


def _compiled(
    title: str, names: tuple[str, ...], defaults: dict[str, Any], asides: tuple[str, ...]
) -> Callable[..., None]:
    parameters = ", ".join(f"{name}=_default_{name}" if name in defaults else name for name in names)
    steps = [(name, _value(name, defaults.get(name))) for name in names] + [(name, "None") for name in asides]
    template = "    _set(self, '{}', {})" if _FREEZE else "    self.{} = {}"
    body = [template.format(*step) for step in steps] or ["    pass"]
    scope: dict[str, Any] = {"_set": object.__setattr__, "_unset": _UNSET}
    for name, default in defaults.items():
        is_fresh = isinstance(default, _Fresh)
        scope[f"_default_{name}"] = _UNSET if is_fresh else default
        scope[f"_new_{name}"] = default.factory if is_fresh else None
    lines = [f"def __init__(self, {parameters}):", *body]
    exec(compile("\n".join(lines), f"<constructor of {title}>", "exec"), scope)
    made: Callable[..., None] = scope["__init__"]
    made.__qualname__ = f"{title}.__init__"
    return made


def _value(name: str, default: Any) -> str:
    return f"_new_{name}() if {name} is _unset else {name}" if isinstance(default, _Fresh) else name


# --- what all messages share ----------------------------------------------------------------------------------------------


def _repr(self: Any) -> str:
    cls: Any = type(self)
    values = ", ".join(f"{name}={getattr(self, name)!r}" for name in cls.__match_args__)
    return f"{cls.__qualname__.rsplit('>.', 1)[-1]}({values})"


def _eq(self: Any, other: Any) -> Any:
    cls: Any = type(self)
    if other.__class__ is not cls:
        return NotImplemented
    return all(getattr(self, name) == getattr(other, name) for name in cls.__match_args__)


def _reduce(self: Any) -> tuple[type[Any], tuple[Any, ...]]:
    cls: Any = type(self)
    return cls, tuple(getattr(self, name) for name in cls.__match_args__)


def _refuse(self: Any, *_: Any) -> None:
    raise FrozenInstanceError()


class _Fields:
    """What ``attrs.fields`` says of a message, made by attrs itself when somebody asks."""

    def __init__(self, names: tuple[str, ...], defaults: dict[str, Any]) -> None:
        self._names = names
        self._defaults = defaults

    def __get__(self, _: object, cls: type[Any]) -> Any:
        fields = {}
        for name in self._names:
            default = self._defaults.get(name, attrs.NOTHING)
            fields[name] = attrs.field(
                default=attrs.Factory(default.factory) if isinstance(default, _Fresh) else default
            )
        described = attrs.fields(attrs.make_class(cls.__name__, fields))
        cls.__attrs_attrs__ = described
        return described
