"""Membership in a classic group: joining, the leader's assignment, heartbeats, rebalances, leaving.

Mirrors:  rdkafka_cgrp.c with group.protocol=classic (join states and their names); KIP-62, KIP-345, KIP-394, KIP-429.
Inputs:   subscribe, unsubscribe, on_coordinator, on_metadata, on_answer, on_assignment_done, on_commit_error, on_poll, terminate.
Effects:  Send (JoinGroup, SyncGroup, Heartbeat, LeaveGroup to the coordinator; Metadata by the leader); Rebalance items.
Rule 1:   a rebalance waits for the application: nothing is fetched between a Rebalance item and the answer to it.
Rule 2:   eager: everything is revoked before the group is joined again; cooperative: only what has moved, afterwards.
Rule 3:   one timer: heartbeat, session and next attempt to join are looked at when the earliest of them is due.
"""

from __future__ import annotations

from collections.abc import Sequence

from kafkasim.core.client.assignors import ASSIGNORS, COOPERATIVE, EAGER
from kafkasim.core.client.coordinator import COORDINATOR_MOVED, Coordinator
from kafkasim.core.client.core import ClientCore, Timer
from kafkasim.core.client.error_text import error_text
from kafkasim.core.client.group_requests import GroupRequests
from kafkasim.core.client.heartbeats import Heartbeats
from kafkasim.core.client.items import ASSIGN, REVOKE, AppQueue, ConsumerError
from kafkasim.core.client.join_states import (
    INIT,
    STEADY,
    WAIT_ASSIGN_CALL,
    WAIT_INCR_UNASSIGN_TO_COMPLETE,
    WAIT_JOIN,
    WAIT_METADATA,
    WAIT_SYNC,
    WAIT_UNASSIGN_CALL,
    WAIT_UNASSIGN_TO_COMPLETE,
    Host,
)
from kafkasim.core.client.leading import lead
from kafkasim.core.client.rebalancing import Rebalancing
from kafkasim.core.client.subscribed_topics import SubscribedTopics
from kafkasim.core.client.subscription import TopicMatcher
from kafkasim.core.model.effects import NEVER_US
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.group_messages import (
    Assignment,
    JoinGroupMember,
    JoinGroupResponse,
    LeaveGroupResponse,
    SyncGroupResponse,
)
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.messages import MetadataRequest, MetadataResponse

_JOIN_INTERVAL_US = 1_000_000
_BEATING = (STEADY, WAIT_ASSIGN_CALL, WAIT_UNASSIGN_CALL)
_JOIN_RETRIED = COORDINATOR_MOVED | {
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.REBALANCE_IN_PROGRESS,
    ErrorCode._TIMED_OUT,
    ErrorCode._TIMED_OUT_QUEUE,
    ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode.UNKNOWN_MEMBER_ID,
    ErrorCode.MEMBER_ID_REQUIRED,
    ErrorCode.ILLEGAL_GENERATION,
}


