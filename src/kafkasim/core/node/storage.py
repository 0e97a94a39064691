"""What of a broker survives the death of its process: its logs, its checkpoints, its clean-shutdown file.

Mirrors:  the log directory of a broker: partition folders, replication-offset-checkpoint, .kafka_cleanshutdown.
Rule 1:   a process crash keeps all of it (the page cache is the kernel's); a loss of power keeps what was flushed.
Rule 2:   the checkpointed high watermark of a replica lives in its ``Log``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafkasim.core.log.log import Log
from kafkasim.core.log.settings import LogSettings
from kafkasim.core.model.ids import NO_EPOCH, TopicPartition


class BrokerStorage:
    """``clean_shutdown_epoch`` is the broker epoch that an orderly stop left behind; reading it at start takes it away."""

    __slots__ = ("clean_shutdown_epoch", "logs", "new_log", "on_high_watermark", "recovery_bytes_per_s")

    def __init__(self) -> None:
        #: Makes the log of a new replica; an audit puts logs in its place that tell what is done to them.
        self.new_log: Callable[[TopicPartition, str, LogSettings], Log] = _new_log
        #: Told of each replica whose high watermark moved; None: nobody asks.
        self.on_high_watermark: Callable[[Any], None] | None = None
        self.logs: dict[TopicPartition, Log] = {}
        self.clean_shutdown_epoch = NO_EPOCH
        #: How fast logs are read again after an unclean stop; 0: in no time.
        self.recovery_bytes_per_s = 0

    def take_clean_shutdown_epoch(self) -> int:
        """The broker epoch of the previous process if it stopped in order, else NO_EPOCH."""
        epoch = self.clean_shutdown_epoch
        self.clean_shutdown_epoch = NO_EPOCH
        return epoch

    def stop_cleanly(self, broker_epoch: int) -> None:
        """Everything is flushed and the clean-shutdown file is written."""
        for log in self.logs.values():
            log.flush()
            log.checkpointed_start = log.start
        self.clean_shutdown_epoch = broker_epoch

    def recovery_us(self) -> int:
        """How long the logs take that an unclean stop left behind: each is read from its recovery point's segment on."""
        if not self.recovery_bytes_per_s:
            return 0
        return sum(log.recovery_bytes() for log in self.logs.values()) * 1_000_000 // self.recovery_bytes_per_s

    def replace(self) -> None:
        """Nothing is left."""
        self.logs.clear()
        self.clean_shutdown_epoch = NO_EPOCH

    def flush(self) -> None:
        for log in self.logs.values():
            log.flush()

    def power_loss(self) -> None:
        """Only flushed batches remain; a clean-shutdown file, written last and with a flush, stays if it was there."""
        for log in self.logs.values():
            log.lose_unflushed()


def _new_log(tp: TopicPartition, topic_id: str, settings: LogSettings) -> Log:
    return Log(topic_id, settings)
