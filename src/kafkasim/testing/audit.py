"""The audit of a simulated cluster, for tests that ask its oracle themselves; ``cluster.check()`` tells the same without it."""

from __future__ import annotations

from kafkasim.check.replication_oracle import ReplicationOracle
from kafkasim.errors import ConfigurationError
from kafkasim.handle import Cluster


def audit(cluster: Cluster) -> ReplicationOracle:
    """The oracle that watches ``cluster``, from now on at every move of a high watermark; breaches are in its ``report``."""
    if cluster.watch is None:
        raise ConfigurationError("audit: the cluster was made with history=False, so nobody watches it")
    cluster.watch.be_exact()
    return cluster.watch.oracle
