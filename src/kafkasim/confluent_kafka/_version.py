"""The versions of the client whose surface this package has.

Mirrors:  cimpl.version, cimpl.libversion.
"""

from __future__ import annotations

#: confluent-kafka-python and librdkafka.
CLIENT_VERSION = "2.16.1"
LIBRARY_VERSION = ("2.16.0", 0x021000FF)


def version() -> str:
    """Version of the client whose behaviour this is."""
    return CLIENT_VERSION


def libversion() -> tuple[str, int]:
    """Version of the librdkafka whose behaviour this is, as text and number."""
    return LIBRARY_VERSION
