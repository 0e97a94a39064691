"""Bugs of brokers that lead share partitions: what they do with records whose state they cannot write.

Rule 1:   the state of share groups has one replica, so that one broker that is away is enough; the records have three.
"""

from __future__ import annotations

import attrs

from benchmarks.bugs.replication import CLOSE_S, CONFIG, GAP_S, RECORDS
from benchmarks.bugs.row import Row
from benchmarks.bugs.shares import ACCEPT, RELEASE, acknowledge, polls, set_up, share_consumer, try_commit
from benchmarks.bugs.work import TOPIC, Quiet, Stage, Traffic, is_all_worked_on, staged
from kafkasim.explore.trial import Scenario

_STATE = "__share_group_state"
_LIMIT = 2
_WORK_S = 0.04
_CONFIG = {
    **CONFIG,
    "group.share.min.record.lock.duration.ms": 1000,
    "share.coordinator.state.topic.num.partitions": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
}


def _unwritten(protection: bool) -> Scenario:
    """Every record fails once, so that each is given out for the second and last time soon after; work takes as long as the next is off."""

    def before(stage: Stage) -> None:
        set_up(stage.cluster, lock_ms=1000, limit=_LIMIT)

    made = staged(
        "limit-after-a-lost-write",
        _fails_once,
        promises={},
        traffic=Traffic(records=RECORDS, gap_s=GAP_S, close_s=CLOSE_S),
        workers=1,
        before=before,
        config=_CONFIG,
    )
    return attrs.evolve(
        made,
        options={**made.options, "features": {"share_limit_check": protection}},
        partitions=(f"{TOPIC}-0", f"{_STATE}-0"),
        clients=(),
        settled=Quiet(is_all_worked_on),
    )


def _fails_once(stage: Stage) -> None:
    consumer = share_consumer(stage)
    for batch in polls(consumer):
        for message in batch:
            stage.cluster.run_for(_WORK_S)
            if message.delivery_count() == 1:
                acknowledge(consumer, message, RELEASE)
            else:
                stage.sink(message)
                acknowledge(consumer, message, ACCEPT)
        try_commit(consumer)


SHARE_STATE: tuple[Row, ...] = (
    Row(
        "47",
        "limit-after-a-lost-write",
        "KAFKA-19476",
        _unwritten,
        ("over-delivery",),
        forbidden=("lock-overlap", "legal-state", "accept-then-redeliver", "stuck"),
        faults=1,
    ),
)
