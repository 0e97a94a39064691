"""A share partition with a log of batches and a persister that answers when it is told to."""

from __future__ import annotations

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.records import RecordBatch, batch_of
from kafkasim.core.model.share_messages import (
    ACK_ACCEPT,
    BATCH_OPTIMIZED,
    AcknowledgementBatch,
    AcquiredRecords,
    PartitionState,
    StateBatch,
    TopicIdPartition,
)
from kafkasim.core.share.acknowledge import acknowledge, expire_one, release_acquired
from kafkasim.core.share.acquire import Wanted, acquire
from kafkasim.core.share.partition import SharePartition, ShareSettings

SECOND_US = 1_000_000


class Driver:
    """``sizes``: records per batch of the log. Writes are confirmed at once unless ``holding``."""

    def __init__(self, *sizes: int, start: int = 0, kept: tuple[StateBatch, ...] = (), **settings: object) -> None:
        self.now_us = 0
        self.holding = False
        self.log: list[RecordBatch] = []
        for size in sizes:
            self.produce(size)
        self.partition = SharePartition("group", TopicIdPartition("topic", 0), 0, ShareSettings(**settings))  # type: ignore[arg-type]
        read = PartitionState(self.partition.tip, ErrorCode.NONE, start_offset=start, batches=kept)
        self.loaded = self.partition.load(read, start)
        self.written: list[StateBatch] = []

    def produce(self, size: int) -> None:
        end = self.log[-1].next_offset if self.log else 0
        self.log.append(batch_of([b"v"] * size).placed(end, 0))

    def fetch(
        self, member: str = "m1", most: int = 500, *, mode: int = BATCH_OPTIMIZED, batch_size: int | None = None
    ) -> list[AcquiredRecords]:
        """What the member acquires of everything from the next fetch offset to the end of the log."""
        partition = self.partition
        offset = partition.next_fetch_offset()
        batches = [batch for batch in self.log if batch.last_offset >= offset]
        if not partition.can_acquire:
            return []
        acquired, count = acquire(
            partition, Wanted(member, batches, offset, most, batch_size or most, mode, self.now_us)
        )
        assert count == sum(run.last_offset - run.first_offset + 1 for run in acquired)
        partition.check()
        return acquired

    def offsets(self, member: str = "m1", most: int = 500, **how: int) -> dict[int, int]:
        """The same as offset -> delivery count."""
        return {
            offset: run.delivery_count
            for run in self.fetch(member, most, **how)
            for offset in range(run.first_offset, run.last_offset + 1)
        }

    def ack(self, first: int, last: int | None = None, *kinds: int, member: str = "m1") -> list[ErrorCode]:
        """Acknowledge; the list holds the outcome as soon as there is one."""
        outcome: list[ErrorCode] = []
        batch = AcknowledgementBatch(first, first if last is None else last, kinds or (ACK_ACCEPT,))
        acknowledge(self.partition, member, [batch], lambda error, now_us: outcome.append(error), self.now_us)
        self.confirm()
        return outcome

    def release(self, member: str = "m1") -> None:
        release_acquired(self.partition, member, lambda error, now_us: None, self.now_us)
        self.confirm()

    def wait(self, seconds: int) -> int:
        """Let time pass; how many units were released by their locks."""
        self.now_us += seconds * SECOND_US
        released = 0
        while expire_one(self.partition, self.now_us):
            released += 1
        self.confirm()
        return released

    def confirm(self, error: ErrorCode = ErrorCode.NONE, *, force: bool = False) -> None:
        """Answer the outstanding writes."""
        if self.holding and not force:
            return
        while self.partition.writes:
            write = self.partition.writes.pop(0)
            if error is ErrorCode.NONE:
                self.written += write.batches
            self.partition.on_written(write, error, self.now_us)
        self.partition.check()
