"""What a consumer hands to its application, and the queue in which it waits.

Mirrors:  rd_kafka_q_t of the consumer (``rkcg_q``) and rd_kafka_op_t of kinds FETCH, CONSUMER_ERR, REBALANCE, OFFSET_COMMIT.
Rule 1:   fetched records wait as runs of whole batches; they are cut into ``Slice``s only when the application takes them.
Rule 2:   after a ``Rebalance`` nothing more is given until the application has answered it.
Rule 3:   what the application takes moves the position, and (enable.auto.offset.store) the stored offset.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from kafkasim.core.client.subscription import Partition
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.message import message, slotted
from kafkasim.core.model.records import RecordBatch

ASSIGN = "assign"
REVOKE = "revoke"
LOST = "lost"


@slotted
class Slice:
    """Records ``[start, stop)`` of the columns of ``batch``."""

    tp: TopicPartition
    batch: RecordBatch
    start: int
    stop: int


@message
class ConsumerError:
    """An error that poll() returns as a message. ``offset`` -1001 where it means nothing."""

    code: ErrorCode
    text: str
    tp: TopicPartition | None = None
    offset: int = -1001
    topic: str | None = None


@message
class Rebalance:
    """``kind`` "assign", "revoke" or "lost"; ``protocol`` "EAGER" or "COOPERATIVE": how the answer must be given."""

    kind: str
    partitions: list[TopicPartition]
    protocol: str


@message
class CommitDone:
    """The end of a commit that the application did not wait for, or of an automatic one."""

    error: ErrorCode
    offsets: list[tuple[TopicPartition, int, ErrorCode]]


AppItem: TypeAlias = "Slice | ConsumerError | Rebalance | CommitDone"


@slotted
class Run:
    """Batches of one partition as one fetch brought them; ``next_offset`` is where the application continues behind ``index``."""

    partition: Partition
    batches: list[RecordBatch]
    next_offset: int
    end_offset: int
    end_epoch: int
    size_bytes: int
    index: int = 0

    def cut(self, items: list[AppItem], budget: int) -> int:
        """Move up to ``budget`` records into ``items``; what is left of the budget."""
        tp, batches, next_offset = self.partition.tp, self.batches, self.next_offset
        index, count = self.index, len(self.batches)
        epoch = self.partition.position_epoch
        while index < count:
            batch = batches[index]
            if batch.offsets is None and batch.base_offset >= next_offset:
                start = 0
            else:
                start = batch.index_from(next_offset)
            stop = len(batch.columns)
            if stop - start > budget:
                stop = start + budget
                if stop > start:
                    items.append(Slice(tp, batch, start, stop))
                    next_offset = batch.offset_at(stop - 1) + 1
                    epoch = batch.leader_epoch
                self.index, self.next_offset = index, next_offset
                self.partition.advance(next_offset, epoch)
                return 0
            if stop > start:
                items.append(Slice(tp, batch, start, stop))
                budget -= stop - start
            index += 1
            next_offset = batch.next_offset
            epoch = batch.leader_epoch
        self.index, self.next_offset = count, self.end_offset
        self.partition.advance(self.end_offset, self.end_epoch)
        return budget


_Entry: TypeAlias = "Run | ConsumerError | Rebalance"


class AppQueue:
    """``message_count`` and ``size_bytes`` are what queued.min.messages and queued.max.messages.kbytes look at."""

    __slots__ = ("_entries", "_reports", "awaiting_answer", "message_count", "size_bytes")

    def __init__(self) -> None:
        self._entries: deque[tuple[Partition | None, _Entry]] = deque()
        self._reports: deque[CommitDone] = deque()
        #: The Rebalance that the application was given and has not answered.
        self.awaiting_answer: Rebalance | None = None
        self.message_count = 0
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries) + len(self._reports)

    def has_items(self) -> bool:
        return self.awaiting_answer is None and bool(self._entries or self._reports)

    def put_run(self, run: Run) -> None:
        self._entries.append((run.partition, run))
        run.partition.queued += 1
        self.message_count += run.end_offset - run.next_offset
        self.size_bytes += run.size_bytes

    def put_error(self, error: ConsumerError, partition: Partition | None = None) -> None:
        """``partition`` given: the error goes away with the partition's other entries when it is purged."""
        self._entries.append((partition, error))
        if partition is not None:
            partition.queued += 1

    def put_rebalance(self, rebalance: Rebalance) -> None:
        self._entries.append((None, rebalance))

    def put_report(self, report: CommitDone) -> None:
        self._reports.append(report)

    def purge(self, partition: Partition) -> None:
        """Drop what ``partition`` has here: it was sought, paused or taken away."""
        if partition.queued:
            self._keep([entry for entry in self._entries if entry[0] is not partition])
            partition.queued = 0

    def purge_partitions(self) -> None:
        """Drop what any partition has here."""
        for partition, _ in self._entries:
            if partition is not None:
                partition.queued = 0
        self._keep([entry for entry in self._entries if entry[0] is None])

    def _keep(self, entries: list[tuple[Partition | None, _Entry]]) -> None:
        self._entries = deque(entries)
        runs = [entry for _, entry in entries if isinstance(entry, Run)]
        self.message_count = sum(run.end_offset - run.next_offset for run in runs)
        self.size_bytes = sum(run.size_bytes for run in runs)

    def take(self, max_messages: int) -> list[AppItem]:
        """Commit reports, then up to ``max_messages`` records and errors, up to and including the next Rebalance."""
        items: list[AppItem] = []
        if self.awaiting_answer is not None:
            return items
        while self._reports:
            items.append(self._reports.popleft())
        entries = self._entries
        budget = max_messages
        while budget > 0 and entries:
            partition, entry = entries[0]
            if type(entry) is Run:
                before = entry.next_offset
                budget = entry.cut(items, budget)
                self.message_count -= entry.next_offset - before
                if entry.index < len(entry.batches):
                    break
                self.size_bytes -= entry.size_bytes
            elif type(entry) is Rebalance:
                entries.popleft()
                items.append(entry)
                self.awaiting_answer = entry
                break
            else:
                assert isinstance(entry, ConsumerError)
                items.append(entry)
                budget -= 1
            entries.popleft()
            if partition is not None:
                partition.queued -= 1
        return items
