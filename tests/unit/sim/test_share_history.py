"""What the history tells of share groups: deliveries, acknowledgements, and what brokers made of the records."""

from __future__ import annotations

from typing import Any

from tests.unit.sim.shares import earliest

import kafkasim
from kafkasim.check.history_lines import history_lines, read_history_lines
from kafkasim.confluent_kafka import ShareConsumer
from kafkasim.core.model.history import (
    LOCK_TIMED_OUT,
    SESSION_ENDED,
    SHARE_ACQUIRED,
    SHARE_ARCHIVED,
    SHARE_CHANGED,
    SHARE_INITIALIZED,
    SHARE_LOADED,
    SHARE_MOVED,
    Happened,
    ShareAcknowledged,
    ShareDelivered,
)
from kafkasim.core.model.ids import TopicPartition

ACCEPT, RELEASE, REJECT = 1, 2, 3
TP = TopicPartition("jobs", 0)


def consumer(cluster: kafkasim.Cluster, **config: Any) -> ShareConsumer:
    settings = {"bootstrap.servers": cluster.bootstrap_servers, "group.id": "workers"}
    return ShareConsumer({**settings, "share.acknowledgement.mode": "explicit", **config})


def picky(cluster: kafkasim.Cluster) -> None:
    """Never likes offset 0, refuses offset 2."""
    taken = consumer(cluster)
    taken.subscribe(["jobs"])
    while True:
        for message in taken.poll(1.0):
            taken.acknowledge(message, {0: RELEASE, 2: REJECT}.get(message.offset(), ACCEPT))
        taken.commit_sync()


def run(*, history: bool = True) -> tuple[kafkasim.Cluster, str]:
    with kafkasim.Cluster(seed=3, history=history) as cluster:
        cluster.create_topic("jobs")
        earliest(cluster, "workers")
        cluster.produce("jobs", [b"a", b"b", b"c", b"d"])
        cluster.spawn(picky, cluster)
        cluster.run_for(20.0)
        return cluster, cluster.fingerprint()


def notes(cluster: kafkasim.Cluster, *kinds: str) -> list[tuple[str, dict[str, Any]]]:
    return [(note.kind, dict(note.fields)) for note in cluster.history.of(Happened) if note.kind in kinds]


def test_a_record_that_is_always_released_is_archived_by_limit_and_the_history_says_so() -> None:
    """Five deliveries, then silence on the wire; the note tells which record, and why."""
    cluster, _ = run()
    counts = [event.delivery_count for event in cluster.history.of(ShareDelivered) if event.start == 0]
    assert counts == [1, 2, 3, 4, 5]
    assert [fields for _, fields in notes(cluster, SHARE_ARCHIVED)] == [
        {"group": "workers", "offsets": (2, 2), "delivery_count": 1, "why": "reject"},
        {"group": "workers", "offsets": (0, 0), "delivery_count": 5, "why": "limit"},
    ]
    first = cluster.history.of(ShareAcknowledged)[0]
    assert first.acks == ((0, 0, "release"), (1, 1, "accept"), (2, 2, "reject"), (3, 3, "accept"))
    kinds = [kind for kind, _ in notes(cluster, SHARE_INITIALIZED, SHARE_LOADED, SHARE_ACQUIRED, SHARE_CHANGED)]
    assert kinds[:4] == [SHARE_INITIALIZED, SHARE_LOADED, SHARE_ACQUIRED, SHARE_CHANGED]


def test_one_event_stands_for_a_run_of_records() -> None:
    """However many records came and went together."""
    with kafkasim.Cluster(seed=3) as cluster:
        cluster.create_topic("jobs")
        earliest(cluster, "workers")
        cluster.produce("jobs", [b"x"] * 1000)
        taken = consumer(cluster, **{"share.acknowledgement.mode": "implicit"})
        taken.subscribe(["jobs"])
        got = 0
        while got < 1000:
            got += len(taken.poll(1.0))
        taken.poll(1.0)
        told = cluster.history.of(ShareDelivered, ShareAcknowledged)
        batches = len(cluster.log(TP))
        assert len([event for event in told if isinstance(event, ShareDelivered)]) <= batches
        assert len(told) <= 2 * batches


def test_what_a_closing_session_and_a_lock_that_ran_out_give_back_is_told() -> None:
    """With its reason, and without a client's word."""
    with kafkasim.Cluster(seed=3) as cluster:
        cluster.create_topic("jobs")
        earliest(cluster, "workers")
        cluster.produce("jobs", [b"a", b"b"])
        for patience in (1.0, 31.0):
            taken = consumer(cluster)
            taken.subscribe(["jobs"])
            while not taken.poll(1.0):
                pass
            cluster.run_for(patience)
            taken.close()
            cluster.run_for(1.0)
        reasons = [change[4] for _, fields in notes(cluster, SHARE_CHANGED) for change in fields["changes"]]
        assert reasons == [SESSION_ENDED, LOCK_TIMED_OUT]
        assert cluster.history.of(ShareAcknowledged) == []


def test_a_log_that_begins_later_takes_available_records_with_it() -> None:
    """Records that were deleted are not delivered any more; the note says from where to where."""
    with kafkasim.Cluster(seed=3) as cluster:
        cluster.create_topic("jobs")
        earliest(cluster, "workers")
        cluster.produce("jobs", [b"a"] * 10)
        taken = consumer(cluster)
        taken.subscribe(["jobs"])
        while not taken.poll(1.0):
            pass
        taken.close()
        from kafkasim.confluent_kafka import TopicPartition as Named

        cluster.admin().delete_records([Named("jobs", 0, 4)])
        cluster.run_for(1.0)
        again = consumer(cluster)
        again.subscribe(["jobs"])
        found: list[Any] = []
        while not found:
            found = list(again.poll(1.0))
        assert found[0].offset() == 4
        assert [(fields["start_offset"], fields["to"]) for _, fields in notes(cluster, SHARE_MOVED)] == [(0, 4)]


def test_a_run_is_the_same_whether_anybody_writes_it_down_or_not() -> None:
    """The same fingerprint, and not a note without a history."""
    (recorded, first), (silent, second) = run(), run(history=False)
    assert first == second
    assert len(recorded.history) > len(silent.history) == 0


def test_share_events_come_back_from_lines() -> None:
    """Notes too, with their partitions and offsets."""
    cluster, _ = run()
    lines = list(history_lines(cluster.history))
    events = read_history_lines(lines)
    assert list(history_lines(events)) == lines
    assert [event for event in events if isinstance(event, ShareAcknowledged)] == cluster.history.of(ShareAcknowledged)
    told = [event for event in events if isinstance(event, Happened) and event.kind == SHARE_ARCHIVED]
    assert told == [event for event in cluster.history.of(Happened) if event.kind == SHARE_ARCHIVED]
