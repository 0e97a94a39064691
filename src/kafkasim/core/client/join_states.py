"""The join states of a member, by librdkafka's names, and what a membership needs of its consumer.

Mirrors:  rd_kafka_cgrp_join_state_names of rdkafka_cgrp.c.
"""

from __future__ import annotations

from typing import Protocol

INIT = "init"
WAIT_JOIN = "wait-join"
WAIT_METADATA = "wait-metadata"
WAIT_SYNC = "wait-sync"
WAIT_ASSIGN_CALL = "wait-assign-call"
WAIT_UNASSIGN_CALL = "wait-unassign-call"
WAIT_UNASSIGN_TO_COMPLETE = "wait-unassign-to-complete"
WAIT_INCR_UNASSIGN_TO_COMPLETE = "wait-incr-unassign-to-complete"
STEADY = "steady"


class Host(Protocol):
    """What a membership needs of its consumer."""

    def suspend(self) -> None: ...
    def release(self, now_us: int) -> None: ...
    def unassign_all(self, now_us: int) -> None: ...
    def serve_assignment(self, now_us: int) -> None: ...
    def poll_exceeded_us(self, now_us: int) -> int: ...
    def watch_polls(self, now_us: int) -> None: ...
    def try_terminate(self, now_us: int) -> None: ...
