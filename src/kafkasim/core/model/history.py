"""What clients did and saw, as checkers read it: the one event stream of a run.

Rule 1:   events are in the order in which they happened; ``at_us`` is virtual time (or, from a real cluster, wall time).
Rule 2:   records are named by batch and index, never copied: ``[start, stop)`` of ``batch.columns``. Where a whole batch is not
          known (a history recorded around a real client), a batch of one record stands for it.
Rule 3:   a time-out says nothing about the log: an ``Acked`` with ``_MSG_TIMED_OUT`` may or may not be in it.
"""

from __future__ import annotations

from typing import TypeAlias

from kafkasim.core.model.errors import ErrorCode
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.message import message
from kafkasim.core.model.records import RecordBatch

#: What a share consumer says of a record. GAP: the offset that it acquired held no record.
ACCEPT, RELEASE, REJECT, RENEW, GAP = "accept", "release", "reject", "renew", "gap"
ACKNOWLEDGE_TYPES = {0: GAP, 1: ACCEPT, 2: RELEASE, 3: REJECT, 4: RENEW}

#: Why records of a share group change besides: the holder's session ended, its lock ran out, a change could not be persisted.
SESSION_ENDED, LOCK_TIMED_OUT, WRITE_FAILED = "session ended", "lock timed out", "write failed"

#: What the broker of a share partition notes (`Happened`, its subject the partition), where a history is kept; all have ``group``.
#: LOADED: ``leader_epoch``, ``start_offset``, ``delivery_complete_count``, ``batches`` of (first, last, state, delivery count).
#: ACQUIRED: ``member``, ``runs`` of (first, last, delivery count), ``limit`` (deliveries at most), ``start_offset``.
#: CHANGED: ``member``, ``changes`` of (first, last, state, delivery count, why); afterwards ``start_offset`` and
#: ``delivery_complete_count``, the records behind it that are over.
#: MOVED: the log begins later than the share partition did: ``start_offset`` before, ``to``, ``delivery_complete_count`` after.
#: SKIPPED: ``offsets`` (first, last) that the log does not hold any more.
#: ARCHIVED, which Kafka 4.3 does without a word: ``offsets`` (first, last), ``delivery_count``, ``why``.
#: INITIALIZED, by the share coordinator: the group begins anew here (``start_offset``; -1: as its reset says, or deleted).
SHARE_LOADED = "share partition loaded"
SHARE_ACQUIRED = "share records acquired"
SHARE_CHANGED = "share records changed"
SHARE_MOVED = "share start offset moved"
SHARE_SKIPPED = "share offsets skipped"
SHARE_ARCHIVED = "share records archived"
SHARE_INITIALIZED = "share state initialized"

#: What a group coordinator notes (`Happened`, its subject the group), where a history is kept.
#: COMMITTED: ``member``, ``epoch`` and ``offsets`` of (partition, offset), which are in the log of the coordinator.
#: FETCHED: ``member``, ``offsets`` of (partition, offset; -1: nothing is committed): what a client was told; ``partition``: of
#: ``__consumer_offsets``, which keeps the group.
#: ASSIGNED: ``member``, ``instance``, ``epoch``, ``partitions``: what a member was told is its own (None: as before); ``protocol``
#: "classic" or "consumer".
#: GONE: ``member`` is none any more: left, or fenced.       STATE: ``state`` and ``epoch`` of the group, when either changed;
#: ``topics`` that its members subscribe to (of a classic group while it is Stable), ``assignor`` ("consumer": the server's), and
#: ``rebalance_timeout_ms``, the longest of its members.
#: FORGOTTEN: ``partitions`` whose offsets the coordinator dropped: they had expired, or somebody deleted them.
GROUP_COMMITTED = "group offsets committed"
GROUP_FETCHED = "group offsets fetched"
GROUP_ASSIGNED = "group member assigned"
GROUP_GONE = "group member gone"
GROUP_STATE = "group state"
GROUP_FORGOTTEN = "group offsets forgotten"
#: By whoever called an admin client: offsets of the group were set or deleted by hand.
GROUP_RESET = "group offsets reset"

#: What is noted of a server whose process ended, or stands still.
STANDSTILLS = ("crash", "power_loss", "pause", "shutdown", "stopped")
#: Of whatever was done to a server's process, to the network, to a disk.
PROCESS_FAULTS = (*STANDSTILLS, "resume", "start")
NETWORK_FAULTS = ("network partition", "network heal", "network hold", "network release", "network slow")
DISK_FAULTS = ("disk slow", "disk full", "disk failing", "disk healed", "disk replaced")

