"""docs/fidelity.md says what the modules say of themselves; ``python -m tests.docs.fidelity --write`` brings it up to date."""

from __future__ import annotations

import pytest
from tests.docs.fidelity import PAGE, ROOT, all_differences, differs_of, up_to_date

from kafkasim.core.model.client_config import MODELLED
from kafkasim.core.model.client_config_table import CLIENT_CONFIG_KEYS

HINT = "run: python -m tests.docs.fidelity --write"


def test_the_page_is_up_to_date() -> None:
    """What is generated in the page is what would be generated now."""
    page = PAGE.read_text()
    assert page == up_to_date(page), HINT


@pytest.mark.parametrize("module", all_differences())
def test_every_difference_is_on_the_page(module: str) -> None:
    """A reader of the page learns of every deviation that a module's header admits."""
    assert all_differences()[module] in PAGE.read_text(), HINT


def test_every_property_is_modelled_or_on_the_page() -> None:
    """An accepted property that does nothing is never a surprise."""
    page = PAGE.read_text()
    for name, key in CLIENT_CONFIG_KEYS.items():
        if key.kind not in ("alias", "invalid", "api"):
            assert name in MODELLED or f"`{name}`" in page, HINT


def test_a_difference_ends_at_the_next_heading() -> None:
    """Continuation lines belong to it; the next heading of the header does not."""
    said = differs_of(ROOT / "src" / "kafkasim" / "sim" / "network.py") or ""
    assert "Rule" not in said
    assert "\n" not in said
