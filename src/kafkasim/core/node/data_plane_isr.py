"""Changes of the ISR that this broker asks for as a leader, and what it does with the controller's answers.

Mirrors:  AlterPartitionManager, Partition.maybeExpandIsr, maybeShrinkIsr, handleAlterPartitionError (KIP-497).
Inputs:   maybe_expand, shrink, on_deadline.      Effects: through ``send_to_controller``.
Rule 1:   one request in flight; what comes up meanwhile is batched into the next.
Rule 2:   a proposal stays pending until it is committed, rolled back, or overtaken by metadata.
Differs:  an ISR change that metadata tell of before the controller's answer comes is counted (IsrShrinksPerSec, IsrExpandsPerSec);
          Kafka counts it only if the answer is faster.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from kafkasim.core.controller.image import PartitionState
from kafkasim.core.model.cluster_messages import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    PartitionIsrChange,
    PartitionIsrResult,
)
from kafkasim.core.model.effects import NEVER_US
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_EPOCH, NodeId, TopicPartition
from kafkasim.core.model.metadata import RECOVERED
from kafkasim.core.node.data_plane_partitions import Partitions
from kafkasim.core.replica.leader import FollowerState, LeaderReplica

_RETRY_US = 50_000

#: The proposal was wrong: back to the committed ISR.
_ROLL_BACK = frozenset({ErrorCode.INELIGIBLE_REPLICA, ErrorCode.OPERATION_NOT_ATTEMPTED})
#: What is known here is out of date: metadata will tell.
_AWAIT_METADATA = frozenset(
    {
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.INVALID_UPDATE_VERSION,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.NEW_LEADER_ELECTED,
    }
)


#: (broker id, broker epoch) of each member of a proposed ISR.
_Members: TypeAlias = "tuple[tuple[NodeId, int], ...]"
_Proposal: TypeAlias = "tuple[LeaderReplica, tuple[NodeId, ...], _Members]"


class IsrChanges:
    __slots__ = ("_in_flight", "_partitions", "_queue", "deadline_us")

    def __init__(self, partitions: Partitions) -> None:
        self._partitions = partitions
        #: Proposals that no request carries yet, in order.
        self._queue: dict[TopicPartition, _Proposal] = {}
        self._in_flight = False
        self.deadline_us = NEVER_US

    def maybe_expand(self, follower: FollowerState, now_us: int) -> None:
        leader = follower.leader
        at_epoch_start = self._partitions.rules.joins_at_epoch_start
        isr = leader.expanded_isr(follower, self._partitions.eligible, at_epoch_start=at_epoch_start)
        if isr is not None:
            self._propose(leader, isr, now_us)

    def maybe_shrink(self, leader: LeaderReplica, now_us: int) -> None:
        isr = leader.shrunk_isr(self._partitions.lag_us, now_us)
        if isr is not None:
            self._propose(leader, isr, now_us)

    def _propose(self, leader: LeaderReplica, isr: tuple[NodeId, ...], now_us: int) -> None:
        gone = tuple(
            (follower.node_id, follower.log_end, follower.caught_up_us())
            for follower in leader.followers
            if follower.in_maximal_isr and follower.node_id not in isr
        )
        leader.propose_isr(isr, self._partitions.rules.counted_isr(leader.isr, isr))
        self._partitions.ctx.note(
            "isr proposed", leader.tp, isr=isr, leader_epoch=leader.leader_epoch, log_end=leader.log.end, behind=gone
        )
        self._queue[leader.tp] = leader, isr, self._members(leader, isr)
        self._send(now_us)

    def _send(self, now_us: int) -> None:
        if self._in_flight or self.deadline_us != NEVER_US or not self._queue:
            return
        replicas = self._partitions.replicas
        ctx = self._partitions.ctx
        asked: list[_Proposal] = []
        changes: list[PartitionIsrChange] = []
        for tp, proposal in self._queue.items():
            leader, isr, members = proposal
            if leader.pending_isr is not isr or replicas.get(tp) is not leader:
                continue
            asked.append(proposal)
            changes.append(
                PartitionIsrChange(
                    tp,
                    leader.log.topic_id,
                    leader.leader_epoch,
                    leader.partition_epoch,
                    members,
                    # The first change after an unclean election says that the log is sound again.
                    RECOVERED,
                )
            )
        self._queue = {}
        if not changes:
            return
        self._in_flight = True

        def answered(response: Any, error: ErrorCode, now_us: int) -> None:
            self._on_answer(asked, response, error, now_us)

        request = AlterPartitionRequest(ctx.node_id, ctx.broker_epoch, tuple(changes))
        ctx.send_to_controller(request, answered, now_us)

    def _members(self, leader: LeaderReplica, isr: tuple[NodeId, ...]) -> _Members:
        """Each with the broker epoch that its fetches had: a process that was restarted since is not the one that caught up.

        The epoch of one that has not fetched from this leader is not known; it can only be in the ISR already.
        """
        ctx = self._partitions.ctx
        epochs = {follower.node_id: follower.broker_epoch for follower in leader.followers}
        epochs[ctx.node_id] = ctx.broker_epoch
        return tuple((node, epochs.get(node, NO_EPOCH)) for node in isr)

    def _on_answer(
        self,
        asked: list[_Proposal],
        response: AlterPartitionResponse | None,
        error: ErrorCode,
        now_us: int,
    ) -> None:
        self._in_flight = False
        if response is None or response.error is not ErrorCode.NONE:
            for proposal in asked:
                leader, isr, _ = proposal
                if leader.pending_isr is isr:
                    self._queue.setdefault(leader.tp, proposal)
            self.deadline_us = now_us + _RETRY_US
            return
        results = {result.tp: result for result in response.partitions}
        for proposal in asked:
            leader, isr, _ = proposal
            result = results.get(leader.tp)
            if self._partitions.replicas.get(leader.tp) is not leader or leader.pending_isr is not isr:
                continue  # Metadata was faster.
            if result is None or not self._on_result(leader, result, now_us):
                self._queue[leader.tp] = proposal
        self._send(now_us)
        self._partitions.settle(now_us)

    def _on_result(self, leader: LeaderReplica, result: PartitionIsrResult, now_us: int) -> bool:
        """False if the same must be asked again."""
        note = self._partitions.ctx.note
        if result.error is ErrorCode.NONE:
            if result.leader_epoch == leader.leader_epoch and result.partition_epoch >= leader.partition_epoch:
                self._note_success(leader, result.isr, result.partition_epoch)
                leader.recovery_state = result.leader_recovery_state
                leader.commit_isr(result.isr, result.partition_epoch)
                self._partitions.advance(leader, now_us)
            else:
                note("isr update failed", leader.tp, error=result.error)
            return True
        note("isr update failed", leader.tp, error=result.error)
        if result.error in _ROLL_BACK:
            leader.roll_back_isr()
            return True
        return result.error in _AWAIT_METADATA

    def overtaken(self, leader: LeaderReplica, state: PartitionState) -> None:
        """Metadata is about to tell the leader what the controller's answer would have told it."""
        same_epoch = leader.leader_epoch == state.leader_epoch
        if leader.pending_isr is not None and same_epoch and set(leader.pending_isr) == set(state.isr):
            self._note_success(leader, state.isr, state.partition_epoch)

    def _note_success(self, leader: LeaderReplica, isr: tuple[NodeId, ...], partition_epoch: int) -> None:
        assert leader.pending_isr is not None
        kind = "isr expanded" if len(leader.pending_isr) > len(leader.isr) else "isr shrunk"
        self._partitions.ctx.note(kind, leader.tp, isr=isr, partition_epoch=partition_epoch)

    def on_deadline(self, now_us: int) -> None:
        self.deadline_us = NEVER_US
        self._send(now_us)
