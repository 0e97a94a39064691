"""docs/invariants.md says what the registry lists, and the registry lists what the oracles report."""

from __future__ import annotations

import re

from tests.docs.invariants import PAGE, ROOT, page

from kafkasim.check.invariants import INVARIANTS

CHECK = ROOT / "src" / "kafkasim" / "check"
#: The name of an invariant, where an oracle tells of a breach or of a number.
_TOLD = re.compile(
    r'(?:\badd|\ballow|\btell|_tell|_add|_Told|measure)\(\s*(?:report, )?f?"([a-z0-9]+(?:-[a-z0-9]+)*)[":]'
)
_CHOSEN = re.compile(r'"([a-z]+(?:-[a-z]+)+)"')


def test_the_page_is_up_to_date() -> None:
    """What is generated is what would be generated now."""
    assert PAGE.read_text() == page(), "run: python -m tests.docs.invariants --write"


def test_oracles_report_nothing_that_is_not_listed() -> None:
    """Every name that a report is given stands in the registry."""
    listed = {invariant.name for invariant in INVARIANTS}
    for path in CHECK.glob("*.py"):
        assert set(_TOLD.findall(path.read_text())) <= listed, path.name


def test_what_is_listed_is_reported() -> None:
    """No invariant is on the page that its module never tells of."""
    for invariant in INVARIANTS:
        text = (CHECK / f"{invariant.module}.py").read_text()
        assert invariant.name in {*_TOLD.findall(text), *_CHOSEN.findall(text)}, invariant.name
