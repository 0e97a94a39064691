"""Regular expressions on the server: RE2's syntax in Python's words.

Mirrors:  com.google.re2j.Pattern as TopicRegexResolver uses it (``matches``: the whole name).
Rule 1:   what RE2 has not is refused: look-around, back references, possessive and nested repetitions.
Rule 2:   topic names are ASCII, so Unicode classes stand for what of them is ASCII.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_MOST_REPETITIONS = 1000
_LOWER, _UPPER, _DIGITS = "a-z", "A-Z", "0-9"
_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7F",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1F\x7F",
    "digit": _DIGITS,
    "graph": "!-~",
    "lower": _LOWER,
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": _UPPER,
    "word": r"0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_UNICODE = {
    "L": "A-Za-z",
    "Lu": _UPPER,
    "Ll": _LOWER,
    "Latin": "A-Za-z",
    "N": _DIGITS,
    "Nd": _DIGITS,
    "P": r"\-._",
    "Pc": "_",
    "Pd": r"\-",
    "Po": ".",
    "Any": r"\x00-\x7F",
}
#: Classes that RE2 knows and no character of a topic name is in.
_UNICODE_FOREIGN = (
    "Lm Lo Lt M Mc Me Mn Nl No Pe Pf Pi Ps S Sc Sk Sm So Z Zl Zp Zs C Cc Cf Co Cs Greek Cyrillic Han Hebrew Arabic"
)
_ESCAPES = {"a": r"\x07", "f": r"\f", "t": r"\t", "n": r"\n", "r": r"\r", "v": r"\v"}
_PERL = {"d": r"0-9", "s": r"\t\n\f\r ", "w": r"0-9A-Za-z_"}
_ASSERTIONS = {"A": r"\A", "z": r"\Z", "b": r"\b", "B": r"\B"}


class InvalidRegex(ValueError):
    """The text says why, as RE2 does."""


@lru_cache(maxsize=1024)
def compile_regex(pattern: str) -> re.Pattern[str]:
    """``pattern`` for ``fullmatch``; InvalidRegex if RE2 would refuse it."""
    try:
        return re.compile(_Translator(pattern).translate(), re.ASCII)
    except re.error as problem:
        raise InvalidRegex(str(problem)) from None


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that ``pattern`` matches as a whole, in their order."""
    compiled = compile_regex(pattern)
    return [name for name in names if compiled.fullmatch(name)]


