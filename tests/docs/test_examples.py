"""What the pages show works: their Python runs, their designs can be read, their commands end with status 0."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.docs.pages import PAGES, ROOT, Block, blocks, blocks_of, commands

from kafkasim.lab.read_design import parse_design

_KNOWN = {"python", "py", "toml", "console", "text"}
_COMMAND = "from kafkasim.cli import main; main()"


def pages_with(language: str) -> list[Path]:
    return list(dict.fromkeys(block.page for block in blocks(language)))


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", pages_with("python"), ids=page_name)
def test_python_of_a_page_runs(
    page: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The blocks of a page run in order, in one module; a test function among them gets the fixtures it names."""
    module = ModuleType(f"page_{page.stem}")  # a module of its own: ``install`` looks for imported names in sys.modules
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    namespace = module.__dict__
    for block in blocks_of(page):
        if block.language == "python":
            known = set(namespace)
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), namespace)
            for name in [name for name in namespace if name not in known and name.startswith("test_")]:
                run_test(namespace[name], request)


def run_test(function: Any, request: pytest.FixtureRequest) -> None:
    function(**{name: request.getfixturevalue(name) for name in inspect.signature(function).parameters})


@pytest.mark.parametrize("block", blocks("toml"), ids=lambda block: block.name)
def test_design_of_a_page_can_be_read(block: Block) -> None:
    """A design on a page is one that ``kafkasim run`` takes."""
    parse_design(block.text, block.name, ROOT)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, id=f"{block.name}-{command[:40]}")
        for block in blocks("console")
        for command in commands(block)
    ],
)
def test_command_of_a_page_works(command: str, tmp_path: Path) -> None:
    """A command that a page shows ends with status 0; its output is not compared."""
    for shown in ROOT.glob("examples"):
        (tmp_path / shown.name).symlink_to(shown)
    for design in blocks("toml"):
        if design.page == ROOT / "README.md":
            (tmp_path / "design.toml").write_text(design.text)
    words = shlex.split(command, comments=True)
    assert words[0] == "kafkasim"
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND, *words[1:]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        input="",
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_blocks_have_a_language(page: Path) -> None:
    """Each block says what becomes of it."""
    for block in blocks_of(page):
        assert block.language in _KNOWN or block.language.startswith("{"), (
            f"{block.name}: {block.language!r} is none of {sorted(_KNOWN)}"
        )


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link names a file that exists."""
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page_name(page)} links to {target}"
