"""This broker's own copying: one fetcher per leader broker, and what it makes of the answers.

Mirrors:  ReplicaFetcherManager, ReplicaFetcherThread, RemoteLeaderEndPoint.
Inputs:   follow, unfollow, on_deadline, and the answers to its requests.      Effects: Send and Close on REPLICATION_CHANNEL.
Rule 1:   an answer is taken in whole, then the next request leaves in the same input.
Rule 2:   a fetcher that has nothing left to copy ends, and its connection with it: whatever was in flight is not waited for.
Rule 3:   OFFSET_OUT_OF_RANGE is answered by asking the leader where its log begins and ends, as Kafka does.
"""

from __future__ import annotations

from typing import Any

from kafkasim.core.model.effects import NEVER_US, REPLICATION_CHANNEL, Close
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, NO_EPOCH, NodeId
from kafkasim.core.model.messages import (
    FetchResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    PartitionEpochQuery,
    PartitionFetched,
    PartitionListOffsets,
)
from kafkasim.core.node.data_plane_partitions import WATCH_RETENTION, Partitions
from kafkasim.core.replica.follower import DELAYED, FAILED, FETCHING, FollowerReplica, LeaderFetcher

_NONE = ErrorCode.NONE
#: replica.socket.timeout.ms
_REQUEST_TIMEOUT_US = 30_000_000


