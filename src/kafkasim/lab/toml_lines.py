"""Where each key of a TOML text stands: tomllib reads values but forgets lines, and an error without a line is half an error.

Rule 1:   the text has been read by tomllib before, so it is valid here; this only walks it.
Rule 2:   a path names tables by key and entries of arrays by index: ``("groups", 2, "consumer", "fetch.min.bytes")``.
"""

from __future__ import annotations

from typing import TypeAlias

Path: TypeAlias = "tuple[str | int, ...]"

_BLANK = " \t\r\n"
_ENDS_KEY = ".=] \t"
_ENDS_SCALAR = ",]}#\n"


def lines_of(text: str) -> dict[Path, int]:
    """Line (from 1) of every table, key and array entry of ``text``."""
    return _Walk(text).run()


class _Walk:
    def __init__(self, text: str) -> None:
        self._text = text + "\n"
        self._at = 0
        self._lines: dict[Path, int] = {(): 1}
        self._counts: dict[Path, int] = {}
        self._table: Path = ()

    def run(self) -> dict[Path, int]:
        text = self._text
        while True:
            self._skip_blank()
            if self._at >= len(text):
                return self._lines
            if text[self._at] == "[":
                self._header()
            else:
                self._pair(self._table)

    def _header(self) -> None:
        line = self._line()
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        parts = self._key()
        self._at += 2 if is_array else 1
        path: Path = ()
        for part in parts[:-1]:
            path = self._newest((*path, part))
        path = (*path, parts[-1])
        if is_array:
            self._lines.setdefault(path, line)
            index = self._counts[path] = self._counts.get(path, -1) + 1
            path = (*path, index)
        self._table = path
        self._lines.setdefault(path, line)

    def _newest(self, path: Path) -> Path:
        """A table of an array of tables is meant by the array's name: its newest entry."""
        return (*path, self._counts[path]) if path in self._counts else path

    def _pair(self, table: Path) -> None:
        line = self._line()
        path = table
        for part in self._key():
            path = (*path, part)
            self._lines.setdefault(path, line)
        self._at += 1  # The equals sign.
        self._value(path)

    def _key(self) -> list[str]:
        """A dotted key, up to its "=" or "]"."""
        text = self._text
        parts = []
        while True:
            self._skip_spaces()
            if text[self._at] in "\"'":
                parts.append(self._quoted())
            else:
                start = self._at
                while text[self._at] not in _ENDS_KEY:
                    self._at += 1
                parts.append(text[start : self._at])
            self._skip_spaces()
            if text[self._at] != ".":
                return parts
            self._at += 1

    def _value(self, path: Path) -> None:
        text = self._text
        self._skip_spaces()
        char = text[self._at]
        if char in "\"'":
            self._quoted()
        elif char == "[":
            self._entries(path, "]")
        elif char == "{":
            self._entries(path, "}")
        else:
            while text[self._at] not in _ENDS_SCALAR:
                self._at += 1

    def _entries(self, path: Path, end: str) -> None:
        """The inside of an array or of an inline table."""
        self._at += 1
        index = 0
        while True:
            self._skip_blank()
            char = self._text[self._at]
            if char == end:
                self._at += 1
                return
            if char == ",":
                self._at += 1
            elif end == "}":
                self._pair(path)
            else:
                self._lines[(*path, index)] = self._line()
                self._value((*path, index))
                index += 1

    def _quoted(self) -> str:
        """A string; its raw content, escapes as they stand (a key with escapes is nobody's)."""
        text = self._text
        quote = text[self._at]
        long = quote * 3
        if text.startswith(long, self._at):
            end = self._end_of_quote(long, self._at + 3)
            content = text[self._at + 3 : end]
            end += 3
            while text[end] == quote:  # Up to two quotes may stand before the closing three.
                end += 1
        else:
            end = self._end_of_quote(quote, self._at + 1)
            content = text[self._at + 1 : end]
            end += 1
        self._at = end
        return content

    def _end_of_quote(self, quote: str, start: int) -> int:
        at = start
        while not self._text.startswith(quote, at):
            at += 2 if self._text[at] == "\\" and quote[0] == '"' else 1
        return at

    def _skip_spaces(self) -> None:
        while self._text[self._at] in " \t":
            self._at += 1

    def _skip_blank(self) -> None:
        """Over white space and comments."""
        text, size = self._text, len(self._text)
        while self._at < size:
            if text[self._at] == "#":
                self._at = text.index("\n", self._at)
            elif text[self._at] not in _BLANK:
                return
            else:
                self._at += 1

    def _line(self) -> int:
        return self._text.count("\n", 0, self._at) + 1
