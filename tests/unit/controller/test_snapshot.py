"""A snapshot says what the log said."""

from __future__ import annotations

from tests.unit.controller.plane import Plane, dump

from kafkasim.core.controller.image import ImageDelta, MetadataImage
from kafkasim.core.controller.snapshot import compact, snapshot_records
from kafkasim.core.controller.state import ControllerImage
from kafkasim.core.model.admin_messages import DeleteTopicsRequest
from kafkasim.core.model.cluster_messages import AllocateProducerIdsRequest
from kafkasim.core.model.ids import TopicPartition
from kafkasim.core.model.metadata import ConfigRecord, MetadataSnapshot


def busy_plane() -> Plane:
    """Brokers that came and went, topics made, grown and deleted, configs, an ELR, producer ids."""
    plane = Plane((1, 2, 3))
    plane.create("t", (1, 2, 3), (2, 3, 1), min_insync_replicas="2")
    plane.create("gone", (1,))
    plane.create("u.v", (3,))
    plane.ask(AllocateProducerIdsRequest(1, plane.epochs[1]))
    plane.kill(3)
    plane.kill(2)
    plane.start(2)
    plane.kill(2)
    plane.ask(DeleteTopicsRequest(("gone",)))
    return plane


def test_a_snapshot_makes_the_same_image() -> None:
    """Controller indices, epochs and all; only the offsets of registrations are those of the snapshot's end."""
    plane = busy_plane()
    records = snapshot_records(plane.image)
    assert len(records) < sum(len(batch.records) for batch in plane.log.read_between(0, plane.log.log_end))
    again = ControllerImage(plane.image.static_config(), plane.image.node_id)
    again.load_snapshot(MetadataSnapshot(plane.image.next_offset, plane.image.epoch, records), ImageDelta())
    wanted = {**dump(plane.image), "register_offsets": dict.fromkeys((1, 2, 3), plane.image.next_offset - 1)}
    assert dump(again) == wanted


def test_compacting_a_log_is_taking_its_snapshot() -> None:
    """And to compact what is compact changes nothing."""
    plane = busy_plane()
    log = [record for batch in plane.log.read_between(0, plane.log.log_end) for record in batch.records]
    records = compact(log)
    assert records == snapshot_records(plane.image)
    assert compact(records) == records


def test_a_stale_image_forgets_what_the_snapshot_does_not_say() -> None:
    """The delta names what is there, and what is gone: a topic, a topic of the same name, a broker, a config."""
    old, new = Plane((1, 2)), Plane((1, 3))
    for plane in (old, new):
        plane.create("same", (1,))
    old.create("deleted", (2,), retention_ms="1")
    stale = MetadataImage()
    delta = ImageDelta()
    for batch in old.log.read_between(0, old.log.log_end):
        stale.replay_batch(batch, delta)
    delta = ImageDelta()
    old_topic = stale.topics["same"]
    new_records = tuple(r for r in snapshot_records(new.image) if not isinstance(r, ConfigRecord))
    stale.load_snapshot(MetadataSnapshot(999, 7, new_records), delta)
    assert (stale.next_offset, stale.epoch) == (999, 7)
    assert list(stale.topics) == ["same"]
    assert [topic.name for topic in delta.deleted_topics] == (
        ["deleted"] if old_topic.topic_id in stale.topics_by_id else ["same", "deleted"]
    )
    assert set(delta.brokers) == {1, 2, 3}
    assert TopicPartition("same", 0) in delta.partitions
    assert set(delta.configs) == {(2, "deleted"), (4, "")}
    assert stale.topic_int("same", "min.insync.replicas") == 1
