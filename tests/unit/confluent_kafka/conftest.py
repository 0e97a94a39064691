"""Fixtures of the facade's tests."""

from __future__ import annotations

import pytest
from tests.unit.confluent_kafka.fakes import FakeShell

from kafkasim.confluent_kafka import _handle
from kafkasim.core.model.client_config import ClientConfig


@pytest.fixture
def shells(monkeypatch: pytest.MonkeyPatch) -> list[FakeShell]:
    """Every client that the test makes gets a fake shell, listed here in order."""
    made: list[FakeShell] = []

    def open_shell(kind: str, config: ClientConfig) -> FakeShell:
        made.append(FakeShell(kind, config))
        return made[-1]

    monkeypatch.setattr(_handle, "open_shell", open_shell)
    return made
