"""The metadata records of one recorded step against those that the simulated controller wrote meanwhile.

Each thing (a partition, a broker, a topic, the cluster) must see the same kinds of records in the same order, and a broker's
records must stand in their batch as recorded: before the ISR changes that they cause, or behind. How records of different
things interleave varies from run to run. Left out: records about cordoned directories (4.3 writes them around each
unfencing), a fence record for a broker that is fenced already (a left-over session writes it, whenever that ends), an unfence
record of the cluster's start, and records of topics that are not the trace's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kafkasim.core.model.metadata import (
    NO_LEADER_CHANGE,
    BrokerRegistrationChangeRecord,
    ClearElrRecord,
    ConfigRecord,
    MetadataBatch,
    PartitionChangeRecord,
    PartitionRecord,
    RegisterBrokerRecord,
    RemoveTopicRecord,
    TopicRecord,
    UnregisterBrokerRecord,
)

Fields = dict[str, Any]
#: (what it is about, what it says, the batch it is in)
Entry = tuple[str, str, int]

_TOPIC_RESOURCE = 2
_CHANGED_FIELDS = {
    "leader": "leader",
    "isr": "isr",
    "replicas": "replicas",
    "removing_replicas": "removingReplicas",
    "adding_replicas": "addingReplicas",
    "leader_recovery_state": "leaderRecoveryState",
    "elr": "eligibleLeaderReplicas",
    "last_known_elr": "lastKnownElr",
}


def recorded_entries(records: Iterable[Fields]) -> list[Entry]:
    """A step's records; those with the same time and consecutive offsets were one batch."""
    entries = []
    batch, previous = 0, (-1, None)
    for record in records:
        offset, time = record["offset"], record["dt_ms"]
        if (offset - 1, time) != previous:
            batch += 1
        previous = (offset, time)
        entry = _recorded(record["type"].removesuffix("_RECORD"), record.get("data", {}))
        if entry is not None:
            entries.append((*entry, batch))
    return entries


def _recorded(kind: str, data: Fields) -> tuple[str, str] | None:
    topic = data.get("topic") or data.get("name") or ""
    if kind in ("TOPIC", "REMOVE_TOPIC"):
        return f"topic {topic}", kind
    if kind == "PARTITION":
        return f"{topic}-{data['partitionId']}", kind
    if kind == "PARTITION_CHANGE":
        changed = [name for name in _CHANGED_FIELDS.values() if data.get(name) is not None]
        return f"{topic}-{data['partitionId']}", f"{kind} of {', '.join(changed)}"
    if kind == "CLEAR_ELR":
        return _owner(_TOPIC_RESOURCE if data["topicName"] else 0, data["topicName"]), kind
    if kind == "CONFIG":
        told = f"{kind} {data['name']}={data['value']}"
        return _owner(data["resourceType"], data["resourceName"]), told
    if kind in ("REGISTER_BROKER", "UNREGISTER_BROKER"):
        return f"broker {data['brokerId']}", kind
    if kind == "BROKER_REGISTRATION_CHANGE" and (data.get("fenced") or data.get("inControlledShutdown")):
        return f"broker {data['brokerId']}", _change(data.get("fenced", 0))
    return None


def own_entries(batches: Iterable[MetadataBatch], names: dict[str, str]) -> list[Entry]:
    """The simulated controller's records in the same form; ``names``: topic names by id, kept from step to step."""
    entries = []
    for number, batch in enumerate(batches):
        for record in batch.records:
            entry = _own(record, names)
            if entry is not None:
                entries.append((*entry, number))
    return entries


def _own(record: Any, names: dict[str, str]) -> tuple[str, str] | None:
    if isinstance(record, TopicRecord):
        names[record.topic_id] = record.name
        return f"topic {record.name}", "TOPIC"
    if isinstance(record, RemoveTopicRecord):
        return f"topic {names[record.topic_id]}", "REMOVE_TOPIC"
    if isinstance(record, PartitionRecord):
        return f"{names[record.topic_id]}-{record.partition}", "PARTITION"
    if isinstance(record, PartitionChangeRecord):
        unset = (None, NO_LEADER_CHANGE)
        changed = [name for field, name in _CHANGED_FIELDS.items() if getattr(record, field) not in unset]
        return f"{names[record.topic_id]}-{record.partition}", f"PARTITION_CHANGE of {', '.join(changed)}"
    if isinstance(record, ClearElrRecord):
        return _owner(_TOPIC_RESOURCE if record.topic_name else 0, record.topic_name), "CLEAR_ELR"
    if isinstance(record, ConfigRecord):
        return _owner(record.resource_type, record.resource_name), f"CONFIG {record.name}={record.value}"
    if isinstance(record, RegisterBrokerRecord):
        return f"broker {record.broker_id}", "REGISTER_BROKER"
    if isinstance(record, UnregisterBrokerRecord):
        return f"broker {record.broker_id}", "UNREGISTER_BROKER"
    if isinstance(record, BrokerRegistrationChangeRecord) and (record.fenced or record.in_controlled_shutdown):
        return f"broker {record.broker_id}", _change(record.fenced)
    return None


def _owner(resource_type: int, name: str) -> str:
    return f"topic {name}" if resource_type == _TOPIC_RESOURCE else "the cluster"


def _change(fenced: int) -> str:
    return {1: "FENCE", -1: "UNFENCE"}.get(fenced, "CONTROLLED_SHUTDOWN")


def differences(recorded: list[Entry], own: list[Entry], topics: set[str], fenced: set[str]) -> list[str]:
    """``fenced``: the brokers (as entries name them) that were fenced before the step."""
    wanted, found = _by_subject(recorded, topics, fenced), _by_subject(own, topics, fenced)
    return [
        f"records of {subject}: {wanted.get(subject, [])}, got {found.get(subject, [])}"
        for subject in dict.fromkeys([*wanted, *found])
        if wanted.get(subject, []) != found.get(subject, [])
    ]


def _by_subject(entries: list[Entry], topics: set[str], fenced: set[str]) -> dict[str, list[str]]:
    fenced = set(fenced)
    told: dict[str, list[str]] = {}
    for index, (subject, text, batch) in enumerate(entries):
        if not subject.startswith("broker ") and _topic_of(subject) not in topics:
            continue
        if (text == "FENCE" and subject in fenced) or (text == "UNFENCE" and subject not in fenced):
            continue
        if text in ("FENCE", "REGISTER_BROKER"):
            fenced.add(subject)
        elif text == "UNFENCE":
            fenced.discard(subject)
        if subject.startswith("broker "):
            text += _place(entries, index, batch, topics)
        told.setdefault(subject, []).append(text)
    return told


def _place(entries: list[Entry], index: int, batch: int, topics: set[str]) -> str:
    """Where the ISR changes of the same batch stand."""

    def changes(some: list[Entry]) -> bool:
        return any(
            other == batch and text.startswith("PARTITION_CHANGE") and _topic_of(subject) in topics
            for subject, text, other in some
        )

    before = " after changes" if changes(entries[:index]) else ""
    return before + (" before changes" if changes(entries[index + 1 :]) else "")


def _topic_of(subject: str) -> str:
    if subject == "the cluster":
        return ""
    return subject.removeprefix("topic ") if subject.startswith("topic ") else subject.rpartition("-")[0]
