"""Which partition of ``__consumer_offsets`` keeps a group.

Mirrors:  GroupCoordinatorService.partitionFor, Utils.abs, java.lang.String.hashCode.
"""

from __future__ import annotations


def java_string_hash(text: str) -> int:
    """``String.hashCode`` of ``text``: 32-bit signed, over UTF-16 code units."""
    units = text.encode("utf-16-be")
    value = 0
    for index in range(0, len(units), 2):
        value = (31 * value + (units[index] << 8 | units[index + 1])) & 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value


def coordinator_partition(group_id: str, partition_count: int) -> int:
    value = java_string_hash(group_id)
    return (0 if value == -(1 << 31) else abs(value)) % partition_count
