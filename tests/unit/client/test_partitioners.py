"""Partitioners against every recorded row of librdkafka's."""

from __future__ import annotations

import json
from pathlib import Path

from kafkasim.core.client.partitioners import Partitioner, cached, draw_partition, murmur2

_ROWS = json.loads((Path(__file__).parents[2] / "golden" / "partitioner.json").read_text())["rows"]


def test_every_recorded_row() -> None:
    """Each partitioner puts each recorded key where librdkafka put it."""
    partitioners = {name: Partitioner(name) for name in {row["partitioner"] for row in _ROWS}}
    wrong = []
    for row in _ROWS:
        key = None if row["key"] is None else bytes.fromhex(row["key"])
        if partitioners[row["partitioner"]].of_key(key, row["partitions"]) != row["partition"]:
            wrong.append(row)
    assert wrong == []
    assert len(_ROWS) > 900


def test_keys_that_do_not_decide() -> None:
    """Null keys are sticky for the ``_random`` forms, empty ones for consistent_random and random."""
    undecided = {
        (name, key)
        for name in ("consistent_random", "murmur2_random", "fnv1a_random", "random", "consistent")
        for key in (None, b"", b"k")
        if Partitioner(name).of_key(key, 12) == -1
    }
    names = ("consistent_random", "murmur2_random", "fnv1a_random", "random")
    expected = {(name, None) for name in names} | {("consistent_random", b""), ("random", b""), ("random", b"k")}
    assert undecided == expected


def test_a_cached_hash_is_the_hash() -> None:
    """The memory changes nothing."""
    remembered = cached(murmur2)
    assert [remembered(b"a"), remembered(b"a"), remembered(b"b")] == [murmur2(b"a"), murmur2(b"a"), murmur2(b"b")]


def test_an_unavailable_partition_is_drawn_once_more() -> None:
    """The second draw counts whatever it is."""
    draws = iter([3, 5])
    assert draw_partition(lambda _label, _bound: next(draws), 8, lambda partition: False) == 5
