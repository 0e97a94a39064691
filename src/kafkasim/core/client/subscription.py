"""What a consumer knows of each of its partitions, and which topics a subscription means.

Mirrors:  rd_kafka_toppar_t (the consumer's half), rd_kafka_topic_partition_list_t of a subscription,
          rd_kafka_metadata_topic_match and rd_kafka_metadata_topic_filter.
Rule 1:   a ``Partition`` lives as long as its consumer, because pause() and the position outlive an assignment.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from kafkasim.core.client.metadata import MetadataCache
from kafkasim.core.client.patterns import compile_pattern
from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import NO_EPOCH, NO_LEADER, NodeId, TopicPartition
from kafkasim.core.model.message import slotted

#: Where to begin: (partition, offset), and the leader epoch of the record before it, if it is known.
Start: TypeAlias = tuple[TopicPartition, int] | tuple[TopicPartition, int, int]

OFFSET_END = -1
OFFSET_BEGINNING = -2
OFFSET_STORED = -1000
OFFSET_INVALID = -1001
#: OFFSET_TAIL(n) is ``OFFSET_TAIL_BASE - n``: n records before the end.
OFFSET_TAIL_BASE = -2000

#: Fetch states.
STOPPED = "none"
OFFSET_QUERY = "offset-query"
ACTIVE = "active"
VALIDATE = "validate-epoch-wait"

_LEASE_US = 300_000_000
_NEW_LEASE_US = 60_000_000


@slotted
class Partition:
    """``version`` rises with every seek, pause and (un)assignment: what was asked for under another one is stale."""

    tp: TopicPartition
    auto_store: bool = True
    state: str = STOPPED
    version: int = 0
    assigned: bool = False
    app_paused: bool = False
    #: Next offset to fetch, with the epoch of the record before it.
    fetch_offset: int = OFFSET_INVALID
    fetch_epoch: int = NO_EPOCH
    #: Where fetching began: where it goes on after a pause before the application has taken anything.
    start_offset: int = OFFSET_INVALID
    start_epoch: int = NO_EPOCH
    #: Where the application is: last taken + 1.
    position: int = OFFSET_INVALID
    position_epoch: int = NO_EPOCH
    stored: int = OFFSET_INVALID
    stored_epoch: int = NO_EPOCH
    stored_metadata: str = ""
    committed: int = OFFSET_INVALID
    committed_epoch: int = NO_EPOCH
    high_watermark: int = OFFSET_INVALID
    end_offset: int = OFFSET_INVALID
    log_start: int = OFFSET_INVALID
    eof_offset: int = OFFSET_INVALID
    #: The logical offset that is being looked up, and since when a request for it is out.
    query_offset: int = OFFSET_INVALID
    asking: bool = False
    retry_us: int = 0
    leader: NodeId = NO_LEADER
    leader_epoch: int = NO_EPOCH
    broker: NodeId = NO_LEADER
    #: Another replica than the leader serves us until then (KIP-392); when such a lease was last counted as a new one.
    lease_until_us: int = 0
    leased_us: int | None = None
    backoff_until_us: int = 0
    last_error: ErrorCode = ErrorCode.NONE
    #: Entries in the application's queue.
    queued: int = 0

    def advance(self, offset: int, epoch: int) -> None:
        """The application has taken everything before ``offset``."""
        self.position, self.position_epoch = offset, epoch
        if self.auto_store:
            self.stored, self.stored_epoch, self.stored_metadata = offset, epoch, ""

    def lease(self, now_us: int) -> bool:
        """Another replica than the leader serves us for a while; False if it was not even a minute since it last came to that."""
        self.lease_until_us = now_us + _LEASE_US
        is_new = self.leased_us is None or now_us - self.leased_us > _NEW_LEASE_US
        if is_new:
            self.leased_us = now_us
        return is_new

    def clear_stored(self) -> None:
        self.stored, self.stored_epoch, self.stored_metadata = OFFSET_INVALID, NO_EPOCH, ""

    def clear_position(self) -> None:
        self.position, self.position_epoch = OFFSET_INVALID, NO_EPOCH

    def stats(self) -> dict[str, Any]:
        """The figures of librdkafka's statistics for this partition."""
        end_offset = self.end_offset
        committed_lag = stored_lag = -1
        if end_offset >= 0:
            if self.committed >= 0:
                committed_lag = max(0, end_offset - self.committed)
            if self.stored >= 0:
                stored_lag = max(0, end_offset - self.stored)
        return {
            "fetch_state": self.state,
            "next_offset": self.fetch_offset,
            "app_offset": self.position,
            "stored_offset": self.stored,
            "stored_leader_epoch": self.stored_epoch,
            "committed_offset": self.committed,
            "committed_leader_epoch": self.committed_epoch,
            "eof_offset": self.eof_offset,
            "lo_offset": self.log_start,
            "hi_offset": self.high_watermark,
            "ls_offset": end_offset,
            "consumer_lag": committed_lag,
            "consumer_lag_stored": stored_lag,
            "leader_epoch": self.leader_epoch,
        }

    @property
    def started(self) -> bool:
        return self.state != STOPPED