class _Translator:
    """Reads a pattern once, left to right. ``_flags``: for each open group, what flags were set in it so far, as groups within."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._out: list[str] = []
        self._flags: list[list[str]] = [[]]
        #: 0: nothing to repeat here; 1: an atom; 2: a repetition.
        self._repeatable = 0

    def translate(self) -> str:
        while self._at < len(self._pattern):
            char = self._take()
            if char == "(":
                self._group()
            elif char == ")":
                if len(self._flags) == 1:
                    raise InvalidRegex(f"unexpected ): `{self._pattern}`")
                self._emit(")" * (1 + len(self._flags.pop())), 1)
            elif char == "[":
                self._emit(self._bracket(), 1)
            elif char == "\\":
                self._escape()
            elif char in "*+?":
                self._repeat(char)
            elif char == "{":
                self._braces()
            elif char == "|":  # flags hold in the other branches, too
                flags = self._flags[-1]
                self._emit(")" * len(flags) + "|" + "".join(flags), 0)
            elif char in "^$":
                self._emit(char if char == "^" else r"(?:\Z)", 1)
            else:
                self._emit(char if char == "." else re.escape(char), 1)
        if len(self._flags) > 1:
            raise InvalidRegex(f"missing closing ): `{self._pattern}`")
        return "".join(self._out) + ")" * len(self._flags[0])

    def _take(self) -> str:
        if self._at >= len(self._pattern):
            raise InvalidRegex(f"trailing backslash at end of expression: `{self._pattern}`")
        self._at += 1
        return self._pattern[self._at - 1]

    def _emit(self, text: str, repeatable: int) -> None:
        self._out.append(text)
        self._repeatable = repeatable

    def _rest(self) -> str:
        return self._pattern[self._at :]

    # --- groups ----------------------------------------------------------------------------------------------------

    def _group(self) -> None:
        self._flags.append([])
        rest = self._rest()
        if not rest.startswith("?"):
            self._emit("(", 0)
            return
        named = re.match(r"\?P?<([A-Za-z0-9_]+)>", rest)
        if named:
            self._at += named.end()
            self._emit(f"(?P<{named.group(1)}>", 0)
            return
        flags = re.match(r"\?([imsU]*)(?:-([imsU]+))?([:)])", rest)
        if not flags or flags.group() == "?)":
            raise InvalidRegex(f"invalid or unsupported Perl syntax: `({rest[:2]}`")
        self._at += flags.end()
        on, off = (set(flags.group(1)) - {"U"}), (set(flags.group(2) or "") - {"U"})
        opened = f"(?{''.join(sorted(on))}{'-' + ''.join(sorted(off)) if off else ''}:"
        self._emit(opened, 0)
        if flags.group(3) == ")":  # they hold up to the end of the group around them
            self._flags.pop()
            self._flags[-1].append(opened)

    # --- repetitions -----------------------------------------------------------------------------------------------

    def _repeat(self, operator: str) -> None:
        if self._repeatable == 0:
            raise InvalidRegex(f"missing argument to repetition operator: `{operator}`")
        if self._repeatable == 2:
            raise InvalidRegex(f"invalid nested repetition operator: `{operator}`")
        if self._rest().startswith("?"):
            self._at += 1
        self._emit(operator, 2)

    def _braces(self) -> None:
        found = re.match(r"(\d+)(,(\d*))?\}", self._rest())
        if not found:
            self._emit(r"\{", 1)  # RE2 takes a lone brace as itself
            return
        low, high = int(found.group(1)), int(found.group(3) or found.group(1))
        if max(low, high) > _MOST_REPETITIONS or high < low:
            raise InvalidRegex(f"invalid repeat count: `{{{found.group()}`")
        self._at += found.end()
        self._repeat("{" + found.group())

    # --- escapes and classes ---------------------------------------------------------------------------------------

    def _escape(self) -> None:
        char = self._take()
        if char in _ASSERTIONS:
            self._emit(_ASSERTIONS[char], 1)
        elif char == "Q":
            text, _, rest = self._rest().partition("\\E")
            self._at = len(self._pattern) - len(rest)
            self._emit("".join(map(re.escape, text)), 1 if text else self._repeatable)
        elif char == "C":
            self._emit(r"[\s\S]", 1)
        else:
            self._at -= 1
            inside, negated = self._class_escape()
            self._emit(f"[{'^' if negated else ''}{inside}]" if inside or negated else r"(?!)", 1)

    def _class_escape(self) -> tuple[str, bool]:
        """What an escape stands for within brackets, and whether for all but that."""
        char = self._take()
        if char.lower() in _PERL:
            return _PERL[char.lower()], char.isupper()
        if char in "pP":
            return self._unicode(char == "P")
        if char in _ESCAPES:
            return _ESCAPES[char], False
        if char == "x":
            found = re.match(r"([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]{1,6})\}", self._rest())
            if found:
                self._at += found.end()
                return re.escape(chr(int(found.group(1) or found.group(2), 16))), False
        if char.isalnum() or char == "x":
            raise InvalidRegex(f"invalid escape sequence: `\\{char}`")
        return re.escape(char), False

    def _unicode(self, negated: bool) -> tuple[str, bool]:
        found = re.match(r"\{(\^?)([A-Za-z_]+)\}|()([A-Za-z])", self._rest())
        name = "" if found is None else found.group(2) or found.group(4)
        if found is None or (name not in _UNICODE and name not in _UNICODE_FOREIGN.split()):
            raise InvalidRegex(f"invalid character class range: `\\p{name}`")
        self._at += found.end()
        return _UNICODE.get(name, ""), negated != (found.group(1) == "^")

    def _bracket(self) -> str:
        """A class in brackets, as a set of alternatives: a negated part within it needs one of its own."""
        start = self._at
        outer = self._rest().startswith("^")
        self._at += outer
        parts: list[str] = []
        others: list[str] = []
        first = True
        while first or not self._rest().startswith("]"):
            if self._at >= len(self._pattern):
                raise InvalidRegex(f"missing closing ]: `{self._pattern[start - 1 :]}`")
            first = False
            inside, negated = self._bracket_item()
            (others if negated else parts).append(inside)
        self._at += 1
        choices = [f"[{''.join(parts)}]"] if "".join(parts) else []
        choices += [f"[^{inside}]" if inside else r"[\s\S]" for inside in others]
        positive = "|".join(choices) or r"(?!)"
        return rf"(?!{positive})[\s\S]" if outer else f"(?:{positive})"

    def _bracket_item(self) -> tuple[str, bool]:
        posix = re.match(r"\[:(\^?)([a-z]+):\]", self._rest())
        if posix:
            if posix.group(2) not in _POSIX:
                raise InvalidRegex(f"invalid character class range: `{posix.group()}`")
            self._at += posix.end()
            return _POSIX[posix.group(2)], posix.group(1) == "^"
        low, negated, single = self._bracket_char()
        rest = self._rest()
        if not single or not rest.startswith("-") or rest.startswith("-]") or len(rest) < 2:
            return low, negated
        self._at += 1
        high, _, high_single = self._bracket_char()
        if not high_single or _char(high) < _char(low):
            raise InvalidRegex(f"invalid character class range: `{low}-{high}`")
        return f"{low}-{high}", False

    def _bracket_char(self) -> tuple[str, bool, bool]:
        char = self._take()
        if char != "\\":
            return re.escape(char), False, True
        kind = self._rest()[:1]
        inside, negated = self._class_escape()
        return inside, negated, kind.lower() not in _PERL and kind not in "pP"


def _char(escaped: str) -> int:
    text: str = escaped.encode().decode("unicode_escape") if escaped.startswith("\\x") else escaped
    return ord(text[-1])
