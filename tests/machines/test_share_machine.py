"""A share partition under any order of fetches, acknowledgements, lost writes, passing time and leaders that die.

What must hold: only legal changes of state; the start offset of a leader never moves back; a record whose acceptance was
persisted is never delivered again; a record has one holder at a time; no delivery count above the limit; and once everything
works again every record comes to an end.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.records import RecordBatch, batch_of
from kafkasim.core.model.share_messages import (
    ACK_ACCEPT,
    ACK_REJECT,
    ACK_RELEASE,
    ACK_RENEW,
    BATCH_OPTIMIZED,
    RECORD_LIMIT,
    AcknowledgementBatch,
    InitializeShareGroupStateRequest,
    PartitionStateInit,
    PartitionStateRead,
    PartitionStateWrite,
    ReadShareGroupStateRequest,
    TopicIdPartition,
    WriteShareGroupStateRequest,
)
from kafkasim.core.share.acknowledge import acknowledge, expire_one, release_acquired
from kafkasim.core.share.acquire import Wanted, acquire
from kafkasim.core.share.coordinator import ShareCoordinatorShard
from kafkasim.core.share.in_flight import ACKNOWLEDGED, ACQUIRED, ARCHIVED, AVAILABLE
from kafkasim.core.share.partition import SharePartition, ShareSettings

TIP = TopicIdPartition("topic", 0)
MEMBERS = ("m0", "m1", "m2")
LOCK_US = 30_000_000
#: What may follow what between two looks; a record that was not in flight has state None.
LEGAL = {
    None: {ACQUIRED, AVAILABLE, ACKNOWLEDGED, ARCHIVED},
    AVAILABLE: {AVAILABLE, ACQUIRED, ARCHIVED},
    ACQUIRED: {ACQUIRED, AVAILABLE, ACKNOWLEDGED, ARCHIVED},
    # A change on its way may be taken back.
    ACKNOWLEDGED: {ACKNOWLEDGED, ACQUIRED, AVAILABLE, ARCHIVED},
    ARCHIVED: {ARCHIVED, ACQUIRED, AVAILABLE},
}


class SharePartitionMachine(RuleBasedStateMachine):
    @initialize(limit=st.integers(2, 6), locks=st.sampled_from([3, 8, 100]))
    def begin(self, limit: int, locks: int) -> None:
        self.now_us = 0
        self.limit = limit
        self.locks = locks
        self.log: list[RecordBatch] = []
        self.log_start = 0
        self.shard = ShareCoordinatorShard(3, lambda tip: True)
        self.shard.handle(InitializeShareGroupStateRequest("g", (PartitionStateInit(TIP, 1, 0),)), 0)
        self.leader_epoch = -1
        self.accepted: set[int] = set()
        #: offset -> (member, until when) as the members know it.
        self.held: dict[int, tuple[str, int]] = {}
        self.deliveries: dict[int, int] = {}
        self.lead()

    def lead(self) -> None:
        """A new leader starts from what the share coordinator has."""
        self.leader_epoch += 1
        request = ReadShareGroupStateRequest("g", (PartitionStateRead(TIP, self.leader_epoch),))
        _, response = self.shard.handle(request, 0)
        (read,) = response.partitions
        assert read.error is ErrorCode.NONE
        self.partition = SharePartition("g", TIP, self.leader_epoch, ShareSettings(self.limit, self.locks, LOCK_US))
        assert self.partition.load(read, read.start_offset)
        self.start = self.partition.start_offset
        self.states: dict[int, tuple[int, bool]] = {}
        self.held = {}

    @property
    def end(self) -> int:
        return self.log[-1].next_offset if self.log else 0

    @rule(size=st.integers(1, 5))
    def produce(self, size: int) -> None:
        self.log.append(batch_of([b"v"] * size).placed(self.end, 0))

    @rule(member=st.sampled_from(MEMBERS), most=st.integers(1, 6), by_record=st.booleans())
    def fetch(self, member: str, most: int, by_record: bool) -> None:
        partition = self.partition
        offset = partition.next_fetch_offset()
        if not partition.can_acquire:
            return
        if not self.log_start <= offset <= self.end:
            partition.update_log_start(self.log_start)
            return
        batches = [batch for batch in self.log if batch.last_offset >= offset]
        mode = RECORD_LIMIT if by_record else BATCH_OPTIMIZED
        acquired, count = acquire(partition, Wanted(member, batches, offset, most, most, mode, self.now_us))
        assert count == sum(run.last_offset - run.first_offset + 1 for run in acquired)
        if by_record:
            assert count <= most
        for run in acquired:
            assert 1 <= run.delivery_count <= self.limit
            for record in range(run.first_offset, run.last_offset + 1):
                assert record not in self.accepted, f"{record} was accepted"
                holder = self.held.get(record)
                assert holder is None or holder[1] <= self.now_us, f"{record} is held by {holder}"
                self.held[record] = (member, self.now_us + LOCK_US)

    @rule(data=st.data(), kind=st.sampled_from([ACK_ACCEPT, ACK_RELEASE, ACK_REJECT, ACK_RENEW]))
    def acknowledge(self, data: st.DataObject, kind: int) -> None:
        if not self.held:
            return
        first = data.draw(st.sampled_from(sorted(self.held)))
        member = self.held[first][0]
        last = first
        while self.held.get(last + 1, ("", 0))[0] == member and data.draw(st.booleans()):
            last += 1
        outcome: list[ErrorCode] = []

        def done(error: ErrorCode, now_us: int) -> None:
            outcome.append(error)
            if error is ErrorCode.NONE and kind == ACK_ACCEPT and first >= begin:
                self.accepted.update(range(first, last + 1))

        begin = self.partition.start_offset
        asked = AcknowledgementBatch(first, last, (kind,))
        acknowledge(self.partition, member, [asked], done, self.now_us)
        for record in range(first, last + 1):
            if kind == ACK_RENEW and outcome == [ErrorCode.NONE]:
                self.held[record] = (member, self.now_us + LOCK_US)
            elif kind != ACK_RENEW and outcome in ([], [ErrorCode.NONE]):
                self.held.pop(record, None)

    @rule(member=st.sampled_from(MEMBERS))
    def end_session(self, member: str) -> None:
        release_acquired(self.partition, member, lambda error, now_us: None, self.now_us)
        self.held = {record: holder for record, holder in self.held.items() if holder[0] != member}

    @rule(count=st.integers(1, 4))
    def persist(self, count: int) -> None:
        """The share coordinator takes in the oldest writes."""
        for _ in range(min(count, len(self.partition.writes))):
            write = self.partition.writes.pop(0)
            part = PartitionStateWrite(
                TIP, 1, self.leader_epoch, write.start_offset, write.delivery_complete_count, write.batches
            )
            _, response = self.shard.handle(WriteShareGroupStateRequest("g", (part,)), 0)
            self.partition.on_written(write, response.partitions[0].error, self.now_us)

    @rule()
    def lose_write(self) -> None:
        """A write fails: what it would have changed is taken back."""
        if self.partition.writes:
            write = self.partition.writes.pop(0)
            self.partition.on_written(write, ErrorCode.COORDINATOR_NOT_AVAILABLE, self.now_us)
            # Members are told; what they held may be theirs again without their knowing.
            self.forget_unknown()

    def forget_unknown(self) -> None:
        for first in self.partition.firsts:
            for record, last, state in self.partition.batches[first].runs():
                for offset in range(record, last + 1):
                    if state.state == ACQUIRED and state.rollback is None:
                        self.held[offset] = (state.member_id, state.lock_until_us)

    @rule(seconds=st.sampled_from([1, 10, 30]))
    def wait(self, seconds: int) -> None:
        self.now_us += seconds * 1_000_000
        while expire_one(self.partition, self.now_us):
            pass
        assert self.partition.deadline_us > self.now_us

    @rule(by=st.integers(1, 4))
    def delete_records(self, by: int) -> None:
        self.log_start = min(self.log_start + by, self.end)
        self.log = [batch for batch in self.log if batch.last_offset >= self.log_start] or self.log[-1:]

    @rule()
    def crash(self) -> None:
        """The leader dies with its locks and with the writes that nobody has seen."""
        self.lead()

    @invariant()
    def sound(self) -> None:
        if not hasattr(self, "partition"):
            return
        partition = self.partition
        partition.check()
        assert partition.start_offset >= self.start, "the start offset moved back"
        self.start = partition.start_offset
        now: dict[int, tuple[int, bool]] = {}
        for first in partition.firsts:
            for record, last, state in partition.batches[first].runs():
                assert state.delivery_count <= self.limit
                for offset in range(record, last + 1):
                    before, settled = self.states.get(offset, (None, True))
                    assert state.state in LEGAL[before], (offset, before, state.state)
                    if before in (ACKNOWLEDGED, ARCHIVED) and settled:
                        assert state.state == before, f"{offset} came back from {before}"
                    now[offset] = (state.state, state.rollback is None)
        self.states = now

    def teardown(self) -> None:
        """Everything works again: whatever is left comes to an end."""
        if not hasattr(self, "partition"):
            return
        for _ in range(300):
            self.persist(1000)
            self.wait(30)
            self.persist(1000)
            self.sound()
            if self.is_over():
                return
            self.fetch("m0", 500, False)
            self.sound()
            for record in sorted(self.held):
                asked = AcknowledgementBatch(record, record, (ACK_ACCEPT,))
                acknowledge(self.partition, "m0", [asked], lambda error, now_us: None, self.now_us)
            self.held = {}
            self.sound()
        assert self.is_over(), f"stuck at {self.partition.start_offset} of {self.end}"

    def is_over(self) -> bool:
        """Every record came to an end: nothing is left to read, and nothing in flight is to be given out or held.

        The start offset itself may wait for the next write when the log start moved over the last record that was available.
        """
        partition = self.partition
        if partition.start_offset >= self.end:
            return True
        runs = [run for first in partition.firsts for run in partition.batches[first].runs()]
        return partition.next_fetch_offset() >= self.end and all(state.is_terminal for *_, state in runs)


SharePartitionMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestSharePartition = SharePartitionMachine.TestCase
