"""Plans that hit clients."""

from __future__ import annotations

import pytest

from kafkasim.errors import ConfigurationError
from kafkasim.sim.client_nemeses import clients_event_indexed, clients_uniform

OCCURRENCES = {"OffsetCommit.sent": 7, "Fetch.arrived": 3, "Produce.sent": 0}


def test_the_same_seed_gives_the_same_plan() -> None:
    """And another seed another one."""
    plan = clients_event_indexed(["a", "b"], seed=4, occurrences=OCCURRENCES)
    assert plan == clients_event_indexed(["a", "b"], seed=4, occurrences=OCCURRENCES)
    assert plan != clients_event_indexed(["a", "b"], seed=5, occurrences=OCCURRENCES)
    assert clients_uniform(["a"], seed=4) == clients_uniform(["a"], seed=4)


def test_only_what_happens_is_waited_for() -> None:
    """Events that never occur are not drawn, and no occurrence beyond the last."""
    for seed in range(50):
        for fault in clients_event_indexed(["a"], seed=seed, occurrences=OCCURRENCES):
            assert fault.on in ("OffsetCommit.sent", "Fetch.arrived")
            assert 1 <= fault.nth <= OCCURRENCES[str(fault.on)]


def test_times_stay_within_the_span() -> None:
    """All faults are of clients, all of them end."""
    for seed in range(50):
        for fault in clients_uniform(["a", "b"], seed=seed, span=3.0):
            assert fault.target in ("client:a", "client:b")
            assert 0 <= (fault.at_s or 0.0) <= 3.0
            assert fault.for_s is not None


def test_nothing_to_hit_is_refused() -> None:
    """No names, no kinds, no events."""
    with pytest.raises(ConfigurationError, match="needs names"):
        clients_uniform([])
    with pytest.raises(ConfigurationError, match="none of them"):
        clients_event_indexed(["a"], occurrences={})
