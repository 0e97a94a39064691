"""A share consumer's business with one broker: the share session, the one request in hand, acknowledgements that wait.

Mirrors:  rkb_share_fetch_session, rkb_share_async_ack_details, rkb_pending_commit_sync of librdkafka's broker thread.
Inputs:   work, on_answer through ``core.send``.      Effects: Send (ShareFetch, ShareAcknowledge).
Rule 1:   one request at a time; acknowledgements that come meanwhile wait, those of a synchronous commit go first.
Rule 2:   a fetch carries what was acknowledged meanwhile; without a fetch it goes alone, as ShareAcknowledge.
Rule 3:   the session is what the broker knows: epoch 0 names every partition, later requests only what changed. Any failure of
          a request starts it anew, and so do metadata that no longer have the broker (rd_kafka_broker_decommission). A connection
          that broke while nothing was in hand does not: the broker has forgotten the session, and says so.
Rule 4:   nothing waits for a connection: what is acknowledged while it is down fails at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kafkasim.core.client.share_acks import AckBatch
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NodeId, TopicPartition
from kafkasim.core.model.message import slotted
from kafkasim.core.model.share_messages import (
    ACK_RENEW,
    FINAL_SESSION_EPOCH,
    PartitionShareFetch,
    ShareAcknowledgeRequest,
    ShareAcknowledgeResponse,
    ShareFetchRequest,
    ShareFetchResponse,
    TopicIdPartition,
)

if TYPE_CHECKING:
    from kafkasim.core.client.share_consumer import ShareConsumerEngine

_NONE = ErrorCode.NONE


@slotted
class Sent:
    """What the request in hand carries."""

    acks: list[AckBatch]
    is_fetch: bool
    is_last: bool
    commit: object | None
    partitions: dict[TopicIdPartition, TopicPartition]


class ShareBroker:
    """``node`` leads ``wanted``: the partitions of the assignment that are fetched from it."""

    def __init__(self, engine: ShareConsumerEngine, node: NodeId) -> None:
        self._engine = engine
        self.node = node
        self.wanted: dict[TopicIdPartition, TopicPartition] = {}
        self._in_session: dict[TopicIdPartition, TopicPartition] = {}
        self._epoch = 0
        self._sent: Sent | None = None
        self._acks: dict[TopicPartition, AckBatch] = {}
        self._commit_acks: list[AckBatch] = []
        self._commit: object | None = None
        self._leaving = False
        self.left = False

    @property
    def is_busy(self) -> bool:
        return self._sent is not None

    @property
    def has_session(self) -> bool:
        return self._epoch > 0

    def add_acks(self, batch: AckBatch) -> None:
        known = self._acks.get(batch.tp)
        if known is None:
            self._acks[batch.tp] = batch
        else:
            known.merge(batch)

    def commit(self, commit: object, batches: list[AckBatch], now_us: int) -> None:
        """Send these, and tell ``commit`` of the outcome."""
        self._commit, self._commit_acks = commit, batches
        self.work(now_us)

    def leave(self, now_us: int) -> None:
        """Close the session, with what is acknowledged; ``left`` when the broker knows."""
        self._leaving = True
        self.work(now_us)

    def work(self, now_us: int) -> None:
        """Send what waits, if nothing is in hand."""
        if self.is_busy or self.left:
            return
        if self._commit is not None:
            commit, acks = self._commit, self._commit_acks
            self._commit, self._commit_acks = None, []
            self._acknowledge(acks, commit, now_us)
        elif self._leaving:
            acks, self._acks = list(self._acks.values()), {}
            if not self.has_session and not acks:
                self.left = True
                self._engine.on_left(now_us)
                return
            self._acknowledge(acks, None, now_us, is_last=True)
        elif self._acks:
            acks, self._acks = list(self._acks.values()), {}
            self._acknowledge(acks, None, now_us)

    def fetch(self, now_us: int) -> None:
        """Ask for records, and say what was acknowledged."""
        assert not self.is_busy
        engine = self._engine
        acks: list[AckBatch] = []
        if self.has_session:
            acks, self._acks = list(self._acks.values()), {}
        added = {tip: tp for tip, tp in self.wanted.items() if tip not in self._in_session}
        forgotten = tuple(tip for tip in self._in_session if tip not in self.wanted)
        renews = _renews(acks)
        parts = {tip: PartitionShareFetch(tip) for tip in added}
        parts.update({batch.tip: PartitionShareFetch(batch.tip, batch.runs()) for batch in acks})
        config = engine.config
        limits = (0, 0, 0, 0)
        if not renews:
            limits = (
                config.ms("fetch.wait.max.ms"),
                config.integer("fetch.min.bytes"),
                config.integer("fetch.max.bytes"),
                config.integer("max.poll.records"),
            )
        request = ShareFetchRequest(
            engine.group_id,
            engine.member_id,
            self._epoch,
            *limits,
            config.integer("max.poll.records"),
            tuple(parts.values()),
            forgotten,
            engine.acquire_mode,
            renews,
        )
        for tip in forgotten:
            del self._in_session[tip]
        self._in_session.update(added)
        timeout_us = (config.ms("socket.timeout.ms") + config.ms("fetch.wait.max.ms")) * 1000
        self._send(request, Sent(acks, True, False, None, dict(self._in_session)), now_us, timeout_us)

    def _acknowledge(self, acks: list[AckBatch], commit: object | None, now_us: int, *, is_last: bool = False) -> None:
        engine = self._engine
        is_up = engine.is_up(self.node)
        if not is_up or not self.has_session:
            error = ErrorCode.INVALID_SHARE_SESSION_EPOCH if is_up else ErrorCode._TRANSPORT
            engine.on_acknowledged(acks, dict.fromkeys([batch.tip for batch in acks], error), commit, now_us)
            self._after(is_last, now_us)
            return
        epoch = FINAL_SESSION_EPOCH if is_last else self._epoch
        parts = tuple(PartitionShareFetch(batch.tip, batch.runs()) for batch in acks)
        request = ShareAcknowledgeRequest(engine.group_id, engine.member_id, epoch, parts, _renews(acks))
        self._send(request, Sent(acks, False, is_last, commit, {}), now_us)

    def _send(self, request: Any, sent: Sent, now_us: int, timeout_us: int | None = None) -> None:
        self._sent = sent
        self._engine.send(self.node, request, self._on_answer, now_us=now_us, timeout_us=timeout_us)

    def _on_answer(
        self, response: ShareFetchResponse | ShareAcknowledgeResponse | None, error: ErrorCode, now_us: int
    ) -> None:
        sent, self._sent = self._sent, None
        assert sent is not None
        code = error if response is None else response.error
        if code is _NONE:
            self._epoch += 1
        else:
            self.reset()
        outcomes: dict[TopicIdPartition, ErrorCode] = {}
        if isinstance(response, ShareFetchResponse):
            outcomes = {part.tip: part.acknowledge_error for part in response.partitions}
        elif response is not None:
            outcomes = {part.tip: part.error for part in response.partitions}
        if code is not _NONE:
            outcomes = dict.fromkeys([batch.tip for batch in sent.acks], code)
        engine = self._engine
        if isinstance(response, ShareAcknowledgeResponse):
            engine.on_hints(response.partitions, now_us)
        engine.on_acknowledged(sent.acks, outcomes, sent.commit, now_us)
        if sent.is_fetch:
            fetched = response if isinstance(response, ShareFetchResponse) and code is _NONE else None
            engine.on_fetched(self, fetched, code, sent.partitions, now_us)
        self._after(sent.is_last, now_us)

    def _after(self, is_last: bool, now_us: int) -> None:
        if is_last:
            self.left = True
            self._engine.on_left(now_us)
        else:
            self.work(now_us)
            self._engine.maybe_fetch(now_us)

    def on_gone(self) -> None:
        """The cluster has no such broker now; one that comes again is another. A request in hand hears of it by itself."""
        if not self.is_busy:
            self.reset()

    def reset(self) -> None:
        """The session is gone: the next fetch opens another."""
        self._epoch = 0
        self._in_session = {}


def _renews(acks: list[AckBatch]) -> bool:
    return any(ACK_RENEW in batch.types.values() for batch in acks)