class ClassicMembership(Rebalancing):
    """``group_assignment`` is what the group gave us; None when we are not (or not any more) part of a generation."""

    def __init__(self, core: ClientCore, queue: AppQueue, coordinator: Coordinator, host: Host) -> None:
        self._core = core
        self._queue = queue
        self._coordinator = coordinator
        self._host = host
        self._requests = GroupRequests(core.config)
        self.group_instance_id = self._requests.instance_id

        self.state = INIT
        self.member_id = ""
        self.generation_id = -1
        self.lost = False
        self.group_assignment: list[TopicPartition] | None = None
        self.terminating = False
        self.waiting_to_leave = False
        self._leave_when_unassigned = False
        self._next_subscription: TopicMatcher | None = None
        self._next_unsubscribe = False
        self._strategy: str | None = None
        self._sticky_generation = -1
        self._is_leader = False
        self._topics = SubscribedTopics(core, queue)
        self._topics_changed = False
        #: Metadata that the assignor asked for name others' topics, and say nothing about the own subscription.
        self._takes_for_assignor = False
        self._awaiting_response = False
        self._next_assignment: list[TopicPartition] | None = None
        self._rejoin_after = False
        self._join_at_us = 0
        self._heartbeats = Heartbeats(core, coordinator, self._on_heartbeat_error)
        self.max_poll_exceeded = False
        self._timer: Timer | None = None
        self.rebalance_count = 0
        self.rebalance_us = 0

    # --- What state it is in ---------------------------------------------------------------------------------------

    @property
    def protocol(self) -> str:
        """ "NONE" until a strategy was agreed upon."""
        return "NONE" if self._strategy is None else ASSIGNORS[self._strategy][0]

    @property
    def subscription(self) -> TopicMatcher | None:
        return self._topics.matcher

    @property
    def waits_for_answer(self) -> bool:
        return self.state in (WAIT_ASSIGN_CALL, WAIT_UNASSIGN_CALL)

    @property
    def is_rebalancing(self) -> bool:
        return (
            (self.member_id != "" and self.state in (WAIT_JOIN, WAIT_METADATA))
            or self.state in (WAIT_SYNC, WAIT_UNASSIGN_TO_COMPLETE, WAIT_INCR_UNASSIGN_TO_COMPLETE)
            or self.waits_for_answer
            or self._next_assignment is not None
            or self._rejoin_after
        )

    def subscribed(self) -> list[str]:
        matcher = self._next_subscription or self.subscription
        return [] if matcher is None else list(matcher.topics)

    # --- What the application asks for -----------------------------------------------------------------------------

    def subscribe(self, matcher: TopicMatcher, now_us: int) -> ErrorCode:
        if self._core.fatal_error != ErrorCode.NONE:
            if self.subscription is not None:
                self._unsubscribe(leave=True, now_us=now_us)
            return ErrorCode._FATAL
        self._next_subscription, self._next_unsubscribe = None, False
        self._coordinator.start(now_us)
        if self.is_rebalancing:
            self._next_subscription = matcher
            return ErrorCode.NONE
        if self.protocol == COOPERATIVE and self.subscription is not None:
            self._modify_subscription(matcher, now_us)
            return ErrorCode.NONE
        if self.subscription is not None:
            self._unsubscribe(leave=False, now_us=now_us)
        self._set_subscription(matcher)
        self._join(now_us)
        return ErrorCode.NONE

    def unsubscribe(self, now_us: int) -> None:
        self._next_subscription, self._next_unsubscribe = None, False
        if self.is_rebalancing:
            self._next_unsubscribe = True
        elif self.subscription is not None:
            self._unsubscribe(leave=True, now_us=now_us)

    def _unsubscribe(self, *, leave: bool, now_us: int) -> None:
        self._set_subscription(None)
        self._topics.counts = {}
        self._is_leader = False
        if leave and self.member_id != "":
            self._leave_when_unassigned = True
        if not self.lost:
            self._revoke_all_rejoin(lost=False, now_us=now_us)

    def _set_subscription(self, matcher: TopicMatcher | None) -> None:
        self._topics.set(matcher)
        if matcher is None:
            self._next_subscription = None

    def _modify_subscription(self, matcher: TopicMatcher, now_us: int) -> None:
        """Cooperative: only partitions of topics that are not wanted any more are given up."""
        revoking = [tp for tp in self.group_assignment or () if not matcher.matches(tp.topic)]
        self._set_subscription(matcher)
        if self._topics.ask(now_us):
            self._is_leader = False
            self.state = WAIT_METADATA
            return
        if self._topics.update() and not revoking:
            self._rejoin(now_us)
        elif revoking:
            self._rebalance_incrementally(REVOKE, revoking, rejoin=True, now_us=now_us)

    def terminate(self, now_us: int) -> None:
        """close(): give everything back, then leave."""
        self.terminating = True
        self._next_subscription, self._next_unsubscribe = None, False
        if self.subscription is not None:
            self._unsubscribe(leave=True, now_us=now_us)
        if not self.waits_for_answer:
            self._host.unassign_all(now_us)
        self._host.serve_assignment(now_us)

    # --- Inputs from the consumer ----------------------------------------------------------------------------------

    def on_coordinator(self, now_us: int) -> None:
        self._serve(now_us)

    def on_metadata(self, is_full: bool, now_us: int) -> None:
        """Metadata were answered: does the subscription mean other topics, or other numbers of partitions, now?"""
        if is_full:
            self._topics.full_metadata_us = now_us
        if self.subscription is None or self._takes_for_assignor:
            return
        changed = self._topics.update()
        if self.state == WAIT_METADATA and not self._awaiting_response and not self._is_leader:
            if self._topics.missing():
                return
        elif not changed and not self._topics_changed:
            return
        if self.waits_for_answer or self._next_assignment is not None or self._rejoin_after:
            self._topics_changed = True  # Looked at when the rebalance under way is over.
            return
        self._on_topics_changed(now_us)

    def _on_topics_changed(self, now_us: int) -> None:
        self._topics_changed = False
        if self.protocol != COOPERATIVE:
            self._is_leader = False
            self._revoke_all_rejoin(lost=False, now_us=now_us)
            return
        gone = [tp for tp in self.group_assignment or () if tp.topic not in self._topics.counts]
        if gone and self.state == STEADY:
            self.lost = True
            self._rebalance_incrementally(REVOKE, gone, rejoin=self._is_leader, now_us=now_us)
        else:
            self._rejoin(now_us)

    def on_answer(self, method: str, now_us: int) -> None:
        """The application answered a Rebalance: "assign", "unassign", "incremental-assign" or "incremental-unassign"."""
        self._found_again(method)
        if self.state == WAIT_ASSIGN_CALL and method in ("assign", "incremental-assign"):
            self._host.release(now_us)
            self.state = STEADY
            if self.subscription is not None:
                self._host.watch_polls(now_us)
            self._arm(now_us)
        elif self.state == WAIT_UNASSIGN_CALL and method == "incremental-unassign":
            self._host.release(now_us)
            self.state = WAIT_INCR_UNASSIGN_TO_COMPLETE
        elif self.state == WAIT_UNASSIGN_CALL and method == "unassign":
            self._host.release(now_us)
            self.state = WAIT_UNASSIGN_TO_COMPLETE

    def refuse_assignment(self) -> None:
        """Terminating, or fatal: whatever the application answers means unassign."""
        self._next_assignment = None
        if self.state == WAIT_ASSIGN_CALL:
            self.state = WAIT_UNASSIGN_CALL

    def on_assignment_done(self, now_us: int) -> None:
        """Nothing of the assignment is under way any more."""
        self._given_up()
        if self.state == WAIT_UNASSIGN_TO_COMPLETE:
            self._maybe_leave(now_us)
            self._rejoin_at_once(now_us)
        elif self.state == WAIT_INCR_UNASSIGN_TO_COMPLETE:
            self._incremental_unassign_done(now_us)
        elif self.state == STEADY:
            if self._apply_waiting_subscription(now_us):
                return
            if self._rejoin_after:
                self._rejoin_after = False
                self._rejoin_at_once(now_us)
            elif self._topics_changed:
                self._on_topics_changed(now_us)
        if self.terminating:
            self._host.try_terminate(now_us)

    def _incremental_unassign_done(self, now_us: int) -> None:
        if self.terminating:
            self.state = WAIT_UNASSIGN_TO_COMPLETE
            self._host.unassign_all(now_us)
            self._host.serve_assignment(now_us)
        elif self._next_assignment is not None:
            partitions, self._next_assignment = self._next_assignment, None
            self._rebalance_incrementally(ASSIGN, partitions, rejoin=True, now_us=now_us)
        elif self._rejoin_after:
            self._rejoin_after = False
            self._maybe_leave(now_us)
            self._rejoin_at_once(now_us)
        elif not self._apply_waiting_subscription(now_us):
            self.state = STEADY
            self._arm(now_us)

    def _apply_waiting_subscription(self, now_us: int) -> bool:
        if self._next_subscription is None and not self._next_unsubscribe:
            return False
        self._rejoin_at_once(now_us)
        return True

    def on_commit_error(self, error: ErrorCode, now_us: int) -> None:
        if error == ErrorCode.UNKNOWN_MEMBER_ID:
            self.member_id = ""
            self._lose(now_us)
        elif error == ErrorCode.ILLEGAL_GENERATION and not self.is_rebalancing:
            self.generation_id = -1
            self._lose(now_us)
        elif error == ErrorCode.FENCED_INSTANCE_ID:
            self._core.become_fatal(error, f"OffsetCommit failed: {error_text(error)}")

    def on_poll(self, now_us: int) -> None:
        """The application polls again after max.poll.interval.ms was exceeded."""
        if self.max_poll_exceeded:
            self._serve(now_us)

    def on_max_poll_exceeded(self, exceeded_ms: int, now_us: int) -> None:
        text = f"Application maximum poll interval ({self._requests.max_poll_ms}ms) exceeded by {exceeded_ms}ms"
        self._tell(ConsumerError(ErrorCode._MAX_POLL_EXCEEDED, text))
        self.max_poll_exceeded = True
        if self.group_instance_id is None:
            self._leave(now_us)
        self.member_id = ""
        self._lose(now_us)

    # --- The loop --------------------------------------------------------------------------------------------------

    def _arm(self, now_us: int) -> None:
        """Have ``_serve`` called when the next thing is due."""
        at_us = NEVER_US
        if self.state == INIT:
            if self.subscription is not None and self._can_join(now_us):
                at_us = self._join_at_us
        elif self.state in _BEATING and self.subscription is not None:
            if not self.max_poll_exceeded:
                at_us = self._heartbeats.due_us(now_us)
            if self.state == STEADY:
                at_us = min(at_us, self._heartbeats.session_until_us)
        if at_us == NEVER_US:
            return
        at_us = max(at_us, now_us)
        timer = self._timer
        if timer is not None and timer.callback is not None:
            if timer.at_us <= at_us:
                return
            timer.cancel()
        self._timer = self._core.call_at(at_us, self._serve)

    def _can_join(self, now_us: int) -> bool:
        return (
            self._coordinator.is_up
            and not self._awaiting_response
            and bool(self._topics.counts)
            and not self._waits_for_poll(now_us)
        )

    def _serve(self, now_us: int) -> None:
        if self._core.fatal_error != ErrorCode.NONE:
            return
        if self.state == STEADY and now_us >= self._heartbeats.session_until_us:
            self._session_expired(now_us)
        if self.state == INIT and not self._awaiting_response:
            if self._next_subscription is not None:
                matcher, self._next_subscription = self._next_subscription, None
                self.subscribe(matcher, now_us)
            elif self._next_unsubscribe:
                self._next_unsubscribe = False
                self._unsubscribe(leave=True, now_us=now_us)
            if self.state == INIT and self.subscription is not None and now_us >= self._join_at_us:
                self._join(now_us)
        elif self.state in _BEATING and self._heartbeats.due_us(now_us) <= now_us and self.subscription is not None:
            self._heartbeat(now_us)
        self._arm(now_us)

    def _tell(self, error: ConsumerError) -> None:
        self._queue.put_error(error)
        self._core.wake = True

    # --- Joining ---------------------------------------------------------------------------------------------------

    def _join(self, now_us: int) -> None:
        if self.state != INIT or self._awaiting_response or self.subscription is None or self.terminating:
            return
        if self._waits_for_poll(now_us):
            return
        self.max_poll_exceeded = False
        if self._topics.ask(now_us):
            self.state = WAIT_METADATA
            return
        self._topics.update()
        self._topics.watch(now_us)
        if not self._topics.counts or not self._coordinator.is_up:
            return  # Metadata, or the coordinator, bring us back.
        self._join_at_us = now_us + _JOIN_INTERVAL_US
        self.state = WAIT_JOIN
        self._awaiting_response = True
        request = self._requests.join(
            self.member_id, list(self._topics.counts), self.group_assignment or (), self._sticky_generation
        )
        self._coordinator.send(request, self._on_joined, now_us, self._requests.join_timeout_us)

    def _on_joined(self, response: JoinGroupResponse | None, error: ErrorCode, now_us: int) -> None:
        self._awaiting_response = False
        if self.terminating:
            return
        if self.state != WAIT_JOIN:
            self._serve(now_us)
            return
        if response is not None:
            error = response.error
            if error == ErrorCode.NONE and response.protocol_name not in self._requests.strategies:
                error = ErrorCode._UNKNOWN_PROTOCOL
        if response is None or error != ErrorCode.NONE:
            self._join_failed(response, error, now_us)
            return
        self.member_id, self.generation_id = response.member_id, response.generation_id
        if response.protocol_name != self._strategy:
            self._sticky_generation = -1
        self._strategy = response.protocol_name
        self._is_leader = response.leader == response.member_id
        if self._is_leader and not response.skip_assignment:
            self.state = WAIT_METADATA
            self._lead(response.members, now_us)
        else:
            self._sync((), now_us)

    def _join_failed(self, response: JoinGroupResponse | None, error: ErrorCode, now_us: int) -> None:
        self._join_at_us = max(self._join_at_us + _JOIN_INTERVAL_US, now_us)
        if error in COORDINATOR_MOVED:
            self._coordinator.on_dead(now_us)
        if error == ErrorCode.FENCED_INSTANCE_ID:
            self._become_fatal(error)
        elif error not in _JOIN_RETRIED:
            self._tell(ConsumerError(error, f"JoinGroup failed: {error_text(error)}"))
        if error == ErrorCode.UNKNOWN_MEMBER_ID:
            self.member_id = ""
        elif error == ErrorCode.ILLEGAL_GENERATION:
            self.generation_id = -1
        elif error == ErrorCode.MEMBER_ID_REQUIRED:
            assert response is not None
            self.member_id = response.member_id
            self._join_at_us = now_us
        if self.protocol == COOPERATIVE and error in (
            ErrorCode.ILLEGAL_GENERATION,
            ErrorCode.MEMBER_ID_REQUIRED,
        ):
            self._revoke_all_rejoin(lost=True, now_us=now_us)
        else:
            self._rejoin(now_us)

    def _lead(self, members: Sequence[JoinGroupMember], now_us: int) -> None:
        """Fresh metadata of every member's topics, asked on the coordinator's connection where no fetch waits; then the assignor."""
        topics = tuple(dict.fromkeys(name for member in members for name in member.subscription.topics))
        generation_id = self.generation_id

        def on_end(response: MetadataResponse | None, error: ErrorCode, at_us: int) -> None:
            if self.state != WAIT_METADATA or self.generation_id != generation_id or not self._is_leader:
                return
            if response is None or response.error != ErrorCode.NONE:
                self._rejoin(at_us)
                return
            assert self._strategy is not None
            self._sync(lead(self._strategy, members, response), at_us)
            self._takes_for_assignor = True
            self._core.take_metadata(response, False, at_us)
            self._takes_for_assignor = False

        self._coordinator.send(MetadataRequest(topics, False), on_end, now_us)

    def _sync(self, assignments: tuple[tuple[str, Assignment], ...], now_us: int) -> None:
        self.state = WAIT_SYNC
        self._awaiting_response = True
        request = self._requests.sync(self.generation_id, self.member_id, assignments, self._strategy)
        self._coordinator.send(request, self._on_synced, now_us, self._requests.sync_timeout_us)

    def _on_synced(self, response: SyncGroupResponse | None, error: ErrorCode, now_us: int) -> None:
        self._awaiting_response = False
        if self.state != WAIT_SYNC or self.terminating:
            self._serve(now_us)
            return
        if response is not None:
            error = response.error
        if response is not None and error == ErrorCode.NONE:
            self._heartbeats.synced(now_us)
            self._sticky_generation = self.generation_id
            self._on_assigned(list(response.assignment.partitions), now_us)
            return
        if error in COORDINATOR_MOVED:
            self._coordinator.on_dead(now_us)
        if error == ErrorCode.FENCED_INSTANCE_ID:
            self._become_fatal(error)
        elif error == ErrorCode.ILLEGAL_GENERATION:
            self.generation_id = -1
        elif error == ErrorCode.UNKNOWN_MEMBER_ID:
            self.member_id = ""
        lost = error in (ErrorCode.ILLEGAL_GENERATION, ErrorCode.UNKNOWN_MEMBER_ID)
        if self.protocol == COOPERATIVE and lost:
            self._revoke_all_rejoin(lost=True, now_us=now_us)
        else:
            self._rejoin(now_us)

    def _on_assigned(self, partitions: list[TopicPartition], now_us: int) -> None:
        if self.protocol == EAGER:
            self._rebalance(ASSIGN, partitions, now_us)
            return
        owned = self.group_assignment or []
        added = [tp for tp in partitions if tp not in owned]
        revoked = [tp for tp in owned if tp not in partitions]
        if revoked:
            self._next_assignment = added
            self._rebalance_incrementally(REVOKE, revoked, rejoin=False, now_us=now_us)
        else:
            self._rebalance_incrementally(ASSIGN, added, rejoin=False, now_us=now_us)

    def _rejoin(self, now_us: int) -> None:
        if self.subscription is None and self._next_subscription is None:
            self._maybe_leave(now_us)
        self._is_leader = False
        self.state = INIT
        self._serve(now_us)

    def _rejoin_at_once(self, now_us: int) -> None:
        self._join_at_us = now_us
        self._rejoin(now_us)

    def _become_fatal(self, error: ErrorCode) -> None:
        self._core.become_fatal(error, f"Fatal consumer error: {error_text(error)}")

    # --- Heartbeats, session ---------------------------------------------------------------------------------------

    def _heartbeat(self, now_us: int) -> None:
        request = None
        if not self.max_poll_exceeded:
            request = self._requests.heartbeat(self.generation_id, self.member_id)
        self._heartbeats.send(request, now_us)

    def _on_heartbeat_error(self, error: ErrorCode, now_us: int) -> None:
        if self.state in (INIT, WAIT_JOIN, WAIT_METADATA, WAIT_SYNC):
            return  # An answer of an earlier generation.
        if error in COORDINATOR_MOVED:
            self._coordinator.on_dead(now_us)
        elif error == ErrorCode.REBALANCE_IN_PROGRESS:
            if not self.is_rebalancing:
                self._group_is_rebalancing(now_us)
        elif error == ErrorCode.UNKNOWN_MEMBER_ID:
            self.member_id = ""
            self._lose(now_us)
        elif error == ErrorCode.ILLEGAL_GENERATION:
            self.generation_id = -1
            self._lose(now_us)
        elif error == ErrorCode.FENCED_INSTANCE_ID:
            self._become_fatal(error)
            self._lose(now_us)

    def _group_is_rebalancing(self, now_us: int) -> None:
        if self.protocol == COOPERATIVE:
            self._rejoin(now_us)
        else:
            self._revoke_all_rejoin(lost=False, now_us=now_us)

    def _session_expired(self, now_us: int) -> None:
        self._heartbeats.expire()
        self.member_id = ""
        self._lose(now_us)

    # --- Leaving ---------------------------------------------------------------------------------------------------

    def _maybe_leave(self, now_us: int) -> None:
        if not self._leave_when_unassigned:
            return
        self._leave_when_unassigned = False
        if self.group_instance_id is None or not self.terminating:
            self._leave(now_us)

    def _leave(self, now_us: int) -> None:
        member_id, self.member_id = self.member_id, ""
        if self.waiting_to_leave or not self._coordinator.is_up:
            return
        self.waiting_to_leave = True
        self._coordinator.send(self._requests.leave(member_id), self._on_left, now_us, self._requests.leave_timeout_us)

    def _on_left(self, response: LeaveGroupResponse | None, error: ErrorCode, now_us: int) -> None:
        self.waiting_to_leave = False
        if self.terminating:
            self._host.try_terminate(now_us)
