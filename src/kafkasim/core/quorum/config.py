"""The quorum's timing, read once from the server properties.

Mirrors:  QuorumConfig, KafkaRaftClient (long poll of 500 ms), LeaderState.CHECK_QUORUM_TIMEOUT_FACTOR.
"""

from __future__ import annotations

from kafkasim.core.model.message import message
from kafkasim.core.model.server_config import BROKER_CONFIGS

#: How long a leader may hold a fetch that has nothing to bring; not configurable in Kafka either.
FETCH_MAX_WAIT_MS = 500
#: Repeated failures of one peer double the wait up to here.
RETRY_BACKOFF_MAX_US = 1_000_000
#: Within so many milliseconds of its time-out a follower's thread gets to run, on a machine that has other work too.
WAKEUP_MS = 30
#: Batches in one fetch response; Kafka bounds it by 8 MiB.
FETCH_MAX_BATCHES = 1000


@message
class QuorumConfig:
    """Keys ``controller.quorum.*``, in microseconds where they are used as such."""

    election_timeout_ms: int
    election_backoff_max_ms: int
    fetch_timeout_us: int
    request_timeout_us: int
    retry_backoff_us: int

    @property
    def check_quorum_timeout_us(self) -> int:
        return self.fetch_timeout_us * 3 // 2

    @property
    def begin_quorum_epoch_timeout_us(self) -> int:
        return self.fetch_timeout_us // 2


def quorum_config(static_config: dict[str, str]) -> QuorumConfig:
    """Read ``static_config``, the server properties of a node; what is not there has Kafka's default."""

    def read_int(name: str) -> int:
        key = BROKER_CONFIGS[name]
        number = key.parse(static_config.get(name, key.default))
        assert isinstance(number, int)
        return number

    return QuorumConfig(
        election_timeout_ms=read_int("controller.quorum.election.timeout.ms"),
        election_backoff_max_ms=read_int("controller.quorum.election.backoff.max.ms"),
        fetch_timeout_us=read_int("controller.quorum.fetch.timeout.ms") * 1000,
        request_timeout_us=read_int("controller.quorum.request.timeout.ms") * 1000,
        retry_backoff_us=read_int("controller.quorum.retry.backoff.ms") * 1000,
    )
