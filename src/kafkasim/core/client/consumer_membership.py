"""Membership in a group of the consumer protocol (KIP-848): the coordinator assigns, the member reconciles and acknowledges.

Mirrors:  rdkafka_cgrp.c with group.protocol=consumer (rd_kafka_cgrp_consumer_serve, rd_kafka_cgrp_handle_ConsumerGroupHeartbeat).
Inputs:   subscribe, unsubscribe, on_coordinator, on_metadata, on_answer, on_assignment_done, on_commit_error, on_poll, terminate:
          those of ``ClassicMembership``.
Effects:  Send (ConsumerGroupHeartbeat; Metadata of topics known by id only); Rebalance items.
Rule 1:   one request does all: a heartbeat joins (epoch 0), tells news, acknowledges an assignment, leaves (epoch -1, static -2).
Rule 2:   an assignment is taken over incrementally: what went is revoked first, an assign follows even if it brings nothing.
Rule 3:   an assignment is acknowledged at once when the application has taken it over and its offsets are known.
Rule 4:   until its first assignment a member stays in INIT, and each of its heartbeats says everything.
"""

from __future__ import annotations

from kafkasim.core.client.assignors import COOPERATIVE
from kafkasim.core.client.consumer_heartbeats import ConsumerHeartbeats
from kafkasim.core.client.coordinator import COORDINATOR_MOVED, Coordinator
from kafkasim.core.client.core import ClientCore, Timer
from kafkasim.core.client.error_text import error_text
from kafkasim.core.client.items import ASSIGN, REVOKE, AppQueue, ConsumerError
from kafkasim.core.client.join_states import (
    INIT,
    STEADY,
    WAIT_ASSIGN_CALL,
    WAIT_INCR_UNASSIGN_TO_COMPLETE,
    WAIT_UNASSIGN_CALL,
    WAIT_UNASSIGN_TO_COMPLETE,
    Host,
)
from kafkasim.core.client.rebalancing import Rebalancing
from kafkasim.core.client.reconciliation import ById, Reconciliation
from kafkasim.core.client.subscription import TopicMatcher
from kafkasim.core.model.consumer_group_messages import ConsumerGroupHeartbeatResponse
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_NODE, TopicPartition
from kafkasim.core.model.messages import MetadataRequest, MetadataResponse

