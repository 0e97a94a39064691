"""Argument parsing as CPython's C functions do it, with their messages.

The real client's methods are C functions: they name a missing or wrong argument in CPython's words, by position, and convert
numbers and strings strictly. A method here is written with an ordinary typed signature; ``@c_arguments("s|iLO")`` puts that
conversion in front of it.

Mirrors:  PyArg_ParseTupleAndKeywords and PyArg_ParseTuple of CPython 3.11 (the units that the client uses).
Rule 1:   format units: s str, z str or None, i int, L long long, I unsigned int, b unsigned char, p truth, d float,
          O anything, y read-only bytes, Z str or read-only bytes or None (``z#``), l list (``O!`` with list).
Rule 2:   what was not given keeps the default of the signature, unconverted.
Differs:  CPython words some of these differently from release to release; ours are those of 3.11.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_INT_MAX = 2**31 - 1
_LONG_LONG_MAX = 2**63 - 1


class _Mismatch(Exception):
    """A converter refuses its argument; the parser adds the position."""


def _name_of(value: object) -> str:
    return "None" if value is None else type(value).__name__


def real(value: Any) -> float:
    """A number as a C double; raises "must be real number, not ..." for anything else."""
    if type(value) is float:
        return value
    return math.copysign(value, value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Mismatch(f"must be str, not {_name_of(value)}")
    if "\0" in value:
        raise ValueError("embedded null character")
    return value


def _text_or_none(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _Mismatch(f"must be str or None, not {_name_of(value)}")
    if "\0" in value:
        raise ValueError("embedded null character")
    return value


def _int(value: Any) -> int:
    number = operator.index(value)
    if number > _INT_MAX:
        raise OverflowError("signed integer is greater than maximum")
    if number < -_INT_MAX - 1:
        raise OverflowError("signed integer is less than minimum")
    return number


def _long_long(value: Any) -> int:
    number = operator.index(value)
    if not -_LONG_LONG_MAX - 1 <= number <= _LONG_LONG_MAX:
        raise OverflowError("int too big to convert")
    return number


def _unsigned(value: Any) -> int:
    return operator.index(value) & 0xFFFFFFFF


def _unsigned_char(value: Any) -> int:
    number = operator.index(value)
    if number < 0:
        raise OverflowError("unsigned byte integer is less than minimum")
    if number > 255:
        raise OverflowError("unsigned byte integer is greater than maximum")
    return number


def _read_only_bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    _require_buffer(value)
    raise _Mismatch(f"must be read-only bytes-like object, not {_name_of(value)}")


def payload(value: Any, position: int) -> bytes | None:
    """A message's key or value: str is sent as UTF-8, bytes as they are."""
    if value is None or type(value) is bytes:
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return bytes(value)
    _require_buffer(value)
    raise TypeError(f"argument {position} must be read-only bytes-like object, not {_name_of(value)}")


def _require_buffer(value: Any) -> None:
    try:
        memoryview(value)
    except TypeError:
        raise TypeError(f"a bytes-like object is required, not '{_name_of(value)}'") from None


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _Mismatch(f"must be list, not {_name_of(value)}")
    return value


def _anything(value: Any) -> Any:
    return value


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "s": _text,
    "z": _text_or_none,
    "i": _int,
    "L": _long_long,
    "I": _unsigned,
    "b": _unsigned_char,
    "p": operator.truth,
    "d": real,
    "O": _anything,
    "y": _read_only_bytes,
    "l": _list,
}


def _convert(unit: str, value: Any, position: int) -> Any:
    if unit == "Z":
        return payload(value, position)
    try:
        return _CONVERTERS[unit](value)
    except _Mismatch as mismatch:
        raise TypeError(f"argument {position} {mismatch}") from None


def _plural(count: int) -> str:
    return "" if count == 1 else "s"


def _bind(
    names: list[str], units: str, required: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """The converted arguments by name."""
    given = len(args) + len(kwargs)
    if given > len(names):
        kind = "" if args else "keyword "
        raise TypeError(f"function takes at most {len(names)} {kind}argument{_plural(len(names))} ({given} given)")
    bound: dict[str, Any] = {}
    found = 0
    for index, name in enumerate(names):
        if index < len(args):
            bound[name] = _convert(units[index], args[index], index + 1)
        elif name in kwargs:
            bound[name] = _convert(units[index], kwargs[name], index + 1)
            found += 1
        elif index < required:
            raise TypeError(f"function missing required argument '{name}' (pos {index + 1})")
    if found < len(kwargs):
        _refuse_keywords(names, args, kwargs)
    return bound


def _refuse_keywords(names: list[str], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    for index, name in enumerate(names[: len(args)]):
        if name in kwargs:
            raise TypeError(f"argument for function given by name ('{name}') and position ({index + 1})")
    unknown = next(name for name in kwargs if name not in names)
    raise TypeError(f"'{unknown}' is an invalid keyword argument for this function")


def _bind_positional(names: list[str], units: str, required: int, args: tuple[Any, ...]) -> dict[str, Any]:
    if required <= len(args) <= len(names):
        return {
            name: _convert(unit, value, index + 1)
            for index, (name, unit, value) in enumerate(zip(names, units, args, strict=False))
        }
    if required == len(names):
        bound, limit = "exactly", required
    elif len(args) < required:
        bound, limit = "at least", required
    else:
        bound, limit = "at most", len(names)
    raise TypeError(f"function takes {bound} {limit} argument{_plural(limit)} ({len(args)} given)")


def c_arguments(
    spec: str, *, method: bool = True, names: tuple[str, ...] = ()
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Parse the arguments of the decorated method (or, with ``method=False``, function) as C code with ``spec`` does.

    ``names`` gives the keywords where they differ from the names of the parameters.
    """
    required_units, _, optional_units = spec.partition("|")
    units = required_units + optional_units
    required = len(required_units)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        parameters = _parameters(function, units, method=method)
        keywords = list(names) or parameters
        renamed = dict(zip(keywords, parameters, strict=True)) if names else None

        @functools.wraps(function)
        def parsing(*args: Any, **kwargs: Any) -> R:
            bound = _bind(keywords, units, required, args[1:] if method else args, kwargs)
            if renamed is not None:
                bound = {renamed[name]: value for name, value in bound.items()}
            return function(*args[: 1 if method else 0], **bound)

        return parsing

    return decorate


def c_positional(spec: str, *, method: bool = True) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """As ``c_arguments``, for a C function that takes no keyword arguments."""
    required_units, _, optional_units = spec.partition("|")
    units = required_units + optional_units
    required = len(required_units)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        parameters = _parameters(function, units, method=method)

        @functools.wraps(function)
        def parsing(*args: Any, **kwargs: Any) -> R:
            if kwargs:
                raise TypeError(f"{function.__qualname__}() takes no keyword arguments")
            bound = _bind_positional(parameters, units, required, args[1:] if method else args)
            return function(*args[: 1 if method else 0], **bound)

        return parsing

    return decorate


def _parameters(function: Callable[..., Any], units: str, *, method: bool) -> list[str]:
    code = function.__code__
    names = list(code.co_varnames[1 if method else 0 : code.co_argcount])
    assert len(names) == len(units), f"{function.__qualname__}: {len(names)} names, {len(units)} units"
    return names


def timeout_ms(seconds: float) -> int:
    """A timeout as the C code passes it on: whole milliseconds, -1 for ever."""
    return -1 if seconds < 0 else int(min(seconds, 2_147_483.0) * 1000)
