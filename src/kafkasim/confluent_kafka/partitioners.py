"""The partitioner functions that the client offers by themselves.

Mirrors:  cimpl.murmur2, consistent, fnv1a (rdmurmur2.c, rdcrc32.c, rdfnv1a.c of librdkafka).
Rule 1:   deterministic, and the very partition that a producer configured so would choose.
"""

from __future__ import annotations

import zlib

from kafkasim.confluent_kafka._arguments import c_positional

_MASK = 0xFFFFFFFF
_MURMUR_M = 0x5BD1E995
_MURMUR_SEED = 0x9747B28C
_FNV_PRIME = 0x01000193
_FNV_OFFSET = 0x811C9DC5


def _checked(partition_count: int) -> int:
    if partition_count <= 0:
        raise ValueError(f"partition_count must be > 0, got {partition_count}")
    return partition_count


def murmur2_hash(key: bytes) -> int:
    """Murmur2 of 32 bits with the seed of Kafka's Java clients."""
    length = len(key)
    hashed = _MURMUR_SEED ^ length
    whole = length & ~3
    for start in range(0, whole, 4):
        word = int.from_bytes(key[start : start + 4], "little") * _MURMUR_M & _MASK
        word = (word ^ word >> 24) * _MURMUR_M & _MASK
        hashed = (hashed * _MURMUR_M & _MASK) ^ word
    if whole < length:
        hashed = (hashed ^ int.from_bytes(key[whole:], "little")) * _MURMUR_M & _MASK
    hashed = (hashed ^ hashed >> 13) * _MURMUR_M & _MASK
    return hashed ^ hashed >> 15


def fnv1a_hash(key: bytes) -> int:
    """FNV-1a of 32 bits, made positive as a signed number is."""
    hashed = _FNV_OFFSET
    for byte in key:
        hashed = (hashed ^ byte) * _FNV_PRIME & _MASK
    return 0x100000000 - hashed if hashed >= 0x80000000 else hashed


@c_positional("yi", method=False)
def murmur2(key: bytes, partition_count: int) -> int:
    """Partition of ``key`` by Murmur2, as the Java client partitions."""
    return (murmur2_hash(key) & 0x7FFFFFFF) % _checked(partition_count)


@c_positional("yi", method=False)
def consistent(key: bytes, partition_count: int) -> int:
    """Partition of ``key`` by CRC-32, librdkafka's own way."""
    return zlib.crc32(key) % _checked(partition_count)


@c_positional("yi", method=False)
def fnv1a(key: bytes, partition_count: int) -> int:
    """Partition of ``key`` by FNV-1a, as some Go clients partition."""
    return fnv1a_hash(key) % _checked(partition_count)
