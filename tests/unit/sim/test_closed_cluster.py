"""What is left of a closed cluster that a killed task still refers to, as its frames are never unwound."""

from __future__ import annotations

import gc
import time
import weakref
from typing import Any

import kafkasim


def killed_worker(cluster: kafkasim.Cluster) -> None:
    """A worker that refers to the cluster is killed while it sleeps."""

    def worker() -> None:
        while cluster is not None:
            time.sleep(1)

    task = cluster.spawn(worker, name="worker")
    cluster.run_for(0.5)
    task.kill()


def test_servers_and_their_disks_go_with_the_cluster() -> None:
    """A killed task keeps the handle of a closed cluster, and neither its brokers nor what was on their disks."""
    with kafkasim.Cluster(seed=1) as cluster:
        cluster.create_topic("orders")
        cluster.produce("orders", [b"a"])
        killed_worker(cluster)
        kept: list[weakref.ref[Any]] = [weakref.ref(cluster.process(1).storage), weakref.ref(cluster.process(1)._shell)]
    gc.collect()
    assert [ref() for ref in kept] == [None, None]
    assert len(cluster.history) > 0
    assert cluster.broker(1).state == "crashed"


def test_a_cluster_that_forgets_keeps_no_history() -> None:
    """forget() closes the cluster and lets its events go, for those who run thousands in one process."""
    cluster = kafkasim.Cluster(seed=1)
    cluster.create_topic("orders")
    cluster.produce("orders", [b"a"])
    killed_worker(cluster)
    assert len(cluster.history) > 0
    watch = weakref.ref(cluster.watch)
    cluster.forget()
    gc.collect()
    assert len(cluster.history) == 0
    assert watch() is None
