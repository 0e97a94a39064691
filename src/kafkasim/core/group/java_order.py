"""In which order a broker walks its hash tables: the assignors of the server hand out partitions in that order.

Mirrors:  java.util.HashMap, java.util.HashSet, org.apache.kafka.timeline.BaseHashTable; String, Uuid and Integer.hashCode.
Rule 1:   a HashMap is walked bucket by bucket; inside a bucket the key that came first is first.
Rule 2:   a timeline table is walked slot by slot; inside a slot the key that came last is first. It never shrinks.
Differs:  a HashMap turns a bucket of eight and more colliding keys into a tree once it has 64 buckets; here it stays a list.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from functools import lru_cache

from kafkasim.core.group.partitioning import java_string_hash

#: 2^64 over the golden ratio, as the signed constant of Knuth's multiplicative hashing.
_FIBONACCI = 0x9E3779B97F4A7C15
_LONG = (1 << 64) - 1
_INT = (1 << 32) - 1

string_hash = lru_cache(maxsize=1 << 16)(java_string_hash)


@lru_cache(maxsize=1 << 14)
def uuid_bits(uuid: str) -> int:
    """The 128 bits of an id in Kafka's base64 form."""
    return int.from_bytes(base64.urlsafe_b64decode(uuid + "=="), "big")


def uuid_text(bits: int) -> str:
    return base64.urlsafe_b64encode(bits.to_bytes(16, "big")).decode().rstrip("=")


@lru_cache(maxsize=1 << 14)
def uuid_hash(uuid: str) -> int:
    bits = uuid_bits(uuid)
    mixed = (bits >> 64) ^ (bits & _LONG)
    return (mixed >> 32) ^ (mixed & _INT)


@lru_cache(maxsize=1 << 14)
def uuid_order(uuid: str) -> tuple[int, int]:
    """Uuid.compareTo: two signed longs."""
    bits = uuid_bits(uuid)
    high, low = bits >> 64, bits & _LONG
    return (high - (1 << 64) if high >> 63 else high), (low - (1 << 64) if low >> 63 else low)


def spread(hash_code: int) -> int:
    """What a HashMap makes of a hash code before it looks for the bucket."""
    unsigned = hash_code & _INT
    return unsigned ^ (unsigned >> 16)


def grown(count: int, size: int = 16) -> int:
    """Buckets of a table that began with ``size`` and took in ``count`` keys."""
    while count > size * 3 // 4:
        size *= 2
    return size


def _power_of_two(number: int) -> int:
    return 1 << max(number - 1, 0).bit_length()


def _copied(count: int) -> int:
    """Buckets of ``new HashSet<>(collection)``."""
    return grown(count, _power_of_two(max(int(count / 0.75) + 1, 16)))


def string_map_order(keys: Iterable[str], most: int = 0) -> list[str]:
    """Keys of a HashMap<String, ?> that took them in in this order, and at its fullest held ``most`` of them."""
    ordered = list(keys)
    mask = grown(max(len(ordered), most)) - 1
    return sorted(ordered, key=lambda key: spread(string_hash(key)) & mask)


def string_set_order(keys: Sequence[str]) -> list[str]:
    """Elements of ``new HashSet<>(keys)``."""
    mask = _copied(len(keys)) - 1
    return sorted(keys, key=lambda key: spread(string_hash(key)) & mask)


def uuid_map_order(keys: Iterable[str]) -> list[str]:
    """Keys of a HashMap<Uuid, ?> that grew as it took them in."""
    ordered = list(keys)
    if len(ordered) < 2:
        return ordered
    mask = grown(len(ordered)) - 1
    return sorted(ordered, key=lambda key: spread(uuid_hash(key)) & mask)


def uuid_set_order(keys: Sequence[str], announced: int) -> list[str]:
    """Elements of ``new HashSet<>(keys)`` whose collection says it has ``announced`` elements."""
    mask = grown(len(keys), _copied(announced)) - 1
    return sorted(keys, key=lambda key: spread(uuid_hash(key)) & mask)


def integer_set_order(numbers: Sequence[int], copied_from: int | None = None) -> tuple[int, ...]:
    """Elements of ``new HashSet<>(numbers)``; or of a copy of ``copied_from`` elements that changed to these since."""
    size = _copied(len(numbers)) if copied_from is None else grown(len(numbers), _copied(copied_from))
    if not numbers or max(numbers) < size:
        return tuple(sorted(numbers))
    return tuple(sorted(numbers, key=lambda number: spread(number) & (size - 1)))


def timeline_order(keys: Sequence[str], size: int) -> list[str]:
    """Keys of a TimelineHashMap<String, ?> with ``size`` slots, given in order of arrival."""
    shift = 65 - size.bit_length()

    def slot(key: str) -> int:
        return (string_hash(key) * _FIBONACCI & _LONG) >> shift

    latest_first = list(reversed(keys))
    latest_first.sort(key=slot)
    return latest_first
