"""A broker's life with the controller: registration, heartbeats, following the metadata log, controlled shutdown.

Mirrors:  BrokerLifecycleManager, NodeToControllerChannelManager, MetadataLoader and the order of BrokerServer.shutdown.
Inputs:   settle, on_deadline, shutdown, send_to_controller; answers through the node's requests.
Effects:  Send (by the requests), Note, Halt.
Rule 1:   only this component knows who the active controller is; the others ask through ``send_to_controller``.
Rule 2:   the image follows committed batches alone, and ``publish`` hears of each advance once.
Rule 3:   one heartbeat or registration is in flight at a time; the next is planned when it has ended.
Differs:  no jitter in the pause after a failure; log recovery takes no time unless the disk says so, so a broker asks to be
          unfenced as soon as it has caught up with its own registration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafkasim.core.client.requests import Handler
from kafkasim.core.controller.image import ImageDelta
from kafkasim.core.model.cluster_messages import (
    AlterPartitionRequest,
    BrokerHeartbeatRequest,
    BrokerHeartbeatResponse,
    BrokerRegistrationRequest,
    BrokerRegistrationResponse,
)
from kafkasim.core.model.effects import (
    ALTER_PARTITION_CHANNEL,
    CONTROLLER_CHANNEL,
    MAIN_CHANNEL,
    NEVER_US,
    Halt,
)
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_EPOCH, NO_NODE
from kafkasim.core.model.message import slotted
from kafkasim.core.node.context import BrokerContext, Call
from kafkasim.core.quorum.raft import RaftReplica

#: Pause before the controller is looked for again.
CONTROLLER_RETRY_US = 50_000
#: How long a request looks for the controller before its owner hears of it, and how long one attempt may take.
CONTROLLER_DEADLINE_US = 60_000_000
CONTROLLER_TIMEOUT_US = 30_000_000
_STARTING_PAUSE_US = 10_000
_SHUTDOWN_PAUSE_US = 50_000
_FAILURE_PAUSE_US = 100_000
_SHUTDOWN_DEADLINE_US = 300_000_000
#: About as long as closing everything down takes a real broker: what is sent at the beginning of it is still answered.
_LAST_WRITES_US = 500_000

#: States of a broker (BrokerState).
NOT_RUNNING = "not_running"
STARTING = "starting"
RECOVERY = "recovery"
RUNNING = "running"
PENDING_CONTROLLED_SHUTDOWN = "pending_controlled_shutdown"
SHUTTING_DOWN = "shutting_down"


@slotted
class _ControllerRequest:
    """A request that shall reach the active controller, whoever that is by then."""

    request: Any
    handler: Handler
    channel: int
    deadline_us: int
    retry_us: int = 0
    #: When it last looked in vain for a leader; -1 where it does not wait for one.
    looked_us: int = -1


class LifeCycle:
    """A component of the broker node. In a combined node ``raft`` is the controller's; otherwise it is an observer's."""

    API_KEYS: tuple[int, ...] = ()

    def __init__(
        self,
        ctx: BrokerContext,
        raft: RaftReplica,
        publish: Callable[[ImageDelta, int], None],
        *,
        host: str,
        port: int,
        drives_raft: bool,
        on_running: Callable[[int], None] | None = None,
        on_stopped: Callable[[int], None] | None = None,
    ) -> None:
        """``drives_raft``: this component also passes deadlines to ``raft`` (an observer; a controller drives its own).

        ``on_running(now_us)`` is called once the controller has unfenced the broker.

        ``on_stopped(now_us)`` is called once the broker may go, with its clean-shutdown mark written; without it the
        process halts there and then.
        """
        self._ctx = ctx
        self._raft = raft
        self._publish = publish
        self._host = host
        self._port = port
        self._drives_raft = drives_raft
        self._on_running = on_running
        self._on_stopped = on_stopped
        #: Called when the controller lets the broker go; who returns False calls ``finish`` when its last writes are done.
        self.on_allowed: Callable[[int], bool] = lambda now_us: True
        self.state = NOT_RUNNING
        #: As the controller's last answer had it.
        self.fenced = True
        config = ctx.image.broker_int
        self._heartbeat_us = config("broker.heartbeat.interval.ms") * 1000
        self._session_us = config("broker.session.timeout.ms") * 1000
        self._registration_timeout_us = config("initial.broker.registration.timeout.ms") * 1000
        self._controlled = ctx.image.broker_config("controlled.shutdown.enable") is True
        self._incarnation_id = ""
        self._previous_broker_epoch = NO_EPOCH
        self._in_flight = False
        self._again_at_once = False
        self._next_us = NEVER_US
        self._failures = 0
        #: Until then logs are recovered, and the broker does not ask to be unfenced.
        self._recovered_us = 0
        self._give_up_us = NEVER_US
        self._got_shutdown_answer = False
        self._searching: list[_ControllerRequest] = []
        #: Somebody waits until the quorum has a leader that this node knows.
        self._is_leaderless = False
        #: When a request looks for the controller again.
        self.search_us = NEVER_US
        ctx.controller_sender = self.send_to_controller

    # --- the component ---------------------------------------------------------------------------------------------

    @property
    def registered(self) -> bool:
        return self._ctx.broker_epoch != NO_EPOCH

    @property
    def deadline_us(self) -> int:
        earliest_us = self._next_us
        if self.search_us < earliest_us:
            earliest_us = self.search_us
        if self._give_up_us < earliest_us:
            earliest_us = self._give_up_us
        return min(earliest_us, self._raft.deadline_us) if self._drives_raft else earliest_us

    def start(self, now_us: int) -> None:
        """Begin to register. What the previous process left behind is read, and taken away, here."""
        assert self.state == NOT_RUNNING
        self.state = STARTING
        ctx = self._ctx
        # The time of the start keeps two processes of one broker apart even if the draw does not.
        self._incarnation_id = f"{now_us:x}-{ctx.draw('broker.incarnation_id', 1 << 62):x}"
        self._previous_broker_epoch = ctx.storage.take_clean_shutdown_epoch()
        if self._previous_broker_epoch == NO_EPOCH:
            self._recovered_us = now_us + ctx.storage.recovery_us()
        self._give_up_us = now_us + self._registration_timeout_us
        self._communicate(now_us)

    def on_request(self, call: Call, now_us: int) -> None:
        raise AssertionError("nobody asks the life cycle anything")

    def on_image(self, delta: ImageDelta, now_us: int) -> None:
        """It was this component that told the others."""

    def on_closed(self, connection_id: int, now_us: int) -> None:
        """No request is ever in hand."""

    def on_deadline(self, now_us: int) -> None:
        if self._drives_raft and self._raft.deadline_us <= now_us:
            self._raft.on_deadline(now_us)
        self.settle(now_us)
        if self.search_us <= now_us:
            self._search_again(now_us)
        if self._next_us <= now_us:
            self._next_us = NEVER_US
            self._communicate(now_us)
        if self._give_up_us <= now_us:
            self._give_up(now_us)

    def settle(self, now_us: int) -> bool:
        """Replay what has been committed. To be called after any input that may have reached the quorum replica.

        Returns whether there was anything that the other components were told of.
        """
        raft = self._raft
        if self._drives_raft:
            raft.take_role_changes()
        if self._is_leaderless and raft.leader_id != NO_NODE:
            self._on_leader(now_us)
        image = self._ctx.image
        if raft.high_watermark <= image.next_offset or self.state == SHUTTING_DOWN:
            return False  # Components that have stopped must not be started again by what the others do now.
        delta = ImageDelta()
        snapshot = raft.snapshot_before(image.next_offset)
        if snapshot is not None:
            image.load_snapshot(snapshot, delta)
        for batch in raft.read_committed(image.next_offset):
            image.replay_batch(batch, delta)
        if delta:
            self._ctx.note("metadata-published", self._ctx.node_id, offset=image.next_offset)
            self._publish(delta, now_us)
            return True
        return False

    # --- shutdown --------------------------------------------------------------------------------------------------

    def shutdown(self, now_us: int) -> None:
        """Leave in order: hand leaderships over first, if the broker serves at all."""
        if self.state in (PENDING_CONTROLLED_SHUTDOWN, SHUTTING_DOWN):
            return
        if self.state != RUNNING or not self._controlled:
            self._stop(now_us)
            return
        self.state = PENDING_CONTROLLED_SHUTDOWN
        self._give_up_us = now_us + _SHUTDOWN_DEADLINE_US
        self._ctx.note("controlled-shutdown", self._ctx.node_id)
        self._communicate_at_once(now_us)

    def finish(self, now_us: int) -> None:
        """The last writes of a controlled shutdown are done."""
        if self.state == PENDING_CONTROLLED_SHUTDOWN:
            self._stop(now_us)

    def _stop(self, now_us: int) -> None:
        self.state = SHUTTING_DOWN
        self._next_us = self.search_us = self._give_up_us = NEVER_US
        self._searching.clear()
        self._ctx.storage.stop_cleanly(self._ctx.broker_epoch)
        if self._on_stopped is not None:
            self._on_stopped(now_us)
        else:
            self._ctx.outbox.append(Halt("shutdown"))

    def _give_up(self, now_us: int) -> None:
        self._give_up_us = NEVER_US
        if self.state == PENDING_CONTROLLED_SHUTDOWN:
            self._stop(now_us)
        elif not self.registered:
            self.state = SHUTTING_DOWN
            self._next_us = self.search_us = NEVER_US
            self._searching.clear()
            self._ctx.outbox.append(Halt("initial.broker.registration.timeout.ms has passed without a registration"))

    # --- registration and heartbeats -------------------------------------------------------------------------------

    def _communicate_at_once(self, now_us: int) -> None:
        if self._in_flight:
            self._again_at_once = True
        else:
            self._next_us = NEVER_US
            self._communicate(now_us)

    def _communicate(self, now_us: int) -> None:
        """Send the registration, or once there is one a heartbeat."""
        assert not self._in_flight
        self._in_flight = True
        ctx = self._ctx
        request: BrokerRegistrationRequest | BrokerHeartbeatRequest
        if not self.registered:
            request = BrokerRegistrationRequest(
                ctx.node_id, self._incarnation_id, self._host, self._port, ctx.rack, self._previous_broker_epoch
            )
            handler: Handler = self._on_registration
        else:
            request = BrokerHeartbeatRequest(
                ctx.node_id,
                ctx.broker_epoch,
                ctx.image.next_offset - 1,
                want_fence=self.state == STARTING,
                want_shut_down=self.state == PENDING_CONTROLLED_SHUTDOWN,
            )
            handler = self._on_heartbeat
        # Half a session: late enough to survive an election, early enough to be heard of in time.
        self._search(_ControllerRequest(request, handler, CONTROLLER_CHANNEL, now_us + self._session_us // 2), now_us)

    def _on_registration(self, response: BrokerRegistrationResponse | None, error: ErrorCode, now_us: int) -> None:
        self._in_flight = False
        if self.state == SHUTTING_DOWN:
            return
        if response is None or response.error is not ErrorCode.NONE:
            self._plan_after_failure(now_us)
            return
        self._failures = 0
        self._give_up_us = NEVER_US
        self._ctx.broker_epoch = response.broker_epoch
        self._communicate(now_us)

    def _on_heartbeat(self, response: BrokerHeartbeatResponse | None, error: ErrorCode, now_us: int) -> None:
        self._in_flight = False
        if self.state == SHUTTING_DOWN:
            return
        if response is None or response.error is not ErrorCode.NONE:
            self._plan_after_failure(now_us)
            return
        self._failures = 0
        self.fenced = response.is_fenced
        pause_us = self._heartbeat_us
        if self.state == STARTING:
            pause_us = _STARTING_PAUSE_US
            if response.is_caught_up and now_us >= self._recovered_us:
                self._become(RECOVERY)
                self._remove_stray_logs()
        elif self.state == RECOVERY:
            if not response.is_fenced:
                self._become(RUNNING)
                if self._on_running is not None:
                    self._on_running(now_us)
        elif self.state == PENDING_CONTROLLED_SHUTDOWN:
            if response.should_shut_down:
                self._give_up_us = min(self._give_up_us, now_us + _LAST_WRITES_US)
                if self.on_allowed(now_us):
                    self.finish(now_us)
                return
            if not self._got_shutdown_answer:
                self._got_shutdown_answer = True
                pause_us = _SHUTDOWN_PAUSE_US
        self._plan(now_us + pause_us, now_us)

    def _remove_stray_logs(self) -> None:
        """Topics went, or their replicas did, while this broker was down, and a snapshot does not tell of it."""
        image, logs, node_id = self._ctx.image, self._ctx.storage.logs, self._ctx.node_id
        for tp, log in list(logs.items()):
            state = image.partition(tp)
            if state is None or state.topic_id != log.topic_id or node_id not in state.replicas:
                del logs[tp]

    def _become(self, state: str) -> None:
        self.state = state
        self._ctx.note("broker-state", self._ctx.node_id, state=state)

    def _plan_after_failure(self, now_us: int) -> None:
        pause_us = min(_FAILURE_PAUSE_US << min(self._failures, 16), max(_FAILURE_PAUSE_US, self._session_us // 2))
        self._failures += 1
        self._plan(now_us + pause_us, now_us)

    def _plan(self, next_us: int, now_us: int) -> None:
        if self._again_at_once:
            self._again_at_once = False
            next_us = now_us
        self._next_us = next_us

    # --- the way to the controller ---------------------------------------------------------------------------------

    def send_to_controller(
        self, request: Any, handler: Handler, now_us: int, deadline_us: int = CONTROLLER_DEADLINE_US
    ) -> None:
        """``handler`` hears of the active controller's answer, or of ``_TIMED_OUT`` after ``deadline_us`` from now.

        Until then every attempt that finds no controller, or one that is none any more, is repeated.
        """
        channel = ALTER_PARTITION_CHANNEL if isinstance(request, AlterPartitionRequest) else MAIN_CHANNEL
        self._search(_ControllerRequest(request, handler, channel, now_us + deadline_us), now_us)

    def _search(self, wanted: _ControllerRequest, now_us: int) -> None:
        leader = self._raft.leader_id
        if leader == NO_NODE:
            self._await_leader(wanted, now_us)
            return

        def on_end(response: Any, error: ErrorCode, now_us: int) -> None:
            if self.state == SHUTTING_DOWN:
                return
            if response is not None and getattr(response, "error", None) is not ErrorCode.NOT_CONTROLLER:
                wanted.handler(response, ErrorCode.NONE, now_us)
            else:
                self._retry_later(wanted, now_us)

        timeout_us = min(CONTROLLER_TIMEOUT_US, max(1, wanted.deadline_us - now_us))
        self._ctx.requests.send(
            leader, wanted.request, on_end, timeout_us=timeout_us, now_us=now_us, channel=wanted.channel
        )

    def _retry_later(self, wanted: _ControllerRequest, now_us: int) -> None:
        if now_us + CONTROLLER_RETRY_US > wanted.deadline_us:
            wanted.handler(None, ErrorCode._TIMED_OUT, now_us)
            return
        wanted.retry_us = now_us + CONTROLLER_RETRY_US
        self._searching.append(wanted)
        self.search_us = min(self.search_us, wanted.retry_us)

    def _await_leader(self, wanted: _ControllerRequest, now_us: int) -> None:
        """Kafka looks every so often whether there is a leader. This one sleeps until there is, and looks when Kafka would have."""
        if now_us + CONTROLLER_RETRY_US > wanted.deadline_us:
            wanted.handler(None, ErrorCode._TIMED_OUT, now_us)
            return
        wanted.looked_us = now_us
        wanted.retry_us = now_us + (wanted.deadline_us - now_us) // CONTROLLER_RETRY_US * CONTROLLER_RETRY_US
        self._searching.append(wanted)
        self._is_leaderless = True
        self.search_us = min(self.search_us, wanted.retry_us)

    def _on_leader(self, now_us: int) -> None:
        """The next look of everybody who waits for a leader."""
        self._is_leaderless = False
        for wanted in self._searching:
            if wanted.looked_us >= 0:
                looks = max(1, -((wanted.looked_us - now_us) // CONTROLLER_RETRY_US))
                wanted.retry_us = min(wanted.retry_us, wanted.looked_us + looks * CONTROLLER_RETRY_US)
                wanted.looked_us = -1
                self.search_us = min(self.search_us, wanted.retry_us)

    def _search_again(self, now_us: int) -> None:
        due = [wanted for wanted in self._searching if wanted.retry_us <= now_us]
        self._searching = [wanted for wanted in self._searching if wanted.retry_us > now_us]
        self.search_us = min((wanted.retry_us for wanted in self._searching), default=NEVER_US)
        for wanted in due:
            self._search(wanted, now_us)
