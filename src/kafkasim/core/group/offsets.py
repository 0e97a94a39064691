"""Committed offsets of the groups of one ``__consumer_offsets`` partition.

Mirrors:  org.apache.kafka.coordinator.group.OffsetMetadataManager.
Rule 1:   ``replay`` is the only way in: an offset counts once its record is committed, and after a fail-over by reading the log.
Rule 2:   the log is never asked whether an offset exists in the topic; commits beyond the end are accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kafkasim.core.model.group_messages import OffsetAndMetadata
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.message import slotted


@slotted
class CommittedOffset:
    value: OffsetAndMetadata
    commit_timestamp_ms: int


class OffsetStore:
    """group -> partition -> committed offset, in order of first commit."""

    __slots__ = ("_groups",)

    def __init__(self) -> None:
        self._groups: dict[str, dict[TopicPartition, CommittedOffset]] = {}

    def __contains__(self, group_id: str) -> bool:
        return bool(self._groups.get(group_id))

    def __bool__(self) -> bool:
        return bool(self._groups)

    def groups(self) -> list[str]:
        return list(self._groups)

    def get(self, group_id: str, tp: TopicPartition) -> OffsetAndMetadata | None:
        found = self._groups.get(group_id, {}).get(tp)
        return None if found is None else found.value

    def of_group(self, group_id: str) -> dict[TopicPartition, CommittedOffset]:
        return self._groups.get(group_id, {})

    def replay(self, group_id: str, tp: TopicPartition, committed: CommittedOffset | None) -> None:
        """Take in one record; None is a tombstone."""
        if committed is not None:
            self._groups.setdefault(group_id, {})[tp] = committed
            return
        offsets = self._groups.get(group_id)
        if offsets is not None:
            offsets.pop(tp, None)
            if not offsets:
                del self._groups[group_id]

    def of_topics(self, topics: Iterable[str]) -> list[tuple[str, TopicPartition]]:
        """Every (group, partition) with an offset in one of ``topics``."""
        wanted = frozenset(topics)
        return [(group_id, tp) for group_id, offsets in self._groups.items() for tp in offsets if tp.topic in wanted]

    def expired(
        self, group_id: str, now_ms: int, retention_ms: int, base_ms: int | None, subscribed: Callable[[str], bool]
    ) -> list[TopicPartition]:
        """Offsets past their retention: counted from ``base_ms`` (since when the group is empty) or from their commit."""
        found = []
        for tp, committed in self.of_group(group_id).items():
            since_ms = committed.commit_timestamp_ms if base_ms is None else max(base_ms, committed.commit_timestamp_ms)
            if not subscribed(tp.topic) and now_ms - since_ms >= retention_ms:
                found.append(tp)
        return found
