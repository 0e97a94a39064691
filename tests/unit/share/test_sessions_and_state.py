"""Share sessions by their epochs, and the share coordinator's state by its epochs."""

from __future__ import annotations

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.records import batch_of
from kafkasim.core.model.share_messages import (
    DeleteShareGroupStateRequest,
    InitializeShareGroupStateRequest,
    PartitionState,
    PartitionStateInit,
    PartitionStateRead,
    PartitionStateWrite,
    ReadShareGroupStateRequest,
    ReadShareGroupStateSummaryRequest,
    StateBatch,
    TopicIdPartition,
    WriteShareGroupStateRequest,
)
from kafkasim.core.share.coordinator import Records, ShareCoordinatorShard, StateRequest
from kafkasim.core.share.in_flight import ACKNOWLEDGED, ARCHIVED, AVAILABLE
from kafkasim.core.share.sessions import ShareSessions
from kafkasim.core.share.state_records import combine

TIP = TopicIdPartition("topic", 0)


def test_session_epochs() -> None:
    """0 opens, each request adds one, -1 closes; any other epoch is refused, and so is a session that is not there."""
    sessions = ShareSessions(max_sessions=2)

    def fetch(epoch: int, member: str = "m", *, acknowledges: bool = False) -> ErrorCode:
        return sessions.on_fetch("g", member, epoch, 7, [TIP], [], acknowledges=acknowledges)[1]

    assert fetch(1) is ErrorCode.SHARE_SESSION_NOT_FOUND
    assert fetch(0, acknowledges=True) is ErrorCode.INVALID_REQUEST
    assert [fetch(0), fetch(1), fetch(2), fetch(2)] == [
        ErrorCode.NONE,
        ErrorCode.NONE,
        ErrorCode.NONE,
        ErrorCode.INVALID_SHARE_SESSION_EPOCH,
    ]
    assert sessions.on_acknowledge("g", "m", 0)[1] is ErrorCode.INVALID_SHARE_SESSION_EPOCH
    assert sessions.on_acknowledge("g", "m", 3)[1] is ErrorCode.NONE
    assert fetch(-1) is ErrorCode.NONE
    assert fetch(0, "n") is ErrorCode.NONE
    assert fetch(0, "o") is ErrorCode.SHARE_SESSION_LIMIT_REACHED
    assert [session.member_id for session in sessions.of_connection(7)] == ["m", "n"]
    sessions.remove("g", "m")
    assert sessions.member_count("g") == 1


class Coordinator:
    """A shard, and all records that it ever wrote."""

    def __init__(self, updates_per_snapshot: int = 500) -> None:
        self.log: Records = []
        self.shard = ShareCoordinatorShard(updates_per_snapshot, lambda tip: tip.topic_id == "topic")

    def ask(self, request: StateRequest) -> PartitionState:
        records, response = self.shard.handle(request, 0)
        self.log += records
        replayed = ShareCoordinatorShard(1, lambda tip: True)
        replayed.load([batch_of([value for _, value in self.log], [key for key, _ in self.log])] if self.log else [])
        assert replayed.states == self.shard.states
        return response.partitions[0]

    def initialize(self, state_epoch: int = 1, start_offset: int = -1) -> PartitionState:
        return self.ask(InitializeShareGroupStateRequest("g", (PartitionStateInit(TIP, state_epoch, start_offset),)))

    def write(
        self, start: int, *batches: StateBatch, leader_epoch: int = 0, state_epoch: int = 1, complete: int = 0
    ) -> ErrorCode:
        part = PartitionStateWrite(TIP, state_epoch, leader_epoch, start, complete, batches)
        return self.ask(WriteShareGroupStateRequest("g", (part,))).error

    def read(self, leader_epoch: int = 0) -> PartitionState:
        return self.ask(ReadShareGroupStateRequest("g", (PartitionStateRead(TIP, leader_epoch),)))


def test_state_must_be_initialised() -> None:
    """Neither read nor written before; a summary just says that there is nothing."""
    coordinator = Coordinator()
    assert coordinator.read().error is ErrorCode.INVALID_REQUEST
    assert coordinator.write(0) is ErrorCode.INVALID_REQUEST
    summary = coordinator.ask(ReadShareGroupStateSummaryRequest("g", (PartitionStateRead(TIP, -1),)))
    assert (summary.error, summary.start_offset, summary.delivery_complete_count) == (ErrorCode.NONE, -1, -1)
    assert coordinator.initialize().error is ErrorCode.NONE
    assert coordinator.read().start_offset == -1


def test_epochs_fence() -> None:
    """An older leader cannot write once a newer one has read; an older state epoch cannot write at all."""
    coordinator = Coordinator()
    coordinator.initialize(state_epoch=3)
    assert coordinator.write(0, state_epoch=2) is ErrorCode.FENCED_STATE_EPOCH
    assert coordinator.read(leader_epoch=4).error is ErrorCode.NONE
    assert coordinator.write(0, leader_epoch=3, state_epoch=3) is ErrorCode.FENCED_LEADER_EPOCH
    assert coordinator.read(leader_epoch=3).error is ErrorCode.FENCED_LEADER_EPOCH
    assert coordinator.write(0, leader_epoch=4, state_epoch=3) is ErrorCode.NONE
    assert coordinator.initialize(state_epoch=2).error is ErrorCode.FENCED_STATE_EPOCH


def test_updates_merge_and_snapshots_follow() -> None:
    """Batches of several writes are one state; after two updates the third is a snapshot, and nothing is lost."""
    coordinator = Coordinator(updates_per_snapshot=2)
    coordinator.initialize()
    coordinator.write(0, StateBatch(0, 9, AVAILABLE, 1))
    coordinator.write(0, StateBatch(2, 3, ACKNOWLEDGED, 2), complete=2)
    coordinator.write(1, StateBatch(8, 9, ARCHIVED, 3), complete=4)
    found = coordinator.read()
    assert (found.start_offset, found.delivery_complete_count) == (1, 4)
    assert found.batches == (
        StateBatch(1, 1, AVAILABLE, 1),
        StateBatch(2, 3, ACKNOWLEDGED, 2),
        StateBatch(4, 7, AVAILABLE, 1),
        StateBatch(8, 9, ARCHIVED, 3),
    )


def test_delete_leaves_nothing() -> None:
    """Deleted state is uninitialised again, and deleting it twice is no error."""
    coordinator = Coordinator()
    coordinator.initialize()
    request = DeleteShareGroupStateRequest("g", (TIP,))
    assert coordinator.ask(request).error is ErrorCode.NONE
    assert coordinator.ask(request).error is ErrorCode.NONE
    assert coordinator.read().error is ErrorCode.INVALID_REQUEST
    other = PartitionStateInit(TopicIdPartition("gone", 0), 1)
    refused = coordinator.ask(InitializeShareGroupStateRequest("g", (other,)))
    assert refused.error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_combining_prefers_the_later_delivery() -> None:
    """The greater delivery count wins, then the greater state; equal neighbours become one."""
    combined = combine(
        [StateBatch(0, 5, AVAILABLE, 2)], [StateBatch(3, 8, AVAILABLE, 1), StateBatch(6, 8, AVAILABLE, 2)]
    )
    assert combined == (StateBatch(0, 8, AVAILABLE, 2),)
    assert combine([StateBatch(0, 1, AVAILABLE, 1)], [StateBatch(0, 0, ACKNOWLEDGED, 1)]) == (
        StateBatch(0, 0, ACKNOWLEDGED, 1),
        StateBatch(1, 1, AVAILABLE, 1),
    )
