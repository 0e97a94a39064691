"""Snapshots of the metadata log on a whole cluster: the log's head goes, and who needs it gets the snapshot instead."""

from __future__ import annotations

from typing import Any

from tests.unit.controller.plane import dump

import kafkasim
from kafkasim.core.model.admin_messages import DeleteTopicsRequest
from kafkasim.core.model.ids import TopicPartition

#: A snapshot after 30 records, and no more than 60 records before it.
SMALL = {"metadata.log.max.record.bytes.between.snapshots": 3_000, "metadata.max.retention.bytes": 6_000}


def images(cluster: kafkasim.Cluster) -> dict[int, Any]:
    """What each server's broker half, or controller half, says."""
    found: dict[int, Any] = {}
    for node_id, server in cluster._servers.items():
        node = server.node
        if node is not None:
            assert node.broker is not None or node.controller is not None
            image = node.broker.ctx.image if node.broker is not None else node.controller.image  # type: ignore[union-attr]
            said = dump(image)
            found[node_id] = {key: said[key] for key in ("topics", "brokers", "configs", "features", "next")}
    return found


def test_a_voter_and_a_broker_that_were_away_get_the_snapshot() -> None:
    """Their logs begin where the leader's snapshot ended, and they say what the others say."""
    with kafkasim.Cluster(3, controllers=3, seed=5, config=SMALL) as cluster:
        cluster.create_topic("before", 3, 2)
        leader = next(n for n, s in cluster._servers.items() if s.node and s.node.raft.is_leader)
        voter = next(node for node in (4, 5, 6) if node != leader)
        away = [cluster.broker(voter), cluster.broker(3)]
        for server in away:
            server.crash()
        cluster.run_for(12)
        for number in range(40):
            cluster.create_topic(f"topic-{number}", 4, 2)
        log = cluster._servers[leader].storage.metadata_log
        assert log.log_start > 60
        assert log.log_end - log.log_start < 120
        for server in away:
            server.start()
        cluster.run_for(5)
        for node_id in (voter, 3):
            assert cluster._servers[node_id].storage.metadata_log.log_start > 60
        said = images(cluster)
        assert all(image == said[leader] for image in said.values())
        assert len(said[3]["topics"]) == 41
        cluster.produce("before", ["a", "b"])
        assert len(cluster.records("before")) == 2


def test_logs_of_topics_that_went_meanwhile_are_removed() -> None:
    """A broker that was down sees a snapshot without the topic, and gives up its log: its name may be somebody else's now."""
    with kafkasim.Cluster(3, controllers=1, seed=5, config=SMALL) as cluster:
        cluster.create_topic("stray", 1, 3)
        cluster.create_topic("kept", 1, 3)
        cluster.produce("kept", ["a"])
        cluster.broker(3).crash()
        cluster.run_for(12)
        cluster.ask(DeleteTopicsRequest(("stray",)), "controller")
        for number in range(40):
            cluster.create_topic(f"topic-{number}", 4, 2)
        storage = cluster._servers[3].storage
        assert TopicPartition("stray", 0) in storage.broker.logs
        cluster.broker(3).start()
        cluster.run_for(5)
        assert storage.metadata_log.log_start > 0
        assert TopicPartition("stray", 0) not in storage.broker.logs
        assert storage.broker.logs[TopicPartition("kept", 0)].end == 1


def test_a_restarted_cluster_begins_with_its_snapshots() -> None:
    """All servers die, each comes back from its own disk, and the new controller knows everything."""
    with kafkasim.Cluster(3, seed=5, config=SMALL) as cluster:
        for number in range(40):
            cluster.create_topic(f"topic-{number}", 4, 2)
        before = images(cluster)[1]["topics"]
        for node in (1, 2, 3):
            cluster.broker(node).crash()
        for node in (1, 2, 3):
            cluster.broker(node).start()
        cluster.run_for(20)
        said = images(cluster)
        assert set(said[1]["topics"]) == set(before)
        assert all(server.storage.metadata_log.log_start > 0 for server in cluster._servers.values())
        cluster.create_topic("after", 1, 3)


def test_a_deposed_controller_goes_back_to_what_is_committed() -> None:
    """Its image is made anew from the snapshot and what follows it."""
    with kafkasim.Cluster(3, controllers=3, seed=2, config=SMALL) as cluster:
        for number in range(40):
            cluster.create_topic(f"topic-{number}", 4, 2)
        leader = next(n for n, s in cluster._servers.items() if s.node and s.node.raft.is_leader)
        others = [node for node in cluster._servers if node != leader]
        for node in others:
            cluster.network.partition(leader, node)
        cluster.run_for(8)
        cluster.network.heal()
        cluster.run_for(3)
        cluster.create_topic("after", 1, 3)
        cluster.run_for(1)
        said = images(cluster)
        assert all(image == said[1] for image in said.values())


def test_snapshots_for_their_age() -> None:
    """What was committed is in one after the interval; a log that stands still gets no other."""
    with kafkasim.Cluster(1, seed=1, config={"metadata.log.max.snapshot.interval.ms": 60_000}) as cluster:
        log = cluster._servers[1].storage.metadata_log
        cluster.run_for(50)
        assert log.snapshots == []
        cluster.run_for(200)
        assert [end.end_offset for end, _ in log.snapshots] == [log.log_end]
        cluster.create_topic("t", 1, 1)
        assert [end.end_offset for end, _ in log.snapshots][1:] == [log.log_end]
