"""The generated parts of docs/fidelity.md: what modules say of themselves after ``Differs:``, and what client properties do.

python -m tests.docs.fidelity            # print what is out of date; status 1 if anything is
python -m tests.docs.fidelity --write    # bring the page up to date
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from kafkasim.core.model.client_config import MODELLED
from kafkasim.core.model.client_config_table import CLIENT_CONFIG_KEYS

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "kafkasim"
PAGE = ROOT / "docs" / "fidelity.md"

_HEADING = re.compile(r"^[A-Z][A-Za-z]*( \d+)?:")
#: Rooms in the order in which a reader meets them, with what the page calls them.
ROOMS = (
    ("confluent_kafka", "The client's interface"),
    ("core/client", "The client"),
    ("core/node", "Brokers and controllers"),
    ("core/replica", "Replication"),
    ("core/log", "Logs"),
    ("core/group", "Groups"),
    ("core/controller", "The controller"),
    ("core/quorum", "The controller quorum"),
    ("core/model", "Messages and configs"),
    ("sim", "Network, time and tasks"),
    ("views", "Metrics and explanations"),
    ("", "Around it"),
)


def differs_of(path: Path) -> str | None:
    """What a module's header says after ``Differs:``, as one line."""
    lines = (ast.get_docstring(ast.parse(path.read_text(), str(path))) or "").splitlines()
    for number, line in enumerate(lines):
        if line.startswith("Differs:"):
            said = [line.removeprefix("Differs:").strip()]
            for further in lines[number + 1 :]:
                if not further.strip() or _HEADING.match(further):
                    break
                said.append(further.strip())
            return " ".join(said).replace("``", "`")
    return None


@cache
def all_differences() -> dict[str, str]:
    """Module (a path below the package) -> what it says, by path."""
    found = {}
    for path in sorted(SRC.rglob("*.py")):
        said = differs_of(path)
        if said is not None:
            found[path.relative_to(SRC).as_posix()] = said
    return found


def differences_section() -> str:
    lines: list[str] = []
    left = dict(all_differences())
    for folder, title in ROOMS:
        chosen = [name for name in left if name.startswith(f"{folder}/" if folder else "")]
        if not chosen:
            continue
        lines += ["", f"**{title}**", ""]
        for name in chosen:
            said = left.pop(name)
            lines.append(f"- `{name.removesuffix('.py')}`: {said}")
    assert not left, left
    return "\n".join(lines).strip()


def _unmodelled() -> Iterator[str]:
    for name, key in CLIENT_CONFIG_KEYS.items():
        if key.kind not in ("alias", "invalid", "api") and name not in MODELLED:
            yield name


def properties_section() -> str:
    names = sorted(_unmodelled())
    return f"{len(names)} properties: " + ", ".join(f"`{name}`" for name in names) + "."


SECTIONS = {"differences": differences_section, "properties": properties_section}


def marks(name: str) -> tuple[str, str]:
    return f"<!-- generated: {name} -->", f"<!-- end of generated: {name} -->"


def up_to_date(page: str) -> str:
    """The page with its generated parts as they should be."""
    for name, section in SECTIONS.items():
        begin, end = marks(name)
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        assert after, f"{PAGE} has lost the marks of {name!r}"
        page = f"{before}{begin}\n{section()}\n{end}{after}"
    return page


def main() -> int:
    page = PAGE.read_text()
    wanted = up_to_date(page)
    if "--write" in sys.argv[1:]:
        PAGE.write_text(wanted)
        return 0
    if page == wanted:
        return 0
    print(f"{PAGE} is out of date: python -m tests.docs.fidelity --write")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
