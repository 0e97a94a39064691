"""Records of consumer groups: what is written is read again, in Kafka's bytes; orders of Java's hash tables."""

from __future__ import annotations

import pytest

from kafkasim.core.group.consumer_records import (
    ClassicMemberMetadata,
    ConsumerGroupRecord,
    CurrentAssignmentRecord,
    GroupEpochRecord,
    MemberRecord,
    RegexRecord,
    SubscriptionMetadataRecord,
    TargetEpochRecord,
    TargetMemberRecord,
    decode,
    encode,
)
from kafkasim.core.group.java_order import integer_set_order, string_map_order, timeline_order, uuid_bits, uuid_text
from kafkasim.core.group.records import encode_group_key
from kafkasim.core.model.group_messages import Subscription

TOPIC = "o1VByfg3XDCcO01WUhEXpg"
CLASSIC = ClassicMemberMetadata(
    6000, (("range", Subscription(("t",), rack_id="r")), ("roundrobin", Subscription(("t",))))
)
RECORDS: list[ConsumerGroupRecord] = [
    GroupEpochRecord("g", 7, -5),
    GroupEpochRecord("g", 7),
    MemberRecord("g", "m", "i", "r", "app", "/host", ("a", "b"), "x.*", 300_000, "uniform"),
    MemberRecord("g", "m", topic_regex="", classic=CLASSIC),
    TargetEpochRecord("g", 3, 1_700_000_000_000),
    TargetEpochRecord("g", 3),
    TargetMemberRecord("g", "m", {TOPIC: tuple(range(200))}),
    TargetMemberRecord("g", "m"),
    CurrentAssignmentRecord("g", "m", 4, 3, 1, {TOPIC: {0: 2, 5: 4}}, {TOPIC: {1: 2}}),
    CurrentAssignmentRecord("g", "m", -2, 3, 0),
    RegexRecord("g", "x.*", ("xa", "xb"), 12, 1_700_000_000_000),
    *(
        kind("g", *names, is_tombstone=True)
        for kind, names in (
            (GroupEpochRecord, ()),
            (MemberRecord, ("m",)),
            (TargetEpochRecord, ()),
            (TargetMemberRecord, ("m",)),
            (CurrentAssignmentRecord, ("m",)),
            (RegexRecord, ("x.*",)),
            (SubscriptionMetadataRecord, ()),
        )
    ),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_survive_the_log(record: ConsumerGroupRecord) -> None:
    """Key and value hold everything; a tombstone has no value."""
    key, value = encode(record)
    assert (value is None) is record.is_tombstone
    assert decode(key, value) == record


def test_bytes_of_records() -> None:
    """Flexible types as Kafka lays them out: version, fields, tagged fields."""
    assert encode(GroupEpochRecord("g", 2, 1)) == (
        bytes.fromhex("0003000167"),
        bytes.fromhex("0000000000020100080000000000000001"),
    )
    assert encode(TargetMemberRecord("g", "m", {TOPIC: (1, 300)})) == (
        bytes.fromhex("000700016700016d"),
        bytes.fromhex("000002") + uuid_bits(TOPIC).to_bytes(16, "big") + bytes.fromhex("03000000010000012c0000"),
    )
    assert encode(CurrentAssignmentRecord("g", "m", 2, 0, 0, {TOPIC: {3: 2}})) == (
        bytes.fromhex("000800016700016d"),
        bytes.fromhex("000000000002000000000002")
        + uuid_bits(TOPIC).to_bytes(16, "big")
        + bytes.fromhex("020000000301000502000000020100"),
    )


def test_other_records_are_none_of_these() -> None:
    """Classic groups and offsets have readers of their own."""
    assert decode(encode_group_key("g"), b"") is None


def test_ids_survive_their_bits() -> None:
    """A topic id is 128 bits in 22 digits."""
    assert uuid_text(uuid_bits(TOPIC)) == TOPIC


def test_hash_orders() -> None:
    """Small integers in order, larger ones by bucket; strings by bucket; a timeline table by its own hash."""
    assert integer_set_order((5, 1, 3)) == (1, 3, 5)
    assert integer_set_order((17, 1, 16)) == (16, 17, 1)
    assert string_map_order(["b", "a", "q"]) == ["a", "q", "b"]
    assert timeline_order(["z602fhseS2GW+6BFGpJrNw", "qGRKQnfgSHu1Cv1CyBp7aA", "utYjxoUWSAmmGnbpBC0hoQ"], 4) == [
        "utYjxoUWSAmmGnbpBC0hoQ",
        "z602fhseS2GW+6BFGpJrNw",
        "qGRKQnfgSHu1Cv1CyBp7aA",
    ]