class Following:
    __slots__ = (
        "_backoff_us",
        "_fetchers",
        "_max_bytes",
        "_max_wait_ms",
        "_min_bytes",
        "_partition_max_bytes",
        "_partitions",
        "_truncation",
        "deadline_us",
        "stopped",
    )

    def __init__(self, partitions: Partitions) -> None:
        self._partitions = partitions
        self._truncation = partitions.rules.truncation
        self._fetchers: dict[NodeId, LeaderFetcher] = {}
        number = partitions.ctx.image.broker_int
        self._backoff_us = number("replica.fetch.backoff.ms") * 1000
        self._max_wait_ms = number("replica.fetch.wait.max.ms")
        self._min_bytes = number("replica.fetch.min.bytes")
        self._max_bytes = number("replica.fetch.response.max.bytes")
        self._partition_max_bytes = number("replica.fetch.max.bytes")
        self.deadline_us = NEVER_US
        self.stopped = False

    def follow(self, replica: FollowerReplica) -> None:
        """Copy ``replica`` from the leader it knows now; the request leaves with ``send_all``."""
        if replica.fetcher is not None and replica.fetcher.leader_id != replica.leader_id:
            replica.fetcher.unfollow(replica)
        if replica.leader_id < 0:
            return
        fetcher = self._fetchers.get(replica.leader_id)
        if fetcher is None:
            fetcher = self._fetchers[replica.leader_id] = LeaderFetcher(replica.leader_id, self._truncation)
        self._truncation.begin(replica)
        fetcher.follow(replica)

    def unfollow(self, replica: FollowerReplica) -> None:
        if replica.fetcher is not None:
            replica.fetcher.unfollow(replica)

    def end_idle(self, now_us: int) -> None:
        """Fetchers without partitions are gone: one that is needed again begins with a connection of its own."""
        for leader_id in [leader_id for leader_id, fetcher in self._fetchers.items() if not fetcher.members]:
            del self._fetchers[leader_id]
            self._partitions.ctx.outbox.append(Close(leader_id, REPLICATION_CHANNEL))
            self._partitions.ctx.requests.on_disconnect(leader_id, REPLICATION_CHANNEL, now_us)

    def send_all(self, now_us: int) -> None:
        """Every fetcher that has something to ask and nothing in flight asks."""
        for fetcher in self._fetchers.values():
            self._send(fetcher, now_us)
        self._find_deadline()

    def _send(self, fetcher: LeaderFetcher, now_us: int) -> None:
        if self.stopped or fetcher.in_flight:
            return
        fetcher.wake(now_us)
        for replica in self._truncation.questions(fetcher.members):
            self._ask_epoch_end(fetcher, replica, now_us)
        ctx = self._partitions.ctx
        request = fetcher.build_request(
            ctx.node_id,
            ctx.broker_epoch,
            self._max_wait_ms,
            self._min_bytes,
            self._max_bytes,
            self._partition_max_bytes,
            now_us,
        )
        if request is None:
            return

        def answered(response: Any, error: ErrorCode, now_us: int) -> None:
            if self._fetchers.get(fetcher.leader_id) is fetcher:
                self._on_answer(fetcher, response, now_us)

        ctx.requests.send(
            fetcher.leader_id,
            request,
            answered,
            timeout_us=_REQUEST_TIMEOUT_US,
            now_us=now_us,
            channel=REPLICATION_CHANNEL,
        )

    def _find_deadline(self) -> None:
        earliest = NEVER_US
        for fetcher in self._fetchers.values():
            deadline_us = fetcher.deadline_us
            if deadline_us < earliest:
                earliest = deadline_us
        self.deadline_us = earliest

    def on_deadline(self, now_us: int) -> None:
        if not self.stopped:
            self.send_all(now_us)
        else:
            self.deadline_us = NEVER_US

    # --- answers ---------------------------------------------------------------------------------------------------

    def _on_answer(self, fetcher: LeaderFetcher, response: FetchResponse | None, now_us: int) -> None:
        if response is None:
            fetcher.on_failure(now_us + self._backoff_us)
        elif fetcher.on_answered(response.error, response.session_id):
            for part in response.partitions:
                self._on_partition(fetcher, part, now_us)
        self._send(fetcher, now_us)
        self._find_deadline()
        self._partitions.settle(now_us)

    def _on_partition(self, fetcher: LeaderFetcher, part: PartitionFetched, now_us: int) -> None:
        replica = self._partitions.replicas.get(part.tp)
        if (
            not isinstance(replica, FollowerReplica)
            or replica.fetcher is not fetcher
            or replica.fetch_state != FETCHING
            or replica.asked_epoch != replica.leader_epoch
        ):
            return
        if part.error is not _NONE:
            self._on_error(fetcher, replica, part.error, now_us)
            return
        diverging = part.diverging
        if diverging is not None:
            replica.truncate_for(diverging.epoch, diverging.end_offset)
            self._partitions.ctx.note("truncated", replica.tp, log_end=replica.log.end)
            fetcher.list_again(replica)
            return
        self._truncation.agreed(replica)
        batches = part.batches
        if batches:
            if batches[0].base_offset < replica.log.end:
                # Asked before a cut, answered after it: ask again from where the log ends now.
                fetcher.list_again(replica)
                return
            fetcher.list_again(replica)
        old_high_watermark, old_start = replica.high_watermark, replica.log.start
        if replica.on_fetched(part):
            self._partitions.high_watermark_moved(replica, old_high_watermark, now_us)
        meters = self._partitions.ctx.meters
        if batches and meters is not None:
            size_bytes = sum(batch.size_bytes for batch in batches)
            meters.of(replica.tp.topic).replication_bytes_in.mark(size_bytes, now_us)
        if replica.log.start != old_start or (batches and (not replica.watch & WATCH_RETENTION or replica.log.rolled)):
            self._partitions.watch_retention(replica, now_us)

    def _on_error(self, fetcher: LeaderFetcher, replica: FollowerReplica, error: ErrorCode, now_us: int) -> None:
        if error is ErrorCode.OFFSET_OUT_OF_RANGE:
            self._ask_range(fetcher, replica, now_us)
        elif error is ErrorCode.FENCED_LEADER_EPOCH:
            # Asked in the epoch that is in force here: only metadata can help.
            fetcher.hold(replica, FAILED)
        else:
            fetcher.delay(replica, now_us + self._backoff_us)

    # --- before KIP-320: compare, then fetch -----------------------------------------------------------------------

    def _ask_epoch_end(self, fetcher: LeaderFetcher, replica: FollowerReplica, now_us: int) -> None:
        """Where did the epoch of the last record end? The question names no epoch that the leader must be in."""
        fetcher.hold(replica, DELAYED)
        epoch = replica.leader_epoch

        def answered(response: Any, error: ErrorCode, now_us: int) -> None:
            if replica.fetcher is fetcher and replica.leader_epoch == epoch:
                self._on_epoch_end(fetcher, replica, response, now_us)

        self._partitions.ctx.requests.send(
            fetcher.leader_id,
            OffsetForLeaderEpochRequest([PartitionEpochQuery(replica.tp, replica.log.latest_epoch)]),
            answered,
            timeout_us=_REQUEST_TIMEOUT_US,
            now_us=now_us,
            channel=REPLICATION_CHANNEL,
        )

    def _on_epoch_end(
        self,
        fetcher: LeaderFetcher,
        replica: FollowerReplica,
        response: OffsetForLeaderEpochResponse | None,
        now_us: int,
    ) -> None:
        end = None if response is None else response.partitions[0]
        if end is None or end.error is not _NONE:
            fetcher.delay(replica, now_us + self._backoff_us)
        else:
            if end.leader_epoch < 0:
                replica.truncate_to(replica.high_watermark)
            else:
                replica.truncate_for(end.leader_epoch, end.end_offset)
            if end.leader_epoch < 0 or replica.log.latest_epoch in (NO_EPOCH, end.leader_epoch):
                self._truncation.agreed(replica)
            self._partitions.ctx.note("truncated", replica.tp, log_end=replica.log.end)
            fetcher.resume(replica)
            self._send(fetcher, now_us)
        self._find_deadline()

    # --- out of range ----------------------------------------------------------------------------------------------

    def _ask_range(self, fetcher: LeaderFetcher, replica: FollowerReplica, now_us: int) -> None:
        """Where does the leader's log begin and end?"""
        fetcher.hold(replica, DELAYED)
        epoch = replica.leader_epoch
        ctx = self._partitions.ctx
        questions = [
            PartitionListOffsets(replica.tp, LATEST_TIMESTAMP, epoch),
            PartitionListOffsets(replica.tp, EARLIEST_TIMESTAMP, epoch),
        ]

        def answered(response: Any, error: ErrorCode, now_us: int) -> None:
            if replica.fetcher is fetcher and replica.leader_epoch == epoch:
                self._on_range(fetcher, replica, response, now_us)

        ctx.requests.send(
            fetcher.leader_id,
            ListOffsetsRequest(questions, ctx.node_id),
            answered,
            timeout_us=_REQUEST_TIMEOUT_US,
            now_us=now_us,
            channel=REPLICATION_CHANNEL,
        )

    def _on_range(
        self, fetcher: LeaderFetcher, replica: FollowerReplica, response: ListOffsetsResponse | None, now_us: int
    ) -> None:
        if response is None or any(part.error is not _NONE for part in response.partitions):
            fetcher.delay(replica, now_us + self._backoff_us)
        else:
            leader_end, leader_start = (part.offset for part in response.partitions)
            if leader_end < replica.log.end:
                replica.truncate_to(leader_end)
            elif leader_start > replica.log.end:
                replica.start_at(leader_start)
            self._partitions.ctx.note("truncated", replica.tp, log_end=replica.log.end)
            fetcher.resume(replica)
            self._send(fetcher, now_us)
        self._find_deadline()
