"""The idempotent producer's identity: its producer id and epoch, and what errors do to them.

Mirrors:  rdkafka_idempotence.c; rd_kafka_handle_idempotent_Produce_error and _success (KIP-98, KIP-360).
Inputs:   start, on_batch_done, judge, drain_bump, drain_reset.      Effects: InitProducerId through the core.
Rule 1:   an epoch is bumped only when no batch of any partition is in flight ("drained"); a producer that is not transactional
          bumps it by itself, without asking a broker.
Rule 2:   a batch refused with OUT_OF_ORDER_SEQUENCE_NUMBER is retried in a new epoch if an earlier one had failed, and fatal if not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kafkasim.core.client.accumulator import PERSISTED, PartitionQueue, ProducerBatch
from kafkasim.core.client.error_text import error_text
from kafkasim.core.client.produce_errors import PERMANENT_WRITTEN, RETRY_FREELY, ProduceAction, action_of
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_PRODUCER_ID
from kafkasim.core.model.messages import InitProducerIdRequest, InitProducerIdResponse

if TYPE_CHECKING:
    from kafkasim.core.client.core import ClientCore

_RETRY_US = 500_000
_MAX_EPOCH = 32767

REQUEST_ID = "RequestPID"
WAIT_ID = "WaitPID"
ASSIGNED = "Assigned"
DRAIN_RESET = "DrainReset"
DRAIN_BUMP = "DrainBump"
FATAL = "FatalError"

_FATAL_CODES = (
    ErrorCode.INVALID_PRODUCER_EPOCH,
    ErrorCode.PRODUCER_FENCED,
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
)


class Identity:
    """One producer's id; ``is_enabled`` False: a plain producer, for which everything here is a no-op."""

    __slots__ = ("_busy_queues", "_core", "_gapless", "_on_assigned", "epoch", "is_enabled", "producer_id", "state")

    def __init__(self, core: ClientCore, on_assigned: Callable[[int], None]) -> None:
        self._core = core
        self._on_assigned = on_assigned
        self.is_enabled = core.config.flag("enable.idempotence")
        self._gapless = core.config.flag("enable.gapless.guarantee")
        self.state = REQUEST_ID
        self.producer_id = NO_PRODUCER_ID
        self.epoch = -1
        self._busy_queues = 0

    @property
    def may_send(self) -> bool:
        return not self.is_enabled or self.state == ASSIGNED

    # --- Getting an id ---------------------------------------------------------------------------------------------

    def start(self, now_us: int) -> None:
        if self.is_enabled:
            self._request_id(now_us)

    def _request_id(self, now_us: int) -> None:
        if self.state != REQUEST_ID or self._core.closed:
            return
        core = self._core
        to = core.any_broker(now_us)
        if to is None or not core.is_up(to):
            # The broker's coming up calls us again; the timer is for those that never do.
            core.call_at(now_us + _RETRY_US, self._request_id)
            return
        self.state = WAIT_ID
        core.send(to, InitProducerIdRequest(), self._on_id, now_us=now_us)

    def on_connection_up(self, now_us: int) -> None:
        if self.is_enabled:
            self._request_id(now_us)

    def _on_id(self, response: InitProducerIdResponse | None, error: ErrorCode, now_us: int) -> None:
        if self.state != WAIT_ID:
            return
        if response is not None:
            error = response.error
        if response is None or error != ErrorCode.NONE:
            if error in _FATAL_CODES:
                text = f"Failed to acquire idempotence PID: {error_text(error)}"
                self._become_fatal(error, text)
                return
            self.state = REQUEST_ID
            self._core.call_at(now_us + _RETRY_US, self._request_id)
            return
        self.producer_id, self.epoch = response.producer_id, response.producer_epoch
        self.state = ASSIGNED
        self._on_assigned(now_us)

    def _become_fatal(self, error: ErrorCode, text: str) -> None:
        self.state = FATAL
        self._core.become_fatal(error, text)

    # --- Draining ----------------------------------------------------------------------------------------------------

    def on_batch_sent(self, queue: PartitionQueue, count: int) -> None:
        if queue.in_flight_records == 0:
            self._busy_queues += 1
        queue.in_flight_records += count

    def on_batch_done(self, queue: PartitionQueue, count: int, now_us: int) -> None:
        """A batch is no longer in flight; to be called after its outcome was judged."""
        queue.in_flight_records -= count
        assert queue.in_flight_records >= 0
        if queue.in_flight_records == 0:
            self._busy_queues -= 1
            self._check_drained(now_us)

    def drain_bump(self, now_us: int) -> None:
        """Start a new epoch as soon as nothing is in flight: sequence numbers have a hole."""
        if self.is_enabled and self.producer_id != NO_PRODUCER_ID and self.state in (ASSIGNED, DRAIN_BUMP):
            self.state = DRAIN_BUMP
            self._check_drained(now_us)

    def drain_reset(self, now_us: int) -> None:
        if self.is_enabled and self.state != FATAL:
            self.state = DRAIN_RESET
            self._check_drained(now_us)

    def _check_drained(self, now_us: int) -> None:
        if self._busy_queues > 0:
            return
        if self._core.fatal_error != ErrorCode.NONE and self.state in (DRAIN_RESET, DRAIN_BUMP):
            self.state = FATAL
        elif self.state == DRAIN_RESET or (self.state == DRAIN_BUMP and self.epoch >= _MAX_EPOCH):
            self.state = REQUEST_ID
            self._core.call_at(now_us + 1000, self._request_id)
        elif self.state == DRAIN_BUMP:
            self.epoch += 1
            self.state = ASSIGNED
            self._on_assigned(now_us)

    def adopt(self, queue: PartitionQueue, first: ProducerBatch) -> bool:
        """Have ``queue`` use the current id and epoch, numbering from ``first``; False while batches of another are in flight."""
        if queue.producer_id == self.producer_id and queue.producer_epoch == self.epoch:
            return True
        if queue.in_flight_records > 0:
            return False
        queue.producer_id, queue.producer_epoch = self.producer_id, self.epoch
        queue.base_msgid = first.first_msgid
        queue.next_ack_sequence = queue.next_error_sequence = 0
        return True

    # --- Outcomes ----------------------------------------------------------------------------------------------------

    def on_success(self, queue: PartitionQueue, batch: ProducerBatch) -> None:
        """Numbers move on. Success where a failure was expected cannot be repaired."""
        first, after = queue.sequence_of(batch), self._sequence_after(queue, batch)
        diverged = first != queue.next_ack_sequence and first == queue.next_error_sequence
        if diverged and queue.acked_msgid >= batch.first_msgid - 1:
            self._become_fatal(
                ErrorCode._INCONSISTENT,
                f"ProduceRequest for {queue.tp.topic} [{queue.tp.partition}] with {len(batch.values)} message(s) "
                f"succeeded when expecting failure (base seq {first}, next ack seq {queue.next_ack_sequence}, "
                f"next err seq {queue.next_error_sequence}: unable to retry without risking duplication/reordering",
            )
            queue.next_error_sequence = after
        else:
            if queue.next_error_sequence == queue.next_ack_sequence:
                queue.next_error_sequence = after
            queue.next_ack_sequence = after
        queue.acked_msgid = max(queue.acked_msgid, batch.last_msgid)

    def judge(
        self, queue: PartitionQueue, batch: ProducerBatch, error: ErrorCode, now_us: int
    ) -> tuple[ErrorCode, ProduceAction]:
        """What becomes of a batch that failed with ``error``; NONE if it turns out to be delivered."""
        action = action_of(error)
        queue.next_error_sequence, expected_error = self._sequence_after(queue, batch), queue.next_error_sequence
        sealed = batch.record_batch
        assert sealed is not None
        if (sealed.producer_id, sealed.producer_epoch) != (queue.producer_id, queue.producer_epoch):
            return error, action  # A leftover of another epoch says nothing about this one.
        if error == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER:
            return error, self._judge_out_of_order(queue, batch, error, now_us)
        if error == ErrorCode.DUPLICATE_SEQUENCE_NUMBER:
            queue.next_ack_sequence = queue.next_error_sequence
            batch.status = PERSISTED
            return ErrorCode.NONE, action
        if error == ErrorCode.UNKNOWN_PRODUCER_ID:
            if batch.retries == 0 and expected_error == sealed.base_sequence:
                self.drain_bump(now_us)
                return error, RETRY_FREELY
            self._become_fatal(
                error,
                f"{self._about(queue, batch)} due to unknown producer id: "
                "unable to retry without risking duplication/reordering",
            )
            return error, PERMANENT_WRITTEN
        return error, action

    def _judge_out_of_order(
        self, queue: PartitionQueue, batch: ProducerBatch, error: ErrorCode, now_us: int
    ) -> ProduceAction:
        ahead = queue.sequence_of(batch) - queue.next_ack_sequence
        if ahead > 0:
            self.drain_bump(now_us)  # The batch before it failed; both go again under a new epoch.
            return RETRY_FREELY
        what = (
            "due to sequence desynchronization with broker" if ahead == 0 else "with rewound sequence number on broker"
        )
        self._become_fatal(error, f"{self._about(queue, batch)} {what}")
        return PERMANENT_WRITTEN

    def on_permanent_failure(self, queue: PartitionQueue, batch: ProducerBatch, error: ErrorCode, now_us: int) -> None:
        """Records are given up: the hole in the sequence needs a new epoch, or is fatal by ``enable.gapless.guarantee``."""
        if self._core.fatal_error != ErrorCode.NONE:
            return
        if self._gapless:
            self._become_fatal(
                ErrorCode._GAPLESS_GUARANTEE,
                f"{self._about(queue, batch)}: {error_text(error)}: unable to satisfy gap-less guarantee",
            )
            self.drain_reset(now_us)
        else:
            self.drain_bump(now_us)

    def _about(self, queue: PartitionQueue, batch: ProducerBatch) -> str:
        return (
            f"ProduceRequest for {queue.tp.topic} [{queue.tp.partition}] with {len(batch.values)} message(s) failed "
            f"(PID{{Id:{self.producer_id},Epoch:{self.epoch}}}, base seq {queue.sequence_of(batch)})"
        )

    def _sequence_after(self, queue: PartitionQueue, batch: ProducerBatch) -> int:
        return (queue.sequence_of(batch) + len(batch.values)) & 0x7FFFFFFF
