"""The outcome of a run as values, and as JSON.

Rule 1:   times are seconds and latencies milliseconds here: this is an outer surface.
Rule 2:   every latency stands beside the parameters of the model that made it (``model``).
"""

from __future__ import annotations

from typing import Any

import attrs


@attrs.define(slots=True)
class LossResult:
    """Records that were acknowledged and that a group has not worked on, by what became of them."""

    #: Not in the log any more although they should be.
    lost_by_cluster: int = 0
    #: Deleted by retention (or DeleteRecords) before the group read them.
    deleted: int = 0
    #: In the log below the group's committed offset: it will not come back for them.
    skipped: int = 0
    #: In a partition without a live leader at the end: nobody can tell yet.
    unavailable: int = 0
    #: In the log, not worked on yet: not lost.
    pending: int = 0
    #: A share group gave them up at their delivery limit, or as the log was deleted beneath it: what such a group is for.
    archived: int = 0
    #: A member of a share group refused them.
    rejected: int = 0

    @property
    def lost(self) -> int:
        return self.lost_by_cluster + self.deleted + self.skipped


@attrs.define(slots=True)
class ShareResult:
    """What only a share group has. Records that came again, were given back, were refused; locks that ran out, in records."""

    redelivered: int
    released: int
    rejected: int
    timed_out: int


@attrs.define(slots=True)
class GroupResult:
    """A consumer group, or (``share`` is there) a share group: its ``commits`` are acknowledgements that were answered."""

    name: str
    members: int
    delivered: int
    duplicated: int
    loss: LossResult
    dead_lettered: int
    max_lag: int
    final_lag: int
    latency_p50_ms: int | None
    latency_p99_ms: int | None
    longest_stall_s: float
    stalled_at_s: float
    commits: int
    failed_commits: int
    rebalances: int
    errors: dict[str, int]
    processing: str
    share: ShareResult | None = None

    @property
    def lost(self) -> int:
        return self.loss.lost


@attrs.define(slots=True)
class WorkloadResult:
    name: str
    topic: str
    arrived: int
    acked: int
    failed: int
    unknown: int
    waited_for_room: int
    failures: dict[str, int]
    ack_p50_ms: int | None
    ack_p99_ms: int | None


@attrs.define(slots=True)
class FaultResult:
    """``leaders_back_s``: after how long every partition had a leader again; ``isr_whole_s``: every replica was in sync again (0:
    never otherwise, None: not until the end). ``groups``: after how long each group's lag was back where it had been.
    """

    at_s: float
    what: str
    target: str
    leaders_back_s: float | None
    isr_whole_s: float | None
    groups: dict[str, float | None] = attrs.field(factory=dict)


@attrs.define(slots=True)
class PromiseResult:
    group: str
    promise: str
    kept: bool
    reason: str


@attrs.define(slots=True)
class PartitionResult:
    partition: str
    under_replicated_s: float
    offline_s: float


@attrs.define(slots=True)
class Result:
    """``complete`` is False where the run was interrupted: then the promises are judged by what is known so far."""

    design: str
    seed: int
    virtual_seconds: float
    wall_seconds: float
    fingerprint: str
    complete: bool
    workloads: list[WorkloadResult]
    groups: list[GroupResult]
    faults: list[FaultResult]
    promises: list[PromiseResult]
    partitions: list[PartitionResult]
    checks: dict[str, int]
    broken_checks: list[str]
    allowed: list[str]
    model: dict[str, str]
    share_groups: list[GroupResult] = attrs.field(factory=list)

    @property
    def every_group(self) -> list[GroupResult]:
        """Consumer groups, then share groups."""
        return [*self.groups, *self.share_groups]

    @property
    def ok(self) -> bool:
        """Every promise was kept, and Kafka's own guarantees hold in the history."""
        return self.complete and not self.broken_checks and all(promise.kept for promise in self.promises)

    def as_json(self) -> dict[str, Any]:
        """Plain values; ``lost`` and ``ok`` included."""
        values: dict[str, Any] = attrs.asdict(self)
        for group, value in zip(self.every_group, [*values["groups"], *values["share_groups"]], strict=True):
            value["lost"] = group.lost
        values["ok"] = self.ok
        return values