_FENCED = (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_MEMBER_EPOCH)
_RETRIED = (
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode._TIMED_OUT,
    ErrorCode._TIMED_OUT_QUEUE,
)
_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class ConsumerMembership(Rebalancing):
    """``group_assignment`` is what was given to the application; ``generation_id`` is the member epoch."""

    def __init__(self, core: ClientCore, queue: AppQueue, coordinator: Coordinator, host: Host) -> None:
        self._core = core
        self._queue = queue
        self._coordinator = coordinator
        self._host = host
        self._heartbeats = ConsumerHeartbeats(core, coordinator)
        self._reconciliation = Reconciliation(core.metadata)
        self.group_instance_id = self._heartbeats.instance_id

        self.state = INIT
        self.member_id = _new_member_id(core)
        self.generation_id = -1
        self.lost = False
        self.group_assignment: list[TopicPartition] | None = None
        self.terminating = False
        self.waiting_to_leave = False
        self.max_poll_exceeded = False
        self.rebalance_count = 0
        self.rebalance_us = 0
        self.subscription: TopicMatcher | None = None
        self._next_subscription: TopicMatcher | None = None
        self._was_subscribed = False
        self._next_assignment: list[TopicPartition] | None = None
        self._rejoin_after = False
        self._leave_when_unassigned = False
        self._must_rejoin = False  # Fenced, or not polling: everything is lost as soon as no rebalance is under way.
        self._is_rejoining = False
        self._must_acknowledge = False
        self._is_acknowledging = False
        self._has_news = False  # The subscription is another one than the coordinator knows.
        self._is_telling_news = False
        self._must_tell_all = False
        self._retries = 0
        self._last_coordinator = NO_NODE
        self._timer: Timer | None = None

    # --- What state it is in ---------------------------------------------------------------------------------------

    @property
    def protocol(self) -> str:
        """ "NONE" until the first subscription."""
        return COOPERATIVE if self._was_subscribed else "NONE"

    @property
    def waits_for_answer(self) -> bool:
        return self.state in (WAIT_ASSIGN_CALL, WAIT_UNASSIGN_CALL)

    @property
    def is_rebalancing(self) -> bool:
        return (
            self.state in (WAIT_UNASSIGN_TO_COMPLETE, WAIT_INCR_UNASSIGN_TO_COMPLETE)
            or self.waits_for_answer
            or self._next_assignment is not None
            or self._rejoin_after
        )

    @property
    def _will_leave(self) -> bool:
        return self._leave_when_unassigned or self.waiting_to_leave

    def subscribed(self) -> list[str]:
        matcher = self._next_subscription or self.subscription
        return [] if matcher is None else list(matcher.topics)

    # --- What the application asks for -----------------------------------------------------------------------------

    def subscribe(self, matcher: TopicMatcher, now_us: int) -> ErrorCode:
        if self._core.fatal_error != ErrorCode.NONE:
            if self.subscription is not None:
                self.unsubscribe(now_us)
            return ErrorCode._FATAL
        self._coordinator.start(now_us)
        self._next_subscription = matcher
        if not self._will_leave:
            self._apply_next_subscription(now_us)
        self._serve(now_us)
        return ErrorCode.NONE

    def _apply_next_subscription(self, now_us: int) -> None:
        matcher, self._next_subscription = self._next_subscription, None
        if matcher is not None and not self.terminating:
            self.subscription = matcher
            self._was_subscribed = self._has_news = True
            self._heartbeats.expedite(now_us)

    def unsubscribe(self, now_us: int) -> None:
        self.subscription = self._next_subscription = None
        may_leave = self.generation_id > 0 and not self._will_leave
        if may_leave and not self._must_rejoin and not self._is_rejoining:
            self._leave_when_unassigned = True
            self._revoke_all_rejoin(lost=False, now_us=now_us)

    def terminate(self, now_us: int) -> None:
        """close(): give everything back, then leave."""
        self.terminating = True
        self._must_rejoin = self._is_rejoining = False
        if self.subscription is not None:
            self.unsubscribe(now_us)
        if not self.waits_for_answer:
            self._host.unassign_all(now_us)
        self._host.serve_assignment(now_us)

    # --- Inputs from the consumer ----------------------------------------------------------------------------------

    def on_coordinator(self, now_us: int) -> None:
        node = self._coordinator.node
        if node != self._last_coordinator:
            self._last_coordinator = node
            self._heartbeats.expedite(now_us)
        self._serve(now_us)

    def on_metadata(self, is_full: bool, now_us: int) -> None:
        """The coordinator watches the topics of this protocol, not the member."""

    def on_answer(self, method: str, now_us: int) -> None:
        """The application answered a Rebalance: "assign", "unassign", "incremental-assign" or "incremental-unassign"."""
        self._found_again(method)
        if self.state == WAIT_ASSIGN_CALL and method in ("assign", "incremental-assign"):
            self._host.release(now_us)
            self.state = STEADY
            if self.subscription is not None:
                self._host.watch_polls(now_us)
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
            self._rejoin(now_us)
        elif self.state == WAIT_INCR_UNASSIGN_TO_COMPLETE:
            self._incremental_unassign_done(now_us)
        elif self.state in (INIT, STEADY) and not self._maybe_leave(now_us) and not self.terminating:
            if self.state == INIT:
                self._heartbeats.expedite(now_us)
            elif self._rejoin_after:
                self._rejoin_after = False
                self._rejoin(now_us)
            elif self._must_acknowledge:
                self._heartbeats.expedite(now_us)
        if self.terminating:
            self._host.try_terminate(now_us)
        self._serve(now_us)

    def _incremental_unassign_done(self, now_us: int) -> None:
        if self.terminating:
            self.state = WAIT_UNASSIGN_TO_COMPLETE
            self._host.unassign_all(now_us)
            self._host.serve_assignment(now_us)
        elif self._next_assignment is not None:
            partitions, self._next_assignment = self._next_assignment, None
            self._rebalance_incrementally(ASSIGN, partitions, rejoin=False, now_us=now_us)
        elif self._rejoin_after:
            self._rejoin_after = False
            self._rejoin(now_us)
        else:
            self.state = STEADY
            if self.subscription is not None:
                self._host.watch_polls(now_us)

    def on_commit_error(self, error: ErrorCode, now_us: int) -> None:
        if error in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.STALE_MEMBER_EPOCH):
            self._heartbeats.expedite(now_us)
            self._serve(now_us)
        elif error == ErrorCode.ILLEGAL_GENERATION and not self.is_rebalancing:
            self.generation_id = -1
            self._lose(now_us)
        elif error == ErrorCode.FENCED_INSTANCE_ID:
            self._core.become_fatal(error, f"OffsetCommit failed: {error_text(error)}")

    def on_poll(self, now_us: int) -> None:
        """The application polls again after max.poll.interval.ms was exceeded."""
        if self.max_poll_exceeded:
            self._heartbeats.expedite(now_us)
            self._serve(now_us)

    def on_max_poll_exceeded(self, exceeded_ms: int, now_us: int) -> None:
        """The coordinator hears of it only when the application has given its partitions back."""
        text = f"Application maximum poll interval ({self._heartbeats.max_poll_ms}ms) exceeded by {exceeded_ms}ms"
        self._tell(ConsumerError(ErrorCode._MAX_POLL_EXCEEDED, text))
        self.max_poll_exceeded = True
        self._must_rejoin = self._leave_when_unassigned = True
        self._heartbeats.expedite(now_us)
        self._serve(now_us)

    # --- The loop --------------------------------------------------------------------------------------------------

    def _serve(self, now_us: int) -> None:
        """Send the heartbeat that is due, or see to it that the next one is sent."""
        if self._core.fatal_error != ErrorCode.NONE or not self._coordinator.is_up or self._core.closed:
            return
        if self._must_rejoin:
            if self.is_rebalancing:
                return
            self._must_rejoin, self._is_rejoining = False, True
            self._revoke_all_rejoin(lost=True, now_us=now_us)
        if self.state == INIT:
            self._is_rejoining = False
            self._apply_next_subscription(now_us)
        if not self._may_beat(now_us):
            return
        if self._heartbeats.due_us <= now_us:
            self._beat(now_us)
        else:
            self._arm(now_us)

    def _may_beat(self, now_us: int) -> bool:
        if self.subscription is None or self._heartbeats.in_flight or self._is_rejoining or self._will_leave:
            return False
        return not self._waits_for_poll(now_us)

    def _arm(self, now_us: int) -> None:
        """Have ``_serve`` called when the next heartbeat is due."""
        if not self._may_beat(now_us):
            return
        at_us = max(self._heartbeats.due_us, now_us)
        timer = self._timer
        if timer is not None and timer.callback is not None:
            if timer.at_us == at_us:
                return
            timer.cancel()
        self._timer = self._core.call_at(at_us, self._serve)

    def _beat(self, now_us: int) -> None:
        is_full = self._must_tell_all or self.state == INIT
        reconciliation = self._reconciliation
        owned: ById | None = reconciliation.current if is_full else None
        if self.state == STEADY and self._must_acknowledge:
            owned, self._is_acknowledging = reconciliation.target, True
        if self._has_news and not self.is_rebalancing:
            self._has_news, self._is_telling_news = False, True
        assert self.subscription is not None
        subscription = self.subscription.by_protocol() if is_full or self._is_telling_news else None
        self.max_poll_exceeded = False
        self._heartbeats.send(
            self.member_id,
            self.generation_id,
            is_full=is_full,
            subscription=subscription,
            owned=owned,
            handler=self._on_heartbeat,
            now_us=now_us,
        )

    # --- The coordinator's answers ---------------------------------------------------------------------------------

    def _on_heartbeat(self, response: ConsumerGroupHeartbeatResponse | None, error: ErrorCode, now_us: int) -> None:
        self._heartbeats.in_flight = False
        if response is not None:
            error = response.error
        if response is None or error != ErrorCode.NONE:
            self._heartbeat_failed(error, now_us)
            self._serve(now_us)
            return
        self._retries = 0
        self.member_id = response.member_id or self.member_id
        self.generation_id = response.member_epoch
        if not self._will_leave:
            self._take_answer(response, now_us)
        self._serve(now_us)

    def _take_answer(self, response: ConsumerGroupHeartbeatResponse, now_us: int) -> None:
        reconciliation = self._reconciliation
        if response.assignment is not None:
            reconciliation.on_assignment(response.assignment)
        self._heartbeats.answered(response.heartbeat_interval_ms)
        if self.state == STEADY and self._must_acknowledge and reconciliation.target is not None:
            if self._is_acknowledging:
                reconciliation.acknowledged()
                self._must_acknowledge = False
            elif self.subscription is not None:
                self._heartbeats.expedite(now_us)
        if reconciliation.next is not None:
            if self.subscription is None:
                reconciliation.next = None  # We left while this heartbeat was out.
            else:
                self._reconcile_next(now_us)
        if self._has_news and not self.is_rebalancing:
            self._heartbeats.expedite(now_us)
        self._is_telling_news = self._must_tell_all = self._is_acknowledging = False

    def _heartbeat_failed(self, error: ErrorCode, now_us: int) -> None:
        """What a broker says beyond these is fatal."""
        is_broker_error = error >= ErrorCode.UNKNOWN_SERVER_ERROR
        if error in _FENCED:
            self._must_rejoin = True
        elif error == ErrorCode.GROUP_ID_NOT_FOUND and self.waiting_to_leave:
            return
        elif is_broker_error and error not in COORDINATOR_MOVED and error not in _RETRIED:
            self._core.become_fatal(error, f"ConsumerGroupHeartbeat fatal error: {error_text(error)}")
            self._lose(now_us)
        else:
            if error in COORDINATOR_MOVED:
                self._must_tell_all = True
                self._coordinator.on_dead(now_us)
            if error in _RETRIED or not self._heartbeats.interval_us:
                self._retries += 1
                self._heartbeats.postpone(now_us + self._core.retry_backoff_us(self._retries))

    # --- Reconciling -----------------------------------------------------------------------------------------------

    def _reconcile_next(self, now_us: int) -> None:
        """Take the waiting assignment over, once each of its topics has a name."""
        missing = self._reconciliation.missing()
        if not missing:
            self._reconcile(now_us)
            return

        def on_end(response: MetadataResponse | None, error: ErrorCode, at_us: int) -> None:
            if response is not None and response.error == ErrorCode.NONE:
                self._core.take_metadata(response, False, at_us)
            if self._reconciliation.next is not None and self.subscription is not None:
                self._reconcile(at_us)
                self._serve(at_us)

        self._coordinator.send(MetadataRequest((), False, topic_ids=missing), on_end, now_us)

    def _reconcile(self, now_us: int) -> None:
        """Begin with what of the waiting assignment has names; one heartbeat later the rest is looked at again."""
        if self._must_acknowledge:
            return  # One at a time.
        reconciliation = self._reconciliation
        assignment = reconciliation.named()
        is_whole = assignment == reconciliation.next
        differs = reconciliation.differs(assignment)
        if is_whole and (not differs or self.state in (INIT, STEADY)):
            reconciliation.next = None
        if differs and self.state in (INIT, STEADY):
            self._must_acknowledge = True
            self._on_assigned(reconciliation.begin(assignment), now_us)

    def _on_assigned(self, partitions: list[TopicPartition], now_us: int) -> None:
        owned = self.group_assignment or []
        kept, wanted = set(owned), set(partitions)
        added = [tp for tp in partitions if tp not in kept]
        revoked = [tp for tp in owned if tp not in wanted]
        if revoked:
            self._next_assignment = added
            self._rebalance_incrementally(REVOKE, revoked, rejoin=False, now_us=now_us)
        else:
            self._rebalance_incrementally(ASSIGN, added, rejoin=False, now_us=now_us)

    # --- Joining again, leaving ------------------------------------------------------------------------------------

    def _rejoin(self, now_us: int) -> None:
        self._maybe_leave(now_us)
        self._reset()
        self.state = INIT
        self._heartbeats.expedite(now_us)
        self._serve(now_us)

    def _rejoin_at_once(self, now_us: int) -> None:
        self._rejoin(now_us)

    def _reset(self) -> None:
        """Nothing is known to the coordinator any more."""
        self.generation_id = 0
        self._reconciliation.reset()
        self._must_acknowledge = self._is_acknowledging = False
        self._has_news = self._is_telling_news = self._must_tell_all = self._must_rejoin = False

    def _maybe_leave(self, now_us: int) -> bool:
        if not self._leave_when_unassigned:
            return False
        self._leave_when_unassigned = False
        if not self.waiting_to_leave:
            self.waiting_to_leave = True
            self._heartbeats.leave(self.member_id, self._on_left, now_us)
        return True

    def _on_left(self, response: ConsumerGroupHeartbeatResponse | None, error: ErrorCode, now_us: int) -> None:
        self._reset()
        self.waiting_to_leave = False
        if self.terminating:
            self._host.try_terminate(now_us)
        self._serve(now_us)

    def _tell(self, error: ConsumerError) -> None:
        self._queue.put_error(error)
        self._core.wake = True


def _new_member_id(core: ClientCore) -> str:
    """A random UUID in librdkafka's spelling: 22 digits of base 64."""
    number = core.draw("member.id", 1 << 62) << 64 | core.draw("member.id", 1 << 62)
    return "".join(_DIGITS[number >> shift & 63] for shift in range(126, -1, -6))
