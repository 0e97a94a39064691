"""Fault plans as TOML and JSON: written whole, read with care.

Rule 1:   reading what was written gives the same plan; what is not understood is refused by its name, and nothing is run from a file.
Rule 2:   times are texts with a unit (``"40s"``, ``"1.5ms"``) or numbers of seconds.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from kafkasim.errors import ConfigurationError
from kafkasim.sim.plan import Fault, Plan

#: Key in a file → field of a `Fault`, and how its value is read.
_TIMES = {"at": "at_s", "for": "for_s", "extra": "extra_s", "spread": "spread_s"}
_TEXTS = ("what", "target", "on", "when", "against", "plane", "api")
_FLAGS = ("one_way", "then", "tail", "partial")
_COUNTS = ("nth", "count")
_KEYS = (*_TEXTS, *_TIMES, *_FLAGS, *_COUNTS, "factor", "settings")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(-?\d+(?:\.\d+)?)\s*(us|ms|s|m|h)?")


def plan_to_json(plan: Plan) -> str:
    return json.dumps({"faults": [fault_to_values(fault) for fault in plan]}, indent=2)


def plan_to_toml(plan: Plan) -> str:
    tables = []
    for fault in plan:
        lines = [
            f'"{key}" = {_toml(value)}' if key == "for" else f"{key} = {_toml(value)}"
            for key, value in fault_to_values(fault).items()
        ]
        tables.append("\n".join(["[[faults]]", *lines]))
    return "\n\n".join(tables) + "\n" if tables else "faults = []\n"


def plan_from_json(text: str) -> Plan:
    """Raises ConfigurationError."""
    try:
        values = json.loads(text)
    except ValueError as problem:
        raise ConfigurationError(f"a fault plan that is no JSON: {problem}") from None
    return plan_from_values(values)


def plan_from_toml(text: str) -> Plan:
    """Raises ConfigurationError."""
    try:
        values = tomllib.loads(text)
    except ValueError as problem:
        raise ConfigurationError(f"a fault plan that is no TOML: {problem}") from None
    return plan_from_values(values)


def plan_from_values(values: Any) -> Plan:
    """A table with ``faults``, a list of tables. Raises ConfigurationError."""
    faults = values.get("faults") if isinstance(values, Mapping) else None
    if not isinstance(faults, list):
        raise ConfigurationError(
            'a fault plan is a table with a list of faults: [[faults]] in TOML, {"faults": [...]} in JSON'
        )
    other = [key for key in values if key != "faults"]
    if other:
        raise ConfigurationError(f"a fault plan has nothing called {other[0]!r}, only faults")
    return Plan(tuple(_fault(index, table) for index, table in enumerate(faults, start=1)))


def fault_to_values(fault: Fault) -> dict[str, Any]:
    """What differs from the defaults, in the order of the fields."""
    default = Fault("crash", at_s=0.0)
    values: dict[str, Any] = {"what": fault.what, "target": fault.target}
    if fault.at_s is not None:
        values["at"] = _seconds_text(fault.at_s)
    for key in ("on", "when"):
        if getattr(fault, key) is not None:
            values[key] = getattr(fault, key)
    for key in ("nth", "against", "one_way", "factor", "then", "plane", "api", "tail", "partial", "count"):
        if getattr(fault, key) != getattr(default, key):
            values[key] = getattr(fault, key)
    for key in ("extra", "spread"):
        if getattr(fault, _TIMES[key]):
            values[key] = _seconds_text(getattr(fault, _TIMES[key]))
    if fault.settings:
        values["settings"] = dict(fault.settings)
    if fault.for_s is not None:
        values["for"] = _seconds_text(fault.for_s)
    return values


def _fault(number: int, table: Any) -> Fault:
    where = f"fault {number}"
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{where}: expected a table, not {table!r}")
    unknown = [key for key in table if key not in _KEYS]
    if unknown:
        raise ConfigurationError(f"{where}: nothing called {unknown[0]!r}; known: {', '.join(_KEYS)}")
    if "what" not in table:
        raise ConfigurationError(f"{where}: `what` is missing")
    fields: dict[str, Any] = {}
    for key, value in table.items():
        if key in _TIMES:
            fields[_TIMES[key]] = _seconds(f"{where}: `{key}`", value)
        elif key in _TEXTS:
            fields[key] = _of(str, f"{where}: `{key}`", value, "a text")
        elif key in _COUNTS:
            fields[key] = _of(int, f"{where}: `{key}`", value, "a whole number")
        elif key == "settings":
            configs = _of(Mapping, f"{where}: `settings`", value, "a table of configs")
            fields[key] = tuple((name, _of(str, f"{where}: {name}", text, "a text")) for name, text in configs.items())
        elif key in _FLAGS:
            fields[key] = _of(bool, f"{where}: `{key}`", value, "true or false")
        else:
            fields[key] = float(_of((int, float), f"{where}: `factor`", value, "a number"))
    return Fault(**fields)


def _of(kind: type[Any] | tuple[type[Any], ...], what: str, value: Any, expected: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigurationError(f"{what} is {value!r}, expected {expected}")
    return value


def _seconds(what: str, value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    read = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if read is None:
        raise ConfigurationError(f'{what} is {value!r}, expected seconds, or a text such as "40s" or "1.5ms"')
    return float(read[1]) * _UNITS[read[2] or "s"]


def _seconds_text(seconds: float) -> float | str:
    """Milliseconds and seconds as people write them, where that loses nothing."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        text = f"{seconds / scale:g}"
        if float(text) * scale == seconds and "e" not in text and (unit == "ms" or seconds >= 1):
            return f"{text}{unit}"
    return seconds


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(key)} = {_toml(text)}" for key, text in value.items()) + " }"
    return repr(value)
