"""A fan-out design: cluster, topics, workloads, groups, faults and promises, as values.

Rule 1:   a value of these classes has been checked; what is impossible was refused with its line when the file was read.
Rule 2:   times are virtual microseconds from the start of the workload.
"""

from __future__ import annotations

from typing import Any

import attrs

ARRIVALS = ("regular", "poisson")
COMMITS = ("before", "after", "auto")
#: When a member of a share group sends its acknowledgements: with its next poll, or right after the work.
SHARE_COMMITS = ("poll", "sync", "async")
ACKNOWLEDGEMENT_MODES = ("implicit", "explicit")
#: What a member of a share group does with a malformed record: works on it, gives it back, refuses it.
POISONS = ("accept", "release", "reject")
FAULTS = (
    "crash",
    "power_loss",
    "shutdown",
    "restart",
    "pause",
    "resume",
    "partition",
    "heal",
    "slow",
    "disk_slow",
    "disk_full",
    "disk_fail",
    "disk_heal",
)
DISTRIBUTIONS = ("constant", "uniform", "exponential", "lognormal")

#: Named surges: factor over the whole duration, as (share of the duration, factor).
SURGES: dict[str, tuple[tuple[float, float], ...]] = {
    "flat": ((0.0, 1.0),),
    "evening": ((0.0, 1.0), (0.3, 1.0), (0.45, 2.5), (0.75, 2.5), (0.9, 1.0)),
    "spike": ((0.0, 1.0), (0.49, 1.0), (0.5, 5.0), (0.55, 5.0), (0.56, 1.0)),
    "ramp": ((0.0, 0.0), (1.0, 2.0)),
}


@attrs.define(slots=True)
class ClusterDesign:
    """The servers, and for how long they run."""

    brokers: int = 3
    racks: tuple[str, ...] | None = None
    seed: int = 0
    config: dict[str, Any] = attrs.field(factory=dict)
    duration_us: int = 60_000_000
    #: How long groups may go on after the workload has ended, to work off what is left.
    drain_us: int = 30_000_000


@attrs.define(slots=True)
class TopicDesign:
    name: str
    partitions: int = 1
    replication_factor: int = 1
    config: dict[str, Any] = attrs.field(factory=dict)


@attrs.define(slots=True)
class KeyDesign:
    """``kind`` "none", "unique" (a new key for each record) or "pool" (``count`` keys, the n-th as likely as 1/n**skew)."""

    kind: str = "none"
    prefix: str = "key-"
    count: int = 0
    skew: float = 0.0


@attrs.define(slots=True)
class WorkloadDesign:
    """Records that arrive at a topic."""

    name: str
    topic: str
    rate_per_second: float = 0.0
    #: (microseconds from the start, factor), straight lines between; one point: constant.
    surge: tuple[tuple[int, float], ...] = ((0, 1.0),)
    arrivals: str = "regular"
    #: From a CSV, instead of the rate: microseconds from the start, ascending.
    arrival_times_us: tuple[int, ...] | None = None
    key: KeyDesign = attrs.field(factory=KeyDesign)
    value_bytes: tuple[int, int] = (200, 200)
    malformed_share: float = 0.0
    #: Header name -> text, where {id} stands for the record's number, {key} for its key, {producer} for the producer's.
    headers: tuple[tuple[str, str], ...] = ()
    producers: int = 1
    producer_config: dict[str, Any] = attrs.field(factory=dict)


@attrs.define(slots=True)
class Processing:
    """What the work on records costs a member: ``per_record_us`` is the mean of ``distribution``."""

    per_record_us: float = 0.0
    per_batch_us: int = 0
    distribution: str = "constant"
    p99_us: float = 0.0


@attrs.define(slots=True)
class Promises:
    """What a group is held to; None: not promised."""

    at_least_once: bool | None = None
    no_loss: bool | None = None
    no_duplicates: bool | None = None
    no_archived: bool | None = None
    max_lag: int | None = None
    final_lag: int | None = None
    latency_p99_us: int | None = None
    max_stall_us: int | None = None
    recovery_us: int | None = None


@attrs.define(slots=True)
class GroupDesign:
    """A consumer group: modelled members, or members that call a Python function for each message."""

    name: str
    topics: tuple[str, ...]
    members: int = 1
    processing: Processing = attrs.field(factory=Processing)
    #: "module:function", called with each Message.
    handler: str | None = None
    commit: str = "after"
    #: At most so many records at once; a member waits so long for more than the first (0: it takes what is there).
    batch: int = 500
    batch_wait_us: int = 0
    instance_ids: tuple[str, ...] = ()
    dead_letter_topic: str | None = None
    consumer_config: dict[str, Any] = attrs.field(factory=dict)
    promises: Promises = attrs.field(factory=Promises)


@attrs.define(slots=True)
class ShareGroupDesign:
    """A share group: as many members as one likes, each record acknowledged by itself."""

    name: str
    topics: tuple[str, ...]
    members: int = 1
    processing: Processing = attrs.field(factory=Processing)
    #: "module:function", called with each Message; what it raises on is poison.
    handler: str | None = None
    acknowledgement_mode: str = "implicit"
    commit: str = "poll"
    #: ``max.poll.records``; brokers round it up to whole batches.
    batch: int = 500
    poison: str = "accept"
    #: With "release": so many times, then it is rejected; None: until the group's limit archives it.
    releases: int | None = None
    dead_letter_topic: str | None = None
    #: The group's own configs (share.record.lock.duration.ms, ...).
    config: dict[str, str] = attrs.field(factory=dict)
    consumer_config: dict[str, Any] = attrs.field(factory=dict)
    promises: Promises = attrs.field(factory=Promises)


@attrs.define(slots=True)
class FaultDesign:
    """``at_us``: when; of ``broker``, ``rack``, ``member`` ("billing-1") one is given, of a partition two sides of brokers."""

    at_us: int
    what: str
    broker: int | None = None
    rack: str | None = None
    member: str | None = None
    between: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    one_way: bool = False
    factor: float = 1.0
    extra_us: int = 0

    @property
    def target(self) -> str:
        """The target for people."""
        if self.broker is not None:
            return f"broker {self.broker}"
        if self.rack is not None:
            return f"rack {self.rack}"
        if self.member is not None:
            return f"member {self.member}"
        if self.between is not None:
            left, right = (",".join(map(str, side)) for side in self.between)
            return f"brokers {left} {'to' if self.one_way else 'and'} {right}"
        return "everything"


@attrs.define(slots=True)
class Design:
    """A whole design; ``file`` is where it was read from."""

    file: str
    cluster: ClusterDesign
    topics: list[TopicDesign]
    workloads: list[WorkloadDesign]
    groups: list[GroupDesign]
    faults: list[FaultDesign]
    share_groups: list[ShareGroupDesign] = attrs.field(factory=list)
