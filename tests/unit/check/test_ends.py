"""Where partitions end, as clients are told (B13): the check against its definition, and what clients of a cluster are told."""

from __future__ import annotations

import random

from tests.unit.check.histories import TP, draws

import kafkasim
from kafkasim.check.ends import check_ends
from kafkasim.check.report import Report
from kafkasim.confluent_kafka import KafkaException, TopicPartition
from kafkasim.core.model.history import EndTold


def run(draw: random.Random) -> list[EndTold]:
    """Two clients ask, often with more than one question under way, and two leaders answer."""
    events = []
    for at_us in range(draw.randrange(1, 9)):
        client, epoch = draw.choice("ccd"), draw.choice([1, 1, 2, 2, -1])
        events.append(EndTold(at_us, client, TP, draw.randrange(4), max(0, at_us - draw.randrange(4)), epoch))
    return events


def test_list_offsets_monotone_is_its_definition() -> None:
    """B13: of two answers, one before the other was asked for, the later is not smaller, unless it is of an older epoch."""
    broken = 0
    for draw in draws("ends"):
        events = run(draw)
        back = []
        for at, later in enumerate(events):
            known = [e for e in events[:at] if e.client == later.client and e.at_us <= later.started_us]
            newest = max((e.leader_epoch for e in known), default=-1)
            is_back = any(e.offset > later.offset for e in known)
            if is_back and (later.leader_epoch < 0 or later.leader_epoch >= newest):
                back.append(later)
        report = Report()
        check_ends(events, report)
        told = {
            client: [e for e in back if e.client == client][:5] for client in "cd"
        }  # The first ones of each client are told.
        assert len(report.of("B13")) == sum(e.leader_epoch >= 0 for each in told.values() for e in each)
        assert len(report.allowed) == sum(e.leader_epoch < 0 for each in told.values() for e in each)
        broken += bool(back)
    assert broken


def fail_over(is_sound: bool, seed: int) -> Report:
    """Clients ask on and on while leaders come and go, and the new one does not know yet what was committed."""
    features = {"settled_end_offset": is_sound}
    with kafkasim.Cluster(brokers=3, controllers=1, seed=seed, features=features) as cluster:
        cluster.create_topic("t", config={"min.insync.replicas": 2})
        reader = cluster.consumer("g")
        cluster.produce("t", ["a"])
        for number in range(8):
            leader = cluster.describe_topic("t")[0].leader
            cluster.network.slow(leader, [b for b in cluster.broker_ids() if b != leader], extra_ms=200)
            cluster.produce("t", [b"%d" % number])
            reader.get_watermark_offsets(TopicPartition("t", 0), timeout=5.0)
            cluster.broker(leader).crash()
            for _ in range(40):
                cluster.run_for(0.25)
                try:
                    reader.get_watermark_offsets(TopicPartition("t", 0), timeout=0.2)
                except KafkaException:
                    continue
            cluster.network.heal()
            cluster.broker(leader).start()
            cluster.run_for(20.0)
        return cluster.check()


def test_a_leader_that_tells_its_end_too_soon() -> None:
    """Without KIP-207 a client is told that records went away; with it, nothing is said."""
    assert any(fail_over(False, seed).of("list-offsets-monotone") for seed in range(2))
    for seed in range(2):
        report = fail_over(True, seed)
        assert report.ok, report
