"""Which partition a key belongs to, and where a record without a key goes.

Mirrors:  rdmurmur2.c, rdfnv1a.c, rdcrc32.c and the partitioners and sticky partitioning of rdkafka_msg.c.
Rule 1:   hashes are of the key's bytes and agree with librdkafka's for every key (tests/golden/partitioner.json).
Rule 2:   the sticky partition changes by time, as in librdkafka, not by batch as in Java.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias
from zlib import crc32

from kafkasim.core.model.ids import Draw

KeyHash: TypeAlias = Callable[[bytes], int]

#: Keys whose hash is remembered; past that many the memory starts afresh.
_CACHED_KEYS = 1 << 16
_MASK = 0xFFFFFFFF
_MURMUR_SEED = 0x9747B28C
_MURMUR_M = 0x5BD1E995


def murmur2(data: bytes) -> int:
    """Java's murmur2 made positive, as its default partitioner uses it."""
    length = len(data)
    state = _MURMUR_SEED ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * _MURMUR_M & _MASK
        word = (word ^ (word >> 24)) * _MURMUR_M & _MASK
        state = (state * _MURMUR_M & _MASK) ^ word
    if length > whole:
        state = (state ^ int.from_bytes(data[whole:], "little")) * _MURMUR_M & _MASK
    state = (state ^ (state >> 13)) * _MURMUR_M & _MASK
    return (state ^ (state >> 15)) & 0x7FFFFFFF


def fnv1a(data: bytes) -> int:
    """32-bit FNV-1a, taken as a signed number without its sign."""
    state = 0x811C9DC5
    for byte in data:
        state = (state ^ byte) * 0x01000193 & _MASK
    return state if state < 0x80000000 else 0x100000000 - state


def cached(function: KeyHash) -> KeyHash:
    """``function`` with a bounded memory: hashing in Python costs a microsecond and keys repeat."""
    memory: dict[bytes, int] = {}

    def remembered(key: bytes) -> int:
        found = memory.get(key)
        if found is None:
            if len(memory) >= _CACHED_KEYS:
                memory.clear()
            found = memory[key] = function(key)
        return found

    return remembered


class Partitioner:
    """The ``partitioner`` property: what to do with a key, with an empty one and with none."""

    __slots__ = ("hashes_empty", "hashes_null", "key_hash")

    def __init__(self, name: str) -> None:
        #: None: keys do not matter.
        self.key_hash: KeyHash | None = None
        if name.startswith("consistent"):
            self.key_hash = crc32
        elif name.startswith("murmur2"):
            self.key_hash = cached(murmur2)
        elif name.startswith("fnv1a"):
            self.key_hash = cached(fnv1a)
        #: The plain forms hash a null key like an empty one; the ``_random`` forms do not.
        self.hashes_null = name in ("consistent", "murmur2", "fnv1a")
        self.hashes_empty = self.key_hash is not None and name != "consistent_random"

    def of_key(self, key: bytes | None, count: int) -> int:
        """Partition of ``key`` among ``count``; -1 if it has to be sticky or random."""
        if self.key_hash is None or (key is None and not self.hashes_null) or (key == b"" and not self.hashes_empty):
            return -1
        return self.key_hash(key or b"") % count


def draw_partition(draw: Draw, count: int, is_available: Callable[[int], bool]) -> int:
    """A random partition; one that cannot be reached is drawn once more (and may be one again)."""
    partition = draw("partitioner", count)
    if not is_available(partition):
        partition = draw("partitioner", count)
    return partition
