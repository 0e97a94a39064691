"""Put recording clients in the place of the real ones, behind every name that user code has for them.

Inputs:   a recorded client.      Effects: attributes of ``confluent_kafka`` and globals of user modules, until the end of the block.
Rule 1:   a recording client is the real one, derived; only who makes a client from now on gets it.
Rule 2:   what was swapped is put back; blocks nest, the innermost history gets the events.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import confluent_kafka

from kafkasim.sim.user_globals import put_back, swap

_NAMES = (
    "Producer",
    "Consumer",
    "SerializingProducer",
    "DeserializingConsumer",
    "ShareConsumer",
    "DeserializingShareConsumer",
)


@contextlib.contextmanager
def recording(client: Any) -> Iterator[None]:
    """Clients that are made by the names of the real package write to the history of ``client``."""
    recorded = {
        id(getattr(confluent_kafka, name)): getattr(client, name) for name in _NAMES if hasattr(confluent_kafka, name)
    }
    swapped = swap(recorded, vars(confluent_kafka))
    try:
        yield
    finally:
        put_back(swapped)
