"""The share partitions that a broker leads: made at the first fetch, loaded from the share coordinator, dropped when fenced.

Mirrors:  SharePartitionManager, SharePartitionCache, SharePartition.maybeInitialize and writeShareGroupState (KIP-932).
Inputs:   get, touched, on_deadline, on_image, drop_group.     Effects: Note; asks of the share persister.
Rule 1:   a share partition lives as long as this broker leads its partition in one epoch, and some session of its group is open.
          A broker on its way out keeps those that it handed over: nobody is told of a replica that it stops anyway.
Rule 2:   whoever touched a share partition calls ``touched``: its writes go out, its deadline is armed.
Rule 3:   those who wait for a share partition are woken by ``wake(key)``; nobody is called back in the middle of an input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from kafkasim.core.controller.image import ImageDelta
from kafkasim.core.model.admin_messages import BROKER_RESOURCE, GROUP_RESOURCE
from kafkasim.core.model.effects import NEVER_US
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_EPOCH, NO_LEADER, TopicPartition
from kafkasim.core.model.share_messages import (
    UNINITIALIZED_START_OFFSET,
    PartitionState,
    PartitionStateRead,
    PartitionStateWrite,
    ReadShareGroupStateRequest,
    TopicIdPartition,
    WriteShareGroupStateRequest,
)
from kafkasim.core.model.share_offset_reset import BY_DURATION, EARLIEST, LATEST, duration_ms
from kafkasim.core.model.timers import Timers
from kafkasim.core.node.context import BrokerContext
from kafkasim.core.node.data_plane import DataPlane
from kafkasim.core.node.share_configs import ShareConfigs
from kafkasim.core.node.share_notes import ShareNotes
from kafkasim.core.node.share_persister import SharePersister
from kafkasim.core.replica.leader import LeaderReplica
from kafkasim.core.share.acknowledge import expire_one
from kafkasim.core.share.partition import (
    EMPTY,
    FAILED,
    FENCED,
    INITIALIZING,
    SharePartition,
    StateWrite,
)

#: (group id, topic partition by id)
Key: TypeAlias = "tuple[str, TopicIdPartition]"

#: What a failure of the share coordinator is to a client.
_PERSISTER_ERRORS = {
    ErrorCode.FENCED_LEADER_EPOCH: ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.FENCED_STATE_EPOCH: ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.NONE: ErrorCode.NONE,
    ErrorCode.COORDINATOR_NOT_AVAILABLE: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.GROUP_ID_NOT_FOUND: ErrorCode.GROUP_ID_NOT_FOUND,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
}
#: After these the share partition is not what it was: the next fetch makes it anew.
_FENCING = frozenset(
    {ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.GROUP_ID_NOT_FOUND, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
)


class SharePartitions:
    """``wake(key)`` is given by whoever parks fetches; ``watched`` are the partitions of which they hear."""

    def __init__(
        self,
        ctx: BrokerContext,
        data_plane: DataPlane,
        persister: SharePersister,
        configs: ShareConfigs,
        wake: Callable[[Key, int], None],
        watched: dict[TopicPartition, None],
    ) -> None:
        self._ctx = ctx
        self._data_plane = data_plane
        self._persister = persister
        self._configs = configs
        self._wake = wake
        self._watched = watched
        self._partitions: dict[Key, SharePartition] = {}
        #: Topic partition -> the keys of its share partitions.
        self.by_tp: dict[TopicPartition, dict[Key, None]] = {}
        self._timers: Timers[Key] = Timers()
        self.notes = ShareNotes(ctx)
        #: A controlled shutdown has begun.
        self.is_leaving = False
        #: Why a share partition could not be loaded; told to the fetches that wait for it.
        self.failures: dict[Key, ErrorCode] = {}

    @property
    def deadline_us(self) -> int:
        return self._timers.deadline_us

    # --- lookups ---------------------------------------------------------------------------------------------------

    def tp_of(self, tip: TopicIdPartition) -> TopicPartition | None:
        topic = self._ctx.image.topics_by_id.get(tip.topic_id)
        return None if topic is None else TopicPartition(topic.name, tip.partition)

    def leader(self, tip: TopicIdPartition) -> tuple[LeaderReplica | None, ErrorCode]:
        """This broker's leader of a partition, or why it has none."""
        tp = self.tp_of(tip)
        if tp is None:
            return None, ErrorCode.UNKNOWN_TOPIC_ID
        replica = self._data_plane.replica(tp)
        if isinstance(replica, LeaderReplica) and replica.log.topic_id == tip.topic_id:
            return replica, ErrorCode.NONE
        known = self._ctx.image.partition(tp) is not None
        return None, ErrorCode.NOT_LEADER_OR_FOLLOWER if known else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    def known(self, key: Key) -> SharePartition | None:
        return self._partitions.get(key)

    def get(self, key: Key, now_us: int) -> tuple[SharePartition | None, ErrorCode]:
        """The share partition of a fetch; made, and its state asked for, if this is the first."""
        found = self._partitions.get(key)
        if found is not None and found.status != FAILED:
            return found, ErrorCode.NONE
        leader, error = self.leader(key[1])
        if leader is None:
            return None, error
        made = SharePartition(key[0], key[1], leader.leader_epoch, self._configs.of_partition(key[0]))
        self._partitions[key] = made
        self.by_tp.setdefault(leader.tp, {})[key] = None
        self._watched[leader.tp] = None
        self.failures.pop(key, None)
        self._load(key, made, now_us)
        return made, ErrorCode.NONE

    # --- loading -----------------------------------------------------------------------------------------------------

    def _load(self, key: Key, made: SharePartition, now_us: int) -> None:
        assert made.status == EMPTY
        made.status = INITIALIZING

        def done(state: PartitionState, now_us: int) -> None:
            if self._partitions.get(key) is not made:
                return
            error = _PERSISTER_ERRORS.get(state.error, ErrorCode.UNKNOWN_SERVER_ERROR)
            start = state.start_offset
            if error is ErrorCode.NONE and start == UNINITIALIZED_START_OFFSET:
                start, error = self._first_offset(key, now_us)
            if error is ErrorCode.NONE and not made.load(state, start):
                error = ErrorCode.UNKNOWN_SERVER_ERROR
            if error is not ErrorCode.NONE:
                self.drop(key, now_us)
                self.failures[key] = error
            else:
                self.notes.loaded(self.tp_of(key[1]), made, state)
            self._wake(key, now_us)

        part = PartitionStateRead(key[1], made.leader_epoch)
        self._persister.ask(ReadShareGroupStateRequest, key[0], key[1], part, done, now_us)

    def _first_offset(self, key: Key, now_us: int) -> tuple[int, ErrorCode]:
        """Where ``share.auto.offset.reset`` says to start."""
        leader, error = self.leader(key[1])
        if leader is None:
            return -1, error
        reset = self._configs.text(key[0], "share.auto.offset.reset")
        if reset == EARLIEST:
            return leader.log.start, error
        if reset == LATEST:
            return leader.high_watermark, error
        since_ms = self._ctx.wall_ms(now_us) - (duration_ms(reset.removeprefix(BY_DURATION)) or 0)
        found = leader.log.offset_for_timestamp(since_ms, leader.high_watermark)
        return (-1, ErrorCode.OFFSET_NOT_AVAILABLE) if found is None else (found[0], error)

    # --- writing -----------------------------------------------------------------------------------------------------

    def touched(self, key: Key, partition: SharePartition, now_us: int) -> None:
        """Send what the machine wants written, and come back when its first lock runs out."""
        while partition.writes:
            self._write(key, partition, partition.writes.pop(0), now_us)
        deadline_us = partition.deadline_us
        if deadline_us < NEVER_US and self._partitions.get(key) is partition:
            self._timers.arm(key, deadline_us)
        else:
            self._timers.disarm(key)

    def _write(self, key: Key, partition: SharePartition, write: StateWrite, now_us: int) -> None:
        part = PartitionStateWrite(
            key[1],
            partition.state_epoch,
            partition.leader_epoch,
            write.start_offset,
            write.delivery_complete_count,
            write.batches,
        )

        if not write.held:
            self.notes.changed(self.tp_of(key[1]), partition, write, ErrorCode.NONE)

        def done(state: PartitionState, now_us: int) -> None:
            error = _PERSISTER_ERRORS.get(state.error, ErrorCode.UNKNOWN_SERVER_ERROR)
            if error in _FENCING and self._partitions.get(key) is partition:
                self.drop(key, now_us)
            woken = partition.on_written(write, error, now_us)
            if write.held and self._partitions.get(key) is partition:
                self.notes.changed(self.tp_of(key[1]), partition, write, error)
            if woken:
                self._wake(key, now_us)
            self.touched(key, partition, now_us)

        self._persister.ask(WriteShareGroupStateRequest, key[0], key[1], part, done, now_us)

    # --- time --------------------------------------------------------------------------------------------------------

    def on_deadline(self, now_us: int, settle: Callable[[int], None]) -> None:
        """Locks run out one by one; whoever waits gets a look (``settle``) after each."""
        for key in list(self._timers.due(now_us)):
            partition = self._partitions.get(key)
            if partition is None:
                continue
            while expire_one(partition, now_us):
                self.touched(key, partition, now_us)
                self._wake(key, now_us)
                settle(now_us)
            self.touched(key, partition, now_us)

    # --- the end of a share partition --------------------------------------------------------------------------------

    def drop(self, key: Key, now_us: int) -> None:
        """Forget it: fenced, led elsewhere, deleted, or nobody of the group is here any more."""
        partition = self._partitions.pop(key, None)
        if partition is None:
            return
        partition.status = FENCED
        self._timers.disarm(key)
        for tp, keys in list(self.by_tp.items()):
            if key in keys:
                del keys[key]
                if not keys:
                    del self.by_tp[tp]
                    self._watched.pop(tp, None)
                break
        self._wake(key, now_us)

    def drop_group(self, group_id: str, now_us: int) -> None:
        for key in [key for key in self._partitions if key[0] == group_id]:
            self.drop(key, now_us)

    def _is_in_sync(self, tp: TopicPartition) -> bool:
        state = self._ctx.image.partition(tp)
        return state is not None and state.leader != NO_LEADER and self._ctx.node_id in state.isr

    def on_image(self, delta: ImageDelta, now_us: int) -> None:
        if not self._partitions:
            return
        for topic in delta.deleted_topics:
            for key in [key for key in self._partitions if key[1].topic_id == topic.topic_id]:
                self.drop(key, now_us)
        for tp in delta.partitions:
            if self.is_leaving and not self._is_in_sync(tp):
                continue
            for key in list(self.by_tp.get(tp, ())):
                leader, _ = self.leader(key[1])
                epoch = NO_EPOCH if leader is None else leader.leader_epoch
                if self._partitions[key].leader_epoch != epoch:
                    self.drop(key, now_us)
        for resource_type, name in delta.configs:
            if resource_type in (GROUP_RESOURCE, BROKER_RESOURCE):
                for key, partition in self._partitions.items():
                    if resource_type == BROKER_RESOURCE or key[0] == name:
                        partition.settings = self._configs.of_partition(key[0])
