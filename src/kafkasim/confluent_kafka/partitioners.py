"""The partitioner functions that the client offers by themselves.

Mirrors:  cimpl.murmur2, consistent, fnv1a.
Rule 1:   each gives the very partition that a producer configured so would choose: the hashes are the producer's own.
"""

from __future__ import annotations

import zlib

from kafkasim.confluent_kafka._arguments import c_positional
from kafkasim.core.client import partitioners


def _checked(partition_count: int) -> int:
    if partition_count <= 0:
        raise ValueError(f"partition_count must be > 0, got {partition_count}")
    return partition_count


@c_positional("yi", method=False)
def murmur2(key: bytes, partition_count: int) -> int:
    """Partition of ``key`` by Murmur2, as the Java client partitions."""
    return partitioners.murmur2(key) % _checked(partition_count)


@c_positional("yi", method=False)
def consistent(key: bytes, partition_count: int) -> int:
    """Partition of ``key`` by CRC-32, librdkafka's own way."""
    return zlib.crc32(key) % _checked(partition_count)


@c_positional("yi", method=False)
def fnv1a(key: bytes, partition_count: int) -> int:
    """Partition of ``key`` by FNV-1a, as some Go clients partition."""
    return partitioners.fnv1a(key) % _checked(partition_count)
