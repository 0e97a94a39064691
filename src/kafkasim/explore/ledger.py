"""The ledger of a campaign: a file of JSON lines to which outcomes are added as they arrive, and from which it goes on later.

Inputs:   outcomes.      Effects: one line each, written whole and at once.
Rule 1:   the first line says which campaign it is; another campaign does not continue it.
Rule 2:   a last line that was cut off (the machine went down) is left out; what else is no outcome is an error with its line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kafkasim.errors import ConfigurationError
from kafkasim.explore.jobs import Outcome

_FORMAT = "kafkasim campaign"
FORMAT_NUMBER = 1


class Ledger:
    """Opens a file, reads what is there, and adds to it. Use it in a ``with`` statement."""

    def __init__(self, path: str | Path, head: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.known: dict[int, Outcome] = {}
        whole = {_FORMAT: FORMAT_NUMBER, **head}
        is_new = not self.path.exists() or self.path.stat().st_size == 0
        if not is_new:
            self._read(whole)
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as problem:
            raise ConfigurationError(f"{self.path}: {problem.strerror}") from None
        if is_new:
            self._line(whole)
        elif not self.path.read_bytes().endswith(b"\n"):
            os.write(self._file, b"\n")  # What was cut off stays alone on its line.

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def add(self, outcome: Outcome) -> None:
        self._line(outcome.to_values())

    def _line(self, values: Mapping[str, Any]) -> None:
        os.write(self._file, (json.dumps(values, ensure_ascii=False, separators=(",", ":")) + "\n").encode())

    def _read(self, head: Mapping[str, Any]) -> None:
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as problem:
            raise ConfigurationError(f"{self.path}: {problem}") from None
        _check_head(self.path, _values(self.path, 1, lines[0]), head)
        for number, line in enumerate(lines[1:], 2):
            if not line:
                continue
            try:
                outcome = Outcome.from_values(json.loads(line))
            except ValueError:
                continue  # Cut off.
            except ConfigurationError as problem:
                raise ConfigurationError(f"{self.path}, line {number}: {problem}") from None
            self.known.setdefault(outcome.number, outcome)


def _values(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        raise ConfigurationError(f"{path}, line {number}: no JSON, so no results of a campaign") from None


def _check_head(path: Path, found: Any, wanted: Mapping[str, Any]) -> None:
    if not isinstance(found, Mapping) or _FORMAT not in found:
        raise ConfigurationError(f"{path}: the first line is not that of a campaign; name another file for the results")
    for key, value in wanted.items():
        if found.get(key) != value:
            raise ConfigurationError(
                f"{path} holds a campaign with {key} {found.get(key)!r}, this one has {value!r}; name another file for the results"
            )
