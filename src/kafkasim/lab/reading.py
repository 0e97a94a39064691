"""Reading a TOML table key by key, so that every mistake is told with file, line, key, value and what is allowed.

Rule 1:   a key that nobody asked for is an error (``finish``), with the nearest known key as a hint.
Rule 2:   times are integer microseconds inside; outside they are seconds, or text with a unit ("250ms", "10m").
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from kafkasim.errors import ConfigurationError
from kafkasim.lab.toml_lines import Path

_T = TypeVar("_T")

_MISSING: Any = object()
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|min|m|h)\s*")
_UNITS_US = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "min": 60_000_000, "h": 3_600_000_000}
_RATE = re.compile(r"(\d[\d_]*(?:\.\d+)?)\s*/\s*(s|sec|second|m|min|minute|h|hour)")
_PER_SECONDS = {"s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600}
_LONGEST_SHOWN = 60

DURATIONS = 'a time: seconds, or text with a unit, such as 1.5, "250ms", "30s" or "10m"'
RATES = 'a rate: a number per second, or text such as "50000/min" or "800/s"'


class DesignError(ConfigurationError):
    """A mistake in a design file; ``line`` counts from 1."""

    def __init__(self, file: str, line: int, problem: str) -> None:
        super().__init__(f"{file}:{line}: {problem}")
        self.file = file
        self.line = line
        self.problem = problem


def hint(given: object, allowed: Iterable[str]) -> str:
    """ "; did you mean ...?" if something allowed is close."""
    close = difflib.get_close_matches(str(given), list(allowed), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def shown(value: object) -> str:
    """A value as an error shows it: TOML's words for booleans, cut where it is long."""
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


def duration_us(value: object) -> int:
    """Microseconds of ``value``; ValueError if it is no duration."""
    if isinstance(value, bool):
        raise ValueError
    if isinstance(value, int | float):
        if value < 0:
            raise ValueError
        return round(value * 1_000_000)
    text = str(value).strip()
    parts = _DURATION.findall(text)
    if not parts or _DURATION.sub("", text):
        raise ValueError
    return round(sum(float(number) * _UNITS_US[unit] for number, unit in parts))


def rate_per_second(value: object) -> float:
    """Records per second; ValueError if ``value`` is no rate."""
    if isinstance(value, bool):
        raise ValueError
    if isinstance(value, int | float):
        return float(value)
    match = _RATE.fullmatch(str(value).strip())
    if match is None:
        raise ValueError
    return float(match[1].replace("_", "")) / _PER_SECONDS[match[2]]


