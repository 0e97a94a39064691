"""Put recording clients in the place of the real ones, behind every name that user code has for them.

Inputs:   a recorded client.      Effects: attributes of ``confluent_kafka`` and globals of user modules, until the end of the block.
Rule 1:   a recording client is the real one, derived; only who makes a client from now on gets it.
Rule 2:   what was swapped is put back; blocks nest, the innermost history gets the events.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import confluent_kafka

_NAMES = (
    "Producer",
    "Consumer",
    "SerializingProducer",
    "DeserializingConsumer",
    "ShareConsumer",
    "DeserializingShareConsumer",
)
_NO_USERS = frozenset({*sys.stdlib_module_names, "kafkasim", "confluent_kafka"}) - {"__main__"}


@contextlib.contextmanager
def recording(client: Any) -> Iterator[None]:
    """Clients that are made by the names of the real package write to the history of ``client``."""
    swapped: list[tuple[dict[str, Any], str, Any]] = []
    recorded = {
        id(getattr(confluent_kafka, name)): getattr(client, name) for name in _NAMES if hasattr(confluent_kafka, name)
    }
    for names in (vars(confluent_kafka), *_user_globals()):
        if recorded.keys().isdisjoint(map(id, names.values())):
            continue
        for name, value in list(names.items()):
            if id(value) in recorded:
                swapped.append((names, name, value))
                names[name] = recorded[id(value)]
    try:
        yield
    finally:
        for names, name, value in swapped:
            names[name] = value


def _user_globals() -> Iterator[dict[str, Any]]:
    for name, module in list(sys.modules.items()):
        names = getattr(module, "__dict__", None)
        if isinstance(names, dict) and name.partition(".")[0] not in _NO_USERS:
            yield names
