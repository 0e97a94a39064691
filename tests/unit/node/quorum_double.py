"""A quorum replica that leads, loses and commits when the test says so."""

from __future__ import annotations

from typing import Any

from kafkasim.core.model.effects import NEVER_US
from kafkasim.core.model.ids import NO_NODE, NO_OFFSET, NodeId
from kafkasim.core.model.metadata import LeaderChangeRecord, MetadataBatch, MetadataRecord
from kafkasim.core.quorum.log import MetadataLog


class QuorumDouble:
    """``commits``: whatever is appended is committed at once."""

    def __init__(self, node_id: NodeId, log: MetadataLog) -> None:
        self.node_id = node_id
        self.voters = (node_id,)
        self.log = log
        self.epoch = 0
        self.leader_id: NodeId = NO_NODE
        self.is_leader = False
        self.high_watermark = 0
        self.epoch_start_offset = NO_OFFSET
        self.deadline_us = NEVER_US
        self.commits = True
        self._taken = 0
        self._changes: list[tuple[str, int]] = []

    def snapshot_before(self, from_offset: int) -> None:
        """The whole log is there."""

    # --- what the test decides ---------------------------------------------------------------------------------------

    def become_leader(self) -> None:
        self.epoch += 1
        self.is_leader = True
        self.leader_id = self.node_id
        self.epoch_start_offset = self.log.log_end
        self._changes.append(("leader", self.epoch))
        self.append((LeaderChangeRecord(self.node_id, (self.node_id,)),), 0)

    def lose_leadership(self, leader_id: NodeId = NO_NODE) -> None:
        """Another leader, which had nothing but what is committed."""
        self.epoch += 1
        self.is_leader = False
        self.leader_id = leader_id
        self.epoch_start_offset = NO_OFFSET
        self.log.truncate_to(self.high_watermark)
        self._changes.append(("follower", self.epoch))

    def commit(self) -> None:
        self.high_watermark = self.log.log_end

    def write_as_another(self, records: tuple[MetadataRecord, ...]) -> None:
        """A batch that came from the leader, committed."""
        self.log.append(MetadataBatch(self.log.log_end, self.epoch, records))
        self.commit()

    # --- the surface of a replica ------------------------------------------------------------------------------------

    def append(self, records: tuple[MetadataRecord, ...], now_us: int) -> int:
        assert self.is_leader
        base_offset = self.log.log_end
        self.log.append(MetadataBatch(base_offset, self.epoch, records, now_us // 1000))
        if self.commits:
            self.commit()
        return base_offset

    def take_committed(self) -> list[MetadataBatch]:
        batches = self.read_committed(self._taken)
        self._taken = max(self._taken, self.high_watermark)
        return batches

    def read_committed(self, from_offset: int) -> list[MetadataBatch]:
        return self.log.read_between(from_offset, self.high_watermark)

    def take_role_changes(self) -> list[tuple[str, int]]:
        changes, self._changes = self._changes, []
        return changes

    def on_closed(self, connection_id: int, now_us: int) -> None:
        """No fetch is held here."""

    def on_deadline(self, now_us: int) -> None:
        raise AssertionError("it has no deadline")

    def on_request(self, call: Any, now_us: int) -> None:
        raise AssertionError("nobody asks the double")