class Partitions:
    """Every partition that the consumer has ever dealt with."""

    __slots__ = ("_auto_store", "_by_tp", "_topics")

    def __init__(self, *, auto_store: bool) -> None:
        self._auto_store = auto_store
        self._by_tp: dict[TopicPartition, Partition] = {}
        self._topics: dict[str, None] = {}

    def get(self, tp: TopicPartition) -> Partition | None:
        return self._by_tp.get(tp)

    def find(self, tp: TopicPartition) -> Partition | None:
        """The partition, made if the consumer has dealt with any of its topic: librdkafka looks no closer than that."""
        partition = self._by_tp.get(tp)
        if partition is None and tp.topic in self._topics:
            partition = self.of(tp)
        return partition

    def of(self, tp: TopicPartition) -> Partition:
        """The partition, made on the first call."""
        partition = self._by_tp.get(tp)
        if partition is None:
            partition = self._by_tp[tp] = Partition(tp, self._auto_store)
            self._topics[tp.topic] = None
        return partition

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._by_tp.values())


class TopicMatcher:
    """A subscription: names, and patterns that begin with ``^``; a broken pattern is a ValueError."""

    __slots__ = ("_patterns", "names", "topics")

    def __init__(self, topics: list[str]) -> None:
        self.topics = list(dict.fromkeys(topics))
        self.names = [name for name in self.topics if not name.startswith("^")]
        self._patterns = [compile_pattern(name) for name in self.topics if name.startswith("^")]

    @property
    def has_patterns(self) -> bool:
        return bool(self._patterns)

    def by_protocol(self) -> tuple[tuple[str, ...], str]:
        """As the consumer protocol tells it to the coordinator: names, and all patterns in one ("" for none)."""
        return tuple(self.names), "|".join(f"({name})" for name in self.topics if name.startswith("^"))

    def matches(self, name: str) -> bool:
        return name in self.names or any(pattern.search(name) for pattern in self._patterns)

    def effective(self, metadata: MetadataCache) -> tuple[dict[str, int], list[tuple[str, ErrorCode]]]:
        """Topics that exist, with their partition counts, in order of name; and names with what is wrong with them."""
        found: dict[str, int] = {}
        errored: list[tuple[str, ErrorCode]] = []
        for name in self.names:
            topic = metadata.topic(name)
            if topic is not None and topic.partitions:
                found[name] = len(topic.partitions)
            elif topic is not None and topic.refreshed_us >= 0:
                # The cache keeps a topic open that may only have been created a moment ago; a subscription does not.
                # Of errors it keeps but two kinds; a topic with any other, such as an invalid name, is not in the cache.
                is_refused = topic.error == ErrorCode.TOPIC_AUTHORIZATION_FAILED
                errored.append((name, topic.error if is_refused else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))
        if self._patterns:
            for name, topic in metadata.topics.items():
                if topic.partitions and name not in found and any(p.search(name) for p in self._patterns):
                    found[name] = len(topic.partitions)
        return dict(sorted(found.items())), errored
