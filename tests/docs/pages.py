"""Fenced blocks of the project's pages.

A block's language says what becomes of it: ``python`` is executed, ``toml`` is parsed as a design, ``console`` lines that start with
``$ kafkasim`` are run. ``py`` and ``text`` are for reading only (sketches of interfaces, trees, output). Directives in braces belong to
the documentation site, which executes the notebooks itself when it is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
_FENCE = re.compile(r"^```(\w*|\{[\w-]+\}.*)\s*$")


@attrs.define(slots=True)
class Block:
    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    open_block: Block | None = None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = _FENCE.match(line)
        if open_block is not None:
            if fence:
                yield open_block
                open_block = None
            else:
                open_block.text += line + "\n"
        elif fence:
            open_block = Block(page, number + 1, fence.group(1), "")
    assert open_block is None, f"{page}:{open_block and open_block.line}: a block is not closed"


def blocks(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks_of(page) if block.language == language]


def commands(block: Block) -> list[str]:
    """The ``$ kafkasim`` commands of a console block; a backslash at the end of a line continues it."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ").strip() for line in lines if line.startswith("$ kafkasim ")]
