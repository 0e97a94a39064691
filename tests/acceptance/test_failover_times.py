"""How long a cluster is without a leader, in virtual time over many seeds, within what was measured on Kafka 4.3.

The ranges follow from the timers: a broker that dies is fenced one session after its last heartbeat (0 to 2 s old), at the next
of eight checks a session; a controller that dies is missed two seconds after the last fetch answer (0 to 0.5 s old), and
its own partitions move a whole session after its successor began.
"""

from __future__ import annotations

from statistics import median

import kafkasim

SEEDS = range(30)
#: Between what the timers allow and what a reader sees: commit, propagation, and the raft threads' wake-ups.
SLACK = 0.1


def leads_elsewhere(cluster: kafkasim.Cluster, dead: int) -> bool:
    """Some broker has heard of another leader."""
    for node_id, server in cluster._servers.items():
        if node_id != dead and server.node is not None and server.node.broker is not None:
            leader = server.node.broker.ctx.image.topics["t"].partitions[0].leader
            if leader not in (dead, -1):
                return True
    return False


def controller_of(cluster: kafkasim.Cluster) -> int:
    """The active controller; -1 while there is none."""
    for node_id, server in cluster._servers.items():
        if server.node is not None and server.node.controller is not None and server.node.controller.active:
            return node_id
    return -1


def time_of(cluster: kafkasim.Cluster, condition: object) -> float:
    began = cluster.now
    cluster.run_until(condition, 60)  # type: ignore[arg-type]
    return cluster.now - began


def test_a_crashed_leader_is_replaced_after_one_session() -> None:
    """Default timers: 7.0 to 10.1 s, half of them between 7.7 and 9.2."""
    times = []
    for seed in SEEDS:
        with kafkasim.Cluster(3, controllers=1, seed=seed) as cluster:
            cluster.create_topic("t", 1, 3)
            cluster.run_for(3 + seed / 15)
            leader = cluster.describe_topic("t")[0].leader
            cluster.broker(leader).crash()
            times.append(time_of(cluster, lambda c=cluster, dead=leader: leads_elsewhere(c, dead)))
    assert min(times) >= 7.0
    assert max(times) <= 9.0 * 1.125 + SLACK
    assert 7.7 <= median(times) <= 9.2


def test_a_crashed_controller_is_replaced_after_the_fetch_timeout() -> None:
    """Five voters: 1.5 to 2.1 s where the first election succeeds, as most do; its own partitions follow one session later."""
    quorum_times, leader_times = [], []
    for seed in SEEDS:
        with kafkasim.Cluster(5, seed=seed) as cluster:
            controller = controller_of(cluster)
            cluster.create_topic("t", 5, 3)
            cluster.run_for(3 + seed / 15)
            partition = next(part.partition for part in cluster.describe_topic("t") if part.leader == controller)
            cluster.broker(controller).crash()
            quorum_time = time_of(cluster, lambda c=cluster, dead=controller: controller_of(c) not in (dead, -1))
            quorum_times.append(quorum_time)
            moved = time_of(
                cluster,
                lambda c=cluster, dead=controller, part=partition: c.describe_topic("t")[part].leader not in (dead, -1),
            )
            leader_times.append(moved)
    assert min(quorum_times) >= 1.5
    assert 1.5 <= median(quorum_times) <= 2.1
    # A failed round costs an election timeout of one to two seconds.
    assert sorted(quorum_times)[len(quorum_times) * 3 // 4] <= 3.2
    assert min(leader_times) >= 9.0
    assert max(leader_times) <= 9.0 * 1.125 + SLACK


def test_a_controlled_shutdown_moves_leaders_at_once() -> None:
    """Leaders move within 50 ms of SIGTERM, for a plain broker and for one that is the active controller as well."""
    for seed in range(10):
        with kafkasim.Cluster(3, seed=seed) as cluster:
            cluster.create_topic("t", 1, 3)
            leader = cluster.describe_topic("t")[0].leader
            cluster.run_for(1 + seed / 10)
            cluster.broker(leader).shutdown()
            assert time_of(cluster, lambda c=cluster, old=leader: leads_elsewhere(c, old)) <= 0.05
            cluster.run_until(lambda c=cluster, old=leader: c.broker(old).state == "stopped", 10)
            # The successor that knows most stands at once: a few milliseconds without a controller.
            assert time_of(cluster, lambda c=cluster, old=leader: controller_of(c) not in (old, -1)) <= 0.05


def test_brokers_serve_while_there_is_no_controller() -> None:
    """With every controller dead, leaders lead and clients read and write; what only a controller can change waits."""
    with kafkasim.Cluster(3, controllers=3, seed=4) as cluster:
        cluster.create_topic("t", 3, 3)
        for node in (4, 5, 6):
            cluster.broker(node).crash()
        cluster.run_for(30)
        cluster.produce("t", [f"value-{number}" for number in range(9)])
        assert len(cluster.records("t")) == 9
        isrs = [part.isr for part in cluster.describe_topic("t")]
        assert all(len(isr) == 3 for isr in isrs)
        for node in (4, 5, 6):
            cluster.broker(node).start()
        cluster.run_until(lambda: controller_of(cluster) > 0, 10)
        cluster.create_topic("u", 1, 3)
        assert [part.isr for part in cluster.describe_topic("t")] == isrs
