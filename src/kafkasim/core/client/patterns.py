"""Patterns of a subscription: POSIX extended regular expressions, in Python's words.

Mirrors:  rd_regex_comp of librdkafka, which is regcomp() of the C library (glibc) with REG_EXTENDED.
Rule 1:   what the C library refuses is a ValueError, among it Python's own ``(?:…)`` and ``(?!…)``.
Rule 2:   a backslash before most letters means nothing: ``\\d`` is the letter d.
Rule 3:   an operator after another repeats the repetition: ``a+?`` is an optional ``a+``, not a lazy one.
Differs:  only whether a name matches is the same, not which part of it does.
"""

from __future__ import annotations

import re
import string

_MOST_REPETITIONS = 0x7FFF
_CLASSES = {
    "alpha": string.ascii_letters,
    "digit": string.digits,
    "alnum": string.ascii_letters + string.digits,
    "upper": string.ascii_uppercase,
    "lower": string.ascii_lowercase,
    "space": " \t\n\v\f\r",
    "blank": " \t",
    "punct": string.punctuation,
    "print": string.ascii_letters + string.digits + string.punctuation + " ",
    "graph": string.ascii_letters + string.digits + string.punctuation,
    "cntrl": "".join(map(chr, range(32))) + "\x7f",
    "xdigit": string.hexdigits,
}
#: A dash within a bracket that neither ends it nor begins a range.
_MISPLACED_DASH = re.compile(r"-(?!\]|-(?!\]))")
_SHORTHANDS = {"w": r"\w", "W": r"\W", "s": r"\s", "S": r"\S"}
_ANCHORS = {"b": r"\b", "B": r"\B", "<": r"\b(?=\w)", ">": r"\b(?<=\w)", "`": r"\A", "'": r"\Z"}


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """``pattern`` for ``search``; ValueError if the C library would refuse it."""
    return re.compile(_Translator(pattern).translate(), re.ASCII | re.DOTALL)


class _Translator:
    """Reads a pattern once from left to right; ``_atom`` is where the last thing that can be repeated begins in ``_out``."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._out: list[str] = []
        self._atom: int | None = None
        self._open: list[tuple[int, int]] = []  # Index in ``_out`` and number of every group that is not closed.
        self._groups = 0
        self._closed: dict[int, None] = {}

    def translate(self) -> str:
        while self._at < len(self._pattern):
            char = self._pattern[self._at]
            self._at += 1
            if char == "(":
                self._groups += 1
                self._open.append((len(self._out), self._groups))
                self._out.append("(")
                self._atom = None
            elif char == ")" and self._open:
                begin, number = self._open.pop()
                self._out.append(")")
                self._closed[number] = None
                self._atom = begin
            elif char == "|":
                self._out.append("|")
                self._atom = None
            elif char in "^$":
                self._anchor("^" if char == "^" else r"\Z")
            elif char in "*+?":
                self._repeat(char)
            elif char == "{":
                self._repeat(self._interval())
            elif char == "[":
                self._add(self._bracket())
            elif char == "\\":
                self._escape()
            else:
                self._add("." if char == "." else re.escape(char))
        if self._open:
            raise ValueError("Unmatched ( or \\(")
        return "".join(self._out)

    def _add(self, text: str) -> None:
        self._atom = len(self._out)
        self._out.append(text)

    def _anchor(self, text: str) -> None:
        self._atom = None
        self._out.append(text)

    def _repeat(self, operator: str) -> None:
        if self._atom is None:
            raise ValueError("Invalid preceding regular expression")
        repeated = "".join(self._out[self._atom :])
        del self._out[self._atom :]
        self._out.append(f"(?:{repeated}){operator}")

    def _interval(self) -> str:
        if self._atom is None:
            raise ValueError("Invalid preceding regular expression")
        match = re.compile(r"([0-9]*)(?:(,)([0-9]*))?\}").match(self._pattern, self._at)
        if match is None or not (match[1] or match[2]):
            raise ValueError("Invalid content of \\{\\}")
        self._at = match.end()
        low = int(match[1] or 0)
        high = low if match[2] is None else (int(match[3]) if match[3] else None)
        if high is not None and low > high:
            raise ValueError("Invalid content of \\{\\}")
        if max(low, high or 0) > _MOST_REPETITIONS:
            raise ValueError("Regular expression too big")
        return f"{{{low},{'' if high is None else high}}}"

    def _escape(self) -> None:
        if self._at == len(self._pattern):
            raise ValueError("Trailing backslash")
        char = self._pattern[self._at]
        self._at += 1
        if char in _ANCHORS:
            self._anchor(_ANCHORS[char])
        elif char in "123456789":
            if int(char) not in self._closed:
                raise ValueError("Invalid back reference")
            self._add(rf"(?:\{char})")
        else:
            self._add(_SHORTHANDS.get(char) or re.escape(char))

    # --- Brackets ----------------------------------------------------------------------------------------------------

    def _bracket(self) -> str:
        is_negated = self._pattern.startswith("^", self._at)
        self._at += is_negated
        members: list[str] = []
        is_first = True
        while is_first or not self._pattern.startswith("]", self._at):
            if not is_first and _MISPLACED_DASH.match(self._pattern, self._at):
                raise ValueError("Invalid range end")
            is_first = False
            low, is_class = self._member()
            if self._pattern.startswith("-", self._at) and not self._pattern.startswith("-]", self._at):
                self._at += 1
                high, is_class_too = self._member()
                if is_class or is_class_too or low > high:
                    raise ValueError("Invalid range end")
                members.append(f"{re.escape(low)}-{re.escape(high)}")
            else:
                members.append(re.escape(low))
        self._at += 1
        return f"[{'^' if is_negated else ''}{''.join(members)}]"

    def _member(self) -> tuple[str, bool]:
        """One character of a bracket, or all those of a class, and whether it is a class."""
        if self._at >= len(self._pattern):
            raise ValueError("Unmatched [, [^, [:, [., or [=")
        kind = self._pattern[self._at : self._at + 2]
        if kind not in ("[:", "[.", "[="):
            self._at += 1
            return kind[0], False
        end = self._pattern.find(kind[1] + "]", self._at + 2)
        if end < 0:
            raise ValueError("Unmatched [, [^, [:, [., or [=")
        name = self._pattern[self._at + 2 : end]
        self._at = end + 2
        if kind == "[:":
            if name not in _CLASSES:
                raise ValueError("Invalid character class name")
            return _CLASSES[name], True
        if len(name) != 1:
            raise ValueError("Invalid collation character")
        return name, kind == "[="
