"""Tapes as text: small enough to travel in a JSON file, and nothing that is read from one can run.

Inputs:   a tape, or what was made of one.      Effects: plain values; ConfigurationError for anything that is no tape.
Rule 1:   reading what was written gives the same tape.
Rule 2:   labels stand once; a draw is its label's number, its bound where that differs from the label's last one, and its value, as
          integers of seven bits a byte, deflated.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kafkasim.errors import ConfigurationError
from kafkasim.sim.choices import Choice, Tape

#: A file that claims to hold more than this when unpacked is refused.
_MOST_BYTES = 256 << 20
_MOST_BITS = 4096


def tape_to_values(tape: Iterable[Choice]) -> dict[str, Any]:
    """``{"draws": how many, "labels": [...], "packed": text}``."""
    numbers: dict[str, int] = {}
    bounds: dict[str, int] = {}
    packed = bytearray()
    draws = 0
    for label, _use, bound, value in tape:
        number = numbers.setdefault(label, len(numbers))
        is_new = bounds.get(label) != bound
        _write(packed, number << 1 | is_new)
        if is_new:
            bounds[label] = bound
            _write(packed, bound)
        _write(packed, value)
        draws += 1
    text = base64.b64encode(zlib.compress(bytes(packed), 9)).decode("ascii")
    return {"draws": draws, "labels": list(numbers), "packed": text}


def tape_from_values(values: Any) -> Tape:
    """Raises ConfigurationError."""
    if not isinstance(values, Mapping) or not isinstance(values.get("packed"), str):
        raise ConfigurationError('a tape is a table of "draws", "labels" and "packed"')
    labels = values.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ConfigurationError('the "labels" of a tape are a list of texts')
    try:
        unpacker = zlib.decompressobj()
        packed = unpacker.decompress(base64.b64decode(values["packed"], validate=True), _MOST_BYTES)
    except (binascii.Error, ValueError, zlib.error) as problem:
        raise ConfigurationError(f"the tape cannot be unpacked: {problem}") from None
    if not unpacker.eof:
        raise ConfigurationError(f"the tape is cut off, or longer than {_MOST_BYTES >> 20} MB")
    tape = list(_entries(packed, labels))
    if len(tape) != values.get("draws"):
        raise ConfigurationError(f"the tape holds {len(tape)} draws, and says that it has {values.get('draws')!r}")
    return tape


def _entries(packed: bytes, labels: list[str]) -> Iterator[Choice]:
    uses = [0] * len(labels)
    bounds = [0] * len(labels)
    numbers = _read_all(packed)
    for head in numbers:
        number = head >> 1
        if number >= len(labels):
            raise ConfigurationError(f"the tape uses label {number} of {len(labels)}")
        if head & 1:
            bounds[number] = _next(numbers)
        value = _next(numbers)
        if value >= bounds[number]:
            raise ConfigurationError(f"the tape draws {value} below {bounds[number]} for {labels[number]!r}")
        uses[number] += 1
        yield Choice(labels[number], uses[number], bounds[number], value)


def _next(numbers: Iterator[int]) -> int:
    try:
        return next(numbers)
    except StopIteration:
        raise ConfigurationError("the tape ends in the middle of a draw") from None


def _write(packed: bytearray, number: int) -> None:
    while number > 0x7F:
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    packed.append(number)


def _read_all(packed: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in packed:
        number |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
            if shift > _MOST_BITS:
                raise ConfigurationError("the tape holds a number that no draw has")
        else:
            yield number
            number = shift = 0
    if shift:
        raise ConfigurationError("the tape ends in the middle of a number")
