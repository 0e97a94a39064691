"""The data plane of a broker: produce, fetch, replication, offsets, ISR changes, retention; wired together here.

Mirrors:  kafka.server.ReplicaManager (applyDelta, becomeLeader, becomeFollower, stopReplicas) and the data half of KafkaApis.
Inputs:   on_request, on_image, on_closed, on_deadline, shutdown; answers come through ``ctx.requests``.      Effects: Reply, Send, Note.
Rule 1:   a partition changes its role only here, by metadata; only what the delta names is looked at.
Rule 2:   every input ends in ``_settle``: readers that were woken are answered, coordinators hear of their appends.
Rule 3:   the parts (``data_plane_*``) share ``Partitions`` and know nothing of one another, but for ISR changes that a fetch starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from kafkasim.core.controller.image import ImageDelta, PartitionState
from kafkasim.core.log.log import Log
from kafkasim.core.model.admin_messages import BROKER_RESOURCE, TOPIC_RESOURCE
from kafkasim.core.model.effects import Note
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NodeId, TopicPartition
from kafkasim.core.model.messages import (
    DeleteRecordsRequest,
    FetchRequest,
    ListOffsetsRequest,
    OffsetForLeaderEpochRequest,
    ProduceRequest,
)
from kafkasim.core.model.records import RecordBatch
from kafkasim.core.node.context import BrokerContext, Call
from kafkasim.core.node.data_plane_fetch import Fetches
from kafkasim.core.node.data_plane_follow import Following
from kafkasim.core.node.data_plane_isr import IsrChanges
from kafkasim.core.node.data_plane_offsets import Offsets
from kafkasim.core.node.data_plane_partitions import WATCH_CHECKPOINT, WATCH_LAG, Partitions, Replica
from kafkasim.core.node.data_plane_produce import Produces
from kafkasim.core.node.data_plane_upkeep import Upkeep
from kafkasim.core.replica.follower import FollowerReplica
from kafkasim.core.replica.leader import LeaderReplica

_APPEND_TIMEOUT_US = 30_000_000

_Said: TypeAlias = "tuple[tuple[str, int], tuple[str, int], tuple[str, tuple[NodeId, ...]]]"


class DataPlane:
    """One per broker process; ``ctx.storage`` holds what an earlier process left."""

    API_KEYS: tuple[int, ...] = (
        ProduceRequest.API_KEY,
        FetchRequest.API_KEY,
        ListOffsetsRequest.API_KEY,
        OffsetForLeaderEpochRequest.API_KEY,
        DeleteRecordsRequest.API_KEY,
    )

    def __init__(self, ctx: BrokerContext, now_us: int = 0) -> None:
        self._ctx = ctx
        self._partitions = partitions = Partitions(ctx)
        self._isr_changes = IsrChanges(partitions)
        self._produces = Produces(partitions)
        self._fetches = Fetches(partitions, self._isr_changes)
        self._following = Following(partitions)
        self._offsets = Offsets(partitions)
        self._upkeep = Upkeep(partitions, self._isr_changes, now_us)
        partitions.settle = self._settle
        #: What was noted of leaders whose log is empty.
        self._said: dict[_Said, _Said] = {}
        self._handlers: dict[int, Callable[[Call, int], None]] = {
            ProduceRequest.API_KEY: self._produces.on_produce,
            FetchRequest.API_KEY: self._fetches.on_fetch,
            ListOffsetsRequest.API_KEY: self._offsets.on_list_offsets,
            OffsetForLeaderEpochRequest.API_KEY: self._offsets.on_offset_for_leader_epoch,
            DeleteRecordsRequest.API_KEY: self._offsets.on_delete_records,
        }

    # --- inputs ----------------------------------------------------------------------------------------------------

    def on_request(self, call: Call, now_us: int) -> None:
        self._handlers[call.request.API_KEY](call, now_us)
        self._settle(now_us)

    def on_closed(self, connection_id: int, now_us: int) -> None:
        """Nobody waits for the parked fetches of this connection any more."""
        self._fetches.on_closed(connection_id)

    @property
    def deadline_us(self) -> int:
        partitions = self._partitions
        if partitions.ended_appends:
            return 0
        # Read after every input: spelled out, because a loop over a tuple costs three times as much.
        deadline_us = self._fetches.fetches.deadline_us
        other_us = partitions.produces.deadline_us
        if other_us < deadline_us:
            deadline_us = other_us
        other_us = self._following.deadline_us
        if other_us < deadline_us:
            deadline_us = other_us
        other_us = self._upkeep.deadline_us
        if other_us < deadline_us:
            deadline_us = other_us
        other_us = self._isr_changes.deadline_us
        if other_us < deadline_us:
            deadline_us = other_us
        other_us = self._offsets.deletes.deadline_us
        if other_us < deadline_us:
            deadline_us = other_us
        return deadline_us

    def on_deadline(self, now_us: int) -> None:
        partitions = self._partitions
        for operation in partitions.produces.take_expired(now_us):
            operation.on_expired(partitions, now_us)
        self._fetches.expire(now_us)
        self._offsets.expire(now_us)
        if now_us >= self._isr_changes.deadline_us:
            self._isr_changes.on_deadline(now_us)
        if now_us >= self._following.deadline_us:
            self._following.on_deadline(now_us)
        if now_us >= self._upkeep.deadline_us:
            self._upkeep.on_deadline(now_us)
        self._settle(now_us)

    def shutdown(self, now_us: int) -> None:
        """An orderly stop: nothing is fetched any more, the high watermarks are written down, everything is flushed."""
        self._following.stopped = True
        self._upkeep.checkpoint_high_watermarks()
        self._ctx.storage.flush()

    def _settle(self, now_us: int) -> None:
        partitions = self._partitions
        if partitions.woken_deletes:
            self._offsets.check_deletes()
        if partitions.woken_sessions or partitions.woken_fetches:
            self._fetches.answer_woken(now_us)
        while partitions.ended_appends:
            ended, partitions.ended_appends = partitions.ended_appends, []
            partitions.told_neighbours = True
            for operation, error in ended:
                operation.on_done(error, operation.base_offset, now_us)
            if partitions.woken_sessions or partitions.woken_fetches:
                self._fetches.answer_woken(now_us)

    def take_told_neighbours(self) -> bool:
        """Has an input since the last call reached a neighbour: an append of its own that ended, a partition that it watches?"""
        told, self._partitions.told_neighbours = self._partitions.told_neighbours, False
        return told

    # --- neighbours in the broker ----------------------------------------------------------------------------------

    def append(
        self,
        tp: TopicPartition,
        batch: RecordBatch,
        now_us: int,
        on_done: Callable[[ErrorCode, int, int], None],
        timeout_us: int = _APPEND_TIMEOUT_US,
    ) -> ErrorCode:
        """Append at acks=all: the error of the local append, and if that is NONE, later ``on_done(error, base_offset, now_us)``.

        ``on_done`` is never called before this returns: what is committed at once is told at the next deadline, which is now.
        """
        error = self._produces.append(tp, batch, now_us, on_done, timeout_us)
        if self._partitions.woken_sessions or self._partitions.woken_fetches:
            self._fetches.answer_woken(now_us)
        return error

    def read_log(self, tp: TopicPartition) -> Iterator[RecordBatch]:
        """Everything in the log of a partition that this broker holds, oldest first."""
        replica = self._partitions.replicas.get(tp)
        return iter(()) if replica is None else replica.log.read_all()

    def replica(self, tp: TopicPartition) -> Replica | None:
        """A view for oracles: ``log_start``, ``log_end``, ``high_watermark``, ``leader_epoch``, ``is_leader``, ``log``."""
        return self._partitions.replicas.get(tp)

    def tell_visible(self, on_visible: Callable[[TopicPartition], None]) -> dict[TopicPartition, None]:
        """``on_visible(tp)`` is called when more of a partition becomes visible that is in the returned dict."""
        self._partitions.on_visible = on_visible
        return self._partitions.watched

    # --- metadata --------------------------------------------------------------------------------------------------

    def on_image(self, delta: ImageDelta, now_us: int) -> None:
        """``ctx.image`` has moved on by ``delta``."""
        image = self._ctx.image
        for topic in delta.deleted_topics:
            for state in topic.partitions:
                self._drop(state.tp, now_us, topic_id=topic.topic_id)
            if topic.name not in image.topics:
                self._partitions.forget_settings(topic.name)
        if delta.configs:
            self._reread_configs(delta, now_us)
        node_id = self._ctx.node_id
        for tp in delta.partitions:
            found = image.partition(tp)
            if found is None:
                continue
            if node_id not in found.replicas:
                self._drop(tp, now_us)
            elif found.leader == node_id:
                self._lead(found, now_us)
            else:
                self._follow(found, now_us)
        self._following.end_idle(now_us)
        self._following.send_all(now_us)
        if delta.brokers:
            self._recheck_deletes()
        self._settle(now_us)

    def _reread_configs(self, delta: ImageDelta, now_us: int) -> None:
        partitions = self._partitions
        names: dict[str, None] = {}
        for resource_type, name in delta.configs:
            if resource_type == BROKER_RESOURCE:
                partitions.reread_settings(None)
                names = dict.fromkeys(self._ctx.image.topics)
                break
            if resource_type == TOPIC_RESOURCE:
                partitions.reread_settings(name)
                names[name] = None
        for name in names:
            topic = self._ctx.image.topics.get(name)
            for state in topic.partitions if topic is not None else ():
                replica = partitions.replicas.get(state.tp)
                if isinstance(replica, LeaderReplica):
                    replica.update_min_isr()
                    partitions.advance(replica, now_us)
        self._upkeep.rearm_retention(now_us)

    def clock_set(self, now_us: int) -> None:
        """What retention has planned by the wall clock is planned anew."""
        self._upkeep.rearm_retention(now_us)

    def _recheck_deletes(self) -> None:
        """A broker that died is not waited for any more."""
        for operation in self._offsets.deletes:
            for answer in operation.answers:
                replica = self._partitions.replicas.get(answer.tp)
                if isinstance(replica, LeaderReplica) and replica.waiting_deletes:
                    self._partitions.woken_deletes.append(replica)

    def _lead(self, state: PartitionState, now_us: int) -> None:
        """Become the leader, or take in what changed for the leader that this broker is."""
        partitions = self._partitions
        replica = partitions.replicas.get(state.tp)
        if isinstance(replica, LeaderReplica) and replica.log.topic_id == state.topic_id:
            if replica.leader_epoch == state.leader_epoch:
                if state.partition_epoch <= replica.partition_epoch:
                    return
            else:
                self._fetches.epoch_began(replica, state.leader_epoch)
                partitions.wake_readers(replica)
            leader = replica
        else:
            leader = self._new_leader(state, replica, now_us)
        self._forget_removed_followers(leader, state)
        had_followers = bool(leader.followers)
        self._isr_changes.overtaken(leader, state)
        leader.update(state.replicas, state.isr, state.partition_epoch, state.leader_recovery_state)
        if leader.followers and not had_followers:
            leader.watch &= ~WATCH_LAG
        if leader.leader_epoch != state.leader_epoch:
            leader.become_leader(state.leader_epoch, now_us)
            # A follower that never comes must leave the ISR even if nothing is ever written.
            partitions.watch_lag(leader, now_us)
            self._note_leader(leader)
        partitions.advance(leader, now_us)

    def _note_leader(self, leader: LeaderReplica) -> None:
        """Thousands of empty partitions begin alike: their notes share what they say."""
        said = (("leader_epoch", leader.leader_epoch), ("log_end", leader.log.end), ("isr", leader.isr))
        if leader.log.end == 0:
            said = self._said.setdefault(said, said)
        self._ctx.outbox.append(Note("became leader", leader.tp, said))

    def _new_leader(self, state: PartitionState, replica: Replica | None, now_us: int) -> LeaderReplica:
        log, high_watermark = self._log_of(state, replica, now_us)
        leader = LeaderReplica(state.tp, log, self._ctx.node_id, high_watermark)
        if isinstance(replica, FollowerReplica):
            self._following.unfollow(replica)
        self._take_over(leader, replica, now_us)
        return leader

    def _forget_removed_followers(self, leader: LeaderReplica, state: PartitionState) -> None:
        for follower in leader.followers:
            if follower.node_id not in state.replicas and follower.session is not None:
                follower.session.drop(follower, None)

    def _follow(self, state: PartitionState, now_us: int) -> None:
        """Become a follower, or follow another leader, or the same one in another epoch."""
        partitions = self._partitions
        replica = partitions.replicas.get(state.tp)
        if isinstance(replica, FollowerReplica) and replica.log.topic_id == state.topic_id:
            if replica.leader_epoch == state.leader_epoch:
                return
            follower = replica
            partitions.wake_readers(replica)
        else:
            log, high_watermark = self._log_of(state, replica, now_us)
            follower = FollowerReplica(state.tp, log, high_watermark)
            self._take_over(follower, replica, now_us)
            if isinstance(replica, LeaderReplica):
                self._stop_leading(replica, now_us)
        follower.leader_id = state.leader
        follower.leader_epoch = state.leader_epoch
        self._following.follow(follower)

    def _log_of(self, state: PartitionState, replica: Replica | None, now_us: int) -> tuple[Log, int]:
        """The log and where its high watermark stands: as it is in force, else as the last process wrote it down."""
        if replica is not None and replica.log.topic_id != state.topic_id:
            self._drop(state.tp, now_us)
            replica = None
        log = self._partitions.log_of(state.tp, state.topic_id)
        if replica is not None:
            return log, replica.high_watermark
        log.load()
        return log, max(log.start, min(log.checkpointed_high_watermark, log.end))

    def _take_over(self, replica: Replica, old: Replica | None, now_us: int) -> None:
        """``replica`` stands for its partition from now on; what waited for the old one looks again."""
        partitions = self._partitions
        partitions.replicas[replica.tp] = replica
        if old is not None:
            replica.waiting_fetches = old.waiting_fetches
            partitions.wake_readers(replica)
            if old.watch & WATCH_CHECKPOINT:
                partitions.high_watermark_moved(replica, replica.high_watermark, now_us)
        if replica.log.size_bytes:
            partitions.watch_retention(replica, now_us)

    def _stop_leading(self, replica: LeaderReplica, now_us: int) -> None:
        self._partitions.end_waiting_produces(replica, ErrorCode.NOT_LEADER_OR_FOLLOWER, now_us)
        self._fetches.lost_leadership(replica, ErrorCode.NOT_LEADER_OR_FOLLOWER)
        self._offsets.lost_leadership(replica)

    def _drop(self, tp: TopicPartition, now_us: int, topic_id: str | None = None) -> None:
        """This broker holds the partition no more: the topic is gone, or it was reassigned."""
        partitions = self._partitions
        replica = partitions.replicas.get(tp)
        if replica is not None and topic_id in (None, replica.log.topic_id):
            del partitions.replicas[tp]
            if isinstance(replica, LeaderReplica):
                self._stop_leading(replica, now_us)
            else:
                self._following.unfollow(replica)
            partitions.wake_readers(replica)
        log = self._ctx.storage.logs.get(tp)
        if log is not None and topic_id in (None, log.topic_id):
            del self._ctx.storage.logs[tp]
