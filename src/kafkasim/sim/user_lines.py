"""Which line of user code an exception came out of.

Inputs:   an exception.      Effects: a line, or nothing where no user code was on the way.
Rule 1:   user code is what is neither kafkasim's, nor an installed package's, nor Python's own: the innermost such line is the one that
          somebody can change.
"""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import attrs

_OWN = str(Path(__file__).parents[1]) + os.sep
_PYTHON = str(Path(os.__file__).parent) + os.sep
_INSTALLED = f"{os.sep}site-packages{os.sep}"


@attrs.frozen
class UserLine:
    """``code`` is empty where the source is not at hand."""

    file: str
    number: int
    function: str
    code: str

    def __str__(self) -> str:
        return f"{self.place}: {self.code}" if self.code else self.place

    @property
    def place(self) -> str:
        return f"{Path(self.file).name}:{self.number} in {self.function}"


def user_line(error: BaseException) -> UserLine | None:
    """The innermost line of user code that the exception passed."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        name = frame.filename
        if name.startswith((_OWN, _PYTHON, "<frozen ")) or _INSTALLED in name:
            continue
        return UserLine(name, frame.lineno or 0, frame.name, frame.line or "")
    return None


def ended_with(task: str, error: BaseException | None) -> str:
    """How a report tells of a task that failed; what came from another process has no lines."""
    line = None if error is None else user_line(error)
    return f"task {task!r} ended with {error!r}" + ("" if line is None else f", raised at {line.place}")
