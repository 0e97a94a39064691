"""From the assignment that the coordinator wants a member to have to the one that it has acknowledged.

Mirrors:  rkcg_current_assignment, rkcg_target_assignment, rkcg_next_target_assignment of rdkafka_cgrp.c (KIP-848).
Inputs:   on_assignment, take_next, begin, acknowledged, reset.      Effects: none.
Rule 1:   the coordinator names topics by id only: an assignment waits (``next``) until the metadata name each of its topics.
Rule 2:   one assignment at a time is reconciled (``target``): a newer one waits until this one is acknowledged.
Rule 3:   assignments are compared by topic id: a topic that was deleted and made anew is another one.
"""

from __future__ import annotations

from typing import TypeAlias

from kafkasim.core.client.metadata import MetadataCache
from kafkasim.core.model.consumer_group_messages import TopicPartitions
from kafkasim.core.model.ids import TopicPartition

#: What the coordinator assigns, in its order.
ById: TypeAlias = "tuple[TopicPartitions, ...]"


class Reconciliation:
    """``current`` is acknowledged, ``target`` is being taken over (None: nothing is), ``next`` has to wait."""

    __slots__ = ("_metadata", "_names", "current", "next", "target")

    def __init__(self, metadata: MetadataCache) -> None:
        self._metadata = metadata
        self._names: dict[str, str] = {}
        self.current: ById = ()
        self.target: ById | None = None
        self.next: ById | None = None

    def reset(self) -> None:
        """Out of the group: nothing is assigned."""
        self.current, self.target, self.next = (), None, None

    def on_assignment(self, assignment: ById) -> None:
        """The coordinator's answer had an assignment: it replaces one that waited, unless it is no news."""
        self.next = assignment if self.differs(assignment) else None

    def differs(self, assignment: ById) -> bool:
        """Is it another one than what is being taken over, or was?"""
        held = self.current if self.target is None else self.target
        return _as_set(assignment) != _as_set(held)

    def missing(self) -> tuple[str, ...]:
        """Ids of topics of ``next`` that nothing here names."""
        return tuple(topic.topic_id for topic in self.next or () if self._name(topic.topic_id) is None)

    def named(self) -> ById:
        """``next`` without the topics whose names are not known."""
        return tuple(topic for topic in self.next or () if self._name(topic.topic_id) is not None)

    def begin(self, assignment: ById) -> list[TopicPartition]:
        """Take ``assignment`` over from now on; its partitions by name."""
        self.target = assignment
        partitions = []
        for topic in assignment:
            name = self._name(topic.topic_id)
            assert name is not None, "reconciliation starts when the topics' names are known"
            self._names[topic.topic_id] = name
            partitions += [TopicPartition(name, number) for number in topic.partitions]
        return partitions

    def acknowledged(self) -> None:
        """The coordinator knows that ``target`` is ours."""
        assert self.target is not None
        self.current, self.target = self.target, None
        self._names = {topic.topic_id: self._names[topic.topic_id] for topic in self.current}

    def _name(self, topic_id: str) -> str | None:
        return self._metadata.name_of(topic_id) or self._names.get(topic_id)


def _as_set(assignment: ById) -> set[tuple[str, int]]:
    return {(topic.topic_id, number) for topic in assignment for number in topic.partitions}
