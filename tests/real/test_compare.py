"""The comparison of rebalance protocols on real brokers: its figures come in the same order as the simulator's."""

from __future__ import annotations

import pytest

import kafkasim
from kafkasim.real.local_kafka import find_java, find_kafka_libs

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _kafka_is_here() -> None:
    """Raises Unsupported, which skips, where there is no Kafka or no Java on this machine."""
    find_kafka_libs()
    find_java()


@pytest.mark.parametrize("backend", ["local", "sim"])
def test_one_slow_application_stops_an_eager_group_only(backend: str) -> None:
    """Healthy members of an eager group wait for it; those of the other protocols go on."""
    comparison = kafkasim.compare.rebalance(
        members=4,
        partitions=12,
        slow=["0:0.3/4.3"],
        events=["join@3", "join@10.5", "join@18"],
        duration=25,
        protocols=["eager", "cooperative", "consumer"],
        backend=backend,
    )
    eager, cooperative, consumer = (run.member_pause_s or 0.0 for run in comparison)
    assert eager > 2 * cooperative, comparison
    assert eager > 2 * consumer, comparison