class Table:
    """One table of a design, read by ``take``; ``finish`` when nothing more is asked for."""

    def __init__(self, values: Mapping[str, Any], file: str, lines: Mapping[Path, int], path: Path = ()) -> None:
        self._values = values
        self._file = file
        self._lines = lines
        self._path = path
        self._asked: dict[str, None] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._values

    @property
    def keys(self) -> list[str]:
        return list(self._values)

    # --- errors ----------------------------------------------------------------------------------------------------

    def error(self, key: str | int | None, problem: str) -> DesignError:
        """``problem`` at a key of this table (None: at the table itself)."""
        path = self._path if key is None else (*self._path, key)
        while path not in self._lines:
            path = path[:-1]
        return DesignError(self._file, self._lines[path], problem)

    def bad(self, key: str, allowed: str, value: object = _MISSING) -> DesignError:
        """The value of ``key`` is not one of those ``allowed``."""
        found = self._values.get(key) if value is _MISSING else value
        return self.error(key, f"{self.name(key)} = {shown(found)}: expected {allowed}")

    def name(self, key: str | None = None) -> str:
        """The table's (or a key's) name for people: ``groups[2].commit``."""
        path = self._path if key is None else (*self._path, key)
        text = ""
        for part in path:
            if isinstance(part, int):
                text += f"[{part + 1}]"
            else:
                quoted = f'"{part}"' if "." in part else part
                text += f".{quoted}" if text else quoted
        return text

    def finish(self) -> None:
        """Whatever was not asked for has no meaning here."""
        for key in self._values:
            if key not in self._asked:
                where = self.name() or "a design"
                value = self._values[key]
                given = "" if isinstance(value, dict | list) else f" (= {shown(value)})"
                raise self.error(
                    key,
                    f"unknown key {key!r}{given} in {where}: known are {', '.join(sorted(self._asked))}"
                    + hint(key, self._asked),
                )

    # --- reading ---------------------------------------------------------------------------------------------------

    def take(self, key: str, convert: Callable[[Any], _T], allowed: str, default: Any = _MISSING) -> Any:
        """``convert(value)``, the default where the key is missing; ``convert`` raises ValueError or TypeError."""
        self._asked[key] = None
        if key not in self._values:
            if default is _MISSING:
                raise self.error(None, f"{self.name(key)} is missing: expected {allowed}")
            return default
        try:
            return convert(self._values[key])
        except (ValueError, TypeError):
            raise self.bad(key, allowed) from None

    def text(self, key: str, default: Any = _MISSING) -> Any:
        return self.take(key, _text, "a text", default)

    def texts(self, key: str, default: Any = _MISSING) -> Any:
        """A list of texts; a lone text is a list of one."""
        return self.take(key, _texts, "a list of texts, not empty", default)

    def flag(self, key: str, default: Any = _MISSING) -> Any:
        return self.take(key, _flag, "true or false", default)

    def whole(self, key: str, default: Any = _MISSING, low: int = 0, high: int | None = None) -> Any:
        allowed = f"a whole number, at least {low}" if high is None else f"a whole number from {low} to {high}"
        return self.take(key, lambda value: _whole(value, low, high), allowed, default)

    def number(self, key: str, default: Any = _MISSING, low: float = 0.0, high: float | None = None) -> Any:
        allowed = f"a number, at least {low:g}" if high is None else f"a number from {low:g} to {high:g}"
        return self.take(key, lambda value: _number(value, low, high), allowed, default)

    def duration(self, key: str, default: Any = _MISSING, low_us: int = 0) -> Any:
        """Microseconds."""
        allowed = DURATIONS if low_us == 0 else f"{DURATIONS}; more than 0"
        return self.take(key, lambda value: _at_least(duration_us(value), low_us), allowed, default)

    def choice(self, key: str, choices: Sequence[str], default: Any = _MISSING) -> Any:
        def convert(value: object) -> str:
            if value not in choices:
                raise ValueError
            return str(value)

        allowed = "one of " + ", ".join(f'"{choice}"' for choice in choices)
        return self.take(key, convert, allowed + hint(self._values.get(key, ""), choices), default)

    def table(self, key: str) -> Table:
        """A table within this one, empty where it is missing."""
        values = self.take(key, _mapping, f"a table: [{self.name(key)}]", {})
        return Table(values, self._file, self._lines, (*self._path, key))

    def tables(self, key: str) -> list[Table]:
        """An array of tables: ``[[topics]]``."""
        listed = self.take(key, _mappings, f"tables, each headed by [[{self.name(key)}]]", [])
        return [
            Table(values, self._file, self._lines, (*self._path, key, index)) for index, values in enumerate(listed)
        ]

    def options(self, key: str) -> dict[str, Any]:
        """A table of Kafka's own settings, taken as it is; ``a.b = 1`` without quotes means "a.b" too."""
        values = self.take(key, _mapping, f"a table of settings: [{self.name(key)}]", {})
        flat: dict[str, Any] = {}
        for name, value in _flatten(values, ""):
            if isinstance(value, list | dict):
                raise self.bad(key, "plain values", value)
            flat[name] = value
        return flat

    def option_error(self, key: str, option: str, problem: str) -> DesignError:
        """``problem`` with one setting of ``options(key)``."""
        inner = Table({}, self._file, self._lines, (*self._path, key))
        spelled: Path = (*self._path, key, *option.split("."))
        if spelled in self._lines:
            return DesignError(self._file, self._lines[spelled], problem)
        return inner.error(option, problem)


def _flatten(values: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (_text(value),)
    if not isinstance(value, list) or not value:
        raise ValueError
    return tuple(_text(item) for item in value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _whole(value: object, low: int, high: int | None) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        raise ValueError
    return value


def _number(value: object, low: float, high: float | None) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    if value < low or (high is not None and value > high):
        raise ValueError
    return float(value)


def _at_least(value: int, low: int) -> int:
    if value < low:
        raise ValueError
    return value


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError
    return value


def _mappings(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise ValueError
    return [_mapping(item) for item in value]