#: Phases of an effect. `SKIPPED`: the work is over without one (filtered, sent elsewhere, applied before).
STARTED, DONE, FAILED, UNKNOWN, SKIPPED = "started", "done", "failed", "unknown", "skipped"


@message
class Acked:
    """Delivery reports that an application's producer was given. ``acks`` is the producer's setting.

    What is -1 is not known. ``number`` counts what the producer took in, batch by batch, from 1; ``sent_us``: its last record was
    produced then, and ``resolved_us`` the client knew its end; ``timeout_us`` is delivery.timeout.ms, where every end is told;
    ``persisted``: 0 not in the log, 1 possibly, 2 certainly; ``in_flight`` is max.in.flight.requests.per.connection.
    """

    at_us: int
    client: str
    tp: TopicPartition
    batch: RecordBatch
    start: int
    stop: int
    error: ErrorCode
    base_offset: int
    acks: int
    idempotent: bool
    number: int = -1
    sent_us: int = -1
    resolved_us: int = -1
    timeout_us: int = -1
    persisted: int = -1
    in_flight: int = -1


@message
class Delivered:
    """Records that a consumer's poll or consume returned."""

    at_us: int
    client: str
    group: str
    tp: TopicPartition
    batch: RecordBatch
    start: int
    stop: int


@message
class ShareDelivered:
    """Records that a share consumer's poll returned, each for the ``delivery_count``-th time as far as the broker knows."""

    at_us: int
    client: str
    group: str
    tp: TopicPartition
    batch: RecordBatch
    start: int
    stop: int
    delivery_count: int


@message
class ShareAcknowledged:
    """What became of acknowledgements of one partition: (first offset, last offset, type) each, one outcome for all of them."""

    at_us: int
    client: str
    group: str
    tp: TopicPartition
    acks: tuple[tuple[int, int, str], ...]
    error: ErrorCode


@message
class Assigned:
    """The application's consumer took over partitions. ``member`` and ``epoch`` (generation): as whom, where it is known.

    ``offsets``: where each starts; negative: to be looked up; empty: not known.
    """

    at_us: int
    client: str
    group: str
    partitions: tuple[TopicPartition, ...]
    member: str = ""
    epoch: int = -1
    offsets: tuple[int, ...] = ()


@message
class Revoked:
    """``lost`` is True when the group had already given the partitions away."""

    at_us: int
    client: str
    group: str
    partitions: tuple[TopicPartition, ...]
    lost: bool


@message
class Sought:
    """The application moved a position itself."""

    at_us: int
    client: str
    group: str
    tp: TopicPartition
    offset: int


@message
class Repositioned:
    """The consumer moved a position by itself, and said so to nobody: ``why`` is "reset" (auto.offset.reset) or "truncation"."""

    at_us: int
    client: str
    group: str
    tp: TopicPartition
    why: str


@message
class EndTold:
    """A client asked where a partition ends, at ``started_us``, and was told ``offset``.

    ``leader_epoch`` is that of whoever answered; -1: not known.
    """

    at_us: int
    client: str
    tp: TopicPartition
    offset: int
    started_us: int
    leader_epoch: int = -1


@message
class Closed:
    """A client is gone: its application closed it, or was killed."""

    at_us: int
    client: str


@message
class Committed:
    """The end of a commit: (partition, offset, error)."""

    at_us: int
    client: str
    group: str
    offsets: tuple[tuple[TopicPartition, int, ErrorCode], ...]


@message
class OffsetsFetched:
    """What ``committed()`` told an application: (partition, offset, error); -1: nothing is committed. ``asked_us``: when it asked."""

    at_us: int
    client: str
    group: str
    offsets: tuple[tuple[TopicPartition, int, ErrorCode], ...]
    asked_us: int


@message
class Effected:
    """What became of working on one record: ``phase`` is `STARTED`, `DONE`, `FAILED` (not applied), `UNKNOWN` or `SKIPPED`.

    ``sink`` is where the work shows: a table, a list, another service.
    """

    at_us: int
    client: str
    group: str
    sink: str
    tp: TopicPartition
    offset: int
    key: bytes | None
    phase: str


@message
class Inserted:
    """A row that a service wrote into a table of its own, and that messages have to tell of."""

    at_us: int
    client: str
    table: str
    value: bytes


@message
class Happened:
    """Something of the cluster's own: a broker crashed, a leader was elected, an ISR shrank."""

    at_us: int
    node: int
    kind: str
    subject: object
    fields: tuple[tuple[str, object], ...] = ()


HistoryEvent: TypeAlias = (
    "Acked | Delivered | ShareDelivered | ShareAcknowledged | Assigned | Revoked | Sought | Repositioned | EndTold | Closed | "
    "Committed | OffsetsFetched | Effected | Inserted | Happened"
)
