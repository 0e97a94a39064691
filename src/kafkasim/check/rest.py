"""A cluster at rest: nothing has happened to it for long, and so everything that heals by itself has healed.

B11 convergence: every partition has its leader, and all replicas in the ISR.       K8 progress: a controller is active.

Inputs:   the metadata as the oracle knows them, asked when a report is made.      Effects: findings.
Rule 1:   at rest is who runs with every process, disk and link sound, where for twice the longest timers no fault began or ended, no
          metadata changed, and nobody was elected. As long as something moves, nobody is stuck.
Rule 2:   what Kafka 4.3 leaves behind for an administrator is none of it: a reassignment that goes on, a partition whose ISR and ELR are
          empty, and whatever the replication oracle has given up judging (docs/fidelity.md).
"""

from __future__ import annotations

from collections.abc import Mapping

from kafkasim.check.replication_oracle import ReplicationOracle
from kafkasim.check.report import Report
from kafkasim.core.model.history import DISK_FAULTS, NETWORK_FAULTS, PROCESS_FAULTS

_MOST_TOLD = 5

#: Notes after which a cluster is not at rest.
UNREST = frozenset(
    {
        *(*PROCESS_FAULTS, *NETWORK_FAULTS, *DISK_FAULTS, "data lost", "operator"),
        *("metadata-written", "metadata-committed", "became leader", "controller-active", "controller-renounced"),
    }
)


def longest_wait_us(config: Mapping[str, str]) -> int:
    """How long a sound cluster may take until it has healed: sessions end, ISRs shrink and grow, controllers are elected."""
    lag_ms = int(config.get("replica.lag.time.max.ms", 30_000))
    session_ms = int(config.get("broker.session.timeout.ms", 9_000))
    fetch_ms = int(config.get("controller.quorum.fetch.timeout.ms", 2_000))
    election_ms = int(config.get("controller.quorum.election.timeout.ms", 1_000))
    return 2000 * (lag_ms + session_ms + fetch_ms + 2 * election_ms) + 10_000_000


def check_rest(oracle: ReplicationOracle, has_controller: bool, now_us: int, report: Report) -> None:
    """B11 and K8 of a cluster that is at rest at ``now_us``. O(partitions)."""
    metadata = oracle.metadata
    if metadata.is_contradictory:
        return
    report.count("times at rest")
    if not has_controller:
        report.add("progress", "no controller is active", at_us=now_us, cause="nobody leads the quorum")
        return
    told = 0
    for key, view in metadata.partitions():
        truth = oracle.truths.get(key)
        if truth is not None and truth.is_unjudged:
            continue
        if view.adding or view.removing or view.stale_elr or view.reverted or not (view.isr or view.elr):
            continue
        if any(metadata.is_inactive(node) for node in view.replicas):
            continue
        if view.leader >= 0 and set(view.isr) == set(view.replicas):
            continue
        told += 1
        if told <= _MOST_TOLD:
            what = "no leader" if view.leader < 0 else f"ISR {view.isr} of replicas {view.replicas}"
            text = f"{oracle.tp(key)}: {what}, ELR {view.elr}, though nothing has happened for long"
            report.add("convergence", text, at_us=now_us, tp=oracle.tp(key), cause="not healed though all is well")
