"""Message headers as the application gives them: a dict, or a list of pairs.

Mirrors:  py_headers_to_c of confluent_kafka.c.
Rule 1:   a header's value is bytes or None; text is sent as UTF-8; a name is whatever str() makes of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kafkasim.core.model.records import Headers


def headers_of(given: Any) -> Headers:
    """The headers of one record."""
    if isinstance(given, list):
        pairs: Iterable[Any] = given
    elif isinstance(given, dict):
        pairs = given.items()
    else:
        raise TypeError(f"expected headers to be dict or list of (key, value) tuples, not {type(given).__name__}")
    return tuple([_header(pair) for pair in pairs])


def _header(pair: Any) -> tuple[str, bytes | None]:
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise TypeError("Headers are expected to be a list of (key, value) tuples")
    name, value = pair
    if type(value) is bytes or value is None:
        return str(name), value
    if isinstance(value, str):
        # The C code measures the text by its first NUL.
        return str(name), value.partition("\0")[0].encode()
    if isinstance(value, bytes):
        return str(name), bytes(value)
    raise TypeError(f"expected header value to be None, binary, or unicode string, not {type(value).__name__}")
