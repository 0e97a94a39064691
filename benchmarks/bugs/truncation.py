"""Bugs of cutting logs: whose word a follower takes for where its log and its leader's part.

Rule 1:   leadership is moved so quickly that brokers hear of one change when the next has been made.
"""

from __future__ import annotations

from benchmarks.bugs.replication import LOSS, replicated
from benchmarks.bugs.row import Row
from kafkasim.explore.trial import Scenario


def _told_by_another_epoch(protection: bool) -> Scenario:
    return replicated(
        "cut-by-another-epoch",
        features={"truncation_epoch_check": protection},
        config={"broker.session.timeout.ms": 3000},
        uneven=True,
        bystander=True,
        operator=8,
    )


TRUNCATION: tuple[Row, ...] = (
    Row(
        "6",
        "cut-by-another-epoch",
        "KIP-320",
        _told_by_another_epoch,
        (*LOSS, "watermark-sanity"),
        forbidden=("log-duplicate",),
        faults=0,
        stress=4,
    ),
)
